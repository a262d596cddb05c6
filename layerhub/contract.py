"""The Backend contract, and what every backend gets for nothing.

A backend is an array-API namespace (``layerhub.namespace.STANDARD`` lists the functions it needs), a way to bring
arrays in and out, and whatever it does better than the defaults: differentiate, hold variables, execute programs.
The smallest one gives ``name`` and ``namespace`` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from layerhub import autodiff
from layerhub.config import FLOATS
from layerhub.errors import BackendError, DTypeError, PluginError
from layerhub.execution import Executor, Program
from layerhub.namespace import STANDARD, Namespace


class Cell:
    """A variable for array libraries that have none: a place for an array."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


class Backend:
    """One array library, as LayerHub sees it.

    name: as registered. namespace: an array-API namespace. extras: functions of ``layerhub.namespace`` that the
    library does better than the defaults, by name.

    What it can do, it declares; the conformance suite holds it to that:
    dtypes: its float types. has_gradients: whether models can be trained on it. has_sparse: whether it takes sparse
    tensors. lacks: what it does not serve, by the name of the spec, with the reason. fast_matmul: by float type, the
    unit roundoff of the products in its matrix products and convolutions, where they are less precise than the type
    (2**-11 for TF32). reciprocals: whether it computes x / y as x * (1 / y), which rounds twice.
    eager: whether operations run as they come; where each is compiled for each shape first, the suite compiles whole
    calls instead, and shares float types and routes out among its cases.
    """

    name: str
    namespace: Any
    extras: dict[str, Callable[..., Any]] = {}
    dtypes: tuple[str, ...] = ("float32", "float64")
    has_gradients = True
    has_sparse = False
    lacks: Mapping[str, str] = {}
    fast_matmul: Mapping[str, float] = {}
    reciprocals = False
    eager = True

    def __init__(self) -> None:
        self.xp = Namespace(self.namespace, **self.extras)
        self._reached: set[str] = set()

    def check(self) -> None:
        """Raise PluginError where the library has not what is declared; called once, when the backend is loaded."""
        who = type(self).__name__
        if not hasattr(self, "xp"):
            raise PluginError(f"{who}.__init__ must call super().__init__()")
        missing = [name for name in STANDARD if not hasattr(self.xp, name)]
        if missing:
            raise PluginError(
                f"{who}.namespace, {self.xp.base!r}, lacks {', '.join(missing)}: give them in {who}.extras, "
                "as the Python array API standard has them"
            )
        absent = [name for name in self.dtypes if not self._has(name)]
        if absent:
            raise PluginError(
                f"{who}.dtypes has {', '.join(absent)}, but its namespace has not: leave out what it lacks"
            )

    def _has(self, dtype: str) -> bool:
        try:
            return dtype in FLOATS and self.dtype(dtype) is not None
        except DTypeError:
            return False

    # Arrays

    def asarray(self, value: Any, dtype: str | None = None, device: str | None = None) -> Any:
        """A native array from an ndarray (or one's own array), cast and moved as asked."""
        return self.xp.asarray(value, dtype=None if dtype is None else self.dtype(dtype))

    def to_numpy(self, x: Any) -> np.ndarray:
        """An ndarray from a native array."""
        return np.asarray(x)

    def owns(self, x: Any) -> bool:
        """Whether ``x`` is one of this backend's arrays."""
        return isinstance(x, type(self.xp.zeros((1,))))

    def dtype(self, name: str) -> Any:
        """The native data type called ``name``."""
        found = getattr(self.xp, name, None)
        if found is None:
            raise DTypeError(f"the backend {self.name!r} has no data type {name!r}; its float types: {self.dtypes}")
        return found

    def dtype_name(self, x: Any) -> str:
        """The name of an array's data type."""
        return str(x.dtype).rpartition(".")[2]

    def device_of(self, x: Any) -> str:
        """The device that an array is on."""
        return "cpu"

    def devices(self) -> list[str]:
        """The devices that models can be put on."""
        return ["cpu"]

    def check_device(self, device: str | None) -> str:
        """The device's full name; the default one for None. Raises BackendError where there is no such device."""
        available = self.devices()
        if device is None:
            device = available[0]
        if device not in available:
            raise BackendError(f"the backend {self.name!r} has no device {device!r}; it has: {', '.join(available)}")
        if device not in self._reached:
            self._reach(device)
        return device

    def _reach(self, device: str) -> None:
        """Put an array on a device, once, to see that this can be done."""
        who = f"the backend {self.name!r} lists the device {device!r}"
        try:
            found = self.device_of(self.asarray(np.zeros(1, "float32"), None, device))
        except Exception as problem:
            raise BackendError(
                f"{who}, but cannot put an array there ({type(problem).__name__}: {problem}): "
                "devices() must name only what can be used"
            ) from problem
        if found != device:
            raise BackendError(
                f"{who}, but an array that was put there is on {found!r}: asarray() must follow its argument device, "
                "and device_of() must use the names of devices()"
            )
        self._reached.add(device)

    def xp_on(self, device: str) -> Any:
        """The namespace, whose functions that make arrays out of nothing make them on a device."""
        return self.xp

    # Variables

    def variable(
        self,
        value: np.ndarray,
        trainable: bool,
        device: str | None,
        memory: tuple[int, ...] | None,
        dtype: str | None = None,
    ) -> Any:
        """A place for a weight.

        memory: the order of axes in memory that its kernel likes, slowest first. dtype: the weight's type, where the
        value's is not it (the host keeps bfloat16 in float32).
        """
        return Cell(self.asarray(value, dtype, device))

    def read(self, variable: Any) -> Any:
        """The array that a variable holds."""
        return variable.value

    def assign(self, variable: Any, value: Any) -> None:
        """Give a variable a new native array; its type stays what it was."""
        kept = variable.value.dtype
        variable.value = value if value.dtype == kept else self.xp.astype(value, kept)

    # Differentiation

    @property
    def own_autodiff(self) -> bool:
        """Whether arrays are differentiated by the library; else the core does, and kernels need VJPs for it."""
        return type(self).value_and_grad is not Backend.value_and_grad

    @property
    def recording_xp(self) -> Any:
        """The namespace in which definitions run when they are to be differentiated."""
        return self.xp if self.own_autodiff else autodiff.differentiable(self.xp)

    def value_and_grad(
        self, function: Callable[[list], tuple[Any, Any]], params: Sequence[Any]
    ) -> tuple[Any, Any, list[Any]]:
        """(loss, aux, gradients) of ``function(params) -> (loss, aux)``, at native arrays ``params``."""
        return autodiff.value_and_grad(self.xp, function, params)

    # Data

    def stream(self, data: Any) -> Iterable[Any] | None:
        """Data of this library that come as batches (a loader, a dataset): something to go through, again and again.

        It gives x, (x, y) or (x, y, sample_weight), and has a length where it knows how many. None for what is no such
        data. Asked only of what comes from a module that the backend requires.
        """
        return None

    def inferring(self) -> AbstractContextManager[Any]:
        """The mode in which the library computes what nobody will differentiate, as predictions; here there is none."""
        return nullcontext()

    # Execution

    def executor(self, program: Program, device: str | None = None) -> Executor:
        """What runs a program: the default runs it call by call."""
        return Executor(self, program, device)

    def compiled(self, function: Callable[..., Any], draft: bool = False) -> Callable[..., Any]:
        """A pure function of nested lists of arrays, compiled as the library's users would compile it.

        draft: where the library has a choice, in the least time, for what will run once: the same operations, less
        well arranged.
        """
        return function

    def check_serves(self, spec: str) -> None:
        """Raise BackendError where the backend lacks this spec."""
        if spec in self.lacks:
            raise BackendError(f"the backend {self.name!r} lacks {spec}: {self.lacks[spec]}")

    def synchronize(self) -> None:
        """Wait until all work that was asked for is done; for measuring."""
