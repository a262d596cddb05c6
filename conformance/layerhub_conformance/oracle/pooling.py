"""Pooling in any number of dimensions."""

from itertools import product

from .arithmetic import largest, mean
from .nested import at, build, channels_back, channels_last, flatten, shape
from .registry import Outcome, oracle
from .windows import covered, windows_over


def pool(params, inputs, summary):
    """summary of the cells of each window, channel by channel; padding is no cell."""
    (x,) = inputs
    size = params["pool_size"]
    strides = params["strides"] or size

    def one(sample):
        sample = channels_last(sample, params["data_format"])
        *space, channels = shape(sample)
        axes = windows_over(space, size, strides, (1,) * len(size), params["padding"])

        def value(index):
            *place, c = index
            return summary(at(sample, cells)[c] for _, cells in covered(axes, place))

        return channels_back(build([*map(len, axes), channels], value), params["data_format"])

    return Outcome([[one(sample) for sample in x]])


@oracle("MaxPooling1D", "MaxPooling2D", "MaxPooling3D")
def max_pooling(params, inputs, weights, **_):
    """The largest cell of each window."""
    return pool(params, inputs, largest)


@oracle("AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
def average_pooling(params, inputs, weights, **_):
    """The mean over the cells of each window that are not padding."""
    return pool(params, inputs, mean)


def pool_all(params, inputs, summary):
    """summary(sample number, cells) of all cells of a channel; ``keepdims`` keeps the axes of space, with size 1."""
    (x,) = inputs

    def one(number, sample):
        sample = channels_last(sample, params["data_format"])
        *space, channels = shape(sample)
        everywhere = flatten(sample)
        values = [summary(number, everywhere[c::channels]) for c in range(channels)]
        if not params["keepdims"]:
            return values
        kept = build([1] * len(space) + [channels], lambda index: values[index[-1]])
        return channels_back(kept, params["data_format"])

    return Outcome([[one(number, sample) for number, sample in enumerate(x)]])


@oracle("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D")
def global_max_pooling(params, inputs, weights, **_):
    """The largest cell of each channel."""
    return pool_all(params, inputs, lambda number, cells: largest(cells))


@oracle("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")
def global_average_pooling(params, inputs, weights, *, mask=None, **_):
    """The mean of each channel, over the cells that a mask leaves; 0 where it leaves none."""

    def summary(number, cells):
        kept = cells if mask is None else [cell for cell, counts in zip(cells, mask[number], strict=True) if counts]
        return mean(kept) if kept else 0.0

    return pool_all(params, inputs, summary)


def adaptive_windows(length, count):
    """Window i of ``count`` holds the cells that overlap with the i-th part, when an axis is cut into equal parts."""
    return [[cell for cell in range(length) if (cell + 1) * count > i * length and cell * count < (i + 1) * length]
            for i in range(count)]  # fmt: skip


def adaptive_pool(params, inputs, summary):
    """summary of the cells of each window, channel by channel."""
    (x,) = inputs

    def one(sample):
        sample = channels_last(sample, params["data_format"])
        *space, channels = shape(sample)
        axes = [adaptive_windows(length, count) for length, count in zip(space, params["output_size"], strict=True)]

        def value(index):
            *place, c = index
            return summary(at(sample, cells)[c] for cells in product(*(a[p] for a, p in zip(axes, place, strict=True))))

        return channels_back(build([*map(len, axes), channels], value), params["data_format"])

    return Outcome([[one(sample) for sample in x]])


@oracle("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D")
def adaptive_max_pooling(params, inputs, weights, **_):
    """The largest cell of each window."""
    return adaptive_pool(params, inputs, largest)


@oracle("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D")
def adaptive_average_pooling(params, inputs, weights, **_):
    """The mean over the cells of each window."""
    return adaptive_pool(params, inputs, mean)
