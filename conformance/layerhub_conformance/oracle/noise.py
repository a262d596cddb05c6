"""GaussianNoise, GaussianDropout, AlphaDropout, SpatialDropout; all of them the identity when not training."""

import math

from .core import dropout
from .nested import at, build, shape
from .registry import Outcome, oracle

SELU_LIMIT = -1.7580993408473766  # -scale alpha of selu


def normal(bits, sizes):
    """Standard normal numbers: sqrt(-2 log u) cos(2 pi v), u and v the middles of 2^32 cells of (0, 1).

    Box & Muller 1958, doi:10.1214/aoms/1177706645.
    """
    first, second = bits(sizes), bits(sizes, 1)

    def number(index):
        u, v = ((at(words, index) + 0.5) / 2**32 for words in (first, second))
        return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)

    return build(sizes, number)


@oracle("GaussianNoise")
def gaussian_noise(params, inputs, weights, *, training=False, bits=None, **_):
    """x + stddev z, z standard normal."""
    (x,) = inputs
    if not training or params["stddev"] == 0:
        return Outcome([x])
    z = normal(bits, shape(x))
    return Outcome([build(shape(x), lambda index: at(x, index) + params["stddev"] * at(z, index))])


@oracle("GaussianDropout")
def gaussian_dropout(params, inputs, weights, *, training=False, bits=None, **_):
    """x (1 + sqrt(rate / (1 - rate)) z), z standard normal. Srivastava et al. 2014, JMLR 15:1929."""
    (x,) = inputs
    if not training or params["rate"] == 0:
        return Outcome([x])
    z, deviation = normal(bits, shape(x)), math.sqrt(params["rate"] / (1 - params["rate"]))
    return Outcome([build(shape(x), lambda index: at(x, index) * (1 + deviation * at(z, index)))])


@oracle("AlphaDropout")
def alpha_dropout(params, inputs, weights, *, training=False, bits=None, **_):
    """a k + b, where k is x if it is kept, else selu's limit s; a and b such that mean 0 and variance 1 stay so.

    With the share q = 1 - rate that is kept: a = (q (1 + rate s^2))^-1/2, b = -a rate s; at rate 1 their limit, 0.
    Klambauer et al. 2017, arXiv:1706.02515.
    """
    (x,) = inputs
    rate = params["rate"]
    if not training or rate == 0:
        return Outcome([x])
    sizes = shape(x)
    if rate == 1:
        return Outcome([build(sizes, lambda index: 0.0)])
    noise = [
        size if n is None else n for n, size in zip(params["noise_shape"] or [None] * len(sizes), sizes, strict=True)
    ]
    words = bits(noise)
    a = 1 / math.sqrt((1 - rate) * (1 + rate * SELU_LIMIT**2))
    b = -a * rate * SELU_LIMIT

    def value(index):
        word = at(words, [0 if n == 1 else i for i, n in zip(index, noise, strict=True)])
        return a * (at(x, index) if word >= round(rate * 2**32) else SELU_LIMIT) + b

    return Outcome([build(sizes, value)])


@oracle("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
def spatial_dropout(params, inputs, weights, **keywords):
    """Dropout with one decision for all places of a sample's channel."""
    batch, *rest = shape(inputs[0])
    channel = 0 if params.get("data_format") == "channels_first" else len(rest) - 1
    noise = [size if axis == channel else 1 for axis, size in enumerate(rest)]
    return dropout({**params, "noise_shape": (batch, *noise)}, inputs, weights, **keywords)
