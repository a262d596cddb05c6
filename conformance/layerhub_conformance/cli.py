"""The suite on the command line: ``layerhub conformance`` and what belongs to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from layerhub.config import FLOATS
from layerhub.errors import DataError
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub_conformance.selftest import self_test

TIERS = click.Choice(["smoke", "quick", "certify", "explore"])


@click.group(invoke_without_command=True)
@click.option("--backend", multiple=True, help="A backend to run on; repeat it. Default: all usable ones.")
@click.option("--layer", multiple=True, help="A layer to run; repeat it. Default: all.")
@click.option("--dtype", multiple=True, type=click.Choice(FLOATS), help="A float type; repeat it.")
@click.option("--route", multiple=True, type=click.Choice(["kernel", "definition"]), help="Default: both.")
@click.option("--check", "checks", multiple=True, help="A check, by how its name begins; repeat it.")
@click.option("--case", "cases", multiple=True, help="A case, by its id; also writes a script of it.")
@click.option("--device", help="The device to run on.")
@click.option("-n", "workers", default="1", help="How many processes to run in.")
@click.option("--tier", type=TIERS, default="certify", show_default=True, help="How much to run.")
@click.option("--minutes", type=float, default=10.0, show_default=True, help="How long to explore.")
@click.option("--report", type=click.Path(file_okay=False), help="A folder for the report: index.html, report.json, …")
@click.option("--against", type=click.Path(exists=True), help="An earlier report.json, to compare with in the report.")
@click.option("--expected", multiple=True, type=click.Path(exists=True), help="A list of expected failures; repeat it.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds that one trial may take.")
@click.option("--exhaustive", is_flag=True, help="Every combination of what is written by hand; takes long.")
@click.option("--json", "data", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def conformance(context: click.Context, **given: Any) -> None:
    """Prove that backends compute what the definitions mean. Exits with 0 when all pass, 1 on failures, 2 on misuse."""
    if context.invoked_subcommand is not None:
        return
    for name in given["backend"]:
        registry().check_usable(name)
    for name in given["layer"]:
        KINDS["layer"].find(name)
    if given["tier"] == "explore":
        from layerhub_conformance.explore import explore

        status = explore(
            given["backend"], given["layer"], given["minutes"], Path(given["report"] or "."), click.echo,
            int(given["workers"]), given["dtype"], given["timeout"], given["device"],
        )  # fmt: skip
        sys.exit(status)
    sys.exit(_run(given))


def _run(given: dict[str, Any]) -> int:
    """Run the suite by pytest; gives the exit status."""
    several = ("backend", "layer", "dtype", "route", "expected")
    chosen = [(name, value) for name in several for value in given[name]]
    chosen += [("check", value) for value in given["checks"]] + [("case", value) for value in given["cases"]]
    chosen += [
        (name, given[name]) for name in ("device", "report", "against", "tier", "timeout") if given[name] is not None
    ]
    options = [f"--layerhub-{name}={value}" for name, value in chosen]
    options += [f"-n{given['workers']}"] if given["workers"] != "1" else []
    options += ["--layerhub-exhaustive"] if given["exhaustive"] else []
    options += ["--layerhub-json"] if given["data"] else []
    # A project's own pytest options are for its tests; what is asked for here is said here.
    quiet = ["-q", "--no-header", "-p", "no:cacheprovider", "--disable-warnings", "-o", "addopts="]
    command = [sys.executable, "-m", "pytest", "--pyargs", "layerhub_conformance", *quiet, *options]
    # A process of its own, so that what pytest leaves behind ends with it.
    done = subprocess.run(command, stdout=subprocess.PIPE if given["data"] else None, text=True)
    if given["data"]:
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"layerhub"')]
        click.echo(lines[-1] if lines else json.dumps({"layerhub": [], "error": done.stdout[-2000:]}))
    # pytest's 0 and 1 mean what ours do; all it has beside them is misuse.
    return done.returncode if done.returncode in (0, 1) else 2


conformance.add_command(self_test)


@conformance.command()
@click.argument("old", type=click.Path(exists=True))
@click.argument("new", type=click.Path(exists=True))
@click.option("--markdown", is_flag=True, help="Print Markdown instead of text.")
def diff(old: str, new: str, markdown: bool) -> None:
    """Compare two runs: OLD and NEW are report.json files, or folders that hold one. Exits with 1 on new failures."""
    from layerhub_conformance.report import Run, compare_runs

    first, second = (Run.load(path / "report.json" if (path := Path(p)).is_dir() else path) for p in (old, new))
    found = compare_runs(first, second)
    click.echo(found.markdown() if markdown else found.text())
    sys.exit(1 if found.newly_failing else 0)


@conformance.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--anew", is_flag=True, help="Forget what was usual before, as when the cases have changed.")
def learn(reports: tuple[str, ...], anew: bool) -> None:
    """Take the errors in report.json files of backends that are known to be right for what is usual."""
    from layerhub_conformance.judgement import experience, gain_experience
    from layerhub_conformance.report import Run

    runs = [Run.load(path) for path in reports]
    known = {} if anew else experience()
    click.echo(f"{gain_experience([result for run in runs for result in run.results], known=known)} groups")


@click.command()
@click.argument("model", type=click.Path(exists=True))
@click.option("--backends", help="The backends, with commas between them. Default: all usable ones.")
@click.option("--inputs", type=click.Path(exists=True), help="A .npz (in the order of its names) or .npy of inputs.")
@click.option("--training", is_flag=True, help="As in training: dropout drops, statistics are of the batch.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of inputs that are drawn, and of cotangents.")
@click.option("--json", "data", is_flag=True, help="Print JSON instead of a table.")
def compare(model: str, backends: str | None, inputs: str | None, training: bool, seed: int, data: bool) -> None:
    """Run a saved MODEL on several backends: outputs and gradients, layer by layer, and who is off.

    Exits with 0 when all agree with what the layers mean, 1 when one does not.
    """
    import layerhub as lh
    from layerhub_conformance.models import compare_model

    names = [name.strip() for name in backends.split(",")] if backends else list(registry().usable())
    for name in names:
        registry().check_usable(name)
    found = compare_model(lh.models.load_model(model, backend=names[0]), names, _arrays(inputs), training, seed)
    click.echo(found.as_json() if data else found.text())
    sys.exit(0 if found.agree else 1)


def _arrays(path: str | None) -> Any:
    """The arrays in a file."""
    if path is None:
        return None
    try:
        held = np.load(path, allow_pickle=False)
    except ValueError as problem:
        raise DataError(f"{path}: no arrays can be read from it: {problem}") from None
    return held if isinstance(held, np.ndarray) else [held[name] for name in held.files]
