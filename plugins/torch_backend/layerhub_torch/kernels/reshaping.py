"""Enlarging of images."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from layerhub.kernels import KernelSet
from layerhub_torch.kernels.pooling import channels_first, declared

kernels = KernelSet()

MEMORY = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Channels last, by the number of axes."""


def enlarged(layer, x, **options):
    if 0 in x.shape:  # which torch refuses
        return x.new_zeros(layer.output_shapes(tuple(x.shape))[0])
    # With many channels torch is ten times as fast where they stand last in memory.
    x = channels_first(layer, x).contiguous(memory_format=MEMORY[x.ndim])
    return declared(layer, interpolate(x, scale_factor=layer.factors, **options))


def exact(layer):
    """torch places new cells by multiples of 1 / size, once rounded. Its bicubic is another one."""
    smooth = layer.interpolation == "bilinear" and set(layer.factors) <= {1, 2, 4, 8, 16}
    return smooth or layer.interpolation == "nearest"


@kernels.register("UpSampling2D", when=exact)
def up_sampling2d(layer, x):
    return enlarged(layer, x, mode=layer.interpolation)


@kernels.register("UpSampling3D")
def up_sampling3d(layer, x):
    return enlarged(layer, x)
