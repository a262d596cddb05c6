"""What the tests of callbacks share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerhub as lh

sys.path.insert(0, str(Path(__file__).parent))  # for resuming, which is a program too

RNG = np.random.default_rng(17)
X, Y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 1))


@pytest.fixture(params=["numpy", "torch", "tensorflow", "jax"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """20 samples of 3 features and 1 target."""
    return X.copy(), Y.copy()


@pytest.fixture
def make() -> Any:
    """``make(optimizer, backend=…, **compiled)``: 3 features to 1 output."""

    def made(optimizer: Any = "sgd", backend: str = "numpy", **compiled: Any) -> lh.Sequential:
        model = lh.Sequential([lh.Input((3,)), lh.layers.Dense(1)], backend=backend, seed=2)
        model.compile(**{"optimizer": optimizer, "loss": "mse", **compiled})
        return model

    return made


@pytest.fixture
def fit() -> Any:
    """``fit(model, *callbacks, **options)``: 20 samples in batches of 5, in silence."""

    def fitted(model: Any, *callbacks: Any, **options: Any) -> Any:
        return model.fit(X, Y, **{"batch_size": 5, "verbose": 0, "callbacks": list(callbacks), **options})

    return fitted
