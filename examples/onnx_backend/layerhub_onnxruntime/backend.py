"""onnxruntime as a backend: definitions and kernels write down an ONNX model, and onnxruntime runs it."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerhub.contract import Backend
from layerhub.execution import Program
from layerhub_onnxruntime import namespace
from layerhub_onnxruntime.arrays import Array, cast, given
from layerhub_onnxruntime.executor import OnnxExecutor


class OnnxBackend(Backend):
    """onnxruntime on the CPU, for inference."""

    name = "onnxruntime"
    namespace = namespace
    extras = namespace.EXTRAS
    dtypes = ("float32", "float64", "float16")
    has_gradients = False

    def asarray(self, value: Any, dtype: str | None = None, device: str | None = None) -> Array:
        native = None if dtype is None else self.dtype(dtype)
        if isinstance(value, Array):
            return value if native is None else cast(value, native)
        # A copy: the value is read later, and may be written to before.
        return given(np.array(value, dtype=native))

    def to_numpy(self, x: Any) -> np.ndarray:
        return np.asarray(x)

    def owns(self, x: Any) -> bool:
        return isinstance(x, Array)

    def executor(self, program: Program, device: str | None = None) -> OnnxExecutor:
        return OnnxExecutor(self, program, device)
