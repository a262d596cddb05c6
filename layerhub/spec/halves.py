"""Half precision: what adds up many elements does so in float32, and rounds once at the end."""

from __future__ import annotations

from typing import Any


def no_half(xp: Any, dtype: Any) -> Any:
    """The type, or float32 in place of float16 and bfloat16."""
    halves = [getattr(xp, name) for name in ("float16", "bfloat16") if hasattr(xp, name)]
    return xp.float32 if dtype in halves else dtype


def in_single(xp: Any, *arrays: Any) -> tuple[Any, ...]:
    """Each array as float32 where its type is float16 or bfloat16, else as it is; None stays None."""
    return tuple(x if x is None else as_type(xp, x, no_half(xp, x.dtype)) for x in arrays)


def as_type(xp: Any, x: Any, dtype: Any) -> Any:
    """The array itself where it has the type already."""
    return x if x.dtype == dtype else xp.astype(x, dtype)
