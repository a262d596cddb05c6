"""The definitions against independent ground truth: loops over plain numbers, and differences of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from layerhub.layers import serialize
from layerhub.plan import Planner, StreamRef
from layerhub.probe import evaluate_layer
from layerhub.spec.layer import Layer
from layerhub.variable import HOST
from layerhub_conformance.case import Case, Drawn
from layerhub_conformance.cases import corpus
from layerhub_conformance.oracle import ORACLES, difference, flatten, unflatten
from layerhub_conformance.reference import DefinitionsOnly, compare, reference

LARGEST = 400
"""Elements of a case's inputs beyond which loops over plain numbers take too long."""


def drops(config: dict) -> bool:
    """Whether a recurrent layer, or a cell within it, drops anything in training."""
    inner = [config.get("cell"), config.get("layer"), *config.get("cells", ())]
    inner = [part["config"] for part in inner if isinstance(part, dict)]
    return bool(config.get("dropout") or config.get("recurrent_dropout") or any(map(drops, inner)))


CHECKED = [
    case
    for case in corpus()
    if case.layer in ORACLES
    and sum(math.prod(shape) for shape in case.shapes) <= LARGEST
    and all(0 not in shape for shape in case.shapes)
    and not (case.training and drops(case.config))
]


def parameters(layer: Layer) -> dict:
    """A layer's configuration as oracles take it: sizes as tuples."""
    config = serialize(layer)["config"]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def bits_of(case: Case) -> Callable[..., list] | None:
    """``bits(sizes, part=0)``: the random bits that a case draws, as nested lists; None where it draws none."""
    planner = Planner(DefinitionsOnly(), "", case.training, 0, route="definition")
    planner.call(case.make(), [planner.input(shape, "float64") for shape in case.shapes], "0")
    streams = [a.stream for step in planner.steps for a in step.arguments if isinstance(a, StreamRef)]
    if len(streams) != 1:
        return None
    return lambda sizes, part=0: HOST.random_bits(streams[0].child(part), tuple(sizes)).tolist()


def consult(case: Case, drawn: Drawn):
    """What the oracle says: outputs and new weights as nested lists."""
    layer = case.make()
    masks = [None if m is None else m.tolist() for m in drawn.masks]
    return ORACLES[case.layer](
        parameters(layer),
        [x.tolist() for x in drawn.inputs],
        [w.tolist() for w in drawn.weights],
        training=case.training and layer.trainable,
        mask=masks[0] if len(masks) == 1 else (masks if any(m is not None for m in masks) else None),
        initial_state=[s.tolist() for s in drawn.states] or None,
        bits=bits_of(case),
    )


def test_definition_gives_what_loops_over_plain_numbers_give(layerhub_checked):
    case = layerhub_checked
    expected = {e.what: e for e in reference(case, "float64").arrays}
    outcome = consult(case, case.draw("float64"))
    names = [spec.name for spec in case.make().weight_specs(*case.shapes)]
    said = {f"output {k}": np.array(y) for k, y in enumerate(outcome.outputs)}
    said |= {f"{name} after the call": np.array(w) for name, w in outcome.weights.items() if name in names}
    assert said
    wrong = [f.detail for what, array in said.items() if not (f := compare(expected[what], array, "float64")).right]
    assert not wrong, "\n".join([case.id, *wrong])


SMOOTH = [case for case in CHECKED if case.data != "wide" and sum(math.prod(s) for s in case.shapes) <= 150][::3]


def test_gradients_of_definitions_are_those_of_the_loops(layerhub_smooth):
    """Along a random direction through all inputs and weights, by extrapolated differences of the oracle."""
    case = layerhub_smooth
    drawn = case.draw("float64")
    got = evaluate_layer(
        case.make(), drawn.inputs, drawn.weights, "numpy", case.training, drawn.masks, drawn.states or None,
        drawn.cotangents, "float64", 0, "definition",
    )  # fmt: skip
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
