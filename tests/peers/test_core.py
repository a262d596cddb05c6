"""Core layers beside Keras's."""

import numpy as np
import pytest

import layerhub as lh


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 3, 2, 4)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense(agrees_with_keras, shape, use_bias):
    agrees_with_keras("Dense", {"units": 5, "use_bias": use_bias, "activation": "tanh"}, [shape])


@pytest.mark.parametrize("dims, shape", [((2, 1), (2, 3, 4)), ((3, 1, 2), (2, 3, 4, 5)), ((1,), (3, 4))])
def test_permute(agrees_with_keras, dims, shape):
    agrees_with_keras("Permute", {"dims": dims}, [shape])


def test_repeat_vector(agrees_with_keras):
    agrees_with_keras("RepeatVector", {"n": 3}, [(2, 4)])


def test_identity(agrees_with_keras):
    agrees_with_keras("Identity", {}, [(2, 4)])


@pytest.mark.parametrize("mask_value", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(4, 6, 2), (6, 2), (2, 3, 3, 2)])
def test_masking(agrees_with_keras, keras, mask_value, shape):
    x = np.random.default_rng(1).integers(0, 2, size=shape).astype("float64")
    ours = agrees_with_keras("Masking", {"mask_value": mask_value}, [x])
    assert np.array_equal(ours.output_mask, keras.layers.Masking(mask_value).compute_mask(x))


@pytest.mark.parametrize("config", [{"l1": 0.125}, {"l2": 0.25}, {"l1": 0.125, "l2": 0.5}, {}])
def test_activity_regularization(keras, close, config):
    # Keras keeps the factors in float32: these are exact there.
    x = np.random.default_rng(2).normal(size=(5, 3))
    peer = keras.layers.ActivityRegularization(**config, dtype="float64")
    peer(x)
    inputs = lh.Input((3,), dtype="float64")
    model = lh.Model(inputs, lh.layers.ActivityRegularization(**config, dtype="float64")(inputs), backend="numpy")
    model.compile(optimizer="sgd", loss="mse")
    close(model.evaluate(x, x, batch_size=5, verbose=0), float(sum(peer.losses)), "the penalty")
    assert keras.layers.ActivityRegularization.from_config(peer.get_config()).l1 == config.get("l1", 0.0)
    assert lh.layers.ActivityRegularization.from_config(peer.get_config()).l2 == config.get("l2", 0.0)


def test_an_activity_regularization_takes_no_other_regularizer():
    with pytest.raises(lh.errors.ParameterError, match="activity_regularizer"):
        lh.layers.ActivityRegularization(l1=0.1, activity_regularizer="l2")


@pytest.mark.parametrize(
    "equation, output_shape, bias_axes, shape",
    [
        ("ab,bc->ac", 5, "c", (3, 4)),
        ("abc,cd->abd", (None, 5), "d", (2, 3, 4)),
        ("abc,cd->abd", (3, 5), "bd", (2, 3, 4)),
        ("...x,xy->...y", 5, "y", (2, 3, 2, 4)),
        ("...x,xy->...y", 5, None, (2, 4)),
        ("abc,cde->abde", (None, 2, 3), "de", (2, 3, 4)),
        ("abcd,cde->abe", (None, 5), "e", (2, 3, 2, 4)),
        ("abc,bde->aed", (3, 2), "d", (2, 3, 4)),
        ("ab...,bc->ac...", 5, "c", (2, 3, 4, 2)),
        ("abc,cb->ab", (3,), None, (2, 3, 4)),
        ("abc,bcd->acd", (4, 5), "cd", (2, 3, 4)),
    ],
)
def test_einsum_dense(agrees_with_keras, equation, output_shape, bias_axes, shape):
    config = {"equation": equation, "output_shape": output_shape, "bias_axes": bias_axes, "activation": "tanh"}
    agrees_with_keras("EinsumDense", config, [shape])


@pytest.mark.parametrize("equation, shape", [("abc,cde->abde", (2, 3, 4)), ("abcd,cde->abe", (2, 3, 2, 4))])
def test_einsum_dense_starts_as_keras_does(keras, equation, shape):
    output_shape = (None, 20, 30)[: len(equation.split("->")[1]) - 1]
    bounds = []
    for layers in (lh.layers, keras.layers):
        layer = layers.EinsumDense(equation, output_shape, kernel_initializer="he_uniform", dtype="float64")
        layer.build(shape)
        bounds.append(np.abs(np.asarray(layer.get_weights()[0])).max())
    # Both draw from the same interval; the largest of many draws is near its end.
    assert abs(bounds[0] / bounds[1] - 1) < 0.03
