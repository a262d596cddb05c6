"""Normalizations beside Keras's and torch's."""

import numpy as np
import pytest

import layerhub as lh


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("axis, shape", [(-1, (4, 3, 5)), (1, (4, 3, 5)), (-1, (6, 4))])
@pytest.mark.parametrize("center, scale", [(True, True), (True, False), (False, True)])
def test_batch_normalization(agrees_with_keras, training, axis, shape, center, scale):
    # Keras keeps these numbers in float32: they are exact there.
    config = {"momentum": 0.875, "epsilon": 2**-8, "axis": axis, "center": center, "scale": scale}
    agrees_with_keras("BatchNormalization", config, [shape], training=training)


@pytest.mark.parametrize("axis, shape", [(-1, (3, 5)), (1, (2, 3, 4)), ((1, 2), (2, 3, 4)), ([1, 3], (2, 3, 2, 4))])
@pytest.mark.parametrize("center, scale", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_layer_normalization(agrees_with_keras, axis, shape, center, scale, epsilon):
    agrees_with_keras(
        "LayerNormalization", {"axis": axis, "center": center, "scale": scale, "epsilon": epsilon}, [shape]
    )


@pytest.mark.parametrize("shape", [(3, 6), (2, 4, 6), (2, 3, 2, 6)])
@pytest.mark.parametrize("groups", [2, 3, 1, -1])
@pytest.mark.parametrize("center, scale", [(True, True), (True, False), (False, True)])
def test_group_normalization(agrees_with_keras, shape, groups, center, scale):
    config = {"groups": groups, "center": center, "scale": scale, "epsilon": 1e-3}
    agrees_with_keras("GroupNormalization", config, [shape])


@pytest.mark.parametrize("groups", [2, 3, 1, -1])
def test_group_normalization_with_channels_first(agrees_with_keras, groups):
    agrees_with_keras("GroupNormalization", {"groups": groups, "axis": 1}, [(2, 6, 3, 4)])


@pytest.mark.parametrize("axis, shape", [(-1, (3, 5)), (1, (2, 3, 4)), ([1, 2], (2, 3, 4))])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-3])
def test_rms_normalization(agrees_with_keras, axis, shape, epsilon):
    if axis == 1:
        # Keras multiplies by the scale along the last axis, whichever axis is normalized.
        pytest.skip("Keras cannot scale along another axis than the last")
    agrees_with_keras("RMSNormalization", {"axis": axis, "epsilon": epsilon}, [shape])


@pytest.mark.parametrize("axis", [-1, 1, (1, 2)])
def test_unit_normalization(agrees_with_keras, axis):
    agrees_with_keras("UnitNormalization", {"axis": axis}, [(2, 3, 4)])


def test_unit_normalization_of_zeros():
    found = lh.evaluate_layer(
        lh.layers.UnitNormalization(), np.zeros((2, 3)), cotangents=np.ones((2, 3)), dtype="float64"
    )
    assert not found.outputs[0].any()
    assert not found.input_grads[0].any()


@pytest.mark.parametrize("data", [(0.0, 1.0), (1000.0, 0.01)], ids=["plain", "large mean"])
@pytest.mark.parametrize("name", ["layer", "group", "instance", "rms"])
def test_beside_torch(close, name, data):
    torch = pytest.importorskip("torch")
    mean, deviation = data
    rng = np.random.default_rng(8)
    x, gamma, beta = rng.normal(size=(3, 6, 5)) * deviation + mean, rng.normal(size=6), rng.normal(size=6)
    row, low = rng.normal(size=5), rng.normal(size=5)
    t = {k: torch.from_numpy(v) for k, v in {"x": x, "gamma": gamma, "beta": beta, "row": row, "low": low}.items()}
    F = torch.nn.functional  # noqa: N806
    layer, weights, theirs = {
        "layer": (
            lh.layers.LayerNormalization(epsilon=1e-5),
            [row, low],
            lambda: F.layer_norm(t["x"], (5,), t["row"], t["low"], 1e-5),
        ),
        "group": (
            lh.layers.GroupNormalization(3, axis=1, epsilon=1e-5),
            [gamma, beta],
            lambda: F.group_norm(t["x"], 3, t["gamma"], t["beta"], 1e-5),
        ),
        "instance": (
            lh.layers.GroupNormalization(-1, axis=1, epsilon=1e-5),
            [gamma, beta],
            lambda: F.instance_norm(t["x"], weight=t["gamma"], bias=t["beta"], eps=1e-5),
        ),
        "rms": (lh.layers.RMSNormalization(epsilon=1e-5), [row], lambda: F.rms_norm(t["x"], (5,), t["row"], 1e-5)),
    }[name]
    ours = lh.evaluate_layer(layer, x, weights, dtype="float64", route="definition").outputs[0]
    close(ours, theirs().numpy(), name, 1e-10 if mean == 0 else 1e-7)


@pytest.mark.parametrize("backend, dtype", [("numpy", "float16"), ("torch", "float16"), ("torch", "bfloat16")])
@pytest.mark.parametrize("route", ["kernel", "definition"])
@pytest.mark.parametrize(
    "layer, count",
    [
        (lh.layers.LayerNormalization(), 2),
        (lh.layers.GroupNormalization(2), 2),
        (lh.layers.RMSNormalization(), 1),
        (lh.layers.UnitNormalization(), 0),
        (lh.layers.Softmax(), 0),
        (lh.layers.BatchNormalization(), 4),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else None,
)
def test_half_precision_rounds_once(backend, dtype, route, layer, count):
    """Values whose squares, or sums of squares, a half could not hold."""
    pytest.importorskip(backend)
    unit = {"float16": 2**-11, "bfloat16": 2**-8}[dtype]
    rng = np.random.default_rng(9)
    x = np.float32(rng.integers(-256, 256, size=(4, 512)))
    weights = [np.ones(512)] * count
    found = lh.evaluate_layer(layer, x, weights, backend, True, dtype=dtype, route=route).outputs[0]
    wanted = lh.evaluate_layer(layer, x, weights, "numpy", True, dtype="float64", route="definition").outputs[0]
    assert np.all(np.abs(np.float64(found) - wanted) <= 1.01 * unit * np.abs(wanted) + 6e-8)
