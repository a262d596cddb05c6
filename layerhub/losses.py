"""Losses by name, those of plugins included.

``lh.losses.MeanSquaredError()(y_true, y_pred)`` gives the reduced loss of arrays of any backend;
``lh.losses.mean_squared_error(y_true, y_pred)`` the value for each sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from layerhub import native
from layerhub.execution import bound_loss
from layerhub.registry import registry
from layerhub.spec.base import serialize
from layerhub.spec.losses import *  # noqa: F403
from layerhub.spec.losses import Loss, reduced
from layerhub.spec.losses import losses as _kind
from layerhub.tables import table

get = deserialize = _kind.get


def _evaluate(loss: Loss, y_true: Any, y_pred: Any, sample_weight: Any, mask: Any) -> Any:
    """What ``Loss.__call__`` gives."""
    home = native.Home.of(y_pred)
    y_pred = home.array(y_pred, loss.compute_dtype(home.float_type(y_pred)))
    y_true = native.targets(loss, home, y_true, y_pred, "int64" if loss.integer_targets else home.dtype(y_pred))
    own = loss.counts(home.xp, y_true)
    values = _values(loss, home, y_true, y_pred)
    dtype = home.dtype(values)
    weights = None if sample_weight is None else home.array(sample_weight, dtype)
    mask = None if mask is None else home.array(mask, "bool")
    counts = native.both(home.xp, own, mask)
    return reduced(home.xp, loss.reduction, values, counts, weights)


def _values(loss: Loss, home: native.Home, y_true: Any, y_pred: Any) -> Any:
    if home.recorded or home.backend is None:
        return loss.define(home.xp, y_true, y_pred)
    return bound_loss(registry(), home.backend, loss, recording=False)(y_true, y_pred)


Loss.runtime = staticmethod(_evaluate)


def _as_function(spec: type[Loss]) -> Callable[..., Any]:
    def values(y_true: Any, y_pred: Any, *args: Any, **parameters: Any) -> Any:
        return spec(*args, **parameters, reduction="none")(y_true, y_pred)

    values.__name__ = values.__qualname__ = spec.__name__
    values.__doc__ = f"The values of {spec.__name__}, one for each sample: {spec.__doc__}"
    return values


__getattr__, __dir__ = table("loss", function=_as_function)

__all__ = ["Loss", "deserialize", "get", "serialize"]
