"""Trials: one check of one subject on one backend, and the verdict on it.

@check("contract: repeated calls agree", subjects=first_cases, routes=("kernel",))
def repeated_calls_agree(trial, bench):
    ...                                       # gives findings: one for each array, or for what went wrong
"""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from layerhub.errors import MaskDroppedWarning
from layerhub.probe import Evaluation, evaluate_layer
from layerhub_conformance.bench import Bench, BrokenError, Local, RaisedError
from layerhub_conformance.case import Case, Drawn
from layerhub_conformance.expected import known
from layerhub_conformance.report.model import Finding, Result

SHOWN = 4
"""How many wrong arrays are told of."""


class Subject(Protocol):
    """What is tried out: a case, a loss, an optimizer, a graph. layer: the name it is reported under."""

    @property
    def id(self) -> str: ...
    @property
    def layer(self) -> str: ...


@dataclass(frozen=True)
class Trial:
    """One check of one subject on one backend, in one type, by one route.

    mode: "eager", "compiled" first, or compiled as a "draft".
    """

    check: str
    subject: Any
    backend: str
    dtype: str
    route: str = "kernel"
    device: str | None = None
    mode: str = "eager"

    @property
    def compiled(self) -> bool | Literal["draft"]:
        """The mode as ``evaluate_layer`` takes it."""
        return "draft" if self.mode == "draft" else self.mode == "compiled"

    @property
    def id(self) -> str:
        """One line, the same in every run."""
        mode = "" if self.mode == "eager" else f"-{self.mode}"
        return f"{self.backend}-{self.dtype}-{self.route}{mode}-{self.check}-{self.subject.id}"

    @property
    def replay(self) -> str:
        """The command that runs this trial alone."""
        words = ["layerhub", "conformance", "--backend", self.backend, "--dtype", self.dtype]
        words += ["--device", self.device] if self.device else []
        return shlex.join([*words, "--case", f"{self.check}: {self.subject.id}"])


Function = Callable[[Trial, "Bench | Local"], "Sequence[Finding] | Outcome"]


@dataclass
class Outcome:
    """Findings, and which kernels served."""

    findings: Sequence[Finding]
    served: Sequence[str] = ()


class UnsupportedError(Exception):
    """The backend declares that it does not do this."""


@dataclass(frozen=True)
class Check:
    """Something that all backends must do.

    subjects: of a tier. parse: the subject that an id says, for one that is not among them. kind: of what the subjects
    are of. dtypes: None for those that were asked for; else these.
    compiled: the call is compiled first; such a check says nothing of a backend that does not compile.
    shared: it has so many subjects that a backend which compiles every shape need not try all types with each.
    """

    name: str
    function: Function
    subjects: Callable[[str], Iterable[Any]]
    kind: str = "layer"
    dtypes: tuple[str, ...] | None = None
    routes: tuple[str, ...] = ("kernel", "definition")
    compiled: bool = False
    gradients: bool = False
    shared: bool = False
    parse: Callable[[str], Any] = Case.parse

    def trials(
        self, subject: Any, backend: str, dtypes: Sequence[str], routes: Sequence[str], device: str | None
    ) -> Iterator[Trial]:
        """The trials of a subject on a backend."""
        mode = "compiled" if self.compiled else "eager"
        for dtype in dtypes if self.dtypes is None else [d for d in self.dtypes if d in dtypes]:
            for route in [r for r in self.routes if r in routes]:
                yield Trial(self.name, subject, backend, dtype, route, device, mode)


CHECKS: dict[str, Check] = {}


def check(name: str, **options: Any) -> Callable[[Function], Function]:
    """Enters a function into the table of checks; see ``Check`` for the options."""

    def enter(function: Function) -> Function:
        CHECKS[name] = Check(name, function, **options)
        return function

    return enter


# Verdicts


def conduct(trial: Trial, bench: Bench | Local) -> Result:
    """Run a trial and judge it."""
    began = time.perf_counter()
    rule = CHECKS[trial.check]
    kind, name = getattr(trial.subject, "reported", (rule.kind, trial.subject.layer))
    result = Result(
        trial.id, name, kind, trial.check, trial.subject.id, trial.backend, trial.dtype,
        trial.route, trial.mode, replay=trial.replay,
    )  # fmt: skip
    try:
        _refuse(trial, rule, bench)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MaskDroppedWarning)
            found = rule.function(trial, bench)
        found = found if isinstance(found, Outcome) else Outcome(found)
        verdict, message = _verdict(found.findings, bench)
        result = replace(
            result, verdict=verdict, message=message, findings=tuple(found.findings), served=tuple(found.served)
        )
    except UnsupportedError as reason:
        result = replace(result, verdict="unsupported", message=str(reason))
    except BrokenError as problem:
        told = problem.trace if isinstance(problem, RaisedError) and not problem.mistake else str(problem)
        result = replace(result, verdict="fail", message=told, findings=())
    if result.verdict == "fail" and (entry := known(trial)):
        result = replace(result, verdict="xfail", message=entry.reason)
    return replace(result, seconds=time.perf_counter() - began)


def _refuse(trial: Trial, rule: Check, bench: Bench | Local) -> None:
    """Raise UnsupportedError for what the backend declares that it does not do."""
    able = bench.capabilities
    if trial.dtype not in able.dtypes:
        raise UnsupportedError(f"{able.name} declares no {trial.dtype}")
    if trial.subject.layer in able.lacks:
        raise UnsupportedError(f"{able.name} lacks {trial.subject.layer}: {able.lacks[trial.subject.layer]}")
    if rule.gradients and not able.gradients:
        raise UnsupportedError(f"{able.name} declares no gradients")
    if rule.compiled and not able.compiles:
        raise UnsupportedError(f"{able.name} does not compile")


def _verdict(findings: Sequence[Finding], bench: Bench | Local) -> tuple[str, str]:
    bad = [f.detail for f in findings if not f.right]
    if bad:
        more = [f"and {len(bad) - SHOWN} more arrays"] if len(bad) > SHOWN else []
        return "fail", "\n".join([*bad[:SHOWN], *more])
    if bench.foreign:
        return "mistrusted", f"{', '.join(bench.foreign)} was imported to do the work"
    if not findings:
        return "mistrusted", "nothing was compared"
    return "pass", ""


def screen(result: Result) -> str:
    """A failure, on one screen."""
    served = f", served by {', '.join(result.served)}" if result.served else ""
    lines = [
        f"{result.subject} on {result.backend}, {result.dtype}, {result.route} route, {result.mode}{served}",
        f"check   {result.check}",
        f"case    {result.case}",
        *result.message.splitlines()[-24:],
        f"replay  {result.replay}",
    ]
    return "\n".join(line if len(line) <= 500 else line[:497] + "..." for line in lines)


# What runs beside the backend


@dataclass
class Given:
    """What a backend gave for a case. graded: with gradients. plain: without. notes: what it did that it must not."""

    graded: Evaluation | None
    plain: Evaluation
    notes: list[str] = field(default_factory=list)


def evaluate(trial: Trial, drawn: Drawn, cotangents: Any = None, **options: Any) -> Evaluation:
    """A case on a backend, in this process."""
    case: Case = trial.subject
    given: dict[str, Any] = {
        "inputs": drawn.inputs, "weights": drawn.weights, "backend": trial.backend, "training": case.training,
        "mask": drawn.masks, "initial_state": drawn.states or None, "cotangents": cotangents, "dtype": trial.dtype,
        "route": trial.route, "device": trial.device, "compiled": trial.compiled,
    }  # fmt: skip
    # Data with NaN and infinity are meant so.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", MaskDroppedWarning)
        return evaluate_layer(case.make(trial.dtype), **given | options)


def give(trial: Trial, drawn: Drawn, gradients: bool) -> Given:
    """A case on a backend, with gradients and without: asked for gradients, a backend may run other code.

    What is compiled is run once: gradients where there are any.
    """
    held = [*drawn.inputs, *drawn.weights, *drawn.states, *drawn.cotangents]
    before = [x.copy() for x in held]
    graded = evaluate(trial, drawn, drawn.cotangents) if gradients else None
    plain = graded if graded is not None and trial.compiled else evaluate(trial, drawn)
    notes = []
    if not all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(held, before, strict=True)):
        notes.append("an input or weight was changed by the call")
    if any(np.shares_memory(y, x) for y in plain.outputs for x in held if x.size and y.size):
        notes.append("an output shares memory with an input or weight")
    return Given(graded, plain, notes)
