"""Cells: what all trials of one spec, on one backend, in one type and direction say together.

Beside the worst verdict of its trials, a cell is judged by what no single trial shows. Its errors, as shares of their
bounds, may not be much larger, nor lean to one side much more, than on backends that are known to be right: that finds
a scaling by one part in a million, which stays within every bound. And a cell that proves nothing is mistrusted.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from layerhub_conformance.report.model import Cell, Finding, Pool, Result, largest

EXPERIENCE = Path(__file__).parent / "experience.json"
"""Errors of correct backends: rms and mean of error / bound, by spec, check, type, direction and data set."""
MARGIN = 4.0
"""How many times the errors of correct backends are still taken for correct."""
NOTICEABLE = 0.005
"""Errors of so small a share of their bounds say nothing: where sums cancel or functions saturate, whether they are
zero or a little more depends on the processor, which has an order of its own for the terms of a sum."""
COARSE = 1e-4
"""The smallest relative fault that at least one float32 case of each layer must be able to show."""
ENOUGH = 30
"""Elements below which errors are not judged together."""


def group(result: Result, direction: str) -> str:
    """The name under which errors are pooled."""
    data = result.case.rpartition(";data=")[2] if ";data=" in result.case else "normal"
    return f"{result.kind}/{result.subject}/{result.check}/{result.dtype}/{direction}/{data}"


def routes(result: Result) -> tuple[str, ...]:
    """Those that a result speaks of: where no kernel served, the definition's too, which is then not taken again."""
    both = result.route == "kernel" and set(result.served) == {"definition"}
    return (result.route, "definition") if both else (result.route,)


Experience = Mapping[str, tuple[float, float]]


@dataclass
class Gathered:
    """What a cell's trials add up to."""

    results: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    pools: dict[str, Pool] = field(default_factory=lambda: defaultdict(Pool))

    def add(self, result: Result, direction: str) -> None:
        self.results.append(result)
        for finding in result.findings:
            # What is known to fail says nothing of the rest.
            if finding.direction == direction and result.verdict != "xfail":
                self.findings.append(finding)
                for route in routes(result) if result.verdict == "pass" else ():
                    self.pools[f"{group(result, direction)}/{route}"].add(finding)


def judge(results: Iterable[Result], complete: bool) -> list[Cell]:
    """The cells of a run. complete: all cases of each spec were run, so that what they lack is held against them."""
    gathered: dict[tuple[str, str, str, str, str], Gathered] = {}
    for result in results:
        for direction in result.directions:
            key = (result.kind, result.subject, result.backend, result.dtype, direction)
            gathered.setdefault(key, Gathered()).add(result, direction)
    return [_cell(*key, found, complete) for key, found in sorted(gathered.items())]


def _cell(kind: str, subject: str, backend: str, dtype: str, direction: str, found: Gathered, complete: bool) -> Cell:
    verdicts = [result.verdict_in(direction) for result in found.results]
    counts = {verdict: verdicts.count(verdict) for verdict in ("pass", "fail", "xfail", "unsupported", "mistrusted")}
    # Of a part of the cases, errors are not comparable with those of all.
    off = [*_aggregate(found.pools)] if complete else []
    doubts = _doubts(found, dtype, direction) if complete else []
    verdict = (
        "fail" if counts["fail"] or off
        else "mistrusted" if counts["mistrusted"] or doubts
        else "pass" if counts["pass"]
        else "xfail" if counts["xfail"]
        else "unsupported"
    )  # fmt: skip
    resolutions = [f.resolution for f in found.findings if f.resolution is not None]
    grades = {f.grade for f in found.findings if f.grade}
    pool = Pool()
    for finding in found.findings:
        pool.add(finding)
    return Cell(
        subject, backend, dtype, direction, verdict,
        run=len(found.results), passed=counts["pass"], failed=counts["fail"], xfailed=counts["xfail"],
        unsupported=counts["unsupported"],
        worst=largest([f.worst for f in found.findings if f.worst is not None]),
        resolution=min(resolutions, default=None), rms=pool.rms if pool.size else None,
        seconds=sum(r.seconds for r in found.results), grade=max(grades, default=None),
        reasons=(*off, *doubts), kind=kind,
    )  # fmt: skip


def _doubts(found: Gathered, dtype: str, direction: str) -> list[str]:
    """Why a cell in which nothing is wrong proves nothing."""
    ran = [r for r in found.results if r.verdict in ("pass", "fail", "xfail")]
    if not ran:
        return [] if all(r.verdict == "unsupported" for r in found.results) else ["nothing ran"]
    if not found.findings:
        return []
    doubts = [] if any(f.varied for f in found.findings) else ["all outputs are constant"]
    resolutions = [f.resolution for f in found.findings if f.resolution is not None]
    if dtype == "float32" and direction == "forward" and resolutions and min(resolutions) > COARSE:
        doubts.append(f"no case shows a fault smaller than {min(resolutions):.2g}")
    return doubts


def _aggregate(pools: dict[str, Pool]) -> Iterable[str]:
    """What is wrong with the errors taken together."""
    known = experience()
    for name, pool in pools.items():
        usual = known.get(name.rpartition("/")[0])
        if usual is None or pool.size < ENOUGH:
            continue
        rms, mean = max(usual[0], NOTICEABLE), usual[1]
        where = "/".join(name.split("/")[2:])
        if pool.rms > MARGIN * rms:
            yield f"errors are {pool.rms / rms:.3g} times those of correct backends ({where})"
        if abs(pool.mean) > max(MARGIN * mean, rms):
            yield f"errors lean to one side, by {pool.mean / rms:+.3g} of what is usual ({where})"


@cache
def experience() -> dict[str, tuple[float, float]]:
    """(rms, |mean|) of error / bound on correct backends, by group."""
    if not EXPERIENCE.exists():
        return {}
    return {name: (row[0], row[1]) for name, row in json.loads(EXPERIENCE.read_text())["errors"].items()}


def gain_experience(results: Sequence[Result], path: Path = EXPERIENCE, known: Experience | None = None) -> int:
    """Write what the errors of backends that are known to be right are; gives the number of groups.

    known: what other runs, on other processors, have shown before; the largest counts.
    """
    pools: dict[str, Pool] = defaultdict(Pool)
    for result in results:
        if result.verdict == "pass":
            for finding, route in itertools.product(result.findings, routes(result)):
                pools[f"{group(result, finding.direction)}/{result.backend}/{route}"].add(finding)
    worst: dict[str, tuple[float, float]] = dict(known or {})
    for name, pool in pools.items():
        if pool.size >= ENOUGH:
            key = name.rsplit("/", 2)[0]
            rms, mean = worst.get(key, (0.0, 0.0))
            worst[key] = (max(rms, pool.rms), max(mean, abs(pool.mean)))
    rows = {name: [float(f"{x:.3g}") for x in pair] for name, pair in sorted(worst.items()) if pair[0] > 0}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    path.write_text('{"version": 1, "errors": {\n' + lines + "\n}}\n")
    return len(rows)
