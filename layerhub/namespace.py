"""The array namespace that definitions are written in: the Python array API standard, and nine extras.

A backend gives its array-API namespace and whichever extras it can do better; ``Namespace`` fills in the rest. The
extras, complete:

    erf(x)                             the error function
    einsum(subscripts, *operands)      sums of products by index letters, as "ngc,cgf->ngf"
    pad(x, widths, value)              cells around an array; widths: (before, after) for each axis
    scatter_add(size, index, updates)  an array whose row index[i] is the sum of all updates[i]
    unslice(x, shape, index)           zeros of ``shape`` with x at ``index`` (basic slices): the adjoint of x[index]
    scan(step, carry, xs)              step(carry, x[t]) -> (carry, y[t]) along the first axis of the arrays xs
    stop_gradient(x)                   x, taken for a constant by differentiation
    size(x, axis)                      a size, as an int, or as a scalar of the backend where it is unknown
    random_bits(stream, shape)         random integers in [0, 2**32) from the portable stream
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from layerhub.stream import random_bits

STANDARD = """
    abs add all any arange argmax asarray astype bitwise_and bitwise_right_shift bitwise_xor bool broadcast_to
    concat cos divide equal exp expand_dims expm1 eye flip float32 float64 floor full full_like greater
    greater_equal int32 int64 less less_equal log log1p logical_and logical_not logical_or matmul max maximum
    mean min minimum multiply negative not_equal ones ones_like permute_dims pow reshape sign sin sqrt squeeze
    stack subtract sum take take_along_axis tanh where zeros zeros_like
""".split()
"""The names of the standard that definitions use; a backend needs these and no others."""


class Namespace:
    """An array-API namespace with all the extras: the given ones, and defaults for the others.

    depth: how many namespaces are stacked here; of arrays that meet, the one with the deepest does the operation.
    symbolic: its arrays are tensors of a graph, of which only the shape and type are known (``layerhub.graph``).
    """

    depth: float = 0
    symbolic = False

    def __init__(self, base: Any, **extras: Callable[..., Any]):
        self.base = base
        for name, default in EXTRAS.items():
            setattr(self, name, extras.pop(name, None) or partial(default, self))
        for name, function in extras.items():
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.base, name)
        setattr(self, name, value)
        return value

    def __repr__(self) -> str:
        return f"Namespace({getattr(self.base, '__name__', self.base)})"


class Operand:
    """An array with a namespace of its own (``space``), over another array (``value``): operators are its functions.

    Of two such arrays that meet, the one whose namespace is deeper does the operation.
    """

    __slots__ = ()
    __array_ufunc__ = None  # numpy's arrays and scalars leave mixed operations to us
    __hash__ = object.__hash__

    value: Any
    space: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    def __neg__(self) -> Any:
        return self.space.negative(self)


def _binary(name: str, swapped: bool) -> Callable[[Any, Any], Any]:
    def operate(a: Any, b: Any) -> Any:
        if getattr(getattr(b, "space", None), "depth", -1) > a.space.depth:
            return NotImplemented
        function = getattr(a.space, name)
        return function(b, a) if swapped else function(a, b)

    return operate


for _python, _name in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "matmul": "matmul",
    "and": "logical_and", "or": "logical_or",
}.items():  # fmt: skip
    setattr(Operand, f"__{_python}__", _binary(_name, swapped=False))
    setattr(Operand, f"__r{_python}__", _binary(_name, swapped=True))
for _python, _name in {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
}.items():  # fmt: skip
    setattr(Operand, f"__{_python}__", _binary(_name, swapped=False))


def erf(xp: Any, x: Any) -> Any:
    """The error function, to a few units in the last place of float64.

    Source: Cody, Rational Chebyshev approximations for the error function, Math. Comp. 23 (1969), 631.
    """
    away = xp.abs(x)
    small = xp.where(away < 0.5, x, xp.zeros_like(x))
    t = small * small
    near = small * _ratio(t, _NEAR)
    middle = xp.where((away >= 0.5) & (away <= 4), away, xp.ones_like(x))
    tail = xp.exp(-(middle * middle)) * _ratio(middle, _MIDDLE)
    # Beyond 6, erf is 1 to every digit of float64.
    large = xp.where((away > 4) & (away < 6), away, xp.full_like(x, 6.0))
    w = 1 / (large * large)
    far = xp.exp(-(large * large)) / large * (1 / math.sqrt(math.pi) - w * _ratio(w, _FAR))
    outer = xp.sign(x) * (1 - xp.where(away > 4, far, tail))
    return xp.where(away < 0.5, near, outer)


def _ratio(x: Any, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    above, below = coefficients
    return _polynomial(x, above) / _polynomial(x, below)


def _polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's scheme; the highest power's coefficient comes first."""
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


_NEAR = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
        2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
        3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
    ),
)  # fmt: skip
_FAR = (
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
        1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (
        1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)  # fmt: skip


def einsum(xp: Any, subscripts: str, *operands: Any) -> Any:
    """Products over all index letters, laid out as broadcast axes, then summed over those that the output lacks."""
    terms, output = subscripts.replace(" ", "").split("->")
    inputs = terms.split(",")
    letters = output + "".join(sorted(set("".join(inputs)) - set(output)))
    product = None
    for term, x in zip(inputs, operands, strict=True):
        x = xp.permute_dims(x, tuple(sorted(range(x.ndim), key=lambda axis: letters.index(term[axis]))))
        for axis, letter in enumerate(letters):
            if letter not in term:
                x = xp.expand_dims(x, axis=axis)
        product = x if product is None else product * x
    summed = tuple(range(len(output), len(letters)))
    return xp.sum(product, axis=summed) if summed else product


def pad(xp: Any, x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """Cells of ``value`` before and after each axis."""
    for axis, (before, after) in enumerate(widths):
        pieces = [x]
        for count, end in ((before, 0), (after, 1)):
            if count:
                shape = tuple(count if i == axis else xp.size(x, i) for i in range(x.ndim))
                pieces.insert(end * len(pieces), xp.full(shape, value, dtype=x.dtype))
        if len(pieces) > 1:
            x = xp.concat(pieces, axis=axis)
    return x


def scatter_add(xp: Any, size: int, index: Any, updates: Any) -> Any:
    """Sums of updates by row, as a product with a matrix of zeros and ones."""
    rest = updates.shape[index.ndim :]
    flat = xp.reshape(index, (-1,))
    chosen = xp.expand_dims(xp.arange(size, dtype=flat.dtype), axis=1) == xp.expand_dims(flat, axis=0)
    rows = xp.reshape(updates, (-1, math.prod(rest)))
    return xp.reshape(xp.matmul(xp.astype(chosen, updates.dtype), rows), (size, *rest))


def unslice(xp: Any, x: Any, shape: tuple[int, ...], index: tuple[Any, ...]) -> Any:
    """Zeros of ``shape`` with x at ``index``: gaps of a stride first, then what lies before and after."""
    for axis, (part, length) in enumerate(zip(index, shape, strict=False)):
        if isinstance(part, int):
            start = part % length
            x = xp.expand_dims(x, axis=axis)
            step, count = 1, 1
        else:
            start, stop, step = part.indices(length)
            count = len(range(start, stop, step))
        if step > 1 and count > 0:
            x = xp.expand_dims(x, axis=axis + 1)
            x = xp.pad(x, [(0, step - 1 if i == axis + 1 else 0) for i in range(x.ndim)], 0.0)
            x = xp.reshape(x, (*x.shape[:axis], count * step, *x.shape[axis + 2 :]))
            # The gaps after the last element may reach over the end.
            kept = min(count * step, length - start)
            x = x[(*(slice(None),) * axis, slice(0, kept), ...)]
            count = kept
        x = xp.pad(x, [(start, length - start - count) if i == axis else (0, 0) for i in range(x.ndim)], 0.0)
    return x


def scan(xp: Any, step: Callable, carry: tuple, xs: tuple) -> tuple[tuple, Any]:
    """A loop in Python over a known length."""
    ys = []
    for t in range(xs[0].shape[0]):
        carry, y = step(carry, tuple(x[t, ...] for x in xs))
        ys.append(y)
    if not ys:
        return carry, xp.zeros((0, *carry[0].shape), dtype=carry[0].dtype)
    return carry, None if ys[0] is None else xp.stack(ys, axis=0)


def stop_gradient(xp: Any, x: Any) -> Any:
    return x


def size(xp: Any, x: Any, axis: int) -> Any:
    return x.shape[axis]


EXTRAS: dict[str, Callable[..., Any]] = {
    "erf": erf,
    "einsum": einsum,
    "pad": pad,
    "scatter_add": scatter_add,
    "unslice": unslice,
    "scan": scan,
    "stop_gradient": stop_gradient,
    "size": size,
    "random_bits": random_bits,
}
