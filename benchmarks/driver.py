"""The measuring: contenders take turns, each in its own process, while the others sleep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import IO, Any

from benchmarks.contenders import HAND, KINDS, MEASURES
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parent.parent
BACKENDS = tuple(HAND)

PRESENT = 0.9
"""A turn counts if the contender had at least this share of the processor that it had in its best turn."""

PATIENCE = 3
"""How many times the wanted number of turns are taken, at most, until enough of them count."""


def environment(backend: str, threads: int, folder: str) -> dict[str, str]:
    """The variables that hold every library to so many threads, and Keras to its backend."""
    counts = "OMP OPENBLAS MKL".split()
    return os.environ | {
        **{f"{name}_NUM_THREADS": str(threads) for name in counts},
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "NPROC": str(threads),  # jax
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": backend,
        "KERAS_HOME": folder,
    }


@dataclass(eq=False)
class Worker:
    """A contender's process.

    offer: what it said when it was ready: the measures that it has, the versions of what it uses; or why it is missing.
    """

    workload: str
    kind: str
    backend: str
    process: subprocess.Popen[str]
    errors: IO[str]
    offer: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.workload}, {self.kind} on {self.backend}"

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line that it writes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        ended = self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().strip().splitlines()[-1:]
        return {"missing": f"its process ended with {ended}: {''.join(last)}"}


@contextmanager
def worker(workload: str, kind: str, backend: str, threads: int = 2) -> Iterator[Worker]:
    """A contender in a process of its own, started, but not waited for."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", workload, kind, backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=environment(backend, threads, folder),
        ) as process,
    ):
        try:
            yield Worker(workload, kind, backend, process, errors)
        finally:
            process.kill()


@dataclass
class Turns:
    """What one contender did in one measure. count: calls in a turn; each call is of ``batches``."""

    workload: str
    measure: str
    backend: str
    kind: str
    count: int = 1
    batches: int = 1
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def kept(self) -> list[float]:
        """Milliseconds for a batch, in the turns in which nobody else had the processor."""
        shares = [cpu / wall for cpu, wall in zip(self.cpu, self.wall, strict=True)]
        worthy = [w for w, share in zip(self.wall, shares, strict=True) if share >= PRESENT * max(shares, default=0)]
        return [1e3 * w / (self.count * self.batches) for w in worthy]

    def figures(self) -> dict[str, Any]:
        """The median, the quartiles, and how many turns they are made from."""
        kept = self.kept
        low, _, high = quantiles(kept, n=4, method="inclusive") if len(kept) > 1 else (kept[0],) * 3
        about = asdict(self)
        del about["wall"], about["cpu"], about["count"], about["batches"]
        return about | {"ms": median(kept), "quartiles": [low, high], "kept": len(kept), "turns": len(self.wall)}


def compete(
    workload: str, backends: Sequence[str], measures: Sequence[str], rounds: int, seconds: float, threads: int,
    tell: Callable[[str], None],
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, str]]:  # fmt: skip
    """(figures, contender -> why it is missing, package -> version), for one workload.

    rounds: turns that count, for each contender and measure. seconds: the length of a turn.
    """
    figures, missing, versions = [], {}, {}
    with ExitStack() as stack:
        workers = [
            stack.enter_context(worker(workload, kind, backend, threads)) for backend in backends for kind in KINDS
        ]
        for each in workers:
            tell(f"{each.name}: starting")
            each.offer = each.answer()
            versions |= each.offer.get("versions", {})
            if "missing" in each.offer:
                missing[each.name] = each.offer["missing"]
        for measure in (m for m in MEASURES if m in measures):
            taking_part = [each for each in workers if measure in each.offer.get("measures", ())]
            figures += [t.figures() for t in _measure(taking_part, measure, rounds, seconds, tell, missing)]
    return figures, missing, versions


def _measure(
    workers: Sequence[Worker], measure: str, rounds: int, seconds: float, tell: Callable[[str], None],
    missing: dict[str, str],
) -> list[Turns]:  # fmt: skip
    """Turns of all workers, in rounds."""
    found: dict[Worker, Turns] = {}

    def ask(each: Worker, count: int) -> dict[str, Any] | None:
        answer = each.ask(measure=measure, count=count)
        if "missing" in answer:
            missing[f"{each.name}, {measure}"] = answer["missing"]
            found.pop(each, None)
            return None
        return answer

    for each in workers:
        tell(f"{each.name}: warming up {measure}")
        # The first call traces and compiles; the second tells how many of them a turn may have.
        answer = ask(each, 1) and ask(each, 1)
        if answer:
            count = max(round(seconds / answer["wall"]), 1)
            batches = WORKLOADS[each.workload].batches if measure in ("predict", "fit") else 1
            found[each] = Turns(each.workload, measure, each.backend, each.kind, count, batches)
    for number in range(rounds * PATIENCE):
        waiting = [each for each, turns in found.items() if len(turns.kept) < rounds]
        # Nobody goes always first: what another left behind in caches and clocks should meet everyone.
        at = number % max(len(waiting), 1)
        for each in waiting[at:] + waiting[:at]:
            tell(f"{each.name}: {measure}, round {number + 1}")
            answer = ask(each, found[each].count)
            if answer:
                found[each].wall.append(answer["wall"])
                found[each].cpu.append(answer["cpu"])
    return [turns for turns in found.values() if turns.wall]
