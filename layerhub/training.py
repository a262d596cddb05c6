"""Training: fit, evaluate, predict. Names, arguments, defaults and log keys are Keras's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from layerhub import structure
from layerhub.callbacks import Callback, CallbackList, History
from layerhub.callbacks.progress import verbosity
from layerhub.data import Arrays, Cut, HostBatch, Source, warn_of_the_end
from layerhub.errors import DataError
from layerhub.execution import Batch, Executor
from layerhub.feeding import check_frequency, validates, whole
from layerhub.generators import Generators, renamed
from layerhub.steps import Stepped


class Going(NamedTuple):
    """Where fit goes on: in which epoch, and after how many of its batches. source: its data."""

    epoch: int
    batches: int = 0
    source: Any = None


class Trainable(Stepped, Generators):
    """A network that can be trained."""

    stop_training = False
    stop_evaluating = False
    stop_predicting = False
    _going = Going(0)
    """Where the running fit begins; a callback may change that when it is told that training begins."""

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
        **formerly: Any,
    ) -> History:
        """Train for some epochs; returns the History of their logs.

        x, y: arrays, lists or dicts of arrays; or x alone, which brings its batches: an iterable of (x, y) or
        (x, y, sample_weight), a loader or dataset of a framework, an object with ``__len__`` and ``__getitem__``.
        verbose: 0 silent, 1 a progress bar, 2 a line for each epoch; "auto" is 1. shuffle: arrays anew before each
        epoch, and objects that give batches by number; "batch" keeps together the samples of a batch. class_weight:
        weights of samples by class; for several outputs a dict of such dicts by output. steps_per_epoch: the next epoch
        goes on where this one stopped; arrays are cut into so many batches unless batch_size says otherwise.
        validation_freq: every so many epochs, or a list of epochs, the first of which is 1. formerly: nb_epoch, which
        is epochs in Keras 1.
        """
        epochs = renamed("fit", formerly, "nb_epoch", "epochs", epochs)
        _check_counts(epochs, initial_epoch, batch_size, steps_per_epoch, validation_steps, validation_batch_size)
        check_frequency(validation_freq)
        labelled = not self._overrides("train_step")
        source, held = self._training_source(
            x, y, sample_weight, class_weight, batch_size, shuffle,
            validation_split if validation_data is None else 0, steps_per_epoch, labelled,
        )  # fmt: skip
        validation = self._validation(
            validation_data if held is None else held, validation_batch_size or _size_of(source, batch_size),
            validation_steps, not self._overrides("test_step"),
        )  # fmt: skip
        self._ready_to_train(needs_loss=labelled)
        steps = steps_per_epoch if steps_per_epoch is not None else source.steps
        verbose = verbosity(verbose)
        told = CallbackList(callbacks, True, bool(verbose), self, epochs=epochs, steps=steps, verbose=verbose)
        history = self.history = told.find(History)
        self.stop_training, self._going = False, Going(initial_epoch, 0, source)
        with told:
            told.tell("on_train_begin", {})
            logs: dict[str, Any] = {}
            for epoch in range(self._going.epoch, epochs):
                if self.stop_training:
                    break
                done = self._going.batches if epoch == self._going.epoch else 0
                if not done:
                    self.executor.reset_metrics()
                told.tell("on_epoch_begin", epoch, {})
                logs = self._epoch(source, steps_per_epoch, told, done)
                if validation is not None and validates(validation_freq, epoch):
                    measured = self._measure(validation, validation_steps, told)
                    logs |= {f"val_{name}": value for name, value in measured.items()}
                told.tell("on_epoch_end", epoch, logs)
            if epochs > initial_epoch:
                self.executor.finalize()
            told.tell("on_train_end", logs)
        return history

    def _epoch(self, source: Source, steps: int | None, told: CallbackList, done: int) -> dict[str, Any]:
        """Train for one epoch, so many of whose batches are done; returns its logs."""
        own_step, wants_logs = self._overrides("train_step"), told.listens("on_train_batch_end")
        given: Mapping[str, Any] | None = None
        taken = done
        batches = source.rest(steps, done) if done else source.epoch(steps)
        for hosts in _together(batches, self._running.together):
            told.tell("on_train_batch_begin", taken, {})
            # Asked for anew at each step: a callback may have moved the model.
            executor = self._differentiable(self.executor)
            arrays = [self._device_batch(executor, host) for host in hosts]
            if own_step:
                for batch in arrays:
                    given = self._stepped("train_step", batch)
            else:
                executor.train_batches(arrays)
            taken += len(hosts)
            if wants_logs:
                told.tell("on_train_batch_end", taken - 1, self._figures("on_train_batch_end", told, given))
            if self.stop_training:
                break
        else:
            self._check_taken("fit", taken, steps)
        return self._logs(given)

    def _figures(self, hook: str, told: CallbackList, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """What is told of a batch: nothing, where nobody would look at it."""
        return self._logs(given) if told.wants_figures(hook) else {}

    def _check_taken(self, what: str, taken: int, steps: int | None) -> None:
        if not taken:
            raise DataError(f"{self.name}: the data have no batches")
        if steps is not None and taken < steps:
            warn_of_the_end(what, taken, steps)

    def _logs(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Losses and metrics gathered so far, in the order of their names, as Keras has it.

        given: what a step of the user's own returned in their place.
        """
        if given is not None:
            return self._numbers(given)
        totals, figures = self.executor.results()
        logs: dict[str, Any] = dict(zip(self._loss_names, totals, strict=True))
        logs |= {term.name: value for term, value in zip(self._metrics, figures, strict=True)}
        return {name: logs[name] for name in sorted(logs)}

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Losses and metrics on data: the loss, or [loss, metrics…]; a dict by name with return_dict."""
        labelled = not self._overrides("test_step")
        check = self._labelled if labelled else self._data
        source = self._source("evaluate", check, x, y, sample_weight, batch_size, steps)
        self._ready(needs_loss=labelled)
        with self._audience(callbacks, steps or source.steps, verbosity(verbose)) as told:
            logs = self._measure(source, steps, told)
        return logs if return_dict else self._as_keras(logs)

    def _audience(self, callbacks: Any, steps: int | None, verbose: int) -> CallbackList:
        """Whoever is told of an evaluation or a prediction."""
        return CallbackList(callbacks, add_progbar=bool(verbose), model=self, steps=steps, verbose=verbose)

    def _measure(self, source: Source, steps: int | None, told: CallbackList) -> dict[str, Any]:
        """Losses and metrics on data, leaving alone what training has gathered."""
        gathered = self.executor.metric_values()
        own_step, wants_logs = self._overrides("test_step"), told.listens("on_test_batch_end")
        self.executor.reset_metrics()
        self.stop_evaluating = False
        told.tell("on_test_begin", {})
        given: Mapping[str, Any] | None = None
        taken = 0
        for hosts in _together(source.again(steps), self._running.together):
            told.tell("on_test_batch_begin", taken, {})
            executor = self.executor
            arrays = [self._device_batch(executor, host) for host in hosts]
            if own_step:
                for batch in arrays:
                    given = self._stepped("test_step", batch)
            else:
                executor.test_batches(arrays)
            taken += len(hosts)
            if wants_logs:
                told.tell("on_test_batch_end", taken - 1, self._figures("on_test_batch_end", told, given))
            if self.stop_evaluating:
                break
        logs = self._logs(given)
        told.tell("on_test_end", logs)
        self.executor.load_metric_values(gathered)
        return logs

    def predict(
        self,
        x: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Sequence[Callback] | None = None,
    ) -> Any:
        """The outputs for data, as ndarrays, computed batch by batch; no more than a batch is on the device."""
        check = lambda x, y=None, w=None, batch=True: self._data(x, batch=batch)
        source = self._source("predict", check, x, None, None, batch_size, steps)
        with self._audience(callbacks, steps or source.steps, verbosity(verbose, False)) as told:
            self.stop_predicting, wants_outputs = False, told.listens("on_predict_batch_end")
            told.tell("on_predict_begin", {})
            own_step, gathered = self._overrides("predict_step"), Gathered(_rows(source))
            taken = 0
            for hosts in _together(source.again(steps), self._running.together):
                told.tell("on_predict_batch_begin", taken, {})
                before = gathered.count
                for host in hosts:
                    gathered.add(self._outputs(host, own_step))
                taken += len(hosts)
                if wants_outputs:
                    told.tell("on_predict_batch_end", taken - 1, {"outputs": gathered.since(before)})
                if self.stop_predicting:
                    break
            told.tell("on_predict_end", {})
        if not taken:
            if not isinstance(source, Cut):
                raise DataError(f"{self.name}: the data have no batches")
            gathered.add(self._outputs(([x[:0] for x in source.arrays.inputs], [], []), own_step))
        return self.packed(gathered.whole())

    def _predicted(self, host: HostBatch) -> list[np.ndarray]:
        """The outputs for a batch, as arrays of their own."""
        return [np.array(y) for y in self._outputs(host, self._overrides("predict_step"))]

    def _outputs(self, host: HostBatch, own_step: bool) -> list[np.ndarray]:
        """The outputs for a batch, which may be over memory of the model's or the data's own."""
        executor = self.executor
        batch = executor.batch(host[0])
        found = structure.flat(self._stepped("predict_step", batch)) if own_step else executor.predict_batch(batch)
        fetch = executor.backend.to_numpy
        return [np.asarray(fetch(y)) for y in found]

    # One batch

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One step on one batch; returns the losses and metrics gathered since they were last reset."""
        own_step = self._overrides("train_step")
        host = (self._data if own_step else self._labelled)(x, y, sample_weight, class_weight)
        executor = self._ready_to_train(needs_loss=not own_step)
        return self._on_batch("train_step", executor.train_batch, executor, host, return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Losses and metrics of one batch, together with those gathered since they were last reset."""
        own_step = self._overrides("test_step")
        host = (self._data if own_step else self._labelled)(x, y, sample_weight)
        executor = self._ready(needs_loss=not own_step)
        return self._on_batch("test_step", executor.test_batch, executor, host, return_dict)

    def _on_batch(self, step: str, run: Any, executor: Executor, host: Arrays, return_dict: bool) -> Any:
        batch: Batch = self._device_batch(executor, host.whole)
        given = self._stepped(step, batch) if self._overrides(step) else run(batch)
        logs = self._logs(given)
        return logs if return_dict else self._as_keras(logs)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as ndarrays."""
        return self.packed(self._predicted((self._data(x).inputs, [], [])))

    def reset_metrics(self) -> None:
        """Begin to gather losses and metrics anew."""
        self.executor.reset_metrics()

    def _as_keras(self, logs: dict[str, Any]) -> Any:
        """The figures in the order of ``metrics_names``, or the only one."""
        names = self.metrics_names
        ordered = [logs[name] for name in names if name in logs]
        ordered += [value for name, value in logs.items() if name not in names]
        return ordered[0] if len(ordered) == 1 else ordered


def _check_counts(
    epochs: Any, initial_epoch: Any, batch_size: Any, steps: Any, validation_steps: Any, validation_batch_size: Any
) -> None:
    whole("fit: epochs", epochs, low=0)
    whole("fit: initial_epoch", initial_epoch, low=0)
    for what, count in (
        ("steps_per_epoch", steps),
        ("validation_steps", validation_steps),
        ("batch_size", batch_size),
        ("validation_batch_size", validation_batch_size),
    ):
        if count is not None:
            whole(f"fit: {what}", count)


def _size_of(source: Source, given: int | None) -> int | None:
    """The size of batches that validation takes over from training."""
    return source.batch_size if isinstance(source, Cut) else given


def _together(batches: Iterator[HostBatch], count: int) -> Iterator[list[HostBatch]]:
    """So many batches at a time, as long as there are some."""
    while taken := list(islice(batches, count)):
        yield taken


class Gathered:
    """The outputs of batches, copied, as one array for each output.

    rows: how many samples there are, where that is known: then each batch goes to its place at once.
    """

    def __init__(self, rows: int | None = None):
        self.rows, self.count = rows, 0
        self.places: list[np.ndarray] = []
        self.pieces: list[list[np.ndarray]] = []

    def add(self, outputs: list[np.ndarray]) -> None:
        """The outputs of another batch."""
        self.count += 1
        if not self.places and not self.pieces and self.rows is not None and _even(outputs):
            self.places = [np.empty((self.rows, *y.shape[1:]), y.dtype) for y in outputs]
            self.filled = 0
        if not self.places:
            self.pieces.append([np.array(y) for y in outputs])
            return
        end = self.filled + len(outputs[0])
        for place, y in zip(self.places, outputs, strict=True):
            place[self.filled : end] = y
        self.pieces.append([place[self.filled : end] for place in self.places])
        self.filled = end

    def since(self, batch: int) -> list[np.ndarray]:
        """The outputs from a batch on, the first of which has number 0."""
        pieces = self.pieces[batch:]
        if len(pieces) == 1:
            return pieces[0]
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def whole(self) -> list[np.ndarray]:
        """All of them."""
        if self.places:
            return [place if self.filled == len(place) else place[: self.filled].copy() for place in self.places]
        return self.since(0)


def _even(outputs: list[np.ndarray]) -> bool:
    """Whether all outputs have as many rows."""
    return len({y.shape[0] if y.ndim else None for y in outputs} | {None}) == 2


def _rows(source: Source) -> int | None:
    """How many samples there are, where they are cut out of arrays."""
    return source.arrays.count if isinstance(source, Cut) else None
