"""Weights of samples, by sample, by step in time, by class, for each output."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import DataError

RNG = np.random.default_rng(8)
SEQUENCES, STEPS = RNG.normal(size=(6, 5, 3)), RNG.normal(size=(6, 5, 2))


def temporal(backend="numpy", **compiled):
    x = lh.Input((5, 3))
    model = lh.Model(x, lh.layers.Dense(2, name="steps")(x), backend=backend, seed=1)
    model.compile("sgd", "mse", weighted_metrics=["mae"], **compiled)
    return model


def test_weights_may_be_given_for_each_step_in_time(backend):
    model = temporal(backend, sample_weight_mode="temporal")
    weights = RNG.uniform(size=(6, 5))
    away = model.predict(SEQUENCES, verbose=0) - STEPS
    loss, mae = model.evaluate(SEQUENCES, STEPS, sample_weight=weights, verbose=0)
    assert loss == pytest.approx(np.mean((away**2).mean(-1) * weights), rel=1e-12)
    assert mae == pytest.approx(np.sum(np.abs(away).mean(-1) * weights) / weights.sum(), rel=1e-12)
    before = model.get_weights()
    model.fit(SEQUENCES, STEPS, sample_weight=np.zeros((6, 5)), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_temporal_mode_wants_a_weight_for_each_step():
    with pytest.raises(DataError, match=r"weights have the shape \(batch, time\), not \(6,\)"):
        temporal(sample_weight_mode={"steps": "temporal"}).fit(SEQUENCES, STEPS, sample_weight=np.ones(6), verbose=0)


def test_class_weights_are_those_of_each_output_and_multiply_what_samples_have(data):
    x = lh.Input((4,))
    outputs = [
        lh.layers.Dense(3, name="kind", activation="softmax")(x),
        lh.layers.Dense(1, name="good", activation="sigmoid")(x),
    ]
    model = lh.Model(x, outputs, seed=3)
    model.compile("sgd", {"kind": "sparse_categorical_crossentropy", "good": "binary_crossentropy"})
    kinds, good = np.arange(24) % 3, np.arange(24) % 2
    before = model.get_weights()
    own = np.linspace(0.5, 1, 24)
    model.fit(data[0], [kinds, good], class_weight={"kind": {1: 3.0}, "good": {0: 0.0}}, sample_weight=own, verbose=0)
    by_class = model.get_weights()
    model.set_weights(before)
    model.compile("sgd", {"kind": "sparse_categorical_crossentropy", "good": "binary_crossentropy"})
    weights = [own * np.where(kinds == 1, 3.0, 1.0), own * (good == 1)]
    model.fit(data[0], [kinds, good], sample_weight=weights, shuffle=False, verbose=0)
    for a, b in zip(by_class, model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_class_weights_count_in_streams_and_for_each_step_of_a_sequence():
    x = lh.Input((5, 3))
    models = [lh.Model(x, lh.layers.Dense(4, activation="softmax")(x), seed=1) for _ in range(2)]
    classes = RNG.integers(0, 4, size=(6, 5))
    for model in models:
        model.compile("sgd", "sparse_categorical_crossentropy")
    models[1].set_weights(models[0].get_weights())
    models[0].fit(iter([(SEQUENCES, classes)]), class_weight={2: 5.0}, verbose=0)
    models[1].fit(SEQUENCES, classes, sample_weight=np.where(classes == 2, 5.0, 1.0), shuffle=False, verbose=0)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_class_weights_for_several_outputs_go_by_output(data, two_headed):
    x, _ = data
    with pytest.raises(DataError, match=r"class_weight goes by output here, \{'left': .*not \{0: 2.0\}"):
        two_headed().fit(x, [x[:, :3], x[:, :1]], class_weight={0: 2.0}, verbose=0)


@pytest.mark.parametrize("given", [[1.0, 2.0], {"0": 2.0}, {0: "much"}, 3], ids=repr)
def test_class_weights_that_cannot_be_meant_are_refused(given, data, linear):
    with pytest.raises(DataError, match="class_weight must map classes"):
        linear().fit(*data, class_weight=given, verbose=0)


def test_a_column_of_weights_has_one_for_each_sample(data, linear, backend):
    model, weights = linear(backend), np.linspace(0, 1, 24)
    loss = model.evaluate(*data, sample_weight=weights, verbose=0)
    assert model.evaluate(*data, sample_weight=weights[:, None], verbose=0) == loss
    executor = model.executor
    batch = [executor.array(a) for a in (*data, weights[:, None])]
    assert model.test_on_batch(*batch) == pytest.approx(loss, rel=1e-12)
