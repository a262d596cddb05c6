"""Training: compile, fit, evaluate, predict. Names, arguments, defaults and log keys are Keras's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from layerhub import scope
from layerhub.callbacks import Callback, CallbackList, History, ProgbarLogger
from layerhub.data import Arrays, HostBatch, Stream, apart, as_array, is_stream, listed
from layerhub.errors import BackendError, DataError, ParameterError, StateError
from layerhub.execution import Batch, Executor, LossTerm, MetricTerm, Program
from layerhub.graph import unwrapped
from layerhub.network import Network
from layerhub.registry import registry
from layerhub.spec.base import Kind, Spec
from layerhub.spec.core import InputLayer
from layerhub.spec.losses import FunctionLoss, Loss, losses
from layerhub.spec.metrics import FunctionMetric, metrics
from layerhub.spec.optimizers import BaseOptimizer, LossScaleOptimizer, optimizers
from layerhub.stream import Stream as RandomStream
from layerhub.variable import HOST


class Trainable(Network):
    """A network that can be trained."""

    optimizer: BaseOptimizer | None = None
    stop_training = False
    _losses: list[LossTerm] = []
    _metrics: list[MetricTerm] = []
    _epochs_begun = 0

    # Compiling

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        *,
        auto_scale_loss: bool = True,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        """Say how to train.

        optimizer: an optimizer or its name. loss: a loss, a name or a function (y_true, y_pred) of lh.ops; for
        several outputs a list or a dict by output name, None leaving an output out. loss_weights: their shares in the
        total. metrics: names, metrics or functions; a list for each output where there are several. auto_scale_loss:
        where a layer computes in float16, whose range is small, the loss is scaled (LossScaleOptimizer).
        """
        if backend is not None or device is not None:
            self.to(scope.chosen(backend) if backend else None, device)
        optimizer = _accepted(optimizers, optimizer, "optimizer")
        if auto_scale_loss and optimizer.loss_scale is None and self._computes_in("float16"):
            optimizer = LossScaleOptimizer(optimizer)
        arguments = (loss, loss_weights, metrics, weighted_metrics)
        if self.inputs:
            self._losses, self._metrics = self._terms(*arguments)
        self.optimizer, self._compiled = optimizer, arguments
        self._unbind()

    def _computes_in(self, dtype: str) -> bool:
        """Whether a layer, or one of a nested model, computes in a type."""
        return any(
            layer._computes_in(dtype) if isinstance(layer, Trainable) else layer.compute_dtype == dtype
            for layer in self.layers
            if not isinstance(layer, InputLayer)
        )

    def _connect(self, inputs: list, outputs: list) -> None:
        super()._connect(inputs, outputs)
        if self.optimizer is not None:  # compiled before its shape was known
            self._losses, self._metrics = self._terms(*self._compiled)

    def _terms(
        self, loss: Any, loss_weights: Any, metrics: Any, weighted: Any
    ) -> tuple[list[LossTerm], list[MetricTerm]]:
        terms = self._loss_terms(loss, loss_weights)
        by_output = {term.output: term.loss for term in terms}
        plain = self._metric_terms(metrics, False, by_output)
        taken = {term.name for term in plain}
        return terms, plain + self._metric_terms(weighted, True, by_output, taken)

    def _by_output(self, given: Any, what: str) -> list[Any]:
        """One entry for each output, from one, a list or a dict."""
        names = self.output_names
        if isinstance(given, Mapping):
            unknown = [key for key in given if key not in names]
            if unknown:
                raise ParameterError(f"compile: {what} for {unknown[0]!r}, but the outputs are {', '.join(names)}")
            return [given.get(name) for name in names]
        if isinstance(given, (list, tuple)) and (len(names) > 1 or what != "metrics"):
            if len(given) != len(names):
                raise ParameterError(f"compile: {len(given)} entries of {what} for {len(names)} outputs")
            return list(given)
        return [given] * len(names) if what == "loss" or given is None else [given, *[None] * (len(names) - 1)]

    def _loss_terms(self, given: Any, weights: Any) -> list[LossTerm]:
        shares = self._by_output(weights, "loss_weights") if weights is not None else [1.0] * len(self.outputs)
        found = []
        for i, (loss, share) in enumerate(zip(self._by_output(given, "loss"), shares, strict=True)):
            if loss is not None:
                loss = FunctionLoss(loss) if _is_function(loss) else _accepted(losses, loss, "loss")
                found.append(LossTerm(i, loss, 1.0 if share is None else float(share)))
        return found

    def _metric_terms(
        self, given: Any, weighted: bool, by_output: Mapping[int, Loss], taken: Collection[str] = ()
    ) -> list[MetricTerm]:
        if given is None:
            return []
        several = len(self.outputs) > 1
        lists = self._by_output(given, "metrics") if several or isinstance(given, Mapping) else [given]
        found = []
        for i, wanted in enumerate(lists):
            prefix = f"{self.output_names[i]}_" if several else ""
            for metric in wanted if isinstance(wanted, (list, tuple)) else [wanted] if wanted is not None else []:
                if isinstance(metric, str) and metric in ("accuracy", "acc"):
                    made = metrics.get(self._accuracy(i, by_output.get(i)))
                else:
                    made = FunctionMetric(metric) if _is_function(metric) else _accepted(metrics, metric, "metrics")
                name = metric if isinstance(metric, str) else made.label
                if prefix + name in taken:
                    name = f"weighted_{name}"
                found.append(MetricTerm(i, made, prefix + name, weighted))
        return found

    def _accuracy(self, output: int, loss: Loss | None) -> str:
        """The accuracy that fits an output and its loss."""
        if loss is not None and loss.integer_targets:
            return "SparseCategoricalAccuracy"
        return "BinaryAccuracy" if self.outputs[output].shape[-1] == 1 else "CategoricalAccuracy"

    def _program(self) -> Program:
        return Program(registry(), self.plan, self._variables(), self._losses, self._metrics, self.optimizer)

    def _ready(self) -> Executor:
        """The executor, ready to train. Raises StateError before compile."""
        if self.optimizer is None:
            raise StateError(f"{self.name} is not compiled: call compile(optimizer, loss, metrics) first")
        if not self._losses:
            raise StateError(f"{self.name} was compiled without a loss: call compile(optimizer, loss, metrics)")
        executor = self.executor
        executor.prepare()
        return executor

    def _ready_to_train(self) -> Executor:
        """The same; raises BackendError where the backend has no gradients."""
        executor = self._ready()
        if not executor.backend.has_gradients:
            raise BackendError(
                f"the backend {self.backend!r} has no gradients, so {self.name} cannot be trained on it; train it on "
                "another one, such as model.to('numpy'), and move it back"
            )
        return executor

    def _carry(self, before: Executor, after: Executor) -> None:
        super()._carry(before, after)
        if self.optimizer is not None and before.movement is not None:
            before.settle()
            after.resting = before.resting | before.held_slots()
            after.scaling = before.scaling
            # What was frozen or thawed since then takes effect where it would have without the move.
            after.prepare([before.program.variables[i] for i in before.trainable])
            after.load_metric_values(before.metric_values())

    # Data

    def _data(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, batch: bool = True
    ) -> Arrays:
        """Arrays, checked against what the model declares. batch: they are one batch, not to be cut."""
        if x is None:  # inputs that wrap tensors bring their own data
            x = tuple(t.node.tensor for t in self.inputs if t.node.tensor is not None) or None
        x = listed(x, [t.name for t in self.inputs])
        self._see(x)
        inputs = self._checked_inputs([as_array(part) for part in x], batch)
        targets = [as_array(part) for part in listed(y, self.output_names)]
        given = [None if w is None else as_array(w) for w in listed(sample_weight, self.output_names)]
        if targets:
            targets = self._checked_targets(targets)
        if class_weight is not None:
            given = [_class_weights(class_weight, targets[0], given[0] if given else None)]
        weights = given * len(self.outputs) if len(given) == 1 else given
        for w, output in zip(weights, self.outputs, strict=False):
            if w is not None and (w.ndim >= len(output.shape) or not _fits(w.shape[1:], output.shape[1:])):
                raise DataError(f"{self.name}: sample weights of shape {w.shape} do not fit outputs {output.shape}")
        return Arrays(inputs, targets, weights)

    def _labelled(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, batch: bool = True
    ) -> Arrays:
        """Arrays to train or measure with, which must have targets."""
        found = self._data(x, y, sample_weight, class_weight, batch)
        if not found.targets:
            raise DataError(f"{self.name}: no targets were given")
        return found

    def _batch_size(self, what: str, given: int | None, source: Any) -> int:
        """The number of samples in a batch: as given, as declared, or 32. Raises DataError.

        Where it was declared, all batches must have it, the last one too.
        """
        declared = self.batch_size
        size = _whole(f"{what}: batch_size", given if given is not None else declared or 32)
        if declared is not None and size != declared:
            raise DataError(f"{what}: batch_size is {size}, but {self.name} declares batches of {declared}")
        if declared is not None and isinstance(source, Arrays) and (not source.count or source.count % declared):
            raise DataError(
                f"{what}: {source.count} samples make no whole batches of {declared}, which {self.name} declares"
            )
        return size

    def _see(self, x: list[Any]) -> None:
        """A chance to learn the shapes of inputs from the first data."""

    def _checked_targets(self, targets: list[np.ndarray]) -> list[np.ndarray]:
        if len(targets) != len(self.outputs):
            raise DataError(f"{self.name} has {len(self.outputs)} outputs, targets for {len(targets)} were given")
        checked = list(targets)
        for term in self._losses:
            y, predicted = targets[term.output], self.outputs[term.output].shape
            wanted: Any = term.loss.target_shape(y.shape, (y.shape[0], *predicted[1:]))
            y = y.reshape(wanted)
            if term.loss.integer_targets:
                if y.dtype.kind not in "iub" and not np.array_equal(y, np.trunc(y)):
                    raise DataError(f"{term.loss!r}: targets must be whole numbers, not {y.dtype}")
                y = y.astype(np.int64)
            term.loss.check_targets(y, predicted)
            checked[term.output] = y
        return checked

    def _device_batch(self, executor: Executor, host: HostBatch) -> Batch:
        return executor.batch(*host)

    def _logs(self, executor: Executor) -> dict[str, Any]:
        totals, figures = executor.results()
        logs = {"loss": totals[0]}
        for term, value in zip(self._losses, totals[1:], strict=False):
            logs[f"{self.output_names[term.output]}_loss"] = value
        return logs | {term.name: value for term, value in zip(self._metrics, figures, strict=True)}

    # Training

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
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> History:
        """Train for some epochs; returns the History of their logs.

        x, y: arrays, lists or dicts of arrays, or x alone: an iterable of (x, y) or (x, y, sample_weight) batches.
        verbose: 0 silent, 1 a progress bar, 2 a line for each epoch; "auto" is 1.
        """
        _whole("fit: epochs", epochs, low=0)
        _whole("fit: initial_epoch", initial_epoch, low=0)
        _whole("fit: validation_freq", validation_freq)
        for what, count in (
            ("steps_per_epoch", steps_per_epoch),
            ("validation_steps", validation_steps),
            ("batch_size", batch_size),
            ("validation_batch_size", validation_batch_size),
        ):
            if count is not None:
                _whole(f"fit: {what}", count)
        source: Any
        if is_stream(x):
            if y is not None or validation_split:
                raise DataError("fit: an iterable brings its own targets; y and validation_split are for arrays")
            source = Stream(x, lambda x, y, w: self._labelled(x, y, w, class_weight))
            self._peek(source)
            batch_size = self._batch_size("fit", batch_size, source)
            steps = steps_per_epoch if steps_per_epoch is not None else len(x) if hasattr(x, "__len__") else None
        else:
            source = self._labelled(x, y, sample_weight, class_weight, batch=False)
            if validation_split and validation_data is None:
                source, validation_data = source.split(validation_split)
            batch_size = self._batch_size("fit", batch_size, source)
            steps = source.steps(batch_size)
            steps = min(steps, steps_per_epoch) if steps_per_epoch is not None else steps
        validation = self._validation(validation_data)
        validation_batch_size = self._batch_size("validation", validation_batch_size or batch_size, validation)
        self._ready_to_train()
        verbose = 1 if verbose == "auto" else int(verbose)
        history = History()
        told = CallbackList(
            [history, *([ProgbarLogger()] if verbose else []), *(callbacks or ())],
            self,
            {"epochs": epochs, "steps": steps, "verbose": verbose},
        )
        self.history, self.stop_training = history, False
        told.tell("on_train_begin", {})
        logs: dict[str, Any] = {}
        for epoch in range(initial_epoch, epochs):
            self.executor.reset_metrics()
            told.tell("on_epoch_begin", epoch, {})
            self._epoch(source, batch_size, steps, shuffle, told)
            logs = self._logs(self.executor)
            if validation is not None and (epoch + 1) % validation_freq == 0:
                measured = self._measure(validation, validation_batch_size, validation_steps, told)
                logs |= {f"val_{name}": value for name, value in measured.items()}
            told.tell("on_epoch_end", epoch, logs)
            if self.stop_training:
                break
        if epochs > initial_epoch:
            self.executor.finalize()
        told.tell("on_train_end", logs)
        return history

    def _epoch(self, source: Any, batch_size: int, steps: int | None, shuffle: bool, told: CallbackList) -> None:
        if isinstance(source, Stream):
            batches = source.batches(steps)
        else:
            order = self._shuffled(source.count) if shuffle else None
            batches = source.batches(batch_size, order)
        self._epochs_begun += 1
        wants_logs = told.listens("on_train_batch_end")
        number = -1
        for number, host in enumerate(batches):
            if steps is not None and number == steps:
                break
            told.tell("on_train_batch_begin", number, {})
            # Asked for anew at each step: a callback may have moved the model.
            executor = self.executor
            executor.train_batch(self._device_batch(executor, host))
            if wants_logs:
                told.tell("on_train_batch_end", number, self._logs(self.executor))
        if number < 0:
            raise DataError(f"{self.name}: the data have no batches")

    def _shuffled(self, count: int) -> np.ndarray:
        """An order of the samples, from the model's seed and the number of the epoch: the same on every backend."""
        stream = RandomStream.at(self.seed, "shuffle").during(self._epochs_begun)
        bits = HOST.random_bits(stream, (count, 2))
        return np.lexsort((bits[:, 0], bits[:, 1]))

    def _peek(self, source: Stream) -> None:
        """See the first batch before anything is bound, so that unknown shapes can be learned from it."""
        if not self.inputs:
            source.iterator = iter(source.source)
            first = next(source.iterator, None)
            if first is None:
                raise DataError("the data have no batches")
            rest = source.iterator
            source.iterator = (item for part in ((first,), rest) for item in part)
            self._see(listed(first[0] if isinstance(first, tuple) else first))

    def _validation(self, given: Any) -> Any:
        if given is None or isinstance(given, Arrays):
            return given
        if is_stream(given):
            return Stream(given, self._labelled)
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise DataError("validation_data must be (x, y), (x, y, sample_weight) or an iterable of batches")
        x, y, sample_weight = (*given, None)[:3]
        return self._labelled(x, y, sample_weight, batch=False)

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
        source = Stream(x, self._labelled) if is_stream(x) else self._labelled(x, y, sample_weight, batch=False)
        batch_size = self._batch_size("evaluate", batch_size, source)
        self._ready()
        told = CallbackList(callbacks or (), self, {"steps": steps, "verbose": verbose})
        logs = self._measure(source, batch_size, steps, told)
        return logs if return_dict else _as_keras(logs)

    def _measure(self, source: Any, batch_size: int, steps: int | None, told: CallbackList) -> dict[str, Any]:
        """Losses and metrics on data, leaving alone what training has gathered."""
        gathered = self.executor.metric_values()
        self.executor.reset_metrics()
        told.tell("on_test_begin", {})
        batches = source.batches(steps) if isinstance(source, Stream) else source.batches(batch_size)
        for number, host in enumerate(batches):
            if steps is not None and number == steps:
                break
            told.tell("on_test_batch_begin", number, {})
            executor = self.executor
            executor.test_batch(self._device_batch(executor, host))
            if told.listens("on_test_batch_end"):
                told.tell("on_test_batch_end", number, self._logs(executor))
        logs = self._logs(self.executor)
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
        """The outputs for data, as ndarrays, computed batch by batch."""
        source: Any = Stream(x, lambda x, *rest: self._data(x)) if is_stream(x) else self._data(x, batch=False)
        batch_size = self._batch_size("predict", batch_size, source)
        if isinstance(source, Stream):
            self._peek(source)
        told = CallbackList(callbacks or (), self, {"steps": steps, "verbose": verbose})
        told.tell("on_predict_begin", {})
        pieces: list[list[np.ndarray]] = []
        batches = source.batches(steps) if isinstance(source, Stream) else source.batches(batch_size)
        for number, host in enumerate(batches):
            if steps is not None and number == steps:
                break
            told.tell("on_predict_batch_begin", number, {})
            pieces.append(self._predicted(host))
            told.tell("on_predict_batch_end", number, {"outputs": pieces[-1]})
        told.tell("on_predict_end", {})
        if not pieces:
            pieces = [self._predicted(([x[:0] for x in source.inputs], [], []))]
        return unwrapped([np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)])

    def _predicted(self, host: HostBatch) -> list[np.ndarray]:
        executor = self.executor
        batch = executor.batch(host[0])
        outputs = [np.asarray(executor.backend.to_numpy(y)) for y in executor.predict_batch(batch)]
        return apart(outputs, (*batch.inputs, *executor.weights()))

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One step on one batch; returns the losses and metrics gathered since they were last reset."""
        host = self._labelled(x, y, sample_weight, class_weight)
        executor = self._ready_to_train()
        executor.train_batch(self._device_batch(executor, (host.inputs, host.targets, host.weights)))
        logs = self._logs(executor)
        return logs if return_dict else _as_keras(logs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Losses and metrics of one batch, together with those gathered since they were last reset."""
        host = self._labelled(x, y, sample_weight)
        executor = self._ready()
        executor.test_batch(self._device_batch(executor, (host.inputs, host.targets, host.weights)))
        logs = self._logs(executor)
        return logs if return_dict else _as_keras(logs)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as ndarrays."""
        return unwrapped(self._predicted((self._data(x).inputs, [], [])))

    def reset_metrics(self) -> None:
        """Begin to gather losses and metrics anew."""
        self.executor.reset_metrics()

    @property
    def metrics_names(self) -> list[str]:
        """The names that evaluate's figures have, in its order."""
        several = [f"{self.output_names[t.output]}_loss" for t in self._losses] if len(self._losses) > 1 else []
        return ["loss", *several, *(term.name for term in self._metrics)]


def _accepted(kind: Kind, given: Any, name: str) -> Any:
    try:
        return kind.get(given)
    except TypeError:
        raise ParameterError(f"compile: {name} must be {kind.domain().text}, not {given!r}") from None


def _is_function(x: Any) -> bool:
    return callable(x) and not isinstance(x, (Spec, type))


def _whole(what: str, value: Any, low: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise DataError(f"{what} must be {'a positive int' if low else 'an int, 0 or more'}, not {value!r}")
    return int(value)


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether the sizes are the first ones of what is wanted, or 1, which broadcasts."""
    return all(w is None or s in (1, w) for s, w in zip(shape, wanted, strict=False))


def _as_keras(logs: dict[str, Any]) -> Any:
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _class_weights(given: Mapping[int, float], targets: np.ndarray, weights: Any) -> np.ndarray:
    """Sample weights by the class of each target (an integer, or the largest of a one-hot row)."""
    if not isinstance(given, Mapping):
        raise DataError(f"class_weight must map classes to weights, not {given!r}")
    one_hot = targets.ndim > 1 and targets.shape[-1] > 1
    classes = (targets.argmax(-1) if one_hot else targets.reshape(len(targets))).astype(int)
    found = np.array([given.get(int(c), 1.0) for c in classes])
    return found if weights is None else found * weights
