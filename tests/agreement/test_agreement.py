"""Ten steps of training come to the same on every backend, and in Keras: a part of what tools/agreement.py trains."""

from __future__ import annotations

import math
import os
import re
import warnings
from functools import cache
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from agreement import EXCLUSIONS, KERAS, NEAR, SIDES, differences, excluded, too_far
from grid import MODELS, OPTIMIZERS, OURS_ALONE, STEPS, Case, Told, trained

import layerhub as lh

PAGE = Path(__file__).parents[2] / "docs" / "agreement.md"
PAIRS = list(zip(cycle(MODELS), OPTIMIZERS, strict=False))
"""Each optimizer once, and each model two or three times."""
TRACED = [("convolutional", "MultiOptimizer"), ("recurrent", "Lamb"), ("attention", "Muon"), ("dropout", "Adafactor")]
COMPILED = [("several", "global_clipnorm"), ("siamese", "EMA"), ("attention", "Lion"), ("dense", "ScheduleFreeAdamW")]
WITH_KERAS = [("recurrent", "RMSprop"), ("bidirectional", "Lion"), ("several", "clipnorm"), ("attention", "Adam")]
MOVES = [
    # Accumulating over three batches, the fifth step is in the middle of an update.
    ("dropout", "EMA, accumulation", "numpy", "torch", "numpy"),
    ("dropout", "EMA, accumulation", "torch", "tensorflow"),
    ("dropout", "LossScaleOptimizer", "tensorflow", "numpy"),
    ("several", "EMA, accumulation", "jax", "torch"),
    ("several", "LossScaleOptimizer", "torch", "jax"),
]


def named(pair):
    return "-".join(pair)


@cache
def reference(model: str, optimizer: str) -> Told:
    """What it comes to on numpy in float64."""
    return trained("layerhub", Case(model, optimizer))


def assert_agrees(told: Told, case: Case, side: str) -> None:
    found = {(side, case): differences(reference(*case[:2]), told, case, side)}
    assert not too_far(found), too_far(found)[:5]


def test_every_model_and_every_optimizer_is_tried_here():
    assert {model for model, _ in PAIRS} == set(MODELS)
    assert {optimizer for _, optimizer in PAIRS} == set(OPTIMIZERS)
    tried = {type(make(lh)).__name__ for make in OPTIMIZERS.values()}
    assert tried >= {
        name for name in lh.spec.KINDS["optimizer"] if lh.spec.KINDS["optimizer"].origin[name] == "layerhub"
    }


@pytest.mark.parametrize("pair", PAIRS, ids=named)
def test_torch_trains_as_numpy_does(pair):
    assert_agrees(trained("layerhub", Case(*pair), ("torch",)), Case(*pair), "torch")


@pytest.mark.parametrize("side", ["numpy", "torch"])
@pytest.mark.parametrize("pair", PAIRS[::3], ids=named)
def test_in_float32_training_stays_as_near_to_float64_as_the_type_allows(pair, side):
    case = Case(*pair, "float32")
    assert_agrees(trained("layerhub", case, (side,)), case, side)


@pytest.mark.parametrize("pair", TRACED, ids=named)
def test_tensorflow_trains_as_numpy_does(pair):
    assert_agrees(trained("layerhub", Case(*pair), ("tensorflow",)), Case(*pair), "tensorflow")


@pytest.mark.parametrize("pair", COMPILED, ids=named)
def test_jax_trains_as_numpy_does(pair):
    assert_agrees(trained("layerhub", Case(*pair), ("jax",)), Case(*pair), "jax")


@pytest.mark.xdist_group("keras-layers")
@pytest.mark.parametrize("pair", WITH_KERAS, ids=named)
def test_keras_trains_as_we_do(pair):
    os.environ["KERAS_BACKEND"] = "tensorflow"
    pytest.importorskip("tensorflow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("keras")
        told = trained("keras", Case(*pair))
    assert_agrees(told, Case(*pair), KERAS)


@pytest.mark.parametrize("move", MOVES, ids=named)
def test_a_model_that_moves_in_the_middle_comes_to_what_one_that_stays_comes_to(move):
    case = Case(*move[:2])
    assert_agrees(trained("layerhub", case, move[2:]), case, "moved")


# What the tests themselves can see


@cache
def nudged(name: str) -> Told:
    told = reference("biased", "Adam")
    return Told(told.arrays | {name: told.arrays[name] * (1 + 2 * NEAR["float64"])}, told.row)


@pytest.mark.parametrize("name", sorted(trained("layerhub", Case("biased", "Adam")).arrays))
def test_a_difference_in_any_array_is_seen_unless_it_is_excluded(name):
    case = Case("biased", "Adam")
    found = differences(reference(*case[:2]), nudged(name), case, "torch")
    seen = [difference.name for _, _, difference in too_far({("torch", case): found})]
    assert seen == ([] if excluded(name, case, "torch") else [name])
    assert not (name.startswith("log") and excluded(name, case, "torch")), "losses are never excluded"


def test_arrays_that_are_missing_or_nan_do_not_agree():
    case, told = Case("dense", "SGD"), reference("dense", "SGD")
    fewer = dict(told.arrays)
    del fewer["weight head/bias"]
    with pytest.raises(ValueError, match="torch has other arrays"):
        differences(told, Told(fewer), case, "torch")
    spoilt = Told(told.arrays | {"log loss": told.arrays["log loss"] * math.nan})
    assert [d.name for _, _, d in too_far({("torch", case): differences(told, spoilt, case, "torch")})] == ["log loss"]


@pytest.mark.parametrize(
    "one, other", [("momentum", "nesterov"), ("Adam", "amsgrad"), ("Adam", "clipnorm"), ("SGD", "weight_decay")]
)
def test_training_otherwise_comes_to_something_else(one, other):
    a, b = reference("dense", one), reference("dense", other)
    same = [name for name in a.arrays if np.array_equal(a.arrays[name], b.arrays.get(name))]
    assert not [name for name in same if name.startswith("weight")]


@pytest.mark.parametrize("exclusion", [e for e in EXCLUSIONS if KERAS not in e.sides], ids=lambda e: e.names)
def test_an_exclusion_names_arrays_that_there_are(exclusion):
    for model in exclusion.models:
        names = reference(model, "Adam").arrays
        assert any(re.fullmatch(exclusion.names, name.replace("/", ".")) for name in names)


def test_a_bias_before_batch_normalization_is_moved_by_rounding_alone_and_losses_do_not_mind():
    case = Case("biased", "Lion")
    one, other = (trained("layerhub", case, (side,)) for side in ("numpy", "torch"))
    bias = "weight conv/bias"
    assert np.max(np.abs(one.arrays[bias] - other.arrays[bias])) > 1e-3
    assert np.max(np.abs(one.arrays["log loss"] / other.arrays["log loss"] - 1)) < NEAR["float64"]


# What Keras does otherwise, computed by hand


def test_nadam_follows_the_paper_in_double_precision():
    told, optimizer = reference("dense", "Nadam"), OPTIMIZERS["Nadam"](lh)
    model = lh.Sequential([lh.Input((1,), dtype="float64"), lh.layers.Dense(1, use_bias=False, dtype="float64")])
    model.set_weights([np.array([[0.5]])])
    model.compile(optimizer, lambda y_true, y_pred: y_true * y_pred)
    b1, b2, rate, epsilon = optimizer.beta_1, optimizer.beta_2, optimizer.learning_rate, optimizer.epsilon
    w, m, v, product = 0.5, 0.0, 0.0, 1.0
    for step in range(1, STEPS + 1):
        g = float(np.cos(step))
        model.train_on_batch(np.ones((1, 1)), np.full((1, 1), g))
        # Dozat 2016, algorithm 2, with the schedule of its section 3.
        now, ahead = b1 * (1 - 0.5 * 0.96**step), b1 * (1 - 0.5 * 0.96 ** (step + 1))
        product *= now
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        mean = ahead * m / (1 - product * ahead) + (1 - now) * g / (1 - product)
        w -= rate * mean / (math.sqrt(v / (1 - b2**step)) + epsilon)
    assert abs(model.get_weights()[0].item() - w) < 1e-14
    assert told.arrays["log loss"].shape == (STEPS,)


# The page


def tables() -> dict[tuple[str, str], list[list[str]]]:
    """The page's tables of figures, by side and type, cell by cell."""
    found = {}
    for heading, text in re.findall(r"^## (\w+, float\d+)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.M | re.S):
        lines = [line for line in text.splitlines() if line.startswith("|")]
        side, dtype = heading.split(", ")
        found[side, dtype] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return found


def test_the_page_has_all_that_is_trained():
    told = set(tables()) | {("numpy", "float64")}
    left_out = re.search(r"^Not trained for this page: (.*)\.$", PAGE.read_text("utf-8"), re.M)
    missing = [f"{side} in {dtype}" for side in SIDES for dtype in NEAR if (side, dtype) not in told]
    assert missing == (left_out[1].split(", ") if left_out else [])
    assert told >= {(side, "float64") for side in SIDES}
    for (side, _), (head, _, *rows) in tables().items():
        assert head == ["", *(model for model in MODELS if side != KERAS or model not in OURS_ALONE)]
        assert [row[0] for row in rows] == list(OPTIMIZERS)


def test_all_of_it_agrees_and_only_keras_is_left_out_anywhere():
    for (side, dtype), (_, _, *rows) in tables().items():
        cells = [cell for row in rows for cell in row[1:]]
        assert max(float(cell) for cell in cells if cell != "–") <= NEAR[dtype]
        assert side == KERAS or "–" not in cells
