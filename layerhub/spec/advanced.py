"""Activations as layers of their own, with parameters or weights ("advanced activations")."""

from __future__ import annotations

from typing import Annotated, Any

from layerhub.spec.activations import Activation, elu, leaky_relu, relu, softmax
from layerhub.spec.base import axis, rule
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.domains import Axis, Domain, NonNegative
from layerhub.spec.halves import as_type, in_single
from layerhub.spec.initializers import InitializerLike
from layerhub.spec.layer import In, Layer, Out, Weight
from layerhub.spec.masks import passes, sizes, widened
from layerhub.spec.regularizers import RegularizerLike


class Elementwise(Layer, abstract=True):
    """An activation of each element: the definition hands its input on, and the activation follows as a step."""

    x = In("...")
    y = Out("...")
    mask = passes

    def define(self, xp, x):
        return x


class ReLU(Elementwise):
    """min(x, max_value) where x > threshold, else negative_slope * (x - threshold). Source: see ``relu``."""

    max_value: NonNegative | None = None
    negative_slope: NonNegative = 0.0
    threshold: NonNegative = 0.0

    @property
    def trailing(self) -> Activation:
        return relu(self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Elementwise):
    """x where x > 0, else negative_slope * x. Source: Maas et al., ICML 2013."""

    formerly = {"alpha": "negative_slope"}

    negative_slope: NonNegative = 0.3

    @property
    def trailing(self) -> Activation:
        return leaky_relu(self.negative_slope)


class ELU(Elementwise):
    """x where x > 0, else alpha * (exp(x) - 1). Source: Clevert et al. 2016, arXiv:1511.07289."""

    alpha: float = 1.0

    @property
    def trailing(self) -> Activation:
        return elu(self.alpha)


class ThresholdedReLU(Elementwise):
    """x where x > theta, else 0. Source: Konda et al. 2015, arXiv:1402.3337."""

    theta: NonNegative = 1.0

    @property
    def trailing(self) -> Activation:
        return relu(threshold=self.theta)


def _accept_shared(value: Any, owner: Any) -> tuple[int, ...]:
    axes = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(i, bool) or not isinstance(i, int) or i < 1 for i in axes):
        raise ValueError
    return axes


class PReLU(Layer):
    """x where x > 0, else alpha * x, with an alpha to be learnt for each element of a sample.

    shared_axes: along these (counted from 1, the batch being 0) there is one alpha for all; for images with the
    channels last, (1, 2) leaves one for each channel.
    Source: He et al. 2015, arXiv:1502.01852.
    """

    alpha_initializer: InitializerLike = "zeros"
    alpha_regularizer: RegularizerLike | None = None
    alpha_constraint: ConstraintLike | None = None
    shared_axes: (
        Annotated[
            tuple[int, ...],
            Domain(
                "an axis after the batch, counted from 1, or several",
                _accept_shared,
                encode=list,
                valid=((1,), (2,), (1, 2), (2, 3)),
                invalid=(0, (0, 1), "a", 1.5),
                schema={"type": "array", "items": {"type": "integer", "minimum": 1}},
            ),
        ]
        | None
    ) = None

    x = In("n ...")
    alpha = Weight("*slopes")
    y = Out("n ...")
    mask = passes

    @rule
    def c1_the_shared_axes_must_exist(self, shared_axes, shapes):
        return max(shared_axes, default=0) < len(shapes[0])

    @axis
    def slopes(self, shapes):
        """The sizes of alpha."""
        return tuple(1 if i in (self.shared_axes or ()) else size for i, size in enumerate(shapes[0][1:], start=1))

    def define(self, xp, x, alpha):
        below = xp.where(x > 0, xp.zeros_like(x), x)
        return xp.where(x > 0, x, alpha * below)


LOWEST = -(2.0**100)
"""Below every logit that counts, and far enough from the end of float32 that differences do not overflow."""


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along ``axis``.

    A mask, of the input's shape or of its first axes, leaves elements out: they become 0 and do not count for the
    sum. Where all are left out, all are 0.
    """

    axis: Axis = -1

    x = In("...")
    y = Out("...")
    mask = passes

    @rule
    def c1_the_axes_must_exist(self, axis, shapes):
        return all(-len(shapes[0]) <= i < len(shapes[0]) for i in ((axis,) if isinstance(axis, int) else axis))

    def define(self, xp, x, mask):
        if mask is None:
            return softmax(self.axis)(xp, x)
        (wide,) = in_single(xp, x)
        valid, zeros = widened(xp, mask, x.ndim), xp.zeros_like(wide)
        top = xp.max(xp.where(valid, wide, xp.full_like(wide, LOWEST)), axis=self.axis, keepdims=True)
        centred = xp.where(valid, wide - xp.stop_gradient(top), zeros)
        odds = xp.where(valid, xp.exp(centred), zeros)
        total = xp.sum(odds, axis=self.axis, keepdims=True)
        some = xp.any(xp.broadcast_to(valid, sizes(xp, x)), axis=self.axis, keepdims=True)
        return as_type(xp, odds / xp.where(some, total, xp.ones_like(total)), x.dtype)
