"""Optimizers, in place: each weight moves where it is, in tiles that stay in the cache for all passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.tiles import CACHED, scratch, spans

kernels = KernelSet()


def moved(move: Callable[..., None], optimizer: Any, coefficients: Any, weights: list, gradients: list, slots: list):
    """``move(optimizer, coefficients, w, g, *slots)`` in place, on all weights; returns weights and slots."""
    weights = [writable(w) for w in weights]
    slots = [tuple(map(writable, row)) for row in slots]
    for w, g, row in zip(weights, gradients, slots, strict=True):
        for piece in pieces(w, g, *row):
            if optimizer.weight_decay:
                decay = np.multiply(piece[0], optimizer.weight_decay * coefficients[0], out=like(piece[0], "decay"))
                np.subtract(piece[0], decay, out=piece[0])
            move(optimizer, coefficients, *piece)
    return weights, slots


def writable(x: np.ndarray) -> np.ndarray:
    """The array itself, unless it may not be changed."""
    return x if x.flags.writeable else x.copy()


def pieces(*arrays: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """The arrays in pieces, all cut alike; views."""
    size = arrays[0].size
    if size <= CACHED // 2 or not all(array.flags.c_contiguous for array in arrays):
        return [arrays]
    lines = [array.reshape(-1) for array in arrays]
    return [tuple(line[start:stop] for line in lines) for start, stop in spans(0, size, CACHED // 2)]


def like(x: np.ndarray, name: str) -> np.ndarray:
    """Scratch memory like x."""
    return scratch(name, x.shape, x.dtype)


def _sgd(optimizer, coefficients, w, g, *slots):
    step = np.multiply(g, coefficients[0], out=like(w, "step"))
    if not slots:
        w -= step
        return
    (velocity,) = slots
    velocity *= optimizer.momentum
    velocity -= step
    if optimizer.nesterov:
        ahead = np.multiply(velocity, optimizer.momentum, out=like(w, "ahead"))
        ahead -= step
        w += ahead
    else:
        w += velocity


@kernels.register("SGD", kind="optimizer")
def sgd(optimizer, coefficients, weights, gradients, slots):
    return moved(_sgd, optimizer, coefficients, weights, gradients, slots)


def _rmsprop(optimizer, coefficients, w, g, velocity, *slots):
    state = dict(zip(optimizer.slots[1:], slots, strict=True))
    step = np.multiply(g, g, out=like(w, "step"))
    step *= 1 - optimizer.rho
    velocity *= optimizer.rho
    velocity += step
    spread = like(w, "spread")
    if optimizer.centered:
        average = state["average_gradient"]
        average *= optimizer.rho
        average += np.multiply(g, 1 - optimizer.rho, out=step)
        np.subtract(velocity, np.multiply(average, average, out=step), out=spread)
        spread += optimizer.epsilon
    else:
        np.add(velocity, optimizer.epsilon, out=spread)
    np.multiply(g, coefficients[0], out=step)
    step /= np.sqrt(spread, out=spread)
    if optimizer.momentum:
        momentum = state["momentum"]
        momentum *= optimizer.momentum
        momentum += step
        step = momentum
    w -= step


@kernels.register("RMSprop", kind="optimizer")
def rmsprop(optimizer, coefficients, weights, gradients, slots):
    return moved(_rmsprop, optimizer, coefficients, weights, gradients, slots)


def _adam(optimizer, coefficients, w, g, m, v, *largest):
    away = np.subtract(g, m, out=like(w, "away"))
    away *= 1 - optimizer.beta_1
    m += away
    np.multiply(g, g, out=away)
    away -= v
    away *= 1 - optimizer.beta_2
    v += away
    for top in largest:
        np.maximum(top, v, out=top)
        v = top
    root = np.sqrt(v, out=away)
    root += optimizer.epsilon
    step = np.multiply(m, coefficients[1], out=like(w, "step"))
    step /= root
    w -= step


@kernels.register("Adam", kind="optimizer")
def adam(optimizer, coefficients, weights, gradients, slots):
    return moved(_adam, optimizer, coefficients, weights, gradients, slots)


@kernels.register("AdamW", kind="optimizer")
def adamw(optimizer, coefficients, weights, gradients, slots):
    return moved(_adam, optimizer, coefficients, weights, gradients, slots)
