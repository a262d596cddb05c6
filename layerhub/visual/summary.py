"""The table of a model: its layers, their shapes, weights and connections, and what serves them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from layerhub.errors import ParameterError, suggest
from layerhub.network import Network
from layerhub.visual import outline
from layerhub.visual.outline import Outline, printable

if TYPE_CHECKING:
    from rich.table import Table

NARROWEST = 40
"""Characters below which no table can be read."""


def print_summary(
    network: Network,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Print the table of a model; see ``Writable.summary`` for the arguments. Raises ParameterError for wrong ones."""
    from rich.console import Console
    from rich.measure import Measurement

    if line_length is not None and line_length < NARROWEST:
        raise ParameterError(f"summary: line_length must be at least {NARROWEST} characters, not {line_length!r}")
    table = _table(network, expand_nested, show_trainable, layer_range)
    target = io.StringIO() if print_fn else None
    width = line_length
    if positions is not None:
        width = _place(table, positions, line_length or 100)
    if width is None and (print_fn or not sys.stdout.isatty()):
        # In a pipe, nobody sees how wide a terminal is: let no cell be broken.
        endless = Console(file=io.StringIO(), width=100_000)
        width = Measurement.get(endless, endless.options, table).maximum
    console = Console(file=target, width=width, highlight=False)
    console.print(table)
    for line in _totals(network):
        console.print(line, markup=False, soft_wrap=True)
    if print_fn and target is not None:
        print_fn(target.getvalue())


def _table(network: Network, expand_nested: bool, show_trainable: bool, layer_range: Sequence[str] | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    shown = list(outline.walk(network, expand_nested))
    connected = not all(where.is_chain for _, where, _ in shown)
    title = Text(f"{printable(network.name)} on {network.backend} ({network.device})", style="bold")
    table = Table(title=title, title_justify="left")
    table.add_column("Layer (type)", overflow="fold")
    table.add_column("Output shape", overflow="fold")
    table.add_column("Params", justify="right", overflow="fold")
    if connected:
        table.add_column("Connected to", overflow="fold")
    if show_trainable:
        table.add_column("Trainable", overflow="fold")
    table.add_column("Served by", overflow="fold")
    routes = outline.routes(network)
    for layer, where, depth in _within(shown, layer_range):
        nodes = where.uses.get(layer, [])  # a model may name layers as its own that it does not use
        cells = [
            f"{'  ' * (depth - 1) + '└ ' if depth else ''}{printable(layer.label)} ({outline.type_name(layer)})",
            "\n".join(dict.fromkeys(", ".join(str(y.shape) for y in node.outputs) for node in nodes)),
            f"{outline.elements(outline.variables(layer)):,}",
        ]
        if connected:
            cells.append("\n".join(map(where.connections, nodes)))
        if show_trainable:
            cells.append(_trainable(layer))
        cells.append("\n".join(routes.get(layer, [])))
        table.add_row(*map(Text, cells))
    return table


def _trainable(layer: Any) -> str:
    """Whether training moves the weights: all, some or none of those that it could move."""
    could = [variable for variable in outline.variables(layer) if variable.spec.trainable]
    if not could:
        return "-"
    moved = sum(variable.trainable for variable in could)
    return "yes" if moved == len(could) else f"{moved} of {len(could)} weights" if moved else "no"


def _within(shown: list[tuple[Any, Outline, int]], layer_range: Sequence[str] | None) -> list[tuple[Any, Outline, int]]:
    """The layers from the first whose name matches the one pattern to the last whose name matches the other."""
    if layer_range is None:
        return shown
    if len(layer_range) != 2 or not all(isinstance(pattern, str) for pattern in layer_range):
        raise ParameterError(
            f"summary: layer_range must be two names of layers, or two regular expressions, not {layer_range!r}"
        )
    names = [layer.label for layer, _, _ in shown]
    first = _matching(layer_range[0], names)[0]
    last = _matching(layer_range[1], names)[-1]
    if first > last:
        raise ParameterError(f"summary: layer_range={layer_range!r}: {names[first]!r} comes after {names[last]!r}")
    return shown[first : last + 1]


def _matching(pattern: str, names: list[str]) -> list[int]:
    if pattern in names:  # a name may have characters that mean something in a pattern
        return [index for index, name in enumerate(names) if name == pattern]
    try:
        found = [index for index, name in enumerate(names) if re.match(pattern, name)]
    except re.error as problem:
        raise ParameterError(
            f"summary: layer_range: {pattern!r} is no layer, nor a regular expression: {problem}"
        ) from None
    if not found:
        raise ParameterError(f"summary: layer_range: {pattern!r} matches no layer.{suggest(pattern, names)}")
    return found


def _place(table: Table, positions: Sequence[float], line_length: int) -> int:
    """Have the columns end where ``positions`` say; the width of the whole. The last column may be left unsaid."""
    from rich.console import Console
    from rich.measure import Measurement

    columns = table.columns
    if len(positions) not in (len(columns), len(columns) - 1):
        names = ", ".join(str(column.header) for column in columns)
        raise ParameterError(
            f"summary: positions must be one number for each of the columns {names} "
            f"(the last may be left out), not {positions!r}"
        )
    ends = [round(p * line_length) for p in positions] if max(positions) <= 1 else [round(p) for p in positions]
    start = 0
    for column, end in zip(columns, ends, strict=False):
        # A border and a blank before the text, a blank after it.
        if end - start < 6:
            raise ParameterError(f"summary: positions={positions!r} leave a column less than 6 characters")
        column.width = end - start - 3
        start = end
    console = Console(file=io.StringIO(), width=100_000)
    return Measurement.get(console, console.options, table).maximum


def _totals(network: Network) -> Iterator[str]:
    held = outline.variables(network)
    moved = [variable for variable in held if variable.trainable]
    total, trained, size = outline.elements(held), outline.elements(moved), _size(outline.octets(held))
    yield f"Parameters: {total:,} ({trained:,} trainable, {total - trained:,} not), {size} of memory"


def _size(octets: float) -> str:
    """Bytes, in the unit that leaves few digits."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if octets < 1024 or unit == "GiB":
            break
        octets /= 1024
    return f"{octets:,.0f} {unit}" if unit == "bytes" else f"{octets:,.1f} {unit}"
