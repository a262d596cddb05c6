"""Noise in training: added to the input, multiplied with it, or put in its place. Else the input is unchanged.

Random numbers come from the portable stream, so that they are the same on every backend. ``Dropout`` is in ``core``.
"""

from __future__ import annotations

import math
from typing import Any

from layerhub.spec.base import rule
from layerhub.spec.core import Dropout
from layerhub.spec.domains import DataFormat, NonNegative, Rate
from layerhub.spec.halves import as_type, no_half
from layerhub.spec.layer import In, Layer, Out
from layerhub.spec.masks import passes, sizes
from layerhub.spec.random import normal


class Noise(Layer, abstract=True):
    """A layer that is the identity when not training."""

    formerly = {"p": "rate", "sigma": "stddev"}

    x = In("...")
    y = Out("...")
    mask = passes

    def normal(self, xp: Any, x: Any, rng: Any) -> Any:
        """A standard normal number for each element, in the type of the input but no less than float32."""
        shape = sizes(xp, x)
        return normal(xp, xp.random_bits(rng, shape), xp.random_bits(rng.child(1), shape), no_half(xp, x.dtype))


class GaussianNoise(Noise):
    """x + stddev * z in training, z normal with mean 0 and deviation 1.

    seed: draws the noise; without one the model's seed does, with the layer's place in the model.
    """

    stddev: NonNegative
    seed: int | None = None

    def define(self, xp, x, training, rng):
        if not training or self.stddev == 0:
            return x
        return x + as_type(xp, self.stddev * self.normal(xp, x, rng), x.dtype)


class GaussianDropout(Noise):
    """x * (1 + stddev * z) in training, z normal with mean 0 and deviation 1, and stddev**2 = rate / (1 - rate).

    rate: below 1, where the deviation would be infinite.
    seed: draws the noise; without one the model's seed does, with the layer's place in the model.
    Source: Srivastava et al., JMLR 15 (2014) 1929, section 10.
    """

    rate: Rate
    seed: int | None = None

    @rule
    def c1_the_rate_is_below_1(self, rate):
        return rate < 1

    def define(self, xp, x, training, rng):
        if not training or self.rate == 0:
            return x
        stddev = math.sqrt(self.rate / (1 - self.rate))
        return x * as_type(xp, 1 + stddev * self.normal(xp, x, rng), x.dtype)


SATURATION = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717
"""What SELU tends to for large negative inputs: -scale * alpha."""


class AlphaDropout(Dropout):
    """Dropout for SELU networks: in training, a share ``rate`` of the input takes the value that SELU saturates to.

    With s that value, a = ((1 - rate) * (1 + rate * s**2)) ** -0.5 and b = -a * s * rate, the output is a * x + b where
    the input is kept, a * s + b where it is dropped: mean 0 and variance 1 stay so. At rate 1 it is 0.

    noise_shape: the shape of the random choice, broadcast over the input; None stands for the input's size.
    seed: draws it; without one the model's seed does, with the layer's place in the model. An element is dropped when
    its 32 random bits, as an integer, are below rate * 2**32.
    Source: Klambauer et al. 2017, arXiv:1706.02515.
    """

    def define(self, xp, x, training, rng):
        if not training or self.rate == 0:
            return x
        if self.rate == 1:
            return xp.zeros_like(x)
        scale = ((1 - self.rate) * (1 + self.rate * SATURATION**2)) ** -0.5
        shift = -scale * SATURATION * self.rate
        return scale * xp.where(self.kept(xp, x, rng), x, xp.full_like(x, SATURATION)) + shift


class SpatialDropout(Layer, abstract=True):
    """Dropout of whole channels: of each sample, a channel is kept or dropped at all places alike.

    rate: the share that is dropped (not kept).
    seed: draws the mask; without one the model's seed does, with the layer's place in the model.
    Source: Tompson et al. 2015, arXiv:1411.4280.
    """

    formerly = {"p": "rate"}

    x = In("n *space c")

    def compose(self, do, x):
        ones = (1,) * (self.rank or 0)
        noise = (None, None, *ones) if self.data_format == "channels_first" else (None, *ones, None)
        return do(Dropout(self.rate, noise, self.seed, dtype=self.compute_dtype), x)


class SpatialDropout1D(SpatialDropout):
    """Dropout of whole channels of a sequence, (batch, time, channels)."""

    rank = 1
    rate: Rate
    seed: int | None = None
    data_format = "channels_last"


class SpatialDropout2D(SpatialDropout):
    """Dropout of whole channels of images."""

    rank = 2
    rate: Rate
    data_format: DataFormat = None
    seed: int | None = None


class SpatialDropout3D(SpatialDropout2D):
    """Dropout of whole channels of volumes."""

    rank = 3
