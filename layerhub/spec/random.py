"""Numbers with a distribution, made of uniform random bits: integers in [0, 2**32)."""

from __future__ import annotations

import math
from typing import Any


def uniform(xp: Any, bits: Any, dtype: Any) -> Any:
    """Uniform in (0, 1): the middles of 2**32 equal cells. Both ends are open, as far as the type can tell them."""
    return (xp.astype(bits, dtype) + 0.5) / 2.0**32


def normal(xp: Any, first: Any, second: Any, dtype: Any) -> Any:
    """Normal with mean 0 and deviation 1, from two arrays of bits.

    Source: Box & Muller 1958, doi:10.1214/aoms/1177706645.
    """
    radius = xp.sqrt(-2 * xp.log(uniform(xp, first, dtype)))
    return radius * xp.cos(2 * math.pi * uniform(xp, second, dtype))
