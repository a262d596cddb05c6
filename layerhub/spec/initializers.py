"""Initializers: how weights start, from random bits that are the same on every backend.

    define(xp, shape, bits)     bits(shape) gives uniform random integers in [0, 2**32), fresh ones at each call

Fans are those of Keras: of a matrix its two sizes; of a kernel the product of its window with its last two sizes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from layerhub.errors import ShapeError
from layerhub.spec.base import Kind, ValueSpec, keyword
from layerhub.spec.domains import Domain, NonNegative, Positive
from layerhub.spec.random import normal, uniform

initializers = Kind("initializer")

Bits = Callable[[tuple[int, ...]], Any]

InitializerLike = Annotated[Any, initializers.domain(valid=("ones", "random_normal"))]


class Initializer(ValueSpec, abstract=True):
    """A rule for the first values of a weight. Values are float64; the caller rounds them."""

    kind = initializers
    seed: int | None = keyword(default=None, kw_only=True)

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        """The first values of a weight of this shape."""
        raise NotImplementedError


def fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """How many inputs feed one output, and how many outputs one input feeds."""
    if len(shape) < 2:
        size = float(math.prod(shape))
        return size, size
    window = math.prod(shape[:-2])
    return float(window * shape[-2]), float(window * shape[-1])


class Zeros(Initializer):
    """All zero."""

    aliases = ("zero",)

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        return xp.zeros(shape, dtype=xp.float64)


class Ones(Initializer):
    """All one."""

    aliases = ("one",)

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        return xp.ones(shape, dtype=xp.float64)


class Constant(Initializer):
    """All ``value``."""

    value: float = 0.0

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        return xp.full(shape, self.value, dtype=xp.float64)


class RandomUniform(Initializer):
    """Uniform in (minval, maxval)."""

    minval: float = -0.05
    maxval: float = 0.05
    aliases = ("uniform",)

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        return self.minval + (self.maxval - self.minval) * uniform(xp, bits(shape), xp.float64)


class RandomNormal(Initializer):
    """Normal with this mean and standard deviation."""

    mean: float = 0.0
    stddev: NonNegative = 0.05
    aliases = ("normal",)

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        return self.mean + self.stddev * normal(xp, bits(shape), bits(shape), xp.float64)


class TruncatedNormal(Initializer):
    """Normal, cut at two standard deviations of the uncut one; drawn by inverting its distribution function."""

    mean: float = 0.0
    stddev: NonNegative = 0.05

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        # P(|z| < 2) = erf(sqrt 2), so a uniform share of it inverts to exactly the values within the cut.
        share = (2 * uniform(xp, bits(shape), xp.float64) - 1) * math.erf(math.sqrt(2))
        return self.mean + self.stddev * math.sqrt(2) * _inverse_erf(xp, share)


def _inverse_erf(xp: Any, y: Any) -> Any:
    """The inverse of erf for |y| < 0.96, by Newton's method, which converges from below there."""
    x = y * (math.sqrt(math.pi) / 2)
    for _ in range(9):
        x = x - (xp.erf(x) - y) * (math.sqrt(math.pi) / 2) * xp.exp(x * x)
    return x


def _accept_axes(value: Any, owner: Any) -> tuple[int, ...]:
    return tuple(operator.index(axis) for axis in value)


Axes = Annotated[
    tuple[int, ...], Domain("a list of axes", _accept_axes, encode=list, valid=((0,),), invalid=(0, "a", (0.5,)))
]


class Fanned(Initializer, abstract=True):
    """An initializer that depends on how many inputs and outputs a weight has.

    input_axes, output_axes: the axes whose sizes, multiplied, are these numbers; without them see ``fans``.
    """

    input_axes: Axes | None = keyword(default=None, kw_only=True)
    output_axes: Axes | None = keyword(default=None, kw_only=True)

    def fans(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """How many inputs feed one output, and how many outputs one input feeds."""
        if self.input_axes is None or self.output_axes is None:
            return fans(shape)
        fan_in, fan_out = (math.prod(shape[i] for i in axes) for axes in (self.input_axes, self.output_axes))
        return float(fan_in), float(fan_out)


class VarianceScaling(Fanned):
    """Zero mean, variance scale / n, where n is a fan of the weight.

    truncated_normal is cut at two standard deviations after correcting for the cut; untruncated_normal is not cut;
    uniform has limits of sqrt(3 scale / n).
    """

    scale: Positive = 1.0
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in"
    distribution: Literal["truncated_normal", "normal", "untruncated_normal", "uniform"] = "truncated_normal"

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        fan_in, fan_out = self.fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, n)
        start: Initializer
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            start = RandomUniform(-limit, limit)
        elif self.distribution == "untruncated_normal":
            start = RandomNormal(0.0, math.sqrt(variance))
        else:
            # The standard deviation that a standard normal keeps when cut at two.
            start = TruncatedNormal(0.0, math.sqrt(variance) / 0.87962566103423978)
        return start.define(xp, shape, bits)


class Scaled(Fanned, abstract=True):
    """A VarianceScaling that has a name of its own."""

    scaling: ClassVar[VarianceScaling]

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        scaling = self.scaling.replace(input_axes=self.input_axes, output_axes=self.output_axes)
        return scaling.define(xp, shape, bits)


class GlorotUniform(Scaled):
    """Uniform with variance 1 / fan_avg. Source: Glorot & Bengio, AISTATS 2010."""

    scaling = VarianceScaling(1.0, "fan_avg", "uniform")


class GlorotNormal(Scaled):
    """Truncated normal with variance 1 / fan_avg. Source: Glorot & Bengio, AISTATS 2010."""

    scaling = VarianceScaling(1.0, "fan_avg", "truncated_normal")


class HeUniform(Scaled):
    """Uniform with variance 2 / fan_in. Source: He et al. 2015, arXiv:1502.01852."""

    scaling = VarianceScaling(2.0, "fan_in", "uniform")


class HeNormal(Scaled):
    """Truncated normal with variance 2 / fan_in. Source: He et al. 2015, arXiv:1502.01852."""

    scaling = VarianceScaling(2.0, "fan_in", "truncated_normal")


class LecunUniform(Scaled):
    """Uniform with variance 1 / fan_in. Source: LeCun et al., Efficient BackProp, 1998."""

    scaling = VarianceScaling(1.0, "fan_in", "uniform")


class LecunNormal(Scaled):
    """Truncated normal with variance 1 / fan_in. Source: LeCun et al., Efficient BackProp, 1998."""

    scaling = VarianceScaling(1.0, "fan_in", "truncated_normal")


class Orthogonal(Initializer):
    """A (semi-)orthogonal matrix, times ``gain``; higher ranks are flattened to (…, last).

    QR of a normal matrix, signs fixed by the diagonal of R so that it is uniform over orthogonal matrices.
    Source: Saxe et al. 2014, arXiv:1312.6120; Mezzadri 2007, arXiv:math-ph/0609050.
    """

    gain: float = 1.0
    aliases = ("OrthogonalInitializer",)

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal needs a weight with at least two axes, not shape {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = RandomNormal(0.0, 1.0).define(xp, (max(rows, columns), min(rows, columns)), bits)
        q, r = xp.linalg.qr(normal)
        q = q * xp.sign(xp.linalg.diagonal(r))
        if rows < columns:
            q = xp.permute_dims(q, (1, 0))
        return self.gain * xp.reshape(q, shape)


class Identity(Initializer):
    """The identity matrix, times ``gain``."""

    gain: float = 1.0
    aliases = ("IdentityInitializer",)

    def define(self, xp: Any, shape: tuple[int, ...], bits: Bits) -> Any:
        if len(shape) != 2:
            raise ShapeError(f"Identity needs a weight with two axes, not shape {shape}")
        return self.gain * xp.eye(*shape, dtype=xp.float64)
