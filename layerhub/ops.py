"""Array functions that run on whatever backend their arrays belong to: for Lambda, custom layers, losses and metrics.

``lh.ops.exp(x)`` takes a native tensor, an ndarray, or an array that is being read for gradients or error bounds. All
functions of ``layerhub.namespace`` are here, with the names and meanings of the Python array API standard; all
activations, by their names (``lh.ops.relu(x)``, ``lh.ops.softmax(x, axis=1)``); and what ``MADE`` makes of these.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from layerhub.namespace import EXTRAS, STANDARD
from layerhub.registry import registry
from layerhub.spec import KINDS
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
            _spaces[kind] = registry().owner(x).xp
    return _spaces[kind]


_PLAIN = (int, float, bool, str, type(None), type(Ellipsis), slice, type, np.dtype)
"""What functions take beside arrays."""


def _arrays(arguments: Any) -> Any:
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from _arrays(argument)
        elif not (isinstance(argument, _PLAIN) or callable(argument) or type(argument).__name__ == "DType"):
            yield argument


def _space(args: Any, kwargs: Any) -> Any:
    """The namespace of the arrays among arguments: a recorded or bounded one decides over the plain ones beside it."""
    spaces = [space for space in map(namespace_of, _arrays((*args, *kwargs.values()))) if space is not None]
    return max(spaces, key=lambda space: space.depth, default=HOST)


@cache
def named(name: str) -> Any:
    """The function of a name, with the namespace as its first argument."""
    return MADE[name] if name in MADE else lambda xp, *args, **kwargs: getattr(xp, name)(*args, **kwargs)


def _astype(xp: Any, x: Any, dtype: Any) -> Any:
    """x in a type, which may be said by its name or as ``lh.ops.float32``."""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", None)
    return xp.astype(x, getattr(xp, name) if name is not None else dtype)


@cache
def _function(name: str) -> Any:
    meaning = named(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        space = _space(args, kwargs)
        if space.symbolic:
            return space.operate(name, args, kwargs)
        return meaning(space, *args, **kwargs) if name != "astype" else _astype(space, *args, **kwargs)

    call.__name__ = call.__qualname__ = name
    standard = f"``{name}`` of the array API standard, on the backend that owns the arrays."
    call.__doc__ = MADE[name].__doc__ if name in MADE else standard
    return call


class Made:
    """Functions that the standard has under other names, or not at all."""

    @staticmethod
    def clip(xp: Any, x: Any, low: float, high: float) -> Any:
        """x, but no less than ``low`` and no more than ``high``."""
        x = xp.where(x <= low, xp.full_like(x, low), x)
        return xp.where(x >= high, xp.full_like(x, high), x)

    @staticmethod
    def concatenate(xp: Any, xs: Any, axis: int = -1) -> Any:
        """Arrays laid end to end along an axis."""
        return xp.concat(xs, axis=axis)

    @staticmethod
    def get_item(xp: Any, x: Any, key: Any) -> Any:
        """x[key], where key has ints, slices, ``...`` and None, which stands for an axis of size 1."""
        keys = list(key) if isinstance(key, (tuple, list)) else [key]
        if any(part is Ellipsis for part in keys):
            at = next(k for k, part in enumerate(keys) if part is Ellipsis)
            count = sum(part is not None for part in keys) - 1
            keys[at : at + 1] = [slice(None)] * (x.ndim - count)
        y, axis = x[tuple(part for part in keys if part is not None)], 0
        for part in keys:
            if part is None:
                y = xp.expand_dims(y, axis=axis)
            axis += not isinstance(part, int)
        return y

    @staticmethod
    def l2_normalize(xp: Any, x: Any, axis: int = -1, epsilon: float = 1e-12) -> Any:
        """x / |x| along an axis; where |x|**2 is below ``epsilon``, x / sqrt(epsilon)."""
        total = xp.sum(x * x, axis=axis, keepdims=True)
        return x / xp.sqrt(xp.where(total <= epsilon, xp.full_like(total, epsilon), total))

    @staticmethod
    def square(xp: Any, x: Any) -> Any:
        """x * x"""
        return x * x

    @staticmethod
    def transpose(xp: Any, x: Any, axes: Any = None) -> Any:
        """The axes in another order; reversed, if none is given."""
        return xp.permute_dims(x, axes or tuple(range(x.ndim))[::-1])

    @staticmethod
    def variance(xp: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """The mean of the squared distances from the mean."""
        away = x - xp.mean(x, axis=axis, keepdims=True)
        return xp.mean(away * away, axis=axis, keepdims=keepdims)


MADE: dict[str, Any] = {name: getattr(Made, name) for name in vars(Made) if not name.startswith("_")}
"""What ``Made`` has, by name."""


@cache
def _activation(name: str) -> Any:
    kind: Any = KINDS["activation"].find(name)

    def call(x: Any, **parameters: Any) -> Any:
        space = _space((x,), {})
        return space.activate(kind(**parameters), x) if space.symbolic else kind(**parameters)(space, x)

    call.__name__, call.__doc__ = name, kind.__doc__
    return call


def __getattr__(name: str) -> Any:
    if name in EXTRAS or name in STANDARD or name in MADE:
        return _function(name)
    if not name.startswith("_") and name in KINDS["activation"] and name != "custom":
        return _activation(name)
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"layerhub.ops has no function {name!r}; it has those of the array API that backends must have"
    )


def __dir__() -> list[str]:
    return sorted({*EXTRAS, *STANDARD, *MADE, *KINDS["activation"]} - {"custom"})
