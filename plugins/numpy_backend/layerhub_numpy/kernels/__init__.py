"""The kernels, in modules named like the specs' own."""

from layerhub_numpy.half import in_single
from layerhub_numpy.kernels import (
    activations,
    convolution,
    core,
    losses,
    normalization,
    optimizers,
    pooling,
    recurrent,
)

_ARRAYS = (activations, convolution, core, normalization, pooling, recurrent)

KERNELS = [
    # Of equal kernels the first one serves, so those for float16 alone come first.
    *(in_single(family.kernels) for family in _ARRAYS),
    *(family.kernels for family in (*_ARRAYS, losses, optimizers)),
]
