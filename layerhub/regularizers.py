"""Regularizers by name, those of plugins included."""

from layerhub.spec.base import serialize
from layerhub.spec.regularizers import *  # noqa: F403
from layerhub.spec.regularizers import Regularizer
from layerhub.spec.regularizers import regularizers as _kind
from layerhub.tables import table

get = deserialize = _kind.get

__getattr__, __dir__ = table("regularizer")

__all__ = ["Regularizer", "deserialize", "get", "serialize"]
