"""Recurrent layers, fused over time. torch wants kernels transposed, and a bias for each of the two."""

from __future__ import annotations

from functools import cache

import torch

from layerhub.kernels import KernelSet
from layerhub.namespace import Namespace
from layerhub.spec.activations import relu, sigmoid, tanh
from layerhub.spec.layer import Result
from layerhub_torch import namespace
from layerhub_torch.kernels.convolution import conv

kernels = KernelSet()

TRANSPOSED = {"kernel": (1, 0), "recurrent_kernel": (1, 0)}
PLAIN_RELU = relu()


def ordinary(layer, call):
    """torch has the usual activations only, and shows all gates the same x and h."""
    if type(layer.activation) is not tanh or type(layer.recurrent_activation) is not sigmoid:
        return False
    return same_for_all_gates(layer, call)


def same_for_all_gates(layer, call):
    return not call.training or (not layer.recurrent_dropout and (layer.implementation == 2 or not layer.dropout))


@kernels.register("LSTM", when=ordinary, memory=TRANSPOSED)
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    # Gates lie i f g o in torch too.
    weights = [kernel.mT, recurrent_kernel.mT]
    if bias is not None:
        weights += [bias, torch.zeros_like(bias)]
    return along(layer, x, weights, torch.lstm, torch.lstm_cell, training, mask, initial_state, rng)


@kernels.register("GRU", when=lambda layer, call: layer.reset_after and ordinary(layer, call), memory=TRANSPOSED)
def gru(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    weights = [gates_of_torch(kernel.mT), gates_of_torch(recurrent_kernel.mT)]
    if bias is not None:
        weights += [gates_of_torch(row) for row in bias]
    return along(layer, x, weights, torch.gru, torch.gru_cell, training, mask, initial_state, rng)


def gates_of_torch(rows):
    """Gates r z g instead of z r g."""
    z, r, g = rows.chunk(3)
    return torch.cat((r, z, g))


def plain(layer, call):
    known = type(layer.activation) is tanh or layer.activation == PLAIN_RELU
    return known and (not call.training or not layer.recurrent_dropout)


@kernels.register("SimpleRNN", when=plain, memory=TRANSPOSED)
def simple_rnn(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    weights = [kernel.mT, recurrent_kernel.mT]
    if bias is not None:
        weights += [bias, torch.zeros_like(bias)]
    if type(layer.activation) is tanh:
        fused = torch.rnn_tanh, torch.rnn_tanh_cell
    else:
        fused = torch.rnn_relu, torch.rnn_relu_cell
    return along(layer, x, weights, *fused, training, mask, initial_state, rng)


def along(layer, x, weights, fused, cell, training, mask, initial_state, rng):
    """All steps by torch's ``fused`` function, or under a mask by its ``cell``."""
    batch, time, size = x.shape
    if training and layer.dropout:
        kept = namespace.random_bits(rng, (batch, 1, size), x.device) >= round(layer.dropout * 2**32)
        x = x * (kept.to(x.dtype) / (1 - layer.dropout) if layer.dropout < 1 else 0.0)
    if layer.go_backwards:
        x, mask = x.flip(1), None if mask is None else mask.flip(1)
    zeros = x.new_zeros((batch, layer.units))
    start = (zeros,) * layer.states if initial_state is None else tuple(initial_state)
    if time == 0:
        return Result(x.new_zeros((batch, 0, layer.units)) if layer.return_sequences else zeros, states=start)
    if mask is not None:
        return step_by_step(layer, x, mask, start, cell, weights)
    states = [state.unsqueeze(0) for state in start]
    states = states if len(states) > 1 else states[0]
    # One layer, nothing dropped between layers, one direction, batch first.
    outputs, *states = fused(x, states, weights, len(weights) == 4, 1, 0.0, training, False, True)
    states = tuple(state.squeeze(0) for state in states)
    return Result(outputs if layer.return_sequences else states[0], states=states)


def step_by_step(layer, x, mask, states, cell, weights):
    """torch has masks for sequences in order of length only: so its cell at each step, and what a mask means there."""
    output, outputs = torch.zeros_like(states[0]), []
    silent, single = output, len(states) == 1
    for now, counts in zip(x.unbind(1), mask.unsqueeze(-1).unbind(1), strict=True):
        new = (cell(now, states[0], *weights),) if single else cell(now, states, *weights)
        output = torch.where(counts, new[0], silent if layer.zero_output_for_mask else output)
        states = tuple(torch.where(counts, after, before) for after, before in zip(new, states, strict=True))
        outputs.append(output)
    return Result(torch.stack(outputs, 1) if layer.return_sequences else output, states=states)


@cache
def namespace_on(device):
    return Namespace(namespace, **namespace.EXTRAS | namespace.placed(device))


def conv_lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    xp = namespace_on(x.device)
    return layer.by(conv).define(xp, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng)


for rank in (1, 2, 3):
    order = (rank + 1, *range(rank), rank)
    kernels.register(f"ConvLSTM{rank}D", memory={"kernel": order, "recurrent_kernel": order})(conv_lstm)
