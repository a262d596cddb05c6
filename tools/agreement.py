"""``python tools/agreement.py``: train every model with every optimizer on every backend and in Keras, and compare.

What is trained stands in ``grid.py``. The reference is the numpy backend in float64. Each other side works in a process
of its own; what it came to is compared here, array by array: losses and metrics of each step, weights, the optimizer's
slots, and what ``evaluate`` says at the end.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from grid import DTYPES, MODELS, OPTIMIZERS, OURS_ALONE, Case, Told, trained
from rich.progress import Progress

BACKENDS = ("numpy", "torch", "tensorflow", "jax")
KERAS = "keras"
SIDES = (*BACKENDS, KERAS)
NEAR = {"float64": 1e-9, "float32": 1e-4}
"""How far arrays may lie apart, relative to their scale: what the project promises."""
RATE = 2.0**-8
"""The smallest learning rate of the grid. A weight that is smaller than that is measured by it."""
AT_A_TIME = 60
"""After so many cases a process is replaced: frameworks keep what they have traced."""


# What is not compared


@dataclass(frozen=True)
class Exclusion:
    """Arrays that are not compared, and why. names: a pattern, with dots for slashes. Empty tuples stand for all."""

    names: str
    reason: str
    models: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()

    def covers(self, case: Case, side: str) -> bool:
        """Whether it applies to a case on a side."""
        wanted = zip((*case, side), (self.models, self.optimizers, self.dtypes, self.sides), strict=True)
        return all(not chosen or what in chosen for what, chosen in wanted)


EXCLUSIONS = (
    Exclusion(
        r".*attention.key.bias.*",
        "its true gradient is zero, for it adds the same to all scores of a query; what moves it is rounding, which "
        "Adam and its kind make as large as any gradient",
        models=("attention",),
    ),
    Exclusion(
        r".*conv.bias.*",
        "its true gradient is zero, for batch normalization takes the mean away; what moves it is rounding",
        models=("biased",),
    ),
    Exclusion(
        r"weight norm.moving_mean|evaluate .*",
        "the mean of batches follows the bias before it, which rounding moves, and lags behind it",
        models=("biased",),
    ),
    Exclusion(
        r"weight norm_1.beta",
        "1.01e-4 apart: an element's first gradient happens to be -3e-6, beside others of 0.06, so float32 has two "
        "digits of it; Nadam divides by its size, and moves the weight by a step of two digits. Elsewhere within 3e-5",
        models=("attention",),
        optimizers=("Nadam",),
        sides=("tensorflow",),
        dtypes=("float32",),
    ),
    Exclusion(
        r".*",
        "Keras reads its momentum after it has moved it (known divergences); ours follows the paper",
        optimizers=("ScheduleFreeAdamW",),
        sides=(KERAS,),
    ),
    Exclusion(
        r".*",
        "Keras takes its 0.96 to float64 by way of float32, 3e-8 off (known divergences); in float32 it agrees",
        optimizers=("Nadam",),
        sides=(KERAS,),
        dtypes=("float64",),
    ),
    Exclusion(
        r".*",
        "on purpose: here averages are taken after each update, in Keras also while gradients are gathered",
        optimizers=("EMA, accumulation",),
        sides=(KERAS,),
    ),
    Exclusion(
        r"slot adafactor.*(kernel|embeddings|gru_cell_bias|(query|key|value)_bias)_velocity",
        "of matrices, no state: Keras computes it anew from rows and columns, which are compared",
        optimizers=("Adafactor",),
        sides=(KERAS,),
    ),
    Exclusion(
        r"slot loss_scale_optimizer.*.iteration",
        "Keras never moves it: it counts in the inner optimizer, whose count is compared",
        optimizers=("LossScaleOptimizer",),
        sides=(KERAS,),
    ),
)


def excluded(name: str, case: Case, side: str) -> Exclusion | None:
    """What keeps an array from being compared."""
    flat = name.replace("/", ".")
    return next((e for e in EXCLUSIONS if e.covers(case, side) and re.fullmatch(e.names, flat)), None)


# Comparing


class Difference(NamedTuple):
    """How far an array lies from the reference's, relative to its scale."""

    name: str
    relative: float


def differences(reference: Told, other: Told, case: Case, side: str) -> list[Difference]:
    """Of every array that is compared, the worst first. Raises ValueError where there are other arrays, or shapes."""
    found = [
        Difference(name, _relative(name, a, b))
        for name, a, b in _pairs(reference, other, side)
        if not excluded(name, case, side)
    ]
    return sorted(found, key=lambda difference: -difference.relative)


def _pairs(reference: Told, other: Told, side: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Arrays that belong together. Keras's weights and slots have names of their own, but the same order."""
    if side != KERAS:
        _alike(side, sorted(reference.arrays), sorted(other.arrays))
        yield from ((name, a, other.arrays[name]) for name, a in reference.arrays.items())
        return
    mine, theirs = _by_kind(reference), _by_kind(other)
    for kind in ("log", "evaluate"):
        _alike(side, sorted(mine[kind]), sorted(theirs[kind]))
        yield from ((name, mine[kind][name], theirs[kind][name]) for name in mine[kind])
    _alike(side, [a.shape for a in mine["weight"].values()], [a.shape for a in theirs["weight"].values()])
    for (name, a), b in zip(mine["weight"].items(), theirs["weight"].values(), strict=True):
        yield name, a, b
    _alike(side, [a.shape for _, a in reference.row], [a.shape for _, a in other.row])
    for (_, a), (name, b) in zip(reference.row, other.row, strict=True):
        yield f"slot {name}", a, b


def _by_kind(told: Told) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in told.arrays.items():
        found.setdefault(name.split()[0], {})[name] = array
    return found


def _alike(side: str, mine: Sequence[object], theirs: Sequence[object]) -> None:
    if mine != theirs:
        raise ValueError(f"{side} has other arrays than the reference: {theirs}, not {mine}")


def _relative(name: str, a: np.ndarray, b: np.ndarray) -> float:
    """How far b is from a, in parts of the largest element of a, or of the learning rate where that is larger."""
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    apart = float(np.max(np.abs(a - b), initial=0.0))
    scale = max(float(np.max(np.abs(a), initial=0.0)), 0.0 if name.startswith("slot") else RATE)
    if not np.isfinite(apart):
        return np.inf
    return apart / scale if scale else (np.inf if apart else 0.0)


# Running


def cases(models: Sequence[str], optimizers: Sequence[str], dtypes: Sequence[str], side: str) -> list[Case]:
    """What a side has to train."""
    chosen = [m for m in models if side != KERAS or m not in OURS_ALONE]
    return [Case(m, o, dtype) for dtype in dtypes for m in chosen for o in optimizers]


def run(side: str, wanted: Sequence[Case], told: Callable[[Case, Told], object]) -> None:
    """Train cases on a side, in a process of its own; tell each as it comes."""
    library, route = (KERAS, ()) if side == KERAS else ("layerhub", (side,))
    for some in batched(wanted):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            futures = [pool.submit(trained, library, case, route) for case in some]
            for case, future in zip(some, futures, strict=True):
                told(case, future.result())


def batched(wanted: Sequence[Case]) -> list[Sequence[Case]]:
    """Cases in portions for one process each."""
    return [wanted[k : k + AT_A_TIME] for k in range(0, len(wanted), AT_A_TIME)]


Found = dict[tuple[str, Case], list[Difference]]
"""What was compared, by side and case: the worst difference first."""


def compared(
    sides: Sequence[str], models: Sequence[str], optimizers: Sequence[str], dtypes: Sequence[str], jobs: int,
    advance: Callable[[], object] = lambda: None,
) -> Found:  # fmt: skip
    """The differences of all sides from numpy in float64."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # jax compiles each case; without most of XLA's optimizations that takes half the time.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    reference: dict[tuple[str, str], Told] = {}
    found: Found = {}

    def remember(case: Case, told: Told) -> None:
        reference[case[:2]] = told
        advance()

    run("numpy", cases(models, optimizers, ["float64"], "numpy"), remember)

    def compare(side: str, case: Case, told: Told) -> None:
        found[side, case] = differences(reference[case[:2]], told, case, side)
        advance()

    def follow(side: str) -> None:
        run(side, work(side, models, optimizers, dtypes), lambda case, told: compare(side, case, told))

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(follow, sides))
    return found


def work(side: str, models: Sequence[str], optimizers: Sequence[str], dtypes: Sequence[str]) -> list[Case]:
    """What a side trains to be compared: all, but for the reference itself."""
    return [c for c in cases(models, optimizers, dtypes, side) if side != "numpy" or c.dtype != "float64"]


# Telling


def worst(found: Found, side: str, dtype: str) -> dict[tuple[str, str], float | None]:
    """By model and optimizer; None where nothing was compared."""
    return {
        case[:2]: differs[0].relative if differs else None
        for (where, case), differs in found.items()
        if where == side and case.dtype == dtype
    }


def too_far(found: Found) -> list[tuple[str, Case, Difference]]:
    """What lies farther apart than it may."""
    return [
        (side, case, difference)
        for (side, case), differs in found.items()
        for difference in differs
        if not difference.relative <= NEAR[case.dtype]
    ]


def page(found: Found) -> str:
    """The results as Markdown."""
    sides = [s for s in SIDES if any(side == s for side, _ in found)]
    dtypes = [d for d in DTYPES if any(case.dtype == d for _, case in found)]
    parts = _summary(found, sides, dtypes), _left_out(found), _exclusions(), _tables(found, sides, dtypes)
    return "\n".join([ABOUT.strip(), "", *chain.from_iterable(parts)])


ABOUT = """
# Training agrees

<!-- Written by tools/agreement.py, which trains all this. -->

With the same initial weights and the same batches, ten steps of training agree on every backend, and with Keras. Each
model below is trained with each optimizer, in both types. Compared with the numpy backend in float64 are the losses and
metrics of every step, all weights and the optimizer's slots after the last one, and what `evaluate` then says of other
samples.

    python tools/agreement.py --write docs/agreement.md
    python tools/agreement.py --backends torch,keras --models recurrent,attention --optimizers Adam,Lion --dtype float64

A figure is the largest difference of any element, in parts of the largest element of its array; for weights, losses and
metrics that are smaller than the learning rate, in parts of the learning rate. tests/agreement/ trains a part of it, in
continuous integration, and moves models between backends in the middle.

Keras runs on tensorflow, step by step (`run_eagerly`): on torch and jax its float64 passes through float32
([known divergences](known-divergences.md#training-in-keras-3151)). There the gradient of an embedding is made dense
before it reaches the optimizer, for Keras squares it slice by slice. Rates and decays are sums of few powers of two,
which Keras's way through float32 does not change. jax compiles without most of XLA's optimizations here, and with them
in the tests.
"""


def _summary(found: Found, sides: Iterable[str], dtypes: Iterable[str]) -> Iterator[str]:
    yield f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}; Keras runs on tensorflow."
    yield ""
    yield "| side | type | runs | arrays compared | allowed | worst | where |"
    yield "|---|---|--:|--:|--:|--:|---|"
    for side in sides:
        for dtype in dtypes:
            mine = {case: d for (where, case), d in found.items() if where == side and case.dtype == dtype and d}
            if mine:
                case, differs = max(mine.items(), key=lambda item: item[1][0].relative)
                count = sum(map(len, mine.values()))
                figures = f"{len(mine)} | {count} | {NEAR[dtype]:.0e} | {_figure(differs[0].relative)}"
                yield f"| {side} | {dtype} | {figures} | {case.model}, {case.optimizer}: {differs[0].name} |"


def _left_out(found: Found) -> Iterator[str]:
    """What the page has no figures of, because the command was not asked for it."""
    there = {(side, case.dtype) for side, case in found} | {("numpy", "float64")}
    missing = [f"{side} in {dtype}" for side in SIDES for dtype in DTYPES if (side, dtype) not in there]
    if missing:
        yield from ("", f"Not trained for this page: {', '.join(missing)}.")


PACKAGES = ("numpy", "torch", "tensorflow", "jax", "keras")


def _exclusions() -> Iterator[str]:
    yield from ("", "## What is not compared", "")
    yield from ("| model | optimizer | side | type | arrays | why |", "|---|---|---|---|---|---|")
    for e in EXCLUSIONS:
        columns = [", ".join(chosen) or "all" for chosen in (e.models, e.optimizers, e.sides, e.dtypes)]
        names = "all" if e.names == ".*" else f"`{e.names}`".replace("|", "\\|")
        yield f"| {' | '.join(columns)} | {names} | {e.reason} |"
    yield f"| {', '.join(OURS_ALONE)} | all | {KERAS} | all | all | Keras draws other random numbers |"


def _tables(found: Found, sides: Iterable[str], dtypes: Iterable[str]) -> Iterator[str]:
    yield from ("", "## Models", "")
    yield from (f"- **{name}**: {' '.join((model.__doc__ or '').split())}" for name, model in MODELS.items())
    for dtype in dtypes:
        for side in sides:
            cells = worst(found, side, dtype)
            if not cells:
                continue
            models = [m for m in MODELS if any(m == model for model, _ in cells)]
            yield from ("", f"## {side}, {dtype}", "", "The worst relative difference of any array.", "")
            yield f"| | {' | '.join(models)} |"
            yield f"|---|{'--:|' * len(models)}"
            for optimizer in OPTIMIZERS:
                row = [_figure(cells[m, optimizer]) for m in models if (m, optimizer) in cells]
                if row:
                    yield f"| {optimizer} | {' | '.join(row)} |"


def _figure(relative: float | None) -> str:
    return "–" if relative is None else "0" if not relative else f"{relative:.0e}".replace("e-0", "e-")


# The command


def _chosen(known: Iterable[str]) -> Callable[[object, object, str | None], list[str]]:
    """Reads names that are separated by commas; all without any."""
    known = list(known)

    def read(_context: object, _option: object, text: str | None) -> list[str]:
        names = known if text is None else [name.strip() for name in text.split(";" if ";" in text else ",")]
        wrong = [name for name in names if name not in known]
        if wrong:
            raise click.BadParameter(f"{wrong[0]!r} is none of: {', '.join(known)}")
        return names

    return read


@click.command()
@click.option("--backends", callback=_chosen(SIDES), help="What to compare with numpy; keras is one of them.")
@click.option("--models", callback=_chosen(MODELS), help="What to train.")
@click.option("--optimizers", callback=_chosen(OPTIMIZERS), help="How to train it.")
@click.option("--dtype", "dtypes", callback=_chosen(DTYPES), help="In which types.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="How many processes work at once.")
@click.option("--write", type=click.Path(path_type=Path), help="A page to write the results to.")
def main(
    backends: list[str], models: list[str], optimizers: list[str], dtypes: list[str], jobs: int, write: Path | None
) -> None:
    """Ten training steps of many models with all optimizers, compared over backends and with Keras.

    Lists are separated by commas. The exit status is 1 where something does not agree.
    """
    total = sum(len(work(side, models, optimizers, dtypes)) for side in backends)
    total += len(cases(models, optimizers, ["float64"], "numpy"))
    with Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("training", total=total)
        found = compared(backends, models, optimizers, dtypes, jobs, lambda: progress.advance(task))
    click.echo("\n".join(_summary(found, backends, dtypes)))
    if write is not None:
        write.write_text(page(found) + "\n", encoding="utf-8")
    wrong = too_far(found)
    for side, case, difference in wrong[:50]:
        click.echo(f"{side}: {', '.join(case)}: {difference.name} is {difference.relative:.3g} apart")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
