"""The array API standard over lazy ONNX arrays, as far as definitions use it, and the extras that ONNX has."""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerhub import namespace
from layerhub_onnxruntime import arrays
from layerhub_onnxruntime.arrays import (
    Array,
    Body,
    Node,
    alike,
    broadcast,
    constant,
    elementwise,
    known,
    lifted,
    op,
    vector,
    whole_shape,
)

float16, float32, float64 = (np.dtype(name) for name in ("float16", "float32", "float64"))
int8, int16, int32, int64 = (np.dtype(name) for name in ("int8", "int16", "int32", "int64"))
uint8, uint16, uint32, uint64 = (np.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64"))
bool = np.dtype("bool")

Axes = int | tuple[int, ...] | None

# Element by element

add, subtract, multiply, divide, pow = arrays.add, arrays.subtract, arrays.multiply, arrays.divide, arrays.power
less, less_equal, greater, greater_equal = arrays.less, arrays.less_equal, arrays.greater, arrays.greater_equal
equal, not_equal = arrays.equal, arrays.not_equal
logical_and, logical_or = arrays.logical_and, arrays.logical_or
matmul = arrays.matmul
maximum, minimum = arrays.binary("Max"), arrays.binary("Min")
bitwise_and, bitwise_xor = arrays.binary("BitwiseAnd"), arrays.binary("BitwiseXor")


def _unary(name: str) -> Callable[[Array], Array]:
    return lambda x: elementwise(name, x)


abs, negative, sign, floor = _unary("Abs"), _unary("Neg"), _unary("Sign"), _unary("Floor")
exp, log, sqrt = _unary("Exp"), _unary("Log"), _unary("Sqrt")
sin, cos, tanh = _unary("Sin"), _unary("Cos"), _unary("Tanh")
logical_not = _unary("Not")


def expm1(x: Array) -> Array:
    """exp(x) - 1; near 0 by the hyperbolic tangent, where the difference would cancel."""
    near = abs(x) < 0.5
    t = tanh(where(near, x, 0.0) / 2)
    return where(near, 2 * t / (1 - t), exp(x) - 1)


def log1p(x: Array) -> Array:
    """log(1 + x), corrected for what 1 + x rounds away.

    Source: Goldberg, What every computer scientist should know about floating-point arithmetic, 1991, theorem 4.
    """
    u = 1 + x
    exact = logical_or(u == 1, u == math.inf)
    return where(exact, where(u == 1, x, u), log(u) * (x / where(exact, 1.0, u - 1)))


def bitwise_right_shift(x: Array, count: Array) -> Array:
    """An arithmetic shift; ONNX shifts unsigned numbers alone."""
    below = x < 0
    whole = where(below, elementwise("BitwiseNot", x), x)
    moved = elementwise("BitShift", arrays.cast(whole, uint64), arrays.cast(count, uint64), direction="RIGHT")
    moved = arrays.cast(moved, x.dtype)
    return where(below, elementwise("BitwiseNot", moved), moved)


def where(condition: Array, a: Any, b: Any) -> Array:
    a, b = alike(a, b)
    if a.dtype == bool:  # onnxruntime chooses among numbers only
        return logical_or(logical_and(condition, a), logical_and(logical_not(condition), b))
    return op("Where", (condition, a, b), broadcast(condition.shape, a.shape, b.shape), a.dtype)


def astype(x: Array, dtype: Any) -> Array:
    return arrays.cast(x, dtype)


# Arrays from nothing


def asarray(x: Any, dtype: Any = None) -> Array:
    if isinstance(x, Array):
        return x if dtype is None else arrays.cast(x, dtype)
    return constant(x, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Array:
    limits = (0, start, step) if stop is None else (start, stop, step)
    if not builtins.any(isinstance(limit, Array) for limit in limits):
        return constant(np.arange(*limits, dtype=dtype))
    like = next(limit for limit in limits if isinstance(limit, Array))
    return op("Range", [arrays.cast(lifted(limit, like), dtype or like.dtype) for limit in limits], (None,))


def eye(rows: int, columns: int | None = None, dtype: Any = float32) -> Array:
    return constant(np.eye(rows, columns, dtype=dtype))


def full(shape: Any, value: Any, dtype: Any = float32) -> Array:
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if isinstance(value, Array):
        return broadcast_to(arrays.cast(value, dtype), shape)
    if not shape:
        return constant(value, dtype)
    return arrays.filled(shape, value, dtype)


def full_like(x: Array, value: Any, dtype: Any = None) -> Array:
    if None not in x.shape:
        return full(x.shape, value, dtype or x.dtype)
    filling = np.array([value], dtype or x.dtype)
    return op("ConstantOfShape", (whole_shape(x),), x.shape, filling.dtype, value=filling)


def ones(shape: Any, dtype: Any = float32) -> Array:
    return full(shape, 1, dtype)


def zeros(shape: Any, dtype: Any = float32) -> Array:
    return full(shape, 0, dtype)


def ones_like(x: Array, dtype: Any = None) -> Array:
    return full_like(x, 1, dtype)


def zeros_like(x: Array, dtype: Any = None) -> Array:
    return full_like(x, 0, dtype)


# Shapes


def broadcast_to(x: Array, shape: Sequence[Any]) -> Array:
    wanted = known(shape)
    if wanted == x.shape and None not in wanted:
        return x
    return op("Expand", (x, vector(shape)), wanted)


def reshape(x: Array, shape: Any) -> Array:
    shape = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    inferred = known(shape).index(-1) if -1 in known(shape) else None
    found = [None if s == -1 else s for s in known(shape)]
    if None not in x.shape and inferred is not None and found.count(None) == 1:
        rest = math.prod(s for s in found if s is not None)
        found[inferred] = shape[inferred] = math.prod(x.shape) // rest if rest else 0
    unknown = [i for i, s in enumerate(shape) if isinstance(s, Array)]
    if inferred is None and len(unknown) == 1 and 0 not in found:
        shape[unknown[0]] = -1  # the one size that is left follows from the others
    literal = {"allowzero": 1} if 0 in found else {}
    return op("Reshape", (x, vector(shape)), found, **literal)


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    axes = [axis % x.ndim for axis in axes]
    before = x.node
    if x.value is None and before is not None and before.operator == "Transpose":
        x, axes = before.inputs[0], [before.attributes["perm"][axis] for axis in axes]
    if axes == list(range(x.ndim)):
        return x
    return op("Transpose", (x,), [x.shape[axis] for axis in axes], perm=axes)


def expand_dims(x: Array, axis: int = 0) -> Array:
    return arrays.unsqueeze(x, (axis,))


def squeeze(x: Array, axis: int | tuple[int, ...]) -> Array:
    return arrays.squeeze(x, _axes(x, axis))


def concat(parts: Sequence[Array], axis: int = 0) -> Array:
    common = np.result_type(*(part.dtype for part in parts))
    parts = [arrays.cast(part, common) for part in parts]
    if len(parts) == 1:
        return parts[0]
    axis %= parts[0].ndim
    shape = list(broadcast(*((*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in parts)))
    lengths = [part.shape[axis] for part in parts]
    shape[axis] = None if None in lengths else builtins.sum(lengths)
    return op("Concat", parts, shape, axis=axis)


def stack(parts: Sequence[Array], axis: int = 0) -> Array:
    return concat([expand_dims(part, axis=axis) for part in parts], axis=axis)


def flip(x: Array, axis: Axes = None) -> Array:
    axes = _axes(x, axis)
    count = len(axes)
    begin, end, step = [-1] * count, [-arrays.LAST] * count, [-1] * count
    return op("Slice", (x, *(constant(part, int64) for part in (begin, end, list(axes), step))), x.shape)


def take(x: Array, index: Array, axis: int = 0) -> Array:
    axis %= x.ndim
    return op("Gather", (x, _index(index)), x.shape[:axis] + index.shape + x.shape[axis + 1 :], axis=axis)


def take_along_axis(x: Array, index: Array, axis: int = -1) -> Array:
    return op("GatherElements", (x, _index(index)), index.shape, axis=axis % x.ndim)


def _index(x: Array) -> Array:
    """Ids in a type that ONNX looks up by."""
    return x if x.dtype in (int32, int64) else arrays.cast(x, int64)


# Along axes


def _axes(x: Array, axis: Axes) -> tuple[int, ...]:
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(axis % x.ndim for axis in axes))


def _reduced(name: str, x: Array, axis: Axes, keepdims: Any) -> Array:
    axes = _axes(x, axis)
    if not axes:
        return x
    shape = [1 if i in axes else s for i, s in enumerate(x.shape) if keepdims or i not in axes]
    return op(name, (x, constant(axes, int64)), shape, keepdims=int(keepdims))


def sum(x: Array, axis: Axes = None, keepdims: Any = False) -> Array:
    return _reduced("ReduceSum", arrays.cast(x, int64) if x.dtype == bool else x, axis, keepdims)


def mean(x: Array, axis: Axes = None, keepdims: Any = False) -> Array:
    return _reduced("ReduceMean", x, axis, keepdims)


def max(x: Array, axis: Axes = None, keepdims: Any = False) -> Array:
    return _extreme("ReduceMax", x, axis, keepdims)


def min(x: Array, axis: Axes = None, keepdims: Any = False) -> Array:
    return _extreme("ReduceMin", x, axis, keepdims)


def _extreme(name: str, x: Array, axis: Axes, keepdims: Any) -> Array:
    found = _reduced(name, x, axis, keepdims)
    if x.dtype.kind != "f":
        return found
    # onnxruntime passes over NaN. The sum of absolute values is NaN where one of them is, and nowhere else.
    size = _reduced("ReduceL1", x, axis, keepdims)
    return where(elementwise("IsNaN", size, dtype=bool), size, found)


def any(x: Array, axis: Axes = None, keepdims: Any = False) -> Array:
    return sum(arrays.cast(x, bool), axis, keepdims) > 0


def all(x: Array, axis: Axes = None, keepdims: Any = False) -> Array:
    return sum(logical_not(arrays.cast(x, bool)), axis, keepdims) == 0


def argmax(x: Array, axis: int | None = None, keepdims: Any = False) -> Array:
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis %= x.ndim
    found = _argmax(x, axis, keepdims)
    if x.dtype.kind != "f":
        return found
    # The standard leaves NaN open; definitions take the first one for the largest, as numpy does. ONNX skips it.
    missing = elementwise("IsNaN", x, dtype=bool)
    first = _argmax(arrays.cast(missing, int32), axis, keepdims)
    return where(any(missing, axis, keepdims), first, found)


def _argmax(x: Array, axis: int, keepdims: Any) -> Array:
    shape = [1 if i == axis else s for i, s in enumerate(x.shape) if keepdims or i != axis]
    return op("ArgMax", (x,), shape, int64, axis=axis, keepdims=int(keepdims))


# Extras

size = arrays.size


def erf(x: Array) -> Array:
    # onnxruntime has no Erf for float64.
    return namespace.erf(xp, x) if x.dtype == float64 else elementwise("Erf", x)


def einsum(subscripts: str, *operands: Array) -> Array:
    equation = subscripts.replace(" ", "")
    terms, output = equation.split("->")
    sizes: dict[str, tuple[int | None, ...]] = {}
    for term, x in zip(terms.split(","), operands, strict=True):
        for letter, length in zip(term, x.shape, strict=True):
            sizes[letter] = (*sizes.get(letter, ()), length)
    shape = [broadcast(*((length,) for length in sizes[letter]))[0] for letter in output]
    return op("Einsum", operands, shape, equation=equation)


def pad(x: Array, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    before, after = zip(*widths, strict=True)
    shape = [None if s is None else s + b + a for s, b, a in zip(x.shape, before, after, strict=True)]
    return op("Pad", (x, vector((*before, *after)), constant(value, x.dtype)), shape)


def scan(step: Callable, carry: tuple, xs: tuple) -> tuple[tuple, Any]:
    """A loop of the graph, whatever the length."""
    if xs[0].shape[0] == 0:
        return namespace.scan(xp, step, carry, xs)
    carry = tuple(carry)
    shapes = [state.shape for state in carry]
    while True:
        states = [Array(shape, state.dtype) for shape, state in zip(shapes, carry, strict=True)]
        rows = [Array(x.shape[1:], x.dtype) for x in xs]
        after, y = step(tuple(states), tuple(rows))
        # A size that changes from step to step is unknown to the loop.
        met = [_met(state.shape, moved.shape) for state, moved in zip(states, after, strict=True)]
        if met == shapes:
            break
        shapes = met
    outputs = [arrays.cast(moved, state.dtype) for moved, state in zip(after, states, strict=True)]
    outputs += [] if y is None else [y]
    node = Node("Scan", (*carry, *xs), {"num_scan_inputs": len(xs)}, len(outputs), Body([*states, *rows], outputs))
    found = [Array(shape, state.dtype, node, k) for k, (shape, state) in enumerate(zip(shapes, carry, strict=True))]
    return tuple(found), None if y is None else Array((xs[0].shape[0], *y.shape), y.dtype, node, len(found))


def _met(a: arrays.Shape, b: arrays.Shape) -> arrays.Shape:
    return tuple(m if m == n else None for m, n in zip(a, b, strict=True))


EXTRAS = {"einsum": einsum, "erf": erf, "pad": pad, "scan": scan, "size": size}
"""The extras of this module; the others come from the core."""

xp = namespace.Namespace(sys.modules[__name__], **EXTRAS)
"""The namespace with all extras."""
