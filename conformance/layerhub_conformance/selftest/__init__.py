"""The suite's own proof: ``layerhub conformance self-test`` plants faults in right kernels and counts what is found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from layerhub.registry import registry
from layerhub_conformance.selftest.faults import CLASSES


@click.command("self-test")
@click.option("--backend", default="numpy", show_default=True, help="The backend whose kernels get the faults.")
@click.option("--layer", "names", multiple=True, help="A spec whose faults to plant, by its name; repeat it.")
@click.option("--class", "classes", multiple=True, type=click.Choice(CLASSES), help="A class of faults; repeat it.")
@click.option("--sample", type=int, help="Plant only so many, drawn evenly over all.")
@click.option("--jobs", type=int, default=2, show_default=True, help="How many processes to run in.")
@click.option("--resume", type=click.Path(dir_okay=False), help="A file to keep results in, and to go on from.")
@click.option(
    "--from", "reports", multiple=True, type=click.Path(exists=True), help="A report.json of a right backend."
)
@click.option("--alarms", is_flag=True, help="Run the suite on all usable backends, to count false alarms.")
@click.option("--write", "page", type=click.Path(dir_okay=False), help="A Markdown file to write the result to.")
@click.option("--json", "data", is_flag=True, help="Print JSON instead of tables.")
@click.option("--freeze", is_flag=True, help="Choose the faults anew, and write the catalogue.")
def self_test(**given: Any) -> None:
    """Plant faults in right kernels, and count how many the suite finds. Exits with 0 at 99 % and no false alarm."""
    sys.exit(main(**given))


def main(
    backend: str = "numpy", names: tuple[str, ...] = (), classes: tuple[str, ...] = (), sample: int | None = None,
    jobs: int = 2, resume: str | None = None, reports: tuple[str, ...] = (), alarms: bool = False,
    page: str | None = None, data: bool = False, freeze: bool = False,
) -> int:  # fmt: skip
    """Run the self-test; gives the exit status."""
    from layerhub_conformance.selftest import running, writing

    registry().backend(backend)
    if freeze:
        running.freeze(backend, jobs, click.echo)
        return 0
    ids = running.wanted(backend, names, classes, sample)
    records = running.run(backend, ids, jobs, Path(resume) if resume else None, lambda text: click.echo(text, err=True))
    whole = not (names or classes or sample)
    right = running.right(backend, jobs) if whole else []
    counted = running.counted([*map(Path, reports), *(running.reports() if alarms else [])])
    score = writing.Score(backend, records, right, counted)
    click.echo(json.dumps(score.as_dict()) if data else score.text())
    if page:
        Path(page).write_text(score.markdown(), encoding="utf-8")
    return 0 if score.good else 1
