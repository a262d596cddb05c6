"""The array API standard over tensorflow, as far as definitions use it, and the extras that it does by itself.

Plain numbers take the type of the array beside them, so that float64 stays float64. Sizes that are unknown while a
function is traced are int32 scalars.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from layerhub import namespace

# Names and arguments that are the standard's already

abs = tf.abs
broadcast_to = tf.broadcast_to
cos = tf.cos
einsum = tf.einsum
erf = tf.math.erf
exp = tf.exp
expand_dims = tf.expand_dims
expm1 = tf.math.expm1
floor = tf.floor
log = tf.math.log
log1p = tf.math.log1p
logical_and = tf.logical_and
logical_not = tf.logical_not
logical_or = tf.logical_or
negative = tf.negative
ones_like = tf.ones_like
permute_dims = tf.transpose
reshape = tf.reshape
sign = tf.sign
sin = tf.sin
sqrt = tf.sqrt
squeeze = tf.squeeze
stack = tf.stack
stop_gradient = tf.stop_gradient
tanh = tf.tanh
zeros_like = tf.zeros_like

# Operators let an array on either side decide the type; tf.add and its like look at the first operand alone.

add = operator.add
divide = operator.truediv
equal = operator.eq
greater = operator.gt
greater_equal = operator.ge
less = operator.lt
less_equal = operator.le
multiply = operator.mul
not_equal = operator.ne
pow = operator.pow
subtract = operator.sub

bitwise_and = tf.bitwise.bitwise_and
bitwise_right_shift = tf.bitwise.right_shift
bitwise_xor = tf.bitwise.bitwise_xor

float16, bfloat16, float32, float64 = tf.float16, tf.bfloat16, tf.float32, tf.float64
int8, int16, int32, int64 = tf.int8, tf.int16, tf.int32, tf.int64
uint8, uint16, uint32, uint64 = tf.uint8, tf.uint16, tf.uint32, tf.uint64
bool = tf.bool


# Arrays from nothing


def concat(arrays: Any, /, *, axis: int = 0) -> tf.Tensor:
    return tf.concat(arrays, axis)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> tf.Tensor:
    limits = (0, start, step) if stop is None else (start, stop, step)
    return tf.range(*limits) if dtype is None else tf.range(*(_scalar(limit, dtype) for limit in limits))


def asarray(x: Any, dtype: Any = None) -> tf.Tensor:
    if dtype is None or not tf.is_tensor(x):
        return tf.convert_to_tensor(x, dtype)
    return tf.cast(x, dtype)


def eye(rows: int, columns: int | None = None, dtype: Any = tf.float32) -> tf.Tensor:
    return tf.eye(rows, columns, dtype=dtype)


def full(shape: Any, value: Any, dtype: Any = tf.float32) -> tf.Tensor:
    return tf.fill(shape, _scalar(value, dtype))


def full_like(x: tf.Tensor, value: Any, dtype: Any = None) -> tf.Tensor:
    return tf.fill(shape(x), _scalar(value, dtype or x.dtype))


def ones(shape: Any, dtype: Any = tf.float32) -> tf.Tensor:
    return tf.ones(shape, dtype)


def zeros(shape: Any, dtype: Any = tf.float32) -> tf.Tensor:
    return tf.zeros(shape, dtype)


def _scalar(value: Any, dtype: Any) -> tf.Tensor:
    # tf.cast would take a plain number by way of float32.
    return tf.cast(value, dtype) if tf.is_tensor(value) else tf.constant(value, dtype)


# Element by element


def astype(x: tf.Tensor, dtype: Any) -> tf.Tensor:
    return tf.cast(x, dtype)


def where(condition: tf.Tensor, a: Any, b: Any) -> tf.Tensor:
    return tf.where(condition, *_alike(a, b))


def maximum(a: Any, b: Any) -> tf.Tensor:
    # tf.maximum gives the whole gradient of a tie to its first operand.
    a, b = _alike(a, b)
    return tf.where(a > b, a, tf.where(a < b, b, a / 2 + b / 2)) if a.dtype.is_floating else tf.maximum(a, b)


def minimum(a: Any, b: Any) -> tf.Tensor:
    a, b = _alike(a, b)
    return tf.where(a < b, a, tf.where(a > b, b, a / 2 + b / 2)) if a.dtype.is_floating else tf.minimum(a, b)


def _alike(a: Any, b: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Two tensors of one type, where one of them may be a plain number."""
    if tf.is_tensor(a):
        return a, tf.convert_to_tensor(b, a.dtype)
    b = tf.convert_to_tensor(b)
    return tf.convert_to_tensor(a, b.dtype), b


# Along axes


def all(x: tf.Tensor, axis: Any = None, keepdims: Any = False) -> tf.Tensor:
    return tf.reduce_all(tf.cast(x, tf.bool), axis, keepdims)


def any(x: tf.Tensor, axis: Any = None, keepdims: Any = False) -> tf.Tensor:
    return tf.reduce_any(tf.cast(x, tf.bool), axis, keepdims)


def argmax(x: tf.Tensor, axis: int | None = None, keepdims: Any = False) -> tf.Tensor:
    found = tf.argmax(tf.reshape(x, (-1,)) if axis is None else x, 0 if axis is None else axis)
    return tf.expand_dims(found, axis) if keepdims else found


def max(x: tf.Tensor, axis: Any = None, keepdims: Any = False) -> tf.Tensor:
    return tf.reduce_max(x, axis, keepdims)


def mean(x: tf.Tensor, axis: Any = None, keepdims: Any = False) -> tf.Tensor:
    return tf.reduce_mean(x, axis, keepdims)


def min(x: tf.Tensor, axis: Any = None, keepdims: Any = False) -> tf.Tensor:
    return tf.reduce_min(x, axis, keepdims)


def sum(x: tf.Tensor, axis: Any = None, keepdims: Any = False) -> tf.Tensor:
    return tf.reduce_sum(x, axis, keepdims)


def flip(x: tf.Tensor, axis: Any = None) -> tf.Tensor:
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tf.reverse(x, list(axes))


def matmul(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    if a.ndim > 2 and b.ndim == 2:
        # One product of two matrices; otherwise tf would multiply, and sum the gradient of b, batch by batch.
        rows = tf.matmul(tf.reshape(a, (-1, size(a, -1))), b)
        return tf.reshape(rows, (*shape(a)[:-1], size(b, -1)))
    return tf.matmul(a, b)


def take(x: tf.Tensor, index: tf.Tensor, axis: int = 0) -> tf.Tensor:
    return tf.gather(x, index, axis=axis)


def take_along_axis(x: tf.Tensor, index: tf.Tensor, axis: int = -1) -> tf.Tensor:
    last = x.ndim - 1
    axis %= x.ndim
    if axis == last:
        return tf.gather(x, index, batch_dims=last)
    # tf.gather takes all axes before the gathered one as batches, so that one must come last.
    order = [*(i for i in range(x.ndim) if i != axis), axis]
    found = tf.gather(tf.transpose(x, order), tf.transpose(index, order), batch_dims=last)
    return tf.transpose(found, [order.index(i) for i in range(x.ndim)])


# Sizes


def size(x: tf.Tensor, axis: int) -> Any:
    """A size: an int, or a scalar where it is only known when the function runs."""
    known = x.shape[axis]
    return tf.shape(x)[axis] if known is None else known


def shape(x: tf.Tensor) -> tuple[Any, ...]:
    """All sizes, each as an int where it is known."""
    return tuple(size(x, axis) for axis in range(x.ndim))


# The other extras


def pad(x: tf.Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> tf.Tensor:
    # tf takes no number for a truth value, and no 0.0 for a whole number.
    return tf.pad(x, widths, constant_values=tf.constant(x.dtype.as_numpy_dtype(value), x.dtype))


def scatter_add(size: int, index: tf.Tensor, updates: tf.Tensor) -> tf.Tensor:
    return tf.math.unsorted_segment_sum(updates, index, size)


def unslice(x: tf.Tensor, shape: tuple[int, ...], index: tuple[Any, ...]) -> tf.Tensor:
    """The adjoint of a slice; tf has it as that slice's gradient."""
    cuts, single = [], 0
    for axis, (part, length) in enumerate(zip(index, shape, strict=False)):
        if isinstance(part, int):
            single |= 1 << axis
            part = slice(part % length, part % length + 1)
        cuts.append(part.indices(length))
    begin, end, strides = zip(*cuts, strict=True)
    return tf.raw_ops.StridedSliceGrad(
        shape=shape, begin=begin, end=end, strides=strides, dy=x, shrink_axis_mask=single
    )


def random_bits(stream: Any, shape: tuple[Any, ...]) -> tf.Tensor:
    return tf.cast(random_words(stream, shape), tf.int64)


def random_words(stream: Any, shape: tuple[Any, ...]) -> tf.Tensor:
    """The portable stream as uint32, by tensorflow's own Philox4x32-10: the same key, counter and order of words."""
    key = stream.key[0] | stream.key[1] << 32
    step = tf.cast(stream.step, tf.uint64) + tf.constant(stream.part << 32, tf.uint64)
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=shape,
        key=tf.constant([key], tf.uint64),
        counter=tf.stack([tf.constant(stream.call << 32, tf.uint64), step]),
        alg=PHILOX,
        dtype=tf.uint32,
    )


PHILOX = 1
"""``tf.random.Algorithm.PHILOX``, which raw ops take as a number."""


def scan(step: Callable, carry: tuple, xs: tuple) -> tuple[tuple, Any]:
    """A loop of the graph while a function is traced, whatever the length; a loop in Python when run at once."""
    if tf.executing_eagerly() or xs[0].shape[0] == 0:
        return namespace.scan(xp, step, carry, xs)
    carry = tuple(carry)
    # What a step gives is asked beforehand: a loop must be told the shapes and types of all that it carries.
    probe = tf.function(step, autograph=False).get_concrete_function(carry, tuple(_row(x) for x in xs))
    after, row = probe.structured_outputs
    length = tf.shape(xs[0])[0]
    inputs = [tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in xs]
    rows = () if row is None else (tf.TensorArray(row.dtype, length, element_shape=row.shape),)

    def body(t: Any, carry: tuple, rows: tuple) -> tuple:
        carry, y = step(carry, tuple(x.read(t) for x in inputs))
        return t + 1, tuple(carry), tuple(array.write(t, y) for array in rows)

    _, carry, rows = tf.while_loop(
        lambda t, carry, rows: t < length,
        body,
        (tf.constant(0), carry, rows),
        shape_invariants=(
            tf.TensorShape(()),
            tuple(_common(a.shape, b.shape) for a, b in zip(carry, after, strict=True)),
            tuple(tf.TensorShape(None) for _ in rows),
        ),
    )
    if row is None:
        return carry, None
    # A loop forgets how often it went round, and a layer behind it may have to know: Flatten does.
    return carry, tf.ensure_shape(_stacked(rows[0], row, length, carry[0]), (xs[0].shape[0], *row.shape))


def _stacked(rows: tf.TensorArray, row: tf.Tensor, length: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
    if row.shape.is_fully_defined():
        return rows.stack()
    # Without a single row tf does not know the sizes of what it would stack; they are taken for the state's.
    sizes = [known or tf.shape(state)[axis] for axis, known in enumerate(row.shape)]
    return tf.cond(length > 0, rows.stack, lambda: tf.zeros((0, *sizes), row.dtype))


def _row(x: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec(x.shape[1:], x.dtype)


def _common(a: tf.TensorShape, b: tf.TensorShape) -> tf.TensorShape:
    """The shape that both have, with None where they differ."""
    return tf.TensorShape([m if m == n else None for m, n in zip(a, b, strict=True)])


EXTRAS = "einsum erf pad random_bits scan scatter_add size stop_gradient unslice".split()
"""The extras that this module has; with them it is a complete namespace by itself."""

xp = sys.modules[__name__]
