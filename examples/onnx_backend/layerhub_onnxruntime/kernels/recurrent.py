"""Recurrent layers along time. ONNX has time first, and kernels as (directions, gates * units, features).

LSTM and GRU are ``standard`` alone: onnxruntime's have its Sigmoid inside.
"""

from __future__ import annotations

from layerhub.kernels import KernelSet
from layerhub.spec.activations import relu, sigmoid, tanh
from layerhub.spec.layer import Result
from layerhub_onnxruntime import namespace as xp
from layerhub_onnxruntime.arrays import ops

kernels, standard = KernelSet(), KernelSet()

PLAIN_RELU = relu()


def plain(layer, call):
    """No mask, whole dropout or none; some steps, some samples, and a type that onnxruntime has them for."""
    return not (call.masked or call.training) and call.dtype == "float32" and 0 not in call.shapes[0]


def gated(layer, call):
    return plain(layer, call) and type(layer.activation) is tanh and type(layer.recurrent_activation) is sigmoid


@standard.register("LSTM", when=gated)
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    # Gates lie i f g o here, i o f g in ONNX.
    order = (0, 3, 1, 2)
    first = None if bias is None else gates(layer, bias, order)
    weights = transposed(layer, kernel, order), transposed(layer, recurrent_kernel, order)
    return along(layer, "LSTM", x, weights, both(first, None), initial_state)


@standard.register("GRU", when=gated)
def gru(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    # Gates lie z r g in ONNX too.
    order = (0, 1, 2)
    first, second = (None, None) if bias is None else layer.biases(bias)
    weights = transposed(layer, kernel, order), transposed(layer, recurrent_kernel, order)
    return along(
        layer, "GRU", x, weights, both(first, second), initial_state, linear_before_reset=int(layer.reset_after)
    )


@kernels.register(
    "SimpleRNN",
    when=lambda layer, call: plain(layer, call) and (type(layer.activation) is tanh or layer.activation == PLAIN_RELU),
)
def simple_rnn(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    weights = transposed(layer, kernel, (0,)), transposed(layer, recurrent_kernel, (0,))
    name = "Tanh" if type(layer.activation) is tanh else "Relu"
    return along(layer, "RNN", x, weights, both(bias, None), initial_state, activations=[name])


def gates(layer, weight, order):
    """The gates of a weight, which lie along its last axis, in another order."""
    if order == tuple(range(len(order))):
        return weight
    u = layer.units
    return xp.concat([weight[..., k * u : (k + 1) * u] for k in order], axis=-1)


def transposed(layer, kernel, order):
    """A kernel as ONNX has it, for one direction."""
    return xp.expand_dims(xp.permute_dims(gates(layer, kernel, order), (1, 0)), axis=0)


def both(first, second):
    """The biases of the input's and the state's part as one row; None where there is none."""
    if first is None:
        return None
    return xp.expand_dims(xp.concat([first, xp.zeros_like(first) if second is None else second], axis=0), axis=0)


def along(layer, operator, x, weights, bias, initial_state, **attributes):
    batch, time, _ = x.shape
    states = [None] * layer.states
    if initial_state is not None:
        states = [xp.expand_dims(state, axis=0) for state in initial_state]
    # The fifth input tells lengths, which are all alike.
    sequence, *last = ops(
        operator,
        (xp.permute_dims(x, (1, 0, 2)), *weights, bias, None, *states),
        [(time, 1, batch, layer.units), *((1, batch, layer.units),) * layer.states],
        hidden_size=layer.units,
        direction="reverse" if layer.go_backwards else "forward",
        **attributes,
    )
    last = tuple(xp.squeeze(state, axis=0) for state in last)
    if not layer.return_sequences:
        return Result(last[0], states=last)
    y = xp.permute_dims(xp.squeeze(sequence, axis=1), (1, 0, 2))
    # Outputs are in the order in which steps were taken, ONNX's in that of time.
    return Result(xp.flip(y, axis=1) if layer.go_backwards else y, states=last)
