"""Constraints: what a weight is brought back to after each update."""

from __future__ import annotations

from typing import Annotated, Any

from layerhub.spec.base import Kind, ValueSpec
from layerhub.spec.domains import Axis, NonNegative, Rate

constraints = Kind("constraint")

ConstraintLike = Annotated[Any, constraints.domain(valid=("non_neg",))]

EPSILON = 1e-7


class Constraint(ValueSpec, abstract=True):
    """A function from a weight to the nearest one that is allowed."""

    kind = constraints

    def define(self, xp: Any, w: Any) -> Any:
        """The allowed weight for ``w``."""
        raise NotImplementedError


def _norm(xp: Any, w: Any, axis: Any) -> Any:
    return xp.sqrt(xp.sum(w * w, axis=axis, keepdims=True))


def _clip(xp: Any, x: Any, low: float, high: float) -> Any:
    x = xp.where(x > low, x, xp.full_like(x, low))
    return xp.where(x < high, x, xp.full_like(x, high))


class MaxNorm(Constraint):
    """Norms along ``axis`` are at most ``max_value``. Source: Srivastava et al., JMLR 15 (2014) 1929."""

    max_value: NonNegative = 2.0
    axis: Axis = 0

    def define(self, xp: Any, w: Any) -> Any:
        norm = _norm(xp, w, self.axis)
        return w * (_clip(xp, norm, 0.0, self.max_value) / (EPSILON + norm))


class NonNeg(Constraint):
    """Negative values become 0."""

    def define(self, xp: Any, w: Any) -> Any:
        return xp.where(w > 0, w, xp.zeros_like(w))


class UnitNorm(Constraint):
    """Norms along ``axis`` are 1."""

    axis: Axis = 0

    def define(self, xp: Any, w: Any) -> Any:
        return w / (EPSILON + _norm(xp, w, self.axis))


class MinMaxNorm(Constraint):
    """Norms along ``axis`` are moved by ``rate`` of the way into [min_value, max_value]."""

    min_value: NonNegative = 0.0
    max_value: NonNegative = 1.0
    rate: Rate = 1.0
    axis: Axis = 0

    def define(self, xp: Any, w: Any) -> Any:
        norm = _norm(xp, w, self.axis)
        wanted = self.rate * _clip(xp, norm, self.min_value, self.max_value) + (1 - self.rate) * norm
        return w * (wanted / (EPSILON + norm))
