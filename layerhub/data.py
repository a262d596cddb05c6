"""Data: arrays and streams as batches on the host, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerhub.errors import DataError

HostBatch = tuple[list[Any], list[Any], list[Any]]
"""(inputs, targets, sample weights) of one batch; no targets or weights: an empty list."""


def listed(data: Any, names: Sequence[str] = ()) -> list[Any]:
    """Data for several inputs or outputs as a list: from one array, a list, or a dict by name."""
    if data is None:
        return []
    if isinstance(data, Mapping):
        missing = [name for name in names if name not in data]
        if missing:
            raise DataError(f"the data have no entry for {', '.join(missing)}; they have: {', '.join(map(str, data))}")
        return [data[name] for name in names]
    if isinstance(data, tuple) or (isinstance(data, list) and len(names) > 1):
        return list(data)
    return [data]


def as_array(x: Any) -> np.ndarray:
    """Host data as an ndarray; tensors that are on the host anyway are not copied."""
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "detach"):
        x = x.detach()
    try:
        array = np.asarray(x)
    except ValueError:
        array = np.asarray(None)
    if array.dtype == object:
        raise DataError("the data are ragged or no numbers: an array of one shape was expected")
    return array


def apart(arrays: Iterable[np.ndarray], held: Iterable[Any]) -> list[np.ndarray]:
    """Results as arrays of their own: copied where they are views, cannot be written to, or are ``held`` by others."""
    taken, found = set(map(id, held)), []
    for x in arrays:
        if id(x) in taken or not (x.flags.owndata and x.flags.writeable):
            x = np.array(x)
        taken.add(id(x))
        found.append(x)
    return found


@dataclass
class Arrays:
    """Arrays in memory, cut into batches."""

    inputs: list[np.ndarray]
    targets: list[np.ndarray]
    weights: list[Any]

    def __post_init__(self) -> None:
        counts = {len(a) for a in (*self.inputs, *self.targets, *(w for w in self.weights if w is not None))}
        if len(counts) > 1:
            shapes = ", ".join(str(a.shape) for a in (*self.inputs, *self.targets))
            raise DataError(f"inputs, targets and weights have different numbers of samples: {shapes}")
        if not self.inputs:
            raise DataError("no input data were given")

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.inputs[0])

    def steps(self, batch_size: int) -> int:
        """The number of batches."""
        return -(-self.count // batch_size)

    def batches(self, batch_size: int, order: np.ndarray | None = None) -> Iterator[HostBatch]:
        """Batches in the given order of samples."""
        for start in range(0, self.count, batch_size):
            part: Any = slice(start, start + batch_size)
            if order is not None:
                part = order[part]
            yield tuple(
                [None if a is None else a[part] for a in group] for group in (self.inputs, self.targets, self.weights)
            )  # type: ignore[misc]

    def split(self, share: float) -> tuple[Arrays, Arrays]:
        """The first samples, and the last ``share`` of them."""
        if isinstance(share, (str, bool)) or not 0 < share < 1:
            raise DataError(f"validation_split must be in (0, 1), not {share}")
        at = int(self.count * (1 - share))
        if at == 0 or at == self.count:
            raise DataError(f"validation_split={share} leaves no samples on one side of {self.count}")
        groups = (self.inputs, self.targets, self.weights)
        first, last = (
            [[None if a is None else a[part] for a in group] for group in groups]
            for part in (slice(0, at), slice(at, None))
        )
        return Arrays(*first), Arrays(*last)  # type: ignore[arg-type]


@dataclass
class Stream:
    """Batches made by an iterable of x, (x, y) or (x, y, sample_weight)."""

    source: Iterable[Any]
    check: Callable[[Any, Any, Any], Arrays]
    iterator: Iterator[Any] | None = None

    def batches(self, steps: int | None) -> Iterator[HostBatch]:
        """The next ``steps`` batches; all of one pass for None. A generator goes on where it stopped."""
        taken = 0
        while steps is None or taken < steps:
            if self.iterator is None:
                self.iterator = iter(self.source)
            item = next(self.iterator, _END)
            if item is _END:
                self.iterator = None
                if steps is None:
                    return
                if isinstance(self.source, Iterator):
                    raise DataError(f"the generator ended after {taken} of {steps} batches")
                if taken == 0 and next(iter(self.source), _END) is _END:
                    raise DataError("the data have no batches")
                continue
            parts = item if isinstance(item, (tuple, list)) else (item,)
            if len(parts) > 3:
                raise DataError(f"a batch must be x, (x, y) or (x, y, sample_weight), not {len(parts)} parts")
            whole = self.check(*parts, *(None,) * (3 - len(parts)))
            yield whole.inputs, whole.targets, whole.weights
            taken += 1


_END = object()


def is_stream(x: Any) -> bool:
    """Whether data come as batches (a generator, a loader) rather than as arrays."""
    if isinstance(x, (np.ndarray, list, tuple, Mapping)) or hasattr(x, "__array__") or hasattr(x, "shape"):
        return False
    return isinstance(x, Iterable)
