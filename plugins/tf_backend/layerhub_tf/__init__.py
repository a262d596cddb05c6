"""LayerHub's TensorFlow backend: ``tf.*`` only, no Keras. This module imports no framework."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from layerhub.hookspecs import BackendEntry, hookimpl

LAYERHUB_API = 1

FAMILIES = (
    "activations advanced attention convolution core local losses normalization pooling recurrent reshaping".split()
)


def load() -> Any:
    """Import tensorflow and make the backend."""
    # What its C++ side has to say at import is for those who look for it: they have set this variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from layerhub_tf.backend import TensorflowBackend

    return TensorflowBackend()


@hookimpl
def layerhub_backend() -> BackendEntry:
    return BackendEntry("tensorflow", load=load, requires=("tensorflow",), install="pip install layerhub-tensorflow")


@hookimpl
def layerhub_kernels(backend: str) -> Any:
    if backend != "tensorflow":
        return None
    return [import_module(f"layerhub_tf.kernels.{family}").kernels for family in FAMILIES]
