"""Constraints by name, those of plugins included."""

from layerhub.spec.base import serialize
from layerhub.spec.constraints import *  # noqa: F403
from layerhub.spec.constraints import Constraint
from layerhub.spec.constraints import constraints as _kind
from layerhub.tables import table

get = deserialize = _kind.get

__getattr__, __dir__ = table("constraint")

__all__ = ["Constraint", "deserialize", "get", "serialize"]
