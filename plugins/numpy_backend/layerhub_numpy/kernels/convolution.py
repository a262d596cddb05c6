"""Convolutions as products of matrices, in any number of dimensions.

The batch is cut into tiles. What the windows of a tile see is copied side by side, into scratch memory that stays in
the cache, and multiplied with the kernel at once. The gradient of the input is a convolution again, of the output's
gradient with the kernel turned round; it is also what transposed convolutions are.

Source: Chellapilla et al., High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

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

Tile = tuple[tuple[slice, ...], tuple[Axis, ...]]
"""Some images and places, as an index, and the axes of these places."""


def tiles(images: int, axes: tuple[Axis, ...], size: int, many_rows: bool = False) -> list[Tile]:
    """Tiles for which some COLUMNS elements are copied, ``size`` for a place.

    What lies side by side in memory is cut last. many_rows: the first axis of the space is, so that what one row of
    windows sees serves the next ones.
    """
    return _tiles(images, axes, max(COLUMNS // size, PLACES), many_rows)


@lru_cache(maxsize=1024)
def _tiles(images: int, axes: tuple[Axis, ...], room: int, many_rows: bool) -> list[Tile]:
    counts = [images, *(axis.places for axis in axes)]
    order = [*range(len(axes), -1, -1)]
    if many_rows:
        order.remove(1)
        order.insert(0, 1)
    cuts: list[list[tuple[int, int]]] = [[] for _ in counts]
    for which in order:
        cuts[which] = list(spans(0, counts[which], room))
        room //= counts[which]
    return [
        (
            tuple(itertools.starmap(slice, box)),
            tuple(axis.part(*part) for axis, part in zip(axes, box[1:], strict=True)),
        )
        for box in itertools.product(*cuts)
    ]


def widened(weights: np.ndarray, count: int) -> np.ndarray:
    """Weights of channels, repeated along a row where there are few: long inner loops are fast ones."""
    return np.tile(weights, count) if weights.size < 128 else weights


def add_bias(y: np.ndarray, bias: np.ndarray) -> None:
    """Add a bias to a contiguous array; it may have been ``widened``."""
    bias = bias[: y.shape[-2] * y.shape[-1]]
    y.reshape(-1, bias.size)[...] += bias


# Products of windows and kernel


def correlate(
    x: np.ndarray, kernel: np.ndarray, axes: tuple[Axis, ...], groups: int, bias: np.ndarray | None, out: np.ndarray
) -> None:
    """The sum over each window of x, weighted by the kernel, into ``out``: (n, *places, filters)."""
    if out.size == 0:
        return
    cells = math.prod(kernel.shape[:-1])
    lined = groups == 1 and saves_copies(kernel.shape, axes)
    product = by_rows if lined else by_windows
    jobs = tiles(len(x), axes, cells // len(kernel) if lined else cells * groups, lined and len(axes) > 2)
    bias = None if bias is None else widened(bias, axes[-1].places)

    def run(start: int, stop: int) -> None:
        for index, parts in jobs[start:stop]:
            y = out[index]
            whole = y if y.flags.c_contiguous else scratch("whole", y.shape, y.dtype)
            product(x[index[0]], kernel, parts, groups, whole)
            if bias is not None:
                add_bias(whole, bias)
            if whole is not y:
                y[...] = whole

    shares(run, len(jobs), out.size * (cells / MULTIPLICATIONS + 1))


def by_windows(x, kernel, axes, groups, y) -> None:
    """All cells of a window side by side, then one product."""
    filters = kernel.shape[-1]
    seen = columns_of(windows(x, axes, kernel.shape[:-2]), len(axes), groups)
    places = y.size // filters
    if groups == 1:
        np.dot(seen[0], kernel.reshape(-1, filters), out=y.reshape(places, filters))
        return
    product = scratch("product", (groups, places, filters // groups), y.dtype)
    np.matmul(seen, kernel.reshape(-1, groups, filters // groups).transpose(1, 0, 2), out=product)
    y.reshape(places, groups, -1)[...] = product.transpose(1, 0, 2)


def columns_of(seen: np.ndarray, rank: int, groups: int) -> np.ndarray:
    """What windows see, as a matrix for each group: (groups, places, cells * channels)."""
    sizes, c = seen.shape[:-1], seen.shape[-1]
    shape = (groups, math.prod(sizes[: rank + 1]), math.prod(sizes[rank + 1 :]) * c // groups)
    if groups == 1 and seen.flags.c_contiguous:
        return seen.reshape(shape)
    if groups == 1 and c <= FEW:
        # Along the places there is more to copy at once than along the channels; BLAS takes a matrix either way.
        copy = scratch("columns", (*sizes[rank + 1 :], c, *sizes[: rank + 1]), seen.dtype)
        np.copyto(copy, seen.transpose(*range(rank + 1, seen.ndim), *range(rank + 1)))
        return copy.reshape(1, shape[2], shape[1]).swapaxes(1, 2)
    copy = scratch("columns", (groups, *sizes, c // groups), seen.dtype)
    apart = seen.reshape(*sizes, groups, c // groups)
    np.copyto(copy, apart.transpose(len(sizes), *range(len(sizes)), len(sizes) + 1))
    return copy.reshape(shape)


def saves_copies(kernel: tuple[int, ...], axes: tuple[Axis, ...]) -> bool:
    """Whether it is better to copy only the cells of one row of the window side by side, and add up its rows."""
    share, filters = kernel[-2:]
    if share <= FEW or kernel[0] == 1 or axes[0].stride > 1:
        return False
    return math.prod(kernel[1:-1]) >= 2 * filters and math.prod([axis.places for axis in axes]) >= PLACES


def by_rows(x, kernel, axes, groups, y) -> None:
    """The cells of each row of the window side by side; a product for each row, which all read the same copy.

    A row is all that has the same index along the first axis.
    """
    filters = kernel.shape[-1]
    lines = lines_of(x, axes, kernel.shape[:-2])
    product = scratch("product", (y.size // (len(y) * filters), filters), y.dtype)
    for line, image in zip(lines, y, strict=True):
        total = image.reshape(product.shape)
        for row, weights in enumerate(kernel):
            seen = line_seen(line, axes[0], row)
            np.dot(seen, weights.reshape(-1, filters), out=product if row else total)
            if row:
                total += product


def lines_of(x: np.ndarray, axes: tuple[Axis, ...], window: tuple[int, ...]) -> np.ndarray:
    """What one row of the window sees from every row of the image: (n, rows, *other places, *cells, c)."""
    rows = axes[0]
    seen = windows(x, (Axis(rows.start, rows.span(window[0])), *axes[1:]), (1, *window[1:]))
    lines = scratch("columns", seen.shape, seen.dtype)
    np.copyto(lines, seen)
    return lines


def line_seen(line: np.ndarray, rows: Axis, row: int) -> np.ndarray:
    """From an image's ``lines_of``, what a row of the window sees at all places, as a matrix; a view."""
    begin = row * rows.dilation
    seen = line[begin : begin + rows.places]
    # Of an axis without a stride, the places lie side by side.
    return seen.reshape(math.prod(seen.shape[: line.ndim // 2]), -1)


# Gradients


def kernel_gradient(
    x: np.ndarray, dy: np.ndarray, window: tuple[int, ...], axes: tuple[Axis, ...], groups: int
) -> np.ndarray:
    """The gradient of the kernel: what each cell saw, times the gradient of what it went into."""
    c, cells = x.shape[-1], math.prod(window)
    shape = (*window, c // groups, dy.shape[-1])
    if dy.size == 0:
        return np.zeros(shape, x.dtype)
    lined = groups == 1 and saves_copies(shape, axes)
    product = gradient_by_rows if lined else gradient_by_windows
    jobs = tiles(len(x), axes, cells // window[0] * c if lined else cells * c, lined and len(axes) > 2)

    def run(start: int, stop: int) -> np.ndarray:
        total = np.zeros(shape, x.dtype)
        for index, parts in jobs[start:stop]:
            product(x[index[0]], dy[index], parts, groups, total)
        return total

    work = dy.size * (cells * c / groups / MULTIPLICATIONS + 1)
    # Each share has a sum of its own, so of large kernels there are few.
    return sum(shares(run, len(jobs), work, parts=2 if math.prod(shape) < CACHED else 1))


def gradient_by_rows(x, dy, axes, groups, total) -> None:
    """As ``by_rows``."""
    filters = total.shape[-1]
    lines = lines_of(x, axes, total.shape[:-2])
    product = scratch("product", (total[0].size // filters, filters), dy.dtype)
    for line, gradient in zip(lines, dy.reshape(len(dy), -1, filters), strict=True):
        for row, share in enumerate(total):
            np.dot(line_seen(line, axes[0], row).T, gradient, out=product)
            share += product.reshape(share.shape)


def gradient_by_windows(x, dy, axes, groups, total) -> None:
    """As ``by_windows``."""
    filters = total.shape[-1]
    seen = columns_of(windows(x, axes, total.shape[:-2]), len(axes), groups)
    dy = dy.reshape(-1, groups, filters // groups)
    if groups == 1:
        product = scratch("product", (total.size // filters, filters), dy.dtype)
        total += np.dot(seen[0].T, dy[:, 0], out=product).reshape(total.shape)
        return
    product = np.matmul(seen.transpose(0, 2, 1), dy.transpose(1, 0, 2))
    total += product.transpose(1, 0, 2).reshape(total.shape)


def input_gradient(
    shape: tuple[int, ...],
    dy: np.ndarray,
    kernel: np.ndarray,
    axes: tuple[Axis, ...],
    groups: int,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """The gradient of the input: for each class of indices that the same cells see, a convolution of its own.

    bias: is added everywhere, for transposed convolutions.
    """
    share, filters = kernel.shape[-2:]
    rank = len(axes)
    dx = blank(shape, dy.dtype, kernel.shape, axes)
    if bias is not None and not covers(kernel.shape, axes):
        dx += bias
    for indices, cells, looking in residues(axes, kernel.shape[:rank], shape[1:-1]):
        part = turned(kernel[cells], rank)
        part = part.reshape(*part.shape[:-1], groups, filters // groups)
        part = part.transpose(*range(rank), rank + 2, rank + 1, rank)
        part = np.ascontiguousarray(part).reshape(*part.shape[:-2], groups * share)
        correlate(dy, part, looking, groups, bias, dx[(slice(None), *indices)])
    return dx


class Residue(NamedTuple):
    """A class of indices that the same cells of the window see, and where these look, turned round."""

    indices: tuple[slice, ...]
    cells: tuple[slice, ...]
    looking: tuple[Axis, ...]


def turned(kernel: np.ndarray, rank: int) -> np.ndarray:
    """A kernel with the order of its cells reversed along each axis of the window."""
    return kernel[(slice(None, None, -1),) * rank]


def covers(window: tuple[int, ...], axes: tuple[Axis, ...]) -> bool:
    """Whether every index lies in some window, as far as strides are concerned."""
    return all(axis.stride <= cells for axis, cells in zip(axes, window, strict=False))


def blank(shape: tuple[int, ...], dtype: Any, window: tuple[int, ...], axes: tuple[Axis, ...]) -> np.ndarray:
    """An array for the gradient of an input: zeros where no cell sees anything."""
    return (empty if covers(window, axes) else zeros)(shape, dtype)


@lru_cache(maxsize=1024)
def residues(axes: tuple[Axis, ...], window: tuple[int, ...], space: tuple[int, ...]) -> list[Residue]:
    """All the classes of the indices of a space."""
    along = [list(residues_along(*each)) for each in zip(axes, window, space, strict=True)]
    return [Residue(*zip(*choice, strict=True)) for choice in itertools.product(*along)]


def residues_along(axis: Axis, cells: int, size: int) -> Iterator[tuple[slice, slice, Axis]]:
    """``residues`` along one axis.

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


def conv(layer, x, kernel, bias):
    x = channels_last(layer, x)
    axes = axes_of(layer, x)
    y = empty((len(x), *[axis.places for axis in axes], layer.filters), x.dtype)
    correlate(x, kernel, axes, layer.groups, bias, y)
    return declared(layer, y)


def conv_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    x, dy = channels_last(layer, x), np.ascontiguousarray(channels_last(layer, cotangents[0]))
    axes = axes_of(layer, x)
    return OnDemand(
        lambda: declared(layer, input_gradient(x.shape, dy, kernel, axes, layer.groups)),
        lambda: kernel_gradient(x, dy, layer.window, axes, layer.groups),
        absent if bias is None else lambda: column_sums(dy.reshape(-1, dy.shape[-1])),
    )


for name in ("Conv1D", "Conv2D", "Conv3D"):
    kernels.register(name)(conv).vjp(conv_vjp)


def image_axes(layer, x: np.ndarray) -> tuple[tuple[int, ...], tuple[Axis, ...]]:
    """For a transposed convolution: the sizes of its output, and how the convolution slides over that."""
    space = x.shape[1:-1]
    axes = tuple(map(Axis, (-cut for cut in layer.cut), space, layer.strides, layer.dilation_rate))
    return layer.lookup("places", {"space": space}), axes


def conv_transpose(layer, x, kernel, bias):
    x = np.ascontiguousarray(channels_last(layer, x))
    places, axes = image_axes(layer, x)
    return declared(layer, input_gradient((len(x), *places, layer.filters), x, kernel, axes, 1, bias))


def conv_transpose_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    x, dy = (np.ascontiguousarray(channels_last(layer, array)) for array in (x, cotangents[0]))
    _, axes = image_axes(layer, x)

    def of_input() -> np.ndarray:
        dx = empty(x.shape, x.dtype)
        correlate(dy, kernel, axes, 1, None, dx)
        return declared(layer, dx)

    return OnDemand(
        of_input,
        lambda: kernel_gradient(dy, x, layer.kernel_size, axes, 1),
        absent if bias is None else lambda: column_sums(dy.reshape(-1, dy.shape[-1])),
    )


for name in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"):
    kernels.register(name)(conv_transpose).vjp(conv_transpose_vjp)


def strides_or_dilates(layer) -> bool:
    """Not both along one axis: the gradient of that is left to the definition."""
    return all(1 in steps for steps in zip(layer.strides, layer.dilation_rate, strict=True))


def depthwise_conv(layer, x, kernel, bias):
    x = channels_last(layer, x)
    axes = axes_of(layer, x)
    flat = flat_kernel(kernel)
    y = empty((len(x), *[axis.places for axis in axes], flat.shape[-1]), x.dtype)
    correlate_channels(repeated(layer, x), flat, axes, bias, y)
    return declared(layer, y)


def depthwise_conv_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    x, dy = channels_last(layer, x), np.ascontiguousarray(channels_last(layer, cotangents[0]))
    axes = axes_of(layer, x)

    def of_input() -> np.ndarray:
        dx = channels_input_gradient(x.shape, dy, flat_kernel(kernel), axes)
        if layer.depth_multiplier > 1:
            dx = dx.reshape(*x.shape, layer.depth_multiplier).sum(axis=-1)
        return declared(layer, dx)

    return OnDemand(
        of_input,
        lambda: channels_kernel_gradient(repeated(layer, x), dy, layer.window, axes).reshape(kernel.shape),
        absent if bias is None else lambda: column_sums(dy.reshape(-1, dy.shape[-1])),
    )


for name in ("DepthwiseConv1D", "DepthwiseConv2D"):
    kernels.register(name, when=strides_or_dilates)(depthwise_conv).vjp(depthwise_conv_vjp)


def repeated(layer, x: np.ndarray) -> np.ndarray:
    """Each channel as often as it has outputs."""
    return x if layer.depth_multiplier == 1 else np.repeat(x, layer.depth_multiplier, axis=-1)


def flat_kernel(kernel: np.ndarray) -> np.ndarray:
    """The kernel for channels that were ``repeated``."""
    return kernel.reshape(*kernel.shape[:-2], -1)


# Each channel by itself. Products are added up in one pass by einsum, whose inner loop goes along the channels; without
# a stride it goes along all channels of a row, for which the kernel is written out. A row is what has the same index
# along all axes but the last.

PRODUCTS = {
    (1, True): ("nix,ix->nx", "nix,nx->ix"),
    (2, True): ("npijx,ijx->npx", "npijx,npx->ijx"),
    (1, False): ("npic,ic->npc", "npic,npc->ic"),
    (2, False): ("npqijc,ijc->npqc", "npqijc,npqc->ijc"),
}
"""For einsum, by the number of axes and whether rows are whole: the sum over each window, and the kernel's gradient."""


def correlate_channels(x, kernel, axes, bias, out) -> None:
    """The sum over each window of x, weighted by its channel's kernel, (*window, c), into (n, *places, c)."""
    if out.size == 0:
        return
    window, c = kernel.shape[:-1], kernel.shape[-1]
    jobs = tiles(len(x), axes, 2 * c)
    along = axes[-1].stride == 1 and out.flags.c_contiguous
    products, _ = PRODUCTS[len(axes), along]
    if along:
        kernel = np.tile(kernel, longest_row(jobs))

    def run(start: int, stop: int) -> None:
        for index, parts in jobs[start:stop]:
            seen = windows(x[index[0]], parts, window)
            y = out[index]
            if along:
                row = parts[-1].places * c
                np.einsum(products, whole_rows(seen), kernel[..., :row], out=y.reshape(*y.shape[:-2], row))
            else:
                np.einsum(products, seen, kernel, out=y)
            if bias is not None:
                y += bias

    shares(run, len(jobs), out.size * math.prod(window))


def longest_row(jobs: Sequence[Tile]) -> int:
    """The number of places along the last axis that the largest tile has: the first is as large as any."""
    return jobs[0][1][-1].places


def whole_rows(seen: np.ndarray) -> np.ndarray:
    """What windows see, with the last places and the channels as one axis, the last; a view."""
    seen = seen.transpose((0, 2, 1, 3) if seen.ndim == 4 else (0, 1, 3, 4, 2, 5))
    return seen.reshape(*seen.shape[:-2], -1)


def channels_kernel_gradient(x, dy, window, axes) -> np.ndarray:
    """The gradient of the kernel of ``correlate_channels``."""
    c = x.shape[-1]
    if dy.size == 0:
        return np.zeros((*window, c), x.dtype)
    jobs = tiles(len(x), axes, 2 * c)
    along = axes[-1].stride == 1
    _, products = PRODUCTS[len(axes), along]
    length = longest_row(jobs) * c if along else c

    def run(start: int, stop: int) -> np.ndarray:
        total = np.zeros((*window, length), x.dtype)
        for index, parts in jobs[start:stop]:
            seen = windows(x[index[0]], parts, window)
            gradient = dy[index]
            if along:
                gradient = gradient.reshape(*gradient.shape[:-2], -1)
                seen = whole_rows(seen)
            product = scratch("product", (*window, gradient.shape[-1]), x.dtype)
            total[..., : gradient.shape[-1]] += np.einsum(products, seen, gradient, out=product)
        return total

    total = sum(shares(run, len(jobs), dy.size * math.prod(window)))
    return total.reshape(*window, -1, c).sum(axis=-2)


def channels_input_gradient(shape, dy, kernel, axes) -> np.ndarray:
    """The gradient of the input of ``correlate_channels``, channels still repeated."""
    dx = blank((*shape[:-1], kernel.shape[-1]), dy.dtype, kernel.shape, axes)
    for indices, cells, looking in residues(axes, kernel.shape[:-1], shape[1:-1]):
        correlate_channels(dy, turned(kernel[cells], len(axes)), looking, None, dx[(slice(None), *indices)])
    return dx
