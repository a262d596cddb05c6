"""Crossentropies, fused: softmax, logarithm and choice in one go, and a gradient in closed form."""

from __future__ import annotations

import numpy as np

from layerhub.kernels import KernelSet
from layerhub.spec.losses import CLIP
from layerhub_numpy.kernels.activations import back, rows_of
from layerhub_numpy.tiles import row_sums

kernels = KernelSet()


def log_softmax_rows(x: np.ndarray) -> np.ndarray:
    """x - log(sum(exp(x))), row by row."""
    logs = x - x.max(axis=1, keepdims=True)
    logs -= np.log(row_sums(np.exp(logs)))[:, None]
    return logs


def clipped(p: np.ndarray) -> np.ndarray:
    """Probabilities kept away from 0 and 1, as the definition does it."""
    p = np.where(p > CLIP, p, p.dtype.type(CLIP))
    return np.where(p < 1 - CLIP, p, p.dtype.type(1 - CLIP))


def inside(p: np.ndarray) -> np.ndarray:
    """Where ``clipped`` changes nothing, and has a slope."""
    return (p > CLIP) & (p < 1 - CLIP)


# Integer targets


def _chosen(loss, y_true: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The class of each row, and which rows count (None: all)."""
    counts = loss.counts(np, y_true)
    if counts is None:
        return y_true.reshape(-1), None
    return np.where(counts, y_true, 0).reshape(-1), counts.reshape(-1)


@kernels.register("SparseCategoricalCrossentropy", kind="loss")
def sparse_categorical_crossentropy(loss, y_true, y_pred):
    return _sparse(loss, y_true, y_pred)[0]


@sparse_categorical_crossentropy.saving
def sparse_categorical_crossentropy_saving(loss, y_true, y_pred):
    values, *saved = _sparse(loss, y_true, y_pred)
    return values, (y_pred, *saved)


def _sparse(loss, y_true, y_pred):
    """(values, the logarithms of all probabilities or the sums of the rows, classes, which rows count)"""
    x = rows_of(y_pred, loss.axis)
    classes, counts = _chosen(loss, y_true)
    each = np.arange(len(x))
    if loss.from_logits:
        known = log_softmax_rows(x)
        values = -known[each, classes]
    else:
        known = x.sum(axis=1)
        values = -np.log(clipped(x[each, classes] / known))
    if counts is not None:
        values[~counts] = 0
    return values.reshape(y_true.shape), known, classes, counts


@sparse_categorical_crossentropy.vjp
def sparse_categorical_crossentropy_vjp(loss, saved, cotangents):
    y_pred, known, classes, counts = saved
    dy = cotangents[0].reshape(-1)
    if counts is not None:
        dy = dy * counts
    each = np.arange(len(classes))
    if loss.from_logits:
        # softmax(x) - onehot
        dx = np.exp(known)
        dx *= dy[:, None]
        dx[each, classes] -= dy
    else:
        # d -log(p_k), with p = x / sum(x), is -1 / p_k * (onehot - p_k) / sum(x)
        p = rows_of(y_pred, loss.axis)[each, classes] / known
        share = dy / clipped(p) * inside(p) / known
        dx = np.empty((len(classes), y_pred.shape[loss.axis]), y_pred.dtype)
        dx[...] = (share * p)[:, None]
        dx[each, classes] -= share
    return None, back(dx, y_pred, loss.axis)


# Distributions as targets


def _smoothed(loss, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    y = rows_of(y_true, loss.axis)
    if loss.label_smoothing:
        y = y * (1 - loss.label_smoothing) + loss.label_smoothing / y_pred.shape[loss.axis]
    return y


@kernels.register("CategoricalCrossentropy", kind="loss")
def categorical_crossentropy(loss, y_true, y_pred):
    return _categorical(loss, y_true, y_pred)[0]


@categorical_crossentropy.saving
def categorical_crossentropy_saving(loss, y_true, y_pred):
    values, *saved = _categorical(loss, y_true, y_pred)
    return values, (y_pred, *saved)


def _categorical(loss, y_true, y_pred):
    """(values, targets, the logarithms of all probabilities or the sums of the rows)"""
    x, y = rows_of(y_pred, loss.axis), _smoothed(loss, y_true, y_pred)
    if loss.from_logits:
        known = logs = log_softmax_rows(x)
    else:
        known = x.sum(axis=1, keepdims=True)
        logs = np.log(clipped(x / known))
    values = -row_sums(y * logs)
    axis = loss.axis % y_pred.ndim
    return values.reshape(y_pred.shape[:axis] + y_pred.shape[axis + 1 :]), y, known


@categorical_crossentropy.vjp
def categorical_crossentropy_vjp(loss, saved, cotangents):
    y_pred, y, known = saved
    dy = cotangents[0].reshape(-1, 1)
    if loss.from_logits:
        # softmax(x) * sum(y) - y
        dx = np.exp(known)
        dx *= row_sums(y)[:, None]
        dx -= y
        dx *= dy
    else:
        p = rows_of(y_pred, loss.axis) / known
        dp = y / clipped(p)
        dp *= inside(p)
        dx = row_sums(dp * p)[:, None] - dp
        dx *= dy / known
    return None, back(dx, y_pred, loss.axis)


# Sequences of labels


def _states(y_true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(blank, label, blank, …, label, blank; which states, from the third on, may follow the one before the last)"""
    states = np.zeros((len(y_true), 2 * y_true.shape[1] + 1), y_true.dtype)
    states[:, 1::2] = y_true
    return states, (states[:, 2:] != states[:, :-2]) & (states[:, 2:] != 0)


def _onwards(paths: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """The logarithms of the sums of paths that stay, go on by one state, or by two."""
    after = paths.copy()
    after[:, 1:] = np.logaddexp(after[:, 1:], paths[:, :-1])
    after[:, 2:] = np.where(skips, np.logaddexp(after[:, 2:], paths[:, :-2]), after[:, 2:])
    return after


@kernels.register("CTC", kind="loss")
def ctc(loss, y_true, y_pred):
    return _ctc(y_true, y_pred)[0]


@ctc.saving
def ctc_saving(loss, y_true, y_pred):
    values, *saved = _ctc(y_true, y_pred)
    return values, (y_true, values, *saved)


def _ctc(y_true, y_pred):
    """(values, the logarithms of all probabilities, and of all beginnings: (step, batch, state))"""
    logs = log_softmax_rows(rows_of(y_pred, -1)).reshape(y_pred.shape)
    states, skips = _states(y_true)
    said = np.take_along_axis(logs, states[:, None], axis=2).transpose(1, 0, 2)
    beginnings = np.full(said.shape, -np.inf, said.dtype)
    beginnings[0, :, :2] = said[0, :, :2]
    for t in range(1, len(said)):
        np.add(_onwards(beginnings[t - 1], skips), said[t], out=beginnings[t])
    each, last = np.arange(len(y_true)), 2 * (y_true != 0).sum(axis=1)
    ends = beginnings[-1, each, last]
    labelled = np.where(last > 0, beginnings[-1, each, np.maximum(last - 1, 0)], -np.inf)
    return -np.logaddexp(ends, labelled.astype(ends.dtype)), logs, beginnings


@ctc.vjp
def ctc_vjp(loss, saved, cotangents):
    # softmax(x) less the expected share of each class in each step, by the forward-backward algorithm.
    y_true, values, logs, beginnings = saved
    states, skips = _states(y_true)
    said = np.take_along_axis(logs, states[:, None], axis=2).transpose(1, 0, 2)
    each, last = np.arange(len(y_true)), 2 * (y_true != 0).sum(axis=1)
    ends = np.full(said.shape[1:], -np.inf, said.dtype)
    ends[each, last] = ends[each, np.maximum(last - 1, 0)] = 0
    shares = np.empty_like(beginnings)
    possible = np.isfinite(values)[:, None]
    for t in reversed(range(len(said))):
        shares[t] = np.exp(np.where(possible, beginnings[t] + ends, -np.inf) + np.where(possible, values[:, None], 0))
        # Backwards, states follow each other the other way round.
        ends = _onwards((ends + said[t])[:, ::-1], skips[:, ::-1])[:, ::-1]
    one_hot = (states[:, :, None] == np.arange(logs.shape[2])).astype(logs.dtype)
    dx = np.exp(logs) - np.matmul(shares.transpose(1, 0, 2), one_hot)
    dx *= (cotangents[0][:, None] * possible)[:, :, None]
    return None, dx
