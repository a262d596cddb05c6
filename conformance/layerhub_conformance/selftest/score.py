"""The score: which planted faults the suite's checks find, and by what."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from layerhub_conformance import judgement
from layerhub_conformance.bench import Local
from layerhub_conformance.case import Case
from layerhub_conformance.checks import table
from layerhub_conformance.checks.training import give_loss, give_steps
from layerhub_conformance.report.model import FAILING, LIMIT, Result
from layerhub_conformance.selftest import bent
from layerhub_conformance.selftest.faults import FOREIGN, Fault, planted
from layerhub_conformance.session import USUAL
from layerhub_conformance.subjects import by_layer
from layerhub_conformance.training import figures
from layerhub_conformance.trial import Check, Trial, conduct, evaluate

NOISE = 1e-12
"""The smallest relative change of an element that counts as one, in float64."""
ROUNDING = 1e-14
"""As a share of an array's largest element: what float64 itself may lose in sums."""
CANCELLING = 1e-15
"""As a share of the largest element of all arrays: what is left of a gradient that is zero but for rounding."""
ELSEWHERE = ("contract: weights move as they are",)
"""Checks in which kernels have no part."""
TRACED = 24
"""How many cases are tried to see which array functions a spec asks for."""
EQUIVALENT, CAUGHT, SURVIVED = "equivalent", "caught", "survived"


@dataclass(frozen=True)
class Record:
    """What came of a fault. by, case, dtype: what found it. z: the largest error, as a share of what is allowed."""

    id: str
    verdict: str
    by: str = ""
    dtype: str = ""
    case: str = ""
    told: str = ""
    z: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value}


class Watched(Local):
    """Trials in this process, with an eye on the framework that faults leave their work to."""

    def call(self, function: Any, *arguments: Any) -> Any:
        try:
            return super().call(function, *arguments)
        finally:
            self.foreign = (FOREIGN,) if sys.modules.pop(FOREIGN, None) else ()


class Subject:
    """One spec on one backend: its cases, what they give when nothing is wrong, and the trials that find faults."""

    def __init__(self, kind: str, name: str, backend: str):
        self.kind, self.name, self.backend = kind, name, backend
        self.bench = Watched(backend)
        self._clean: dict[tuple[str, bool], list[np.ndarray] | None] = {}
        self._subjects: dict[str, Sequence[Any]] = {}

    @cached_property
    def cases(self) -> list[Any]:
        """All cases of the spec, those first that tell most."""
        if self.kind == "layer":
            return _telling(by_layer().get(self.name, ()))
        if self.kind == "activation":
            found = _telling(by_layer()["Activation"])
            return [case for case in found if type(case.make().activation).__name__ == self.name]
        return [figure for figure in figures(self.kind) if figure.layer == self.name]

    # Whether a fault is one

    @cached_property
    def asked(self) -> frozenset[str]:
        """The array functions that the spec's meaning asks for."""
        found: set[str] = set()
        fault = Fault(self.kind, self.name, "", "", value=lambda: bent.noting(found))
        with planted(fault, self.backend):
            for case in self.cases[:TRACED]:
                self._arrays(case, False)
        return frozenset(found)

    def shown_by(self, fault: Fault) -> str | None:
        """The first case whose float64 results the fault changes; None where it changes none."""
        graded = fault.family == "gradient"
        for case in self.cases:
            right = self._right(case, graded)
            if right is None:
                continue
            with planted(fault, self.backend):
                wrong = self._arrays(case, graded)
            if wrong is None or differ(wrong, right):
                return case.id
        return None

    def _right(self, case: Any, graded: bool) -> list[np.ndarray] | None:
        if graded and not getattr(case, "differentiable", True):
            return None
        key = (case.id, graded)
        if key not in self._clean:
            with planted(None, self.backend, self.kind, self.name):
                self._clean[key] = self._arrays(case, graded)
        return self._clean[key]

    def _arrays(self, case: Any, graded: bool) -> list[np.ndarray] | None:
        """What a case gives in float64; None where it raises."""
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._given(case, graded)
        except Exception:  # whatever a fault raises, it makes a difference
            return None

    def _given(self, case: Any, graded: bool) -> list[np.ndarray]:
        if self.kind == "optimizer":
            return give_steps(Trial("optimizer", case, self.backend, "float64"))
        if self.kind == "loss":
            trial = Trial("loss", case, self.backend, "float64")
            plain = give_loss(trial, "float64", np.ones(1), False)
            weights = np.random.default_rng(0).normal(size=plain[0].shape)
            return give_loss(trial, "float64", weights, True) if graded else plain
        trial = Trial("values", case, self.backend, "float64")
        drawn = case.draw("float64")
        found = evaluate(trial, drawn, drawn.cotangents if graded else None)
        graded_arrays = [*(found.input_grads or ()), *(found.weight_grads or ())]
        return [np.asarray(x) for x in (*found.outputs, *found.weights, *graded_arrays) if x is not None]

    # Whether it is found

    def tried(self, fault: Fault, shown: str | None = None) -> Record:
        """What the trials find, in order of what is likely; after them, all cases of a cell together."""
        results: list[Result] = []
        with np.errstate(all="ignore"), warnings.catch_warnings(), planted(fault, self.backend):
            warnings.simplefilter("ignore")
            for trial in self.trials(fault, shown):
                result = conduct(trial, self.bench)
                if result.verdict in FAILING:
                    told = result.message.splitlines()[-1] if result.message else ""
                    return Record(fault.id, CAUGHT, result.check, result.dtype, result.case, told[:200])
                results.append(result)
        z = max((f.worst or 0.0 for r in results for f in r.findings), default=0.0) / LIMIT
        for cell in judgement.judge(results, complete=False):
            if cell.verdict in FAILING:
                return Record(fault.id, CAUGHT, "all cases together", cell.dtype, "", cell.reasons[0], z)
        return Record(fault.id, SURVIVED, z=round(z, 4))

    def unharmed(self) -> tuple[int, list[str]]:
        """(trials that were run, those that failed) with the right kernel."""
        with np.errstate(all="ignore"), warnings.catch_warnings(), planted(None, self.backend, self.kind, self.name):
            warnings.simplefilter("ignore")
            results = [conduct(trial, self.bench) for trial in self.trials(None)]
        alarms = [f"{r.id}: {r.message.splitlines()[-1:]}" for r in results if r.verdict in FAILING]
        cells = [cell for cell in judgement.judge(results, complete=False) if cell.verdict in FAILING and not alarms]
        return len(results), alarms + [f"{cell.label}: {cell.reasons}" for cell in cells]

    def trials(self, fault: Fault | None, shown: str | None = None) -> Iterator[Trial]:
        """All trials of the spec by its kernel."""
        checks = [c for c in table().values() if "kernel" in c.routes and not c.compiled and c.name not in ELSEWHERE]
        values = {"layer": "values", "activation": "values"}.get(self.kind, self.kind)
        contract = fault is not None and fault.family == "contract"
        # A broken contract is found by its check; what is computed wrongly, by a comparison of values.
        checks.sort(key=lambda check: (check.name == values) == contract)
        for check in checks:
            for subject in sorted(self._subjects_of(check), key=lambda subject: subject.id != shown):
                yield from check.trials(subject, self.backend, check.dtypes or USUAL, ("kernel",), None)

    def _subjects_of(self, check: Check) -> Sequence[Any]:
        if check.name not in self._subjects:
            self._subjects[check.name] = self._of(check)
        return self._subjects[check.name]

    def _of(self, check: Check) -> Sequence[Any]:
        kind = "layer" if self.kind == "activation" else self.kind
        if check.kind != kind:
            return []
        if self.kind == "activation":
            own = {case.id for case in self.cases}
            return [subject for subject in check.subjects("certify") if subject.id in own]
        order = {case.id: place for place, case in enumerate(self.cases)}
        found = [subject for subject in check.subjects("certify") if subject.layer == self.name]
        return sorted(found, key=lambda subject: order.get(subject.id, len(order)))


def differ(wrong: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> bool:
    """Whether any element is another number than float64's own noise would make it."""
    if len(wrong) != len(right):
        return True
    whole = max((_largest(b) for b in right), default=0.0)
    for a, b in zip(wrong, right, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return True
        if a.dtype.kind != "f":
            if not np.array_equal(a, b):
                return True
            continue
        with np.errstate(all="ignore"):
            finite = np.isfinite(b)
            off = np.abs(a - b) > np.maximum(NOISE * np.abs(b), max(ROUNDING * _largest(b), CANCELLING * whole))
            special = ~finite & ~((a == b) | (np.isnan(a) & np.isnan(b)))
            if bool(((off | ~np.isfinite(a)) & finite).any()) or bool(special.any()):
                return True
    return False


def _largest(x: np.ndarray) -> float:
    """The size of the largest finite element of an array of floats."""
    return float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) if x.dtype.kind == "f" else 0.0


def _telling(cases: Iterable[Case]) -> list[Case]:
    """Cases in order of what they tell in little time: first of each way of calling, small ones, none that is empty."""
    small = sorted(cases, key=lambda case: sum(math.prod(shape) for shape in case.shapes))
    ways: set[Any] = set()

    def rank(case: Case) -> tuple[bool, bool]:
        if any(0 in shape for shape in case.shapes):
            return True, True
        way = (case.training, case.masks, case.states, case.data)
        again = way in ways
        ways.add(way)
        return False, again

    ranks = {case.id: rank(case) for case in small}
    return sorted(small, key=lambda case: ranks[case.id])
