"""Recurrent layers, fused over time. Gates lie i f g o in torch too; it wants kernels transposed, and a second bias."""

from __future__ import annotations

import torch

from layerhub.kernels import KernelSet
from layerhub.spec.activations import sigmoid, tanh
from layerhub.spec.layer import Result
from layerhub_torch.namespace import random_bits

kernels = KernelSet()


def ordinary(layer, call):
    """torch has the usual activations only, and shows all gates the same x and h."""
    if type(layer.activation) is not tanh or type(layer.recurrent_activation) is not sigmoid:
        return False
    return not call.training or (not layer.recurrent_dropout and (layer.implementation == 2 or not layer.dropout))


@kernels.register("LSTM", when=ordinary, memory={"kernel": (1, 0), "recurrent_kernel": (1, 0)})
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    batch, time, size = x.shape
    if training and layer.dropout:
        kept = random_bits(rng, (batch, 1, size), x.device) >= round(layer.dropout * 2**32)
        x = x * (kept.to(x.dtype) / (1 - layer.dropout) if layer.dropout < 1 else 0.0)
    if layer.go_backwards:
        x, mask = x.flip(1), None if mask is None else mask.flip(1)
    zeros = x.new_zeros((batch, layer.units))
    start = (zeros, zeros) if initial_state is None else tuple(initial_state)
    if time == 0:
        last = start[0] if mask is None else zeros
        return Result(x.new_zeros((batch, 0, layer.units)) if layer.return_sequences else last, states=start)
    weights = [kernel.mT, recurrent_kernel.mT]
    if bias is not None:
        weights += [bias, torch.zeros_like(bias)]
    if mask is not None:
        return step_by_step(layer, x, mask, start, weights)
    states = [state.unsqueeze(0) for state in start]
    # One layer, nothing dropped between layers, one direction, batch first.
    outputs, h, c = torch.lstm(x, states, weights, bias is not None, 1, 0.0, training, False, True)
    h, c = h.squeeze(0), c.squeeze(0)
    return Result(outputs if layer.return_sequences else h, states=(h, c))


def step_by_step(layer, x, mask, start, weights):
    """torch has masks for sequences in order of length only: so its cell at each step, and what a mask means there."""
    (h, c), output, outputs = start, torch.zeros_like(start[0]), []
    silent = output
    for now, counts in zip(x.unbind(1), mask.unsqueeze(-1).unbind(1), strict=True):
        new_h, new_c = torch.lstm_cell(now, (h, c), *weights)
        output = torch.where(counts, new_h, silent if layer.zero_output_for_mask else output)
        h, c = torch.where(counts, new_h, h), torch.where(counts, new_c, c)
        outputs.append(output)
    return Result(torch.stack(outputs, 1) if layer.return_sequences else output, states=(h, c))
