"""Activations beside Keras's and torch's: values and gradients in float64."""

import numpy as np
import pytest

import layerhub as lh

RNG = np.random.default_rng(5)
X = RNG.normal(size=(5, 8)) * 2
DY = RNG.normal(size=(5, 8))
SPARSEMAX = pytest.mark.xfail(
    strict=True, reason="Keras 3.15.1 adds up the cumulative sums of the support: its rows do not sum to 1"
)
# Parameters that float32 holds: Keras on tensorflow rounds them to it on their way.
CONFIGS = [
    ("celu", {}), ("celu", {"alpha": 0.5}), ("elu", {"alpha": 0.5}), ("exponential", {}), ("glu", {}),
    ("glu", {"axis": 1}), ("hard_shrink", {}), ("hard_shrink", {"threshold": 1.0}), ("hard_sigmoid", {}),
    ("hard_silu", {}), ("hard_tanh", {}), ("leaky_relu", {"negative_slope": 0.25}), ("linear", {}), ("log_sigmoid", {}),
    ("log_softmax", {}), ("log_softmax", {"axis": 0}), ("mish", {}), ("relu", {}),
    ("relu", {"negative_slope": 0.25, "max_value": 2.0, "threshold": 0.5}), ("relu6", {}), ("selu", {}),
    ("sigmoid", {}), ("silu", {}), ("soft_shrink", {}), ("soft_shrink", {"threshold": 1.0}), ("softmax", {}),
    ("softmax", {"axis": 0}), ("softplus", {}), ("softsign", {}), ("sparse_plus", {}), ("sparse_sigmoid", {}),
    pytest.param("sparsemax", {}, marks=SPARSEMAX), pytest.param("sparsemax", {"axis": 0}, marks=SPARSEMAX),
    ("squareplus", {}), ("squareplus", {"b": 1.0}), ("tanh", {}),
    ("tanh_shrink", {}), ("threshold", {"threshold": 0.5, "default_value": -1.0}),
]  # fmt: skip


def ours(name, config):
    layer = lh.layers.Activation({"class_name": name, "config": config}, dtype="float64")
    dy = DY[tuple(slice(size) for size in layer.output_shapes(X.shape)[0])]
    found = lh.evaluate_layer(layer, X, cotangents=[dy], dtype="float64", route="definition")
    return found.outputs[0], found.input_grads[0], dy


@pytest.mark.parametrize("name, config", CONFIGS, ids=str)
def test_activation_agrees_with_keras(name, config, keras, close):
    import tensorflow as tf

    value, gradient, dy = ours(name, config)
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = getattr(keras.activations, name)(x, **config)
        total = tf.reduce_sum(y * dy)
    # selu and gelu hold float32 constants there.
    tolerance = 1e-6 if name in ("selu", "gelu") else 1e-10
    close(value, y.numpy(), "value", tolerance)
    close(gradient, tape.gradient(total, x).numpy(), "gradient", tolerance)


def test_sparsemax_is_the_nearest_point_of_the_simplex(close):
    value, gradient, dy = ours("sparsemax", {})
    for x, y, dx, cotangent in zip(X, value, gradient, dy, strict=True):
        low, high = x.max() - 1, x.max()
        for _ in range(100):  # the t at which max(x - t, 0) sums to 1, by bisection
            middle = (low + high) / 2
            low, high = (middle, high) if np.maximum(x - middle, 0).sum() > 1 else (low, middle)
        close(y, np.maximum(x - low, 0), "value")
        inside = y > 0
        close(dx, np.where(inside, cotangent - cotangent[inside].mean(), 0), "gradient")


def test_gelu_agrees_with_the_normal_distribution(close):
    import math

    value, _, _ = ours("gelu", {})
    close(value, [[x * 0.5 * math.erfc(-x / math.sqrt(2)) for x in row] for row in X.tolist()], "value")


TORCH = {
    "celu": "celu", "glu": "glu", "hard_shrink": "hardshrink", "hard_silu": "hardswish", "hard_tanh": "hardtanh",
    "log_sigmoid": "logsigmoid", "mish": "mish", "selu": "selu", "soft_shrink": "softshrink", "softsign": "softsign",
    "tanh_shrink": "tanhshrink", "gelu": "gelu", "softplus": "softplus",
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_activation_agrees_with_torch(name, close):
    torch = pytest.importorskip("torch")
    value, gradient, dy = ours(name, {})
    x = torch.tensor(X, requires_grad=True)
    y = getattr(torch.nn.functional, TORCH[name])(x)
    (y * torch.tensor(dy)).sum().backward()
    # softplus is cut off at 20, hardswish differentiates by float32 numbers.
    tolerance = 1e-8 if name in ("softplus", "hard_silu") else 1e-10
    close(value, y.detach().numpy(), "value", tolerance)
    close(gradient, x.grad.numpy(), "gradient", tolerance)


def test_an_activation_that_changes_the_shape_is_refused_where_the_shape_must_stay():
    with pytest.raises(lh.errors.ParameterError, match=r"Dense: activation .*glu changes the shape"):
        lh.layers.Dense(4, activation="glu")


def test_glu_needs_an_even_size():
    with pytest.raises(lh.errors.ShapeError, match=r"glu\(\): x has shape \(2, 3\).* must be even"):
        lh.layers.Activation("glu").output_shapes((2, 3))
    assert lh.layers.Activation("glu").output_shapes((None, 6)) == ((None, 3),)


def test_an_activation_takes_its_parameters_by_position_as_a_function():
    np.testing.assert_array_equal(lh.activations.threshold(np.array([0.2, 0.7]), 0.5, -1.0), [-1.0, 0.7])
