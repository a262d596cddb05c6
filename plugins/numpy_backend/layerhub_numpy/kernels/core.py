"""Dense, embedding."""

from __future__ import annotations

import math

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.arrays import scatter_add
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.tiles import column_sums

kernels = KernelSet()


def as_rows(x: np.ndarray) -> np.ndarray:
    """All axes but the last as one."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@kernels.register("Dense")
def dense(layer, x, kernel, bias):
    # One product of two matrices: numpy's matmul of more axes would make many small ones.
    y = as_rows(x).dot(kernel)
    if bias is not None:
        y += bias
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], kernel.shape[1])


@dense.vjp
def dense_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    dy = as_rows(cotangents[0])
    return OnDemand(
        lambda: dy.dot(kernel.T).reshape(x.shape),
        lambda: as_rows(x).T.dot(dy),
        absent if bias is None else lambda: column_sums(dy),
    )


@kernels.register("Embedding")
def embedding(layer, x, embeddings):
    if x.size:
        # numpy would count negative ids from the end.
        layer.check_input(x)
    return embeddings.take(x, axis=0)


@embedding.vjp
def embedding_vjp(layer, saved, cotangents):
    (x, embeddings), _ = saved
    return None, scatter_add(len(embeddings), x, cotangents[0])
