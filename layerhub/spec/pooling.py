"""Pooling: one value for each window of an image, or for the whole image."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar, Literal

from layerhub.spec.axes import Shape
from layerhub.spec.base import rule
from layerhub.spec.domains import DataFormat, Window
from layerhub.spec.layer import In, Out
from layerhub.spec.masks import absorbs, stops
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
        space = self.known_space(x)
        seen = xp.stack([tap for _, tap in self.taps(self.padded(xp, x, -float("inf")), space)], axis=-1)
        first = xp.expand_dims(xp.argmax(seen, axis=-1), axis=-1)
        return self.as_declared(xp, xp.take_along_axis(seen, first, axis=-1)[..., 0])


class MaxPooling1D(MaxPooling):
    """Max pooling of sequences."""

    rank = 1
    aliases = ("MaxPool1D",)


class MaxPooling2D(MaxPooling):
    """Max pooling of images."""

    rank = 2
    aliases = ("MaxPool2D",)


class MaxPooling3D(MaxPooling):
    """Max pooling of volumes."""

    rank = 3
    aliases = ("MaxPool3D",)


class AveragePooling(Pooling, abstract=True):
    """The mean of the cells in each window that are not padding."""

    def define(self, xp, x):
        x = self.channels_last(xp, x)
        space = self.known_space(x)
        seen = xp.stack([tap for _, tap in self.taps(self.padded(xp, x), space)], axis=-1)
        return self.as_declared(xp, xp.sum(seen, axis=-1) / self.cells(xp, x))

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


class AveragePooling1D(AveragePooling):
    """Average pooling of sequences."""

    rank = 1
    aliases = ("AvgPool1D",)


class AveragePooling2D(AveragePooling):
    """Average pooling of images."""

    rank = 2
    aliases = ("AvgPool2D",)


class AveragePooling3D(AveragePooling):
    """Average pooling of volumes."""

    rank = 3
    aliases = ("AvgPool3D",)


class GlobalPooling(Spatial, abstract=True):
    """One value for each channel of an image.

    keepdims: leave the space as axes of size 1.
    """

    data_format: DataFormat = None
    keepdims: bool = False

    x = In("n *space c")
    y = Out("n *left c")
    mask = stops

    @rule
    def c1_no_axis_of_the_space_is_empty(self, space):
        return 0 not in space

    @property
    def left(self) -> tuple[int, ...]:
        return (1,) * (self.rank or 0) if self.keepdims else ()


class GlobalMaxPooling(GlobalPooling, abstract=True):
    """The largest value of each channel over the whole image. Those that tie for it share the gradient evenly."""

    def define(self, xp, x):
        return xp.max(x, axis=self.space_axes, keepdims=self.keepdims)


class GlobalMaxPooling1D(GlobalMaxPooling):
    """Global max pooling of sequences."""

    rank = 1
    aliases = ("GlobalMaxPool1D",)


class GlobalMaxPooling2D(GlobalMaxPooling):
    """Global max pooling of images."""

    rank = 2
    aliases = ("GlobalMaxPool2D",)


class GlobalMaxPooling3D(GlobalMaxPooling):
    """Global max pooling of volumes."""

    rank = 3
    aliases = ("GlobalMaxPool3D",)


class GlobalAveragePooling(GlobalPooling, abstract=True):
    """The mean of each channel over the whole image."""

    def define(self, xp, x):
        return xp.mean(x, axis=self.space_axes, keepdims=self.keepdims)


class GlobalAveragePooling1D(GlobalAveragePooling):
    """Global average pooling of sequences: sum(mask * x) / sum(mask) over time; zeros where a mask leaves no step."""

    rank = 1
    aliases = ("GlobalAvgPool1D",)
    mask = absorbs

    def define(self, xp, x, mask):  # type: ignore[override]
        if mask is None:
            return super().define(xp, x)
        (time,) = self.space_axes
        counts = xp.expand_dims(mask, axis=3 - time)
        kept = xp.where(counts, x, xp.zeros_like(x))
        total = xp.sum(kept, axis=time, keepdims=self.keepdims)
        steps = xp.sum(xp.astype(counts, x.dtype), axis=time, keepdims=self.keepdims)
        return total / xp.maximum(steps, xp.ones_like(steps))


class GlobalAveragePooling2D(GlobalAveragePooling):
    """Global average pooling of images."""

    rank = 2
    aliases = ("GlobalAvgPool2D",)


class GlobalAveragePooling3D(GlobalAveragePooling):
    """Global average pooling of volumes."""

    rank = 3
    aliases = ("GlobalAvgPool3D",)


class AdaptivePooling(Spatial, abstract=True):
    """As many windows as are asked for, whatever the size of the image.

    Along an axis of L cells, window i of ``output_size`` reaches from floor(i * L / output_size) up to, and not with,
    ceil((i + 1) * L / output_size). So windows may differ by a cell in size, and share one with their neighbours.
    """

    output_size: Window
    data_format: DataFormat = None

    pooling: ClassVar[Any]
    """The class of Pooling that this is where all windows are of one size."""

    x = In("n *space c")
    y = Out("n *output_size c")
    mask = stops

    @rule
    def c1_no_axis_of_the_space_is_empty(self, space):
        return 0 not in space

    def spans(self, space: tuple[int, ...]) -> list[list[tuple[int, int]]]:
        """For each axis, where its windows begin and end."""
        return [
            [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
            for size, count in zip(space, self.output_size, strict=True)
        ]

    def even(self, shape: Shape) -> Pooling | None:
        """The pooling that this comes to for an input whose space falls into equal parts; None for any other."""
        space = [shape[axis] for axis in self.space_axes]
        if any(size is None or size % count for size, count in zip(space, self.output_size, strict=True)):
            return None
        window = tuple(size // count for size, count in zip(space, self.output_size, strict=True))
        return _even(type(self).pooling, window, self.data_format)

    def define(self, xp, x):
        x = self.channels_last(xp, x)
        # The last axis first: so the first maximum of a window, row by row, is also the one that is left at the end.
        for axis, spans in reversed(list(enumerate(self.spans(self.known_space(x)), 1))):
            before = (slice(None),) * axis
            seen = [self.summary(xp, x[(*before, slice(start, stop), ...)], axis) for start, stop in spans]
            x = xp.concat(seen, axis=axis)
        return self.as_declared(xp, x)

    def summary(self, xp: Any, x: Any, axis: int) -> Any:
        """One value for all cells along an axis, which is kept."""
        raise NotImplementedError


@lru_cache(maxsize=256)
def _even(pooling: Any, window: tuple[int, ...], data_format: str) -> Pooling:
    return pooling(window, data_format=data_format)


class AdaptiveMaxPooling(AdaptivePooling, abstract=True):
    """The largest value in each window. The gradient goes to the first maximum of a window."""

    def summary(self, xp: Any, x: Any, axis: int) -> Any:
        first = xp.expand_dims(xp.argmax(x, axis=axis), axis=axis)
        return xp.take_along_axis(x, first, axis=axis)


class AdaptiveMaxPooling1D(AdaptiveMaxPooling):
    """Adaptive max pooling of sequences."""

    rank = 1
    pooling = MaxPooling1D


class AdaptiveMaxPooling2D(AdaptiveMaxPooling):
    """Adaptive max pooling of images."""

    rank = 2
    pooling = MaxPooling2D


class AdaptiveMaxPooling3D(AdaptiveMaxPooling):
    """Adaptive max pooling of volumes."""

    rank = 3
    pooling = MaxPooling3D


class AdaptiveAveragePooling(AdaptivePooling, abstract=True):
    """The mean of each window."""

    def summary(self, xp: Any, x: Any, axis: int) -> Any:
        return xp.mean(x, axis=axis, keepdims=True)


class AdaptiveAveragePooling1D(AdaptiveAveragePooling):
    """Adaptive average pooling of sequences."""

    rank = 1
    pooling = AveragePooling1D


class AdaptiveAveragePooling2D(AdaptiveAveragePooling):
    """Adaptive average pooling of images."""

    rank = 2
    pooling = AveragePooling2D


class AdaptiveAveragePooling3D(AdaptiveAveragePooling):
    """Adaptive average pooling of volumes."""

    rank = 3
    pooling = AveragePooling3D
