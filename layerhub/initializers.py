"""Initializers by name, those of plugins included."""

from layerhub.spec.base import serialize
from layerhub.spec.initializers import *  # noqa: F403
from layerhub.spec.initializers import Initializer
from layerhub.spec.initializers import initializers as _kind
from layerhub.tables import table

get = deserialize = _kind.get

__getattr__, __dir__ = table("initializer")

__all__ = ["Initializer", "deserialize", "get", "serialize"]
