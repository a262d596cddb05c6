"""LayerHub's JAX backend: a plugin like any other, by the hooks of ``layerhub.hookspecs`` alone.

backend      arrays, devices, differentiation by jax
namespace    the array API functions that definitions are written in, by jax.numpy
executor     a whole step of training as one compiled function
native       ``model.native``: a pure function of a pytree of parameters
kernels      what jax does faster than the definitions, in modules named like those of ``layerhub.spec``

This module imports no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from layerhub.hookspecs import BackendEntry, hookimpl

LAYERHUB_API = 1

FAMILIES = ("convolution", "pooling", "recurrent")


def load() -> Any:
    """Import jax and make the backend."""
    from layerhub_jax.backend import JaxBackend

    return JaxBackend()


@hookimpl
def layerhub_backend() -> BackendEntry:
    return BackendEntry("jax", load=load, requires=("jax",), install="pip install layerhub-jax")


@hookimpl
def layerhub_kernels(backend: str) -> Any:
    if backend != "jax":
        return None
    return [import_module(f"layerhub_jax.kernels.{family}").kernels for family in FAMILIES]
