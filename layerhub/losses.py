"""Losses by name, those of plugins included."""

from layerhub.spec.base import serialize
from layerhub.spec.losses import *  # noqa: F403
from layerhub.spec.losses import Loss
from layerhub.spec.losses import losses as _kind
from layerhub.tables import table

get = deserialize = _kind.get

__getattr__, __dir__ = table("loss")

__all__ = ["Loss", "deserialize", "get", "serialize"]
