"""What is known to fail, with the reason: lists of entries, each for one backend and one kind of case.

An entry under ``failure`` is of a case of the corpus, and has to be met. One under ``divergence`` is of all cases of
some layers with some sets of data: the corpus takes no notice of it, but what exploring finds of that kind is no news.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from layerhub.errors import DataError

OWN = Path(__file__).parent / "expected_failures.toml"
FIELDS = ("backend", "dtype", "route", "case", "reason")


@dataclass(frozen=True)
class Known:
    """backend, dtype, route, check: exact, or "*". case: the beginning of a case's id. reason: why."""

    backend: str
    dtype: str
    route: str
    case: str
    reason: str
    check: str = "values"

    def matches(self, trial: Any, case: str) -> bool:
        """Whether this entry speaks of a trial, or of the result of one."""
        said = (self.backend, self.dtype, self.route, self.check)
        does = (trial.backend, trial.dtype, trial.route, trial.check)
        return all(a in ("*", b) for a, b in zip(said, does, strict=True)) and case.startswith(self.case)

    def __str__(self) -> str:
        return f"{self.backend} {self.dtype} {self.route} {self.check}: {self.case}"


@dataclass(frozen=True)
class Divergence:
    """backend: exact. layers: of which the case is, or that it wraps. data: the sets of data. reason: why."""

    backend: str
    layers: tuple[str, ...]
    data: tuple[str, ...]
    reason: str

    def matches(self, backend: str, case: Any) -> bool:
        """Whether this entry speaks of a case on a backend."""
        inside = any(re.search(rf"\b{layer}\(", case.id) for layer in self.layers)
        return backend == self.backend and case.data in self.data and inside


@cache
def entries(*files: str) -> tuple[Known, ...]:
    """The entries of the suite's own list, and of others. Raises DataError where one says too little."""
    found: list[Known] = []
    for path in (OWN, *map(Path, files)):
        for row in _rows(path, "failure"):
            _check(path, row, FIELDS, ("check",))
            found.append(Known(**row))
    return tuple(found)


@cache
def divergences(*files: str) -> tuple[Divergence, ...]:
    """The divergences of the suite's own list, and of others. Raises DataError where one says too little."""
    found: list[Divergence] = []
    for path in (OWN, *map(Path, files)):
        for row in _rows(path, "divergence"):
            _check(path, row, ("backend", "layers", "data", "reason"))
            found.append(Divergence(row["backend"], tuple(row["layers"]), tuple(row["data"]), row["reason"]))
    return tuple(found)


def _rows(path: Path, name: str) -> list[dict[str, Any]]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get(name, [])
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise DataError(f"{path}: cannot be read as a list of expected failures: {problem}") from None


def _check(path: Path, row: dict[str, Any], fields: Sequence[str], more: Sequence[str] = ()) -> None:
    absent = [name for name in fields if not row.get(name)]
    unknown = sorted(row.keys() - {*fields, *more})
    if absent or unknown:
        what = f"lacks {', '.join(absent)}" if absent else f"has unknown keys {', '.join(unknown)}"
        optional = f", and may have {', '.join(more)}" if more else ""
        raise DataError(f"{path}: the entry {row} {what}; an entry has: {', '.join(fields)}{optional}")


_files: list[str] = []


def also(path: str) -> None:
    """Add a list of a backend's own."""
    if path not in _files:
        _files.append(path)


def known(trial: Any) -> Known | None:
    """The first entry that speaks of a trial."""
    return next((entry for entry in entries(*_files) if entry.matches(trial, trial.subject.id)), None)


def diverges(backend: str, case: Any) -> bool:
    """Whether what a case shows on a backend may be a divergence that is known of its layer."""
    return any(entry.matches(backend, case) for entry in divergences(*_files))


def listed() -> tuple[Known, ...]:
    """All entries that count in this process."""
    return entries(*_files)
