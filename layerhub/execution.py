"""Execution: a model bound to a backend, with what training keeps from step to step.

A ``Program`` says what is to be computed: plans, losses, metrics, the optimizer. An ``Executor`` computes it on one
backend and device. This one works on every backend, call by call; a backend overrides what its library does better.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import Any

import numpy as np

from layerhub import autodiff
from layerhub.errors import ParameterError
from layerhub.kernels import Call
from layerhub.movement import Movement, Scaling, finite
from layerhub.plan import Plan, Value, recorded
from layerhub.registry import Registry
from layerhub.spec.losses import Loss, at_least_float32, reduced
from layerhub.spec.masks import widened
from layerhub.spec.metrics import Metric
from layerhub.spec.optimizers import BaseOptimizer, Phase
from layerhub.variable import Variable


@dataclass(frozen=True)
class LossTerm:
    """The loss of one output, and its share in the total."""

    output: int
    loss: Loss
    weight: float = 1.0


@dataclass(frozen=True)
class MetricTerm:
    """A metric of one output, under the name that logs have for it. weighted: it takes sample weights."""

    output: int
    metric: Metric
    name: str
    weighted: bool = False


@dataclass(frozen=True)
class Running:
    """How steps are run. eagerly: call by call. together: batches in one call of the backend, where it can.

    compiled: whether the backend's compiler is used; None leaves that to the backend.
    """

    eagerly: bool = False
    together: int = 1
    compiled: bool | None = None

    @classmethod
    def of(cls, run_eagerly: Any, steps_per_execution: Any, jit_compile: Any) -> Running:
        """As ``compile`` is told. Raises ParameterError."""
        if not isinstance(run_eagerly, bool) and run_eagerly is not None:
            raise ParameterError(f"compile: run_eagerly must be true or false, not {run_eagerly!r}")
        whole = isinstance(steps_per_execution, int) and not isinstance(steps_per_execution, bool)
        if not whole or steps_per_execution < 1:
            raise ParameterError(f"compile: steps_per_execution must be a positive int, not {steps_per_execution!r}")
        if jit_compile not in (None, True, False, "auto"):
            raise ParameterError(f"compile: jit_compile must be true, false or 'auto', not {jit_compile!r}")
        if run_eagerly and jit_compile is True:
            raise ParameterError("compile: run_eagerly and jit_compile exclude each other; give one of them")
        return cls(bool(run_eagerly), steps_per_execution, None if jit_compile == "auto" else jit_compile)


@dataclass
class Program:
    """What is to be computed.

    plan: training -> the plan. variables: by the numbers that the plans give them.
    """

    registry: Registry
    plan: Callable[[bool], Plan]
    variables: list[Variable]
    losses: list[LossTerm] = field(default_factory=list)
    metrics: list[MetricTerm] = field(default_factory=list)
    optimizer: BaseOptimizer | None = None
    running: Running = field(default_factory=Running)


@dataclass
class Batch:
    """Native arrays of one step: inputs; targets and sample weights by output (None where there are none)."""

    inputs: tuple[Any, ...]
    targets: tuple[Any, ...] = ()
    weights: tuple[Any, ...] = ()


class Executor:
    """A program on a backend and device.

    step: how many training steps were taken; draws of training follow from it, those of inference (a Dropout that is
    called with training=True) are always the same. stale: a variable has moved away since it was bound.
    movement: what the optimizer does, once training is prepared. resting: the slots of weights that are frozen.
    scaling: the scale of the loss, where there is one. swapped: weights and their moving averages are exchanged.
    """

    swapped = False

    def __init__(self, backend: Any, program: Program, device: str | None = None):
        self.backend, self.program = backend, program
        self.device = backend.check_device(device)
        self.xp = backend.xp_on(self.device)
        self.step = 0
        self.stale = True
        self.slots: list[tuple[Any, ...]] = []
        self.trainable: list[int] = []
        self._constraints: list[Any] = []
        self.movement: Movement | None = None
        self.resting: dict[Variable, tuple[np.ndarray, ...]] = {}
        self.scaling: Scaling | None = None
        self.metric_state: list[tuple[Any, ...]] = []
        self.loss_state: list[Any] = []
        self._functions: dict[Any, Callable] = {}
        specs = [variable.spec for variable in program.variables]
        self._regularized = [(i, spec.regularizer) for i, spec in enumerate(specs) if spec.regularizer is not None]
        self.bind()
        self.reset_metrics()

    # Variables

    def bind(self) -> None:
        """Fetch all variables to this device."""
        memory = {i: slot.memory for training in (False, True) if self._planned(training)
                  for i, slot in enumerate(self.program.plan(training).slots) if slot.memory}  # fmt: skip
        self.stale = False  # first: another thread may take one away before the last one is here
        try:
            self.handles = [
                v.at(self.backend, self.device, memory.get(i), self) for i, v in enumerate(self.program.variables)
            ]
        except BaseException:
            self.stale = True
            raise

    def _planned(self, training: bool) -> bool:
        return not training or self.program.optimizer is not None

    def fresh(self) -> None:
        """Make sure that the variables are here."""
        if self.stale:
            self.bind()

    def weights(self) -> list[Any]:
        """The native arrays of all weights, by number."""
        return [self.backend.read(handle) for handle in self.handles]

    # Data

    def array(self, value: Any, dtype: str | None = None) -> Any:
        """A native array on this device."""
        return self.backend.asarray(value, dtype, self.device)

    def batch(self, inputs: Sequence[Any], targets: Sequence[Any] = (), weights: Sequence[Any] = ()) -> Batch:
        """A batch from host data, in the types that the plan wants."""
        declared = self.program.plan(False).inputs
        arrays = tuple(self.array(x, v.dtype) for x, v in zip(inputs, declared, strict=True))
        return Batch(arrays, *self.labels(targets, weights))

    def labels(self, targets: Sequence[Any], weights: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Targets and sample weights from host data, in the types that losses and metrics want."""
        kinds = chain(self._target_dtypes(), repeat(None))
        return (
            tuple(None if y is None else self._target(y, kind) for y, kind in zip(targets, kinds, strict=False)),
            tuple(None if w is None else self.array(w, self._figure_dtype(i)) for i, w in enumerate(weights)),
        )

    def _target(self, y: Any, dtype: str | None) -> Any:
        """A target of this type; where no type is known, floats have that of the loss, and others stay as they are."""
        return self.array(y, self._loss_dtype if dtype is None and "float" in str(y.dtype) else dtype)

    @property
    def _outputs(self) -> list[Value]:
        return self.program.plan(False).outputs

    def _figure_dtype(self, output: int) -> str:
        """The type in which losses and metrics of an output are computed and gathered."""
        for term in self.program.losses:
            if term.output == output:
                return term.loss.compute_dtype(self._outputs[output].dtype)
        return at_least_float32(self._outputs[output].dtype)

    @property
    def _loss_dtype(self) -> str:
        """The type of the total loss: that of the first one."""
        return self._figure_dtype(self.program.losses[0].output if self.program.losses else 0)

    def _target_dtypes(self) -> list[str | None]:
        """The types of targets by output; None where nothing is said of them: they stay as they are."""
        dtypes: list[str | None] = [None] * len(self._outputs)
        told = [term.output for term in self.program.losses] + [term.output for term in self.program.metrics]
        for output in told:
            dtypes[output] = self._figure_dtype(output)
        for term in self.program.losses:
            if term.loss.integer_targets:
                dtypes[term.output] = "int64"
        return dtypes

    # What is computed, as functions of native arrays

    def forward(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        """The plan as a function; see ``Plan.function``."""
        key = (training, recording)
        if key not in self._functions:
            xp = self.backend.recording_xp if recording else self.xp
            self._functions[key] = recorded(self.program.plan(training), xp)
        return self._functions[key]

    def called(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        """The same, as it is called outside of a whole step: compiled by itself where whole steps would be."""
        return self.forward(training, recording)

    def piece(self, name: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        """A pure function of nested arrays that is a part of a step, under a name; see ``called``."""
        return function

    def loss_function(self, term: LossTerm, recording: bool) -> Callable[[Any, Any], Any]:
        """A loss's values by its kernel, or by its definition."""
        key = (id(term.loss), term.output, recording)
        if key not in self._functions:
            values = bound_loss(self.program.registry, self.backend, term.loss, recording)
            dtype = self._figure_dtype(term.output)
            if dtype != self._outputs[term.output].dtype:
                values = _in_dtype(values, self.backend.recording_xp if recording else self.xp, dtype)
            self._functions[key] = values
        return self._functions[key]

    def total_loss(
        self, outputs: Sequence[Any], masks: Sequence[Any], penalties: Sequence[Any], weights: Sequence[Any],
        batch: Batch, recording: bool,
    ) -> tuple[Any, list[Any]]:  # fmt: skip
        """The loss with all penalties, and the loss of each output."""
        xp = self.backend.recording_xp if recording else self.xp
        total, parts = None, []
        for term in self.program.losses:
            values = self.loss_function(term, recording)(batch.targets[term.output], outputs[term.output])
            counts = self._counts(term.loss.counts(self.xp, batch.targets[term.output]), masks[term.output], values)
            part = reduced(xp, term.loss.reduction, values, counts, _at(batch.weights, term.output))
            part = xp.sum(part) if term.loss.reduction in ("none", None) else part
            parts.append(part)
            part = part if term.weight == 1 else part * term.weight
            total = part if total is None else total + _alike(xp, part, total)
        for penalty in (*penalties, *(regularizer.define(xp, weights[i]) for i, regularizer in self._regularized)):
            total = penalty if total is None else total + _alike(xp, penalty, total)
        return total, parts

    def _counts(self, own: Any, mask: Any, values: Any) -> Any:
        """Which values count, by the loss and by the mask of the output; None for all."""
        if mask is not None and mask.ndim > values.ndim:
            mask = None
        if own is None or mask is None:
            return mask if own is None else own
        return self.xp.logical_and(own, widened(self.xp, mask, own.ndim))

    def gradients(
        self, batch: Batch, step: Any, scale: Any = None, weights: Sequence[Any] | None = None
    ) -> tuple[Any, Any, list[Any]]:
        """(loss, (outputs, updates, masks, parts), gradients of the trainable weights, times the scale).

        weights: all of them, by number, for a step that is a pure function; None: as they are now.
        """
        run = self.forward(True, recording=True)
        arrays = self.weights() if weights is None else weights

        def objective(params: list[Any]) -> tuple[Any, Any]:
            whole = list(arrays)
            for index, param in zip(self.trainable, params, strict=True):
                whole[index] = param
            outputs, updates, masks, penalties = run(whole, batch.inputs, (), step)
            loss, parts = self.total_loss(outputs, masks, penalties, whole, batch, recording=True)
            return self.scaled(loss, scale), (loss, (outputs, updates, masks, parts))

        _, (loss, rest), gradients = self.backend.value_and_grad(objective, [arrays[i] for i in self.trainable])
        return loss, rest, gradients

    def scaled(self, loss: Any, scale: Any) -> Any:
        """The loss as it is differentiated."""
        return loss if scale is None else loss * scale

    def updated(
        self, numbers: Sequence[Sequence[Any]], phases: Sequence[Phase], weights: Sequence[Any],
        gradients: Sequence[Any], slots: Sequence[tuple[Any, ...]],
    ) -> tuple[list[Any], list[tuple[Any, ...]]]:  # fmt: skip
        """The trainable weights and their slots after a step of the optimizer, constraints included."""
        assert self.movement is not None
        xp, weights, slots = self.xp, list(weights), list(slots)
        for mover, phase in zip(self.movement.movers, phases, strict=True):
            pulls = [gradients[i] for i in mover.places]
            if mover.accumulates:
                pulls, sums = mover.gathered(xp, pulls, [slots[i][-1] for i in mover.places], phase.updates)
                for i, total in zip(mover.places, sums, strict=True):
                    slots[i] = (*slots[i][:-1], total)
            if not phase.updates:
                continue
            clipped = dict(zip(mover.places, mover.optimizer.clip(xp, pulls), strict=True))
            last = -1 if mover.accumulates else None
            for part in mover.parts:
                moved, rows = part.moved(
                    xp, numbers[part.number], phase.overwrites, [weights[i] for i in part.places],
                    [clipped[i] for i in part.places], [slots[i][:last] for i in part.places],
                )  # fmt: skip
                for i, w, row in zip(part.places, moved, rows, strict=True):
                    constraint = self._constraints[i]
                    weights[i] = w if constraint is None else constraint.define(xp, w)
                    slots[i] = (*row, *slots[i][len(row) :])
        return weights, slots

    def moved(self, *arguments: Any) -> tuple[list[Any], list[tuple[Any, ...]]]:
        """The same, as it is called outside of a whole step; see ``called``."""
        return self.updated(*arguments)

    def measured(
        self, state: tuple[list[Any], list[tuple[Any, ...]]], loss: Any, parts: Sequence[Any], outputs: Sequence[Any],
        masks: Sequence[Any], batch: Batch,
    ) -> tuple[list[Any], list[tuple[Any, ...]]]:  # fmt: skip
        """The state of losses and metrics after another batch."""
        xp, (losses, metrics) = self.xp, state
        size = xp.astype(xp.asarray(xp.size(outputs[0], 0)), loss.dtype)
        *sums, count = losses
        values = [_alike(xp, value, loss) for value in (loss, *parts)]
        losses = [*(old + value * size for old, value in zip(sums, values, strict=False)), count + size]
        return losses, self.measured_metrics(metrics, outputs, masks, batch)

    def measured_metrics(
        self, state: Sequence[tuple[Any, ...]], outputs: Sequence[Any], masks: Sequence[Any], batch: Batch
    ) -> list[tuple[Any, ...]]:
        """The state of the metrics after another batch."""
        xp, fresh = self.xp, []
        for term, old in zip(self.program.metrics, state, strict=True):
            dtype = getattr(xp, self._metric_dtype(term))
            prediction = _as(xp, outputs[term.output], dtype)
            target = batch.targets[term.output]
            target = _as(xp, target, xp.int64 if term.metric.integer_targets else dtype)
            wanted = term.metric.target_shape(tuple(target.shape), tuple(prediction.shape))
            if wanted != tuple(target.shape):
                target = xp.reshape(target, tuple(-1 if size is None else size for size in wanted))
            weights = masks[term.output]
            if weights is not None:
                weights = xp.astype(weights, dtype)
            given = _at(batch.weights, term.output) if term.weighted else None
            if given is not None:
                given = _as(xp, given, dtype)
                weights = given if weights is None else weights * widened(xp, given, weights.ndim)
            fresh.append(term.metric.define(xp, old, target, prediction, weights))
        return fresh

    def _metric_dtype(self, term: MetricTerm) -> str:
        return term.metric.compute_dtype(self._outputs[term.output].dtype)

    # Steps

    def prepare(self, trained: Collection[Variable] | None = None) -> None:
        """Make ready to train: the trainable weights, and slots for those that have none yet.

        trained: the weights to train, where that was settled earlier; None: those that are trainable now.
        """
        self.fresh()
        optimizer = self.program.optimizer
        assert optimizer is not None
        chosen = {v for v in self.program.variables if v.trainable} if trained is None else set(trained)
        trainable = [i for i, v in enumerate(self.program.variables) if v in chosen]
        if self.movement is None or trainable != self.trainable:
            # What was frozen meanwhile keeps its slots, for when it is thawed.
            held = self.resting | self.held_slots()
            self.trainable = trainable
            self._constraints = [v.spec.constraint for v in self._trained()]
            self.movement = Movement(self.program.registry, self.backend.name, optimizer, self._trained())
            rows = [held.pop(v, ()) or self.movement.start(k) for k, v in enumerate(self._trained())]
            self.resting = held
            self.load_slots(rows)
        if self.scaling is None and optimizer.loss_scale is not None:
            self.scaling = Scaling(optimizer.loss_scale)

    def _trained(self) -> list[Variable]:
        return [self.program.variables[i] for i in self.trainable]

    def load_slots(self, values: Sequence[Sequence[np.ndarray]]) -> None:
        """Give the optimizer's slots values from the host."""
        self.slots = [
            tuple(self.array(value, v.dtype) for value in row) for v, row in zip(self._trained(), values, strict=True)
        ]

    def host_slots(self) -> list[tuple[np.ndarray, ...]]:
        """The optimizer's slots as ndarrays."""
        return [tuple(np.array(self.backend.to_numpy(slot)) for slot in row) for row in self.slots]

    def held_slots(self) -> dict[Variable, tuple[np.ndarray, ...]]:
        """The optimizer's slots as ndarrays, by weight."""
        return dict(zip(self._trained(), self.host_slots(), strict=True)) if self.movement is not None else {}

    def settle(self) -> None:
        """Take in what the last step says of its gradients, where that is not known at once."""

    @property
    def batch_number(self) -> int:
        """The number of the batch that comes, for the optimizer: those that were skipped do not count."""
        return self.step + 1 - (self.scaling.skipped if self.scaling is not None else 0)

    def averages(self) -> list[tuple[int, np.ndarray]]:
        """The moving averages of the weights that have one, with their places among the trainable weights."""
        if self.movement is None or not any(part.optimizer.use_ema for part in self.movement.parts):
            return []
        found = [(place, self.movement.average_in(place)) for place in range(len(self.trainable))]
        rows = self.host_slots()
        return [(place, rows[place][at]) for place, at in found if at is not None]

    def finalize(self) -> None:
        """Put moving averages in the place of the weights that have them."""
        if self.swapped:
            self.swap_averages()
        for place, average in self.averages():
            self._trained()[place].assign(average)

    def swap_averages(self) -> None:
        """Exchange the weights and their moving averages."""
        assert self.movement is not None
        rows = self.host_slots()
        for place, average in self.averages():
            weight, row = self._trained()[place], list(rows[place])
            row[self.movement.average_in(place)] = weight.numpy()  # type: ignore[index]
            rows[place] = tuple(row)
            weight.assign(average)
        self.load_slots(rows)
        self.swapped = not self.swapped

    def store(self, training: bool, updates: Sequence[Any]) -> None:
        """New values for the weights that a call computes by itself, such as moving averages."""
        for index, value in zip(self.program.plan(training).updated, updates, strict=True):
            self.backend.assign(self.handles[index], value)

    def train_batch(self, batch: Batch) -> None:
        """One training step. Losses and metrics stay on the device; ``results`` fetches them."""
        self.fresh()
        with self.watched():
            loss, (outputs, updates, masks, parts), gradients = self.gradients(batch, self.step, self.scale)
        # A call may move a weight that is trained too: the optimizer goes on from there.
        self.store(True, updates)
        self.apply(gradients)
        state = (self.loss_state, self.metric_state)
        self.loss_state, self.metric_state = self.measured(state, loss, parts, outputs, masks, batch)

    def train_batches(self, batches: Sequence[Batch]) -> None:
        """Several training steps, in one call where the backend can."""
        for batch in batches:
            self.train_batch(batch)

    @property
    def scale(self) -> float | None:
        """The scale of the loss at the moment, if it has one."""
        return None if self.scaling is None else self.scaling.scale

    def watched(self) -> AbstractContextManager:
        """The scope in which gradients are taken."""
        # Where that is watched for, a loss may well be scaled beyond what its type holds.
        watches = self.program.optimizer is not None and self.program.optimizer.watches
        return np.errstate(over="ignore", invalid="ignore") if watches else nullcontext()

    def scope(self) -> AbstractContextManager:
        """The scope in which steps are run."""
        return nullcontext()

    def apply(self, gradients: Sequence[Any]) -> None:
        """A step of the optimizer by these gradients of the trainable weights, which have the scale of the loss."""
        optimizer, movement, scaling, scale = self.program.optimizer, self.movement, self.scaling, self.scale
        assert optimizer is not None and movement is not None
        good = not optimizer.watches or bool(self.backend.to_numpy(finite(self.xp, gradients)))
        if good:
            number = self.batch_number
            gradients = gradients if scale is None else [g / scale for g in gradients]
            weights = [self.backend.read(self.handles[i]) for i in self.trainable]
            numbers, phases = movement.numbers(number), movement.phases(number)
            weights, self.slots = self.moved(numbers, phases, weights, gradients, self.slots)
            for index, value in zip(self.trainable, weights, strict=True):
                self.backend.assign(self.handles[index], value)
        self.step += 1
        if scaling is not None:
            scaling.follow(optimizer, good)

    def test_batch(self, batch: Batch) -> None:
        """Losses and metrics of a batch, without training."""
        self.fresh()
        weights = self.weights()
        outputs, updates, masks, penalties = self.forward(False)(weights, batch.inputs, (), 0)
        self.store(False, updates)
        loss, parts = self.total_loss(outputs, masks, penalties, weights, batch, recording=False)
        state = (self.loss_state, self.metric_state)
        self.loss_state, self.metric_state = self.measured(state, loss, parts, outputs, masks, batch)

    def test_batches(self, batches: Sequence[Batch]) -> None:
        """Losses and metrics of several batches, in one call where the backend can."""
        for batch in batches:
            self.test_batch(batch)

    def predict_batch(self, batch: Batch) -> tuple[Any, ...]:
        """The native outputs for a batch."""
        self.fresh()
        outputs, updates, _, _ = self.forward(False)(self.weights(), batch.inputs, (), 0)
        self.store(False, updates)
        return outputs

    # Losses and metrics

    def reset_metrics(self) -> None:
        """Begin to gather anew."""
        count = 2 + (len(self.program.losses) if len(self.program.losses) > 1 else 0)
        self.loss_state = [self.array(np.zeros(()), self._loss_dtype) for _ in range(count)]
        self.metric_state = [
            tuple(
                self.array(np.zeros(shape), self._metric_dtype(term))
                for shape in term.metric.shapes(self._outputs[term.output].shape)
            )
            for term in self.program.metrics
        ]

    def results(self) -> tuple[list[float], list[Any]]:
        """(losses: the total first, metrics), as numbers on the host. This waits for the device."""
        *sums, count = (float(self.backend.to_numpy(value)) for value in self.loss_state)
        losses = [total / count if count else 0.0 for total in sums]
        metrics = [
            self.backend.to_numpy(term.metric.figure(self.xp, state)).tolist()
            for term, state in zip(self.program.metrics, self.metric_state, strict=True)
        ]
        return losses, metrics

    def metric_values(self) -> tuple[list[np.ndarray], list[tuple[np.ndarray, ...]]]:
        """What losses and metrics have gathered, as ndarrays."""
        fetch = self.backend.to_numpy
        return [fetch(v) for v in self.loss_state], [tuple(map(fetch, state)) for state in self.metric_state]

    def load_metric_values(self, values: tuple[list[np.ndarray], list[tuple[np.ndarray, ...]]]) -> None:
        """Go on gathering from what another executor had."""
        self.loss_state = [self.array(v, self._loss_dtype) for v in values[0]]
        self.metric_state = [
            tuple(self.array(v, self._metric_dtype(term)) for v in state)
            for term, state in zip(self.program.metrics, values[1], strict=True)
        ]

    @property
    def native(self) -> Any:
        """The backend's own object for this model; here a function of native arrays."""
        return lambda *inputs: self.predict_batch(Batch(inputs))


def bound_loss(
    registry: Registry, backend: Any, loss: Loss, recording: bool, route: str = "kernel"
) -> Callable[..., Any]:
    """``values(y_true, y_pred)`` of a loss on a backend, for plain arrays or for those that are differentiated."""
    xp = backend.recording_xp if recording else backend.xp
    kernel = registry.kernel(backend.name, loss, Call()) if route == "kernel" else None
    if kernel is None:
        return partial(type(loss).define, loss, xp)
    if not (recording and isinstance(xp, autodiff.Differentiable)):
        return partial(kernel.function, loss)
    if kernel.backward is None:
        return partial(type(loss).define, loss, xp)
    single = xp.primitive(kernel.forward, kernel.backward, lambda y: ((y,), lambda arrays: arrays[0]))
    return partial(single, loss)


def _in_dtype(values: Callable[..., Any], xp: Any, dtype: str) -> Callable[..., Any]:
    """A loss's values computed in a type that is not the predictions' own."""
    return lambda y_true, y_pred: values(y_true, xp.astype(y_pred, getattr(xp, dtype)))


def _as(xp: Any, x: Any, dtype: Any) -> Any:
    """x in this type."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def _alike(xp: Any, x: Any, like: Any) -> Any:
    """x in the type of another array."""
    return _as(xp, x, like.dtype)


def _at(values: Sequence[Any], index: int) -> Any:
    return values[index] if index < len(values) else None
