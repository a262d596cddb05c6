"""Optimizers: how a weight moves, given its gradient.

    coefficients(step)                     the numbers that change from step to step, on the host, in double precision
    define(xp, coefficients, w, g, *slots) one weight's update; every operation is element by element

``slots`` names what is kept for each weight between steps; all start at zero. Since updates are element by element, a
backend may update any concatenation of weights at once.
"""

from __future__ import annotations

import math
from typing import Any

from layerhub.spec.base import Kind, Spec, keyword, rule
from layerhub.spec.domains import NonNegative, Positive, Share

optimizers = Kind("optimizer")


class Optimizer(Spec, abstract=True):
    """A rule for training steps.

    learning_rate: may be set at any time; it acts from the next step on.
    weight_decay: the share of a weight, times the learning rate, that is taken away at each step, before the update.
    clipnorm, clipvalue, global_clipnorm: bounds on each gradient's norm, each element, the norm of all gradients.
    """

    kind = optimizers
    mutable = ("learning_rate",)

    weight_decay: NonNegative | None = keyword(default=None, kw_only=True)
    clipnorm: Positive | None = keyword(default=None, kw_only=True)
    clipvalue: Positive | None = keyword(default=None, kw_only=True)
    global_clipnorm: Positive | None = keyword(default=None, kw_only=True)
    name: str | None = keyword(default=None, kw_only=True)

    learning_rate: NonNegative

    @rule
    def c1_one_way_of_clipping(self):
        return sum(bound is not None for bound in (self.clipnorm, self.clipvalue, self.global_clipnorm)) <= 1

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of what is kept for each weight."""
        return ()

    def coefficients(self, step: int) -> tuple[float, ...]:
        """The numbers of step ``step`` (the first is 1); the first of them is the learning rate."""
        return (self.learning_rate,)

    def define(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        """The new weight, then its new slots."""
        raise NotImplementedError

    def update(self, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        """Weight decay, then the definition."""
        if self.weight_decay:
            w = w - w * (self.weight_decay * coefficients[0])
        return self.define(xp, coefficients, w, g, *slots)

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


class SGD(Optimizer):
    """w - lr g; with momentum v: v = momentum v - lr g, w + v (nesterov: w + momentum v - lr g).

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.
    """

    learning_rate: NonNegative = 0.01
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

    learning_rate: NonNegative = 0.001
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

    learning_rate: NonNegative = 0.001
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: Positive = 1e-7
    amsgrad: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum", "velocity", *(["velocity_hat"] if self.amsgrad else []))

    def coefficients(self, step: int) -> tuple[float, ...]:
        corrected = math.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step) if self.beta_1 < 1 else 0.0
        return self.learning_rate, self.learning_rate * corrected

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

    weight_decay: NonNegative | None = 0.004
