"""The learning rate, and moving averages of the weights, while training goes on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import layerhub as lh
from layerhub.callbacks import Callback, LambdaCallback, LearningRateScheduler, ModelCheckpoint, SwapEMAWeights
from layerhub.errors import ParameterError

RNG = np.random.default_rng(23)
X, Y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 1))


def test_the_rate_that_the_schedule_gives_is_that_of_the_epoch_on_every_backend(backend, make, fit):
    """Plain steps down the gradient: with rates 0, r and 0 the weights move in the second epoch alone."""
    model, kept = make(backend=backend), [make().get_weights()[0]]
    keeping = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()[0]))
    history = fit(model, LearningRateScheduler(lambda epoch: [0.0, 0.5, 0.0][epoch]), keeping, epochs=3)
    assert history.history["learning_rate"] == [0.0, 0.5, 0.0]
    moved = [not np.array_equal(a, b) for a, b in pairwise(kept)]
    assert moved == [False, True, False]


class Schedule:
    """A schedule as an object, of both arguments."""

    def __call__(self, epoch, rate):
        return rate / 2


@pytest.mark.parametrize(
    "schedule, rates",
    [
        (lambda epoch, rate: rate * 0.5, [0.005, 0.0025]),
        (lambda epoch, lr=1: lr * 0.5, [0.005, 0.0025]),
        (lambda epoch: 1 / (epoch + 1), [1, 0.5]),
        (Schedule(), [0.005, 0.0025]),
        (lambda epoch: np.float32(0.5), [0.5, 0.5]),
        (lambda epoch: np.array(2), [2, 2]),
        (max, [0.01, 1]),  # written in C, and says nothing of its arguments
    ],
)
def test_schedules_take_the_epoch_and_the_rate_so_far_if_they_want_it(schedule, rates, make, fit):
    history = fit(make(), LearningRateScheduler(schedule), epochs=2).history
    assert history["learning_rate"] == pytest.approx(rates)


@pytest.mark.parametrize("given", [None, "fast", float("nan"), True])
def test_a_schedule_that_gives_no_number_is_refused(given, make, fit):
    with pytest.raises(ParameterError, match="LearningRateScheduler: what schedule returns must be a number, not"):
        fit(make(), LearningRateScheduler(lambda epoch: given))


def test_errors_within_a_schedule_come_through(make, fit):
    def broken(epoch, rate):
        raise TypeError("within")

    with pytest.raises(TypeError, match="within"):
        fit(make(), LearningRateScheduler(broken))


def test_what_is_no_function_and_what_has_a_schedule_already_are_refused(make, fit, capsys):
    with pytest.raises(ParameterError, match="schedule must be a function"):
        LearningRateScheduler(0.1)
    optimizer = lh.optimizers.SGD(lambda: 0.1)
    with pytest.raises(ParameterError, match="LearningRateScheduler sets the learning rate, but learning_rate is"):
        fit(make(optimizer), LearningRateScheduler(lambda epoch: 0.1))
    fit(make(), LearningRateScheduler(lambda epoch: 0.25, verbose=1))
    assert capsys.readouterr().out == "Epoch 1: LearningRateScheduler sets learning_rate to 0.25\n"


def test_optimizers_of_the_same_kind_have_rates_of_their_own_in_the_logs(make, fit):
    first, second = lh.optimizers.SGD(0.5), lh.optimizers.SGD(0.25)
    optimizer = lh.optimizers.MultiOptimizer(lambda weight: first if "kernel" in weight.path else second)
    history = fit(make(optimizer), LearningRateScheduler(lambda epoch, rate: rate / 2)).history
    assert history["learning_rate_sgd"] + history["learning_rate_sgd_1"] in ([0.25, 0.125], [0.125, 0.25])


def test_a_scaled_loss_leaves_the_rate_where_it_is(make, fit):
    optimizer = lh.optimizers.LossScaleOptimizer(lh.optimizers.SGD(0.5))
    fit(make(optimizer), LearningRateScheduler(lambda epoch, rate: rate / 2))
    assert optimizer.learning_rate == optimizer.inner_optimizer.learning_rate == 0.25


# Averages


def averaging(make, backend="numpy", momentum=0.5):
    return make(lh.optimizers.SGD(0.1, use_ema=True, ema_momentum=momentum), backend)


class Averages(Callback):
    """Keeps the averages by hand, and what the model had at every moment."""

    figures = False

    def __init__(self, momentum=0.5):
        self.momentum, self.average = momentum, None
        self.plain, self.tested, self.after = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        w = self.model.get_weights()[0]
        self.average = w if self.average is None else self.momentum * self.average + (1 - self.momentum) * w
        self.last = w

    def on_test_batch_begin(self, batch, logs=None):
        self.tested.append((self.model.get_weights()[0], self.average))

    def on_epoch_end(self, epoch, logs=None):
        self.after.append((self.model.get_weights()[0], self.last, self.average))


NEAR = {"rtol": 1e-5, "atol": 1e-7}
"""A handful of float32 operations on numbers of size 1, on the device and by hand."""


def test_evaluation_is_of_the_averages_and_training_goes_on_with_the_weights_on_every_backend(backend, make, fit):
    model, watch = averaging(make, backend), Averages()
    fit(model, SwapEMAWeights(), watch, epochs=2, validation_data=(X[:5], Y[:5]))
    for got, average in watch.tested:
        np.testing.assert_allclose(got, average, **NEAR)
    for got, plain, average in watch.after:
        np.testing.assert_array_equal(got, plain)
        assert not np.allclose(got, average, rtol=1e-3)
    # At the end the averages take the weights' place.
    np.testing.assert_allclose(model.get_weights()[0], watch.average, **NEAR)


@pytest.mark.parametrize("stop", [False, True])
def test_between_epochs_the_averages_are_there_and_at_the_end_too_even_if_it_comes_early(stop, make, fit, tmp_path):
    model, watch = averaging(make), Averages()
    stopping = LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", stop and epoch == 1))
    saving = ModelCheckpoint(tmp_path / "{epoch}.keras")
    fit(model, SwapEMAWeights(swap_on_epoch=True), watch, saving, stopping, epochs=4 if stop else 2)
    for epoch, (got, _, average) in enumerate(watch.after):
        np.testing.assert_allclose(got, average, **NEAR)
        np.testing.assert_array_equal(lh.models.load_model(tmp_path / f"{epoch + 1}.keras").get_weights()[0], got)
    assert len(watch.after) == 2
    np.testing.assert_allclose(model.get_weights()[0], watch.average, **NEAR)


def test_swapping_changes_nothing_of_training_itself(make, fit):
    with_it, without = averaging(make), averaging(make)
    a = fit(with_it, SwapEMAWeights(swap_on_epoch=True), epochs=3)
    b = fit(without, epochs=3)
    assert a.history == b.history
    assert all(np.array_equal(x, y) for x, y in zip(with_it.get_weights(), without.get_weights(), strict=True))


def test_prediction_is_of_the_averages_and_gives_the_weights_back(make):
    model = averaging(make)
    for k in range(4):
        model.train_on_batch(X[k : k + 5], Y[k : k + 5])
    plain, weights = model.predict(X, verbose=0), model.get_weights()
    averaged = model.predict(X, verbose=0, callbacks=[SwapEMAWeights()])
    assert not np.allclose(plain, averaged, rtol=1e-3)
    np.testing.assert_array_equal(model.predict(X, verbose=0), plain)
    assert model.evaluate(X, Y, verbose=0, callbacks=[SwapEMAWeights()]) == pytest.approx(np.mean((averaged - Y) ** 2))
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


def test_a_model_that_moves_while_averages_are_in_it_keeps_both(make, fit):
    class Mover(Callback):
        def on_test_begin(self, logs=None):
            self.model.to("torch" if self.model.backend == "numpy" else "numpy")

    moved, still = averaging(make), averaging(make)
    data = {"epochs": 3, "validation_data": (X[:5], Y[:5])}
    fit(moved, SwapEMAWeights(), Mover(), **data)
    fit(still, SwapEMAWeights(), **data)
    for a, b in zip(moved.get_weights(), still.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **NEAR)


def test_an_exception_in_the_middle_of_an_evaluation_leaves_the_weights_in_the_model(make, fit):
    class Failing(Callback):
        def on_test_batch_begin(self, batch, logs=None):
            raise KeyboardInterrupt

    model, watch = averaging(make), Averages()
    with pytest.raises(KeyboardInterrupt):
        fit(model, SwapEMAWeights(), watch, Failing(), validation_data=(X[:5], Y[:5]))
    np.testing.assert_array_equal(model.get_weights()[0], watch.last)


def test_without_averages_there_is_nothing_to_swap(make, fit):
    with pytest.raises(ParameterError, match=r"keeps no moving averages of the weights; give it use_ema=True"):
        fit(make(), SwapEMAWeights(), validation_data=(X, Y))
