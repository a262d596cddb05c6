"""Convolutions by tf.nn, channels last."""

from functools import cache

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()


@kernels.register("Conv2D")
def conv2d(layer, x, kernel, bias):
    if x.shape[0] == 0:
        return layer.define(xp, x, kernel, bias)  # with oneDNN an empty batch comes back with the input's shape
    x = layer.channels_last(xp, x)
    if layer.groups > 1 and not grouped_gradients(x.dtype):
        parts = zip(tf.split(x, layer.groups, axis=-1), tf.split(kernel, layer.groups, axis=-1), strict=True)
        y = tf.concat([_correlated(layer, part, own) for part, own in parts], axis=-1)
    else:
        y = _correlated(layer, x, kernel)
    return layer.as_declared(xp, y if bias is None else tf.nn.bias_add(y, bias))


def _correlated(layer, x, kernel):
    # tf.nn.conv2d has no gradient for dilations on every CPU; tf.nn.convolution rearranges the input for it.
    return tf.nn.convolution(x, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)


@cache
def grouped_gradients(dtype):
    """Whether tf.nn.conv2d has gradients for groups: on CPU only with oneDNN, and for its types."""
    with tf.init_scope(), tf.device("cpu"), tf.GradientTape() as tape:
        x, kernel = tf.ones((1, 1, 1, 2), dtype), tf.ones((1, 1, 1, 2), dtype)
        tape.watch(x)
        y = tf.nn.conv2d(x, kernel, 1, "VALID")
        try:
            return tape.gradient(y, x) is not None
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False


@kernels.register("DepthwiseConv2D")
def depthwise_conv2d(layer, x, kernel, bias):
    if x.shape[0] == 0:
        return layer.define(xp, x, kernel, bias)
    x = layer.channels_last(xp, x)
    down, across = layer.strides
    # tf wants equal strides, and none with dilation (2.21 gives wrong values, and shapes); so else every window is
    # taken, then every s-th of them.
    dilations = layer.dilation_rate
    if down == across and (down == 1 or max(dilations) == 1):
        y = tf.nn.depthwise_conv2d(x, kernel, (1, down, across, 1), layer.padding.upper(), dilations=dilations)
    else:
        x = layer.padded(xp, x)
        y = tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID", dilations=dilations)
        y = y[:, ::down, ::across]
    return layer.as_declared(xp, y if bias is None else tf.nn.bias_add(y, bias))
