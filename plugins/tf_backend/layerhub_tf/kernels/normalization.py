"""Normalization."""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub.spec.layer import Result
from layerhub_tf import namespace as xp

kernels = KernelSet()


def _fusable(layer, call):
    # The fused operation takes float32, has no weights for its moments, and asks for an epsilon that cuDNN accepts.
    last = layer.axis in (-1, len(call.shapes[0]) - 1)
    return call.dtype == "float32" and last and not call.masked and layer.epsilon >= 1.001e-5


@kernels.register("BatchNormalization", when=_fusable)
def batch_normalization(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    scale = tf.ones_like(moving_mean) if gamma is None else gamma
    offset = tf.zeros_like(moving_mean) if beta is None else beta
    image = x if x.ndim == 4 else tf.reshape(x, (-1, 1, 1, moving_mean.shape[0]))
    none = tf.zeros((0,), x.dtype)
    found = tf.raw_ops.FusedBatchNormV3(
        x=image,
        scale=scale,
        offset=offset,
        mean=none if training else moving_mean,
        variance=none if training else moving_variance,
        epsilon=layer.epsilon,
        is_training=training,
    )
    y = found.y if x.ndim == 4 else tf.reshape(found.y, xp.shape(x))
    if not training:
        return Result(y)
    # It gives the variance of a sample, n / (n - 1) times that of the batch.
    count = tf.cast(tf.size(x, tf.int64) // moving_mean.shape[0], x.dtype)
    variance = found.batch_variance * ((count - 1) / count)
    return Result(
        y,
        {
            "moving_mean": _moved(layer, moving_mean, found.batch_mean),
            "moving_variance": _moved(layer, moving_variance, variance),
        },
    )


def _moved(layer, moving, batch):
    return layer.momentum * moving + (1 - layer.momentum) * tf.stop_gradient(batch)
