"""Normalizations, in as few passes over memory as two-pass moments allow."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from layerhub.kernels import KernelSet
from layerhub.spec import Result
from layerhub_numpy.arrays import axis_back, axis_last
from layerhub_numpy.memory import empty
from layerhub_numpy.tiles import CACHED, column_sums, row_sums, scratch, shares, spans

kernels = KernelSet()


class Channels(NamedTuple):
    """How an array is seen as a matrix of one row for each place and one column for each channel.

    channels: how many there are. repeat: how many times over the columns hold them, since long rows make fast loops.
    """

    axis: int
    channels: int
    repeat: int

    @classmethod
    def of(cls, layer, x: np.ndarray) -> Channels:
        channels = x.shape[layer.axis]
        places = x.size // channels if channels else 0
        # The largest power of two that divides the number of places, as far as rows stay short enough; of few places
        # there are not enough rows to gain anything.
        repeat = 1 if x.size <= channels * 64 else places & -places
        while repeat * channels > 2048 and repeat > 1:
            repeat //= 2
        return cls(layer.axis, channels, max(repeat, 1))

    def rows(self, x: np.ndarray) -> np.ndarray:
        """The matrix: a view where the channels lie last in memory, also under another order of axes."""
        length = self.channels * self.repeat
        return axis_last(x, self.axis).reshape(x.size // length if length else 0, length)

    def back(self, rows: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The array whose rows these are."""
        return axis_back(rows.reshape(axis_last(like, self.axis).shape), self.axis)

    def wide(self, vector: np.ndarray) -> np.ndarray:
        """A value for each channel as a row."""
        return vector if self.repeat == 1 else np.tile(vector, self.repeat)

    def total(self, sums: list[np.ndarray]) -> np.ndarray:
        """From sums over rows, by share of the work, the sum for each channel."""
        whole = sums[0] if len(sums) == 1 else sum(sums)
        return whole if self.repeat == 1 else whole.reshape(self.repeat, self.channels).sum(axis=0)


def by_blocks(function, rows: np.ndarray, passes: int) -> list:
    """function(start, stop, block), for which ``block`` is scratch memory for rows[start:stop], over all rows.

    Returns, by share of the work, the sums of what it returns.
    """
    if rows.size <= CACHED:
        return [function(0, len(rows), scratch("block", rows.shape, rows.dtype))]

    def run(start: int, stop: int):
        total = 0
        for begin, end in spans(start, stop, CACHED // max(rows.shape[1], 1)):
            found = function(begin, end, scratch("block", (end - begin, rows.shape[1]), rows.dtype))
            total = total if found is None else total + found
        return total

    return shares(run, len(rows), passes * rows.size)


def moments(channels: Channels, rows: np.ndarray, places: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each channel, in two passes."""
    sums = by_blocks(lambda start, stop, block: column_sums(rows[start:stop]), rows, 1)
    mean = channels.total(sums) / places
    wide = channels.wide(mean)

    def squares(start, stop, block):
        np.subtract(rows[start:stop], wide, out=block)
        block *= block
        return column_sums(block)

    return mean, channels.total(by_blocks(squares, rows, 3)) / places


def is_unmasked(layer, call) -> bool:
    """Masked moments are left to the definition."""
    return not call.masked


@kernels.register("BatchNormalization", when=is_unmasked)
def batch_normalization(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    return normalized(layer, x, gamma, beta, moving_mean, moving_variance, training)[0]


@batch_normalization.saving
def batch_normalization_saving(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    return normalized(layer, x, gamma, beta, moving_mean, moving_variance, training)


def normalized(layer, x, gamma, beta, moving_mean, moving_variance, training) -> tuple[Result, tuple]:
    """(result, what the gradient needs)"""
    channels = Channels.of(layer, x)
    rows = channels.rows(x)
    updated = {}
    if training:
        # Of no places at all the mean is 0 / 0.
        with np.errstate(invalid="ignore"):
            mean, variance = moments(channels, rows, x.size // max(channels.channels, 1))
        keep = layer.momentum
        updated = {
            "moving_mean": keep * moving_mean + (1 - keep) * mean,
            "moving_variance": keep * moving_variance + (1 - keep) * variance,
        }
    else:
        mean, variance = moving_mean, moving_variance
    inverse = 1 / np.sqrt(variance + layer.epsilon)
    y = empty(rows.shape, rows.dtype)
    centre, scale = channels.wide(mean), channels.wide(inverse if gamma is None else inverse * gamma)
    shift = None if beta is None else channels.wide(beta)

    def fill(start, stop, block):
        # Centred first: x * scale and mean * scale may both be large and cancel.
        out = np.subtract(rows[start:stop], centre, out=y[start:stop])
        out *= scale
        if shift is not None:
            out += shift

    by_blocks(fill, rows, 3)
    return Result(channels.back(y, x), updated), (x, channels, rows, mean, inverse, gamma, beta, training)


@batch_normalization.vjp
def batch_normalization_vjp(layer, saved, cotangents):
    x, channels, rows, mean, inverse, gamma, beta, training = saved
    dy = channels.rows(cotangents[0])
    centre = channels.wide(mean)

    def weighted(start, stop, block):
        np.subtract(rows[start:stop], centre, out=block)
        block *= dy[start:stop]
        return np.stack([column_sums(dy[start:stop]), column_sums(block)])

    sums = sum(by_blocks(weighted, rows, 4))
    dbeta, dgamma = channels.total([sums[0]]), channels.total([sums[1]])
    if x.size:
        # Of no places the variance is NaN, but the gradient is 0.
        dgamma *= inverse
    scale = inverse if gamma is None else inverse * gamma
    dx = empty(rows.shape, rows.dtype)
    wide = channels.wide(scale)

    def fixed(start, stop, block):
        np.multiply(dy[start:stop], wide, out=dx[start:stop])

    def moving(start, stop, block):
        # The mean and the variance move with x: what of dy lies along either has no effect.
        np.subtract(rows[start:stop], centre, out=block)
        block *= along
        out = np.subtract(dy[start:stop], level, out=dx[start:stop])
        out -= block
        out *= wide

    if training:
        places = max(x.size // max(channels.channels, 1), 1)
        level, along = channels.wide(dbeta / places), channels.wide(inverse * dgamma / places)
        by_blocks(moving, rows, 5)
        of_moments = None, None
    else:
        by_blocks(fixed, rows, 1)
        of_moments = -scale * dbeta, -0.5 * scale * inverse * dgamma
    dgamma, dbeta = None if gamma is None else dgamma, None if beta is None else dbeta
    return channels.back(dx, x), dgamma, dbeta, *of_moments, None, None


# Rows by themselves: layer, RMS and group normalization


def standardized(rows: np.ndarray, epsilon: float, centred: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(x - mean) / deviation row by row, and the inverse deviations. Not centred, the mean is taken for 0."""
    length = max(rows.shape[1], 1)
    out, inverse = empty(rows.shape, rows.dtype), np.empty(len(rows), rows.dtype)

    def share(start: int, stop: int) -> None:
        for begin, end in spans(start, stop, CACHED // length):
            x, y = rows[begin:end], out[begin:end]
            if centred:
                x = np.subtract(x, (row_sums(x) / length)[:, None], out=y)
            squares = np.multiply(x, x, out=scratch("squares", x.shape, x.dtype))
            inverse[begin:end] = 1 / np.sqrt(row_sums(squares) / length + epsilon)
            np.multiply(x, inverse[begin:end, None], out=y)

    shares(share, len(rows), 5 * rows.size)
    return out, inverse


def standardized_vjp(y: np.ndarray, inverse: np.ndarray, dy: np.ndarray, centred: bool = True) -> np.ndarray:
    """The gradient by the rows: what of dy lies along the mean or along y has no effect."""
    length = max(y.shape[1], 1)
    dx = empty(y.shape, y.dtype)

    def share(start: int, stop: int) -> None:
        for begin, end in spans(start, stop, CACHED // length):
            g, z, out = dy[begin:end], y[begin:end], dx[begin:end]
            along = np.multiply(g, z, out=scratch("along", z.shape, z.dtype))
            np.multiply(z, (row_sums(along) / length)[:, None], out=along)
            np.subtract(g, along, out=out)
            if centred:
                out -= (row_sums(g) / length)[:, None]
            out *= inverse[begin:end, None]

    shares(share, len(y), 6 * y.size)
    return dx


def scaled(rows: np.ndarray, gamma: np.ndarray | None, beta: np.ndarray | None) -> np.ndarray:
    """rows * gamma + beta, by column; the rows themselves where there is neither."""
    if gamma is None and beta is None:
        return rows
    out = empty(rows.shape, rows.dtype)

    def share(start: int, stop: int) -> None:
        for begin, end in spans(start, stop, CACHED // max(rows.shape[1], 1)):
            x, y = rows[begin:end], out[begin:end]
            if gamma is not None:
                x = np.multiply(x, gamma, out=y)
            if beta is not None:
                np.add(x, beta, out=y)

    shares(share, len(rows), 2 * rows.size)
    return out


def weight_sums(
    rows: np.ndarray, gamma: np.ndarray | None, beta: np.ndarray | None, dy: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The gradients by gamma and beta, column by column, of those that there are."""

    def weighted(start, stop, block):
        return column_sums(np.multiply(dy[start:stop], rows[start:stop], out=block))

    return (
        None if gamma is None else sum(by_blocks(weighted, rows, 2)),
        None if beta is None else sum(by_blocks(lambda start, stop, block: column_sums(dy[start:stop]), dy, 1)),
    )


class AlongAxes(NamedTuple):
    """How an array is seen as a matrix with a row for each place and a column for each index along some axes."""

    order: tuple[int, ...]
    length: int

    @classmethod
    def of(cls, layer, x: np.ndarray) -> AlongAxes:
        axes = layer.axes(x.ndim)
        others = tuple(i for i in range(x.ndim) if i not in axes)
        return cls((*others, *axes), math.prod(x.shape[i] for i in axes))

    def rows(self, x: np.ndarray) -> np.ndarray:
        """The matrix: a view where the axes lie last in memory."""
        return x.transpose(self.order).reshape(x.size // max(self.length, 1), self.length)

    def back(self, rows: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The array whose rows these are."""
        return rows.reshape([like.shape[i] for i in self.order]).transpose(np.argsort(self.order))


def flat(weight: np.ndarray | None) -> np.ndarray | None:
    """A weight as one row."""
    return None if weight is None else weight.reshape(-1)


def along_axes(layer, x, gamma, beta, centred):
    """(result, what the gradient needs)"""
    seen = AlongAxes.of(layer, x)
    z, inverse = standardized(seen.rows(x), layer.epsilon, centred)
    return seen.back(scaled(z, flat(gamma), flat(beta)), x), (x, seen, z, inverse, gamma, beta)


def along_axes_vjp(saved, dy, centred):
    """The gradients by the input, gamma and beta."""
    x, seen, z, inverse, gamma, beta = saved
    dy = seen.rows(dy)
    dx = seen.back(standardized_vjp(z, inverse, scaled(dy, flat(gamma), None), centred), x)
    sums = zip(weight_sums(z, gamma, beta, dy), (gamma, beta), strict=True)
    return dx, *(None if total is None else total.reshape(weight.shape) for total, weight in sums)


def is_something(layer, call) -> bool:
    """Whether there is anything to normalize."""
    return 0 not in call.shapes[0]


def pays(layer, call) -> bool:
    """Whether the axes are the last ones; to move others there takes longer than the definition without gradients."""
    ndim = len(call.shapes[0])
    return is_something(layer, call) and (call.training or max(layer.axes(ndim), default=0) == ndim - 1)


@kernels.register("LayerNormalization", when=pays)
def layer_normalization(layer, x, gamma, beta):
    return along_axes(layer, x, gamma, beta, True)[0]


@layer_normalization.saving
def layer_normalization_saving(layer, x, gamma, beta):
    return along_axes(layer, x, gamma, beta, True)


@layer_normalization.vjp
def layer_normalization_vjp(layer, saved, cotangents):
    return along_axes_vjp(saved, cotangents[0], True)


@kernels.register("RMSNormalization", when=pays)
def rms_normalization(layer, x, scale):
    return along_axes(layer, x, scale, None, False)[0]


@rms_normalization.saving
def rms_normalization_saving(layer, x, scale):
    return along_axes(layer, x, scale, None, False)


@rms_normalization.vjp
def rms_normalization_vjp(layer, saved, cotangents):
    return along_axes_vjp(saved, cotangents[0], False)[:2]


class Groups(NamedTuple):
    """How an array is seen as a matrix with a row for each sample's group."""

    split: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, layer, x: np.ndarray) -> Groups:
        at = layer.axis % x.ndim
        groups, size = layer.group_sizes(x.shape[at])
        others = [i for i in range(1, x.ndim + 1) if i != at]
        return cls((*x.shape[:at], groups, size, *x.shape[at + 1 :]), (0, at, *others))

    def rows(self, x: np.ndarray) -> np.ndarray:
        """The matrix: a view where the channels come first."""
        parts = x.reshape(self.split).transpose(self.order)
        return parts.reshape(parts.shape[0] * parts.shape[1], -1)

    def back(self, rows: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The array whose rows these are."""
        return rows.reshape([self.split[i] for i in self.order]).transpose(np.argsort(self.order)).reshape(like.shape)


def by_channel(layer, z, gamma, beta):
    """z * gamma + beta, with a value for each channel."""
    channels, at = Channels.of(layer, z), layer.axis % z.ndim
    if at == z.ndim - 1:
        wide = [None if weight is None else channels.wide(weight) for weight in (gamma, beta)]
        return channels.back(scaled(channels.rows(z), *wide), z)
    spread = layer.spread(z.ndim)
    y = z if gamma is None else z * gamma.reshape(spread)
    return y if beta is None else y + beta.reshape(spread)


def by_channel_vjp(layer, z, gamma, beta, dy):
    """The gradients by z, gamma and beta."""
    channels, at = Channels.of(layer, z), layer.axis % z.ndim
    dz = by_channel(layer, dy, gamma, None)
    if at == z.ndim - 1:
        sums = weight_sums(channels.rows(z), gamma, beta, channels.rows(dy))
        return dz, *(None if total is None else channels.total([total]) for total in sums)
    others = tuple(i for i in range(z.ndim) if i != at)
    return dz, None if gamma is None else (dy * z).sum(others), None if beta is None else dy.sum(others)


def grouped(layer, x, gamma, beta):
    """(result, what the gradient needs)"""
    seen = Groups.of(layer, x)
    rows, inverse = standardized(seen.rows(x), layer.epsilon)
    z = seen.back(rows, x)
    return by_channel(layer, z, gamma, beta), (seen, rows, z, inverse, gamma, beta)


@kernels.register("GroupNormalization", when=is_something)
def group_normalization(layer, x, gamma, beta):
    return grouped(layer, x, gamma, beta)[0]


@group_normalization.saving
def group_normalization_saving(layer, x, gamma, beta):
    return grouped(layer, x, gamma, beta)


@group_normalization.vjp
def group_normalization_vjp(layer, saved, cotangents):
    seen, rows, z, inverse, gamma, beta = saved
    dz, dgamma, dbeta = by_channel_vjp(layer, z, gamma, beta, cotangents[0])
    return seen.back(standardized_vjp(rows, inverse, seen.rows(dz)), z), dgamma, dbeta
