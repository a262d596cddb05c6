"""Inputs and outputs in lists, tuples and dicts: what comes out has the structure that the model was given."""

from __future__ import annotations

import json

import numpy as np
import pytest

import layerhub as lh
from layerhub import structure
from layerhub.errors import DataError, GraphError, NodeError, StateError, WeightsError

L = lh.layers
X = np.random.default_rng(3).normal(size=(6, 4)).astype("float32")


def nested():
    """Two named inputs; outputs in a dict that holds a tuple."""
    a, b = lh.Input((4,), name="a"), lh.Input((4,), name="b")
    total = L.Add(name="total")([a, b])
    pair = (L.Dense(2, name="score")(total), L.Subtract(name="apart")([a, b]))
    return lh.Model({"b": b, "a": a}, {"sum": total, "pair": pair}, seed=1)


def test_a_row_of_things_goes_into_a_structure_and_back():
    like = {"b": [1, (2, {"y": 3, "x": 4})], "a": 5}
    assert structure.flat(like) == [5, 1, 2, 4, 3]  # dicts in the order of their keys
    assert structure.packed(like, "pqrst") == {"b": ["q", ("r", {"y": "t", "x": "s"})], "a": "p"}
    assert structure.paths(like) == ["a", "b_0", "b_1_0", "b_1_1_x", "b_1_1_y"]


def test_what_a_model_predicts_has_the_structure_of_its_outputs():
    model = nested()
    data = {"a": X, "b": 3 * X}
    for found in (model.predict(data, verbose=0), model.predict_on_batch(data), model(data)):
        assert list(found) == ["sum", "pair"] and isinstance(found["pair"], tuple)
        np.testing.assert_array_equal(found["sum"], X + 3 * X)
        np.testing.assert_array_equal(found["pair"][1], X - 3 * X)
        assert found["pair"][0].shape == (6, 2)
    assert model.input_shape == {"b": (None, 4), "a": (None, 4)}
    assert model.output_shape["pair"] == ((None, 2), (None, 4))
    assert [x.name for x in model.inputs] == ["a", "b"]
    assert model.compute_output_shape({"a": (5, 4), "b": (5, 4)})["pair"] == ((5, 2), (5, 4))


def test_one_output_in_a_list_comes_by_itself_but_in_a_dict_it_stays_there():
    x = lh.Input((4,))
    y = L.Identity()(x)
    assert isinstance(lh.Model(x, [y]).predict(X, verbose=0), np.ndarray)
    assert list(lh.Model(x, {"y": y}).predict(X, verbose=0)) == ["y"]


def test_losses_and_metrics_go_by_the_keys_of_outputs():
    a = lh.Input((4,), name="a")
    model = lh.Model(a, {"two": L.Dense(2)(a), "one": L.Dense(1)(a)})
    model.compile("sgd", {"one": "mse", "two": "mae"}, metrics={"two": ["mse"]}, loss_weights={"one": 2.0, "two": 0.5})
    targets = {"two": np.zeros((6, 2)), "one": np.ones((6, 1))}
    found = model.predict(X, verbose=0)
    one, two = np.mean((found["one"] - 1) ** 2), np.mean(np.abs(found["two"]))
    logs = model.evaluate({"a": X}, targets, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "one_loss", "two_loss", "two_mse"}
    np.testing.assert_allclose([logs["one_loss"], logs["two_loss"]], [one, two], rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 2 * one + 0.5 * two, rtol=1e-5)
    assert set(model.fit(X, targets, verbose=0).history) == set(logs)


def test_data_come_by_key_by_name_or_in_a_row():
    model = nested()
    wanted = model.predict({"a": X, "b": 3 * X}, verbose=0)["sum"]
    for given in ([X, 3 * X], (X, 3 * X), {"b": 3 * X, "a": X}):
        np.testing.assert_array_equal(model.predict(given, verbose=0)["sum"], wanted)
    with pytest.raises(DataError, match="no entry for b; they have: a"):
        model.predict({"a": X})
    with pytest.raises(DataError, match="takes 2 inputs, 3 were given"):
        model.predict([X, X, X])


def test_a_model_with_a_dict_is_a_layer_too_and_gives_a_dict():
    inner = nested()
    x, y = lh.Input((4,)), lh.Input((4,))
    found = inner({"a": x, "b": y})
    assert set(found) == {"sum", "pair"}
    again = inner([found["sum"], y])
    model = lh.Model([x, y], again["sum"])
    np.testing.assert_allclose(model.predict([X, 2 * X], verbose=0), 5 * X, rtol=1e-6)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_config_keeps_the_structure(wrap):
    model = nested()
    if wrap:
        a, b = lh.Input((4,), name="a"), lh.Input((4,), name="b")
        model = lh.Model([a, b], [model({"b": b, "a": a}), model([b, a])["sum"]])
    text = model.to_json()
    copy = lh.models.model_from_json(text)
    assert copy.get_config() == json.loads(json.dumps(model.get_config()))
    copy.set_weights(model.get_weights())
    ours, theirs = (structure.flat(m.predict({"a": X, "b": -X}, verbose=0)) for m in (model, copy))
    assert len(ours) == (4 if wrap else 3)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    clone = lh.models.clone_model(model)
    assert structure.flat(clone.output_shape) == structure.flat(model.output_shape)


def test_a_model_moves_with_its_structure():
    model = nested()
    before = model.predict([X, -X], verbose=0)
    after = model.to("torch").predict({"a": X, "b": -X}, verbose=0)
    np.testing.assert_allclose(before["pair"][0], after["pair"][0], atol=1e-5)


# ------------------------------------------------------------------------------------------ graphs


def test_a_model_may_begin_in_the_middle_of_a_graph():
    x = lh.Input((4,))
    middle = L.Dense(3, activation="tanh")(x)
    y = L.Dense(2)(middle)
    head = lh.Model(middle, y)
    assert isinstance(head.layers[0], L.InputLayer) and head.input_shape == (None, 3)
    whole, body = lh.Model(x, y), lh.Model(x, middle)
    np.testing.assert_allclose(head.predict(body.predict(X, verbose=0), verbose=0), whole.predict(X, verbose=0), 1e-5)
    assert lh.models.clone_model(head).input_shape == (None, 3)


def test_graphs_that_make_no_model_are_told():
    x, z = lh.Input((4,), name="x"), lh.Input((4,), name="z")
    y = L.Add()([x, z])
    with pytest.raises(GraphError, match="depend on the input 'z', which is not among"):
        lh.Model(x, y)
    with pytest.raises(GraphError, match=r"symbolic tensors .*, not array"):
        lh.Model(x, [X])
    with pytest.raises(GraphError, match="not nothing"):
        lh.Model([], y)
    with pytest.raises(GraphError, match="listed twice"):
        lh.Model([x, x], y)
    with pytest.raises(GraphError, match="give both, or define call"):
        lh.Model()
    with pytest.raises(GraphError, match="symbolic and native tensors at once"):
        L.Add()([x, X])
    with pytest.raises(WeightsError, match=r"has weights for other inputs: kernel has shape \(4, 2\).*need \(5, 2\)"):
        shared, wide = L.Dense(2), lh.Input((5,))
        lh.Model([x, wide], [shared(x), shared(wide)])


# ------------------------------------------------------------------------------------------ Sequential


def test_a_sequential_model_learns_shape_and_type_from_tensors_data_or_build():
    def made():
        return lh.Sequential([L.Embedding(5, 3), L.Flatten(), L.Dense(2)])

    built, fed, called = made(), made(), made()
    built.build((None, 4))
    assert fed.predict(np.array([[1, 2, 3, 4]]), verbose=0).shape == (1, 2)
    assert fed.inputs[0].dtype == "int64"
    y = called(lh.Input((4,), dtype="int32"))
    assert y.shape == (None, 2)
    assert {m.input_shape for m in (built, fed, called)} == {(None, 4)}
    with pytest.raises(NodeError, match="has no output yet"):
        made().output  # noqa: B018
    with pytest.raises(StateError, match="no input shape yet"):
        made().save_weights("w.weights.h5")


def test_a_sequential_model_that_begins_with_a_model_takes_its_inputs():
    model = lh.Sequential([nested_sum(), L.Dense(2)])
    assert model.input_shape == {"b": (None, 4), "a": (None, 4)}
    assert model.predict({"a": X, "b": X}, verbose=0).shape == (6, 2)
    copy = lh.models.model_from_json(model.to_json())
    copy.set_weights(model.get_weights())
    assert copy.input_shape == model.input_shape
    data = {"a": X, "b": 2 * X}
    np.testing.assert_array_equal(copy.predict(data, verbose=0), model.predict(data, verbose=0))


def nested_sum():
    a, b = lh.Input((4,), name="a"), lh.Input((4,), name="b")
    return lh.Model({"b": b, "a": a}, L.Add()([a, b]))


def test_layers_of_a_sequential_model_have_one_use_each_however_it_grew():
    first = L.Dense(3)
    model = lh.Sequential([lh.Input((4,)), first])
    for _ in range(3):
        model.add(L.Dense(2))
    model.pop()
    assert first.output_shape == (None, 3)
    assert model.layers[-1].output is model.outputs[0]
    with pytest.raises(GraphError, match="its class: with"):
        model.add(L.Dense)
