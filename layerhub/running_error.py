"""Running-error arrays: values in float64, each with a bound on the error that lower precision may make.

Reading a definition with ``RunningError(unit)`` in place of a namespace gives, beside each value, how far a correct
result may be from it when every operation rounds to ``unit`` (2**-24 for float32). Reading the gradients of
``layerhub.autodiff`` with it bounds the gradients' errors.

Whole numbers that the type holds stay exact through sums and products, whatever the order: small ones in, and a correct
result is met to the last bit.

An error of NaN means *undecided*: a comparison or choice fell within the error of its operands, and what it decides is
not continuous there. NaN spreads by itself to everything that depends on it.

Source: Higham, Accuracy and stability of numerical algorithms, 2nd ed. 2002, section 3.3; Higham & Mary 2019,
doi:10.1137/18M1226312, for sums growing like the square root of their length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerhub.namespace import Namespace, Operand

UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
"""The unit roundoff of each float type."""
SMALLEST = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}
"""The smallest normal number of each float type: backends may flush what is smaller to zero."""

LARGEST = {"float16": 65504.0, "bfloat16": 2.0**127 * (2 - 2.0**-7), "float32": 2.0**127 * (2 - 2.0**-23)}
"""The largest number of the shorter float types: what may be larger is undecided, for an operation may overflow."""

ULPS = {"exp": 4, "expm1": 4, "log": 4, "log1p": 4, "tanh": 8, "erf": 8, "sqrt": 1, "sin": 4, "cos": 4}
"""Units in the last place by which a good implementation may miss: about 1.5 times the worst that was measured."""


@dataclass(frozen=True)
class Arithmetic:
    """Where a backend rounds otherwise than each operation once.

    products: the unit roundoff of matrix products; None for the type's own. reciprocals: x / y is computed as
    x * (1 / y), which rounds twice.
    """

    products: float | None = None
    reciprocals: bool = False


EACH_ONCE = Arithmetic()


class Bounded(Operand):
    """Values with bounds on their errors.

    terms: of a sum, (how many terms, the sum of their magnitudes, the sum of their errors): a kernel may add them in
    another order, so what is added to a sum is another term of it.
    """

    __slots__ = ("error", "space", "terms", "value")

    def __init__(self, value: Any, error: Any, space: RunningError, terms: tuple[int, Any, Any] | None = None):
        self.terms = terms
        self.value = np.asarray(value, dtype=np.float64)
        self.error = np.broadcast_to(np.asarray(error, dtype=np.float64), self.value.shape)
        self.space = space
        # Infinities and NaN are met exactly, or not at all.
        if not (finite := np.isfinite(self.value)).all():
            self.error = np.where(finite, self.error, 0.0)
        if self.value.size and np.fmax.reduce(np.abs(self.value), axis=None) > space.largest / 2:
            self.error = np.where(finite & ~(np.abs(self.value) + self.error <= space.largest), np.nan, self.error)

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.value[index], self.error[index], self.space)


class Decided(Operand):
    """Truth values or indices, and which of them could as well be otherwise."""

    __slots__ = ("open", "space", "value")

    def __init__(self, value: Any, open_: Any, space: RunningError):
        self.value, self.space = np.asarray(value), space
        self.open = np.broadcast_to(np.asarray(open_, dtype=bool), self.value.shape)

    def __getitem__(self, index: Any) -> Decided:
        return Decided(self.value[index], self.open[index], self.space)


def _raw(x: Any) -> Any:
    return x.value if isinstance(x, (Bounded, Decided)) else x


def _open(x: Any) -> Any:
    return x.open if isinstance(x, Decided) else np.False_


def _terms(n: int) -> float:
    """How the error of a sum grows with its length."""
    return min(n, 8 * math.sqrt(n))


def _silent(function: Callable) -> Callable:
    """Overflow and invalid operations are values here (inf, NaN), not warnings."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return call


class RunningError(Namespace):
    """The namespace of ``Bounded`` arrays for one unit roundoff. Plain arrays count as exact."""

    depth = 1

    def __init__(self, unit: float, smallest: float, arithmetic: Arithmetic = EACH_ONCE, largest: float = math.inf):
        self.unit, self.smallest, self.largest = unit, smallest, largest
        self.products = arithmetic.products or unit
        self.division = 2 if arithmetic.reciprocals else 1
        super().__init__(np)
        for name, function in list(vars(type(self)).items()):
            if not name.startswith("_") and callable(function):
                setattr(self, name, _silent(function.__get__(self)))

    @classmethod
    def of(cls, dtype: str, arithmetic: Arithmetic = EACH_ONCE) -> RunningError:
        """The namespace for a float type by name."""
        return cls(UNITS[dtype], SMALLEST[dtype], arithmetic, LARGEST.get(dtype, math.inf))

    def exact(self, x: Any) -> Bounded:
        """An input, which is exactly what it is."""
        return Bounded(x, 0.0, self)

    def _of(self, x: Any) -> tuple[Any, Any]:
        """Value and error. A plain number that the type cannot hold exactly carries its rounding."""
        if isinstance(x, Bounded):
            return x.value, x.error
        value = np.asarray(_raw(x), dtype=np.float64)
        return value, self._rounding(value) if isinstance(x, float) and math.isfinite(x) else 0.0

    def _rounding(self, value: np.ndarray) -> Any:
        """By how much constants are changed when they are rounded to the type: not at all where it holds them."""
        mantissa = np.frexp(value)[0] / self.unit
        return np.where(mantissa == np.round(mantissa), 0.0, self.unit * np.abs(value))

    def asarray(self, x, dtype=None):
        value = np.asarray(x, dtype=dtype)
        return Bounded(value, self._rounding(value), self) if value.dtype.kind == "f" else value

    def _rounded(self, value: Any, error: Any, *operands: Any) -> Bounded:
        # Zero that came about exactly stays exact: nothing was rounded, nothing can have been flushed. So do whole
        # numbers made of whole ones.
        exact = (value == 0) | (self._whole(np.abs(value), *operands) if operands else False)
        return Bounded(
            value, np.where((error == 0) & exact, 0.0, error + self.unit * np.abs(value) + self.smallest), self
        )

    def _whole(self, magnitude: Any, *operands: Any) -> Any:
        """Where operands are whole numbers, and all that is made of them is one that the type holds."""
        kept = magnitude <= 1 / self.unit
        for operand in operands:
            kept = kept & (operand == np.floor(operand))
        return kept

    # Arithmetic

    def add(self, a, b):
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        return self._added(va + vb, (a, va, ea), (b, vb, eb))

    def subtract(self, a, b):
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        return self._added(va - vb, (a, va, ea), (b, vb, eb))

    def _added(self, value, *operands):
        """A sum, of terms that may be sums themselves."""
        known = [getattr(x, "terms", None) or (1, np.abs(v), e) for x, v, e in operands]
        (m, wa, ca), (n, wb, cb) = known
        terms = m + n, wa + wb, ca + cb
        (_, va, ea), (_, vb, eb) = operands
        plain = self._rounded(value, ea + eb, va, vb)
        if m + n > 2:  # of two, there is only one order
            count, magnitude, carried = terms
            grown = carried + _terms(count - 1) * self.unit * magnitude + count * self.smallest
            plain.error = np.where(plain.error == 0, 0.0, np.maximum(plain.error, grown))
        plain.terms = terms
        return plain

    def multiply(self, a, b):
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        return self._rounded(va * vb, ea * np.abs(vb) + eb * np.abs(va) + ea * eb, va, vb)

    def divide(self, a, b):
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        value = va / vb
        # A divisor that may be zero leaves nothing to say: NaN, undecided.
        room = np.where(np.abs(vb) > eb, np.abs(vb) - eb, np.nan)
        again = (self.division - 1) * self.unit * np.abs(value)
        found = self._rounded(value, (ea + np.abs(value) * eb) / room + again)
        found.error = np.where(np.isnan(room), np.nan, found.error)
        return found

    def negative(self, a):
        return Bounded(-a.value, a.error, self, a.terms)

    def abs(self, a):
        return Bounded(np.abs(a.value), a.error, self)

    def pow(self, a, b):
        value, error = self._of(a)
        return self._rounded(
            value**b, np.abs(b * value ** (b - 1)) * error + 2 * np.abs(b) * self.unit * np.abs(value**b)
        )

    def square(self, a):
        return self.multiply(a, a)

    def _function(self, name, a, slope, floor=0.0):
        value, error = self._of(a)
        result = getattr(np, name)(value) if hasattr(np, name) else self._plain_erf(value)
        carried = np.where(error == 0, 0.0, np.abs(slope(value, result)) * error)
        own = 2 * ULPS[name] * self.unit * np.abs(result) + floor * self.unit
        return Bounded(result, carried + own + self.smallest, self)

    def exp(self, a):
        return self._function("exp", a, lambda x, y: y)

    def expm1(self, a):
        return self._function("expm1", a, lambda x, y: y + 1)

    def log(self, a):
        return self._function("log", a, lambda x, y: 1 / x)

    def log1p(self, a):
        return self._function("log1p", a, lambda x, y: 1 / (1 + x))

    def tanh(self, a):
        return self._function("tanh", a, lambda x, y: (1 - y) * (1 + y))

    def sin(self, a):
        return self._function("sin", a, lambda x, y: np.cos(x))

    def cos(self, a):
        return self._function("cos", a, lambda x, y: np.sin(x))

    def erf(self, a):
        return self._function("erf", a, lambda x, y: 2 / math.sqrt(math.pi) * np.exp(-x * x), floor=4.0)

    def _plain_erf(self, x):
        return _FLOAT64.erf(x)

    def sqrt(self, a):
        value, error = self._of(a)
        result = np.sqrt(value)
        carried = np.where(error == 0, 0.0, np.fmin(error / (2 * result), np.sqrt(error)) + 0 * error)
        return self._rounded(result, carried)

    # Comparisons and choices

    def _compare(self, name, a, b):
        if isinstance(a, Decided) or isinstance(b, Decided):  # what is compared with something open is open
            return Decided(getattr(np, name)(_raw(a), _raw(b)), _open(a) | _open(b), self)
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        close = ~(np.abs(va - vb) > ea + eb) & (np.asarray(ea + eb) != 0)
        return Decided(getattr(np, name)(va, vb), close, self)

    def less(self, a, b):
        return self._compare("less", a, b)

    def less_equal(self, a, b):
        return self._compare("less_equal", a, b)

    def greater(self, a, b):
        return self._compare("greater", a, b)

    def greater_equal(self, a, b):
        return self._compare("greater_equal", a, b)

    def equal(self, a, b):
        return self._compare("equal", a, b)

    def not_equal(self, a, b):
        return self._compare("not_equal", a, b)

    def logical_and(self, a, b):
        return Decided(np.logical_and(_raw(a), _raw(b)), _open(a) | _open(b), self)

    def logical_or(self, a, b):
        return Decided(np.logical_or(_raw(a), _raw(b)), _open(a) | _open(b), self)

    def logical_not(self, a):
        return Decided(np.logical_not(_raw(a)), _open(a), self)

    def where(self, condition, a, b):
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        if (
            not isinstance(a, Bounded)
            and not isinstance(b, Bounded)
            and not np.issubdtype(np.asarray(a).dtype, np.floating)
        ):
            return Decided(np.where(_raw(condition), a, b), _open(condition), self)
        chosen = _raw(condition)
        value, error = np.where(chosen, va, vb), np.where(chosen, ea, eb)
        if np.any(_open(condition)):
            # Where both branches nearly meet, either is right; where they do not, nothing can be said.
            gap = np.abs(va - vb)
            hull = np.where(gap <= 2 * (ea + eb) + self.smallest, np.maximum(ea, eb) + gap, np.nan)
            error = np.where(_open(condition), hull, error)
        return Bounded(value, error, self)

    def sign(self, a):
        value, error = self._of(a)
        return Bounded(np.sign(value), np.where((np.abs(value) <= error) & (error > 0), np.nan, 0.0), self)

    def floor(self, a):
        value, error = self._of(a)
        return Bounded(np.floor(value), np.where(np.floor(value - error) == np.floor(value + error), 0.0, np.nan), self)

    def maximum(self, a, b):
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        return Bounded(np.maximum(va, vb), np.maximum(ea, eb), self)

    def minimum(self, a, b):
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        return Bounded(np.minimum(va, vb), np.maximum(ea, eb), self)

    def max(self, a, axis=None, keepdims=False):
        return Bounded(a.value.max(axis, keepdims=keepdims), a.error.max(axis, keepdims=keepdims), self)

    def min(self, a, axis=None, keepdims=False):
        return Bounded(a.value.min(axis, keepdims=keepdims), a.error.max(axis, keepdims=keepdims), self)

    def argmax(self, a, axis=None, keepdims=False):
        value, error = self._of(a)
        best = np.argmax(value, axis=axis, keepdims=True)
        top = np.take_along_axis(value, best, axis=axis)
        slack = np.take_along_axis(np.asarray(np.broadcast_to(error, value.shape)), best, axis=axis)
        rivals = (value + error + slack >= top) & (error + slack > 0)
        np.put_along_axis(rivals, best, False, axis=axis)
        undecided = rivals.any(axis=axis, keepdims=True)
        best, undecided = (best, undecided) if keepdims else (best.squeeze(axis), undecided.squeeze(axis))
        return Decided(best, undecided, self) if undecided.any() else best

    def any(self, a, axis=None, keepdims=False):
        unsure = np.broadcast_to(_open(a), np.shape(_raw(a)))
        return Decided(
            np.any(_raw(a), axis=axis, keepdims=keepdims), np.any(unsure, axis=axis, keepdims=keepdims), self
        )

    def astype(self, a, dtype):
        floating = np.issubdtype(dtype, np.floating)
        if isinstance(a, Bounded):
            if floating:
                return a
            moved = np.floor(a.value - a.error) != np.floor(a.value + a.error)
            return Decided(a.value.astype(dtype), moved, self)
        if floating:
            return Bounded(_raw(a), np.where(_open(a), np.nan, 0.0), self)
        return Decided(_raw(a).astype(dtype), _open(a), self) if isinstance(a, Decided) else np.asarray(a).astype(dtype)

    # Sums of many

    def sum(self, a, axis=None, keepdims=False):
        if not isinstance(a, Bounded) and np.asarray(_raw(a)).dtype.kind in "iu":  # counts and indices, which are exact
            total = np.sum(_raw(a), axis=axis, keepdims=keepdims)
            unsure = np.any(np.broadcast_to(_open(a), a.shape), axis=axis, keepdims=keepdims)
            return Decided(total, unsure, self) if np.any(unsure) else total
        value, error = self._of(a)
        result = value.sum(axis, keepdims=keepdims)
        n = value.size // max(result.size, 1)
        error = np.broadcast_to(error, value.shape).sum(axis, keepdims=keepdims)
        magnitude = np.abs(value).sum(axis, keepdims=keepdims)
        terms = n, magnitude, error
        exact = (error == 0) & (magnitude <= 1 / self.unit) & np.all(value == np.floor(value), axis, keepdims=keepdims)
        grown = error + _terms(n) * self.unit * magnitude + n * self.smallest
        return Bounded(result, np.where(exact, 0.0, grown), self, terms if n else None)

    def mean(self, a, axis=None, keepdims=False):
        total = self.sum(a, axis=axis, keepdims=keepdims)
        return self.divide(total, max(np.size(_raw(a)) // max(total.value.size, 1), 1) * 1.0)

    def _products(self, combine, a, b, n):
        (va, ea), (vb, eb) = self._of(a), self._of(b)
        ea, eb = np.broadcast_to(ea, va.shape), np.broadcast_to(eb, vb.shape)
        wa, wb = np.abs(va), np.abs(vb)
        carried, magnitude = combine(ea, wb + eb) + combine(wa, eb), combine(wa, wb)
        grown = carried + _terms(n) * self.products * magnitude + n * self.smallest
        whole = np.all(va == np.floor(va)) and np.all(vb == np.floor(vb))
        # Sums of products with exact zeros alone, such as of the cells of a padding, are exact too.
        exact = (carried == 0) & (magnitude <= (1 / self.products if whole else 0))
        terms = (n, magnitude * (self.products / self.unit), carried) if n else None
        return Bounded(combine(va, vb), np.where(exact, 0.0, grown), self, terms)

    def matmul(self, a, b):
        return self._products(np.matmul, a, b, a.shape[-1])

    def einsum(self, subscripts, a, b):
        terms, output = subscripts.replace(" ", "").split("->")
        first, second = terms.split(",")
        sizes = dict(zip(first, a.shape, strict=True)) | dict(zip(second, b.shape, strict=True))
        n = math.prod(size for letter, size in sizes.items() if letter not in output)
        return self._products(lambda x, y: np.einsum(subscripts, x, y), a, b, n)

    def scatter_add(self, size, index, updates):
        value, error = self._of(updates)
        index = _raw(index)
        shape = (size, *value.shape[index.ndim :])
        total, carried, weight = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        np.add.at(total, index, value)
        np.add.at(carried, index, np.broadcast_to(error, value.shape))
        np.add.at(weight, index, np.abs(value))
        most = int(np.bincount(index.reshape(-1), minlength=1).max()) if index.size else 0
        grown = carried + _terms(most) * self.unit * weight + most * self.smallest
        if np.all(value == np.floor(value)):
            grown = np.where((carried == 0) & (weight <= 1 / self.unit), 0.0, grown)
        return Bounded(total, grown, self)

    # Moves, which carry the operands' errors

    def _moved(self, name, x, *args, **kwargs):
        function = getattr(np, name)
        if isinstance(x, Bounded):
            count, *parts = x.terms or (0,)
            terms = (count, *(function(np.broadcast_to(p, x.shape), *args, **kwargs) for p in parts)) if count else None
            return Bounded(function(x.value, *args, **kwargs), function(x.error, *args, **kwargs), self, terms)
        if isinstance(x, Decided):
            return Decided(function(x.value, *args, **kwargs), function(x.open, *args, **kwargs), self)
        return function(x, *args, **kwargs)

    def reshape(self, x, shape):
        return self._moved("reshape", x, shape)

    def permute_dims(self, x, axes):
        return self._moved("permute_dims", x, axes)

    def expand_dims(self, x, axis):
        return self._moved("expand_dims", x, axis)

    def squeeze(self, x, axis):
        return self._moved("squeeze", x, axis)

    def flip(self, x, axis=None):
        return self._moved("flip", x, axis)

    def broadcast_to(self, x, shape):
        return self._moved("broadcast_to", x, shape)

    def take(self, x, index, axis=0):
        return self._moved("take", x, _raw(index), axis=axis)

    def take_along_axis(self, x, index, axis=-1):
        found = self._moved("take_along_axis", x, _raw(index), axis=axis)
        return (
            found
            if not np.any(_open(index))
            else Bounded(found.value, np.where(_open(index), np.nan, found.error), self)
        )

    def _joined(self, name, arrays, axis):
        function = getattr(np, name)
        if any(isinstance(x, Bounded) for x in arrays) or all(np.asarray(_raw(x)).dtype.kind == "f" for x in arrays):
            pairs = [self._of(x) for x in arrays]
            errors = [np.broadcast_to(error, value.shape) for value, error in pairs]
            return Bounded(function([value for value, _ in pairs], axis=axis), function(errors, axis=axis), self)
        opens = [np.broadcast_to(_open(x), np.shape(_raw(x))) for x in arrays]
        return Decided(function([_raw(x) for x in arrays], axis=axis), function(opens, axis=axis), self)

    def concat(self, arrays, axis=0):
        return self._joined("concat", arrays, axis)

    def stack(self, arrays, axis=0):
        return self._joined("stack", arrays, axis)

    def pad(self, x, widths, value=0.0):
        inner, error = self._of(x)
        padded = np.pad(inner, widths, constant_values=value)
        return Bounded(padded, np.pad(np.broadcast_to(error, inner.shape), widths), self)

    def unslice(self, x, shape, index):
        value, error = np.zeros(shape), np.zeros(shape)
        value[index], error[index] = x.value, x.error
        return Bounded(value, error, self)

    def stop_gradient(self, x):
        return x

    def random_bits(self, stream, shape):
        return _FLOAT64.random_bits(stream, shape)

    def zeros_like(self, x):
        return np.zeros(x.shape, dtype=np.asarray(_raw(x)).dtype)

    def ones_like(self, x):
        return np.ones(x.shape, dtype=np.asarray(_raw(x)).dtype)

    def full_like(self, x, value):
        whole, error = self._of(value)
        return Bounded(np.full(x.shape, whole), error, self)


_FLOAT64 = Namespace(np)


def accepted(got: Any, reference: Any, error: Any, share: float = 1.25) -> Sequence[Any]:
    """Which elements are right: |got - reference| <= share * error, NaN failing; undecided ones are not counted.

    Infinities and NaN of the reference must be met exactly. Returns (right, undecided), bool arrays.
    """
    got, reference, error = (np.asarray(x, dtype=np.float64) for x in (got, reference, error))
    with np.errstate(all="ignore"):
        undecided = np.isnan(error) & np.isfinite(reference)
        near = np.abs(got - reference) <= share * error
    special = ~np.isfinite(reference)
    same = (got == reference) | (np.isnan(got) & np.isnan(reference))
    return np.where(special, same, near), undecided
