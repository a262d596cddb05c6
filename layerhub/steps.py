"""Steps: what happens to one batch, in parts that a user's own ``train_step`` is made of.

A model whose class overrides ``train_step``, ``test_step`` or ``predict_step`` is trained, measured or asked by that;
fit, evaluate and predict do all the rest. Within a step the model is called, differentiated and moved by
``self(x, training=True)``, ``self.gradients``, ``self.compute_loss``, ``self.apply_gradients`` and
``self.compute_metrics``, written once for all backends; or by the framework's own means, over ``self.native``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layerhub import structure
from layerhub.data import pack_x_y_sample_weight, unpack_x_y_sample_weight
from layerhub.errors import DataError
from layerhub.execution import Batch, Executor
from layerhub.feeding import Fed
from layerhub.spec.metrics import ratio


@dataclass
class Step:
    """What is known of a step so far.

    weights: those that are differentiated at the moment, by number; None: those that the model has. masks, penalties,
    updates: of the last call of the model. loss, parts: the total and that of each output. measured: it was gathered.
    """

    weights: list[Any] | None = None
    updates: dict[int, Any] = field(default_factory=dict)
    masks: tuple[Any, ...] = ()
    penalties: tuple[Any, ...] = ()
    loss: Any = None
    parts: list[Any] = field(default_factory=list)
    measured: bool = False


PARTS = {
    "train_step": ("compute_loss", "compute_metrics"),
    "test_step": ("compute_loss", "compute_metrics"),
    "predict_step": (),
}
"""What a subclass may override within a step, too."""


class Stepped(Fed):
    """A network with the steps of training, testing and predicting, which a subclass may override."""

    _step: Step | None = None

    # Steps, as they are without being overridden

    def train_step(self, data: Any) -> Mapping[str, Any]:
        """One step on a batch: x, (x, y) or (x, y, sample_weight), native arrays. Returns logs by name."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)

        def objective() -> tuple[Any, Any]:
            y_pred = self(x, training=True)
            return self.compute_loss(x, y, y_pred, sample_weight), y_pred

        (_, y_pred), gradients = self.gradients(objective)
        self.apply_gradients(gradients)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data: Any) -> Mapping[str, Any]:
        """Losses and metrics of a batch, as logs by name."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        self._begun().loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """The outputs for a batch."""
        return self(unpack_x_y_sample_weight(data)[0], training=False)

    # What steps are made of

    def _run(self, executor: Executor, inputs: tuple[Any, ...], training: bool) -> Sequence[Any]:
        step = self._step
        if step is None:
            return super()._run(executor, inputs, training)
        weights = executor.weights() if step.weights is None else step.weights
        run = executor.called(training, recording=step.weights is not None)
        outputs, updates, step.masks, step.penalties = run(weights, inputs, (), executor.step if training else 0)
        if step.weights is None:
            executor.store(training, updates)
        else:
            for index, value in zip(self.plan(training).updated, updates, strict=True):
                step.weights[index] = step.updates[index] = value
        return outputs

    def gradients(self, objective: Callable[[], Any]) -> tuple[Any, list[Any]]:
        """(what ``objective()`` gives, the gradients of the loss in the order of ``trainable_weights``).

        objective: calls this model, and gives the loss, a scalar, or a tuple that begins with it.
        """
        executor, step = self._training_executor(), self._begun()
        own = executor.weights()

        form: list[Any] = []

        def recorded(params: list[Any]) -> tuple[Any, Any]:
            step.weights = list(own)
            for index, param in zip(executor.trainable, params, strict=True):
                step.weights[index] = param
            step.updates = {}
            found = objective()
            loss = found[0] if isinstance(found, tuple) else found
            if getattr(loss, "shape", None) != ():
                raise DataError(f"{self.name}: gradients() needs a loss without axes, not {loss!r:.80}")
            form.append(found)
            aux = loss, structure.flat(found), list(step.updates.values()), list(step.masks), step.parts
            return executor.scaled(loss, executor.scale), aux

        try:
            with executor.watched():
                _, aux, found = executor.backend.value_and_grad(recorded, [own[i] for i in executor.trainable])
        finally:
            step.weights = None
        # What was recorded has no values any more, or holds on to the whole record.
        step.loss, row, updates, masks, step.parts = aux
        step.masks, step.penalties = tuple(masks), ()
        for index, value in zip(step.updates, updates, strict=True):
            executor.backend.assign(executor.handles[index], value)
        step.updates = {}
        return structure.packed(form[0], row), self._as_declared(executor, found)

    def apply_gradients(self, gradients: Sequence[Any]) -> None:
        """A step of the optimizer by gradients, one for each of ``trainable_weights``."""
        executor = self._training_executor()
        places = self._places(executor)
        if len(gradients) != len(places):
            raise DataError(f"{self.name}: {len(gradients)} gradients were given for {len(places)} trainable weights")
        ordered = [gradients[place] for place in places]
        executor.apply(ordered)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The total loss that ``compile`` was given, with the penalties of weights and of the model's last call."""
        executor, step = self._ready(), self._begun()
        outputs = self._listed_outputs(y_pred)
        recording = step.weights is not None

        def total(outputs: Any, masks: Any, penalties: Any, weights: Any, *labels: Any) -> Any:
            return executor.total_loss(outputs, masks, penalties, weights, Batch((), *labels), recording)

        weights = executor.weights() if step.weights is None else step.weights
        step.loss, step.parts = executor.piece(("total", recording), total)(
            outputs, self._masks(step, outputs), step.penalties, weights, *self._given(executor, y, sample_weight)
        )
        return step.loss

    def compute_metrics(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Take another batch in; returns losses and metrics since they were last reset, as native scalars by name.

        The loss is the one that ``gradients`` differentiated, else the one that ``compute_loss`` gave.
        """
        executor, step = self._ready(needs_loss=False), self._begun()
        outputs = self._listed_outputs(y_pred)
        step.measured = True

        def measured(state: Any, loss: Any, parts: Any, outputs: Any, masks: Any, *labels: Any) -> Any:
            batch = Batch((), *labels)
            if loss is None:
                return state[0], executor.measured_metrics(state[1], outputs, masks, batch)
            return executor.measured(state, loss, parts, outputs, masks, batch)

        parts = step.parts if len(step.parts) == len(self._losses) else [step.loss] * len(self._losses)
        executor.loss_state, executor.metric_state = executor.piece("measured", measured)(
            (executor.loss_state, executor.metric_state), step.loss, parts, outputs, self._masks(step, outputs),
            *self._given(executor, y, sample_weight),
        )  # fmt: skip
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """Losses and metrics since they were last reset, as native scalars by name."""
        executor = self.executor

        def figures(losses: Any, states: Any) -> list[Any]:
            *sums, count = losses
            found = [ratio(executor.xp, total, count) for total in sums]
            terms = zip(self._metrics, states, strict=True)
            return [*found, *(term.metric.figure(executor.xp, state) for term, state in terms)]

        found = executor.piece("figures", figures)(executor.loss_state, executor.metric_state)
        return dict(zip([*self._loss_names, *(term.name for term in self._metrics)], found, strict=True))

    # How a step is run

    def _overrides(self, name: str) -> bool:
        """Whether a step, or a part that it is made of, is the user's own."""
        return any(self._is_own(part) for part in (name, *PARTS[name]))

    def _is_own(self, name: str) -> bool:
        own = getattr(self, name)
        return getattr(own, "__func__", own) is not getattr(Stepped, name)

    def _stepped(self, name: str, batch: Batch) -> Any:
        """What the user's own step gives for a batch; None for the figures that ``compute_metrics`` gathered."""
        executor = self.executor
        executor.fresh()
        inputs = self.packed_inputs(batch.inputs)
        targets = self.packed(batch.targets) if batch.targets else None
        given = [w for w in batch.weights if w is not None]
        weights = self.packed(batch.weights) if given else None
        step = self._step = Step()
        before = executor.step
        try:
            with executor.scope():
                found = getattr(self, name)(pack_x_y_sample_weight(inputs, targets, weights))
        finally:
            self._step = None
        if name != "predict_step" and not isinstance(found, Mapping):
            raise DataError(f"{self.name}: {name} must return logs, a dict by name, not {found!r:.80}")
        if name == "train_step" and executor.step == before:
            executor.step += 1  # the framework's own optimizer moved the weights
        if step.measured and set(found) == {"loss", *self.metrics_names}:
            return None
        return found

    def _numbers(self, logs: Mapping[str, Any]) -> dict[str, Any]:
        """Logs as numbers on the host, by name in order. This waits for the device."""
        fetch = self.executor.backend.to_numpy
        owns = self.executor.backend.owns
        return {name: _number(fetch(logs[name]) if owns(logs[name]) else logs[name]) for name in sorted(logs)}

    def _begun(self) -> Step:
        """The step at hand; a new one outside of fit."""
        if self._step is None:
            self._step = Step()
        return self._step

    def _training_executor(self) -> Executor:
        executor = self._ready_to_train(needs_loss=False)
        executor.fresh()
        return executor

    def _listed_outputs(self, y_pred: Any) -> list[Any]:
        found = structure.flat(y_pred)
        if len(found) != len(self.outputs):
            raise DataError(f"{self.name} has {len(self.outputs)} outputs, {len(found)} were given as y_pred")
        return found

    def _masks(self, step: Step, outputs: Sequence[Any]) -> tuple[Any, ...]:
        """The masks of the last call of the model, which these outputs have if they are as many."""
        return step.masks if len(step.masks) == len(outputs) else (None,) * len(outputs)

    def _given(self, executor: Executor, y: Any, sample_weight: Any) -> tuple[Any, Any]:
        """Targets and weights as losses and metrics take them."""
        targets, weights = self.arranged_outputs(y), self.arranged_outputs(sample_weight, partial=True)
        return executor.labels(targets, weights)

    def _places(self, executor: Executor) -> list[int]:
        """For each weight that the executor trains, its place among ``trainable_weights``."""
        places = {id(variable): k for k, variable in enumerate(self.trainable_weights)}
        return [places[id(executor.program.variables[i])] for i in executor.trainable]

    def _as_declared(self, executor: Executor, found: Sequence[Any]) -> list[Any]:
        ordered: list[Any] = [None] * len(found)
        for place, gradient in zip(self._places(executor), found, strict=True):
            ordered[place] = gradient
        return ordered


def _number(value: Any) -> Any:
    """A number, or a list of them for a figure that has several."""
    return np.asarray(value).tolist()
