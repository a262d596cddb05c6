"""Pooling.

torch pads both sides of an axis alike. ``same`` may need one cell more behind: with strides of 2 or more torch's
ceil_mode lets the last window reach out by it; with strides of 1 one more cell before is a window too many, cut off.
"""

from __future__ import annotations

from torch.nn import functional

from layerhub.kernels import KernelSet

kernels = KernelSet()


def channels_first(layer, x):
    return x if layer.data_format == "channels_first" else x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))


def declared(layer, y):
    return y if layer.data_format == "channels_first" else y.permute(0, *range(2, y.ndim), 1)


def pooled(layer, x, function, **options):
    x = channels_first(layer, x)
    pads = layer.pads(x.shape[2:])
    padding = [behind if stride == 1 else before for (before, behind), stride in zip(pads, layer.strides, strict=True)]
    same = layer.padding == "same"
    y = function(x, layer.pool_size, layer.strides, padding, ceil_mode=same, **options)
    if same:
        over = [given - before for given, (before, _) in zip(padding, pads, strict=True)]
        if any(over):
            y = y[(slice(None), slice(None), *(slice(count, None) for count in over))]
    return declared(layer, y)


@kernels.register("MaxPooling1D")
def max_pooling1d(layer, x):
    return pooled(layer, x, functional.max_pool1d)


@kernels.register("MaxPooling2D")
def max_pooling2d(layer, x):
    return pooled(layer, x, functional.max_pool2d)


@kernels.register("MaxPooling3D")
def max_pooling3d(layer, x):
    return pooled(layer, x, functional.max_pool3d)


@kernels.register("AveragePooling1D")
def average_pooling1d(layer, x):
    return pooled(layer, x, functional.avg_pool1d, count_include_pad=False)


@kernels.register("AveragePooling2D")
def average_pooling2d(layer, x):
    return pooled(layer, x, functional.avg_pool2d, count_include_pad=False)


def averaged_in_3d(layer, call):
    """On CPU torch has it for these types alone, and refuses windows that reach beyond the input, padded or not."""
    sizes = [call.shapes[0][axis] for axis in layer.space_axes]
    pairs = zip(sizes, layer.pool_size, strict=True)
    fits = layer.padding == "valid" or all(size is not None and size >= window for size, window in pairs)
    return call.dtype in ("float32", "float64") and fits


@kernels.register("AveragePooling3D", when=averaged_in_3d)
def average_pooling3d(layer, x):
    return pooled(layer, x, functional.avg_pool3d, count_include_pad=False)


def adaptive(layer, x, function):
    return declared(layer, function(channels_first(layer, x), layer.output_size))


@kernels.register("AdaptiveMaxPooling1D")
def adaptive_max_pooling1d(layer, x):
    return adaptive(layer, x, functional.adaptive_max_pool1d)


@kernels.register("AdaptiveMaxPooling2D")
def adaptive_max_pooling2d(layer, x):
    return adaptive(layer, x, functional.adaptive_max_pool2d)


@kernels.register("AdaptiveMaxPooling3D")
def adaptive_max_pooling3d(layer, x):
    return adaptive(layer, x, functional.adaptive_max_pool3d)


@kernels.register("AdaptiveAveragePooling1D")
def adaptive_average_pooling1d(layer, x):
    return adaptive(layer, x, functional.adaptive_avg_pool1d)


@kernels.register("AdaptiveAveragePooling2D")
def adaptive_average_pooling2d(layer, x):
    return adaptive(layer, x, functional.adaptive_avg_pool2d)


@kernels.register("AdaptiveAveragePooling3D")
def adaptive_average_pooling3d(layer, x):
    return adaptive(layer, x, functional.adaptive_avg_pool3d)
