"""The definitions against independent ground truth: loops over plain numbers, and differences of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from layerhub.errors import MaskDroppedWarning
from layerhub.plan import Planner, StreamRef
from layerhub.probe import evaluate_layer
from layerhub.running_error import RunningError
from layerhub.spec.layer import Layer
from layerhub.spec.losses import reduced
from layerhub.stream import Stream
from layerhub.variable import HOST
from layerhub_conformance.case import Case, Drawn
from layerhub_conformance.cases import corpus
from layerhub_conformance.checks.training import bounded_figure
from layerhub_conformance.oracle import LOSSES as LOSS_ORACLES
from layerhub_conformance.oracle import METRICS as METRIC_ORACLES
from layerhub_conformance.oracle import ORACLES, difference, flatten, unflatten
from layerhub_conformance.reference import DefinitionsOnly, reference
from layerhub_conformance.training import loss_case, metric_case
from layerhub_conformance.verdict import Expected, compare

LARGEST = 400
"""Elements of a case's inputs beyond which loops over plain numbers take too long."""


CHECKED = [
    case
    for case in corpus()
    if case.layer in ORACLES
    and sum(math.prod(shape) for shape in case.shapes) <= LARGEST
    and all(0 not in shape for shape in case.shapes)
]


def parameters(layer: Layer) -> dict:
    """A layer's configuration as oracles take it: sizes as tuples."""
    config = layer.get_config()
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def bits_of(case: Case) -> Callable[..., list] | None:
    """``bits(sizes, *parts, draw=0)``: the random bits of a case, as nested lists; None where it draws none."""
    planner = Planner(DefinitionsOnly(), "", case.training, 0, route="definition")
    planner.call(case.make(), [planner.input(shape, "float64") for shape in case.shapes], "0")
    streams = [a.stream for step in planner.steps for a in step.arguments if isinstance(a, StreamRef)]
    if not streams:
        return None

    def bits(sizes: Sequence[int], *parts: int, draw: int = 0) -> list:
        return HOST.random_bits(reduce(Stream.child, parts, streams[draw]), tuple(sizes)).tolist()

    return bits


def consult(case: Case, drawn: Drawn):
    """What the oracle says: outputs and new weights as nested lists."""
    masks = [None if m is None else m.tolist() for m in drawn.masks]
    return ORACLES[case.layer](
        parameters(case.make()),
        [x.tolist() for x in drawn.inputs],
        [w.tolist() for w in drawn.weights],
        training=case.training,
        mask=masks[0] if len(masks) == 1 else (masks if any(m is not None for m in masks) else None),
        initial_state=[s.tolist() for s in drawn.states] or None,
        bits=bits_of(case),
    )


def test_definition_gives_what_loops_over_plain_numbers_give(layerhub_checked):
    case = layerhub_checked
    expected = {e.what: e for e in reference(case, "float64").arrays if e.direction == "forward"}
    outcome = consult(case, case.draw("float64"))
    said = {f"output {k}": np.array(y) for k, y in enumerate(outcome.outputs)}
    said |= {f"{name} after the call": np.array(w) for name, w in outcome.weights.items()}
    assert said.keys() == expected.keys()
    wrong = [f.detail for what, array in said.items() if not (f := compare(expected[what], array, "float64")).right]
    assert not wrong, "\n".join([case.id, *wrong])


SMOOTH = [
    case for case in CHECKED if case.data in ("normal", "positive") and sum(math.prod(s) for s in case.shapes) <= 150
][::3]


def settled(case: Case, drawn: Drawn) -> tuple[Case, Drawn]:
    """The call whose gradients a case has: where it moves a trained weight, one that finds that weight moved."""
    specs = case.make().weight_specs(*case.shapes)
    after = consult(case, drawn).weights
    if not any(spec.trainable and spec.name in after for spec in specs):
        return case, drawn
    weights = [np.array(after.get(spec.name, w)) for spec, w in zip(specs, drawn.weights, strict=True)]
    return replace(case, training=False), replace(drawn, weights=weights)


def test_gradients_of_definitions_are_those_of_the_loops(layerhub_smooth):
    """Along a random direction through all inputs and weights, by extrapolated differences of the oracle."""
    case = layerhub_smooth
    drawn = case.draw("float64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskDroppedWarning)
        got = evaluate_layer(
            case.make(), drawn.inputs, drawn.weights, "numpy", case.training, drawn.masks, drawn.states or None,
            drawn.cotangents, "float64", 0, "definition",
        )  # fmt: skip
    case, drawn = settled(case, drawn)
    floats = [(k, x) for k, x in enumerate(drawn.inputs) if x.dtype.kind == "f"]
    trained = [(k, w) for k, w in enumerate(drawn.weights) if got.weight_grads[k] is not None]
    rng = np.random.default_rng(case.seed + 1)
    away = [rng.normal(size=a.shape) for _, a in (*floats, *trained)]
    slope = sum(
        float(np.sum(g * d))
        for g, d in zip(
            [got.input_grads[k] for k, _ in floats] + [got.weight_grads[k] for k, _ in trained], away, strict=True
        )
    )

    def moved(t: list[float]) -> float:
        inputs, weights = list(drawn.inputs), list(drawn.weights)
        for (k, x), d in zip(floats, away, strict=False):
            inputs[k] = x + t[0] * d
        for (k, w), d in zip(trained, away[len(floats) :], strict=True):
            weights[k] = w + t[0] * d
        outcome = consult(case, Drawn(inputs, weights, drawn.masks, drawn.states))
        return sum(float(np.sum(np.array(y) * c)) for y, c in zip(outcome.outputs, drawn.cotangents, strict=True))

    (estimate,), (error,) = difference(moved, [0.0])
    assert math.isfinite(error)
    assert abs(slope - estimate) <= 4 * error, f"{case.id}: {slope} against {estimate} ± {error}"


def test_flattening_and_its_inverse_agree():
    nested = [[1.0, 2.0], [3.0, 4.0]]
    assert unflatten(flatten(nested), nested) == nested


def test_definition_of_a_metric_gives_what_loops_over_plain_numbers_give(layerhub_metric):
    spec = layerhub_metric.spec
    metric, batches = metric_case(spec, "float64")
    expected = bounded_figure(metric, batches, "float64")
    params = {name: getattr(metric, name) for name in metric.parameters}
    said = METRIC_ORACLES[spec["class_name"]](params, [tuple(x.tolist() for x in batch) for batch in batches])
    found = compare(expected, np.asarray(said), "float64")
    assert found.right, found.detail
    assert not found.undecided


def test_definition_of_a_loss_gives_what_loops_over_plain_numbers_give(layerhub_loss):
    spec = layerhub_loss.spec
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
