"""What a case must give: values in float64, each with the error that a correct result may have.

The definition is read once, by running-error arrays under reverse-mode differentiation (see ``layerhub.running_error``
and ``layerhub.autodiff``): that gives values, gradients, and bounds of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from layerhub import autodiff
from layerhub.plan import Planner
from layerhub.registry import Registry
from layerhub.running_error import UNITS, RunningError, accepted
from layerhub_conformance.case import Case

SHARE = 1.25
"""How much of its bound an element may use: a margin for the few terms of second order that the rules leave out."""


@dataclass
class Expected:
    """An array of the reference. error: its bound; NaN where undecided."""

    what: str
    value: np.ndarray
    error: np.ndarray


@dataclass
class Reference:
    """All arrays that a case must give."""

    arrays: list[Expected]
    mask: np.ndarray | None


class DefinitionsOnly(Registry):
    """A registry without plugins, in which every layer is served by its definition."""

    def __init__(self) -> None:
        super().__init__([])


@lru_cache(maxsize=4096)
def reference(case: Case, dtype: str) -> Reference:
    """The reference of a case for results in ``dtype``. Inputs are rounded to it; the rest is float64."""
    drawn = case.draw(dtype)
    layer = case.make()
    planner = Planner(DefinitionsOnly(), "", case.training, 0, route="definition")
    values = [
        planner.input(x.shape, {"i": "int64", "b": "bool"}.get(x.dtype.kind, "float64"), m is not None)
        for x, m in zip(drawn.inputs, drawn.masks, strict=True)
    ]
    begin = [planner.input(s.shape, "float64") for s in drawn.states]
    plan = planner.plan(planner.call(layer, values, "0", begin))
    bounded = RunningError.of(dtype)
    space = autodiff.Differentiable(bounded)

    def variable(x: np.ndarray) -> Any:
        return x if x.dtype.kind in "ib" else space.var(bounded.exact(x))

    names = [spec.name for spec in layer.weight_specs(*case.shapes)]
    by_name = dict(zip(names, map(variable, drawn.weights), strict=True))
    by_name |= {s.name: variable(np.zeros(s.shape)) for s in layer.state_specs(*case.shapes)}
    held = [by_name[slot.spec.name] for slot in plan.slots]
    inputs = [variable(x) for x in drawn.inputs]
    states = [variable(s) for s in drawn.states]
    masks = tuple(m for m in drawn.masks if m is not None)
    run = plan.function(space, differentiate=True)
    with np.errstate(all="ignore"):
        outputs, updates, out_masks, _ = run(held, [*inputs, *states], masks, 0)
        arrays = [_expected(f"output {k}", y) for k, y in enumerate(outputs)]
        after = {plan.slots[i].spec.name: value for i, value in zip(plan.updated, updates, strict=True)}
        arrays += [_expected(f"{name} after the call", after[name]) for name in names if name in after]
        leaves = [x for x in inputs if isinstance(x, autodiff.Var)] + held
        found = autodiff.gradients(outputs, [bounded.exact(c) for c in drawn.cotangents], leaves)
    labels = [f"gradient of input {i}" for i, x in enumerate(inputs) if isinstance(x, autodiff.Var)]
    labels += [f"gradient of {slot.spec.name}" for slot in plan.slots]
    trained = [True] * len(labels[: len(labels) - len(held)]) + [slot.spec.trainable for slot in plan.slots]
    for label, gradient, wanted in zip(labels, found, trained, strict=True):
        if wanted:
            arrays.append(_expected(label, gradient))
    mask = out_masks[0]
    return Reference(arrays, None if mask is None else np.asarray(getattr(mask, "value", mask)))


def _expected(what: str, x: Any) -> Expected:
    x = autodiff.value_of(x)
    if hasattr(x, "error"):
        return Expected(what, x.value, np.asarray(x.error))
    return Expected(what, np.asarray(x, dtype=np.float64), np.zeros(np.shape(x)))


@dataclass
class Finding:
    """How one array compares. worst: the largest error as a share of its bound; undecided: how many elements."""

    what: str
    right: bool
    worst: float = 0.0
    undecided: int = 0
    detail: str = ""


def compare(expected: Expected, got: Any, dtype: str) -> Finding:
    """The verdict on one array."""
    what = expected.what
    if got is None:
        return Finding(what, False, detail=f"{what} is missing")
    got = np.asarray(got)
    if got.shape != expected.value.shape:
        return Finding(what, False, detail=f"{what} has shape {got.shape}, {expected.value.shape} was expected")
    # The host holds bfloat16 in float32.
    host = np.dtype("float32" if dtype == "bfloat16" else dtype)
    if got.dtype != host:
        return Finding(what, False, detail=f"{what} has type {got.dtype}, {host} was expected")
    # The reference is itself rounded to float64: that counts where the result is float64 too.
    share = SHARE * (1 + UNITS["float64"] / UNITS[dtype])
    right, undecided = accepted(got, expected.value, expected.error, share)
    counted = right | undecided
    with np.errstate(all="ignore"):
        used = np.abs(got.astype(np.float64) - expected.value) / expected.error
    used = np.where(np.isfinite(used) & ~undecided, used, 0.0)
    worst = float(used.max()) if used.size else 0.0
    count = int(undecided.sum())
    if not counted.all():
        index = tuple(int(i) for i in np.unravel_index(np.argmax(~counted), got.shape))
        return Finding(
            what, False, worst, count,
            f"{what}{list(index)} is {got[index]!r}, {expected.value[index]!r} was expected "
            f"within {share * expected.error[index]:.3g}; {int((~counted).sum())} of {got.size} elements are wrong",
        )  # fmt: skip
    # With few bits to decide by, branches that cannot be told apart are to be expected.
    if count > max(1, 0.01 * got.size) and UNITS[dtype] < UNITS["float16"]:
        return Finding(what, False, worst, count, f"{what}: {count} of {got.size} elements are undecided")
    return Finding(what, True, worst, count)
