"""Exploring: cases beyond the certifying corpus, for as long as one likes. What is found is told, and blocks nothing.

The first round has every triple of parameter values; the others draw, by hypothesis, which reduces what fails to the
smallest case that does. All is written to ``explore.jsonl``, from which a later run goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, seed, settings

from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub_conformance import reproducer
from layerhub_conformance.case import Case
from layerhub_conformance.checks import table
from layerhub_conformance.generate import configurations, covering
from layerhub_conformance.report.model import FAILING, Result
from layerhub_conformance.session import Session
from layerhub_conformance.subjects import by_layer
from layerhub_conformance.trial import Trial, conduct, screen

EXAMPLES = 25
"""Cases that are drawn of a layer in a round."""
DTYPES = ("float32", "float64")


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
        for number in range(10**6):
            for layer in layers:
                if time.monotonic() > until:
                    return
                if (number, layer) not in self.done:
                    self._round(number, layer, until)

    def _round(self, number: int, layer: str, until: float) -> None:
        began, before = time.monotonic(), self.cases
        spec: Any = KINDS["layer"].find(layer)
        for results in self._triples(spec, until) if number == 0 else self._drawn(spec, number):
            self._found(results)
        if time.monotonic() > until:  # cut short: begun anew next time
            return
        row = {"round": number, "layer": layer, "cases": self.cases - before, "seconds": time.monotonic() - began}
        self.seconds += row["seconds"]
        self._write(row)

    def _triples(self, spec: Any, until: float) -> Iterator[list[Result]]:
        for case in covering(spec, 3):
            if time.monotonic() > until:
                return
            failed = self.attempt(case)
            if failed:
                yield failed

    def _drawn(self, spec: Any, number: int) -> Iterator[list[Result]]:
        @seed(number)
        @settings(max_examples=EXAMPLES, database=None, deadline=None, phases=(Phase.generate, Phase.shrink))
        @given(configurations(spec))
        def drawn(case: Case) -> None:
            failed = self.attempt(case)
            if failed:
                raise DivergenceError(failed)

        try:
            drawn()
        except DivergenceError as found:
            yield found.results

    def attempt(self, case: Case) -> list[Result]:
        """The failing results of a case on all backends."""
        self.cases += 1
        found = []
        for backend in self.session.backends:
            bench = self.session.bench(backend)
            for dtype in DTYPES:
                result = conduct(Trial("values", case, backend, dtype), bench)
                found += [result] if result.verdict in FAILING else []
        return found

    def _found(self, results: list[Result]) -> None:
        """Tell of a failure, unless one of this layer on these backends is known that looks the same."""
        first = results[0]
        looks = sorted({f"{r.backend} {r.dtype}" for r in results})
        whats = sorted({f"{f.what}: {f.pattern}" for f in first.findings if not f.right})
        key = f"{first.subject} on {', '.join(looks)}: {'; '.join(whats) or first.message.splitlines()[-1][:120]}"
        if key in self.failures:
            return
        row = {"failure": key, "case": first.case, "messages": [screen(result) for result in results]}
        self.failures[key] = row
        self._write(row)
        self.tell(f"\n{key}\n{screen(first)}\n")
        trial = Trial("values", Case.parse(first.case), first.backend, first.dtype)
        self.tell(f"script  {reproducer.write(trial, self.file.parent)}")

    def _write(self, row: dict[str, Any]) -> None:
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def explore(
    backends: Sequence[str], layers: Sequence[str], minutes: float, folder: Path, tell: Callable[[str], Any]
) -> int:
    """Explore for some minutes, going on from what ``folder`` holds; gives 1 where something was found, else 0."""
    table()
    folder.mkdir(parents=True, exist_ok=True)
    session = Session(backends=backends or list(registry().usable()))
    explorer = Explorer(session, folder / "explore.jsonl", tell)
    explorer.resume()
    names = [KINDS["layer"].find(name).__name__ for name in layers] or sorted(by_layer())
    try:
        explorer.run(names, time.monotonic() + 60 * minutes)
    finally:
        session.close()
    tell(
        f"{explorer.cases} cases on {', '.join(session.backends)} in {explorer.seconds / 60:.1f} minutes, "
        f"all runs together; {len(explorer.failures)} failures, in {explorer.file}"
    )
    return 1 if explorer.failures else 0
