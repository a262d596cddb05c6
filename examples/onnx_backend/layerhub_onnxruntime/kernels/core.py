"""Dense and embedding."""

from __future__ import annotations

from layerhub.kernels import KernelSet
from layerhub_onnxruntime import namespace as xp
from layerhub_onnxruntime.arrays import op

kernels = KernelSet()


@kernels.register("Dense", when=lambda layer, call: len(call.shapes[0]) == 2 and 0 not in call.shapes[0])
def dense(layer, x, kernel, bias):
    inputs = (x, kernel) if bias is None else (x, kernel, bias)
    return op("Gemm", inputs, (x.shape[0], layer.units))


@kernels.register("Embedding", when=lambda layer, call: not (call.training and layer.dropout))
def embedding(layer, x, embeddings, training, rng):
    return xp.take(embeddings, x, axis=0)
