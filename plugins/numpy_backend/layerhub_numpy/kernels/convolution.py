"""Convolutions as products of matrices.

The batch is cut into tiles. What the windows of a tile see is copied side by side, into scratch memory that stays in
the cache, and multiplied with the kernel at once. The gradient of the input is a convolution again, of the output's
gradient with the kernel turned round.

Source: Chellapilla et al., High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.memory import empty, zeros
from layerhub_numpy.tiles import CACHED, MULTIPLICATIONS, column_sums, scratch, shares, spans
from layerhub_numpy.windows import Axis, axes_of, channels_last, declared, windows

kernels = KernelSet()

COLUMNS = 3 * CACHED // 2
"""How many elements are copied side by side for one tile, where that makes PLACES places."""

FEW = 4
"""As many channels are few."""

PLACES = 256
"""How many places a product should have: fewer, and it spends its time on reading the kernel."""


def tiles(images: int, rows: int, columns: int, size: int) -> list[tuple[int, int, int, int]]:
    """(first image, last, first row, last): tiles for which some COLUMNS elements are copied, ``size`` for a place."""
    height = max(COLUMNS // size, PLACES) // columns or 1
    if height >= rows:
        return [(start, stop, 0, rows) for start, stop in spans(0, images, height // rows)]
    return [(image, image + 1, *part) for image in range(images) for part in spans(0, rows, height)]


def widened(weights: np.ndarray, count: int) -> np.ndarray:
    """Weights of channels, repeated along a row where there are few: long inner loops are fast ones."""
    return np.tile(weights, count) if weights.size < 128 else weights


def add_bias(y: np.ndarray, bias: np.ndarray) -> None:
    """Add a bias to a contiguous array; it may have been ``widened``."""
    y.reshape(-1, bias.size)[...] += bias


# Products of windows and kernel


def correlate(
    x: np.ndarray,
    kernel: np.ndarray,
    rows: Axis,
    columns: Axis,
    groups: int,
    bias: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """The sum over each window of x, weighted by the kernel, into ``out``: (n, rows, columns, filters)."""
    if out.size == 0:
        return
    cells = math.prod(kernel.shape[:3])
    lined = groups == 1 and saves_copies(kernel.shape, rows, columns)
    product = by_rows if lined else by_windows
    jobs = tiles(len(x), rows.places, columns.places, cells // len(kernel) if lined else cells * groups)
    bias = None if bias is None else widened(bias, columns.places)

    def run(start: int, stop: int) -> None:
        for first, last, top, low in jobs[start:stop]:
            y = out[first:last, top:low]
            whole = y if y.flags.c_contiguous else scratch("whole", y.shape, y.dtype)
            product(x[first:last], kernel, rows.part(top, low), columns, groups, whole)
            if bias is not None:
                add_bias(whole, bias)
            if whole is not y:
                y[...] = whole

    shares(run, len(jobs), out.size * (cells / MULTIPLICATIONS + 1))


def by_windows(x, kernel, rows, columns, groups, y) -> None:
    """All cells of a window side by side, then one product."""
    *window, _, filters = kernel.shape
    seen = columns_of(windows(x, rows, columns, window), groups)
    places = y.size // filters
    if groups == 1:
        np.dot(seen[0], kernel.reshape(-1, filters), out=y.reshape(places, filters))
        return
    product = scratch("product", (groups, places, filters // groups), y.dtype)
    np.matmul(seen, kernel.reshape(-1, groups, filters // groups).transpose(1, 0, 2), out=product)
    y.reshape(places, groups, -1)[...] = product.transpose(1, 0, 2)


def columns_of(seen: np.ndarray, groups: int) -> np.ndarray:
    """What windows see, as a matrix for each group: (groups, places, cells * channels)."""
    n, high, wide, kh, kw, c = seen.shape
    shape = (groups, n * high * wide, kh * kw * c // groups)
    if groups == 1 and seen.flags.c_contiguous:
        return seen.reshape(shape)
    if groups == 1 and c <= FEW:
        # Along the places there is more to copy at once than along the channels; BLAS takes a matrix either way.
        copy = scratch("columns", (kh, kw, c, n, high, wide), seen.dtype)
        np.copyto(copy, seen.transpose(3, 4, 5, 0, 1, 2))
        return copy.reshape(1, shape[2], shape[1]).swapaxes(1, 2)
    copy = scratch("columns", (groups, n, high, wide, kh, kw, c // groups), seen.dtype)
    np.copyto(copy, seen.reshape(n, high, wide, kh, kw, groups, c // groups).transpose(5, 0, 1, 2, 3, 4, 6))
    return copy.reshape(shape)


def saves_copies(kernel: tuple[int, ...], rows: Axis, columns: Axis) -> bool:
    """Whether it is better to copy only the cells of one row of the window side by side, and add up its rows."""
    kh, kw, share, filters = kernel
    large = rows.places * columns.places >= PLACES
    return kh > 1 and rows.stride == 1 and large and share > FEW and kw * share >= 2 * filters


def by_rows(x, kernel, rows, columns, groups, y) -> None:
    """The cells of each row of the window side by side; a product for each row, which all read the same copy."""
    kh, kw, _, filters = kernel.shape
    lines = lines_of(x, rows, columns, (kh, kw))
    product = scratch("product", (rows.places * columns.places, filters), y.dtype)
    for line, image in zip(lines, y, strict=True):
        total = image.reshape(product.shape)
        for row in range(kh):
            seen = line_seen(line, rows, row)
            np.dot(seen, kernel[row].reshape(-1, filters), out=product if row else total)
            if row:
                total += product


def lines_of(x: np.ndarray, rows: Axis, columns: Axis, window: tuple[int, int]) -> np.ndarray:
    """What one row of a window sees from every row of the image: (n, height, columns, cells, c)."""
    kh, kw = window
    seen = windows(x, Axis(rows.start, rows.span(kh)), columns, (1, kw))
    lines = scratch("columns", seen.shape, seen.dtype)
    np.copyto(lines, seen)
    return lines


def line_seen(line: np.ndarray, rows: Axis, row: int) -> np.ndarray:
    """From an image's ``lines_of``, what a row of the window sees at all places, as a matrix; a view."""
    begin = row * rows.dilation
    seen = line[begin : begin + rows.places]
    return seen.reshape(seen.shape[0] * seen.shape[1], -1)


# Gradients


def kernel_gradient(
    x: np.ndarray, dy: np.ndarray, window: tuple[int, int], rows: Axis, columns: Axis, groups: int
) -> np.ndarray:
    """The gradient of the kernel: what each cell saw, times the gradient of what it went into."""
    (kh, kw), c, filters = window, x.shape[-1], dy.shape[-1]
    shape = (kh, kw, c // groups, filters)
    if dy.size == 0:
        return np.zeros(shape, x.dtype)
    lined = groups == 1 and saves_copies(shape, rows, columns)
    product = gradient_by_rows if lined else gradient_by_windows
    jobs = tiles(len(x), rows.places, columns.places, kw * c if lined else kh * kw * c)

    def run(start: int, stop: int) -> np.ndarray:
        total = np.zeros(shape, x.dtype)
        for first, last, top, low in jobs[start:stop]:
            product(x[first:last], dy[first:last, top:low], rows.part(top, low), columns, groups, total)
        return total

    work = dy.size * (kh * kw * c / groups / MULTIPLICATIONS + 1)
    # Each share has a sum of its own, so of large kernels there are few.
    return sum(shares(run, len(jobs), work, parts=2 if math.prod(shape) < CACHED else 1))


def gradient_by_rows(x, dy, rows, columns, groups, total) -> None:
    """As ``by_rows``."""
    kh, kw, c, filters = total.shape
    lines = lines_of(x, rows, columns, (kh, kw))
    product = scratch("product", (kw * c, filters), dy.dtype)
    for line, gradient in zip(lines, dy.reshape(len(dy), -1, filters), strict=True):
        for row in range(kh):
            np.dot(line_seen(line, rows, row).T, gradient, out=product)
            total[row] += product.reshape(kw, c, filters)


def gradient_by_windows(x, dy, rows, columns, groups, total) -> None:
    """As ``by_windows``."""
    kh, kw, share, filters = total.shape
    seen = columns_of(windows(x, rows, columns, (kh, kw)), groups)
    dy = dy.reshape(-1, groups, filters // groups)
    if groups == 1:
        product = scratch("product", (kh * kw * share, filters), dy.dtype)
        total += np.dot(seen[0].T, dy[:, 0], out=product).reshape(total.shape)
        return
    product = np.matmul(seen.transpose(0, 2, 1), dy.transpose(1, 0, 2))
    total += product.transpose(1, 0, 2).reshape(total.shape)


def input_gradient(
    shape: tuple[int, ...], dy: np.ndarray, kernel: np.ndarray, rows: Axis, columns: Axis, groups: int
) -> np.ndarray:
    """The gradient of the input: for each class of indices that the same cells see, a convolution of its own."""
    (kh, kw, share, filters), (_, height, width, _) = kernel.shape, shape
    covered = rows.stride <= kh and columns.stride <= kw
    dx = (empty if covered else zeros)(shape, dy.dtype)
    for (h, tall, from_rows), (w, wide, from_columns) in itertools.product(
        residues(rows, kh, height), residues(columns, kw, width)
    ):
        cells = kernel[tall, wide][::-1, ::-1]
        cells = cells.reshape(*cells.shape[:3], groups, filters // groups).transpose(0, 1, 4, 3, 2)
        turned = np.ascontiguousarray(cells.reshape(*cells.shape[:3], groups * share))
        correlate(dy, turned, from_rows, from_columns, groups, None, dx[:, h, w])
    return dx


def residues(axis: Axis, cells: int, size: int) -> Iterator[tuple[slice, slice, Axis]]:
    """Indices of an image that the same cells of the window see: (indices, cells, where these look, turned round).

    Index start + r + m * stride is seen by the cells r, r + stride, … from the places m, m - 1, …; without a stride,
    all indices are, from the places m, m - dilation, …
    """
    for r in range(min(axis.stride, cells)):
        first = -((axis.start + r) // axis.stride)
        begin = axis.start + r + first * axis.stride
        count = len(range(begin, size, axis.stride))
        if count > 0:
            taps = len(range(r, cells, axis.stride))
            looking = Axis(first - (taps - 1) * axis.dilation, count, 1, axis.dilation)
            yield slice(begin, None, axis.stride), slice(r, None, axis.stride), looking


# The layers


@kernels.register("Conv2D")
def conv2d(layer, x, kernel, bias):
    x = channels_last(layer, x)
    rows, columns = axes_of(layer, x)
    y = empty((len(x), rows.places, columns.places, layer.filters), x.dtype)
    correlate(x, kernel, rows, columns, layer.groups, bias, y)
    return declared(layer, y)


@conv2d.vjp
def conv2d_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    x, dy = channels_last(layer, x), np.ascontiguousarray(channels_last(layer, cotangents[0]))
    rows, columns = axes_of(layer, x)
    return OnDemand(
        lambda: declared(layer, input_gradient(x.shape, dy, kernel, rows, columns, layer.groups)),
        lambda: kernel_gradient(x, dy, layer.window, rows, columns, layer.groups),
        absent if bias is None else lambda: column_sums(dy.reshape(-1, dy.shape[-1])),
    )


def strides_or_dilates(layer) -> bool:
    """Not both along one axis: the gradient of that is left to the definition."""
    return all(1 in steps for steps in zip(layer.strides, layer.dilation_rate, strict=True))


@kernels.register("DepthwiseConv2D", when=strides_or_dilates)
def depthwise_conv2d(layer, x, kernel, bias):
    x = channels_last(layer, x)
    rows, columns = axes_of(layer, x)
    y = empty((len(x), rows.places, columns.places, kernel.shape[2] * kernel.shape[3]), x.dtype)
    correlate_channels(repeated(layer, x), flat_kernel(kernel), rows, columns, bias, y)
    return declared(layer, y)


@depthwise_conv2d.vjp
def depthwise_conv2d_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    x, dy = channels_last(layer, x), np.ascontiguousarray(channels_last(layer, cotangents[0]))
    rows, columns = axes_of(layer, x)

    def of_input() -> np.ndarray:
        dx = channels_input_gradient(x.shape, dy, flat_kernel(kernel), rows, columns)
        if layer.depth_multiplier > 1:
            dx = dx.reshape(*x.shape, layer.depth_multiplier).sum(axis=-1)
        return declared(layer, dx)

    return OnDemand(
        of_input,
        lambda: channels_kernel_gradient(repeated(layer, x), dy, layer.window, rows, columns).reshape(kernel.shape),
        absent if bias is None else lambda: column_sums(dy.reshape(-1, dy.shape[-1])),
    )


def repeated(layer, x: np.ndarray) -> np.ndarray:
    """Each channel as often as it has outputs."""
    return x if layer.depth_multiplier == 1 else np.repeat(x, layer.depth_multiplier, axis=-1)


def flat_kernel(kernel: np.ndarray) -> np.ndarray:
    """The kernel for channels that were ``repeated``."""
    return kernel.reshape(*kernel.shape[:2], -1)


# Each channel by itself. Products are added up in one pass by einsum, whose inner loop goes along the channels; without
# a stride it goes along all channels of a row, for which the kernel is written out.


def correlate_channels(x, kernel, rows, columns, bias, out) -> None:
    """The sum over each window of x, weighted by its channel's kernel, (*window, c), into (n, rows, columns, c)."""
    if out.size == 0:
        return
    kh, kw, c = kernel.shape
    jobs = tiles(len(x), rows.places, columns.places, 2 * c)
    along = columns.stride == 1 and out.flags.c_contiguous
    if along:
        kernel = np.tile(kernel, columns.places)

    def run(start: int, stop: int) -> None:
        for first, last, top, low in jobs[start:stop]:
            seen = windows(x[first:last], rows.part(top, low), columns, (kh, kw))
            y = out[first:last, top:low]
            if along:
                np.einsum("trijx,ijx->trx", whole_rows(seen), kernel, out=y.reshape(*y.shape[:2], -1))
            else:
                np.einsum("trwijc,ijc->trwc", seen, kernel, out=y)
            if bias is not None:
                y += bias

    shares(run, len(jobs), out.size * kh * kw)


def whole_rows(seen: np.ndarray) -> np.ndarray:
    """What windows see, with columns and channels as one axis, the last: (n, rows, *window, columns * c); a view."""
    seen = seen.transpose(0, 1, 3, 4, 2, 5)
    return seen.reshape(*seen.shape[:4], -1)


def channels_kernel_gradient(x, dy, window, rows, columns) -> np.ndarray:
    """The gradient of the kernel of ``correlate_channels``."""
    c = x.shape[-1]
    shape = (*window, columns.places * c) if columns.stride == 1 else (*window, c)
    jobs = tiles(len(x), rows.places, columns.places, 2 * c) if dy.size else []

    def run(start: int, stop: int) -> np.ndarray:
        total = np.zeros(shape, x.dtype)
        product = scratch("product", shape, x.dtype)
        for first, last, top, low in jobs[start:stop]:
            seen = windows(x[first:last], rows.part(top, low), columns, window)
            gradient = dy[first:last, top:low]
            if columns.stride == 1:
                gradient = gradient.reshape(*gradient.shape[:2], -1)
                total += np.einsum("trijx,trx->ijx", whole_rows(seen), gradient, out=product)
            else:
                total += np.einsum("trwijc,trwc->ijc", seen, gradient, out=product)
        return total

    total = sum(shares(run, len(jobs), dy.size * math.prod(window)))
    return total.reshape(*window, -1, c).sum(axis=2)


def channels_input_gradient(shape, dy, kernel, rows, columns) -> np.ndarray:
    """The gradient of the input of ``correlate_channels``, channels still repeated."""
    n, height, width, _ = shape
    kh, kw, c = kernel.shape
    covered = rows.stride <= kh and columns.stride <= kw
    dx = (empty if covered else zeros)((n, height, width, c), dy.dtype)
    for (h, tall, from_rows), (w, wide, from_columns) in itertools.product(
        residues(rows, kh, height), residues(columns, kw, width)
    ):
        correlate_channels(dy, kernel[tall, wide][::-1, ::-1], from_rows, from_columns, None, dx[:, h, w])
    return dx
