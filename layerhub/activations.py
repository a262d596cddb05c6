"""Activations as functions of arrays of any backend: ``lh.activations.relu(x)``."""

from collections.abc import Callable
from typing import Any

from layerhub.ops import namespace_of
from layerhub.spec.activations import Activation, activations
from layerhub.spec.base import serialize
from layerhub.tables import table

get = deserialize = activations.get


def _as_function(spec: type[Activation]) -> Callable[..., Any]:
    def apply(x: Any, *args: Any, **parameters: Any) -> Any:
        return spec(*args, **parameters).define(namespace_of(x), x)

    apply.__name__ = apply.__qualname__ = spec.__name__
    apply.__doc__ = spec.__doc__
    return apply


__getattr__, __dir__ = table("activation", _as_function)

__all__ = ["Activation", "deserialize", "get", "serialize"]
