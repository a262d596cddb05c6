"""Where data come from: arrays, iterables, loaders and datasets of frameworks, objects that give batches by number."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import DataError


class Numbered(lh.utils.PyDataset):
    """Batches by number, which remembers what was asked of it."""

    def __init__(self, x, y, size=6):
        super().__init__()
        self.x, self.y, self.size, self.asked = x, y, size, []

    def __len__(self):
        return len(self.x) // self.size

    def __getitem__(self, k):
        self.asked.append(k)
        part = slice(k * self.size, (k + 1) * self.size)
        return self.x[part], self.y[part]

    def on_epoch_end(self):
        self.asked.append("end")


def loader(x, y):
    """A torch DataLoader of batches of 6."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=6)


def dataset(x, y):
    """A tf.data.Dataset of batches of 6."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(6)


@pytest.mark.parametrize(
    "make, backend",
    [
        (loader, "torch"),
        (loader, "numpy"),
        (loader, "tensorflow"),
        (dataset, "tensorflow"),
        (dataset, "torch"),
        (Numbered, "numpy"),
        (Numbered, "jax"),
    ],
)
def test_every_source_trains_measures_and_predicts_like_arrays(make, backend, data, linear, same_weights):
    arrays, other = linear(backend), linear(backend)
    usual = arrays.fit(*data, batch_size=6, epochs=2, shuffle=False, validation_data=data, verbose=0)
    found = other.fit(make(*data), epochs=2, shuffle=False, validation_data=make(*data), verbose=0)
    same_weights(arrays, other)
    assert found.history == usual.history
    assert other.evaluate(make(*data), verbose=0) == pytest.approx(arrays.evaluate(*data, verbose=0), rel=1e-12)
    np.testing.assert_allclose(other.predict(make(*data), verbose=0), arrays.predict(data[0], verbose=0), rtol=1e-12)


@pytest.mark.parametrize("make", [loader, dataset, Numbered], ids=lambda make: make.__name__)
def test_a_source_that_knows_its_length_tells_callbacks(make, data, linear):
    model, seen = linear(), []
    model.fit(
        make(*data), verbose=0, callbacks=[lh.callbacks.LambdaCallback(on_train_begin=lambda logs: seen.append(1))]
    )
    assert model.history.params["steps"] == 4


def test_a_dataset_without_an_end_has_no_length_and_needs_steps(data, linear, same_weights):
    one, other = linear("tensorflow"), linear("tensorflow")
    one.fit(dataset(*data).repeat(), steps_per_epoch=4, epochs=2, verbose=0)
    other.fit(*data, batch_size=6, epochs=2, shuffle=False, verbose=0)
    same_weights(one, other)
    assert one.history.params["steps"] == 4
    assert len(one.predict(dataset(*data).repeat(), steps=2, verbose=0)) == 12


@pytest.mark.parametrize("backend", ["torch", "tensorflow", "jax"])
def test_batches_that_are_on_the_backend_already_are_taken_as_they_are(backend, data, linear, monkeypatch):
    model = linear(backend)
    model.train_on_batch(*data)
    executor = model.executor
    batch = [executor.array(a) for a in data]
    seen = []
    own = executor.train_batches
    executor.train_batches = lambda batches: (seen.extend(batches), own(batches))
    monkeypatch.setattr(executor.backend, "to_numpy", lambda x: pytest.fail("a trip through the host"))
    monkeypatch.setattr(model, "_logs", lambda given=None: {})
    model.fit(iter([tuple(batch)]), verbose=0)
    # jax hands out another object for the same memory.
    assert backend == "jax" or (seen[0].inputs[0] is batch[0] and seen[0].targets[0] is batch[1])
    assert model.executor.step == 2


def test_single_samples_of_torch_are_refused_with_what_to_do(data, linear):
    with pytest.raises(DataError, match=r"TensorDataset gives single samples.*DataLoader\(dataset, batch_size\)"):
        linear().fit(loader(*data).dataset, verbose=0)


def test_batches_by_number_are_shuffled_anew_each_epoch_and_told_of_its_end(data, linear):
    source = Numbered(*data)
    linear().fit(source, epochs=3, verbose=0)
    epochs = [source.asked[k : k + 5] for k in (0, 5, 10)]
    assert all(sorted(epoch[:4]) == [0, 1, 2, 3] and epoch[4] == "end" for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    source.asked.clear()
    linear().evaluate(source, verbose=0)
    assert source.asked == [0, 1, 2, 3, "end"]


def test_validation_by_number_begins_anew_after_each_epoch(data, linear):
    source = Numbered(*data)
    linear().fit(*data, epochs=2, validation_data=source, validation_steps=2, verbose=0)
    assert source.asked == [0, 1, "end"] * 2


def test_inputs_and_outputs_may_go_by_name(data, two_headed, same_weights):
    x, _ = data
    targets = {"right": x[:, :1], "left": x[:, :3]}
    by_name, by_place, streamed = two_headed(), two_headed(), two_headed()
    weights = {"right": np.linspace(0, 1, 24)}
    first = by_name.inputs[0].name
    by_name.fit({first: x}, targets, sample_weight=weights, batch_size=8, shuffle=False, verbose=0)
    by_place.fit(
        x, [x[:, :3], x[:, :1]], sample_weight=[None, weights["right"]], batch_size=8, shuffle=False, verbose=0
    )
    name = streamed.inputs[0].name
    parts = [slice(8 * k, 8 * k + 8) for k in range(3)]
    cut = lambda arrays, part: {key: a[part] for key, a in arrays.items()}
    streamed.fit(((cut({name: x}, part), cut(targets, part), cut(weights, part)) for part in parts), verbose=0)
    same_weights(by_name, by_place)
    same_weights(by_name, streamed)


def test_weights_for_an_output_that_is_not_there_are_refused(data, two_headed):
    x, _ = data
    with pytest.raises(DataError, match="there are data for 'middle', but the names are left, right"):
        two_headed().fit(x, [x[:, :3], x[:, :1]], sample_weight={"middle": np.ones(24)}, verbose=0)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_an_iterable_brings_its_own_weights(call, data, linear):
    with pytest.raises(DataError, match="an iterable brings its own targets"):
        getattr(linear(), call)(Numbered(*data), sample_weight=np.ones(24), verbose=0)


def test_nothing_of_an_empty_source_is_predicted(linear):
    with pytest.raises(DataError, match="the data have no batches"):
        linear().predict(iter([]), verbose=0)
