"""Optimizers, in place: each weight moves where it is, in tiles that stay in the cache for all passes."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.tiles import CACHED, scratch, shares, spans

kernels = KernelSet()

PIECE = CACHED // 4
"""How many elements move at once: as many of each weight, gradient and slot stay in the cache."""

SMALL = 1 << 13
"""The size below which calling numpy takes longer than moving a weight: so small ones move together."""

FEW = 8
"""As many are not worth putting together."""


class Together:
    """The slots of many small weights side by side, where they stay between steps.

    lines: each kind of slot of all the weights, as one vector. slots: the weights' own, views of these.
    """

    def __init__(self, slots: list[tuple[np.ndarray, ...]]):
        kinds = list(zip(*slots, strict=True))
        self.lines = [np.concatenate([slot.reshape(-1) for slot in kind]) for kind in kinds]
        views = [parts_of(line, kind) for line, kind in zip(self.lines, kinds, strict=True)]
        self.slots = list(zip(*views, strict=True)) if kinds else slots
        self._flat = [slot for row in self.slots for slot in row]

    def holds(self, slots: list[tuple[np.ndarray, ...]]) -> bool:
        """Whether these very slots are its own."""
        flat = [slot for row in slots for slot in row]
        # A rule without slots has rows all the same, and they may have become more or fewer.
        alike = len(slots) == len(self.slots) and len(flat) == len(self._flat)
        return alike and all(map(operator.is_, flat, self._flat))


def parts_of(line: np.ndarray, shapes_of: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A vector in consecutive parts of the shapes of given arrays; views."""
    ends = itertools.accumulate(array.size for array in shapes_of)
    return [line[end - array.size : end].reshape(array.shape) for end, array in zip(ends, shapes_of, strict=True)]


_together: WeakKeyDictionary[Any, Together] = WeakKeyDictionary()


def moved(move: Callable[..., None], optimizer: Any, coefficients: Any, weights: list, gradients: list, slots: list):
    """``move(optimizer, coefficients, w, g, *slots)`` in place, on all weights; returns weights and slots."""
    weights = [writable(w) for w in weights]
    slots = [tuple(map(writable, row)) for row in slots]
    small = [k for k, w in enumerate(weights) if w.size <= SMALL and w.dtype == weights[0].dtype]
    small = small if len(small) > FEW else []
    if small:
        move_together(move, optimizer, coefficients, small, weights, gradients, slots)
    for k in sorted(set(range(len(weights))).difference(small)):
        move_one(move, optimizer, coefficients, weights[k], gradients[k], *slots[k])
    return weights, slots


def move_together(move, optimizer, coefficients, chosen: list[int], weights, gradients, slots) -> None:
    """The chosen weights as one vector."""
    held = _together.get(optimizer)
    rows = [slots[k] for k in chosen]
    if held is None or not held.holds(rows):
        held = _together[optimizer] = Together(rows)
    arrays = [weights[k] for k in chosen]
    size = sum(array.size for array in arrays)
    w, g = (scratch(name, (size,), arrays[0].dtype) for name in ("weights", "gradients"))
    np.concatenate([array.reshape(-1) for array in arrays], out=w)
    np.concatenate([gradients[k].reshape(-1) for k in chosen], out=g)
    move_one(move, optimizer, coefficients, w, g, *held.lines)
    for array, part in zip(arrays, parts_of(w, arrays), strict=True):
        array[...] = part
    for k, row in zip(chosen, held.slots, strict=True):
        slots[k] = row


def move_one(move, optimizer, coefficients, *arrays: np.ndarray) -> None:
    """One weight with its gradient and slots, in pieces that stay in the cache."""
    jobs = pieces(*arrays)

    def run(start: int, stop: int) -> None:
        for w, *rest in jobs[start:stop]:
            if optimizer.weight_decay:
                w -= np.multiply(w, optimizer.weight_decay * coefficients[0], out=like(w, "decay"))
            move(optimizer, coefficients, w, *rest)

    shares(run, len(jobs), 8 * arrays[0].size)


def writable(x: np.ndarray) -> np.ndarray:
    """The array itself, unless it may not be changed."""
    return x if x.flags.writeable else x.copy()


def pieces(*arrays: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """The arrays in pieces, all cut alike; views."""
    size = arrays[0].size
    if size <= PIECE or not all(array.flags.c_contiguous for array in arrays):
        return [arrays]
    lines = [array.reshape(-1) for array in arrays]
    return [tuple(line[start:stop] for line in lines) for start, stop in spans(0, size, PIECE)]


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


def _adagrad(optimizer, coefficients, w, g, total):
    step = np.multiply(g, g, out=like(w, "step"))
    total += step
    root = np.add(total, optimizer.epsilon, out=like(w, "root"))
    np.multiply(g, coefficients[0], out=step)
    step /= np.sqrt(root, out=root)
    w -= step


@kernels.register("Adagrad", kind="optimizer")
def adagrad(optimizer, coefficients, weights, gradients, slots):
    return moved(_adagrad, optimizer, coefficients, weights, gradients, slots)


def _adadelta(optimizer, coefficients, w, g, v, d):
    step = np.multiply(g, g, out=like(w, "step"))
    step *= 1 - optimizer.rho
    v *= optimizer.rho
    v += step
    np.add(d, optimizer.epsilon, out=step)
    np.sqrt(step, out=step)
    step *= g
    root = np.add(v, optimizer.epsilon, out=like(w, "root"))
    step /= np.sqrt(root, out=root)
    square = np.multiply(step, step, out=root)
    square *= 1 - optimizer.rho
    d *= optimizer.rho
    d += square
    step *= coefficients[0]
    w -= step


@kernels.register("Adadelta", kind="optimizer")
def adadelta(optimizer, coefficients, weights, gradients, slots):
    return moved(_adadelta, optimizer, coefficients, weights, gradients, slots)


def _adamax(optimizer, coefficients, w, g, m, u):
    away = np.subtract(g, m, out=like(w, "away"))
    away *= 1 - optimizer.beta_1
    m += away
    u *= optimizer.beta_2
    np.maximum(u, np.abs(g, out=away), out=u)
    step = np.multiply(m, coefficients[1], out=like(w, "step"))
    step /= np.add(u, optimizer.epsilon, out=away)
    w -= step


@kernels.register("Adamax", kind="optimizer")
def adamax(optimizer, coefficients, weights, gradients, slots):
    return moved(_adamax, optimizer, coefficients, weights, gradients, slots)


def _nadam(optimizer, coefficients, w, g, m, v):
    _, of_mean, of_gradient, correction = coefficients
    away = np.subtract(g, m, out=like(w, "away"))
    away *= 1 - optimizer.beta_1
    m += away
    np.multiply(g, g, out=away)
    away -= v
    away *= 1 - optimizer.beta_2
    v += away
    step = np.multiply(m, of_mean, out=like(w, "step"))
    step += np.multiply(g, of_gradient, out=away)
    root = np.multiply(v, correction, out=away)
    np.sqrt(root, out=root)
    root += optimizer.epsilon
    step /= root
    w -= step


@kernels.register("Nadam", kind="optimizer")
def nadam(optimizer, coefficients, weights, gradients, slots):
    return moved(_nadam, optimizer, coefficients, weights, gradients, slots)


def _lion(optimizer, coefficients, w, g, m):
    blend = np.multiply(m, optimizer.beta_1, out=like(w, "blend"))
    part = like(w, "part")
    blend += np.multiply(g, 1 - optimizer.beta_1, out=part)
    step = np.sign(blend, out=part)  # in place it takes ten times as long
    step *= coefficients[0]
    w -= step
    m *= optimizer.beta_2
    m += np.multiply(g, 1 - optimizer.beta_2, out=part)


@kernels.register("Lion", kind="optimizer")
def lion(optimizer, coefficients, weights, gradients, slots):
    return moved(_lion, optimizer, coefficients, weights, gradients, slots)


def _schedule_free_adamw(optimizer, coefficients, w, g, z, v):
    _, warm, correction, share = coefficients
    other = np.multiply(z, 1 - optimizer.beta_1, out=like(w, "other"))
    w -= other
    w /= optimizer.beta_1  # which is x
    away = np.multiply(g, g, out=like(w, "away"))
    away -= v
    away *= 1 - optimizer.beta_2
    v += away
    root = np.multiply(v, correction, out=away)
    np.sqrt(root, out=root)
    root += optimizer.epsilon
    step = np.multiply(g, warm, out=other)
    step /= root
    z -= step
    w *= 1 - share
    w += np.multiply(z, share, out=other)
    w *= optimizer.beta_1
    w += np.multiply(z, 1 - optimizer.beta_1, out=other)


@kernels.register("ScheduleFreeAdamW", kind="optimizer")
def schedule_free_adamw(optimizer, coefficients, weights, gradients, slots):
    return moved(_schedule_free_adamw, optimizer, coefficients, weights, gradients, slots)
