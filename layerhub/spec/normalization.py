"""Normalization: bring activations to a common mean and variance, or to a common length."""

from __future__ import annotations

import operator
from typing import Annotated, Any, ClassVar

from layerhub.spec.base import axis as derived
from layerhub.spec.base import rule
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.domains import Axis, Domain, Positive, Share
from layerhub.spec.halves import as_type, in_single
from layerhub.spec.initializers import InitializerLike
from layerhub.spec.layer import In, Layer, Out, Result, Weight
from layerhub.spec.masks import passes, sizes, widened
from layerhub.spec.regularizers import RegularizerLike

MASKED_EPSILON = 1e-7
"""Keeps the moments of a batch finite when its mask leaves nothing."""


def standardized(xp: Any, x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    """(x - mean) / sqrt(variance + epsilon) with the (biased) moments over some axes, taken in two passes."""
    away = x - xp.mean(x, axis=axes, keepdims=True)
    return away / xp.sqrt(xp.mean(away * away, axis=axes, keepdims=True) + epsilon)


def affine(xp: Any, x: Any, gamma: Any, beta: Any, spread: tuple[int, ...]) -> Any:
    """x * gamma + beta, as far as there are such weights. spread: the shape in which they broadcast over x."""
    if gamma is not None:
        x = x * xp.reshape(gamma, spread)
    if beta is not None:
        x = x + xp.reshape(beta, spread)
    return x


def unit(xp: Any, x: Any, axis: int | tuple[int, ...], epsilon: float) -> Any:
    """x / max(norm, epsilon), the Euclidean norm along an axis or several; of zeros zero, and so is the gradient."""
    (wide,) = in_single(xp, x)
    square = xp.sum(wide * wide, axis=axis, keepdims=True)
    norm = xp.sqrt(xp.where(square <= epsilon**2, xp.full_like(square, epsilon**2), square))
    some = xp.any(wide != 0, axis=axis, keepdims=True)
    return as_type(xp, xp.where(some, wide / norm, xp.zeros_like(wide)), x.dtype)


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

    @rule
    def c2_the_axis_is_not_the_batch(self, axis, shapes):
        return axis % len(shapes[0]) != 0

    @derived
    def channels(self, shapes):
        return shapes[0][self.axis]

    def define(self, xp, x, gamma, beta, moving_mean, moving_variance, training, mask):
        spread = self.spread(x.ndim)
        wide, gamma, beta, *moving = in_single(xp, x, gamma, beta, moving_mean, moving_variance)
        updated = {}
        if training:
            mean, variance = self.moments(xp, wide, mask)
            updated = {
                "moving_mean": as_type(xp, self._moved(xp, moving[0], mean), moving_mean.dtype),
                "moving_variance": as_type(xp, self._moved(xp, moving[1], variance), moving_variance.dtype),
            }
        else:
            mean, variance = (xp.reshape(moment, spread) for moment in moving)
        y = affine(xp, (wide - mean) / xp.sqrt(variance + self.epsilon), gamma, beta, spread)
        return Result(as_type(xp, y, x.dtype), updated)

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


class AlongAxes(Layer, abstract=True):
    """A normalization along its parameter ``axis``: one axis or several."""

    x = In("...")
    y = Out("...")
    mask = passes

    @rule
    def c1_the_axes_must_exist(self, axis, shapes):
        return all(-len(shapes[0]) <= i < len(shapes[0]) for i in ((axis,) if isinstance(axis, int) else axis))

    @rule
    def c2_no_axis_is_named_twice(self, axis, shapes):
        return len(set(self.axes(len(shapes[0])))) == (1 if isinstance(axis, int) else len(axis))

    @derived
    def normalized(self, shapes):
        """The sizes of the axes, which are those of the weights."""
        return tuple(shapes[0][i] for i in self.axes(len(shapes[0])))

    def axes(self, ndim: int) -> tuple[int, ...]:
        """The axes, counted from the front, in ascending order."""
        return tuple(sorted(i % ndim for i in ((self.axis,) if isinstance(self.axis, int) else self.axis)))

    def spread(self, x: Any) -> tuple[int, ...]:
        """The shape in which the weights broadcast over the input."""
        axes = self.axes(x.ndim)
        return tuple(x.shape[i] if i in axes else 1 for i in range(x.ndim))


class LayerNormalization(AlongAxes):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, each sample by itself.

    Mean and (biased) variance are those along ``axis``, for each index of all other axes; gamma and beta have the sizes
    of these axes.
    Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """

    keras_only = {"rms_scaling": False}

    axis: Axis = -1
    epsilon: Positive = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: InitializerLike = "zeros"
    gamma_initializer: InitializerLike = "ones"
    beta_regularizer: RegularizerLike | None = None
    gamma_regularizer: RegularizerLike | None = None
    beta_constraint: ConstraintLike | None = None
    gamma_constraint: ConstraintLike | None = None

    gamma = Weight("*normalized", when="scale")
    beta = Weight("*normalized", when="center")

    def define(self, xp, x, gamma, beta):
        wide, gamma, beta = in_single(xp, x, gamma, beta)
        y = standardized(xp, wide, self.axes(x.ndim), self.epsilon)
        return as_type(xp, affine(xp, y, gamma, beta, self.spread(x)), x.dtype)


class RMSNormalization(AlongAxes):
    """x / sqrt(mean(x**2) + epsilon) * scale, the mean along ``axis``.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    axis: Axis = -1
    epsilon: Positive = 1e-6
    scale_initializer: ClassVar[str] = "ones"

    scale = Weight("*normalized")

    def define(self, xp, x, scale):
        wide, scale = in_single(xp, x, scale)
        power = xp.mean(wide * wide, axis=self.axes(x.ndim), keepdims=True)
        return as_type(xp, affine(xp, wide / xp.sqrt(power + self.epsilon), scale, None, self.spread(x)), x.dtype)


UNIT_EPSILON = 1e-12
"""The smallest norm that is divided by."""


class UnitNormalization(AlongAxes):
    """x / max(norm, 1e-12), the Euclidean norm along ``axis``; zeros stay zeros, with gradient 0."""

    axis: Axis = -1

    def define(self, xp, x):
        return unit(xp, x, self.axes(x.ndim), UNIT_EPSILON)


def _accept_groups(value: Any, owner: Any) -> int:
    if isinstance(value, bool) or not (value == -1 or operator.index(value) > 0):
        raise ValueError
    return operator.index(value)


class GroupNormalization(Layer):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, for each sample and each group of neighbouring channels.

    Mean and (biased) variance are over the channels of a group and all other axes but the batch; gamma and beta have a
    value for each channel.

    groups: how many; -1: each channel is a group of its own (instance normalization).
    axis: that of the channels.
    Source: Wu & He 2018, arXiv:1803.08494.
    """

    groups: Annotated[
        int,
        Domain(
            "a positive int, or -1 for as many as there are channels",
            _accept_groups,
            valid=(2, 1, -1),
            invalid=(0, -2, 1.5, "a"),
            schema={"type": "integer", "minimum": -1},
        ),
    ] = 32
    axis: int = -1
    epsilon: Positive = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: InitializerLike = "zeros"
    gamma_initializer: InitializerLike = "ones"
    beta_regularizer: RegularizerLike | None = None
    gamma_regularizer: RegularizerLike | None = None
    beta_constraint: ConstraintLike | None = None
    gamma_constraint: ConstraintLike | None = None

    x = In("...")
    gamma = Weight("channels", when="scale")
    beta = Weight("channels", when="center")
    y = Out("...")
    mask = passes

    @rule
    def c1_the_axis_must_exist(self, axis, shapes):
        return -len(shapes[0]) <= axis < len(shapes[0])

    @rule
    def c2_the_axis_is_not_the_batch(self, axis, shapes):
        return axis % len(shapes[0]) != 0

    @rule
    def c3_the_groups_have_as_many_channels_each(self, groups, channels):
        return groups == -1 or channels % groups == 0

    @derived
    def channels(self, shapes):
        return shapes[0][self.axis]

    def define(self, xp, x, gamma, beta):
        wide, gamma, beta = in_single(xp, x, gamma, beta)
        whole, at = sizes(xp, x), self.axis % x.ndim
        groups, channels = self.group_sizes(x.shape[at])
        grouped = xp.reshape(wide, (*whole[:at], groups, channels, *whole[at + 1 :]))
        y = standardized(xp, grouped, tuple(i for i in range(1, x.ndim + 1) if i != at), self.epsilon)
        return as_type(xp, affine(xp, xp.reshape(y, whole), gamma, beta, self.spread(x.ndim)), x.dtype)

    def spread(self, ndim: int) -> tuple[int, ...]:
        """The shape in which the weights broadcast over the input."""
        return tuple(-1 if i == self.axis % ndim else 1 for i in range(ndim))

    def group_sizes(self, channels: int) -> tuple[int, int]:
        """How many groups there are, and how many channels each has."""
        return (channels, 1) if self.groups == -1 else (self.groups, channels // self.groups)
