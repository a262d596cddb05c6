"""Naive formulas: array functions that are right on paper, and a definition read over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from layerhub import autodiff
from layerhub_conformance.selftest.right import meaning

Bend = Callable[..., Any]
"""``bend(xp, *arguments, **options)``, in place of a function of the namespace."""


class Bent:
    """A namespace in which some functions are others."""

    def __init__(self, xp: Any, bends: dict[str, Bend]):
        self.xp = xp
        for name, bend in bends.items():
            setattr(self, name, _over(bend, xp))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)


def _over(bend: Bend, xp: Any) -> Callable[..., Any]:
    return lambda *arguments, **options: bend(xp, *arguments, **options)


def rounded(xp: Any, x: Any, bits: int) -> Any:
    """x with a significand of so many bits, in its own type; what cannot be split so is kept.

    Source: Dekker 1971, doi:10.1007/BF01397083.
    """
    plain = str(autodiff.value_of(x).dtype).rpartition(".")[2]
    cut = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}.get(plain, 0) - bits
    if cut <= 0:
        return x
    wide = x * (2.0**cut + 1)
    high = wide - (wide - x)
    return xp.where(xp.isfinite(high), high, x)


def _short(name: str, bits: int, places: tuple[int, ...]) -> Bend:
    """A function whose arguments at these places lose precision; of no place, its result does."""

    def bend(xp: Any, *arguments: Any, **options: Any) -> Any:
        given = [rounded(xp, x, bits) if k in places else x for k, x in enumerate(arguments)]
        found = getattr(xp, name)(*given, **options)
        return found if places or not hasattr(found, "dtype") else rounded(xp, found, bits)

    return bend


def _error_function(xp: Any, x: Any) -> Any:
    wide = x * math.sqrt(2)
    return xp.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide * wide * wide))


def _error_series(xp: Any, x: Any) -> Any:
    # Source: Abramowitz & Stegun 1964, formula 7.1.26.
    size = xp.abs(x)
    t = 1 / (1 + 0.3275911 * size)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return xp.sign(x) * (1 - poly * xp.exp(-size * size))


def _hyperbolic(xp: Any, x: Any) -> Any:
    wide = xp.exp(x * 2)
    return (wide - 1) / (wide + 1)


def _chosen(xp: Any, condition: Any, a: Any, b: Any) -> Any:
    like = next((x for x in (a, b) if hasattr(x, "dtype")), None)
    if like is None or "float" not in str(like.dtype):
        return xp.where(condition, a, b)
    share = xp.astype(condition, like.dtype)
    return share * a + (1 - share) * b


def _over_one_less(xp: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    found = xp.mean(x, axis=axis, keepdims=keepdims)
    count = math.prod(x.shape) / max(math.prod(found.shape), 1)
    return found * (count / max(count - 1, 1))


def _unshifted(xp: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    found = xp.max(x, axis=axis, keepdims=keepdims)
    # Where the reduced axis is kept, the maximum is there to be subtracted.
    return xp.zeros_like(found) if keepdims else found


class _OnePass:
    """A variance as the mean of squares less the square of the mean."""

    def __init__(self) -> None:
        self.seen: tuple[Any, Any] | None = None

    def __call__(self, xp: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        found = xp.mean(x, axis=axis, keepdims=keepdims)
        before, self.seen = self.seen, (x, found)
        if before is None or x.shape != before[0].shape:
            return found
        whole, middle = before
        away = autodiff.value_of(whole) - autodiff.value_of(middle)
        if not bool((away * away == autodiff.value_of(x)).all()):
            return found
        return xp.mean(whole * whole, axis=axis, keepdims=keepdims) - middle * middle


BENDS: dict[str, dict[str, Bend]] = {
    "log1p": {"log(1 + x)": lambda xp, x: xp.log(1 + x)},
    "expm1": {"exp(x) - 1": lambda xp, x: xp.exp(x) - 1},
    "erf": {"by tanh": _error_function, "by a series of 1e-7": _error_series},
    "tanh": {"by exponentials": _hyperbolic, "to 18 bits": _short("tanh", 18, ())},
    "exp": {"to 18 bits": _short("exp", 18, ()), "of arguments of 18 bits": _short("exp", 18, (0,))},
    "log": {"to 18 bits": _short("log", 18, ())},
    "sqrt": {"to 16 bits": _short("sqrt", 16, ())},
    "sum": {"to 16 bits": _short("sum", 16, ()), "of terms of 11 bits": _short("sum", 11, (0,))},
    "mean": {"to 16 bits": _short("mean", 16, ()), "over one less": _over_one_less},
    "matmul": {"of factors of 11 bits": _short("matmul", 11, (0, 1)), "to 18 bits": _short("matmul", 18, ())},
    "einsum": {"of factors of 11 bits": _short("einsum", 11, (1, 2)), "to 18 bits": _short("einsum", 18, ())},
    "max": {"without its shift": _unshifted},
    "where": {"by products": _chosen},
    "maximum": {"by the absolute difference": lambda xp, a, b: (a + b + xp.abs(a - b)) / 2},
    "minimum": {"by the absolute difference": lambda xp, a, b: (a + b - xp.abs(a - b)) / 2},
    "pad": {"with zeros": lambda xp, x, widths, value=0.0: xp.pad(x, widths, 0.0)},
    "round": {"half up": lambda xp, x: xp.floor(x + 0.5)},
    "pow": {"by exp and log": lambda xp, a, b: xp.exp(b * xp.log(a)) if hasattr(a, "shape") else xp.pow(a, b)},
    "flip": {"not at all": lambda xp, x, axis=None: x},
    "argmax": {"of what is last": lambda xp, x, axis=None, keepdims=False: _last_of(xp, x, axis, keepdims)},
}
"""By function: what stands in its place, and how that is called."""


def _last_of(xp: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    if axis is None:
        return xp.argmax(x, axis=axis, keepdims=keepdims)
    back = xp.argmax(xp.flip(x, axis=axis), axis=axis, keepdims=keepdims)
    return x.shape[axis] - 1 - back


class _Noting:
    """A namespace that notes which of its functions are asked for."""

    def __init__(self, xp: Any, found: set[str]):
        self.xp, self.found = xp, found

    def __getattr__(self, name: str) -> Any:
        self.found.add(name)
        return getattr(self.xp, name)


def noting(found: set[str]) -> Callable[..., Any]:
    """The right meaning, noting the array functions that it asks for."""
    return lambda spec, xp, *arguments: meaning(spec, _Noting(xp, found), *arguments)


def naive() -> Iterator[tuple[str, str, Callable[[], Callable[..., Any]]]]:
    """(function, what stands in its place, what makes a meaning with it)"""
    for function, ways in BENDS.items():
        for how, bend in ways.items():
            yield function, how, _reading({function: bend})
    yield "mean", "in one pass", lambda: _reading({"mean": _OnePass()})()


def _reading(bends: dict[str, Bend]) -> Callable[[], Callable[..., Any]]:
    return lambda: lambda spec, xp, *arguments: meaning(spec, Bent(xp, bends), *arguments)
