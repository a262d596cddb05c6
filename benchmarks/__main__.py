"""``python -m benchmarks``: measure, and print."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from benchmarks import report, startup
from benchmarks.contenders import MEASURES
from benchmarks.driver import BACKENDS, compete
from benchmarks.workloads import WORKLOADS

ONCE = ("import", "binding")


def several(name: str, choices: Any, about: str) -> Any:
    """An option that can be given several times; all choices without it."""
    choices = list(choices)
    return click.option(name, multiple=True, type=click.Choice(choices), default=choices, help=about)


@click.command()
@several("--backend", BACKENDS, "Backends to run on.")
@several("--workload", (*WORKLOADS, *ONCE), "What to run.")
@several("--measure", MEASURES, "What to measure of a workload.")
@click.option("--rounds", default=9, show_default=True, help="Turns that count, for each contender and measure.")
@click.option("--seconds", default=0.2, show_default=True, help="The length of a turn.")
@click.option("--threads", default=2, show_default=True, help="Threads for each contender.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print the ratios as tables for the README.")
def main(
    backend: tuple[str, ...], workload: tuple[str, ...], measure: tuple[str, ...], rounds: int, seconds: float,
    threads: int, as_json: bool, markdown: bool,
) -> None:  # fmt: skip
    """LayerHub beside hand-written programs and Keras, on one machine in one run."""
    figures: list[dict[str, Any]] = []
    found: dict[str, Any] = {"steps": figures, "missing": {}}
    versions: dict[str, str] = {}
    with Console(stderr=True).status("starting") as status:
        for name in (w for w in workload if w in WORKLOADS):
            made, missing, packages = compete(name, backend, measure, rounds, seconds, threads, status.update)
            figures += made
            found["missing"] |= missing
            versions |= packages
        if "import" in workload:
            found["import"] = startup.imports(rounds, threads, status.update)
        if "binding" in workload:
            found["binding"] = startup.binding(backend, threads, status.update)
            failed = (f for f in found["binding"] if "missing" in f)
            found["missing"] |= {f"{f['layers']} layers on {f['backend']}": f["missing"] for f in failed}
    found["machine"] = {
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": dict(sorted(versions.items())),
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    sheets = report.steps(figures, rounds)
    sheets += [report.imports(found["import"])] if "import" in found else []
    sheets += [report.binding(found["binding"])] if "binding" in found else []
    used = [f"Python {platform.python_version()}", *(f"{name} {number}" for name, number in sorted(versions.items()))]
    about = f"{found['machine']['processor']}, {os.cpu_count()} cores, {threads} threads; {', '.join(used)}"
    absent = [f"{report.ABSENT} {name}: {reason}" for name, reason in found["missing"].items()]
    if markdown:
        click.echo("\n\n".join([*(sheet.markdown() for sheet in sheets), about, "\n".join(absent)]).strip())
        return
    # In a pipe, nobody sees how wide a terminal is: let no cell be cut.
    console = Console(width=None if sys.stdout.isatty() else 160)
    for sheet in sheets:
        sheet.show(console)
    console.print(escape(about))
    for line in absent:
        console.print(escape(line))
    if any(f["kept"] < rounds for f in figures):
        console.print("~ too few turns without a neighbour on the processor: measure again on a quieter machine")


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
