"""Convolutions: sums over a window of an image, weighted by a kernel.

Source for the arithmetic of sizes: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016,
arXiv:1603.07285. All are cross-correlations: the kernel is not flipped.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal

from layerhub.spec.activations import ActivationLike
from layerhub.spec.base import rule
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.domains import DataFormat, Size, Window
from layerhub.spec.initializers import InitializerLike
from layerhub.spec.layer import Activated, In, Out, Weight
from layerhub.spec.masks import stops
from layerhub.spec.regularizers import RegularizerLike
from layerhub.spec.windows import Windowed


class Kernelled(Windowed, Activated, abstract=True):
    """A window whose cells are weighted by a kernel."""

    @property
    def window(self) -> tuple[int, ...]:
        return self.kernel_size

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.dilation_rate


class Conv(Kernelled, abstract=True):
    """y[n, p, f] = sum over taps t, channels c of x[n, p * strides + t * dilation_rate, c] * kernel[t, c, f] + bias[f].

    groups: input channels and filters are split into as many contiguous groups; each group sees only its own.
    """

    filters: Size
    kernel_size: Window
    strides: Window = 1
    padding: Literal["valid", "same"] = "valid"
    data_format: DataFormat = None
    dilation_rate: Window = 1
    groups: Size = 1
    activation: ActivationLike = "linear"
    use_bias: bool = True
    kernel_initializer: InitializerLike = "glorot_uniform"
    bias_initializer: InitializerLike = "zeros"
    kernel_regularizer: RegularizerLike | None = None
    bias_regularizer: RegularizerLike | None = None
    activity_regularizer: RegularizerLike | None = None
    kernel_constraint: ConstraintLike | None = None
    bias_constraint: ConstraintLike | None = None

    x = In("n *space c")
    kernel = Weight("*kernel_size c/groups filters")
    bias = Weight("filters")
    y = Out("n *places filters")
    mask = stops

    @rule
    def c2_strides_and_dilation_exclude_each_other(self, strides, dilation_rate):
        return max(strides) == 1 or max(dilation_rate) == 1

    @rule
    def c3_groups_divide_the_filters(self, filters, groups):
        return filters % groups == 0

    @rule
    def c4_groups_divide_the_channels(self, c, groups):
        return c % groups == 0

    def define(self, xp, x, kernel, bias):
        x = self.channels_last(xp, x)
        space = x.shape[1:-1]
        y = 0
        for tap, seen in self.taps(self.padded(xp, x), space):
            y = y + self._grouped(xp, seen, kernel[(*tap, ...)])
        return self.as_declared(xp, y if bias is None else y + bias)

    def _grouped(self, xp, seen, weights):
        """The product of (…, c) and (c/groups, filters), each group of channels with its own filters."""
        g = self.groups
        if g == 1:
            return xp.matmul(seen, weights)
        share, filters = weights.shape
        rows = xp.reshape(seen, (-1, g, share))
        y = xp.einsum("ngc,cgf->ngf", rows, xp.reshape(weights, (share, g, filters // g)))
        return xp.reshape(y, (-1, *seen.shape[1:-1], filters))


class Conv2D(Conv):
    """Convolution of images."""

    rank = 2
    aliases = ("Convolution2D",)


class DepthwiseConv(Kernelled, abstract=True):
    """Each channel by kernels of its own: y[n, p, c * m + j] = sum over taps t of x[n, …, c] * kernel[t, c, j] + bias.

    depth_multiplier: m, how many outputs each channel has.
    Source: Sifre, Rigid-motion scattering for image classification, 2014, section 6.2.
    """

    kernel_size: Window
    strides: Window = 1
    padding: Literal["valid", "same"] = "valid"
    depth_multiplier: Size = 1
    data_format: DataFormat = None
    dilation_rate: Window = 1
    activation: ActivationLike = "linear"
    use_bias: bool = True
    depthwise_initializer: InitializerLike = "glorot_uniform"
    bias_initializer: InitializerLike = "zeros"
    depthwise_regularizer: RegularizerLike | None = None
    bias_regularizer: RegularizerLike | None = None
    activity_regularizer: RegularizerLike | None = None
    depthwise_constraint: ConstraintLike | None = None
    bias_constraint: ConstraintLike | None = None

    x = In("n *space c")
    kernel = Weight("*kernel_size c depth_multiplier", role="depthwise")
    bias = Weight("c*depth_multiplier")
    y = Out("n *places c*depth_multiplier")
    mask = stops

    def define(self, xp, x, kernel, bias):
        x = self.channels_last(xp, x)
        space = x.shape[1:-1]
        y: Any = 0
        for tap, seen in self.taps(self.padded(xp, x), space):
            y = y + xp.expand_dims(seen, axis=-1) * kernel[(*tap, ...)]
        y = xp.reshape(y, (-1, *y.shape[1:-2], y.shape[-2] * y.shape[-1]))
        return self.as_declared(xp, y if bias is None else y + bias)


class DepthwiseConv2D(DepthwiseConv):
    """Depthwise convolution of images."""

    rank = 2


class SeparableConv(Kernelled, abstract=True):
    """A depthwise convolution, then a pointwise one that mixes the channels; one bias and activation, at the end.

    Source: Chollet, Xception: deep learning with depthwise separable convolutions, 2017, arXiv:1610.02357.
    """

    filters: Size
    kernel_size: Window
    strides: Window = 1
    padding: Literal["valid", "same"] = "valid"
    data_format: DataFormat = None
    dilation_rate: Window = 1
    depth_multiplier: Size = 1
    activation: ActivationLike = "linear"
    use_bias: bool = True
    depthwise_initializer: InitializerLike = "glorot_uniform"
    pointwise_initializer: InitializerLike = "glorot_uniform"
    bias_initializer: InitializerLike = "zeros"
    depthwise_regularizer: RegularizerLike | None = None
    pointwise_regularizer: RegularizerLike | None = None
    bias_regularizer: RegularizerLike | None = None
    activity_regularizer: RegularizerLike | None = None
    depthwise_constraint: ConstraintLike | None = None
    pointwise_constraint: ConstraintLike | None = None
    bias_constraint: ConstraintLike | None = None

    x = In("n *space c")
    depthwise_kernel = Weight("*kernel_size c depth_multiplier", role="depthwise")
    pointwise_kernel = Weight("*ones c*depth_multiplier filters", role="pointwise")
    bias = Weight("filters")

    depthwise: ClassVar[type[DepthwiseConv]]
    pointwise: ClassVar[type[Conv]]

    @property
    def ones(self) -> tuple[int, ...]:
        return (1,) * len(self.kernel_size)

    @cached_property
    def first(self) -> DepthwiseConv:
        """The depthwise part."""
        shared = ("kernel_size", "strides", "padding", "data_format", "dilation_rate", "depth_multiplier")
        return self.depthwise(
            **{name: getattr(self, name) for name in shared}, use_bias=False, dtype=self.compute_dtype
        )

    @cached_property
    def second(self) -> Conv:
        """The pointwise part."""
        shared = ("filters", "data_format", "use_bias")
        return self.pointwise(**{name: getattr(self, name) for name in shared}, kernel_size=1, dtype=self.compute_dtype)

    def compose(self, do, x, depthwise_kernel, pointwise_kernel, bias):
        return do(self.second, do(self.first, x, depthwise_kernel, None), pointwise_kernel, bias)


class SeparableConv2D(SeparableConv):
    """Depthwise separable convolution of images."""

    rank = 2
    aliases = ("SeparableConvolution2D",)
    depthwise = DepthwiseConv2D
    pointwise = Conv2D
