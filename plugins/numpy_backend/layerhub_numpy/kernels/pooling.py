"""Pooling: one axis of the window after the other, over strided slices; padding is never read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from layerhub.kernels import KernelSet
from layerhub_numpy.kernels.convolution import Axis, axes_of, channels_last, declared
from layerhub_numpy.tiles import shares

kernels = KernelSet()


def reach(axis: Axis, cells: int, size: int) -> Iterator[tuple[slice, slice]]:
    """For each cell of the window: the places that see something real there, and what they see."""
    for cell in range(cells):
        at = axis.start + cell
        first = max(-(at // axis.stride), 0)
        last = min((size - 1 - at) // axis.stride, axis.places - 1)
        begin = at + first * axis.stride
        yield slice(first, last + 1), slice(begin, begin + max(last - first, -1) * axis.stride + 1, axis.stride)
