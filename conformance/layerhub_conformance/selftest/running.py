"""Running the self-test: in several processes, spec by spec, so that references are made once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerhub.errors import ParameterError
from layerhub.registry import registry
from layerhub_conformance.report.model import Run
from layerhub_conformance.selftest import catalogue
from layerhub_conformance.selftest.faults import faults_of, specs
from layerhub_conformance.selftest.score import EQUIVALENT, Record, Subject

SLOW = ("Bidirectional", "MultiHeadAttention", "GroupQueryAttention", "RNN", "LSTM", "GRU", "ConvLSTM2D", "ConvLSTM3D")
"""Specs that take longest, and so begin first."""
HOST_ONLY = ("gradient", "contract")
"""Classes whose faults are written for arrays of the host, and for the core's differentiation."""

Task = tuple[str, str, str, tuple[str, ...]]
"""(kind, name, backend, ids of faults)"""


@dataclass(frozen=True)
class Right:
    """What the suite says of a kernel without any fault. alarms: the trials that failed."""

    spec: str
    trials: int
    alarms: tuple[str, ...] = ()


def wanted(backend: str, names: Sequence[str], classes: Sequence[str], sample: int | None) -> list[str]:
    """The ids of the faults that were asked for."""
    known = {name for _, name in specs()}
    if strange := sorted(set(names) - known):
        raise ParameterError(f"no spec with kernels is called {strange[0]!r}; there are: {', '.join(sorted(known))}")
    found = []
    for fault in catalogue.catalogue():
        spec, family, _ = fault.split(": ", 2)
        chosen = (not names or spec.split()[1] in names) and (not classes or family in classes)
        if chosen and not (family in HOST_ONLY and registry().backend(backend).own_autodiff):
            found.append(fault)
    return found if sample is None else sorted(random.Random(0).sample(found, min(sample, len(found))), key=found.index)


def run(
    backend: str,
    ids: Sequence[str],
    jobs: int,
    resume: Path | None = None,
    tell: Callable[[str], Any] = lambda text: None,
) -> list[Record]:
    """The records of these faults, in this order."""
    records = {name: Record(name, EQUIVALENT) for name in ids if catalogue.catalogue()[name] is None}
    if resume is not None and resume.exists():
        rows = map(json.loads, resume.read_text(encoding="utf-8").splitlines())
        records |= {row["id"]: Record(**row) for row in rows if row["id"] in catalogue.catalogue()}
    by_spec: dict[tuple[str, str], list[str]] = {}
    for name in ids:
        if name not in records:
            kind, spec = name.partition(":")[0].split()
            by_spec.setdefault((kind, spec), []).append(name)
    tasks = [(kind, spec, backend, tuple(names)) for (kind, spec), names in by_spec.items()]
    for found in _spread(_scored, tasks, jobs):
        records |= {record.id: record for record in found}
        tell(f"{len(records)} of {len(ids)} faults, {found[0].id.partition(':')[0]}")
        if resume is not None:
            with resume.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(record.as_dict()) + "\n" for record in found)
    return [records[name] for name in ids]


def _scored(task: Task) -> list[Record]:
    kind, name, backend, ids = task
    subject = Subject(kind, name, backend)
    return [subject.tried(fault, shown) for fault, shown in catalogue.listed(kind, name, ids)]


def right(backend: str, jobs: int) -> list[Right]:
    """What the suite says of right kernels, spec by spec."""
    tasks = [(kind, name, backend, ()) for kind, name in specs()]
    return sorted(_spread(_right, tasks, jobs), key=lambda found: found.spec)


def _right(task: Task) -> Right:
    kind, name, backend, _ = task
    trials, alarms = Subject(kind, name, backend).unharmed()
    return Right(f"{kind} {name}", trials, tuple(alarms))


def freeze(backend: str, jobs: int, tell: Callable[[str], Any]) -> None:
    """Choose faults, decide whether they are any, and write the catalogue."""
    tasks = [(kind, name, backend, ()) for kind, name in specs()]
    rows: dict[str, str | None] = {}
    for found in _spread(_decided, tasks, jobs):
        rows |= found
        tell(f"{len(rows)} faults, {sum(shown is None for shown in rows.values())} of them equivalent")
    order = {f"{kind} {name}": place for place, (kind, name) in enumerate(specs())}
    catalogue.freeze(dict(sorted(rows.items(), key=lambda row: order[row[0].partition(":")[0]])))


def _decided(task: Task) -> dict[str, str | None]:
    kind, name, backend, _ = task
    return catalogue.decided(Subject(kind, name, backend))


def _spread(function: Callable[[Task], Any], tasks: list[Task], jobs: int) -> Iterator[Any]:
    """The results of tasks, as they come."""
    tasks = sorted(tasks, key=lambda task: task[1] not in SLOW)
    if jobs < 2 or len(tasks) < 2:
        yield from map(function, tasks)
        return
    # One thread each: the arrays are small, and the processes share the machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(function, tasks)


# False alarms


@dataclass(frozen=True)
class Correct:
    """A run of the suite on a backend that is known to be right."""

    backend: str
    passed: int
    alarms: int


def reports() -> list[Path]:
    """Run the suite on all usable backends, one after the other; gives the files of their reports."""
    found = []
    for name in registry().usable():
        folder = Path(tempfile.mkdtemp(prefix="layerhub-")) / name
        command = [sys.executable, "-m", "pytest", "--pyargs", "layerhub_conformance", "-q", "-p", "no:cacheprovider"]
        subprocess.run(
            [*command, f"--layerhub-backend={name}", f"--layerhub-report={folder}"], stdout=subprocess.DEVNULL
        )
        found.append(folder / "report.json")
    return found


def counted(paths: Sequence[Path]) -> list[Correct]:
    """Passing and failing trials of reports, by backend."""
    found: dict[str, Correct] = {}
    for path in paths:
        for result in Run.load(path).results:
            old = found.get(result.backend, Correct(result.backend, 0, 0))
            failed = result.verdict in ("fail", "mistrusted")
            found[result.backend] = Correct(
                result.backend, old.passed + (result.verdict == "pass"), old.alarms + failed
            )
    return list(found.values())


def missing() -> list[str]:
    """Entries of the catalogue that no fault answers to any more."""
    made = {fault.id for kind, name in specs() for fault in faults_of(kind, name)}
    return [name for name in catalogue.catalogue() if name not in made]
