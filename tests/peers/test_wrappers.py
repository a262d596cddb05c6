"""Wrappers beside Keras's: shapes, values, gradients, and what a call in training moves."""

import numpy as np
import pytest

import layerhub as lh

INNER = {
    "Dense": ({"units": 3, "activation": "tanh"}, (2, 4, 5)),
    "Conv2D": ({"filters": 3, "kernel_size": 2}, (2, 3, 5, 4, 2)),
    "LSTM": ({"units": 3, "return_sequences": True}, (2, 3, 4, 5)),
    "Flatten": ({}, (2, 3, 4, 5)),
    "LayerNormalization": ({}, (2, 3, 4)),
}


@pytest.mark.parametrize("name", INNER)
def test_time_distributed(agrees_with_keras, keras, name):
    config, shape = INNER[name]
    ours = lh.layers.TimeDistributed(getattr(lh.layers, name)(**config))
    theirs = keras.layers.TimeDistributed(getattr(keras.layers, name)(**config), dtype="float64")
    agrees_with_keras("TimeDistributed", {}, [shape], layer=ours, peer=theirs)


def test_batch_normalization_sees_the_steps_one_after_the_other(agrees_with_keras, keras):
    config = {"momentum": 0.75, "epsilon": 2**-8}
    ours = lh.layers.TimeDistributed(lh.layers.BatchNormalization(**config))
    theirs = keras.layers.TimeDistributed(keras.layers.BatchNormalization(**config), dtype="float64")
    agrees_with_keras("TimeDistributed", {}, [(6, 3, 4)], layer=ours, peer=theirs, training=True)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "config", "shape"),
    [("Dense", {"units": 3}, (5, 4)), ("Conv2D", {"filters": 3, "kernel_size": 2}, (2, 5, 4, 2))],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_spectral_normalization(agrees_with_keras, keras, name, config, shape, steps, training):
    ours = lh.layers.SpectralNormalization(getattr(lh.layers, name)(**config), steps)
    inner = getattr(keras.layers, name)(**config, dtype="float64")
    theirs = keras.layers.SpectralNormalization(inner, steps, dtype="float64")
    agrees_with_keras(
        "SpectralNormalization", {}, [shape], layer=ours, peer=theirs, call={"training": training}, training=training
    )


def test_models_with_wrappers_train_alike_on_every_backend():
    def curve(backend):
        layers = lh.layers
        model = lh.Sequential(
            [
                lh.Input((4, 6)),
                layers.TimeDistributed(layers.BatchNormalization()),
                layers.TimeDistributed(layers.SpectralNormalization(layers.Dense(5, activation="tanh"))),
                layers.Bidirectional(layers.GRU(3)),
                layers.SpectralNormalization(layers.Dense(1), 2),
            ],
            backend=backend, seed=4,
        )  # fmt: skip
        model.compile(lh.optimizers.Adam(0.01), "mse")
        rng = np.random.default_rng(0)
        x = rng.normal(size=(48, 4, 6))
        losses = model.fit(x, x[:, 0, :1], epochs=4, batch_size=16, verbose=0).history["loss"]
        return losses, model.get_weights()

    lh.config.set_floatx("float64")
    try:
        first, *others = (curve(backend) for backend in lh.backends())
    finally:
        lh.config.set_floatx("float32")
    assert first[0][-1] < first[0][0]
    for losses, weights in others:
        np.testing.assert_allclose(losses, first[0], rtol=1e-9)
        for a, b in zip(weights, first[1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
