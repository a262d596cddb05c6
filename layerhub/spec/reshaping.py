"""Reshaping of images: cells of their space are cut off, added at the edges, or put in between."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, Literal

from layerhub.spec.base import axis as derived
from layerhub.spec.base import rule
from layerhub.spec.domains import DataFormat, Domain, Size, Window
from layerhub.spec.layer import In, Layer, Out
from layerhub.spec.masks import sizes, stops
from layerhub.spec.windows import Spatial


def _pair(value: Any) -> tuple[int, int]:
    before, after = (value, value) if not isinstance(value, (tuple, list)) else value
    if isinstance(before, bool) or isinstance(after, bool) or operator.index(before) < 0 or operator.index(after) < 0:
        raise ValueError
    return operator.index(before), operator.index(after)


def _accept_sides(value: Any, owner: Layer) -> tuple:
    """A pair for each axis; with one axis, that pair."""
    if isinstance(value, (str, bytes)):
        raise TypeError
    if owner.rank == 1:
        return _pair(value)
    each = value if isinstance(value, (tuple, list)) else (value,) * (owner.rank or 0)
    if len(each) != owner.rank:
        raise ValueError
    return tuple(map(_pair, each))


Sides = Annotated[
    Any,
    Domain(
        "an int (0 or more), one for each axis, or a pair (before, after) for each axis",
        _accept_sides,
        encode=lambda value: [side if isinstance(side, int) else list(side) for side in value],
        valid=(0, 1, 2),
        invalid=(-1, (1, 2, 3, 4), "a", None),
        schema={"type": "array"},
    ),
]
"""Numbers of cells before and after each axis. With one axis, two ints are (before, after)."""


class Edged(Spatial, abstract=True):
    """A layer that changes an image at the edges of its space alone, whatever its cells hold."""

    x = In("n *space c", kind="any")
    y = Out("n *resized c")
    mask = stops

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        """(before, after) for each axis of the space."""
        raise NotImplementedError

    def for_all_axes(self, parts: tuple, other: Any) -> tuple:
        """One entry for each axis of the input: ``parts`` for those of the space, ``other`` for the rest."""
        first = self.space_axes[0]
        return (*(other,) * first, *parts, *(other,) * (2 - first))


class Cropping(Edged, abstract=True):
    """Cells cut off before and after each axis of the space.

    cropping: how many.
    """

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        return (self.cropping,) if self.rank == 1 else self.cropping

    @derived
    def resized(self, space):
        return tuple(
            None if size is None else size - before - after
            for size, (before, after) in zip(space, self.sides, strict=True)
        )

    @rule
    def c1_some_cells_are_left(self, resized):
        return all(size is None or size > 0 for size in resized)

    def define(self, xp, x):
        inner = tuple(slice(before, -after if after else None) for before, after in self.sides)
        return x[self.for_all_axes(inner, slice(None))]


class Cropping1D(Cropping):
    """Cropping of sequences, (n, time, channels)."""

    rank = 1
    data_format = "channels_last"
    cropping: Sides = (1, 1)


class Cropping2D(Cropping):
    """Cropping of images."""

    rank = 2
    cropping: Sides = ((0, 0), (0, 0))
    data_format: DataFormat = None


class Cropping3D(Cropping):
    """Cropping of volumes."""

    rank = 3
    cropping: Sides = ((1, 1), (1, 1), (1, 1))
    data_format: DataFormat = None


class ZeroPadding(Edged, abstract=True):
    """Zeros added before and after each axis of the space.

    padding: how many.
    """

    padding: Sides = 1
    data_format: DataFormat = None

    @property
    def sides(self) -> tuple[tuple[int, int], ...]:
        return (self.padding,) if self.rank == 1 else self.padding

    @derived
    def resized(self, space):
        return tuple(
            None if size is None else size + before + after
            for size, (before, after) in zip(space, self.sides, strict=True)
        )

    def define(self, xp, x):
        return xp.pad(x, self.for_all_axes(self.sides, (0, 0)), 0)


class ZeroPadding1D(ZeroPadding):
    """Zero padding of sequences."""

    rank = 1


class ZeroPadding2D(ZeroPadding):
    """Zero padding of images."""

    rank = 2


class ZeroPadding3D(ZeroPadding):
    """Zero padding of volumes."""

    rank = 3


class UpSampling(Spatial, abstract=True):
    """Each cell repeated along each axis of the space.

    size: how often.
    """

    x = In("n *space c")
    y = Out("n *resized c")
    mask = stops

    @property
    def factors(self) -> tuple[int, ...]:
        """How often cells are repeated, along each axis."""
        return self.size

    @derived
    def resized(self, space):
        return tuple(None if size is None else size * factor for size, factor in zip(space, self.factors, strict=True))

    def define(self, xp, x):
        for axis, factor in zip(self.space_axes, self.factors, strict=True):
            before, (size, *after) = sizes(xp, x)[:axis], sizes(xp, x)[axis:]
            repeated = xp.broadcast_to(xp.expand_dims(x, axis=axis + 1), (*before, size, factor, *after))
            x = xp.reshape(repeated, (*before, size * factor, *after))
        return x


class UpSampling1D(UpSampling):
    """Each step of a sequence, (n, time, channels), repeated."""

    rank = 1
    data_format = "channels_last"
    size: Size = 2

    @property
    def factors(self) -> tuple[int, ...]:
        return (self.size,)


class UpSampling2D(UpSampling):
    """Images enlarged, by one way of interpolation or another.

    interpolation: "nearest" repeats each cell; the others weight the cells near each new one.

    The others do so along each axis by itself: with both centres at half cells, new cell o lies at
    u = (o + 1/2) / size - 1/2 of the old ones, and

        y[o] = sum over i of w(i - u) * x[i] / sum over i of w(i - u)

    over the cells i that there are; so at the edges those that are missing leave their weight to the others. w is

        bilinear     1 - |d| for |d| < 1
        bicubic      3/2 |d|^3 - 5/2 |d|^2 + 1 for |d| < 1, -1/2 |d|^3 + 5/2 |d|^2 - 4 |d| + 2 for 1 <= |d| < 2
        lanczosR     sinc(d) * sinc(d / R) for |d| < R, where sinc(d) = sin(pi d) / (pi d)

    Elsewhere: PyTorch's bicubic is another (with -3/4 in place of -1/2), and holds the edge cells on.
    Sources: Keys 1981, doi:10.1109/TASSP.1981.1163711; Duchon, J. Appl. Meteorology 18 (1979), 1016.
    """

    rank = 2
    size: Window = 2
    data_format: DataFormat = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = "nearest"

    def define(self, xp, x):
        if self.interpolation == "nearest":
            return super().define(xp, x)
        x = self.channels_last(xp, x)
        height, width = self.known_space(x)
        high, wide = height * self.factors[0], width * self.factors[1]
        rows, columns = (xp.asarray(weights, dtype=x.dtype) for weights in self.shares((height, width)))
        c = xp.size(x, 3)
        y = xp.matmul(columns, xp.reshape(x, (-1, width, c)))
        y = xp.matmul(rows, xp.reshape(y, (-1, height, wide * c)))
        return self.as_declared(xp, xp.reshape(y, (-1, high, wide, c)))

    def shares(self, space: tuple[int, ...]) -> list[Shares]:
        """For each axis, how much of each old cell is in each new one."""
        return [
            interpolation(size, factor, self.interpolation) for size, factor in zip(space, self.factors, strict=True)
        ]


class UpSampling3D(UpSampling):
    """Each cell of a volume repeated."""

    rank = 3
    size: Window = 2
    data_format: DataFormat = None


Shares = tuple[tuple[float, ...], ...]


@lru_cache(maxsize=256)
def interpolation(size: int, factor: int, curve_name: str) -> Shares:
    """How much of each old cell is in each new one along an axis of ``size`` cells: [new][old]."""
    radius, curve = CURVES[curve_name]

    def row(new: int) -> tuple[float, ...]:
        away = [abs(Fraction((2 * old + 1) * factor - (2 * new + 1), 2 * factor)) for old in range(size)]
        found = [curve(d) if d < radius else 0 for d in away]
        total = sum(found)
        return tuple(float(w / total) for w in found)

    return tuple(map(row, range(size * factor)))


def _bicubic(d: Fraction) -> Fraction:
    return (3 * d - 5) * d * d / 2 + 1 if d < 1 else ((5 - d) * d / 2 - 4) * d + 2


def _lanczos(radius: int) -> Callable[[Fraction], float]:
    def curve(d: Fraction) -> float:
        a = math.pi * d
        return radius * math.sin(a) * math.sin(a / radius) / (a * a) if d else 1.0

    return curve


CURVES: dict[str, tuple[int, Callable[[Fraction], Any]]] = {
    "bilinear": (1, lambda d: 1 - d),
    "bicubic": (2, _bicubic),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
}
"""For each way of interpolation, how far it looks, and the weight of a cell at a distance."""
