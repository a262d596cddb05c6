"""Locally connected layers as one product of matrices for each place."""

from __future__ import annotations

import itertools
import math

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.gradients import OnDemand, absent
from layerhub_numpy.memory import empty, zeros
from layerhub_numpy.windows import axes_of, channels_last, declared, windows

kernels = KernelSet()


def seen_by(layer, x: np.ndarray) -> np.ndarray:
    """What the windows of channels-last images see, in the kernel's order: (sites, n, cells * c)."""
    seen = windows(x, axes_of(layer, x), layer.window)
    rank = layer.rank
    places, cells, c = range(1, rank + 1), range(rank + 1, 2 * rank + 1), 2 * rank + 1
    first = layer.data_format == "channels_first"
    seen = seen.transpose(*places, 0, *((c, *cells) if first else (*cells, c)))
    return seen.reshape(math.prod(seen.shape[:rank]), len(x), layer.cells * x.shape[-1])


def by_site(layer, y: np.ndarray) -> np.ndarray:
    """A channels-last output as (sites, n, filters); a view, if it is contiguous."""
    return y.reshape(len(y), math.prod(y.shape[1:-1]), layer.filters).transpose(1, 0, 2)


def locally_connected(layer, x, kernel, bias):
    x = channels_last(layer, x)
    places = [axis.places for axis in axes_of(layer, x)]
    y = empty((len(x), *places, layer.filters), x.dtype)
    np.matmul(seen_by(layer, x), kernel, out=by_site(layer, y))
    y = declared(layer, y)
    if bias is not None:
        y += bias.reshape(y.shape[1:])
    return y


def locally_connected_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    x, gradient = channels_last(layer, x), cotangents[0]
    dy = by_site(layer, channels_last(layer, gradient))

    def of_input() -> np.ndarray:
        return declared(layer, spread_out(layer, x.shape, np.matmul(dy, kernel.transpose(0, 2, 1))))

    return OnDemand(
        of_input,
        lambda: np.matmul(seen_by(layer, x).transpose(0, 2, 1), dy),
        absent if bias is None else lambda: gradient.sum(axis=0).reshape(bias.shape),
    )


def spread_out(layer, shape: tuple[int, ...], seen: np.ndarray) -> np.ndarray:
    """The sum, at each element of an image, of the gradients of what windows saw there: the reverse of ``seen_by``."""
    n, *space, c = shape
    dx = zeros(shape, seen.dtype)
    places = layer.lookup("places", {"space": tuple(space)})
    if layer.data_format == "channels_first":
        seen = np.moveaxis(seen.reshape(*places, n, c, *layer.window), len(places) + 1, -1)
    else:
        seen = seen.reshape(*places, n, *layer.window, c)
    seen = np.moveaxis(seen, len(places), 0)
    for tap in itertools.product(*map(range, layer.window)):
        index = (slice(i, i + p * s, s) for i, p, s in zip(tap, places, layer.strides, strict=True))
        dx[(slice(None), *index)] += seen[(slice(None), *(slice(None),) * len(places), *tap)]
    return dx


for name in ("LocallyConnected1D", "LocallyConnected2D"):
    kernels.register(name)(locally_connected).vjp(locally_connected_vjp)
