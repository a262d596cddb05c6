"""Programs as traced functions: the whole of a step is one call into tensorflow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import tensorflow as tf

from layerhub.execution import Batch, Executor
from layerhub.graph import unwrapped
from layerhub.movement import Movement, Mover, Part, finite
from layerhub.spec.optimizers import Phase
from layerhub_tf import namespace as xp

SMALL = 2**14
"""Weights with fewer elements are moved together: for them, calling an operation costs more than what it does."""

LARGE = 2**16
"""From so many elements on, the optimizer's operations are compiled into one."""


@dataclass
class Group:
    """Weights that one rule moves as one array. members: their places among the trainable ones."""

    part: Part
    dtype: str
    members: list[int]
    shapes: list[tuple[int, ...]]
    slots: tuple[tf.Variable, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether there is one weight, which keeps its shape."""
        return len(self.members) == 1

    @property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    def joined(self, arrays: Any, lib: Any = tf) -> Any:
        """The members' arrays, out of all, as one."""
        return self.together([arrays[i] for i in self.members], lib)

    def together(self, mine: Sequence[Any], lib: Any = tf) -> Any:
        """The members' arrays as one."""
        return mine[0] if self.alone else lib.concat([lib.reshape(a, (-1,)) for a in mine], axis=0)

    def parted(self, array: tf.Tensor) -> Iterator[tuple[int, tf.Tensor]]:
        """Each member with its part of one array for all."""
        if self.alone:
            yield self.members[0], array
        else:
            for i, part, shape in zip(self.members, tf.split(array, self.sizes), self.shapes, strict=True):
                yield i, tf.reshape(part, shape)


class TensorflowExecutor(Executor):
    """A program as one traced function for each kind of step.

    Batch axes are unknown while tracing, so that the last, smaller batch needs no function of its own; step number and
    coefficients are arguments. Weights and slots are variables, which the functions read and write.
    """

    groups: list[Group] | None = None
    _grouped_for: Movement | None = None
    _finite: tf.Tensor | None = None

    def bind(self) -> None:
        super().bind()
        # What was traced, and the native object, hold the variables that were there.
        self._traced: dict[Any, Callable[..., Any]] = {}
        self._calls: dict[bool, Callable[..., Any]] = {}
        self.__dict__.pop("native", None)

    def forward(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        key = (training, recording)
        if key not in self._functions:
            # A plan has no source for AutoGraph to convert when a user's own tf.function calls it.
            run = super().forward(training, recording)
            self._functions[key] = tf.autograph.experimental.do_not_convert(run)
        return self._functions[key]

    def called(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        if self.program.running.eagerly:
            return self.forward(training)
        if training not in self._calls:
            # A tape goes through what is traced.
            self._calls[training] = tf.function(self.forward(training), autograph=False, reduce_retracing=True)
        traced = self._calls[training]
        return lambda weights, inputs, masks, step: traced(weights, inputs, masks, tf.constant(step, tf.int64))

    # The optimizer's part

    def load_slots(self, values: Sequence[Sequence[np.ndarray]]) -> None:
        fresh = self._grouped_for is not self.movement
        if fresh:
            self.groups, self._grouped_for = self._grouped(), self.movement
        for group in self.groups or ():
            rows = [group.together(column, np) for column in zip(*(values[i] for i in group.members), strict=True)]
            if fresh:
                group.slots = tuple(self._variable(row, group.dtype) for row in rows)
            else:
                for slot, row in zip(group.slots, rows, strict=True):
                    slot.assign(self.array(row, group.dtype))
        if fresh:
            self._traced = {}

    def _variable(self, value: Any, dtype: str) -> tf.Variable:
        with self.backend.on(self.device):
            return tf.Variable(self.array(value, dtype), trainable=False)

    def _grouped(self) -> list[Group]:
        assert self.movement is not None
        groups: list[Group] = []
        small: dict[tuple[int, str], Group] = {}
        for place, (variable, part) in enumerate(zip(self._trained(), self.movement.part_of, strict=True)):
            group = Group(part, variable.dtype, [], [])
            if part.rule.elementwise and math.prod(variable.shape) < SMALL:
                group = small.setdefault((part.number, variable.dtype), group)
            if not group.members:
                groups.append(group)
            group.members.append(place)
            group.shapes.append(variable.shape)
        return groups

    def host_slots(self) -> list[tuple[np.ndarray, ...]]:
        found: dict[int, list[np.ndarray]] = {place: [] for place in range(len(self.trainable))}
        for group in self.groups or ():
            for slot in group.slots:
                for place, part in group.parted(slot.value()):
                    found[place].append(self.backend.to_numpy(part))
        return [tuple(found[place]) for place in range(len(self.trainable))]

    def scaled(self, loss: tf.Tensor, scale: tf.Tensor | None) -> tf.Tensor:
        return loss if scale is None else loss * tf.cast(scale, loss.dtype)

    def _move(self, numbers: list[list[tf.Tensor]], phases: Sequence[Phase], gradients: list[tf.Tensor]) -> None:
        """A step of the optimizer, constraints included, on the variables themselves."""
        for mover, phase in zip(self.movement.movers, phases, strict=True):
            groups = [group for group in self.groups if group.part in mover.parts]
            pulls = [gradients[i] for i in mover.places]
            if mover.accumulates:
                pulls = self._gathered(mover, groups, pulls, phase.updates)
            if not phase.updates:
                continue
            clipped = dict(zip(mover.places, mover.optimizer.clip(self.xp, pulls), strict=True))
            for part, dtype in dict.fromkeys((group.part, group.dtype) for group in groups):
                alike = [group for group in groups if group.part is part and group.dtype == dtype]
                self._move_part(part, alike, numbers[part.number], phase.overwrites, clipped)

    def _gathered(self, mover: Mover, groups: list[Group], gradients: list[Any], updates: bool) -> list[tf.Tensor]:
        """The mean gradients of the batches so far; their sums stay in the groups' last slots."""
        before = {i: part for group in groups for i, part in group.parted(group.slots[-1].value())}
        gradients, sums = mover.gathered(self.xp, gradients, [before[i] for i in mover.places], updates)
        after = dict(zip(mover.places, sums, strict=True))
        for group in groups:
            group.slots[-1].assign(group.joined(after))
        return gradients

    def _move_part(
        self, part: Part, groups: list[Group], numbers: list[Any], overwrites: bool, gradients: dict[int, Any]
    ) -> None:
        weights = [self.backend.read(self.handles[i]) for i in self.trainable]
        numbers = [tf.cast(number, self.backend.dtype(groups[0].dtype)) for number in numbers]
        pulls = [group.joined(gradients) for group in groups]
        joined = [group.joined(weights) for group in groups if not group.alone]
        update = partial(self._moved, part, groups, overwrites)
        if self._worth_compiling(part, groups):
            update = tf.function(update, jit_compile=True, autograph=False)
        several = (group for group in groups if not group.alone)
        for group, array in zip(several, update(numbers, pulls, joined), strict=True):
            for place, weight in group.parted(array):
                self._assign(place, weight)

    def _moved(
        self, part: Part, groups: list[Group], overwrites: bool, numbers: Any, gradients: list[Any], joined: list[Any]
    ) -> list[Any]:
        """Moves slots, and the weights that are alone; returns the others, joined as they were given."""
        left = iter(joined)
        weights = [self.handles[self.trainable[g.members[0]]].value() if g.alone else next(left) for g in groups]
        last = -1 if part.optimizer.gradient_accumulation_steps else None
        slots = [tuple(slot.value() for slot in group.slots[:last]) for group in groups]
        weights, slots = part.moved(self.xp, numbers, overwrites, weights, gradients, slots)
        for group, weight, rows in zip(groups, weights, slots, strict=True):
            for slot, row in zip(group.slots, rows, strict=False):
                slot.assign(row)
            if group.alone:
                self._assign(group.members[0], weight)
        return [weight for group, weight in zip(groups, weights, strict=True) if not group.alone]

    def _assign(self, place: int, weight: tf.Tensor) -> None:
        """A new value for a trainable weight, as its constraint allows it."""
        constraint = self._trained()[place].spec.constraint
        value = weight if constraint is None else constraint.define(self.xp, weight)
        self.backend.assign(self.handles[self.trainable[place]], value)

    def _worth_compiling(self, part: Part, groups: list[Group]) -> bool:
        """Whether XLA, which makes one pass of all that is done to an element, saves more than compiling costs."""
        large = sum(sum(group.sizes) for group in groups) >= LARGE
        mine = part.kernel is None and part.rule.elementwise
        return mine and large and self.device == "cpu" and _compiles(part.rule, groups[0].dtype)

    # What is traced

    def _train(
        self, phases: Sequence[Phase], lengths: Sequence[int], batch: Batch, step: tf.Tensor, numbers: tf.Tensor,
        state: Any,
    ) -> Any:  # fmt: skip
        """lengths: how many numbers there are for each part, after the scale of the loss.

        Gives the state after the batch, and whether the gradients were finite, where that is asked for.
        """
        scale = None if self.scaling is None else numbers[0]
        loss, (outputs, updates, masks, pieces), gradients = self.gradients(batch, step, scale)
        self.store(True, updates)
        good = self._applied(phases, lengths, numbers, gradients)
        return self.measured(state, loss, pieces, outputs, masks, batch), good

    def _applied(
        self, phases: Sequence[Phase], lengths: Sequence[int], numbers: tf.Tensor, gradients: list[tf.Tensor]
    ) -> tf.Tensor | None:
        """A step of the optimizer; whether the gradients were finite, where that is asked for."""
        scale, *rest = tf.unstack(numbers)
        left = iter(rest)
        parts = [[next(left) for _ in range(length)] for length in lengths]
        good = finite(self.xp, gradients) if self.program.optimizer.watches else None
        if self.scaling is not None:
            gradients = [g / tf.cast(scale, g.dtype) for g in gradients]
        if good is None:
            self._move(parts, phases, gradients)
        else:
            tf.cond(good, lambda: _done(self._move(parts, phases, gradients)), lambda: _done(None))
        return good

    def _test(self, batch: Batch, state: Any) -> Any:
        weights = self.weights()
        outputs, updates, masks, penalties = self.forward(False)(weights, batch.inputs, (), 0)
        self.store(False, updates)
        loss, parts = self.total_loss(outputs, masks, penalties, weights, batch, recording=False)
        return self.measured(state, loss, parts, outputs, masks, batch)

    def _predict(self, batch: Batch) -> Any:
        outputs, updates, _, _ = self.forward(False)(self.weights(), batch.inputs, (), 0)
        self.store(False, updates)
        return outputs

    def measured(
        self, state: tuple[list[Any], list[tuple[Any, ...]]], loss: Any, parts: Sequence[Any], outputs: Sequence[Any],
        masks: Sequence[Any], batch: Batch,
    ) -> tuple[list[Any], list[tuple[Any, ...]]]:  # fmt: skip
        # The core's adds a size to a float, which tf does not do for a size that is a tensor.
        *sums, count = state[0]
        size = tf.cast(xp.size(outputs[0], 0), loss.dtype)
        values = [tf.cast(value, loss.dtype) for value in (loss, *parts)]
        losses = [old + value * size for old, value in zip(sums, values, strict=False)]
        return [*losses, count + size], self.measured_metrics(state[1], outputs, masks, batch)

    # Calls

    def _call(self, function: Callable[..., Any], batch: Batch, *extra: Any, variant: tuple[Any, ...] = ()) -> Any:
        """A method's traced form, called. variant: arguments that come first, with a trace for each of their values."""
        if self.program.running.eagerly:
            with self.backend.on(self.device):
                return function(*variant, batch, *extra)
        arrays = (*batch.inputs, *batch.targets, *batch.weights)
        key = (function.__name__, variant, *(None if x is None else x.shape for x in arrays))
        traced = self._traced.get(key)
        if traced is None:
            specs = self._specs(batch)
            general = (function.__name__, variant, *specs)
            if general not in self._traced:
                self._traced[general] = self._trace(partial(function, *variant), batch, specs, extra)
            traced = self._traced[key] = self._traced[general]
        return traced(*(x for x in arrays if x is not None), *tf.nest.flatten(extra))

    def _specs(self, batch: Batch) -> list[tf.TensorSpec | None]:
        """What is known of a batch's arrays beforehand."""

        def spec(x: tf.Tensor | None, declared: Sequence[int | None]) -> tf.TensorSpec | None:
            if x is None:
                return None
            known = [*declared, *x.shape[len(declared) :]]
            sizes = [None if wanted is None else size for size, wanted in zip(x.shape, known, strict=False)]
            # An empty batch is a case of its own: some operations must not see it.
            return tf.TensorSpec([0 if x.shape[0] == 0 else None, *sizes[1:]], x.dtype)

        outputs = [output.shape for output in self._outputs]
        declared = [v.shape for v in self.program.plan(False).inputs]
        return [
            *map(spec, batch.inputs, declared), *map(spec, batch.targets, outputs), *map(spec, batch.weights, outputs)
        ]  # fmt: skip

    def _trace(
        self, function: Callable[..., Any], batch: Batch, specs: Sequence[tf.TensorSpec | None], extra: Any
    ) -> Callable[..., Any]:
        first, second = len(batch.inputs), len(batch.inputs) + len(batch.targets)

        def traced(*tensors: tf.Tensor) -> Any:
            left = iter(tensors)
            arrays = [None if spec is None else next(left) for spec in specs]
            given = Batch(tuple(arrays[:first]), tuple(arrays[first:second]), tuple(arrays[second:]))
            with self.backend.on(self.device):
                return function(given, *tf.nest.pack_sequence_as(extra, list(left)))

        signature = [spec for spec in specs if spec is not None]
        signature += [tf.TensorSpec(x.shape, x.dtype) for x in tf.nest.flatten(extra)]
        return tf.function(
            traced, input_signature=signature, autograph=False, jit_compile=self.program.running.compiled
        ).get_concrete_function()

    def train_batch(self, batch: Batch) -> None:
        self.fresh()
        self.settle()
        variant, flat = self._numbers(self.batch_number)
        with self.backend.on(self.device):
            numbers = tf.constant(self.step, tf.int64), tf.constant(flat, tf.float64)
        state, good = self._call(self._train, batch, *numbers, self._state, variant=variant)
        self._gather(state)
        self._finite = good
        self.step += 1

    def _numbers(self, batch: int) -> tuple[tuple[Any, ...], list[float]]:
        """What a trace is made for, and the numbers that a step takes: the scale of the loss, then each part's."""
        parts, scale = self.movement.numbers(batch), self.scale
        variant = (self.movement.phases(batch), tuple(map(len, parts)))
        return variant, [1.0 if scale is None else scale, *chain.from_iterable(parts)]

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        self.settle()
        variant, flat = self._numbers(self.batch_number)
        key = ("apply", variant)
        if key not in self._traced:
            update = partial(self._applied, *variant)
            self._traced[key] = update if self.program.running.eagerly else tf.function(update, autograph=False)
        with self.backend.on(self.device):
            self._finite = self._traced[key](tf.constant(flat, tf.float64), list(gradients))
        self.step += 1

    def train_batches(self, batches: Sequence[Batch]) -> None:
        first = self.batch_number
        variants = {self._numbers(first + k)[0] for k in range(len(batches))}
        # Steps share a trace where they are alike; a scale that follows each step has to be asked for in between.
        if len(batches) == 1 or len(variants) > 1 or self.program.optimizer.watches or not self._together(batches):
            super().train_batches(batches)
            return
        self.fresh()
        flat = [self._numbers(first + k)[1] for k in range(len(batches))]
        with self.backend.on(self.device):
            numbers = tf.constant(self.step, tf.int64), tf.constant(flat, tf.float64)
        (variant,) = variants
        stacked = _stacked(batches)
        self._gather(self._call(self._train_several, stacked, *numbers, self._state, variant=variant))
        self.step += len(batches)

    def _train_several(
        self, phases: Sequence[Phase], lengths: Sequence[int], batches: Batch, step: tf.Tensor, numbers: tf.Tensor,
        state: Any,
    ) -> Any:  # fmt: skip
        """The state after batches that lie one behind the other along a first axis of their own."""

        def one(k: tf.Tensor, state: Any) -> Any:
            state, _ = self._train(phases, lengths, _kth(batches, k), step + tf.cast(k, tf.int64), numbers[k], state)
            return k + 1, state

        count = tf.shape(numbers)[0]
        return tf.while_loop(lambda k, _: k < count, one, (tf.constant(0), state), parallel_iterations=1)[1]

    def test_batches(self, batches: Sequence[Batch]) -> None:
        if len(batches) == 1 or not self._together(batches):
            super().test_batches(batches)
            return
        self.fresh()
        self._gather(self._call(self._test_several, _stacked(batches), self._state))

    def _test_several(self, batches: Batch, state: Any) -> Any:
        count = tf.shape(batches.inputs[0])[0]
        one = lambda k, state: (k + 1, self._test(_kth(batches, k), state))
        return tf.while_loop(lambda k, _: k < count, one, (tf.constant(0), state), parallel_iterations=1)[1]

    def _together(self, batches: Sequence[Batch]) -> bool:
        """Whether batches can go through one call: their arrays have the same shapes."""
        shapes = {tuple(None if x is None else tuple(x.shape) for x in _arrays(batch)) for batch in batches}
        return len(shapes) == 1 and not self.program.running.eagerly

    def settle(self) -> None:
        # Asked for as late as can be, for whoever asks has to wait.
        if self._finite is not None:
            self.scaling.follow(self.program.optimizer, bool(self._finite))
            self._finite = None

    def test_batch(self, batch: Batch) -> None:
        self.fresh()
        self._gather(self._call(self._test, batch, self._state))

    def predict_batch(self, batch: Batch) -> tuple[Any, ...]:
        self.fresh()
        return tuple(self._call(self._predict, batch))

    @property
    def _state(self) -> tuple[list[Any], list[tuple[Any, ...]]]:
        return self.loss_state, self.metric_state

    def _gather(self, state: tuple[list[Any], list[tuple[Any, ...]]]) -> None:
        self.loss_state, self.metric_state = state

    # For tensorflow's own ecosystem

    @cached_property
    def native(self) -> tf.Module:
        return Native(self)

    @cached_property
    def calls(self) -> tf.Variable:
        """Counts the calls in training of the native object: each draws its own dropout."""
        with tf.init_scope(), self.backend.on(self.device):
            first = tf.VariableAggregation.ONLY_FIRST_REPLICA  # all of them count alike
            return tf.Variable(self.step, trainable=False, dtype=tf.int64, aggregation=first)

    def run(self, inputs: Sequence[Any], training: bool) -> Any:
        """The outputs for inputs, differentiable by whoever records."""
        self.fresh()
        declared = self.program.plan(training).inputs
        arrays = tuple(self.array(x, v.dtype) for x, v in zip(inputs, declared, strict=True))
        step = self.calls.assign_add(1) - 1 if training else 0
        outputs, updates, _, _ = self.forward(training)(self.weights(), arrays, (), step)
        self.store(training, updates)
        return unwrapped(outputs)


def _arrays(batch: Batch) -> tuple[Any, ...]:
    return (*batch.inputs, *batch.targets, *batch.weights)


def _stacked(batches: Sequence[Batch]) -> Batch:
    """Batches of the same shapes as one, whose arrays have a first axis for the number of the batch."""
    columns = [None if column[0] is None else tf.stack(column) for column in zip(*map(_arrays, batches), strict=True)]
    first = batches[0]
    ends = len(first.inputs), len(first.inputs) + len(first.targets)
    return Batch(tuple(columns[: ends[0]]), tuple(columns[ends[0] : ends[1]]), tuple(columns[ends[1] :]))


def _kth(batches: Batch, k: tf.Tensor) -> Batch:
    """One of such batches."""
    groups = (batches.inputs, batches.targets, batches.weights)
    return Batch(*(tuple(None if x is None else x[k] for x in group) for group in groups))


def _done(nothing: None) -> tf.Tensor:
    """A value for a branch that is taken for what it does."""
    return tf.constant(True)


def _compiles(rule: Any, dtype: str) -> bool:
    """Whether XLA is there, and takes this optimizer."""
    update = tf.function(partial(rule.update, xp), jit_compile=True, autograph=False)
    with tf.init_scope(), tf.device("cpu"):
        numbers = [tf.constant(number, dtype) for number in rule.coefficients(1)]
        one = tf.ones((1,), dtype)
        try:
            update(numbers, one, one, *rule.start(xp, one))
        except (tf.errors.OpError, TypeError, ValueError):
            return False
    return True


class NativeLayer(tf.Module):
    """The weights of one layer, as attributes."""


class Native(tf.Module):
    """A bound model as a tf.Module: its variables, and a call that a GradientTape differentiates.

    Each layer is a module within it, by its name, with its variables by theirs: so checkpoints name them. They are the
    model's own: to train one is to train the other. Asked for within ``strategy.scope()``, before the model computed
    anything, they are made as the strategy wants them. What a layer moves by itself is averaged over replicas.
    training: dropout drops, and moving averages move. Penalties of regularizers are the caller's to add.
    """

    def __init__(self, executor: TensorflowExecutor):
        super().__init__()
        self._run = executor.run
        # A function, for what is set as an attribute is tracked, and named by it.
        self._pairs = lambda: list(zip(executor.program.variables, executor.handles, strict=True))
        layers: dict[int, NativeLayer] = {}
        for slot, handle in zip(executor.program.plan(False).slots, executor.handles, strict=True):
            if id(slot.layer) not in layers:
                layers[id(slot.layer)] = NativeLayer()
                setattr(self, _free(self, slot.layer.label), layers[id(slot.layer)])
            layer = layers[id(slot.layer)]
            setattr(layer, _free(layer, slot.spec.name), handle)

    @property
    def weights(self) -> list[tf.Variable]:
        """All variables, in the order in which the model computes."""
        return [handle for _, handle in self._pairs()]

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        return tuple(self.weights)

    @property
    def trainable_variables(self) -> tuple[tf.Variable, ...]:
        """The variables that training moves now: those of frozen layers are left out."""
        return tuple(handle for variable, handle in self._pairs() if variable.trainable)

    @property
    def non_trainable_variables(self) -> tuple[tf.Variable, ...]:
        return tuple(handle for variable, handle in self._pairs() if not variable.trainable)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *inputs: Any, training: bool = False) -> Any:
        return self._run(inputs, training)


def _free(module: tf.Module, wanted: str) -> str:
    """A name that the module has not yet."""
    name = re.sub(r"\W", "_", wanted)
    while hasattr(module, name):
        name += "_"
    return name
