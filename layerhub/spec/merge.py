"""Merging: several inputs into one."""

from __future__ import annotations

from typing import Any

from layerhub.errors import ShapeError
from layerhub.spec.axes import Shape, broadcast
from layerhub.spec.base import rule
from layerhub.spec.layer import In, Layer, Out
from layerhub.spec.masks import MaskRule, sizes, unites, widened


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


class Multiply(Merge):
    """The product of the inputs. A masked step of one input counts as 1; where all are masked the result is 0."""

    def define(self, xp, xs, mask):
        factors = self.aligned(xp, xs)
        if mask is None or any(m is None for m in mask):
            mask = (None,) * len(xs)
        y, any_valid = None, None
        for x, m in zip(factors, mask, strict=True):
            if m is not None:
                valid = widened(xp, m, x.ndim)
                x = xp.where(valid, x, xp.ones_like(x))
                any_valid = valid if any_valid is None else xp.logical_or(any_valid, valid)
            y = x if y is None else y * x
        return y if any_valid is None else xp.where(any_valid, y, xp.zeros_like(y))


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
