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
Place = tuple[str, ...]


@dataclass
class Sheet:
    """A table of texts: for each row a dict by column. labels: how many columns at the left say what it is about."""

    title: str
    labels: int
    rows: list[dict[str, str]]

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0])

    def show(self, console: Console) -> None:
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number < self.labels else "right")
        for _, rows in groupby(self.rows, itemgetter(self.columns[0])):
            for row in rows:
                table.add_row(*row.values())
            if self.labels > 1:
                table.add_section()
        console.print(table)

    def markdown(self) -> str:
        """The ratios alone: milliseconds say more about a machine than about LayerHub."""
        columns = [c for c in self.columns if not c.endswith(", ms")]
        sides = ["---" if n < self.labels else "---:" for n in range(len(columns))]
        rows = [columns, sides, *([row[column] for column in columns] for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(row)} |" for row in rows)])


def steps(figures: Sequence[Mapping[str, Any]], rounds: int) -> list[Sheet]:
    """What contenders need for a batch, beside each other. rounds: as many turns should count."""
    by_place = {(f["workload"], f["measure"], f["backend"], f["kind"]): f for f in figures}
    ms = {place: f["ms"] for place, f in by_place.items()}
    poor = {place for place, f in by_place.items() if f["kept"] < rounds}
    places = list(dict.fromkeys(key[:3] for key in ms))

    def of(key: Place, other: Place | None = None) -> str:
        """A time, or the ratio of two."""
        if key not in ms or (other is not None and other not in ms):
            return ABSENT
        return f"{'~' if poor & {key, other} else ''}{ms[key] / (ms[other] if other else 1):.2f}"

    alone, called = [], []
    for work, measure, backend in places:
        mine, hand, keras = ((work, measure, backend, kind) for kind in ("layerhub", "hand", "keras"))
        row = {"workload": work, "measure": measure, "backend": backend}
        times = {"hand, ms": of(hand), "Keras, ms": of(keras), "LayerHub, ms": of(mine)}
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
            sheets.append(Sheet(title, 3, rows))
    return sheets


def imports(figures: Sequence[Mapping[str, Any]]) -> Sheet:
    """The times of imports."""
    rows = [
        {"import": f["import"], "time, ms": f"{f['ms']:.1f}", "÷ import numpy": f"{f['of numpy']:.2f}"} for f in figures
    ]
    return Sheet("Imports", 1, rows)


def binding(figures: Sequence[Mapping[str, Any]]) -> Sheet:
    """The times of making deep models ready."""
    rows = []
    for f in figures:
        row = {"backend": f["backend"], "layers": f"{f['layers']:,}"}
        flat = next(first for first in figures if first["backend"] == f["backend"])
        for what in ("define", "bind"):
            row[f"{what}, ms"] = f"{f[what]:.0f}" if what in f else ABSENT
            known = what in f and what in flat
            row[f"{what} ÷ linear"] = f"{f[what] / f['layers'] / flat[what] * flat['layers']:.2f}" if known else ABSENT
        rows.append(row)
    return Sheet("Defining and binding a deep model of small dense layers, by layer beside the first depth", 2, rows)
