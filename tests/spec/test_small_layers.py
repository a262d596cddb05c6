"""What the small layers (shape changes, merges, activations, normalizations, noise) refuse, and how they say it."""

import pytest

import layerhub as lh
from layerhub.errors import OldSpellingWarning, ParameterError, ShapeError

layers = lh.layers


@pytest.mark.parametrize(
    "name, config, words",
    [
        ("Permute", {"dims": (0, 1)}, ["Permute", "dims", "(0, 1)"]),
        ("Permute", {"dims": (1, 1)}, ["Permute", "dims", "(1, 1)"]),
        ("RepeatVector", {"n": 0}, ["RepeatVector", "n", "positive int", "0"]),
        ("ActivityRegularization", {"l1": -1.0}, ["ActivityRegularization", "l1", "-1.0"]),
        ("EinsumDense", {"equation": "ab,bc", "output_shape": 3}, ["EinsumDense", "equation", "'ab,bc'"]),
        ("EinsumDense", {"equation": "...ab...,bc->...ac...", "output_shape": 3}, ["EinsumDense", "equation"]),
        ("EinsumDense", {"equation": "aab,bc->ac", "output_shape": 3}, ["EinsumDense", "c1", "'aab,bc->ac'"]),
        ("EinsumDense", {"equation": "ab,bcd->ac", "output_shape": 3}, ["EinsumDense", "c2"]),
        ("EinsumDense", {"equation": "ab,bc->ad", "output_shape": 3}, ["EinsumDense", "c2"]),
        ("EinsumDense", {"equation": "ab,b->ad", "output_shape": 3}, ["EinsumDense", "c3"]),
        ("EinsumDense", {"equation": "ab,bc->ac", "output_shape": (3, 4)}, ["EinsumDense", "c4", "(3, 4)"]),
        ("EinsumDense", {"equation": "ab,bc->ac", "output_shape": (None,)}, ["EinsumDense", "c5", "(None,)"]),
        ("EinsumDense", {"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "b"}, ["EinsumDense", "c6", "'b'"]),
        ("Dot", {"axes": (1, 2, 3)}, ["Dot", "c2", "(1, 2, 3)"]),
        ("ReLU", {"max_value": -1.0}, ["ReLU", "max_value", "-1.0"]),
        ("LeakyReLU", {"negative_slope": -0.1}, ["LeakyReLU", "negative_slope", "-0.1"]),
        ("PReLU", {"shared_axes": (0,)}, ["PReLU", "shared_axes", "(0,)"]),
        ("GroupNormalization", {"groups": 0}, ["GroupNormalization", "groups", "0"]),
        ("LayerNormalization", {"epsilon": 0.0}, ["LayerNormalization", "epsilon", "0.0"]),
        ("GaussianNoise", {"stddev": -0.1}, ["GaussianNoise", "stddev", "-0.1"]),
        ("GaussianDropout", {"rate": 1.0}, ["GaussianDropout", "c1", "rate=1.0"]),
        ("AlphaDropout", {"rate": 1.5}, ["AlphaDropout", "rate", "1.5"]),
        ("SpatialDropout2D", {"rate": 0.5, "data_format": "NHWC"}, ["SpatialDropout2D", "data_format", "NHWC"]),
    ],
)
def test_a_wrong_parameter_is_named(name, config, words):
    with pytest.raises(ParameterError) as caught:
        getattr(layers, name)(**config)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    "layer, shapes, words",
    [
        (layers.Permute((2, 1)), [(2, 3)], ["Permute", "c1", "(2, 1)", "(2, 3)"]),
        (layers.RepeatVector(3), [(2, 3, 4)], ["RepeatVector", "needs 2 axes, has 3"]),
        (layers.EinsumDense("abc,cd->abd", (None, 5)), [(2, 3)], ["EinsumDense", "c7", "(2, 3)"]),
        (layers.EinsumDense("...b,bc->...c", 5), [(3,)], ["EinsumDense", "c7", "(3,)"]),
        (layers.EinsumDense("abc,cd->abd", (4, 5)), [(2, 3, 4)], ["EinsumDense", "c8", "(4, 5)", "(2, 3, 4)"]),
        (layers.Subtract(), [(2, 3)] * 3, ["Subtract", "c2"]),
        (layers.Maximum(), [(2, 3)], ["Maximum", "1"]),
        (layers.Maximum(), [(2, 3), (2, 4)], ["Maximum", "(2, 3)", "(2, 4)"]),
        (layers.Dot(2), [(2, 3), (2, 3)], ["Dot", "c3"]),
        (layers.Dot(0), [(2, 3), (2, 3)], ["Dot", "c4"]),
        (layers.Dot(1), [(2, 3), (2, 4)], ["Dot", "c5", "(2, 3)", "(2, 4)"]),
        (layers.PReLU(shared_axes=2), [(2, 3)], ["PReLU", "c1", "(2,)"]),
        (layers.Softmax(axis=2), [(2, 3)], ["Softmax", "c1", "axis=2"]),
        (layers.LayerNormalization(axis=(1, 3)), [(2, 3, 4)], ["LayerNormalization", "c1", "(1, 3)"]),
        (layers.LayerNormalization(axis=(-1, 2)), [(2, 3, 4)], ["LayerNormalization", "c2", "(-1, 2)"]),
        (layers.GroupNormalization(2), [(2, 3, 5)], ["GroupNormalization", "c3", "channels=5"]),
        (layers.GroupNormalization(2, axis=0), [(2, 3)], ["GroupNormalization", "c2"]),
        (layers.Dropout(0.5, noise_shape=(None, 1)), [(2, 3, 4)], ["Dropout", "c1", "(None, 1)", "(2, 3, 4)"]),
        (layers.AlphaDropout(0.5, noise_shape=(None, 2)), [(2, 3)], ["AlphaDropout", "c2", "(None, 2)", "(2, 3)"]),
        (layers.SpatialDropout1D(0.5), [(2, 3)], ["SpatialDropout1D", "needs 3 axes, has 2"]),
    ],
    ids=repr,
)
def test_a_wrong_shape_is_named(layer, shapes, words):
    with pytest.raises(ShapeError) as caught:
        layer.output_shapes(*shapes)
    assert [word for word in words if word not in str(caught.value)] == []


def test_weights_along_an_axis_of_unknown_size_are_refused():
    with pytest.raises(ShapeError, match="gamma"):
        layers.LayerNormalization(axis=1).weight_specs((2, None, 4))
    with pytest.raises(ShapeError, match="alpha"):
        layers.PReLU().weight_specs((2, None, 4))
    assert layers.PReLU(shared_axes=1).weight_specs((2, None, 4))[0].shape == (1, 4)


@pytest.mark.parametrize(
    "layer, shape, weights",
    [
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (7, 5, 4), [(4, 2, 3), (2, 3)]),
        (layers.EinsumDense("ab...,bc->ac...", 3, bias_axes="c"), (7, 4, 5, 6), [(4, 3), (3, 1, 1)]),
        (layers.EinsumDense("...ab,bc->...ac", (None, 3), bias_axes="a"), (7, 5, 4), [(4, 3), (5, 1)]),
        (layers.LayerNormalization(axis=(3, 1)), (7, 5, 4, 6), [(5, 6), (5, 6)]),
        (layers.GroupNormalization(2, center=False), (7, 5, 4), [(4,)]),
        (layers.RMSNormalization(axis=(1, 2)), (7, 5, 4), [(5, 4)]),
        (layers.PReLU(shared_axes=(1, 2)), (7, 5, 4, 6), [(1, 1, 6)]),
    ],
    ids=repr,
)
def test_weights_have_the_shapes_of_keras(layer, shape, weights):
    assert [spec.shape for spec in layer.weight_specs(shape)] == weights


@pytest.mark.parametrize(
    "layer, shapes, wanted",
    [
        (layers.Permute((2, 1)), [(None, 3, 4)], (None, 4, 3)),
        (layers.RepeatVector(3), [(None, 4)], (None, 3, 4)),
        (layers.EinsumDense("abc,cd->abd", (None, 5)), [(None, None, 4)], (None, None, 5)),
        (layers.Dot(2), [(None, 3, 4), (None, 5, 4)], (None, 3, 5)),
        (layers.Dot(1), [(None, 3), (None, 3)], (None, 1)),
        (layers.Maximum(), [(None, 4), (None, None, 4)], (None, None, 4)),
        (layers.SpatialDropout3D(0.5), [(None, 2, 2, 2, 3)], (None, 2, 2, 2, 3)),
    ],
    ids=repr,
)
def test_shapes_with_unknown_sizes(layer, shapes, wanted):
    assert layer.output_shapes(*shapes) == (wanted,)


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("LeakyReLU", {"alpha": 0.1}, {"negative_slope": 0.1}),
        ("GaussianNoise", {"sigma": 0.1}, {"stddev": 0.1}),
        ("GaussianDropout", {"p": 0.1}, {"rate": 0.1}),
        ("AlphaDropout", {"p": 0.1}, {"rate": 0.1}),
        ("SpatialDropout1D", {"p": 0.1}, {"rate": 0.1}),
        ("Dropout", {"p": 0.1}, {"rate": 0.1}),
    ],
)
def test_old_names_are_taken_with_a_warning(name, old, new):
    with pytest.warns(OldSpellingWarning, match=next(iter(new))):
        layer = getattr(layers, name)(**old)
    assert layer.get_config() == getattr(layers, name)(**new).get_config()
