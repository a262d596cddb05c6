"""A run of the suite as data, which the engine makes and every form of the report reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from layerhub.errors import DataError

SCHEMA_VERSION = 1
VERDICTS = ("fail", "mistrusted", "xfail", "pass", "unsupported")
"""What may be said of a trial or a cell, worst first."""
FAILING = ("fail", "mistrusted")
"""The verdicts that make a run fail."""
LIMIT = 1.25
"""How much of its bound an error may use."""
WITHOUT_GRADIENT = ("metric", "optimizer", "initializer", "constraint", "schedule")
"""Kinds of specs that nothing is differentiated through."""

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One array of a trial beside its reference.

    what: "output 0", "gradient of kernel". direction: "forward" or "gradient". worst: the largest |error| / bound
    (``LIMIT`` is what it may be). undecided: of ``size`` elements, those on which the reference cannot decide.
    resolution: the smallest relative fault in one element that must be caught. rms, mean: of error / bound.
    index, got, expected, bound: the worst element. pattern: how the error is spread ("everywhere", "tail",
    "one channel", "scale", "one element", "sign", …). varied: the reference is not one number throughout. grade: of a
    short type, "A" where the errors are those of one rounding at the end, else "B".
    """

    what: str = ""
    direction: str = "forward"
    right: bool = True
    worst: float | None = None
    undecided: int = 0
    size: int = 0
    resolution: float | None = None
    rms: float | None = None
    mean: float | None = None
    index: tuple[int, ...] = ()
    got: float | None = None
    expected: float | None = None
    bound: float | None = None
    pattern: str = ""
    detail: str = ""
    varied: bool = True
    grade: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", tuple(int(i) for i in self.index or ()))


@dataclass(frozen=True)
class Result:
    """One trial: one check of one case, on one backend, in one type, by one route and in one mode.

    id: one line, the same in every run. subject, kind: the spec, and "layer", "loss", "metric" or "optimizer".
    check: "values", "contract: repeated calls agree", …. served: names of the kernels that computed it.
    replay: the command that runs this trial alone.
    """

    id: str
    subject: str
    kind: str
    check: str
    case: str
    backend: str
    dtype: str
    route: str = "kernel"
    mode: str = "eager"
    verdict: str = "pass"
    message: str = ""
    seconds: float = 0.0
    served: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    replay: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "served", tuple(self.served))
        object.__setattr__(self, "findings", tuple(self.findings))

    @property
    def directions(self) -> tuple[str, ...]:
        """Whose cells the trial counts in; one without arrays counts as forward."""
        return tuple(dict.fromkeys(f.direction for f in self.findings)) or ("forward",)

    def verdict_in(self, direction: str) -> str:
        """What the trial says of one direction: one whose wrong arrays are all in the other passes in this one."""
        wrong = {f.direction for f in self.findings if not f.right}
        return "pass" if wrong and direction not in wrong else self.verdict

    def slim(self) -> Result:
        """A passing trial with one finding a direction, which keeps what cells are judged by."""
        if self.verdict != "pass" or not any(f.what for f in self.findings):
            return self
        kept = (merged([f for f in self.findings if f.direction == d]) for d in self.directions if self.findings)
        return replace(self, findings=tuple(kept))


@dataclass(frozen=True)
class Cell:
    """All trials of one spec on one backend, in one type and one direction.

    grade: of a short type, "A" (one rounding at the end) or "B" (every primitive rounded). reasons: why the verdict is
    what it is, where the trials alone do not say it.
    """

    subject: str
    backend: str
    dtype: str
    direction: str
    verdict: str
    run: int = 0
    passed: int = 0
    failed: int = 0
    xfailed: int = 0
    unsupported: int = 0
    worst: float | None = None
    resolution: float | None = None
    rms: float | None = None
    seconds: float = 0.0
    grade: str | None = None
    reasons: tuple[str, ...] = ()
    kind: str = "layer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "reasons", tuple(self.reasons))

    @property
    def label(self) -> str:
        """The cell in a few words."""
        return f"{self.subject} ({self.kind}) on {self.backend}, {self.dtype}, {self.direction}"


@dataclass
class Run:
    """One run of the suite.

    created: ISO 8601. machine: python, platform, cpu. backends: by name, each with versions, devices, dtypes,
    gradients, compiles, fast_matmul, lacks. registry: the names of all specs by kind, which is the denominator.
    coverage: by layer, [covered, total] of parameters, pairs and rules.
    """

    created: str
    layerhub: str
    suite: str
    tier: str
    command: str
    machine: dict[str, str] = field(default_factory=dict)
    backends: dict[str, dict[str, Any]] = field(default_factory=dict)
    registry: dict[str, list[str]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    coverage: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    seconds: float = 0.0
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Plain data, as ``schema.json`` describes them: what has its default is left out, passing trials are slim."""
        data = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in ("results", "cells")}
        data["cells"] = [_row(cell) for cell in self.cells]
        data["results"] = [_row(result.slim()) for result in self.results]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Run:
        """The run that ``to_json`` wrote. Raises DataError where the data are no report, or of another version."""
        version = data.get("schema_version") if isinstance(data, Mapping) else None
        if version != SCHEMA_VERSION:
            raise DataError(
                f"a report has schema_version {SCHEMA_VERSION}, not {version!r}; read it with the suite that wrote it"
            )
        try:
            rows = [
                {**row, "findings": [_made(Finding, f) for f in row.get("findings", ())]} for row in data["results"]
            ]
            return _made(
                cls,
                {
                    **data,
                    "results": [_made(Result, row) for row in rows],
                    "cells": [_made(Cell, row) for row in data["cells"]],
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise DataError(f"this is no report of the conformance suite: {problem}") from None

    def save(self, path: str | Path) -> None:
        """Write ``report.json``: one line for each cell and each trial, so that line tools can read it."""
        data = self.to_json()
        parts = [
            f'"{name}": '
            + (
                _lines(value)
                if name in ("cells", "results")
                else json.dumps(value, ensure_ascii=False, allow_nan=False)
            )
            for name, value in data.items()
        ]
        Path(path).write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read ``report.json``. Raises DataError where the file holds no report."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as problem:
            raise DataError(f"{path} holds no JSON: {problem}") from None
        return cls.from_json(data)


def merged(findings: Sequence[Finding]) -> Finding:
    """Several findings of one direction as one: the worst error, the finest resolution, errors pooled."""
    pool = Pool()
    for finding in findings:
        pool.add(finding)
    return Finding(
        "", findings[0].direction, worst=largest([f.worst for f in findings if f.worst is not None]),
        undecided=sum(f.undecided for f in findings), size=pool.size,
        resolution=min((f.resolution for f in findings if f.resolution is not None), default=None),
        rms=pool.rms if pool.size else None, mean=pool.mean if pool.size else None,
        varied=any(f.varied for f in findings), grade=max((f.grade for f in findings if f.grade), default=None),
    )  # fmt: skip


@dataclass
class Pool:
    """Errors as shares of their bounds, added up over many arrays."""

    size: int = 0
    squares: float = 0.0
    total: float = 0.0

    def add(self, finding: Finding) -> None:
        if finding.rms is not None and finding.mean is not None and math.isfinite(finding.rms):
            self.size += finding.size
            self.squares += finding.rms**2 * finding.size
            self.total += finding.mean * finding.size

    @property
    def rms(self) -> float:
        return math.sqrt(self.squares / self.size) if self.size else 0.0

    @property
    def mean(self) -> float:
        return self.total / self.size if self.size else 0.0


def largest(values: list[float]) -> float | None:
    """The largest of some numbers, NaN being larger than any; None of none."""
    return max(values, key=lambda v: math.inf if math.isnan(v) else v) if values else None


def _lines(rows: list[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows) + "\n]"


def _row(item: Finding | Result | Cell) -> dict[str, Any]:
    return {f.name: _plain(value) for f in fields(item) if (value := getattr(item, f.name)) != _default(f)}


def _default(declared: Any) -> Any:
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


def _plain(value: Any) -> Any:
    """As JSON has it. JSON has no NaN and no infinity: they are written as words."""
    if hasattr(value, "item"):  # a number of numpy's
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    return _row(value) if isinstance(value, (Finding, Result, Cell)) else value


def _made(cls: type[T], row: Mapping[str, Any]) -> T:
    numbers = {f.name for f in fields(cls) if "float" in f.type}  # type: ignore[arg-type]
    return cls(**{name: float(v) if name in numbers and isinstance(v, str) else v for name, v in row.items()})
