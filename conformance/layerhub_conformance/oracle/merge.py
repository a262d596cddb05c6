"""Add, Concatenate."""

from .arithmetic import total
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


@oracle("Concatenate")
def concatenate(params, inputs, weights, **_):
    """The inputs one after the other along ``axis``; all other sizes are equal."""
    axis = params["axis"] % len(shape(inputs[0]))

    def join(parts, depth):
        if depth == axis:
            return [item for part in parts for item in part]
        return [join(rest, depth + 1) for rest in zip(*parts, strict=True)]

    return Outcome([join(inputs, 0)])
