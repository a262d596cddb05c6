"""Dense, dropout, embedding."""

from __future__ import annotations

import math

import numpy as np

from layerhub.kernels import KernelSet
from layerhub.stream import Stream
from layerhub_numpy.arrays import random_bits, scatter_add
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.tiles import column_sums, product

kernels = KernelSet()


def as_rows(x: np.ndarray) -> np.ndarray:
    """All axes but the last as one."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@kernels.register("Dense")
def dense(layer, x, kernel, bias):
    # One product of two matrices: numpy's matmul of more axes would make many small ones.
    y = product(as_rows(x), kernel)
    if bias is not None:
        y += bias
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], kernel.shape[1])


@dense.vjp
def dense_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    dy = as_rows(cotangents[0])
    return OnDemand(
        lambda: product(dy, kernel.T).reshape(x.shape),
        lambda: product(as_rows(x).T, dy),
        absent if bias is None else lambda: column_sums(dy),
    )


def drops(layer, call) -> bool:
    """Whether anything is dropped, and anything kept."""
    return call.training and 0 < layer.rate < 1


@kernels.register("Dropout", when=drops)
def dropout(layer, x, training, rng):
    return dropped(layer, x, kept_bits(layer, x, rng))


@dropout.saving
def dropout_saving(layer, x, training, rng):
    kept = kept_bits(layer, x, rng)
    return dropped(layer, x, kept), kept


@dropout.vjp
def dropout_vjp(layer, saved, cotangents):
    return dropped(layer, cotangents[0], saved), None, None


def kept_bits(layer, x: np.ndarray, rng: Stream) -> np.ndarray:
    """All bits set where an element is kept, none where it is dropped; integers as wide as x's elements."""
    shape = x.shape
    if layer.noise_shape:
        shape = tuple(x.shape[k] if size is None else size for k, size in enumerate(layer.noise_shape))
    kept = random_bits(rng, shape) >= round(layer.rate * 2**32)
    bits = kept.astype(f"i{x.itemsize}")
    return np.negative(bits, out=bits)


def dropped(layer, x: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """x / (1 - rate) where it is kept, else 0, whatever x is there; ``np.where`` takes several times as long."""
    y = x / (1 - layer.rate)
    bits = y.view(kept.dtype)
    bits &= kept
    return y


@kernels.register("Embedding", when=lambda layer, call: not (call.training and layer.dropout))
def embedding(layer, x, embeddings, training, rng):
    if x.size:
        # numpy would count negative ids from the end.
        layer.check_input(x)
    return embeddings.take(x, axis=0)


@embedding.vjp
def embedding_vjp(layer, saved, cotangents):
    (x, embeddings, *_), _ = saved
    return None, scatter_add(len(embeddings), x, cotangents[0]), None, None
