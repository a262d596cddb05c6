"""What convolution and pooling share: windows that slide over the space of an image.

The space is as many axes as the layer's ``rank``; nothing here knows whether that is one, two or three.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from layerhub.spec.axes import conv_length, same_padding
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
        if self.padding == "valid":
            return ((0, 0),) * len(space)
        return tuple(
            same_padding(size, k, s, d)
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
        places = self.lookup("places", {"space": space})
        for tap in itertools.product(*map(range, self.window)):
            index = tuple(
                slice(i * d, i * d + (place - 1) * s + 1, s)
                for i, d, s, place in zip(tap, self.dilation, self.strides, places, strict=True)
            )
            yield tap, x[(slice(None), *index, slice(None))]
