"""Beside Keras 3: uses of layers, masks within steps, subclassed models and operations mean the same there."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh

L = lh.layers
RNG = np.random.default_rng(2)


def test_uses_masks_and_weights_are_those_of_keras(keras):
    k = keras.layers
    x = RNG.normal(size=(4, 3, 2)).astype("float32")
    x[0, 1:], x[1, 2:] = 0, 0
    ours = lh.Sequential([lh.Input((3, 2)), L.Masking(), L.TimeDistributed(L.BatchNormalization())])
    theirs = keras.Sequential([keras.Input((3, 2)), k.Masking(), k.TimeDistributed(k.BatchNormalization())])
    wanted = keras.ops.convert_to_numpy(theirs(x, training=True))
    np.testing.assert_allclose(ours(x, training=True), wanted, atol=2e-6)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    a, b = lh.Input((4,)), keras.Input((4,))
    mine, peer = L.Dense(3), k.Dense(3)
    assert (mine(a).shape, mine.input.shape, mine.output.shape) == (peer(b).shape, peer.input.shape, peer.output.shape)
    for kind in (L.Dense, k.Dense):
        assert not hasattr(kind(3), "output")


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras's own, where it saves
def test_weights_of_a_subclass_stand_and_are_filed_as_in_keras(keras, tmp_path):
    def made(kit, model):
        class Net(model):
            def __init__(self, units=5):
                super().__init__()
                self.blocks = []
                self.head = kit.Dense(2)
                for _ in range(2):
                    self.blocks.append(kit.Dense(units))
                self.parts = {"norm": kit.BatchNormalization(), "dense": kit.Dense(units)}
                self.inner = (lh.Sequential if kit is L else keras.Sequential)([kit.Dense(units)])

            def call(self, x, training=False):
                for block in self.blocks:
                    x = block(x)
                x = self.parts["norm"](self.parts["dense"](x), training=training)
                return self.head(self.inner(x)) * 2

        return Net()

    ours, theirs = made(L, lh.Model), made(keras.layers, keras.Model)
    x = RNG.normal(size=(6, 4)).astype("float32")
    ours.build((None, 4))
    theirs(x)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [type(layer).__name__ for layer in ours.layers] == [type(layer).__name__ for layer in theirs.layers]
    ours.save_weights(tmp_path / "w.weights.h5")
    theirs.load_weights(tmp_path / "w.weights.h5")
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    wanted = keras.ops.convert_to_numpy(theirs(x))
    np.testing.assert_allclose(ours.predict(x, verbose=0), wanted, rtol=1e-5, atol=1e-5)
    theirs.save_weights(tmp_path / "k.weights.h5")
    other = made(L, lh.Model)
    other.build((None, 4))
    other.load_weights(tmp_path / "k.weights.h5")
    np.testing.assert_array_equal(other.predict(x, verbose=0), ours.predict(x, verbose=0))


def test_keras_opens_a_model_of_ours_with_operations(keras, tmp_path):
    x = lh.Input((3, 4), name="x")
    y = lh.ops.concatenate([2 * x[:, 1:] - 1, lh.ops.exp(x)], axis=1)
    z = lh.ops.mean(L.Dense(3)(y) / 2, axis=[1], keepdims=True) @ np.ones((3, 2), "float32")
    model = lh.Model(x, {"z": lh.ops.reshape(z, (-1, 2)), "y": lh.ops.where(y > 0, y, -y)})
    model.save(tmp_path / "m.keras")
    theirs = keras.models.load_model(tmp_path / "m.keras")
    data = RNG.normal(size=(5, 3, 4)).astype("float32")
    wanted = {name: keras.ops.convert_to_numpy(v) for name, v in theirs(data).items()}
    for name, found in model.predict(data, verbose=0).items():
        np.testing.assert_allclose(found, wanted[name], rtol=1e-5, atol=1e-5)
