"""Noise layers: their statistics, their gradients, and Keras's configs."""

import math

import numpy as np
import pytest

import layerhub as lh

COUNT = 200_000
SIGMAS = 5


def drawn(layer, x, backend="numpy", **options):
    return lh.evaluate_layer(layer, x, backend=backend, training=True, seed=3, **options)


def normal_statistics(z):
    """The first four moments of standard normal numbers, each within five of its own deviations."""
    z = np.float64(z).reshape(-1)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - mean) <= SIGMAS * math.sqrt(variance / z.size)
    # Neighbours have nothing to do with each other.
    for lag in (1, 2, 4):
        assert abs(np.mean(z[lag:] * z[:-lag])) <= SIGMAS / math.sqrt(z.size - lag)


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gaussian_noise_is_normal(backend, dtype):
    pytest.importorskip(backend)
    y = drawn(lh.layers.GaussianNoise(2.0), np.zeros((COUNT // 100, 100)), backend, dtype=dtype).outputs[0]
    normal_statistics(y / 2)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_gaussian_dropout_is_normal_about_its_input(rate):
    found = drawn(lh.layers.GaussianDropout(rate), np.full((COUNT,), 3.0), cotangents=np.ones(COUNT))
    z = (found.outputs[0] / 3 - 1) / math.sqrt(rate / (1 - rate))
    normal_statistics(z)
    assert np.allclose(found.input_grads[0], found.outputs[0] / 3)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_alpha_dropout_keeps_mean_and_variance(rate):
    x = np.random.default_rng(4).normal(size=(COUNT,))
    found = drawn(lh.layers.AlphaDropout(rate), x, cotangents=np.ones(COUNT), dtype="float64")
    y, slope = found.outputs[0], found.input_grads[0]
    assert abs(y.mean()) <= SIGMAS / math.sqrt(COUNT)
    assert abs(y.var() - 1) <= SIGMAS * math.sqrt(np.mean((y**2 - 1) ** 2) / COUNT)
    dropped = slope == 0
    assert abs(dropped.mean() - rate) <= SIGMAS * math.sqrt(rate * (1 - rate) / COUNT)
    # What is kept is moved by one line, what is dropped is one value, and the gradient knows which is which.
    scale = slope[~dropped][0]
    assert np.allclose(slope[~dropped], scale)
    assert np.allclose(y[~dropped] - scale * x[~dropped], y[~dropped][0] - scale * x[~dropped][0])
    assert np.ptp(y[dropped]) == 0


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow"])
def test_spatial_dropout_drops_whole_channels(backend, rank, data_format):
    pytest.importorskip(backend)
    if rank == 1 and data_format == "channels_first":
        return
    rate, samples, channels = 0.25, 500, 200
    layer = getattr(lh.layers, f"SpatialDropout{rank}D")(rate, **({} if rank == 1 else {"data_format": data_format}))
    first = data_format == "channels_first"
    shape = (samples, channels, *(2,) * rank) if first else (samples, *(2,) * rank, channels)
    found = drawn(layer, np.ones(shape), backend, cotangents=np.ones(shape))
    y = found.outputs[0] if not first else np.moveaxis(found.outputs[0], 1, -1)
    by_channel = y.reshape(samples, -1, channels)
    assert np.array_equal(by_channel, np.broadcast_to(by_channel[:, :1], by_channel.shape))
    kept = by_channel[:, 0] != 0
    assert np.array_equal(by_channel[:, 0][kept], np.full(kept.sum(), np.float32(1 / (1 - rate))))
    assert abs(kept.mean() - (1 - rate)) <= SIGMAS * math.sqrt(rate * (1 - rate) / kept.size)
    assert np.array_equal(found.input_grads[0], found.outputs[0])


NOISE = [
    ("GaussianNoise", {"stddev": 0.3}, (3, 4)),
    ("GaussianDropout", {"rate": 0.3}, (3, 4)),
    ("AlphaDropout", {"rate": 0.3}, (3, 4)),
    ("SpatialDropout1D", {"rate": 0.3}, (3, 4, 2)),
    ("SpatialDropout2D", {"rate": 0.3}, (3, 4, 2, 3)),
    ("SpatialDropout3D", {"rate": 0.3}, (3, 4, 2, 2, 3)),
]


@pytest.mark.parametrize("name, config, shape", NOISE)
def test_inference_is_the_identity(agrees_with_keras, name, config, shape):
    agrees_with_keras(name, config, [shape], training=False)


@pytest.mark.parametrize("name, config, shape", NOISE)
def test_configs_of_keras_load(keras, name, config, shape):
    theirs = getattr(keras.layers, name)(**config, seed=5).get_config()
    ours = getattr(lh.layers, name).from_config(theirs)
    assert ours.seed == 5
    assert all(getattr(ours, key) == value for key, value in config.items())


@pytest.mark.parametrize("name, config, shape", NOISE)
def test_each_use_of_a_layer_draws_anew(name, config, shape):
    inputs = lh.Input(shape[1:])
    layer = getattr(lh.layers, name)(**config)
    model = lh.Model(inputs, [layer(inputs), layer(inputs)], backend="numpy")
    x = np.ones((8, *shape[1:]), "float32")
    first, second = model(x, training=True)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", ["AlphaDropout", "SpatialDropout1D"])
def test_at_rate_one_nothing_is_left(name):
    y = drawn(getattr(lh.layers, name)(1.0), np.ones((2, 3, 4))).outputs[0]
    assert not y.any()


def test_gaussian_dropout_has_no_rate_of_one():
    with pytest.raises(lh.errors.ParameterError, match="c1 the rate is below 1"):
        lh.layers.GaussianDropout(1.0)
