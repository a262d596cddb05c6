"""Losses: how far predictions are from what was wanted, one value for each sample (or step, or pixel).

``define(xp, y_true, y_pred)`` reduces the last axis; ``reduced`` makes one number of what is left, with sample weights
and masks: sum(values * weights) / number of values that count.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from layerhub.errors import DataError, StateError
from layerhub.spec.activations import log_softmax, sigmoid, softmax, softplus
from layerhub.spec.axes import Shape
from layerhub.spec.base import Kind, ValueSpec, keyword
from layerhub.spec.domains import FLOAT_TYPE, Axis, Domain, Function, NonNegative, Positive, Rate, number, optional
from layerhub.spec.masks import sizes, widened

losses = Kind("loss")

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 before a logarithm is taken."""

EPSILON = 1e-7
"""Added to, or the least of, what is divided by."""


def reduced(xp: Any, reduction: str | None, values: Any, counts: Any, weights: Any) -> Any:
    """The values of a loss as one number; with the reduction none, as they are.

    The mean is over the values that count; sample weights multiply values, and do not change the divisor, unless the
    reduction is mean_with_sample_weight.
    """
    factor = None if weights is None else widened(xp, weights, values.ndim)
    if counts is not None:
        counts = xp.astype(xp.broadcast_to(widened(xp, counts, values.ndim), sizes(xp, values)), values.dtype)
        factor = counts if factor is None else factor * counts
    if factor is not None:
        values = values * factor
    if reduction in ("none", None):
        return values
    if reduction == "sum":
        return xp.sum(values)
    if reduction == "mean_with_sample_weight" and weights is not None:
        counts = xp.broadcast_to(factor, sizes(xp, values))
    if counts is None:
        return xp.mean(values)
    total = xp.sum(counts)
    return xp.sum(values) / xp.where(total > 0, total, xp.ones_like(total))


def _unavailable(*_: Any) -> Any:
    raise StateError("a spec alone only describes a loss; import layerhub.losses to call it")


class Loss(ValueSpec, abstract=True):
    """A distance between y_true and y_pred.

    reduction: what becomes of the values: their mean (sum_over_batch_size, mean), their mean by sample weights
    (mean_with_sample_weight), their sum, or none. dtype: the type that values are computed in; None takes that of the
    predictions, and float32 at least.
    """

    kind = losses

    reduction: Literal["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"] | None = keyword(
        default="sum_over_batch_size", kw_only=True
    )
    name: str | None = keyword(default=None, kw_only=True)
    dtype: Annotated[Any, optional(FLOAT_TYPE)] = keyword(default=None, kw_only=True)

    integer_targets: ClassVar[bool] = False
    runtime: ClassVar[Callable[..., Any]] = _unavailable

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        """The reduced loss of native arrays of any backend, ndarrays or plain numbers."""
        return Loss.runtime(self, y_true, y_pred, sample_weight, mask)

    def compute_dtype(self, dtype: str) -> str:
        """The type that values are computed in, for predictions of this type."""
        return at_least_float32(dtype) if self.dtype is None else self.dtype

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        """The values: y_pred's shape without the last axis."""
        return self.call(y_true, y_pred)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The same by functions of ``layerhub.ops``: a loss of one's own overrides this, or ``define``."""
        raise StateError(f"{type(self).__name__} must have call(y_true, y_pred), or define(xp, y_true, y_pred)")

    def counts(self, xp: Any, y_true: Any) -> Any:
        """Which values count, or None for all."""
        return None

    def check_targets(self, y_true: Any, y_pred: Shape) -> None:
        """Raise DataError where host targets (an ndarray) cannot be meant, for predictions of this shape."""

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        """The shape that targets are brought to, so that they stand against the predictions. Raises DataError."""
        if len(y_true) == len(y_pred) - 1 and y_pred[-1] == 1:
            y_true = (*y_true, 1)
        elif len(y_true) == len(y_pred) + 1 and y_true[-1] == 1:
            y_true = y_true[:-1]
        if not fits(y_true, y_pred):
            raise DataError(f"{self!r}: targets of shape {y_true} do not fit predictions of shape {y_pred}")
        return y_true


def fits(shape: Shape, wanted: Shape) -> bool:
    """Whether two shapes are equal as far as they are known."""
    if len(shape) != len(wanted):
        return False
    return all(None in (a, b) or a == b for a, b in zip(shape, wanted, strict=True))


def at_least_float32(dtype: str) -> str:
    """A float type by name, but none shorter than float32: values of losses and metrics add up over many samples."""
    return dtype if dtype in ("float32", "float64") else "float32"


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


class MeanAbsolutePercentageError(Loss):
    """100 mean |(y_true - y_pred) / y_true| over the last axis, where |y_true| counts as 1e-7 at least."""

    aliases = ("mape",)

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return 100 * xp.mean(xp.abs(y_pred - y_true) / _at_least(xp, xp.abs(y_true), EPSILON), axis=-1)


class MeanSquaredLogarithmicError(Loss):
    """mean (log(1 + y_true) - log(1 + y_pred))**2 over the last axis, where both count as 1e-7 at least."""

    aliases = ("msle",)

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        away = xp.log1p(_at_least(xp, y_pred, EPSILON)) - xp.log1p(_at_least(xp, y_true, EPSILON))
        return xp.mean(away * away, axis=-1)


class Huber(Loss):
    """mean of e**2 / 2 where |e| <= delta, else delta |e| - delta**2 / 2, with e = y_pred - y_true, over the last axis.

    Source: Huber, Robust estimation of a location parameter, 1964, doi:10.1214/aoms/1177703732.
    """

    aliases = ("huber_loss",)

    delta: Positive = 1.0

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        away = y_pred - y_true
        far = xp.abs(away)
        small = xp.where(far <= self.delta, away, xp.zeros_like(away))
        values = xp.where(far <= self.delta, 0.5 * (small * small), self.delta * (far - 0.5 * self.delta))
        return xp.mean(values, axis=-1)


class LogCosh(Loss):
    """mean log(cosh(y_pred - y_true)) over the last axis"""

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        away = y_pred - y_true
        far = xp.where(away >= 0, away, -away)
        # cosh(a) - 1 = s**2 / (2 exp(-a)) with s = 1 - exp(-a): for small a, where a - log(2) + … would cancel.
        near = xp.where(far >= 1, xp.zeros_like(far), far)
        s = xp.expm1(-near)
        below = xp.log1p(0.5 * (s * s) / (1 + s))
        above = far + xp.log1p(xp.exp(-2 * far)) - math.log(2)
        return xp.mean(xp.where(far >= 1, above, below), axis=-1)


def _at_least(xp: Any, x: Any, low: float) -> Any:
    return xp.where(x <= low, xp.full_like(x, low), x)


def _clipped(xp: Any, p: Any) -> Any:
    p = _at_least(xp, p, CLIP)
    return xp.where(p >= 1 - CLIP, xp.full_like(p, 1 - CLIP), p)


def _positive_part(xp: Any, x: Any) -> Any:
    return xp.where(x <= 0, xp.zeros_like(x), x)


class Margin(Loss, abstract=True):
    """A loss of labels -1 and 1. Targets that are all 0 or 1 stand for these."""

    def margins(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        """How much of a margin of 1 is missing: max(1 - y_true * y_pred, 0)."""
        others = xp.any(xp.logical_and(y_true != 0, y_true != 1))
        return _positive_part(xp, 1 - y_pred * xp.where(others, y_true, 2 * y_true - 1))


class Hinge(Margin):
    """mean max(1 - y_true * y_pred, 0) over the last axis, for labels -1 and 1 (or 0 and 1)"""

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return xp.mean(self.margins(xp, y_true, y_pred), axis=-1)


class SquaredHinge(Margin):
    """mean max(1 - y_true * y_pred, 0)**2 over the last axis, for labels -1 and 1 (or 0 and 1)"""

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        margin = self.margins(xp, y_true, y_pred)
        return xp.mean(margin * margin, axis=-1)


class CategoricalHinge(Loss):
    """max(1 + n - p, 0), with p the prediction for the class of a one-hot target and n the largest of the others"""

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        wanted, others = xp.sum(y_pred * y_true, axis=-1), y_pred * (1 - y_true)
        rival = xp.take_along_axis(others, xp.argmax(others, axis=-1, keepdims=True), axis=-1)
        return _positive_part(xp, xp.squeeze(rival, axis=-1) - wanted + 1)


class KLDivergence(Loss):
    """sum y_true log(y_true / y_pred) over the last axis, where both are clipped to [1e-7, 1]"""

    aliases = ("kld", "kullback_leibler_divergence")

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        y, p = (_at_least(xp, x, EPSILON) for x in (y_true, y_pred))
        y, p = (xp.where(x >= 1, xp.ones_like(x), x) for x in (y, p))
        return -xp.sum(xp.log(p / y) * y, axis=-1)


class Poisson(Loss):
    """mean (y_pred - y_true log(y_pred + 1e-7)) over the last axis"""

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return xp.mean(y_pred - xp.log(y_pred + EPSILON) * y_true, axis=-1)


class CosineSimilarity(Loss):
    """-sum (y_true / |y_true| * y_pred / |y_pred|) along ``axis``, where norms count as 1e-7 at least: -1 is best."""

    aliases = ("cosine_proximity",)

    axis: int = -1

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return -xp.sum(_normal(xp, y_pred, self.axis) * _normal(xp, y_true, self.axis), axis=self.axis)


def _normal(xp: Any, x: Any, axis: int) -> Any:
    square = xp.sum(x * x, axis=axis, keepdims=True)
    return x / xp.sqrt(_at_least(xp, square, EPSILON * EPSILON))


class Crossentropy(Loss, abstract=True):
    """Crossentropy between distributions.

    from_logits: predictions are logits (exact), not probabilities (clipped at 1e-7).
    """

    from_logits: bool = False


class BinaryCrossentropy(Crossentropy):
    """mean -(y log p + (1 - y) log(1 - p)) over ``axis``.

    label_smoothing: targets are moved this share of the way to 1/2.
    """

    aliases = ("bce",)

    label_smoothing: Rate = 0.0
    axis: int = -1

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        y = _to_half(y_true, self.label_smoothing)
        if self.from_logits:
            # log(1 + exp(z)) - y z, with the exponential taken of -|z| only.
            decay = xp.exp(xp.where(y_pred >= 0, -y_pred, y_pred))
            values = xp.where(y_pred >= 0, y_pred, xp.zeros_like(y_pred)) - y_pred * y + xp.log1p(decay)
        else:
            values = _surprise(xp, y, y_pred)
        return xp.mean(values, axis=self.axis)


def _to_half(y: Any, share: float) -> Any:
    return y * (1 - share) + 0.5 * share if share else y


def _surprise(xp: Any, y: Any, p: Any) -> Any:
    """-(y log p + (1 - y) log(1 - p))"""
    p = _clipped(xp, p)
    return -(xp.log(p) * y + xp.log1p(-p) * (1 - y))


class BinaryFocalCrossentropy(Loss):
    """mean -(1 - q)**gamma (y log p + (1 - y) log(1 - p)) over ``axis``, with q = y p + (1 - y)(1 - p).

    apply_class_balancing: multiplies the values of positive targets by alpha, of negative ones by 1 - alpha.
    from_logits: predictions are logits, of which p is the sigmoid. label_smoothing: targets are moved this share of the
    way to 1/2. Source: Lin et al. 2017, arXiv:1708.02002.
    """

    apply_class_balancing: bool = False
    alpha: Rate = 0.25
    gamma: NonNegative = 2.0
    from_logits: bool = False
    label_smoothing: Rate = 0.0
    axis: int = -1

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        y = _to_half(y_true, self.label_smoothing)
        p = sigmoid()(xp, y_pred) if self.from_logits else y_pred
        values = _surprise(xp, y, p) * _power(1 - (p * y + (1 - p) * (1 - y)), self.gamma)
        if self.apply_class_balancing:
            values = values * (y * self.alpha + (1 - y) * (1 - self.alpha))
        return xp.mean(values, axis=self.axis)


def _power(x: Any, exponent: float) -> Any:
    """x**exponent; a power of 0 is 1, and has no slope, for x = 0 as well."""
    return 1.0 if exponent == 0 else x if exponent == 1 else x**exponent


class Categorical(Crossentropy, abstract=True):
    """A distribution over classes along ``axis``."""

    def log_probabilities(self, xp: Any, y_pred: Any, axis: int) -> Any:
        """log p of each class, by log-softmax of logits, or of probabilities scaled to sum to 1."""
        if self.from_logits:
            return log_softmax(axis)(xp, y_pred)
        return xp.log(_clipped(xp, y_pred / xp.sum(y_pred, axis=axis, keepdims=True)))


class CategoricalCrossentropy(Categorical):
    """-sum y log p over the classes; targets are distributions (one-hot rows).

    label_smoothing: targets are moved this share of the way to the uniform distribution.
    """

    label_smoothing: Rate = 0.0
    axis: int = -1

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        y = _to_uniform(y_true, self.label_smoothing, y_pred.shape[self.axis])
        return -xp.sum(self.log_probabilities(xp, y_pred, self.axis) * y, axis=self.axis)


def _to_uniform(y: Any, share: float, classes: int) -> Any:
    return y * (1 - share) + share / classes if share else y


def _accept_shares(value: Any, owner: Any) -> float | tuple[float, ...]:
    several = isinstance(value, (list, tuple))
    if any(isinstance(share, (bool, str)) or not math.isfinite(share) for share in (value if several else (value,))):
        raise ValueError
    return tuple(map(float, value)) if several else float(value)


Shares = Annotated[
    Any,
    Domain(
        "a finite number, or one for each class",
        _accept_shares,
        encode=lambda value: list(value) if isinstance(value, tuple) else value,
        valid=(0.25, (0.5, 0.25)),
        invalid=("a", math.nan),
    ),
]


class CategoricalFocalCrossentropy(Loss):
    """-sum alpha (1 - p)**gamma y log p over the classes; targets are distributions (one-hot rows).

    alpha: one number, or one for each class along the last axis. from_logits: predictions are logits, of which p is the
    softmax; else p is what they are when scaled to sum to 1. label_smoothing: targets are moved this share of the way
    to the uniform distribution. Source: Lin et al. 2017, arXiv:1708.02002.
    """

    alpha: Shares = 0.25
    gamma: NonNegative = 2.0
    from_logits: bool = False
    label_smoothing: Rate = 0.0
    axis: int = -1

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        y = _to_uniform(y_true, self.label_smoothing, y_pred.shape[self.axis])
        p = softmax(self.axis)(xp, y_pred) if self.from_logits else y_pred
        p = _clipped(xp, p / xp.sum(p, axis=self.axis, keepdims=True))
        alpha = self.alpha if isinstance(self.alpha, float) else xp.asarray(list(self.alpha), dtype=y_pred.dtype)
        return -xp.sum(xp.log(p) * y * _power(1 - p, self.gamma) * alpha, axis=self.axis)


class Labelled(Loss, abstract=True):
    """A loss of integer targets, each of which names a class along an axis of the predictions."""

    integer_targets = True
    axis: ClassVar[int] = -1
    ignore_class: ClassVar[int | None] = None

    def chosen(self, xp: Any, classes: Any, x: Any) -> Any:
        """The element of x for each class."""
        axis = self.axis % x.ndim
        return xp.squeeze(xp.take_along_axis(x, xp.expand_dims(classes, axis=axis), axis=axis), axis=axis)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        axis = self.axis % len(y_pred)
        wanted = y_pred[:axis] + y_pred[axis + 1 :]
        if len(y_true) == len(wanted) + 1 and y_true[-1] == 1:
            y_true = y_true[:-1]
        if not fits(y_true, wanted):
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


class SparseCategoricalCrossentropy(Labelled, Categorical):
    """-log p of the class that each integer target names.

    ignore_class: targets of this value do not count.
    """

    ignore_class: int | None = None
    axis: int = -1

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        counts = self.counts(xp, y_true)
        classes = y_true if counts is None else xp.where(counts, y_true, xp.zeros_like(y_true))
        values = -self.chosen(xp, classes, self.log_probabilities(xp, y_pred, self.axis % y_pred.ndim))
        return values if counts is None else xp.where(counts, values, xp.zeros_like(values))

    def counts(self, xp: Any, y_true: Any) -> Any:
        return None if self.ignore_class is None else y_true != self.ignore_class


class CategoricalGeneralizedCrossEntropy(Labelled):
    """(1 - p**q) / q, with p the probability of the class that each integer target names.

    q: between 0, which is crossentropy, and 1, which is absolute error. Source: Zhang & Sabuncu 2018, arXiv:1805.07836.
    """

    q: Annotated[float, number("a number in (0, 1)", lambda value: 0 < value < 1, (0.5, 0.7), (0, 1.0, "a"))] = 0.5

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return (1 - self.chosen(xp, y_true, y_pred) ** self.q) / self.q


class Dice(Loss):
    """1 - 2 sum(y_true y_pred) / (sum(y_true) + sum(y_pred) + 1e-7), sums being along ``axis``; None: over all.

    Source: Milletari et al. 2016, arXiv:1606.04797.
    """

    axis: Axis | None = None

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        both = xp.sum(y_pred * y_true, axis=self.axis)
        return 1 - 2 * both / (xp.sum(y_pred, axis=self.axis) + xp.sum(y_true, axis=self.axis) + EPSILON)


class Tversky(Loss):
    """1 - b / (b + alpha m + beta f + 1e-7), sums being along ``axis``; None: over all.

    b = sum(y_true y_pred); m = sum(y_true (1 - y_pred)), what is missed; f = sum((1 - y_true) y_pred), false alarms.
    Source: Salehi et al. 2017, arXiv:1706.05721.
    """

    alpha: float = 0.5
    beta: float = 0.5
    axis: Axis | None = None

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        both = xp.sum(y_pred * y_true, axis=self.axis)
        missed = xp.sum((1 - y_pred) * y_true, axis=self.axis)
        false = xp.sum(y_pred * (1 - y_true), axis=self.axis)
        return 1 - both / (both + missed * self.alpha + false * self.beta + EPSILON)


class Circle(Loss):
    """log(1 + sum exp(gamma a (m - s)) over negatives * sum exp(gamma b (s' - m')) over positives), for each sample.

    Predictions are embeddings of length 1, targets their classes: the positives of a sample are the others of its
    class, the negatives those of other classes. With d = max(1 - cosine similarity, 0): a positive adds
    exp(gamma (margin + d) (d - margin)), a negative exp(gamma max(1 + margin - d, 0) (1 - margin - d)). Samples that
    have no positive, or no negative, do not count. remove_diagonal: False makes a sample its own positive, too.
    Source: Sun et al. 2020, arXiv:2002.10857.
    """

    gamma: Positive = 80.0
    margin: Rate = 0.4
    remove_diagonal: bool = True

    integer_targets = True

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        alike, unlike = self._pairs(xp, y_true)
        d = _positive_part(xp, 1 - xp.matmul(y_pred, xp.permute_dims(y_pred, (1, 0))))
        positive = self.gamma * (d + self.margin) * (d - self.margin)
        negative = self.gamma * _positive_part(xp, 1 + self.margin - d) * (1 - self.margin - d)
        total = _log_sum_exp(xp, positive, alike) + _log_sum_exp(xp, negative, unlike)
        values = softplus()(xp, total)
        return xp.where(self.counts(xp, y_true), values, xp.zeros_like(values))

    def counts(self, xp: Any, y_true: Any) -> Any:
        alike, unlike = self._pairs(xp, y_true)
        return xp.logical_and(xp.any(alike, axis=1), xp.any(unlike, axis=1))

    def _pairs(self, xp: Any, y_true: Any) -> tuple[Any, Any]:
        """Which samples are positives and negatives of which."""
        alike = xp.expand_dims(y_true, axis=1) == xp.expand_dims(y_true, axis=0)
        if not self.remove_diagonal:
            return alike, xp.logical_not(alike)
        place = xp.arange(xp.size(y_true, 0), dtype=xp.int64)
        others = xp.expand_dims(place, axis=1) != xp.expand_dims(place, axis=0)
        return xp.logical_and(alike, others), xp.logical_not(alike)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        y_true = y_true[:-1] if len(y_true) == 2 and y_true[-1] == 1 else y_true
        if len(y_pred) != 2 or not fits(y_true, y_pred[:1]):
            raise DataError(
                f"{self!r}: classes of shape {y_true} do not fit embeddings of shape {y_pred}; "
                "one class for each row of a matrix was expected"
            )
        return y_true


def _log_sum_exp(xp: Any, x: Any, chosen: Any) -> Any:
    """log(sum(exp(x))) of the chosen elements of each row; some finite number where none is."""
    low = xp.where(chosen, x, xp.min(x, axis=1, keepdims=True))
    top = xp.stop_gradient(xp.max(low, axis=1, keepdims=True))
    parts = xp.where(chosen, xp.exp(xp.where(chosen, x - top, xp.zeros_like(x))), xp.zeros_like(x))
    total = xp.sum(parts, axis=1)
    return xp.log(xp.where(xp.any(chosen, axis=1), total, xp.ones_like(total))) + xp.squeeze(top, axis=1)


class CTC(Loss):
    """-log of the probability of a sequence of labels, summed over all ways to spread it over the steps.

    Predictions are logits (batch, step, class), class 0 being the blank; targets are rows of labels, padded with 0. A
    step says a label, a label again, or the blank; between two equal labels the blank must stand. A target that does
    not fit into the steps costs infinity, and has no slope.

    Source: Graves et al. 2006, doi:10.1145/1143844.1143891, equations 6 to 8, in logarithms.
    """

    integer_targets = True

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        states, skips, soonest = self._states(xp, y_true, y_pred.dtype)
        steps, count = xp.size(y_pred, 1), states.shape[1]
        # What is said in each state: (step, batch, state).
        index = xp.broadcast_to(xp.expand_dims(states, axis=1), (xp.size(y_pred, 0), steps, count))
        said = xp.permute_dims(xp.take_along_axis(log_softmax()(xp, y_pred), index, axis=2), (1, 0, 2))
        times = xp.arange(steps, dtype=y_pred.dtype)

        def step(carry: tuple, now: tuple) -> tuple:
            (paths,), (emitted, time) = carry, now
            one, two = (_moved(xp, paths, places, 0.0) for places in (1, 2))
            # Halfway between two steps.
            known = [first < time - 0.5 for first in soonest]
            paths, there = _log_add(xp, paths, known[0], one, known[1])
            paths, _ = _log_add(xp, paths, there, two, xp.logical_and(skips, known[2]))
            return (paths + emitted,), None

        (paths,), _ = xp.scan(step, (said[0, ...],), (said[1:, ...], times[1:]))
        length = _lengths(xp, y_true)
        last = xp.expand_dims(2 * length, axis=1)
        label = xp.where(last > 0, last - 1, last)
        ends = [xp.squeeze(xp.take_along_axis(paths, place, axis=1), axis=1) for place in (last, label)]
        needed = [xp.squeeze(xp.take_along_axis(soonest[0], place, axis=1), axis=1) for place in (last, label)]
        over = times[-1:] + 0.5
        there = needed[0] < over, xp.logical_and(needed[1] < over, length > 0)
        total, possible = _log_add(xp, ends[0], there[0], ends[1], there[1])
        return xp.where(possible, -total, xp.full_like(total, math.inf))

    def _states(self, xp: Any, y_true: Any, dtype: Any) -> tuple[Any, Any, list[Any]]:
        """Blank, label, blank, …, label, blank; where a state may follow the one before the last; and the first step
        at which a state can be reached: it itself, the one before it, and the one before that.
        """
        count = y_true.shape[1]
        blanks = xp.zeros_like(y_true)
        pairs = xp.stack([blanks, y_true], axis=2)
        states = xp.reshape(pairs, (-1, 2 * count))
        states = xp.concat([states, blanks[:, :1]], axis=1)
        repeats = y_true == _moved(xp, y_true, 1, -1)
        place = xp.arange(count, dtype=xp.int64)
        upto = xp.astype(xp.expand_dims(place, axis=1) <= xp.expand_dims(place, axis=0), dtype)
        soonest = xp.astype(xp.expand_dims(place, axis=0), dtype) + xp.matmul(xp.astype(repeats, dtype), upto)
        reached = xp.reshape(xp.stack([soonest, soonest + 1], axis=2), (-1, 2 * count))
        reached = xp.concat([xp.zeros_like(reached[:, :1]), reached], axis=1)
        labels = xp.asarray([place % 2 == 1 for place in range(2 * count + 1)])
        skips = xp.logical_and(labels, states != _moved(xp, states, 2, -1))
        return states, skips, [reached, *(_moved(xp, reached, places, math.inf) for places in (1, 2))]

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        if len(y_pred) != 3 or len(y_true) != 2 or not fits(y_true[:1], y_pred[:1]):
            raise DataError(
                f"{self!r}: labels of shape {y_true} do not fit logits of shape {y_pred}; "
                "(batch, label) and (batch, step, class) were expected"
            )
        return y_true

    def check_targets(self, y_true: Any, y_pred: Shape) -> None:
        _, steps, classes = y_pred
        for row in y_true.tolist():
            labels = [label for label in row if label]
            if row[: len(labels)] != labels:
                raise DataError(
                    f"{self!r}: the labels {row} have a 0 in the middle; 0 is the blank, and pads at the end"
                )
            if not all(0 <= label < classes for label in labels):
                raise DataError(f"{self!r}: the labels {row} are not all among the {classes} classes")
            needed = len(labels) + sum(a == b for a, b in itertools.pairwise(labels))
            if steps is not None and needed > steps:
                raise DataError(f"{self!r}: the labels {row} need {needed} steps, the predictions have {steps}")


def _lengths(xp: Any, y_true: Any) -> Any:
    """How many labels each row has."""
    return xp.sum(xp.astype(y_true != 0, xp.int64), axis=1)


def _moved(xp: Any, x: Any, places: int, fill: float) -> Any:
    """The columns of a matrix moved to the right; the first ones become ``fill``."""
    return xp.pad(x, [(0, 0), (places, 0)], fill)[:, : x.shape[1]]


def _log_add(xp: Any, a: Any, has_a: Any, b: Any, has_b: Any) -> tuple[Any, Any]:
    """(log(exp(a) + exp(b)), where it is known) of logarithms that are known in places; 0 where neither is."""
    both = xp.logical_and(has_a, has_b)
    high, low = xp.where(a >= b, a, b), xp.where(a >= b, b, a)
    away = xp.where(both, low - high, xp.zeros_like(a))
    alone = xp.where(has_a, a, xp.where(has_b, b, xp.zeros_like(b)))
    return xp.where(both, high + xp.log1p(xp.exp(away)), alone), xp.logical_or(has_a, has_b)


class FunctionLoss(Loss):
    """A user's own function (y_true, y_pred) -> values, written with ``layerhub.ops``."""

    delegates = True

    function: Function

    def define(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return y_true
