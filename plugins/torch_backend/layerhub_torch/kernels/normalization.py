"""Normalizations."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from layerhub.kernels import KernelSet
from layerhub.spec.layer import Result

kernels = KernelSet()

HALVES = (torch.float16, torch.bfloat16)


def ordinary(layer, call):
    """No mask, samples of some size: torch takes no moments of nothing, and no axes at all for all of them."""
    return not call.masked and len(call.shapes[0]) > 1 and 0 not in call.shapes[0]


@kernels.register("BatchNormalization", when=ordinary)
def batch_normalization(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    if x.dtype in HALVES:
        # torch adds up halves in float32 by itself, but what is taken away from them here must not round either.
        single = [None if a is None else a.float() for a in (x, gamma, beta, moving_mean, moving_variance)]
        found = normalized(layer, *single, training)
        updated = {name: value.to(moving_mean.dtype) for name, value in found.weights.items()}
        return Result(found.outputs.to(x.dtype), updated)
    return normalized(layer, x, gamma, beta, moving_mean, moving_variance, training)


def normalized(layer, x, gamma, beta, moving_mean, moving_variance, training):
    if not training:
        return Result(by_moving_moments(layer, x, gamma, beta, moving_mean, moving_variance))
    channels, axis = moving_mean.shape[0], layer.axis % x.ndim
    last = axis == x.ndim - 1
    # torch has channels second; a row for each pixel is the same to it as channels_last.
    rows = x.reshape(-1, channels) if last else x.movedim(axis, 1)
    mean = torch.zeros_like(moving_mean)
    if not (last and moderate(rows, layer.epsilon)):
        # torch sums plainly, and takes x * scale + (beta - mean * scale): for float32 of mean 1000 and deviation 0.01
        # that is 1 % wrong. What is normalized does not depend on the mean, so take the mean away beforehand.
        mean = rows.detach().mean([i for i in range(rows.ndim) if i != 1])
        rows = rows - mean.reshape([-1 if i == 1 else 1 for i in range(rows.ndim)])
    rest, variance = torch.zeros_like(mean), torch.zeros_like(mean)
    y, _, _ = torch.native_batch_norm(rows, gamma, beta, rest, variance, True, 1.0, layer.epsilon)
    # torch's moving variance has the divisor n - 1.
    count = x.numel() // channels
    variance = variance * ((count - 1) / count) if count > 1 else torch.zeros_like(variance)
    updated = {
        "moving_mean": layer.momentum * moving_mean + (1 - layer.momentum) * (mean + rest),
        "moving_variance": layer.momentum * moving_variance + (1 - layer.momentum) * variance,
    }
    return Result(y.reshape(x.shape) if last else y.movedim(1, axis), updated)


def moderate(rows, epsilon):
    """Whether all channels vary, about means that are not far from zero, so that torch loses no digits worth a pass.

    Judged by every n-th row, on the CPU and for many rows only: elsewhere asking costs more than it saves.
    """
    if not rows.is_cpu or rows.numel() < 1 << 16:
        return False
    some = rows.detach()[:: max(1, rows.shape[0] // 32)]
    mean = some.mean(0)
    away = some - mean
    return bool(torch.all((mean * mean).clamp(min=256 * epsilon) <= 256 * (away * away).mean(0)))


def by_moving_moments(layer, x, gamma, beta, mean, variance):
    # Not torch's own x * scale + (beta - mean * scale), which cancels.
    spread = layer.spread(x.ndim)
    scale = torch.rsqrt(variance + layer.epsilon)
    scale = (scale if gamma is None else scale * gamma).reshape(spread)
    away = x - mean.reshape(spread)
    # Without gradients what was made here may be written over.
    room = None if torch.is_grad_enabled() else away
    if beta is None:
        return torch.mul(away, scale, out=room)
    return torch.addcmul(beta.reshape(spread), away, scale, out=room)


def along_last_axes(layer, call):
    """torch normalizes along the last axes, and nothing it cannot."""
    ndim = len(call.shapes[0])
    axes = layer.axes(ndim)
    return axes == tuple(range(ndim - len(axes), ndim)) and 0 not in call.shapes[0]


@kernels.register("LayerNormalization", when=along_last_axes)
def layer_normalization(layer, x, gamma, beta):
    return F.layer_norm(x, x.shape[x.ndim - len(layer.axes(x.ndim)) :], gamma, beta, layer.epsilon)


@kernels.register("RMSNormalization", when=along_last_axes)
def rms_normalization(layer, x, scale):
    return F.rms_norm(x, scale.shape, scale, layer.epsilon)


@kernels.register("GroupNormalization", when=lambda layer, call: 0 not in call.shapes[0])
def group_normalization(layer, x, gamma, beta):
    if x.dtype in HALVES:
        single = [None if a is None else a.float() for a in (x, gamma, beta)]
        return group_normalization(layer, *single).to(x.dtype)
    at = layer.axis % x.ndim
    seen = x.movedim(at, 1)
    groups, size = layer.group_sizes(x.shape[at])
    # With the channels last in memory torch takes E[x^2] - E[x]^2 for the variance. What is normalized does not depend
    # on the mean, so take the mean away beforehand; then the second term is small.
    with torch.no_grad():
        mean = seen.flatten(2).mean(2) if x.ndim > 2 else seen
        mean = mean.unflatten(1, (groups, size)).mean(2, keepdim=True).expand(-1, -1, size)
    away = seen - mean.reshape(*seen.shape[:2], *[1] * (x.ndim - 2))
    if gamma is None and beta is not None:
        gamma = torch.ones_like(beta)  # torch has no gradient for a bias without a weight
    if away.device.type == "cpu" and gamma is not None and torch.is_grad_enabled():
        # Where only weights are asked for, torch 2.13 ends the process if the channels are last in memory; for a weight
        # g and a bias b: torch.group_norm(torch.randn(4, 6, 5, 3).movedim(-1, 1), 1, g, b).sum().backward()
        away = away.contiguous()
    return torch.group_norm(away, groups, gamma, beta, layer.epsilon).movedim(1, at)
