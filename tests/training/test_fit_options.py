"""What changes a step of training, in fit on every backend: optimizer's options, types, masks, states, moves."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh

NEAR = 1e-9
"""Relative: dozens of float64 steps, in which backends add up in orders of their own."""

RNG = np.random.default_rng(13)
IDS = np.array([[1, 2, 0, 0], [3, 1, 4, 0], [2, 2, 3, 4], [4, 0, 0, 0]])
STEPS = RNG.normal(size=(4, 4, 2))

OPTIMIZERS = {
    "clipped": lambda: lh.optimizers.SGD(0.1, clipnorm=0.05),
    "clipped together": lambda: lh.optimizers.SGD(0.1, global_clipnorm=0.05),
    "clipped by value": lambda: lh.optimizers.SGD(0.1, clipvalue=0.02),
    "accumulating": lambda: lh.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "averaging": lambda: lh.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3),
}


def by_hand(kind, x, y, weights, size=6):
    """The weights after an epoch: each option as its definition says it."""
    weights = [w.copy() for w in weights]
    average, gathered = None, []
    for number, start in enumerate(range(0, len(x), size), 1):
        a, b = x[start : start + size], y[start : start + size]
        away = (a @ weights[0] + weights[1] - b) * 2 / b.size
        pulls = [a.T @ away, away.sum(0)]
        if kind == "clipped":
            pulls = [g * min(1, 0.05 / np.linalg.norm(g)) for g in pulls]
        if kind == "clipped together":
            whole = np.sqrt(sum(np.sum(g**2) for g in pulls))
            pulls = [g * min(1, 0.05 / whole) for g in pulls]
        if kind == "clipped by value":
            pulls = [np.clip(g, -0.02, 0.02) for g in pulls]
        if kind == "accumulating":
            gathered.append(pulls)
            if number % 2:
                continue
            pulls = [np.mean(gs, axis=0) for gs in zip(*gathered, strict=True)]
            gathered = []
        weights = [w - 0.1 * g for w, g in zip(weights, pulls, strict=True)]
        if kind == "averaging":
            average = (
                weights if average is None else [0.75 * m + 0.25 * w for m, w in zip(average, weights, strict=True)]
            )
            weights = average if number % 3 == 0 else weights
    return average if kind == "averaging" else weights


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_epoch_goes_as_the_options_of_the_optimizer_say(kind, backend, data, linear):
    model = linear(backend, optimizer=OPTIMIZERS[kind]())
    expected = by_hand(kind, *data, model.get_weights())
    model.fit(*data, batch_size=6, shuffle=False, verbose=0)
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=NEAR, atol=NEAR * 1e-3)


def masked(backend):
    x = lh.Input((4,), dtype="int32")
    h = lh.layers.LSTM(3, return_sequences=True)(lh.layers.Embedding(5, 3, mask_zero=True)(x))
    model = lh.Model(x, lh.layers.Dense(2)(h), backend=backend, seed=4)
    model.compile(lh.optimizers.SGD(0.5), "mse", ["mae"])
    return model


def test_a_mask_reaches_losses_and_metrics_in_fit(backend):
    model, reference = masked(backend), masked("numpy")
    away = (model.predict(IDS, verbose=0) - STEPS)[IDS != 0]
    # Whatever targets masked steps have.
    targets = np.where((IDS == 0)[..., None], 99.0, STEPS)
    found = model.fit(IDS, targets, epochs=2, shuffle=False, verbose=0, validation_data=(IDS, targets)).history
    assert found["loss"][0] == pytest.approx(np.mean(away**2), rel=NEAR)
    assert found["mae"][0] == pytest.approx(np.mean(np.abs(away)), rel=NEAR)
    usual = reference.fit(IDS, STEPS, epochs=2, shuffle=False, verbose=0, validation_data=(IDS, STEPS)).history
    for name, values in usual.items():
        np.testing.assert_allclose(found[name], values, rtol=NEAR, err_msg=name)
    for a, b in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=NEAR, atol=NEAR * 1e-3)


def test_states_go_from_batch_to_batch_and_are_reset_between_epochs(backend):
    x, y = RNG.normal(size=(8, 3, 2)), RNG.normal(size=(8, 1))

    def make(chosen):
        inputs = lh.Input(batch_shape=(2, 3, 2))
        model = lh.Model(inputs, lh.layers.Dense(1)(lh.layers.LSTM(4, stateful=True)(inputs)), backend=chosen, seed=4)
        model.compile(lh.optimizers.SGD(0.1), "mse")
        return model

    resets = lh.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: fitted.reset_states())
    fitted, stepped = make(backend), make("numpy")
    history = fitted.fit(x, y, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[resets]).history
    for _ in range(2):
        stepped.reset_states(), stepped.reset_metrics()
        losses = [stepped.train_on_batch(x[k : k + 2], y[k : k + 2]) for k in range(0, 8, 2)]
    assert history["loss"][-1] == pytest.approx(losses[-1], rel=NEAR)
    for a, b in zip(fitted.get_weights(), stepped.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=NEAR)
    # The states count: without them the second batch would be another one.
    fresh = make(backend)
    one = fresh.predict(x[2:4], batch_size=2, verbose=0)
    fresh.reset_states()
    assert not np.allclose(fresh.predict(x[:4], batch_size=2, verbose=0)[2:], one)


@pytest.mark.parametrize(
    "policy, backend", [("mixed_float16", "torch"), ("mixed_bfloat16", "torch"), ("mixed_float16", "numpy")]
)
def test_mixed_precision_trains_float32_weights_in_fit(policy, backend, data):
    x = lh.Input((4,))
    h = lh.layers.Dense(8, activation="tanh", dtype=policy)(x)
    model = lh.Model(x, lh.layers.Dense(2, dtype="float32")(h), backend=backend, seed=2)
    model.compile(lh.optimizers.SGD(0.1), "mse")
    assert isinstance(model.optimizer, lh.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    losses = model.fit(*data, epochs=8, batch_size=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert {w.dtype for w in model.weights} == {"float32"}


class Moving(lh.callbacks.Callback):
    """Moves the model before each batch."""

    def on_train_batch_begin(self, batch, logs=None):
        self.model.to(("numpy", "torch")[batch % 2])


def test_a_model_with_steps_of_its_own_may_be_moved_in_the_middle_of_fit(data, linear, same_weights):
    class Own(lh.Model):
        def train_step(self, data):
            x, y, _ = lh.utils.unpack_x_y_sample_weight(data)

            def objective():
                y_pred = self(x, training=True)
                return self.compute_loss(x, y, y_pred), y_pred

            (_, y_pred), gradients = self.gradients(objective)
            self.apply_gradients(gradients)
            return self.compute_metrics(x, y, y_pred)

    still, moved = (linear(cls=Own, optimizer=lh.optimizers.Adam(0.1)) for _ in range(2))
    a = still.fit(*data, batch_size=6, epochs=2, verbose=0).history
    b = moved.fit(*data, batch_size=6, epochs=2, verbose=0, callbacks=[Moving()]).history
    assert b["loss"] == pytest.approx(a["loss"], rel=NEAR)
    same_weights(still, moved, NEAR)
