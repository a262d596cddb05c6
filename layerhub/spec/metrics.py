"""Metrics: figures gathered over many batches, on the device, and read when somebody looks.

shapes(y_pred)                         the shapes of what is kept, all starting at zero, for predictions of this shape
define(xp, state, y_true, y_pred, w)   what is kept after another batch
figure(xp, state)                      the figure

A metric alone keeps its own state: ``update_state(y_true, y_pred, sample_weight)``, ``result()``, ``reset_state()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from layerhub.errors import DataError, StateError
from layerhub.spec.activations import sigmoid
from layerhub.spec.axes import Shape
from layerhub.spec.base import Kind, ValueSpec, keyword, rule, snake_case
from layerhub.spec.domains import FLOAT_TYPE, Count, Domain, Function, Positive, Rate, Size, integer, number, optional
from layerhub.spec.losses import (
    EPSILON,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCosh,
    Loss,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    at_least_float32,
    fits,
)
from layerhub.spec.masks import sizes, widened

metrics = Kind("metric")


class Runtime:
    """What keeps the state of metrics that are used alone; ``layerhub.metrics`` installs the real one."""

    def update(self, metric: Metric, y_true: Any, y_pred: Any, sample_weight: Any) -> None:
        """Take another batch in."""
        raise StateError("a spec alone only describes a metric; import layerhub.metrics to use it")

    def result(self, metric: Metric) -> Any:
        """The figure so far."""
        raise StateError("a spec alone only describes a metric; import layerhub.metrics to use it")

    def reset(self, metric: Metric) -> None:
        """Forget everything."""


class Metric(ValueSpec, abstract=True):
    """A figure gathered over batches: unless a metric says otherwise, the weighted mean of its ``values``.

    dtype: the type in which it is gathered; None takes that of the predictions, and float32 at least.
    """

    kind = metrics
    name: str | None = keyword(default=None, kw_only=True)
    dtype: Annotated[Any, optional(FLOAT_TYPE)] = keyword(default=None, kw_only=True)

    integer_targets: ClassVar[bool] = False
    logged: ClassVar[str] = ""
    aim: ClassVar[Literal["min", "max"] | None] = None
    """Which figure is the better one, where that is clear."""
    runtime: ClassVar[Runtime] = Runtime()

    @property
    def label(self) -> str:
        """The name in logs."""
        return self.name or self.logged or snake_case(type(self).__name__)

    def compute_dtype(self, dtype: str) -> str:
        """The type in which the figure is gathered, for predictions of this type."""
        return at_least_float32(dtype) if self.dtype is None else self.dtype

    def shapes(self, y_pred: Shape) -> tuple[tuple[int, ...], ...]:
        """The shapes of what is kept."""
        return ((), ())

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        """The state after a batch. weights: of the values, broadcast against them; None counts all as one."""
        values = self.values(xp, y_true, y_pred)
        total, count = state
        weights = spread(xp, weights, values)
        return total + xp.sum(values * weights), count + xp.sum(weights)

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        """One value for each sample, or each element, whose weighted mean is the figure."""
        raise NotImplementedError

    def figure(self, xp: Any, state: tuple) -> Any:
        """The figure; 0 when nothing was counted."""
        return ratio(xp, *state)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        """The shape that targets are brought to. Raises DataError."""
        return MeanSquaredError().target_shape(y_true, y_pred)

    def check_targets(self, y_true: Any, y_pred: Shape) -> None:
        """Raise DataError where host targets (an ndarray) cannot be meant, for predictions of this shape."""

    # Alone

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take another batch in: native arrays of any backend, ndarrays or lists."""
        Metric.runtime.update(self, y_true, y_pred, sample_weight)

    def result(self) -> Any:
        """The figure so far."""
        return Metric.runtime.result(self)

    def reset_state(self) -> None:
        """Forget what was gathered."""
        Metric.runtime.reset(self)

    def __call__(self, *batch: Any, **named: Any) -> Any:
        """Take another batch in, and give the figure."""
        self.update_state(*batch, **named)
        return self.result()


def spread(xp: Any, weights: Any, values: Any) -> Any:
    """Weights, one for each value."""
    if weights is None:
        return xp.ones_like(values)
    return xp.astype(xp.broadcast_to(widened(xp, weights, values.ndim), sizes(xp, values)), values.dtype)


NONE = 1e-30
"""What is not above this is a sum of nothing: whatever is counted weighs more."""


def ratio(xp: Any, part: Any, whole: Any) -> Any:
    """part / whole; 0 where there is nothing."""
    there = whole > NONE
    return xp.where(there, part / xp.where(there, whole, xp.ones_like(whole)), xp.zeros_like(part))


# Means and sums


class Mean(Metric):
    """The weighted mean of numbers: ``update_state(values, sample_weight)``."""

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return y_pred

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return y_true

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Take more numbers in."""
        Metric.runtime.update(self, None, values, sample_weight)


class Sum(Mean):
    """The weighted sum of numbers: ``update_state(values, sample_weight)``."""

    def shapes(self, y_pred: Shape) -> tuple[tuple[int, ...], ...]:
        return ((),)

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        return (state[0] + xp.sum(y_pred * spread(xp, weights, y_pred)),)

    def figure(self, xp: Any, state: tuple) -> Any:
        return state[0]


class FunctionMetric(Metric):
    """A user's own function (y_true, y_pred) -> values, written with ``layerhub.ops``; their mean is the figure."""

    delegates = True

    function: Function

    @property
    def label(self) -> str:
        return self.name or self.function.__name__

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return y_true


class MeanMetricWrapper(Metric):
    """The mean of what a function ``fn(y_true, y_pred, …)`` gives, which takes whatever other arguments are given."""

    delegates = True

    fn: Function
    arguments: Mapping[str, Any] | None = keyword(default=None, kw_only=True)

    def __init__(self, *args: Any, **options: Any) -> None:
        own = {name: options.pop(name) for name in self.parameters if name in options}
        if options:
            own["arguments"] = {**(own.get("arguments") or {}), **options}
        super().__init__(*args, **own)

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        function = self.fn.replace(reduction="none") if isinstance(self.fn, Loss) else self.fn
        return function(y_true, y_pred, **(self.arguments or {}))

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return y_true


class RootMeanSquaredError(Metric):
    """The square root of the mean of (y_true - y_pred)**2"""

    aim = "min"

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        away = y_pred - y_true
        return away * away

    def figure(self, xp: Any, state: tuple) -> Any:
        return xp.sqrt(ratio(xp, *state))


class LossMetric(Metric, abstract=True):
    """A loss, watched as a metric."""

    sign: ClassVar[int] = 1

    def loss(self) -> Loss:
        """The loss that is watched."""
        raise NotImplementedError

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return self.sign * self.loss().define(xp, y_true, y_pred)

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        counts = self.loss().counts(xp, y_true)
        if counts is not None:
            counts = xp.astype(counts, y_pred.dtype)
            weights = counts if weights is None else counts * widened(xp, weights, counts.ndim)
        return super().define(xp, state, y_true, y_pred, weights)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return self.loss().target_shape(y_true, y_pred)

    def check_targets(self, y_true: Any, y_pred: Shape) -> None:
        self.loss().check_targets(y_true, y_pred)


def _watched(name: str, source: type[Loss], *aliases: str, logged: str = "", sign: int = 1) -> type[LossMetric]:
    """A metric class with the parameters of a loss."""
    shared = {key: p for key, p in source.parameters.items() if key not in ("reduction", "name", "dtype")}

    def loss(self: LossMetric) -> Loss:
        return source(**{key: getattr(self, key) for key in shared})

    of = "" if sign == 1 else "minus "
    body = {
        "__doc__": f"The mean over samples of: {of}{source.__doc__}", "__module__": __name__, "loss": loss,
        "aliases": aliases, "logged": logged, "sign": sign, "integer_targets": source.integer_targets,
        "aim": "min" if sign == 1 else "max",
    }  # fmt: skip
    made: Any = type(name, (LossMetric,), body)
    made.parameters = shared | made.parameters
    return made


MeanSquaredErrorMetric = _watched("MeanSquaredError", MeanSquaredError, "mse")
MeanAbsoluteErrorMetric = _watched("MeanAbsoluteError", MeanAbsoluteError, "mae")
MeanAbsolutePercentageErrorMetric = _watched("MeanAbsolutePercentageError", MeanAbsolutePercentageError, "mape")
MeanSquaredLogarithmicErrorMetric = _watched("MeanSquaredLogarithmicError", MeanSquaredLogarithmicError, "msle")
LogCoshErrorMetric = _watched("LogCoshError", LogCosh, "log_cosh", logged="logcosh")
# As a metric, similarity is not negated.
CosineSimilarityMetric = _watched("CosineSimilarity", CosineSimilarity, "cosine_proximity", sign=-1)
BinaryCrossentropyMetric = _watched("BinaryCrossentropy", BinaryCrossentropy, "bce")
CategoricalCrossentropyMetric = _watched("CategoricalCrossentropy", CategoricalCrossentropy)
SparseCategoricalCrossentropyMetric = _watched("SparseCategoricalCrossentropy", SparseCategoricalCrossentropy)
KLDivergenceMetric = _watched("KLDivergence", KLDivergence, "kld", "kullback_leibler_divergence")
PoissonMetric = _watched("Poisson", Poisson)
HingeMetric = _watched("Hinge", Hinge)
SquaredHingeMetric = _watched("SquaredHinge", SquaredHinge)
CategoricalHingeMetric = _watched("CategoricalHinge", CategoricalHinge)


# Accuracies


class Accuracy(Metric):
    """The share of predictions that are equal to their targets."""

    aim = "max"

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return xp.astype(y_pred == y_true, y_pred.dtype)


class BinaryAccuracy(Metric):
    """The share of predictions on the right side of ``threshold``."""

    aim = "max"

    threshold: Rate = 0.5

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        said = xp.astype(y_pred > self.threshold, y_pred.dtype)
        return xp.astype(said == y_true, y_pred.dtype)


class CategoricalAccuracy(Metric):
    """The share of one-hot targets whose class has the largest prediction."""

    aim = "max"

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return xp.astype(xp.argmax(y_true, axis=-1) == xp.argmax(y_pred, axis=-1), y_pred.dtype)


class OfClasses(Metric, abstract=True):
    """A metric whose targets name a class along the last axis of the predictions."""

    aim = "max"

    integer_targets = True

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        return SparseCategoricalCrossentropy().target_shape(y_true, y_pred)


class SparseCategoricalAccuracy(OfClasses):
    """The share of integer targets whose class has the largest prediction."""

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        best = xp.argmax(y_pred, axis=-1)
        return xp.astype(xp.astype(y_true, best.dtype) == best, y_pred.dtype)


class TopKCategoricalAccuracy(Metric):
    """The share of one-hot targets whose class has one of the ``k`` largest predictions; equal ones count as larger or
    smaller, whichever is better."""

    aim = "max"

    k: Size = 5

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        return _among_best(xp, xp.argmax(y_true, axis=-1), y_pred, self.k)


class SparseTopKCategoricalAccuracy(OfClasses):
    """The share of integer targets whose class has one of the ``k`` largest predictions.

    from_sorted_ids: predictions are classes, the best first.
    """

    k: Size = 5
    from_sorted_ids: bool = False

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        if not self.from_sorted_ids:
            return _among_best(xp, y_true, y_pred, self.k)
        wanted = xp.expand_dims(xp.astype(y_true, y_pred.dtype), axis=-1)
        return xp.astype(xp.any(y_pred[..., : self.k] == wanted, axis=-1), y_pred.dtype)

    def check_targets(self, y_true: Any, y_pred: Shape) -> None:
        if not self.from_sorted_ids:
            SparseCategoricalCrossentropy().check_targets(y_true, y_pred)


def _among_best(xp: Any, classes: Any, y_pred: Any, k: int) -> Any:
    wanted = xp.take_along_axis(y_pred, xp.expand_dims(classes, axis=-1), axis=-1)
    # What is not a number is never among the best, and takes a place of them.
    better = xp.logical_not(y_pred <= wanted)
    # Halfway between two counts.
    return xp.astype(xp.sum(xp.astype(better, y_pred.dtype), axis=-1) < k - 0.5, y_pred.dtype)


# Right and wrong, by thresholds


def _accept_rates(value: Any, owner: Any) -> float | tuple[float, ...]:
    rates = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not rates or any(isinstance(r, (bool, str)) or not 0 <= r <= 1 for r in rates):
        raise ValueError
    return tuple(map(float, rates)) if isinstance(value, (list, tuple)) else float(value)


Rates = Annotated[
    Any,
    Domain(
        "a number in [0, 1], or several",
        _accept_rates,
        encode=lambda value: list(value) if isinstance(value, tuple) else value,
        valid=(0.5, (0.25, 0.75)),
        invalid=(1.5, (0.5, -1), "a"),
    ),
]
NOTHING = -1e10
"""A prediction that is below any threshold."""


def above(xp: Any, thresholds: tuple[float, ...], x: Any) -> Any:
    """1 where x is above a threshold, else 0; the first axis is that of the thresholds."""
    limits = xp.reshape(xp.asarray(list(thresholds), dtype=x.dtype), (-1, *(1,) * x.ndim))
    return xp.astype(xp.expand_dims(x, axis=0) > limits, x.dtype)


class Confusion(Metric, abstract=True):
    """A figure of true and false positives and negatives, at several thresholds.

    A prediction is positive where it is above the threshold, a target where it is not 0. kept: which are needed of true
    positives, false positives, true negatives, false negatives.
    """

    kept: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)

    def limits(self) -> tuple[float, ...]:
        """The thresholds."""
        raise NotImplementedError

    def shapes(self, y_pred: Shape) -> tuple[tuple[int, ...], ...]:
        return ((len(self.limits()),),) * len(self.kept)

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        weights = spread(xp, weights, y_pred)
        y_true, y_pred, weights = self.seen(xp, y_true, y_pred, weights)
        y, p, w = (xp.reshape(x, (-1,)) for x in (y_true, y_pred, weights))
        yes, said = xp.astype(y != 0, p.dtype), above(xp, self.limits(), p)
        pairs = ((said, yes), (said, 1 - yes), (1 - said, 1 - yes), (1 - said, yes))
        return tuple(
            old + xp.einsum("tn,n->t", pairs[i][0], pairs[i][1] * w) for old, i in zip(state, self.kept, strict=True)
        )

    def seen(self, xp: Any, y_true: Any, y_pred: Any, weights: Any) -> tuple[Any, Any, Any]:
        """The targets, predictions and weights that count: of one class, where ``class_id`` names one."""
        chosen = getattr(self, "class_id", None)
        if chosen is None:
            return y_true, y_pred, weights
        return y_true[..., chosen], y_pred[..., chosen], weights[..., chosen]


class Thresholded(Confusion, abstract=True):
    """A figure for each of the ``thresholds``; one number where there is one threshold, which is 0.5 unless given."""

    thresholds: Rates | None = None

    def limits(self) -> tuple[float, ...]:
        given = self.thresholds
        return (0.5,) if given is None else given if isinstance(given, tuple) else (given,)

    def figure(self, xp: Any, state: tuple) -> Any:
        found = self.share(xp, *state)
        return found[0] if len(self.limits()) == 1 else found

    def share(self, xp: Any, *state: Any) -> Any:
        """The figures of all thresholds."""
        return state[0]


class TruePositives(Thresholded):
    """How many positive targets are predicted to be positive."""

    kept = (0,)


class FalsePositives(Thresholded):
    """How many negative targets are predicted to be positive."""

    kept = (1,)


class TrueNegatives(Thresholded):
    """How many negative targets are predicted to be negative."""

    kept = (2,)


class FalseNegatives(Thresholded):
    """How many positive targets are predicted to be negative."""

    kept = (3,)


class TopThresholded(Thresholded, abstract=True):
    """A share of true positives.

    top_k: only the k largest predictions of a sample, the first of equal ones, can be positive; they are so at any
    value unless thresholds are given. class_id: only this class counts.
    """

    thresholds: Rates | None = None
    top_k: Size | None = None
    class_id: Count | None = None

    def limits(self) -> tuple[float, ...]:
        return (NOTHING,) if self.thresholds is None and self.top_k is not None else super().limits()

    def seen(self, xp: Any, y_true: Any, y_pred: Any, weights: Any) -> tuple[Any, Any, Any]:
        if self.top_k is not None:
            y_pred = xp.where(_places(xp, y_pred) < self.top_k - 0.5, y_pred, xp.full_like(y_pred, NOTHING))
        return super().seen(xp, y_true, y_pred, weights)

    def share(self, xp: Any, *state: Any) -> Any:
        right, wrong = state
        return ratio(xp, right, right + wrong)


def _places(xp: Any, x: Any) -> Any:
    """How many elements of a row come before each: larger ones, and equal ones further left."""
    place = xp.arange(x.shape[-1], dtype=xp.int64)
    own, other = xp.expand_dims(x, axis=-1), xp.expand_dims(x, axis=-2)
    left = xp.expand_dims(place, axis=0) < xp.expand_dims(place, axis=1)
    ahead = xp.logical_or(other > own, xp.logical_and(other == own, left))
    return xp.sum(xp.astype(ahead, x.dtype), axis=-1)


class Precision(TopThresholded):
    """The share of right ones among the positive predictions."""

    aim = "max"

    kept = (0, 1)


class Recall(TopThresholded):
    """The share of positive targets that are predicted to be positive."""

    aim = "max"

    kept = (0, 3)


def evenly(count: int) -> tuple[float, ...]:
    """Thresholds from 0 to 1; one alone is 0.5."""
    return (0.5,) if count == 1 else tuple(i / (count - 1) for i in range(count))


class Constrained(Confusion, abstract=True):
    """The largest value of one share among the thresholds where another share is large enough.

    num_thresholds: how many thresholds, evenly from 0 to 1. class_id: only this class counts.
    """

    aim = "max"

    def limits(self) -> tuple[float, ...]:
        return evenly(self.num_thresholds)

    def figure(self, xp: Any, state: tuple) -> Any:
        wanted, free, least = self.shares(xp, *state)
        return xp.max(xp.where(wanted >= least, free, xp.zeros_like(free)))

    def shares(self, xp: Any, tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[Any, Any, float]:
        """(the share that must be large enough, the share that is maximised, how large)"""
        raise NotImplementedError


class SensitivityAtSpecificity(Constrained):
    """The best sensitivity tp / (tp + fn) among thresholds where the specificity tn / (tn + fp) is large enough."""

    specificity: Rate
    num_thresholds: Size = 200
    class_id: Count | None = None

    def shares(self, xp: Any, tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[Any, Any, float]:
        return ratio(xp, tn, tn + fp), ratio(xp, tp, tp + fn), self.specificity


class SpecificityAtSensitivity(Constrained):
    """The best specificity tn / (tn + fp) among thresholds where the sensitivity tp / (tp + fn) is large enough."""

    sensitivity: Rate
    num_thresholds: Size = 200
    class_id: Count | None = None

    def shares(self, xp: Any, tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[Any, Any, float]:
        return ratio(xp, tp, tp + fn), ratio(xp, tn, tn + fp), self.sensitivity


class PrecisionAtRecall(Constrained):
    """The best precision tp / (tp + fp) among thresholds where the recall tp / (tp + fn) is large enough."""

    recall: Rate
    num_thresholds: Size = 200
    class_id: Count | None = None

    def shares(self, xp: Any, tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[Any, Any, float]:
        return ratio(xp, tp, tp + fn), ratio(xp, tp, tp + fp), self.recall


class RecallAtPrecision(Constrained):
    """The best recall tp / (tp + fn) among thresholds where the precision tp / (tp + fp) is large enough."""

    precision: Rate
    num_thresholds: Size = 200
    class_id: Count | None = None

    def shares(self, xp: Any, tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[Any, Any, float]:
        return ratio(xp, tp, tp + fp), ratio(xp, tp, tp + fn), self.precision


class AUC(Metric):
    """The area under a curve through the points of all thresholds.

    curve: "ROC": true positive rate over false positive rate; "PR": precision over recall; "PRGAIN": their gains
    (Flach & Kull 2015). summation_method: the height between two points is their mean ("interpolation"; for PR the
    integral of Davis & Goadrich 2006, doi:10.1145/1143844.1143874), the larger ("majoring") or the smaller
    ("minoring"). thresholds: between 0 and 1, in place of num_thresholds even ones; one below 0 and one above 1 join
    them. multi_label: the mean of the areas of all labels, the last axis, weighted by label_weights; else these weigh
    predictions by their label. from_logits: predictions are logits, of which the sigmoid is taken.

    Kept are the weights of positive and of negative targets between neighbouring thresholds.
    """

    aim = "max"

    num_thresholds: Annotated[int, integer("an int, 2 or more", 2, (200, 3), (1, "a"))] = 200
    curve: Literal["ROC", "PR", "PRGAIN", "roc", "pr", "prgain"] = "ROC"
    summation_method: Literal["interpolation", "majoring", "minoring"] = "interpolation"
    thresholds: Rates | None = keyword(default=None, kw_only=True)
    multi_label: bool = keyword(default=False, kw_only=True)
    num_labels: Size | None = keyword(default=None, kw_only=True)
    label_weights: Annotated[
        Any,
        optional(
            Domain(
                "one number for each label", lambda value, owner: tuple(map(float, value)), encode=list, invalid=(3,)
            )
        ),
    ] = keyword(default=None, kw_only=True)
    from_logits: bool = keyword(default=False, kw_only=True)

    @rule
    def c1_labels_are_counted_for_multi_label_only(self, multi_label, num_labels):
        return multi_label or num_labels is None

    def limits(self) -> tuple[float, ...]:
        given = evenly(self.num_thresholds)[1:-1] if self.thresholds is None else self.thresholds
        inner = sorted(given) if isinstance(given, tuple) else [given]
        return (-EPSILON, *inner, 1 + EPSILON)

    def shapes(self, y_pred: Shape) -> tuple[tuple[int, ...], ...]:
        count = len(self.limits()) + 1
        if not self.multi_label:
            return ((count, 1),) * 2
        labels = self.num_labels or y_pred[-1]
        if len(y_pred) != 2 or labels is None or y_pred[-1] not in (None, labels):
            raise DataError(f"{self!r}: predictions of shape {y_pred}; a row with one for each label was expected")
        return ((count, labels),) * 2

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        p = sigmoid()(xp, y_pred) if self.from_logits else y_pred
        w, yes = spread(xp, weights, p), xp.astype(y_true != 0, p.dtype)
        if self.label_weights is not None and not self.multi_label:
            w = w * self._labels(xp, p)
        p, yes, w = (xp.reshape(x, (-1, state[0].shape[1])) for x in (p, yes, w))
        said = above(xp, self.limits(), p)
        ends = xp.expand_dims(xp.ones_like(p), axis=0), xp.expand_dims(xp.zeros_like(p), axis=0)
        between = xp.concat([ends[0], said], axis=0) - xp.concat([said, ends[1]], axis=0)
        found = (xp.einsum("tnl,nl->tl", between, x * w) for x in (yes, 1 - yes))
        return tuple(old + new for old, new in zip(state, found, strict=True))

    def _labels(self, xp: Any, like: Any) -> Any:
        return xp.asarray(list(self.label_weights), dtype=like.dtype)

    def figure(self, xp: Any, state: tuple) -> Any:
        areas = self._areas(xp, *state)
        if self.label_weights is None or not self.multi_label:
            return xp.mean(areas)
        weights = self._labels(xp, areas)
        return xp.sum(areas * weights) / xp.sum(weights)

    def _areas(self, xp: Any, yes: Any, no: Any) -> Any:
        count = yes.shape[0]
        place = xp.arange(count, dtype=xp.int64)
        rows, columns = xp.expand_dims(place[slice(0, count - 1)], axis=1), xp.expand_dims(place, axis=0)
        over = xp.astype(columns > rows, yes.dtype)
        tp, fp, tn, fn = (xp.matmul(a, b) for a, b in ((over, yes), (over, no), (1 - over, no), (1 - over, yes)))
        curve = self.curve.upper()
        if curve == "PR" and self.summation_method == "interpolation":
            return _between_precisions(xp, yes[slice(1, count - 1), ...], no[slice(1, count - 1), ...], tp, fp, fn)
        recall = ratio(xp, tp, tp + fn)
        if curve == "ROC":
            x, y = ratio(xp, fp, fp + tn), recall
        elif curve == "PR":
            x, y = recall, ratio(xp, tp, tp + fp)
        else:
            x, y = _gains(xp, tp, fp, tn, fn)
        (x0, x1), (y0, y1) = _ends(x), _ends(y)
        if self.summation_method == "interpolation":
            height = (y0 + y1) / 2
        else:
            height = xp.minimum(y0, y1) if self.summation_method == "minoring" else xp.maximum(y0, y1)
        return xp.sum((x0 - x1) * height, axis=0)


def _ends(x: Any) -> tuple[Any, Any]:
    """Both ends of each step along the first axis."""
    last = x.shape[0] - 1
    return x[slice(0, last), ...], x[slice(1, last + 1), ...]


def _gains(xp: Any, tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[Any, Any]:
    """Recall gain and precision gain; where nothing is found they are 0 and 1."""
    scale = ratio(xp, tp + fn, tn + fp)
    recall, precision = 1 - ratio(xp, fn, tp) * scale, 1 - ratio(xp, fp, tp) * scale
    found = tp > NONE
    recall = xp.where(xp.logical_and(found, recall > 0), recall, xp.zeros_like(recall))
    return recall, xp.where(found, precision, xp.ones_like(precision))


def _between_precisions(xp: Any, yes: Any, no: Any, tp: Any, fp: Any, fn: Any) -> Any:
    """The area under precision over recall, where between two thresholds tp grows linearly with p = tp + fp.

    yes, no: how much tp and fp grow. With tp = a + b p there, the integral of tp / p is b (growth + a log(p0 / p1)).
    """
    (_, tp1), (p0, p1), (_, fn1) = _ends(tp), _ends(tp + fp), _ends(fn)
    slope = ratio(xp, yes, yes + no)
    cut = tp1 - slope * p1
    quotient = xp.where(p1 > NONE, p0 / xp.where(p1 > NONE, p1, xp.ones_like(p1)), xp.ones_like(p1))
    return xp.sum(ratio(xp, slope * (yes + cut * xp.log(quotient)), tp1 + fn1), axis=0)


class FScore(Metric, abstract=True):
    """(1 + beta**2) precision recall / (beta**2 precision + recall), 1e-7 being added below each fraction bar.

    average: None: one figure for each class, the last axis; "micro": of all classes together; "macro": their mean;
    "weighted": their mean by how often classes occur. threshold: predictions above it are positive; None: the largest
    ones of a sample are, unless they are 0.
    """

    aim = "max"

    def shapes(self, y_pred: Shape) -> tuple[tuple[int, ...], ...]:
        if len(y_pred) != 2 or y_pred[-1] is None:
            raise DataError(f"{self!r}: predictions of shape {y_pred}; a row with one for each class was expected")
        return (() if self.average == "micro" else (y_pred[-1],),) * 4

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        if self.threshold is None:
            largest = y_pred >= xp.max(y_pred, axis=-1, keepdims=True)
            said = xp.logical_and(largest, xp.abs(y_pred) > 1e-9)
        else:
            said = y_pred > self.threshold
        said = xp.astype(said, y_pred.dtype)
        weights = spread(xp, weights, y_pred)
        axis = None if self.average == "micro" else 0
        found = (y_true * said, (1 - y_true) * said, y_true * (1 - said), y_true)
        return tuple(old + xp.sum(new * weights, axis=axis) for old, new in zip(state, found, strict=True))

    def figure(self, xp: Any, state: tuple) -> Any:
        tp, fp, fn, occurring = state
        precision, recall = tp / (tp + fp + EPSILON), tp / (tp + fn + EPSILON)
        square = self.beta * self.beta
        score = precision * recall / (precision * square + recall + EPSILON) * (1 + square)
        if self.average == "weighted":
            return xp.sum(score * (occurring / (xp.sum(occurring) + EPSILON)))
        return score if self.average is None else xp.mean(score)


Average = Literal["micro", "macro", "weighted"]
AboveZero = Annotated[float, number("a number in (0, 1]", lambda value: 0 < value <= 1, (0.5,), (0, 1.5, "a"))]


class FBetaScore(FScore):
    __doc__ = FScore.__doc__
    logged = "fbeta_score"

    average: Average | None = None
    beta: Positive = 1.0
    threshold: AboveZero | None = None


class F1Score(FScore):
    """The harmonic mean of precision and recall, 2 precision recall / (precision + recall); see FBetaScore."""

    average: Average | None = None
    threshold: AboveZero | None = None

    beta: ClassVar[float] = 1.0


# Overlap of regions


def _accept_ids(value: Any, owner: Any) -> tuple[int, ...]:
    ids = tuple(value)
    if not ids or any(isinstance(i, bool) or int(i) != i or i < 0 for i in ids):
        raise ValueError
    return tuple(map(int, ids))


Classes = Annotated[
    Any, Domain("class ids, ints from 0 up", _accept_ids, encode=list, valid=((0,), (0, 1)), invalid=(3, (), (-1,)))
]


def _accept_iou_type(value: Any, owner: Any) -> Any:
    # Keras counts in ints unless told otherwise, and writes that into configs; here weights may be fractions.
    return None if value in (None, "int", "int32", "int64") else FLOAT_TYPE.accept(value, owner)


class Overlap(Metric, abstract=True):
    """The mean, over classes that occur, of the places that are rightly of a class by those that are or are said so."""

    aim = "max"

    dtype: Annotated[Any, Domain("a float type", _accept_iou_type, invalid=("a", 3))] = keyword(
        default=None, kw_only=True
    )

    ignore_class: ClassVar[int | None] = None
    sparse_y_true: ClassVar[bool] = True
    sparse_y_pred: ClassVar[bool] = True
    axis: ClassVar[int] = -1

    def ids(self) -> tuple[int, ...]:
        """The classes that the mean is over."""
        return self.target_class_ids

    def shapes(self, y_pred: Shape) -> tuple[tuple[int, ...], ...]:
        return ((self.num_classes, self.num_classes),)

    def said(self, xp: Any, y_pred: Any) -> Any:
        """The class that predictions say, for each place."""
        return xp.astype(y_pred, xp.int64) if self.sparse_y_pred else xp.argmax(y_pred, axis=self.axis)

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        said = self.said(xp, y_pred)
        true = xp.astype(y_true, xp.int64) if self.sparse_y_true else xp.argmax(y_true, axis=self.axis)
        true = xp.reshape(true, sizes(xp, said))
        kept = spread(xp, weights, xp.astype(said, y_pred.dtype))
        if self.ignore_class is not None:
            kept = xp.where(true == self.ignore_class, xp.zeros_like(kept), kept)
        # A class out of range has a row of zeros, and so does not count.
        rows = self._one_hot(xp, true, y_pred.dtype) * xp.expand_dims(xp.reshape(kept, (-1,)), axis=-1)
        found = xp.matmul(xp.permute_dims(rows, (1, 0)), self._one_hot(xp, said, y_pred.dtype))
        return (state[0] + found,)

    def _one_hot(self, xp: Any, classes: Any, dtype: Any) -> Any:
        every = xp.expand_dims(xp.arange(self.num_classes, dtype=xp.int64), axis=0)
        column = xp.reshape(xp.astype(classes, xp.int64), (-1, 1))
        return xp.astype(column == every, dtype)

    def figure(self, xp: Any, state: tuple) -> Any:
        (matrix,) = state
        right = xp.stack([matrix[i, i] for i in self.ids()], axis=0)
        either = xp.stack([xp.sum(matrix[i, ...]) + xp.sum(matrix[..., i]) - matrix[i, i] for i in self.ids()], axis=0)
        there = either > 1e-9
        share = xp.where(there, right / (either + EPSILON), xp.zeros_like(right))
        return xp.sum(share) / (xp.sum(xp.astype(there, right.dtype)) + EPSILON)

    def target_shape(self, y_true: Shape, y_pred: Shape) -> Shape:
        places = y_pred if self.sparse_y_pred else _without(y_pred, self.axis)
        given = y_true if self.sparse_y_true else _without(y_true, self.axis)
        loose = {given, given[:-1] if given and given[-1] == 1 else given, (*given, 1)}
        if not any(fits(shape, places) for shape in loose):
            raise DataError(f"{self!r}: targets of shape {y_true} do not fit predictions of shape {y_pred}")
        return y_true


def _without(shape: Shape, axis: int) -> Shape:
    axis %= len(shape)
    return shape[:axis] + shape[axis + 1 :]


class OfTargetClasses(Overlap, abstract=True):
    """The mean is over ``target_class_ids``."""

    @rule
    def c1_target_classes_are_among_all(self, num_classes, target_class_ids):
        return max(target_class_ids) < num_classes


class IoU(OfTargetClasses):
    """Intersection over union of the places that are of a class and those that are predicted to be, averaged.

    ignore_class: places whose target is this class do not count. sparse_y_true, sparse_y_pred: classes are given as
    ints, not as scores along ``axis``.
    """

    num_classes: Size
    target_class_ids: Classes
    ignore_class: int | None = keyword(default=None, kw_only=True)
    sparse_y_true: bool = keyword(default=True, kw_only=True)
    sparse_y_pred: bool = keyword(default=True, kw_only=True)
    axis: int = keyword(default=-1, kw_only=True)


class BinaryIoU(OfTargetClasses):
    """Intersection over union for two classes; predictions from ``threshold`` up are of class 1."""

    target_class_ids: Classes = (0, 1)
    threshold: Rate = 0.5

    num_classes: ClassVar[int] = 2

    def said(self, xp: Any, y_pred: Any) -> Any:
        return xp.astype(y_pred >= self.threshold, xp.int64)


class MeanIoU(Overlap):
    """Intersection over union, averaged over all classes that occur; see IoU."""

    num_classes: Size
    ignore_class: int | None = keyword(default=None, kw_only=True)
    sparse_y_true: bool = keyword(default=True, kw_only=True)
    sparse_y_pred: bool = keyword(default=True, kw_only=True)
    axis: int = keyword(default=-1, kw_only=True)

    def ids(self) -> tuple[int, ...]:
        return tuple(range(self.num_classes))


class OneHotIoU(OfTargetClasses):
    """IoU of one-hot targets and scores along ``axis``."""

    num_classes: Size
    target_class_ids: Classes
    ignore_class: int | None = keyword(default=None, kw_only=True)
    sparse_y_pred: bool = keyword(default=False, kw_only=True)
    axis: int = keyword(default=-1, kw_only=True)

    sparse_y_true = False


class OneHotMeanIoU(Overlap):
    """MeanIoU of one-hot targets and scores along ``axis``."""

    num_classes: Size
    ignore_class: int | None = keyword(default=None, kw_only=True)
    sparse_y_pred: bool = keyword(default=False, kw_only=True)
    axis: int = keyword(default=-1, kw_only=True)

    sparse_y_true = False

    def ids(self) -> tuple[int, ...]:
        return tuple(range(self.num_classes))


# Explained variance and correlation


class R2Score(Metric):
    """1 - sum (y_true - y_pred)**2 / sum (y_true - mean(y_true))**2, for each column of the targets.

    class_aggregation: the mean of the columns ("uniform_average"), their mean by the variances of the targets
    ("variance_weighted_average"), or None: all of them. num_regressors: p > 0 gives the adjusted score
    1 - (1 - r2) (n - 1) / (n - p - 1), n being the number of targets, where that is defined. Columns whose targets are
    all the same give 0.

    Means and squared deviations are merged from batch to batch by Chan et al. 1979, so that no digits cancel.
    """

    aim = "max"

    logged = "r2_score"

    class_aggregation: Literal["uniform_average", "variance_weighted_average"] | None = "uniform_average"
    num_regressors: Count = 0

    def shapes(self, y_pred: Shape) -> tuple[tuple[int, ...], ...]:
        if len(y_pred) != 2 or y_pred[-1] is None:
            raise DataError(f"{self!r}: predictions of shape {y_pred}; a matrix was expected")
        return (*((y_pred[-1],),) * 4, ())

    def define(self, xp: Any, state: tuple, y_true: Any, y_pred: Any, weights: Any) -> tuple:
        mean, deviation, residual, count, seen = state
        w = spread(xp, weights, y_pred)
        more, away = xp.sum(w, axis=0), y_pred - y_true
        fresh = ratio(xp, xp.sum(y_true * w, axis=0), more)
        apart, total = y_true - fresh, count + more
        step = fresh - mean
        deviation = deviation + xp.sum(apart * apart * w, axis=0) + step * step * ratio(xp, count * more, total)
        mean = mean + step * ratio(xp, more, total)
        size = xp.sum(xp.ones_like(y_pred))
        return mean, deviation, residual + xp.sum(away * away * w, axis=0), total, seen + size

    def figure(self, xp: Any, state: tuple) -> Any:
        _, deviation, residual, _, seen = state
        varied = deviation > 0
        scores = xp.where(varied, 1 - residual / xp.where(varied, deviation, xp.ones_like(deviation)),
                          xp.zeros_like(deviation))  # fmt: skip
        if self.class_aggregation == "uniform_average":
            scores = xp.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = ratio(xp, xp.sum(scores * deviation), xp.sum(deviation))
        if not self.num_regressors:
            return scores
        free = seen - self.num_regressors - 1
        enough = free > 0
        return xp.where(enough, 1 - (1 - scores) * (seen - 1) / xp.where(enough, free, xp.ones_like(free)), scores)


class Correlation(Metric, abstract=True):
    """A correlation of targets and predictions along ``axis``, averaged over samples."""

    aim = "max"

    axis: ClassVar[int] = -1

    def moments(self, xp: Any, y_true: Any, y_pred: Any) -> tuple[Any, Any, Any, Any, Any]:
        """(mean of targets, of predictions; their variances; their covariance)"""

        def mean(x: Any) -> Any:
            return xp.mean(x, axis=self.axis, keepdims=True)

        a, b = mean(y_true), mean(y_pred)
        t, p = y_true - a, y_pred - b
        found = (a, b, mean(t * t), mean(p * p), mean(t * p))
        return tuple(xp.squeeze(x, axis=self.axis) for x in found)


class PearsonCorrelation(Correlation):
    """cov(y_true, y_pred) / (std(y_true) std(y_pred)); 0 where one of them does not vary."""

    axis: int = keyword(default=-1, kw_only=True)

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        _, _, of_true, of_pred, both = self.moments(xp, y_true, y_pred)
        return ratio(xp, both, xp.sqrt(of_true) * xp.sqrt(of_pred))


class ConcordanceCorrelation(Correlation):
    """2 cov / (var(y_true) + var(y_pred) + (mean(y_true) - mean(y_pred))**2 + 1e-7).

    Source: Lin 1989, doi:10.2307/2532051.
    """

    axis: int = keyword(default=-1, kw_only=True)

    def values(self, xp: Any, y_true: Any, y_pred: Any) -> Any:
        a, b, of_true, of_pred, both = self.moments(xp, y_true, y_pred)
        return 2 * both / (of_true + of_pred + (a - b) * (a - b) + EPSILON)
