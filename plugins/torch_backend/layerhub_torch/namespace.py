"""The array functions that definitions are written in, by torch: ``layerhub.namespace.STANDARD`` and the extras.

Renames come first, then functions that differ from torch's in their arguments, then those that torch has not.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import (  # noqa: F401
    abs,
    arange,
    bfloat16,
    bool,
    broadcast_to,
    cos,
    erf,
    exp,
    eye,
    float16,
    float32,
    float64,
    floor,
    full,
    full_like,
    int8,
    int16,
    int32,
    int64,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    ones,
    ones_like,
    reshape,
    sin,
    sqrt,
    tanh,
    uint8,
    where,
    zeros,
    zeros_like,
)

from layerhub.stream import MULTIPLIERS, ROUNDS, WEYL, WORD, Stream

# Operators take a plain number on either side and leave the tensor's type alone; torch.subtract(1, x) is an error.
add, subtract, multiply, divide, pow = operator.add, operator.sub, operator.mul, operator.truediv, operator.pow
negative, matmul = operator.neg, operator.matmul
bitwise_and, bitwise_xor, bitwise_right_shift = operator.and_, operator.xor, operator.rshift
equal, not_equal = operator.eq, operator.ne
less, less_equal, greater, greater_equal = operator.lt, operator.le, operator.gt, operator.ge

permute_dims, einsum, stop_gradient = torch.permute, torch.einsum, torch.detach


class _Expm1(torch.autograd.Function):
    """torch's own takes the gradient as y + 1, of which nothing is left where y is nearly -1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.expm1(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g * torch.exp(ctx.saved_tensors[0])


expm1 = _Expm1.apply


def sign(x: torch.Tensor) -> torch.Tensor:
    # torch's own makes 0 of NaN.
    return torch.where(torch.isnan(x), x, torch.sign(x))


def asarray(x: Any, dtype: Any = None, device: Any = None, copy: Any = None) -> torch.Tensor:
    return torch.asarray(x, dtype=dtype, device=device, copy=copy)


def astype(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype)


def concat(arrays: Sequence[torch.Tensor], axis: int = 0) -> torch.Tensor:
    return torch.cat(tuple(arrays), dim=axis)


def stack(arrays: Sequence[torch.Tensor], axis: int = 0) -> torch.Tensor:
    return torch.stack(tuple(arrays), dim=axis)


def expand_dims(x: torch.Tensor, axis: int = 0) -> torch.Tensor:
    return torch.unsqueeze(x, axis)


def squeeze(x: torch.Tensor, axis: int | tuple[int, ...]) -> torch.Tensor:
    return torch.squeeze(x, axis)


def flip(x: torch.Tensor, axis: int | tuple[int, ...] | None = None) -> torch.Tensor:
    return torch.flip(x, tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis)


def take(x: torch.Tensor, indices: torch.Tensor, axis: int = 0) -> torch.Tensor:
    return x[(slice(None),) * (axis % x.ndim) + (indices.long(),)]


def take_along_axis(x: torch.Tensor, indices: torch.Tensor, axis: int = -1) -> torch.Tensor:
    return torch.take_along_dim(x, indices.long(), dim=axis)


def argmax(x: torch.Tensor, axis: int | None = None, keepdims: bool = False) -> torch.Tensor:
    return torch.argmax(x, dim=axis, keepdim=keepdims)


def _reduction(function: Callable, nothing: Callable = lambda x: x) -> Callable:
    """torch takes an empty tuple of axes for all axes, the standard for none."""

    def reduce(x: torch.Tensor, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> torch.Tensor:
        if axis == ():
            return nothing(x)
        return function(x, dim=tuple(range(x.ndim)) if axis is None else axis, keepdim=keepdims)

    return reduce


sum, mean = _reduction(torch.sum), _reduction(torch.mean)
max, min = _reduction(torch.amax), _reduction(torch.amin)  # amax, not max: it splits the gradient evenly over ties
all, any = (_reduction(function, lambda x: x != 0) for function in (torch.all, torch.any))


def _of_two(function: Callable) -> Callable:
    """A plain number takes the type of the tensor that it stands beside."""

    def call(a: Any, b: Any) -> torch.Tensor:
        if not isinstance(a, torch.Tensor):
            a = torch.as_tensor(a, dtype=b.dtype, device=b.device)
        if not isinstance(b, torch.Tensor):
            b = torch.as_tensor(b, dtype=a.dtype, device=a.device)
        return function(a, b)

    return call


maximum, minimum = _of_two(torch.maximum), _of_two(torch.minimum)


def pad(x: torch.Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> torch.Tensor:
    return torch.nn.functional.pad(x, [width for pair in reversed(widths) for width in pair], value=value)


def scatter_add(size: int, index: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    rest = updates.shape[index.ndim :]
    zero = updates.new_zeros((size, *rest))
    return zero.index_add(0, index.reshape(-1).long(), updates.reshape(-1, *rest) if updates.numel() else zero[:0])


def unslice(x: torch.Tensor, shape: tuple[int, ...], index: tuple[Any, ...]) -> torch.Tensor:
    y = x.new_zeros(shape)
    y[index] = x
    return y


Tables = tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]


def _tables(key: tuple[int, int], device: Any) -> Tables:
    """The keys of all rounds, and the multipliers, as columns for two rows that change places in every round."""
    if torch.compiler.is_compiling():  # what is traced is kept anyway, and torch warns of caches in it
        return _made_tables(key, device)
    return _kept_tables(key, device)


def _made_tables(key: tuple[int, int], device: Any) -> Tables:
    columns = []
    for number in range(ROUNDS):
        keys = [(word + number * weyl) & WORD for word, weyl in zip(key, WEYL, strict=True)]
        columns.append(keys if number % 2 else keys[::-1])
    factors = torch.tensor([MULTIPLIERS, MULTIPLIERS[::-1]], device=device)
    return torch.tensor(columns, device=device).unsqueeze(-1).unbind(), factors.unsqueeze(-1).unbind()


_kept_tables = lru_cache(maxsize=4096)(_made_tables)


def random_bits(stream: Stream, shape: tuple[int, ...], device: Any = None) -> torch.Tensor:
    """The portable stream of ``layerhub.stream``, two words at a time.

    Only what is multiplied must be clear of the bits above the 32 that count; so they are taken off once a round.
    """
    count = math.prod(shape)
    keys, factors = _tables(stream.key, device)
    even = torch.empty((2, (count + 3) // 4), dtype=torch.int64, device=device)  # words 0 and 2
    torch.arange(even.shape[1], out=even[0])
    even[1] = stream.step
    odd = torch.full((2, 1), stream.part, dtype=torch.int64, device=device)  # words 3 and 1
    odd[1] = stream.call
    for number, key in enumerate(keys):
        product = even * factors[number % 2]
        even = (product >> 32).bitwise_xor_(odd).bitwise_xor_(key).bitwise_and_(WORD)
        odd = product.flip(0)
    odd.bitwise_and_(WORD)
    words = torch.stack((even[0], odd[1], even[1], odd[0]), dim=-1)
    return words.reshape(-1)[:count].reshape(shape)


EXTRAS = {function.__name__: function for function in (erf, einsum, pad, scatter_add, unslice, random_bits)} | {
    "stop_gradient": stop_gradient
}


def placed(device: str) -> dict[str, Callable]:
    """The functions that make arrays out of nothing, making them on a device."""
    makers = (arange, asarray, eye, full, ones, zeros, random_bits)
    return {function.__name__: partial(function, device=device) for function in makers}
