"""Pooling in any number of dimensions."""

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


@oracle("MaxPooling2D")
def max_pooling(params, inputs, weights, **_):
    """The largest cell of each window."""
    return pool(params, inputs, largest)


@oracle("AveragePooling2D")
def average_pooling(params, inputs, weights, **_):
    """The mean over the cells of each window that are not padding."""
    return pool(params, inputs, mean)


@oracle("GlobalAveragePooling2D")
def global_average_pooling(params, inputs, weights, **_):
    """The mean over all of space, by channel; ``keepdims`` keeps the axes of space, with size 1."""
    (x,) = inputs

    def one(sample):
        sample = channels_last(sample, params["data_format"])
        *space, channels = shape(sample)
        everywhere = flatten(sample)
        means = [mean(everywhere[c::channels]) for c in range(channels)]
        if not params["keepdims"]:
            return means
        kept = build([1] * len(space) + [channels], lambda index: means[index[-1]])
        return channels_back(kept, params["data_format"])

    return Outcome([[one(sample) for sample in x]])
