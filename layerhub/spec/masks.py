"""Mask rules: which mask a layer's output has, given the masks of its inputs.

A mask is bool, (batch, time), true where a step counts. A rule says beforehand whether a mask comes out (``exists``),
so that no work is planned for masks that nobody has, and computes it (``value``) by array functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MaskRule:
    """How masks go through a layer.

    exists: (layer, which inputs have a mask) -> whether the output has one.
    value: (layer, xp, inputs, masks) -> the output's mask; None where it is the first input's, unchanged.
    drops: a mask that arrives is of no use here: it is dropped, with a warning.
    least: masks with fewer axes than this end here.
    shape: (layer, shapes of inputs, shapes of masks) -> the shape of the output's mask; None where it has that of the
        first mask.
    """

    text: str
    exists: Callable[[Any, tuple[bool, ...]], bool]
    value: Callable[[Any, Any, tuple, tuple], Any] | None = None
    drops: bool = False
    least: int = 0
    shape: Callable[[Any, tuple, tuple], tuple] | None = None


passes = MaskRule("passes the mask on", lambda layer, has: has[0])
stops = MaskRule("cannot use a mask", lambda layer, has: False, drops=True)
absorbs = MaskRule("uses the mask and ends it", lambda layer, has: False)


def any_of(xp: Any, masks: Sequence[Any]) -> Any:
    """Where any of several masks is true."""
    result = masks[0]
    for mask in masks[1:]:
        result = xp.logical_or(result, mask)
    return result


unites = MaskRule(
    "a step counts where it counts in any input",
    lambda layer, has: all(has),
    lambda layer, xp, inputs, masks: any_of(xp, alike(xp, inputs, masks)),
)


def alike(xp: Any, inputs: Sequence[Any], masks: Sequence[Any]) -> list[Any]:
    """The masks of inputs that are merged, with as many axes each; None stays None.

    An input with fewer axes than others gets axes of size 1 after the batch, and so does its mask.
    """
    rank = max(x.ndim for x in inputs)
    spread = []
    for x, mask in zip(inputs, masks, strict=True):
        for _ in range(0 if mask is None else rank - x.ndim):
            mask = xp.expand_dims(mask, axis=1)
        spread.append(mask)
    longest = max((mask.ndim for mask in spread if mask is not None), default=0)
    return [None if mask is None else widened(xp, mask, longest) for mask in spread]


def sizes(xp: Any, x: Any) -> tuple[Any, ...]:
    """The shape of an array, with unknown sizes as the backend's scalars."""
    return tuple(xp.size(x, axis) for axis in range(x.ndim))


def widened(xp: Any, mask: Any, ndim: int) -> Any:
    """A mask with axes of size 1 appended, until it has ``ndim``."""
    for _ in range(ndim - mask.ndim):
        mask = xp.expand_dims(mask, axis=-1)
    return mask
