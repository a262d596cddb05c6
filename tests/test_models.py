"""Models: how layers are put together, what they hold, how they are described, and what runs through them."""

import itertools
import json
import warnings

import numpy as np
import pytest

import layerhub as lh
from layerhub import ops
from layerhub.errors import GraphError, LayerHubError, MaskDroppedWarning, UnknownNameError
from layerhub.spec.initializers import Ones

NEAR = 1e-12
"""Relative: a short chain of float64 operations on well-conditioned numbers of size 1, each good to 1e-16."""

RNG = np.random.default_rng(8)
X = RNG.normal(size=(6, 4))


@pytest.fixture(autouse=True)
def double_precision(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def small(**options):
    return lh.Sequential([lh.Input((4,)), lh.layers.Dense(5, activation="tanh"), lh.layers.Dense(3)], **options)


# --------------------------------------------------------------------------------------------- graphs


def test_a_sequential_model_is_its_layers_one_after_the_other():
    model = small()
    k1, b1, k2, b2 = model.get_weights()
    np.testing.assert_allclose(model.predict(X, verbose=0), np.tanh(X @ k1 + b1) @ k2 + b2, rtol=NEAR)
    assert model.input_shape == (None, 4)
    assert model.output_shape == (None, 3)
    assert [layer.label for layer in model.layers] == [w.path.split("/")[0] for w in model.weights[::2]]


def test_a_model_of_several_inputs_and_outputs_takes_and_gives_lists():
    a, b = lh.Input((4,), name="a"), lh.Input((4,), name="b")
    total = lh.layers.Add(name="total")([a, b])
    model = lh.Model([a, b], [total, lh.layers.Multiply(name="product")([a, b])])
    one, two = X, X[::-1].copy()
    for given in ([one, two], (one, two), {"b": two, "a": one}):
        first, second = model.predict(given, verbose=0)
        assert np.array_equal(first, one + two)
        assert np.array_equal(second, one * two)
    assert model.output_names == ["total", "product"]
    assert model.input_shape == [(None, 4), (None, 4)]
    assert np.array_equal(model([one, two])[0], one + two)


def test_inputs_may_be_given_as_a_dict():
    a, b = lh.Input((4,), name="a"), lh.Input((4,), name="b")
    model = lh.Model({"a": a, "b": b}, lh.layers.Add()([a, b]))
    assert np.array_equal(model.predict({"a": X, "b": X}, verbose=0), 2 * X)


def test_an_output_may_be_an_input_or_appear_twice():
    x = lh.Input((4,))
    y = lh.layers.Dense(2)(x)
    found = lh.Model(x, [x, y, y]).predict(X, verbose=0)
    assert np.array_equal(found[0], X)
    assert np.array_equal(found[1], found[2])


def test_a_layer_called_twice_has_one_set_of_weights_and_two_gradients():
    shared = lh.layers.Dense(4, use_bias=False)
    x = lh.Input((4,))
    model = lh.Model(x, shared(shared(x)))
    assert [w.shape for w in model.get_weights()] == [(4, 4)]
    (w,) = model.get_weights()
    np.testing.assert_allclose(model.predict(X, verbose=0), X @ w @ w, rtol=NEAR)
    model.compile(lh.optimizers.SGD(1.0), lambda y_true, y_pred: y_pred * y_true)
    model.train_on_batch(X, np.ones((6, 4)))
    ones = np.ones((6, 4)) / 24
    np.testing.assert_allclose(model.get_weights()[0], w - X.T @ (ones @ w.T) - (X @ w).T @ ones, rtol=1e-10)


def test_a_model_can_be_cut_out_of_another_and_shares_its_weights():
    model = small()
    inner = lh.Model(model.inputs, model.layers[0].store and model.outputs[0].node.inputs[0])
    k, b, *_ = model.get_weights()
    np.testing.assert_allclose(inner.predict(X, verbose=0), np.tanh(X @ k + b), rtol=NEAR)
    model.set_weights([w * 0 for w in model.get_weights()])
    assert np.all(inner.predict(X, verbose=0) == 0)


def test_a_nested_model_is_a_layer_with_weights_and_learns():
    inner = small(name="inner")
    x = lh.Input((4,))
    model = lh.Model(x, lh.layers.Dense(1)(inner(x)))
    assert [w.shape for w in model.get_weights()] == [(4, 5), (5,), (5, 3), (3,), (3, 1), (1,)]
    assert same(model.get_weights()[:4], inner.get_weights())
    model.compile("sgd", "mse")
    before = inner.get_weights()
    model.fit(X, X[:, :1], verbose=0)
    assert not any(np.array_equal(a, b) for a, b in zip(before, inner.get_weights(), strict=True))
    assert same(model.get_weights()[:4], inner.get_weights())
    np.testing.assert_allclose(
        model.predict(X, verbose=0),
        inner.predict(X, verbose=0) @ model.get_weights()[4] + model.get_weights()[5],
        rtol=NEAR,
    )


def test_a_nested_model_of_several_inputs_and_outputs_called_twice():
    a, b = lh.Input((4,)), lh.Input((4,))
    inner = lh.Model([a, b], [lh.layers.Add()([a, b]), lh.layers.Dense(2, use_bias=False)(a)])
    x, z = lh.Input((4,)), lh.Input((4,))
    total, _ = inner([x, z])
    again, scored = inner([total, x])
    model = lh.Model([x, z], [again, scored])
    first, second = model.predict([X, X * 10], verbose=0)
    np.testing.assert_allclose(first, X * 12, rtol=NEAR)
    np.testing.assert_allclose(second, X * 11 @ inner.get_weights()[0], rtol=NEAR)


def test_models_nest_in_sequential_models_and_in_each_other():
    model = lh.Sequential([lh.Input((4,)), small(), lh.Sequential([lh.Input((3,)), lh.layers.Dense(2)])])
    assert model.output_shape == (None, 2)
    assert model.count_params() == 4 * 5 + 5 + 5 * 3 + 3 + 3 * 2 + 2
    assert model.predict(X, verbose=0).shape == (6, 2)


def test_sizes_that_are_unknown_stay_unknown():
    model = lh.Sequential([lh.Input((None, 4)), lh.layers.LSTM(3, return_sequences=True), lh.layers.Dense(2)])
    assert model.output_shape == (None, None, 2)
    for steps in (1, 5):
        assert model.predict(np.ones((2, steps, 4)), verbose=0).shape == (2, steps, 2)


# --------------------------------------------------------------------------------------------- building up


def test_layers_are_added_and_popped_and_those_that_stay_keep_their_weights():
    model = lh.Sequential([lh.Input((4,))], seed=1)
    model.add(lh.layers.Dense(5))
    first = model.get_weights()
    model.add(lh.layers.Dense(3))
    assert model.output_shape == (None, 3)
    assert same(model.get_weights()[:2], first)
    popped = model.pop()
    assert isinstance(popped, lh.layers.Dense)
    assert model.output_shape == (None, 5)
    assert same(model.get_weights(), first)
    np.testing.assert_allclose(model.predict(X, verbose=0), X @ first[0] + first[1], rtol=NEAR)


def test_a_model_whose_last_layer_was_popped_has_none():
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(5)])
    model.pop()
    assert model.layers == []
    with pytest.raises(LayerHubError):
        model.predict(X, verbose=0)
    model.add(lh.layers.Dense(2))
    assert model.predict(X, verbose=0).shape == (6, 2)


def test_the_input_shape_may_come_from_the_first_data_from_build_or_from_an_input_layer():
    seen = lh.Sequential([lh.layers.Dense(3)])
    assert seen.predict(X, verbose=0).shape == (6, 3)
    built = lh.Sequential([lh.layers.Dense(3)])
    built.build((None, 4))
    layered = lh.Sequential([lh.layers.InputLayer((4,)), lh.layers.Dense(3)])
    assert seen.input_shape == built.input_shape == layered.input_shape == (None, 4)


def test_a_layer_stands_in_a_sequential_model_once():
    layer = lh.layers.Dense(4)
    with pytest.raises(GraphError, match=r"has the layer 'dense.*' already; use a Model"):
        lh.Sequential([lh.Input((4,)), layer, layer])


def test_an_input_comes_first():
    with pytest.raises(GraphError, match=r"lh.Input\(shape\) comes first"):
        lh.Sequential([lh.layers.Dense(4), lh.Input((4,))])


def test_a_layer_of_several_outputs_asks_for_a_functional_model():
    with pytest.raises(GraphError, match="has several outputs; use a Model"):
        lh.Sequential([lh.Input((5, 4)), lh.layers.LSTM(3, return_state=True)])


# --------------------------------------------------------------------------------------------- weights


def test_weights_start_the_same_for_the_same_seed_and_otherwise_differently():
    one, same_seed, other = small(seed=1), small(seed=1), small(seed=2)
    assert same(one.get_weights(), same_seed.get_weights())
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])


def test_the_process_wide_seed_determines_all_models_made_after_it():
    found = []
    for _ in range(2):
        lh.set_random_seed(7)
        found.append([*small().get_weights(), *small().get_weights()])
    assert same(*found)
    assert not np.array_equal(found[0][0], found[0][4])


def test_two_layers_of_one_model_start_differently():
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(4), lh.layers.Dense(4)], seed=1)
    assert not np.array_equal(model.get_weights()[0], model.get_weights()[2])


def test_how_a_model_is_written_down_does_not_change_its_initial_weights():
    x = lh.Input((4,))
    functional = lh.Model(x, lh.layers.Dense(3)(lh.layers.Dense(5, activation="tanh")(x)), seed=1)
    assert same(functional.get_weights(), small(seed=1).get_weights())


def test_an_initializer_with_a_seed_of_its_own_does_not_depend_on_the_models():
    def first(seed):
        layer = lh.layers.Dense(3, kernel_initializer=lh.initializers.GlorotUniform(seed=5))
        return lh.Sequential([lh.Input((4,)), layer], seed=seed).get_weights()[0]

    assert np.array_equal(first(1), first(2))


def test_initial_weights_in_float32_are_those_of_float64_rounded():
    doubles = small(seed=1).get_weights()
    layers = [lh.layers.Dense(5, activation="tanh", dtype="float32"), lh.layers.Dense(3, dtype="float32")]
    singles = lh.Sequential([lh.Input((4,)), *layers], seed=1).get_weights()
    assert same(singles, [w.astype("float32") for w in doubles])


def test_trainable_weights_come_before_the_others_within_each_layer():
    model = lh.Sequential([lh.Input((4,)), lh.layers.BatchNormalization(), lh.layers.Dense(2)])
    names = [w.name for w in model.weights]
    assert names == ["gamma", "beta", "moving_mean", "moving_variance", "kernel", "bias"]
    assert [w.name for w in model.trainable_weights] == ["gamma", "beta", "kernel", "bias"]
    assert [w.name for w in model.non_trainable_weights] == ["moving_mean", "moving_variance"]
    assert model.layers[0].count_params() == 16


def test_set_weights_takes_what_get_weights_gave_and_anything_that_converts():
    one, other = small(seed=1), small(seed=2)
    other.set_weights(one.get_weights())
    assert np.array_equal(one.predict(X, verbose=0), other.predict(X, verbose=0))
    other.set_weights([w.tolist() for w in one.get_weights()])
    other.set_weights([w.astype("float32") for w in one.get_weights()])
    assert {w.dtype for w in other.get_weights()} == {np.dtype("float64")}


def test_weights_of_a_layer_are_seen_by_the_models_that_use_it():
    model = small()
    layer = model.layers[1]
    layer.set_weights([np.ones((5, 3)), np.zeros(3)])
    assert np.all(model.get_weights()[2] == 1)
    y = model.predict(X, verbose=0)
    np.testing.assert_allclose(y[:, 0], y[:, 1], rtol=NEAR)
    layer.weights[0].assign(np.zeros((5, 3)))
    assert np.all(model.predict(X, verbose=0) == 0)


def test_freezing_a_model_freezes_its_layers():
    model = small()
    model.trainable = False
    assert model.trainable_weights == []
    assert not any(layer.trainable for layer in model.layers)
    model.trainable = True
    assert len(model.trainable_weights) == 4


def test_a_layer_by_itself_runs_on_arrays_and_keeps_its_weights():
    layer = lh.layers.Dense(3, kernel_initializer="ones", bias_initializer=Ones())
    assert not layer.built
    np.testing.assert_allclose(layer(X), X.sum(-1, keepdims=True) + np.ones(3), rtol=NEAR)
    assert layer.built
    layer.set_weights([np.zeros((4, 3)), np.ones(3)])
    assert np.all(layer(X) == 1)
    assert np.all(layer(X[:2]) == 1)


# --------------------------------------------------------------------------------------------- looking up, describing


def test_layers_are_found_by_name_and_by_index():
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(5, name="first"), lh.layers.Dense(3, name="second")])
    assert model.get_layer("second") is model.layers[1] is model.get_layer(index=-1)
    with pytest.raises(UnknownNameError, match=r"no layer 'secnd'.*Did you mean 'second'.*first, second"):
        model.get_layer("secnd")
    with pytest.raises(UnknownNameError, match="has 2 layers, none at index 2"):
        model.get_layer(index=2)


def test_a_layer_without_a_name_gets_one_of_its_own():
    names = [lh.layers.MaxPooling2D().label, lh.layers.MaxPooling2D().label]
    assert all(name.startswith("max_pooling2d") for name in names)
    assert len(set(names)) == 2


def test_a_model_represents_itself_by_name_backend_and_shapes():
    assert repr(small(name="judge")) == "<Sequential judge on numpy: (None, 4) -> (None, 3)>"


# --------------------------------------------------------------------------------------------- configs


def branching():
    shared = lh.layers.Dense(4, activation="relu", name="shared")
    a, b = lh.Input((4,), name="a"), lh.Input((None, 3), name="b")
    sequence, h, c = lh.layers.LSTM(4, return_sequences=True, return_state=True, name="read")(b)
    again = lh.layers.LSTM(4, name="again")(sequence, initial_state=[h, c])
    joined = lh.layers.Concatenate(name="joined")([shared(shared(a)), again])
    inner = lh.Sequential([lh.Input((8,)), lh.layers.Dense(2, kernel_regularizer="l2")], name="inner")
    return lh.Model([a, b], [inner(joined), h], seed=4, name="branching")


def given_branching():
    return [X, RNG.normal(size=(6, 5, 3))]


@pytest.mark.parametrize("make, data", [(small, lambda: X), (branching, given_branching)])
def test_a_config_survives_json_and_makes_an_equal_model(make, data):
    model, x = make(), data()
    config = json.loads(json.dumps(model.get_config()))
    copy = type(model).from_config(config, backend="numpy")
    assert copy.get_config() == model.get_config()
    assert copy.name == model.name
    copy.set_weights(model.get_weights())
    one, other = model.predict(x, verbose=0), copy.predict(x, verbose=0)
    assert same(one, other) if isinstance(one, list) else np.array_equal(one, other)


def test_a_clone_starts_with_the_same_weights_and_shares_none():
    model = branching()
    clone = lh.models.clone_model(model, backend="numpy")
    assert same(model.get_weights(), clone.get_weights())
    clone.set_weights([w * 0 for w in clone.get_weights()])
    assert not np.all(model.get_weights()[0] == 0)


def test_a_layer_that_is_used_in_another_model_before_keeps_its_calls_apart_in_configs():
    shared = lh.layers.Dense(4, name="shared")
    lh.Sequential([lh.Input((4,)), shared])
    x = lh.Input((4,), name="x")
    model = lh.Model(x, shared(x))
    copy = lh.Model.from_config(json.loads(json.dumps(model.get_config())))
    copy.set_weights(model.get_weights())
    assert np.array_equal(copy.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_config_that_speaks_of_a_layer_it_lacks_is_a_graph_error():
    config = branching().get_config()
    config["layers"][-1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"][0] = "nobody"
    with pytest.raises(GraphError, match="branching has a cycle, or speaks of a layer that it lacks"):
        lh.Model.from_config(config)


def test_an_input_keeps_its_type_and_sizes_in_a_config():
    model = lh.Sequential([lh.Input((5,), dtype="int32", batch_size=2, name="ids"), lh.layers.Embedding(7, 3)])
    copy = lh.Sequential.from_config(json.loads(json.dumps(model.get_config())))
    assert (copy.inputs[0].shape, copy.inputs[0].dtype, copy.inputs[0].name) == ((2, 5), "int32", "ids")


# --------------------------------------------------------------------------------------------- masks

IDS = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])


def reader(*more, **options):
    layers = [lh.layers.Embedding(6, 3, mask_zero=True), *more]
    return lh.Sequential([lh.Input((5,), dtype="int32"), *layers], **options)


def test_a_mask_goes_from_an_embedding_through_dropout_to_a_recurrent_layer():
    model = reader(lh.layers.Dropout(0.5), lh.layers.LSTM(4))
    table, *weights = model.get_weights()
    layer = lh.layers.LSTM(4)
    expected = lh.evaluate_layer(layer, table[IDS], weights, mask=IDS != 0, dtype="float64").outputs[0]
    np.testing.assert_allclose(model.predict(IDS, verbose=0), expected, rtol=NEAR)
    shortened = model.predict(np.where(IDS == 0, 0, IDS)[:1, :], verbose=0)
    unpadded = lh.evaluate_layer(layer, table[IDS[:1, :3]], weights, dtype="float64").outputs[0]
    np.testing.assert_allclose(shortened, unpadded, rtol=NEAR)


def test_a_row_that_is_masked_altogether_gives_zeros():
    assert np.all(reader(lh.layers.LSTM(4)).predict(IDS, verbose=0)[2] == 0)


def test_a_mask_that_is_of_no_use_is_dropped_with_a_warning_that_names_both_layers():
    with pytest.warns(MaskDroppedWarning) as caught:
        reader(lh.layers.Flatten(name="flat")).predict(IDS, verbose=0)
    text = str(caught[0].message)
    assert "flat (Flatten" in text
    assert "cannot use the mask of embedding" in text


def test_the_warning_of_a_dropped_mask_comes_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = reader(lh.layers.Flatten(), lh.layers.Dense(1))
        model.compile("sgd", "mse")
        model.fit(IDS, np.zeros((4, 1)), epochs=2, verbose=0)
        model.evaluate(IDS, np.zeros((4, 1)), verbose=0)
        model.predict(IDS, verbose=0)
    assert len([w for w in caught if issubclass(w.category, MaskDroppedWarning)]) == 1


def test_a_dropped_mask_can_be_made_an_error(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "strict_masks", False)
    lh.config.strict_masks(True)
    assert lh.config.strict_masks() is True
    with pytest.raises(LayerHubError, match=r"flat .*cannot use the mask of embedding"):
        reader(lh.layers.Flatten(name="flat")).predict(IDS, verbose=0)


def test_a_layer_that_uses_a_mask_without_passing_it_on_is_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader(lh.layers.LSTM(4), lh.layers.Dense(2)).predict(IDS, verbose=0)


def test_masks_unite_where_branches_meet():
    a, b = lh.Input((5,), dtype="int32"), lh.Input((5,), dtype="int32")
    table = lh.layers.Embedding(6, 3, mask_zero=True)
    model = lh.Model([a, b], lh.layers.LSTM(4)(lh.layers.Add()([table(a), table(b)])))
    other = np.array([[1, 0, 0, 4, 0], [0] * 5, [0, 0, 1, 0, 0], [0] * 5])
    rows, *weights = model.get_weights()
    expected = lh.evaluate_layer(
        lh.layers.LSTM(4), rows[IDS] + rows[other], weights, mask=(IDS != 0) | (other != 0), dtype="float64"
    )
    np.testing.assert_allclose(model.predict([IDS, other], verbose=0), expected.outputs[0], rtol=NEAR)


# --------------------------------------------------------------------------------------------- states, functions


def test_states_go_from_one_recurrent_layer_to_another():
    x, z = lh.Input((5, 3)), lh.Input((2, 3))
    encoder, decoder = lh.layers.LSTM(4, return_state=True), lh.layers.LSTM(4)
    _, h, c = encoder(x)
    model = lh.Model([x, z], decoder(z, initial_state=[h, c]))
    one, two = RNG.normal(size=(6, 5, 3)), RNG.normal(size=(6, 2, 3))
    first = lh.evaluate_layer(encoder, one, encoder.get_weights(), dtype="float64").outputs
    expected = lh.evaluate_layer(decoder, two, decoder.get_weights(), initial_state=first[1:], dtype="float64")
    np.testing.assert_allclose(model.predict([one, two], verbose=0), expected.outputs[0], rtol=NEAR)


def test_states_may_be_given_in_one_list_with_the_input():
    x, h, c = lh.Input((5, 3)), lh.Input((4,)), lh.Input((4,))
    layer = lh.layers.LSTM(4)
    listed = lh.Model([x, h, c], layer([x, h, c]))
    named = lh.Model([x, h, c], layer(x, initial_state=[h, c]))
    data = [RNG.normal(size=(6, 5, 3)), RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))]
    assert np.array_equal(listed.predict(data, verbose=0), named.predict(data, verbose=0))
    other = [data[0], data[1] * 0, data[2]]
    assert not np.array_equal(listed.predict(other, verbose=0), named.predict(data, verbose=0))


def test_a_lambda_of_ops_runs_learns_and_finds_its_shape():
    def both(x, factor):
        return ops.concat([x * factor, ops.exp(x)], axis=-1)

    layer = lh.layers.Lambda(both, arguments={"factor": 2.0})
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3, use_bias=False), layer])
    assert model.output_shape == (None, 6)
    (w,) = model.get_weights()
    np.testing.assert_allclose(model.predict(X, verbose=0), np.concatenate([X @ w * 2, np.exp(X @ w)], -1), rtol=NEAR)
    model.compile(lh.optimizers.SGD(1.0), lambda y_true, y_pred: y_pred * y_true)
    model.train_on_batch(X, np.ones((6, 6)))
    slope = X.T @ (2 + np.exp(X @ w)) / 36
    np.testing.assert_allclose(model.get_weights()[0], w - slope, rtol=1e-10)


@pytest.mark.parametrize("given", [(5,), lambda shape: (shape[0], 5), None], ids=["a shape", "a function", "by trying"])
def test_the_output_shape_of_a_lambda_may_be_given_or_found(given):
    layer = lh.layers.Lambda(lambda x: ops.pad(x, ((0, 0), (0, 1))), output_shape=given)
    assert lh.Sequential([lh.Input((4,)), layer]).output_shape == (None, 5)


def test_a_lambda_of_several_inputs():
    a, b = lh.Input((4,)), lh.Input((4,))
    model = lh.Model([a, b], lh.layers.Lambda(lambda xs: xs[0] - xs[1])([a, b]))
    assert np.array_equal(model.predict([X, 3 * X], verbose=0), X - 3 * X)


def test_a_function_of_ops_serves_as_an_activation():
    layer = lh.layers.Dense(3, use_bias=False, activation=lambda x: ops.where(x > 0, x * x, ops.zeros_like(x)))
    model = lh.Sequential([lh.Input((4,)), layer])
    y = X @ model.get_weights()[0]
    np.testing.assert_allclose(model.predict(X, verbose=0), np.where(y > 0, y * y, 0), rtol=NEAR)


# --------------------------------------------------------------------------------------------- types, devices


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_float_type_holds_from_weights_to_outputs(dtype):
    layers = [
        lh.layers.Conv2D(4, 3, dtype=dtype), lh.layers.BatchNormalization(dtype=dtype), lh.layers.Flatten(),
        lh.layers.Dense(2, activation="softmax", dtype=dtype),
    ]  # fmt: skip
    model = lh.Sequential([lh.Input((5, 5, 1), dtype=dtype), *layers])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 5, 5, 1)), np.ones((2, 2)), verbose=0)
    assert {w.dtype.name for w in model.get_weights()} == {dtype}
    assert model.predict(np.ones((2, 5, 5, 1)), verbose=0).dtype == dtype
    assert {slot.dtype.name for row in model.executor.host_slots() for slot in row} == {dtype}


def test_layers_of_different_float_types_hand_over_by_casting():
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3, dtype="float32"), lh.layers.Dense(2, dtype="float64")])
    assert [w.dtype.name for w in model.get_weights()] == ["float32"] * 2 + ["float64"] * 2
    assert model.predict(X, verbose=0).dtype == np.float64


def test_the_float_type_of_the_moment_stays_with_a_layer():
    layer = lh.layers.Dense(3)
    model = lh.Sequential([lh.Input((4,)), layer])
    lh.config._chosen["floatx"] = "float32"
    assert model.predict(X, verbose=0).dtype == np.float64
    assert lh.Sequential([lh.Input((4,)), lh.layers.Dense(3)]).predict(X, verbose=0).dtype == np.float32


def test_inputs_are_left_as_they_are_whatever_their_layout():
    model = lh.Sequential([lh.Input((6, 6, 2)), lh.layers.Conv2D(3, 3), lh.layers.MaxPooling2D()])
    x = RNG.normal(size=(4, 6, 6, 2))
    expected = model.predict(x, verbose=0)
    frozen = x.copy()
    frozen.setflags(write=False)
    laid = [np.asfortranarray(x), x[::-1][::-1], np.repeat(x, 2, axis=1)[:, ::2], frozen]
    for other in laid:
        before = other.copy()
        assert np.array_equal(model.predict(other, verbose=0), expected)
        assert np.array_equal(other, before)


def test_two_models_take_turns_without_disturbing_each_other():
    models = [small(seed=seed) for seed in (1, 2)]
    expected = [model.predict(X, verbose=0) for model in models]
    for model, wanted in itertools.islice(itertools.cycle(zip(models, expected, strict=True)), 6):
        assert np.array_equal(model.predict(X, verbose=0), wanted)


@pytest.mark.parametrize("make", [small, branching])
def test_a_models_json_makes_an_equal_model(make):
    model = make()
    copy = lh.models.model_from_json(model.to_json(indent=1), backend="numpy")
    assert copy.get_config() == model.get_config()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"class_name": "Modell", "config": {}}', '{"class_name": "Model"}'])
def test_what_is_no_models_json_is_told(text):
    with pytest.raises(LayerHubError, match="class_name"):
        lh.models.model_from_json(text)


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow", "jax"])
def test_an_input_that_wraps_a_native_tensor_takes_its_shape_type_and_data(backend):
    data = np.arange(6, dtype="float32").reshape(2, 3)
    tensor = lh.registry.registry().backend(backend).asarray(data)
    x = lh.Input(tensor=tensor, name="wrapped")
    assert (x.shape, x.dtype, x.name) == ((2, 3), "float32", "wrapped")
    model = lh.Model(x, lh.layers.Dense(2)(x), backend=backend)
    assert np.array_equal(model.predict(), model.predict(data))


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow", "jax"])
def test_a_sparse_input_is_refused_by_backends_that_have_no_sparse_arrays(backend):
    x = lh.Input((3,), sparse=True, name="few")
    with pytest.raises(LayerHubError, match=f"'few' is sparse, and the backend '{backend}' has no sparse arrays"):
        lh.Model(x, lh.layers.Dense(2)(x), backend=backend)
