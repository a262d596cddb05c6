"""Batch normalization."""

from __future__ import annotations

import torch

from layerhub.kernels import KernelSet
from layerhub.spec.layer import Result

kernels = KernelSet()


def unmasked(layer, call):
    # torch refuses to take the moments of nothing.
    return not call.masked and 0 not in call.shapes[0]


@kernels.register("BatchNormalization", when=unmasked)
def batch_normalization(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    if not training:
        return Result(by_moving_moments(layer, x, gamma, beta, moving_mean, moving_variance))
    channels = moving_mean.shape[0]
    axis = layer.axis % x.ndim
    # torch has channels second; one row for each pixel is the same to it as channels_last.
    rows = x.reshape(-1, channels) if axis == x.ndim - 1 else x.movedim(axis, 1)
    # Its sums run in the type of x: 1 % wrong for float32 of mean 1000 and deviation 0.01. Normalizing does not
    # depend on the mean, so take away one sample's beforehand: the differences of what lies close are exact.
    shape = [-1 if i == 1 else 1 for i in range(rows.ndim)]
    origin = rows.detach()[:1].mean([i for i in range(rows.ndim) if i != 1])
    moments = torch.zeros_like(moving_mean), torch.zeros_like(moving_variance)
    y, _, _ = torch.native_batch_norm(rows - origin.reshape(shape), gamma, None, *moments, True, 1.0, layer.epsilon)
    if beta is not None:
        # Given beta, torch would round the sum of it and the mean's share before it adds what may be far smaller.
        y.add_(beta.reshape(shape))
    y = y.reshape(x.shape) if axis == x.ndim - 1 else y.movedim(1, axis)
    count = x.numel() // channels
    # torch gives the moving variance with the divisor n - 1.
    variance = moments[1] * ((count - 1) / count) if count > 1 else torch.zeros_like(moving_variance)
    updated = {
        "moving_mean": torch.lerp(origin + moments[0], moving_mean, layer.momentum),
        "moving_variance": torch.lerp(variance, moving_variance, layer.momentum),
    }
    return Result(y, updated)


def by_moving_moments(layer, x, gamma, beta, mean, variance):
    # Not torch's x * scale + (beta - mean * scale), which cancels where the mean is large; this is as fast.
    spread = layer.spread(x.ndim)
    scale = torch.rsqrt(variance + layer.epsilon)
    scale = (scale if gamma is None else scale * gamma).reshape(spread)
    away = x - mean.reshape(spread)
    # Without gradients what is made here may be written over.
    room = None if torch.is_grad_enabled() else away
    if beta is None:
        return torch.mul(away, scale, out=room)
    return torch.addcmul(beta.reshape(spread), away, scale, out=room)
