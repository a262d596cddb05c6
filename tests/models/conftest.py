"""What the tests of models share: Keras beside us."""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "keras" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("keras-files"))


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras on tensorflow, in float32."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    pytest.importorskip("tensorflow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("keras")
    before = module.config.floatx(), module.config.dtype_policy()
    module.config.set_floatx("float32")
    module.config.set_dtype_policy("float32")
    yield module
    module.config.set_floatx(before[0])
    module.config.set_dtype_policy(before[1])
