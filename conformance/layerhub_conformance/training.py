"""Cases of what trains and measures: losses, metrics, optimizers, regularizers, constraints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from layerhub.losses import get as get_loss
from layerhub.metrics import get as get_metric
from layerhub.spec import KINDS
from layerhub.spec.base import REQUIRED


@dataclass(frozen=True)
class Figure:
    """A spec that is no layer, as trials take it. spec: its class_name and config, and how its data are drawn."""

    kind: str
    spec: Mapping[str, Any]

    @property
    def layer(self) -> str:
        """The name it is reported under."""
        return self.spec["class_name"]

    @property
    def id(self) -> str:
        return said(self.spec)

    def __hash__(self) -> int:
        return hash((self.kind, self.id))


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


def penalties(kind: str) -> Iterator[dict[str, Any]]:
    """Regularizers or constraints: each by itself, and once with each other value that its parameters' domains name."""
    for name in sorted(KINDS[kind]):
        spec: Any = KINDS[kind].find(name)
        needed = {p.name: p.domain.valid[0] for p in spec.parameters.values() if p.default is REQUIRED}
        yield {"class_name": name, "config": needed}
        for parameter in spec.parameters.values():
            for value in parameter.domain.valid:
                if value != needed.get(parameter.name, parameter.default):
                    yield {"class_name": name, "config": needed | {parameter.name: value}}


@cache
def figures(kind: str) -> tuple[Figure, ...]:
    """All cases of a kind: "loss", "metric", "optimizer", "regularizer" or "constraint"."""
    listed = {"loss": LOSSES, "metric": METRICS, "optimizer": OPTIMIZERS}
    return tuple(Figure(kind, spec) for spec in (listed[kind] if kind in listed else penalties(kind)))
