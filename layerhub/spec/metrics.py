"""Metrics: figures gathered over many batches, on the device, and read when somebody looks.

shapes()                               the shapes of what is kept, all starting at zero
define(xp, state, y_true, y_pred, w)   what is kept after another batch
result(xp, state)                      the figure
"""

from __future__ import annotations

from typing import Any

from layerhub.spec.axes import Shape
from layerhub.spec.base import Kind, ValueSpec, keyword, snake_case
from layerhub.spec.domains import Function, Rate
from layerhub.spec.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from layerhub.spec.masks import sizes, widened

metrics = Kind("metric")


class Metric(ValueSpec, abstract=True):
    """A figure gathered over batches."""

    kind = metrics
    name: str | None = keyword(default=None, kw_only=True)

    @property
    def label(self) -> str:
        """The name in logs."""
        return self.name or snake_case(type(self).__name__)

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of what is kept."""
        return ((), ())

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        """The state after a batch. weights: of the values, broadcast against them; None counts all as one."""
        values = self.values(xp, y_true, y_pred)
        total, count = state
        if weights is None:
            weights = xp.ones_like(values)
        weights = xp.astype(xp.broadcast_to(widened(xp, weights, values.ndim), sizes(xp, values)), values.dtype)
        return total + xp.sum(values * weights), count + xp.sum(weights)

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        """One value for each sample, whose weighted mean is the figure."""
        raise NotImplementedError

    def result(self, xp: Any, state: tuple) -> Any:
        """The figure; 0 when nothing was counted."""
        total, count = state
        return xp.where(count > 0, total / xp.where(count > 0, count, xp.ones_like(count)), xp.zeros_like(total))

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        """The shape that targets are brought to."""
        return MeanSquaredError().target_shape(y_true, y_pred)


class BinaryAccuracy(Metric):
    """The share of predictions on the right side of ``threshold``."""

    threshold: Rate = 0.5

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        said = xp.astype(y_pred > self.threshold, y_pred.dtype)
        return xp.mean(xp.astype(said == y_true, y_pred.dtype), axis=-1)


class CategoricalAccuracy(Metric):
    """The share of one-hot targets whose class has the largest prediction."""

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return xp.astype(xp.argmax(y_true, axis=-1) == xp.argmax(y_pred, axis=-1), y_pred.dtype)


class SparseCategoricalAccuracy(Metric):
    """The share of integer targets whose class has the largest prediction."""

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        best = xp.argmax(y_pred, axis=-1)
        return xp.astype(xp.astype(y_true, best.dtype) == best, y_pred.dtype)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return SparseCategoricalCrossentropy().target_shape(y_true, y_pred)


class FunctionMetric(Metric):
    """A user's own function (y_true, y_pred) -> values, written with ``layerhub.ops``; their mean is the figure."""

    function: Function

    @property
    def label(self) -> str:
        return self.name or self.function.__name__

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return y_true


class LossMetric(Metric, abstract=True):
    """A loss, watched as a metric."""

    def loss(self) -> Loss:
        """The loss that is watched."""
        raise NotImplementedError

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return self.loss().define(xp, y_true, y_pred)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return self.loss().target_shape(y_true, y_pred)


def _watched(name: str, source: type[Loss], *aliases: str) -> type[LossMetric]:
    """A metric class with the parameters of a loss, named alike."""
    shared = {key: p for key, p in source.parameters.items() if key not in ("reduction", "name")}

    def loss(self: LossMetric) -> Loss:
        return source(**{key: getattr(self, key) for key in shared})

    body = {"__doc__": f"The mean over samples of: {source.__doc__}", "__module__": __name__, "loss": loss}
    made: Any = type(name, (LossMetric,), body | {"aliases": aliases})
    made.parameters = shared | made.parameters
    return made


MeanSquaredErrorMetric = _watched("MeanSquaredError", MeanSquaredError, "mse")
MeanAbsoluteErrorMetric = _watched("MeanAbsoluteError", MeanAbsoluteError, "mae")
BinaryCrossentropyMetric = _watched("BinaryCrossentropy", BinaryCrossentropy)
CategoricalCrossentropyMetric = _watched("CategoricalCrossentropy", CategoricalCrossentropy)
SparseCategoricalCrossentropyMetric = _watched("SparseCategoricalCrossentropy", SparseCategoricalCrossentropy)
