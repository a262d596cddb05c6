"""Losses: how far predictions are from what was wanted, one value for each sample (or step, or pixel).

``define(xp, y_true, y_pred)`` reduces the last axis; the mean over what is left is taken by training, with sample
weights and masks: sum(values * weights) / number of values that count.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from layerhub.errors import DataError
from layerhub.spec.axes import Shape
from layerhub.spec.base import Kind, ValueSpec, keyword
from layerhub.spec.domains import Function, Rate

losses = Kind("loss")

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 before a logarithm is taken."""


class Loss(ValueSpec, abstract=True):
    """A distance between y_true and y_pred.

    reduction: what becomes of the values: their mean (sum_over_batch_size, mean), their sum, or none.
    """

    kind = losses

    reduction: Literal["sum_over_batch_size", "mean", "sum", "none"] = keyword(
        default="sum_over_batch_size", kw_only=True
    )
    name: str | None = keyword(default=None, kw_only=True)

    integer_targets: ClassVar[bool] = False

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        """The values: y_pred's shape without the last axis."""
        raise NotImplementedError

    def counts(self, xp: Any, y_true: Any) -> Any:
        """Which values count, or None for all."""
        return None

    def check_targets(self, y_true: Any, y_pred: Shape) -> None:
        """Raise DataError where host targets (an ndarray) cannot be meant, for predictions of this shape."""

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        """The shape that targets are brought to, so that they stand against the predictions. Raises DataError."""
        if len(y_true) == len(y_pred) - 1 and y_pred[-1] == 1:
            y_true = (*y_true, 1)
        if len(y_true) != len(y_pred) or any(
            None not in (a, b) and a != b for a, b in zip(y_true, y_pred, strict=True)
        ):
            raise DataError(f"{self!r}: targets of shape {y_true} do not fit predictions of shape {y_pred}")
        return y_true


class MeanSquaredError(Loss):
    """mean (y_true - y_pred)**2 over the last axis"""

    aliases = ("mse",)

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        away = y_pred - y_true
        return xp.mean(away * away, axis=-1)


class MeanAbsoluteError(Loss):
    """mean |y_true - y_pred| over the last axis"""

    aliases = ("mae",)

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return xp.mean(xp.abs(y_pred - y_true), axis=-1)


def _clipped(xp: Any, p: Any) -> Any:
    p = xp.where(p <= CLIP, xp.full_like(p, CLIP), p)
    return xp.where(p >= 1 - CLIP, xp.full_like(p, 1 - CLIP), p)


class Crossentropy(Loss, abstract=True):
    """Crossentropy between distributions.

    from_logits: predictions are logits (exact), not probabilities (clipped at 1e-7).
    """

    from_logits: bool = False


class BinaryCrossentropy(Crossentropy):
    """mean -(y log p + (1 - y) log(1 - p)) over the last axis.

    label_smoothing: targets are moved this share of the way to 1/2.
    """

    label_smoothing: Rate = 0.0

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        y = y_true * (1 - self.label_smoothing) + 0.5 * self.label_smoothing if self.label_smoothing else y_true
        if self.from_logits:
            # log(1 + exp(z)) - y z, with the exponential taken of -|z| only.
            decay = xp.exp(xp.where(y_pred >= 0, -y_pred, y_pred))
            values = xp.where(y_pred >= 0, y_pred, xp.zeros_like(y_pred)) - y_pred * y + xp.log1p(decay)
        else:
            p = _clipped(xp, y_pred)
            values = -(xp.log(p) * y + xp.log1p(-p) * (1 - y))
        return xp.mean(values, axis=-1)


class Categorical(Crossentropy, abstract=True):
    """A distribution over classes along ``axis``."""

    def log_probabilities(self, xp: Any, y_pred: Any, axis: int) -> Any:
        """log p of each class, by log-softmax of logits, or of probabilities scaled to sum to 1."""
        if self.from_logits:
            centred = y_pred - xp.stop_gradient(xp.max(y_pred, axis=axis, keepdims=True))
            return centred - xp.log(xp.sum(xp.exp(centred), axis=axis, keepdims=True))
        return xp.log(_clipped(xp, y_pred / xp.sum(y_pred, axis=axis, keepdims=True)))


class CategoricalCrossentropy(Categorical):
    """-sum y log p over the classes; targets are distributions (one-hot rows).

    label_smoothing: targets are moved this share of the way to the uniform distribution.
    """

    label_smoothing: Rate = 0.0
    axis: int = -1

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        y = y_true
        if self.label_smoothing:
            y = y * (1 - self.label_smoothing) + self.label_smoothing / y_pred.shape[self.axis]
        return -xp.sum(self.log_probabilities(xp, y_pred, self.axis) * y, axis=self.axis)


class SparseCategoricalCrossentropy(Categorical):
    """-log p of the class that each integer target names.

    ignore_class: targets of this value do not count.
    """

    ignore_class: int | None = None
    axis: int = -1

    integer_targets = True

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        axis = self.axis % y_pred.ndim
        counts = self.counts(xp, y_true)
        classes = y_true if counts is None else xp.where(counts, y_true, xp.zeros_like(y_true))
        logs = self.log_probabilities(xp, y_pred, axis)
        values = -xp.squeeze(xp.take_along_axis(logs, xp.expand_dims(classes, axis=axis), axis=axis), axis=axis)
        return values if counts is None else xp.where(counts, values, xp.zeros_like(values))

    def counts(self, xp: Any, y_true: Any) -> Any:
        return None if self.ignore_class is None else y_true != self.ignore_class

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        axis = self.axis % len(y_pred)
        wanted = y_pred[:axis] + y_pred[axis + 1 :]
        if len(y_true) == len(wanted) + 1 and y_true[-1] == 1:
            y_true = y_true[:-1]
        if len(y_true) != len(wanted) or any(
            None not in (a, b) and a != b for a, b in zip(y_true, wanted, strict=True)
        ):
            raise DataError(
                f"{self!r}: integer targets of shape {y_true} do not fit predictions of shape {y_pred}; "
                f"{wanted} was expected (for one-hot targets use CategoricalCrossentropy)"
            )
        return y_true

    def check_targets(self, y_true: Any, y_pred: Shape) -> None:
        classes = y_pred[self.axis]
        outside = y_true[(y_true < 0) | (y_true >= classes)]
        outside = outside[outside != self.ignore_class] if self.ignore_class is not None else outside
        if outside.size:
            raise DataError(
                f"{self!r}: the target {outside.flat[0]} is outside the {classes} classes of the predictions"
            )


class FunctionLoss(Loss):
    """A user's own function (y_true, y_pred) -> values, written with ``layerhub.ops``."""

    function: Function

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return y_true
