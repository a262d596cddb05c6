"""Activations, in few passes over tiles that stay in the cache.

Each is a function that fills an array: ``value(out, x)``, and for the gradient ``slope(out, x or y, dy)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from layerhub.kernels import Kernel, KernelSet
from layerhub.namespace import Namespace
from layerhub_numpy.tiles import column_sums, scratch, shares, spans

kernels = KernelSet()

TILE = 1 << 15


def flat(x: np.ndarray) -> np.ndarray | None:
    """All elements as a view along one axis, in the order of memory; None where they do not lie without gaps."""
    if not x.flags.c_contiguous:
        x = x.transpose(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))
    return x.reshape(-1) if x.flags.c_contiguous else None


def tiled(fill: Callable[..., None], passes: int, first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """A new array like the first given one, which ``fill(out, first, *others)`` fills, tile by tile.

    passes: how often ``fill`` goes over a tile, a pass through exp counting as several.
    """
    out = np.empty_like(first)
    arrays = (first, *others)
    if out.size <= TILE or any(array.strides != out.strides for array in arrays) or flat(out) is None:
        fill(out, *arrays)
        return out
    lines = [flat(array) for array in (out, *arrays)]

    def share(start: int, stop: int) -> None:
        for begin, end in spans(start, stop, TILE):
            fill(*(line[begin:end] for line in lines))

    shares(share, out.size, passes * out.size)
    return out


def scratch_like(x: np.ndarray, name: str, dtype: Any = None) -> np.ndarray:
    """Scratch memory for something of a tile's shape."""
    return scratch(name, x.shape, dtype or x.dtype)


def elementwise(name: str, passes: int, value: Callable, slope: Callable, of: str = "x", **options: Any) -> Kernel:
    """Registers an activation that acts on each element.

    value(activation, out, x) and slope(activation, out, x or y, dy) fill ``out``; of: which of x, y the slope takes.
    """

    @kernels.register(name, kind="activation", **options)
    def activate(activation, x):
        # An exponential that overflows stands below a fraction bar here.
        with np.errstate(over="ignore"):
            return tiled(lambda *arrays: value(activation, *arrays), passes, x)

    @activate.vjp
    def activate_vjp(activation, saved, cotangents):
        known = saved[1] if of == "y" else saved[0][0]
        with np.errstate(over="ignore"):
            return (tiled(lambda *arrays: slope(activation, *arrays), passes, known, cotangents[0]),)

    return activate


# Rectifiers

_zeros: dict[Any, np.ndarray] = {}


def positive_part(x: np.ndarray, out: np.ndarray) -> None:
    """max(x, 0). numpy's maximum of an array and a number takes three times as long as that of two arrays."""
    zeros = _zeros.get(x.dtype)
    if zeros is None:
        zeros = _zeros[x.dtype] = np.zeros(TILE, x.dtype)
    np.maximum(x, zeros[: x.size] if x.ndim == 1 and x.size <= TILE else 0, out=out)


def _relu(activation, out, x):
    positive_part(x, out)
    if activation.max_value is not None:
        np.minimum(out, activation.max_value, out=out)


def _relu_slope(activation, out, y, dy):
    np.multiply(dy, y > 0, out=out)
    if activation.max_value is not None:
        out *= y < activation.max_value


elementwise("relu", 1, _relu, _relu_slope, of="y", when=lambda relu: not relu.negative_slope and not relu.threshold)


def _relu6(activation, out, x):
    positive_part(x, out)
    np.minimum(out, 6, out=out)


def _relu6_slope(activation, out, y, dy):
    np.multiply(dy, y > 0, out=out)
    out *= y < 6


elementwise("relu6", 2, _relu6, _relu6_slope, of="y")


def _leaky_relu(activation, out, x):
    np.multiply(x, activation.negative_slope, out=out)
    np.maximum(x, out, out=out)


def _leaky_relu_slope(activation, out, x, dy):
    slopes = np.array([activation.negative_slope, 1], x.dtype)
    np.take(slopes, (x > 0).view(np.int8), out=out, mode="clip")
    out *= dy


# The larger of x and slope * x is the right one for these slopes only; 0 * inf is NaN.
elementwise("leaky_relu", 4, _leaky_relu, _leaky_relu_slope, when=lambda leaky: 0 < leaky.negative_slope <= 1)


def _elu(activation, out, x, alpha=None):
    positive = scratch_like(x, "positive")
    positive_part(x, positive)
    np.minimum(x, 0, out=out)
    np.expm1(out, out=out)
    out *= activation.alpha if alpha is None else alpha
    out += positive


def _elu_slope(activation, out, x, dy, alpha=None):
    np.minimum(x, 0, out=out)
    np.exp(out, out=out)
    out *= activation.alpha if alpha is None else alpha
    out *= x <= 0
    out += x > 0
    out *= dy


elementwise("elu", 8, _elu, _elu_slope)

SCALE, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def _selu(activation, out, x):
    _elu(activation, out, x, ALPHA)
    out *= SCALE


def _selu_slope(activation, out, x, dy):
    _elu_slope(activation, out, x, dy, ALPHA)
    out *= SCALE


elementwise("selu", 8, _selu, _selu_slope)


# Sigmoids


def sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    """1 / (1 + exp(-x)): where the exponential overflows, the result is 0, as it should be."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    np.divide(1, out, out=out)


def _both_sides(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """sigmoid(x) into ``out``; returns sigmoid(-x). Neither is 1 minus the other, so that both tails are accurate."""
    decay = scratch_like(x, "decay")
    np.negative(x, out=decay)
    np.exp(decay, out=decay)
    np.minimum(decay, np.finfo(x.dtype).max, out=decay)
    np.add(decay, 1, out=out)
    np.divide(1, out, out=out)
    decay *= out
    return decay


def _sigmoid_slope(activation, out, x, dy):
    out *= _both_sides(x, out)
    out *= dy


elementwise("sigmoid", 6, lambda activation, out, x: sigmoid(x, out), _sigmoid_slope)


def _silu(activation, out, x):
    sigmoid(x, out)
    out *= x


def _silu_slope(activation, out, x, dy):
    # s(x) + x s(x) s(-x)
    other = _both_sides(x, out)
    other *= x
    other += 1
    out *= other
    out *= dy


elementwise("silu", 7, _silu, _silu_slope)


def _tanh_slope(activation, out, y, dy):
    # (1 - y)(1 + y) keeps more digits than 1 - y**2.
    above = scratch_like(y, "above")
    np.add(y, 1, out=above)
    np.subtract(1, y, out=out)
    out *= above
    out *= dy


elementwise("tanh", 5, lambda activation, out, x: np.tanh(x, out=out), _tanh_slope, of="y")


def _softplus(activation, out, x):
    positive = scratch_like(x, "positive")
    positive_part(x, positive)
    np.abs(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    out += positive


def _softplus_slope(activation, out, x, dy):
    sigmoid(x, out)
    out *= dy


elementwise("softplus", 10, _softplus, _softplus_slope)


# gelu

XP = Namespace(np)


def _gelu(activation, out, x):
    np.multiply(x, math.sqrt(0.5), out=out)
    out[...] = XP.erf(out)
    out += 1
    out *= x
    out *= 0.5


def _gelu_slope(activation, out, x, dy):
    # Phi(x) + x phi(x)
    density = scratch_like(x, "density")
    np.multiply(x, x, out=density)
    density *= -0.5
    np.exp(density, out=density)
    density *= x
    density *= 1 / math.sqrt(2 * math.pi)
    np.multiply(x, math.sqrt(0.5), out=out)
    out[...] = XP.erf(out)
    out += 1
    out *= 0.5
    out += density
    out *= dy


elementwise("gelu", 40, _gelu, _gelu_slope, when=lambda gelu: not gelu.approximate)


# Along an axis


def softmax_rows(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """exp(x - max) into ``out``, whose rows are then to be divided by the sums that are returned; out may be x."""
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    return out.dot(np.ones(out.shape[1], out.dtype))[:, None]
