"""Operators and functions of lh.ops on symbolic tensors: each is a node of the graph."""

from __future__ import annotations

import json

import numpy as np
import pytest

import layerhub as lh
from layerhub import ops
from layerhub.errors import GraphError, LayerHubError, NodeError, ShapeError
from layerhub.operation import Operation

L = lh.layers
RNG = np.random.default_rng(6)
X = RNG.normal(size=(5, 3, 4)).astype("float32")
W = RNG.normal(size=(4, 2)).astype("float32")
IDS = np.array([[1, 2, 0], [2, 2, 1], [0, 1, 2], [1, 1, 1], [2, 0, 0]])

# (what is said of x, of shape (None, 3, 4); the same in numpy; the shape that is known beforehand)
SAID = {
    "x + 1": (lambda x: x + 1, lambda x: x + 1, (None, 3, 4)),
    "1 - x / 2": (lambda x: 1 - x / 2, lambda x: 1 - x / 2, (None, 3, 4)),
    "-abs(x) ** 2": (lambda x: -(abs(x) ** 2), lambda x: -(x**2), (None, 3, 4)),
    "x @ w": (lambda x: x @ W, lambda x: x @ W, (None, 3, 2)),
    "w @ x": (lambda x: W[:3, :1].T @ x, lambda x: W[:3, :1].T @ x, (None, 1, 4)),
    "array + x": (lambda x: X[0].astype("float64") + x, lambda x: X[0] + x, (None, 3, 4)),
    "x[:, 0]": (lambda x: x[:, 0], lambda x: x[:, 0], (None, 4)),
    "x[..., None, ::2]": (lambda x: x[..., None, ::2], lambda x: x[..., None, ::2], (None, 3, 1, 2)),
    "x[:, None, -1, 1:]": (lambda x: x[:, None, -1, 1:], lambda x: x[:, None, -1, 1:], (None, 1, 3)),
    "where": (lambda x: ops.where((x > 0) & ~(x >= 1), x, 0.0), lambda x: x * ((x > 0) & (x < 1)), (None, 3, 4)),
    "mean": (lambda x: ops.mean(x, axis=1), lambda x: x.mean(1), (None, 4)),
    "sum": (lambda x: ops.sum(x, axis=(1, 2), keepdims=True), lambda x: x.sum((1, 2), keepdims=True), (None, 1, 1)),
    "reshape": (lambda x: ops.reshape(x, (-1, 12)), lambda x: x.reshape(-1, 12), (None, 12)),
    "reshape by a size": (lambda x: ops.reshape(x, (ops.size(x, 0), 12)), lambda x: x.reshape(-1, 12), (None, 12)),
    "transpose": (lambda x: ops.transpose(x, (0, 2, 1)), lambda x: x.transpose(0, 2, 1), (None, 4, 3)),
    "concatenate": (lambda x: ops.concatenate([x, x[:, :1]], 1), lambda x: np.hstack([x, x[:, :1]]), (None, 4, 4)),
    "concat": (lambda x: ops.concat([x, x]), lambda x: np.concatenate([x, x]), (None, 3, 4)),
    "stack": (lambda x: ops.stack([x, 2 * x], axis=1), lambda x: np.stack([x, 2 * x], 1), (None, 2, 3, 4)),
    "clip": (lambda x: ops.clip(x, -0.5, 0.5), lambda x: x.clip(-0.5, 0.5), (None, 3, 4)),
    "argmax": (lambda x: ops.argmax(x, axis=-1), lambda x: x.argmax(-1), (None, 3)),
    "astype": (lambda x: ops.astype(x > 0, ops.float32), lambda x: (x > 0) * 1.0, (None, 3, 4)),
    "einsum": (lambda x: ops.einsum("nij,nkj->nik", x, x), lambda x: x @ x.transpose(0, 2, 1), (None, 3, 3)),
    "softmax": (lambda x: ops.softmax(x, axis=1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True), (None, 3, 4)),
    "an activation": (lambda x: lh.activations.relu(x), lambda x: np.maximum(x, 0), (None, 3, 4)),
    "erf": (lambda x: ops.erf(ops.expand_dims(x, axis=1)), None, (None, 1, 3, 4)),
    "equal": (lambda x: ops.astype(ops.equal(x, x), "int32"), lambda x: np.ones_like(x), (None, 3, 4)),
}  # fmt: skip


def everything(backend="numpy"):
    x = lh.Input((3, 4), name="x")
    return lh.Model(x, {name: said(x) for name, (said, _, _) in SAID.items()}, backend=backend)


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow", "jax"])
def test_what_is_said_of_tensors_is_what_numpy_computes(backend):
    model = everything(backend)
    found = model.predict(X, verbose=0)
    for name, (_, wanted, shape) in SAID.items():
        assert model.output_shape[name] == shape, name
        if wanted is not None:
            # Float32, and at most a dozen numbers of size 1 summed.
            np.testing.assert_allclose(found[name], wanted(X), rtol=2e-5, atol=2e-6, err_msg=name)
    assert np.all(np.abs(found["erf"]) < 1)
    floats = {name for name, y in found.items() if y.dtype == np.float32}
    assert floats == SAID.keys() - {"argmax", "equal"}


def test_configs_hold_operations_as_keras_has_them_where_it_has_them():
    model = everything()
    text = model.to_json()
    copy = lh.models.model_from_json(text)
    assert json.loads(copy.to_json())["config"] == json.loads(text)["config"]
    ours, theirs = model.predict(X, verbose=0), copy.predict(X, verbose=0)
    for name in SAID:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    entries = {entry["name"]: entry for entry in json.loads(text)["config"]["layers"]}
    kinds = {entry["class_name"] for entry in entries.values() if entry["module"].startswith("keras.src.ops")}
    assert {"Add", "Subtract", "TrueDivide", "Power", "GetItem", "Where", "Mean", "Concatenate", "Matmul"} <= kinds
    own = {entry["config"]["function"] for entry in entries.values() if entry["class_name"] == "Operation"}
    assert own == {"reshape", "size", "einsum"}
    again = lh.models.clone_model(copy).predict(X, verbose=0)
    np.testing.assert_array_equal(ours["x @ w"], again["x @ w"])


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow", "jax"])
def test_ints_and_floats_meet_alike_everywhere(backend):
    ids, x = lh.Input((3,), dtype="int32"), lh.Input((3,))
    said = {
        "half": ids * 0.5, "sum": ids + x, "mean": ops.mean(ids, axis=1), "double": 2 * ids, "root": ops.sqrt(ids),
        "total": ops.sum(ids, axis=1), "share": ids / 4, "larger": ids > x, "wide": ids + np.arange(3),
        "row": ops.take(x @ np.eye(3), np.array([2, 0]), axis=1),
    }  # fmt: skip
    found = lh.Model([ids, x], said, backend=backend).predict([IDS, X[:, :, 0]], verbose=0)
    types = {name: y.dtype.name for name, y in found.items()}
    assert {types[name] for name in ("half", "sum", "mean", "root", "share", "row")} == {"float32"}
    assert types["larger"] == "bool" and types["double"] == types["total"] == "int32"
    np.testing.assert_allclose(found["sum"], IDS + X[:, :, 0], rtol=1e-6)
    np.testing.assert_allclose(found["mean"], IDS.mean(1), rtol=1e-6)
    np.testing.assert_array_equal(found["wide"], IDS + np.arange(3))
    np.testing.assert_array_equal(found["row"], X[:, [2, 0], 0])


def test_gradients_flow_through_them(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")
    x = lh.Input((4,))
    dense = L.Dense(4, use_bias=False)
    y = dense(x) * x[:, :1] + ops.mean(x, axis=1, keepdims=True)
    model = lh.Model(x, y)
    model.compile(lh.optimizers.SGD(1.0), lambda y_true, y_pred: y_pred * y_true)
    data, (before,) = X[:, 0].astype("float64"), model.get_weights()
    model.train_on_batch(data, np.ones((5, 4)))
    slope = (data * data[:, :1]).T @ np.ones((5, 4)) / 20
    np.testing.assert_allclose(model.get_weights()[0], before - slope, rtol=1e-12, atol=1e-12)


def test_they_are_no_layers_but_are_found_by_name():
    x = lh.Input((4,), name="x")
    y = ops.exp(x) + x
    model = lh.Model(x, L.Dense(2, name="end")(y))
    assert [layer.label for layer in model.layers] == ["x", "end"]
    assert len(model.operations) == 4
    add = model.get_layer(y.name)
    assert isinstance(add, Operation) and repr(add) == "ops.add(x0, x1)" and add.output is y
    assert [t.name for t in add.input] == [model.operations[1].label, "x"]


def test_a_tensor_stays_a_key_of_dicts():
    x, z = lh.Input((4,)), lh.Input((4,))
    assert {x: 1, z: 2}[x] == 1 and x == x and x != z and (x in [z]) is False


@pytest.mark.parametrize(
    "said, told",
    [
        (lambda x: x + np.ones(5), r"ops.add.*cannot be broadcast"),
        (lambda x: x @ np.ones((3, 3)), r"ops.matmul.* fails for tensors of shape \(None, 3, 4\)"),
        (lambda x: ops.reshape(x, (-1, 5)), None),
        (lambda x: x[:, 0, :, :], "fails for tensors"),
        (lambda x: x[[0, 1]], "cut by ints and slices"),
        (lambda x: x[::-1], "positive steps, not by"),
        (lambda x: bool(x), "no values before the model runs"),
        (lambda x: list(x), "looped over"),
        (lambda x: len(x), "counted"),
        (lambda x: np.asarray(x), "made an array"),
        (lambda x: x.sum(), r"say lh.ops.sum\(x\)"),
        (lambda x: x.cat, "no attribute 'cat'$"),
        (lambda x: ops.scan(None, (), (x,)), "ops.scan is no function of symbolic tensors"),
        (lambda x: ops.add(x, {"a": 1}), "no backend owns builtins.dict"),
    ],
)
def test_what_cannot_be_said_of_tensors_is_told(said, told):
    x = lh.Input((3, 4))
    if told is None:  # with the batch unknown it may be meant
        assert said(x).shape == (None, 5)
        return
    with pytest.raises(LayerHubError, match=told) as caught:
        said(x)
    assert isinstance(caught.value, (GraphError, ShapeError, NodeError))
