"""What is known to fail, with the reason: lists of entries, each for one backend and one kind of case."""

from __future__ import annotations

import tomllib
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


@cache
def entries(*files: str) -> tuple[Known, ...]:
    """The entries of the suite's own list, and of others. Raises DataError where one says too little."""
    found: list[Known] = []
    for path in (OWN, *map(Path, files)):
        try:
            rows = tomllib.loads(path.read_text(encoding="utf-8")).get("failure", [])
        except (OSError, tomllib.TOMLDecodeError) as problem:
            raise DataError(f"{path}: cannot be read as a list of expected failures: {problem}") from None
        for row in rows:
            absent = [name for name in FIELDS if not row.get(name)]
            unknown = sorted(row.keys() - {*FIELDS, "check"})
            if absent or unknown:
                what = f"lacks {', '.join(absent)}" if absent else f"has unknown keys {', '.join(unknown)}"
                raise DataError(
                    f"{path}: the entry {row} {what}; an entry has: {', '.join(FIELDS)}, and may have check"
                )
            found.append(Known(**row))
    return tuple(found)


_files: list[str] = []


def also(path: str) -> None:
    """Add a list of a backend's own."""
    if path not in _files:
        _files.append(path)


def known(trial: Any) -> Known | None:
    """The first entry that speaks of a trial."""
    return next((entry for entry in entries(*_files) if entry.matches(trial, trial.subject.id)), None)


def listed() -> tuple[Known, ...]:
    """All entries that count in this process."""
    return entries(*_files)
