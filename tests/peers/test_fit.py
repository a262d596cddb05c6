"""Training beside Keras's: the same data and weights give the same logs, under the same names, in the same order."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import layerhub as lh

RNG = np.random.default_rng(29)
X = RNG.normal(size=(20, 4))
TARGETS = [RNG.normal(size=(20, 3)), RNG.integers(0, 2, size=(20, 1)).astype(float)]
# In lists: Keras takes targets by name, but not together with weights by name.
WEIGHTS = [RNG.uniform(size=20), RNG.uniform(size=20)]
NEAR = 1e-6
"""Relative: Keras sums losses and metrics up in float32, whatever type the model has: a sum of some 20 numbers of one
size, each rounded to 6e-8."""

COMPILED = [
    {"loss": "mse"},
    {"loss": ["mse", "binary_crossentropy"], "loss_weights": [0.5, 2.0], "metrics": [["mae", "mae"], ["accuracy"]]},
    {
        "loss": {"left": "mae", "right": "mse"},
        "loss_weights": {"left": 0.25, "right": 1.0},
        "metrics": {"right": ["acc", "mae"]},
        "weighted_metrics": {"left": ["mse"], "right": ["mae"]},
    },
]
# Batches of one size: of a smaller last one Keras's losses of single outputs make as much as of a whole one, on
# tensorflow alone (its size is unknown there while it is traced).
OPTIONS = [
    {"epochs": 3, "batch_size": 5, "validation_split": 0.25, "validation_freq": 2},
    {"epochs": 3, "steps_per_epoch": 3, "batch_size": 5},
    {"epochs": 2, "steps_per_epoch": 5, "initial_epoch": 1, "validation_freq": [2], "validation_batch_size": 2},
]


def ours(weights, **compiled):
    x = lh.Input((4,))
    outputs = [lh.layers.Dense(3, name="left")(x), lh.layers.Dense(1, activation="sigmoid", name="right")(x)]
    model = lh.Model(x, outputs)
    model.set_weights(weights)
    model.compile(lh.optimizers.SGD(0.125), **compiled)
    return model


def theirs(keras, **compiled):
    x = keras.Input((4,))
    outputs = [keras.layers.Dense(3, name="left")(x), keras.layers.Dense(1, activation="sigmoid", name="right")(x)]
    model = keras.Model(x, outputs)
    model.compile(keras.optimizers.SGD(0.125), **compiled)
    return model


@pytest.mark.parametrize("compiled, options", list(zip(COMPILED, OPTIONS, strict=True)))
def test_logs_are_keras_in_names_order_and_values(keras, compiled, options, monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")
    reference = theirs(keras, **compiled)
    model = ours(reference.get_weights(), **compiled)
    options = {**options, "shuffle": False, "verbose": 0, "sample_weight": WEIGHTS}
    if "validation_split" not in options:
        options["validation_data"] = (X[:10], [y[:10] for y in TARGETS])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both say that the data end within an epoch
        expected, found = (m.fit(X, TARGETS, **options) for m in (reference, model))
    assert found.epoch == expected.epoch
    assert list(found.history) == list(expected.history)
    for name, values in expected.history.items():
        np.testing.assert_allclose(found.history[name], values, rtol=NEAR, err_msg=name)
    for a, b in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    # Then the figures of evaluate and of single batches, in their order.
    for call in ("evaluate", "test_on_batch", "train_on_batch"):
        told = {"verbose": 0} if call == "evaluate" else {}
        model.reset_metrics(), reference.reset_metrics()
        expected, found = (getattr(m, call)(X, TARGETS, **told) for m in (reference, model))
        assert found == pytest.approx(expected, rel=NEAR), call
    expected, found = (m.evaluate(X, TARGETS, return_dict=True, verbose=0) for m in (reference, model))
    assert list(found) == list(expected)


def test_batches_by_number_and_masked_steps_are_trained_on_as_in_keras(keras, monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")
    ids = np.array([[1, 2, 0, 0], [3, 1, 4, 0], [2, 2, 3, 4], [4, 0, 0, 0], [1, 3, 0, 0], [2, 4, 1, 3]])
    steps = RNG.normal(size=(6, 4, 2))

    def build(kind, x):
        h = kind.layers.Embedding(5, 3, mask_zero=True)(x)
        return kind.Model(x, kind.layers.Dense(2)(kind.layers.LSTM(3, return_sequences=True)(h)))

    def numbered(kind):
        class Batches(kind.utils.PyDataset):
            def __len__(self):
                return 3

            def __getitem__(self, k):
                return ids[2 * k : 2 * k + 2], steps[2 * k : 2 * k + 2]

        return Batches()

    reference = build(keras, keras.Input((4,), dtype="int32"))
    model = build(lh, lh.Input((4,), dtype="int32"))
    model.set_weights(reference.get_weights())
    histories = []
    for kind, m in ((keras, reference), (lh, model)):
        m.compile(kind.optimizers.SGD(0.125), "mse", weighted_metrics=["mae"])
        histories.append(
            m.fit(numbered(kind), epochs=2, shuffle=False, verbose=0, validation_data=(ids, steps)).history
        )
    assert list(histories[1]) == list(histories[0])
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=NEAR, err_msg=name)
