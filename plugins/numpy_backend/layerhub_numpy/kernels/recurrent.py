"""Recurrent layers: the inputs of all steps in one go, then step by step in place.

Within a kernel arrays are (time, features, batch), so that each gate of a step is one contiguous block, and the gates
lie o i f g: the sigmoids side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from layerhub.kernels import KernelSet
from layerhub.spec import Result
from layerhub.spec.activations import sigmoid, tanh
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.memory import empty, empty_like
from layerhub_numpy.tiles import alone, product

kernels = KernelSet()


def is_usual(layer, call) -> bool:
    """With the usual activations, and nothing dropped."""
    drops = call.training and (layer.dropout or layer.recurrent_dropout)
    return isinstance(layer.activation, tanh) and isinstance(layer.recurrent_activation, sigmoid) and not drops


class Run(NamedTuple):
    """What the forward pass leaves for the backward one, in the order of the steps.

    x: (t, n, d), inputs. gates: o i f g. slopes: the derivatives of the sigmoids. h, c: states, the first ones
    included. counts: (t, n), the mask. shown: (t, n), where the output is the state h, not zeros. None: everywhere.
    """

    x: np.ndarray
    gates: np.ndarray
    slopes: np.ndarray
    h: np.ndarray
    c: np.ndarray
    counts: np.ndarray | None
    shown: np.ndarray | None


@kernels.register("LSTM", when=is_usual)
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    with alone():
        return forward(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep=False)[0]


@lstm.saving
def lstm_saving(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    with alone():
        result, run = forward(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep=True)
    return result, (kernel, recurrent_kernel, bias, initial_state, run)


def in_order(layer, x: np.ndarray) -> np.ndarray:
    """Batch-major data as (time, batch, …), in the order of the steps; a view."""
    x = x.swapaxes(0, 1)
    return x[::-1] if layer.go_backwards else x


def batch_major(layer, x: np.ndarray) -> np.ndarray:
    """The data that ``in_order`` gives this of."""
    return (x[::-1] if layer.go_backwards else x).swapaxes(0, 1)


def by_features(x: np.ndarray) -> np.ndarray:
    """(time, batch, features) as (time, features, batch), or back; a view."""
    return x.swapaxes(1, 2)


def arranged(weights: np.ndarray, units: int) -> np.ndarray:
    """Weights with the gates i f g o along the last axis, as rows o i f g; a copy."""
    return np.ascontiguousarray(np.roll(weights, units, axis=-1).T)


def restored(rows: np.ndarray, units: int) -> np.ndarray:
    """The weights that ``arranged`` gives these rows of."""
    return np.ascontiguousarray(np.roll(rows, -units, axis=0).T)


def negated(weights: np.ndarray, units: int) -> np.ndarray:
    """``arranged``, with the sign turned for the sigmoids: exp wants their sums so."""
    rows = arranged(weights, units)
    rows[: 3 * units] *= -1
    return rows


def shown_steps(layer, counts: np.ndarray | None, initial_state: tuple | None) -> np.ndarray | None:
    """Where the output is the state h: not at masked steps, if they give zeros, and not before the first that counts.

    Without an initial state h itself is zero there.
    """
    if counts is None or not (layer.zero_output_for_mask or initial_state is not None):
        return None
    return counts if layer.zero_output_for_mask else np.logical_or.accumulate(counts, axis=0)


def with_bias(recurrent_kernel: np.ndarray, bias: np.ndarray | None, units: int) -> np.ndarray:
    """Recurrent kernel and bias side by side, for states that have a feature of ones at their end."""
    rows = negated(recurrent_kernel, units)
    return rows if bias is None else np.concatenate([rows, negated(bias, units)[:, None]], axis=1)


def forward(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep: bool) -> tuple[Result, Run | None]:
    """keep: keep what the gradient needs."""
    x = in_order(layer, x)
    (steps, n, _), u = x.shape, layer.units
    counts = None if mask is None else in_order(layer, mask)
    gates = np.matmul(negated(kernel, u), by_features(x), out=empty((steps, 4 * u, n), x.dtype))
    recurrent = with_bias(recurrent_kernel, bias, u)
    # Of states that nobody will read again, two are kept in turn.
    h = np.empty((steps + 1 if keep or layer.return_sequences else 2, recurrent.shape[1], n), x.dtype)
    c = np.empty((steps + 1 if keep else 2, u, n), x.dtype)
    h[:, u:] = 1
    h[0, :u], c[0] = (0, 0) if initial_state is None else (state.T for state in initial_state)
    slopes = empty((steps, 3 * u, n), x.dtype) if keep else None
    more, gain = np.empty((4 * u, n), x.dtype), np.empty((u, n), x.dtype)
    # numpy's minimum of an array and a number takes three times as long as that of two arrays.
    largest = np.full((3 * u, n), np.finfo(x.dtype).max) if keep else None

    with np.errstate(over="ignore"):
        for t in range(steps):
            old, new, now = t, t + 1, gates[t]
            h_old, h_new, c_old, c_new = h[old % len(h)], h[new % len(h)], c[old % len(c)], c[new % len(c)]
            now += np.dot(recurrent, h_old, out=more)
            sigmoids, g = now[: 3 * u], now[3 * u :]
            # sigmoid(z) = 1 / (1 + e), its slope e / (1 + e)**2, with e = exp(-z): both accurate in both tails.
            np.exp(sigmoids, out=sigmoids)
            if keep:
                slope = np.minimum(sigmoids, largest, out=slopes[t])
            sigmoids += 1
            np.divide(1, sigmoids, out=sigmoids)
            if keep:
                slope *= sigmoids
                slope *= sigmoids
            np.tanh(g, out=g)
            np.multiply(now[2 * u : 3 * u], c_old, out=c_new)
            c_new += np.multiply(now[u : 2 * u], g, out=gain)
            np.multiply(now[:u], np.tanh(c_new, out=gain), out=h_new[:u])
            if counts is not None:
                stays = ~counts[t]
                np.copyto(h_new, h_old, where=stays)
                np.copyto(c_new, c_old, where=stays)

    shown = shown_steps(layer, counts, initial_state)
    last, c_last = h[steps % len(h), :u].T, c[steps % len(c)].T
    if layer.return_sequences:
        outputs = h[1 : steps + 1, :u] if shown is None else np.where(shown[:, None], h[1 : steps + 1, :u], 0)
        y = outputs.transpose(2, 0, 1)
    else:
        y = last if shown is None else np.where(shown[-1:].any(axis=0)[:, None], last, 0)
    result = Result(np.array(y, order="C"), states=(np.array(last, order="C"), np.array(c_last, order="C")))
    return result, Run(x, gates, slopes, h, c, counts, shown) if keep else None


@lstm.vjp
def lstm_vjp(layer, saved, cotangents):
    kernel, recurrent_kernel, bias, initial_state, run = saved
    u = layer.units
    with alone():
        dz, dh, dc = backward(layer, recurrent_kernel, run, *cotangents)
    # All steps of all samples side by side, for one product each.
    steps, n, d = run.x.shape
    rows = empty((4 * u, steps * n), dz.dtype)
    rows.reshape(4 * u, steps, n)[...] = dz.swapaxes(0, 1)
    return OnDemand(
        lambda: batch_major(layer, product(rows.T, arranged(kernel, u)).reshape(steps, n, d)),
        lambda: restored(product(rows, run.x.reshape(steps * n, d)), u),
        lambda: restored(product(rows, run.h[:-1, :u].swapaxes(1, 2).reshape(steps * n, u)), u),
        absent if bias is None else lambda: restored(rows.sum(axis=1), u),
        absent,
        absent,
        absent if initial_state is None else lambda: (dh.T, dc.T),
        absent,
    )


def backward(layer, recurrent_kernel, run: Run, dy, dh, dc) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of the gates' sums, and of the first states: backpropagation through time."""
    u, steps = layer.units, len(run.gates)
    recurrent = np.ascontiguousarray(arranged(recurrent_kernel, u).T)
    dh, dc = np.array(dh.T, order="C"), np.array(dc.T, order="C")
    given = outputs_gradient(layer, run, dy)
    if steps == 0 and not layer.return_sequences:
        dh += given
    dz = empty_like(run.gates)
    other, slope, part = np.empty_like(dh), np.empty_like(dh), np.empty_like(dh)
    for t in range(steps - 1, -1, -1):
        if layer.return_sequences:
            dh += given[t]
        elif t == steps - 1:
            dh += given
        to_now = dz[t]
        o, i, f, g = run.gates[t].reshape(4, u, -1)
        to_o, to_i, to_f, to_g = to_now.reshape(4, u, -1)
        counts = True if run.counts is None else run.counts[t]
        # h = o * tanh(c)
        bent = np.tanh(run.c[t + 1], out=slope)
        np.multiply(dh, bent, out=to_o)
        tanh_slope(bent, part, out=slope)
        slope *= o
        slope *= dh
        np.add(dc, slope, out=dc, where=counts)
        # c = f * c + i * g
        np.multiply(dc, g, out=to_i)
        np.multiply(dc, run.c[t], out=to_f)
        to_now[: 3 * u] *= run.slopes[t]
        np.multiply(dc, i, out=to_g)
        to_g *= tanh_slope(g, part, out=slope)
        np.multiply(dc, f, out=dc, where=counts)
        if run.counts is not None:
            np.copyto(to_now, 0, where=~counts)
        np.dot(recurrent, to_now, out=other)
        if run.counts is not None:
            np.copyto(other, dh, where=~counts)
        dh, other = other, dh
    return dz, dh, dc


def tanh_slope(y: np.ndarray, part: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The derivative of tanh where its value is y. part: scratch memory. out may be y."""
    np.subtract(1, y, out=part)
    np.add(1, y, out=out)
    out *= part
    return out


def outputs_gradient(layer, run: Run, dy: np.ndarray) -> np.ndarray:
    """The gradient of the state h, at all steps or at the last one, as far as it is an output."""
    if layer.return_sequences:
        dy = np.ascontiguousarray(dy.transpose(1, 2, 0))
        return dy if run.shown is None else np.where(run.shown[:, None], dy, 0)
    return dy.T if run.shown is None else np.where(run.shown[-1:].any(axis=0), dy.T, 0)
