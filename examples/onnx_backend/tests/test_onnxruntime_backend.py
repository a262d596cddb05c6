"""The backend on onnxruntime: definitions and kernels by ONNX, eagerly and as whole models."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("layerhub_onnxruntime", reason="pip install -e examples/onnx_backend")
from layerhub_conformance.cases import corpus
from layerhub_conformance.reference import by_name, reference
from layerhub_conformance.verdict import compare

import layerhub as lh
from layerhub import stream
from layerhub.errors import BackendError
from layerhub.probe import evaluate_layer
from layerhub.registry import registry
from layerhub.variable import HOST

FIRST = {case.layer: case for case in reversed(corpus())}
"""For each layer its first case."""


@pytest.fixture(scope="module")
def backend():
    return registry().backend("onnxruntime")


@pytest.fixture(scope="module")
def xp(backend):
    return backend.xp


def normal(*shape):
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def pair(*layers, shape):
    """The same model on numpy and on onnxruntime."""
    models = [
        lh.Sequential([lh.Input(shape), *(lh.layers.deserialize(lh.layers.serialize(layer)) for layer in layers)],
                      backend=name, seed=4)
        for name in ("numpy", "onnxruntime")
    ]  # fmt: skip
    models[1].set_weights(models[0].get_weights())
    return models


# Layers by themselves


@pytest.mark.parametrize("route", ["kernel", "definition"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", sorted(FIRST))
def test_a_layer_gives_what_its_definition_means(layer, dtype, route):
    case = FIRST[layer]
    drawn = case.draw(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lh.errors.MaskDroppedWarning)
        got = evaluate_layer(
            case.make(dtype), drawn.inputs, drawn.weights, "onnxruntime", case.training, drawn.masks,
            drawn.states or None, dtype=dtype, route=route,
        )  # fmt: skip
        wanted = reference(case, dtype)
    arrays = by_name(case, got)
    findings = [compare(e, arrays[e.what], dtype) for e in wanted.arrays if e.direction == "forward"]
    assert findings
    assert not [f.detail for f in findings if not f.right]
    assert (wanted.mask is None) == (got.output_mask is None)
    assert wanted.mask is None or np.array_equal(wanted.mask, got.output_mask)


def test_gradients_are_refused():
    with pytest.raises(BackendError, match=r"onnxruntime.*no gradients"):
        evaluate_layer(lh.layers.Dense(2), normal(3, 4), backend="onnxruntime", cotangents=normal(3, 2))


def test_a_value_is_what_the_array_was_when_it_was_given(backend):
    source = normal(3)
    x = backend.asarray(source)
    y = x + 1
    before = source + 1
    source[:] = 0
    assert np.array_equal(backend.to_numpy(y), before)


def test_arrays_are_not_iterated(backend):
    with pytest.raises(TypeError, match="not iterable"):
        list(backend.asarray(normal(3)))


# The namespace


def test_functions_without_an_operator_are_accurate(xp):
    # As layerhub.running_error allows; what is subnormal may be anything as small.
    x = np.concatenate([np.linspace(-90, 80, 999), np.geomspace(1e-30, 1, 99), -np.geomspace(1e-30, 0.99, 99)])
    x = x.astype("float32")
    for function in ("expm1", "log1p"):
        seen = x if function == "expm1" else x[x > -1]
        exact = getattr(np, function)(seen.astype("float64"))
        found = np.asarray(getattr(xp, function)(xp.asarray(seen)))
        assert (np.abs(found - exact) <= 2 * 4 * 2.0**-24 * np.abs(exact)).all()


def test_special_values_go_through(xp):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -1.0], "float32")
    with np.errstate(all="ignore"):
        assert np.array_equal(np.asarray(xp.expm1(xp.asarray(x))), np.expm1(x), equal_nan=True)
        assert np.array_equal(np.asarray(xp.log1p(xp.asarray(x))), np.log1p(x), equal_nan=True)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 33])
def test_nan_is_not_passed_over(xp, count):
    for place in range(count):
        x = np.linspace(-1, 1, count)
        x[place] = np.nan
        if count > 2:
            x[(place + 1) % count] = np.inf
        given = xp.asarray(x)
        assert np.isnan(np.asarray(xp.max(given)))
        assert np.isnan(np.asarray(xp.min(given)))
        assert int(np.asarray(xp.argmax(given))) == place


def test_shifts_keep_the_sign(xp):
    x, count = np.array([-(2**40), -1, 0, 5, 2**40]), np.array([3, 1, 2, 1, 32])
    assert np.array_equal(np.asarray(xp.bitwise_right_shift(xp.asarray(x), xp.asarray(count))), x >> count)


def test_random_bits_are_those_of_the_portable_stream(xp):
    place = stream.Stream.at(7, "0/kernel")
    assert np.array_equal(np.asarray(xp.random_bits(place, (3, 5))), stream.random_bits(HOST, place, (3, 5)))


@pytest.mark.parametrize(
    "index",
    [
        np.s_[1],
        np.s_[-1, 2],
        np.s_[..., 0],
        np.s_[:, None, 1:3],
        np.s_[::2, ..., 3:0:1],
        np.s_[1:, 2, 1::2],
        np.s_[None],
    ],
)
def test_slices_are_those_of_numpy(xp, index):
    x = np.arange(60).reshape(3, 4, 5)
    y = xp.asarray(x)[index]
    assert y.shape == x[index].shape
    assert np.array_equal(np.asarray(y), x[index])


def test_a_loop_may_have_a_loop_inside(xp):
    def outer(carry, rows):
        def inner(states, cells):
            return (states[0] * 0.5 + cells[0] + carry[0],), states[0]

        (last,), seen = xp.scan(inner, (xp.zeros((2,)),), (rows[0],))
        return (last,), xp.sum(seen, axis=0)

    x = normal(3, 4, 2)
    (last,), rows = xp.scan(outer, (xp.asarray(np.ones(2, "float32")),), (xp.asarray(x),))

    before, wanted = np.ones(2), []
    for row in x.astype("float64"):
        state, total = np.zeros(2), np.zeros(2)
        for cell in row:
            total, state = total + state, state * 0.5 + cell + before
        before = state
        wanted.append(total)
    np.testing.assert_allclose(np.asarray(last), before, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(rows), wanted, rtol=1e-5)


# Models


def same(numpy_model, onnx_model, x):
    """Both predict alike, to some roundings of the largest number."""
    wanted, got = numpy_model.predict(x, verbose=0), onnx_model.predict(x, verbose=0)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    assert np.abs(got - wanted).max(initial=0) <= 2**-20 * np.abs(wanted).max(initial=1)


def test_one_session_serves_all_batch_sizes():
    models = pair(lh.layers.LSTM(4, return_sequences=True), lh.layers.Dense(2), shape=(5, 3))
    session = models[1].native
    for count in (1, 7, 32):
        same(*models, normal(count, 5, 3))
    assert models[1].native is session
    assert session.get_inputs()[0].shape == ["batch", 5, 3]


def test_empty_batches_and_sequences():
    models = pair(lh.layers.LSTM(4, return_sequences=True), lh.layers.Dense(2), shape=(None, 3))
    for shape in ((2, 5, 3), (0, 5, 3), (2, 0, 3)):
        same(*models, normal(*shape))


def test_a_layer_that_needs_sizes_gets_a_model_for_each():
    models = pair(lh.layers.UpSampling2D(2, interpolation="bilinear"), shape=(None, None, 2))
    for shape in ((2, 4, 5, 2), (1, 3, 3, 2)):
        same(*models, normal(*shape))


def test_images_may_be_of_unknown_size():
    layers = [lh.layers.Conv2D(3, 3, strides=2, padding="same"), lh.layers.MaxPooling2D(2, padding="same")]
    models = pair(*layers, lh.layers.UpSampling2D(3), shape=(None, None, 2))
    for shape in ((2, 9, 8, 2), (1, 12, 12, 2)):
        same(*models, normal(*shape))
    assert models[1].native.get_inputs()[0].shape[0] == "batch"


def test_stateful_layers_go_on_from_batch_to_batch():
    layer = {"units": 4, "stateful": True}
    models = [
        lh.Sequential([lh.Input(batch_shape=(2, 5, 3)), lh.layers.LSTM(**layer)], backend=name, seed=4)
        for name in ("numpy", "onnxruntime")
    ]
    for _ in range(3):
        same(*models, normal(2, 5, 3))


def test_new_weights_are_seen():
    models = pair(lh.layers.Dense(2), shape=(3,))
    same(*models, normal(4, 3))
    for model in models:
        model.set_weights([w + 1 for w in model.get_weights()])
    same(*models, normal(4, 3))


def test_evaluate_gives_losses_and_metrics():
    models = pair(lh.layers.Dense(3, activation="softmax", activity_regularizer="l2"), shape=(4,))
    labels = np.arange(70) % 3
    logs = []
    for model in models:
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        logs.append(model.evaluate(normal(70, 4), labels, verbose=0))
    assert logs[1][1] == logs[0][1]
    assert abs(logs[1][0] - logs[0][0]) <= 2**-20 * logs[0][0]


def test_training_is_refused_and_leaves_the_model_as_it_is():
    _, model = pair(lh.layers.Dense(1), shape=(4,))
    model.compile("adam", "mse")
    before = model.get_weights()
    for train in (lambda: model.fit(normal(8, 4), normal(8, 1), verbose=0),
                  lambda: model.train_on_batch(normal(8, 4), normal(8, 1))):  # fmt: skip
        with pytest.raises(BackendError, match=r"'onnxruntime' has no gradients.*train it on another one"):
            train()
    assert all(map(np.array_equal, before, model.get_weights()))
    model.to("numpy").fit(normal(8, 4), normal(8, 1), verbose=0)
    wanted = model.predict(normal(5, 4), verbose=0)
    assert np.abs(model.to("onnxruntime").predict(normal(5, 4), verbose=0) - wanted).max() <= 2**-20


def test_the_same_dropout_in_training_calls():
    models = pair(lh.layers.Dropout(0.5), shape=(6,))
    x = normal(5, 6)
    wanted, got = (np.asarray(model(x, training=True)) for model in models)
    assert np.array_equal(got == 0, wanted == 0)


def test_a_standard_operator_may_be_preferred():
    from layerhub_onnxruntime.kernels.recurrent import lstm

    lh.override_kernel("onnxruntime", "LSTM", lstm)
    try:
        models = pair(lh.layers.LSTM(4), shape=(5, 3))
        assert [step.kernel for step in models[1].plan(False).steps] == [lstm]
        same(*models, normal(2, 5, 3))
    finally:
        lh.override_kernel("onnxruntime", "LSTM", None)


def test_what_a_backend_lacks_is_refused(backend, monkeypatch):
    monkeypatch.setattr(backend, "lacks", {"Dense": "this is a test"})
    with pytest.raises(BackendError, match="'onnxruntime' lacks Dense: this is a test"):
        evaluate_layer(lh.layers.Dense(2), normal(3, 4), backend="onnxruntime")
    with pytest.raises(BackendError, match="'onnxruntime' lacks Dense: this is a test"):
        lh.Sequential([lh.Input((4,)), lh.layers.Dense(2)], backend="onnxruntime").predict(normal(3, 4), verbose=0)
