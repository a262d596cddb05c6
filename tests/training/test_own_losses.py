"""Losses and metrics of one's own: written once, on every backend, and in files."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub import ops

NEAR = 1e-12


def steep(y_true, y_pred):
    """A function: the mean of |e|**3."""
    return ops.mean(ops.abs(y_pred - y_true) ** 3, axis=-1)


def highest(y_true, y_pred):
    return ops.max(ops.abs(y_pred - y_true), axis=-1)


class Lopsided(lh.losses.Loss):
    """Squares, those of predictions that are too high counted ``factor`` times."""

    factor: float = 3.0

    def call(self, y_true, y_pred):
        away = y_pred - y_true
        return ops.mean(ops.where(away > 0, self.factor * away, away) * away, axis=-1)


class Spread(lh.metrics.Metric):
    """The root of the mean square of all errors so far, times ``scale``: no mean of values, so it keeps sums itself."""

    scale: float = 1.0

    def shapes(self, y_pred):
        return ((), ())

    def define(self, xp, state, y_true, y_pred, weights):
        total, count = state
        squares = (y_pred - y_true) ** 2
        return total + xp.sum(squares), count + xp.sum(xp.ones_like(squares))

    def figure(self, xp, state):
        total, count = state
        return self.scale * xp.sqrt(total / count)


def lopsided(y_true, y_pred, factor):
    away = y_pred - y_true
    return np.mean(np.where(away > 0, factor, 1.0) * away**2)


def test_functions_and_classes_train_and_measure_as_they_say(backend, data, linear):
    x, y = data
    model = linear(backend, loss=Lopsided(factor=2.0), metrics=[steep, highest, Spread(scale=10.0)])
    kernel, bias = model.get_weights()
    out = x @ kernel + bias
    away = out - y
    found = model.evaluate(x, y, batch_size=10, verbose=0, return_dict=True)
    assert found == {
        "highest": pytest.approx(np.mean(np.abs(away).max(-1)), rel=NEAR),
        "loss": pytest.approx(lopsided(y, out, 2.0), rel=NEAR),
        "spread": pytest.approx(10 * np.sqrt(np.mean(away**2)), rel=NEAR),
        "steep": pytest.approx(np.mean(np.abs(away) ** 3), rel=NEAR),
    }
    model.train_on_batch(x, y)
    slope = x.T @ (2 * np.where(away > 0, 2.0, 1.0) * away) / away.size
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.1 * slope, rtol=1e-9)


def test_they_come_back_from_files_by_custom_objects(data, linear, tmp_path):
    x, y = data
    model = linear(loss=Lopsided(factor=2.0), metrics=[steep, Spread(scale=10.0)])
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    objects = {"Lopsided": Lopsided, "steep": steep, "Spread": Spread}
    again = lh.models.load_model(tmp_path / "m.keras", backend="torch", custom_objects=objects)
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    assert again.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(expected, rel=NEAR)
    with pytest.raises(lh.errors.LayerHubError, match="Lopsided"):
        lh.models.load_model(tmp_path / "m.keras")


def test_a_loss_that_says_nothing_is_told_what_it_must_have(data, linear):
    class Silent(lh.losses.Loss):
        pass

    with pytest.raises(lh.errors.StateError, match=r"Silent must have call\(y_true, y_pred\), or define"):
        linear(loss=Silent()).evaluate(*data, verbose=0)


def test_a_loss_and_a_metric_of_ones_own_work_alone(data):
    _, y = data
    assert Lopsided()(y, y + 1.0) == pytest.approx(3.0, rel=NEAR)
    metric = Spread()
    metric.update_state(y, y + 3.0)
    assert metric.result() == pytest.approx(3.0, rel=NEAR)
