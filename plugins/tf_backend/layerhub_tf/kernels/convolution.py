"""Convolutions by tf.nn, channels last."""

from functools import cache

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()

LAYOUT = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


def conv(layer, x, kernel, bias):
    if x.shape[0] == 0:
        return layer.define(xp, x, kernel, bias)  # with oneDNN an empty batch comes back with the input's shape
    if layer.rank == 2 and kernel.shape[-2] == 1 and min(layer.strides) != max(layer.strides):
        # One channel at a time: 2.21 gives wrong values in float32, on CPUs that it has no oneDNN for, where strides
        # differ and the output is one column wide.
        return layer.define(xp, x, kernel, bias)
    x, padding = _bordered(layer, layer.channels_last(xp, x))
    if layer.groups > 1 and not grouped_gradients(layer.rank, x.dtype):
        parts = zip(tf.split(x, layer.groups, axis=-1), tf.split(kernel, layer.groups, axis=-1), strict=True)
        y = tf.concat([_correlated(layer, part, own, padding) for part, own in parts], axis=-1)
    else:
        y = _correlated(layer, x, kernel, padding)
    return _finished(layer, y, bias)


def _bordered(layer, x):
    """(x, tf's name for its padding), x being padded already where tf cannot.

    tf knows nothing of causal padding; and for ``same`` tf.nn.conv3d of 2.21 gives wrong values in float64 on CPU where
    strides are larger than the kernel: it begins too late.
    """
    late = layer.rank == 3 and any(s > k for s, k in zip(layer.strides, layer.kernel_size, strict=True))
    if layer.padding == "same" and late:
        layer.known_space(x)
    elif layer.padding != "causal":
        return x, layer.padding.upper()
    return layer.padded(xp, x), "VALID"


def _correlated(layer, x, kernel, padding):
    # tf.nn.conv2d has no gradient for dilations on every CPU; tf.nn.convolution rearranges the input for it.
    # It has no gradient in three dimensions unless it is told the layout.
    return tf.nn.convolution(
        x, kernel, layer.strides, padding, data_format=LAYOUT[layer.rank], dilations=layer.dilation_rate
    )


def _finished(layer, y, bias):
    return layer.as_declared(xp, y if bias is None else tf.nn.bias_add(y, bias))


@cache
def grouped_gradients(rank, dtype):
    """Whether convolutions have gradients for groups: on CPU only with oneDNN, for its types and up to two axes."""
    if rank > 2:
        return False
    with tf.init_scope(), tf.device("cpu"), tf.GradientTape() as tape:
        x, kernel = tf.ones((1, 1, 1, 2), dtype), tf.ones((1, 1, 1, 2), dtype)
        tape.watch(x)
        y = tf.nn.conv2d(x, kernel, 1, "VALID")
        try:
            return tape.gradient(y, x) is not None
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False


for rank in (1, 2, 3):
    kernels.register(f"Conv{rank}D")(conv)


def conv_transpose(layer, x, kernel, bias):
    if x.shape[0] == 0:
        return layer.define(xp, x, kernel, bias)
    x = layer.channels_last(xp, x)
    y = _turned(layer, x, kernel) if max(layer.strides) == 1 else _transposed(layer, x, kernel)
    return _finished(layer, y, bias)


def _turned(layer, x, kernel):
    """Without strides, the transpose is a convolution with the kernel turned round; tf transposes no dilated one."""
    pads = ((r - 1 - cut, tail + cut - 1) for r, tail, cut in zip(layer.reach, layer.tail, layer.cut, strict=True))
    kernel = tf.reverse(tf.linalg.matrix_transpose(kernel), range(layer.rank))
    return _correlated(layer, tf.pad(x, ((0, 0), *pads, (0, 0))), kernel, "VALID")


def _transposed(layer, x, kernel):
    """By tf's gradient of a convolution: with SAME, where that cuts off what the layer does; else of all, then cut."""
    sizes = [xp.size(x, axis + 1) for axis in range(layer.rank)]
    if _cuts_alike(layer):
        space = [size * s for size, s in zip(sizes, layer.strides, strict=True)]
        shape = tf.stack([xp.size(x, 0), *space, layer.filters])
        return tf.nn.conv_transpose(x, kernel, shape, layer.strides, "SAME", LAYOUT[layer.rank])
    ends = [max(reach, cut + tail) for reach, cut, tail in zip(layer.reach, layer.cut, layer.tail, strict=True)]
    space = [(size - 1) * s + end for size, s, end in zip(sizes, layer.strides, ends, strict=True)]
    y = tf.nn.conv_transpose(
        x, kernel, tf.stack([xp.size(x, 0), *space, layer.filters]), layer.strides, "VALID", LAYOUT[layer.rank]
    )
    kept = [
        slice(cut, cut + (size - 1) * s + tail)
        for size, s, cut, tail in zip(sizes, layer.strides, layer.cut, layer.tail, strict=True)
    ]
    return y[(slice(None), *kept)]


def _cuts_alike(layer):
    """Whether the output is strides times as long, with the ends of the longer kernel cut off evenly."""
    axes = zip(layer.kernel_size, layer.strides, layer.cut, layer.tail, strict=True)
    return all(k >= s and cut == (k - s) // 2 and tail == s for k, s, cut, tail in axes)


for rank in (1, 2, 3):
    kernels.register(f"Conv{rank}DTranspose")(conv_transpose)


def depthwise_conv(layer, x, kernel, bias):
    if x.shape[0] == 0:
        return layer.define(xp, x, kernel, bias)
    x = layer.channels_last(xp, x)
    strides, dilations, padding = layer.strides, layer.dilation_rate, layer.padding.upper()
    # tf wants equal strides, and none with dilation (2.21 gives wrong values, and shapes); so else every window is
    # taken, then every s-th of them.
    every = max(strides) > 1 and (min(strides) != max(strides) or max(dilations) > 1)
    if every:
        layer.known_space(x)
        x, strides, padding = layer.padded(xp, x), (1,) * layer.rank, "VALID"
    if layer.rank == 1:  # tf knows images only: a sequence is one row
        y = tf.nn.depthwise_conv2d(x[:, None], kernel[None], (1, *strides * 2, 1), padding, dilations=(1, *dilations))
        y = y[:, 0]
    else:
        y = tf.nn.depthwise_conv2d(x, kernel, (1, *strides, 1), padding, dilations=dilations)
    if every:
        y = y[(slice(None), *(slice(None, None, s) for s in layer.strides))]
    return _finished(layer, y, bias)


kernels.register("DepthwiseConv1D")(depthwise_conv)
kernels.register("DepthwiseConv2D")(depthwise_conv)
