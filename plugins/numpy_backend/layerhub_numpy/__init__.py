"""The embedded numpy backend: pure numpy, with kernels that bring their own gradients, so that it trains.

It is a plugin like anybody else's and uses only what is public. Importing this module imports no numpy.
"""

from __future__ import annotations

from typing import Any

from layerhub.hookspecs import BackendEntry, hookimpl

LAYERHUB_API = 1


def load() -> Any:
    """The backend itself."""
    from layerhub_numpy.backend import NumpyBackend

    return NumpyBackend()


@hookimpl
def layerhub_backend() -> BackendEntry:
    """The backend on offer."""
    return BackendEntry("numpy", load=load, requires=("numpy",), install="pip install numpy")


@hookimpl
def layerhub_kernels(backend: str) -> Any:
    """The kernels, for this backend only."""
    if backend != "numpy":
        return None
    from layerhub_numpy.kernels import KERNELS

    return KERNELS
