"""Windows that slide over images: where they lie, and arrays of what they see. Images have their channels last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from layerhub.spec.axes import conv_length, padding_cells
from layerhub_numpy.tiles import scratch


class Axis(NamedTuple):
    """One axis of the space: at place p, cell k of the window sees index start + p * stride + k * dilation.

    Indices outside the image see padding.
    """

    start: int
    places: int
    stride: int = 1
    dilation: int = 1

    def part(self, first: int, last: int) -> Axis:
        """The places from ``first`` up to ``last`` only."""
        return self._replace(start=self.start + first * self.stride, places=last - first)

    def span(self, cells: int) -> int:
        """How many indices all windows together reach over."""
        return (self.places - 1) * self.stride + (cells - 1) * self.dilation + 1


@lru_cache(maxsize=1024)
def _axes(space, window, strides, padding, dilation) -> tuple[Axis, ...]:
    return tuple(
        Axis(-padding_cells(size, k, s, padding, d)[0], conv_length(size, k, s, padding, d), s, d)
        for size, k, s, d in zip(space, window, strides, dilation, strict=True)
    )


def axes_of(layer: Any, x: np.ndarray) -> tuple[Axis, ...]:
    """The axes of the space in which a layer's windows slide over images."""
    return _axes(x.shape[1:-1], layer.window, layer.strides, layer.padding, layer.dilation)


def channels_last(layer: Any, x: np.ndarray) -> np.ndarray:
    """A view with the channels last."""
    return x if layer.data_format == "channels_last" else x.transpose(0, *range(2, x.ndim), 1)


def declared(layer: Any, y: np.ndarray) -> np.ndarray:
    """An output as the layer's data format has it: a view, so that the next layer has its channels last for nothing."""
    return y if layer.data_format == "channels_last" else y.transpose(0, y.ndim - 1, *range(1, y.ndim - 1))


def reach(axis: Axis, cells: int, size: int) -> Iterator[tuple[slice, slice]]:
    """For each cell of the window, the places where it sees the image, and what it sees there."""
    for cell in range(cells):
        at = axis.start + cell * axis.dilation
        first = max(-(at // axis.stride), 0)
        count = max(min((size - 1 - at) // axis.stride, axis.places - 1) - first + 1, 0)
        begin = at + first * axis.stride
        end = begin + (count - 1) * axis.stride + 1 if count else begin
        yield slice(first, first + count), slice(begin, end, axis.stride)


class Patch(NamedTuple):
    """A part of an image to be copied, with zeros for what lies outside: its shape, where these are, and the rest."""

    shape: tuple[int, ...]
    outside: tuple[tuple[slice, ...], ...]
    held: tuple[slice, ...]
    seen: tuple[slice, ...]

    def of(self, x: np.ndarray) -> np.ndarray:
        """The copy, in scratch memory."""
        block = scratch("patch", self.shape, x.dtype)
        for index in self.outside:
            block[index] = 0
        block[self.held] = x[self.seen]
        return block


def _patch(shape: tuple[int, ...], starts: Sequence[int], spans: Sequence[int]) -> Patch:
    n, *space, c = shape
    outside, held, seen = [], [slice(None)], [slice(None)]
    for start, span, size in zip(starts, spans, space, strict=True):
        # Where the image begins and ends within the patch.
        first, last = (min(max(edge - start, 0), span) for edge in (0, size))
        outside += [(*held, beyond) for beyond in (slice(0, first), slice(last, span)) if beyond.start < beyond.stop]
        held.append(slice(first, last))
        seen.append(slice(start + first, start + last))
    return Patch((n, *spans, c), tuple(outside), tuple(held), tuple(seen))


class View(NamedTuple):
    """How windows see an image: as an array of this shape, offset and strides, over the image itself or a patch."""

    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    patch: Patch | None


@lru_cache(maxsize=8192)
def _view(
    shape: tuple[int, ...], contiguous: bool, itemsize: int, axes: tuple[Axis, ...], window: tuple[int, ...]
) -> View:
    # Asked for with each tile, so what can be known beforehand is kept.
    starts = [axis.start for axis in axes]
    spans = [axis.span(cells) for axis, cells in zip(axes, window, strict=True)]
    inside = all(0 <= start <= size - span for start, span, size in zip(starts, spans, shape[1:-1], strict=True))
    patch = None if contiguous and inside else _patch(shape, starts, spans)
    if patch is not None:
        shape, starts = patch.shape, [0] * len(axes)
    across, *along, between = (itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return View(
        (shape[0], *(axis.places for axis in axes), *window, shape[-1]),
        sum(start * step for start, step in zip(starts, along, strict=True)),
        (
            across, *(step * axis.stride for step, axis in zip(along, axes, strict=True)),
            *(step * axis.dilation for step, axis in zip(along, axes, strict=True)), between,
        ),
        patch,
    )  # fmt: skip


def windows(x: np.ndarray, axes: tuple[Axis, ...], window: tuple[int, ...]) -> np.ndarray:
    """What the windows see: (n, *places, *window, c). A view of x, or of a padded copy in scratch memory."""
    view = _view(x.shape, x.flags.c_contiguous, x.itemsize, axes, window)
    if view.patch is not None:
        x = view.patch.of(x)
    return np.ndarray(view.shape, x.dtype, x, view.offset, view.strides)
