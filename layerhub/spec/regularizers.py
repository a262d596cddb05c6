"""Regularizers: penalties that a weight or an output adds to the loss."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from layerhub.spec.base import Kind, ValueSpec
from layerhub.spec.domains import NonNegative

regularizers = Kind("regularizer")

RegularizerLike = Annotated[Any, regularizers.domain(valid=("l2",))]


class Regularizer(ValueSpec, abstract=True):
    """A penalty: a scalar function of one array."""

    kind = regularizers

    def define(self, xp: Any, x: Any) -> Any:
        """The penalty of ``x``, a scalar."""
        raise NotImplementedError


class L1(Regularizer):
    """l1 * sum |x|"""

    l1: NonNegative = 0.01

    def define(self, xp: Any, x: Any) -> Any:
        return self.l1 * xp.sum(xp.abs(x))


class L2(Regularizer):
    """l2 * sum x**2 (no half)"""

    l2: NonNegative = 0.01

    def define(self, xp: Any, x: Any) -> Any:
        return self.l2 * xp.sum(x * x)


class L1L2(Regularizer):
    """l1 * sum |x| + l2 * sum x**2"""

    l1: NonNegative = 0.0
    l2: NonNegative = 0.0

    def define(self, xp: Any, x: Any) -> Any:
        return L1(self.l1).define(xp, x) + L2(self.l2).define(xp, x)


class OrthogonalRegularizer(Regularizer):
    """factor * mean |cosine| of all pairs of rows (or columns) of a matrix.

    Source: Brock et al. 2017, arXiv:1609.07093.
    """

    factor: NonNegative = 0.01
    mode: Literal["rows", "columns"] = "rows"

    def define(self, xp: Any, x: Any) -> Any:
        if self.mode == "columns":
            x = xp.permute_dims(x, (1, 0))
        unit = x / xp.sqrt(xp.maximum(xp.sum(x * x, axis=1, keepdims=True), xp.full_like(x[:, :1], 1e-12)))
        size = x.shape[0]
        products = xp.abs(xp.matmul(unit, xp.permute_dims(unit, (1, 0)))) * (1 - xp.eye(size, dtype=x.dtype))
        return self.factor * 0.5 * xp.sum(products) / (size * (size - 1) / 2)
