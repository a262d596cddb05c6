"""What is the jax backend's own: steps that are compiled once, donated arrays, the native function, traced calls."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import BackendError, DTypeError
from layerhub.registry import registry

jax = pytest.importorskip("jax")
pytest.importorskip("layerhub_jax")

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = X[:, :2]


def network() -> lh.Sequential:
    layers = lh.layers
    stack = [
        layers.Dense(8, activation="relu", name="first"),
        layers.BatchNormalization(name="normal"),
        layers.Dropout(0.4),
        layers.Dense(2, name="last"),
    ]
    model = lh.Sequential([lh.Input((6,)), *stack], backend="jax", seed=2)
    model.compile("adam", "mse")
    return model


@pytest.fixture
def backend():
    return registry().backend("jax")


def test_steps_of_one_size_share_one_compiled_function():
    model = network()
    model.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    assert [step._cache_size() for step in model.executor._steps.values()] == [1]


def test_a_smaller_last_batch_compiles_once_more():
    model = network()
    model.fit(X, Y, batch_size=20, epochs=3, verbose=0)
    assert [step._cache_size() for step in model.executor._steps.values()] == [2]


def test_training_leaves_alone_what_the_native_object_has_handed_out():
    model = network()
    params = model.native.params
    before = jax.tree.map(np.array, params)
    model.fit(X, Y, verbose=0)
    assert jax.tree.all(jax.tree.map(np.array_equal, before, params))
    assert not np.array_equal(params["first"]["kernel"], model.native.params["first"]["kernel"])


def test_a_batch_that_is_overwritten_after_the_call_was_read_before():
    model, other = network(), network()
    for executor in (model.executor, other.executor):
        executor.prepare()
    for start in range(0, 32, 8):
        x = X[start : start + 8].copy()
        model.executor.train_batch(model.executor.batch([x], [Y[start : start + 8]]))
        x[:] = np.nan
        other.executor.train_batch(other.executor.batch([X[start : start + 8]], [Y[start : start + 8]]))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def test_the_native_function_trains_under_jit_and_its_weights_go_back_into_the_model():
    model = network()
    native = model.native

    @jax.jit
    def step(params, number):
        def objective(params):
            y, moved = native.moved(params, X, step=number)
            return ((y - Y) ** 2).mean(), moved

        (loss, moved), gradients = jax.value_and_grad(objective, has_aux=True)(params)
        update = lambda new, g, trained: new - 0.1 * g if trained else new
        return jax.tree.map(update, moved, gradients, native.trainable), loss

    params, losses = native.params, []
    for number in range(20):
        params, loss = step(params, number)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert not np.array_equal(params["normal"]["moving_mean"], np.zeros(8))
    native.load(params)
    assert np.array_equal(model.predict(X, verbose=0), native(params, X))
    assert jax.vmap(lambda x: native(params, x[None])[0])(X).shape == (32, 2)


def test_the_native_function_draws_other_elements_at_each_step():
    native = network().native
    params = native.params
    first, again, second = (native(params, X, training=True, step=step) for step in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_a_traced_call_in_training_is_refused_where_it_would_move_weights():
    layer = lh.layers.BatchNormalization()
    x = jax.numpy.asarray(X)
    gradient = jax.grad(lambda x: (layer(x, training=True) ** 3).sum())(x)
    assert gradient.shape == x.shape
    assert not np.array_equal(layer.get_weights()[2], np.zeros(6))
    with pytest.raises(BackendError, match=r"model\.native"):
        jax.jit(lambda x: layer(x, training=True))(x)
    assert jax.jit(layer)(x).shape == x.shape


def test_gradients_survive_a_scale_whose_reciprocal_float32_does_not_hold():
    model = lh.Sequential([lh.Input((6,)), lh.layers.Dense(2)], backend="jax", seed=2)
    model.compile(lh.optimizers.LossScaleOptimizer(lh.optimizers.SGD(0.1), 2.0**127), "mse")
    before = model.get_weights()[0]
    model.train_on_batch(1e-3 * X, 1e-3 * Y)
    model.executor.settle()
    assert model.executor.scaling.skipped == 0
    assert not np.array_equal(before, model.get_weights()[0])


def test_inputs_become_what_the_model_declares():
    model = network()
    wide = jax.numpy.asarray(X.astype("float64"))
    assert model(wide).dtype == model.native(model.native.params, wide).dtype == np.float32
    assert np.array_equal(model(wide), model.predict(X, verbose=0))


def test_an_array_is_never_over_the_memory_of_an_ndarray(backend):
    host = np.zeros((64, 64), "float32")
    x = backend.asarray(host)
    back = backend.to_numpy(x)
    host[:] = 1
    back[:] = 2
    assert not np.any(x)


def test_types_and_devices_by_name(backend):
    assert backend.to_numpy(backend.asarray([1.5], "bfloat16")).dtype == np.float32
    assert backend.dtype_name(backend.asarray([1.5], "float64")) == "float64"
    assert backend.devices()[0] == backend.device_of(backend.asarray([1.0])) == "cpu"
    with pytest.raises(DTypeError, match="no data type 'float8'"):
        backend.dtype("float8")
    with pytest.raises(BackendError, match="no device 'cuda:7'"):
        backend.check_device("cuda:7")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_large_maximum_does_not_hide_nan(dtype, compiled):
    x = np.random.default_rng(0).normal(size=(3, 40, 40, 2)).astype("float32")
    x[1, 7, 5, 0] = np.nan
    wanted = np.zeros((3, 2), bool)
    wanted[1, 0] = True
    found = lh.evaluate_layer(
        lh.layers.GlobalMaxPooling2D(), x, backend="jax", dtype=dtype, cotangents=np.ones((3, 2)), compiled=compiled
    )
    assert np.array_equal(np.isnan(found.outputs[0]), wanted)
    assert not np.isnan(found.input_grads[0][~wanted.any(axis=1)]).any()
    both = lh.evaluate_layer(
        lh.layers.Minimum(), [x, np.flip(x, axis=1)], backend="jax", dtype=dtype, compiled=compiled
    )
    assert np.isnan(both.outputs[0]).sum() == 2


def test_large_windows_are_left_to_the_definition_which_compiles_in_time():
    served = {}
    for layer, shape in [
        (lh.layers.MaxPooling2D(3), (2, 9, 9, 2)),
        (lh.layers.MaxPooling2D(6), (2, 12, 12, 2)),
        (lh.layers.AdaptiveMaxPooling3D(2), (2, 4, 4, 4, 2)),
        (lh.layers.AdaptiveMaxPooling3D(1), (2, 10, 4, 5, 3)),
    ]:
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        found = lh.evaluate_layer(layer, x, backend="jax", compiled=True)
        served[shape] = found.routes[0].partition(" ")[0]
        assert np.array_equal(found.outputs[0], lh.evaluate_layer(layer, x).outputs[0])
    assert list(served.values()) == ["kernel", "definition", "kernel", "definition"]


def test_drafts_are_compiled_by_options_that_this_version_knows(monkeypatch):
    backend = registry().backend("jax")
    module = sys.modules[type(backend).__module__]
    assert module.drafting() == {"compiler_options": module.DRAFT}
    assert float(backend.compiled(lambda xs: xs[0] + 1, draft=True)([jax.numpy.asarray(1.0)])) == 2
    monkeypatch.setattr(module, "DRAFT", {"xla_cpu_no_such_option": True})
    assert module.drafting.__wrapped__() == {}
