"""float16 by way of float32: numpy computes the first one element at a time, and rounds every step of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from layerhub.kernels import Call, Kernel, KernelSet
from layerhub.spec import Result
from layerhub_numpy.gradients import OnDemand


def _cast(value: Any, old: Any, new: Any) -> Any:
    """A value with every array of type ``old`` in it as one of type ``new``."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.astype(new) if value.dtype == old else value
    if isinstance(value, Result):
        return Result(*(_cast(part, old, new) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_cast(part, old, new) for part in value)
    if isinstance(value, dict):
        return {name: _cast(part, old, new) for name, part in value.items()}
    return value


def _single(value: Any) -> Any:
    return _cast(value, np.float16, np.float32)


def _half(value: Any) -> Any:
    return _cast(value, np.float32, np.float16)


def _rounded(layer: Any, arguments: tuple, result: Any) -> Any:
    """What a kernel gave, in float16; new values of weights in the type that these are kept in."""
    if not isinstance(result, Result):
        return _half(result)
    kept = dict(zip(layer.takes, arguments, strict=True))
    weights = {name: value.astype(kept[name].dtype, copy=False) for name, value in result.weights.items()}
    return Result(_half(result.outputs), weights, _half(result.states))


def in_single(kernels: KernelSet) -> KernelSet:
    """The same kernels for float16: computed in float32, rounded once at the end."""
    halves = KernelSet()
    for kernel in kernels:
        _enter(halves, kernel)
    return halves


def _enter(halves: KernelSet, kernel: Kernel) -> None:
    @halves.register(kernel.name, kind=kernel.kind, when=_for_halves(kernel), priority=kernel.priority)
    @wraps(kernel.function, assigned=("__name__", "__qualname__", "__doc__"))
    def half(layer, *arguments):
        return _rounded(layer, arguments, kernel.function(layer, *_single(arguments)))

    if kernel.backward is None:
        return

    @half.saving
    @wraps(kernel.function, assigned=("__name__", "__qualname__", "__doc__"))
    def keeping(layer, *arguments):
        result, saved = kernel.forward(layer, *_single(arguments))
        return _rounded(layer, arguments, result), saved

    @half.vjp
    def vjp(layer, saved, cotangents):
        found = kernel.backward(layer, saved, _single(cotangents))
        return OnDemand(*(lambda i=i: _half(found[i]) for i in range(len(found))))


def _for_halves(kernel: Kernel) -> Callable[[Any, Call], bool]:
    return lambda layer, call: call.dtype == "float16" and kernel.serves(layer, call)
