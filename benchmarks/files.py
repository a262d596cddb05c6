"""How much memory it takes to save and load a large file, and how long.

    python -m benchmarks.files [--megabytes 1024] [--only w.safetensors ...]

Each save and each load runs in a process of its own: the highest resident memory (VmHWM) less what there was before, in
parts of the file's size. A model is made of layers of 32 MB, or of one that is all of the file ("one array").
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FILES = ("w.weights.h5", "w.h5", "w.safetensors", "m.keras", "m.h5", "trained.keras", "trained.h5")
MEGABYTE = 1 << 20
LAYER = 32
"""Megabytes of a layer."""
ALLOWED = 1.3
"""The share of a file's size that saving or loading it may take; for slots of one array, a weight's size more."""


def model_of(megabytes: int, whole: bool) -> Any:
    """A model with weights of this size: in layers, or in one array. No weight is drawn before it is needed."""
    import layerhub as lh

    side = 2896  # squared, 32 MB in float32
    if whole:
        layers = [lh.Input((3,)), lh.layers.Embedding(megabytes * 1024, 256)]
    else:
        dense = lh.layers.Dense
        layers = [
            lh.Input((side,)),
            *(dense(side, use_bias=False, kernel_initializer="zeros") for _ in range(megabytes // LAYER)),
        ]
    return lh.Sequential(layers, name="large", seed=0)


def memory(what: str) -> int:
    """Resident memory of this process in bytes: VmRSS, or VmHWM, the highest since it was last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise LookupError(what)


def work(act: str, path: Path, megabytes: int, whole: bool) -> None:
    """Save or load, and print (bytes above what there was before, seconds)."""
    import numpy as np

    import layerhub as lh

    share = 3 if path.name.startswith("trained") else 1  # Adam keeps twice as much as there are weights
    model = model_of(megabytes // share, whole)
    rng = np.random.default_rng(0)
    one = lh.Sequential([lh.Input((2,)), lh.layers.Dense(2)])
    if act == "save":
        for variable in model.weights:
            variable.assign(rng.random(variable.shape, np.float32), copy=False)
        if path.name.startswith("trained"):
            # A step would need more memory than the file: only what it leaves behind is made.
            model.compile("adam", "mse")
            model.executor.step = 1
            model.executor.prepare()
    # What is imported at first use is no part of the figure.
    for warm in (path.with_name(f"warm-{path.name}"),):
        (one.save if path.name[0] != "w" else one.save_weights)(warm)
        (lh.models.load_model if path.name[0] != "w" else one.load_weights)(warm)
        warm.unlink()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, begin = memory("VmRSS"), time.perf_counter()
    if act == "save":
        (model.save_weights if path.name.startswith("w") else model.save)(path)
    elif path.name.startswith("w"):
        model.load_weights(path)
    else:
        model = lh.models.load_model(path)
    seconds = time.perf_counter() - begin
    print(memory("VmHWM") - before, seconds)


def measured(act: str, path: Path, megabytes: int, whole: bool) -> tuple[int, float]:
    """(bytes, seconds) of a save or a load in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.files", "--work", act, str(path), "--megabytes", str(megabytes)]
    done = subprocess.run([*command, *(["--whole"] if whole else [])], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found, seconds = done.stdout.split()
    return int(found), float(seconds)


def main() -> int:
    """The command; 1 where a file took more memory than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--only", nargs="+", choices=FILES, default=FILES)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work[0], Path(asked.work[1]), asked.megabytes, asked.whole)
        return 0
    worst = 0.0
    print("| file | arrays | MB | save: memory | s | load: memory | s |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only:
            for whole in (False, True):
                path = Path(folder) / name
                saved = measured("save", path, asked.megabytes, whole)
                size = os.path.getsize(path)
                loaded = measured("load", path, asked.megabytes, whole)
                path.unlink()
                spare = size / 3 if whole and name.startswith("trained") else 0
                worst = max(worst, saved[0] / size, (loaded[0] - spare) / size)
                figures = " | ".join(f"{found / size:.2f} × | {seconds:.1f}" for found, seconds in (saved, loaded))
                print(f"| {name} | {'one' if whole else 'many'} | {size / MEGABYTE:.0f} | {figures} |", flush=True)
    return int(worst > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
