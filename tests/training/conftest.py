"""What the tests of training share: the backends, data, and small models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import layerhub as lh

BACKENDS = ("numpy", "torch", "tensorflow", "jax")
RNG = np.random.default_rng(41)
X, Y = RNG.normal(size=(24, 4)), RNG.normal(size=(24, 2))


@pytest.fixture(autouse=True)
def double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends add up in orders of their own: in float64 that is far below whatever is looked for."""
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """24 samples of 4 features and 2 targets."""
    return X.copy(), Y.copy()


@pytest.fixture
def linear() -> Any:
    """``linear(backend, cls, **compiled)``: 4 features to 2 outputs, by SGD on the mean of squares."""

    def make(backend: str = "numpy", cls: Any = lh.Model, **compiled: Any) -> Any:
        x = lh.Input((4,))
        model = cls(x, lh.layers.Dense(2, name="out")(x), backend=backend, seed=2)
        model.compile(**{"optimizer": lh.optimizers.SGD(0.1), "loss": "mse", **compiled})
        return model

    return make


@pytest.fixture
def two_headed() -> Any:
    """``two_headed(backend, **compiled)``: 4 features to the outputs left (3) and right (1)."""

    def make(backend: str = "numpy", **compiled: Any) -> Any:
        x = lh.Input((4,))
        outputs = [lh.layers.Dense(3, name="left")(x), lh.layers.Dense(1, name="right")(x)]
        model = lh.Model(x, outputs, backend=backend, seed=2)
        model.compile(**{"optimizer": lh.optimizers.SGD(0.1), "loss": "mse", **compiled})
        return model

    return make


@pytest.fixture
def same_weights() -> Any:
    """``same_weights(one, other, rtol)``: two models have the same weights; to the bit without rtol."""

    def check(one: Any, other: Any, rtol: float = 0.0) -> None:
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)

    return check
