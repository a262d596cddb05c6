"""A run of the suite: what it was asked for, the items it consists of, and what their results add up to."""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from layerhub.errors import BackendError, ParameterError
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub_conformance import expected, judgement, reproducer
from layerhub_conformance.bench import Bench, BrokenError, Capabilities, Local
from layerhub_conformance.case import Case
from layerhub_conformance.checks import table
from layerhub_conformance.generate import coverage
from layerhub_conformance.report import FAILING, Cell, Result, Run, write
from layerhub_conformance.subjects import akin, firsts
from layerhub_conformance.trial import Check, Trial, conduct

DTYPES = ("float32", "float64", "float16", "bfloat16")
ROUTES = ("kernel", "definition")
SCRIPTED = ("values", "compiled", "short types")
"""The checks whose trials can be written as scripts: one call, and what it must give."""
USUAL = ("float32", "float64")
"""The types in which checks run that name none themselves."""
JUDGED = ("layer", "activation", "loss", "metric", "optimizer", "regularizer", "constraint")
"""The kinds of specs that backends compute. The others (initializers, schedules) are computed on the host for all."""


def judged(kind: str) -> list[str]:
    """The specs of a kind that a backend can get wrong. A layer that is a function of the user's own still is one."""
    return [name for name in sorted(KINDS[kind]) if not KINDS[kind].find(name).delegates]


@dataclass(frozen=True)
class Item:
    """A check of a subject on a backend: its trials differ in type and route."""

    check: Check
    subject: Any
    backend: str

    @property
    def id(self) -> str:
        return f"{self.backend}-{self.check.name}-{self.subject.id}"


@dataclass
class Dead:
    """Stands for a backend that did not load: every trial tells why."""

    backend: str
    problem: BrokenError
    foreign: tuple[str, ...] = ()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self.backend, list(DTYPES), ["cpu"])

    def call(self, function: Any, *args: Any) -> Any:
        raise self.problem

    def close(self) -> None:
        """Nothing to end."""


class Session:
    """What was asked for, and the processes of the backends. None means all there are."""

    def __init__(
        self, tier: str = "certify", backends: Sequence[str] | None = None, layers: Sequence[str] | None = None,
        dtypes: Sequence[str] | None = None, routes: Sequence[str] | None = None, checks: Sequence[str] | None = None,
        cases: Sequence[str] | None = None, device: str | None = None, limit: float = 60.0, isolated: bool = True,
        expected: Sequence[str] = (), began: float | None = None,
    ):  # fmt: skip
        self.tier, self.device, self.limit, self.isolated = tier, device, limit, isolated
        self.backends = list(dict.fromkeys(backends or registry().usable()))
        for name in self.backends:
            registry().check_usable(name)
        self.layers = {KINDS["layer"].find(name).__name__ for name in layers or ()}
        self.dtypes, self.routes, self.checks, self.cases = dtypes, routes, checks, cases
        self._benches: dict[str, Any] = {}
        self._capabilities: dict[str, Capabilities] = {}
        self._began = began or time.time()
        for path in expected:
            _also(path)

    # What is to be done

    def items(self) -> Iterator[Item]:
        """All items; those of one subject come together, so that its reference is made once."""
        for check in self._wanted_checks():
            for subject in self._subjects(check):
                for backend in self.backends:
                    yield Item(check, subject, backend)

    def _wanted_checks(self) -> list[Check]:
        found = list(table().values())
        if not self.checks:
            return found
        chosen = [check for check in found if check.name.startswith(tuple(self.checks))]
        if not chosen:
            raise ParameterError(f"no check begins with {' or '.join(self.checks)}; there are: {', '.join(table())}")
        return chosen

    def _subjects(self, check: Check) -> Iterator[Any]:
        if self.cases:
            yield from self._named(check)
            return
        for subject in check.subjects(self.tier):
            if not self.layers or (check.kind == "layer" and subject.layer in self.layers):
                yield subject

    def _named(self, check: Check) -> Iterator[Any]:
        """The subjects that were asked for by id, which may begin with the name of a check."""
        for text in self.cases or ():
            name = max((name for name in table() if text.startswith(f"{name}: ")), key=len, default="values")
            wanted = text.removeprefix(f"{name}: ")
            if name != check.name:
                continue
            known = next((subject for subject in check.subjects(self.tier) if subject.id == wanted), None)
            yield known or check.parse(wanted)

    def definitions(self, fixture: str) -> list[Any]:
        """The subjects of tests of definitions, which have no backend."""
        from layerhub_conformance import test_definitions
        from layerhub_conformance.training import figures

        if self.tier != "certify" or self.cases or self.checks:
            return []
        kind = fixture.removeprefix("layerhub_")
        if kind in ("loss", "metric"):
            return [] if self.layers else list(figures(kind))
        found = test_definitions.CHECKED if kind == "checked" else test_definitions.SMOOTH
        return [case for case in found if not self.layers or case.layer in self.layers]

    # Doing it

    def bench(self, backend: str) -> Any:
        """The bench of a backend, started when it is first needed."""
        if backend not in self._benches:
            try:
                found: Any = Bench(backend, self.limit) if self.isolated else Local(backend)
            except (BrokenError, BackendError) as problem:
                found = Dead(backend, problem if isinstance(problem, BrokenError) else BrokenError(str(problem)))
            self._benches[backend], self._capabilities[backend] = found, found.capabilities
        return self._benches[backend]

    def run(self, item: Item) -> list[Result]:
        """The results of an item's trials.

        Where no kernel served, the route of the definition is the one that was taken already.
        """
        bench, results, taken = self.bench(item.backend), [], set()
        for trial in self.trials(item):
            if trial.route == "definition" and (trial.dtype, trial.mode) in taken:
                continue
            results.append(conduct(trial, bench))
            if trial.route == "kernel" and set(results[-1].served) == {"definition"}:
                taken.add((trial.dtype, trial.mode))
        return results

    def trials(self, item: Item) -> list[Trial]:
        """An item's trials, in the types and by the routes that were asked for."""
        dtypes = self.dtypes or (USUAL if item.check.dtypes is None else DTYPES)
        if self.tier == "smoke" and not self.dtypes:
            dtypes = ("float32",)
        routes = self.routes or (ROUTES if self.tier != "smoke" else (item.check.routes[0],))
        trials = list(item.check.trials(item.subject, item.backend, dtypes, routes, self.device))
        return trials if self.bench(item.backend).capabilities.eager else self._compiled(item, trials)

    def _compiled(self, item: Item, trials: list[Trial]) -> list[Trial]:
        """Trials of a backend that compiles every operation for every shape: whole calls are compiled instead.

        Compiling is what takes the time. So of the checks with many cases, only the first cases of a layer are tried
        with every type and route, compiled as users would. The others share types and routes out among them; and
        layers that differ in the number of dimensions only, unless they were asked for by name, share the cases.
        These, the other checks, and the smoke test compile drafts.
        """
        if item.check.compiled or not trials:  # the former is what all checks do here
            return []
        if self.cases:  # a case by itself: as users compile it, and as the run did that it may have failed in
            return [replace(trial, mode=mode) for trial in trials for mode in ("compiled", "draft")]
        whole = item.check.shared and item.subject in firsts(2)
        if item.check.shared and not whole:
            turn, which = divmod(item.subject.seed, len(trials))
            kin = (item.subject.layer,) if self.layers else akin(item.subject.layer)
            trials = [trials[which]] if kin[turn % len(kin)] == item.subject.layer else []
        mode = "compiled" if whole and self.tier != "smoke" else "draft"
        return [replace(trial, mode=mode) for trial in trials]

    def close(self) -> None:
        for bench in self._benches.values():
            bench.close()
        self._benches.clear()

    # What it adds up to

    @property
    def complete(self) -> bool:
        """Whether all cases of the specs were run that were run at all."""
        return self.tier == "certify" and not (self.cases or self.checks or self.routes)

    def concluded(self, texts: Sequence[str], folder: str | None, before: str | None = None) -> Conclusion:
        """The run, from the results as they were sent; written into a folder where one is named.

        before: the report.json of an earlier run, which the report compares this one with.
        """
        results = [result for text in texts for result in unpacked(text)]
        cells = judgement.judge(results, self.complete)
        stale = self._stale(results) if self.complete and not (self.layers or self.dtypes) else []
        run = Run(
            created=datetime.now(UTC).isoformat(timespec="seconds"), layerhub=version("layerhub"),
            suite=version("layerhub-conformance"), tier=self.tier, command=self._command, machine=machine(),
            backends={name: self._described(name) for name in self.backends} if folder else {},
            registry={kind: judged(kind) for kind in JUDGED},
            results=results, cells=cells, coverage=covered(results) if folder else {},
            seconds=time.time() - self._began,
        )  # fmt: skip
        conclusion = Conclusion(run, stale, [str(path) for path in self._scripts(results, Path(folder or "."))])
        if folder:
            write(run, folder, Run.load(before) if before else None)
        return conclusion

    def _scripts(self, results: Sequence[Result], folder: Path) -> Iterator[Path]:
        """A script for each failing trial of the cases that were asked for; where none fails, for the first trial."""
        shown = [r for r in results if r.check in SCRIPTED and r.verdict != "unsupported"] if self.cases else []
        folder.mkdir(parents=True, exist_ok=True)
        for result in [r for r in shown if r.verdict in FAILING] or shown[:1]:
            subject = next(s for s in self._named(table()[result.check]) if s.id == result.case)
            trial = Trial(
                result.check, subject, result.backend, result.dtype, result.route, self.device, result.mode
            )  # fmt: skip
            with suppress(BackendError):  # of a backend that does not load there is nothing to show
                yield reproducer.write(trial, folder)

    def _stale(self, results: Sequence[Result]) -> list[str]:
        """What is wrong with the lists of expected failures: entries that matched nothing that fails."""
        failing = [result for result in results if result.verdict == "xfail"]
        return [
            f"the expected failure {entry} was not met: strike it"
            for entry in expected.listed()
            if entry.backend in ("*", *self.backends) and not any(entry.matches(r, r.case) for r in failing)
        ]

    @property
    def _command(self) -> str:
        """The command line that asks for the same."""
        asked = {
            "backend": self.backends, "layer": sorted(self.layers), "dtype": self.dtypes, "route": self.routes,
            "check": self.checks, "case": self.cases, "device": [self.device] if self.device else (),
        }  # fmt: skip
        words = [word for name, values in asked.items() for value in values or () for word in (f"--{name}", value)]
        return shlex.join(["layerhub", "conformance", *words, "--tier", self.tier])

    def _described(self, name: str) -> dict[str, Any]:
        """What a backend says of itself; with pytest-xdist it was other processes that asked."""
        if name not in self._capabilities:
            self.bench(name)
            self.close()
        return self._capabilities[name].as_dict()


def covered(results: Sequence[Result]) -> dict[str, dict[str, list[int]]]:
    """By layer, [covered, total] of the parameters, pairs and rules that its spec declares, by the cases that ran.

    A layer of which no cases can be made, such as Lambda, is left out.
    """
    ran: dict[str, set[str]] = {}
    for result in results:
        if (result.kind, result.check) == ("layer", "values") and result.verdict != "unsupported":
            ran.setdefault(result.subject, set()).add(result.case)
    found = {}
    for layer, texts in sorted(ran.items()):
        with suppress(ParameterError):
            share = coverage(KINDS["layer"].find(layer), map(Case.parse, texts))
            of = {"parameters": share.parameters, "pairs": share.pairs, "rules": share.rules}
            found[layer] = {name: [part.covered, part.total] for name, part in of.items()}
    return found


def _also(path: str) -> None:
    expected.also(path)
    expected.listed()  # a list that cannot be read is told before anything runs


def machine() -> dict[str, str]:
    """Where the run took place."""
    return {
        "python": platform.python_version(), "platform": platform.platform(),
        "cpu": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }  # fmt: skip


# Results on their way between processes


def packed(results: Sequence[Result]) -> str:
    """Results as text, as a report has them."""
    run = Run("", "", "", "", "", results=list(results))
    return json.dumps(run.to_json()["results"])


def unpacked(text: str) -> list[Result]:
    """The results that ``packed`` made a text of."""
    data = {"schema_version": 1, "created": "", "layerhub": "", "suite": "", "tier": "", "command": ""}
    return Run.from_json(data | {"results": json.loads(text), "cells": []}).results


@dataclass
class Conclusion:
    """A run, what is wrong beside its cells, and the scripts that show it."""

    run: Run
    stale: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)

    @property
    def fails(self) -> bool:
        return bool(self.stale) or any(cell.verdict in FAILING for cell in self.run.cells)

    def as_json(self) -> str:
        """The matrix as data, in one line."""
        rows = [
            {
                "layer": cell.subject, "backend": cell.backend, "dtype": cell.dtype, "direction": cell.direction,
                "verdict": cell.verdict, "run": cell.run, "passed": cell.passed, "worst": cell.worst,
            }
            for cell in self.run.cells
        ]  # fmt: skip
        return json.dumps({"layerhub": rows})

    def text(self) -> str:
        """The matrix, and what the cells say that no trial says."""
        reasons = [f"{cell.label}: {'; '.join(cell.reasons)}" for cell in self.run.cells if cell.reasons]
        scripts = [f"as a script of its own: {path}" for path in self.scripts]
        return "\n".join([self._matrix, *(["", *reasons] if reasons else []), *self.stale, *scripts, ""])

    @cached_property
    def _matrix(self) -> str:
        """Specs by backends and types: passed / run, and the largest share of its bound that an error used."""
        columns = sorted({(cell.backend, cell.dtype) for cell in self.run.cells})
        found: dict[tuple[str, str], dict[tuple[str, str], list[Cell]]] = {}
        for cell in self.run.cells:
            row = found.setdefault((cell.kind, cell.subject), {})
            row.setdefault((cell.backend, cell.dtype), []).append(cell)
        kinds = {kind: place for place, kind in enumerate(JUDGED)}
        table = [["", *(f"{backend} {dtype}" for backend, dtype in columns)]]
        for kind, name in sorted(found, key=lambda key: (kinds.get(key[0], 99), key[1])):
            table.append([name, *(_told(found[kind, name].get(column, [])) for column in columns)])
        widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
        lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in table]
        lines.insert(1, "  ".join("-" * width for width in widths))
        legend = "passed/run, then the largest error as a share of its bound (1.25 is the limit)"
        return "\n".join([*lines, "", legend])


def _told(cells: Sequence[Cell]) -> str:
    if not cells:
        return "-"
    # Trials with gradients count in both directions; those of the forward one are all of them.
    most = max(cells, key=lambda cell: cell.run)
    supported = most.run - most.unsupported
    if not supported:
        return "unsupported"
    worst = max((cell.worst for cell in cells if cell.worst is not None), default=0.0)
    bad = next((cell.verdict for cell in cells if cell.verdict in FAILING), "")
    return f"{most.passed}/{supported} {worst:.2f}" + (f" {bad.upper()}" if bad else "")
