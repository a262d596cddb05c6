"""Losses by fused operations.

Not tf.nn.softmax_cross_entropy_with_logits: its gradient assumes targets that sum to 1, and is wrong for others.
Binary crossentropy of logits is in tf what its definition says already.
"""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub.spec.losses import CLIP

kernels = KernelSet()


def _last(loss, call):
    return loss.axis == -1


@kernels.register("SparseCategoricalCrossentropy", kind="loss", when=_last)
def sparse_categorical_crossentropy(loss, y_true, y_pred):
    counts = loss.counts(None, y_true)
    classes = y_true if counts is None else tf.where(counts, y_true, tf.zeros_like(y_true))
    if loss.from_logits:
        values = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, y_pred)
    else:
        # The logarithm of the wanted class's probability alone.
        wanted = tf.gather(y_pred, classes, batch_dims=classes.ndim)
        values = -tf.math.log(_clipped(wanted / tf.reduce_sum(y_pred, -1)))
    return values if counts is None else tf.where(counts, values, tf.zeros_like(values))


@kernels.register("CategoricalCrossentropy", kind="loss", when=lambda loss, call: loss.from_logits)
def categorical_crossentropy(loss, y_true, y_pred):
    if loss.label_smoothing:
        y_true = y_true * (1 - loss.label_smoothing) + loss.label_smoothing / y_pred.shape[loss.axis]
    return -tf.reduce_sum(y_true * tf.nn.log_softmax(y_pred, loss.axis), loss.axis)


def _clipped(p):
    return tf.clip_by_value(p, CLIP, 1 - CLIP)
