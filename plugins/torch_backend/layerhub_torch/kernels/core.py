"""Dense, dropout, embedding."""

from __future__ import annotations

import torch
from torch.nn.functional import embedding as rows_of
from torch.nn.functional import linear

from layerhub.kernels import KernelSet
from layerhub_torch.namespace import random_bits

kernels = KernelSet()


@kernels.register("Dense", memory={"kernel": (1, 0)})
def dense(layer, x, kernel, bias):
    if bias is not None and x.ndim == 2:
        return torch.addmm(bias, x, kernel)
    return linear(x, kernel.mT, bias)


@kernels.register("Dropout", when=lambda layer, call: call.training and 0 < layer.rate < 1)
def dropout(layer, x, training, rng):
    noise = layer.noise_shape or (None,) * x.ndim
    shape = [own if size is None else size for size, own in zip(noise, x.shape, strict=True)]
    dropped = random_bits(rng, shape, x.device) < round(layer.rate * 2**32)
    return (x / (1 - layer.rate)).masked_fill_(dropped, 0.0)


@kernels.register("Embedding", when=lambda layer, call: not (call.training and layer.dropout))
def embedding(layer, x, embeddings, training, rng):
    # torch looks rows up by these two types of ids alone.
    ids = x if x.dtype in (torch.int64, torch.int32) else x.to(torch.int32)
    return rows_of(ids, embeddings)
