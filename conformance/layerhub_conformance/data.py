"""Sets of data: one function for each, which draws the values of inputs and states.

Those that are smooth keep away from zero, where many functions have kinks, and have no value twice; ``integer`` and
``ties`` meet kinks and ties on purpose. ``FORWARD`` names those of which only values are to be compared: their
gradients would be NaN, or nothing but underflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from layerhub.running_error import SMALLEST

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape, str], np.ndarray]

KINK = 0.05
"""How far smooth data keep away from zero."""
WEIGHT = 0.6
"""The deviation of a sum over weights, and of weights that nothing is summed over."""


def normal(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """Of both signs, around 1 in size."""
    x = rng.normal(size=shape)
    return x + np.copysign(KINK, x)


def positive(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """Of one sign, so that sums are well conditioned."""
    return np.abs(rng.normal(size=shape)) + 2 * KINK


def wide(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """Of many sizes, from a millionth up to hundreds."""
    return normal(rng, shape, dtype) * 10.0 ** rng.integers(-6, 3, size=shape)


def large_mean(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """Small differences of large numbers."""
    return rng.normal(size=shape) * 0.01 + 1000


def integer(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """Small whole numbers: sums and products of them are exact in any order."""
    return rng.integers(-3, 4, size=shape).astype(np.float64)


def ties(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """Three values only, zero among them."""
    return rng.integers(-1, 2, size=shape).astype(np.float64)


def huge(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """So large that their cubes overflow in float32, and their squares do not."""
    return normal(rng, shape, dtype) * 2.0**56


def tiny(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """From the smallest normal number of the type up, over many sizes."""
    sizes = rng.uniform(1, 2, size=shape) * 2.0 ** rng.integers(0, 60 if dtype != "float16" else 12, size=shape)
    return np.copysign(SMALLEST[dtype] * sizes, rng.normal(size=shape))


def specials(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """As ``normal``, but for NaN, both infinities and a negative zero, each in one place."""
    x = normal(rng, shape, dtype)
    places = rng.permutation(x.size)[:4]
    x.reshape(-1)[places] = [math.nan, math.inf, -math.inf, -0.0][: len(places)]
    return x


SETS: dict[str, Draw] = {
    function.__name__: function
    for function in (normal, positive, wide, large_mean, integer, ties, huge, tiny, specials)
}
"""The sets by name, the plainest first."""
FORWARD = frozenset({"huge", "tiny", "specials"})


def weight(rng: np.random.Generator, shape: Shape, name: str, data: str) -> np.ndarray:
    """A weight, by its name: variances are positive. data: of the inputs."""
    if "variance" in name:
        return rng.uniform(0.5, 1.5, size=shape)
    if data == "integer":
        return rng.integers(-2, 3, size=shape).astype(np.float64)
    summed = math.prod(shape[:-1]) if len(shape) > 1 else 1
    return rng.normal(size=shape) * WEIGHT / math.sqrt(max(summed, 1))
