"""Pooling by tf.nn, channels last."""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()


def pooled(function, layer, x):
    x = layer.channels_last(xp, x)
    return layer.as_declared(xp, function(x, layer.pool_size, layer.strides, layer.padding.upper()))


def has_3d(layer, call):
    """On CPU tf.nn pools volumes of no other type, or differentiates them inaccurately."""
    return call.dtype == "float32"


def even(layer, call):
    return layer.even(call.shapes[0]) is not None


@kernels.register("MaxPooling1D")
def max_pooling1d(layer, x):
    return pooled(tf.nn.max_pool1d, layer, x)


@kernels.register("MaxPooling2D")
def max_pooling2d(layer, x):
    return pooled(tf.nn.max_pool2d, layer, x)


@kernels.register("AveragePooling1D")
def average_pooling1d(layer, x):
    return pooled(tf.nn.avg_pool1d, layer, x)


@kernels.register("AveragePooling2D")
def average_pooling2d(layer, x):
    return pooled(tf.nn.avg_pool2d, layer, x)


@kernels.register("AveragePooling3D", when=has_3d)
def average_pooling3d(layer, x):
    return pooled(tf.nn.avg_pool3d, layer, x)


@kernels.register("AdaptiveMaxPooling1D", when=even)
def adaptive_max_pooling1d(layer, x):
    return pooled(tf.nn.max_pool1d, layer.even(x.shape), x)


@kernels.register("AdaptiveMaxPooling2D", when=even)
def adaptive_max_pooling2d(layer, x):
    return pooled(tf.nn.max_pool2d, layer.even(x.shape), x)


@kernels.register("AdaptiveAveragePooling1D", when=even)
def adaptive_average_pooling1d(layer, x):
    return pooled(tf.nn.avg_pool1d, layer.even(x.shape), x)


@kernels.register("AdaptiveAveragePooling2D", when=even)
def adaptive_average_pooling2d(layer, x):
    return pooled(tf.nn.avg_pool2d, layer.even(x.shape), x)


@kernels.register("AdaptiveAveragePooling3D", when=lambda layer, call: even(layer, call) and has_3d(layer, call))
def adaptive_average_pooling3d(layer, x):
    return pooled(tf.nn.avg_pool3d, layer.even(x.shape), x)
