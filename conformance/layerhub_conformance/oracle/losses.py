"""Losses: one value per sample (and per place, if a sample has places), and their reduction to one number."""

import math
from dataclasses import dataclass

from .activations import log_softmax
from .arithmetic import clip, mean, total
from .nested import at, build, flatten, reshape, rows, shape, transpose

EPSILON = 1e-7  # probabilities are clipped to [EPSILON, 1 - EPSILON]


@dataclass
class LossOutcome:
    """What one call of a loss gives.

    per_sample: the loss of each sample, or of each place of each sample, before any weight or mask.
    reduced: what the loss returns.
    """

    per_sample: list
    reduced: float | list


def reduce(values, reduction="sum_over_batch_size", sample_weight=None, mask=None):
    """Weight the values, drop the masked ones, and reduce.

    sum_over_batch_size, mean: sum / number of values not masked; sample weights do not change this divisor
    mean_with_sample_weight:   sum / sum of the weights not masked
    sum:                       sum
    none, None:                no reduction; the weighted values, 0 where masked
    Where nothing is left to divide by, 0. A weight or a mask has the leading axes of the values, or all.
    """
    sizes = shape(values)
    weights = [1.0] * len(flatten(values)) if sample_weight is None else spread(sample_weight, sizes)
    kept = [True] * len(weights) if mask is None else spread(mask, sizes)
    weights = [w if keep else 0.0 for w, keep in zip(weights, kept, strict=True)]
    weighted = [v * w if keep else 0.0 for v, w, keep in zip(flatten(values), weights, kept, strict=True)]
    if reduction in (None, "none"):
        return reshape(weighted, sizes)
    whole = total(weighted)
    if reduction == "sum":
        return whole
    if reduction == "mean_with_sample_weight":
        if sample_weight is not None and shape(sample_weight) != sizes:
            raise ValueError("mean_with_sample_weight is defined for one weight per value only")
        divisor = total(weights)
    else:
        divisor = {"sum_over_batch_size": sum(kept), "mean": sum(kept)}[reduction]
    return whole / divisor if divisor else 0.0


def spread(x, sizes):
    """The numbers of x, in C order of this shape. Axes that x lacks are the last; size 1 is shared."""
    own = shape(x)
    if len(own) > len(sizes) or any(o not in (1, s) for o, s in zip(own, sizes, strict=False)):
        raise ValueError(f"shape {own} does not spread over {sizes}")

    def number(index):
        return at(x, [0 if o == 1 else i for o, i in zip(own, index, strict=False)])

    return flatten(build(sizes, number))


LOSSES = {}


def loss(name):
    """Enter ``values(params, y_true, y_pred) -> (values, mask)`` as a loss with the reduction around it.

    It is called as ``fn(params, y_true, y_pred, sample_weight=None, mask=None) -> LossOutcome``. The mask
    that it finds in the labels, if any, joins the one given.
    """

    def enter(values_of):
        def whole(params, y_true, y_pred, sample_weight=None, mask=None):
            values, own = values_of(params, y_true, y_pred)
            if own is not None and mask is not None:
                given = spread(mask, shape(values))
                mask = reshape([a and b for a, b in zip(flatten(own), given, strict=True)], shape(values))
            elif own is not None:
                mask = own
            reduced = reduce(values, params.get("reduction", "sum_over_batch_size"), sample_weight, mask)
            return LossOutcome(values, reduced)

        whole.__doc__ = values_of.__doc__
        LOSSES[name] = whole
        return whole

    return enter


def paired(f, y_true, y_pred, axis=-1):
    """f(row of y_true, row of y_pred), rows along the axis, for every place of the other axes."""
    if shape(y_true) != shape(y_pred):
        raise ValueError(f"labels of shape {shape(y_true)} for predictions of shape {shape(y_pred)}")
    y_true, y_pred = with_last(axis, y_true), with_last(axis, y_pred)
    return build(shape(y_pred)[:-1], lambda index: f(at(y_true, index), at(y_pred, index)))


def with_last(axis, x):
    """x with this axis moved to the end."""
    rank = len(shape(x))
    axis %= rank
    return x if axis == rank - 1 else transpose(x, [a for a in range(rank) if a != axis] + [axis])


@loss("MeanSquaredError")
def mean_squared_error(params, y_true, y_pred):
    """mean((t - p)^2) over the last axis."""
    return paired(lambda t, p: mean((a - b) ** 2 for a, b in zip(t, p, strict=True)), y_true, y_pred), None


@loss("MeanAbsoluteError")
def mean_absolute_error(params, y_true, y_pred):
    """mean(|t - p|) over the last axis."""
    return paired(lambda t, p: mean(abs(a - b) for a, b in zip(t, p, strict=True)), y_true, y_pred), None


@loss("BinaryCrossentropy")
def binary_crossentropy(params, y_true, y_pred):
    """mean(-t log p - (1 - t) log(1 - p)) over the axis, with t smoothed to t (1 - s) + s/2.

    Of a logit x, where p = sigmoid(x), the same is max(x, 0) - x t + log(1 + e^-|x|), with no clip.
    """
    smoothing = params.get("label_smoothing", 0.0)

    def one(t, p):
        t = t * (1 - smoothing) + smoothing / 2
        if params.get("from_logits", False):
            return max(p, 0.0) - p * t + math.log1p(math.exp(-abs(p)))
        p = clip(p, EPSILON, 1 - EPSILON)
        return -t * math.log(p) - (1 - t) * math.log(1 - p)

    def row(ts, ps):
        return mean(one(t, p) for t, p in zip(ts, ps, strict=True))

    return paired(row, y_true, y_pred, params.get("axis", -1)), None


def log_probabilities(params, row):
    """Of logits log_softmax, of probabilities the logarithm once they are made to sum to 1 and clipped."""
    if params.get("from_logits", False):
        return log_softmax(row)
    whole = total(row)
    return [math.log(clip(p / whole, EPSILON, 1 - EPSILON)) for p in row]


@loss("CategoricalCrossentropy")
def categorical_crossentropy(params, y_true, y_pred):
    """-sum(t log p) over the axis of the classes, with t smoothed to t (1 - s) + s / classes."""
    smoothing = params.get("label_smoothing", 0.0)

    def row(ts, ps):
        smooth = [t * (1 - smoothing) + smoothing / len(ts) for t in ts]
        return -total(t * log_p for t, log_p in zip(smooth, log_probabilities(params, ps), strict=True))

    return paired(row, y_true, y_pred, params.get("axis", -1)), None


@loss("SparseCategoricalCrossentropy")
def sparse_categorical_crossentropy(params, y_true, y_pred):
    """-log p[label] over the axis of the classes; 0, and masked, where the label is ``ignore_class``.

    The labels have the shape of the predictions without that axis, or with size 1 there.
    """
    axis, ignored = params.get("axis", -1), params.get("ignore_class")
    y_pred = with_last(axis, y_pred)
    places = shape(y_pred)[:-1]
    if len(shape(y_true)) == len(shape(y_pred)):
        y_true = rows(only, with_last(axis, y_true))
    if shape(y_true) != places:
        raise ValueError(f"labels of shape {shape(y_true)} for predictions at {places} places")

    def value(index):
        label, row = int(at(y_true, index)), at(y_pred, index)
        if label == ignored:
            return 0.0
        if not 0 <= label < len(row):
            raise IndexError(f"label {label} is none of {len(row)} classes")
        return -log_probabilities(params, row)[label]

    mask = None if ignored is None else build(places, lambda index: int(at(y_true, index)) != ignored)
    return build(places, value), mask


def only(row):
    """The one number of a row."""
    (number,) = row
    return number
