"""Pooling: one value for each window of an image, or for the whole image."""

from __future__ import annotations

import math
from typing import Any, Literal

from layerhub.spec.domains import DataFormat, Window
from layerhub.spec.layer import In, Out
from layerhub.spec.masks import stops
from layerhub.spec.windows import Spatial, Windowed


class Pooling(Windowed, abstract=True):
    """A window over each channel by itself.

    strides: None takes the size of the window, so that windows touch and do not overlap.
    """

    pool_size: Window = 2
    strides: Window | None = None
    padding: Literal["valid", "same"] = "valid"
    data_format: DataFormat = None

    x = In("n *space c")
    y = Out("n *places c")
    mask = stops

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.strides is None:
            self.__dict__["strides"] = self.pool_size

    @property
    def window(self) -> tuple[int, ...]:
        return self.pool_size


class MaxPooling(Pooling, abstract=True):
    """The largest value in each window; padding never wins. The gradient goes to the first maximum of a window."""

    def define(self, xp, x):
        x = self.channels_last(xp, x)
        space = x.shape[1:-1]
        seen = xp.stack([tap for _, tap in self.taps(self.padded(xp, x, -float("inf")), space)], axis=-1)
        first = xp.expand_dims(xp.argmax(seen, axis=-1), axis=-1)
        return self.as_declared(xp, xp.take_along_axis(seen, first, axis=-1)[..., 0])


class MaxPooling2D(MaxPooling):
    """Max pooling of images."""

    rank = 2
    aliases = ("MaxPool2D",)


class AveragePooling(Pooling, abstract=True):
    """The mean of the cells in each window that are not padding."""

    def define(self, xp, x):
        x = self.channels_last(xp, x)
        space = x.shape[1:-1]
        y = 0
        for _, seen in self.taps(self.padded(xp, x), space):
            y = y + seen
        return self.as_declared(xp, y / self.cells(xp, x))

    def cells(self, xp: Any, x: Any) -> Any:
        """How many cells of each window are not padding: (*places, 1), exact small numbers."""
        total = xp.ones((1, *(1,) * (x.ndim - 2), 1), dtype=x.dtype)
        space = x.shape[1:-1]
        if not any(map(any, self.pads(space))):
            return total * math.prod(self.window)
        inside = xp.ones((1, *space, 1), dtype=x.dtype)
        count = 0
        for _, seen in self.taps(self.padded(xp, inside), space):
            count = count + seen
        return count


class AveragePooling2D(AveragePooling):
    """Average pooling of images."""

    rank = 2
    aliases = ("AvgPool2D",)


class GlobalPooling(Spatial, abstract=True):
    """One value for each channel of an image.

    keepdims: leave the space as axes of size 1.
    """

    data_format: DataFormat = None
    keepdims: bool = False

    x = In("n *space c")
    y = Out("n *left c")
    mask = stops

    @property
    def left(self) -> tuple[int, ...]:
        return (1,) * (self.rank or 0) if self.keepdims else ()

    @property
    def space_axes(self) -> tuple[int, ...]:
        """The axes of the input that hold the space."""
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + (self.rank or 0)))


class GlobalAveragePooling(GlobalPooling, abstract=True):
    """The mean of each channel over the whole image."""

    def define(self, xp, x):
        return xp.mean(x, axis=self.space_axes, keepdims=self.keepdims)


class GlobalAveragePooling2D(GlobalAveragePooling):
    """Global average pooling of images."""

    rank = 2
    aliases = ("GlobalAvgPool2D",)
