"""LayerHub's PyTorch backend: a plugin like any other, by the hooks of ``layerhub.hookspecs`` alone.

backend      tensors, variables, differentiation by torch.autograd
namespace    the array API functions that definitions are written in, by torch
executor     programs run as torch runs them best; ``model.native``, a torch.nn.Module
kernels      what torch does faster than the definitions, in modules named like those of ``layerhub.spec``
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from layerhub.hookspecs import BackendEntry, hookimpl

LAYERHUB_API = 1

FAMILIES = """
    activations advanced attention convolution core
    losses normalization optimizers pooling recurrent reshaping
""".split()


def _load() -> Any:
    from layerhub_torch.backend import TorchBackend

    return TorchBackend()


@hookimpl
def layerhub_backend():
    return BackendEntry("torch", load=_load, requires=("torch",), install="pip install layerhub-torch")


@hookimpl
def layerhub_kernels(backend):
    if backend != "torch":
        return None
    return [import_module(f"layerhub_torch.kernels.{family}").kernels for family in FAMILIES]
