"""The definitions against independent ground truth: loops over plain numbers, and differences of them."""

from __future__ import annotations

import math

import numpy as np

from layerhub.layers import serialize
from layerhub.probe import evaluate_layer
from layerhub.spec.layer import Layer
from layerhub.stream import Stream
from layerhub.variable import HOST
from layerhub_conformance.case import Case, Drawn
from layerhub_conformance.cases import corpus
from layerhub_conformance.oracle import ORACLES, difference, flatten, unflatten
from layerhub_conformance.reference import compare, reference

LARGEST = 400
"""Elements of a case's inputs beyond which loops over plain numbers take too long."""

CHECKED = [
    case
    for case in corpus()
    if case.layer in ORACLES
    and sum(math.prod(shape) for shape in case.shapes) <= LARGEST
    and all(0 not in shape for shape in case.shapes)
    and not (case.training and case.config.get("dropout", 0) + case.config.get("recurrent_dropout", 0))
]


def parameters(layer: Layer) -> dict:
    """A layer's configuration as oracles take it: sizes as tuples."""
    config = serialize(layer)["config"]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def consult(case: Case, drawn: Drawn):
    """What the oracle says: outputs and new weights as nested lists."""
    layer = case.make()
    bits = None
    if "rng" in layer.extras and case.layer == "Dropout":
        noise = [
            n if n is not None else s for n, s in zip(layer.noise_shape or case.shapes[0], case.shapes[0], strict=True)
        ]
        seed = 0 if layer.seed is None else layer.seed
        bits = HOST.random_bits(Stream.at(seed, "0"), tuple(noise)).reshape(-1).tolist()
    masks = [None if m is None else m.tolist() for m in drawn.masks]
    return ORACLES[case.layer](
        parameters(layer),
        [x.tolist() for x in drawn.inputs],
        [w.tolist() for w in drawn.weights],
        training=case.training and layer.trainable,
        mask=masks[0] if len(masks) == 1 else (masks if any(m is not None for m in masks) else None),
        initial_state=[s.tolist() for s in drawn.states] or None,
        bits=bits,
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
