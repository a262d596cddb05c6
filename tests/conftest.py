"""What tests beside Keras share: Keras itself, on tensorflow, in the tests' own process.

Where it is not installed, these tests are skipped. Its types are settings of the whole process, so tests that use it
come one after the other in one worker.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

BESIDE = {"keras", "agrees_with_keras"}
"""Fixtures that bring Keras."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if BESIDE & set(getattr(item, "fixturenames", ())):
            # Two groups, so that two workers have something to do.
            item.add_marker(pytest.mark.xdist_group("keras-layers" if "peers" in item.path.parts else "keras-files"))


@contextmanager
def _keras_in(floatx: str) -> Iterator[Any]:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    pytest.importorskip("tensorflow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("keras")
    before = module.config.floatx(), module.config.dtype_policy()
    module.config.set_floatx(floatx)
    # Keras keeps the policy that the type of the moment gave when a layer was first made.
    module.config.set_dtype_policy(floatx)
    yield module
    module.config.set_floatx(before[0])
    module.config.set_dtype_policy(before[1])


@pytest.fixture(scope="session")
def keras_in() -> Callable[[str], AbstractContextManager[Any]]:
    """``keras_in("float64")``: a context in which Keras computes in a type."""
    return _keras_in


@pytest.fixture(scope="module")
def keras(keras_in: Callable[[str], AbstractContextManager[Any]]) -> Iterator[Any]:
    """Keras in float32."""
    with keras_in("float32") as module:
        yield module
