"""Large work in tiles: shared out among threads, each with scratch memory of its own.

numpy lets go of the interpreter lock in its loops, so threads help wherever arrays are large. BLAS has threads of its
own; both at once get in each other's way, so while tiles run BLAS is held to one thread.
"""

from __future__ import annotations

import contextvars
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

WORTH = 1 << 19
"""The work, in elements written, below which handing it to another thread costs more than it saves."""

CACHED = 1 << 16
"""How many elements of float32 a tile may write so that it is still in the cache for the next pass."""


class Blas:
    """numpy's BLAS. As a context, it runs on the calling thread alone, until the last who asked for that leaves."""

    def __init__(self) -> None:
        self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        self._lock = threading.Lock()
        self._users = 0
        self._threads = self._now()

    def _now(self) -> list[int]:
        return [library.get_num_threads() or 1 for library in self._libraries]

    @property
    def threads(self) -> int:
        """How many threads BLAS may use: what the user allows it, tiles may use too."""
        # A BLAS that cannot be told to keep to one thread is left alone with its own.
        return max(self._threads if self._users else self._now(), default=1)

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._threads = self._now()
                for library in self._libraries:
                    library.set_num_threads(1)
            self._users += 1

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for library, threads in zip(self._libraries, self._threads, strict=True):
                    library.set_num_threads(threads)


class Crew:
    """The threads, started when first needed."""

    def __init__(self) -> None:
        self.blas = Blas()
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.pool = ThreadPoolExecutor(max(self.cores - 1, 1), thread_name_prefix="layerhub_numpy")

    @property
    def size(self) -> int:
        """How many threads may work at once, the caller's included."""
        return min(self.cores, self.blas.threads)

    def run(self, function: Callable[[int, int], Any], bounds: list[int]) -> list[Any]:
        """function(start, stop) between each two bounds, at the same time."""
        with self.blas:
            # Each share in the caller's context, so that np.errstate holds there too.
            others = [
                self.pool.submit(contextvars.copy_context().run, function, *share)
                for share in itertools.pairwise(bounds[1:])
            ]
            try:
                first = function(bounds[0], bounds[1])
            finally:
                wait(others)
        return [first, *(other.result() for other in others)]


_crew: Crew | None = None
_making = threading.Lock()


def _hands() -> Crew:
    global _crew
    if _crew is None:
        with _making:
            if _crew is None:
                _crew = Crew()
    return _crew


def _forget() -> None:
    """A forked process has the memory of the threads, but not the threads."""
    global _crew, _making
    _crew, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def shares(function: Callable[[int, int], Any], count: int, work: float) -> list[Any]:
    """[function(start, stop), …] over shares of range(count): one share, or one for each thread if the work is large.

    work: roughly how many elements are written in all. The shares depend on the number of threads and on nothing else,
    so that results are the same from call to call.
    """
    if work < WORTH or count < 2:
        return [function(0, count)]
    crew = _hands()
    number = min(crew.size, count)
    if number == 1:
        return [function(0, count)]
    return crew.run(function, [count * k // number for k in range(number + 1)])


def spans(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """range(start, stop) in pieces of at most ``size``."""
    size = max(size, 1)
    for begin in range(start, stop, size):
        yield begin, min(begin + size, stop)


_local = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory of this thread's own, holding anything; the next call with this name takes it away again."""
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    held = _local.__dict__.get(name)
    if held is None or held.nbytes < wanted:
        held = _local.__dict__[name] = np.empty(max(wanted, 64), np.uint8)
    return np.ndarray(shape, dtype, held)


PART = 4096
_ones: dict[Any, np.ndarray] = {}


def ones(count: int, dtype: np.dtype) -> np.ndarray:
    """``count`` ones, at most PART; to be read only."""
    held = _ones.get(dtype)
    if held is None:
        held = _ones[dtype] = np.ones(PART, dtype)
    return held[:count]


def column_sums(rows: np.ndarray) -> np.ndarray:
    """The sums over the first axis of a matrix, by BLAS: several times faster than ``rows.sum(axis=0)``."""
    count = len(rows)
    if count <= PART:
        return ones(count, rows.dtype).dot(rows)
    # Sums of parts round less than one long sum.
    return column_sums(np.stack([column_sums(rows[start:stop]) for start, stop in spans(0, count, PART)]))


def row_sums(rows: np.ndarray) -> np.ndarray:
    """The sums over the second axis of a matrix."""
    return rows.dot(ones(rows.shape[1], rows.dtype)) if rows.shape[1] <= PART else rows.sum(axis=1)
