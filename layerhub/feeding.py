"""Feeding: what users give as data, brought to what a model takes, and checked before anything is computed."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from layerhub.compiling import Compiled, fits
from layerhub.data import (
    Arrays,
    Cut,
    HostBatch,
    Source,
    Stream,
    as_array,
    class_weights,
    is_stream,
    stream,
    unpack_x_y_sample_weight,
)
from layerhub.errors import DataError
from layerhub.execution import Batch, Executor
from layerhub.stream import Stream as RandomStream
from layerhub.variable import HOST


class Fed(Compiled):
    """A compiled network that takes data."""

    _epochs_begun = 0

    # One batch, or all data at once

    def _data(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, batch: bool = True
    ) -> Arrays:
        """Arrays, checked against what the model declares. batch: they are one batch, not to be cut."""
        if x is None:  # inputs that wrap tensors bring their own data
            x = tuple(t.node.tensor for t in self.inputs if t.node.tensor is not None) or None
        taken = self._native_or_array if batch else as_array
        inputs = self._checked_inputs([taken(part) for part in self.arranged(x)], batch)
        targets = [taken(part) for part in self.arranged_outputs(y)]
        if targets and self._losses:
            targets = self._checked_targets(targets)
        weights = self._weights(sample_weight)
        if class_weight is not None and targets:
            sparse = dict.fromkeys(range(len(targets)), False)
            sparse |= {term.output: term.loss.integer_targets for term in self._losses}
            weights = class_weights(class_weight, targets, weights, self.output_names, list(sparse.values()))
        return Arrays(inputs, targets, weights)

    def _native_or_array(self, x: Any) -> Any:
        """Part of a batch: as it is where the model's backend owns it, so that it makes no trip through the host."""
        if isinstance(x, (np.ndarray, list, tuple)) or self._executor is None:
            return as_array(x)
        return x if self._executor.backend.owns(x) and hasattr(x, "shape") else as_array(x)

    def _weights(self, given: Any) -> list[Any]:
        """Sample weights by output; one array alone is for all of them. Raises DataError."""
        found = [None if w is None else self._native_or_array(w) for w in self.arranged_outputs(given, partial=True)]
        weights = found * len(self.outputs) if len(found) == 1 else found
        modes = self._by_output(self._weight_modes, "sample_weight_mode")
        for k, (w, output, mode) in enumerate(zip(weights, self.outputs, modes, strict=False)):
            if w is None:
                continue
            shape = tuple(w.shape)
            if len(shape) == len(output.shape) == 2 and shape[1] == 1:  # a column is a weight for each sample, too
                shape = shape[:1]
                weights[k] = w.reshape(shape) if isinstance(w, np.ndarray) else self.executor.xp.reshape(w, shape)
            if mode == "temporal" and len(shape) != 2:
                raise DataError(
                    f"{self.name}: sample_weight_mode is 'temporal': weights have the shape (batch, time), not {shape}"
                )
            if len(shape) >= len(output.shape) or not fits(shape[1:], output.shape[1:]):
                raise DataError(f"{self.name}: sample weights of shape {shape} do not fit outputs {output.shape}")
        return weights

    def _labelled(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, batch: bool = True
    ) -> Arrays:
        """Arrays to train or measure with, which must have targets."""
        found = self._data(x, y, sample_weight, class_weight, batch)
        if not found.targets:
            raise DataError(f"{self.name}: no targets were given")
        return found

    def _checked_targets(self, targets: list[Any]) -> list[Any]:
        if len(targets) != len(self.outputs):
            raise DataError(f"{self.name} has {len(self.outputs)} outputs, targets for {len(targets)} were given")
        checked = list(targets)
        for term in self._losses:
            y, predicted = targets[term.output], self.outputs[term.output].shape
            shape = tuple(y.shape)
            wanted: Any = term.loss.target_shape(shape, (shape[0], *predicted[1:]))
            on_host = isinstance(y, np.ndarray)
            # What is on a device is not looked at: whoever looks has to wait for it.
            if wanted != shape:
                y = y.reshape(wanted) if on_host else self.executor.xp.reshape(y, wanted)
            if on_host and term.loss.integer_targets:
                if y.dtype.kind not in "iub" and not np.array_equal(y, np.trunc(y)):
                    raise DataError(f"{term.loss!r}: targets must be whole numbers, not {y.dtype}")
                y = y.astype(np.int64)
            if on_host:
                term.loss.check_targets(y, predicted)
            checked[term.output] = y
        return checked

    def _device_batch(self, executor: Executor, host: HostBatch) -> Batch:
        return executor.batch(*host)

    # Sources

    def _batch_size(self, what: str, given: int | None, arrays: Arrays | None = None, steps: int | None = None) -> int:
        """The number of samples in a batch: as given, as declared, so that there are as many steps, or 32.

        Where it was declared, all batches must have it, the last one too. Raises DataError.
        """
        declared = self.batch_size
        if given is None:
            given = declared or (-(-arrays.count // steps) if arrays is not None and steps else 32) or 1
        size = whole(f"{what}: batch_size", given)
        if declared is not None and size != declared:
            raise DataError(f"{what}: batch_size is {size}, but {self.name} declares batches of {declared}")
        if declared is not None and arrays is not None and (not arrays.count or arrays.count % declared):
            raise DataError(
                f"{what}: {arrays.count} samples make no whole batches of {declared}, which {self.name} declares"
            )
        return size

    def _source(
        self, what: str, check: Any, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None,
        steps: int | None = None,
    ) -> Source:  # fmt: skip
        """Data to measure or predict: arrays, or an iterable of batches. check: what makes Arrays of them."""
        if is_stream(x):
            if y is not None or sample_weight is not None:
                raise DataError(f"{what}: an iterable brings its own targets; y and sample_weight are for arrays")
            self._batch_size(what, batch_size)
            source = stream(x, check)
            self._peek(source)
            return source
        arrays = check(x, y, sample_weight, batch=False)
        return Cut(arrays, self._batch_size(what, batch_size, arrays, steps))

    def _peek(self, source: Source) -> None:
        """See the first batch before anything is bound, so that unknown shapes can be learned from it."""
        if not self.inputs and isinstance(source, Stream):
            self._see(unpack_x_y_sample_weight(source.first())[0])

    def _order(self, shuffle: Any, batch_size: int, count: int) -> np.ndarray:
        """The samples in the order of another pass. shuffle: "batch" leaves those of a batch together."""
        if shuffle != "batch":
            return self._shuffled(count)
        full = count // batch_size
        rows = np.arange(full * batch_size).reshape(full, batch_size)[self._shuffled(full)]
        return np.concatenate([rows.ravel(), np.arange(full * batch_size, count)])

    def _shuffled(self, count: int) -> np.ndarray:
        """Another order, from the model's seed and how many there were before: the same on every backend."""
        stream = RandomStream.at(self.seed, "shuffle").during(self._epochs_begun)
        self._epochs_begun += 1
        bits = HOST.random_bits(stream, (count, 2))
        return np.lexsort((bits[:, 0], bits[:, 1]))

    def _training_source(
        self, x: Any, y: Any, sample_weight: Any, class_weight: Any, batch_size: int | None, shuffle: Any,
        split: float, steps: int | None, labelled: bool,
    ) -> tuple[Source, Arrays | None]:  # fmt: skip
        """Data to train on, and those of them that are held back. labelled: they must have targets."""
        check = self._labelled if labelled else self._data
        if is_stream(x):
            if y is not None or split or sample_weight is not None:
                raise DataError(
                    "fit: an iterable brings its own targets; y, sample_weight and validation_split are for arrays"
                )
            checked = partial(check, class_weight=class_weight)
            source: Source = stream(x, checked, self._shuffled if shuffle else None)
            self._peek(source)
            self._batch_size("fit", batch_size)
            return source, None
        if isinstance(shuffle, str) and shuffle != "batch":
            raise DataError(f"fit: shuffle must be true, false or 'batch', not {shuffle!r}")
        arrays, held = check(x, y, sample_weight, class_weight, batch=False), None
        if split:
            arrays, held = arrays.split(split)
        size = self._batch_size("fit", batch_size, arrays, steps)
        order = partial(self._order, shuffle, size, arrays.count) if shuffle else None
        return Cut(arrays, size, order), held

    def _validation(self, given: Any, batch_size: int | None, steps: int | None, labelled: bool) -> Source | None:
        """Data to validate on."""
        check = self._labelled if labelled else self._data
        if given is None:
            return None
        if isinstance(given, Arrays):
            return Cut(given, self._batch_size("validation", batch_size, given, steps))
        if is_stream(given):
            return self._source("validation", check, given, batch_size=batch_size)
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise DataError("validation_data must be (x, y), (x, y, sample_weight) or an iterable of batches")
        x, y, sample_weight = unpack_x_y_sample_weight(given)
        return self._source("validation", check, x, y, sample_weight, batch_size, steps)


def whole(what: str, value: Any, low: int = 1) -> int:
    """An int that is not below ``low``. Raises DataError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise DataError(f"{what} must be {'a positive int' if low else 'an int, 0 or more'}, not {value!r}")
    return int(value)


def validates(frequency: Any, epoch: int) -> bool:
    """Whether an epoch, the first of which has number 0, is followed by validation."""
    return (epoch + 1) in frequency if isinstance(frequency, (list, tuple, set)) else (epoch + 1) % frequency == 0


def check_frequency(given: Any) -> None:
    """Raise DataError for what is neither a number of epochs nor a list of their numbers."""
    for epoch in given if isinstance(given, (list, tuple, set)) else [given]:
        whole("fit: validation_freq", epoch)
