"""Enlarging images."""

from __future__ import annotations

from layerhub.kernels import KernelSet
from layerhub_onnxruntime import namespace as xp
from layerhub_onnxruntime.arrays import constant, op
from layerhub_onnxruntime.kernels.convolution import as_declared, channels_first

kernels = KernelSet()


def repeats(layer, call):
    # onnxruntime resizes no float64, and nothing that is empty.
    return layer.interpolation == "nearest" and call.dtype != "float64" and 0 not in call.shapes[0]


@kernels.register("UpSampling2D", when=repeats)
def up_sampling2d(layer, x):
    x = channels_first(layer, x)
    space = [None if n is None else n * factor for n, factor in zip(x.shape[2:], layer.factors, strict=True)]
    scales = constant([1, 1, *layer.factors], xp.float32)
    y = op(
        "Resize",
        (x, None, scales),
        (*x.shape[:2], *space),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return as_declared(layer, y)
