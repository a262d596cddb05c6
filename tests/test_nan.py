"""What is not a number stays so: no activation and no loss may hide it."""

import numpy as np
import pytest

import layerhub as lh
from layerhub.spec import KINDS

BACKENDS = ("numpy", "torch", "tensorflow", "jax")


@pytest.mark.parametrize("route", ["kernel", "definition"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", sorted(name for name in KINDS["activation"] if name != "custom"))
def test_an_activation_of_nan_is_nan(activation, backend, route):
    x = np.array([[1.0, np.nan, -1.0, 2.0]])
    if activation == "threshold":
        activation = {"class_name": "threshold", "config": {"threshold": 0.5, "default_value": 0.0}}
    found = lh.evaluate_layer(lh.layers.Activation(activation), x, backend=backend, route=route).outputs[0]
    assert np.isnan(found[0, 1])
