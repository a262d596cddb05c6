"""Pooling by tf.nn, channels last."""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()


@kernels.register("MaxPooling2D")
def max_pooling2d(layer, x):
    return _pooled(tf.nn.max_pool2d, layer, x)


@kernels.register("AveragePooling2D")
def average_pooling2d(layer, x):
    return _pooled(tf.nn.avg_pool2d, layer, x)


def _pooled(function, layer, x):
    x = layer.channels_last(xp, x)
    return layer.as_declared(xp, function(x, layer.pool_size, layer.strides, layer.padding.upper()))
