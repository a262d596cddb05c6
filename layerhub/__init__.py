"""LayerHub: define a neural network once; run it, train it and check it on any backend, chosen at run time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = frozenset(
    """
    activations callbacks config constraints errors initializers layers losses metrics models ops optimizers
    registry regularizers spec utils
""".split()
)
_NAMES = {
    "Input": "graph",
    "Model": "models",
    "Sequential": "models",
    "backend": "scope",
    "backends": "registry",
    "evaluate_layer": "probe",
    "kernel": "registry",
    "override_kernel": "registry",
    "plot_model": "visual",
    "race": "racing",
    "register": "registry",
    "set_random_seed": "seeds",
}

if TYPE_CHECKING:
    from layerhub import (
        activations as activations,
    )
    from layerhub import (
        callbacks as callbacks,
    )
    from layerhub import (
        config as config,
    )
    from layerhub import (
        constraints as constraints,
    )
    from layerhub import (
        errors as errors,
    )
    from layerhub import (
        initializers as initializers,
    )
    from layerhub import (
        layers as layers,
    )
    from layerhub import (
        losses as losses,
    )
    from layerhub import (
        metrics as metrics,
    )
    from layerhub import (
        models as models,
    )
    from layerhub import (
        ops as ops,
    )
    from layerhub import (
        optimizers as optimizers,
    )
    from layerhub import (
        regularizers as regularizers,
    )
    from layerhub import (
        spec as spec,
    )
    from layerhub import (
        utils as utils,
    )
    from layerhub.graph import Input as Input
    from layerhub.models import Model as Model
    from layerhub.models import Sequential as Sequential
    from layerhub.probe import evaluate_layer as evaluate_layer
    from layerhub.racing import race as race
    from layerhub.registry import backends as backends
    from layerhub.registry import kernel as kernel
    from layerhub.registry import override_kernel as override_kernel
    from layerhub.registry import register as register
    from layerhub.scope import backend as backend
    from layerhub.seeds import set_random_seed as set_random_seed
    from layerhub.visual import plot_model as plot_model


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
