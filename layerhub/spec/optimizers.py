"""Optimizers: how a weight moves, given its gradient.

    start(xp, w)                           what is kept for a weight between steps, before the first one: its slots
    coefficients(step)                     the numbers that change from step to step, on the host, in double precision
    define(xp, coefficients, w, g, *slots) one weight's update

``slots`` names what is kept; unless ``start`` says otherwise there is one of each for every weight, of its shape, and
all are zero at first. Updates are element by element, so that a backend may update any concatenation of weights at
once; an optimizer whose updates are not says so by ``elementwise = False``.

What surrounds the update is the same for all, in this order: the scale of the loss is taken out of the gradients; they
are accumulated; clipped; weights decay; the update; the moving average of the weights; constraints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar, NamedTuple, Self
from weakref import WeakKeyDictionary

from layerhub.errors import ParameterError
from layerhub.spec.base import Kind, Spec, keyword, rule, serialize
from layerhub.spec.domains import Count, Domain, NonNegative, Positive, Share, Size, integer, number
from layerhub.spec.schedules import LearningRateSchedule
from layerhub.spec.schedules import schedules as _schedules

optimizers = Kind("optimizer")


def _learning_rate(value: Any, owner: Any) -> Any:
    if isinstance(value, (Mapping, LearningRateSchedule)):
        return _schedules.get(value)
    if callable(value):
        return value
    return _rate.accept(value, owner)


def _encoded_rate(value: Any) -> Any:
    if isinstance(value, Spec):
        return serialize(value)
    return getattr(value, "__name__", repr(value)) if callable(value) else value


_rate = number("a number, 0 or more", lambda value: value >= 0, (0.0, 0.1), (-1.0, "a"))
LearningRate = Annotated[
    Any,
    Domain(
        "a number, 0 or more, a schedule, or a function without arguments",
        _learning_rate,
        encode=_encoded_rate,
        valid=_rate.valid,
        invalid=_rate.invalid,
        schema=_rate.schema,
    ),
]
Several = Annotated[int, integer("an int, 2 or more", 2, (2, 4), (1, 0, 2.5, "a"))]
NonPositive = Annotated[float, number("a number, 0 or less", lambda value: value <= 0, (-0.5, 0.0), (0.5, "a"))]
PositiveShare = Annotated[
    float, number("a number above 0, at most 1", lambda value: 0 < value <= 1, (0.9,), (0, 1.5, "a"))
]


def _accept_patterns(value: Any, owner: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(pattern, str) for pattern in value or ()):
        raise TypeError
    return tuple(value or ())


def _accept_inner(value: Any, owner: Any) -> Optimizer:
    found = optimizers.get(value)
    if isinstance(found, LossScaleOptimizer):
        raise ValueError
    return found


def _accept_map(value: Any, owner: Any) -> Any:
    if isinstance(value, Mapping) and value.get("class_name") == "OptimizerMap":
        return OptimizerMap.from_config(value["config"])
    if not callable(value) or isinstance(value, type):
        raise TypeError
    return value


def _encode_map(value: Any) -> Any:
    if isinstance(value, OptimizerMap):
        return {"class_name": "OptimizerMap", "config": value.get_config()}
    return getattr(value, "__name__", repr(value))


Patterns = Annotated[
    tuple[str, ...],
    Domain(
        "a list of regular expressions", _accept_patterns, encode=list, valid=(("head",),), invalid=("head", 3, [3])
    ),
]
Inner = Annotated[
    Any,
    Domain(
        "an optimizer: an object, a name or a config",
        _accept_inner,
        encode=serialize,
        invalid=("no_such_name", 3.5),
    ),
]
WeightsOptimizer = Annotated[
    Any,
    Domain(
        "an OptimizerMap, or a function that gives a weight's optimizer",
        _accept_map,
        encode=_encode_map,
        invalid=(3, "adam"),
    ),
]


class Phase(NamedTuple):
    """What becomes of a batch's gradients. updates: weights move; else the gradients are only gathered.

    overwrites: the moving average replaces the weights.
    """

    updates: bool = True
    overwrites: bool = False


class BaseOptimizer(Spec, abstract=True):
    """Whatever trains: an optimizer, or something around optimizers.

    A weight is known here by what has a ``path`` and a ``shape``.
    """

    kind = optimizers
    watches: ClassVar[bool] = False
    """Whether a step whose gradients are not finite is skipped, and the loss's scale changes with time."""

    name: str | None = keyword(default=None, kw_only=True)

    @property
    def loss_scale(self) -> float | None:
        """What the loss is multiplied by, and gradients divided by; at first, where ``watches``."""
        return None

    def shared_out(self, weights: Sequence[Any]) -> list[tuple[Optimizer, list[int]]]:
        """The optimizers at work, with the numbers of the weights that each moves."""
        raise NotImplementedError

    def rescaled(self, scale: float, run: int, finite: bool) -> tuple[float, int]:
        """The scale of the loss, and how many steps it was good for, after another step."""
        return scale, run


class Optimizer(BaseOptimizer, abstract=True):
    """A rule for training steps.

    learning_rate: may be set at any time; it acts from the next step on. A schedule is asked for each batch.
    weight_decay: the share of a weight, times the learning rate, that is taken away at each step, before the update.
    clipnorm, clipvalue, global_clipnorm: bounds on each gradient's norm, each element, the norm of all gradients.
    use_ema: keep moving averages of the weights, average = ema_momentum * average + (1 - ema_momentum) * weight after
        each update, the first of which sets them. They replace the weights at the end of ``fit``, and after every
        ema_overwrite_frequency updates.
    loss_scale_factor: multiplies the loss before it is differentiated, and divides the gradients.
    gradient_accumulation_steps: update once in so many batches, by the mean of their gradients.
    """

    mutable = ("learning_rate",)
    keras_only = {"decay": 0.0}
    slots: ClassVar[Any] = ()
    """The names of what is kept for each weight."""
    elementwise: ClassVar[bool] = True
    """Whether an update goes element by element."""

    weight_decay: NonNegative | None = keyword(default=None, kw_only=True)
    clipnorm: Positive | None = keyword(default=None, kw_only=True)
    clipvalue: Positive | None = keyword(default=None, kw_only=True)
    global_clipnorm: Positive | None = keyword(default=None, kw_only=True)
    use_ema: bool = keyword(default=False, kw_only=True)
    ema_momentum: Share = keyword(default=0.99, kw_only=True)
    ema_overwrite_frequency: Size | None = keyword(default=None, kw_only=True)
    loss_scale_factor: Positive | None = keyword(default=None, kw_only=True)
    gradient_accumulation_steps: Several | None = keyword(default=None, kw_only=True)
    name: str | None = keyword(default=None, kw_only=True)

    learning_rate: LearningRate

    _leader: Any = None
    _ratio: Any = 1.0
    _undecayed: Any = None

    @rule
    def c1_one_way_of_clipping(self):
        return sum(bound is not None for bound in (self.clipnorm, self.clipvalue, self.global_clipnorm)) <= 1

    # Which weights

    def shared_out(self, weights: Sequence[Any]) -> list[tuple[Optimizer, list[int]]]:
        return [(self, list(range(len(weights))))]

    def rule_for(self, weight: Any) -> Optimizer:
        """The optimizer whose update moves a weight: this one, or one that stands in for it."""
        if self.weight_decay and self._undecayed is not None and self._undecayed(weight):
            return self._without_decay
        return self

    def exclude_from_weight_decay(
        self, var_list: Sequence[Any] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Let some weights not decay: these ones, and those in whose path one of the patterns is found.

        To be said before training begins.
        """
        chosen, patterns = list(var_list or ()), list(var_names or ())

        def excluded(weight: Any) -> bool:
            return any(weight is w for w in chosen) or any(re.search(pattern, weight.path) for pattern in patterns)

        self._undecayed = excluded

    @cached_property
    def _without_decay(self) -> Optimizer:
        return self.replace(weight_decay=None)._led_by(self)

    def _led_by(self, leader: Optimizer, ratio: float = 1.0) -> Self:
        """This optimizer, with a share of another's learning rate as its own."""
        self._leader, self._ratio = leader, ratio
        return self

    # When

    @property
    def loss_scale(self) -> float | None:
        return self.loss_scale_factor

    def phase(self, batch: int) -> Phase:
        """What is done after a batch; the first has number 1."""
        every, often = self.gradient_accumulation_steps or 1, self.ema_overwrite_frequency
        updates = batch % every == 0
        return Phase(updates, bool(updates and self.use_ema and often and self.update_of(batch) % often == 0))

    def update_of(self, batch: int) -> int:
        """The number of the update that a batch is for."""
        return -(-batch // (self.gradient_accumulation_steps or 1))

    def rate(self, step: int) -> float:
        """The learning rate of an update."""
        if self._leader is not None:
            return self._ratio * self._leader.rate(step)
        rate = self.learning_rate
        if isinstance(rate, LearningRateSchedule):
            return float(rate(step * (self.gradient_accumulation_steps or 1) - 1))
        return float(rate()) if callable(rate) else rate

    # What is computed

    def start(self, xp: Any, w: Any) -> tuple[Any, ...]:
        """The slots of a weight before the first step."""
        return tuple(xp.zeros_like(w) for _ in self.slots)

    def coefficients(self, step: int) -> tuple[float, ...]:
        """The numbers of update ``step`` (the first is 1); the first of them is the learning rate."""
        return (self.rate(step),)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        """The new weight, then its new slots."""
        raise NotImplementedError

    def update(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        """Weight decay, then the definition."""
        if self.weight_decay:
            w = w - w * (self.weight_decay * coefficients[0])
        return self.define(xp, coefficients, w, g, *slots)

    def averaged(self, xp: Any, momentum: Any, average: Any, w: Any) -> Any:
        """The moving average of a weight after an update."""
        return average * momentum + w * (1 - momentum)

    def clip(self, xp: Any, gradients: list[Any]) -> list[Any]:
        """The gradients within their bounds."""
        if self.clipvalue is not None:
            return [_clip(xp, g, self.clipvalue) for g in gradients]
        if self.clipnorm is not None:
            return [g * _shrink(xp, xp.sum(g * g), self.clipnorm) for g in gradients]
        if self.global_clipnorm is not None:
            total = 0
            for g in gradients:
                total = total + xp.sum(g * g)
            factor = _shrink(xp, total, self.global_clipnorm)
            return [g * xp.astype(factor, g.dtype) for g in gradients]
        return gradients


def _clip(xp: Any, g: Any, bound: float) -> Any:
    g = xp.where(g < bound, g, xp.full_like(g, bound))
    return xp.where(g > -bound, g, xp.full_like(g, -bound))


def _shrink(xp: Any, squared_norm: Any, bound: float) -> Any:
    """The factor that brings a norm down to ``bound``, 1 where it is below."""
    norm = xp.sqrt(squared_norm)
    over = norm > bound
    return xp.where(over, bound / xp.where(over, norm, xp.ones_like(norm)), xp.ones_like(norm))


def _over(a: float, b: float) -> float:
    """a / b, and 0 where b is: a mean that never moves has nothing to be corrected."""
    return a / b if b else 0.0


class SGD(Optimizer):
    """w - lr g; with momentum v: v = momentum v - lr g, w + v (nesterov: w + momentum v - lr g).

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.
    """

    learning_rate: LearningRate = 0.01
    momentum: Share = 0.0
    nesterov: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        step = coefficients[0] * g
        if not self.momentum:
            return (w - step,)
        velocity = self.momentum * slots[0] - step
        return w + (self.momentum * velocity - step if self.nesterov else velocity), velocity


class RMSprop(Optimizer):
    """w - lr g / sqrt(v + epsilon), v = rho v + (1 - rho) g**2; centered: the variance v - mean(g)**2 instead of v.

    Source: Hinton, Neural networks for machine learning, lecture 6e, 2012; Graves 2013, arXiv:1308.0850 (centered).
    """

    learning_rate: LearningRate = 0.001
    rho: Share = 0.9
    momentum: Share = 0.0
    epsilon: Positive = 1e-7
    centered: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("velocity", *(["momentum"] if self.momentum else []), *(["average_gradient"] if self.centered else []))

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        state = dict(zip(self.slots, slots, strict=True))
        state["velocity"] = self.rho * state["velocity"] + (1 - self.rho) * (g * g)
        spread = state["velocity"]
        if self.centered:
            state["average_gradient"] = self.rho * state["average_gradient"] + (1 - self.rho) * g
            spread = spread - state["average_gradient"] * state["average_gradient"]
        step = coefficients[0] * g / xp.sqrt(spread + self.epsilon)
        if self.momentum:
            step = state["momentum"] = self.momentum * state["momentum"] + step
        return (w - step, *state.values())


class Adam(Optimizer):
    """w - lr sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon), m and v decaying means of g and g**2.

    amsgrad: the largest v so far instead of v.
    Elsewhere: PyTorch adds epsilon to the corrected sqrt(v), which is this with epsilon / sqrt(1 - beta_2**t).
    Source: Kingma & Ba 2015, arXiv:1412.6980, section 2, last lines; Reddi et al. 2018, arXiv:1904.09237 (amsgrad).
    """

    learning_rate: LearningRate = 0.001
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: Positive = 1e-7
    amsgrad: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum", "velocity", *(["velocity_hat"] if self.amsgrad else []))

    def coefficients(self, step: int) -> tuple[float, ...]:
        rate = self.rate(step)
        return rate, rate * _over(math.sqrt(1 - self.beta_2**step), 1 - self.beta_1**step)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        m, v, *largest = slots
        m = m + (g - m) * (1 - self.beta_1)
        v = v + (g * g - v) * (1 - self.beta_2)
        if not largest:
            return w - coefficients[1] * m / (xp.sqrt(v) + self.epsilon), m, v
        top = xp.maximum(largest[0], v)
        return w - coefficients[1] * m / (xp.sqrt(top) + self.epsilon), m, v, top


class AdamW(Adam):
    """Adam with weight decay that does not go through the gradient.

    Source: Loshchilov & Hutter 2019, arXiv:1711.05101.
    """

    learning_rate: LearningRate = 0.001
    weight_decay: NonNegative | None = 0.004
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: Positive = 1e-7
    amsgrad: bool = False


class Adagrad(Optimizer):
    """a = a + g**2 from initial_accumulator_value on, w - lr g / sqrt(a + epsilon).

    Elsewhere: PyTorch adds epsilon to the root.
    Source: Duchi, Hazan & Singer 2011, JMLR 12, 2121.
    """

    learning_rate: LearningRate = 0.001
    initial_accumulator_value: NonNegative = 0.1
    epsilon: Positive = 1e-7

    slots = ("accumulator",)

    def start(self, xp: Any, w: Any) -> tuple[Any, ...]:
        return (xp.full_like(w, self.initial_accumulator_value),)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        total = slots[0] + g * g
        return w - coefficients[0] * g / xp.sqrt(total + self.epsilon), total


class Adadelta(Optimizer):
    """step = g sqrt(d + epsilon) / sqrt(v + epsilon), w - lr step; v and d are decaying means of g**2 and step**2.

    Source: Zeiler 2012, arXiv:1212.5701.
    """

    learning_rate: LearningRate = 0.001
    rho: Share = 0.95
    epsilon: Positive = 1e-7

    slots = ("accumulated_grad", "accumulated_delta_var")

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        v, d = slots
        v = self.rho * v + (1 - self.rho) * (g * g)
        step = xp.sqrt(d + self.epsilon) * g / xp.sqrt(v + self.epsilon)
        d = self.rho * d + (1 - self.rho) * (step * step)
        return w - coefficients[0] * step, v, d


class Adamax(Optimizer):
    """w - lr / (1 - beta_1**t) * m / (u + epsilon), m a decaying mean of g, u = max(beta_2 u, |g|).

    Elsewhere: PyTorch takes max(beta_2 u, |g| + epsilon), and adds nothing to u.
    Source: Kingma & Ba 2015, arXiv:1412.6980, section 7.1.
    """

    learning_rate: LearningRate = 0.001
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: Positive = 1e-7

    slots = ("momentum", "norm")

    def coefficients(self, step: int) -> tuple[float, ...]:
        rate = self.rate(step)
        return rate, _over(rate, 1 - self.beta_1**step)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        m, u = slots
        m = m + (g - m) * (1 - self.beta_1)
        u = xp.maximum(self.beta_2 * u, xp.abs(g))
        return w - coefficients[1] * m / (u + self.epsilon), m, u


class Nadam(Optimizer):
    """Adam with Nesterov momentum: w - lr m_hat / (sqrt(v / (1 - beta_2**t)) + epsilon).

        m_hat = u[t+1] m / (1 - u[1] … u[t+1]) + (1 - u[t]) g / (1 - u[1] … u[t]),  u[t] = beta_1 (1 - 0.96**t / 2)

    m and v are decaying means of g and g**2.
    Source: Dozat 2016, Incorporating Nesterov momentum into Adam, ICLR workshop.
    """

    learning_rate: LearningRate = 0.001
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: Positive = 1e-7

    slots = ("momentum", "velocity")

    def coefficients(self, step: int) -> tuple[float, ...]:
        rate, now, ahead = self.rate(step), _nadam_share(step), _nadam_share(step + 1)
        product = self.beta_1**step * _nadam_product(min(step, NADAM_SETTLED))
        of_mean = _over(rate * self.beta_1 * ahead, 1 - product * self.beta_1 * ahead)
        of_gradient = _over(rate * (1 - self.beta_1 * now), 1 - product)
        return rate, of_mean, of_gradient, _over(1, 1 - self.beta_2**step)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        _, of_mean, of_gradient, correction = coefficients
        m, v = slots
        m = m + (g - m) * (1 - self.beta_1)
        v = v + (g * g - v) * (1 - self.beta_2)
        return w - (of_mean * m + of_gradient * g) / (xp.sqrt(correction * v) + self.epsilon), m, v


NADAM_SETTLED = 1000
"""From this step on, 1 - 0.96**t / 2 is 1 to every digit."""


def _nadam_share(step: int) -> float:
    return 1 - 0.5 * 0.96**step


@cache
def _nadam_product(step: int) -> float:
    return math.prod(map(_nadam_share, range(1, step + 1)))


class Ftrl(Optimizer):
    """Follow the regularized leader: w = (clip(z, -l1, l1) - z) / (a**-power / lr + 2 l2 + beta / lr).

        a' = a + g**2 from initial_accumulator_value on,  z' = z + g + 2 shrinkage w - (a'**-power - a**-power) / lr w

    power is learning_rate_power; l1, l2 and shrinkage are the strengths of regularization.
    Source: McMahan et al. 2013, Ad click prediction: a view from the trenches, KDD, algorithm 1.
    """

    learning_rate: LearningRate = 0.001
    learning_rate_power: NonPositive = -0.5
    initial_accumulator_value: NonNegative = 0.1
    l1_regularization_strength: NonNegative = 0.0
    l2_regularization_strength: NonNegative = 0.0
    l2_shrinkage_regularization_strength: NonNegative = 0.0
    beta: NonNegative = 0.0

    slots = ("accumulator", "linear")

    def start(self, xp: Any, w: Any) -> tuple[Any, ...]:
        return xp.full_like(w, self.initial_accumulator_value), xp.zeros_like(w)

    def coefficients(self, step: int) -> tuple[float, ...]:
        rate = self.rate(step)
        inverse = 1 / rate if rate else math.inf
        return rate, inverse, 2 * self.l2_regularization_strength + (self.beta * inverse if self.beta else 0.0)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        _, inverse, ridge = coefficients
        total, linear = slots
        before, total = self._power(xp, total), total + g * g
        after = self._power(xp, total)
        linear = linear + g - inverse * (after - before) * w
        if self.l2_shrinkage_regularization_strength:
            linear = linear + (2 * self.l2_shrinkage_regularization_strength) * w
        bound = self.l1_regularization_strength
        pull = _clip(xp, linear, bound) - linear if bound else -linear
        return pull / (inverse * after + ridge), total, linear

    def _power(self, xp: Any, total: Any) -> Any:
        return xp.sqrt(total) if self.learning_rate_power == -0.5 else xp.pow(total, -self.learning_rate_power)


class Lion(Optimizer):
    """w - lr sign(beta_1 m + (1 - beta_1) g), then m = beta_2 m + (1 - beta_2) g.

    Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2.
    """

    learning_rate: LearningRate = 0.001
    beta_1: PositiveShare = 0.9
    beta_2: Share = 0.99

    slots = ("momentum",)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        (m,) = slots
        step = coefficients[0] * xp.sign(self.beta_1 * m + (1 - self.beta_1) * g)
        return w - step, self.beta_2 * m + (1 - self.beta_2) * g


class Lamb(Optimizer):
    """w - lr |w| / |step| step, step = m / (1 - beta_1**t) / (sqrt(v / (1 - beta_2**t)) + epsilon).

    m and v are decaying means of g and g**2. Where one of the norms is 0, their quotient counts as 1.
    Source: You et al. 2020, arXiv:1904.00962, algorithm 2.
    """

    learning_rate: LearningRate = 0.001
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: Positive = 1e-7

    slots = ("momentum", "velocity")
    elementwise = False

    def coefficients(self, step: int) -> tuple[float, ...]:
        return self.rate(step), _over(1, 1 - self.beta_1**step), _over(1, 1 - self.beta_2**step)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        rate, of_mean, of_square = coefficients
        m, v = slots
        m = m + (g - m) * (1 - self.beta_1)
        v = v + (g * g - v) * (1 - self.beta_2)
        step = of_mean * m / (xp.sqrt(of_square * v) + self.epsilon)
        size, length = _norm(xp, w), _norm(xp, step)
        one = xp.ones_like(size)
        both = xp.logical_and(size > 0, length > 0)
        trust = xp.where(both, size, one) / xp.where(both, length, one)
        return w - rate * trust * step, m, v


def _norm(xp: Any, x: Any) -> Any:
    return xp.sqrt(xp.sum(x * x))


class Adafactor(Optimizer):
    """Adam without momentum, whose second moments of a matrix are kept as those of its rows and columns.

        s = g**2 + epsilon_1,  keep = 1 - t**beta_2_decay
        r, c = keep r + (1 - keep) mean(s, -1),  keep c + (1 - keep) mean(s, -2),  v[i, j] = r[i] c[j] / mean(r)
        u = g / sqrt(v)
        w - max(epsilon_2, rms(w)) min(lr, 1 / sqrt(t)) u / max(1, rms(u) / clip_threshold)

    Weights with less than 2 axes keep v = keep v + (1 - keep) s; of those with more, the last 2 count.
    relative_step: changes nothing, as in Keras: 1 / sqrt(t) bounds the learning rate either way.
    Source: Shazeer & Stern 2018, arXiv:1804.04235, algorithms 4 and 5.
    """

    learning_rate: LearningRate = 0.001
    beta_2_decay: NonPositive = -0.8
    epsilon_1: Positive = 1e-30
    epsilon_2: Positive = 1e-3
    clip_threshold: Positive = 1.0
    relative_step: bool = True

    elementwise = False

    def start(self, xp: Any, w: Any) -> tuple[Any, ...]:
        nothing = xp.zeros_like(w)
        return (nothing,) if w.ndim < 2 else (xp.sum(nothing, axis=-1), xp.sum(nothing, axis=-2))

    def coefficients(self, step: int) -> tuple[float, ...]:
        rate, new = self.rate(step), step**self.beta_2_decay
        return rate, min(rate, 1 / math.sqrt(step)), 1 - new, new

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        _, rate, keep, new = coefficients
        square = g * g + self.epsilon_1
        if len(slots) == 1:
            v = keep * slots[0] + new * square
            kept: tuple[Any, ...] = (v,)
        else:
            rows = keep * slots[0] + new * xp.mean(square, axis=-1)
            columns = keep * slots[1] + new * xp.mean(square, axis=-2)
            kept = (rows, columns)
            shares = rows / xp.mean(rows, axis=-1, keepdims=True)
            v = xp.expand_dims(shares, axis=-1) * xp.expand_dims(columns, axis=-2)
        u = g / xp.sqrt(v)
        excess = xp.maximum(_rms(xp, u) / self.clip_threshold, xp.ones_like(_rms(xp, u)))
        size = _rms(xp, w)
        size = xp.maximum(size, xp.full_like(size, self.epsilon_2))
        return (w - rate * size / excess * u, *kept)


def _rms(xp: Any, x: Any) -> Any:
    return xp.sqrt(xp.mean(x * x))


class Muon(Optimizer):
    """Momentum whose matrix is made nearly orthogonal: w - lr rms_rate sqrt(max(rows, columns)) orthogonal(x).

        m = momentum m + g,  x = g + momentum m (nesterov) or m
        orthogonal(x): x / (|x| + 1e-7), then ns_steps times  a = x x^T,  x = muon_a x + (muon_b a + muon_c a a) x

    Weights that are no matrices, embeddings (exclude_embeddings) and weights in whose path one of the patterns
    exclude_layers is found are moved by Adam, with adam_weight_decay and adam_lr_ratio times the learning rate.
    rms_rate: None for an update of lr orthogonal(x).
    Source: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks; Liu et al. 2025,
    arXiv:2502.16982 (rms_rate).
    """

    learning_rate: LearningRate = 0.001
    adam_beta_1: Share = 0.9
    adam_beta_2: Share = 0.999
    adam_weight_decay: NonNegative | None = 0.004
    epsilon: Positive = 1e-7
    weight_decay: NonNegative | None = 0.004
    exclude_layers: Patterns = keyword(default=(), kw_only=True)
    exclude_embeddings: bool = keyword(default=True, kw_only=True)
    muon_a: float = keyword(default=3.4445, kw_only=True)
    muon_b: float = keyword(default=-4.7750, kw_only=True)
    muon_c: float = keyword(default=2.0315, kw_only=True)
    adam_lr_ratio: Positive = keyword(default=1, kw_only=True)
    momentum: Share = keyword(default=0.95, kw_only=True)
    ns_steps: Count = keyword(default=5, kw_only=True)
    nesterov: bool = keyword(default=True, kw_only=True)
    rms_rate: Positive | None = keyword(default=0.2, kw_only=True)

    slots = ("momentum",)
    elementwise = False

    def rule_for(self, weight: Any) -> Optimizer:
        if not self._takes_adam(weight):
            return super().rule_for(weight)
        decays = self._undecayed is None or not self._undecayed(weight)
        return self._adam if decays else self._adam_without_decay

    def _takes_adam(self, weight: Any) -> bool:
        return (
            len(weight.shape) != 2
            or (self.exclude_embeddings and "embedding" in weight.path.lower())
            or any(re.search(pattern, weight.path) for pattern in self.exclude_layers)
        )

    @cached_property
    def _adam(self) -> Optimizer:
        # The decay goes by the whole learning rate.
        decay = None if self.adam_weight_decay is None else self.adam_weight_decay / self.adam_lr_ratio
        adam = AdamW(weight_decay=decay, beta_1=self.adam_beta_1, beta_2=self.adam_beta_2, epsilon=self.epsilon)
        return adam._led_by(self, self.adam_lr_ratio)

    @cached_property
    def _adam_without_decay(self) -> Optimizer:
        return self._adam.replace(weight_decay=None)._led_by(self, self.adam_lr_ratio)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        m = self.momentum * slots[0] + g
        step = self._orthogonal(xp, g + self.momentum * m if self.nesterov else m)
        scale = 1.0 if self.rms_rate is None else self.rms_rate * math.sqrt(max(w.shape))
        return w - coefficients[0] * scale * step, m

    def _orthogonal(self, xp: Any, x: Any) -> Any:
        """A matrix with its singular values brought near to 1, by Newton and Schulz's iteration."""
        tall = x.shape[0] > x.shape[1]
        x = xp.permute_dims(x, (1, 0)) if tall else x
        x = x / (_norm(xp, x) + 1e-7)
        for _ in range(self.ns_steps):
            square = xp.matmul(x, xp.permute_dims(x, (1, 0)))
            mixed = self.muon_b * square + self.muon_c * xp.matmul(square, square)
            x = self.muon_a * x + xp.matmul(mixed, x)
        return xp.permute_dims(x, (1, 0)) if tall else x


class ScheduleFreeAdamW(Optimizer):
    """Adam on z, while the weight is y, between z and the mean x of all z: y = (1 - beta_1) z + beta_1 x.

        z = z - lr g / (sqrt(v / (1 - beta_2**t)) + epsilon),  x = (1 - 1/t) x + z / t,  v a decaying mean of g**2

    z starts at the weight; x is not kept, but recovered from y and z. The learning rate rises in a straight line for
    warmup_steps.
    Source: Defazio et al. 2024, arXiv:2405.15682.
    """

    learning_rate: LearningRate = 0.0025
    beta_1: PositiveShare = 0.9
    beta_2: Share = 0.999
    epsilon: Positive = 1e-8
    warmup_steps: Count = 0

    slots = ("momentum", "velocity")

    def start(self, xp: Any, w: Any) -> tuple[Any, ...]:
        return w, xp.zeros_like(w)

    def coefficients(self, step: int) -> tuple[float, ...]:
        rate = self.rate(step)
        warm = rate * min(step / self.warmup_steps, 1.0) if self.warmup_steps else rate
        return rate, warm, _over(1, 1 - self.beta_2**step), 1 / step

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        _, warm, correction, share = coefficients
        z, v = slots
        x = (w - (1 - self.beta_1) * z) / self.beta_1
        v = v + (g * g - v) * (1 - self.beta_2)
        z = z - warm * g / (xp.sqrt(correction * v) + self.epsilon)
        x = (1 - share) * x + share * z
        return (1 - self.beta_1) * z + self.beta_1 * x, z, v


# Optimizers around optimizers


class LossScaleOptimizer(BaseOptimizer):
    """An optimizer for types of little range: the loss is multiplied by a scale, gradients are divided by it.

    A step whose gradients are not all finite is skipped, and halves the scale; dynamic_growth_steps good ones in a row
    double it.
    Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
    """

    delegates = True
    watches = True
    keras_only = {
        "weight_decay": None, "clipnorm": None, "global_clipnorm": None, "clipvalue": None, "use_ema": False,
        "ema_momentum": 0.99, "ema_overwrite_frequency": None, "loss_scale_factor": None,
        "gradient_accumulation_steps": None, "dynamic": True,
    }  # fmt: skip

    inner_optimizer: Inner
    initial_scale: Positive = 2.0**15
    dynamic_growth_steps: Size = 2000

    @property
    def loss_scale(self) -> float | None:
        return self.initial_scale

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    def shared_out(self, weights: Sequence[Any]) -> list[tuple[Optimizer, list[int]]]:
        return self.inner_optimizer.shared_out(weights)

    def rescaled(self, scale: float, run: int, finite: bool) -> tuple[float, int]:
        if not finite:
            return scale / 2, 0
        if run + 1 < self.dynamic_growth_steps:
            return scale, run + 1
        return (scale * 2 if math.isfinite(scale * 2) else scale), 0


class OptimizerMap(MutableMapping):
    """Optimizers by patterns of weights' paths; a weight takes that of the pattern which matches its whole path.

    A pattern that is the path itself comes first. default_optimizer: for paths that no pattern matches.
    """

    def __init__(self, default_optimizer: Any, optimizer_map: Mapping[str, Any] | None = None):
        self.default_optimizer = _plain_optimizer(default_optimizer)
        self._chosen: dict[str, Optimizer] = {}
        for pattern, optimizer in (optimizer_map or {}).items():
            self[pattern] = optimizer

    def __getitem__(self, path: str) -> Optimizer:
        if path in self._chosen:
            return self._chosen[path]
        matching = [pattern for pattern in self._chosen if re.fullmatch(pattern, path)]
        if len(matching) > 1:
            raise ParameterError(f"OptimizerMap: {path!r} is matched by several patterns: {', '.join(matching)}")
        return self._chosen[matching[0]] if matching else self.default_optimizer

    def __setitem__(self, pattern: str, optimizer: Any) -> None:
        if not isinstance(pattern, str):
            raise ParameterError(f"OptimizerMap: a pattern must be a string, not {pattern!r}")
        if pattern in self._chosen:
            raise ParameterError(f"OptimizerMap: {pattern!r} has an optimizer already: {self._chosen[pattern]!r}")
        self._chosen[pattern] = _plain_optimizer(optimizer)

    def __delitem__(self, pattern: str) -> None:
        del self._chosen[pattern]

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[str]:
        return iter(self._chosen)

    def __call__(self, weight: Any) -> Optimizer:
        return self[weight.path]

    def get_config(self) -> dict[str, Any]:
        """The map as JSON can hold it."""
        chosen = {pattern: serialize(optimizer) for pattern, optimizer in self._chosen.items()}
        return {"default_optimizer": serialize(self.default_optimizer), "optimizer_map": chosen}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The map that a config describes."""
        return cls(config["default_optimizer"], config.get("optimizer_map"))

    def __repr__(self) -> str:
        return f"OptimizerMap({self.default_optimizer!r}, {self._chosen!r})"


def _plain_optimizer(given: Any) -> Optimizer:
    try:
        found = optimizers.get(given)
    except TypeError:
        found = None
    if not isinstance(found, Optimizer):
        raise ParameterError(f"OptimizerMap: each optimizer must be one without others inside, not {given!r}")
    return found


class MultiOptimizer(BaseOptimizer):
    """Several optimizers, each for weights of its own.

    optimizer_map: an OptimizerMap, or a function that gives the optimizer of a weight, which has a path and a shape.
    Each optimizer clips, accumulates and averages what it moves by itself. loss_scale_factor: in place of theirs.
    """

    delegates = True

    optimizer_map: WeightsOptimizer
    loss_scale_factor: Positive | None = None

    @property
    def loss_scale(self) -> float | None:
        return self.loss_scale_factor

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers that are known: those of the map, or those that the function gave so far."""
        known = [*self.optimizer_map.values(), self.optimizer_map.default_optimizer] if self._is_map else []
        return list(dict.fromkeys([*known, *self._given.values()]))

    @property
    def _is_map(self) -> bool:
        return isinstance(self.optimizer_map, OptimizerMap)

    @cached_property
    def _given(self) -> WeakKeyDictionary[Any, Optimizer]:
        """What the function said: a weight stays with its optimizer, also if the function makes new ones."""
        return WeakKeyDictionary()

    def _optimizer_of(self, weight: Any) -> Optimizer:
        if self._is_map:
            return self.optimizer_map(weight)
        if weight not in self._given:
            found = self.optimizer_map(weight)
            if not isinstance(found, Optimizer):
                raise ParameterError(
                    f"MultiOptimizer: optimizer_map must give an optimizer without others inside for {weight.path}, "
                    f"not {found!r}"
                )
            self._given[weight] = found
        return self._given[weight]

    def shared_out(self, weights: Sequence[Any]) -> list[tuple[Optimizer, list[int]]]:
        found: dict[Optimizer, list[int]] = {}
        for i, weight in enumerate(weights):
            found.setdefault(self._optimizer_of(weight), []).append(i)
        return list(found.items())
