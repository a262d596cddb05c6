"""Pooling: first the rows of each window, then its columns; padding is never read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.memory import empty, zeros
from layerhub_numpy.tiles import CACHED, scratch, shares, spans
from layerhub_numpy.windows import Axis, axes_of, channels_last, declared, reach

kernels = KernelSet()


def pooled(layer, combine: Callable, neutral: float, x: np.ndarray) -> np.ndarray:
    """``combine`` over each window of channels-last images; ``neutral`` combined with a value is that value."""
    rows, columns = axes_of(layer, x)
    (kh, kw), (n, height, width, c) = layer.window, x.shape
    y = empty((n, rows.places, columns.places, c), x.dtype)
    high, wide = list(reach(rows, kh, height)), list(reach(columns, kw, width))
    apart = are_apart(layer)

    def run(start: int, stop: int) -> None:
        for first, last in blocks(start, stop, x):
            if apart:
                combined(combine, neutral, x[first:last], high, wide, y[first:last])
                continue
            # What windows share is combined once: first the cells of a column, then the columns.
            lines = scratch("lines", (last - first, rows.places, width, c), x.dtype)
            combined(combine, neutral, x[first:last], high, WHOLE, lines)
            combined(combine, neutral, lines, WHOLE, wide, y[first:last])

    shares(run, n, x.size * 2)
    return y


WHOLE = [(slice(None), slice(None))]
"""A window of one cell that sees everything at its own place."""


def are_apart(layer) -> bool:
    """Whether no two windows share a cell."""
    return all(stride >= size for stride, size in zip(layer.strides, layer.window, strict=True))


def blocks(start: int, stop: int, x: np.ndarray) -> Iterator[tuple[int, int]]:
    """Images in blocks that fit the cache."""
    return spans(start, stop, 2 * CACHED // max(x[:1].size, 1))


def combined(combine: Callable, neutral: float, x: np.ndarray, high: list, wide: list, out: np.ndarray) -> None:
    """``combine`` over the cells of each window, into ``out``. high, wide: (places, what they see) for each cell."""
    views = [(out[:, h, w], x[:, tall, broad]) for (h, tall), (w, broad) in itertools.product(high, wide)]
    if len(views) > 1 and views[0][0].shape == views[1][0].shape == out.shape:
        combine(views[0][1], views[1][1], out=out)
        views = views[2:]
    else:
        out[...] = neutral
    for places, seen in views:
        combine(places, seen, out=places)


@kernels.register("MaxPooling2D")
def max_pooling2d(layer, x):
    return declared(layer, pooled(layer, np.maximum, -np.inf, channels_last(layer, x)))


@max_pooling2d.vjp
def max_pooling2d_vjp(layer, saved, cotangents):
    (x,), y = saved
    x, y, dy = (channels_last(layer, array) for array in (x, y, cotangents[0]))
    rows, columns = axes_of(layer, x)
    cells = list(
        itertools.product(reach(rows, layer.window[0], x.shape[1]), reach(columns, layer.window[1], x.shape[2]))
    )
    apart = are_apart(layer)
    dx = zeros(x.shape, x.dtype)

    def run(start: int, stop: int) -> None:
        for first, last in blocks(start, stop, x):
            first_maximum(x[first:last], y[first:last], dy[first:last], dx[first:last])

    def first_maximum(x, y, dy, dx) -> None:
        free = np.ones(y.shape, bool)
        nan = np.isnan(y.max())
        for (h, high), (w, wide) in cells:
            seen, open_ = x[:, high, wide], free[:, h, w]
            won = seen == y[:, h, w]
            if nan:
                # Where a maximum is NaN, it is the first NaN that won.
                won |= np.isnan(seen)
            won &= open_
            open_ ^= won
            if apart:
                np.multiply(dy[:, h, w], won, out=dx[:, high, wide])
            else:
                dx[:, high, wide] += dy[:, h, w] * won

    shares(run, len(x), x.size * 4)
    return (declared(layer, dx),)


def real_cells(axis: Axis, cells: int, size: int) -> np.ndarray:
    """How many cells of each window along one axis are not padding."""
    count = np.zeros(axis.places)
    for places, _ in reach(axis, cells, size):
        count[places] += 1
    return count


def cells_of(layer, x: np.ndarray) -> np.ndarray | int:
    """How many cells of each window are not padding: (rows, columns, 1), or a number where it is the same for all."""
    if layer.padding == "valid":
        return math.prod(layer.window)
    counts = [
        real_cells(axis, k, size) for axis, k, size in zip(axes_of(layer, x), layer.window, x.shape[1:3], strict=True)
    ]
    return np.multiply.outer(*counts)[:, :, None].astype(x.dtype)


@kernels.register("AveragePooling2D")
def average_pooling2d(layer, x):
    x = channels_last(layer, x)
    y = pooled(layer, np.add, 0.0, x)
    y /= cells_of(layer, x)
    return declared(layer, y)


@average_pooling2d.vjp
def average_pooling2d_vjp(layer, saved, cotangents):
    (x,), _ = saved
    x = channels_last(layer, x)
    dy = channels_last(layer, cotangents[0]) / cells_of(layer, x)
    rows, columns = axes_of(layer, x)
    dx = zeros(x.shape, x.dtype)

    def run(start: int, stop: int) -> None:
        for first, last in blocks(start, stop, x):
            lines = scratch("lines", (last - first, rows.places, *x.shape[2:]), x.dtype)
            lines[...] = 0
            for places, indices in reach(columns, layer.window[1], x.shape[2]):
                lines[:, :, indices] += dy[first:last, :, places]
            for places, indices in reach(rows, layer.window[0], x.shape[1]):
                dx[first:last, indices] += lines[:, places]

    shares(run, len(x), x.size * 4)
    return (declared(layer, dx),)


@kernels.register("GlobalAveragePooling2D")
def global_average_pooling2d(layer, x):
    x = channels_last(layer, x)
    n, height, width, c = x.shape
    if x.flags.c_contiguous:
        # A row of ones times a matrix is the sum of its rows, by BLAS.
        y = np.matmul(np.ones((1, height * width), x.dtype), x.reshape(n, height * width, c))[:, 0]
        y /= height * width
    else:
        y = x.mean(axis=(1, 2))
    if not layer.keepdims:
        return y
    return declared(layer, y[:, None, None])


@global_average_pooling2d.vjp
def global_average_pooling2d_vjp(layer, saved, cotangents):
    (x,), _ = saved
    shape = channels_last(layer, x).shape
    dy = cotangents[0].reshape(shape[0], 1, 1, shape[3]) / (shape[1] * shape[2])
    return (declared(layer, np.broadcast_to(dy, shape)),)
