"""The score as text, as data and as a page."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from layerhub_conformance.selftest.faults import CLASSES
from layerhub_conformance.selftest.running import Correct, Right
from layerhub_conformance.selftest.score import CAUGHT, EQUIVALENT, SURVIVED, Record

ENOUGH = 0.99
"""The share of faults that must be found."""


@dataclass
class Score:
    """What came of all faults. right: of kernels without any; correct: of whole backends without any."""

    backend: str
    records: Sequence[Record]
    right: Sequence[Right] = ()
    correct: Sequence[Correct] = ()

    @property
    def counted(self) -> list[Record]:
        """The records of what is a fault."""
        return [record for record in self.records if record.verdict != EQUIVALENT]

    @property
    def survivors(self) -> list[Record]:
        return [record for record in self.records if record.verdict == SURVIVED]

    @property
    def alarms(self) -> int:
        return sum(len(found.alarms) for found in self.right) + sum(found.alarms for found in self.correct)

    @property
    def good(self) -> bool:
        """Whether enough was found, and nothing else."""
        return len(self.survivors) <= (1 - ENOUGH) * len(self.counted) and not self.alarms

    def by(self, name: Callable[[Record], str]) -> dict[str, tuple[int, int, int]]:
        """(caught, all, equivalent) by a name of the record's."""
        rows: dict[str, Counter[str]] = {}
        for record in self.records:
            rows.setdefault(name(record), Counter())[record.verdict] += 1
        return {key: (n[CAUGHT], n[CAUGHT] + n[SURVIVED], n[EQUIVALENT]) for key, n in rows.items()}

    def as_dict(self) -> dict[str, Any]:
        caught = len(self.counted) - len(self.survivors)
        return {
            "backend": self.backend, "caught": caught, "faults": len(self.counted),
            "equivalent": len(self.records) - len(self.counted), "false_alarms": self.alarms,
            "records": [record.as_dict() for record in self.records],
        }  # fmt: skip

    def text(self) -> str:
        """Tables for a terminal."""
        found = self.as_dict()
        lines = [
            f"{row[0]:<14}{row[1]:>6} of {row[2]:<6}{row[3]:>6} equivalent" for row in self._rows(_family, CLASSES)
        ]
        lines += [_survivor(record) for record in self.survivors]
        lines += [f"false alarm: {_short(alarm)}" for row in self.right for alarm in row.alarms]
        share = _percent(found["caught"], found["faults"])
        return "\n".join([*lines, f"{found['caught']} of {found['faults']} faults caught: {share}"])

    def _rows(self, name: Callable[[Record], str], order: Sequence[str] = ()) -> list[tuple[str, int, int, int]]:
        found = self.by(name)
        return [(key, *found[key]) for key in (order or sorted(found)) if key in found]

    def markdown(self) -> str:
        """The page."""
        found = self.as_dict()
        trials = sum(row.trials for row in self.right)
        parts = [
            "# The suite's self-test",
            "",
            "How many faults does the conformance suite find? Faults are planted in right kernels, one at a time, "
            "through the plugin hook; then the suite's checks run as they do for any backend. A fault counts if it "
            "changes a float64 result in some case of its spec, or breaks a kernel's contract. The catalogue of faults "
            "is frozen in `conformance/layerhub_conformance/selftest/catalogue.json`.",
            "",
            f"**{found['caught']} of {found['faults']} faults were caught: "
            f"{_percent(found['caught'], found['faults'])}.** {found['equivalent']} more of the catalogue change "
            "nothing and do not count.",
            "",
            f"Command: `{_command()}`  ",
            f"Versions: {_versions()}",
            "",
            "## By class",
            "",
            *_table(("class", "caught", "faults", "share", "equivalent"), self._shares(_family, CLASSES)),
            "",
            "## What caught them",
            "",
            *_table(("check", "faults"), Counter(r.by for r in self.records if r.by).most_common()),
            "",
            "## False alarms",
            "",
            *([f"Right kernels, planted in the same way: {trials} trials, "
               f"{sum(len(row.alarms) for row in self.right)} alarms.", ""] if self.right else []),
            *[f"- {_short(alarm)}" for row in self.right for alarm in row.alarms],
            "",
            *(_table(("backend", "correct trials", "alarms"), [(c.backend, c.passed, c.alarms) for c in self.correct])
              if self.correct else []),
            "",
            "## Survivors",
            "",
            *([f"- {_survivor(record)}" for record in self.survivors] or ["None."]),
            "",
            "## By spec",
            "",
            *_table(("spec", "caught", "faults", "share", "equivalent"), self._shares(_spec)),
            "",
        ]  # fmt: skip
        return "\n".join(parts)

    def _shares(self, name: Callable[[Record], str], order: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        return [
            (key, caught, all_, _percent(caught, all_), same) for key, caught, all_, same in self._rows(name, order)
        ]


def _family(record: Record) -> str:
    return record.id.split(": ", 2)[1]


def _spec(record: Record) -> str:
    return record.id.partition(":")[0]


def _survivor(record: Record) -> str:
    return f"{record.id} (largest error: {record.z:.3g} of what is allowed)"


def _short(alarm: str) -> str:
    return alarm if len(alarm) <= 300 else f"{alarm[:140]} … {alarm[-150:]}"


def _percent(part: int, whole: int) -> str:
    # Never rounded up: 99.97 % is not all of them.
    return f"{int(10000 * part / whole) / 100:g} %" if whole else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def _command() -> str:
    return " ".join(["layerhub conformance self-test", *sys.argv[sys.argv.index("self-test") + 1 :]]
                    if "self-test" in sys.argv else ["layerhub conformance self-test"])  # fmt: skip


def _versions() -> str:
    names = ("layerhub", "layerhub-conformance", "numpy")
    return ", ".join([*(f"{name} {version(name)}" for name in names), f"Python {platform.python_version()}"])
