"""Movement: a step of an optimizer over all trainable weights.

Each weight has a row of slots: those of the rule that moves it, then the moving average of the weight where its
optimizer keeps one, then the sum of the gradients so far where it accumulates them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import count
from math import inf
from typing import Any

import numpy as np

from layerhub.kernels import Call
from layerhub.registry import Registry
from layerhub.spec.optimizers import BaseOptimizer, Optimizer, Phase
from layerhub.variable import HOST, Variable

Rows = list[tuple[Any, ...]]


@dataclass(eq=False)
class Part:
    """Weights that one rule moves. places: theirs among the trainable ones. number: which of the parts this is."""

    optimizer: Optimizer
    rule: Optimizer
    number: int
    places: list[int]
    kernel: Callable[..., Any] | None

    def numbers(self, update: int) -> tuple[float, ...]:
        """What changes from update to update: the rule's coefficients, then the momentum of the moving averages."""
        momentum = self.optimizer.ema_momentum if update > 1 else 0.0
        return (*self.rule.coefficients(update), *([momentum] if self.optimizer.use_ema else []))

    def moved(
        self, xp: Any, numbers: Sequence[Any], overwrites: bool, weights: list[Any], gradients: list[Any], rows: Rows
    ) -> tuple[list[Any], Rows]:
        """The weights, and their rows up to the moving average, after an update."""
        if not self.optimizer.use_ema:
            return self._ruled(xp, numbers, weights, gradients, rows)
        *coefficients, momentum = numbers
        weights, own = self._ruled(xp, coefficients, weights, gradients, [row[:-1] for row in rows])
        averages = [self.optimizer.averaged(xp, momentum, row[-1], w) for row, w in zip(rows, weights, strict=True)]
        rows = [(*row, average) for row, average in zip(own, averages, strict=True)]
        return averages if overwrites else weights, rows

    def _ruled(
        self, xp: Any, coefficients: Sequence[Any], weights: list[Any], gradients: list[Any], rows: Rows
    ) -> tuple[list[Any], Rows]:
        if self.kernel is not None:
            return self.kernel(self.rule, coefficients, weights, gradients, rows)
        moved = [
            self.rule.update(xp, coefficients, w, g, *row) for w, g, row in zip(weights, gradients, rows, strict=True)
        ]
        return [new[0] for new in moved], [tuple(new[1:]) for new in moved]


@dataclass(eq=False)
class Mover:
    """An optimizer with the weights that it moves, in parts."""

    optimizer: Optimizer
    places: list[int]
    parts: list[Part]

    @property
    def accumulates(self) -> bool:
        """Whether gradients are gathered over several batches."""
        return self.optimizer.gradient_accumulation_steps is not None

    def gathered(self, xp: Any, gradients: list[Any], sums: list[Any], updates: bool) -> tuple[list[Any], list[Any]]:
        """The mean gradients, and the sums to go on with: nothing, after an update."""
        sums = [total + g for total, g in zip(sums, gradients, strict=True)]
        if not updates:
            return gradients, sums
        every = self.optimizer.gradient_accumulation_steps
        return [total / every for total in sums], [xp.zeros_like(total) for total in sums]


class Movement:
    """What the optimizer of a program does to its trainable weights, on one backend."""

    def __init__(self, registry: Registry, backend: str, optimizer: BaseOptimizer, weights: Sequence[Variable]):
        self.optimizer, self.weights = optimizer, weights
        self.movers: list[Mover] = []
        number = count()
        for chosen, places in optimizer.shared_out(weights):
            rules: dict[Optimizer, list[int]] = {}
            for place in places:
                rules.setdefault(chosen.rule_for(weights[place]), []).append(place)
            parts = []
            for rule, mine in rules.items():
                kernel = registry.kernel(backend, rule, Call())
                parts.append(Part(chosen, rule, next(number), mine, None if kernel is None else kernel.function))
            self.movers.append(Mover(chosen, places, parts))

    @cached_property
    def parts(self) -> list[Part]:
        """The parts of all movers, by number."""
        return [part for mover in self.movers for part in mover.parts]

    @cached_property
    def part_of(self) -> list[Part]:
        """The part that each weight belongs to."""
        found = {place: part for part in self.parts for place in part.places}
        return [found[place] for place in range(len(self.weights))]

    def start(self, place: int) -> tuple[np.ndarray, ...]:
        """The first row of a weight."""
        value, part = self.weights[place].numpy(), self.part_of[place]
        average = [value.copy()] if part.optimizer.use_ema else []
        gathered = [np.zeros_like(value)] if part.optimizer.gradient_accumulation_steps else []
        return (*part.rule.start(HOST, value), *average, *gathered)

    def average_in(self, place: int) -> int | None:
        """Where in its row the moving average of a weight is."""
        optimizer = self.part_of[place].optimizer
        return (-2 if optimizer.gradient_accumulation_steps else -1) if optimizer.use_ema else None

    def phases(self, batch: int) -> tuple[Phase, ...]:
        """What each mover does after a batch; the first has number 1."""
        return tuple(mover.optimizer.phase(batch) for mover in self.movers)

    def numbers(self, batch: int) -> list[tuple[float, ...]]:
        """The numbers of each part for a batch."""
        return [part.numbers(part.optimizer.update_of(batch)) for part in self.parts]


@dataclass
class Scaling:
    """The scale of the loss at the moment. run: how many steps it has been good for. skipped: steps that were not."""

    scale: float
    run: int = 0
    skipped: int = 0

    def follow(self, optimizer: BaseOptimizer, finite: bool) -> None:
        """Take in whether another step's gradients were finite."""
        self.scale, self.run = optimizer.rescaled(self.scale, self.run, finite)
        self.skipped += not finite


def finite(xp: Any, gradients: Sequence[Any]) -> Any:
    """Whether all gradients are finite, as an array."""
    return reduce(xp.logical_and, [xp.all(xp.abs(g) < inf) for g in gradients])
