"""Convolutions. torch wants NCHW and OIHW by shape, and is fastest where both lie in memory as NHWC and OHWI do.

So images with channels last, and kernels that are kept in that order, are only looked at in another way: nothing moves.
A sequence is an image of one row, because torch has no such order for sequences.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat

import torch
from torch.nn.functional import conv2d, conv3d, conv_transpose2d, conv_transpose3d, pad

from layerhub.kernels import KernelSet
from layerhub.spec.axes import padding_cells

kernels = KernelSet()

CORRELATE = {1: conv2d, 2: conv2d, 3: conv3d}
TRANSPOSED = {1: conv_transpose2d, 2: conv_transpose2d, 3: conv_transpose3d}
FIRST = {1: (0, 2, 1), 2: (0, 3, 1, 2), 3: (0, 4, 1, 2, 3)}
LAST = {1: (0, 2, 1), 2: (0, 2, 3, 1), 3: (0, 2, 3, 4, 1)}


def channels_last(layer):
    return layer.data_format == "channels_last"


def channels_first(layer):
    return layer.data_format == "channels_first"


def image(layer, x):
    """The input with channels first; of a sequence, one row."""
    if channels_last(layer):
        x = x.permute(FIRST[layer.rank])
    return x.unsqueeze(2) if layer.rank == 1 else x


def declared(layer, y):
    """What ``image`` undoes."""
    if layer.rank == 1:
        y = y.squeeze(2)
    return y.permute(LAST[layer.rank]) if channels_last(layer) else y


def steps(layer, sizes, one=1):
    """A size for each axis of an ``image``."""
    return (one, *sizes) if layer.rank == 1 else sizes


def weights(layer, kernel):
    """(*window, a, b) as (b, a, *window), a view; of a sequence, one row."""
    rank = layer.rank
    kernel = kernel.permute(rank + 1, rank, *range(rank))
    return kernel.unsqueeze(2) if rank == 1 else kernel


@lru_cache(maxsize=1024)
def borders(space, window, strides, padding, dilation):
    """(cells before and after each axis of an ``image``, whether they are alike everywhere)."""
    pads = [padding_cells(*each) for each in zip(space, window, strides, repeat(padding), dilation)]
    pads = pads if len(pads) > 1 else [(0, 0), *pads]
    return pads, all(before == after for before, after in pads)


def convolve(layer, x, weight, bias, groups):
    """x: as the layer declares it. weight: (filters, channels / groups, *window), for an ``image``."""
    x = image(layer, x)
    strides, dilation = steps(layer, layer.strides), steps(layer, layer.dilation_rate)
    pads, alike = borders(x.shape[-layer.rank :], layer.window, layer.strides, layer.padding, layer.dilation_rate)
    padding, cut = [before for before, _ in pads], None
    if not alike:
        if layer.padding == "same" and groups == x.shape[1] and not torch.is_grad_enabled():
            # Here there is one cell more behind than before, if any: a window too many before, cut off, costs depthwise
            # convolutions less than padding does (forward only).
            cut = [int(before != after) for before, after in pads]
            padding = [before + more * s for before, more, s in zip(padding, cut, strides, strict=True)]
        else:
            x, padding = pad(x, [cells for pair in reversed(pads) for cells in pair]), 0
    if weight.shape[0] == 1:
        # In float64 torch 2.13 takes a single filter's gradient for not contiguous, by strides that say nothing:
        # conv2d(x, w), x of (2, 2, 8, 8) in channels_last, w = randn(3, 3, 2, 1).permute(3, 2, 0, 1).
        weight = weight.contiguous()
    y = CORRELATE[layer.rank](x, weight, bias, strides, padding, dilation, groups)
    return declared(layer, y if cut is None else y[(..., *(slice(more, None) for more in cut))])


def conv(layer, x, kernel, bias):
    return convolve(layer, x, weights(layer, kernel), bias, layer.groups)


def conv_transpose(layer, x, kernel, bias):
    x, weight = image(layer, x), weights(layer, kernel)
    if weight.shape[0] == 1:  # as of a single filter in ``convolve``
        weight = weight.contiguous()
    cut = steps(layer, layer.cut, 0)
    # torch cuts as many cells behind as before, and may take some of them back.
    more = [tail - reach + 2 * before for tail, reach, before in zip(layer.tail, layer.reach, layer.cut, strict=True)]
    back = steps(layer, [max(cells, 0) for cells in more], 0)
    y = TRANSPOSED[layer.rank](
        x, weight, bias, steps(layer, layer.strides), cut, back, 1, steps(layer, layer.dilation_rate)
    )
    if min(more) < 0:
        y = y[(..., *(slice(0, min(cells, 0) or None) for cells in steps(layer, more, 0)))]
    return declared(layer, y)


# Channels that come first have a kernel that lies in memory the way they do.
for rank in (1, 2, 3):
    last, first = (rank + 1, *range(rank), rank), (rank + 1, rank, *range(rank))
    for name, function in (f"Conv{rank}D", conv), (f"Conv{rank}DTranspose", conv_transpose):
        kernels.register(name, when=channels_last, memory={"kernel": last})(function)
        kernels.register(name, when=channels_first, memory={"kernel": first})(function)


def depthwise_conv(layer, x, kernel, bias):
    # Output c * multiplier + j is the j-th of channel c: torch's order too, with a group for each channel.
    *window, channels, multiplier = kernel.shape
    rank = layer.rank
    weight = kernel.permute(rank, rank + 1, *range(rank)).reshape(channels * multiplier, 1, *steps(layer, window))
    return convolve(layer, x, weight, bias, channels)


for rank in (1, 2):
    kernels.register(f"DepthwiseConv{rank}D", memory={"kernel": (rank, rank + 1, *range(rank))})(depthwise_conv)
