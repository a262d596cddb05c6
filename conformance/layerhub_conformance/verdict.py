"""When an array is right: no hand-set tolerance, but a bound for each element, which the definition itself implies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerhub.running_error import UNITS, accepted
from layerhub_conformance.report.model import Finding

SHARE = 1.25
"""How much of its bound an element may use: a margin for the few terms of second order that the rules leave out."""

UNDECIDED = "undecided"
"""The pattern of an array too much of which hangs on comparisons that rounding may turn: that is no backend's fault."""

SPECIAL = "special values"
"""The pattern of an array that is wrong only where NaN or an infinity was expected, and another of these came."""


@dataclass
class Expected:
    """An array of the reference.

    error: its bound; NaN where undecided. fine: the bound of what is computed in float32 and rounded once, for types
    shorter than that.
    """

    what: str
    value: np.ndarray
    error: np.ndarray
    fine: np.ndarray | None = None

    @property
    def direction(self) -> str:
        return "gradient" if self.what.startswith("gradient") else "forward"


def compare(expected: Expected, got: Any, dtype: str) -> Finding:
    """The verdict on one array."""
    unlike = _unlike(expected, got, dtype)
    if unlike:
        return wrong(expected.what, f"{expected.what} {unlike}", expected.direction)
    got = np.asarray(got)
    # The reference is itself rounded to float64: that counts where the result is float64 too.
    widened = 1 + UNITS["float64"] / UNITS[dtype]
    share = SHARE * widened
    right, undecided = accepted(got, expected.value, expected.error, share)
    grade, bound = None, expected.error
    if expected.fine is not None:
        fine, open_ = accepted(got, expected.value, expected.fine, share)
        right, bound = right | fine, np.fmax(expected.error, expected.fine)
        grade = "A" if bool((fine | open_).all()) else "B"
    used = _used(expected, widened * bound, got, undecided)
    finding = Finding(
        expected.what, expected.direction, True, _largest(used), int(undecided.sum()), got.size, resolution(expected),
        float(np.sqrt(np.mean(used**2))) if used.size else None, float(np.mean(used)) if used.size else None,
        varied=got.size == 1 or np.unique(expected.value[np.isfinite(expected.value)]).size > 1, grade=grade,
    )  # fmt: skip
    counted = right | undecided
    if not counted.all():
        return replace(finding, right=False, **_told(expected, got, counted, share))
    # With few bits to decide by, branches that cannot be told apart are to be expected; not with many.
    if finding.undecided > max(1, 0.01 * got.size) and UNITS[dtype] < UNITS["float16"]:
        detail = f"{expected.what}: {finding.undecided} of {got.size} elements are undecided"
        return replace(finding, right=False, detail=detail, pattern=UNDECIDED)
    return finding


def wrong(what: str, detail: str, direction: str = "forward") -> Finding:
    """A finding about something that is no number."""
    return Finding(what, direction, False, detail=detail)


def _largest(used: np.ndarray) -> float | None:
    return float(np.abs(used).max()) if used.size else None


def _unlike(expected: Expected, got: Any, dtype: str) -> str:
    """What is wrong with an array before its numbers are looked at."""
    if got is None:
        return "is missing"
    got = np.asarray(got)
    if got.shape != expected.value.shape:
        return f"has shape {got.shape}, {expected.value.shape} was expected"
    # The host holds bfloat16 in float32.
    host = np.dtype("float32" if dtype == "bfloat16" else dtype)
    return f"has type {got.dtype}, {host} was expected" if got.dtype != host else ""


def _used(expected: Expected, bound: np.ndarray, got: np.ndarray, undecided: np.ndarray) -> np.ndarray:
    """Signed errors as shares of their bounds; 0 where there is no bound."""
    with np.errstate(all="ignore"):
        used = (got.astype(np.float64) - expected.value) / bound
    return np.where(np.isfinite(used) & ~undecided, used, 0.0)


def resolution(expected: Expected) -> float | None:
    """The smallest relative fault that must be caught in a typical (the median) element; None where all are zero."""
    decided = np.isfinite(expected.value) & (expected.value != 0) & np.isfinite(expected.error)
    if not decided.any():
        return None
    return float(np.median(2 * SHARE * expected.error[decided] / np.abs(expected.value[decided])))


def _told(expected: Expected, got: np.ndarray, counted: np.ndarray, share: float) -> dict[str, Any]:
    """Of a wrong array: which element is worst, and what the errors look like."""
    with np.errstate(all="ignore"):
        excess = np.abs(got.astype(np.float64) - expected.value) / (expected.error + np.finfo(np.float64).tiny)
    excess = np.where(counted, -1.0, np.where(np.isnan(excess), np.inf, excess))
    index = tuple(int(i) for i in np.unravel_index(np.argmax(excess), got.shape))
    bound, looks = float(share * expected.error[index]), pattern(expected.value, got.astype(np.float64), ~counted)
    detail = (
        f"{expected.what}{list(index)} is {got[index]!s}, {expected.value[index]!s} was expected within "
        f"{bound:.3g}; {int((~counted).sum())} of {got.size} elements are wrong: {looks}"
    )
    return {
        "index": index, "got": float(got[index]), "expected": float(expected.value[index]), "bound": bound,
        "pattern": looks, "detail": detail,
    }  # fmt: skip


def pattern(expected: np.ndarray, got: np.ndarray, off: np.ndarray) -> str:
    """What the wrong elements have in common."""
    if not np.isfinite(got[off]).all():
        return "NaN or infinity" if np.isfinite(expected[off]).any() else SPECIAL
    share = off.mean()
    if got.size > 1 and share > 0.5:
        return _factor(expected[off], got[off])
    if off.sum() == 1:
        return "one element"
    for axis in range(off.ndim):
        lines = off.any(axis=tuple(k for k in range(off.ndim) if k != axis))
        first = int(np.argmax(lines))
        if off.shape[axis] > 1 and lines.sum() == 1:
            return f"all at index {first} of axis {axis}"
        if off.shape[axis] > 2 and first > 0 and lines[first:].all():
            return f"the tail of axis {axis}, from index {first}"
    return "scattered"


def _factor(expected: np.ndarray, got: np.ndarray) -> str:
    """Whether all wrong elements are off by the same factor, or by the same amount."""
    if np.allclose(got, -expected, rtol=1e-3, atol=0):
        return "the sign"
    if not got.any():
        return "zeros"
    with np.errstate(all="ignore"):
        factors, shifts = got / expected, got - expected
        factor, shift = np.median(factors), np.median(shifts)
    # A factor stands out only where it is steady compared with its distance from 1.
    if np.isfinite(factors).all() and np.ptp(factors) <= 0.05 * abs(factor - 1):
        return f"scaled by {factor:.6g}"
    if np.ptp(shifts) <= 0.05 * abs(shift):
        return f"shifted by {shift:.6g}"
    return "everywhere"
