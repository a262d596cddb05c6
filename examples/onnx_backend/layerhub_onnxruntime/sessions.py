"""Models run by onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import onnx
import onnxruntime

from layerhub.errors import BackendError
from layerhub_onnxruntime.arrays import Array, ordered
from layerhub_onnxruntime.lowering import model


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session on the CPU, with as many threads as OMP_NUM_THREADS says, or as onnxruntime thinks fit."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return _session(serialized(proto), int(threads) if threads.isdigit() else 0, empty(proto))


def serialized(proto: onnx.ModelProto) -> bytes:
    """A model as bytes. Raises BackendError where it is too large for a protocol buffer."""
    try:
        return proto.SerializeToString()
    except Exception as problem:  # protobuf's implementations raise different ones
        raise BackendError(
            f"the model cannot be written down: {problem}; an ONNX model holds less than 2 GiB, weights included"
        ) from problem


def empty(proto: onnx.ModelProto) -> bool:
    """Whether an input is declared to have no elements."""
    return any(
        size.HasField("dim_value") and size.dim_value == 0
        for x in proto.graph.input
        for size in x.type.tensor_type.shape.dim
    )


def _session(content: bytes, threads: int, plain: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    if plain:  # MatMulAddFusion would take the size 0 in a shape for "as it was"
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is wrong is raised, too
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's exceptions have no common class of their own
        raise BackendError(f"onnxruntime does not take the model: {problem}") from problem


_repeated = lru_cache(maxsize=64)(_session)
"""Sessions of models that are met again, as those of functions that are called in a loop."""


def run(found: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs of a model."""
    try:
        return found.run(None, feeds)
    except Exception as problem:
        raise BackendError(f"onnxruntime could not run the model: {problem}") from problem


def evaluate(arrays: Sequence[Array]) -> None:
    """Compute the values of arrays, all by one model; its inputs are the arrays that the host gave."""
    wanted = list({id(x): x for x in arrays if x.value is None}.values())
    if not wanted:
        return
    given = {id(x): x for node in ordered(wanted) for x in node.takes if x.value is not None and not x.fixed}
    inputs = {f"input_{k}": x for k, x in enumerate(given.values())}
    proto = model(inputs, {f"output_{k}": x for k, x in enumerate(wanted)})
    # Most such models are small: a pool of threads would cost more than it brings.
    found = run(_repeated(serialized(proto), 1, empty(proto)), {name: x.value for name, x in inputs.items()})
    for x, value in zip(wanted, found, strict=True):
        x.value, x.node = value, None
