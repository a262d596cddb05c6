"""Recurrent layers: the inputs of all steps in one go, then step by step in place.

Within a kernel arrays are (time, features, batch), so that each gate of a step is one contiguous block, and the
sigmoids lie side by side at the beginning: the gates are o i f g of an LSTM, z r g of a GRU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from layerhub import autodiff
from layerhub.kernels import KernelSet
from layerhub.namespace import Namespace
from layerhub.spec import Result
from layerhub.spec.activations import relu, sigmoid, tanh
from layerhub_numpy.backend import NumpyBackend
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.kernels.convolution import conv, conv_vjp
from layerhub_numpy.memory import empty, empty_like
from layerhub_numpy.tiles import alone, product

kernels = KernelSet()

PLAIN_RELU = relu()


def drops(layer, call) -> bool:
    return call.training and bool(layer.dropout or layer.recurrent_dropout)


def is_usual(layer, call) -> bool:
    """With the usual activations, and nothing dropped."""
    usual = isinstance(layer.activation, tanh) and isinstance(layer.recurrent_activation, sigmoid)
    return usual and not drops(layer, call)


def is_plain(layer, call) -> bool:
    """With tanh or relu, and nothing dropped."""
    return (isinstance(layer.activation, tanh) or layer.activation == PLAIN_RELU) and not drops(layer, call)


class Run(NamedTuple):
    """What the forward pass leaves for the backward one, in the order of the steps.

    x: (t, n, d), inputs. h, c: states, the first ones included. counts: (t, n), the mask. shown: (t, n), where the
    output is the state h, not zeros. None: everywhere. gates: after their activations. slopes: the derivatives of the
    sigmoids. inner: what the state gives to g of a GRU before it is reset.
    """

    x: np.ndarray
    h: np.ndarray
    counts: np.ndarray | None
    shown: np.ndarray | None
    gates: np.ndarray
    slopes: np.ndarray | None = None
    c: np.ndarray | None = None
    inner: np.ndarray | None = None


def register(name: str, when: Callable, forward: Callable, vjp: Callable) -> None:
    """Enter a kernel by its forward pass, which also keeps what the gradient needs, and its VJP."""

    @kernels.register(name, when=when)
    def run(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
        with alone():
            return forward(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep=False)[0]

    @run.saving
    def run_saving(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
        with alone():
            result, run = forward(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep=True)
        return result, (kernel, recurrent_kernel, bias, initial_state, run)

    run.vjp(vjp)


# What all of them share


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
    """Weights with gates along the last axis as rows, the last ``units`` of them first; a copy."""
    return np.ascontiguousarray(np.roll(weights, units, axis=-1).T)


def restored(rows: np.ndarray, units: int) -> np.ndarray:
    """The weights that ``arranged`` gives these rows of."""
    return np.ascontiguousarray(np.roll(rows, -units, axis=0).T)


def negated(rows: np.ndarray, sigmoids: int) -> np.ndarray:
    """Rows with the sign turned of the first ones, in place: exp wants the sums of sigmoids so."""
    rows[:sigmoids] *= -1
    return rows


def with_bias(rows: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Recurrent kernel and bias side by side, for states that have a feature of ones at their end."""
    return rows if bias is None else np.concatenate([rows, bias[:, None]], axis=1)


def of_inputs(layer, x: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inputs in the order of the steps, and their part of all gates."""
    x = in_order(layer, x)
    return x, np.matmul(rows, by_features(x), out=empty((len(x), len(rows), x.shape[1]), x.dtype))


def first_states(layer, gates: np.ndarray, features: int, start: np.ndarray | None, keep: bool) -> np.ndarray:
    """Room for the states of all steps, with the first ones in it, and ones in features beyond the units.

    Of states that nobody will read again, two are kept in turn.
    """
    steps, _, n = gates.shape
    h = np.empty((steps + 1 if keep else 2, features, n), gates.dtype)
    h[:, layer.units :] = 1
    h[0, : layer.units] = 0 if start is None else start.T
    return h


def to_sigmoid(z: np.ndarray, slope: np.ndarray | None, largest: np.ndarray | None) -> None:
    """1 / (1 + e) with e = exp(z), in place, and its slope e / (1 + e)**2: both accurate in both tails."""
    np.exp(z, out=z)
    if slope is not None:
        np.minimum(z, largest, out=slope)
    z += 1
    np.divide(1, z, out=z)
    if slope is not None:
        slope *= z
        slope *= z


def largest_like(z: np.ndarray, keep: bool) -> np.ndarray | None:
    # numpy's minimum of an array and a number takes three times as long as that of two arrays.
    return np.full(z.shape, np.finfo(z.dtype).max) if keep else None


def stay(counts: np.ndarray | None, old: np.ndarray, new: np.ndarray) -> None:
    """Leave states as they are where a step does not count."""
    if counts is not None:
        np.copyto(new, old, where=~counts)


def shown_steps(layer, counts: np.ndarray | None, initial_state: tuple | None) -> np.ndarray | None:
    """Where the output is the state h: not at masked steps, if they give zeros, and not before the first that counts.

    Without an initial state h itself is zero there.
    """
    if counts is None or not (layer.zero_output_for_mask or initial_state is not None):
        return None
    return counts if layer.zero_output_for_mask else np.logical_or.accumulate(counts, axis=0)


def finished(layer, steps: int, h: np.ndarray, shown: np.ndarray | None, *others: np.ndarray) -> Result:
    """The outputs and last states. others: the states beside h, of all steps as h is."""
    u = layer.units
    last, *rest = (np.array(state[steps % len(state), :u].T, order="C") for state in (h, *others))
    if layer.return_sequences:
        outputs = h[1 : steps + 1, :u] if shown is None else np.where(shown[:, None], h[1 : steps + 1, :u], 0)
        y = outputs.transpose(2, 0, 1)
    elif steps == 0:
        y = np.zeros_like(last)
    else:
        y = last if shown is None else np.where(shown[-1][:, None], last, 0)
    return Result(np.array(y, order="C"), states=(last, *rest))


def outputs_gradient(layer, run: Run, dy: np.ndarray) -> Callable[[int], np.ndarray | int]:
    """The gradient of the state h after a step, as far as it is an output."""
    if layer.return_sequences:
        dy = np.ascontiguousarray(dy.transpose(1, 2, 0))
        dy = dy if run.shown is None else np.where(run.shown[:, None], dy, 0)
        return dy.__getitem__
    steps = len(run.gates)
    dy = dy.T if run.shown is None or steps == 0 else np.where(run.shown[-1], dy.T, 0)
    return lambda t: dy if t == steps - 1 else 0


def side_by_side(dz: np.ndarray) -> np.ndarray:
    """(time, features, batch) as (features, time * batch): for one product over all steps of all samples."""
    steps, features, n = dz.shape
    rows = empty((features, steps * n), dz.dtype)
    rows.reshape(features, steps, n)[...] = dz.swapaxes(0, 1)
    return rows


def samples(states: np.ndarray) -> np.ndarray:
    """(time, features, batch) as (time * batch, features)."""
    return by_features(states).reshape(-1, states.shape[1])


def gradients(
    layer, saved: tuple, rows: np.ndarray, roll: int, recurrent: Callable, bias: Callable, start: tuple
) -> OnDemand:
    """The gradients of all arguments. rows: of the gates' sums. roll: as of ``arranged``. start: of the states."""
    kernel, _, has_bias, initial_state, run = saved
    steps, n, d = run.x.shape
    return OnDemand(
        lambda: batch_major(layer, product(rows.T, arranged(kernel, roll)).reshape(steps, n, d)),
        lambda: restored(product(rows, run.x.reshape(steps * n, d)), roll),
        recurrent,
        absent if has_bias is None else bias,
        absent,
        absent,
        absent if initial_state is None else lambda: tuple(state.T for state in start),
        absent,
    )


def tanh_slope(y: np.ndarray, part: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The derivative of tanh where its value is y. part: scratch memory. out may be y."""
    np.subtract(1, y, out=part)
    np.add(1, y, out=out)
    out *= part
    return out


# LSTM


def lstm(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep: bool) -> tuple[Result, Run | None]:
    """keep: keep what the gradient needs."""
    u = layer.units
    x, gates = of_inputs(layer, x, negated(arranged(kernel, u), 3 * u))
    counts = None if mask is None else in_order(layer, mask)
    recurrent = negated(with_bias(arranged(recurrent_kernel, u), None if bias is None else arranged(bias, u)), 3 * u)
    start = (None, None) if initial_state is None else initial_state
    h = first_states(layer, gates, recurrent.shape[1], start[0], keep or layer.return_sequences)
    c = first_states(layer, gates, u, start[1], keep)
    steps, _, n = gates.shape
    slopes = empty((steps, 3 * u, n), x.dtype) if keep else None
    more, gain = np.empty((4 * u, n), x.dtype), np.empty((u, n), x.dtype)
    largest = largest_like(more[: 3 * u], keep)

    with np.errstate(over="ignore"):
        for t in range(steps):
            old, new, now = t, t + 1, gates[t]
            h_old, h_new, c_old, c_new = h[old % len(h)], h[new % len(h)], c[old % len(c)], c[new % len(c)]
            now += np.dot(recurrent, h_old, out=more)
            to_sigmoid(now[: 3 * u], None if slopes is None else slopes[t], largest)
            g = np.tanh(now[3 * u :], out=now[3 * u :])
            np.multiply(now[2 * u : 3 * u], c_old, out=c_new)
            c_new += np.multiply(now[u : 2 * u], g, out=gain)
            np.multiply(now[:u], np.tanh(c_new, out=gain), out=h_new[:u])
            if counts is not None:
                stay(counts[t], h_old, h_new)
                stay(counts[t], c_old, c_new)

    shown = shown_steps(layer, counts, initial_state)
    return finished(layer, steps, h, shown, c), Run(x, h, counts, shown, gates, slopes, c=c) if keep else None


def lstm_vjp(layer, saved, cotangents):
    _, recurrent_kernel, _, _, run = saved
    u = layer.units
    with alone():
        dz, *start = lstm_backward(layer, recurrent_kernel, run, *cotangents)
    rows = side_by_side(dz)

    def of_recurrent() -> np.ndarray:
        return restored(product(rows, samples(run.h[:-1, :u])), u)

    return gradients(layer, saved, rows, u, of_recurrent, lambda: restored(rows.sum(axis=1), u), tuple(start))


def lstm_backward(layer, recurrent_kernel, run: Run, dy, dh, dc) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of the gates' sums, and of the first states: backpropagation through time."""
    u, steps = layer.units, len(run.gates)
    recurrent = np.ascontiguousarray(arranged(recurrent_kernel, u).T)
    dh, dc = np.array(dh.T, order="C"), np.array(dc.T, order="C")
    given = outputs_gradient(layer, run, dy)
    dz = empty_like(run.gates)
    other, slope, part = np.empty_like(dh), np.empty_like(dh), np.empty_like(dh)
    for t in range(steps - 1, -1, -1):
        dh += given(t)
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
            stay(counts, dh, other)
        dh, other = other, dh
    return dz, dh, dc


register("LSTM", is_usual, lstm, lstm_vjp)


# GRU


def gru(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep: bool) -> tuple[Result, Run | None]:
    """keep: keep what the gradient needs."""
    u, after = layer.units, layer.reset_after
    first, second = (None, None) if bias is None else layer.biases(bias)
    x, gates = of_inputs(layer, x, negated(arranged(kernel, 0), 2 * u))
    if first is not None:
        gates += negated(arranged(first, 0), 2 * u)[:, None]
    counts = None if mask is None else in_order(layer, mask)
    recurrent = negated(with_bias(arranged(recurrent_kernel, 0), second), 2 * u)
    into_sigmoids, into_g = recurrent[: 2 * u], recurrent[2 * u :]
    start = None if initial_state is None else initial_state[0]
    h = first_states(layer, gates, recurrent.shape[1], start, keep or layer.return_sequences)
    steps, _, n = gates.shape
    slopes = empty((steps, 2 * u, n), x.dtype) if keep else None
    inner = empty((steps if keep and after else 1, u, n), x.dtype)
    more, part = np.empty((2 * u, n), x.dtype), np.empty((u, n), x.dtype)
    largest = largest_like(more, keep)

    with np.errstate(over="ignore"):
        for t in range(steps):
            sigmoids, g = gates[t, : 2 * u], gates[t, 2 * u :]
            h_old, h_new, from_h = h[t % len(h)], h[(t + 1) % len(h)], inner[t % len(inner)]
            sigmoids += np.dot(into_sigmoids, h_old, out=more)
            to_sigmoid(sigmoids, None if slopes is None else slopes[t], largest)
            z, r = sigmoids[:u], sigmoids[u:]
            if after:
                g += np.multiply(r, np.dot(into_g, h_old, out=from_h), out=part)
            else:
                g += np.dot(into_g, np.multiply(r, h_old, out=part), out=from_h)
            np.tanh(g, out=g)
            np.subtract(h_old[:u], g, out=part)
            part *= z
            np.add(g, part, out=h_new[:u])
            if counts is not None:
                stay(counts[t], h_old, h_new)

    shown = shown_steps(layer, counts, initial_state)
    return finished(layer, steps, h, shown), Run(x, h, counts, shown, gates, slopes, inner=inner) if keep else None


def gru_vjp(layer, saved, cotangents):
    _, recurrent_kernel, _, _, run = saved
    u, after = layer.units, layer.reset_after
    with alone():
        dz, to_inner, dh = gru_backward(layer, recurrent_kernel, run, *cotangents)
    rows = side_by_side(dz)
    inner = side_by_side(to_inner) if after else rows[2 * u :]

    def of_recurrent() -> np.ndarray:
        before = run.h[:-1, :u]
        seen = before if after else run.gates[:, u : 2 * u] * before
        of_sigmoids, of_g = product(rows[: 2 * u], samples(before)), product(inner, samples(seen))
        return restored(np.concatenate([of_sigmoids, of_g]), 0)

    def of_bias() -> np.ndarray:
        first = rows.sum(axis=1)
        return np.stack([first, np.concatenate([first[: 2 * u], inner.sum(axis=1)])]) if after else first

    return gradients(layer, saved, rows, 0, of_recurrent, of_bias, (dh,))


def gru_backward(layer, recurrent_kernel, run: Run, dy, dh) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The gradients of the gates' sums, of what the state gives to g, with reset_after, and of the first state."""
    u, steps, after = layer.units, len(run.gates), layer.reset_after
    of_sigmoids, of_g = (np.ascontiguousarray(part) for part in np.split(recurrent_kernel, [2 * u], axis=1))
    dh = np.array(dh.T, order="C")
    given = outputs_gradient(layer, run, dy)
    dz, to_inner = empty_like(run.gates), empty_like(run.inner) if after else None
    other, handed, part = np.empty_like(dh), np.empty_like(dh), np.empty_like(dh)
    for t in range(steps - 1, -1, -1):
        dh += given(t)
        z, r, g = run.gates[t].reshape(3, u, -1)
        to_z, to_r, to_g = dz[t].reshape(3, u, -1)
        before = run.h[t, :u]
        # h = g + z * (h before - g)
        np.multiply(dh, np.subtract(before, g, out=part), out=to_z)
        np.multiply(dh, z, out=handed)
        np.subtract(dh, handed, out=to_g)
        to_g *= tanh_slope(g, part, out=other)
        if after:
            np.multiply(to_g, run.inner[t], out=to_r)
            np.multiply(to_g, r, out=to_inner[t])
        else:
            np.dot(of_g, to_g, out=part)
            np.multiply(part, before, out=to_r)
            handed += np.multiply(part, r, out=part)
        dz[t, : 2 * u] *= run.slopes[t]
        if run.counts is not None:
            np.copyto(dz[t], 0, where=~run.counts[t])
            if after:
                np.copyto(to_inner[t], 0, where=~run.counts[t])
        np.dot(of_sigmoids, dz[t, : 2 * u], out=other)
        if after:
            other += np.dot(of_g, to_inner[t], out=part)
        other += handed
        if run.counts is not None:
            stay(run.counts[t], dh, other)
        dh, other = other, dh
    return dz, to_inner, dh


register("GRU", is_usual, gru, gru_vjp)


# SimpleRNN


def simple_rnn(layer, x, kernel, recurrent_kernel, bias, mask, initial_state, keep: bool) -> tuple[Result, Run | None]:
    """keep: keep what the gradient needs."""
    x, gates = of_inputs(layer, x, arranged(kernel, 0))
    counts = None if mask is None else in_order(layer, mask)
    recurrent = with_bias(arranged(recurrent_kernel, 0), bias)
    start = None if initial_state is None else initial_state[0]
    h = first_states(layer, gates, recurrent.shape[1], start, keep or layer.return_sequences)
    bent, more = isinstance(layer.activation, tanh), np.empty(gates.shape[1:], x.dtype)

    for t, now in enumerate(gates):
        h_old, h_new = h[t % len(h)], h[(t + 1) % len(h)]
        now += np.dot(recurrent, h_old, out=more)
        if bent:
            np.tanh(now, out=h_new[: layer.units])
        else:
            np.maximum(now, 0, out=h_new[: layer.units])
        if counts is not None:
            stay(counts[t], h_old, h_new)

    shown = shown_steps(layer, counts, initial_state)
    return finished(layer, len(gates), h, shown), Run(x, h, counts, shown, gates) if keep else None


def simple_rnn_vjp(layer, saved, cotangents):
    _, recurrent_kernel, _, _, run = saved
    u = layer.units
    with alone():
        dz, dh = simple_rnn_backward(layer, recurrent_kernel, run, *cotangents)
    rows = side_by_side(dz)

    def of_recurrent() -> np.ndarray:
        return restored(product(rows, samples(run.h[:-1, :u])), 0)

    return gradients(layer, saved, rows, 0, of_recurrent, lambda: rows.sum(axis=1), (dh,))


def simple_rnn_backward(layer, recurrent_kernel, run: Run, dy, dh) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of the sums, and of the first state."""
    u, bent = layer.units, isinstance(layer.activation, tanh)
    recurrent = np.ascontiguousarray(recurrent_kernel)
    dh = np.array(dh.T, order="C")
    given = outputs_gradient(layer, run, dy)
    dz, other = empty_like(run.gates), np.empty_like(dh)
    for t in range(len(run.gates) - 1, -1, -1):
        dh += given(t)
        h = run.h[t + 1, :u]
        if bent:
            tanh_slope(h, other, out=dz[t])
            dz[t] *= dh
        else:
            np.multiply(dh, ~(h <= 0), out=dz[t])
        if run.counts is not None:
            np.copyto(dz[t], 0, where=~run.counts[t])
        np.dot(recurrent, dz[t], out=other)
        if run.counts is not None:
            stay(run.counts[t], dh, other)
        dh, other = other, dh
    return dz, dh


register("SimpleRNN", is_plain, simple_rnn, simple_rnn_vjp)


# ConvLSTM: the definition, with convolutions by their kernels


PLAIN = Namespace(np, **NumpyBackend.extras)
RECORDED = autodiff.differentiable(PLAIN)
recorded_conv = RECORDED.primitive(
    lambda layer, *arguments: (y := conv(layer, *arguments), (arguments, y)),
    conv_vjp,
    lambda y: ((y,), lambda arrays: arrays[0]),
)


def conv_lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    return layer.by(conv).define(PLAIN, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng)


def conv_lstm_saving(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    weights = [None if w is None else RECORDED.var(w) for w in (x, kernel, recurrent_kernel, bias)]
    start = None if initial_state is None else tuple(map(RECORDED.var, initial_state))
    found = layer.by(recorded_conv).define(RECORDED, *weights, training, mask, start, rng)
    return autodiff.value_of(found), ((*weights, start), found)


def conv_lstm_vjp(layer, saved, cotangents):
    (*weights, start), found = saved
    leaves = [w for w in (*weights, *(start or ())) if w is not None]
    pulled = iter(autodiff.gradients((found.outputs, *found.states), cotangents, leaves))
    gradients = [None if w is None else next(pulled) for w in weights]
    return (*gradients, None, None, None if start is None else tuple(pulled), None)


for rank in (1, 2, 3):
    kernel = kernels.register(f"ConvLSTM{rank}D")(conv_lstm)
    kernel.saving(conv_lstm_saving)
    kernel.vjp(conv_lstm_vjp)
