"""Array functions that numpy does better than the defaults of ``layerhub.namespace``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerhub.stream import MULTIPLIERS, ROUNDS, WEYL, WORD, Stream
from layerhub_numpy.memory import empty, zeros
from layerhub_numpy.tiles import shares, spans


def einsum(subscripts: str, *operands: np.ndarray) -> np.ndarray:
    """Two operands by BLAS, where every index that is summed is in both; else by numpy's own loops."""
    terms, output = subscripts.replace(" ", "").split("->")
    names = terms.split(",")
    if len(names) != 2 or any(len(set(term)) != len(term) for term in (*names, output)):
        return np.einsum(subscripts, *operands)
    first, second = names
    shared = [letter for letter in first if letter in second]
    batch = [letter for letter in shared if letter in output]
    summed = [letter for letter in shared if letter not in output]
    left = [letter for letter in first if letter not in second]
    right = [letter for letter in second if letter not in first]
    if not summed or not set(left + right) <= set(output):
        return np.einsum(subscripts, *operands)
    size = dict(zip(first + second, operands[0].shape + operands[1].shape, strict=True))

    def matrix(x: np.ndarray, term: str, rows: list[str], columns: list[str]) -> np.ndarray:
        x = x.transpose([term.index(letter) for letter in batch + rows + columns])
        sizes = [math.prod(size[letter] for letter in group) for group in (rows, columns)]
        return x.reshape(*(size[letter] for letter in batch), *sizes)

    product = np.matmul(matrix(operands[0], first, left, summed), matrix(operands[1], second, summed, right))
    made = batch + left + right
    product = product.reshape([size[letter] for letter in made])
    return product.transpose([made.index(letter) for letter in output])


def pad(x: np.ndarray, widths: Sequence[tuple[int, int]], value: float = 0.0) -> np.ndarray:
    """Cells of ``value`` before and after each axis."""
    shape = tuple(before + size + after for size, (before, after) in zip(x.shape, widths, strict=True))
    y = np.full(shape, value, x.dtype) if value else np.zeros(shape, x.dtype)
    y[tuple(slice(before, before + size) for size, (before, _) in zip(x.shape, widths, strict=True))] = x
    return y


def unslice(x: np.ndarray, shape: tuple[int, ...], index: tuple[Any, ...]) -> np.ndarray:
    """Zeros of ``shape`` with x at ``index``."""
    y = np.zeros(shape, x.dtype)
    y[index] = x
    return y


def scatter_add(size: int, index: np.ndarray, updates: np.ndarray) -> np.ndarray:
    """Sums of updates by row: sorted by row, so that each row is one run; those with one update are copied."""
    rest = updates.shape[index.ndim :]
    updates = updates.reshape(index.size, *rest)
    total = zeros((size, *rest), updates.dtype)
    order = np.argsort(index.reshape(-1), kind="stable")
    rows = index.reshape(-1)[order]
    starts = np.flatnonzero(np.concatenate((rows[:1] == rows[:1], rows[1:] != rows[:-1])))
    counts = np.diff(starts, append=rows.size)
    alone = counts == 1
    single, several = starts[alone], starts[~alone]
    total[rows[single]] = updates.take(order[single], axis=0)
    if several.size:
        runs = updates.take(order[np.repeat(~alone, counts)], axis=0)
        counts = counts[~alone]
        total[rows[several]] = np.add.reduceat(runs, np.cumsum(counts) - counts, axis=0)
    return total


def axis_last(x: np.ndarray, axis: int) -> np.ndarray:
    """A view with one axis moved to the end; ``np.moveaxis`` takes five times as long."""
    axis %= x.ndim
    return x if axis == x.ndim - 1 else x.transpose(*range(axis), *range(axis + 1, x.ndim), axis)


def axis_back(x: np.ndarray, axis: int) -> np.ndarray:
    """A view with the last axis moved to where ``axis`` says."""
    axis %= x.ndim
    return x if axis == x.ndim - 1 else x.transpose(*range(axis), x.ndim - 1, *range(axis, x.ndim - 1))


BLOCKS = 1 << 13
"""How many blocks of four are drawn at a time, so that they stay in the cache."""


def random_bits(stream: Stream, shape: tuple[Any, ...]) -> np.ndarray:
    """``layerhub.stream.random_bits``, bit for bit, in unsigned arithmetic and in place."""
    count = math.prod(int(size) for size in shape)
    blocks = (count + 3) // 4
    out = empty((blocks, 4), np.uint64)

    def draw(start: int, stop: int) -> None:
        for begin, end in spans(start, stop, BLOCKS):
            _philox(stream, begin, out[begin:end])

    shares(draw, blocks, 16 * count)
    return out.view(np.int64).reshape(-1)[:count].reshape(shape)


_LOW, _HALF = np.uint64(WORD), np.uint64(32)


def _philox(stream: Stream, first: int, out: np.ndarray) -> None:
    count = len(out)
    words = np.empty((4, count), np.uint64)
    words[0] = np.arange(first, first + count, dtype=np.uint64)
    words[0] &= _LOW
    words[1], words[2], words[3] = stream.call, int(stream.step), stream.part
    a, b, c, d = words
    high = np.empty(count, np.uint64)
    keys = list(stream.key)
    for _ in range(ROUNDS):
        a *= np.uint64(MULTIPLIERS[0])
        c *= np.uint64(MULTIPLIERS[1])
        # The next words are (high half of c) ^ b ^ key, low half of c, (high half of a) ^ d ^ key, low half of a.
        np.right_shift(c, _HALF, out=high)
        b ^= high
        b ^= np.uint64(keys[0])
        c &= _LOW
        np.right_shift(a, _HALF, out=high)
        d ^= high
        d ^= np.uint64(keys[1])
        a &= _LOW
        a, b, c, d = b, c, d, a
        keys = [(key + weyl) & WORD for key, weyl in zip(keys, WEYL, strict=True)]
    for k, word in enumerate((a, b, c, d)):
        out[:, k] = word
