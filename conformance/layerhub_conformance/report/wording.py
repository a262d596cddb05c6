"""Numbers as people read them."""

from __future__ import annotations

import math
import re
from datetime import datetime


def share(value: float | None) -> str:
    """An error as a share of its bound, in three digits at most."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞"
    if 0 < abs(value) < 0.005:
        return "<0.01"
    if abs(value) >= 1e5:
        return re.sub(r"e\+0*", "e", f"{value:.0e}")
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"


def number(value: float | None, digits: int = 9) -> str:
    """A number of a layer."""
    return "–" if value is None else f"{value:.{digits}g}"


def seconds(value: float) -> str:
    """A duration."""
    if value < 0.1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.0f} min"


def moment(created: str) -> str:
    """A time in ISO 8601, to the minute; anything else as it is."""
    try:
        return f"{datetime.fromisoformat(created):%d %B %Y, %H:%M %Z}".strip().lstrip("0")
    except ValueError:
        return created


def escaped(text: str) -> str:
    """Text as one line of Markdown, in a table too, where nothing of it is taken for markup."""
    return re.sub(r"([\\`*_|<>\[\]#&~])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Text as a code span of Markdown, in a table too."""
    line = " ".join(text.split()).replace("|", "\\|")
    ticks = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    return f"{ticks} {line} {ticks}" if "`" in line else f"{ticks}{line}{ticks}"
