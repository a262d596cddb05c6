"""Dense layers and look-ups."""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()


@kernels.register("Dense")
def dense(layer, x, kernel, bias):
    # Rows of one matrix: with more axes tf.matmul would go batch by batch. A bias_add right behind it is fused with it.
    y = tf.matmul(x if x.ndim == 2 else tf.reshape(x, (-1, kernel.shape[0])), kernel)
    y = y if bias is None else tf.nn.bias_add(y, bias)
    return y if x.ndim == 2 else tf.reshape(y, (*xp.shape(x)[:-1], layer.units))


@kernels.register("Embedding", when=lambda layer, call: not (call.training and layer.dropout))
def embedding(layer, x, embeddings, training, rng):
    return tf.gather(embeddings, x)


@kernels.register("Dropout", when=lambda layer: 0 < round(layer.rate * 2**32) < 2**32)
def dropout(layer, x, training, rng):
    if not training:
        return x
    noise = layer.noise_shape or (None,) * x.ndim
    shape = tuple(xp.size(x, axis) if size is None else size for axis, size in enumerate(noise))
    kept = xp.random_words(rng, shape) >= tf.constant(round(layer.rate * 2**32), tf.uint32)
    return tf.where(kept, x / (1 - layer.rate), tf.zeros((), x.dtype))
