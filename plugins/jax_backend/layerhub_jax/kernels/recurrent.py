"""Convolutional recurrence with XLA's convolutions."""

from layerhub.kernels import KernelSet
from layerhub_jax import namespace as xp
from layerhub_jax.kernels.convolution import conv

kernels = KernelSet()


def conv_lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    return layer.by(conv).define(xp, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng)


for rank in (1, 2, 3):
    kernels.register(f"ConvLSTM{rank}D")(conv_lstm)
