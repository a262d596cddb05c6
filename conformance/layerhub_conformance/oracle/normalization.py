"""Batch, layer, group, RMS and unit normalization."""

import math
from itertools import product

from .arithmetic import total
from .nested import at, build, shape
from .registry import Outcome, oracle

MASKED_EPSILON = 1e-7  # keeps a fully masked batch from dividing by zero


@oracle("BatchNormalization")
def batch_normalization(params, inputs, weights, *, training=False, mask=None, **_):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, for each channel (each index of ``axis``).

    In training, mean and biased variance of the channel over the batch, and then
        moving = momentum moving + (1 - momentum) batch
    else the moving statistics; a layer that is not trainable is never in training. A mask covers the leading
    axes: what it hides does not count for the statistics, whose divisor is then count + 1e-7, but is
    normalised. Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    (x,) = inputs
    rest = list(weights)
    gamma = rest.pop(0) if params["scale"] else None
    beta = rest.pop(0) if params["center"] else None
    moving_mean, moving_variance = rest
    sizes = shape(x)
    axis = params["axis"] % len(sizes)
    means, variances, updated = moving_mean, moving_variance, {}

    if training and params.get("trainable", True):
        masked = len(shape(mask)) if mask is not None else 0
        members = [[] for _ in moving_mean]
        for index in product(*map(range, sizes)):
            if mask is None or at(mask, index[:masked]):
                members[index[axis]].append(at(x, index))
        extra = 0 if mask is None else MASKED_EPSILON
        means = [total(m) / (len(m) + extra) for m in members]
        squares = [[(v - mean) ** 2 for v in m] for m, mean in zip(members, means, strict=True)]
        variances = [total(s) / (len(s) + extra) for s in squares]
        updated = {
            "moving_mean": moved(moving_mean, means, params["momentum"]),
            "moving_variance": moved(moving_variance, variances, params["momentum"]),
        }

    def value(index):
        c = index[axis]
        y = (at(x, index) - means[c]) / math.sqrt(variances[c] + params["epsilon"])
        if gamma is not None:
            y *= gamma[c]
        return y if beta is None else y + beta[c]

    return Outcome([build(sizes, value)], weights=updated)


def moved(moving, batch, momentum):
    """The moving average after one more batch; momentum is the share that is kept."""
    return [momentum * old + (1 - momentum) * new for old, new in zip(moving, batch, strict=True)]


def standardized(groups, epsilon):
    """Each group of numbers, a dict from index to number, as (x - mean) / sqrt(biased variance + epsilon)."""
    found = {}
    for group in groups:
        mean = total(group.values()) / len(group)
        variance = total((v - mean) ** 2 for v in group.values()) / len(group)
        found |= {index: (v - mean) / math.sqrt(variance + epsilon) for index, v in group.items()}
    return found


def grouped(x, key):
    """The numbers of x as dicts from index to number, one for each value of ``key(index)``."""
    groups = {}
    for index in product(*map(range, shape(x))):
        groups.setdefault(key(index), {})[index] = at(x, index)
    return groups.values()


def axes_of(params, ndim):
    """The axes that ``axis`` names, counted from the front, in ascending order."""
    axis = params["axis"]
    return sorted(a % ndim for a in (axis if isinstance(axis, tuple) else [axis]))


def along_axes(x, axes):
    """The groups of numbers that differ in the indices of these axes only."""
    return grouped(x, lambda index: tuple(i for a, i in enumerate(index) if a not in axes))


def affine(params, weights, y, place):
    """y[index] gamma[place] + beta[place], as far as the layer has these."""
    rest = list(weights)
    gamma = rest.pop(0) if params["scale"] else None
    beta = rest.pop(0) if params["center"] else None

    def value(index):
        scaled = y[index] if gamma is None else y[index] * at(gamma, place(index))
        return scaled if beta is None else scaled + at(beta, place(index))

    return value


@oracle("LayerNormalization")
def layer_normalization(params, inputs, weights, **_):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, with the moments of all numbers along ``axis``.

    gamma and beta have an index for each of these axes. Ba et al. 2016, arXiv:1607.06450.
    """
    (x,) = inputs
    axes = axes_of(params, len(shape(x)))
    y = standardized(along_axes(x, axes), params["epsilon"])
    return Outcome([build(shape(x), affine(params, weights, y, lambda index: [index[a] for a in axes]))])


@oracle("GroupNormalization")
def group_normalization(params, inputs, weights, **_):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, with the moments of a sample's group of channels.

    Group g has the channels g m, ..., g m + m - 1, for m = channels / groups; -1 makes each channel a group.
    Wu & He 2018, arXiv:1803.08494.
    """
    (x,) = inputs
    axis = params["axis"] % len(shape(x))
    channels = shape(x)[axis]
    size = 1 if params["groups"] == -1 else channels // params["groups"]
    y = standardized(grouped(x, lambda index: (index[0], index[axis] // size)), params["epsilon"])
    return Outcome([build(shape(x), affine(params, weights, y, lambda index: [index[axis]]))])


@oracle("RMSNormalization")
def rms_normalization(params, inputs, weights, **_):
    """scale x / sqrt(mean of x^2 along ``axis`` + epsilon). Zhang & Sennrich 2019, arXiv:1910.07467."""
    (x,), (scale,) = inputs, weights
    axes = axes_of(params, len(shape(x)))
    y = {}
    for group in along_axes(x, axes):
        root = math.sqrt(total(v * v for v in group.values()) / len(group) + params["epsilon"])
        y |= {index: v / root * at(scale, [index[a] for a in axes]) for index, v in group.items()}
    return Outcome([build(shape(x), lambda index: y[index])])


@oracle("UnitNormalization")
def unit_normalization(params, inputs, weights, **_):
    """x divided by its Euclidean norm along ``axis``, which counts as no less than 1e-12."""
    (x,) = inputs
    y = {}
    for group in along_axes(x, axes_of(params, len(shape(x)))):
        norm = max(math.sqrt(total(v * v for v in group.values())), 1e-12)
        y |= {index: v / norm for index, v in group.items()}
    return Outcome([build(shape(x), lambda index: y[index])])
