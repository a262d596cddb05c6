"""What changed between two runs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from layerhub_conformance.report.figures import NOT_RUN
from layerhub_conformance.report.model import FAILING, Cell, Result, Run
from layerhub_conformance.report.wording import escaped, moment, seconds, share

FACTOR = 1.5
"""How many times slower, or less exact, a cell must be to be named."""
SHORTEST = 0.1
"""Seconds below which the time of a cell is noise."""
SMALLEST = 0.1
"""Shares of the bound below which an error is of no interest, however much it grew."""
CHANGES = {
    "newly_failing": "Newly failing",
    "fixed": "Fixed",
    "gone": "Failed, and no longer run",
    "larger_errors": "Larger errors",
    "slower": "Slower",
}
"""The kinds of changes, with their titles."""


@dataclass(frozen=True)
class Change:
    """One trial or cell, in words: what it was and what it is."""

    name: str
    old: str
    new: str
    factor: float | None = None


@dataclass(frozen=True)
class Comparison:
    """newly_failing, fixed, gone: trials, and cells whose verdict no trial explains. larger_errors, slower: cells."""

    old: str
    new: str
    newly_failing: list[Change] = field(default_factory=list)
    fixed: list[Change] = field(default_factory=list)
    gone: list[Change] = field(default_factory=list)
    larger_errors: list[Change] = field(default_factory=list)
    slower: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, list[Change]]]:
        """Titles with their changes."""
        return ((title, getattr(self, name)) for name, title in CHANGES.items())

    def text(self, most: int = 20) -> str:
        """For a terminal; at most so many changes of a kind."""
        lines = [f"{self.old} -> {self.new}", *self.notes]
        for title, changes in self:
            lines.append(f"{title}: {len(changes) or 'none'}")
            lines += [f"  {c.name}: {c.old} -> {c.new}" for c in changes[:most]]
            lines += [f"  and {len(changes) - most} more"] * (len(changes) > most)
        return "\n".join(lines) + "\n"

    def markdown(self, most: int = 50) -> str:
        """As a section of a summary; at most so many changes of a kind."""
        lines = ["## Compared", "", f"Before: {escaped(self.old)}. Now: {escaped(self.new)}.", ""]
        lines += [f"{escaped(note)}\n" for note in self.notes]
        for title, changes in self:
            lines += [f"### {title}: {len(changes) or 'none'}", ""]
            if changes:
                lines += ["| what | before | now |", "|---|---|---|"]
                lines += [f"| {escaped(c.name)} | {escaped(c.old)} | {escaped(c.new)} |" for c in changes[:most]]
                lines += [f"\nand {len(changes) - most} more"] * (len(changes) > most) + [""]
        return "\n".join(lines).rstrip() + "\n"


def compare_runs(old: Run, new: Run) -> Comparison:
    """What changed from one run to another.

    Trials are matched by what they try, cells by place; what only the new run tried counts where it fails. Times are
    compared trial for trial, so that a cell with more trials is not slower, and only between runs of one machine.
    """
    back = list(_failing(new, old))
    cells = _pairs(old, new)
    same = old.machine == new.machine
    return Comparison(
        _head(old),
        _head(new),
        newly_failing=[Change(name, was or NOT_RUN, now) for name, was, now in _failing(old, new)],
        fixed=[Change(name, now, was) for name, was, now in back if was],
        gone=[Change(name, now, NOT_RUN) for name, was, now in back if not was],
        larger_errors=_sorted(_error(a, b) for a, b in cells),
        slower=_sorted(_time(a, b) for a, b in cells) if same else [],
        notes=[] if same else ["The two runs had different machines: times are not compared."],
    )


def _head(run: Run) -> str:
    return f"{moment(run.created)}, layerhub {run.layerhub}, tier {run.tier}"


def _failing(first: Run, then: Run) -> Iterator[tuple[str, str, str]]:
    """What fails in the second run and did not in the first: name, verdict in the first ("" if not run), in the second.

    A cell is named where no such trial in it explains its verdict.
    """
    explained: set[Hashable] = set()
    was = {_trial(r): r.verdict for r in first.results}
    for result in then.results:
        verdict = was.get(_trial(result), "")
        if result.verdict in FAILING and verdict not in FAILING:
            spec = (result.kind, result.subject, result.backend, result.dtype)
            explained |= {(*spec, d) for d in result.directions if result.verdict_in(d) in FAILING}
            yield f"{result.check}: {result.case} on {_where(result)}", verdict, result.verdict
    stood = {_place(c): c.verdict for c in first.cells}
    for cell in then.cells:
        verdict = stood.get(_place(cell), "")
        if cell.verdict in FAILING and verdict not in FAILING and _place(cell) not in explained:
            yield cell.label, verdict, cell.verdict + "".join(f" ({reason})" for reason in cell.reasons)


def _trial(result: Result) -> Hashable:
    return (result.id, result.kind, result.check, result.backend, result.dtype, result.route, result.mode)


def _where(result: Result) -> str:
    return f"{result.backend}, {result.dtype}, {result.route}, {result.mode}"


def _place(cell: Cell) -> Hashable:
    return (cell.kind, cell.subject, cell.backend, cell.dtype, cell.direction)


def _pairs(old: Run, new: Run) -> list[tuple[Cell, Cell]]:
    before = {_place(cell): cell for cell in old.cells}
    return [(before[_place(cell)], cell) for cell in new.cells if _place(cell) in before]


def _error(old: Cell, new: Cell) -> Change | None:
    if old.worst is None or new.worst is None or math.isnan(old.worst):
        return None
    if not math.isnan(new.worst) and (new.worst < SMALLEST or new.worst < FACTOR * old.worst):
        return None
    factor = new.worst / old.worst if old.worst and math.isfinite(new.worst) else math.inf
    return Change(new.label, f"{share(old.worst)} of the bound", share(new.worst), factor)


def _time(old: Cell, new: Cell) -> Change | None:
    if not (old.run and new.run and old.seconds) or new.seconds < SHORTEST:
        return None
    factor = (new.seconds / new.run) / (old.seconds / old.run)
    if factor < FACTOR:
        return None
    runs = f" ({old.run} and {new.run} trials)" if old.run != new.run else ""
    return Change(new.label, seconds(old.seconds), f"{seconds(new.seconds)}{runs}", factor)


def _sorted(changes: Iterable[Change | None]) -> list[Change]:
    return sorted((c for c in changes if c), key=lambda c: -(c.factor or 0))
