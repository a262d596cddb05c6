"""Enlarging of images."""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()


def smooth(layer, call):
    """tf interpolates in float32, whatever the type, and places new cells by multiples of 1 / size, once rounded.

    Its weights of "bicubic" are looked up in a table, and off by 1e-3.
    """
    return layer.interpolation == "bilinear" and call.dtype == "float32" and set(layer.factors) <= {1, 2, 4, 8, 16}


@kernels.register("UpSampling2D", when=smooth)
def up_sampling2d(layer, x):
    x = layer.channels_last(xp, x)
    height, width = (xp.size(x, axis) * factor for axis, factor in zip((1, 2), layer.factors, strict=True))
    return layer.as_declared(xp, tf.image.resize(x, (height, width), "bilinear"))
