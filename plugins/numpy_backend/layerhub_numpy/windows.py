"""Windows that slide over images: where they lie, and arrays of what they see. Images have their channels last."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from layerhub.spec.axes import conv_length, same_padding
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
def _axis(size: int, cells: int, stride: int, padding: str, dilation: int) -> Axis:
    before = same_padding(size, cells, stride, dilation)[0] if padding == "same" else 0
    return Axis(-before, conv_length(size, cells, stride, padding, dilation), stride, dilation)


def axes_of(layer: Any, x: np.ndarray) -> tuple[Axis, Axis]:
    """The rows and columns of a layer's windows over images."""
    (kh, kw), (sh, sw), (dh, dw) = layer.window, layer.strides, layer.dilation
    return _axis(x.shape[1], kh, sh, layer.padding, dh), _axis(x.shape[2], kw, sw, layer.padding, dw)


def channels_last(layer: Any, x: np.ndarray) -> np.ndarray:
    """A view with the channels last."""
    return x if layer.data_format == "channels_last" else x.transpose(0, 2, 3, 1)


def declared(layer: Any, y: np.ndarray) -> np.ndarray:
    """An output as the layer's data format has it: a view, so that the next layer has its channels last for nothing."""
    return y if layer.data_format == "channels_last" else y.transpose(0, 3, 1, 2)


def reach(axis: Axis, cells: int, size: int) -> Iterator[tuple[slice, slice]]:
    """For each cell of the window, the places where it sees the image, and what it sees there."""
    for cell in range(cells):
        at = axis.start + cell * axis.dilation
        first = max(-(at // axis.stride), 0)
        count = max(min((size - 1 - at) // axis.stride, axis.places - 1) - first + 1, 0)
        begin = at + first * axis.stride
        end = begin + (count - 1) * axis.stride + 1 if count else begin
        yield slice(first, first + count), slice(begin, end, axis.stride)


def windows(x: np.ndarray, rows: Axis, columns: Axis, window: tuple[int, int]) -> np.ndarray:
    """What the windows see: (n, rows, columns, *window, c). A view of x, or of a padded copy in scratch memory."""
    (_, height, width, c), (kh, kw) = x.shape, window
    tall, wide = rows.span(kh), columns.span(kw)
    top, left = rows.start, columns.start
    if not x.flags.c_contiguous or top < 0 or left < 0 or top + tall > height or left + wide > width:
        x, top, left = patch(x, top, tall, left, wide), 0, 0
    sn, sh, sw, sc = x.strides
    return np.ndarray(
        (len(x), rows.places, columns.places, kh, kw, c), x.dtype, x, top * sh + left * sw,
        (sn, sh * rows.stride, sw * columns.stride, sh * rows.dilation, sw * columns.dilation, sc),
    )  # fmt: skip


def patch(x: np.ndarray, top: int, tall: int, left: int, wide: int) -> np.ndarray:
    """A copy of x[:, top : top + tall, left : left + wide], with zeros for what lies outside x."""
    n, height, width, c = x.shape
    block = scratch("patch", (n, tall, wide, c), x.dtype)
    # Where the image begins and ends within the block.
    y0, y1 = (min(max(edge - top, 0), tall) for edge in (0, height))
    x0, x1 = (min(max(edge - left, 0), wide) for edge in (0, width))
    block[:, :y0] = block[:, y1:] = 0
    block[:, y0:y1, :x0] = block[:, y0:y1, x1:] = 0
    block[:, y0:y1, x0:x1] = x[:, top + y0 : top + y1, left + x0 : left + x1]
    return block
