"""Attention by products of matrices, a few heads at a time, so that their weights stay in the cache."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from layerhub.kernels import KernelSet
from layerhub.namespace import Namespace
from layerhub_numpy.arrays import random_bits
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.kernels.activations import softmax_rows
from layerhub_numpy.memory import empty
from layerhub_numpy.tiles import CACHED, column_sums, product, row_sums, scratch, shares, spans

kernels = KernelSet()

XP = Namespace(np)
LOWEST = -(2.0**100)


# Projections


def matrices(layer, x: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The input and the kernel as matrices."""
    rows, summed = math.prod(x.shape[: x.ndim - layer.contracted]), math.prod(kernel.shape[: layer.contracted])
    return x.reshape(rows, summed), kernel.reshape(summed, math.prod(layer.output_dims))


@kernels.register("Projection")
def projection(layer, x, kernel, bias):
    y = product(*matrices(layer, x, kernel))
    if bias is not None:
        y += bias.reshape(-1)
    return y.reshape(*x.shape[: x.ndim - layer.contracted], *layer.output_dims)


@projection.vjp
def projection_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    rows, matrix = matrices(layer, x, kernel)
    dy = cotangents[0].reshape(len(rows), matrix.shape[1])
    return OnDemand(
        lambda: product(dy, matrix.T).reshape(x.shape),
        lambda: product(rows.T, dy).reshape(kernel.shape),
        absent if bias is None else lambda: column_sums(dy).reshape(bias.shape),
    )


# Attention of many matrices: q (b, rows, d), k (b, keys, d), v (b, keys, dv)


class Weighed(NamedTuple):
    """What the gradient of attention needs. kept: which weights dropout kept, None for all; rate: the share dropped."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    weights: np.ndarray
    kept: np.ndarray | None
    rate: float


def by_matrices(function, shape: tuple[int, ...], passes: int) -> None:
    """function(start, stop) over all matrices of such a shape, a few at a time."""
    count, size = shape[0], max(math.prod(shape[1:]), 1)

    def share(start: int, stop: int) -> None:
        for begin, end in spans(start, stop, CACHED // size):
            function(begin, end)

    shares(share, count, passes * count * size)


def thin(weights: np.ndarray, kept: np.ndarray, rate: float, out: np.ndarray) -> np.ndarray:
    """The weights that are kept, over 1 - rate; 0 for the others."""
    np.divide(weights, 1 - rate, out=out)
    np.copyto(out, 0, where=~kept)
    return out


def weigh(q, k, v, counts, kept, rate) -> tuple[np.ndarray, Weighed]:
    """(softmax(q @ k^T) @ v, what the gradient needs). counts: which scores count, for one matrix or for each."""
    weights = empty((len(q), q.shape[1], k.shape[1]), q.dtype)
    y = empty((len(q), q.shape[1], v.shape[2]), q.dtype)
    hidden = None if counts is None else ~counts

    def some(start: int, stop: int) -> None:
        w = np.matmul(q[start:stop], k[start:stop].swapaxes(1, 2), out=weights[start:stop])
        out_of = hidden if hidden is None or hidden.ndim == 2 else hidden[start:stop]
        if out_of is not None:
            np.copyto(w, LOWEST, where=out_of)
        rows = w.reshape(-1, w.shape[2])
        softmax_rows(rows, rows)
        if out_of is not None:
            # The others are 0 already, but for queries that nothing is left for.
            np.copyto(w, 0, where=out_of.all(axis=-1, keepdims=True))
        if kept is not None:
            w = thin(w, kept[start:stop], rate, scratch("thinned", w.shape, w.dtype))
        np.matmul(w, v[start:stop], out=y[start:stop])

    by_matrices(some, weights.shape, 16)
    return y, Weighed(q, k, v, weights, kept, rate)


def weigh_vjp(saved: Weighed, dy, of_weights, of_kept) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of q, k and v. of_weights, of_kept: cotangents of the weights before and after dropout, or None."""
    q, k, v, weights, kept, rate = saved
    dq, dk, dv = (empty(x.shape, x.dtype) for x in (q, k, v))

    def some(start: int, stop: int) -> None:
        w, g = weights[start:stop], dy[start:stop]
        used = w if kept is None else thin(w, kept[start:stop], rate, scratch("thinned", w.shape, w.dtype))
        np.matmul(used.swapaxes(1, 2), g, out=dv[start:stop])
        slope = np.matmul(g, v[start:stop].swapaxes(1, 2), out=scratch("slope", w.shape, w.dtype))
        if of_kept is not None:
            slope += of_kept[start:stop]
        if kept is not None:
            thin(slope, kept[start:stop], rate, slope)
        if of_weights is not None:
            slope += of_weights[start:stop]
        inner = np.multiply(slope, w, out=scratch("inner", w.shape, w.dtype))
        slope -= row_sums(inner.reshape(-1, w.shape[2])).reshape(*w.shape[:2], 1)
        slope *= w
        np.matmul(slope, k[start:stop], out=dq[start:stop])
        np.matmul(slope.swapaxes(1, 2), q[start:stop], out=dk[start:stop])

    by_matrices(some, weights.shape, 16)
    return dq, dk, dv


# Heads


class Laid(NamedTuple):
    """How heads lie as matrices: the order of axes, and the shapes in that order of query, key, value and scores.

    groups: how many heads keys have. matrices: (count, rows, keys).
    """

    order: tuple[int, ...]
    query: tuple[int, ...]
    key: tuple[int, ...]
    value: tuple[int, ...]
    scores: tuple[int, ...]
    matrices: tuple[int, int, int]

    @classmethod
    def of(cls, layer, query, key, value) -> Laid:
        order = layer.order(query.ndim)
        shapes = [tuple(x.shape[axis] for axis in order) for x in (query, key, value)]
        count = len(layer.along(query.ndim - 2))
        (*others, heads), queries = shapes[0][: -1 - count], shapes[0][-1 - count : -1]
        keys, groups = shapes[1][-1 - count : -1], shapes[1][-2 - count]
        # The queries of all heads that share a key are rows of one matrix.
        sizes = math.prod(others) * groups, heads // groups * math.prod(queries), math.prod(keys)
        return cls(order, *shapes, (*others, heads, *queries, *keys), sizes)

    def matrix(self, x: np.ndarray, rows: int) -> np.ndarray:
        """An input as matrices with so many rows."""
        return np.ascontiguousarray(x.transpose(self.order)).reshape(self.matrices[0], rows, x.shape[-1])

    def back(self, y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Matrices as an array of this shape in the order, its axes put back."""
        return y.reshape(*shape[:-1], y.shape[-1]).transpose(tuple(map(self.order.index, range(len(shape)))))


def laid_counts(laid: Laid, counts: np.ndarray | None) -> np.ndarray | None:
    """Which scores count, as matrices; one for all where all are alike."""
    count, rows, keys = laid.matrices
    if counts is None or (counts.ndim == 2 and counts.shape == (rows, keys)):
        return counts
    return np.broadcast_to(counts, laid.scores).reshape(count, rows, keys)


def kept_weights(layer, shape: tuple[int, ...], training: bool, rng) -> np.ndarray | None:
    """Which weights dropout keeps; None for all."""
    if not training or layer.dropout == 0:
        return None
    return random_bits(rng, shape) >= round(layer.dropout * 2**32)


def thins(layer, call) -> bool:
    """Whether something is left when dropout is done: the definition says what else."""
    return not call.training or layer.dropout < 1


def attended(layer, query, value, key, attention_mask, training, mask, rng):
    """(result, what the gradient needs)"""
    laid = Laid.of(layer, query, key, value)
    _, rows, keys = laid.matrices
    q = laid.matrix(query, rows) * query.dtype.type(1 / math.sqrt(query.shape[-1]))
    k, v = laid.matrix(key, keys), laid.matrix(value, keys)
    kept = kept_weights(layer, laid.scores, training, rng)
    kept = None if kept is None else kept.reshape(laid.matrices)
    counts = laid_counts(laid, layer.counts(XP, query, key, attention_mask, mask))
    y, saved = weigh(q, k, v, counts, kept, layer.dropout)
    y = laid.back(y, laid.query)
    return ((y, saved.weights.reshape(laid.scores)) if layer.return_attention_scores else y), (laid, saved)


@kernels.register("DotProductAttention", when=thins)
def dot_product_attention(layer, query, value, key, attention_mask, training, mask, rng):
    return attended(layer, query, value, key, attention_mask, training, mask, rng)[0]


dot_product_attention.saving(attended)


@dot_product_attention.vjp
def dot_product_attention_vjp(layer, saved, cotangents):
    laid, weighed = saved
    dy = laid.matrix(cotangents[0], laid.matrices[1])
    of_weights = cotangents[1].reshape(laid.matrices) if layer.return_attention_scores else None
    dq, dk, dv = weigh_vjp(weighed, dy, of_weights, None)
    dq *= dq.dtype.type(1 / math.sqrt(dq.shape[-1]))
    gradients = laid.back(dq, laid.query), laid.back(dv, laid.value), laid.back(dk, laid.key)
    return *gradients, None, None, None, None


# Sequences


def by_products(layer, call) -> bool:
    """Scores that are products and nothing else."""
    return thins(layer, call) and not layer.use_scale and not layer.concatenates


def sequences_attended(layer, query, value, key, scale, concat_score_weight, training, mask, rng):
    """(result, what the gradient needs)"""
    of_query, of_value = (None, None) if mask is None else mask[:2]
    counts = None if of_value is None else np.broadcast_to(of_value[:, None, :], (*query.shape[:2], value.shape[1]))
    if layer.use_causal_mask:
        earlier = np.tri(query.shape[1], value.shape[1], dtype=bool)
        counts = earlier if counts is None else counts & earlier
    kept = kept_weights(layer, (*query.shape[:2], value.shape[1]), training, rng)
    y, saved = weigh(query, key, value, counts, kept, layer.dropout)
    if of_query is not None:
        y[~of_query] = 0
    if not layer.return_attention_scores:
        return y, (of_query, saved)
    weights = saved.weights if kept is None else thin(saved.weights, kept, layer.dropout, np.empty_like(saved.weights))
    return (y, weights), (of_query, saved)


@kernels.register("Attention", when=by_products)
def attention(layer, query, value, key, scale, concat_score_weight, training, mask, rng):
    return sequences_attended(layer, query, value, key, scale, concat_score_weight, training, mask, rng)[0]


attention.saving(sequences_attended)


@attention.vjp
def attention_vjp(layer, saved, cotangents):
    of_query, weighed = saved
    dy = cotangents[0] if of_query is None else np.where(of_query[:, :, None], cotangents[0], 0)
    of_kept = cotangents[1] if layer.return_attention_scores else None
    dq, dk, dv = weigh_vjp(weighed, dy, None, of_kept)
    return dq, dv, dk, None, None, None, None, None
