"""What there is to say about a run in a few figures, and who disagrees with whom."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from layerhub_conformance.report.model import FAILING, VERDICTS, Finding, Result, Run, largest

NOT_RUN = "not run"
Spec = tuple[str, str]
"""A spec's kind and name."""


@dataclass(frozen=True)
class Figures:
    """standings: the verdict on each spec of the registry, or "not run". cells, trials: how many have which verdict.

    backends: the same of cells, for each backend. worst: the largest error of a passing trial, as a share of its bound.
    """

    standings: dict[Spec, str]
    cells: Counter[str]
    trials: Counter[str]
    backends: dict[str, Counter[str]]
    worst: float | None

    @property
    def specs(self) -> Counter[str]:
        """How many specs have which standing."""
        return Counter(self.standings.values())

    @property
    def verdict(self) -> str:
        """Of the whole run: "fail", "pass", or "not run"."""
        if any((self.cells + self.trials)[verdict] for verdict in FAILING):
            return "fail"
        return "pass" if self.trials["pass"] else NOT_RUN

    @property
    def headline(self) -> str:
        """The run in one line."""
        specs, total = self.specs, len(self.standings)
        if self.verdict == NOT_RUN:
            return f"None of {total:,} specs was run"
        if self.verdict == "pass":
            return f"{specs['pass']:,} of {total:,} specs pass, none fails"
        wrong = [f"{specs['fail']:,} fail"] if specs["fail"] else []
        wrong += [f"{specs['mistrusted']:,} cannot be trusted"] if specs["mistrusted"] else []
        return f"{', '.join(wrong) or 'Some trials fail'}, {specs['pass']:,} pass, of {total:,} specs"


def figures(run: Run) -> Figures:
    """The figures of a run. A spec stands as its worst cell does; "unsupported" only where nothing else was run."""
    standings = {(kind, name): NOT_RUN for kind, names in run.registry.items() for name in names}
    backends: dict[str, Counter[str]] = {name: Counter() for name in run.backends}
    for cell in run.cells:
        spec = (cell.kind, cell.subject)
        standings[spec] = worse(standings.get(spec, NOT_RUN), cell.verdict)
        backends.setdefault(cell.backend, Counter())[cell.verdict] += 1
    passing = [f.worst for r in run.results if r.verdict == "pass" for f in r.findings if f.worst is not None]
    return Figures(
        standings,
        Counter(c.verdict for c in run.cells),
        Counter(r.verdict for r in run.results),
        backends,
        largest(passing),
    )


def worse(a: str, b: str) -> str:
    """The worse of two verdicts."""
    order = [*VERDICTS, NOT_RUN]
    return min(a, b, key=order.index)


@dataclass(frozen=True)
class Disagreement:
    """One array of one case that some backends get wrong. ran: all backends on which it was tried."""

    failing: tuple[str, ...]
    ran: tuple[str, ...]
    kind: str
    subject: str
    check: str
    case: str
    dtype: str
    what: str
    direction: str
    worst: float | None
    pattern: str

    @property
    def who(self) -> str:
        """The backends that stand apart."""
        if len(self.ran) == 1:
            return f"{self.failing[0]}, which alone ran it"
        if self.failing == self.ran:
            return f"all {len(self.ran)} backends: suspect the reference"
        return f"{self.failing[0]} alone" if len(self.failing) == 1 else said(self.failing)


def said(names: Iterable[str]) -> str:
    """Names as a sentence has them."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def disagreements(run: Run) -> dict[str, list[Disagreement]]:
    """Every array that fails, by who fails on it: first what all get wrong, then the largest groups.

    A trial that fails without an array at fault (it raised, it broke a contract) counts under its check's name.
    """
    ran: dict[tuple[str, ...], set[str]] = defaultdict(set)
    wrong: dict[tuple[str, ...], list[tuple[str, Finding]]] = defaultdict(list)
    for result in run.results:
        place = (result.kind, result.subject, result.check, result.case, result.dtype)
        if result.verdict in ("pass", "fail", "xfail"):
            ran[place].add(result.backend)
        for finding in faults(result):
            wrong[*place, finding.what, finding.direction].append((result.backend, finding))
    groups: dict[str, list[Disagreement]] = defaultdict(list)
    for array, found in wrong.items():
        kind, subject, check, case, dtype, what, direction = array
        worst = max((f for _, f in found), key=lambda f: rank(f.worst))
        row = Disagreement(
            tuple(sorted({backend for backend, _ in found})),
            tuple(sorted(ran[kind, subject, check, case, dtype])),
            *(kind, subject, check, case, dtype, what, direction, worst.worst, worst.pattern),
        )
        groups[row.who].append(row)
    return {
        who: sorted(rows, key=lambda row: (row.subject, -rank(row.worst)))
        for who, rows in sorted(groups.items(), key=lambda g: (not g[0].startswith("all "), -len(g[1]), g[0]))
    }


def faults(result: Result) -> list[Finding]:
    """The arrays for which a trial fails."""
    if result.verdict != "fail":
        return []
    wrong = [f for f in result.findings if not f.right]
    return wrong or [Finding(what=result.check, direction=result.directions[0], right=False, detail=result.message)]


def rank(worst: float | None) -> float:
    """How bad an error is; NaN is worst, none is best."""
    if worst is None:
        return -1.0
    return math.inf if math.isnan(worst) else worst
