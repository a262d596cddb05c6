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
