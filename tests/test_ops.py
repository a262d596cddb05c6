"""lh.ops: one function, on whatever kind of array it is given."""

import array_api_strict
import numpy as np
import pytest

import layerhub as lh
from layerhub import autodiff, ops
from layerhub.errors import GraphError
from layerhub.namespace import EXTRAS, STANDARD
from layerhub.registry import registry
from layerhub.running_error import RunningError
from layerhub.spec import KINDS
from layerhub.variable import HOST

X = np.array([[0.5, -1.0, 2.0], [3.0, 0.25, -0.5]])


def test_every_standard_name_and_every_extra_is_there():
    assert set(dir(ops)) == {*STANDARD, *EXTRAS, *ops.MADE, *KINDS["activation"]} - {"custom"}
    for name in {*STANDARD, *EXTRAS}:
        assert name in getattr(ops, name).__doc__
    for name in dir(ops):
        assert getattr(ops, name).__name__ == name
        assert getattr(ops, name).__doc__


@pytest.mark.parametrize("backend", list(lh.backends()))
def test_what_the_standard_lacks_is_made_of_it(backend):
    x = registry().backend(backend).asarray(X)
    norm = np.sqrt((X * X).sum(axis=1, keepdims=True))
    for found, wanted in (
        (ops.clip(x, -0.5, 1.0), np.clip(X, -0.5, 1.0)),
        (ops.concatenate([x, x], axis=0), np.concatenate([X, X])),
        (ops.l2_normalize(x, axis=1), X / norm),
        (ops.square(x), X * X),
        (ops.transpose(x), X.T),
        (ops.variance(x, axis=0), X.var(axis=0)),
        (ops.relu(x), np.maximum(X, 0)),
        (ops.leaky_relu(x, negative_slope=0.5), np.where(X > 0, X, 0.5 * X)),
        (ops.softmax(x, axis=0), np.exp(X) / np.exp(X).sum(axis=0)),
    ):
        assert type(found) is type(x)
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-12)


def test_a_name_that_is_not_there_is_told():
    with pytest.raises(AttributeError, match=r"layerhub.ops has no function 'cumsum'"):
        ops.cumsum  # noqa: B018


def test_arrays_of_numpy_stay_arrays_of_numpy():
    assert isinstance(ops.exp(X), np.ndarray)
    assert np.array_equal(ops.exp(X), np.exp(X))
    assert np.array_equal(ops.concat([X, X], axis=-1), np.concatenate([X, X], -1))
    assert np.array_equal(ops.where(X > 0, X, ops.zeros_like(X)), np.where(X > 0, X, 0))
    assert ops.exp(np.float32(1)).dtype == np.float32


def test_numbers_alone_are_numpys():
    assert ops.zeros((2, 3)).shape == (2, 3)
    assert ops.full((2,), 3.0).tolist() == [3, 3]


def test_a_recorded_array_decides_over_a_plain_one_wherever_it_stands():
    space = autodiff.Differentiable(HOST)
    x = space.var(X)
    for made in (ops.multiply(x, X), ops.multiply(X, x), ops.concat([X, x], axis=0), ops.where(X > 0, X, x), X * x):
        assert isinstance(made, autodiff.Var)
    assert not isinstance(ops.stop_gradient(x), autodiff.Var)


def test_a_recorded_array_inside_of_a_recorded_one_gives_derivatives_of_derivatives():
    outer = autodiff.Differentiable(HOST)
    x = outer.var(X)
    inner = autodiff.Differentiable(outer)
    y = inner.var(x)
    (slope,) = autodiff.gradients([ops.sum(y * y * y)], [np.float64(1)], [y])
    (bend,) = autodiff.gradients([ops.sum(slope)], [np.float64(1)], [x])
    assert np.array_equal(bend, 6 * X)


def test_a_bounded_array_decides_over_a_plain_one_and_a_recorded_one_over_both():
    bounded = RunningError.of("float32")
    x = bounded.exact(X)
    assert type(ops.multiply(X, x)) is type(x)
    space = autodiff.Differentiable(bounded)
    recorded = space.var(x)
    assert isinstance(ops.multiply(x, recorded), autodiff.Var)
    assert isinstance(ops.multiply(recorded, x), autodiff.Var)
    assert isinstance(x * recorded, autodiff.Var)


def test_an_array_that_no_backend_owns_is_told():
    with pytest.raises(GraphError, match="no backend owns array_api_strict"):
        ops.exp(array_api_strict.asarray([1.0]))


def test_ops_serve_in_a_layer_of_ones_own_by_every_reading():
    layer = lh.layers.Lambda(lambda x: ops.sum(ops.exp(x) * x, axis=-1))
    found = lh.evaluate_layer(layer, X, cotangents=[np.ones(2)], dtype="float64")
    # Relative to the size of the terms: a few roundings of float64.
    np.testing.assert_allclose(found.outputs[0], (np.exp(X) * X).sum(-1), rtol=1e-14)
    np.testing.assert_allclose(found.input_grads[0], np.exp(X) * (X + 1), rtol=1e-14, atol=1e-15)


def test_functions_are_made_once():
    assert ops.exp is ops.exp
