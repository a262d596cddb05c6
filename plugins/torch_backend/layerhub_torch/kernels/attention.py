"""Attention by torch's fused operator, and the projections around it."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from layerhub.kernels import KernelSet
from layerhub.namespace import Namespace
from layerhub_torch import namespace

kernels = KernelSet()


@kernels.register("Projection")
def projection(layer, x, kernel, bias):
    count = layer.contracted
    rows = x if count == 1 else x.flatten(x.ndim - count)
    matrix = kernel.flatten(count).flatten(0, count - 1)
    y = linear(rows, matrix.mT, None if bias is None else bias.flatten())
    return y.unflatten(-1, layer.output_dims)


def fused(layer, call):
    """Neither weights to show nor weights to drop."""
    return not layer.return_attention_scores and not (call.training and layer.dropout)


@kernels.register("DotProductAttention", when=fused)
def dot_product_attention(layer, query, value, key, attention_mask, training, mask, rng):
    order = layer.order(query.ndim)
    q, k, v = (x.permute(order) for x in (query, key, value))
    count = len(layer.along(query.ndim - 2))
    queries, keys = q.shape[-1 - count : -1], k.shape[-1 - count : -1]
    causal = layer.use_causal_mask and attention_mask is None and mask is None and layer.sliding_window is None
    counts = None if causal else layer.counts(on(query.device), query, key, attention_mask, mask)
    if counts is not None:
        ahead = counts.shape[: -2 * count]
        counts = counts.expand(*ahead, *queries, *keys).reshape(*ahead, math.prod(queries), math.prod(keys))
    q, k, v = (x.flatten(-1 - count, -2) for x in (q, k, v))
    y = scaled_dot_product_attention(q, k, v, counts, is_causal=causal, enable_gqa=q.shape[-3] != k.shape[-3])
    return y.unflatten(-2, queries).permute(tuple(map(order.index, range(query.ndim))))


@kernels.register(
    "Attention", when=lambda layer, call: fused(layer, call) and not layer.use_scale and not layer.concatenates
)
def attention(layer, query, value, key, scale, concat_score_weight, training, mask, rng):
    of_query, of_value = (None, None) if mask is None else mask[:2]
    counts = None if of_value is None else of_value[:, None, :].expand(-1, query.shape[1], -1)
    causal = layer.use_causal_mask and counts is None
    if layer.use_causal_mask and not causal:
        counts = counts.tril()
    y = scaled_dot_product_attention(query, key, value, counts, is_causal=causal, scale=1.0)
    return y if of_query is None else y.masked_fill(~of_query[:, :, None], 0.0)


@cache
def on(device: torch.device) -> Namespace:
    """The namespace whose new arrays are on a device."""
    return Namespace(namespace, **namespace.EXTRAS | namespace.placed(str(device)))
