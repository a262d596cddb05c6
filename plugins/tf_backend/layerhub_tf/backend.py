"""tensorflow as a backend: tensors in and out, variables, gradients, and programs as traced functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from layerhub.contract import Backend
from layerhub.execution import Program
from layerhub_tf import namespace
from layerhub_tf.executor import TensorflowExecutor


class TensorflowBackend(Backend):
    """tensorflow, by ``tf.*`` alone."""

    name = "tensorflow"
    namespace = namespace
    extras = {name: getattr(namespace, name) for name in namespace.EXTRAS}
    dtypes = ("float32", "float64", "bfloat16", "float16")
    reciprocals = True  # in graphs, where it divides by constants

    # Arrays

    def asarray(self, value: Any, dtype: str | None = None, device: str | None = None) -> tf.Tensor:
        native = None if dtype is None else self.dtype(dtype)
        with self.on(device):
            if not isinstance(value, (tf.Tensor, tf.Variable)):
                value = np.asarray(value)
                # Cast on the host, so that fewer bytes travel; what numpy has no type for is cast afterwards.
                if native is not None and dtype in np.sctypeDict:
                    value = value.astype(dtype, copy=False)
            x = tf.convert_to_tensor(value)
            if native is not None and x.dtype != native:
                x = tf.cast(x, native)
            return tf.identity(x) if device is not None and self._elsewhere(x, device) else x

    def to_numpy(self, x: Any) -> np.ndarray:
        if not isinstance(x, (tf.Tensor, tf.Variable)):
            return np.asarray(x)
        # numpy has no bfloat16; float32 holds all its values.
        return (tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x).numpy()

    def owns(self, x: Any) -> bool:
        return isinstance(x, (tf.Tensor, tf.Variable))

    def dtype_name(self, x: Any) -> str:
        return x.dtype.name

    # Devices

    @cached_property
    def gpus(self) -> list[str]:
        """The GPUs, by LayerHub's names."""
        return [f"gpu:{i}" for i in range(len(tf.config.list_logical_devices("GPU")))]

    def devices(self) -> list[str]:
        return ["cpu", *self.gpus]

    def device_of(self, x: Any) -> str:
        found = tf.DeviceSpec.from_string(x.device or "")
        return f"gpu:{found.device_index or 0}" if found.device_type == "GPU" else "cpu"

    def on(self, device: str | None) -> AbstractContextManager:
        """A scope in which tensors are made on a device; where there is only one device, none is needed."""
        return tf.device(device) if device is not None and self.gpus else nullcontext()

    def _elsewhere(self, x: tf.Tensor, device: str) -> bool:
        return bool(self.gpus) and tf.executing_eagerly() and self.device_of(x) != device

    def synchronize(self) -> None:
        if self.gpus:
            tf.test.experimental.sync_devices()

    # Variables

    def variable(
        self,
        value: np.ndarray,
        trainable: bool,
        device: str | None,
        memory: tuple[int, ...] | None,
        dtype: str | None = None,
    ) -> tf.Variable:
        # Out of whatever function is being traced: the variable outlives it.
        with tf.init_scope(), self.on(device):
            # Of what is trained, whoever distributes sees to it that replicas agree. The rest, such as moving averages,
            # each replica moves by its own part of the batch: within tf.distribute, the mean of them is kept.
            merged = tf.VariableAggregation.NONE if trainable else tf.VariableAggregation.MEAN
            return tf.Variable(self.asarray(value, dtype), trainable=trainable, aggregation=merged)

    def read(self, variable: tf.Variable) -> tf.Tensor:
        return variable.value()

    def assign(self, variable: tf.Variable, value: Any) -> None:
        variable.assign(value if value.dtype == variable.dtype else tf.cast(value, variable.dtype))

    # Differentiation

    def value_and_grad(
        self, function: Callable[[list], tuple[Any, Any]], params: Sequence[Any]
    ) -> tuple[Any, Any, list[Any]]:
        params = list(params)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            loss, aux = function(params)
        found = tape.gradient(loss, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return loss, aux, [_dense(g, x) for g, x in zip(found, params, strict=True)]

    # Data

    def stream(self, data: Any) -> Iterable[Any] | None:
        return Batches(data) if isinstance(data, tf.data.Dataset) else None

    # Execution

    def compiled(self, function: Callable[..., Any], draft: bool = False) -> Callable[..., Any]:
        return tf.function(function, autograph=False)

    def executor(self, program: Program, device: str | None = None) -> TensorflowExecutor:
        return TensorflowExecutor(self, program, device)


@dataclass
class Batches:
    """A dataset as batches to go through; it has a length where that is known and finite."""

    dataset: tf.data.Dataset

    def __iter__(self) -> Iterator[Any]:
        return iter(self.dataset)

    def __len__(self) -> int:
        count = int(self.dataset.cardinality())
        if count < 0:
            raise TypeError("the dataset has no length")
        return count


def _dense(gradient: Any, x: tf.Tensor) -> tf.Tensor:
    """A gradient as a tensor. That of looked-up rows comes as one slice for each use: they are summed by row."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, namespace.size(x, 0))
