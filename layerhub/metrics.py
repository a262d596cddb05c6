"""Metrics by name, those of plugins included."""

from layerhub.spec.base import serialize
from layerhub.spec.metrics import *  # noqa: F403
from layerhub.spec.metrics import Metric
from layerhub.spec.metrics import metrics as _kind
from layerhub.tables import table

get = deserialize = _kind.get

__getattr__, __dir__ = table("metric")

__all__ = ["Metric", "deserialize", "get", "serialize"]
