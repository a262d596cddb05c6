"""lh.evaluate_layer: one layer, one call; ndarrays in, ndarrays out, and nothing else touched."""

import warnings

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import BackendError, DataError, MaskDroppedWarning, ParameterError, ShapeError, WeightsError
from layerhub.stream import Stream
from layerhub.variable import HOST

RNG = np.random.default_rng(6)
X = RNG.normal(size=(4, 3))
NEAR = 1e-13
"""Relative: a handful of float64 operations on numbers of size 1."""


def test_without_weights_they_start_from_the_seed_as_in_a_model():
    layer = lh.layers.Dense(5)
    one = lh.evaluate_layer(layer, X, seed=3, dtype="float64")
    model = lh.Sequential([lh.Input((3,), dtype="float64"), layer.replace(dtype="float64")], seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, model.get_weights(), strict=True))
    assert np.array_equal(one.outputs[0], model.predict(X, verbose=0))
    assert not np.array_equal(one.weights[0], lh.evaluate_layer(layer, X, seed=4, dtype="float64").weights[0])


@pytest.mark.parametrize("route", ["kernel", "definition"])
def test_values_and_gradients_are_those_of_the_formula(route):
    kernel, bias, c = RNG.normal(size=(3, 5)), RNG.normal(size=5), RNG.normal(size=(4, 5))
    found = lh.evaluate_layer(
        lh.layers.Dense(5), X, [kernel, bias], cotangents=[c], dtype="float64", route=route
    )  # fmt: skip
    np.testing.assert_allclose(found.outputs[0], X @ kernel + bias, rtol=NEAR)
    np.testing.assert_allclose(found.input_grads[0], c @ kernel.T, rtol=NEAR)
    np.testing.assert_allclose(found.weight_grads[0], X.T @ c, rtol=NEAR)
    np.testing.assert_allclose(found.weight_grads[1], c.sum(0), rtol=NEAR)
    assert found.routes == ["definition"] if route == "definition" else found.routes[0].startswith("kernel of")


def test_without_cotangents_there_are_no_gradients():
    found = lh.evaluate_layer(lh.layers.Dense(5), X)
    assert found.input_grads is None
    assert found.weight_grads is None
    assert found.output_mask is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_everything_that_comes_back_has_the_type_that_was_asked_for(dtype):
    found = lh.evaluate_layer(
        lh.layers.BatchNormalization(), X, training=True, cotangents=[np.ones((4, 3))], dtype=dtype
    )  # fmt: skip
    arrays = [*found.outputs, *found.weights, *found.input_grads, *(g for g in found.weight_grads if g is not None)]
    assert {a.dtype.name for a in arrays} == {dtype}
    assert {type(a) for a in arrays} == {np.ndarray}


def test_weights_after_the_call_are_the_new_ones_and_what_is_not_trained_has_no_gradient():
    found = lh.evaluate_layer(
        lh.layers.BatchNormalization(momentum=0.5), X, training=True, cotangents=[np.ones((4, 3))], dtype="float64"
    )  # fmt: skip
    np.testing.assert_allclose(found.weights[2], X.mean(0) / 2, rtol=NEAR)
    assert [g is None for g in found.weight_grads] == [False, False, True, True]
    np.testing.assert_allclose(found.weight_grads[1], [4, 4, 4], rtol=NEAR)


def test_ids_have_no_gradient_and_their_table_has():
    ids = np.array([[0, 2, 2]])
    found = lh.evaluate_layer(lh.layers.Embedding(3, 2, mask_zero=True), ids, cotangents=[np.ones((1, 3, 2))])
    assert found.input_grads == [None]
    assert found.weight_grads[0].tolist() == [[1, 1], [0, 0], [2, 2]]
    assert found.output_mask.tolist() == [[False, True, True]]


def test_several_outputs_have_a_cotangent_each_and_none_stands_for_zeros():
    layer, x = lh.layers.LSTM(2, return_state=True), RNG.normal(size=(3, 4, 2))
    zeros, c = np.zeros((3, 2)), RNG.normal(size=(3, 2))
    options = {"dtype": "float64", "seed": 1}
    given = lh.evaluate_layer(layer, x, cotangents=[c, zeros, zeros], **options)
    short = lh.evaluate_layer(layer, x, cotangents=[c, None, None], **options)
    assert [y.shape for y in given.outputs] == [(3, 2)] * 3
    for a, b in zip(given.input_grads + given.weight_grads, short.input_grads + short.weight_grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=NEAR)
    # The output is the state h, so that their cotangents add up.
    doubled = lh.evaluate_layer(layer, x, cotangents=[c, c, None], **options)
    np.testing.assert_allclose(doubled.input_grads[0], 2 * given.input_grads[0], rtol=NEAR)


@pytest.mark.parametrize("cotangents", [[np.ones((4, 4))], [np.ones((4, 5))] * 2, [np.ones(5)]])
def test_cotangents_that_do_not_fit_the_outputs_are_refused(cotangents):
    with pytest.raises((ShapeError, ParameterError), match="cotangent"):
        lh.evaluate_layer(lh.layers.Dense(5), X, cotangents=cotangents)


def test_several_inputs_have_masks_and_gradients_each():
    x, z = RNG.normal(size=(2, 3, 2)), RNG.normal(size=(2, 3, 2))
    mask = np.array([[True, True, False], [False, False, True]])
    found = lh.evaluate_layer(
        lh.layers.Multiply(), [x, z], mask=[mask, ~mask], cotangents=[np.ones((2, 3, 2))], dtype="float64"
    )  # fmt: skip
    m = mask[..., None]
    assert np.array_equal(found.outputs[0], np.where(m, x, z))
    assert np.array_equal(found.input_grads[0], np.broadcast_to(np.where(m, 1.0, 0), x.shape))
    assert found.output_mask.all()


def test_a_dropped_mask_warns():
    with pytest.warns(MaskDroppedWarning, match="cannot use the mask of the input"):
        lh.evaluate_layer(lh.layers.Flatten(), np.ones((2, 3, 1)), mask=np.ones((2, 3), bool))


def test_dropout_draws_from_the_seed_or_from_its_own():
    x = np.ones((50, 40))
    layer = lh.layers.Dropout(0.25)
    one = lh.evaluate_layer(layer, x, training=True, seed=3).outputs[0]
    assert np.array_equal(one, lh.evaluate_layer(layer, x, training=True, seed=3).outputs[0])
    assert not np.array_equal(one, lh.evaluate_layer(layer, x, training=True, seed=4).outputs[0])
    own = [lh.evaluate_layer(lh.layers.Dropout(0.25, seed=9), x, training=True, seed=s).outputs[0] for s in (3, 4)]
    assert np.array_equal(*own)
    bits = HOST.random_bits(Stream.at(3, "0"), x.shape)
    assert np.array_equal(one != 0, bits >= 2**30)
    assert set(np.unique(one)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert np.array_equal(lh.evaluate_layer(layer, x).outputs[0], x)


def test_the_gradient_of_dropout_goes_where_the_values_went():
    x = np.ones((20, 10))
    found = lh.evaluate_layer(lh.layers.Dropout(0.5), x, training=True, seed=3, cotangents=[x])
    assert np.array_equal(found.input_grads[0], found.outputs[0])


def test_the_layer_and_what_it_was_given_are_left_as_they_are():
    layer = lh.layers.BatchNormalization()
    layer.build((None, 3))
    held, config = layer.get_weights(), layer.get_config()
    weights = [np.full(3, float(k + 1)) for k in range(4)]
    x, kept, before = X.copy(), [w.copy() for w in weights], X.copy()
    lh.evaluate_layer(layer, x, weights, training=True, cotangents=[np.ones((4, 3))], dtype="float64")
    assert np.array_equal(x, before)
    assert all(np.array_equal(a, b) for a, b in zip(weights, kept, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(held, layer.get_weights(), strict=True))
    assert layer.get_config() == config


def test_what_comes_back_aliases_nothing_that_was_given():
    weights = [np.eye(3, dtype="float32"), np.zeros(3, "float32")]
    x = X.astype("float32")
    found = lh.evaluate_layer(lh.layers.Dense(3), x, weights, cotangents=[x])
    passed = lh.evaluate_layer(lh.layers.Activation("linear"), x)
    for got in (*found.outputs, *found.weights, *found.input_grads, *passed.outputs):
        assert not np.shares_memory(got, x)
        assert not any(np.shares_memory(got, w) for w in weights)


def test_an_activity_regularizer_does_not_change_values():
    plain = lh.evaluate_layer(lh.layers.Dense(2), X, training=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lh.evaluate_layer(lh.layers.Dense(2, activity_regularizer="l2"), X, training=True)
    assert np.array_equal(plain.outputs[0], found.outputs[0])


@pytest.mark.parametrize(
    "arguments, kind, words",
    [
        ({"route": "fast"}, ParameterError, "route must be 'kernel' or 'definition'"),
        ({"backend": "nobody"}, BackendError, "no backend is called 'nobody'"),
        ({"dtype": "bfloat16"}, BackendError, "has no bfloat16"),
        ({"device": "gpu:9"}, BackendError, "has no device 'gpu:9'"),
        ({"weights": [np.zeros((3, 2))]}, WeightsError, r"has weights \[\('kernel', \(3, 2\)\), \('bias', \(2,\)\)\]"),
        ({"mask": np.ones((4, 7), bool)}, ShapeError, r"mask of shape \(4, 7\) does not fit"),
        ({"mask": np.ones(3, bool)}, ShapeError, r"mask of shape \(3,\) does not fit"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, kind, words):
    with pytest.raises(kind, match=words):
        lh.evaluate_layer(lh.layers.Dense(2), X, **arguments)


def test_states_of_another_number_or_size_are_refused():
    layer, x = lh.layers.LSTM(2), np.ones((3, 4, 2))
    with pytest.raises(ShapeError, match=r"has 2 states, 1 .*given"):
        lh.evaluate_layer(layer, x, initial_state=[np.ones((3, 2))])
    with pytest.raises(ShapeError, match=r"state.*\(3, 5\).*\(3, 2\)"):
        lh.evaluate_layer(layer, x, initial_state=[np.ones((3, 2)), np.ones((3, 5))])


def test_values_that_the_layer_cannot_mean_are_refused():
    with pytest.raises(DataError, match="the id 5 is outside"):
        lh.evaluate_layer(lh.layers.Embedding(5, 2), np.array([5]))


@pytest.mark.parametrize("layer, shape", [(lh.layers.Dense(2), (0, 3)), (lh.layers.LSTM(2), (0, 4, 3))], ids=repr)
def test_an_empty_batch_gives_empty_outputs_and_gradients_of_zeros(layer, shape):
    found = lh.evaluate_layer(layer, np.ones(shape), cotangents=[np.ones((0, 2))])
    assert found.outputs[0].shape == (0, 2)
    assert found.input_grads[0].shape == shape
    assert all(np.all(g == 0) for g in found.weight_grads)


def test_a_mask_of_time_fits_an_input_whose_channels_come_first():
    x = np.arange(24.0).reshape(2, 3, 4)
    mask = np.array([[True, True, False, False], [False, True, True, True]])
    layer = lh.layers.GlobalAveragePooling1D(data_format="channels_first")
    found = lh.evaluate_layer(layer, x, mask=mask, dtype="float64").outputs[0]
    np.testing.assert_allclose(found, [x[0, :, :2].mean(axis=1), x[1, :, 1:].mean(axis=1)])
    with pytest.raises(lh.errors.ShapeError, match=r"a mask of shape \(2, 3\) does not fit"):
        lh.evaluate_layer(layer, x, mask=np.ones((2, 3), bool))
