"""Convolutions as products of matrices.

The batch is cut into tiles. What the windows of a tile see is copied side by side, into scratch memory that stays in
the cache, and multiplied with the kernel at once. The gradient of the input is a convolution again, of the output's
gradient with the kernel turned round.

Source: Chellapilla et al., High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.tiles import CACHED, column_sums, scratch, shares, spans
from layerhub_numpy.windows import Axis, axes_of, channels_last, declared, windows

kernels = KernelSet()

COLUMNS = 3 * CACHED
"""How many elements are copied side by side for one tile."""


@kernels.register("Conv2D")
def conv2d(layer, x, kernel, bias):
    x = channels_last(layer, x)
    rows, columns = axes_of(layer, x)
    y = np.empty((len(x), rows.places, columns.places, layer.filters), x.dtype)
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


def tiles(images: tuple[int, int], places: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """(first image, last, first row, last) of tiles that have about COLUMNS elements, ``size`` for each row."""
    height = max(COLUMNS // max(size, 1), 1)
    if height >= places:
        for start, stop in spans(*images, height // max(places, 1)):
            yield start, stop, 0, places
    else:
        for image, (first, last) in itertools.product(range(*images), list(spans(0, places, height))):
            yield image, image + 1, first, last
