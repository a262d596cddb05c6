"""The calls of Keras 1 and 2: they do what they did, and each says how it is said now."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import DataError, OldSpellingWarning, ParameterError


def batches(x, y, size=6):
    """Batches without an end."""
    for start in itertools.cycle(range(0, len(x), size)):
        yield x[start : start + size], y[start : start + size]


def counted(source, taken):
    for batch in source:
        taken.append(len(batch[0]))
        yield batch


def test_fit_generator_is_fit(data, linear, same_weights):
    old, new = linear(), linear()
    with pytest.warns(
        OldSpellingWarning, match=r"fit_generator\(generator\) is an old spelling; say fit\(generator\)$"
    ):
        # In the order of Keras 2: steps, epochs, verbose, callbacks, data to validate on, their steps, …
        history = old.fit_generator(batches(*data), 2, 3, 0, None, batches(*data), 4, 1, None, 10, 1, False, True, 1)
    other = new.fit(batches(*data), steps_per_epoch=2, epochs=3, initial_epoch=1, validation_data=data, verbose=0)
    same_weights(old, new)
    assert history.epoch == other.epoch == [1, 2]
    assert history.history["val_loss"] == pytest.approx(other.history["val_loss"], rel=1e-12)


def test_samples_per_epoch_counts_samples(data, linear, same_weights):
    old, new, taken, held = linear(), linear(), [], []
    with pytest.warns(
        OldSpellingWarning, match="max_q_size, nb_worker, pickle_safe: batches are drawn when they are need"
    ):
        old.fit_generator(
            counted(batches(*data), taken),
            samples_per_epoch=15,
            nb_epoch=2,
            verbose=0,
            validation_data=counted(batches(*data), held),
            nb_val_samples=7,
            max_q_size=3,
            nb_worker=2,
            pickle_safe=True,
        )
    # 15 samples have passed after three batches of 6, and 7 after two.
    assert (taken, held) == ([6] * 6, [6] * 4)
    new.fit(batches(*data), steps_per_epoch=3, epochs=2, verbose=0)
    same_weights(old, new)


def test_evaluate_generator_and_predict_generator_take_steps_or_samples(data, linear):
    model = linear()
    x, y = data
    with pytest.warns(OldSpellingWarning, match=r"evaluate_generator\(generator\) is .* say evaluate\(generator\)"):
        assert model.evaluate_generator(batches(x, y), 2) == model.evaluate(batches(x, y), steps=2, verbose=0)
    with pytest.warns(OldSpellingWarning):
        assert model.evaluate_generator(batches(x, y), val_samples=8) == model.evaluate(
            batches(x, y), steps=2, verbose=0
        )
    with pytest.warns(OldSpellingWarning, match=r"predict_generator\(generator\) is .* say predict\(generator\)"):
        assert np.array_equal(model.predict_generator(batches(x, y), 2), model.predict(x[:12], batch_size=6, verbose=0))
    with pytest.warns(OldSpellingWarning):
        assert len(model.predict_generator(batches(x, y), val_samples=13)) == 18


@pytest.mark.parametrize("units, activation", [(3, "softmax"), (1, "sigmoid")])
def test_classes_and_probabilities_are_read_off_predictions(units, activation, data):
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(units, activation=activation)], seed=1)
    outputs = model.predict(data[0], verbose=0)
    with pytest.warns(OldSpellingWarning, match=r"say predict\(x\).argmax\(-1\), or \(predict\(x\) > 0.5\)"):
        classes = model.predict_classes(data[0], verbose=0)
    with pytest.warns(OldSpellingWarning, match=r"predict_proba\(x\) is an old spelling; say predict\(x\)"):
        assert np.array_equal(model.predict_proba(data[0]), outputs)
    expected = outputs.argmax(-1) if units > 1 else (outputs > 0.5).astype(int)
    assert np.array_equal(classes, expected)
    assert 0 < classes.mean() < units


def test_what_no_version_had_is_refused_and_a_generator_that_ends_is_told(data, linear):
    with pytest.raises(ParameterError, match=r"fit_generator has no argument 'sample_per_epoch'.*samples_per_epoch"):
        linear().fit_generator(batches(*data), sample_per_epoch=3)
    with pytest.warns(OldSpellingWarning), pytest.raises(DataError, match="the generator ended after 24 of 30 samples"):
        linear().fit_generator(iter([data]), samples_per_epoch=30, verbose=0)
    with pytest.warns(OldSpellingWarning), pytest.raises(DataError, match="val_samples must be a positive int, not 0"):
        linear().evaluate_generator(batches(*data), val_samples=0)
    with pytest.warns(OldSpellingWarning), pytest.raises(DataError, match="counts the samples of a generator; ndarray"):
        linear().predict_generator(data[0], val_samples=4)


def test_classes_of_several_outputs_are_refused(data, two_headed):
    with pytest.warns(OldSpellingWarning), pytest.raises(DataError, match="2 outputs, not one; use predict"):
        two_headed().predict_classes(data[0])


def test_nb_epoch_is_epochs_and_a_misspelt_argument_is_told_with_the_nearest(data, linear):
    with pytest.warns(OldSpellingWarning, match="fit: nb_epoch is an old spelling; say epochs="):
        assert linear().fit(*data, nb_epoch=2, verbose=0).epoch == [0, 1]
    with pytest.raises(ParameterError, match=r"fit has no argument 'epoch'.*'epochs'"):
        linear().fit(*data, epoch=2, verbose=0)
