"""Convolutions: sums over a window of an image, weighted by a kernel.

Source for the arithmetic of sizes: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016,
arXiv:1603.07285. All are cross-correlations: the kernel is not flipped.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from layerhub.spec.activations import ActivationLike
from layerhub.spec.base import axis, rule
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.domains import DataFormat, Domain, Margin, Size, Window, one_of
from layerhub.spec.initializers import InitializerLike
from layerhub.spec.layer import Activated, In, Out, Weight
from layerhub.spec.masks import stops
from layerhub.spec.regularizers import RegularizerLike
from layerhub.spec.spellings import CONVOLUTION, warn
from layerhub.spec.weighted import Affine
from layerhub.spec.windows import Spatial, Windowed, slid, spread


def _accept_padding(value: Any, owner: Any) -> str:
    choices = ("valid", "same", "causal") if owner.rank == 1 else ("valid", "same")
    return one_of(*choices).accept(value, owner)


ConvPadding = Annotated[
    str,
    Domain(
        "one of 'valid', 'same', in one dimension also 'causal'",
        _accept_padding,
        valid=("valid", "same", "causal"),
        invalid=("VALID", 3.5),
        schema={"enum": ["valid", "same", "causal"]},
    ),
]
"""How a window meets the borders."""


class Kernelled(Windowed, Activated, abstract=True):
    """A window whose cells are weighted by a kernel."""

    formerly = CONVOLUTION

    @classmethod
    def spelled(cls, name: str) -> Any:
        return cls.by_lengths if name.startswith(("Convolution", "SeparableConvolution")) else cls

    @classmethod
    def by_lengths(cls, *args: Any, **kwargs: Any) -> Any:
        """Made as it once was: filters, then the lengths of the window one by one: ``Convolution2D(64, 3, 3)``."""
        rank = cls.rank or 0
        lengths = args[1 : 1 + rank]
        if rank > 1 and len(lengths) == rank and all(isinstance(length, int) for length in lengths):
            warn(f"{cls.__name__}: the lengths of a window one by one are an old spelling; say kernel_size={lengths}")
            args = (args[0], lengths, *args[1 + rank :])
        return cls(*args, **kwargs)

    @property
    def window(self) -> tuple[int, ...]:
        return self.kernel_size

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.dilation_rate


class Conv(Kernelled, Affine, abstract=True):
    """y[n, p, f] = sum over taps t, channels c of x[n, p * strides + t * dilation_rate, c] * kernel[t, c, f] + bias[f].

    groups: input channels and filters are split into as many contiguous groups; each group sees only its own.
    padding: "causal", for sequences, adds cells before the first alone, so that no place sees what comes after it.
    """

    filters: Size
    kernel_size: Window
    strides: Window = 1
    padding: ConvPadding = "valid"
    data_format: DataFormat = None
    dilation_rate: Window = 1
    groups: Size = 1

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
        space = self.known_space(x)
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


class Conv1D(Conv):
    """Convolution of sequences."""

    rank = 1
    aliases = ("Convolution1D",)


class Conv2D(Conv):
    """Convolution of images."""

    rank = 2
    aliases = ("Convolution2D",)


class Conv3D(Conv):
    """Convolution of volumes."""

    rank = 3
    aliases = ("Convolution3D",)


class ConvTranspose(Spatial, Affine, abstract=True):
    """The transpose of a convolution, as a linear map: x[n, p, c] * kernel[t, f, c] is added to y[n, q, f].

    Here q = p * strides + t * dilation_rate - cut. With r the reach of the kernel, dilation_rate * (kernel_size - 1)
    + 1, and L the length of x along an axis, y has the length (L - 1) * strides + tail, where

        tail = r + output_padding             padding "valid"; output_padding None: max(strides - r, 0)
        tail = r % 2 + output_padding         padding "same"; output_padding None: tail = strides
        cut = max((r - tail) // 2, 0)

    so that "same" without an output padding gives strides times the length. Where nothing is added, y is the bias.
    Source: Dumoulin & Visin 2016, chapter 4; Zeiler et al., Deconvolutional networks, 2010.
    """

    formerly = CONVOLUTION

    filters: Size
    kernel_size: Window
    strides: Window = 1
    padding: Literal["valid", "same"] = "valid"
    output_padding: Margin | None = None
    data_format: DataFormat = None
    dilation_rate: Window = 1

    x = In("n *space c")
    kernel = Weight("*kernel_size filters c")
    bias = Weight("filters")
    y = Out("n *places filters")
    mask = stops

    @property
    def reach(self) -> tuple[int, ...]:
        """How many cells the kernel reaches over, along each axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True))

    @property
    def tail(self) -> tuple[int, ...]:
        """How many cells the output has from where the last cell of the input lies."""
        margins = self.output_padding or (None,) * len(self.strides)
        return tuple(map(self._tail, self.reach, self.strides, margins))

    def _tail(self, reach: int, stride: int, margin: int | None) -> int:
        if self.padding == "valid":
            return max(reach, stride) if margin is None else reach + margin
        return stride if margin is None else reach % 2 + margin

    @property
    def cut(self) -> tuple[int, ...]:
        """How many cells are cut off before the output."""
        return tuple(max((r - tail) // 2, 0) for r, tail in zip(self.reach, self.tail, strict=True))

    @axis
    def places(self, space):
        """The size of the output, along each axis."""
        return tuple(
            None if size is None else (size - 1) * s + tail
            for size, s, tail in zip(space, self.strides, self.tail, strict=True)
        )

    @rule
    def c1_no_axis_is_empty(self, space, places):
        return all(size is None or size > 0 for size in (*space, *places))

    @rule
    def c2_strides_and_dilation_exclude_each_other(self, strides, dilation_rate):
        return max(strides) == 1 or max(dilation_rate) == 1

    @rule
    def c3_the_output_padding_is_less_than_the_strides(self, output_padding, strides):
        return all(margin < s for margin, s in zip(output_padding, strides, strict=True))

    def define(self, xp, x, kernel, bias):
        x = self.channels_last(xp, x)
        places = self.lookup("places", {"space": self.known_space(x)})
        # What is added to each place of y is what a window, turned round, sees of x with its cells apart.
        pads = ((r - 1 - cut, tail + cut - 1) for r, tail, cut in zip(self.reach, self.tail, self.cut, strict=True))
        apart = xp.pad(spread(xp, x, self.strides), ((0, 0), *pads, (0, 0)), 0.0)
        y = 0
        for tap, seen in slid(apart, self.kernel_size, places, (1,) * len(places), self.dilation_rate):
            turned = tuple(k - 1 - i for k, i in zip(self.kernel_size, tap, strict=True))
            y = y + xp.matmul(seen, xp.permute_dims(kernel[(*turned, ...)], (1, 0)))
        return self.as_declared(xp, y if bias is None else y + bias)


class Conv1DTranspose(ConvTranspose):
    """Transposed convolution of sequences."""

    rank = 1
    aliases = ("Convolution1DTranspose",)


class Conv2DTranspose(ConvTranspose):
    """Transposed convolution of images."""

    rank = 2
    aliases = ("Convolution2DTranspose", "Deconvolution2D", "Deconv2D")


class Conv3DTranspose(ConvTranspose):
    """Transposed convolution of volumes."""

    rank = 3
    aliases = ("Convolution3DTranspose", "Deconvolution3D", "Deconv3D")

    # Here alone Keras has the output padding after the data format; what follows it is declared again to follow it.
    output_padding: Margin | None = None
    dilation_rate: Window = 1


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
        space = self.known_space(x)
        y: Any = 0
        for tap, seen in self.taps(self.padded(xp, x), space):
            y = y + xp.expand_dims(seen, axis=-1) * kernel[(*tap, ...)]
        y = xp.reshape(y, (-1, *y.shape[1:-2], y.shape[-2] * y.shape[-1]))
        return self.as_declared(xp, y if bias is None else y + bias)


class DepthwiseConv1D(DepthwiseConv):
    """Depthwise convolution of sequences."""

    rank = 1


class DepthwiseConv2D(DepthwiseConv):
    """Depthwise convolution of images."""

    rank = 2


class SeparableConv(Kernelled, abstract=True):
    """A depthwise convolution, then a pointwise one that mixes the channels; one bias and activation, at the end.

    Source: Chollet, Xception: deep learning with depthwise separable convolutions, 2017, arXiv:1610.02357.
    """

    hints = {
        f"kernel_{what}": f"depthwise_{what} and pointwise_{what}"
        for what in ("initializer", "regularizer", "constraint")
    }

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


class SeparableConv1D(SeparableConv):
    """Depthwise separable convolution of sequences."""

    rank = 1
    aliases = ("SeparableConvolution1D",)
    depthwise = DepthwiseConv1D
    pointwise = Conv1D


class SeparableConv2D(SeparableConv):
    """Depthwise separable convolution of images."""

    rank = 2
    aliases = ("SeparableConvolution2D",)
    depthwise = DepthwiseConv2D
    pointwise = Conv2D
