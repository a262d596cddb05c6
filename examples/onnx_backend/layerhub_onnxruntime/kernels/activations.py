"""Activations that ONNX has.

Some are ``standard`` alone, for what onnxruntime makes of them: its Sigmoid is 0 in float32 where x is below -18, its
Elu and Selu lose the digits of exp(x) - 1 near 0, and its Softsign one more than a division does.
"""

from __future__ import annotations

from layerhub.kernels import KernelSet
from layerhub.spec.halves import as_type, in_single
from layerhub_onnxruntime import namespace as xp
from layerhub_onnxruntime.arrays import constant, elementwise, op

kernels, standard = KernelSet(), KernelSet()


@kernels.register("relu", kind="activation", when=lambda a: not (a.negative_slope or a.threshold) and a.max_value != 0)
def relu(activation, x):
    y = elementwise("Relu", x)
    return y if activation.max_value is None else elementwise("Min", y, constant(activation.max_value, x.dtype))


@kernels.register("relu6", kind="activation")
def relu6(activation, x):
    return elementwise("Min", elementwise("Relu", x), constant(6, x.dtype))


# ONNX keeps the slope in float32.
@kernels.register("leaky_relu", kind="activation", when=lambda activation, call: call.dtype == "float32")
def leaky_relu(activation, x):
    return elementwise("LeakyRelu", x, alpha=float(activation.negative_slope))


@kernels.register("sigmoid", kind="activation")
def sigmoid(activation, x):
    # Where exp(-x) overflows, the result is smaller than any normal number.
    return 1 / (1 + xp.exp(-x))


def along_one_axis(activation):
    """ONNX takes no more."""
    return isinstance(activation.axis, int)


@kernels.register("softmax", kind="activation", when=along_one_axis)
def softmax(activation, x):
    (wide,) = in_single(xp, x)
    return as_type(xp, op("Softmax", (wide,), x.shape, axis=activation.axis), x.dtype)


# In float64 it passes over NaN.
@kernels.register("log_softmax", kind="activation", when=lambda a, call: along_one_axis(a) and call.dtype != "float64")
def log_softmax(activation, x):
    (wide,) = in_single(xp, x)
    return as_type(xp, op("LogSoftmax", (wide,), x.shape, axis=activation.axis), x.dtype)


# In float64 those of log(1 + exp(x)) are lost where x is well below 0.
@kernels.register("softplus", kind="activation", when=lambda activation, call: call.dtype == "float32")
def softplus(activation, x):
    return elementwise("Softplus", x)


@kernels.register("mish", kind="activation", when=lambda activation, call: call.dtype == "float32")
def mish(activation, x):
    return elementwise("Mish", x)


@standard.register("sigmoid", kind="activation")
def whole_sigmoid(activation, x):
    return elementwise("Sigmoid", x)


@standard.register("silu", kind="activation")
def silu(activation, x):
    return x * elementwise("Sigmoid", x)


@standard.register("elu", kind="activation")
def elu(activation, x):
    return elementwise("Elu", x, alpha=float(activation.alpha))


@standard.register("selu", kind="activation")
def selu(activation, x):
    return elementwise("Selu", x)


@standard.register("softsign", kind="activation")
def softsign(activation, x):
    return elementwise("Softsign", x)
