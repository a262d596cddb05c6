"""LayerHub: define a neural network once; run it, train it and check it on any backend, chosen per model at run time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = frozenset(
    "activations callbacks config constraints errors initializers layers losses metrics models ops optimizers "
    "regularizers spec".split()
)
_NAMES = {
    "Input": "graph",
    "Model": "models",
    "Sequential": "models",
    "backend": "scope",
    "backends": "registry",
    "evaluate_layer": "probe",
    "override_kernel": "registry",
    "registry": "registry",
    "set_random_seed": "seeds",
}

if TYPE_CHECKING:
    from layerhub import (
        activations as activations,
        callbacks as callbacks,
        config as config,
        constraints as constraints,
        errors as errors,
        initializers as initializers,
        layers as layers,
        losses as losses,
        metrics as metrics,
        models as models,
        ops as ops,
        optimizers as optimizers,
        regularizers as regularizers,
        spec as spec,
    )
    from layerhub.graph import Input as Input
    from layerhub.models import Model as Model
    from layerhub.models import Sequential as Sequential
    from layerhub.probe import evaluate_layer as evaluate_layer
    from layerhub.registry import backends as backends
    from layerhub.registry import override_kernel as override_kernel
    from layerhub.scope import backend as backend
    from layerhub.seeds import set_random_seed as set_random_seed


def __getattr__(name: str) -> Any:
    # Loaded at first use, so that importing layerhub costs nothing (PEP 562).
    if name in _MODULES:
        return import_module(f"layerhub.{name}")
    if name in _NAMES:
        value = getattr(import_module(f"layerhub.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'layerhub' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({"__version__", *_MODULES, *_NAMES})
