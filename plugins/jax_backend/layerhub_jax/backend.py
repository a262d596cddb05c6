"""The jax backend: arrays in and out, cells for variables, jax.grad for gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import jax
import numpy as np

from layerhub.contract import Backend, Cell
from layerhub.errors import BackendError, DTypeError
from layerhub.execution import Program
from layerhub_jax import namespace
from layerhub_jax.executor import JaxExecutor

# A switch of jax for the whole process; without it there is neither float64 nor int64. See README.md.
jax.config.update("jax_enable_x64", True)

DRAFT = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_cpu_use_fusion_emitters": False,
}
"""What makes XLA compile in half of the time on CPU."""


class JaxBackend(Backend):
    """JAX."""

    name = "jax"
    namespace = namespace
    extras = {name: getattr(namespace, name) for name in namespace.EXTRAS}
    dtypes = ("float32", "float64", "bfloat16", "float16")
    eager = False
    reciprocals = True  # XLA divides by what is broadcast, and by constants, so

    # Arrays

    def asarray(self, value: Any, dtype: str | None = None, device: str | None = None) -> jax.Array:
        """An array, never over the memory of an ndarray: jax may read that long after the call."""
        native = None if dtype is None else self.dtype(dtype)
        if isinstance(value, jax.Array):
            x = value if native is None else value.astype(native)
            return x if device is None or isinstance(x, jax.core.Tracer) else jax.device_put(x, self.places[device])
        return jax.device_put(np.array(value, native), None if device is None else self.places[device])

    def to_numpy(self, x: Any) -> np.ndarray:
        array = np.array(x)
        # numpy has no bfloat16; float32 holds each of its values.
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array

    def owns(self, x: Any) -> bool:
        return isinstance(x, jax.Array)

    def dtype(self, name: str) -> np.dtype:
        try:
            return np.dtype(getattr(jax.numpy, name))
        except (AttributeError, TypeError):
            known = ", ".join(self.dtypes)
            raise DTypeError(f"the backend {self.name!r} has no data type {name!r}; its float types: {known}") from None

    def dtype_name(self, x: Any) -> str:
        return x.dtype.name

    # Devices

    @cached_property
    def places(self) -> dict[str, jax.Device]:
        """The devices of this process, by LayerHub's names."""
        found = {"cpu": jax.local_devices(backend="cpu")[0]}
        return found | {_named(device): device for device in jax.local_devices() if device.platform != "cpu"}

    def devices(self) -> list[str]:
        return list(self.places)

    def check_device(self, device: str | None) -> str:
        # Users say "cuda" where there is one; one name per device keeps variables from moving about.
        full = f"{device}:0"
        return super().check_device(full if full in self.devices() else device)

    def device_of(self, x: jax.Array) -> str:
        if isinstance(x, jax.core.Tracer):
            # Of what is being traced nobody knows where it will be; most likely where jax puts things by itself.
            return _named(jax.local_devices()[0])
        return _named(next(iter(x.devices())))

    def synchronize(self) -> None:
        # A device takes up its work in order.
        for device in self.places.values():
            jax.device_put(0, device).block_until_ready()

    # Variables

    def assign(self, variable: Cell, value: Any) -> None:
        if isinstance(value, jax.core.Tracer):
            value = jax.lax.stop_gradient(value)  # what jax.grad records has a value underneath
        if isinstance(value, jax.core.Tracer):
            raise BackendError(
                "a function that jax traces (jax.jit, jax.vmap) cannot move the weights of a layer or model that it "
                "calls with training=True: call model.native, which gives them back"
            )
        super().assign(variable, value)

    # Differentiation

    def value_and_grad(
        self, function: Callable[[list], tuple[Any, Any]], params: Sequence[Any]
    ) -> tuple[Any, Any, list[Any]]:
        (loss, aux), gradients = jax.value_and_grad(function, has_aux=True)(list(params))
        return loss, aux, gradients

    # Execution

    def executor(self, program: Program, device: str | None = None) -> JaxExecutor:
        return JaxExecutor(self, program, device)

    def compiled(self, function: Callable[..., Any], draft: bool = False) -> Callable[..., Any]:
        return jax.jit(function, **(drafting() if draft else {}))


@cache
def drafting() -> dict[str, Any]:
    """What makes jax.jit compile drafts: nothing, where this version does not know these options."""
    options = {"compiler_options": DRAFT}
    try:
        jax.jit(lambda x: x, **options)(0.0)
    except (TypeError, jax.errors.JaxRuntimeError):
        return {}
    return options


def _named(device: jax.Device) -> str:
    """LayerHub's name of a device."""
    if device.platform == "cpu":
        return "cpu"
    return f"{'cuda' if device.platform == 'gpu' else device.platform}:{device.id}"
