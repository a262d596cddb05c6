"""Data: arrays and streams as batches, checked before anything is computed.

What a fit goes through is a ``Source``: it gives batches, epoch by epoch. Arrays in memory are cut into batches
(``Cut``); an iterable brings its own (``Stream``), and so does a sequence of batches that can be asked for one by its
number (``Sequenced``: ``__len__``, ``__getitem__``, and if it likes ``on_epoch_begin`` and ``on_epoch_end``). Loaders
and datasets of frameworks become iterables by their backends (``Backend.stream``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from layerhub.errors import DataError
from layerhub.registry import registry

HostBatch = tuple[list[Any], list[Any], list[Any]]
"""(inputs, targets, sample weights) of one batch; no targets or weights: an empty list."""


def listed(data: Any, names: Sequence[str] = (), partial: bool = False) -> list[Any]:
    """Data for several inputs or outputs as a list: from one array, a list, or a dict by name.

    partial: a dict may leave names out, which have None.
    """
    if data is None:
        return []
    if isinstance(data, Mapping):
        if partial:
            unknown = [name for name in data if name not in names]
            if unknown:
                raise DataError(f"there are data for {unknown[0]!r}, but the names are {', '.join(names)}")
            return [data.get(name) for name in names]
        missing = [name for name in names if name not in data]
        if missing:
            raise DataError(f"the data have no entry for {', '.join(missing)}; they have: {', '.join(map(str, data))}")
        return [data[name] for name in names]
    if isinstance(data, tuple) or (isinstance(data, list) and len(names) > 1):
        return list(data)
    return [data]


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of a batch that is x, (x,), (x, y) or (x, y, sample_weight); None for what it has not."""
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    if not 1 <= len(parts) <= 3:
        raise DataError(f"a batch must be x, (x, y) or (x, y, sample_weight), not {len(parts)} parts")
    return (*parts, None, None)[:3]


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """The batch that ``unpack_x_y_sample_weight`` takes apart."""
    if sample_weight is not None:
        return x, y, sample_weight
    if y is not None:
        return x, y
    return (x,) if isinstance(x, (tuple, list)) else x


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
    except TypeError as problem:
        # Some libraries copy to the host only when told to; what their backends own, they know how to fetch.
        array = _fetched(x, problem)
    if array.dtype == object:
        raise DataError("the data are ragged or no numbers: an array of one shape was expected")
    return array


def _fetched(x: Any, problem: Exception) -> np.ndarray:
    for backend in registry().loaded():
        if backend.owns(x):
            return backend.to_numpy(x)
    raise DataError(f"the data cannot be brought to the host: {problem}") from problem


# Arrays


@dataclass
class Arrays:
    """Arrays in memory, cut into batches."""

    inputs: list[Any]
    targets: list[Any]
    weights: list[Any]

    def __post_init__(self) -> None:
        counts = {a.shape[0] for a in (*self.inputs, *self.targets, *(w for w in self.weights if w is not None))}
        if len(counts) > 1:
            shapes = ", ".join(str(tuple(a.shape)) for a in (*self.inputs, *self.targets))
            raise DataError(f"inputs, targets and weights have different numbers of samples: {shapes}")
        if not self.inputs:
            raise DataError("no input data were given")

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.inputs[0].shape[0]

    @property
    def whole(self) -> HostBatch:
        """All of them as one batch."""
        return self.inputs, self.targets, self.weights

    def batches(self, batch_size: int, order: np.ndarray | None = None, skip: int = 0) -> Iterator[HostBatch]:
        """Batches in the given order of samples, without the first ones that are to be skipped."""
        for start in range(skip * batch_size, self.count, batch_size):
            part: Any = slice(start, start + batch_size)
            if order is not None:
                part = order[part]
            yield tuple([None if a is None else a[part] for a in group] for group in self.whole)  # type: ignore[misc]

    def split(self, share: float) -> tuple[Arrays, Arrays]:
        """The first samples, and the last ``share`` of them."""
        if isinstance(share, (str, bool)) or not 0 < share < 1:
            raise DataError(f"validation_split must be in (0, 1), not {share}")
        at = int(self.count * (1 - share))
        if at == 0 or at == self.count:
            raise DataError(f"validation_split={share} leaves no samples on one side of {self.count}")
        first, last = (
            [[None if a is None else a[part] for a in group] for group in self.whole]
            for part in (slice(0, at), slice(at, None))
        )
        return Arrays(*first), Arrays(*last)


# Sources


class Source:
    """What gives batches, epoch by epoch."""

    @property
    def steps(self) -> int | None:
        """How many batches a pass has; None where that is not known beforehand."""
        return None

    def epoch(self, steps: int | None = None) -> Iterator[HostBatch]:
        """The next ``steps`` batches; all of one pass for None."""
        raise NotImplementedError

    def again(self, steps: int | None = None) -> Iterator[HostBatch]:
        """The same, but from the beginning where there is a way back to it."""
        return self.epoch(steps)

    def rest(self, steps: int | None, done: int) -> Iterator[HostBatch]:
        """The batches of an epoch of which some were done before ``go_to``."""
        return self.epoch(None if steps is None else steps - done)

    @property
    def place(self) -> tuple[int, int]:
        """How many passes were begun, and how many batches were taken in the last one; (0, 0): none is under way."""
        raise NotImplementedError

    def go_to(self, place: tuple[int, int]) -> None:
        """Be where another process was, without looking at the batches that are passed over."""
        raise NotImplementedError


class Cut(Source):
    """Arrays, cut into batches. order: gives the order of samples of another pass; None is the order they have."""

    def __init__(self, arrays: Arrays, batch_size: int, order: Callable[[], np.ndarray] | None = None):
        self.arrays, self.batch_size, self._order = arrays, batch_size, order
        self._left: Iterator[HostBatch] | None = None

    @property
    def steps(self) -> int:
        return -(-self.arrays.count // self.batch_size)

    def epoch(self, steps: int | None = None) -> Iterator[HostBatch]:
        """As in Keras: with a number of steps, an epoch goes on where the last one stopped, and ends with the data."""
        if steps is None or self._left is None:
            self.go_to((1, 0))
        return self.rest(steps, 0)

    def rest(self, steps: int | None, done: int) -> Iterator[HostBatch]:
        assert self._left is not None
        return self._batches(self._left, None if steps is None else steps - done)

    @property
    def place(self) -> tuple[int, int]:
        return (0, 0) if self._left is None else (1, self.steps - self._coming)

    def go_to(self, place: tuple[int, int]) -> None:
        passes, taken = place
        if passes:
            order = None if self._order is None else self._order()
            self._left = self.arrays.batches(self.batch_size, order, taken)
            self._coming = self.steps - taken

    def _batches(self, left: Iterator[HostBatch], steps: int | None) -> Iterator[HostBatch]:
        for batch in islice(left, steps):
            self._coming -= 1
            yield batch
        if self._coming <= 0:
            self._left = None

    def again(self, steps: int | None = None) -> Iterator[HostBatch]:
        return islice(self.epoch(), steps)


class Stream(Source):
    """Batches made by an iterable of x, (x, y) or (x, y, sample_weight)."""

    def __init__(self, source: Iterable[Any], check: Callable[[Any, Any, Any], Arrays]):
        self.source, self.check = source, check
        self.iterator: Iterator[Any] | None = None
        self._place = (0, 0)

    @property
    def steps(self) -> int | None:
        return length(self.source)

    def epoch(self, steps: int | None = None) -> Iterator[HostBatch]:
        """A generator goes on where it stopped; what can be gone through again begins anew when it ends."""
        taken = 0
        while steps is None or taken < steps:
            if self.iterator is None:
                self._begin()
            item = next(self.iterator, _END)  # type: ignore[arg-type]
            if item is _END:
                self.iterator = None
                if steps is None:
                    return
                if isinstance(self.source, Iterator):
                    raise DataError(f"the generator ended after {taken} of {steps} batches")
                if taken == 0 and next(iter(self.source), _END) is _END:
                    raise DataError("the data have no batches")
                continue
            taken += 1
            self._place = (self._place[0], self._place[1] + 1)
            yield self.checked(item)

    def _begin(self) -> None:
        """Begin another pass."""
        self.iterator, self._place = iter(self.source), (self._place[0] + 1, 0)

    @property
    def place(self) -> tuple[int, int]:
        return self._place

    def go_to(self, place: tuple[int, int]) -> None:
        # Of passes that were done one item is taken, so that what draws an order for each of them draws as many.
        passes, taken = place
        while self._place[0] < passes:
            if self.iterator is not None:
                next(self.iterator, None)
            self._begin()
        for _ in range(taken - self._place[1]):
            if self.iterator is None or next(self.iterator, _END) is _END:
                raise DataError(f"the data end before batch {taken}, after which training is to go on")
        self._place = place

    def again(self, steps: int | None = None) -> Iterator[HostBatch]:
        if not isinstance(self.source, Iterator):
            self.iterator = None
        return self.epoch(steps)

    def first(self) -> Any:
        """The first item, which stays among those to come."""
        self._begin()
        assert self.iterator is not None
        item = next(self.iterator, _END)
        if item is _END:
            raise DataError("the data have no batches")
        rest = self.iterator
        self.iterator = (item for part in ((item,), rest) for item in part)
        return item

    def checked(self, item: Any) -> HostBatch:
        """A batch as the model takes it. Raises DataError."""
        return self.check(*unpack_x_y_sample_weight(item)).whole


_END = object()


class Sequenced(Stream):
    """Batches by their numbers. order: gives the order of ``count`` batches in another pass; None: as they are."""

    def __init__(
        self, data: Any, check: Callable[[Any, Any, Any], Arrays], order: Callable[[int], np.ndarray] | None = None
    ):
        self.data, self._order = data, order
        super().__init__(_Passes(self), check)

    def epoch(self, steps: int | None = None) -> Iterator[HostBatch]:
        """The object is told where an epoch begins and ends."""
        self._tell("on_epoch_begin")
        yield from super().epoch(steps)
        self._tell("on_epoch_end")

    def go_to(self, place: tuple[int, int]) -> None:
        # The order of a pass is the model's to draw, and batches come by number: what is done needs no look at all.
        passes, taken = place
        if passes:
            self._place = (passes - 1, 0)
            self._begin()
            assert self.iterator is not None
            self.iterator, self._place = islice(self.iterator, taken, None), place

    def _tell(self, hook: str) -> None:
        told = getattr(self.data, hook, None)
        if told is not None:
            told()


@dataclass
class _Passes:
    """The items of a sequence, in another order in each pass."""

    of: Sequenced

    def __len__(self) -> int:
        return len(self.of.data)

    def __iter__(self) -> Iterator[Any]:
        count = len(self)
        order = range(count) if self.of._order is None else self.of._order(count)
        return (self.of.data[int(k)] for k in order)


def length(source: Any) -> int | None:
    """How many batches an iterable has; None where it does not know."""
    try:
        return len(source)
    except TypeError:
        return None


def is_sequence(x: Any) -> bool:
    """Whether data can be asked for a batch by its number."""
    if not (hasattr(x, "__getitem__") and hasattr(x, "__len__")):
        return False
    return hasattr(x, "on_epoch_end") or not isinstance(x, Iterable)


def is_stream(x: Any) -> bool:
    """Whether data come as batches (a generator, a loader) rather than as arrays."""
    if isinstance(x, (np.ndarray, list, tuple, Mapping)) or hasattr(x, "__array__") or hasattr(x, "shape"):
        return False
    return isinstance(x, Iterable) or is_sequence(x)


def stream(
    data: Any, check: Callable[[Any, Any, Any], Arrays], order: Callable[[int], np.ndarray] | None = None
) -> Stream:
    """The source of data that come as batches. order: of the batches that can be asked for by number."""
    offered = _offered(data)
    if offered is None and is_sequence(data):
        return Sequenced(data, check, order)
    return Stream(data if offered is None else offered, check)


def batches_of(data: Any) -> Iterable[Any]:
    """The batches of such data as they come, unchecked."""
    return stream(data, Arrays).source


def _offered(data: Any) -> Iterable[Any] | None:
    """What a backend makes of its library's own data; None where the data are no library's."""
    roots = {base.__module__.partition(".")[0] for base in type(data).__mro__} - {"builtins", "collections", "layerhub"}
    # Data of a framework are there, so it is imported already, and its backend cheap to load.
    for name, (entry, _) in registry().entries.items():
        if roots & set(entry.requires):
            found = registry().backend(name).stream(data)
            if found is not None:
                return found
    return None


def warn_of_the_end(what: str, taken: int, steps: int) -> None:
    """Say that data ended within an epoch."""
    warnings.warn(
        f"{what}: the data ended after {taken} of {steps} steps, and so did the epoch; give more data, or fewer steps",
        RuntimeWarning,
        stacklevel=4,
    )


def class_weights(
    given: Any, targets: list[Any], weights: list[Any], names: Sequence[str], sparse: Sequence[bool]
) -> list[Any]:
    """Sample weights by the class of each target, times those that are given, for each output.

    given: weights by class; for several outputs a dict or a list of these, by output. sparse: whether the targets of an
    output are classes by number; else a class is the place of the largest number in a row. Raises DataError.
    """
    tables: Any = given
    if len(targets) == 1 and not (isinstance(given, Mapping) and set(given) == set(names)):
        tables = [given]
    elif isinstance(given, Mapping):
        if not set(given) <= set(names):
            raise DataError(f"class_weight goes by output here, {{{names[0]!r}: {{…}}, …}}, not {given!r}")
        tables = listed(given, names, partial=True)
    if not isinstance(tables, (list, tuple)) or len(tables) != len(targets):
        raise DataError(f"class_weight must map classes to weights, not {given!r}")
    found = []
    for k, (table, y) in enumerate(zip(tables, targets, strict=True)):
        own = weights[k] if k < len(weights) else None
        found.append(own if table is None else _weighted(table, as_array(y), own, sparse[k]))
    return found


def _weighted(table: Any, targets: np.ndarray, weights: Any, sparse: bool) -> np.ndarray:
    whole = isinstance(table, Mapping) and all(isinstance(kind, (int, np.integer)) for kind in table)
    if not whole or not all(isinstance(weight, (int, float, np.number)) for weight in table.values()):
        raise DataError(f"class_weight must map classes, which are ints, to weights, which are numbers; not {table!r}")
    if targets.ndim > 1 and not sparse:
        targets = targets[..., 0] if targets.shape[-1] == 1 else targets.argmax(-1)
    kinds, places = np.unique(targets, return_inverse=True)
    found = np.array([table.get(int(kind), 1.0) for kind in kinds])[places.reshape(targets.shape)]
    return found if weights is None else found * as_array(weights)
