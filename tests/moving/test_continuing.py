"""A model that moves at any moment of training goes on as if it had stayed."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import layerhub as lh
from layerhub.callbacks import LambdaCallback

from .conftest import NEAR, SHARES, Mover, X, Y, apart, everything, laden, training

rules = lh.optimizers
MOMENTS = {
    "before the first step": ["on_train_begin"],
    "before each batch": ["on_train_batch_begin"],
    "after each batch": ["on_train_batch_end"],
    "at the ends of epochs": ["on_epoch_begin", "on_epoch_end"],
    "within validation": ["on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"],
    "all the time": [
        "on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_test_begin",
        "on_test_batch_begin", "on_test_batch_end", "on_test_end", "on_epoch_end", "on_train_end",
    ],
}  # fmt: skip


@cache
def still() -> dict[str, list[Any]]:
    return training(laden("numpy"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_model_may_move_at_any_moment_of_fit(moment):
    pytest.importorskip("torch")
    mover = Mover(["torch", "numpy"], MOMENTS[moment])
    moved = training(laden("numpy"), mover)
    assert mover.moves >= len(MOMENTS[moment])
    assert apart(still(), moved) < NEAR


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_compiling_backend_takes_over_within_an_epoch_and_gives_back_within_validation(backend):
    pytest.importorskip(backend)
    model = laden("numpy", rnn=False)
    away = LambdaCallback(on_train_batch_end=lambda batch, logs: batch == 2 and model.to(backend))
    home = LambdaCallback(on_test_batch_end=lambda batch, logs: model.to("numpy"))
    away.on_epoch_begin = lambda epoch, logs: setattr(model.get_layer("frozen"), "trainable", True)
    assert apart(training(laden("numpy", rnn=False), epochs=1), training(model, away, home, epochs=1)) < NEAR


def scaled() -> Any:
    """Its first steps overflow, even in float64: they are skipped, and the scale is halved."""
    return rules.LossScaleOptimizer(rules.Adam(0.01), initial_scale=1e308, dynamic_growth_steps=3)


def shared_out() -> Any:
    return rules.MultiOptimizer(lambda w: rules.SGD(0.1, momentum=0.9) if "bias" in w.path else rules.Adafactor(0.01))


RULES = {
    "accumulating": lambda: rules.Adam(0.01, gradient_accumulation_steps=4),
    "averaging": lambda: rules.SGD(0.1, use_ema=True),
    "without slots": lambda: rules.SGD(0.1),
    "with slots of other shapes": lambda: rules.Adafactor(0.01),
    "by matrices": lambda: rules.Muon(0.01),
    "between two points": lambda: rules.ScheduleFreeAdamW(0.01),
    "scaling": scaled,
    "several": shared_out,
}


@pytest.mark.parametrize("rule", RULES)
def test_an_optimizer_goes_on_from_where_it_is_in_the_midst_of_an_accumulation(rule):
    pytest.importorskip("torch")
    alone = training(laden("numpy", RULES[rule]()))
    moved = training(laden("numpy", RULES[rule]()), Mover(["torch", "numpy"], ["on_train_batch_end"]))
    assert apart(alone, moved) < NEAR


def test_the_scale_of_the_loss_was_skipped_and_found_on_the_way():
    pytest.importorskip("torch")
    model = laden("numpy", scaled())
    training(model, Mover(["torch", "numpy"], ["on_train_batch_end"]), epochs=1)
    scaling = model.executor.scaling
    assert scaling.skipped > 0
    assert model.executor.batch_number == model.executor.step + 1 - scaling.skipped


def thawing(model: lh.Model) -> LambdaCallback:
    """Thaws the frozen layer in the midst of an epoch."""
    return LambdaCallback(
        on_train_batch_begin=lambda batch, logs: setattr(model.get_layer("frozen"), "trainable", True)
    )


def test_what_is_thawed_within_fit_is_trained_from_the_next_fit_on_moved_or_not():
    pytest.importorskip("torch")
    alone, moved = laden("numpy"), laden("numpy")
    before = alone.get_layer("frozen").get_weights()
    first = training(alone, thawing(alone)), training(moved, thawing(moved), Mover(["torch"], ["on_epoch_end"]))
    assert apart(*first) < NEAR
    assert np.array_equal(before[0], alone.get_layer("frozen").get_weights()[0])
    second = training(alone), training(moved, Mover(["numpy", "torch"], ["on_train_batch_begin"]))
    assert apart(*second) < NEAR
    assert not np.array_equal(before[0], alone.get_layer("frozen").get_weights()[0])


def test_a_frozen_layer_keeps_its_slots_over_moves_until_it_is_thawed():
    pytest.importorskip("torch")
    runs = []
    for places in ([None, None, None], ["torch", "numpy", "torch"]):
        model = laden("numpy", everything())
        layer, curve = model.get_layer("frozen"), []
        for trainable, place in zip([True, False, True], places, strict=True):
            layer.trainable = trainable
            model.to(place)
            curve += [model.train_on_batch(X[:8], Y[:8], SHARES[:8]) for _ in range(3)]
        runs.append({"curve": curve, "weights": model.get_weights()})
    assert apart(*runs) < NEAR


def test_figures_gathered_batch_by_batch_move_along_and_so_do_states():
    pytest.importorskip("torch")
    alone, moved = laden("numpy"), laden("numpy")
    for first in range(0, 32, 8):
        rows = slice(first, first + 8)
        assert moved.test_on_batch(X[rows], Y[rows]) == pytest.approx(alone.test_on_batch(X[rows], Y[rows]), abs=NEAR)
        moved.to("torch" if moved.backend == "numpy" else "numpy")
    assert np.max(np.abs(alone.predict(X[:8]) - moved.predict(X[:8]))) < NEAR
    moved.to("torch").reset_states()
    assert np.max(np.abs(moved.predict(X[:8]) - laden("numpy").predict(X[:8]))) < NEAR


def test_learning_rates_that_are_set_by_hand_are_those_of_the_model_wherever_it_is():
    pytest.importorskip("torch")
    runs = []
    for places in ([None] * 4, ["torch", "numpy", "torch", "torch"]):
        model, curve = laden("numpy", rules.Adam(0.1)), []
        for rate, place in zip([0.1, 0.01, 0.3, 0.05], places, strict=True):
            model.to(place)
            model.optimizer.learning_rate = rate
            curve.append(model.train_on_batch(X[:8], Y[:8], SHARES[:8]))
        runs.append({"curve": curve})
    assert apart(*runs) < NEAR
    assert model.to("numpy").optimizer.learning_rate == 0.05


def test_moving_before_anything_was_computed_changes_nothing():
    pytest.importorskip("torch")
    model = laden("numpy").to("torch").to("numpy").to("torch")
    assert apart(still(), training(model)) < NEAR


def test_draws_of_inference_are_the_same_wherever_the_model_is_however_long_it_was_trained():
    x = lh.Input((4,), dtype="float64")
    hidden = lh.layers.Dense(8, dtype="float64")
    noisy = lh.layers.Dropout(0.5, dtype="float64")(hidden(x), training=True)
    model = lh.Model(x, lh.layers.Dense(2, dtype="float64")(noisy), backend="numpy", seed=1)
    model.compile("sgd", "mse")
    data, aims = np.ones((8, 4)), np.ones((8, 2))
    model.fit(data, aims, epochs=2, verbose=0)
    predicted, loss = model.predict(data), model.evaluate(data, aims, verbose=0)
    assert not np.array_equal(predicted[0], predicted[1])
    for backend in ("torch", "jax", "tensorflow"):
        pytest.importorskip(backend)
        model.to(backend)
        assert np.max(np.abs(model.predict(data) - predicted)) < NEAR
        assert np.max(np.abs(np.asarray(model.executor.backend.to_numpy(model(data))) - predicted)) < NEAR
        assert abs(model.evaluate(data, aims, verbose=0) - loss) < NEAR
    assert np.max(np.abs(model.to("torch").native(model.executor.array(data)).detach().numpy() - predicted)) < NEAR
