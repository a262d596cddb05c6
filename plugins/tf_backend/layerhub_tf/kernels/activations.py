"""Activations by single operations, where tf's mean the same, in gradients too.

Not elu and selu: tf takes their gradients from the outputs, which have lost the digits of exp(x) where x is well below
0. Not softplus: tf's log1p(exp(x)) is an ULP further off than max(x, 0) + log1p(exp(-|x|)).
"""

import tensorflow as tf

from layerhub.kernels import KernelSet

kernels = KernelSet()


@kernels.register("relu", kind="activation", when=lambda a: not (a.negative_slope or a.threshold or a.max_value == 0))
def relu(activation, x):
    if activation.max_value is None:
        return tf.nn.relu(x)
    if activation.max_value == 6:
        return tf.nn.relu6(x)
    limit = tf.constant(activation.max_value, x.dtype)
    return tf.where(x >= limit, limit, tf.nn.relu(x))


@kernels.register("relu6", kind="activation")
def relu6(activation, x):
    return tf.nn.relu6(x)


# tf keeps the slope in float32.
@kernels.register("leaky_relu", kind="activation", when=lambda activation, call: call.dtype == "float32")
def leaky_relu(activation, x):
    return tf.nn.leaky_relu(x, activation.negative_slope)


@kernels.register("sigmoid", kind="activation")
def sigmoid(activation, x):
    return logistic(x)


@tf.custom_gradient
def logistic(x):
    """tf.sigmoid; but tf's own gradient, y * (1 - y), has no digit right where y is close to 1."""
    y = tf.sigmoid(x)
    return y, lambda g: g * y * tf.sigmoid(-x)


@kernels.register("silu", kind="activation")
def silu(activation, x):
    return x * logistic(x)


def one_axis(activation):
    """tf takes no more."""
    return isinstance(activation.axis, int)


@kernels.register("softmax", kind="activation", when=one_axis)
def softmax(activation, x):
    return tf.nn.softmax(x, activation.axis)


@kernels.register("log_softmax", kind="activation", when=one_axis)
def log_softmax(activation, x):
    return tf.nn.log_softmax(x, activation.axis)


@kernels.register("softsign", kind="activation")
def softsign(activation, x):
    return tf.nn.softsign(x)
