"""The summary in Markdown, for a pull request or the page of a build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerhub_conformance.report.compare import Comparison
from layerhub_conformance.report.figures import NOT_RUN, Figures, disagreements, faults, rank
from layerhub_conformance.report.model import FAILING, LIMIT, VERDICTS, Result, Run
from layerhub_conformance.report.wording import code, escaped, moment, number, seconds, share

MARKS = {"pass": "✅", "fail": "❌", NOT_RUN: "➖"}
MOST = 25
"""How many kinds of failures are told."""


def summary(run: Run, figures: Figures, comparison: Comparison | None = None) -> str:
    """The whole summary. Kinds of failures past the first ``MOST`` are counted; ``report.json`` has them all."""
    parts = [_head(run, figures), _backends(run, figures), _failures(run), _cells(run), _who(run), _not_run(figures)]
    parts += [comparison.markdown()] if comparison else []
    return "\n".join(part for part in parts if part)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def _head(run: Run, figures: Figures) -> str:
    worst = f"The largest error that passed is {share(figures.worst)} of its bound; {LIMIT} is the limit.\n"
    return "\n".join(
        [
            f"# {MARKS[figures.verdict]} {figures.headline}\n",
            f"LayerHub {escaped(run.layerhub)}, suite {escaped(run.suite)}, tier {escaped(run.tier)}, "
            f"{escaped(moment(run.created))}, {seconds(run.seconds)}. {code(run.command)}\n",
            _table(
                ["", *VERDICTS, NOT_RUN],
                [
                    [name, *(f"{counts[v]:,}" for v in VERDICTS), f"{counts[NOT_RUN]:,}" if NOT_RUN in counts else ""]
                    for name, counts in (("specs", figures.specs), ("cells", figures.cells), ("trials", figures.trials))
                ],
            ),
            worst if figures.worst is not None else "",
        ]
    )


def _backends(run: Run, figures: Figures) -> str:
    rows = [
        [escaped(name), escaped(version(run.backends.get(name, {}))), *(f"{counts[v]:,}" for v in VERDICTS)]
        for name, counts in figures.backends.items()
    ]
    return "## Cells by backend\n\n" + _table(["backend", "version", *VERDICTS], rows) if rows else ""


def version(backend: Mapping[str, Any]) -> str:
    """The versions of what a backend is made of."""
    return ", ".join(f"{name} {v}" for name, v in backend.get("versions", {}).items())


def _failures(run: Run) -> str:
    """The worst trial of each kind: the same arrays of a spec, wrong on the same backend."""
    kinds: dict[tuple[str, ...], list[Result]] = {}
    for r in run.results:
        if r.verdict in FAILING:
            arrays = [f.what for f in faults(r)]
            kinds.setdefault((r.kind, r.subject, r.backend, r.check, *arrays), []).append(r)
    if not kinds:
        return ""
    told = [line for same in list(kinds.values())[:MOST] for line in _failure(same)]
    total = sum(map(len, kinds.values()))
    more = [f"\n… and {len(kinds) - MOST:,} more kinds, in report.json"] if len(kinds) > MOST else []
    return "\n".join([f"## {total:,} failing trials, of {len(kinds):,} kinds\n", *told, *more]) + "\n"


def _failure(same: list[Result]) -> list[str]:
    r = max(same, key=lambda r: max((rank(f.worst) for f in faults(r)), default=0.0))
    where = f"{escaped(r.backend)}, {escaped(r.dtype)}, {escaped(r.route)}, {escaped(r.mode)}"
    lines = [f"- **{escaped(r.subject)}** on {where}: {code(r.case)}"]
    lines[0] += f" and {len(same) - 1:,} more" if len(same) > 1 else ""
    lines.append(f"  - {r.verdict}, {escaped(r.check)}" + (f": {escaped(r.message)}" if r.message else ""))
    lines += [
        f"  - {escaped(f.what)}: {share(f.worst)} of its bound, {escaped(f.pattern or 'no pattern')}; at "
        f"{code(str(list(f.index)))} {number(f.got)}, not {number(f.expected)} within {number(f.bound, 3)}"
        for f in faults(r)
        if f.worst is not None
    ]
    return [*lines, f"  - {code(r.replay)}"] if r.replay else lines


def _cells(run: Run) -> str:
    told = [c for c in run.cells if c.reasons and c.verdict in FAILING]
    lines = [f"- {escaped(c.label)}: {c.verdict}, {escaped('; '.join(c.reasons))}" for c in told[:MOST]]
    lines += [f"\n… and {len(told) - MOST:,} more in report.json"] if len(told) > MOST else []
    return "## Cells that fail as a whole\n\n" + "\n".join(lines) + "\n" if told else ""


def _who(run: Run) -> str:
    groups = disagreements(run)
    rows = [
        [escaped(who), f"{len(rows):,}", escaped(", ".join(sorted({row.subject for row in rows})))]
        for who, rows in groups.items()
    ]
    return "## Who disagrees\n\n" + _table(["who", "arrays", "specs"], rows) if rows else ""


def _not_run(figures: Figures) -> str:
    missing: dict[str, list[str]] = {}
    for (kind, name), standing in figures.standings.items():
        if standing == NOT_RUN:
            missing.setdefault(kind, []).append(name)
    lines = [f"- {escaped(kind)}: {escaped(', '.join(sorted(names)))}" for kind, names in missing.items()]
    return "## Not run\n\n" + "\n".join(lines) + "\n" if lines else ""
