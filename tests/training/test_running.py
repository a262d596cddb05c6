"""How steps are run: one by one, several at once, compiled, call by call; the result is the same."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import BackendError, ParameterError

NEAR = 1e-12
"""Relative: a short chain of float64 operations, in which a compiler may choose another order."""


def deep(backend, **compiled):
    """With what a step moves besides trained weights, and random draws."""
    x = lh.Input((4,))
    h = lh.layers.Dropout(0.25)(lh.layers.BatchNormalization()(lh.layers.Dense(5, activation="tanh")(x)))
    model = lh.Model(x, lh.layers.Dense(2)(h), backend=backend, seed=2)
    model.compile(lh.optimizers.Adam(0.05), "mse", ["mae"], **compiled)
    return model


def told_of(model, x, y, **options):
    """The history of a fit, and the batches that callbacks were told of."""
    told = []
    callback = lh.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: told.append(("begin", batch)),
        on_train_batch_end=lambda batch, logs: told.append(("end", batch)),
    )
    history = model.fit(x, y, batch_size=5, epochs=2, verbose=0, callbacks=[callback], **options)
    return history.history, told


@pytest.mark.parametrize("backend", ["numpy", "tensorflow"])
def test_steps_per_execution_changes_what_callbacks_hear_and_nothing_else(backend, data, same_weights):
    one, several = deep(backend), deep(backend, steps_per_execution=2)
    (history, _), (found, told) = (told_of(model, *data, validation_split=0.25) for model in (one, several))
    # 18 samples in batches of 5: four steps, the last of them smaller.
    assert told == [("begin", 0), ("end", 1), ("begin", 2), ("end", 3)] * 2
    assert list(found) == list(history)
    for name, values in history.items():
        np.testing.assert_allclose(found[name], values, rtol=NEAR)
    same_weights(one, several, NEAR)
    np.testing.assert_allclose(several.predict(data[0], batch_size=5, verbose=0), one.predict(data[0]), rtol=NEAR)


def test_several_steps_are_one_call_on_tensorflow(data):
    model = deep("tensorflow", steps_per_execution=3)
    calls = []
    own = model.executor._call
    model.executor._call = lambda function, *rest, **named: (
        calls.append(function.__name__),
        own(function, *rest, **named),
    )[1]
    model.fit(*data, batch_size=8, epochs=2, verbose=0)
    assert calls == ["_train_several"] * 2


def test_accumulated_gradients_and_several_steps_at_once_go_together(data, linear, same_weights):
    made = []
    for count in (1, 3):
        optimizer = lh.optimizers.SGD(0.1, gradient_accumulation_steps=2, clipnorm=0.1, use_ema=True)
        made.append(linear("tensorflow", optimizer=optimizer, steps_per_execution=count))
        made[-1].fit(*data, batch_size=4, epochs=1, verbose=0)
    same_weights(*made, NEAR)


@pytest.mark.parametrize(
    "backend, options",
    [
        ("numpy", {"jit_compile": True}),
        ("torch", {"jit_compile": True}),
        ("tensorflow", {"jit_compile": True}),
        ("tensorflow", {"run_eagerly": True}),
        ("jax", {"run_eagerly": True}),
    ],
    ids=str,
)
def test_a_step_is_the_same_call_by_call_and_compiled(backend, options, data, linear, same_weights, monkeypatch):
    if backend == "torch" and "jit_compile" in options:
        import torch

        # All of torch.compile but the making of machine code, which takes the longest.
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    make = linear if backend == "jax" else deep
    usual, other = make(backend), make(backend, **options)
    for model in (usual, other):
        model.fit(*data, batch_size=12, verbose=0, validation_split=0.5)
    same_weights(usual, other, NEAR)


def test_a_missing_compiler_is_told_and_nothing_is_trained(data, linear, monkeypatch):
    import torch

    def absent(graph, inputs):
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=absent))
    model = linear("torch", jit_compile=True)
    before = model.get_weights()
    with pytest.raises(BackendError, match=r"jit_compile=True.*no compiler found.*C\+\+ compiler"):
        model.fit(*data, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.executor.step == 0


@pytest.mark.parametrize(
    "options, words",
    [
        ({"steps_per_execution": 0}, "steps_per_execution must be a positive int, not 0"),
        ({"steps_per_execution": True}, "steps_per_execution"),
        ({"jit_compile": "always"}, "jit_compile must be true, false or 'auto', not 'always'"),
        ({"run_eagerly": "yes"}, "run_eagerly must be true or false, not 'yes'"),
        ({"run_eagerly": True, "jit_compile": True}, "exclude each other"),
        ({"sample_weight_mode": "spatial"}, "sample_weight_mode must be None or 'temporal', not 'spatial'"),
        ({"loss_weights": "heavy"}, "loss_weights must be numbers, not 'heavy'"),
        ({"sample_weight_mode": {"nobody": "temporal"}}, "sample_weight_mode for 'nobody'"),
    ],
    ids=str,
)
def test_a_compile_that_cannot_be_meant_is_refused_and_changes_nothing(options, words, linear):
    model = linear()
    optimizer = model.optimizer
    with pytest.raises(ParameterError, match=words):
        model.compile("adam", "mae", backend="torch", **options)
    assert (model.optimizer, model.backend) == (optimizer, "numpy")


def test_a_refused_loss_moves_no_model(linear):
    model = linear()
    with pytest.raises(lh.errors.UnknownNameError):
        model.compile("sgd", "msse", backend="torch")
    assert model.backend == "numpy"


def test_how_steps_are_run_is_in_files_but_for_the_compiler(linear, tmp_path, data):
    model = linear(steps_per_execution=3, run_eagerly=True)
    model.save(tmp_path / "m.keras")
    running = lh.models.load_model(tmp_path / "m.keras")._running
    assert (running.together, running.eagerly, running.compiled) == (3, True, None)


def test_the_learning_rate_is_set_in_the_middle_of_fit_without_another_trace(backend, data, linear):
    model, rates = linear(backend), []

    class Halving(lh.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.5**batch
            self.before = self.model.get_weights()[1]

        def on_train_batch_end(self, batch, logs=None):
            rates.append(float((self.before - self.model.get_weights()[1])[0]) / 0.5)

    model.compile(lh.optimizers.SGD(9.0), lambda y_true, y_pred: y_pred)
    model.fit(*data, batch_size=6, verbose=0, callbacks=[Halving()])
    # The gradient of the mean of two outputs by a bias is a half.
    assert rates == pytest.approx([1, 0.5, 0.25, 0.125])
    if backend == "tensorflow":
        assert len({id(traced) for traced in model.executor._traced.values()}) == 1
    if backend == "jax":
        (step,) = model.executor._steps.values()
        assert step._cache_size() == 1
    model.to("numpy" if backend != "numpy" else "torch")
    assert model.optimizer.learning_rate == 0.125
