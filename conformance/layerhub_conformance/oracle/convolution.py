"""Convolutions in any number of dimensions: cross-correlations, kernels are not flipped."""

from .activations import activate
from .arithmetic import total
from .nested import at, build, channels_back, channels_last, rows, shape
from .registry import Outcome, oracle
from .windows import covered, windows_over


def correlate(x, kernel, strides, padding, dilation, groups=1):
    """y[p, f] = sum over taps k and channels c of the group of f: x[cell(p, k), c] kernel[k, c, f].

    x is one sample, channels last; the kernel is (taps..., channels per group, filters). Groups are
    contiguous: the g-th share of the filters sees the g-th share of the channels.
    """
    *space, channels = shape(x)
    *size, in_group, filters = shape(kernel)
    if in_group * groups != channels or filters % groups:
        raise ValueError(f"{groups} groups do not divide {channels} channels and {filters} filters")
    axes = windows_over(space, size, strides, dilation, padding)

    def value(index):
        *place, f = index
        first = f // (filters // groups) * in_group
        return total(
            at(x, cells)[first + c] * at(kernel, taps)[c][f]
            for taps, cells in covered(axes, place)
            for c in range(in_group)
        )

    return build([*map(len, axes), filters], value)


def correlate_depthwise(x, kernel, strides, padding, dilation):
    """y[p, c mult + m] = sum over taps k of x[cell(p, k), c] kernel[k, c, m]."""
    *space, channels = shape(x)
    *size, in_kernel, multiplier = shape(kernel)
    if in_kernel != channels:
        raise ValueError(f"a kernel for {in_kernel} channels, but {channels} channels")
    axes = windows_over(space, size, strides, dilation, padding)

    def value(index):
        *place, out = index
        c, m = divmod(out, multiplier)
        return total(at(x, cells)[c] * at(kernel, taps)[c][m] for taps, cells in covered(axes, place))

    return build([*map(len, axes), channels * multiplier], value)


def finish(params, inputs, bias, f):
    """f on each sample, channels last; then the bias, the layout of the input, and the activation.

    The activation comes after the layout, because softmax acts on the last axis, whichever that is.
    """
    (x,) = inputs
    bias = bias[0] if params["use_bias"] else None

    def one(sample):
        y = f(channels_last(sample, params["data_format"]))
        if bias is not None:
            y = rows(lambda channels: [v + b for v, b in zip(channels, bias, strict=True)], y)
        return channels_back(y, params["data_format"])

    return Outcome([activate(params["activation"], [one(sample) for sample in x])])


@oracle("Conv2D")
def conv(params, inputs, weights, **_):
    """activation(correlate(x, kernel) + bias)."""
    kernel, *bias = weights
    window = (params["strides"], params["padding"], params["dilation_rate"])
    return finish(params, inputs, bias, lambda x: correlate(x, kernel, *window, params["groups"]))


@oracle("DepthwiseConv2D")
def depthwise_conv(params, inputs, weights, **_):
    """activation(correlate_depthwise(x, kernel) + bias)."""
    kernel, *bias = weights
    window = (params["strides"], params["padding"], params["dilation_rate"])
    return finish(params, inputs, bias, lambda x: correlate_depthwise(x, kernel, *window))


@oracle("SeparableConv2D")
def separable_conv(params, inputs, weights, **_):
    """Depthwise with stride, padding and dilation, then a mixture of channels at each place; then the bias.

    Chollet 2016, arXiv:1610.02357.
    """
    depthwise, pointwise, *bias = weights
    window = (params["strides"], params["padding"], params["dilation_rate"])
    ones = (1,) * len(params["kernel_size"])

    def both(x):
        return correlate(correlate_depthwise(x, depthwise, *window), pointwise, ones, "valid", ones)

    return finish(params, inputs, bias, both)
