"""Losses: one value per sample (and per place, if a sample has places), and their reduction to one number."""

import itertools
import math
from dataclasses import dataclass

from .activations import log_softmax, sigmoid, softmax
from .arithmetic import clip, dot, mean, total
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


@loss("MeanAbsolutePercentageError")
def mean_absolute_percentage_error(params, y_true, y_pred):
    """100 mean(|t - p| / |t|) over the last axis; |t| is at least EPSILON."""

    def row(ts, ps):
        return 100 * mean(abs(t - p) / max(abs(t), EPSILON) for t, p in zip(ts, ps, strict=True))

    return paired(row, y_true, y_pred), None


@loss("MeanSquaredLogarithmicError")
def mean_squared_logarithmic_error(params, y_true, y_pred):
    """mean((log(1 + t) - log(1 + p))^2) over the last axis; t and p are at least EPSILON."""

    def row(ts, ps):
        return mean(
            (math.log1p(max(t, EPSILON)) - math.log1p(max(p, EPSILON))) ** 2 for t, p in zip(ts, ps, strict=True)
        )

    return paired(row, y_true, y_pred), None


@loss("Huber")
def huber(params, y_true, y_pred):
    """The mean over the last axis of a parabola that goes on as a straight line from delta on."""
    delta = params.get("delta", 1.0)

    def one(e):
        return e * e / 2 if e <= delta else delta * e - delta * delta / 2

    return paired(lambda ts, ps: mean(one(abs(t - p)) for t, p in zip(ts, ps, strict=True)), y_true, y_pred), None


@loss("LogCosh")
def log_cosh(params, y_true, y_pred):
    """mean(log(cosh(t - p))) over the last axis; log(1 + 2 sinh(e/2)^2) does not cancel near 0."""

    def one(e):
        return math.log1p(2 * math.sinh(e / 2) ** 2) if e < 100 else e - math.log(2)

    return paired(lambda ts, ps: mean(one(abs(t - p)) for t, p in zip(ts, ps, strict=True)), y_true, y_pred), None


def margins(y_true, y_pred):
    """Rows of max(1 - t p, 0), where targets that are all 0 or 1 stand for -1 and 1."""
    if set(flatten(y_true)) <= {0, 1}:
        y_true = build(shape(y_true), lambda index: 2 * at(y_true, index) - 1)
    return lambda reduce_row: paired(
        lambda ts, ps: reduce_row([max(1 - t * p, 0.0) for t, p in zip(ts, ps, strict=True)]), y_true, y_pred
    )


@loss("Hinge")
def hinge(params, y_true, y_pred):
    """mean(max(1 - t p, 0)) over the last axis."""
    return margins(y_true, y_pred)(mean), None


@loss("SquaredHinge")
def squared_hinge(params, y_true, y_pred):
    """mean(max(1 - t p, 0)^2) over the last axis."""
    return margins(y_true, y_pred)(lambda row: mean(m * m for m in row)), None


@loss("CategoricalHinge")
def categorical_hinge(params, y_true, y_pred):
    """max(0, 1 + max((1 - t) p) - sum(t p)) over the last axis."""

    def row(ts, ps):
        return max(0.0, 1 + max((1 - t) * p for t, p in zip(ts, ps, strict=True)) - dot(ts, ps))

    return paired(row, y_true, y_pred), None


@loss("KLDivergence")
def kl_divergence(params, y_true, y_pred):
    """sum(t log(t / p)) over the last axis, t and p clipped to [EPSILON, 1]."""

    def row(ts, ps):
        pairs = [(clip(t, EPSILON, 1.0), clip(p, EPSILON, 1.0)) for t, p in zip(ts, ps, strict=True)]
        return total(t * math.log(t / p) for t, p in pairs)

    return paired(row, y_true, y_pred), None


@loss("Poisson")
def poisson(params, y_true, y_pred):
    """mean(p - t log(p + EPSILON)) over the last axis."""

    def row(ts, ps):
        return mean(p - t * math.log(p + EPSILON) for t, p in zip(ts, ps, strict=True))

    return paired(row, y_true, y_pred), None


@loss("CosineSimilarity")
def cosine_similarity(params, y_true, y_pred):
    """Minus the cosine of the angle between the rows along the axis; a length is at least EPSILON."""

    def row(ts, ps):
        lengths = [max(math.sqrt(dot(xs, xs)), EPSILON) for xs in (ts, ps)]
        return -dot(ts, ps) / lengths[0] / lengths[1]

    return paired(row, y_true, y_pred, params.get("axis", -1)), None


@loss("BinaryFocalCrossentropy")
def binary_focal_crossentropy(params, y_true, y_pred):
    """The mean over the axis of binary crossentropy times (1 - q)^gamma, q being the probability of the truth."""
    gamma, alpha, smoothing = params.get("gamma", 2.0), params.get("alpha", 0.25), params.get("label_smoothing", 0.0)

    def one(t, p):
        t = t * (1 - smoothing) + smoothing / 2
        p = sigmoid(p) if params.get("from_logits", False) else p
        inside = clip(p, EPSILON, 1 - EPSILON)
        value = -t * math.log(inside) - (1 - t) * math.log(1 - inside)
        value *= (1 - (t * p + (1 - t) * (1 - p))) ** gamma
        return value * (t * alpha + (1 - t) * (1 - alpha)) if params.get("apply_class_balancing", False) else value

    def row(ts, ps):
        return mean(one(t, p) for t, p in zip(ts, ps, strict=True))

    return paired(row, y_true, y_pred, params.get("axis", -1)), None


@loss("CategoricalFocalCrossentropy")
def categorical_focal_crossentropy(params, y_true, y_pred):
    """-sum(alpha (1 - p)^gamma t log p) over the axis of the classes."""
    gamma, alpha, smoothing = params.get("gamma", 2.0), params.get("alpha", 0.25), params.get("label_smoothing", 0.0)

    def row(ts, ps):
        ps = softmax(ps) if params.get("from_logits", False) else ps
        whole = total(ps)
        ps = [clip(p / whole, EPSILON, 1 - EPSILON) for p in ps]
        shares = alpha if isinstance(alpha, list | tuple) else [alpha] * len(ps)
        return -total(
            share * (1 - p) ** gamma * (t * (1 - smoothing) + smoothing / len(ts)) * math.log(p)
            for share, t, p in zip(shares, ts, ps, strict=True)
        )

    return paired(row, y_true, y_pred, params.get("axis", -1)), None


@loss("CategoricalGeneralizedCrossEntropy")
def categorical_generalized_cross_entropy(params, y_true, y_pred):
    """(1 - p^q) / q for the p of the label's class."""
    q = params.get("q", 0.5)
    return build(shape(y_true), lambda i: (1 - at(y_pred, i)[at(y_true, i)] ** q) / q), None


def summed(f, axis, *arrays):
    """The sums of f(...) over the axes (None: all), as nested lists of what is left."""
    sizes = shape(arrays[0])
    axes = range(len(sizes)) if axis is None else [axis] if isinstance(axis, int) else axis
    axes = {a % len(sizes) for a in axes}
    rest = [a for a in range(len(sizes)) if a not in axes]
    places = flatten(build(sizes, Place))

    def one(index):
        inside = [p.index for p in places if [p.index[a] for a in rest] == list(index)]
        return total(f(*(at(x, i) for x in arrays)) for i in inside)

    return build([sizes[a] for a in rest], one)


@dataclass
class Place:
    """A multi-index, as something that is no nested list."""

    index: tuple


def overlap(params, y_true, y_pred, value):
    """value(sum t p, sum t, sum p), sums over ``axis``."""
    axis = params.get("axis")
    parts = [summed(f, axis, y_true, y_pred) for f in (lambda t, p: t * p, lambda t, p: t, lambda t, p: p)]
    return build(shape(parts[0]), lambda index: value(*(at(part, index) for part in parts))), None


@loss("Dice")
def dice(params, y_true, y_pred):
    """1 - 2 |T and P| / (|T| + |P|)."""
    return overlap(params, y_true, y_pred, lambda both, t, p: 1 - 2 * both / (t + p + EPSILON))


@loss("Tversky")
def tversky(params, y_true, y_pred):
    """1 - |T and P| / (|T and P| + alpha |T not P| + beta |P not T|)."""
    alpha, beta = params.get("alpha", 0.5), params.get("beta", 0.5)
    return overlap(
        params,
        y_true,
        y_pred,
        lambda both, t, p: 1 - both / (both + alpha * (t - both) + beta * (p - both) + EPSILON),
    )


@loss("Circle")
def circle(params, y_true, y_pred):
    """log(1 + sum over negatives j and positives i of exp(gamma (n_j + p_i))), for each sample.

    With d = max(1 - x . y, 0): p = (margin + d) (d - margin), n = max(1 + margin - d, 0) (1 - margin - d).
    A sample without positives or without negatives gives 0 and is masked.
    """
    gamma, margin, alone = params.get("gamma", 80.0), params.get("margin", 0.4), params.get("remove_diagonal", True)
    values, mask = [], []
    for i, x in enumerate(y_pred):
        near, far = [], []
        for j, y in enumerate(y_pred):
            d = max(1 - dot(x, y), 0.0)
            if y_true[i] != y_true[j]:
                far.append(max(1 + margin - d, 0.0) * (1 - margin - d))
            elif i != j or not alone:
                near.append((margin + d) * (d - margin))
        exponents = [gamma * (n + p) for n in far for p in near]
        top = max([0.0, *exponents])
        values.append(top + math.log(math.exp(-top) + total(math.exp(e - top) for e in exponents)))
        mask.append(bool(exponents))
    return values, mask


@loss("CTC")
def ctc(params, y_true, y_pred):
    """-log of the sum, over all ways to say one class per step, of the product of their probabilities, of those ways
    that spell the labels once repetitions, and then blanks (0), are taken out.
    """
    values = []
    for labels, logits in zip(y_true, y_pred, strict=True):
        wanted = [label for label in labels if label]
        logs = [log_softmax(row) for row in logits]
        fitting = [
            math.exp(total(logs[t][c] for t, c in enumerate(way)))
            for way in itertools.product(range(len(logits[0])), repeat=len(logits))
            if [c for c, _ in itertools.groupby(way) if c] == wanted
        ]
        values.append(-math.log(total(fitting)) if fitting else math.inf)
    return values, None


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
