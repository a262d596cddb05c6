"""Metrics, each a function of all batches at once: of what a figure is, not of how it is gathered."""

import itertools
import math

from .arithmetic import dot, mean, total
from .losses import LOSSES, spread, with_last
from .nested import at, build, flatten, rows, shape

EPSILON = 1e-7  # added below fraction bars, and the reach of AUC's outermost thresholds beyond 0 and 1

METRICS = {}


def metric(*names):
    """Enter ``fn(params, batches) -> figure``, batches being (targets, predictions, weights of samples)."""

    def enter(fn):
        METRICS.update(dict.fromkeys(names, fn))
        return fn

    return enter


def weighted_mean(values_of):
    """The figure that is the mean of values, weighted by sample; 0 of nothing."""

    def figure(params, batches):
        above, below = [], []
        for y_true, y_pred, weight in batches:
            values = values_of(params, y_true, y_pred)
            weights = spread(weight, shape(values))
            above += [v * w for v, w in zip(flatten(values), weights, strict=True)]
            below += weights
        return total(above) / total(below) if total(below) else 0.0

    figure.__doc__ = values_of.__doc__
    return figure


def elementwise(f):
    """Values by element: f(params, target, prediction)."""

    def values(params, y_true, y_pred):
        return build(shape(y_pred), lambda index: f(params, at(y_true, index), at(y_pred, index)))

    return weighted_mean(values)


METRICS["Mean"] = weighted_mean(lambda params, y_true, y_pred: y_pred)
METRICS["Accuracy"] = elementwise(lambda params, t, p: float(t == p))
METRICS["BinaryAccuracy"] = elementwise(lambda params, t, p: float((p > params["threshold"]) == bool(t)))
squares = elementwise(lambda params, t, p: (t - p) ** 2)


@metric("RootMeanSquaredError")
def root_mean_squared_error(params, batches):
    return math.sqrt(squares(params, batches))


@metric("Sum")
def whole(params, batches):
    parts = []
    for _, y_pred, weight in batches:
        parts += [v * w for v, w in zip(flatten(y_pred), spread(weight, shape(y_pred)), strict=True)]
    return total(parts)


def watched(name, sign=1):
    """A loss as a metric."""
    return weighted_mean(
        lambda params, y_true, y_pred: build(
            shape(LOSSES[name](params, y_true, y_pred).per_sample),
            lambda index: sign * at(LOSSES[name](params, y_true, y_pred).per_sample, index),
        )
    )


for _name in (
    "MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError",
    "BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "KLDivergence", "Poisson",
    "Hinge", "SquaredHinge", "CategoricalHinge",
):  # fmt: skip
    METRICS[_name] = watched(_name)
METRICS["LogCoshError"] = watched("LogCosh")
METRICS["CosineSimilarity"] = watched("CosineSimilarity", -1)


# Accuracies


def first_largest(row):
    return max(range(len(row)), key=lambda i: (row[i], -i))


def of_rows(f):
    """Values by row: f(params, target row or class, predictions)."""

    def values(params, y_true, y_pred):
        return build(shape(y_pred)[:-1], lambda index: f(params, at(y_true, index), at(y_pred, index)))

    return weighted_mean(values)


def among(params, label, row):
    """Whether fewer than k predictions are larger than the label's."""
    return float(sum(p > row[label] for p in row) < params["k"])


METRICS["CategoricalAccuracy"] = of_rows(lambda params, t, p: float(first_largest(t) == first_largest(p)))
METRICS["SparseCategoricalAccuracy"] = of_rows(lambda params, t, p: float(t == first_largest(p)))
METRICS["TopKCategoricalAccuracy"] = of_rows(lambda params, t, p: among(params, first_largest(t), p))
METRICS["SparseTopKCategoricalAccuracy"] = of_rows(
    lambda params, t, p: float(t in p[: params["k"]]) if params["from_sorted_ids"] else among(params, t, p)
)


# Counts at thresholds


def triples(params, batches):
    """(target, prediction, weight, label) of every element that counts, top_k and class_id applied."""
    top_k, class_id = params.get("top_k"), params.get("class_id")
    found = []
    for y_true, y_pred, weight in batches:
        for t, row, w in zip(y_true, y_pred, weight, strict=True):
            best = sorted(range(len(row)), key=lambda i: (-row[i], i))[:top_k]
            for label, p in enumerate(row):
                if class_id in (None, label):
                    found.append((t[label], p if label in best else -math.inf, w, label))
    return found


def counts(elements, threshold):
    """tp, fp, tn, fn: the weights of the elements, by what they are and what they are said to be."""
    found = {(True, True): [], (False, True): [], (False, False): [], (True, False): []}
    for t, p, w, _ in elements:
        found[bool(t), p > threshold].append(w)
    return [total(weights) for weights in found.values()]


def per_threshold(params, batches, f):
    given = params.get("thresholds")
    lowest = -1e10 if params.get("top_k") is not None else 0.5
    limits = [lowest] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    elements = triples(params, batches)
    figures = [f(*counts(elements, limit)) for limit in limits]
    return figures[0] if len(figures) == 1 else figures


def share(part, rest):
    return part / (part + rest) if part + rest else 0.0


METRICS["TruePositives"] = lambda params, batches: per_threshold(params, batches, lambda tp, fp, tn, fn: tp)
METRICS["FalsePositives"] = lambda params, batches: per_threshold(params, batches, lambda tp, fp, tn, fn: fp)
METRICS["TrueNegatives"] = lambda params, batches: per_threshold(params, batches, lambda tp, fp, tn, fn: tn)
METRICS["FalseNegatives"] = lambda params, batches: per_threshold(params, batches, lambda tp, fp, tn, fn: fn)
METRICS["Precision"] = lambda params, batches: per_threshold(params, batches, lambda tp, fp, tn, fn: share(tp, fp))
METRICS["Recall"] = lambda params, batches: per_threshold(params, batches, lambda tp, fp, tn, fn: share(tp, fn))


def even(count):
    return [0.5] if count == 1 else [i / (count - 1) for i in range(count)]


def constrained(params, batches, wanted, free, least):
    elements = triples(params, batches)
    found = [counts(elements, limit) for limit in even(params["num_thresholds"])]
    return max([0.0, *(free(*c) for c in found if wanted(*c) >= least)])


def sensitivity(tp, fp, tn, fn):
    return share(tp, fn)


def specificity(tp, fp, tn, fn):
    return share(tn, fp)


def precision(tp, fp, tn, fn):
    return share(tp, fp)


@metric("SensitivityAtSpecificity")
def sensitivity_at_specificity(params, batches):
    return constrained(params, batches, specificity, sensitivity, params["specificity"])


@metric("SpecificityAtSensitivity")
def specificity_at_sensitivity(params, batches):
    return constrained(params, batches, sensitivity, specificity, params["sensitivity"])


@metric("PrecisionAtRecall")
def precision_at_recall(params, batches):
    return constrained(params, batches, sensitivity, precision, params["recall"])


@metric("RecallAtPrecision")
def recall_at_precision(params, batches):
    return constrained(params, batches, precision, sensitivity, params["precision"])


@metric("AUC")
def auc(params, batches):
    """The area below the points of all thresholds, by rectangles; for PR with interpolation Davis & Goadrich's."""
    inner = even(params["num_thresholds"])[1:-1] if params["thresholds"] is None else sorted(params["thresholds"])
    limits = [-EPSILON, *inner, 1 + EPSILON]
    elements = triples({}, batches)
    if params["from_logits"]:
        elements = [(t, 1 / (1 + math.exp(-p)), w, label) for t, p, w, label in elements]
    weights = params["label_weights"]
    if not params["multi_label"]:
        if weights is not None:
            elements = [(t, p, w * weights[label], label) for t, p, w, label in elements]
        return area(params, [counts(elements, limit) for limit in limits])
    labels = sorted({label for *_, label in elements})
    areas = [area(params, [counts([e for e in elements if e[3] == k], x) for x in limits]) for k in labels]
    weights = weights or [1.0] * len(labels)
    return dot(areas, weights) / total(weights)


def area(params, points):
    """points: (tp, fp, tn, fn) by rising threshold."""
    if params["curve"] == "PR" and params["summation_method"] == "interpolation":
        return total(between(*step) for step in itertools.pairwise(points))
    place = {"ROC": roc, "PR": precision_recall, "PRGAIN": gains}[params["curve"]]
    height = {"interpolation": lambda a, b: (a + b) / 2, "majoring": max, "minoring": min}[params["summation_method"]]
    places = [place(*point) for point in points]
    return total((a[0] - b[0]) * height(a[1], b[1]) for a, b in itertools.pairwise(places))


def roc(tp, fp, tn, fn):
    return share(fp, tn), share(tp, fn)


def precision_recall(tp, fp, tn, fn):
    return share(tp, fn), share(tp, fp)


def gains(tp, fp, tn, fn):
    scale = (tp + fn) / (tn + fp) if tn + fp else 0.0
    return (max(1 - scale * fn / tp, 0.0), 1 - scale * fp / tp) if tp else (0.0, 1.0)


def between(upper, lower):
    """tp = cut + slope p between two points, p = tp + fp; the integral of (tp / p) d(tp), by all positives."""
    (tp0, fp0, _, _), (tp1, fp1, _, fn1) = upper, lower
    p0, p1 = tp0 + fp0, tp1 + fp1
    if p0 == p1 or tp1 + fn1 == 0:
        return 0.0
    slope = (tp0 - tp1) / (p0 - p1)
    cut = tp1 - slope * p1
    logarithm = math.log(p0 / p1) if p0 > 0 and p1 > 0 else 0.0
    return slope * (tp0 - tp1 + cut * logarithm) / (tp1 + fn1)


@metric("FBetaScore", "F1Score")
def f_beta_score(params, batches):
    beta, threshold, average = params.get("beta", 1.0), params["threshold"], params["average"]
    found = {}
    for y_true, y_pred, weight in batches:
        for ts, ps, w in zip(y_true, y_pred, weight, strict=True):
            for k, (t, p) in enumerate(zip(ts, ps, strict=True)):
                said = p > threshold if threshold is not None else p >= max(ps) and abs(p) > 1e-9
                found.setdefault(0 if average == "micro" else k, []).append((t * w, (1 - t) * w, said))
    scores, occurring = [], []
    for _, elements in sorted(found.items()):
        tp, fp, fn = (
            total(yes for yes, _, said in elements if said),
            total(no for _, no, said in elements if said),
            total(yes for yes, _, said in elements if not said),
        )
        right, seen = tp / (tp + fp + EPSILON), tp / (tp + fn + EPSILON)
        scores.append((1 + beta**2) * right * seen / (beta**2 * right + seen + EPSILON))
        occurring.append(total(yes for yes, _, _ in elements))
    if average == "weighted":
        return dot(scores, occurring) / (total(occurring) + EPSILON)
    return scores if average is None else mean(scores)


# Overlap


@metric("IoU", "MeanIoU", "BinaryIoU", "OneHotIoU", "OneHotMeanIoU")
def intersection_over_union(params, batches):
    axis, classes = params.get("axis", -1), params.get("num_classes", 2)
    one_hot = "sparse_y_true" not in params and "threshold" not in params
    ids = params.get("target_class_ids", range(classes))
    places = []
    for y_true, y_pred, weight in batches:
        if "threshold" in params:
            y_pred = build(shape(y_pred), lambda index, p=y_pred: int(at(p, index) >= params["threshold"]))
        elif not params.get("sparse_y_pred", not one_hot):
            y_pred = rows(first_largest, with_last(axis, y_pred))
        if one_hot or not params.get("sparse_y_true", True):
            y_true = rows(first_largest, with_last(axis, y_true))
        weights = spread(weight, shape(y_pred))
        places += list(zip(flatten(y_true), flatten(y_pred), weights, strict=True))
    places = [(int(t), int(p), w) for t, p, w in places if int(t) != params.get("ignore_class")]
    places = [(t, p, w) for t, p, w in places if 0 <= t < classes and 0 <= p < classes]
    shares = []
    for k in ids:
        both = total(w for t, p, w in places if t == k and p == k)
        either = total(w for t, p, w in places if k in (t, p))
        if either > 1e-9:
            shares.append(both / (either + EPSILON))
    return total(shares) / (len(shares) + EPSILON)


# Variance


@metric("R2Score")
def r2_score(params, batches):
    columns = len(batches[0][1][0])
    scores, deviations = [], []
    for k in range(columns):
        ts = [row[k] for y_true, _, _ in batches for row in y_true]
        ps = [row[k] for _, y_pred, _ in batches for row in y_pred]
        ws = [w for _, _, weight in batches for w in weight]
        middle = dot(ts, ws) / total(ws)
        deviations.append(total(w * (t - middle) ** 2 for t, w in zip(ts, ws, strict=True)))
        left = total(w * (t - p) ** 2 for t, p, w in zip(ts, ps, ws, strict=True))
        scores.append(1 - left / deviations[-1] if deviations[-1] else 0.0)
    how = params["class_aggregation"]
    if how is None:
        return scores
    score = mean(scores) if how == "uniform_average" else dot(scores, deviations) / total(deviations)
    n, p = columns * sum(len(y_true) for y_true, _, _ in batches), params["num_regressors"]
    return 1 - (1 - score) * (n - 1) / (n - p - 1) if p else score


def correlated(value):
    """Values along ``axis``: value(targets, predictions) of two rows."""

    def values(params, y_true, y_pred):
        a, b = with_last(params["axis"], y_true), with_last(params["axis"], y_pred)
        return build(shape(a)[:-1], lambda index: value(at(a, index), at(b, index)))

    return weighted_mean(values)


def moments(ts, ps):
    a, b = mean(ts), mean(ps)
    return (
        a,
        b,
        *(
            mean((x - u) * (y - v) for x, y in zip(one, two, strict=True))
            for one, u, two, v in ((ts, a, ts, a), (ps, b, ps, b), (ts, a, ps, b))
        ),
    )


def pearson(ts, ps):
    _, _, of_true, of_pred, both = moments(ts, ps)
    return both / math.sqrt(of_true * of_pred) if of_true * of_pred else 0.0


def concordance(ts, ps):
    a, b, of_true, of_pred, both = moments(ts, ps)
    return 2 * both / (of_true + of_pred + (a - b) ** 2 + EPSILON)


METRICS["PearsonCorrelation"] = correlated(pearson)
METRICS["ConcordanceCorrelation"] = correlated(concordance)
