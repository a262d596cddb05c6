"""Attention with tf's own softmax, and the projections around it."""

import math

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()


@kernels.register("Projection")
def projection(layer, x, kernel, bias):
    count = layer.contracted
    summed, made = math.prod(kernel.shape[:count]), math.prod(layer.output_dims)
    # Rows of one matrix; a bias_add right behind the product is fused with it.
    y = tf.matmul(tf.reshape(x, (-1, summed)), tf.reshape(kernel, (summed, made)))
    y = y if bias is None else tf.nn.bias_add(y, tf.reshape(bias, (made,)))
    return tf.reshape(y, (*xp.shape(x)[: x.ndim - count], *layer.output_dims))


def along_one_axis(layer, call):
    """Attention along one axis, and no halves: tf rounds its softmax, and what products of halves add up, to the type.

    Of masks along several axes tf.broadcast_to says that it cannot broadcast them yet.
    """
    return len(layer.along(len(call.shapes[0]) - 2)) == 1 and call.dtype in ("float32", "float64")


@kernels.register("DotProductAttention", when=along_one_axis)
def dot_product_attention(layer, query, value, key, attention_mask, training, mask, rng):
    order = layer.order(query.ndim)
    q, k, v = (tf.transpose(x, order) for x in (query, key, value))
    *others, heads, queries, d = xp.shape(q)
    *_, groups, keys, dv = xp.shape(v)
    # The queries of all heads that share a key are rows of one matrix.
    rows = (*others, groups, heads // groups * queries)
    q = tf.reshape(q * tf.constant(1 / math.sqrt(d), q.dtype), (*rows, d))
    scores = tf.reshape(tf.matmul(q, k, transpose_b=True), (*others, heads, queries, keys))
    counts = layer.counts(xp, query, key, attention_mask, mask)
    if counts is None:
        weights = tf.nn.softmax(scores)
    else:
        # What does not count is 0 already, but for queries that nothing is left for.
        weights = tf.nn.softmax(tf.where(counts, scores, scores.dtype.min))
        weights = tf.where(counts, weights, tf.zeros((), scores.dtype))
    kept = layer.thinning.define(xp, weights, training, rng)
    y = tf.reshape(tf.matmul(tf.reshape(kept, (*rows, keys)), v), (*others, heads, queries, dv))
    y = tf.transpose(y, tuple(map(order.index, range(query.ndim))))
    return (y, weights) if layer.return_attention_scores else y
