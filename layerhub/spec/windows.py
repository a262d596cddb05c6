"""What convolution and pooling share: windows that slide over the space of an image.

The space is as many axes as the layer's ``rank``; nothing here knows whether that is one, two or three.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from layerhub.errors import ShapeError
from layerhub.spec.axes import conv_length, padding_cells
from layerhub.spec.base import axis, rule
from layerhub.spec.layer import Layer


class Spatial(Layer, abstract=True):
    """A layer over an image, whose channels stand last or first (its parameter ``data_format``)."""

    def channels_last(self, xp: Any, x: Any) -> Any:
        """The input with its channels last, where the definitions work."""
        if self.data_format == "channels_last":
            return x
        return xp.permute_dims(x, (0, *range(2, x.ndim), 1))

    def as_declared(self, xp: Any, y: Any) -> Any:
        """An output with channels last as the layer's data format wants it."""
        if self.data_format == "channels_last":
            return y
        return xp.permute_dims(y, (0, y.ndim - 1, *range(1, y.ndim - 1)))

    @property
    def space_axes(self) -> tuple[int, ...]:
        """The axes of the input that hold the space."""
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + (self.rank or 0)))

    def known_space(self, x: Any) -> tuple[int, ...]:
        """The sizes of the space of a channels-last input, for what is laid out by them. Raises ShapeError."""
        space = tuple(x.shape[1:-1])
        if None in space:
            raise ShapeError(f"{self!r}: the space of x must be known when it is compiled, but is {space}")
        return space


class Windowed(Spatial, abstract=True):
    """A layer that moves a window over its input, by its ``strides``, ``padding``, ``window`` and ``dilation``."""

    @property
    def window(self) -> tuple[int, ...]:
        """The sizes of the window."""
        raise NotImplementedError

    @property
    def dilation(self) -> tuple[int, ...]:
        """The steps between the cells of the window."""
        return (1,) * len(self.window)

    @axis
    def places(self, space):
        """How many positions the window has, along each axis."""
        return tuple(
            conv_length(size, k, s, self.padding, d)
            for size, k, s, d in zip(space, self.window, self.strides, self.dilation, strict=True)
        )

    @rule
    def c1_the_window_must_fit(self, places):
        return all(place is None or place > 0 for place in places)

    def pads(self, space: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Cells before and after each axis of the space."""
        return tuple(
            padding_cells(size, k, s, self.padding, d)
            for size, k, s, d in zip(space, self.window, self.strides, self.dilation, strict=True)
        )

    def padded(self, xp: Any, x: Any, value: float = 0.0) -> Any:
        """A channels-last input with the cells that ``padding`` adds."""
        pads = self.pads(x.shape[1:-1])
        return x if not any(map(any, pads)) else xp.pad(x, ((0, 0), *pads, (0, 0)), value)

    def taps(self, x: Any, space: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Any]]:
        """Each cell of the window, with what it sees at all places: (n, *places, c) of the padded input ``x``.

        space: the sizes before padding.
        """
        return slid(x, self.window, self.lookup("places", {"space": space}), self.strides, self.dilation)


def slid(
    x: Any, window: tuple[int, ...], places: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Each cell of a window that slides over x, (n, *space, c), with what it sees: (n, *places, c)."""
    for tap in itertools.product(*map(range, window)):
        index = tuple(
            slice(i * d, i * d + (place - 1) * s + 1, s)
            for i, d, s, place in zip(tap, dilation, strides, places, strict=True)
        )
        yield tap, x[(slice(None), *index, slice(None))]


def spread(xp: Any, x: Any, strides: tuple[int, ...]) -> Any:
    """A channels-last image with strides - 1 zeros between neighbours, along each axis."""
    for along, s in enumerate(strides, start=1):
        if s == 1:
            continue
        length = x.shape[along]
        x = xp.expand_dims(x, axis=along + 1)
        x = xp.pad(x, [(0, s - 1 if i == along + 1 else 0) for i in range(x.ndim)], 0.0)
        x = xp.reshape(x, (-1, *x.shape[1:along], length * s, *x.shape[along + 2 :]))
        # The zeros after the last element stand between nothing.
        x = x[(*(slice(None),) * along, slice(0, (length - 1) * s + 1), ...)]
    return x
