"""Learning-rate schedules by name, those of plugins included."""

from layerhub.spec.base import serialize
from layerhub.spec.schedules import *  # noqa: F403
from layerhub.spec.schedules import LearningRateSchedule
from layerhub.spec.schedules import schedules as _kind
from layerhub.tables import table

get = deserialize = _kind.get

__getattr__, __dir__ = table("schedule")

__all__ = ["LearningRateSchedule", "deserialize", "get", "serialize"]
