"""Optimizers by name, those of plugins included."""

from layerhub.optimizers import schedules as schedules
from layerhub.spec.base import serialize
from layerhub.spec.optimizers import *  # noqa: F403
from layerhub.spec.optimizers import BaseOptimizer, Optimizer, OptimizerMap
from layerhub.spec.optimizers import optimizers as _kind
from layerhub.tables import table

get = deserialize = _kind.get

__getattr__, __dir__ = table("optimizer")

__all__ = ["BaseOptimizer", "Optimizer", "OptimizerMap", "deserialize", "get", "schedules", "serialize"]
