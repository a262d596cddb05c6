"""Normalizations."""

from __future__ import annotations

from layerhub.kernels import KernelSet
from layerhub.spec.halves import as_type, in_single
from layerhub.spec.layer import Result
from layerhub_onnxruntime import namespace as xp
from layerhub_onnxruntime.arrays import op

kernels, standard = KernelSet(), KernelSet()


def by_moving_moments(layer, call):
    """ONNX has channels second, and epsilon in float32."""
    shape = call.shapes[0]
    second = len(shape) > 1 and layer.axis % len(shape) != 0
    return second and not call.training and call.dtype != "float64" and 0 not in shape


@kernels.register("BatchNormalization", when=by_moving_moments)
def batch_normalization(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    # onnxruntime takes x * scale + (beta - mean * scale), which cancels; so the mean is taken away beforehand.
    wide, mean = in_single(xp, x, moving_mean)
    away = wide - xp.reshape(mean, layer.spread(x.ndim))
    y = normalized(layer, away, gamma, beta, xp.zeros_like(mean), moving_variance)
    return Result(as_type(xp, y, x.dtype))


@standard.register("BatchNormalization", when=by_moving_moments)
def whole_batch_normalization(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    """One operator, which joins a convolution before it."""
    (wide,) = in_single(xp, x)
    return Result(as_type(xp, normalized(layer, wide, gamma, beta, moving_mean, moving_variance), x.dtype))


def normalized(layer, x, gamma, beta, mean, variance):
    """By ONNX's operator, which has channels second."""
    gamma, beta, mean, variance = in_single(xp, gamma, beta, mean, variance)
    gamma = xp.ones_like(mean) if gamma is None else gamma
    beta = xp.zeros_like(mean) if beta is None else beta
    axis = layer.axis % x.ndim
    order = [0, axis, *(i for i in range(1, x.ndim) if i != axis)]
    seen = xp.permute_dims(x, order)
    y = op("BatchNormalization", (seen, gamma, beta, mean, variance), seen.shape, epsilon=float(layer.epsilon))
    return xp.permute_dims(y, [order.index(i) for i in range(x.ndim)])


def along_last_axes(layer, call):
    """ONNX normalizes along the last axes, with epsilon in float32."""
    ndim = len(call.shapes[0])
    axes = layer.axes(ndim)
    return call.dtype != "float64" and axes == tuple(range(ndim - len(axes), ndim)) and 0 not in call.shapes[0]


@kernels.register("LayerNormalization", when=along_last_axes)
def layer_normalization(layer, x, gamma, beta):
    axes = layer.axes(x.ndim)
    wide, gamma, beta = in_single(xp, x, gamma, beta)
    gamma = xp.ones(wide.shape[axes[0] :], dtype=wide.dtype) if gamma is None else gamma
    inputs = (wide, gamma) if beta is None else (wide, gamma, beta)
    y = op("LayerNormalization", inputs, x.shape, axis=axes[0], epsilon=float(layer.epsilon))
    return as_type(xp, y, x.dtype)
