"""Figures as tables, for a terminal and for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from rich.console import Console
from rich.table import Table

ABSENT = "-"
LABELS = 3
"""How many columns at the left say what a row is about."""


@dataclass
class Sheet:
    """A table of texts. ratios: the columns that mean something on other machines, too."""

    title: str
    columns: Sequence[str]
    ratios: Sequence[str]
    rows: list[dict[str, str]]

    def show(self, console: Console) -> None:
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            style = "bold" if column in self.ratios else None
            table.add_column(column, justify="left" if number < LABELS else "right", style=style)
        for _, rows in groupby(self.rows, itemgetter(self.columns[0])):
            for row in rows:
                table.add_row(*(row[column] for column in self.columns))
            table.add_section()
        console.print(table)

    def markdown(self) -> str:
        """The ratios alone: milliseconds say more about a machine than about LayerHub."""
        columns = [c for n, c in enumerate(self.columns) if n < LABELS or c in self.ratios]
        sides = ["---" if n < LABELS else "---:" for n in range(len(columns))]
        rows = [columns, sides, *([row[column] for column in columns] for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(row)} |" for row in rows)])


def steps(figures: Sequence[Mapping[str, Any]], rounds: int) -> list[Sheet]:
    """What contenders need for a batch, beside each other. rounds: as many turns should count."""
    by_place = {(f["workload"], f["measure"], f["backend"], f["kind"]): f for f in figures}
    ms = {place: f["ms"] for place, f in by_place.items()}
    poor = {place for place, f in by_place.items() if f["kept"] < rounds}
    places = list(dict.fromkeys(key[:3] for key in ms))

    def text(*key: str) -> str:
        return f"{'~' if key in poor else ''}{ms[key]:.2f}" if key in ms else ABSENT

    def of(key: tuple[str, ...], other: tuple[str, ...]) -> str:
        return f"{ms[key] / ms[other]:.2f}" if key in ms and other in ms else ABSENT

    alone, called = [], []
    for work, measure, backend in places:
        mine, hand, keras = ((work, measure, backend, kind) for kind in ("layerhub", "hand", "keras"))
        row = {"workload": work, "measure": measure, "backend": backend}
        times = {"hand, ms": text(*hand), "Keras, ms": text(*keras), "LayerHub, ms": text(*mine)}
        own = {"predict": "inference", "fit": "training"}.get(measure)
        if own is None:
            torch = (work, measure, "torch", "hand")
            ratios = {"÷ hand": of(mine, hand), "÷ Keras": of(mine, keras), "÷ hand on torch": of(mine, torch)}
            alone.append(row | times | ratios)
        else:
            overheads = {
                f"{name} ÷ steps": of(key, (work, own, backend, key[3]))
                for name, key in (("hand", hand), ("Keras", keras), ("LayerHub", mine))
            }
            called.append(row | times | overheads | {"÷ Keras": of(mine, keras)})
    sheets = []
    for title, rows in (
        ("One batch, in native tensors: LayerHub's time ÷ others'", alone),
        ("User-level calls, by batch: everyone's time ÷ that of their own steps; LayerHub's ÷ Keras's", called),
    ):
        if rows:
            columns = list(rows[0])
            sheets.append(Sheet(title, columns, [c for c in columns if "÷" in c], rows))
    return sheets


def imports(figures: Sequence[Mapping[str, Any]]) -> Sheet:
    """The times of imports."""
    rows = [{"import": f["import"], "ms": f"{f['ms']:.1f}", "÷ numpy": f"{f['of numpy']:.2f}"} for f in figures]
    return Sheet("Imports", list(rows[0]), ["÷ numpy"], rows)


def binding(figures: Sequence[Mapping[str, Any]]) -> Sheet:
    """The times of making deep models ready, by layer: constant where the time is linear."""
    rows = []
    for f in figures:
        row = {"backend": f["backend"], "layers": f"{f['layers']:,}"}
        for what in ("define", "bind"):
            each = f"{1e6 * f[what] / f['layers']:.0f}" if what in f else ABSENT
            row |= {f"{what}, s": f"{f[what]:.2f}" if what in f else ABSENT, f"{what}, µs a layer": each}
        rows.append(row)
    return Sheet("A deep model of small layers", list(rows[0]), list(rows[0]), rows)
