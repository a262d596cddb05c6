"""Programs as compiled functions: the whole of a step is one call into jax."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any

import jax
from jax import lax

from layerhub.execution import Batch, Executor
from layerhub.movement import finite
from layerhub.spec.optimizers import Phase
from layerhub.variable import Variable
from layerhub_jax.native import Native


class JaxExecutor(Executor):
    """A program as one compiled, pure function for each kind of step and each size of a batch.

    Weights that a step moves, slots, and what losses and metrics have gathered are donated to it: the new ones lie
    where the old ones lay. Step number, coefficients and scale of the loss are arguments, so steps share a function.
    """

    _finite: jax.Array | None = None

    def bind(self) -> None:
        super().bind()
        self._steps: dict[tuple[Phase, ...], Callable[..., Any]] = {}
        self._updates: dict[tuple[Phase, ...], Callable[..., Any]] = {}
        self.__dict__.pop("native", None)

    def prepare(self, trained: Collection[Variable] | None = None) -> None:
        before = self.movement
        super().prepare(trained)
        if self.movement is not before:
            # What was compiled moves other weights.
            self._steps, self._updates = {}, {}
            moved = {*self.trainable, *self.program.plan(True).updated}
            self._moving = sorted(moved)
            self._resting = [i for i in range(len(self.handles)) if i not in moved]

    def forward(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        run = super().forward(training, recording)
        if recording:
            return run
        key = ("compiled", training)
        if key not in self._functions:
            declared = self.program.plan(training).inputs

            def typed(weights: Any, inputs: Any, masks: Any, step: Any) -> tuple:
                # jax would go on in the type of whatever it is given.
                return run(weights, [x.astype(v.dtype) for x, v in zip(inputs, declared, strict=True)], masks, step)

            self._functions[key] = jax.jit(typed)
        return self._functions[key]

    def called(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        # Differentiating goes through what is compiled.
        return self.forward(training)

    def piece(self, name: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        key = ("piece", name)
        if key not in self._functions:
            self._functions[key] = jax.jit(function)
        return self._functions[key]

    # What is compiled

    def _train(
        self, phases: tuple[Phase, ...], moving: list[Any], resting: list[Any], slots: Any, state: Any, batch: Any,
        step: Any, scale: Any, unscale: Any, numbers: Any,
    ) -> Any:  # fmt: skip
        """The weights that moved, slots and state after the batch, and whether the gradients were finite, if asked."""
        weights: list[Any] = [None] * len(self.handles)
        for places, arrays in (self._moving, moving), (self._resting, resting):
            for i, array in zip(places, arrays, strict=True):
                weights[i] = array
        batch = Batch(*batch)
        loss, (outputs, updates, masks, parts), gradients = self.gradients(batch, step, scale, weights)
        good = finite(self.xp, gradients) if self.program.optimizer.watches else None
        # A call may move a weight that is trained too: the optimizer goes on from there.
        for i, value in zip(self.program.plan(True).updated, updates, strict=True):
            weights[i] = _like(value, weights[i])
        if scale is not None:
            gradients = [g * unscale[0] * unscale[1] for g in gradients]
        trained = [weights[i] for i in self.trainable]
        update = partial(self._updated, numbers, phases, trained, gradients, slots)
        trained, slots = update() if good is None else lax.cond(good, update, lambda: (trained, slots))
        for i, value in zip(self.trainable, trained, strict=True):
            weights[i] = value
        state = _alike(self.measured(state, loss, parts, outputs, masks, batch), state)
        return [weights[i] for i in self._moving], slots, state, good

    def _updated(self, numbers: Any, phases: Any, weights: list[Any], gradients: list[Any], slots: Any) -> Any:
        return _alike(self.updated(numbers, phases, weights, gradients, slots), (weights, slots))

    @cached_property
    def _test(self) -> Callable[..., Any]:
        def test(weights: list[Any], state: Any, batch: Any) -> Any:
            batch = Batch(*batch)
            outputs, updates, masks, penalties = self.forward(False)(weights, batch.inputs, (), 0)
            loss, parts = self.total_loss(outputs, masks, penalties, weights, batch, recording=False)
            return _alike(self.measured(state, loss, parts, outputs, masks, batch), state), updates

        return jax.jit(test, donate_argnums=1)

    # Calls

    def train_batch(self, batch: Batch) -> None:
        self.fresh()
        self.settle()
        number = self.batch_number
        phases = self.movement.phases(number)
        if phases not in self._steps:
            self._steps[phases] = jax.jit(partial(self._train, phases), donate_argnums=(0, 2, 3))
        handles = self.handles
        # Plain numbers have the type of the arrays that they meet.
        numbers = [tuple(map(float, part)) for part in self.movement.numbers(number)]
        scale = None if self.scaling is None else float(self.scaling.scale)
        unscale = None if scale is None else _unscaling(scale)
        with self.scope():
            moved, self.slots, state, self._finite = self._steps[phases](
                [handles[i].value for i in self._moving], [handles[i].value for i in self._resting], self.slots,
                (self.loss_state, self.metric_state), _parts(batch), self.step, scale, unscale, numbers,
            )  # fmt: skip
        for i, value in zip(self._moving, moved, strict=True):
            handles[i].value = value
        self.loss_state, self.metric_state = state
        self.step += 1

    def apply(self, gradients: Sequence[Any]) -> None:
        self.settle()
        super().apply(gradients)

    def moved(self, numbers: Any, phases: Any, *arrays: Any) -> Any:
        if phases not in self._updates:
            self._updates[phases] = jax.jit(lambda numbers, *arrays: self._updated(numbers, phases, *arrays))
        return self._updates[phases]([tuple(map(float, part)) for part in numbers], *arrays)

    def settle(self) -> None:
        # Asked for as late as can be, for whoever asks has to wait.
        if self._finite is not None:
            self.scaling.follow(self.program.optimizer, bool(self._finite))
            self._finite = None

    def test_batch(self, batch: Batch) -> None:
        self.fresh()
        state = (self.loss_state, self.metric_state)
        with self.scope():
            (self.loss_state, self.metric_state), updates = self._test(self.weights(), state, _parts(batch))
        self.store(False, updates)

    def predict_batch(self, batch: Batch) -> tuple[Any, ...]:
        with self.scope():
            return super().predict_batch(batch)

    def scope(self) -> AbstractContextManager:
        # With run_eagerly nothing is compiled.
        return jax.disable_jit() if self.program.running.eagerly else nullcontext()

    # For jax's own ecosystem

    @cached_property
    def native(self) -> Native:
        return Native(self)


def _unscaling(scale: float) -> tuple[float, float]:
    """Two factors that undo a scale. XLA divides by 1 / scale, and that may be too small for the gradients' type."""
    half = 2.0 ** (math.frexp(scale)[1] // 2)
    return 1 / half, half / scale


def _parts(batch: Batch) -> tuple[Sequence[Any], ...]:
    return batch.inputs, batch.targets, batch.weights


def _like(x: Any, old: jax.Array) -> jax.Array:
    """An array in the type of the one whose place it takes, so that the next step is compiled already."""
    return lax.convert_element_type(x, old.dtype)


def _alike(new: Any, old: Any) -> Any:
    """Nested arrays, each in the type of the one whose place it takes."""
    return jax.tree.map(_like, new, old)
