"""Execution: a model bound to a backend, with what training keeps from step to step.

A ``Program`` says what is to be computed: plans, losses, metrics, the optimizer. An ``Executor`` computes it on one
backend and device. This one works on every backend, call by call; a backend overrides what its library does better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from layerhub import autodiff
from layerhub.kernels import Call
from layerhub.plan import Plan, Value, recorded
from layerhub.registry import Registry
from layerhub.spec.losses import Loss
from layerhub.spec.masks import sizes, widened
from layerhub.spec.metrics import Metric
from layerhub.spec.optimizers import Optimizer
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
    optimizer: Optimizer | None = None


@dataclass
class Batch:
    """Native arrays of one step: inputs; targets and sample weights by output (None where there are none)."""

    inputs: tuple[Any, ...]
    targets: tuple[Any, ...] = ()
    weights: tuple[Any, ...] = ()


class Executor:
    """A program on a backend and device.

    step: how many training steps were taken. stale: a variable has moved away since it was bound.
    """

    def __init__(self, backend: Any, program: Program, device: str | None = None):
        self.backend, self.program = backend, program
        self.device = backend.check_device(device)
        self.xp = backend.xp_on(self.device)
        self.step = 0
        self.stale = True
        self.slots: list[tuple[Any, ...]] = []
        self.trainable: list[int] = []
        self.metric_state: list[tuple[Any, ...]] = []
        self.loss_state: list[Any] = []
        self._functions: dict[Any, Callable] = {}
        specs = [variable.spec for variable in program.variables]
        self._regularized = [(i, spec.regularizer) for i, spec in enumerate(specs) if spec.regularizer is not None]
        self._constrained: list[tuple[int, Any]] = []
        optimizer = program.optimizer
        moving = None if optimizer is None else program.registry.kernel(backend.name, optimizer, Call())
        self._moving: Callable[..., Any] | None = None if moving is None else moving.function
        self.bind()
        self.reset_metrics()

    # Variables

    def bind(self) -> None:
        """Fetch all variables to this device."""
        memory = {i: slot.memory for training in (False, True) if self._planned(training)
                  for i, slot in enumerate(self.program.plan(training).slots) if slot.memory}  # fmt: skip
        self.handles = [
            v.at(self.backend, self.device, memory.get(i), self) for i, v in enumerate(self.program.variables)
        ]
        self.stale = False

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
        kinds = self._target_dtypes()
        return Batch(
            arrays,
            tuple(None if y is None else self.array(y, dtype) for y, dtype in zip(targets, kinds, strict=False)),
            tuple(None if w is None else self.array(w, self._outputs[i].dtype) for i, w in enumerate(weights)),
        )

    @property
    def _outputs(self) -> list[Value]:
        return self.program.plan(False).outputs

    def _target_dtypes(self) -> list[str]:
        dtypes = [output.dtype for output in self._outputs]
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

    def loss_function(self, loss: Loss, recording: bool) -> Callable[[Any, Any], Any]:
        """A loss's values by its kernel, or by its definition."""
        key = (id(loss), recording)
        if key not in self._functions:
            self._functions[key] = bound_loss(self.program.registry, self.backend, loss, recording)
        return self._functions[key]

    def total_loss(
        self, outputs: Sequence[Any], masks: Sequence[Any], penalties: Sequence[Any], weights: Sequence[Any],
        batch: Batch, recording: bool,
    ) -> tuple[Any, list[Any]]:  # fmt: skip
        """The loss with all penalties, and the loss of each output."""
        xp = self.backend.recording_xp if recording else self.xp
        total, parts = None, []
        for term in self.program.losses:
            values = self.loss_function(term.loss, recording)(batch.targets[term.output], outputs[term.output])
            counts = self._counts(term.loss.counts(self.xp, batch.targets[term.output]), masks[term.output], values)
            part = reduced(xp, term.loss.reduction, values, counts, _at(batch.weights, term.output))
            parts.append(part)
            part = part if term.weight == 1 else part * term.weight
            total = part if total is None else total + part
        for penalty in penalties:
            total = penalty if total is None else total + penalty
        for index, regularizer in self._regularized:
            penalty = regularizer.define(xp, weights[index])
            total = penalty if total is None else total + penalty
        return total, parts

    def _counts(self, own: Any, mask: Any, values: Any) -> Any:
        """Which values count, by the loss and by the mask of the output; None for all."""
        if mask is not None and mask.ndim > values.ndim:
            mask = None
        if own is None or mask is None:
            return mask if own is None else own
        return self.xp.logical_and(own, widened(self.xp, mask, own.ndim))

    def gradients(self, batch: Batch, step: Any) -> tuple[Any, Any, list[Any]]:
        """(loss, (outputs, updates, masks, parts), gradients of the trainable weights)."""
        run = self.forward(True, recording=True)
        arrays = self.weights()

        def objective(params: list[Any]) -> tuple[Any, Any]:
            whole = list(arrays)
            for index, param in zip(self.trainable, params, strict=True):
                whole[index] = param
            outputs, updates, masks, penalties = run(whole, batch.inputs, (), step)
            loss, parts = self.total_loss(outputs, masks, penalties, whole, batch, recording=True)
            return loss, (outputs, updates, masks, parts)

        return self.backend.value_and_grad(objective, [arrays[i] for i in self.trainable])

    def updated(
        self, coefficients: Any, weights: list[Any], gradients: list[Any], slots: list[tuple[Any, ...]]
    ) -> tuple[list[Any], list[tuple[Any, ...]]]:
        """The trainable weights and their slots after a step of the optimizer, constraints included."""
        optimizer = self.program.optimizer
        assert optimizer is not None
        gradients = optimizer.clip(self.xp, gradients)
        if self._moving is not None:
            weights, slots = self._moving(optimizer, coefficients, weights, gradients, slots)
        else:
            moved = [
                optimizer.update(self.xp, coefficients, w, g, *s)
                for w, g, s in zip(weights, gradients, slots, strict=True)
            ]
            weights, slots = [new[0] for new in moved], [tuple(new[1:]) for new in moved]
        for k, constraint in self._constrained:
            weights[k] = constraint.define(self.xp, weights[k])
        return weights, slots

    def measured(
        self, state: tuple[list[Any], list[tuple[Any, ...]]], loss: Any, parts: Sequence[Any], outputs: Sequence[Any],
        masks: Sequence[Any], batch: Batch,
    ) -> tuple[list[Any], list[tuple[Any, ...]]]:  # fmt: skip
        """The state of losses and metrics after another batch."""
        xp, (losses, metrics) = self.xp, state
        size = xp.astype(xp.asarray(xp.size(outputs[0], 0)), loss.dtype)
        *sums, count = losses
        values = [loss, *parts][: len(sums)]
        losses = [*(old + value * size for old, value in zip(sums, values, strict=True)), count + size]
        fresh = []
        for term, old in zip(self.program.metrics, metrics, strict=True):
            target, prediction = batch.targets[term.output], outputs[term.output]
            weights = masks[term.output]
            if weights is not None:
                weights = xp.astype(weights, prediction.dtype)
            given = _at(batch.weights, term.output) if term.weighted else None
            if given is not None:
                weights = given if weights is None else weights * widened(xp, given, weights.ndim)
            fresh.append(term.metric.define(xp, old, target, prediction, weights))
        return losses, fresh

    # Steps

    def prepare(self) -> None:
        """Make ready to train: the trainable weights, and zeros for their slots where there are none yet."""
        self.fresh()
        before, kept = self.trainable, self.slots
        self.trainable = [i for i, v in enumerate(self.program.variables) if v.trainable]
        constraints = [v.spec.constraint for v in self._trained()]
        self._constrained = [(k, constraint) for k, constraint in enumerate(constraints) if constraint is not None]
        optimizer = self.program.optimizer
        names = optimizer.slots if optimizer is not None else ()
        if before != self.trainable or len(kept) != len(before):
            # What was frozen or thawed meanwhile: weights that go on being trained keep their slots.
            held = dict(zip(before, self.host_slots(), strict=False)) if kept else {}
            fresh = {i: tuple(np.zeros(self.program.variables[i].shape) for _ in names) for i in self.trainable}
            self.load_slots([held.get(i, fresh[i]) for i in self.trainable])

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

    def coefficients(self) -> Any:
        """The optimizer's numbers for the step that comes."""
        assert self.program.optimizer is not None
        return self.program.optimizer.coefficients(self.step + 1)

    def train_batch(self, batch: Batch) -> None:
        """One training step. Losses and metrics stay on the device; ``results`` fetches them."""
        self.fresh()
        loss, (outputs, updates, masks, parts), gradients = self.gradients(batch, self.step)
        weights = [self.backend.read(self.handles[i]) for i in self.trainable]
        weights, self.slots = self.updated(self.coefficients(), weights, gradients, self.slots)
        for index, value in zip(self.trainable, weights, strict=True):
            self.backend.assign(self.handles[index], value)
        for index, value in zip(self.program.plan(True).updated, updates, strict=True):
            self.backend.assign(self.handles[index], value)
        self.step += 1
        state = (self.loss_state, self.metric_state)
        self.loss_state, self.metric_state = self.measured(state, loss, parts, outputs, masks, batch)

    def test_batch(self, batch: Batch) -> None:
        """Losses and metrics of a batch, without training."""
        self.fresh()
        weights = self.weights()
        outputs, _, masks, penalties = self.forward(False)(weights, batch.inputs, (), self.step)
        loss, parts = self.total_loss(outputs, masks, penalties, weights, batch, recording=False)
        state = (self.loss_state, self.metric_state)
        self.loss_state, self.metric_state = self.measured(state, loss, parts, outputs, masks, batch)

    def predict_batch(self, batch: Batch) -> tuple[Any, ...]:
        """The native outputs for a batch."""
        self.fresh()
        return self.forward(False)(self.weights(), batch.inputs, (), self.step)[0]

    # Losses and metrics

    def reset_metrics(self) -> None:
        """Begin to gather anew."""
        dtype = self._outputs[0].dtype
        count = 2 + (len(self.program.losses) if len(self.program.losses) > 1 else 0)
        zero = [self.array(np.zeros(()), dtype) for _ in range(count)]
        self.loss_state = zero
        self.metric_state = [
            tuple(self.array(np.zeros(shape), dtype) for shape in term.metric.shapes()) for term in self.program.metrics
        ]

    def results(self) -> tuple[list[float], list[Any]]:
        """(losses: the total first, metrics), as numbers on the host. This waits for the device."""
        *sums, count = (float(self.backend.to_numpy(value)) for value in self.loss_state)
        losses = [total / count if count else 0.0 for total in sums]
        metrics = [
            self.backend.to_numpy(term.metric.result(self.xp, state)).tolist()
            for term, state in zip(self.program.metrics, self.metric_state, strict=True)
        ]
        return losses, metrics

    def metric_values(self) -> tuple[list[np.ndarray], list[tuple[np.ndarray, ...]]]:
        """What losses and metrics have gathered, as ndarrays."""
        fetch = self.backend.to_numpy
        return [fetch(v) for v in self.loss_state], [tuple(map(fetch, state)) for state in self.metric_state]

    def load_metric_values(self, values: tuple[list[np.ndarray], list[tuple[np.ndarray, ...]]]) -> None:
        """Go on gathering from what another executor had."""
        dtype = self._outputs[0].dtype
        self.loss_state = [self.array(v, dtype) for v in values[0]]
        self.metric_state = [tuple(self.array(v, dtype) for v in state) for state in values[1]]

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


def _at(values: Sequence[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def reduced(xp: Any, reduction: str, values: Any, counts: Any, weights: Any) -> Any:
    """The values of a loss as one number.

    The mean is over the values that count; sample weights multiply values, and do not change the divisor.
    """
    if weights is not None:
        values = values * widened(xp, weights, values.ndim)
    if counts is not None:
        counts = xp.astype(xp.broadcast_to(widened(xp, counts, values.ndim), sizes(xp, values)), values.dtype)
        values = values * counts
    if reduction in ("sum", "none"):
        return xp.sum(values)
    if counts is None:
        return xp.mean(values)
    total = xp.sum(counts)
    return xp.sum(values) / xp.where(total > 0, total, xp.ones_like(total))
