"""Losses and optimizers on every chosen backend, against their definitions: values, gradients, updates."""

from __future__ import annotations

import itertools

import numpy as np

from layerhub import autodiff
from layerhub.execution import bound_loss, reduced
from layerhub.kernels import Call
from layerhub.losses import get as get_loss
from layerhub.metrics import get as get_metric
from layerhub.optimizers import get as get_optimizer
from layerhub.registry import registry
from layerhub.running_error import RunningError
from layerhub.spec.losses import at_least_float32
from layerhub.variable import HOST
from layerhub_conformance.oracle import LOSSES as LOSS_ORACLES
from layerhub_conformance.oracle import METRICS as METRIC_ORACLES
from layerhub_conformance.reference import Expected, compare

LOGITS, SMOOTH = {"from_logits": True}, {"label_smoothing": 0.1}
IMAGES = {"shape": (3, 4, 5)}
LOSSES = [
    {"class_name": name, "config": config, **data}
    for name, configs, *data_sets in [
        ("MeanSquaredError", [{}]),
        ("MeanAbsoluteError", [{}]),
        ("MeanAbsolutePercentageError", [{}]),
        ("MeanSquaredLogarithmicError", [{}], {}, {"predictions": "positive"}),
        ("Huber", [{}, {"delta": 2.5}]),
        ("LogCosh", [{}]),
        ("Hinge", [{}], {}, {"targets": "binary"}, {"targets": "signs"}),
        ("SquaredHinge", [{}], {"targets": "binary"}, {"targets": "signs"}),
        ("CategoricalHinge", [{}], {}, {"targets": "one_hot"}),
        (
            "KLDivergence",
            [{}],
            {"predictions": "probabilities"},
            {"predictions": "probabilities", "targets": "one_hot"},
        ),
        ("Poisson", [{}], {"predictions": "positive"}),
        ("CosineSimilarity", [{}, {"axis": 1}], IMAGES),
        ("BinaryCrossentropy", [{}, SMOOTH, {"axis": 1}], {"predictions": "probabilities", **IMAGES}),
        ("BinaryCrossentropy", [LOGITS, LOGITS | SMOOTH]),
        (
            "BinaryFocalCrossentropy",
            [{}, SMOOTH | {"gamma": 1.5}, {"apply_class_balancing": True, "alpha": 0.3, "axis": 1}, {"gamma": 0.0}],
            {"predictions": "probabilities", **IMAGES},
        ),
        ("BinaryFocalCrossentropy", [LOGITS, LOGITS | SMOOTH | {"gamma": 1.0}]),
        ("CategoricalCrossentropy", [{}, SMOOTH | {"axis": 1}], {"predictions": "probabilities", **IMAGES}),
        ("CategoricalCrossentropy", [LOGITS, LOGITS | SMOOTH]),
        (
            "CategoricalFocalCrossentropy",
            [{}, SMOOTH | {"axis": 1, "gamma": 1.5}],
            {"predictions": "probabilities", **IMAGES},
        ),
        ("CategoricalFocalCrossentropy", [LOGITS, LOGITS | SMOOTH | {"alpha": (0.5, 1.0, 2.0, 0.25)}]),
        ("SparseCategoricalCrossentropy", [{}, {"axis": 1}], {"predictions": "probabilities", **IMAGES}),
        ("SparseCategoricalCrossentropy", [LOGITS, LOGITS | {"ignore_class": 1}]),
        ("CategoricalGeneralizedCrossEntropy", [{}, {"q": 0.7}], {"predictions": "probabilities"}),
        (
            "Dice",
            [{}, {"axis": -1}, {"axis": (1, 2)}],
            {"predictions": "probabilities", "targets": "binary", **IMAGES},
        ),
        (
            "Tversky",
            [{}, {"alpha": 0.3, "beta": 0.9, "axis": (1, 2)}],
            {"predictions": "probabilities", "targets": "binary", **IMAGES},
        ),
        (
            "Circle",
            [{}, {"gamma": 8.0, "margin": 0.25}, {"gamma": 8.0, "remove_diagonal": False}],
            {"predictions": "short", "shape": (8, 3)},
        ),
        ("CTC", [{}], {"shape": (6, 4, 4)}),
    ]
    for data in data_sets or [{}]
    for config in configs
]
OPTIMIZERS = [
    {"class_name": name, "config": config}
    for name, configs in {
        "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.8, "nesterov": True}, {"weight_decay": 0.01}],
        "RMSprop": [{}, {"momentum": 0.9}, {"centered": True}, {"rho": 0.5, "epsilon": 1e-3, "weight_decay": 0.1}],
        "Adam": [{}, {"amsgrad": True}, {"beta_1": 0.5, "epsilon": 1e-3}, {"weight_decay": 0.02}],
        "AdamW": [{}, {"weight_decay": 0.1, "amsgrad": True}],
        "Adagrad": [{}, {"initial_accumulator_value": 0.0, "epsilon": 1e-3, "weight_decay": 0.1}],
        "Adadelta": [{}, {"learning_rate": 1.0, "rho": 0.5, "epsilon": 1e-3}],
        "Adamax": [{}, {"beta_1": 0.5, "beta_2": 0.7, "weight_decay": 0.1}],
        "Nadam": [{}, {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 1e-3}],
        "Ftrl": [
            {},
            {"learning_rate_power": -0.75, "initial_accumulator_value": 0.5, "beta": 0.1},
            {
                "learning_rate": 0.1,
                "l1_regularization_strength": 0.01,
                "l2_regularization_strength": 0.02,
                "l2_shrinkage_regularization_strength": 0.03,
            },
        ],
        "Lion": [{}, {"beta_1": 0.5, "beta_2": 0.7, "weight_decay": 0.1}],
        "Lamb": [{}, {"beta_1": 0.5, "epsilon": 1e-3, "weight_decay": 0.1}],
        "Adafactor": [{}, {"learning_rate": 0.3, "epsilon_2": 2.0, "clip_threshold": 0.5, "beta_2_decay": -0.5}],
        "Muon": [{}, {"nesterov": False, "ns_steps": 2, "rms_rate": None}, {"exclude_layers": ["k"], "momentum": 0.5}],
        "ScheduleFreeAdamW": [{}, {"beta_1": 0.5, "warmup_steps": 2, "weight_decay": 0.1}],
    }.items()
    for config in configs
]
PROBABILITIES, BINARY, ONE_HOT = {"predictions": "probabilities"}, {"targets": "binary"}, {"targets": "one_hot"}
CLASSES, LABELS = {"predictions": "classes"}, {"targets": "classes"}
METRICS = [
    {"class_name": name, "config": config, "shape": (12, 4), **data}
    for name, configs, data in [
        ("Mean", [{}], {}),
        ("Sum", [{}], {"shape": (12, 3, 2)}),
        ("RootMeanSquaredError", [{}], {}),
        ("MeanSquaredError", [{}], {"shape": (12, 3, 2)}),
        ("MeanAbsoluteError", [{}], {}),
        ("MeanAbsolutePercentageError", [{}], {}),
        ("MeanSquaredLogarithmicError", [{}], {"predictions": "positive"}),
        ("LogCoshError", [{}], {}),
        ("CosineSimilarity", [{}], {}),
        ("CosineSimilarity", [{"axis": 1}], {"shape": (12, 3, 2)}),
        ("BinaryCrossentropy", [{}, SMOOTH], PROBABILITIES | BINARY),
        ("BinaryCrossentropy", [LOGITS], BINARY),
        ("CategoricalCrossentropy", [LOGITS], {}),
        ("CategoricalCrossentropy", [SMOOTH], PROBABILITIES),
        ("SparseCategoricalCrossentropy", [LOGITS], LABELS),
        ("KLDivergence", [{}], PROBABILITIES),
        ("Poisson", [{}], {"predictions": "positive"}),
        ("Hinge", [{}], {"targets": "signs"}),
        ("SquaredHinge", [{}], {"targets": "signs"}),
        ("CategoricalHinge", [{}], ONE_HOT),
        ("Accuracy", [{}], CLASSES | {"targets": "class_numbers", "shape": (12, 1)}),
        ("BinaryAccuracy", [{}, {"threshold": 0.7}], PROBABILITIES | BINARY),
        ("CategoricalAccuracy", [{}], ONE_HOT),
        ("SparseCategoricalAccuracy", [{}], LABELS | {"shape": (12, 3, 4)}),
        ("TopKCategoricalAccuracy", [{"k": 1}, {"k": 2}], ONE_HOT),
        ("SparseTopKCategoricalAccuracy", [{"k": 2}], LABELS | {"shape": (12, 3, 4)}),
        ("SparseTopKCategoricalAccuracy", [{"k": 2, "from_sorted_ids": True}], LABELS | {"predictions": "ranking"}),
        *(
            (name, [{}, {"thresholds": (0.25, 0.5, 0.875)}], PROBABILITIES | BINARY)
            for name in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives", "Precision", "Recall")
        ),
        *(
            (
                name,
                [{"top_k": 2}, {"class_id": 1}, {"top_k": 2, "class_id": 3, "thresholds": 0.375}],
                PROBABILITIES | BINARY,
            )
            for name in ("Precision", "Recall")
        ),
        *(
            (
                name,
                [{share: 0.61}, {share: 0.31, "num_thresholds": 9, "class_id": 2}, {share: 0.41, "num_thresholds": 1}],
                PROBABILITIES | BINARY,
            )
            for name, share in [
                ("SensitivityAtSpecificity", "specificity"),
                ("SpecificityAtSensitivity", "sensitivity"),
                ("PrecisionAtRecall", "recall"),
                ("RecallAtPrecision", "precision"),
            ]
        ),
        (
            "AUC",
            [
                *(
                    {"curve": c, "summation_method": m, "num_thresholds": 20}
                    for c in ("ROC", "PR", "PRGAIN")
                    for m in ("interpolation", "majoring", "minoring")
                ),
                {},
                {"thresholds": (0.2, 0.7, 0.4)},
                {"multi_label": True, "num_thresholds": 11},
                {"multi_label": True, "num_thresholds": 11, "curve": "PR", "label_weights": (1.0, 2.0, 0.5, 0.25)},
                {"label_weights": (1.0, 2.0, 0.5, 0.25), "num_thresholds": 11},
            ],
            PROBABILITIES | BINARY,
        ),
        ("AUC", [{"from_logits": True, "num_thresholds": 30}], BINARY),
        (
            "FBetaScore",
            [{}, {"average": "micro", "beta": 2.0}, {"average": "macro", "threshold": 0.4}, {"average": "weighted"}],
            PROBABILITIES | ONE_HOT,
        ),
        ("F1Score", [{}, {"average": "weighted", "threshold": 0.6}], PROBABILITIES | BINARY),
        ("BinaryIoU", [{}, {"target_class_ids": (1,), "threshold": 0.3}], PROBABILITIES | BINARY),
        (
            "IoU",
            [
                {"num_classes": 4, "target_class_ids": (0, 2)},
                {"num_classes": 3, "target_class_ids": (0, 2), "ignore_class": 2},
            ],
            CLASSES | {"targets": "class_numbers"},
        ),
        (
            "IoU",
            [{"num_classes": 4, "target_class_ids": (1, 3), "sparse_y_pred": False}],
            LABELS | {"shape": (12, 3, 4)},
        ),
        ("MeanIoU", [{"num_classes": 4}, {"num_classes": 6}], CLASSES | {"targets": "class_numbers"}),
        ("OneHotIoU", [{"num_classes": 4, "target_class_ids": (0, 3)}], ONE_HOT),
        ("OneHotMeanIoU", [{"num_classes": 4}], ONE_HOT),
        ("OneHotMeanIoU", [{"num_classes": 4, "axis": 1}], {"shape": (12, 4, 3), "targets": "one_hot_1"}),
        (
            "R2Score",
            [{}, {"class_aggregation": None}, {"class_aggregation": "variance_weighted_average", "num_regressors": 2}],
            {},
        ),
        ("PearsonCorrelation", [{}, {"axis": 0}], {}),
        ("ConcordanceCorrelation", [{}, {"axis": 0}], {}),
    ]
    for config in configs
]
FIRST = 7
"""Samples in the first of two batches."""
STEPS = 3


def said(spec: dict) -> str:
    """A spec in one line, for ids."""
    data = "".join(f"; {value}" for key, value in spec.items() if key not in ("class_name", "config"))
    return f"{spec['class_name']}({', '.join(f'{k}={v}' for k, v in spec['config'].items())}{data})"


def drawn(spec: dict, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Targets and predictions of the shape and kind that a loss or metric wants, rounded to ``dtype``."""
    rng = np.random.default_rng(3)
    shape, kind = spec.get("shape", (5, 4)), spec.get("predictions", "normal")
    y_pred = rng.normal(size=shape) * 3
    if kind == "probabilities":
        y_pred = 1 / (1 + np.exp(-y_pred))
    elif kind == "positive":
        y_pred = np.abs(y_pred) + 0.1
    elif kind == "short":
        y_pred *= 0.8 / np.linalg.norm(y_pred, axis=-1, keepdims=True)
    elif kind == "classes":
        y_pred = rng.integers(0, 4, size=shape)
    elif kind == "ranking":
        y_pred = np.argsort(y_pred, axis=-1)
    classes = rng.integers(0, shape[-1], size=shape[:-1])
    targets = {
        "distribution": rng.dirichlet(np.ones(shape[-1]), size=shape[:-1]),
        "binary": rng.integers(0, 2, size=shape),
        "signs": rng.integers(0, 2, size=shape) * 2 - 1,
        "one_hot": np.eye(shape[-1])[classes],
        "one_hot_1": np.moveaxis(np.eye(shape[1])[rng.integers(0, shape[1], size=(shape[0], *shape[2:]))], -1, 1),
        "classes": classes,
        "class_numbers": rng.integers(0, 4, size=shape),
    }
    return targets[spec.get("targets", "distribution")].astype(dtype), y_pred.astype(dtype)


def labels(loss, y_pred: np.ndarray) -> np.ndarray:
    """Integer targets, classes along the axis of a loss."""
    if type(loss).__name__ == "CTC":
        return np.array([[1, 2, 0], [2, 2, 0], [3, 0, 0], [0, 0, 0], [3, 1, 2], [1, 1, 0]])
    axis = getattr(loss, "axis", -1) % y_pred.ndim
    places = y_pred.shape[:axis] + y_pred.shape[axis + 1 :]
    return np.random.default_rng(4).integers(0, y_pred.shape[axis], size=places)


def loss_case(spec: dict, dtype: str) -> tuple:
    """(loss, targets, predictions)"""
    loss = get_loss(spec)
    y_true, y_pred = drawn(spec, dtype)
    return loss, labels(loss, y_pred) if loss.integer_targets else y_true, y_pred


def metric_case(spec: dict, dtype: str) -> tuple:
    """(metric, two batches of targets, predictions and weights)"""
    y_true, y_pred = drawn(spec, dtype)
    y_true = y_true.astype(np.int64) if spec.get("targets") == "classes" else y_true
    # One weight for what is correlated along the batch; else one for each sample.
    count = y_pred.shape[1] if spec["config"].get("axis") == 0 else len(y_pred)
    weights = np.random.default_rng(5).uniform(0.5, 2, size=count).astype(dtype)
    halves = slice(0, FIRST), slice(FIRST, None)
    batches = [(y_true[half], y_pred[half], weights if count < len(y_pred) else weights[half]) for half in halves]
    return get_metric(spec), batches


def test_definition_of_a_metric_gives_what_loops_over_plain_numbers_give(layerhub_metric_definition):
    spec = layerhub_metric_definition
    metric, batches = metric_case(spec, "float64")
    expected = bounded_figure(metric, batches, "float64")
    params = {name: getattr(metric, name) for name in metric.parameters}
    said = METRIC_ORACLES[spec["class_name"]](params, [tuple(x.tolist() for x in batch) for batch in batches])
    found = compare(expected, np.asarray(said), "float64")
    assert found.right, found.detail
    assert not found.undecided


def bounded_figure(metric, batches, dtype):
    """A metric's figure with its bound, read from its definition."""
    space = RunningError.of(dtype)
    state = tuple(space.exact(np.zeros(shape)) for shape in metric.shapes(batches[0][1].shape))
    for y_true, y_pred, weights in batches:
        target = y_true if y_true.dtype.kind == "i" else space.exact(y_true)
        state = metric.define(space, state, target, space.exact(y_pred), space.exact(weights))
    figure = metric.figure(space, state)
    return Expected("figure", figure.value, np.asarray(figure.error))


def test_metric_means_what_its_definition_says(layerhub_metric, record_property):
    spec, backend_name, dtype, route = layerhub_metric
    backend = registry().backend(backend_name)
    dtype = at_least_float32(dtype)  # as models gather metrics
    metric, batches = metric_case(spec, dtype)
    expected = bounded_figure(metric, batches, dtype)
    state = tuple(backend.asarray(np.zeros(shape), dtype) for shape in metric.shapes(batches[0][1].shape))
    for batch in batches:
        state = metric.define(backend.xp, state, *map(backend.asarray, batch))
    figure = metric.figure(backend.xp, state)
    judge([expected], [figure], backend, dtype, said(spec), record_property, route)


def test_definition_of_a_loss_gives_what_loops_over_plain_numbers_give(layerhub_loss_definition):
    spec = layerhub_loss_definition
    loss, y_true, y_pred = loss_case(spec, "float64")
    bounded = RunningError.of("float64")
    target = y_true if loss.integer_targets else bounded.exact(y_true)
    values = loss.define(bounded, target, bounded.exact(y_pred))
    params = {name: getattr(loss, name) for name in loss.parameters}
    said = LOSS_ORACLES[spec["class_name"]](params, y_true.tolist(), y_pred.tolist())
    found = compare(Expected("values", values.value, values.error), np.asarray(said.per_sample), "float64")
    assert found.right, found.detail
    rng = np.random.default_rng(5)
    weights = rng.uniform(0.5, 2, size=values.shape)
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight", "sum", "none"):
        if reduction == "mean_with_sample_weight" and not values.shape:
            continue
        wanted = LOSS_ORACLES[spec["class_name"]](
            params | {"reduction": reduction}, y_true.tolist(), y_pred.tolist(), weights.tolist()
        )
        whole = reduced(bounded, reduction, values, loss.counts(np, y_true), bounded.exact(weights))
        found = compare(Expected(reduction, whole.value, whole.error), np.asarray(wanted.reduced), "float64")
        assert found.right, found.detail


def test_loss_means_what_its_definition_says(layerhub_loss, record_property):
    spec, backend_name, dtype, route = layerhub_loss
    backend = registry().backend(backend_name)
    dtype = at_least_float32(dtype)  # as models compute losses
    loss, y_true, y_pred = loss_case(spec, dtype)

    bounded = RunningError.of(dtype)
    space = autodiff.Differentiable(bounded)
    leaf = space.var(bounded.exact(y_pred))
    target = y_true if loss.integer_targets else bounded.exact(y_true)
    values = loss.define(space, target, leaf)
    cotangents = np.asarray(np.random.default_rng(6).normal(size=values.shape)).astype(dtype)
    (gradient,) = autodiff.gradients([values], [bounded.exact(cotangents)], [leaf])
    expected = [
        Expected("values", values.value.value, values.value.error),
        Expected("gradient of the predictions", gradient.value, gradient.error),
    ]

    call = bound_loss(registry(), backend, loss, True, route)
    truth, weights = backend.asarray(y_true), backend.asarray(cotangents)

    def weighted(params):
        found = call(truth, params[0])
        return backend.recording_xp.sum(found * weights), found

    _, found, gradients = backend.value_and_grad(weighted, [backend.asarray(y_pred)])
    plain = bound_loss(registry(), backend, loss, False, route)(truth, backend.asarray(y_pred))
    assert np.array_equal(backend.to_numpy(plain), backend.to_numpy(autodiff.value_of(found)))
    judge(expected, [plain, gradients[0]], backend, dtype, said(spec), record_property, route)


class Named:
    """What an optimizer may know of a weight."""

    def __init__(self, path: str, shape: tuple[int, ...]):
        self.path, self.shape = path, shape


def test_optimizer_means_what_its_definition_says(layerhub_optimizer, record_property):
    spec, backend_name, dtype, route = layerhub_optimizer
    optimizer, backend = get_optimizer(spec), registry().backend(backend_name)
    rng = np.random.default_rng(4)
    shapes = [(3, 4), (5,), (), (5, 2), (2, 3, 2)]
    weights = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    gradients = [[(rng.normal(size=shape) * 10.0**-step).astype(dtype) for shape in shapes] for step in range(STEPS)]
    rules: dict = {}
    for k, shape in enumerate(shapes):
        rules.setdefault(optimizer.rule_for(Named(f"layer{k}/{'kernel' if k else 'bias'}", shape)), []).append(k)

    bounded = RunningError.of(dtype)
    expected: dict[int, list] = {}
    for rule, places in rules.items():
        wanted = {k: (bounded.exact(weights[k]), *started(rule, bounded, weights[k])) for k in places}
        for step, row in enumerate(gradients, start=1):
            # The coefficients are rounded to the type once, when they reach the device.
            numbers = tuple(float(c) for c in rule.coefficients(step))
            wanted = {
                k: rule.update(bounded, numbers, state[0], bounded.exact(row[k]), *state[1:])
                for k, state in wanted.items()
            }
        for k, state in wanted.items():
            expected[k] = [
                Expected(f"part {n} of weight {k} after {STEPS} steps", part.value, part.error)
                for n, part in enumerate(state)
            ]

    handles = [backend.variable(w, True, backend.check_device(None), None) for w in weights]
    slots: dict[int, tuple] = {}
    for rule, places in rules.items():
        kernel = registry().kernel(backend.name, rule, Call()) if route == "kernel" else None
        own = [tuple(backend.asarray(slot, dtype) for slot in rule.start(HOST, weights[k])) for k in places]
        for step, row in enumerate(gradients, start=1):
            current, moves = [backend.read(handles[k]) for k in places], [backend.asarray(row[k]) for k in places]
            numbers = rule.coefficients(step)
            if kernel is not None:
                current, own = kernel.function(rule, numbers, current, moves, own)
            else:
                moved = [
                    rule.update(backend.xp, numbers, w, g, *s) for w, g, s in zip(current, moves, own, strict=True)
                ]
                current, own = [m[0] for m in moved], [tuple(m[1:]) for m in moved]
            for k, value in zip(places, current, strict=True):
                backend.assign(handles[k], value)
        slots.update(zip(places, own, strict=True))
    order = range(len(shapes))
    found = itertools.chain.from_iterable((backend.read(handles[k]), *slots[k]) for k in order)
    judge([e for k in order for e in expected[k]], list(found), backend, dtype, said(spec), record_property, route)


def started(rule, bounded, weight):
    """The slots of a weight before the first step, without error."""
    return [bounded.exact(np.asarray(slot, weight.dtype)) for slot in rule.start(HOST, weight)]


def judge(expected, found, backend, dtype, name, record_property, route):
    """Compare, record for the matrix, and fail with what is wrong."""
    findings = [compare(e, np.asarray(backend.to_numpy(y)), dtype) for e, y in zip(expected, found, strict=True)]
    worst = max(f.worst for f in findings)
    kind = name.partition("(")[0]
    record_property(
        "layerhub", {"layer": kind, "backend": backend.name, "dtype": dtype, "route": route, "worst": worst}
    )
    wrong = [f.detail for f in findings if not f.right]
    assert not wrong, "\n".join([f"{name} on {backend.name} ({dtype}, {route})", *wrong])
