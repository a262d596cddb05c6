"""Runs the conformance suite several times, in other orders and by other numbers of workers, and compares the results.

    python tools/steadiness.py --backend numpy --runs 10

A correct backend must not begin to fail by chance, so every verdict and every figure of every trial must be the same in
all runs. Exits with 1 where one is not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from layerhub_conformance.report import Run

WORKERS = (1, 2, 3)


def told(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What a run says of each trial: the verdict, and the figures of its arrays."""
    run = Run.load(folder / "report.json")
    return {f"{r.id} {r.mode}": (r.verdict, r.findings) for r in run.results}


def once(number: int, args: argparse.Namespace, folder: Path) -> dict[str, tuple[Any, ...]]:
    """One run, in an order of its own."""
    workers = WORKERS[number % len(WORKERS)]
    command = [
        sys.executable, "-m", "pytest", "--pyargs", "layerhub_conformance", "-q", "-p", "no:cacheprovider",
        "--disable-warnings", "-o", "addopts=", f"--layerhub-tier={args.tier}", f"--layerhub-report={folder}",
        *(f"--layerhub-backend={name}" for name in args.backend), *(f"--layerhub-layer={name}" for name in args.layer),
    ]  # fmt: skip
    command += [f"--layerhub-shuffle={number}"] if number else []
    command += ["-n", str(workers)] if workers > 1 else []
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    found = told(folder)
    verdicts = Counter(verdict for verdict, _ in found.values())
    print(
        f"run {number}: {workers} workers, {'the usual order' if not number else f'order {number}'}, exit "
        f"{done.returncode}, {time.monotonic() - began:.0f} s; {len(found)} trials: "
        + ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())),
        flush=True,
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", default=[], help="repeat it; default: all usable ones")
    parser.add_argument("--layer", action="append", default=[], help="repeat it; default: all")
    parser.add_argument("--tier", default="certify")
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    first: dict[str, tuple[Any, ...]] = {}
    unlike: Counter[str] = Counter()
    for number in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            found = once(number, args, Path(folder))
        first = first or found
        for trial in first.keys() | found.keys():
            a, b = first.get(trial), found.get(trial)
            if a != b:
                verdict = a is None or b is None or a[0] != b[0]
                unlike[f"{'verdict' if verdict else 'figures'} of {trial}"] += 1
    for what, count in unlike.most_common(20):
        print(f"{count} of {args.runs} runs have another {what}")
    print(f"{args.runs} runs: {len(unlike)} of {len(first)} trials were not the same in all")
    return 1 if unlike else 0


if __name__ == "__main__":
    sys.exit(main())
