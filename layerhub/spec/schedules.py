"""Learning-rate schedules: the learning rate as a function of how many batches were trained on.

A schedule is called on the host, in double precision, with the number of batches before the one that comes: 0 at first.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any

from layerhub.spec.base import Kind, ValueSpec, rule
from layerhub.spec.domains import Count, Domain, NonNegative, Positive, Size, number

schedules = Kind("schedule")


def _numbers(value: Any, owner: Any) -> tuple[float, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise TypeError
    if any(isinstance(x, bool) or not math.isfinite(x) for x in value):
        raise ValueError
    return tuple(value)


def _list(*valid: float) -> Domain:
    return Domain("a list of numbers", _numbers, encode=list, valid=(valid,), invalid=(3, "ab", ["a"]))


Boundaries = Annotated[tuple[float, ...], _list(1, 5)]
Values = Annotated[tuple[float, ...], _list(1.0, 0.5, 0.1)]
Growth = Annotated[float, number("a number, 1 or more", lambda value: value >= 1, (2.0, 1.0), (0.5, "a"))]


class LearningRateSchedule(ValueSpec, abstract=True):
    """A learning rate for each step."""

    kind = schedules

    def __call__(self, step: float) -> float:
        """The learning rate after ``step`` batches."""
        raise NotImplementedError


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate**(step / decay_steps); staircase: the exponent is rounded down."""

    initial_learning_rate: NonNegative
    decay_steps: Size | Positive
    decay_rate: NonNegative
    staircase: bool = False
    name: str = "ExponentialDecay"

    def __call__(self, step: float) -> float:
        return self.initial_learning_rate * self.decay_rate ** _share(step / self.decay_steps, self.staircase)


class InverseTimeDecay(LearningRateSchedule):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps); staircase: the quotient is rounded down."""

    initial_learning_rate: NonNegative
    decay_steps: Size | Positive
    decay_rate: NonNegative
    staircase: bool = False
    name: str = "InverseTimeDecay"

    def __call__(self, step: float) -> float:
        return self.initial_learning_rate / (1 + self.decay_rate * _share(step / self.decay_steps, self.staircase))


def _share(quotient: float, staircase: bool) -> float:
    return math.floor(quotient) if staircase else quotient


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], then values[1] up to boundaries[1], …; at last values[-1]."""

    boundaries: Boundaries
    values: Values
    name: str = "PiecewiseConstant"

    @rule
    def c1_there_is_one_value_more_than_boundaries(self, boundaries, values):
        return len(values) == len(boundaries) + 1

    @rule
    def c2_boundaries_rise(self, boundaries):
        return all(a < b for a, b in itertools.pairwise(boundaries))

    def __call__(self, step: float) -> float:
        return float(self.values[bisect.bisect_left(self.boundaries, step)])


class PolynomialDecay(LearningRateSchedule):
    """(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps)**power + end_learning_rate.

    After decay_steps the rate stays; cycle: instead, decay_steps grows to the next multiple that is not below step.
    """

    initial_learning_rate: NonNegative
    decay_steps: Size | Positive
    end_learning_rate: NonNegative = 0.0001
    power: NonNegative = 1.0
    cycle: bool = False
    name: str = "PolynomialDecay"

    def __call__(self, step: float) -> float:
        quotient = step / self.decay_steps
        done = quotient / max(1, math.ceil(quotient)) if self.cycle else min(quotient, 1.0)
        return (self.initial_learning_rate - self.end_learning_rate) * (1 - done) ** self.power + self.end_learning_rate


class CosineDecay(LearningRateSchedule):
    """peak * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha); after decay_steps the rate stays.

    The peak is initial_learning_rate. With a warmup_target, that is the peak: the rate goes there in a straight line,
    in warmup_steps, and decays from there.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5; Goyal et al. 2017, arXiv:1706.02677 (warmup).
    """

    initial_learning_rate: NonNegative
    decay_steps: Size | Positive
    alpha: NonNegative = 0.0
    name: str = "CosineDecay"
    warmup_target: NonNegative | None = None
    warmup_steps: Count = 0

    def __call__(self, step: float) -> float:
        peak = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return peak + (self.warmup_target - peak) * (step / self.warmup_steps)
            peak, step = self.warmup_target, step - self.warmup_steps
        return peak * ((1 - self.alpha) * _half_wave(min(step / self.decay_steps, 1.0)) + self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays one after the other, the k-th over first_decay_steps * t_mul**k steps from a peak of m_mul**k.

    The rate is initial_learning_rate * ((1 - alpha) * m_mul**k * (1 + cos(pi * share of the decay done)) / 2 + alpha).

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, section 3.
    """

    initial_learning_rate: NonNegative
    first_decay_steps: Size | Positive
    t_mul: Growth = 2.0
    m_mul: NonNegative = 1.0
    alpha: NonNegative = 0.0
    name: str = "SGDRDecay"

    def __call__(self, step: float) -> float:
        periods = step / self.first_decay_steps
        if self.t_mul == 1:
            restarts = math.floor(periods)
            done = periods - restarts
        else:
            # A logarithm that comes out a little too small or large must not move a restart.
            restarts = round(math.log(1 + periods * (self.t_mul - 1), self.t_mul))
            restarts -= self._begin(restarts) > periods
            done = (periods - self._begin(restarts)) / self.t_mul**restarts
        wave = self.m_mul**restarts * _half_wave(done)
        return self.initial_learning_rate * ((1 - self.alpha) * wave + self.alpha)

    def _begin(self, restarts: int) -> float:
        """How many first periods lie before the decay with this number."""
        return (self.t_mul**restarts - 1) / (self.t_mul - 1)


def _half_wave(share: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * share))
