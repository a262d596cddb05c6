"""What things are: layers, activations, losses, optimizers, …, as specs that import neither numpy nor a backend.

Each module of this package is a family. Whatever spec class a family defines is registered, under its class name and
aliases, in the table of its kind.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

from layerhub.spec.activations import activations
from layerhub.spec.base import Kind, Spec
from layerhub.spec.constraints import constraints
from layerhub.spec.initializers import initializers
from layerhub.spec.layer import Layer, Result, layers
from layerhub.spec.losses import losses
from layerhub.spec.metrics import metrics
from layerhub.spec.optimizers import optimizers
from layerhub.spec.regularizers import regularizers
from layerhub.spec.schedules import schedules

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (layers, activations, initializers, regularizers, constraints, losses, optimizers, schedules, metrics)
}


def collect(module: ModuleType, plugin: str = "layerhub") -> list[type[Spec]]:
    """Register every spec class that a module defines, and return them; not those with a private name."""
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Spec)
        and not value.abstract
        and not value.__name__.startswith("_")
        and value.__module__ == module.__name__
    ]
    for spec in found:
        spec.kind.add(spec, plugin)
    return found


for _family in sorted(info.name for info in pkgutil.iter_modules(__path__)):
    collect(import_module(f"{__name__}.{_family}"))

__all__ = ["KINDS", "Kind", "Layer", "Result", "Spec", "collect"]
