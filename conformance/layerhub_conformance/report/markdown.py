"""The summary in Markdown, for a pull request or the page of a build."""

from __future__ import annotations

from layerhub_conformance.report.compare import Comparison
from layerhub_conformance.report.figures import NOT_RUN, Figures, disagreements, faults
from layerhub_conformance.report.model import LIMIT, VERDICTS, Run
from layerhub_conformance.report.wording import code, escaped, moment, number, seconds, share

MOST = 25
"""How many failures are told in full."""


def summary(run: Run, figures: Figures, comparison: Comparison | None = None) -> str:
    """The whole summary. Failures past the first ``MOST`` are counted; ``report.json`` has them all."""
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
            f"# {'❌' if figures.verdict == 'fail' else '✅' if figures.verdict == 'pass' else '➖'} {figures.headline}\n",
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


def version(backend: dict) -> str:
    """A backend's version, or versions."""
    found = backend.get("versions", backend.get("version", ""))
    return ", ".join(f"{name} {v}" for name, v in found.items()) if isinstance(found, dict) else str(found)


def _failures(run: Run) -> str:
    failing = [r for r in run.results if r.verdict in ("fail", "mistrusted")]
    if not failing:
        return ""
    lines = [f"## {len(failing):,} failing trials\n"]
    for r in failing[:MOST]:
        lines.append(f"- **{escaped(r.subject)}** on {escaped(r.backend)}, {r.dtype}, {r.route}, {r.mode}: {code(r.case)}")
        lines += [f"  - {r.verdict}, {escaped(r.check)}" + (f": {escaped(r.message)}" if r.message else "")]
        lines += [
            f"  - {escaped(f.what)}: {share(f.worst)} of its bound, {escaped(f.pattern or 'no pattern')}; at "
            f"{code(str(list(f.index)))} {number(f.got)}, not {number(f.expected)} within {number(f.bound, 3)}"
            for f in faults(r)
            if f.worst is not None
        ]
        lines += [f"  - {code(r.replay)}"] if r.replay else []
    lines += [f"\n… and {len(failing) - MOST:,} more in report.json"] if len(failing) > MOST else []
    return "\n".join(lines) + "\n"


def _cells(run: Run) -> str:
    told = [c for c in run.cells if c.reasons and c.verdict in ("fail", "mistrusted")]
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
