"""Batch normalization, in as few passes over memory as two-pass moments allow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from layerhub.kernels import KernelSet
from layerhub.spec import Result
from layerhub_numpy.arrays import axis_back, axis_last
from layerhub_numpy.memory import empty
from layerhub_numpy.tiles import CACHED, column_sums, scratch, shares, spans

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
