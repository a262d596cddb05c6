"""Activation layers beside Keras's and torch's."""

import numpy as np
import pytest

import layerhub as lh


@pytest.mark.parametrize("max_value", [None, 0.5])
@pytest.mark.parametrize("negative_slope", [0.0, 0.25])
@pytest.mark.parametrize("threshold", [0.0, 0.125])
def test_relu(agrees_with_keras, max_value, negative_slope, threshold):
    # Keras keeps slopes in float32: these are exact there.
    config = {"max_value": max_value, "negative_slope": negative_slope, "threshold": threshold}
    agrees_with_keras("ReLU", config, [(4, 6)])


@pytest.mark.parametrize("negative_slope", [0.25, 1.5, 0.0])
def test_leaky_relu(agrees_with_keras, negative_slope):
    agrees_with_keras("LeakyReLU", {"negative_slope": negative_slope}, [(4, 6)])


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_elu(agrees_with_keras, alpha):
    agrees_with_keras("ELU", {"alpha": alpha}, [(4, 6)])


@pytest.mark.parametrize("shared_axes", [None, [1], [1, 2], [2]])
def test_prelu(agrees_with_keras, shared_axes):
    agrees_with_keras("PReLU", {"shared_axes": shared_axes}, [(2, 3, 4)])


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), (2,)])
def test_softmax(agrees_with_keras, axis):
    agrees_with_keras("Softmax", {"axis": axis}, [(2, 3, 4)])


@pytest.mark.parametrize("axis", [-1, 1, (1, 2)])
def test_masked_softmax(agrees_with_keras, axis):
    mask = np.random.default_rng(5).integers(0, 2, size=(3, 4, 5)).astype(bool)
    mask[0] = False
    agrees_with_keras("Softmax", {"axis": axis}, [(3, 4, 5)], mask=mask)


def test_thresholded_relu_beside_torch(close):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(6).normal(size=(4, 6)) * 2
    ours = lh.evaluate_layer(lh.layers.ThresholdedReLU(0.75), x, dtype="float64").outputs[0]
    close(ours, torch.nn.Threshold(0.75, 0.0)(torch.from_numpy(x)).numpy(), "output")
    assert lh.layers.ThresholdedReLU().theta == 1


def test_prelu_beside_torch(close):
    torch = pytest.importorskip("torch")
    x, alpha = np.random.default_rng(7).normal(size=(2, 4, 3)), np.array([0.1, -0.2, 1.5, 0.0])
    ours = lh.evaluate_layer(lh.layers.PReLU(shared_axes=2), x, [alpha[:, None]], dtype="float64").outputs[0]
    close(ours, torch.nn.functional.prelu(torch.from_numpy(x), torch.from_numpy(alpha)).numpy(), "output")
