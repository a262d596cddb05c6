"""Array functions that run on whatever backend their arrays belong to: for Lambda, custom layers, losses and metrics.

``lh.ops.exp(x)`` takes a native tensor, an ndarray, or an array that is being read for gradients or error bounds. All
functions of ``layerhub.namespace`` are here, with the names and meanings of the Python array API standard.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from layerhub.namespace import EXTRAS, STANDARD
from layerhub.variable import HOST

_spaces: dict[type, Any] = {}


def namespace_of(x: Any) -> Any:
    """The namespace that an array's functions are in; None for plain numbers."""
    own = getattr(x, "space", None)
    if own is not None:
        return own
    kind = type(x)
    if kind not in _spaces:
        if kind in (int, float, bool, complex, str):
            return None
        if isinstance(x, (np.ndarray, np.generic)):
            _spaces[kind] = HOST
        else:
            from layerhub.graph import owner

            _spaces[kind] = owner(x).xp
    return _spaces[kind]


def _arrays(arguments: Any) -> Any:
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from _arrays(argument)
        elif not isinstance(argument, (int, float, bool, str, type(None), slice)):
            yield argument


@cache
def _function(name: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        spaces = [space for space in map(namespace_of, _arrays((*args, *kwargs.values()))) if space is not None]
        # A recorded or bounded array decides over the plain ones that stand beside it.
        space = max(spaces, key=lambda space: space.depth, default=HOST)
        return getattr(space, name)(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"``{name}`` of the array API standard, on the backend that owns the arrays."
    return call


def __getattr__(name: str) -> Any:
    if name in EXTRAS or name in STANDARD:
        return _function(name)
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"layerhub.ops has no function {name!r}; it has those of the array API that backends must have"
    )


def __dir__() -> list[str]:
    return sorted({*EXTRAS, *STANDARD})
