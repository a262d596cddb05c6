"""A process with one contender in it: ``python -m benchmarks.worker WORKLOAD KIND BACKEND``.

Requests come as lines of JSON, and so go the answers:

    {"measure": "training", "count": 20}  ->  {"wall": seconds, "cpu": seconds}, for all 20 calls
    {"path": "/a/file.npz"}               ->  {}, with what ``benchmarks.check`` compares in the file
    anything that fails                   ->  {"missing": "why"}
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

from benchmarks.contenders import KINDS, Contender
from benchmarks.workloads import WORKLOADS

STEPS = 5


def timed(contender: Contender, measure: str, count: int) -> dict[str, float]:
    """The time that some calls take, the last of them waited for."""
    call = getattr(contender, measure)
    # One that does not count wakes threads and fills caches.
    contender.finish(call())
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        returned = call()
    contender.finish(returned)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def results(contender: Contender, path: str) -> dict[str, Any]:
    """Outputs, losses of the first steps, and what the first gradients left in Adam's moments."""
    found: dict[str, Any] = {"outputs": contender.finish(contender.inference())}
    if "training" in contender.measures:
        losses = [contender.step()]
        found |= {f"gradient {k}": np.array(moment) for k, moment in enumerate(contender.momentum())}
        found["losses"] = np.array(losses + [contender.step() for _ in range(STEPS - 1)])
    np.savez(path, **found)
    return {}


def absence(problem: Exception) -> dict[str, Any]:
    """The answer where there is none."""
    return {"missing": f"{type(problem).__name__}: {problem}"}


def main() -> None:
    # Frameworks print; what they print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    workload, kind, backend = sys.argv[1:]
    try:
        contender = KINDS[kind](backend, WORKLOADS[workload])
    except Exception as problem:
        say(absence(problem))
        return
    say({"measures": contender.measures, "versions": contender.versions()})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say(results(contender, **request) if "path" in request else timed(contender, **request))
        except Exception as problem:
            say(absence(problem))


if __name__ == "__main__":
    main()
