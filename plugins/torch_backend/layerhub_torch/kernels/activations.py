"""Activations, where torch means exactly the same, at the kinks too."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from layerhub.kernels import KernelSet
from layerhub.spec.activations import relu as plain

kernels = KernelSet()


@kernels.register("relu", kind="activation", when=lambda activation: activation == plain())
def relu(activation, x):
    return torch.relu(x)


@kernels.register("relu6", kind="activation")
def relu6(activation, x):
    return F.relu6(x)


@kernels.register("leaky_relu", kind="activation")
def leaky_relu(activation, x):
    return F.leaky_relu(x, activation.negative_slope)


@kernels.register("elu", kind="activation")
def elu(activation, x):
    return F.elu(x, activation.alpha)


@kernels.register("celu", kind="activation")
def celu(activation, x):
    return F.celu(x, activation.alpha)


@kernels.register("selu", kind="activation")
def selu(activation, x):
    return F.selu(x)


class Sigmoid(torch.autograd.Function):
    """The sigmoid, differentiated as y(x) * y(-x).

    torch's own takes (1 - y) * y, of which no digit is right at 16 in float32, at 37 in float64.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * (y * torch.sigmoid(-x))


@kernels.register("sigmoid", kind="activation")
def sigmoid(activation, x):
    return Sigmoid.apply(x) if torch.is_grad_enabled() else torch.sigmoid(x)


@kernels.register("hard_sigmoid", kind="activation")
def hard_sigmoid(activation, x):
    # F.hardsigmoid's gradient is good to 5e-9 only, in float64 too.
    return F.hardtanh(x / 6 + 0.5, 0.0, 1.0)


@kernels.register("hard_silu", kind="activation")
def hard_silu(activation, x):
    return x * F.hardtanh(x / 6 + 0.5, 0.0, 1.0)


@kernels.register("hard_tanh", kind="activation")
def hard_tanh(activation, x):
    return F.hardtanh(x)


@kernels.register("hard_shrink", kind="activation")
def hard_shrink(activation, x):
    return F.hardshrink(x, activation.threshold)


@kernels.register("soft_shrink", kind="activation")
def soft_shrink(activation, x):
    return F.softshrink(x, activation.threshold)


@kernels.register("tanh_shrink", kind="activation")
def tanh_shrink(activation, x):
    return F.tanhshrink(x)


@kernels.register("threshold", kind="activation")
def threshold(activation, x):
    return F.threshold(x, activation.threshold, activation.default_value)


@kernels.register("log_sigmoid", kind="activation")
def log_sigmoid(activation, x):
    return F.logsigmoid(x)


@kernels.register("glu", kind="activation")
def glu(activation, x):
    # The gradient of F.glu goes by 1 - y, as that of torch's sigmoid.
    a, b = x.chunk(2, activation.axis)
    return a * Sigmoid.apply(b) if torch.is_grad_enabled() else F.glu(x, activation.axis)


def one_axis(activation):
    """torch takes no more."""
    return isinstance(activation.axis, int)


@kernels.register("softmax", kind="activation", when=one_axis)
def softmax(activation, x):
    return torch.softmax(x, activation.axis)


@kernels.register("log_softmax", kind="activation", when=one_axis)
def log_softmax(activation, x):
    return torch.log_softmax(x, activation.axis)


@kernels.register("softplus", kind="activation")
def softplus(activation, x):
    # Beyond the threshold torch returns x; at its own, 20, that is 2e-9 off.
    return F.softplus(x, threshold=40)


@kernels.register("softsign", kind="activation")
def softsign(activation, x):
    return F.softsign(x)


@kernels.register("silu", kind="activation")
def silu(activation, x):
    # The gradient of F.silu goes by 1 - y too.
    return x * Sigmoid.apply(x) if torch.is_grad_enabled() else F.silu(x)


@kernels.register("gelu", kind="activation")
def gelu(activation, x):
    return F.gelu(x, approximate="tanh" if activation.approximate else "none")


@kernels.register("mish", kind="activation")
def mish(activation, x):
    return F.mish(x)
