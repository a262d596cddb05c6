"""How Keras 1 joined branches."""

from __future__ import annotations

import json

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import GraphError, OldSpellingWarning, ParameterError, UnknownNameError

L = lh.layers
A = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
B = np.random.default_rng(2).normal(size=(6, 5)).astype("float32")


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


MODES = {
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    "max": np.maximum,
    "concat": lambda a, b: np.hstack([a, b]),
    "dot": lambda a, b: (a * b).sum(1, keepdims=True),
    "cos": lambda a, b: (unit(a) * unit(b)).sum(1, keepdims=True),
}


def branches():
    left = lh.Sequential([lh.Input((4,), name="left"), L.Dense(3)])
    right = lh.Sequential([lh.Input((5,), name="right"), L.Dense(3, activation="tanh")])
    return left, right


@pytest.mark.parametrize("mode", MODES)
def test_branches_join_as_the_first_layer_of_a_stack(mode):
    left, right = branches()
    with pytest.warns(OldSpellingWarning, match=rf"Merge: mode='{mode}' is an old spelling; say lh.layers\.\w+\(…\)"):
        joined = L.Merge([left, right], mode=mode)
    model = lh.Sequential()
    model.add(joined)
    wanted = MODES[mode](left.predict(A, verbose=0), right.predict(B, verbose=0))
    np.testing.assert_allclose(model.predict([A, B], verbose=0), wanted, rtol=1e-5, atol=1e-6)
    model.add(L.Dense(2))
    assert model.input_shape == [(None, 4), (None, 5)] and len(model.trainable_weights) == 6
    model.compile("sgd", "mse")
    before = left.get_weights()
    model.fit({"left": A, "right": B}, np.ones((6, 2)), verbose=0)
    assert not np.array_equal(before[0], left.get_weights()[0])
    copy = lh.models.model_from_json(model.to_json(), backend="torch")
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(copy.predict([A, B], verbose=0), model.predict([A, B], verbose=0), atol=1e-5)


def test_a_function_of_the_list_joins_too(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")

    def apart(xs, factor):
        return (xs[0] - xs[1]) * factor

    with pytest.warns(OldSpellingWarning, match=r"say lh.layers.Lambda\(function\)"):
        joined = L.Merge(branches(), mode=apart, output_shape=(3,), arguments={"factor": 2.0})
    assert joined.output_shape == (None, 3)
    left, right = (m.layers[-1].get_weights() for m in joined.layers if isinstance(m, lh.Sequential))
    wanted = 2 * (A @ left[0] - np.tanh(B @ right[0]))
    np.testing.assert_allclose(joined.predict([A, B], verbose=0), wanted, rtol=1e-12, atol=1e-12)


def test_tensors_join_by_the_function():
    a, b = lh.Input((3, 4)), lh.Input((3, 5))
    with pytest.warns(OldSpellingWarning, match="merge: mode='concat'"):
        assert L.merge([a, b], mode="concat", name="side").shape == (None, 3, 9)
    with pytest.warns(OldSpellingWarning, match="Dot"):
        assert L.merge([a, b], mode="dot", dot_axes=[1, 1]).shape == (None, 4, 5)


def test_a_config_of_keras_1_is_read():
    def stack(size):
        config = {"units": 3, "batch_input_shape": [None, size], "name": f"dense_{size}"}
        return {"class_name": "Sequential", "config": [{"class_name": "Dense", "config": config}]}

    told = {"layers": [stack(4), stack(5)], "mode": "concat", "mode_type": "raw", "concat_axis": -1, "dot_axes": -1}
    last = {"class_name": "Dense", "config": {"units": 2, "name": "end"}}
    text = json.dumps({"class_name": "Sequential", "config": [{"class_name": "Merge", "config": told}, last]})
    with pytest.warns(OldSpellingWarning, match="Merge"):
        model = lh.models.model_from_json(text)
    assert model.predict([A, B], verbose=0).shape == (6, 2)
    with pytest.raises(UnknownNameError, match="joins by 'mine'; give it in custom_objects"):
        lh.layers.deserialize({"class_name": "Merge", "config": {**told, "mode": "mine"}})


def test_what_cannot_be_merged_is_told():
    left, right = branches()
    with pytest.raises(ParameterError, match=r"mode must be one of .*, or a function of a list, not 'summ'"):
        L.Merge([left, right], mode="summ")
    with pytest.raises(GraphError, match="stands in the list twice"):
        L.Merge([left, left])
    with pytest.raises(GraphError, match=r"the input shape of sequential.*, number 1 in the list, is not known"):
        L.Merge([left, lh.Sequential([L.Dense(3)])])
    with pytest.raises(GraphError, match=r"symbolic tensors .*; models: lh.layers.Merge"):
        L.merge([left, right])
    with pytest.raises(GraphError, match=r"Merge takes models, .*lh.layers.merge"):
        L.Merge([lh.Input((3,)), left])


def test_a_layer_comes_from_its_config_under_the_old_name():
    config = {"class_name": "Dense", "config": L.Dense(3, activation="relu").get_config()}
    with pytest.warns(OldSpellingWarning, match="lh.layers.deserialize"):
        assert repr(L.layer_from_config(config)) == "Dense(units=3, activation=relu())"
