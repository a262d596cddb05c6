"""The command line: backends, layers, describe, kernels, conformance. ``--json`` gives every table as data."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from typing import Any

import click

from layerhub import __version__, reference
from layerhub.config import FLOATS
from layerhub.errors import LayerHubError
from layerhub.kernels import SIGNATURES
from layerhub.registry import registry
from layerhub.spec import KINDS


class Group(click.Group):
    """A command group in which LayerHub's own errors are one line, and exit with 2."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except LayerHubError as problem:
            raise click.UsageError(str(problem)) from None


as_json = click.option("--json", "data", is_flag=True, help="Print JSON instead of a table.")


def show(rows: list[dict[str, Any]], title: str, data: bool) -> None:
    """Rows as a table, or as JSON."""
    if data:
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row.values()))
    # In a pipe, nobody sees how wide a terminal is: let no cell be cut.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


@click.group(cls=Group)
@click.version_option(__version__)
def main() -> None:
    """Define a neural network once; run it, train it and check it on any backend."""


@main.command()
@as_json
def backends(data: bool) -> None:
    """List the installed backends, and plugins that cannot be used, with the reason."""
    rows = []
    for name, detail in registry().listing().items():
        missing = detail["missing"]
        status = "usable" if not missing else f"needs {', '.join(missing)}: {detail['install']}"
        rows.append(
            {
                "backend": name,
                "status": status,
                "plugin": detail["plugin"],
                "versions": detail["versions"],
                "usable": not missing,
            }
        )
    for problem in registry().problems:
        rows.append(
            {
                "backend": "",
                "status": f"broken: {problem.reason}",
                "plugin": problem.plugin,
                "versions": {},
                "usable": False,
            }
        )
    show(rows if data else [{k: v for k, v in row.items() if k != "usable"} for row in rows], "Backends", data)


@main.command()
@as_json
def layers(data: bool) -> None:
    """List the layers, and the backends that have a kernel of their own for each."""
    usable = list(registry().usable())
    rows = []
    for name in sorted(KINDS["layer"]):
        spec = KINDS["layer"].find(name)
        rows.append(
            {
                "layer": name,
                "aliases": list(spec.aliases),
                "meaning": "composite" if hasattr(spec, "compose") else "definition",
                "kernels": [backend for backend in usable if registry().kernels(backend, name)],
                "about": (spec.__doc__ or "").strip().splitlines()[0],
            }
        )
    show(rows, "Layers", data)


@main.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), help="What the name is of, where several kinds have it.")
@as_json
def describe(name: str, kind: str | None, data: bool) -> None:
    """Say everything about a layer, an activation, a loss, an optimizer, …: meaning, parameters, shapes, an example."""
    spec = reference.find(name, kind)
    told = reference.describe(spec)
    if data:
        click.echo(json.dumps(told, indent=2, default=str))
        return
    others = reference.namesakes(spec)
    also = f"  (--kind {' or '.join(others)}: another one)" if others else ""
    click.echo(f"{told['name']}, {_article(told['kind'])}{also}")
    for block in told["about"]:
        click.echo("\n" + _set(block))
    for source in told["sources"]:
        click.echo("\n" + _set({"text": source}))
    click.echo(f"\n{told['signature']}\n")
    if told["parameters"]:
        show(_shown(told["parameters"]), "Parameters", False)
    for part in ("inputs", "weights", "outputs", "axes", "formerly"):
        if told.get(part):
            show(_shown(told[part]), part.capitalize(), False)
    for part in ("rules", "aliases", "builds_on", "call", "parts", "keras_only"):
        if told.get(part):
            click.echo(f"{HEADINGS[part]}: {', '.join(told[part])}")
    if told["kind"] == "layer":
        click.echo(f"Mask: {told['mask']}")
    if told.get("example"):
        click.echo(f"\n{told['example']}")
    if told["kind"] in ("layer", *SIGNATURES):
        of_kind = "" if told["kind"] == "layer" else f" --kind {told['kind']}"
        click.echo(f"\nWhat serves it on each backend: layerhub kernels {told['name']}{of_kind}")


HEADINGS = {
    "rules": "Rules",
    "aliases": "Also called",
    "builds_on": "Builds on",
    "call": "A call may give",
    "parts": "Made of",
    "keras_only": "Ignored in configs of Keras",
}


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what is for machines, and without columns in which nothing stands."""
    columns = [key for key in rows[0] if key not in ("schema", "examples") and any(row[key] != "" for row in rows)]
    return [{key: _plain(row[key]) for key in columns} for row in rows]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, tuple) else value.replace("``", "") if isinstance(value, str) else value


def _set(block: dict[str, str]) -> str:
    """A paragraph or a formula, set for a terminal."""
    if "code" in block:
        return textwrap.indent(block["code"], "    ")
    return textwrap.fill(block["text"].replace("``", ""), 100, break_long_words=False, break_on_hyphens=False)


@main.command()
@click.argument("name")
@click.option("--kind", default="layer", type=click.Choice(["layer", *SIGNATURES]), help="What the name is of.")
@as_json
def kernels(name: str, kind: str, data: bool) -> None:
    """Show which kernel serves a layer on each usable backend, and why: in order of preference."""
    spec = KINDS[kind].find(name)
    rows = []
    for backend in registry().usable():
        registry().backend(backend)
        found = registry().kernels(backend, spec.__name__, kind)
        for rank, kernel in enumerate(found, start=1):
            rows.append(
                {
                    "backend": backend,
                    "order": rank,
                    "served_by": kernel.where,
                    "plugin": kernel.plugin,
                    "priority": kernel.priority,
                    "declines_some": kernel.when is not None,
                    "vjp": kernel.backward is not None,
                }
            )
        meaning = "composition of parts" if hasattr(spec, "compose") else "definition"
        rows.append(
            {
                "backend": backend,
                "order": len(found) + 1,
                "served_by": f"{meaning} ({spec.__module__}.{spec.__name__})",
                "plugin": KINDS[kind].origin[spec.__name__],
                "priority": "",
                "declines_some": False,
                "vjp": "",
            }
        )
    show(rows, f"What serves {spec.__name__}", data)


@main.command()
@click.option("--backend", multiple=True, help="A backend to run on; repeat it. Default: all usable ones.")
@click.option("--layer", multiple=True, help="A layer to run; repeat it. Default: all.")
@click.option(
    "--dtype", multiple=True, type=click.Choice(FLOATS), help="A float type; repeat it. Default: float32 and float64."
)
@click.option("--device", help="The device to run on.")
@click.option("-n", "workers", default="1", help="How many processes to run in.")
@click.option("--exhaustive", is_flag=True, help="Every combination of parameters, not only every pair; takes long.")
@as_json
def conformance(
    backend: tuple[str, ...],
    layer: tuple[str, ...],
    dtype: tuple[str, ...],
    device: str | None,
    workers: str,
    exhaustive: bool,
    data: bool,
) -> None:
    """Prove that backends compute what the definitions mean. Exits with 0 when all pass, 1 on failures, 2 on misuse."""
    if find_spec("layerhub_conformance") is None:
        raise click.UsageError("the conformance suite is not installed: pip install layerhub-conformance")
    for name in backend:
        registry().backend(name)
    for name in layer:
        KINDS["layer"].find(name)
    chosen = [("backend", backend), ("layer", layer), ("dtype", dtype), ("device", (device,) if device else ())]
    options = [f"--layerhub-{option}={value}" for option, values in chosen for value in values]
    options += [f"-n{workers}"] if workers != "1" else []
    options += ["--layerhub-exhaustive"] if exhaustive else []
    options += ["--layerhub-json"] if data else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--pyargs",
        "layerhub_conformance",
        "-q",
        "-p",
        "no:cacheprovider",
        *options,
    ]
    # A process of its own, so that what pytest and the frameworks leave behind ends with it.
    done = subprocess.run(command, stdout=subprocess.PIPE if data else None, text=True)
    if data:
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"layerhub"')]
        click.echo(lines[-1] if lines else json.dumps({"layerhub": [], "error": done.stdout[-2000:]}))
    # pytest's 0 and 1 mean what ours do; all it has beside them is misuse.
    sys.exit(done.returncode if done.returncode in (0, 1) else 2)


if __name__ == "__main__":
    main()
