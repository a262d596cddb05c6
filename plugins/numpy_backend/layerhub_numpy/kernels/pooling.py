"""Pooling: first the rows of each window, then its columns; padding is never read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.memory import empty, zeros
from layerhub_numpy.tiles import CACHED, scratch, shares, spans
from layerhub_numpy.windows import Axis, axes_of, channels_last, declared, reach

kernels = KernelSet()


class Windows(NamedTuple):
    """Where windows of one layer slide over images of one size. A cell is (its places, what it sees at them).

    cells: of a window, row by row. passes: of its rows alone, of its columns alone, …, which come to the same.
    """

    places: tuple[int, ...]
    apart: bool
    cells: list[Cell]
    passes: list[list[Cell]]


Cell = tuple[tuple[slice, ...], tuple[slice, ...]]
WHOLE = [(slice(None), slice(None))]
"""A window of one cell that sees everything at its own place."""


def windows_of(layer, x: np.ndarray) -> Windows:
    """The windows of a layer over channels-last images."""
    return _windows(x.shape[1:-1], layer.window, layer.strides, axes_of(layer, x))


def touching(space: tuple[int, ...], window: tuple[int, ...]) -> Windows:
    """Windows that cover the space, each cell once."""
    axes = tuple(Axis(0, size // k, k) for size, k in zip(space, window, strict=True))
    return _windows(space, window, window, axes)


@lru_cache(maxsize=1024)
def _windows(
    space: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], axes: tuple[Axis, ...]
) -> Windows:
    lines = [list(reach(*one)) for one in zip(axes, window, space, strict=True)]
    passes = [[line if axis == k else WHOLE for axis, line in enumerate(lines)] for k in range(len(lines))]
    apart = all(stride >= size for stride, size in zip(strides, window, strict=True))
    return Windows(tuple(axis.places for axis in axes), apart, _cells(lines), list(map(_cells, passes)))


def _cells(lines: list) -> list[Cell]:
    found = [tuple(zip(*cell, strict=True)) for cell in itertools.product(*lines)]
    return [((slice(None), *places), (slice(None), *seen)) for places, seen in found]


def pooled(windows: Windows, combine: Callable, neutral: float, x: np.ndarray) -> np.ndarray:
    """``combine`` over each window of channels-last images; ``neutral`` combined with a value is that value."""
    y = empty((len(x), *windows.places, x.shape[-1]), x.dtype)

    def run(start: int, stop: int) -> None:
        for first, last in blocks(start, stop, x):
            if windows.apart:
                combined(combine, neutral, x[first:last], windows.cells, y[first:last])
                continue
            # What windows share is combined once: first the cells of a column, then the columns.
            seen = x[first:last]
            *before, across = windows.passes
            for k, cells in enumerate(before, 2):
                lines = scratch(f"lines{k}", (last - first, *y.shape[1:k], *x.shape[k:]), x.dtype)
                combined(combine, neutral, seen, cells, lines)
                seen = lines
            combined(combine, neutral, seen, across, y[first:last])

    shares(run, len(x), x.size * 2)
    return y


def blocks(start: int, stop: int, x: np.ndarray) -> Iterator[tuple[int, int]]:
    """Images in blocks that fit the cache."""
    return spans(start, stop, 2 * CACHED // max(x[:1].size, 1))


def combined(combine: Callable, neutral: float, x: np.ndarray, cells: list[Cell], out: np.ndarray) -> None:
    """``combine`` over the cells of each window, into ``out``."""
    views = [(out[places], x[seen]) for places, seen in cells]
    if len(views) > 1 and views[0][0].shape == views[1][0].shape == out.shape:
        combine(views[0][1], views[1][1], out=out)
        views = views[2:]
    else:
        out[...] = neutral
    for places, seen in views:
        combine(places, seen, out=places)


def max_pooling(layer, x):
    x = channels_last(layer, x)
    return declared(layer, pooled(windows_of(layer, x), np.maximum, -np.inf, x))


def max_pooling_vjp(layer, saved, cotangents):
    (x,), y = saved
    x, y, dy = (channels_last(layer, array) for array in (x, y, cotangents[0]))
    windows = windows_of(layer, x)
    dx = zeros(x.shape, x.dtype)

    def run(start: int, stop: int) -> None:
        for first, last in blocks(start, stop, x):
            first_maximum(x[first:last], y[first:last], dy[first:last], dx[first:last])

    def first_maximum(x, y, dy, dx) -> None:
        free = np.ones(y.shape, bool)
        nan = np.isnan(y.max())
        for places, inside in windows.cells:
            seen, open_ = x[inside], free[places]
            won = seen == y[places]
            if nan:
                # Where a maximum is NaN, it is the first NaN that won.
                won |= np.isnan(seen)
            won &= open_
            open_ ^= won
            if windows.apart:
                np.multiply(dy[places], won, out=dx[inside])
            else:
                dx[inside] += dy[places] * won

    shares(run, len(x), x.size * 4)
    return (declared(layer, dx),)


def real_cells(axis: Axis, cells: int, size: int) -> np.ndarray:
    """How many cells of each window along one axis are not padding."""
    count = np.zeros(axis.places)
    for places, _ in reach(axis, cells, size):
        count[places] += 1
    return count


def cells_of(layer, x: np.ndarray) -> np.ndarray | int:
    """How many cells of each window are not padding: (*places, 1), or a number where it is the same for all."""
    if layer.padding == "valid":
        return math.prod(layer.window)
    counts = [
        real_cells(axis, k, size) for axis, k, size in zip(axes_of(layer, x), layer.window, x.shape[1:-1], strict=True)
    ]
    return reduce(np.multiply.outer, counts)[..., None].astype(x.dtype)


def average_pooling(layer, x):
    x = channels_last(layer, x)
    y = pooled(windows_of(layer, x), np.add, 0.0, x)
    y /= cells_of(layer, x)
    return declared(layer, y)


def average_pooling_vjp(layer, saved, cotangents):
    (x,), _ = saved
    x = channels_last(layer, x)
    dy = channels_last(layer, cotangents[0]) / cells_of(layer, x)
    passes = windows_of(layer, x).passes
    dx = zeros(x.shape, x.dtype)

    def run(start: int, stop: int) -> None:
        for first, last in blocks(start, stop, x):
            given = dy[first:last]
            for k in range(len(passes), 0, -1):
                taken = dx[first:last]
                if k > 1:
                    taken = scratch(f"lines{k}", (last - first, *dy.shape[1:k], *x.shape[k:]), x.dtype)
                    taken[...] = 0
                for places, seen in passes[k - 1]:
                    taken[seen] += given[places]
                given = taken

    shares(run, len(x), x.size * 4)
    return (declared(layer, dx),)


for rank in ("1D", "2D", "3D"):
    kernels.register(f"MaxPooling{rank}")(max_pooling).vjp(max_pooling_vjp)
    kernels.register(f"AveragePooling{rank}")(average_pooling).vjp(average_pooling_vjp)


def global_average_pooling(layer, x):
    x = channels_last(layer, x)
    n, *space, c = x.shape
    if x.flags.c_contiguous:
        # A row of ones times a matrix is the sum of its rows, by BLAS.
        cells = math.prod(space)
        y = np.matmul(np.ones((1, cells), x.dtype), x.reshape(n, cells, c))[:, 0]
        y /= cells
    else:
        y = x.mean(axis=tuple(range(1, x.ndim - 1)))
    if not layer.keepdims:
        return y
    return declared(layer, y.reshape(n, *(1,) * len(space), c))


def global_average_pooling_vjp(layer, saved, cotangents):
    (x, *_), _ = saved
    n, *space, c = channels_last(layer, x).shape
    dy = cotangents[0].reshape(n, *(1,) * len(space), c) / math.prod(space)
    return (declared(layer, np.broadcast_to(dy, (n, *space, c))),)


for rank in ("2D", "3D"):
    kernels.register(f"GlobalAveragePooling{rank}")(global_average_pooling).vjp(global_average_pooling_vjp)


@kernels.register("GlobalAveragePooling1D", when=lambda layer, call: not call.masked)
def global_average_pooling1d(layer, x, mask):
    return global_average_pooling(layer, x)


@global_average_pooling1d.vjp
def global_average_pooling1d_vjp(layer, saved, cotangents):
    return (*global_average_pooling_vjp(layer, saved, cotangents), None)


FEW = 16
"""Up to how many channels numpy finds maxima faster when it first moves them out of the way."""


def global_max_pooling(layer, x):
    x = channels_last(layer, x)
    n, *space, c = x.shape
    if x.flags.c_contiguous and c <= FEW:
        y = np.ascontiguousarray(x.reshape(n, math.prod(space), c).transpose(0, 2, 1)).max(axis=2)
    elif x.flags.c_contiguous:
        y = x.reshape(n, math.prod(space), c).max(axis=1)
    else:
        y = x.max(axis=tuple(range(1, x.ndim - 1)))
    return declared(layer, y.reshape(n, *(1,) * len(space), c)) if layer.keepdims else y


def global_max_pooling_vjp(layer, saved, cotangents):
    (x,), y = saved
    x = channels_last(layer, x)
    n, *space, c = x.shape
    each = (n, *(1,) * len(space), c)
    best = x == y.reshape(each)
    ties = np.count_nonzero(best, axis=tuple(range(1, x.ndim - 1)), keepdims=True)
    # Where a maximum is NaN, nothing equals it: 0 / 0 is NaN, which is then the gradient of all.
    with np.errstate(invalid="ignore", divide="ignore"):
        return (declared(layer, best * (cotangents[0].reshape(each) / ties.astype(x.dtype))),)


for rank in ("1D", "2D", "3D"):
    kernels.register(f"GlobalMaxPooling{rank}")(global_max_pooling).vjp(global_max_pooling_vjp)


def even(layer, call) -> bool:
    return layer.even(call.shapes[0]) is not None


def adaptive_max_pooling(layer, x):
    return max_pooling(layer.even(x.shape), x)


def adaptive_max_pooling_vjp(layer, saved, cotangents):
    return max_pooling_vjp(layer.even(saved[0][0].shape), saved, cotangents)


def adaptive_average_pooling(layer, x):
    return average_pooling(layer.even(x.shape), x)


def adaptive_average_pooling_vjp(layer, saved, cotangents):
    return average_pooling_vjp(layer.even(saved[0][0].shape), saved, cotangents)


for rank in ("1D", "2D", "3D"):
    kernels.register(f"AdaptiveMaxPooling{rank}", when=even)(adaptive_max_pooling).vjp(adaptive_max_pooling_vjp)
    kernels.register(f"AdaptiveAveragePooling{rank}", when=even)(adaptive_average_pooling).vjp(
        adaptive_average_pooling_vjp
    )
