"""Losses and metrics in a compiled model give what they give alone, on every backend."""

import numpy as np
import pytest
from layerhub_conformance.training import FIRST, LOSSES, METRICS, loss_case, metric_case, said

import layerhub as lh

BACKENDS = ["numpy", "torch", "tensorflow", "jax"]


@pytest.fixture(autouse=True)
def double():
    """Models made in a test are of float64."""
    lh.config.set_floatx("float64")
    yield
    lh.config.set_floatx("float32")


def evaluated(backend, x, y, batch_size, **compiled):
    """The figures of a model that hands its input on."""
    model = lh.Sequential([lh.Input(x.shape[1:]), lh.layers.Activation("linear")], backend=backend)
    model.compile("sgd", **compiled)
    found = model.evaluate(x, y, batch_size=batch_size, verbose=0)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("spec", LOSSES, ids=said)
def test_a_loss_is_compiled(spec, backend):
    loss, y, p = loss_case(spec, "float64")
    (found,) = evaluated(backend, p, y, len(p), loss=loss)
    assert found == pytest.approx(float(loss(y, p)), rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("spec", METRICS, ids=said)
def test_a_metric_is_compiled(spec, backend):
    metric, batches = metric_case(spec, "float64")
    y, p = (np.concatenate([batch[i] for batch in batches]) for i in (0, 1))
    loss = "sparse_categorical_crossentropy" if y.ndim < p.ndim else "mse"
    _, found = evaluated(backend, p, y, FIRST, loss=loss, metrics=[metric])
    for y, p, _ in batches:
        metric.update_state(*(() if isinstance(metric, lh.metrics.Mean) else (y,)), p)
    np.testing.assert_allclose(found, metric.result(), rtol=1e-11, atol=1e-12)
