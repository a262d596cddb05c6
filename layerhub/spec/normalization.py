"""Normalization: bring activations to a common mean and variance."""

from __future__ import annotations

from typing import Any

from layerhub.spec.base import axis as derived
from layerhub.spec.base import rule
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.domains import Positive, Share
from layerhub.spec.initializers import InitializerLike
from layerhub.spec.layer import In, Layer, Out, Result, Weight
from layerhub.spec.masks import passes, sizes, widened
from layerhub.spec.regularizers import RegularizerLike

MASKED_EPSILON = 1e-7
"""Keeps the moments of a batch finite when its mask leaves nothing."""


class BatchNormalization(Layer):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, for each index along ``axis``.

    In training, mean and (biased) variance are those of the batch, over all other axes and over unmasked steps only;
    the moving ones become momentum * moving + (1 - momentum) * batch. Else the moving ones are used. With
    trainable=False a call never counts as training.

    momentum: the share of the moving moments that is kept at each step (not the share that is replaced).
    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """

    keras_only = {"synchronized": False, "renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99}

    axis: int = -1
    momentum: Share = 0.99
    epsilon: Positive = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: InitializerLike = "zeros"
    gamma_initializer: InitializerLike = "ones"
    moving_mean_initializer: InitializerLike = "zeros"
    moving_variance_initializer: InitializerLike = "ones"
    beta_regularizer: RegularizerLike | None = None
    gamma_regularizer: RegularizerLike | None = None
    beta_constraint: ConstraintLike | None = None
    gamma_constraint: ConstraintLike | None = None

    x = In("...")
    gamma = Weight("channels", when="scale")
    beta = Weight("channels", when="center")
    moving_mean = Weight("channels", trainable=False)
    moving_variance = Weight("channels", trainable=False)
    y = Out("...")
    mask = passes

    @rule
    def c1_the_axis_must_exist(self, axis, shapes):
        return -len(shapes[0]) <= axis < len(shapes[0])

    @derived
    def channels(self, shapes):
        return shapes[0][self.axis]

    def define(self, xp, x, gamma, beta, moving_mean, moving_variance, training, mask):
        spread = self.spread(x.ndim)
        updated = {}
        if training:
            mean, variance = self.moments(xp, x, mask)
            updated = {
                "moving_mean": self._moved(xp, moving_mean, mean),
                "moving_variance": self._moved(xp, moving_variance, variance),
            }
        else:
            mean, variance = xp.reshape(moving_mean, spread), xp.reshape(moving_variance, spread)
        y = (x - mean) / xp.sqrt(variance + self.epsilon)
        if gamma is not None:
            y = y * xp.reshape(gamma, spread)
        if beta is not None:
            y = y + xp.reshape(beta, spread)
        return Result(y, updated)

    def spread(self, ndim: int) -> tuple[int, ...]:
        """The shape in which the weights broadcast over the input."""
        return tuple(-1 if i == self.axis % ndim else 1 for i in range(ndim))

    def moments(self, xp: Any, x: Any, mask: Any) -> tuple[Any, Any]:
        """Mean and biased variance over all axes but ``axis``, in two passes; axes kept."""
        others = tuple(i for i in range(x.ndim) if i != self.axis % x.ndim)
        if mask is None:
            mean = xp.mean(x, axis=others, keepdims=True)
            away = x - mean
            return mean, xp.mean(away * away, axis=others, keepdims=True)
        counts = xp.astype(xp.broadcast_to(widened(xp, mask, x.ndim), sizes(xp, x)), x.dtype)
        total = xp.sum(counts, axis=others, keepdims=True) + MASKED_EPSILON
        mean = xp.sum(x * counts, axis=others, keepdims=True) / total
        away = x - mean
        return mean, xp.sum(away * away * counts, axis=others, keepdims=True) / total

    def _moved(self, xp: Any, moving: Any, batch: Any) -> Any:
        return self.momentum * moving + (1 - self.momentum) * xp.reshape(xp.stop_gradient(batch), (-1,))
