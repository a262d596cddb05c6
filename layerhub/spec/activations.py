"""Activations: functions of one array, named as everyone writes them (``activation="relu"``).

Where a formula has a kink, ``where`` names the side that the point itself belongs to, so that every backend
differentiates it alike: relu'(0) = 0. Conditions are such that NaN, for which none holds, stays NaN. Exponentials are
only taken of what is not positive, so that nothing overflows.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from layerhub.spec.base import Kind, ValueSpec, serialize
from layerhub.spec.domains import Axis, Domain, Function, NonNegative

activations = Kind("activation")


class Activation(ValueSpec, abstract=True):
    """A function of one array that keeps its shape."""

    kind = activations

    def define(self, xp: Any, x: Any) -> Any:
        """The value for ``x``, by array functions of ``xp``."""
        raise NotImplementedError

    def __call__(self, xp: Any, x: Any) -> Any:
        return self.define(xp, x)


def _accept(value: Any, owner: Any) -> Activation:
    if value is None:
        return linear()
    if callable(value) and not isinstance(value, (Activation, type)):
        return custom(value)
    return activations.get(value)


def _encode(activation: Activation) -> Any:
    if isinstance(activation, custom):
        return getattr(activation.function, "__name__", repr(activation.function))
    plain = not activation.parameters or activation == type(activation)()
    return type(activation).__name__ if plain else serialize(activation)


ActivationLike = Annotated[
    Any,
    Domain(
        "an activation: a name, a function written with layerhub.ops, or a config",
        _accept,
        encode=_encode,
        valid=("linear", "relu", "tanh", "sigmoid"),
        invalid=("no_such_name", 3),
    ),
]


class custom(Activation):
    """A user's own function, written with ``layerhub.ops``."""

    function: Function

    def define(self, xp: Any, x: Any) -> Any:
        return self.function(x)


class linear(Activation):
    """x"""

    def define(self, xp: Any, x: Any) -> Any:
        return x


class relu(Activation):
    """min(x, max_value) where x > threshold, else negative_slope * (x - threshold).

    Source: Nair & Hinton, Rectified linear units improve restricted Boltzmann machines, ICML 2010.
    """

    negative_slope: NonNegative = 0.0
    max_value: NonNegative | None = None
    threshold: float = 0.0

    def define(self, xp: Any, x: Any) -> Any:
        above = x if self.max_value is None else xp.where(x >= self.max_value, xp.full_like(x, self.max_value), x)
        below = self.negative_slope * (x - self.threshold) if self.negative_slope else xp.zeros_like(x)
        return xp.where(x <= self.threshold, below, above)


class relu6(Activation):
    """min(max(x, 0), 6). Source: Krizhevsky, Convolutional deep belief networks on CIFAR-10, 2010."""

    def define(self, xp: Any, x: Any) -> Any:
        return relu(max_value=6.0)(xp, x)


class leaky_relu(Activation):
    """x where x > 0, else negative_slope * x. Source: Maas et al., ICML 2013."""

    negative_slope: NonNegative = 0.2

    def define(self, xp: Any, x: Any) -> Any:
        return xp.where(x > 0, x, self.negative_slope * x)


class elu(Activation):
    """x where x > 0, else alpha * (exp(x) - 1). Source: Clevert et al. 2016, arXiv:1511.07289."""

    alpha: float = 1.0

    def define(self, xp: Any, x: Any) -> Any:
        return xp.where(x > 0, x, self.alpha * xp.expm1(_not_positive(xp, x)))


class selu(Activation):
    """scale * elu(x, alpha), with the fixed point at mean 0 and variance 1. Source: Klambauer et al. 2017."""

    def define(self, xp: Any, x: Any) -> Any:
        scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
        return scale * xp.where(x > 0, x, alpha * xp.expm1(_not_positive(xp, x)))


class sigmoid(Activation):
    """1 / (1 + exp(-x)), with full relative accuracy on both sides."""

    def define(self, xp: Any, x: Any) -> Any:
        decay = xp.exp(xp.where(x >= 0, -x, x))
        return xp.where(x >= 0, xp.ones_like(x), decay) / (1 + decay)


class hard_sigmoid(Activation):
    """clip(x / 6 + 1/2, 0, 1), as Keras 3 has it (Keras 1 and 2: clip(0.2 x + 0.5, 0, 1))."""

    def define(self, xp: Any, x: Any) -> Any:
        line = x / 6 + 0.5
        line = xp.where(line <= 0, xp.zeros_like(x), line)
        return xp.where(line >= 1, xp.ones_like(x), line)


class tanh(Activation):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))"""

    def define(self, xp: Any, x: Any) -> Any:
        return xp.tanh(x)


class softmax(Activation):
    """exp(x) / sum(exp(x)) along ``axis``."""

    axis: Axis = -1

    def define(self, xp: Any, x: Any) -> Any:
        odds = xp.exp(x - xp.stop_gradient(xp.max(x, axis=self.axis, keepdims=True)))
        return odds / xp.sum(odds, axis=self.axis, keepdims=True)


class log_softmax(Activation):
    """x - log(sum(exp(x))) along ``axis``."""

    axis: Axis = -1

    def define(self, xp: Any, x: Any) -> Any:
        centred = x - xp.stop_gradient(xp.max(x, axis=self.axis, keepdims=True))
        return centred - xp.log(xp.sum(xp.exp(centred), axis=self.axis, keepdims=True))


class softplus(Activation):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))"""

    def define(self, xp: Any, x: Any) -> Any:
        decay = xp.exp(xp.where(x >= 0, -x, x))
        return xp.where(x >= 0, x, xp.zeros_like(x)) + xp.log1p(decay)


class softsign(Activation):
    """x / (1 + |x|)"""

    def define(self, xp: Any, x: Any) -> Any:
        return x / (1 + xp.where(x >= 0, x, -x))


class exponential(Activation):
    """exp(x)"""

    def define(self, xp: Any, x: Any) -> Any:
        return xp.exp(x)


class silu(Activation):
    """x * sigmoid(x). Source: Elfwing et al. 2018; Ramachandran et al. 2017 (swish)."""

    aliases = ("swish",)

    def define(self, xp: Any, x: Any) -> Any:
        return x * sigmoid()(xp, x)


class gelu(Activation):
    """x * Phi(x), Phi the normal distribution function: by erf, or approximated by tanh.

    Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.
    """

    approximate: bool = False

    def define(self, xp: Any, x: Any) -> Any:
        if self.approximate:
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
            return 0.5 * x * (1 + xp.tanh(inner))
        return 0.5 * x * (1 + xp.erf(x * math.sqrt(0.5)))


class mish(Activation):
    """x * tanh(softplus(x)). Source: Misra 2019, arXiv:1908.08681."""

    def define(self, xp: Any, x: Any) -> Any:
        return x * xp.tanh(softplus()(xp, x))


def _not_positive(xp: Any, x: Any) -> Any:
    """x where it is negative, else 0: so that the branch not taken cannot overflow."""
    return xp.where(x > 0, xp.zeros_like(x), x)
