"""Callbacks that watch a figure, in real training; what they decide is held to Keras's in test_peers."""

from __future__ import annotations

import re

import numpy as np
import pytest

import layerhub as lh
from layerhub.callbacks import (
    Callback,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from layerhub.callbacks.given import Every
from layerhub.errors import OldSpellingWarning, ParameterError, TrainingError


class Told(Callback):
    """Puts figures of the test's own in the place of those of the epochs, before others hear of them."""

    def __init__(self, **figures):
        self.figures_of = figures

    def on_epoch_end(self, epoch, logs=None):
        logs |= {name: values[epoch] for name, values in self.figures_of.items()}


def test_the_weights_of_the_best_epoch_come_back_on_every_backend(backend, make, fit):
    kept = []
    keeping = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()))
    model = make(backend=backend)
    stopping = EarlyStopping("loss", patience=2, restore_best_weights=True)
    history = fit(model, Told(loss=[3, 1, 2, 2, 0]), keeping, stopping, epochs=5)
    assert history.epoch == [0, 1, 2, 3]
    assert stopping.best_epoch == 1
    for a, b in zip(model.get_weights(), kept[1], strict=True):
        assert np.array_equal(a, b)


def test_a_plateau_reduces_the_learning_rate_of_the_steps_that_follow_on_every_backend(backend, make, fit):
    """Where the learning rate is 0 in the end, weights stand still."""
    model, kept = make(backend=backend), []
    keeping = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()[0]))
    plateau = ReduceLROnPlateau("loss", factor=1e-30, patience=1, min_lr=0)
    history = fit(model, Told(loss=[1, 1, 1]), plateau, keeping, epochs=3)
    assert history.history["learning_rate"] == [0.01, 0.01, 0.01 * 1e-30]
    assert not np.array_equal(kept[0], kept[1])
    assert np.array_equal(kept[1], kept[2])


@pytest.mark.parametrize(
    "name, metric, aim",
    [
        ("val_accuracy", "accuracy", 1),
        ("mae", "mae", -1),
        ("auc", lh.metrics.AUC(), 1),
        ("root_mean_squared_error", lh.metrics.RootMeanSquaredError(), -1),
        ("cosine_similarity", lh.metrics.CosineSimilarity(), 1),
        ("mean", lh.metrics.MeanSquaredError(name="mean"), -1),
        ("r2_score", lh.metrics.R2Score(), 1),
    ],
)
def test_which_way_is_better_follows_from_the_metric(name, metric, aim, make):
    stopping = EarlyStopping(name)
    stopping.set_model(make(metrics=[metric]))
    stopping.on_train_begin()
    assert stopping.direction == aim


def test_the_loss_of_an_output_is_to_become_smaller():
    x = lh.Input((3,))
    model = lh.Model(x, [lh.layers.Dense(1, name="a")(x), lh.layers.Dense(1, name="b")(x)])
    model.compile("sgd", "mse")
    stopping = EarlyStopping("val_b_loss")
    stopping.set_model(model)
    stopping.on_train_begin()
    assert stopping.direction == -1


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_a_figure_whose_better_way_is_not_known_is_refused_before_training_begins(kind, make, fit):
    model = make(metrics=[lambda y, p: p - y])
    before = model.get_weights()
    with pytest.raises(
        ParameterError, match=rf"{kind.__name__}: whether 'odd' should become .*mode='min' or mode='max'"
    ):
        fit(model, kind("odd"))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_a_figure_that_is_not_there_is_told_of_with_those_that_are(kind, make, fit):
    with pytest.warns(UserWarning, match=rf"{kind.__name__}: the logs have no 'val_loss'.*They have: loss"):
        assert fit(make(), kind(), epochs=2).epoch == [0, 1]


def test_a_figure_that_is_several_is_refused(make, fit):
    with pytest.raises(ParameterError, match=r"'loss' must be one number to be watched, but it is \[1, 2\]"):
        fit(make(), Told(loss=[[1, 2]]), EarlyStopping("loss"))


@pytest.mark.parametrize(
    "kind, given, said",
    [
        (EarlyStopping, {"mode": "down"}, "mode must be one of 'auto', 'min', 'max', not 'down'"),
        (EarlyStopping, {"patience": -1}, "patience must be an int, 0 or more, not -1"),
        (EarlyStopping, {"patience": 1.5}, "patience must be an int"),
        (EarlyStopping, {"min_delta": "a"}, "min_delta must be a number, not 'a'"),
        (EarlyStopping, {"baseline": float("nan")}, "baseline must be a number"),
        (EarlyStopping, {"monitor": 3}, "monitor must be the name of a figure"),
        (ReduceLROnPlateau, {"factor": 1.0}, "factor must be above 0 and below 1, not 1.0"),
        (ReduceLROnPlateau, {"factor": 0}, "factor must be above 0"),
        (ReduceLROnPlateau, {"cooldown": True}, "cooldown must be an int"),
        (ReduceLROnPlateau, {"min_dleta": 1}, r"no argument 'min_dleta'. Did you mean 'min_delta'\?"),
        (ModelCheckpoint, {"filepath": "a.txt"}, "a model is saved to .keras, .h5, .hdf5, not 'a.txt'"),
        (ModelCheckpoint, {"filepath": "a.keras", "save_weights_only": True}, "weights are saved to .weights.h5"),
        (ModelCheckpoint, {"filepath": "a.keras", "save_freq": "batch"}, 'save_freq must be "epoch" or a number'),
        (ModelCheckpoint, {"filepath": "a.keras", "save_freq": 0}, "save_freq must be an int, 1 or more, not 0"),
    ],
)
def test_what_is_given_is_checked_when_it_is_given(kind, given, said):
    with pytest.raises(ParameterError, match=f"{kind.__name__}.*{said}"):
        kind(**given)


def test_the_threshold_of_a_plateau_had_another_name_in_keras_1():
    with pytest.warns(OldSpellingWarning, match="epsilon is an old spelling; say min_delta="):
        assert ReduceLROnPlateau(epsilon=0.5).min_delta == 0.5


def test_a_schedule_cannot_be_reduced_and_that_is_said_before_training_begins(make, fit):
    schedule = lh.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(ParameterError, match="ReduceLROnPlateau sets the learning rate, but learning_rate is Exp"):
        fit(make(lh.optimizers.SGD(schedule)), ReduceLROnPlateau("loss"))


def test_each_of_several_optimizers_is_reduced_to_no_less_than_the_least(make, fit):
    first, second = lh.optimizers.SGD(0.5), lh.optimizers.Adam(0.01)
    optimizer = lh.optimizers.MultiOptimizer(lambda weight: first if "kernel" in weight.path else second)
    history = fit(make(optimizer), Told(loss=[1, 1]), ReduceLROnPlateau("loss", 0.5, 1, min_lr=0.01), epochs=2)
    assert (first.learning_rate, second.learning_rate) == (0.25, 0.01)
    assert history.history["learning_rate_sgd"] == [0.5, 0.5]
    assert history.history["learning_rate_adam"] == [0.01, 0.01]


def test_what_is_done_is_printed_where_that_is_wanted(make, fit, capsys):
    told = Told(loss=[2, 1, 1, 1])
    stopping = EarlyStopping("loss", patience=2, verbose=1, restore_best_weights=True)
    fit(make(), told, ReduceLROnPlateau("loss", 0.5, 1, verbose=1), stopping, epochs=9)
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 3: ReduceLROnPlateau sets learning_rate to 0.005",
        "Epoch 4: ReduceLROnPlateau sets learning_rate to 0.0025",
        "Epoch 4: EarlyStopping ends training",
        "EarlyStopping takes the weights of epoch 2 back",
    ]


def test_the_first_epoch_never_ends_training_and_its_weights_are_the_best_as_long_as_nothing_is_known(make, fit):
    model, kept = make(), []
    keeping = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()))
    stopping = EarlyStopping("loss", patience=1, restore_best_weights=True)
    history = fit(model, Told(loss=[float("nan")] * 4), keeping, stopping, epochs=4)
    assert history.epoch == [0, 1]
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), kept[0], strict=True))


def test_a_learning_rate_that_is_the_least_already_is_not_said_to_be_reduced(make, fit, capsys):
    fit(make(), Told(loss=[1, 1, 1]), ReduceLROnPlateau("loss", 0.5, 1, verbose=1, min_lr=0.005), epochs=3)
    assert capsys.readouterr().out.splitlines() == ["Epoch 2: ReduceLROnPlateau sets learning_rate to 0.005"]


def test_batches_that_come_several_at_once_are_all_counted():
    every = Every(4)
    assert [every.due(batch) for batch in (1, 3, 4, 1, 3, 0)] == [False, True, False, False, True, False]
    assert every.all == 10


# Checkpoints


def test_a_checkpoint_is_a_model_of_its_moment_on_every_backend(backend, make, fit, tmp_path):
    kept = []
    keeping = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()))
    model = make("adam", backend)
    fit(model, keeping, ModelCheckpoint(tmp_path / "deep" / "{epoch:02d}.keras"), epochs=2)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["01.keras", "02.keras"]
    loaded = lh.models.load_model(tmp_path / "deep" / "01.keras")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.get_weights(), kept[0], strict=True))


@pytest.mark.parametrize("name", ["{epoch}.weights.h5", "{epoch}.safetensors", "{epoch}.h5"])
def test_weights_alone_are_saved_in_the_format_of_the_suffix(name, make, fit, tmp_path):
    model, other = make(), make()
    fit(model, ModelCheckpoint(tmp_path / name, save_weights_only=True))
    other.load_weights(tmp_path / name.format(epoch=1))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def test_checkpoints_after_so_many_batches_have_the_batch_and_its_figures_in_their_names(make, fit, tmp_path):
    seen = {}
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.setdefault(batch, logs["loss"]))
    fit(make(), ModelCheckpoint(tmp_path / "{epoch}-{batch}-{loss:.5f}.keras", save_freq=3), watch)
    assert [path.name for path in tmp_path.iterdir()] == [f"1-3-{seen[2]:.5f}.keras"]


def test_figures_of_batches_are_read_only_when_something_is_saved(make, fit, tmp_path, monkeypatch):
    model, read = make(), []
    results = type(model.executor).results
    monkeypatch.setattr(type(model.executor), "results", lambda self: read.append(1) or results(self))
    fit(model, ModelCheckpoint(tmp_path / "{batch}.keras", save_freq=3))
    assert len(read) == 2  # after the third batch, and at the end of the epoch


def test_only_what_is_best_is_saved(make, fit, tmp_path, capsys):
    told = Told(loss=[3.0, 4.0, 1.0])
    fit(make(), told, ModelCheckpoint(tmp_path / "{epoch}.keras", "loss", 1, save_best_only=True), epochs=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.keras", "3.keras"]
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "Epoch 2: loss is 4, which is no better than 3"
    assert said[2] == f"Epoch 3: saved to {tmp_path / '3.keras'}"


def test_a_name_that_speaks_of_what_is_not_there_is_refused_with_what_is(make, fit, tmp_path):
    with pytest.raises(ParameterError, match=r"\{val_los\}.*cannot be filled in.*may speak of: loss, epoch"):
        fit(make(), ModelCheckpoint(tmp_path / "{val_los}.keras"))


def test_checkpoints_had_a_period_in_epochs_in_keras_2(make, fit, tmp_path):
    with pytest.warns(OldSpellingWarning, match="period, in epochs, is an old argument"):
        saving = ModelCheckpoint(tmp_path / "{epoch}.keras", period=2)
    fit(make(), saving, epochs=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.keras", "4.keras"]


# NaN


def test_a_loss_that_is_no_number_ends_training_in_the_middle_of_the_epoch(backend, make, fit, capsys):
    batches = []
    watch = LambdaCallback(on_train_batch_begin=lambda batch, logs: batches.append(batch))
    with np.errstate(all="ignore"):
        history = fit(make(lh.optimizers.SGD(1e30), backend), TerminateOnNaN(), watch, epochs=5)
    assert history.epoch == [0]
    assert len(batches) < 4
    assert re.fullmatch(r"Batch \d: the loss is (nan|inf); TerminateOnNaN ends training\n", capsys.readouterr().out)


def test_a_loss_that_is_no_number_raises_where_that_is_wanted(make, fit):
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match=r"the loss is (nan|inf) at batch \d"):
        fit(make(lh.optimizers.SGD(1e30)), TerminateOnNaN(raise_error=True))
