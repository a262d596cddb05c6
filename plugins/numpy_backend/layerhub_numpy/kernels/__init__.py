"""The kernels, in modules named like the specs' own."""

from layerhub_numpy.half import in_single
from layerhub_numpy.kernels import (
    activations,
    advanced,
    attention,
    convolution,
    core,
    local,
    losses,
    merge,
    normalization,
    optimizers,
    pooling,
    recurrent,
    reshaping,
)

_ARRAYS = (
    activations,
    advanced,
    attention,
    convolution,
    core,
    local,
    merge,
    normalization,
    pooling,
    recurrent,
    reshaping,
)

KERNELS = [
    # Of equal kernels the first one serves, so those for float16 alone come first.
    *(in_single(family.kernels) for family in _ARRAYS),
    *(family.kernels for family in (*_ARRAYS, losses, optimizers)),
]
