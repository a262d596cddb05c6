"""Exploring: cases beyond the certifying corpus, for as long as one likes. What is found is told, and blocks nothing.

Each round tries some cases of each layer. Even rounds go through those that hold every triple of parameter values; the
others draw, by hypothesis, which reduces what fails to the smallest case that does. All is written to
``explore.jsonl``, from which a later run goes on.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from hypothesis import Phase, given, seed, settings
from hypothesis.errors import FlakyFailure

from layerhub.errors import ParameterError
from layerhub.layers import Layer
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub_conformance import reproducer
from layerhub_conformance.bench import SILENT
from layerhub_conformance.case import Case
from layerhub_conformance.checks import table
from layerhub_conformance.expected import diverges
from layerhub_conformance.generate import triples
from layerhub_conformance.generate.configurations import configurations
from layerhub_conformance.generate.problem import problem_of
from layerhub_conformance.report.model import FAILING, Result
from layerhub_conformance.session import Item, Session
from layerhub_conformance.subjects import by_layer
from layerhub_conformance.trial import screen
from layerhub_conformance.verdict import SPECIAL, UNDECIDED

EXAMPLES = 25
"""Cases that are tried of a layer in a round."""


class DivergenceError(AssertionError):
    """A case that a backend fails. results: of all backends."""

    def __init__(self, results: list[Result]):
        super().__init__(results[0].message)
        self.results = results


@dataclass
class Explorer:
    """Cases, tried on backends, with what came of it so far.

    done: rounds of layers that are over. failures: what was found, each once. cases: how many were tried in all.
    """

    session: Session
    file: Path
    tell: Callable[[str], Any]
    done: set[tuple[int, str]] = field(default_factory=set)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    cases: int = 0
    seconds: float = 0.0

    def resume(self) -> None:
        """Take up what an earlier run wrote."""
        if not self.file.exists():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a run that was ended in the middle of it
                continue
            if "failure" in row:
                self.failures[row["failure"]] = row
            else:
                self.done.add((row["round"], row["layer"]))
                self.cases += row["cases"]
                self.seconds += row["seconds"]

    def run(self, layers: Sequence[str], until: float) -> None:
        """Round by round, layer by layer, until the time is up."""
        rest = {name: triples(_spec(name)) for name in layers}
        for number in itertools.count():
            for name in layers:
                tried = list(itertools.islice(rest[name], EXAMPLES)) if number % 2 == 0 else []
                if (number, name) not in self.done and not self._round(number, name, tried, until):
                    return

    def _round(self, number: int, name: str, tried: Sequence[Case], until: float) -> bool:
        """Try these cases, or else draw some. False: the time is up, perhaps halfway, so it is begun anew next time."""
        began, before = time.monotonic(), self.cases
        for results in self._each(tried, until) if tried else self._drawn(_spec(name), number):
            self._found(results)
        if time.monotonic() > until:
            return False
        spent = time.monotonic() - began
        self._write({"round": number, "layer": name, "cases": self.cases - before, "seconds": spent})
        return True

    def _each(self, cases: Sequence[Case], until: float) -> Iterator[list[Result]]:
        for case in cases:
            if time.monotonic() > until:
                return
            failed = self.attempt(case)
            if failed:
                yield failed

    def _drawn(self, spec: type[Layer], number: int) -> Iterator[list[Result]]:
        hung: list[list[Result]] = []
        last: list[Result] = []

        @seed(number)
        @settings(max_examples=EXAMPLES, database=None, deadline=None, phases=(Phase.generate, Phase.shrink))
        @given(configurations(spec))
        def drawn(case: Case) -> None:
            failed = self.attempt(case)
            if any(result.message.startswith(SILENT) for result in failed):
                hung.append(failed)  # not reduced: each attempt would take as long
            elif failed:
                last[:] = failed
                raise DivergenceError(failed)

        try:
            drawn()
        except DivergenceError as found:
            yield found.results
        except FlakyFailure:  # what failed once did not fail again
            yield last
        yield from hung

    def attempt(self, case: Case) -> list[Result]:
        """The failing results of a case on all backends, but for what is no news."""
        self.cases += 1
        items = [Item(table()["values"], case, backend) for backend in self.session.backends]
        found = [result for item in items for result in self.session.run(item) if result.verdict in FAILING]
        return [result for result in found if not (_undecided(result) or diverges(result.backend, case))]

    def _found(self, results: list[Result]) -> None:
        """Tell of a failure, unless one of this layer on these backends is known that looks the same."""
        first = results[0]
        looks = sorted({f"{r.backend} {r.dtype}" for r in results})
        whats = sorted({f"{f.what}: {f.pattern}" for f in first.findings if not f.right})
        key = f"{first.subject} on {', '.join(looks)}: {'; '.join(whats) or first.message.splitlines()[-1][:120]}"
        if key in self.failures:
            return
        self.failures[key] = {"failure": key, "case": first.case, "messages": [screen(result) for result in results]}
        self._write(self.failures[key])
        self.tell(f"\n{key}\n{screen(first)}\n")
        trial = next(
            trial
            for trial in self.session.trials(Item(table()["values"], Case.parse(first.case), first.backend))
            if trial.id == first.id
        )
        self.tell(f"script  {reproducer.write(trial, self.file.parent)}")

    def _write(self, row: dict[str, Any]) -> None:
        """Add a line to the file: in one piece, for other processes write to it as well."""
        with open(self.file, "ab", buffering=0) as file:
            file.write(json.dumps(row).encode() + b"\n")


def _undecided(result: Result) -> bool:
    """Whether the data are too near a kink, or overflow, so that they show nothing: those of the corpus do not."""
    silent = {UNDECIDED} if result.case.endswith("data=specials") else {UNDECIDED, SPECIAL}
    patterns = {finding.pattern for finding in result.findings if not finding.right}
    return bool(patterns) and patterns <= silent


def explore(
    backends: Sequence[str], layers: Sequence[str], minutes: float, folder: Path, tell: Callable[[str], Any],
    workers: int = 1, dtypes: Sequence[str] = (), limit: float = 60.0,
    device: str | None = None,
) -> int:  # fmt: skip
    """Explore for some minutes, going on from what ``folder`` holds; gives 1 where something was found, else 0.

    layers: by default, all whose cases can be made. workers: processes, each with its share of the layers.

    Raises:
        ParameterError: of a layer that was named, no cases can be made.
    """
    table()
    folder.mkdir(parents=True, exist_ok=True)
    names = [_spec(name).__name__ for name in layers] or list(filter(_can_be_made, by_layer()))
    for name in names:
        problem_of(_spec(name))
    file = folder / "explore.jsonl"
    asked: dict[str, Any] = {"backends": list(backends or registry().usable()), "dtypes": list(dtypes)}
    asked |= {"limit": limit, "device": device}
    if workers > 1:
        # Anew, for what a fork would take along of frameworks' threads does not go on there.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            parts = [pool.submit(_explore, asked, names[k::workers], minutes, file, click.echo) for k in range(workers)]
            for part in parts:
                part.result()
    else:
        _explore(asked, names, minutes, file, tell)
    found = Explorer(Session(backends=asked["backends"]), file, tell)
    found.resume()
    tell(
        f"{found.cases} cases on {', '.join(asked['backends'])} in {found.seconds / 60:.1f} minutes, "
        f"all runs together; {len(found.failures)} failures, in {file}"
    )
    return 1 if found.failures else 0


def _spec(layer: str) -> Any:
    return KINDS["layer"].find(layer)


def _can_be_made(layer: str) -> bool:
    """Whether cases are made from its spec: of some, there are only those that somebody wrote down."""
    try:
        return problem_of(_spec(layer)) is not None
    except ParameterError:
        return False


def _explore(
    asked: dict[str, Any], layers: Sequence[str], minutes: float, file: Path, tell: Callable[[str], Any]
) -> None:
    session = Session(**asked, routes=("kernel",))
    explorer = Explorer(session, file, tell)
    explorer.resume()
    try:
        explorer.run(layers, time.monotonic() + 60 * minutes)
    finally:
        session.close()
