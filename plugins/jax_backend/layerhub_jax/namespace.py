"""The array functions that definitions are written in: jax.numpy's, the few of them that need care, and the extras.

Products are asked for in full precision: accelerators have faster ones, which lose half of the digits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from layerhub.stream import MULTIPLIERS, ROUNDS, WEYL, WORD, Stream

PRECISION = lax.Precision.HIGHEST

stop_gradient = lax.stop_gradient
erf = lax.erf
einsum = partial(jnp.einsum, precision=PRECISION)
matmul = partial(jnp.matmul, precision=PRECISION)


def __getattr__(name: str) -> Any:
    return getattr(jnp, name)


@jax.custom_jvp
def expm1(x: jax.Array) -> jax.Array:
    """jax's own takes the gradient as y + 1, of which nothing is left where y is nearly -1."""
    return lax.expm1(x)


@expm1.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    return expm1(*primals), tangents[0] * lax.exp(primals[0])


def mean(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
    total = jnp.sum(x, axis, jnp.promote_types(x.dtype, jnp.float32), keepdims=keepdims)
    return quotient(total, x.size // (total.size or 1)).astype(x.dtype)


def quotient(x: jax.Array, number: float) -> jax.Array:
    """x / number, rounded once. XLA makes a product with 1 / number of it, unless it cannot see that it is a number."""
    return x / lax.stop_gradient(jnp.where(x != x, x, jnp.asarray(number, x.dtype)))


def max(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
    """XLA on CPU passes over NaN where it leaves the maximum of 4096 elements or more to a library."""
    return _hiding_nothing(jnp.max, x, axis, keepdims)


def min(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
    """See ``max``."""
    return _hiding_nothing(jnp.min, x, axis, keepdims)


def _hiding_nothing(reduce: Callable, x: jax.Array, axis: Any, keepdims: bool) -> jax.Array:
    found = reduce(x, axis, keepdims=keepdims)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return found
    return jnp.where(jnp.any(jnp.isnan(x), axis, keepdims=keepdims), jnp.nan, found)


def pad(x: jax.Array, widths: Sequence[tuple[int, int]], value: float = 0.0) -> jax.Array:
    return lax.pad(x, jnp.asarray(value, x.dtype), [(before, after, 0) for before, after in widths])


def scatter_add(size: int, index: jax.Array, updates: jax.Array) -> jax.Array:
    return jnp.zeros((size, *updates.shape[index.ndim :]), updates.dtype).at[index].add(updates)


def unslice(x: jax.Array, shape: tuple[int, ...], index: tuple[Any, ...]) -> jax.Array:
    return jnp.zeros(shape, x.dtype).at[index].set(x)


def scan(step: Callable, carry: tuple, xs: tuple) -> tuple[tuple, Any]:
    return lax.scan(step, tuple(carry), tuple(xs))


def random_bits(stream: Stream, shape: tuple[int, ...]) -> jax.Array:
    return random_words(stream, shape).astype(jnp.int64)


def random_words(stream: Stream, shape: tuple[int, ...]) -> jax.Array:
    """The portable stream of ``layerhub.stream`` as uint32."""
    count = math.prod(shape)
    blocks = jnp.arange((count + 3) // 4, dtype=jnp.uint32)
    words = [blocks, *(jnp.full_like(blocks, word) for word in (stream.call, _low(stream.step), stream.part))]
    keys = list(stream.key)
    for _ in range(ROUNDS):
        (high0, low0), (high1, low1) = _product(words[0], MULTIPLIERS[0]), _product(words[2], MULTIPLIERS[1])
        words = [high1 ^ words[1] ^ jnp.uint32(keys[0]), low1, high0 ^ words[3] ^ jnp.uint32(keys[1]), low0]
        keys = [(key + weyl) & WORD for key, weyl in zip(keys, WEYL, strict=True)]
    return jnp.stack(words, axis=-1).reshape(-1)[:count].reshape(shape)


def _low(step: Any) -> jax.Array:
    return jnp.asarray(step).astype(jnp.uint32)


def _product(words: jax.Array, factor: int) -> tuple[jax.Array, jax.Array]:
    """The upper and the lower 32 bits."""
    whole = words.astype(jnp.uint64) * jnp.uint64(factor)
    return (whole >> jnp.uint64(32)).astype(jnp.uint32), whole.astype(jnp.uint32)


EXTRAS = "einsum erf pad random_bits scan scatter_add stop_gradient unslice".split()
"""The extras that this module has."""

xp = sys.modules[__name__]
