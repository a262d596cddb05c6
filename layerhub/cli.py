"""The command line: what is installed, what it does, whether it conforms. ``--json`` gives every table as data."""

from __future__ import annotations

import json
import sys
import textwrap
from importlib.metadata import EntryPoints, entry_points
from typing import Any

import click

from layerhub import __version__, reference
from layerhub.errors import LayerHubError
from layerhub.kernels import SIGNATURES
from layerhub.registry import registry
from layerhub.spec import KINDS

ELSEWHERE = {"conformance": "layerhub-conformance", "compare": "layerhub-conformance"}
"""Commands that distributions of their own bring, as entry points of the group ``layerhub.commands``."""


class Group(click.Group):
    """A command group in which LayerHub's own errors are one line, and exit with 2; others may add commands to it."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *(entry.name for entry in _commands())})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        own = super().get_command(context, name)
        if own is not None:
            return own
        for entry in _commands():
            if entry.name == name:
                return entry.load()
        if name in ELSEWHERE:
            context.fail(f"{name} is not installed: pip install {ELSEWHERE[name]}")
        return None

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except LayerHubError as problem:
            raise click.UsageError(str(problem)) from None


def _commands() -> EntryPoints:
    return entry_points(group="layerhub.commands")


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
    for problem in registry().problems:
        click.echo(f"{problem.plugin}: {problem.reason}", err=True)


@main.command("show")
@click.argument("path", metavar="MODEL")
@click.option("--backend", metavar="NAME", help="The backend whose kernels are told. Default: as for every model.")
@click.option("--expand-nested", is_flag=True, help="Also the layers of nested models.")
@click.option("--plot", metavar="FILE", help="Also draw it: a name that ends in .svg or .png.")
def show_model(path: str, backend: str | None, expand_nested: bool, plot: str | None) -> None:
    """Say what is in a saved model: layers, shapes, parameters, connections, and what serves them."""
    from layerhub.models import load_model
    from layerhub.visual import plot_model

    model = load_model(path, backend=backend, compile=False)
    model.summary(expand_nested=expand_nested, show_trainable=True)
    if plot is not None:
        plot_model(model, plot, show_shapes=True, show_layer_activations=True, expand_nested=expand_nested)
        click.echo(plot)


def _names(context: click.Context, option: click.Parameter, value: str | None) -> list[str] | None:
    """A list that is written with commas."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


@main.command()
@click.argument("path", metavar="MODEL", type=click.Path(exists=True, dir_okay=False))
@click.option("--training", is_flag=True, help="Time training steps; the file must say how the model was compiled.")
@click.option("--batch", type=click.IntRange(1), help="Samples in a step. Default: as declared, or 32.")
@click.option("--backends", metavar="A,B", callback=_names, help="The backends. Default: all that are installed.")
@click.option("--devices", metavar="A,B", callback=_names, help="Devices, or kinds such as cpu, cuda. Default: all.")
@click.option("--budget", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="Seconds.")
@as_json
def race(
    path: str, training: bool, batch: int | None, backends: list[str] | None, devices: list[str] | None,
    budget: float, data: bool,
) -> None:  # fmt: skip
    """Time steps of a saved model on every backend and device, each in a process of its own."""
    from layerhub import racing

    found = racing.race(
        path, training=training, batch_size=batch, backends=backends, devices=devices, budget=budget
    )  # fmt: skip
    if data:
        click.echo(json.dumps(found.data(), indent=2))
    else:
        show([row.told() for row in found.rows], found.title, False)
    found.winner  # noqa: B018 raises where there is none


@main.command("new-backend")
@click.argument("name")
@click.option("--into", metavar="DIR", help="The folder of the project. Default: layerhub-NAME.")
@click.option(
    "--namespace",
    metavar="MODULE",
    help="The module with the functions of the array API standard. Default: the module NAME, else numpy.",
)
def new_backend(name: str, into: str | None, namespace: str | None) -> None:
    """Write the project of a new backend: a plugin that installs, is found and conforms as it stands."""
    from layerhub import scaffold

    scaffold.check_name(name)
    module, reason = scaffold.namespace_for(name, namespace)
    paths = scaffold.new_backend(name, into, module)
    for path in paths:
        click.echo(path)
    click.echo(f"\nIt runs on {module}" + (f", since {reason}." if reason else "."))
    click.echo(f"""Next:
    cd {into or f"layerhub-{name}"}
    python -m pip install -e ".[test]"
    layerhub backends
    layerhub conformance --backend {name}""")


if __name__ == "__main__":
    main()
