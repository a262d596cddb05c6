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
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from layerhub_numpy.memory import empty

WORTH = 1 << 19
"""The work, in elements written, that makes it worth while to ask another thread."""

ALONE = 1 << 14
"""The work below which BLAS keeps to one thread by itself."""

MULTIPLICATIONS = 16
"""How many multiplications of a product of matrices take as long as writing an element in another loop."""

CACHED = 1 << 17
"""How many elements of float32 a tile may have so that they are still in the cache for the next pass.

Smaller tiles would be quicker for one thread; but at the end of each pass a thread takes the interpreter lock, and two
threads that do so every few microseconds wait for each other.
"""


def _thread_functions(library: Any) -> tuple[Callable[[], int], Callable[[int], Any]]:
    """How to read and set the number of threads of a library that threadpoolctl found."""
    if library.internal_api == "openblas" and library.threading_layer == "pthreads":
        # threadpoolctl lets only the first thread that asks change this one; here any may, and Blas counts them.
        for prefix, suffix in itertools.product(("", "scipy_"), ("", "64_", "_64")):
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(library.dynlib, name) for name in names):
                return tuple(getattr(library.dynlib, name) for name in names)
    return library.get_num_threads, library.set_num_threads


class Blas:
    """numpy's BLAS. As a context, it runs on the calling thread alone, until the last who asked for that leaves."""

    def __init__(self) -> None:
        libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        self._functions = [_thread_functions(library) for library in libraries]
        # With OpenMP each thread has its own number.
        self._by_thread = [lib for lib in libraries if getattr(lib, "threading_layer", "") == "openmp"]
        self._lock = threading.Lock()
        self._users = 0
        self._threads = self._now()

    def _now(self) -> list[int]:
        return [read() or 1 for read, _ in self._functions]

    @property
    def threads(self) -> int:
        """How many threads BLAS may use: what the user allows it, tiles may use too."""
        # A BLAS that cannot be told to keep to one thread is left alone with its own.
        return max(self._threads if self._users else self._now(), default=1)

    def join(self) -> None:
        """To be called once on each thread that runs tiles and nothing else."""
        for library in self._by_thread:
            library.set_num_threads(1)

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._threads = self._now()
                self._set([1] * len(self._functions))
            self._users += 1

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._set(self._threads)

    def _set(self, numbers: list[int]) -> None:
        for (_, write), before, number in zip(self._functions, self._threads, numbers, strict=True):
            if before != 1:
                write(number)


class Crew:
    """Threads that wait for calls: a pool that does less around each call than one of ``concurrent.futures``."""

    def __init__(self) -> None:
        self.blas = Blas()
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for number in range(1, self.cores):
            threading.Thread(target=self._serve, name=f"layerhub_numpy {number}", daemon=True).start()

    def _serve(self) -> None:
        self.blas.join()
        while True:
            self._calls.get()()

    @property
    def size(self) -> int:
        """How many threads may work at once, the caller's included."""
        return min(self.cores, self.blas.threads)

    def run(self, function: Callable[[int, int], Any], bounds: list[int], threads: int) -> list[Any]:
        """[function(start, stop), …] between each two bounds, each by whichever thread is free.

        A helper that comes late, on a busy machine, finds nothing left to do, and nobody has waited for it.
        """
        count = len(bounds) - 1
        results: list[Any] = [None] * count
        waiting = deque(range(count))
        ended: SimpleQueue[BaseException | None] = SimpleQueue()

        def take() -> int | None:
            try:
                return waiting.popleft()
            except IndexError:
                return None

        def help() -> None:
            while (turn := take()) is not None:
                try:
                    results[turn] = function(bounds[turn], bounds[turn + 1])
                    ended.put(None)
                except BaseException as problem:
                    ended.put(problem)

        others = count
        with self.blas:
            for _ in range(threads - 1):
                # In the caller's context, so that np.errstate holds there too.
                self._calls.put(partial(contextvars.copy_context().run, help))
            try:
                while (turn := take()) is not None:
                    others -= 1
                    results[turn] = function(bounds[turn], bounds[turn + 1])
            finally:
                while take() is not None:
                    others -= 1
                problems = [ended.get() for _ in range(others)]
        for problem in problems:
            if problem is not None:
                raise problem
        return results


_crew: Crew | None = None
_making = threading.Lock()


def _hands() -> Crew:
    """The crew, made once."""
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


def alone() -> Blas:
    """A context in which BLAS runs on the calling thread alone; for many small products."""
    return (_crew or _hands()).blas


def shares(function: Callable[[int, int], Any], count: int, work: float, parts: int = 2) -> list[Any]:
    """[function(start, stop), …] over shares of range(count): one, or several on all threads if the work is large.

    work: roughly how many elements are written in all. parts: how many shares each thread should find: with more, none
    waits long for another. The shares depend on the number of threads and on nothing else, so that results are the same
    from call to call.
    """
    if work < ALONE:
        return [function(0, count)]
    crew = _crew or _hands()
    threads = int(min(crew.size, count, 1 + work // WORTH))
    if threads > 1:
        number = min(threads * parts, count)
        return crew.run(function, [count * k // number for k in range(number + 1)], threads)
    with crew.blas:
        return [function(0, count)]


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of two matrices, by shares of the rows."""
    work = a.size * b.shape[1] / MULTIPLICATIONS
    if work < ALONE:
        return a.dot(b)
    out = empty((a.shape[0], b.shape[1]), a.dtype)
    # Each share reads all of b, so there are as few as can be.
    shares(lambda start, stop: np.dot(a[start:stop], b, out=out[start:stop]), len(a), work, parts=1)
    return out


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
        return small_product(ones(count, rows.dtype), rows)
    # Sums of parts round less than one long sum.
    return column_sums(np.stack([column_sums(rows[start:stop]) for start, stop in spans(0, count, PART)]))


def row_sums(rows: np.ndarray) -> np.ndarray:
    """The sums over the second axis of a matrix."""
    length = rows.shape[1]
    return small_product(rows, ones(length, rows.dtype)) if length <= PART else rows.sum(axis=1)


def small_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of a matrix and a vector, on this thread: BLAS would wake the others for a few microseconds."""
    if max(a.size, b.size) < ALONE // 2:
        return a.dot(b)
    with alone():
        return a.dot(b)
