"""Enlarging of images: cells repeated by one copy, or weighted along each axis by a matrix."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

from layerhub.kernels import KernelSet
from layerhub.spec.reshaping import interpolation
from layerhub_numpy.kernels.pooling import pooled, touching
from layerhub_numpy.memory import empty
from layerhub_numpy.tiles import MULTIPLICATIONS, product, shares
from layerhub_numpy.windows import channels_last, declared

kernels = KernelSet()


def repeated(layer, x):
    x = channels_last(layer, x)
    n, *space, c = x.shape
    apart = (n, *itertools.chain(*zip(space, layer.factors, strict=True)), c)
    y = empty(apart, x.dtype)
    y[...] = x.reshape(n, *itertools.chain(*((size, 1) for size in space)), c)
    return declared(layer, y.reshape(n, *(s * f for s, f in zip(space, layer.factors, strict=True)), c))


def repeated_vjp(layer, saved, cotangents):
    dy = channels_last(layer, cotangents[0])
    return (declared(layer, pooled(touching(dy.shape[1:-1], layer.factors), np.add, 0.0, dy)),)


def nearest(layer) -> bool:
    return layer.interpolation == "nearest"


kernels.register("UpSampling1D")(repeated).vjp(repeated_vjp)
kernels.register("UpSampling2D", when=nearest)(repeated).vjp(repeated_vjp)
kernels.register("UpSampling3D")(repeated).vjp(repeated_vjp)


@kernels.register("UpSampling2D")
def interpolated(layer, x):
    rows, columns = weights(layer, x)
    high, wide = layer.space_axes
    return weighted(rows, weighted(columns, x, wide), high)


@interpolated.vjp
def interpolated_vjp(layer, saved, cotangents):
    (x,), _ = saved
    rows, columns = weights(layer, x)
    high, wide = layer.space_axes
    return (weighted(columns.T, weighted(rows.T, cotangents[0], high), wide),)


def weights(layer, x: np.ndarray) -> list[np.ndarray]:
    """For each axis, a matrix that makes the new cells of the old ones."""
    return [
        _matrix(x.shape[axis], factor, layer.interpolation, x.dtype)
        for axis, factor in zip(layer.space_axes, layer.factors, strict=True)
    ]


@lru_cache(maxsize=64)
def _matrix(size: int, factor: int, name: str, dtype: np.dtype) -> np.ndarray:
    return np.array(interpolation(size, factor, name), dtype)


def weighted(matrix: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    """The product of a matrix and the vectors along an axis."""
    new, old = matrix.shape
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    if not after:
        return product(x.reshape(math.prod(before), old), matrix.T).reshape(*before, new)
    blocks = x.reshape(math.prod(before), old, math.prod(after))
    y = empty((len(blocks), new, blocks.shape[2]), x.dtype)
    work = y.size * old / MULTIPLICATIONS
    shares(lambda start, stop: np.matmul(matrix, blocks[start:stop], out=y[start:stop]), len(blocks), work)
    return y.reshape(*before, new, *after)
