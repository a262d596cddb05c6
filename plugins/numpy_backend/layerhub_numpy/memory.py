"""Memory for large arrays that is used again when nobody holds it any more.

A model makes the same large arrays step after step. Left to the system, each is given back and fetched anew, page by
page, which takes as long as filling it.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

LARGE = 1 << 18
"""From how many bytes on memory is kept; below, the allocator keeps it by itself."""

KEPT = 1 << 28
"""How many bytes are kept at most while nobody uses them."""


ALIGNED = 64
"""Blocks begin at multiples of this: the size of a cache line, and of the widest vectors."""


class Block(bytearray):
    """Some memory. start: where its aligned part begins."""

    __slots__ = ("start",)

    def __init__(self, size: int):
        super().__init__(size + ALIGNED)
        self.start = -np.frombuffer(self, np.uint8).ctypes.data % ALIGNED


class Room(np.ndarray):
    """A block in use. Arrays are views of it; when the last of them is gone, so is the room, and the block is free.

    (A view's base is the room and not the block, since numpy looks no further than to a base of another type.)
    """

    def __del__(self) -> None:
        if _free is not None and type(self.base) is Block:
            _free.take_back(self.base)


class Free:
    """Blocks that nobody uses, by size."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[Block]] = {}
        self._bytes = 0
        # Arrays may be collected at any time, also while this thread is in here.
        self._lock = threading.RLock()

    def take_back(self, block: Block) -> None:
        """Keep a block for later, as far as there is room."""
        with self._lock:
            if self._bytes + len(block) <= KEPT:
                self._blocks.setdefault(len(block), []).append(block)
                self._bytes += len(block)

    def give(self, size: int) -> Block:
        """A block of this size, holding anything."""
        with self._lock:
            blocks = self._blocks.get(size + ALIGNED)
            if blocks:
                self._bytes -= size + ALIGNED
                return blocks.pop()
            if self._bytes > KEPT // 2:
                # Sizes have changed; what was kept for others would only be in the way.
                self._blocks.clear()
                self._bytes = 0
        return Block(size)


_free = Free()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A new array, holding anything."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    # A few sizes for all, so that what one layer leaves suits another.
    step = 1 << (size.bit_length() - 4)
    block = _free.give(-(-size // step) * step)
    return np.ndarray(shape, dtype, np.ndarray.__new__(Room, (size,), np.uint8, block, block.start))


def zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A new array of zeros."""
    if math.prod(shape) * np.dtype(dtype).itemsize < LARGE:
        return np.zeros(shape, dtype)
    y = empty(shape, dtype)
    y[...] = 0
    return y


def empty_like(x: np.ndarray) -> np.ndarray:
    """A new array of the shape and type of x, whose axes lie in memory in the same order."""
    if x.nbytes < LARGE:
        return np.empty_like(x)
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    y = empty(tuple(x.shape[axis] for axis in order), x.dtype)
    return y.transpose(np.argsort(order))
