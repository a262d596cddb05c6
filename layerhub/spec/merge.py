"""Merging: several inputs into one."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from layerhub.errors import ShapeError
from layerhub.spec.axes import Shape, broadcast
from layerhub.spec.base import rule, snake_case
from layerhub.spec.contraction import contract
from layerhub.spec.domains import Axis
from layerhub.spec.layer import In, Layer, Out
from layerhub.spec.masks import MaskRule, alike, any_of, sizes, unites, widened
from layerhub.spec.normalization import unit


class Merge(Layer, abstract=True):
    """Inputs combined element by element. An input with fewer axes gets axes of size 1 after the batch."""

    xs = In("...", many=True)
    y = Out("...")
    mask = unites

    @rule
    def c1_there_are_two_inputs_or_more(self, shapes):
        return len(shapes) >= 2

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        self.solve(*shapes)
        rank = max(map(len, shapes))
        return (broadcast([(s[0], *(1,) * (rank - len(s)), *s[1:]) for s in shapes], repr(self)),)

    def aligned(self, xp: Any, xs: tuple[Any, ...]) -> list[Any]:
        """The inputs with as many axes each."""
        rank = max(x.ndim for x in xs)
        spread = []
        for x in xs:
            for _ in range(rank - x.ndim):
                x = xp.expand_dims(x, axis=1)
            spread.append(x)
        return spread


class Add(Merge):
    """The sum of the inputs."""

    def define(self, xp, xs):
        first, *rest = self.aligned(xp, xs)
        for x in rest:
            first = first + x
        return first


class Average(Merge):
    """The mean of the inputs."""

    def define(self, xp, xs):
        first, *rest = self.aligned(xp, xs)
        for x in rest:
            first = first + x
        return first / len(xs)


class Subtract(Merge):
    """The first input minus the second."""

    @rule
    def c2_there_are_no_more_than_two_inputs(self, shapes):
        return len(shapes) == 2

    def define(self, xp, xs):
        first, second = self.aligned(xp, xs)
        return first - second


class Selective(Merge, abstract=True):
    """Inputs combined as far as they count: a masked step of one input is left out; where all are masked, 0.

    An input without a mask counts everywhere.
    """

    def combine(self, xp: Any, xs: list[Any], valid: list[Any]) -> Any:
        """The inputs as one. valid: where each counts, None for everywhere."""
        raise NotImplementedError

    def define(self, xp, xs, mask):
        given = [None] * len(xs) if mask is None else alike(xp, xs, mask)
        xs = self.aligned(xp, xs)
        valid = [None if m is None else widened(xp, m, x.ndim) for x, m in zip(xs, given, strict=True)]
        y = self.combine(xp, xs, valid)
        if any(v is None for v in valid):
            return y
        return xp.where(any_of(xp, valid), y, xp.zeros_like(y))


class Multiply(Selective):
    """The product of the inputs. A masked step of one input counts as 1; where all are masked the result is 0."""

    def combine(self, xp: Any, xs: list[Any], valid: list[Any]) -> Any:
        y = None
        for x, v in zip(xs, valid, strict=True):
            x = x if v is None else xp.where(v, x, xp.ones_like(x))
            y = x if y is None else y * x
        return y


class Extreme(Selective, abstract=True):
    """The largest or smallest of the inputs. Where several are equal, the gradient is split evenly among them."""

    worst: ClassVar[float]

    def choose(self, xp: Any, stacked: Any) -> Any:
        """The extreme along the first axis."""
        raise NotImplementedError

    def combine(self, xp: Any, xs: list[Any], valid: list[Any]) -> Any:
        xs = [x if v is None else xp.where(v, x, xp.full_like(x, self.worst)) for x, v in zip(xs, valid, strict=True)]
        shape = [_common(along) for along in zip(*(sizes(xp, x) for x in xs), strict=True)]
        return self.choose(xp, xp.stack([xp.broadcast_to(x, shape) for x in xs], axis=0))


def _common(along: tuple[Any, ...]) -> Any:
    """The size of an axis to which inputs broadcast: 1 gives way to any other; unknown sizes are taken to agree."""
    return next((size for size in along if not (isinstance(size, int) and size == 1)), 1)


class Maximum(Extreme):
    """The largest of the inputs, element by element. A masked step of one input is left out."""

    worst = -math.inf

    def choose(self, xp: Any, stacked: Any) -> Any:
        return xp.max(stacked, axis=0)


class Minimum(Extreme):
    """The smallest of the inputs, element by element. A masked step of one input is left out."""

    worst = math.inf

    def choose(self, xp: Any, stacked: Any) -> Any:
        return xp.min(stacked, axis=0)


def _joined(layer: Any, xp: Any, inputs: tuple, masks: tuple) -> Any:
    """A step of the result counts when any of what was laid there counts."""
    spread = []
    for x, mask in zip(inputs, masks, strict=True):
        if mask is None:
            spread.append(xp.astype(xp.ones_like(x), xp.bool))
        else:
            spread.append(xp.broadcast_to(widened(xp, mask, x.ndim), sizes(xp, x)))
    whole = xp.concat(spread, axis=layer.axis)
    return xp.any(whole, axis=tuple(range(2, whole.ndim)))


class Concatenate(Layer):
    """The inputs laid end to end along ``axis``, which must not be the batch axis."""

    axis: int = -1

    xs = In("...", many=True)
    y = Out("...")
    mask = MaskRule("a step counts where any joined part does", lambda layer, has: any(has), _joined)

    @rule
    def c1_there_are_two_inputs_or_more(self, shapes):
        return len(shapes) >= 2

    @rule
    def c2_the_inputs_have_as_many_axes(self, shapes):
        return len(set(map(len, shapes))) == 1

    @rule
    def c3_the_axis_must_exist(self, axis, shapes):
        return -len(shapes[0]) <= axis < len(shapes[0])

    @rule
    def c4_the_axis_is_not_the_batch(self, axis, shapes):
        return axis % len(shapes[0]) != 0

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        self.solve(*shapes)
        at = self.axis % len(shapes[0])
        joined: list[Any] = []
        for i, along in enumerate(zip(*shapes, strict=True)):
            known = {size for size in along if size is not None}
            if i == at:
                joined.append(None if None in along else sum(along))
            elif len(known) > 1:
                raise ShapeError(f"{self!r}: shapes {', '.join(map(str, shapes))} differ along axis {i}, not only {at}")
            else:
                joined.append(known.pop() if known else None)
        return (tuple(joined),)

    def define(self, xp, xs):
        return xp.concat(xs, axis=self.axis)


DOT_EPSILON = 1e-7
"""The smallest norm that ``Dot(normalize=True)`` divides by, as in Keras."""


class Dot(Layer):
    """Sums of products of two inputs along an axis of each, sample by sample.

    y[n, i, j] = sum over k of a[n, i, k] * b[n, k, j], where k is the axis that is summed, i all others of the first
    input and j all others of the second. Of two vectors the result is (batch, 1).

    axes: the axis of each input, or one for both; not the batch.
    normalize: divide by the Euclidean norms along the axes beforehand: y is then the cosine of the angle between.
    """

    axes: Axis
    normalize: bool = False

    xs = In("...", many=True)
    y = Out("...")
    mask = MaskRule("has no mask", lambda layer, has: False)

    @rule
    def c1_there_are_two_inputs(self, shapes):
        return len(shapes) == 2

    @rule
    def c2_there_is_one_axis_or_two(self, axes):
        return isinstance(axes, int) or len(axes) == 2

    @rule
    def c3_the_axes_must_exist(self, axes, shapes):
        return all(-len(shape) <= axis < len(shape) for axis, shape in zip(self.each, shapes, strict=True))

    @rule
    def c4_the_axes_are_not_the_batch(self, axes, shapes):
        return all(axis % len(shape) != 0 for axis, shape in zip(self.each, shapes, strict=True))

    @rule
    def c5_the_axes_have_the_same_size(self, axes, shapes):
        first, second = (shape[axis] for axis, shape in zip(self.each, shapes, strict=True))
        return None in (first, second) or first == second

    @property
    def each(self) -> tuple[int, ...]:
        """The axis of each input."""
        return (self.axes, self.axes) if isinstance(self.axes, int) else self.axes

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        self.solve(*shapes)
        first, second = (
            _without(shape[1:], axis % len(shape) - 1) for axis, shape in zip(self.each, shapes, strict=True)
        )
        return ((shapes[0][0], *(first + second or (1,))),)

    def define(self, xp, xs):
        if self.normalize:
            xs = [unit(xp, x, axis, DOT_EPSILON) for x, axis in zip(xs, self.each, strict=True)]
        (a, b), (i, j) = xs, (axis % x.ndim for axis, x in zip(self.each, xs, strict=True))
        first, second = string.ascii_lowercase[: a.ndim], "a" + string.ascii_uppercase[: b.ndim - 1]
        second = _with(second, j, first[i])
        output = _without(first, i) + _without(second, j)[1:]
        y = contract(xp, f"{first},{second}->{output}", a, b)
        return y if y.ndim > 1 else xp.expand_dims(y, axis=1)


def _without(sequence: Any, position: int) -> Any:
    return sequence[:position] + sequence[position + 1 :]


def _with(sequence: Any, position: int, item: Any) -> Any:
    return sequence[:position] + item + sequence[position + 1 :]


def _function(layer: type[Layer]) -> Callable[..., Any]:
    """A layer as a function of the list of its inputs, to be found under its name in lower case."""

    def merge(inputs: Sequence[Any], *args: Any, **parameters: Any) -> Any:
        return layer(*args, **parameters)(inputs)

    merge.__name__ = merge.__qualname__ = snake_case(layer.__name__)
    merge.__doc__ = f"``{layer.__name__}`` of a list of inputs; the other arguments are the layer's."
    return merge


add, subtract, multiply, average, maximum, minimum, concatenate = map(
    _function, (Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate)
)


def dot(inputs: Sequence[Any], axes: int | tuple[int, int] = -1, **parameters: Any) -> Any:
    """``Dot`` of a list of two inputs; the other arguments are the layer's."""
    return Dot(axes, **parameters)(inputs)
