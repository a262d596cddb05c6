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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from layerhub.errors import KernelError
from layerhub.spec import KINDS

SIGNATURES = {
    "activation": ("activation", "x"),
    "loss": ("loss", "y_true", "y_pred"),
    "optimizer": ("optimizer", "coefficients", "weights", "gradients", "slots"),
}
"""The arguments of kernels of other kinds than layers.

An optimizer's kernel moves all weights at once: lists of weights, gradients and tuples of slots. It may work in place,
and returns the new weights and slots.
"""


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
                f"{self.plugin} kernel {self.where}: its when() failed for {layer!r}: {told}"
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
