"""Activations that are layers."""

from __future__ import annotations

from layerhub.kernels import KernelSet
from layerhub.spec.activations import softmax as plain_softmax
from layerhub_onnxruntime.arrays import elementwise
from layerhub_onnxruntime.kernels.activations import softmax as along_axis

kernels = KernelSet()


@kernels.register("Softmax", when=lambda layer, call: isinstance(layer.axis, int) and not call.masked)
def softmax(layer, x, mask):
    return along_axis(plain_softmax(layer.axis), x)


@kernels.register("PReLU", when=lambda layer, call: call.dtype in ("float32", "float64"))
def prelu(layer, x, alpha):
    return elementwise("PRelu", x, alpha)
