"""Convolutions. torch wants NCHW and OIHW by shape, and is fastest where both lie in memory as NHWC and OHWI do.

So images with channels last, and kernels that are kept in that order, are only looked at in another way: nothing moves.
"""

from __future__ import annotations

import torch
from torch.nn.functional import conv2d as correlate
from torch.nn.functional import pad

from layerhub.kernels import KernelSet

kernels = KernelSet()


def convolve(layer, x, weight, bias, groups):
    """x: as the layer declares it. weight: (filters, channels / groups, height, width)."""
    last = layer.data_format == "channels_last"
    if last:
        x = x.permute(0, 3, 1, 2)
    (top, bottom), (left, right) = layer.pads(x.shape[2:])
    padding, above, aside = (top, left), 0, 0
    if top != bottom or left != right:
        if groups == x.shape[1] and not torch.is_grad_enabled():
            # A window too many before, cut off, costs depthwise convolutions less than padding does (forward only).
            above, aside = top != bottom, left != right
            padding = (top + above * layer.strides[0], left + aside * layer.strides[1])
        else:
            x, padding = pad(x, (left, right, top, bottom)), 0
    if weight.shape[0] == 1:
        # In float64 torch 2.13 takes a single filter's gradient for not contiguous, by strides that say nothing:
        # conv2d(x, w), x of (2, 2, 8, 8) in channels_last, w = randn(3, 3, 2, 1).permute(3, 2, 0, 1).
        weight = weight.contiguous()
    y = correlate(x, weight, bias, layer.strides, padding, layer.dilation_rate, groups)
    y = y[:, :, above:, aside:] if above or aside else y
    return y.permute(0, 2, 3, 1) if last else y


def channels_last(layer):
    return layer.data_format == "channels_last"


@kernels.register("Conv2D", when=channels_last, memory={"kernel": (3, 0, 1, 2)})
def conv2d(layer, x, kernel, bias):
    return convolve(layer, x, kernel.permute(3, 2, 0, 1), bias, layer.groups)


# Channels that come first have a kernel that lies in memory the way they do.
kernels.register("Conv2D", memory={"kernel": (3, 2, 0, 1)})(conv2d.function)


@kernels.register("DepthwiseConv2D", memory={"kernel": (2, 3, 0, 1)})
def depthwise_conv2d(layer, x, kernel, bias):
    # Output c * multiplier + j is the j-th of channel c: torch's order too, with a group for each channel.
    height, width, channels, multiplier = kernel.shape
    weight = kernel.permute(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    return convolve(layer, x, weight, bias, channels)
