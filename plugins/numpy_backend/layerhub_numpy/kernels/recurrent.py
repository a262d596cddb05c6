"""Recurrent layers: the inputs of all steps in one product, then step by step in place.

Memory is time-major, (t, n, …), so that each step is one contiguous block. Within a kernel the gates lie o i f g: the
sigmoids side by side, and side by side what the cell's state depends on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from layerhub.kernels import KernelSet
from layerhub.spec import Result
from layerhub.spec.activations import sigmoid, tanh
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.kernels.activations import both_sides
from layerhub_numpy.kernels.activations import sigmoid as sigmoid_into
from layerhub_numpy.tiles import column_sums

kernels = KernelSet()


def is_usual(layer, call) -> bool:
    """With the usual activations, and nothing dropped."""
    drops = call.training and (layer.dropout or layer.recurrent_dropout)
    return isinstance(layer.activation, tanh) and isinstance(layer.recurrent_activation, sigmoid) and not drops


class Run(NamedTuple):
    """What the forward pass leaves for the backward one; time-major, in the order of the steps.

    x: inputs. gates: o i f g. complements: sigmoid(-z) of o i f. h, c: states, the first ones included. tanhc: tanh(c).
    """

    x: np.ndarray
    gates: np.ndarray
    complements: np.ndarray
    h: np.ndarray
    c: np.ndarray
    tanhc: np.ndarray


@kernels.register("LSTM", when=is_usual)
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    return lstm_run(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep=False)[0]


@lstm.saving
def lstm_saving(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    result, run = lstm_run(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep=True)
    return result, (x, kernel, recurrent_kernel, bias, mask, initial_state, run)
