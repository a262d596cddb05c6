"""Max pooling of small windows as one pass over the window.

Not lax.reduce_window: the gradient of its maximum takes 50 times as long on CPU. For large windows the definition
serves: each place of a window takes XLA the longer to compile the more there are, all of 144 some 20 seconds.
"""

import math

from jax import numpy as jnp

from layerhub.kernels import KernelSet
from layerhub_jax import namespace as xp

kernels = KernelSet()

MOST = 27
"""Places of a window that are gone through one by one: three in each of three dimensions."""


def max_pooling(layer, x):
    x = layer.channels_last(xp, x)
    taps = layer.taps(layer.padded(xp, x, -float("inf")), x.shape[1:-1])
    _, largest = next(taps)
    for _, seen in taps:
        # The first maximum stays, and so does NaN.
        largest = jnp.where((seen > largest) | (seen != seen), seen, largest)
    return layer.as_declared(xp, largest)


def small(layer, call):
    return math.prod(layer.pool_size) <= MOST


def even_and_small(layer, call):
    pooling = layer.even(call.shapes[0])
    return pooling is not None and small(pooling, call)


def adaptive_max_pooling(layer, x):
    return max_pooling(layer.even(x.shape), x)


for rank in (1, 2, 3):
    kernels.register(f"MaxPooling{rank}D", when=small)(max_pooling)
    kernels.register(f"AdaptiveMaxPooling{rank}D", when=even_and_small)(adaptive_max_pooling)
