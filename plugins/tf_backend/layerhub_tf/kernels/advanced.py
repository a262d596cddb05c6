"""Softmax as a layer."""

from layerhub.kernels import KernelSet
from layerhub_tf.kernels import activations

kernels = KernelSet()


@kernels.register("Softmax", when=lambda layer, call: not call.masked and activations.one_axis(layer))
def softmax(layer, x, mask):
    return activations.softmax(layer, x)
