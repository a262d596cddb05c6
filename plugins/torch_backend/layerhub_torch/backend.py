"""The torch backend: tensors in and out, Parameters for variables, torch.autograd for gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from layerhub.contract import Backend
from layerhub.errors import DataError, DTypeError
from layerhub.execution import Program
from layerhub.namespace import Namespace
from layerhub_torch import namespace
from layerhub_torch.executor import TorchExecutor


class TorchBackend(Backend):
    """PyTorch."""

    name = "torch"
    namespace = namespace
    extras = namespace.EXTRAS
    dtypes = ("float32", "float64", "bfloat16", "float16")

    def __init__(self) -> None:
        super().__init__()
        self._placed: dict[str, Namespace] = {}

    # Arrays

    def asarray(
        self, value: Any, dtype: str | None = None, device: str | None = None, copy: bool = True
    ) -> torch.Tensor:
        """A tensor; it shares memory with an ndarray only where ``copy`` is False, and where it can."""
        if not isinstance(value, torch.Tensor):
            value = _from_host(np.array(value) if copy else np.asarray(value))
        return value.to(device=device, dtype=None if dtype is None else self.dtype(dtype))

    def to_numpy(self, x: torch.Tensor) -> np.ndarray:
        x = x.detach().cpu()
        # numpy has no bfloat16; float32 holds each of its values.
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()

    def owns(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor)

    def dtype(self, name: str) -> torch.dtype:
        found = getattr(torch, name, None)
        if not isinstance(found, torch.dtype):
            raise DTypeError(f"the backend {self.name!r} has no data type {name!r}; its float types: {self.dtypes}")
        return found

    def device_of(self, x: torch.Tensor) -> str:
        return str(x.device)

    def devices(self) -> list[str]:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        return [*found, "mps:0"] if torch.backends.mps.is_available() else found

    def check_device(self, device: str | None) -> str:
        # Tensors say "cuda:0" of themselves, users say "cuda"; one name per device keeps variables from moving about.
        full = f"{device}:0"
        return super().check_device(full if full in self.devices() else device)

    def xp_on(self, device: str) -> Namespace:
        if device == "cpu":
            return self.xp
        if device not in self._placed:
            self._placed[device] = Namespace(namespace, **namespace.EXTRAS | namespace.placed(device))
        return self._placed[device]

    # Variables

    def variable(
        self,
        value: np.ndarray,
        trainable: bool,
        device: str | None,
        memory: tuple[int, ...] | None,
        dtype: str | None = None,
    ) -> torch.Tensor:
        """A Parameter, or for what is never trained a plain tensor, as a module's buffers are."""
        # Whoever happens to need it first may only be inferring; it will be trained all the same.
        with torch.inference_mode(False):
            held = self.asarray(value, dtype, device)
            if memory is not None:
                held = held.permute(memory).contiguous().permute(np.argsort(memory).tolist())
            return torch.nn.Parameter(held) if trainable else held

    def read(self, variable: torch.Tensor) -> torch.Tensor:
        return variable

    def assign(self, variable: torch.Tensor, value: torch.Tensor) -> None:
        if value is not variable:
            with torch.no_grad():
                variable.copy_(value)

    # Differentiation

    def inferring(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def value_and_grad(
        self, function: Callable[[list], tuple[Any, Any]], params: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, Any, list[torch.Tensor]]:
        with torch.enable_grad():
            leaves = [p if p.requires_grad and p.is_leaf else p.detach().requires_grad_() for p in params]
            loss, aux = function(leaves)
        if not loss.requires_grad or not leaves:
            return loss, aux, [torch.zeros_like(leaf) for leaf in leaves]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        found = [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, leaves, strict=True)]
        return loss.detach(), aux, found

    # Data

    def stream(self, data: Any) -> Iterable[Any] | None:
        if isinstance(data, torch.utils.data.DataLoader):
            return data
        if isinstance(data, torch.utils.data.Dataset):
            raise DataError(
                f"{type(data).__name__} gives single samples; batches are wanted: "
                "torch.utils.data.DataLoader(dataset, batch_size)"
            )
        return None

    # Execution

    def executor(self, program: Program, device: str | None = None) -> TorchExecutor:
        return TorchExecutor(self, program, device)

    def synchronize(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if torch.backends.mps.is_available():
            torch.mps.synchronize()


def _from_host(array: np.ndarray) -> torch.Tensor:
    """A tensor over an ndarray's memory where torch can have it so, else over a copy's."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    usable = array.flags.writeable and array.dtype.isnative and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if usable else np.array(array, array.dtype.newbyteorder("="), order="C"))
