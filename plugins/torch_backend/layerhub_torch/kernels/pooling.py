"""Pooling.

torch pads both sides of an axis alike. ``same`` may need one cell more behind: with strides of 2 or more torch's
ceil_mode lets the last window reach out by it; with strides of 1 one more cell before is a window too many, cut off.
"""

from __future__ import annotations

from torch.nn.functional import avg_pool2d, max_pool2d

from layerhub.kernels import KernelSet

kernels = KernelSet()


def pooled(layer, x, function, **options):
    last = layer.data_format == "channels_last"
    if last:
        x = x.permute(0, 3, 1, 2)
    pads = layer.pads(x.shape[2:])
    padding = [behind if stride == 1 else before for (before, behind), stride in zip(pads, layer.strides, strict=True)]
    same = layer.padding == "same"
    y = function(x, layer.pool_size, layer.strides, padding, ceil_mode=same, **options)
    if same:
        above, aside = (given - before for given, (before, _) in zip(padding, pads, strict=True))
        if above or aside:
            y = y[:, :, above:, aside:]
    return y.permute(0, 2, 3, 1) if last else y


@kernels.register("MaxPooling2D")
def max_pooling2d(layer, x):
    return pooled(layer, x, max_pool2d)


@kernels.register("AveragePooling2D")
def average_pooling2d(layer, x):
    return pooled(layer, x, avg_pool2d, count_include_pad=False)
