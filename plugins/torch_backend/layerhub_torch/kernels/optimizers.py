"""Optimizers, in place and for all weights at once.

torch's fused functions are private: where a version lacks them, the definitions serve.
"""

from __future__ import annotations

import math
from functools import cache

import torch

from layerhub.kernels import KernelSet
from layerhub_torch import namespace

kernels = KernelSet()


@cache
def endless(device):
    """The count of infinitely many steps."""
    return torch.tensor(math.inf, device=device)


def like(weight, gradient):
    """The gradient with its elements in memory as the weight's are: fused functions go through both side by side."""
    if weight.ndim < 2 or gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


@torch.no_grad()
def adam(optimizer, coefficients, weights, gradients, slots):
    if not weights:
        return weights, slots
    rate, corrected = coefficients
    momenta, velocities, *tops = zip(*slots, strict=True)
    decay = optimizer.weight_decay * rate / corrected if optimizer.weight_decay and corrected else 0.0
    # The definition's bias corrections are in its second coefficient, and its epsilon stands beside the uncorrected
    # root. After infinitely many steps torch corrects nothing, and its epsilon stands there too.
    torch._fused_adamw_(
        weights, list(map(like, weights, gradients)), momenta, velocities, tops[0] if tops else (),
        [endless(weights[0].device)] * len(weights), lr=corrected, beta1=optimizer.beta_1, beta2=optimizer.beta_2,
        weight_decay=decay, eps=optimizer.epsilon, amsgrad=bool(tops), maximize=False,
    )  # fmt: skip
    return weights, slots


if hasattr(torch, "_fused_adamw_"):
    for name in ("Adam", "AdamW"):
        kernels.register(name, kind="optimizer", when=lambda adam: max(adam.beta_1, adam.beta_2) < 1)(adam)


@kernels.register("SGD", kind="optimizer")
@torch.no_grad()
def sgd(optimizer, coefficients, weights, gradients, slots):
    (rate,) = coefficients
    for w, g, slot in zip(weights, gradients, slots, strict=True):
        if optimizer.weight_decay:
            w.add_(w, alpha=-optimizer.weight_decay * rate)
        if not slot:
            w.add_(g, alpha=-rate)
            continue
        (velocity,) = slot
        velocity.mul_(optimizer.momentum).add_(g, alpha=-rate)
        if optimizer.nesterov:
            w.add_((velocity * optimizer.momentum).add_(g, alpha=-rate))
        else:
            w.add_(velocity)
    return weights, slots


@kernels.register("RMSprop", kind="optimizer")
@torch.no_grad()
def rmsprop(optimizer, coefficients, weights, gradients, slots):
    (rate,) = coefficients
    for w, g, slot in zip(weights, gradients, slots, strict=True):
        kept = dict(zip(optimizer.slots, slot, strict=True))
        if optimizer.weight_decay:
            w.add_(w, alpha=-optimizer.weight_decay * rate)
        spread = kept["velocity"].mul_(optimizer.rho).addcmul_(g, g, value=1 - optimizer.rho)
        if optimizer.centered:
            mean = kept["average_gradient"].mul_(optimizer.rho).add_(g, alpha=1 - optimizer.rho)
            spread = torch.addcmul(spread, mean, mean, value=-1)
        root = (spread + optimizer.epsilon).sqrt_()
        if optimizer.momentum:
            w.sub_(kept["momentum"].mul_(optimizer.momentum).addcdiv_(g, root, value=rate))
        else:
            w.addcdiv_(g, root, value=-rate)
    return weights, slots


class Each:
    """Arrays of several weights, to be treated alike: what is done to it is done to each, in one call of torch's."""

    __slots__ = ("arrays",)

    def __init__(self, arrays):
        self.arrays = list(arrays)

    def __add__(self, other):
        return Each(torch._foreach_add(self.arrays, plain(other)))

    def __sub__(self, other):
        return Each(torch._foreach_sub(self.arrays, plain(other)))

    def __mul__(self, other):
        return Each(torch._foreach_mul(self.arrays, plain(other)))

    def __truediv__(self, other):
        return Each(torch._foreach_div(self.arrays, plain(other)))

    def __neg__(self):
        return Each(torch._foreach_neg(self.arrays))

    __rmul__ = __mul__


def plain(x):
    """The arrays of an Each, or the number that there is for all of them."""
    return x.arrays if isinstance(x, Each) else x


class EachNamespace:
    """As much of the standard as the updates that are registered below need."""

    @staticmethod
    def sqrt(x):
        return Each(torch._foreach_sqrt(x.arrays))

    @staticmethod
    def abs(x):
        return Each(torch._foreach_abs(x.arrays))

    @staticmethod
    def maximum(x, y):
        return Each(torch._foreach_maximum(x.arrays, y.arrays))

    @staticmethod
    def sign(x):
        return Each(map(namespace.sign, x.arrays))


def each(optimizer, coefficients, weights, gradients, slots):
    if not weights:
        return weights, slots
    kinds = map(Each, zip(*slots, strict=True))
    weight, *kept = optimizer.update(EachNamespace, coefficients, Each(weights), Each(gradients), *kinds)
    return weight.arrays, list(zip(*(kind.arrays for kind in kept), strict=True))


if hasattr(torch, "_foreach_maximum"):
    for name in ("Adagrad", "Adadelta", "Adamax", "Nadam", "Lion", "ScheduleFreeAdamW"):
        kernels.register(name, kind="optimizer")(torch.no_grad()(each))
