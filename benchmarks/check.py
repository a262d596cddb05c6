"""Do all contenders compute the same? ``python -m benchmarks.check`` gives them the same weights and compares.

Compared with the first contender that answers, over all backends: the outputs; Adam's first moments after a step, which
are a tenth of the gradients; the losses of some steps. Bounds are shares of the largest value of an array. PyTorch
places Adam's epsilon differently, hence the looser bound for losses.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.contenders import KINDS
from benchmarks.driver import BACKENDS, worker
from benchmarks.workloads import WORKLOADS

BOUNDS = {"outputs": 5e-6, "gradients": 1e-4, "losses": 2e-3}


def results(workload: str, kind: str, backend: str) -> dict[str, np.ndarray] | str:
    """A contender's results, or why there are none."""
    with worker(workload, kind, backend) as contender, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.npz")
        answer = contender.answer()
        if "missing" not in answer:
            answer = contender.ask(path=str(path))
        if "missing" in answer:
            return answer["missing"]
        with np.load(path) as found:
            return dict(found)


def distance(found: dict[str, np.ndarray], reference: dict[str, np.ndarray], what: str) -> float | None:
    """The largest difference, as a share of the largest value of its array; None if it was not computed."""
    names = [name for name in reference if name.startswith(what.removesuffix("s")) and name in found]
    shares = [np.abs(found[n] - reference[n]).max() / np.abs(reference[n]).max() for n in names]
    return float(max(shares)) if shares else None


@click.command()
@click.option("--backend", multiple=True, type=click.Choice(BACKENDS), default=BACKENDS, help="Backends to check.")
@click.option("--workload", multiple=True, type=click.Choice(list(WORKLOADS)), default=list(WORKLOADS))
def main(backend: tuple[str, ...], workload: tuple[str, ...]) -> None:
    """Give all contenders the same weights, and compare what they compute."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title="Differences, as shares of the largest value", title_justify="left")
    for column in ("workload", "contender", *BOUNDS):
        table.add_column(column)
    wrong, missing = [], []
    for work in workload:
        reference = None
        for name in backend:
            for kind in KINDS:
                with Console(stderr=True).status(f"{work}, {kind} on {name}"):
                    found = results(work, kind, name)
                contender = f"{kind} on {name}"
                if isinstance(found, str):
                    missing.append(f"{work}, {contender}: {found}")
                    continue
                if reference is None:
                    reference = found
                away = [distance(found, reference, what) for what in BOUNDS]
                table.add_row(work, contender, *("-" if d is None else f"{d:.1e}" for d in away))
                for (what, bound), d in zip(BOUNDS.items(), away, strict=True):
                    if d is not None and not d <= bound:
                        wrong.append(f"{work}, {contender}: {what}")
        table.add_section()
    console.print(table)
    for line in missing:
        console.print(escape(f"- {line}"))
    if wrong:
        sys.exit("These differ: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
