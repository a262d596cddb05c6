"""BatchNormalization."""

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
