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
from layerhub_numpy.tiles import column_sums

kernels = KernelSet()


def is_usual(layer, call) -> bool:
    """With the usual activations, and nothing dropped."""
    drops = call.training and (layer.dropout or layer.recurrent_dropout)
    return isinstance(layer.activation, tanh) and isinstance(layer.recurrent_activation, sigmoid) and not drops


class Run(NamedTuple):
    """What the forward pass leaves for the backward one, time-major, in the order of the steps.

    x: inputs. gates: o i f g. complements: 1 - o, 1 - i, 1 - f. h, c: states, the first ones included. tanhc: tanh(c).
    counts: (t, n), the mask. shown: (t, n), where outputs are not zeros for want of one. None: everywhere.
    """

    x: np.ndarray
    gates: np.ndarray
    complements: np.ndarray
    h: np.ndarray
    c: np.ndarray
    tanhc: np.ndarray
    counts: np.ndarray | None
    shown: np.ndarray | None


@kernels.register("LSTM", when=is_usual)
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    return forward(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep=False)[0]


@lstm.saving
def lstm_saving(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    result, run = forward(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep=True)
    return result, (kernel, recurrent_kernel, bias, initial_state, run)


def arranged(weights: np.ndarray, units: int) -> np.ndarray:
    """Gates i f g o, along the last axis, as o i f g: a copy."""
    return np.roll(weights, units, axis=-1)


def negated(weights: np.ndarray, units: int) -> np.ndarray:
    """``arranged``, for gates of which the sigmoids' inputs come out with their sign turned, as exp wants them."""
    weights = arranged(weights, units)
    weights[..., : 3 * units] *= -1
    return weights


def in_order(layer, x: np.ndarray) -> np.ndarray:
    """Batch-major data in the order of the steps, a view."""
    x = x.swapaxes(0, 1)
    return x[::-1] if layer.go_backwards else x


def batch_major(layer, x: np.ndarray) -> np.ndarray:
    """The data that ``in_order`` gives this of."""
    return (x[::-1] if layer.go_backwards else x).swapaxes(0, 1)


def shown_steps(layer, counts: np.ndarray | None, initial_state: tuple | None) -> np.ndarray | None:
    """Where an output is the state h: not at masked steps, if they give zeros, and not before the first that counts.

    Without an initial state h itself is zero there.
    """
    if counts is None or not (layer.zero_output_for_mask or initial_state is not None):
        return None
    return counts if layer.zero_output_for_mask else np.logical_or.accumulate(counts, axis=0)


def forward(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep: bool) -> tuple[Result, Run | None]:
    """keep: keep what the gradient needs."""
    (n, steps, d), u = x.shape, layer.units
    x = np.ascontiguousarray(in_order(layer, x))
    counts = None if mask is None else in_order(layer, mask)
    gates = x.reshape(steps * n, d).dot(negated(kernel, u)).reshape(steps, n, 4 * u)
    if bias is not None:
        gates += negated(bias, u)
    recurrent_kernel = negated(recurrent_kernel, u)

    # Of states that nobody will read again, two are kept in turn.
    h = np.empty((steps + 1 if keep or layer.return_sequences else 2, n, u), x.dtype)
    c = np.empty((steps + 1 if keep else 2, n, u), x.dtype)
    h[0], c[0] = (0, 0) if initial_state is None else initial_state
    tanhc = np.empty((steps if keep else 1, n, u), x.dtype)
    complements = np.empty((steps, n, 3 * u), x.dtype) if keep else None
    product, gain = np.empty((n, 4 * u), x.dtype), np.empty((n, u), x.dtype)
    largest = np.finfo(x.dtype).max

    with np.errstate(over="ignore"):
        for t in range(steps):
            now, before, after = gates[t], t, t + 1
            h_old, h_new = h[before % len(h)], h[after % len(h)]
            c_old, c_new = c[before % len(c)], c[after % len(c)]
            now += np.dot(h_old, recurrent_kernel, out=product)
            sigmoids, g = now[:, : 3 * u], now[:, 3 * u :]
            # sigmoid(z) = 1 / (1 + exp(-z)) and 1 - sigmoid(z) = exp(-z) * sigmoid(z), both accurate in their tails.
            np.exp(sigmoids, out=sigmoids)
            if keep:
                odds = np.minimum(sigmoids, largest, out=complements[t])
            sigmoids += 1
            np.divide(1, sigmoids, out=sigmoids)
            if keep:
                odds *= sigmoids
            np.tanh(g, out=g)
            np.multiply(now[:, 2 * u : 3 * u], c_old, out=c_new)
            c_new += np.multiply(now[:, u : 2 * u], g, out=gain)
            bent = np.tanh(c_new, out=tanhc[t % len(tanhc)])
            np.multiply(now[:, :u], bent, out=h_new)
            if counts is not None:
                stays = ~counts[t][:, None]
                np.copyto(h_new, h_old, where=stays)
                np.copyto(c_new, c_old, where=stays)

    shown = shown_steps(layer, counts, initial_state)
    last = h[steps % len(h)]
    if layer.return_sequences:
        outputs = h[1 : steps + 1] if shown is None else np.where(shown[:, :, None], h[1 : steps + 1], 0)
        y = outputs.swapaxes(0, 1)
    elif shown is None:
        y = last.copy()
    else:
        y = np.where(shown[-1:].any(axis=0)[:, None], last, 0)
    result = Result(y, states=(last.copy(), c[steps % len(c)].copy()))
    return result, Run(x, gates, complements, h, c, tanhc, counts, shown) if keep else None


@lstm.vjp
def lstm_vjp(layer, saved, cotangents):
    kernel, recurrent_kernel, bias, initial_state, run = saved
    u = layer.units
    dz, *first = backward(layer, arranged(recurrent_kernel, u), run, *cotangents)
    rows = dz.reshape(-1, 4 * u)

    def restored(weights: np.ndarray) -> np.ndarray:
        return np.roll(weights, -u, axis=-1)

    def of_input() -> np.ndarray:
        return batch_major(layer, rows.dot(arranged(kernel, u).T).reshape(run.x.shape))

    return OnDemand(
        of_input,
        lambda: restored(run.x.reshape(len(rows), kernel.shape[0]).T.dot(rows)),
        lambda: restored(run.h[:-1].reshape(len(rows), u).T.dot(rows)),
        absent if bias is None else lambda: restored(column_sums(rows)),
        absent,
        absent,
        absent if initial_state is None else lambda: tuple(first),
        absent,
    )


def backward(layer, recurrent_kernel, run: Run, dy, dh, dc) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of the gates' sums, and of the first states: backpropagation through time."""
    u, steps = layer.units, len(run.x)
    dh, dc = dh.copy(), dc.copy()
    o, i, f, g = (run.gates[:, :, k * u : (k + 1) * u] for k in range(4))
    # How a gate's sum moves the state (of o: the output), and how the cell's state moves the output; for all steps.
    dz = np.empty_like(run.gates)
    np.multiply(run.gates[:, :, : 3 * u], run.complements, out=dz[:, :, : 3 * u])
    dz[:, :, :u] *= run.tanhc
    dz[:, :, u : 2 * u] *= g
    dz[:, :, 2 * u : 3 * u] *= run.c[:-1]
    dz[:, :, 3 * u :] = (1 - g) * (1 + g) * i
    through = (1 - run.tanhc) * (1 + run.tanhc) * o
    forget = f
    if run.counts is not None:
        counts = run.counts[:, :, None]
        dz *= counts
        through *= counts
        forget = np.where(counts, f, 1)
    if steps == 0 and run.counts is None and not layer.return_sequences:
        # Without any step the output is the first state.
        dh += dy
    given = outputs_gradient(layer, run, dy)
    by_gate = dz.reshape(steps, len(dh), 4, u)
    product, other = np.empty_like(dh), np.empty_like(dh)
    for t in range(steps - 1, -1, -1):
        if given[t] is not None:
            dh += given[t]
        dc += np.multiply(dh, through[t], out=product)
        now = by_gate[t]
        now[:, 0] *= dh
        now[:, 1:] *= dc[:, None]
        dc *= forget[t]
        np.dot(dz[t], recurrent_kernel.T, out=other)
        if run.counts is not None:
            other += np.multiply(dh, ~run.counts[t][:, None], out=product)
        dh, other = other, dh
    return dz, dh, dc


def outputs_gradient(layer, run: Run, dy: np.ndarray) -> list[np.ndarray | None]:
    """The gradient of the state h at each step, as far as it is an output; None: not at all."""
    steps = len(run.x)
    if layer.return_sequences:
        dy = dy.swapaxes(0, 1)
        return list(dy if run.shown is None else np.where(run.shown[:, :, None], dy, 0))
    given: list[np.ndarray | None] = [None] * steps
    if steps:
        given[-1] = dy if run.shown is None else np.where(run.shown[-1][:, None], dy, 0)
    return given
