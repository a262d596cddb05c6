"""Sums, products, extremes, Concatenate, Dot."""

import math

from .arithmetic import largest, total
from .nested import at, build, shape
from .registry import Outcome, oracle


def elementwise(inputs, f):
    """f of the numbers at the same place. An axis of size 1 serves every place.

    An input of lower rank gets its missing axes right after the batch axis, with size 1.
    """
    rank = max(len(shape(x)) for x in inputs)
    inputs = [with_rank(rank, x) for x in inputs]
    sizes = [max(axis) for axis in zip(*map(shape, inputs), strict=True)]
    if any(size not in (1, full) for x in inputs for size, full in zip(shape(x), sizes, strict=True)):
        raise ValueError(f"shapes {[shape(x) for x in inputs]} do not broadcast")

    def number(x, index):
        return at(x, [0 if size == 1 else i for size, i in zip(shape(x), index, strict=True)])

    return build(sizes, lambda index: f(number(x, index) for x in inputs))


def with_rank(rank, x):
    """x with axes of size 1 after the batch axis, as many as it lacks."""
    for _ in range(rank - len(shape(x))):
        x = [[sample] for sample in x]
    return x


@oracle("Add")
def add(params, inputs, weights, **_):
    """The sum of all inputs."""
    return Outcome([elementwise(inputs, total)])


@oracle("Average")
def average(params, inputs, weights, **_):
    """The sum of all inputs over their number."""
    return Outcome([elementwise(inputs, lambda numbers: total(numbers) / len(inputs))])


@oracle("Subtract")
def subtract(params, inputs, weights, **_):
    """The first input minus the second."""
    return Outcome([elementwise(inputs, lambda numbers: next(numbers) - next(numbers))])


SELECTIVE = {
    "Multiply": math.prod,
    "Maximum": largest,
    "Minimum": lambda numbers: -largest(-number for number in numbers),
}


def selective(f):
    """f of the numbers that count, at each place; 0 where none does. An input without a mask counts everywhere."""

    def merge(params, inputs, weights, *, mask=None, **_):
        masks = mask if isinstance(mask, list) else [None] * len(inputs)
        inputs = [counted(x, m) for x, m in zip(inputs, masks, strict=True)]

        def chosen(numbers):
            rest = [number for number in numbers if number is not None]
            return f(rest) if rest else 0.0

        return Outcome([elementwise(inputs, chosen)])

    return merge


def counted(x, mask):
    """x with None in place of what does not count by the mask, which covers the leading axes."""
    depth = len(shape(mask)) if mask is not None else 0
    return build(shape(x), lambda index: at(x, index) if mask is None or at(mask, index[:depth]) else None)


for name, function in SELECTIVE.items():
    oracle(name)(selective(function))


@oracle("Dot")
def dot(params, inputs, weights, **_):
    """y[n, i, j] = sum over k of a[n, i, k] b[n, k, j], k being the axis ``axes`` of each; (batch, 1) for vectors.

    With ``normalize`` a and b are first divided by their norms along k, which count as no less than 1e-7.
    """
    axes = params["axes"] if isinstance(params["axes"], tuple) else [params["axes"]] * 2
    axes = [axis % len(shape(x)) for axis, x in zip(axes, inputs, strict=True)]
    length = shape(inputs[0])[axes[0]]

    def line(x, axis, place):
        """The numbers along the axis, at this place of the others."""
        row = [at(x, [*place[:axis], k, *place[axis:]]) for k in range(length)]
        norm = max(math.hypot(*row), 1e-7) if params["normalize"] else 1.0
        return [number / norm for number in row]

    left, right = ([s for a, s in enumerate(shape(x)) if a != axis] for x, axis in zip(inputs, axes, strict=True))

    def value(index):
        first, second = index[: len(left)], (index[0], *index[len(left) : len(left) + len(right) - 1])
        pairs = zip(line(inputs[0], axes[0], first), line(inputs[1], axes[1], second), strict=True)
        return total(a * b for a, b in pairs)

    return Outcome([build([*left, *right[1:]] if len(left) + len(right) > 2 else [left[0], 1], value)])


@oracle("Concatenate")
def concatenate(params, inputs, weights, **_):
    """The inputs one after the other along ``axis``; all other sizes are equal."""
    axis = params["axis"] % len(shape(inputs[0]))

    def join(parts, depth):
        if depth == axis:
            return [item for part in parts for item in part]
        return [join(rest, depth + 1) for rest in zip(*parts, strict=True)]

    return Outcome([join(inputs, 0)])
