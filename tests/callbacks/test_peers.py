"""Decisions of callbacks beside Keras's, fed with the same logs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from layerhub import callbacks as ours

GRID = 64
"""Figures are whole numbers over this: exact in float32, in which Keras compares them."""


@pytest.fixture(scope="module")
def theirs(keras: Any) -> Any:
    """Keras's callbacks."""
    return keras.callbacks


class Rate:
    """An optimizer as callbacks see it."""

    def __init__(self):
        self.learning_rate = 1.0


class Model:
    """A model as callbacks see it: it writes down what becomes of it."""

    output_names: tuple[str, ...] = ()
    _metrics: tuple[Any, ...] = ()

    def __init__(self):
        self.stop_training, self.optimizer, self.epoch, self.saved = False, Rate(), 0, []

    def get_weights(self):
        return self.epoch

    def set_weights(self, epoch):
        self.epoch = epoch

    def save(self, path, overwrite=True):
        self.saved.append(os.path.basename(path))

    save_weights = save


def driven(callback: Any, figures: np.ndarray, steps: int = 0) -> list[Any]:
    """What becomes of a model in a training with these figures: after each epoch, and at the end."""
    model, told = Model(), []
    callback.set_model(model)
    callback.set_params({"epochs": len(figures), "verbose": 0})
    callback.on_train_begin({})
    for epoch, value in enumerate(figures):
        callback.on_epoch_begin(epoch, {})
        for batch in range(steps):
            callback.on_train_batch_end(batch, {"loss": float(value)})
        model.epoch = epoch
        callback.on_epoch_end(epoch, {"loss": float(value), "val_loss": float(value), "rising": float(value)})
        told.append((model.stop_training, model.optimizer.learning_rate, tuple(model.saved)))
        if model.stop_training:
            break
    callback.on_train_end({})
    return [*told, model.epoch]


def figures(rng: np.random.Generator) -> np.ndarray:
    """Figures that go up and down, stand still, and come back to where they were."""
    return np.cumsum(rng.integers(-3, 3, size=int(rng.integers(1, 14)))) / GRID


def options(rng: np.random.Generator) -> dict[str, Any]:
    """What is watched, and which way."""
    monitor, mode = [("val_loss", "auto"), ("loss", "min"), ("rising", "max"), ("loss", "max")][rng.integers(4)]
    return {"monitor": monitor, "mode": mode}


def both(theirs, name, given, values, steps=0):
    return [driven(getattr(library, name)(**given), values, steps) for library in (ours, theirs)]


@pytest.mark.parametrize("seed", range(60))
def test_early_stopping_stops_when_keras_does_and_takes_the_same_weights_back(theirs, seed):
    rng = np.random.default_rng(seed)
    given = options(rng) | {
        "min_delta": int(rng.integers(-1, 3)) / GRID,
        "patience": int(rng.integers(0, 4)),
        "baseline": [None, int(rng.integers(-4, 4)) / GRID][rng.integers(2)],
        "restore_best_weights": bool(rng.integers(2)),
        "start_from_epoch": int(rng.integers(0, 3)),
    }
    mine, other = both(theirs, "EarlyStopping", given, figures(rng))
    assert mine == other


@pytest.mark.parametrize("seed", range(60))
def test_a_plateau_reduces_the_learning_rate_when_it_does_in_keras(theirs, seed):
    rng = np.random.default_rng(seed)
    given = options(rng) | {
        "factor": [0.5, 0.25][rng.integers(2)],
        "min_delta": int(rng.integers(0, 3)) / GRID,
        "patience": int(rng.integers(0, 3)),
        "cooldown": int(rng.integers(0, 3)),
        "min_lr": [0.0, 0.125, 0.3125][rng.integers(3)],
    }
    mine, other = both(theirs, "ReduceLROnPlateau", given, figures(rng))
    assert mine == other


@pytest.mark.parametrize("seed", range(60))
def test_checkpoints_are_saved_when_keras_saves_them_and_under_the_same_names(theirs, seed, tmp_path):
    rng = np.random.default_rng(seed)
    best = bool(rng.integers(2))
    given = options(rng) | {
        "filepath": str(tmp_path / "{epoch:02d}-{loss:.3f}.keras"),
        "save_best_only": best,
        # Keras fails where it is to compare before the first epoch has ended.
        "save_freq": "epoch" if best else ["epoch", 1, 3, 5][rng.integers(4)],
        "initial_value_threshold": [None, int(rng.integers(-4, 4)) / GRID][rng.integers(2)],
    }
    mine, other = both(theirs, "ModelCheckpoint", given, figures(rng), steps=int(rng.integers(1, 5)))
    assert mine == other


# Where Keras is wrong


def test_a_first_figure_that_is_nan_hides_all_later_ones_from_keras_and_not_from_us(theirs):
    values = [np.nan, 3.0, 2.0, 1.0]
    mine, other = both(theirs, "EarlyStopping", {"monitor": "loss", "patience": 2}, values)
    assert [stopped for stopped, *_ in mine[:-1]] == [False] * 4
    assert [stopped for stopped, *_ in other[:-1]] == [False, False, True]


def test_an_improvement_that_float32_cannot_hold_is_one_for_us_and_not_for_keras(theirs):
    values = 1 - np.arange(4) * 1e-9
    mine, other = both(theirs, "EarlyStopping", {"monitor": "loss", "patience": 2}, values)
    assert [stopped for stopped, *_ in mine[:-1]] == [False] * 4
    assert [stopped for stopped, *_ in other[:-1]] == [False, False, True]
