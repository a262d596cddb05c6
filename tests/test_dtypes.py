"""Short float types and mixed policies: what every layer gives, what is kept in float32, and how models train."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import BackendError, ParameterError
from layerhub.registry import registry
from layerhub.running_error import UNITS

BACKENDS = list(lh.backends())
SHORT = ("float16", "bfloat16")


def has(backend: str, dtype: str) -> bool:
    return lh.config.compute_dtype(dtype) in registry().backend(backend).dtypes


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_short_type_that_a_backend_lacks_is_refused_by_name(backend, dtype):
    if has(backend, dtype):
        # That every layer means the same in it is the conformance suite's to show (its check "short types").
        found = lh.evaluate_layer(lh.layers.Dense(2), np.ones((1, 2)), backend=backend, dtype=dtype)
        assert found.outputs[0].shape == (1, 2)
        return
    with pytest.raises(BackendError, match=f"has no {dtype}; its float types: "):
        lh.evaluate_layer(lh.layers.Dense(2), np.ones((1, 2)), backend=backend, dtype=dtype)


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def policy(request):
    lh.config.set_dtype_policy(request.param)
    yield request.param
    lh.config.set_dtype_policy(None)


def classifier(backend: str) -> lh.Sequential:
    layers = lh.layers
    return lh.Sequential(
        [
            lh.Input((6, 6, 3)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.LayerNormalization(),
            layers.Dense(3),
            layers.Softmax(dtype="float32"),
        ],
        backend=backend, seed=3,
    )  # fmt: skip


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=96)
    return rng.normal(size=(96, 6, 6, 3)) + y[:, None, None, None], y


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mixed_policy_trains_as_float32_does_but_for_roundings(backend, policy):
    if not has(backend, policy):
        with pytest.raises(BackendError, match=r"conv2d.* computes in bfloat16 \(dtype='mixed_bfloat16'\)"):
            classifier(backend).predict(images()[0], verbose=0)
        return
    mixed = classifier(backend)
    assert {layer.compute_dtype for layer in mixed.layers[:-1]} == {policy.removeprefix("mixed_")}
    assert all(variable.dtype == "float32" for variable in mixed.weights)
    lh.config.set_dtype_policy(None)
    plain = classifier(backend)
    plain.set_weights(mixed.get_weights())
    curves = []
    for model in (mixed, plain):
        model.compile("adam", "sparse_categorical_crossentropy")
        curves.append(model.fit(*images(), epochs=6, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(curves[0], curves[1], rtol=0.05)
    assert curves[0][-1] < 0.8 * curves[0][0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_moving_statistics_gather_in_float32(backend, policy):
    if not has(backend, policy):
        return
    layer = lh.layers.BatchNormalization(momentum=0.999)
    model = lh.Sequential([lh.Input((1,)), layer], backend=backend)
    model.compile("sgd", "mse")
    x = np.full((8, 1), 1.0)
    model.fit(x, x, epochs=4, verbose=0)
    # In float16, steps of a thousandth towards 1 would be off by several percent.
    assert layer.get_weights()[2][0] == pytest.approx(1 - 0.999**4, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", SHORT)
def test_normalization_and_softmax_accumulate_in_float32(backend, dtype):
    if not has(backend, dtype):
        return
    # Summed in the short type, 4096 equal terms would stand still long before the end.
    x = np.ones((2, 4096), "float32")
    y = lh.evaluate_layer(lh.layers.Softmax(), x, backend=backend, dtype=dtype).outputs[0]
    # All inputs and 1 / 4096 are held exactly: what is left is one rounding of a float32 result.
    np.testing.assert_allclose(y.astype("float64"), 1 / 4096, rtol=1.01 * UNITS[dtype])
    x[:, ::2] = 3.0
    for layer in (lh.layers.LayerNormalization(), lh.layers.RMSNormalization(), lh.layers.UnitNormalization()):
        y = lh.evaluate_layer(layer, x, backend=backend, dtype=dtype).outputs[0]
        exact = lh.evaluate_layer(layer, x, dtype="float64").outputs[0]
        np.testing.assert_allclose(y.astype("float64"), exact, rtol=1.01 * UNITS[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_float16_scales_the_loss_and_small_gradients_survive(backend):
    model = lh.Sequential([lh.Input((1,)), lh.layers.Dense(1, dtype="mixed_float16")], backend=backend, seed=1)
    x = np.full((4, 1), 1e-4)
    moved = []
    for scaled in (False, True):
        model.compile("sgd", "mse", loss_weights=[1e-4], auto_scale_loss=scaled)
        assert isinstance(model.optimizer, lh.optimizers.LossScaleOptimizer) is scaled
        model.set_weights([np.ones((1, 1)), np.zeros(1)])
        model.optimizer.learning_rate = 1e8
        model.train_on_batch(x, np.zeros((4, 1)))
        moved.append(float(1 - model.get_weights()[0][0, 0]))
    # The gradient of the kernel, 2e-12, is far below the smallest number of float16, 6e-8.
    assert moved[0] == 0.0
    assert moved[1] == pytest.approx(2e-4, rel=0.2)


def test_a_policy_belongs_to_each_layer_and_to_its_config():
    layer = lh.layers.Dense(3, dtype="mixed_bfloat16")
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    again = lh.layers.deserialize(lh.layers.serialize(layer))
    assert again.dtype == "mixed_bfloat16"
    keras = {"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}, "module": "keras"}
    assert lh.layers.Dense(3, dtype=keras).compute_dtype == "float16"


@pytest.mark.parametrize("wrong", ["mixed_float64", "half", 3])
def test_an_unknown_policy_is_told(wrong):
    with pytest.raises(ParameterError, match=r"dtype must be one of float16, .*mixed_bfloat16"):
        lh.layers.Dense(3, dtype=wrong)
    with pytest.raises(ParameterError, match="set_dtype_policy: must be one of"):
        lh.config.set_dtype_policy(wrong)


def test_a_copy_of_a_model_may_have_another_policy():
    model = lh.Sequential([lh.Input((3,)), lh.layers.Dense(2), lh.layers.Dense(1, dtype="float64")], backend="numpy")
    # Of one sign, so that nothing cancels: what is lost is some roundings, whatever the weights.
    model.set_weights([np.abs(w) for w in model.get_weights()])
    copy = lh.models.clone_model(model, dtype="mixed_float16")
    assert [layer.dtype for layer in copy.layers] == ["mixed_float16"] * 2
    copy.set_weights(model.get_weights())
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(copy.predict(x, verbose=0), model.predict(x, verbose=0), rtol=8 * UNITS["float16"])
