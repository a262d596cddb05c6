"""Softmax as a layer, and PReLU."""

from __future__ import annotations

import torch

from layerhub.kernels import KernelSet
from layerhub_torch.kernels import activations

kernels = KernelSet()


@kernels.register("Softmax", when=lambda layer, call: not call.masked and activations.one_axis(layer))
def softmax(layer, x, mask):
    return activations.softmax(layer, x)


def own_axes(layer, ndim):
    """The axes with slopes of their own."""
    return [axis for axis in range(1, ndim) if axis not in (layer.shared_axes or ())]


def one_axis_has_slopes(layer, call):
    """torch has one slope, or one for each channel."""
    shape = call.shapes[0]
    return 0 not in shape and len(shape) > 1 and len(own_axes(layer, len(shape))) <= 1


@kernels.register("PReLU", when=one_axis_has_slopes)
def prelu(layer, x, alpha):
    axis, slopes = (own_axes(layer, x.ndim) or [1])[0], alpha.reshape(-1)
    return torch.prelu(x.movedim(axis, 1), slopes).movedim(1, axis)
