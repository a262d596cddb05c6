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
from layerhub_numpy.arrays import axis_back, axis_last
from layerhub_numpy.memory import empty, empty_like
from layerhub_numpy.tiles import CACHED, row_sums, scratch, shares, spans

kernels = KernelSet()

TILE = CACHED


def flat(x: np.ndarray) -> np.ndarray:
    """All elements of an array without gaps, as a view along one axis, in the order of memory."""
    if not x.flags.c_contiguous:
        x = x.transpose(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))
    return x.reshape(-1)


def laid_like(out: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A copy of x that lies in memory as ``out`` does."""
    copy = empty_like(out)
    np.copyto(copy, x)
    return copy


def tiled(fill: Callable[..., None], activation: Any, passes: int, *arrays: np.ndarray) -> np.ndarray:
    """A new array like the first given one, which ``fill(activation, out, *arrays)`` fills, tile by tile.

    passes: how often ``fill`` goes over a tile, a pass through exp counting as several.
    """
    out = empty_like(arrays[0])
    if out.size <= TILE:
        fill(activation, out, *arrays)
        return out
    lines = [flat(array if array.strides == out.strides else laid_like(out, array)) for array in (out, *arrays)]

    def share(start: int, stop: int) -> None:
        for begin, end in spans(start, stop, TILE):
            fill(activation, *(line[begin:end] for line in lines))

    shares(share, out.size, passes * out.size)
    return out


def scratch_like(x: np.ndarray, name: str) -> np.ndarray:
    """Scratch memory for something of a tile's shape."""
    return scratch(name, x.shape, x.dtype)


def elementwise(name: str, passes: int, value: Callable, slope: Callable, of: str = "x", when: Any = None) -> Kernel:
    """Registers an activation that acts on each element.

    value(activation, out, x) and slope(activation, out, x or y, dy) fill ``out``; of: which of x, y the slope takes.
    """

    @kernels.register(name, kind="activation", when=when)
    def activate(activation, x):
        return tiled(value, activation, passes, x)

    @activate.vjp
    def activate_vjp(activation, saved, cotangents):
        known = saved[1] if of == "y" else saved[0][0]
        return (tiled(slope, activation, passes, known, cotangents[0]),)

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


@kernels.register("relu", kind="activation", when=lambda relu: not relu.negative_slope and not relu.threshold)
def relu(activation, x):
    if x.size <= TILE and activation.max_value is None:
        return np.maximum(x, 0)
    return tiled(_relu, activation, 1, x)


def _relu_slope(activation, out, y, dy):
    np.multiply(dy, y > 0, out=out)
    if activation.max_value is not None:
        out *= y < activation.max_value


@relu.vjp
def relu_vjp(activation, saved, cotangents):
    return (tiled(_relu_slope, activation, 2, saved[1], cotangents[0]),)


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


def _celu(activation, out, x):
    positive = scratch_like(x, "positive")
    positive_part(x, positive)
    np.minimum(x, 0, out=out)
    out /= activation.alpha
    np.expm1(out, out=out)
    out *= activation.alpha
    out += positive


def _celu_slope(activation, out, x, dy):
    # exp(0) is 1, which is the slope above.
    np.minimum(x, 0, out=out)
    out /= activation.alpha
    np.exp(out, out=out)
    out *= dy


elementwise("celu", 8, _celu, _celu_slope)


def _hard_tanh_slope(activation, out, y, dy):
    np.abs(y, out=out)
    np.multiply(dy, out < 1, out=out)


elementwise("hard_tanh", 2, lambda activation, out, x: np.clip(x, -1, 1, out=out), _hard_tanh_slope, of="y")


def _hard_sigmoid(activation, out, x):
    np.divide(x, 6, out=out)
    out += 0.5
    np.clip(out, 0, 1, out=out)


def _hard_sigmoid_slope(activation, out, y, dy):
    np.multiply(dy, (y > 0) & (y < 1), out=out)
    out /= 6


elementwise("hard_sigmoid", 4, _hard_sigmoid, _hard_sigmoid_slope, of="y")


def _hard_silu(activation, out, x):
    _hard_sigmoid(activation, out, x)
    out *= x


def _hard_silu_slope(activation, out, x, dy):
    # s(x) + x s'(x)
    bend = scratch_like(x, "bend")
    _hard_sigmoid(activation, out, x)
    np.multiply(x, (out > 0) & (out < 1), out=bend)
    bend /= 6
    out += bend
    out *= dy


elementwise("hard_silu", 5, _hard_silu, _hard_silu_slope)


# Shrinking


def beyond(x: np.ndarray, limit: float) -> np.ndarray:
    """Where |x| is not at most the limit: true for NaN, too."""
    return ~(np.abs(x, out=scratch_like(x, "away")) <= limit)


def _hard_shrink(activation, out, x):
    np.multiply(x, beyond(x, activation.threshold), out=out)


def _soft_shrink(activation, out, x):
    # clip leaves NaN alone, so that it comes out here as well.
    np.clip(x, -activation.threshold, activation.threshold, out=out)
    np.subtract(x, out, out=out)


def _shrink_slope(activation, out, x, dy):
    np.multiply(dy, beyond(x, activation.threshold), out=out)


elementwise("hard_shrink", 3, _hard_shrink, _shrink_slope)
elementwise("soft_shrink", 2, _soft_shrink, _shrink_slope)


def _tanh_shrink(activation, out, x):
    np.tanh(x, out=out)
    np.subtract(x, out, out=out)


def _tanh_shrink_slope(activation, out, x, dy):
    np.tanh(x, out=out)
    out *= out
    out *= dy


elementwise("tanh_shrink", 5, _tanh_shrink, _tanh_shrink_slope)


# Sigmoids. An exponential that overflows stands below a fraction bar, where it gives the 0 that it should.


def sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    """1 / (1 + exp(-x)), accurate in both tails. out may be x."""
    with np.errstate(over="ignore"):
        np.negative(x, out=out)
        np.exp(out, out=out)
    out += 1
    np.divide(1, out, out=out)


def sigmoid_slope(x: np.ndarray, out: np.ndarray) -> None:
    """e / (1 + e)**2 with e = exp(-|x|): the derivative, accurate in both tails. out may be x."""
    part = scratch_like(x, "part")
    np.abs(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=part)
    out /= part
    out /= part


def _sigmoid_slope(activation, out, x, dy):
    sigmoid_slope(x, out)
    out *= dy


elementwise("sigmoid", 6, lambda activation, out, x: sigmoid(x, out), _sigmoid_slope)


def _silu(activation, out, x):
    sigmoid(x, out)
    out *= x


def _silu_slope(activation, out, x, dy):
    bend = scratch_like(x, "bend")
    sigmoid_slope(x, bend)
    bend *= x
    sigmoid(x, out)
    out += bend
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


def _log_sigmoid(activation, out, x):
    np.abs(x, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    np.subtract(np.minimum(x, 0, out=scratch_like(x, "below")), out, out=out)


def _log_sigmoid_slope(activation, out, x, dy):
    np.negative(x, out=out)
    sigmoid(out, out)
    out *= dy


elementwise("log_sigmoid", 10, _log_sigmoid, _log_sigmoid_slope)


# gelu

XP = Namespace(np)
ABOVE = (1.12837915, 0.190773672, 0.0527887388, 0.00377911919, 0.000284788759, 2.04193384e-06)
BELOW = (1.0, 0.502401487, 0.11425314, 0.0149964607, 0.0011650775, 3.80026517e-05)
"""Coefficients of powers of x**2: erf(x) is x * above / below for |x| <= 3.93, to 2e-8 of its value."""


def erf(x: np.ndarray, out: np.ndarray) -> None:
    """The error function; out may be x. In float32 one quotient of polynomials is as accurate as the type."""
    if x.dtype != np.float32:
        out[...] = XP.erf(x)
        return
    # Beyond 3.93, erf is 1 to every digit of float32.
    np.clip(x, -3.93, 3.93, out=out)
    square, below = scratch_like(x, "square"), scratch_like(x, "below")
    np.multiply(out, out, out=square)
    above = scratch_like(x, "above")
    for coefficients, value in ((ABOVE, above), (BELOW, below)):
        np.multiply(square, coefficients[-1], out=value)
        for coefficient in coefficients[-2:0:-1]:
            value += coefficient
            value *= square
        value += coefficients[0]
    out *= above
    out /= below


def _gelu(activation, out, x):
    np.multiply(x, math.sqrt(0.5), out=out)
    erf(out, out)
    out += 1
    out *= 0.5
    out *= x


def _gelu_slope(activation, out, x, dy):
    # Phi(x) + x phi(x)
    density = scratch_like(x, "density")
    np.multiply(x, x, out=density)
    density *= -0.5
    np.exp(density, out=density)
    density *= x
    density *= 1 / math.sqrt(2 * math.pi)
    np.multiply(x, math.sqrt(0.5), out=out)
    erf(out, out)
    out += 1
    out *= 0.5
    out += density
    out *= dy


elementwise("gelu", 40, _gelu, _gelu_slope, when=lambda gelu: not gelu.approximate)


# Along an axis


def rows_of(x: np.ndarray, axis: int) -> np.ndarray:
    """The rows along ``axis``, as a matrix: a view where it is the last one."""
    x = axis_last(x, axis)
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def back(rows: np.ndarray, like: np.ndarray, axis: int) -> np.ndarray:
    """The array whose ``rows_of`` these are."""
    return axis_back(rows.reshape(axis_last(like, axis).shape), axis)


def along(fill: Callable[..., None], axis: int, passes: int, *arrays: np.ndarray) -> np.ndarray:
    """A new array like the first given one; ``fill(out, *arrays)`` gets blocks of rows along ``axis``."""
    matrices = [rows_of(array, axis) for array in arrays]
    out = empty(matrices[0].shape, matrices[0].dtype)

    def share(start: int, stop: int) -> None:
        for begin, end in spans(start, stop, TILE // max(out.shape[1], 1)):
            fill(out[begin:end], *(matrix[begin:end] for matrix in matrices))

    shares(share, len(out), passes * out.size)
    return back(out, arrays[0], axis)


def softmax_rows(out: np.ndarray, x: np.ndarray) -> None:
    """exp(x) / sum(exp(x)), row by row; out may be x."""
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= row_sums(out)[:, None]


def one_axis(activation: Any) -> bool:
    """Whether the axis is a single one."""
    return isinstance(activation.axis, int)


@kernels.register("softmax", kind="activation", when=one_axis)
def softmax(activation, x):
    return along(softmax_rows, activation.axis, 10, x)


@softmax.vjp
def softmax_vjp(activation, saved, cotangents):
    def slope(out, y, dy):
        np.multiply(y, dy, out=out)
        inner = row_sums(out)[:, None]
        np.subtract(dy, inner, out=out)
        out *= y

    return (along(slope, activation.axis, 5, saved[1], cotangents[0]),)


@kernels.register("log_softmax", kind="activation", when=one_axis)
def log_softmax(activation, x):
    def value(out, x):
        np.subtract(x, x.max(axis=1, keepdims=True), out=out)
        odds = np.exp(out, out=scratch_like(out, "odds"))
        out -= np.log(row_sums(odds))[:, None]

    return along(value, activation.axis, 10, x)


@log_softmax.vjp
def log_softmax_vjp(activation, saved, cotangents):
    def slope(out, y, dy):
        np.exp(y, out=out)
        out *= row_sums(dy)[:, None]
        np.subtract(dy, out, out=out)

    return (along(slope, activation.axis, 10, saved[1], cotangents[0]),)


def sparsemax_rows(out: np.ndarray, x: np.ndarray) -> None:
    """The rows' projections onto the simplex: the support is the longest run of the sorted row that stays positive."""
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    # Infinitely small elements are outside, and must not reach the sums.
    falling = -np.sort(-np.maximum(out, -2), axis=1)
    totals = np.cumsum(falling, axis=1)
    totals -= 1
    falling *= np.arange(1, x.shape[1] + 1, dtype=x.dtype)
    size = np.maximum((falling > totals).sum(axis=1, keepdims=True), 1)
    out -= np.take_along_axis(totals, size - 1, axis=1) / size.astype(x.dtype)
    np.maximum(out, 0, out=out)


@kernels.register("sparsemax", kind="activation")
def sparsemax(activation, x):
    return along(sparsemax_rows, activation.axis, 40, x)


@sparsemax.vjp
def sparsemax_vjp(activation, saved, cotangents):
    def slope(out, y, dy):
        inside = y > 0
        np.multiply(dy, inside, out=out)
        out -= row_sums(out)[:, None] / inside.sum(axis=1, keepdims=True).astype(out.dtype)
        out *= inside

    return (along(slope, activation.axis, 6, saved[1], cotangents[0]),)
