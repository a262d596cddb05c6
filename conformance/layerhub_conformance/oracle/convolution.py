"""Convolutions in any number of dimensions: cross-correlations, kernels are not flipped."""

from itertools import product

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


@oracle("Conv1D", "Conv2D", "Conv3D")
def conv(params, inputs, weights, **_):
    """activation(correlate(x, kernel) + bias)."""
    kernel, *bias = weights
    window = (params["strides"], params["padding"], params["dilation_rate"])
    return finish(params, inputs, bias, lambda x: correlate(x, kernel, *window, params["groups"]))


def transposed_axis(length, size, stride, dilation, padding, margin):
    """(cells cut off at the start, cells kept) of what a transposed convolution writes along one axis.

    In full it writes (length - 1) stride + reach cells, with reach = (size - 1) dilation + 1.
        valid:  all of them and ``margin`` zeros more; by default as many as make a short kernel reach over a stride
        same:   length stride cells by default, else (length - 1) stride + margin + 1, or without the 1 where the
                reach is even; what is too much is cut off on both sides, the odd cell at the end
    """
    reach = (size - 1) * dilation + 1
    full = (length - 1) * stride + reach
    if padding == "valid":
        return 0, full + (max(stride - reach, 0) if margin is None else margin)
    kept = length * stride if margin is None else (length - 1) * stride + reach % 2 + margin
    return max(full - kept, 0) // 2, kept


def scatter(x, kernel, strides, dilation, padding, margins):
    """Every x[p, c] kernel[k, f, c] is added to y[p stride + k dilation - cut, f], where there is such a place."""
    *space, channels = shape(x)
    *size, filters, in_kernel = shape(kernel)
    if in_kernel != channels:
        raise ValueError(f"a kernel for {in_kernel} channels, but {channels} channels")
    axes = [
        transposed_axis(*axis[:-1], padding, axis[-1])
        for axis in zip(space, size, strides, dilation, margins or [None] * len(space), strict=True)
    ]
    terms = {}
    for place in product(*map(range, space)):
        for taps in product(*map(range, size)):
            target = tuple(
                p * s + k * d - cut for p, s, k, d, (cut, _) in zip(place, strides, taps, dilation, axes, strict=True)
            )
            if all(0 <= q < kept for q, (_, kept) in zip(target, axes, strict=True)):
                terms.setdefault(target, []).append((place, taps))

    def value(index):
        *target, f = index
        return total(
            at(x, place)[c] * at(kernel, taps)[f][c]
            for place, taps in terms.get(tuple(target), ())
            for c in range(channels)
        )

    return build([*(kept for _, kept in axes), filters], value)


@oracle("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def conv_transpose(params, inputs, weights, **_):
    """activation(scatter(x, kernel) + bias). Dumoulin & Visin 2016, chapter 4."""
    kernel, *bias = weights
    how = (params["strides"], params["dilation_rate"], params["padding"], params["output_padding"])
    return finish(params, inputs, bias, lambda x: scatter(x, kernel, *how))


@oracle("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(params, inputs, weights, **_):
    """activation(correlate_depthwise(x, kernel) + bias)."""
    kernel, *bias = weights
    window = (params["strides"], params["padding"], params["dilation_rate"])
    return finish(params, inputs, bias, lambda x: correlate_depthwise(x, kernel, *window))


@oracle("SeparableConv1D", "SeparableConv2D")
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
