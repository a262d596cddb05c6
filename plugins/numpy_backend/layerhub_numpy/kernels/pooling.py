"""Pooling: first the rows of each window, then its columns; padding is never read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.tiles import scratch, shares
from layerhub_numpy.windows import Axis, axes_of, channels_last, declared, reach

kernels = KernelSet()


def pooled(layer, combine: Callable, empty: float, x: np.ndarray) -> np.ndarray:
    """``combine`` over each window of channels-last images; ``empty`` combined with a value is that value."""
    rows, columns = axes_of(layer, x)
    (kh, kw), (n, _, _, c) = layer.window, x.shape
    y = np.empty((n, rows.places, columns.places, c), x.dtype)

    def run(start: int, stop: int) -> None:
        for image in range(start, stop):
            # Along a row there are longer inner loops, so the rows are combined while there is most to do.
            lines = scratch("lines", (rows.places, *x.shape[2:]), x.dtype)
            combine_along(combine, empty, x[image], rows, kh, lines)
            combine_along(combine, empty, lines.swapaxes(0, 1), columns, kw, y[image].swapaxes(0, 1))

    shares(run, n, x.size * 2)
    return y


def combine_along(combine: Callable, empty: float, x: np.ndarray, axis: Axis, cells: int, out: np.ndarray) -> None:
    """``combine`` over windows along the first axis of x."""
    padded = axis.start < 0 or axis.start + axis.span(cells) > len(x)
    if padded:
        out[...] = empty
    for cell, (places, seen) in enumerate(reach(axis, cells, len(x))):
        if cell == 0 and not padded:
            np.copyto(out, x[seen])
        else:
            combine(out[places], x[seen], out=out[places])


@kernels.register("MaxPooling2D")
def max_pooling2d(layer, x):
    return declared(layer, pooled(layer, np.maximum, -np.inf, channels_last(layer, x)))


@max_pooling2d.vjp
def max_pooling2d_vjp(layer, saved, cotangents):
    (x,), y = saved
    x, y, dy = (channels_last(layer, array) for array in (x, y, cotangents[0]))
    rows, columns = axes_of(layer, x)
    dx = np.zeros(x.shape, x.dtype)

    def run(start: int, stop: int) -> None:
        for image in range(start, stop):
            first_maximum(x[image], y[image], dy[image], dx[image])

    def first_maximum(x, y, dy, dx) -> None:
        free = np.ones(y.shape, bool)
        for h, seen_h in reach(rows, layer.window[0], len(x)):
            for w, seen_w in reach(columns, layer.window[1], x.shape[1]):
                seen, open_ = x[seen_h, seen_w], free[h, w]
                # Where a maximum is NaN, it is the first NaN that won.
                won = (seen == y[h, w]) | (seen != seen)
                won &= open_
                open_ ^= won
                dx[seen_h, seen_w] += dy[h, w] * won

    shares(run, len(x), x.size * 4)
    return (declared(layer, dx),)


def real_cells(axis: Axis, cells: int, size: int) -> np.ndarray:
    """How many cells of each window along one axis are not padding."""
    count = np.zeros(axis.places)
    for places, _ in reach(axis, cells, size):
        count[places] += 1
    return count


def cells_of(layer, x: np.ndarray) -> np.ndarray:
    """How many cells of each window are not padding: (rows, columns, 1)."""
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
    dx = np.zeros(x.shape, x.dtype)

    def run(start: int, stop: int) -> None:
        for image in range(start, stop):
            lines = scratch("lines", (rows.places, *x.shape[2:]), x.dtype)
            lines[...] = 0
            for w, seen in reach(columns, layer.window[1], x.shape[2]):
                lines[:, seen] += dy[image, :, w]
            for h, seen in reach(rows, layer.window[0], x.shape[1]):
                dx[image, seen] += lines[h]

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
