"""What is paid once: importing LayerHub, and binding a deep model."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.driver import PATIENCE, PRESENT, ROOT, environment

IMPORTS = {
    "numpy": "import numpy",
    "layerhub": "import layerhub",
    "layerhub, and a model's parts": "from layerhub import Input, Model, Sequential; from layerhub.layers import Dense",
}

TIMED = (
    "from time import perf_counter, process_time\n"
    "wall, cpu = perf_counter(), process_time()\n"
    "{}\n"
    "print(perf_counter() - wall, process_time() - cpu)"
)

DEPTHS = (1_000, 10_000)
LIMIT = 120
"""The seconds after which a binding is given up."""


def imports(rounds: int, threads: int, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """The milliseconds that each import takes, in fresh processes that take turns."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in IMPORTS}
    with tempfile.TemporaryDirectory() as compiled:
        # Compiled modules are kept, as in any installation, but not in the source tree.
        caches = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}
        for number in range(rounds * PATIENCE + 1):
            waiting = [name for name, turns in seen.items() if len(_kept(turns)) < rounds]
            for name in waiting:
                tell(f"import {name}, round {number}")
                wall, cpu = map(float, _python(["-c", TIMED.format(IMPORTS[name])], "numpy", threads, caches).split())
                if number:  # the first one compiles
                    seen[name].append((wall, cpu))
    figures = {name: 1e3 * median(_kept(turns)) for name, turns in seen.items()}
    return [{"import": name, "ms": ms, "of numpy": ms / figures["numpy"]} for name, ms in figures.items()]


def _kept(turns: Sequence[tuple[float, float]]) -> list[float]:
    best = max((cpu / wall for wall, cpu in turns), default=0)
    return [wall for wall, cpu in turns if cpu / wall >= PRESENT * best]


def binding(backends: Sequence[str], threads: int, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """The milliseconds that it takes to define and to bind deep models."""
    rows = []
    for backend in backends:
        for depth in DEPTHS:
            tell(f"{depth} layers on {backend}")
            try:
                found = json.loads(_python(["-m", "benchmarks.startup", backend, str(depth)], backend, threads))
            except subprocess.TimeoutExpired:
                found = {"missing": f"more than {LIMIT} seconds"}
            except subprocess.CalledProcessError as problem:
                found = {"missing": "".join(problem.stderr.strip().splitlines()[-1:])}
            rows.append({"backend": backend, "layers": depth} | found)
    return rows


def _python(arguments: list[str], backend: str, threads: int, more: Mapping[str, str] | None = None) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
            cwd=ROOT,
            env=environment(backend, threads, folder) | (more or {}),
        ).stdout


def bind(backend: str, depth: int) -> dict[str, float]:
    """The milliseconds to define a model of so many layers and to bind it; the framework is imported before."""
    import layerhub as lh

    def stack(count: int) -> Any:
        layers = [lh.layers.Dense(8, activation="relu") for _ in range(count)]
        return lh.Sequential([lh.Input((8,)), *layers], backend=backend)

    _ = stack(1).executor
    start = time.perf_counter()
    model = stack(depth)
    defined = time.perf_counter()
    _ = model.executor
    return {"define": 1e3 * (defined - start), "bind": 1e3 * (time.perf_counter() - defined)}


if __name__ == "__main__":
    print(json.dumps(bind(sys.argv[1], int(sys.argv[2]))))
