"""Locally connected layers: windows as in convolutions, but with a kernel of its own at each place.

The order of elements in kernel and bias is that of Keras 2 (2.3.1), so that its weights fit. Keras 3 has no such
layers. Source: Taigman et al., DeepFace: closing the gap to human-level performance in face verification, 2014.
"""

from __future__ import annotations

import math
from typing import Literal

from layerhub.spec.base import axis
from layerhub.spec.domains import DataFormat, Size, Window
from layerhub.spec.layer import In, Out, Weight
from layerhub.spec.masks import stops
from layerhub.spec.spellings import CONVOLUTION
from layerhub.spec.weighted import Affine
from layerhub.spec.windows import Windowed


class LocallyConnected(Windowed, Affine, abstract=True):
    """y[n, p, f] = sum over cells k of the window at p: x[n, cell] * kernel[p, k, f] + bias[p, f].

    Along the kernel's first axis stand the places, the last axis of the space fastest. Along its second stand the cells
    of the window with their channels, in the order in which they lie in x: (*kernel_size, c), or (c, *kernel_size)
    where channels come first. The bias has the shape (*places, filters); where channels come first its elements are
    read, as Keras 2 does, in the order of (filters, *places).

    Sizes of the space must be known.
    """

    formerly = CONVOLUTION
    # tensorflow's Keras 2 has three ways to compute these layers; the others lay the kernel out differently.
    keras_only = {"implementation": 1}

    filters: Size
    kernel_size: Window
    strides: Window = 1
    padding: Literal["valid"] = "valid"
    data_format: DataFormat = None

    x = In("n *space c")
    kernel = Weight("sites cells*c filters")
    bias = Weight("*places filters")
    y = Out("n *places filters")
    mask = stops

    @property
    def window(self) -> tuple[int, ...]:
        return self.kernel_size

    @property
    def cells(self) -> int:
        """The number of cells of a window."""
        return math.prod(self.kernel_size)

    @axis
    def sites(self, places):
        """The number of places."""
        return None if None in places else math.prod(places)

    def define(self, xp, x, kernel, bias):
        x = self.channels_last(xp, x)
        space = self.known_space(x)
        taps = [seen for _, seen in self.taps(x, space)]
        seen = xp.stack(taps, axis=-2 if self.data_format == "channels_last" else -1)
        sites, length, filters = kernel.shape
        y = xp.einsum("npk,pkf->npf", xp.reshape(seen, (-1, sites, length)), kernel)
        y = self.as_declared(xp, xp.reshape(y, (-1, *self.lookup("places", {"space": space}), filters)))
        return y if bias is None else y + xp.reshape(bias, y.shape[1:])


class LocallyConnected1D(LocallyConnected):
    """Locally connected sequences. Keras 2.3.1 reads them with channels last whatever their data format says."""

    rank = 1


class LocallyConnected2D(LocallyConnected):
    """Locally connected images."""

    rank = 2
