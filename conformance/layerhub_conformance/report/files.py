"""All forms of a report, as files in a folder."""

from __future__ import annotations

from pathlib import Path

from layerhub_conformance.report.badge import badge
from layerhub_conformance.report.compare import compare_runs
from layerhub_conformance.report.figures import figures
from layerhub_conformance.report.junit import junit
from layerhub_conformance.report.markdown import summary
from layerhub_conformance.report.model import Run
from layerhub_conformance.report.page import page


def write(run: Run, folder: str | Path, before: Run | None = None) -> list[Path]:
    """Write report.json, junit.xml, summary.md, badge.svg and index.html into a folder, which is made if need be.

    before: an earlier run, which the summary and the page compare this one with. Returns the paths of the files.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    run.save(out / "report.json")
    told, comparison = figures(run), compare_runs(before, run) if before else None
    texts = {
        "junit.xml": junit(run),
        "summary.md": summary(run, told, comparison),
        "badge.svg": badge(told),
        "index.html": page(run, told, comparison),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    return [out / name for name in ("report.json", *texts)]
