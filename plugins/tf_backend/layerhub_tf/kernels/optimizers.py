"""Optimizers, compiled: an update is many operations on each element, and XLA makes one pass of them."""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub_tf import namespace as xp

kernels = KernelSet()


#@kernels.register("Adam", kind="optimizer")
def adam(optimizer, coefficients, weights, gradients, slots):
    def update(coefficients, weights, gradients, slots):
        moved = [
            optimizer.update(xp, coefficients, w, g, *s) for w, g, s in zip(weights, gradients, slots, strict=True)
        ]
        return [m[0] for m in moved], [m[1:] for m in moved]

    return tf.function(update, jit_compile=True, autograph=False)(coefficients, weights, gradients, slots)
