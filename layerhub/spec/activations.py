"""Activations: functions of one array, named as everyone writes them (``activation="relu"``).

Where a formula has a kink, ``where`` names the side that the point itself belongs to, so that every backend
differentiates it alike: relu'(0) = 0. Conditions are such that NaN, for which none holds, stays NaN. Exponentials are
only taken of what is not positive, so that nothing overflows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from layerhub.errors import ParameterError, ShapeError
from layerhub.spec.axes import Shape
from layerhub.spec.base import Kind, ValueSpec, serialize
from layerhub.spec.domains import Axis, Domain, Function, NonNegative, Positive
from layerhub.spec.halves import as_type, in_single

activations = Kind("activation")


class Activation(ValueSpec, abstract=True):
    """A function of one array, which keeps its shape unless ``keeps_shape`` is False."""

    kind = activations
    keeps_shape: ClassVar[bool] = True

    def define(self, xp: Any, x: Any) -> Any:
        """The value for ``x``, by array functions of ``xp``."""
        raise NotImplementedError

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of the value for an array of this shape."""
        return shape

    def __call__(self, xp: Any, x: Any) -> Any:
        return self.define(xp, x)


def _accept(value: Any, owner: Any) -> Activation:
    if value is None:
        return linear()
    if callable(value) and not isinstance(value, (Activation, type)):
        return custom(value)
    return activations.get(value)


def _accept_shape_keeping(value: Any, owner: Any) -> Activation:
    activation = _accept(value, owner)
    if not activation.keeps_shape:
        raise ParameterError(f"{type(activation).__name__} changes the shape; put it into a layer Activation")
    return activation


def _encode(activation: Activation) -> Any:
    if isinstance(activation, custom):
        return getattr(activation.function, "__name__", repr(activation.function))
    plain = all(getattr(activation, name) == p.default for name, p in activation.parameters.items())
    return type(activation).__name__ if plain else serialize(activation)


_ANY = Domain(
    "an activation: a name, a function written with layerhub.ops, or a config",
    _accept,
    encode=_encode,
    valid=("linear", "relu", "tanh", "sigmoid"),
    invalid=("no_such_name", 3),
)
AnyActivation = Annotated[Any, _ANY]
ActivationLike = Annotated[Any, replace(_ANY, accept=_accept_shape_keeping)]
"""The activation of a layer's own output or gates, which must keep the shape."""


class custom(Activation):
    """A user's own function, written with ``layerhub.ops``."""

    delegates = True

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


class celu(Activation):
    """x where x > 0, else alpha * (exp(x / alpha) - 1). Source: Barron 2017, arXiv:1704.07483."""

    alpha: Positive = 1.0

    def define(self, xp: Any, x: Any) -> Any:
        return xp.where(x > 0, x, self.alpha * xp.expm1(_not_positive(xp, x) / self.alpha))


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


class hard_silu(Activation):
    """x * hard_sigmoid(x). Source: Howard et al. 2019, arXiv:1905.02244 (hard swish)."""

    aliases = ("hard_swish",)

    def define(self, xp: Any, x: Any) -> Any:
        return x * hard_sigmoid()(xp, x)


class hard_tanh(Activation):
    """clip(x, -1, 1)"""

    def define(self, xp: Any, x: Any) -> Any:
        return _clip(xp, x, -1.0, 1.0)


class sparse_sigmoid(Activation):
    """clip((x + 1) / 2, 0, 1). Source: Martins & Astudillo 2016, arXiv:1602.02068, for two classes."""

    def define(self, xp: Any, x: Any) -> Any:
        return 0.5 * (_clip(xp, x, -1.0, 1.0) + 1)


class sparse_plus(Activation):
    """The integral of sparse_sigmoid: 0 where x <= -1, x where x >= 1, (x + 1)**2 / 4 between."""

    def define(self, xp: Any, x: Any) -> Any:
        up = _clip(xp, x, -1.0, 1.0) + 1
        return xp.where(x >= 1, x, 0.25 * (up * up))


class tanh(Activation):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))"""

    def define(self, xp: Any, x: Any) -> Any:
        return xp.tanh(x)


class tanh_shrink(Activation):
    """x - tanh(x)"""

    def define(self, xp: Any, x: Any) -> Any:
        return x - xp.tanh(x)


class hard_shrink(Activation):
    """x where |x| > threshold, else 0."""

    threshold: NonNegative = 0.5

    def define(self, xp: Any, x: Any) -> Any:
        return xp.where(xp.abs(x) <= self.threshold, xp.zeros_like(x), x)


class soft_shrink(Activation):
    """x moved towards 0 by ``threshold``, and 0 where |x| <= threshold."""

    threshold: NonNegative = 0.5

    def define(self, xp: Any, x: Any) -> Any:
        nearer = xp.where(x >= 0, x - self.threshold, x + self.threshold)
        return xp.where(xp.abs(x) <= self.threshold, xp.zeros_like(x), nearer)


class threshold(Activation):
    """x where x > threshold, else default_value."""

    threshold: float
    default_value: float

    def define(self, xp: Any, x: Any) -> Any:
        return xp.where(x <= self.threshold, xp.full_like(x, self.default_value), x)


class softmax(Activation):
    """exp(x) / sum(exp(x)) along ``axis``."""

    axis: Axis = -1

    def define(self, xp: Any, x: Any) -> Any:
        (wide,) = in_single(xp, x)
        odds = xp.exp(wide - xp.stop_gradient(xp.max(wide, axis=self.axis, keepdims=True)))
        return as_type(xp, odds / xp.sum(odds, axis=self.axis, keepdims=True), x.dtype)


class log_softmax(Activation):
    """x - log(sum(exp(x))) along ``axis``."""

    axis: Axis = -1

    def define(self, xp: Any, x: Any) -> Any:
        (wide,) = in_single(xp, x)
        centred = wide - xp.stop_gradient(xp.max(wide, axis=self.axis, keepdims=True))
        return as_type(xp, centred - xp.log(xp.sum(xp.exp(centred), axis=self.axis, keepdims=True)), x.dtype)


class sparsemax(Activation):
    """The nearest point to x, along ``axis``, on the simplex: max(x - t, 0), with t such that it sums to 1.

    An element is outside of the support where the others exceed it by 1 or more, all taken together.
    Source: Martins & Astudillo 2016, arXiv:1602.02068, proposition 1.
    """

    axis: int = -1

    def define(self, xp: Any, x: Any) -> Any:
        axis = self.axis % x.ndim
        last = (*(i for i in range(x.ndim) if i != axis), axis)
        z = xp.permute_dims(x - xp.stop_gradient(xp.max(x, axis=axis, keepdims=True)), last)
        # What is more than 1 below the largest is outside, however far; so the differences stay finite.
        z = xp.where(z <= -2, xp.full_like(z, -2.0), z)
        away = xp.expand_dims(z, axis=-2) - xp.expand_dims(z, axis=-1)
        outside = xp.sum(xp.where(away <= 0, xp.zeros_like(away), away), axis=-1) >= 1
        size = xp.sum(xp.where(outside, xp.zeros_like(z), xp.ones_like(z)), axis=-1, keepdims=True)
        t = (xp.sum(xp.where(outside, xp.zeros_like(z), z), axis=-1, keepdims=True) - 1) / size
        y = xp.where(z <= t, xp.zeros_like(z), z - t)
        return xp.permute_dims(y, tuple(last.index(i) for i in range(x.ndim)))


class softplus(Activation):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))"""

    def define(self, xp: Any, x: Any) -> Any:
        decay = xp.exp(xp.where(x >= 0, -x, x))
        return xp.where(x >= 0, x, xp.zeros_like(x)) + xp.log1p(decay)


class log_sigmoid(Activation):
    """log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|))"""

    def define(self, xp: Any, x: Any) -> Any:
        decay = xp.exp(xp.where(x > 0, -x, x))
        return _not_positive(xp, x) - xp.log1p(decay)


class squareplus(Activation):
    """(x + sqrt(x**2 + b)) / 2; where x < 0 as b / 2 / (sqrt(x**2 + b) - x), which cancels nothing.

    Source: Barron 2021, arXiv:2112.11687.
    """

    b: NonNegative = 4.0

    def define(self, xp: Any, x: Any) -> Any:
        root = xp.sqrt(x * x + self.b)
        below = xp.where(x >= 0, xp.ones_like(x), root - x)
        return xp.where(x >= 0, 0.5 * (x + root), 0.5 * self.b / below)


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


class glu(Activation):
    """a * sigmoid(b), a and b being the halves of x along ``axis``. Source: Dauphin et al. 2017, arXiv:1612.08083."""

    axis: int = -1

    keeps_shape = False

    def output_shape(self, shape: Shape) -> Shape:
        if not -len(shape) <= self.axis < len(shape):
            raise ShapeError(f"{self!r}: x has shape {shape}, and no axis {self.axis}")
        axis = self.axis % len(shape)
        size = shape[axis]
        if size is not None and size % 2:
            raise ShapeError(f"{self!r}: x has shape {shape}; its size along axis {self.axis} must be even")
        return (*shape[:axis], None if size is None else size // 2, *shape[axis + 1 :])

    def define(self, xp: Any, x: Any) -> Any:
        axis = self.axis % x.ndim
        half = self.output_shape(tuple(x.shape))[axis]
        before = (slice(None),) * axis
        a, b = x[(*before, slice(0, half), ...)], x[(*before, slice(half, 2 * half), ...)]
        return a * sigmoid()(xp, b)


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


def _clip(xp: Any, x: Any, low: float, high: float) -> Any:
    """x between two bounds, themselves included: there nothing flows back."""
    x = xp.where(x <= low, xp.full_like(x, low), x)
    return xp.where(x >= high, xp.full_like(x, high), x)
