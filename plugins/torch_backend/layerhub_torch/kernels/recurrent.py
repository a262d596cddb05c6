"""Recurrent layers, fused over time. Gates lie i f g o in torch too; it wants kernels transposed, and a second bias."""

from __future__ import annotations

import torch

from layerhub.kernels import KernelSet
from layerhub.spec.activations import sigmoid, tanh
from layerhub.spec.layer import Result

kernels = KernelSet()


def fused(layer, call):
    if call.masked or type(layer.activation) is not tanh or type(layer.recurrent_activation) is not sigmoid:
        return False
    return not call.training or not (layer.dropout or layer.recurrent_dropout)


@kernels.register("LSTM", when=fused, memory={"kernel": (1, 0), "recurrent_kernel": (1, 0)})
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    if initial_state is None:
        zeros = x.new_zeros((x.shape[0], layer.units))
        initial_state = (zeros, zeros)
    if layer.go_backwards:
        x = x.flip(1)
    if x.shape[1] == 0:
        y = x.new_zeros((x.shape[0], 0, layer.units)) if layer.return_sequences else initial_state[0]
        return Result(y, states=tuple(initial_state))
    weights = [kernel.mT, recurrent_kernel.mT]
    if bias is not None:
        weights += [bias, torch.zeros_like(bias)]
    states = [state.unsqueeze(0) for state in initial_state]
    # One layer, no dropout between layers, one direction, batch first.
    outputs, h, c = torch.lstm(x, states, weights, bias is not None, 1, 0.0, training, False, True)
    h, c = h.squeeze(0), c.squeeze(0)
    return Result(outputs if layer.return_sequences else h, states=(h, c))
