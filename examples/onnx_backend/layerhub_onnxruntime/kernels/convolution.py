"""Convolutions. ONNX has channels first, and kernels as (filters, channels, *kernel_size)."""

from __future__ import annotations

from layerhub.kernels import KernelSet
from layerhub_onnxruntime import namespace as xp
from layerhub_onnxruntime.arrays import op

kernels = KernelSet()


def single(layer, call):
    """onnxruntime convolves no float64, and no empty batch."""
    return call.dtype != "float64" and 0 not in call.shapes[0]


def channels_first(layer, x):
    return x if layer.data_format == "channels_first" else xp.permute_dims(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))


def as_declared(layer, y):
    return y if layer.data_format == "channels_first" else xp.permute_dims(y, (0, *range(2, y.ndim), 1))


def borders(layer, space):
    """ONNX's attributes for the layer's padding."""
    if None not in space:
        before, after = zip(*layer.pads(space), strict=True)
        return {"pads": [*before, *after]}
    if layer.padding == "causal":
        return {"pads": [layer.dilation[0] * (layer.window[0] - 1), 0]}
    return {"auto_pad": {"valid": "VALID", "same": "SAME_UPPER"}[layer.padding]}


def correlated(layer, x, weights, bias, groups):
    """A convolution of channels-first x by weights in ONNX's order."""
    space = x.shape[2:]
    y = op(
        "Conv",
        (x, weights) if bias is None else (x, weights, bias),
        (x.shape[0], weights.shape[0], *layer.lookup("places", {"space": space})),
        group=groups,
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        kernel_shape=list(layer.kernel_size),
        **borders(layer, space),
    )
    return as_declared(layer, y)


def conv(layer, x, kernel, bias):
    weights = xp.permute_dims(kernel, (kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2)))
    return correlated(layer, channels_first(layer, x), weights, bias, layer.groups)


def depthwise_conv(layer, x, kernel, bias):
    *window, channels, multiplier = kernel.shape
    rank = len(window)
    weights = xp.reshape(xp.permute_dims(kernel, (rank, rank + 1, *range(rank))), (channels * multiplier, 1, *window))
    return correlated(layer, channels_first(layer, x), weights, bias, channels)


def conv_transpose(layer, x, kernel, bias):
    x = channels_first(layer, x)
    rank = len(layer.strides)
    weights = xp.permute_dims(kernel, (rank + 1, rank, *range(rank)))
    # What is left of each axis begins ``cut`` cells after the transpose's own begin, and ends ``tail`` further.
    ends = [r - cut - tail for r, cut, tail in zip(layer.reach, layer.cut, layer.tail, strict=True)]
    y = op(
        "ConvTranspose",
        (x, weights) if bias is None else (x, weights, bias),
        (x.shape[0], layer.filters, *layer.lookup("places", {"space": x.shape[2:]})),
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        kernel_shape=list(layer.kernel_size),
        pads=[*layer.cut, *(max(end, 0) for end in ends)],
        output_padding=[max(-end, 0) for end in ends],
    )
    return as_declared(layer, y)


def within_strides(layer, call):
    """ONNX pads the output by less than a stride or a dilation."""
    axes = zip(layer.reach, layer.cut, layer.tail, layer.strides, layer.dilation_rate, strict=True)
    return single(layer, call) and all(cut + tail - r < max(s, d) for r, cut, tail, s, d in axes)


for rank in (1, 2, 3):
    kernels.register(f"Conv{rank}D", when=single)(conv)
    kernels.register(f"Conv{rank}DTranspose", when=within_strides)(conv_transpose)
for rank in (1, 2):
    kernels.register(f"DepthwiseConv{rank}D", when=single)(depthwise_conv)
