"""Softmax as a layer, and PReLU."""

from __future__ import annotations

import numpy as np

from layerhub.autodiff import unbroadcast
from layerhub.kernels import KernelSet
from layerhub_numpy.kernels import activations

kernels = KernelSet()


@kernels.register("Softmax", when=lambda layer, call: not call.masked and activations.one_axis(layer))
def softmax(layer, x, mask):
    return activations.softmax(layer, x)


@softmax.vjp
def softmax_vjp(layer, saved, cotangents):
    return *activations.softmax_vjp(layer, saved, cotangents), None


@kernels.register("PReLU")
def prelu(layer, x, alpha):
    y = np.minimum(x, 0)
    y *= alpha
    y += np.maximum(x, 0)
    return y


@prelu.vjp
def prelu_vjp(layer, saved, cotangents):
    (x, alpha), _ = saved
    dy = cotangents[0]
    lost = np.minimum(x, 0)
    lost *= dy
    return np.where(x > 0, dy, dy * alpha), unbroadcast(np, lost, alpha.shape)
