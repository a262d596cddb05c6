"""The catalogue: the faults that the score is made of, chosen once, and whether each is one.

It is frozen in ``catalogue.json``: by id, the first case that shows the fault in float64, null where none does (the
fault is equivalent, and does not count), or "contract" where it need not change a value.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from layerhub_conformance.selftest.bent import BENDS
from layerhub_conformance.selftest.faults import BUFFERED, CLASSES, Fault, faults_of
from layerhub_conformance.selftest.score import Subject

FROZEN = Path(__file__).parent / "catalogue.json"
CONTRACT = "contract"
"""Stands for the case that shows a fault which need not change a value."""
SHARES = {
    "layer": (10, 10, 10, 6, 10, 7),
    "activation": (6, 4, 4, 4, 5, 5),
    "loss": (6, 5, 5, 4, 5, 5),
    "optimizer": (8, 10, 6, 2, 0, 1),
}
"""How many faults a spec of each kind gets of each class, where it has as many."""


def chosen(subject: Subject) -> list[Fault]:
    """The faults of a spec: of each class some, drawn by the spec's name."""
    found = []
    for family, count in zip(CLASSES, SHARES[subject.kind], strict=True):
        those = [f for f in faults_of(subject.kind, subject.name) if f.family == family]
        if family == "numeric":
            # A function that is never asked for cannot be wrong.
            those = [f for f in those if f.what.split()[0] in subject.asked & BENDS.keys()]
        rng = random.Random(f"{subject.kind} {subject.name} {family}")
        found += sorted(rng.sample(those, min(count, len(those))), key=those.index)
    return found


def decided(subject: Subject) -> dict[str, str | None]:
    """The part of the catalogue that speaks of a spec; nothing where there is no case of it."""
    if not subject.cases:
        return {}
    return {fault.id: _broken(subject, fault) if fault.silent else subject.shown_by(fault) for fault in chosen(subject)}


def _broken(subject: Subject, fault: Fault) -> str | None:
    # What an activation always follows is never given to anybody, and its memory may well be used again.
    inside = subject.kind == "layer" and all(case.make().trailing is not None for case in subject.cases)
    return None if inside and fault.what.startswith(BUFFERED) else CONTRACT


def freeze(rows: dict[str, str | None], path: Path = FROZEN) -> None:
    """Write the catalogue, one fault on a line."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(shown)}" for name, shown in rows.items())
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


@cache
def catalogue() -> dict[str, str | None]:
    """All faults by id, with the case that shows each."""
    return json.loads(FROZEN.read_text(encoding="utf-8"))


def listed(kind: str, name: str, ids: Sequence[str]) -> list[tuple[Fault, str | None]]:
    """The faults of a spec that have these ids, with the case that shows each. Raises KeyError for those unknown."""
    made = {fault.id: fault for fault in faults_of(kind, name)}
    return [(made[name], catalogue()[name]) for name in ids]
