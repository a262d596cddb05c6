"""Pooling. ONNX has channels first."""

from __future__ import annotations

import math

from layerhub.kernels import KernelSet
from layerhub_onnxruntime import namespace as xp
from layerhub_onnxruntime.arrays import elementwise, op
from layerhub_onnxruntime.kernels.convolution import as_declared, borders, channels_first, single

kernels, standard = KernelSet(), KernelSet()


def pooled(layer, x, operator, **attributes):
    x = channels_first(layer, x)
    space = x.shape[2:]
    y = op(
        operator,
        (x,),
        (*x.shape[:2], *layer.lookup("places", {"space": space})),
        kernel_shape=list(layer.pool_size),
        strides=list(layer.strides),
        **borders(layer, space),
        **attributes,
    )
    return as_declared(layer, y)


def max_pooling(layer, x):
    # onnxruntime passes over NaN: windows that see one are found by themselves.
    missing = xp.astype(elementwise("IsNaN", x, dtype=xp.bool), x.dtype)
    return xp.where(pooled(layer, missing, "MaxPool") > 0, math.nan, pooled(layer, x, "MaxPool"))


def whole_max_pooling(layer, x):
    return pooled(layer, x, "MaxPool")


def not_empty(layer, call):
    return 0 not in call.shapes[0]


def average_pooling(layer, x):
    return pooled(layer, x, "AveragePool", count_include_pad=0)


for rank in (1, 2, 3):
    kernels.register(f"MaxPooling{rank}D", when=not_empty)(max_pooling)
    standard.register(f"MaxPooling{rank}D", when=not_empty)(whole_max_pooling)
    kernels.register(f"AveragePooling{rank}D", when=single)(average_pooling)
