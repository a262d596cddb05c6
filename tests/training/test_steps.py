"""Steps of one's own: written once for all backends, or with a framework's own means; fit does the rest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import layerhub as lh
from layerhub import ops
from layerhub.errors import DataError
from layerhub.utils import unpack_x_y_sample_weight

NEAR = 1e-9
"""Relative: dozens of float64 operations, which add up in orders of their own."""


class Own(lh.Model):
    """The usual steps, written out."""

    def train_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)

        def objective():
            y_pred = self(x, training=True)
            return self.compute_loss(x, y, y_pred, sample_weight), y_pred

        (_, y_pred), gradients = self.gradients(objective)
        self.apply_gradients(gradients)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data):
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        self.compute_loss(x, y, y_pred, sample_weight, training=False)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def predict_step(self, data):
        return self(unpack_x_y_sample_weight(data)[0], training=False)


def deep(cls, backend, **compiled):
    """With all that a step has to care for: penalties, moving statistics, dropout, two outputs, a frozen layer."""
    x = lh.Input((4,))
    h = lh.layers.Dense(5, activation="tanh", kernel_regularizer="l2", trainable=False)(x)
    h = lh.layers.Dense(5, activation="tanh", kernel_regularizer="l2", activity_regularizer="l1")(h)
    h = lh.layers.Dropout(0.25)(lh.layers.BatchNormalization()(h))
    outputs = [lh.layers.Dense(2, name="left")(h), lh.layers.Dense(1, name="right", kernel_constraint="unit_norm")(h)]
    model = cls(x, outputs, backend=backend, seed=2)
    options = {
        "loss": "mse",
        "loss_weights": [1.0, 0.5],
        "metrics": {"left": "mae"},
        "weighted_metrics": {"right": "mae"},
    }
    model.compile(**{"optimizer": lh.optimizers.Adam(0.05, clipnorm=0.5), **options, **compiled})
    return model


def test_the_usual_steps_written_out_train_measure_and_predict_the_same(backend, data, same_weights):
    x, y = data
    targets, weights = [y, y[:, :1]], [None, np.linspace(0, 1, 24)]
    usual, own = deep(lh.Model, "numpy"), deep(Own, backend)
    options = {"sample_weight": weights, "batch_size": 8, "epochs": 2, "validation_data": (x, targets), "verbose": 0}
    history, found = (model.fit(x, targets, **options).history for model in (usual, own))
    assert list(found) == list(history)
    for name, values in history.items():
        np.testing.assert_allclose(found[name], values, rtol=NEAR, err_msg=name)
    same_weights(usual, own, NEAR)
    assert own.executor.step == usual.executor.step == 6
    for a, b in zip(usual.predict(x, verbose=0), own.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(a, b, rtol=NEAR, atol=NEAR)
    own.reset_metrics(), usual.reset_metrics()
    assert own.test_on_batch(x, targets) == pytest.approx(usual.test_on_batch(x, targets), rel=NEAR)
    assert own.train_on_batch(x, targets) == pytest.approx(usual.train_on_batch(x, targets), rel=NEAR)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_scaled_loss_and_accumulated_gradients_go_through_ones_own_step(backend, data, same_weights):
    x, y = data
    make = lambda: lh.optimizers.LossScaleOptimizer(lh.optimizers.SGD(0.1, gradient_accumulation_steps=2), 64.0)
    usual, own = (deep(cls, backend, optimizer=make()) for cls in (lh.Model, Own))
    for model in (usual, own):
        model.fit(x, [y, y[:, :1]], batch_size=6, verbose=0)
    same_weights(usual, own, NEAR)


class Contrary(lh.Model):
    """A step that needs no loss of ``compile``: targets are the inputs, the loss is the step's own."""

    def train_step(self, data):
        x, _, _ = unpack_x_y_sample_weight(data)
        loss, gradients = self.gradients(lambda: ops.mean(ops.square(self(x, training=True) - x[:, :2])))
        self.apply_gradients([g * 0.5 for g in gradients])
        return {"own": loss, "norm": ops.sqrt(ops.sum(ops.square(gradients[0])))}


def test_a_step_may_have_a_loss_and_logs_of_its_own_and_no_targets(backend, data, linear):
    model = linear(backend, Contrary, loss=None)
    kernel, _ = model.get_weights()
    x, _ = data
    away = x @ kernel - x[:, :2]
    slope = x.T @ away * 2 / away.size
    logs = model.fit(x, batch_size=24, shuffle=False, verbose=0).history
    assert logs == {
        "norm": [pytest.approx(np.sqrt(np.sum(slope**2)), rel=NEAR)],
        "own": [pytest.approx(np.mean(away**2), rel=NEAR)],
    }
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.05 * slope, rtol=NEAR)


class Loss(lh.Model):
    """The usual steps, with a loss and a figure of its own."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.sum(ops.square(y_pred - y))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return {**super().compute_metrics(x, y, y_pred, sample_weight), "first": y_pred[0, 0]}


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_parts_of_the_usual_steps_may_be_overridden_alone(backend, data, linear):
    x, y = data
    model = linear(backend, Loss, loss=None, metrics=["mae"])
    kernel, bias = model.get_weights()
    away = x @ kernel + bias - y
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    expected = {"first": (away + y)[0, 0], "loss": np.sum(away**2), "mae": np.mean(np.abs(away))}
    assert found == pytest.approx(expected, rel=NEAR)
    history = model.fit(x, y, batch_size=24, shuffle=False, verbose=0).history
    assert {name: values[0] for name, values in history.items()} == pytest.approx(expected, rel=NEAR)
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.1 * x.T @ (2 * away), rtol=NEAR)


# --------------------------------------------------------------------------------------------- frameworks' own means


class OnTorch(lh.Model):
    def train_step(self, data):
        import torch

        x, y, _ = unpack_x_y_sample_weight(data)
        if not hasattr(self, "mover"):
            self.mover = torch.optim.SGD(self.native.parameters(), lr=0.1)
        loss = torch.nn.functional.mse_loss(self.native.train()(x), y)
        self.mover.zero_grad()
        loss.backward()
        self.mover.step()
        return {"loss": loss}


class OnTensorflow(lh.Model):
    def train_step(self, data):
        import tensorflow as tf

        x, y, _ = unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.native(x, training=True) - y))
        weights = self.native.trainable_variables
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(0.1 * gradient)
        return {"loss": loss}


class OnJax(lh.Model):
    def train_step(self, data):
        import jax

        x, y, _ = unpack_x_y_sample_weight(data)
        distance = lambda params: ((self.native(params, x, training=True) - y) ** 2).mean()
        params = self.native.params
        loss, slopes = jax.value_and_grad(distance)(params)
        self.native.load(jax.tree.map(lambda w, g: w - 0.1 * g, params, slopes))
        return {"loss": loss}


@pytest.mark.parametrize("backend, cls", [("torch", OnTorch), ("tensorflow", OnTensorflow), ("jax", OnJax)])
def test_a_step_by_the_frameworks_own_means_trains_the_same_and_keeps_the_rest_of_fit(
    backend, cls, data, linear, same_weights
):
    usual, own, seen = linear(backend), linear(backend, cls), []
    told = lh.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    for model in (usual, own):
        model.fit(*data, batch_size=8, epochs=2, verbose=0, validation_split=0.25, callbacks=[told])
    same_weights(usual, own, NEAR)
    assert list(own.history.history) == ["loss", "val_loss"]
    assert own.history.history["val_loss"] == pytest.approx(usual.history.history["val_loss"], rel=NEAR)
    # The first batch has the same figure; later ones are single ones here, and running means there.
    assert seen[6] == pytest.approx(seen[0], rel=NEAR)
    assert own.executor.step == usual.executor.step


# --------------------------------------------------------------------------------------------- outside of fit, mistakes


def test_the_parts_of_a_step_serve_a_loop_of_ones_own(data, linear, same_weights):
    usual, own = linear(optimizer=lh.optimizers.Adam(0.1)), linear(optimizer=lh.optimizers.Adam(0.1))
    x, y = data
    for _ in range(3):
        usual.train_on_batch(x, y)
        _, gradients = own.gradients(lambda: own.compute_loss(x, y, own(x, training=True)))
        own.apply_gradients(gradients)
    same_weights(usual, own, NEAR)
    assert [g.shape for g in gradients] == [w.shape for w in own.trainable_weights]


def with_step(step):
    return type("Wrong", (lh.Model,), {"train_step": step})


@pytest.mark.parametrize(
    "step, words",
    [
        (lambda self, data: 3, "train_step must return logs, a dict by name, not 3"),
        (lambda self, data: self.gradients(lambda: self(data[0])), r"gradients\(\) needs a loss without axes"),
        (lambda self, data: self.apply_gradients([1.0]), "1 gradients were given for 2 trainable weights"),
        (lambda self, data: self.compute_metrics(*data, y_pred=[data[1]] * 2), "1 outputs, 2 were given as y_pred"),
    ],
)
def test_a_step_that_is_wrong_is_told_and_no_weight_is_moved(step, words, data, linear):
    model = linear(cls=with_step(step))
    before = model.get_weights()
    with pytest.raises(DataError, match=words):
        model.fit(*data, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.executor.step == 0


def test_an_error_within_a_step_leaves_a_model_that_can_be_called(data, linear):
    def step(self, data):
        return self.gradients(lambda: [][0])

    model = linear(cls=with_step(step))
    with pytest.raises(IndexError):
        model.fit(*data, verbose=0)
    np.testing.assert_allclose(model(data[0]), model.predict(data[0], verbose=0), rtol=NEAR)


def test_several_steps_at_once_tell_callbacks_once_of_ones_own_step_too(data, linear):
    model, told = linear(cls=Own, steps_per_execution=2), []
    heard = lh.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: told.append(batch))
    logs = model.fit(*data, batch_size=8, verbose=0, callbacks=[heard]).history
    assert told == [1, 2]
    assert isinstance(logs, Mapping) and list(logs) == ["loss"]
