"""Max pooling as one pass over the window.

Not lax.reduce_window: the gradient of its maximum takes 50 times as long on CPU.
"""

from jax import numpy as jnp

from layerhub.kernels import KernelSet
from layerhub_jax import namespace as xp

kernels = KernelSet()


def max_pooling(layer, x):
    x = layer.channels_last(xp, x)
    taps = layer.taps(layer.padded(xp, x, -float("inf")), x.shape[1:-1])
    _, largest = next(taps)
    for _, seen in taps:
        # The first maximum stays, and so does NaN.
        largest = jnp.where((seen > largest) | (seen != seen), seen, largest)
    return layer.as_declared(xp, largest)


def even(layer, call):
    return layer.even(call.shapes[0]) is not None


def adaptive_max_pooling(layer, x):
    return max_pooling(layer.even(x.shape), x)


for rank in (1, 2, 3):
    kernels.register(f"MaxPooling{rank}D")(max_pooling)
    kernels.register(f"AdaptiveMaxPooling{rank}D", when=even)(adaptive_max_pooling)
