"""Metrics by name, those of plugins included.

    m = lh.metrics.Precision()
    m.update_state(y_true, y_pred, sample_weight)      # arrays of any backend
    m.result(), m.reset_state()

``lh.metrics.binary_accuracy(y_true, y_pred)`` gives the values that a metric averages.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from layerhub import native
from layerhub.spec.base import serialize
from layerhub.spec.metrics import Metric, Runtime
from layerhub.spec.metrics import metrics as _kind
from layerhub.tables import table

get = deserialize = _kind.get


class Gathering(Runtime):
    """Keeps the state of each metric as long as there is the metric. Equal metrics have states of their own."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[native.Home, tuple[Any, ...]]] = {}

    def update(self, metric: Metric, y_true: Any, y_pred: Any, sample_weight: Any) -> None:
        home = native.Home.of(y_pred)
        dtype = metric.compute_dtype(home.float_type(y_pred))
        y_true, y_pred = _arrays(metric, home, y_true, y_pred, dtype)
        weights = None if sample_weight is None else home.array(sample_weight, dtype)
        if id(metric) not in self.held:
            weakref.finalize(metric, self.held.pop, id(metric), None)
            state: Any = [np.zeros(shape) for shape in metric.shapes(tuple(y_pred.shape))]
        else:
            before, state = self.held[id(metric)]
            # What was gathered on another backend comes over by way of the host.
            state = state if before.backend is home.backend else [before.numpy(x) for x in state]
        state = tuple(home.array(x, dtype) for x in state)
        self.held[id(metric)] = home, metric.define(home.xp, state, y_true, y_pred, weights)

    def result(self, metric: Metric) -> Any:
        if id(metric) not in self.held:
            home = native.Home.of(0.0)
            return metric.figure(home.xp, tuple(np.zeros(shape) for shape in metric.shapes((1, 1))))
        home, state = self.held[id(metric)]
        return metric.figure(home.xp, state)

    def reset(self, metric: Metric) -> None:
        if id(metric) in self.held:
            home, state = self.held[id(metric)]
            self.held[id(metric)] = home, tuple(home.xp.zeros_like(x) for x in state)


Metric.runtime = Gathering()


def _arrays(metric: Metric, home: native.Home, y_true: Any, y_pred: Any, dtype: str) -> tuple[Any, Any]:
    y_pred = home.array(y_pred, dtype)
    if y_true is None:
        return None, y_pred
    return native.targets(metric, home, y_true, y_pred, "int64" if metric.integer_targets else dtype), y_pred


def _as_function(spec: type[Metric]) -> Callable[..., Any]:
    def values(y_true: Any, y_pred: Any, *args: Any, **parameters: Any) -> Any:
        metric, home = spec(*args, **parameters), native.Home.of(y_pred)
        dtype = metric.compute_dtype(home.float_type(y_pred))
        return metric.values(home.xp, *_arrays(metric, home, y_true, y_pred, dtype))

    values.__name__ = values.__qualname__ = spec.__name__
    values.__doc__ = f"The values of {spec.__name__}, one for each sample or element: {spec.__doc__}"
    return values


__getattr__, __dir__ = table("metric", function=_as_function)

__all__ = ["Metric", "deserialize", "get", "serialize"]
