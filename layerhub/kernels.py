"""Kernels: plain functions that stand in for a definition on one backend, because they are faster or more accurate.

    kernels = KernelSet()

    @kernels.register("Dense")
    def dense(layer, x, kernel, bias):
        ...

A kernel has the arguments of the definition that it replaces, with ``layer`` in place of ``self, xp``. It never
changes what is meant: the conformance suite runs both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from layerhub.errors import KernelError
from layerhub.spec import KINDS
from layerhub.spec.layer import Result

SIGNATURES = {
    "activation": ("activation", "x"),
    "loss": ("loss", "y_true", "y_pred"),
    "optimizer": ("optimizer", "coefficients", "weights", "gradients", "slots"),
}
"""The arguments of kernels of other kinds than layers.

An optimizer's kernel moves all weights at once: lists of weights, gradients and tuples of slots. It may work in place,
and returns the new weights and slots.
"""

VJP = ("layer", "saved", "cotangents")
"""The arguments of a kernel's vector-Jacobian product."""


@dataclass(frozen=True)
class Call:
    """The circumstances of one use of a layer, for ``when``."""

    training: bool = False
    masked: bool = False
    stateful: bool = False
    shapes: tuple[tuple[int | None, ...], ...] = ()
    dtype: str = "float32"


@dataclass(eq=False)
class Kernel:
    """A function for one spec on one backend.

    when: ``when(layer)`` or ``when(layer, call)``: whether it can serve; where it cannot, the definition does.
    memory: for a weight's name, the order of axes, slowest first, that its elements should have in memory.
    vjp: for backends without differentiation of their own: ``vjp(layer, saved, cotangents)``, with a tuple of
        cotangents for outputs and states, gives the gradients of inputs, weights and initial state as the arguments
        have them (a tuple for each argument that is one).
    saving: ``saving(layer, …)`` gives (result, saved) where a gradient will be asked for; without it, ``saved`` is
        (arguments, result).
    """

    name: str
    function: Callable[..., Any]
    kind: str = "layer"
    when: Callable[..., bool] | None = None
    memory: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    priority: int = 0
    backward: Callable[..., Any] | None = None
    keeping: Callable[..., Any] | None = None
    plugin: str = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @cached_property
    def asks_for_call(self) -> bool:
        """Whether ``when`` takes the circumstances of the call, too."""
        return self.when is not None and len(inspect.signature(self.when).parameters) == 2

    def vjp(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorates the kernel's vector-Jacobian product."""
        self.backward = function
        return function

    def saving(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorates the variant that also returns what the VJP needs."""
        self.keeping = function
        return function

    def forward(self, layer: Any, *args: Any) -> tuple[Any, Any]:
        """(result, saved), whether or not there is a ``saving`` variant."""
        if self.keeping is not None:
            return self.keeping(layer, *args)
        result = self.function(layer, *args)
        return result, (args, result)

    def serves(self, layer: Any, call: Call) -> bool:
        """Whether this kernel takes this configuration."""
        if self.when is None:
            return True
        try:
            return bool(self.when(layer, call) if self.asks_for_call else self.when(layer))
        except Exception as problem:
            told = f"{type(problem).__name__}: {problem}"
            raise KernelError(
                f"{self.plugin} kernel {self.where}: its when() failed for {layer!r}: {told}; "
                "it takes (layer) or (layer, call), and must say True or False of every configuration"
            ) from problem

    def check(self) -> None:
        """Raise KernelError unless the arguments are the spec's, in name and order. The name becomes the spec's own."""
        if self.kind != "layer" and self.kind not in SIGNATURES:
            raise KernelError(f"{self.plugin} kernel for {self.name}: no kernels of kind {self.kind!r} are known")
        spec: Any = KINDS[self.kind].find(self.name)
        self.name = spec.__name__
        wanted = ("layer", *spec.takes) if self.kind == "layer" else SIGNATURES[self.kind]
        for function in filter(None, (self.function, self.keeping)):
            takes = tuple(inspect.signature(function).parameters)
            if takes != wanted:
                raise KernelError(
                    f"{self.plugin} kernel {function.__name__} for {self.name} takes {takes}; "
                    f"the spec declares {wanted}"
                )
        if self.backward is not None and len(inspect.signature(self.backward).parameters) != len(VJP):
            takes = tuple(inspect.signature(self.backward).parameters)
            raise KernelError(f"{self.plugin} kernel {self.where}: its VJP takes {takes}; a VJP takes {VJP}")

    def watched(self, backend: Any) -> Kernel:
        """This kernel, looking at all that it returns; raises KernelError for what the spec does not declare.

        It costs time in every call: for the probe, not for models.
        """
        watch = _Watch(self, backend)
        backward = None if self.backward is None else watch.backward
        return replace(self, function=watch.call, keeping=watch.forward, backward=backward)

    @property
    def where(self) -> str:
        """Where the function is, for listings."""
        return f"{self.function.__module__}.{self.function.__qualname__}"


class KernelSet:
    """The kernels that a plugin offers for a backend."""

    def __init__(self) -> None:
        self.kernels: list[Kernel] = []

    def register(
        self,
        name: str,
        *,
        kind: str = "layer",
        when: Callable[..., bool] | None = None,
        memory: Mapping[str, tuple[int, ...]] | None = None,
        priority: int = 0,
    ) -> Callable[[Callable[..., Any]], Kernel]:
        """Decorates a kernel function for the spec ``name``; see ``Kernel`` for the options."""

        def enter(function: Callable[..., Any]) -> Kernel:
            kernel = Kernel(name, function, kind, when, memory or {}, priority)
            self.kernels.append(kernel)
            return kernel

        return enter

    def __iter__(self) -> Iterator[Kernel]:
        return iter(self.kernels)


class _Watch:
    """What a kernel is called with and what it gives, compared with the spec."""

    def __init__(self, kernel: Kernel, backend: Any):
        self.kernel, self.backend = kernel, backend
        self.native = type(backend.xp.zeros((1,)))

    def call(self, layer: Any, *args: Any) -> Any:
        result = self.kernel.function(layer, *args)
        self._check(layer, args, result)
        return result

    def forward(self, layer: Any, *args: Any) -> tuple[Any, Any]:
        found = self.kernel.forward(layer, *args)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise self.wrong(layer, f"its saving variant gave {_kind(found)}; it must return (result, saved)")
        self._check(layer, args, found[0])
        return found[0], (args, found[1])

    def backward(self, layer: Any, saved: tuple[tuple, Any], cotangents: tuple) -> Sequence[Any]:
        args, kept = saved
        assert self.kernel.backward is not None
        found = self.kernel.backward(layer, kept, cotangents)
        names = _names(layer, self.kernel.kind)
        count = len(found) if isinstance(found, Sequence) else _kind(found)
        if count != len(args):
            raise self.wrong(
                layer, f"its VJP gave {count} for gradients; it must return {len(args)}, of {', '.join(names)}, "
                "in this order, with None where there is none",
            )  # fmt: skip
        return _Gradients(self, layer, names, args, found)

    def array(self, layer: Any, what: str, x: Any, shape: Sequence[int | None] | None, dtype: str | None) -> None:
        """Raise KernelError unless x is a native array of this shape and type; None stands for any."""
        if not (isinstance(x, self.native) or self.backend.owns(x)):
            hint = "; is a return missing?" if x is None else ""
            raise self.wrong(layer, f"{what} is {_kind(x)}, not an array of the backend ({self.native.__name__}){hint}")
        if shape is not None and not _fits(tuple(x.shape), shape):
            raise self.wrong(layer, f"{what} has shape {tuple(x.shape)}, {tuple(shape)} is declared")
        if dtype is not None and self.backend.dtype_name(x) != dtype:
            raise self.wrong(layer, f"{what} is of type {self.backend.dtype_name(x)}, {dtype} is declared")

    def _check(self, layer: Any, args: tuple, returned: Any) -> None:
        result = returned if isinstance(returned, Result) else Result(returned)
        outputs = result.outputs if isinstance(result.outputs, tuple) else (result.outputs,)
        shapes, state_shapes, dtype = self._declared(layer, args)
        if len(shapes) == len(outputs) == 1 and isinstance(result.outputs, tuple):
            raise self.wrong(layer, "it gave a tuple of one output: return the array itself, not (y,)")
        for what, given, declared in (("output", outputs, shapes), ("state", result.states, state_shapes)):
            if len(given) != len(declared):
                count = f"it gave {len(given)} {what}s, {len(declared)} are declared"
                raise self.wrong(layer, f"{count}: return y, (y, z, ...), or Result(outputs, weights, states)")
            for k, (x, shape) in enumerate(zip(given, declared, strict=True)):
                self.array(layer, f"{what} {k}", x, shape, dtype)

    def _declared(self, layer: Any, args: tuple) -> tuple[Sequence[Any], Sequence[Any], str]:
        """Shapes of outputs, shapes of states, and their type, for these arguments."""
        name = self.backend.dtype_name
        if self.kernel.kind != "layer":
            return [layer.output_shape(tuple(args[0].shape))], [], name(args[0])
        inputs = args[0] if layer.inputs and layer.inputs[-1].many else args[: len(layer.inputs)]
        shapes = [None if x is None else tuple(x.shape) for x in inputs]
        found = layer.linear_shapes(*shapes)
        if getattr(layer, "return_state", False):
            found = found[: len(found) - layer.states]
        states = layer.state_shapes(*shapes) or (None,) * layer.states
        return found, states, layer.output_dtype(*(name(x) for x in inputs if x is not None))

    def wrong(self, layer: Any, what: str) -> KernelError:
        return KernelError(f"{self.kernel.plugin} kernel {self.kernel.where} for {layer!r}: {what}")


class _Gradients(Sequence):
    """What a VJP gave, looked at where it is asked for: some of it may be made only then."""

    def __init__(self, watch: _Watch, layer: Any, names: Sequence[str], args: tuple, found: Sequence[Any]):
        self.watch, self.layer, self.names, self.args, self.found = watch, layer, names, args, found

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: Any) -> Any:
        gradient, arg, what = self.found[index], self.args[index], f"the gradient of {self.names[index]}"
        if isinstance(arg, (tuple, list)):
            if not isinstance(gradient, (tuple, list)) or len(gradient) != len(arg):
                raise self.watch.wrong(self.layer, f"{what} must be a tuple of {len(arg)}, as the argument is")
            for k, (g, x) in enumerate(zip(gradient, arg, strict=True)):
                self._look(f"{what}, part {k},", g, x)
        else:
            self._look(what, gradient, arg)
        return gradient

    def _look(self, what: str, gradient: Any, arg: Any) -> None:
        if gradient is not None:
            self.watch.array(self.layer, what, gradient, arg.shape, None)


def _names(layer: Any, kind: str) -> Sequence[str]:
    """The arguments of a kernel after the first."""
    return layer.takes if kind == "layer" else SIGNATURES[kind][1:]


def _fits(shape: Sequence[int | None], declared: Sequence[int | None]) -> bool:
    """Whether two shapes may be the same; sizes that are not known yet are None."""
    return len(shape) == len(declared) and all(None in (a, b) or a == b for a, b in zip(shape, declared, strict=True))


def _kind(x: Any) -> str:
    return "None" if x is None else f"a value of type {type(x).__name__}"
