"""Epochs: how many steps they have, in which order, when they are validated, and when training stops. Keras's rules."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import DataError


def orders(model, x, y, **options):
    """For each epoch the first features of the samples, in the order in which they were trained on."""
    epochs = []
    own = model._device_batch
    model._device_batch = lambda executor, host: (epochs[-1].extend(host[0][0][:, 0]), own(executor, host))[1]
    begins = lh.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append([]))
    model.fit(x, y, verbose=0, callbacks=[begins], **options)
    return epochs


def numbered(data):
    """The data, with the numbers of the samples as their first feature."""
    x, y = data
    x[:, 0] = np.arange(len(x))
    return x, y


def test_an_epoch_of_some_steps_goes_on_where_the_last_one_stopped(data, linear):
    x, y = numbered(data)
    found = orders(linear(), x, y, batch_size=6, steps_per_epoch=2, epochs=3, shuffle=False)
    assert found == [list(range(12)), list(range(12, 24)), list(range(12))]


def test_shuffled_epochs_of_some_steps_share_one_order_until_the_data_end(data, linear):
    x, y = numbered(data)
    found = orders(linear(), x, y, batch_size=6, steps_per_epoch=2, epochs=4)
    assert sorted(found[0] + found[1]) == sorted(found[2] + found[3]) == list(range(24))
    assert found[0] != found[2]


def test_steps_without_a_batch_size_cut_the_data_into_so_many(data, linear):
    x, y = numbered(data)
    (found,) = orders(linear(), x, y, steps_per_epoch=5, shuffle=False)
    assert found == list(range(24))
    assert linear().evaluate(x, y, steps=3, verbose=0) == pytest.approx(linear().evaluate(x, y, verbose=0), rel=1e-12)


def test_data_that_end_within_an_epoch_end_it_with_a_warning(data, linear):
    x, y = numbered(data)
    with pytest.warns(RuntimeWarning, match="fit: the data ended after 1 of 3 steps"):
        found = orders(linear(), x, y, batch_size=6, steps_per_epoch=3, epochs=3, shuffle=False)
    assert [len(epoch) for epoch in found] == [18, 6, 18]


def test_samples_of_a_batch_stay_together_if_asked(data, linear):
    x, y = numbered(data)
    found = orders(linear(), x[:20], y[:20], batch_size=6, shuffle="batch", epochs=3)
    assert len({tuple(epoch) for epoch in found}) > 1
    for epoch in found:
        assert epoch[18:] == [18, 19]
        blocks = [epoch[k : k + 6] for k in (0, 6, 12)]
        assert sorted(blocks) == [list(range(k, k + 6)) for k in (0, 6, 12)]


def test_an_unknown_way_to_shuffle_is_refused(data, linear):
    with pytest.raises(DataError, match="shuffle must be true, false or 'batch', not 'well'"):
        linear().fit(*data, shuffle="well", verbose=0)


def test_validation_may_follow_listed_epochs(data, linear):
    history = linear().fit(*data, epochs=4, validation_split=0.5, validation_freq=[1, 4], verbose=0).history
    assert [len(history[name]) for name in ("loss", "val_loss")] == [4, 2]


@pytest.mark.parametrize("freq", [[0], [1.5], "often", [True]], ids=repr)
def test_a_frequency_that_cannot_be_meant_is_refused(freq, data, linear):
    with pytest.raises(DataError, match="validation_freq must be a positive int"):
        linear().fit(*data, validation_split=0.5, validation_freq=freq, verbose=0)


def test_validation_has_its_own_steps_and_batches_and_begins_anew(data, linear):
    x, y = data
    model, batches = linear(), []
    told = lh.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: batches.append(batch))
    history = model.fit(
        x, y, epochs=2, validation_data=(x, y), validation_steps=2, validation_batch_size=5, verbose=0, callbacks=[told]
    ).history
    assert batches == [0, 1] * 2
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(x[:10], y[:10], verbose=0), rel=1e-12)


def test_training_stops_at_the_batch_that_asks_for_it_and_the_epoch_is_validated(data, linear):
    model = linear()

    def stop(batch, logs):
        model.stop_training = batch == 1

    told = lh.callbacks.LambdaCallback(on_train_batch_end=stop)
    history = model.fit(*data, batch_size=6, epochs=5, validation_split=0.25, verbose=0, callbacks=[told])
    assert model.executor.step == 2
    assert history.epoch == [0]
    assert "val_loss" in history.history


def test_a_model_may_be_stopped_while_it_measures_and_predicts(data, linear):
    model, batches = linear(), []

    def stop(batch, logs):
        batches.append(batch)
        model.stop_evaluating = model.stop_predicting = True

    told = lh.callbacks.LambdaCallback(on_test_batch_end=stop, on_predict_batch_end=stop)
    model.evaluate(*data, batch_size=6, verbose=0, callbacks=[told])
    assert len(model.predict(data[0], batch_size=6, verbose=0, callbacks=[told])) == 6
    assert batches == [0, 0]


def test_predictions_go_batch_by_batch_to_one_array_of_their_own(data, linear, monkeypatch):
    model, sizes = linear(), []
    own = model.executor.predict_batch
    model.executor.predict_batch = lambda batch: (sizes.append(len(batch.inputs[0])), own(batch))[1]
    found = model.predict(data[0], batch_size=10, verbose=0)
    assert sizes == [10, 10, 4]
    assert found.base is None and found.flags.writeable
