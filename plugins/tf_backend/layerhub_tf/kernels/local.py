"""Locally connected images: all patches by one operation, whose gradient beats that of stacked slices by half."""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()


def _served(layer, call):
    # Forward alone, slices are as fast. A patch lies cell by cell, as the kernel does where the channels come last.
    known = None not in call.shapes[0][1:] and 0 not in call.shapes[0]
    return call.training and layer.data_format == "channels_last" and known and call.dtype in ("float32", "float64")


@kernels.register("LocallyConnected2D", when=_served)
def locally_connected2d(layer, x, kernel, bias):
    patches = tf.image.extract_patches(x, (1, *layer.kernel_size, 1), (1, *layer.strides, 1), (1, 1, 1, 1), "VALID")
    sites, length, filters = kernel.shape
    rows = tf.transpose(tf.reshape(patches, (-1, sites, length)), (1, 0, 2))
    y = tf.transpose(tf.matmul(rows, kernel), (1, 0, 2))
    y = tf.reshape(y, (xp.size(x, 0), *patches.shape[1:3], filters))
    return y if bias is None else y + bias
