"""Relations between calls: what a layer makes of changed inputs, where its definition says how that must look.

Whether a relation holds for a case is not written down: the definition is tried out in float64. Where it has the
relation, a backend must have it too, within the sum of the bounds of all calls that take part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerhub.errors import LayerHubError
from layerhub.running_error import SMALLEST, UNITS, RunningError
from layerhub_conformance.case import Case, Drawn
from layerhub_conformance.reference import Reference, read_outputs
from layerhub_conformance.report.model import Finding
from layerhub_conformance.subjects import firsts
from layerhub_conformance.trial import Trial, check, evaluate
from layerhub_conformance.verdict import Expected, compare

GRID = 64
"""Inputs are multiples of 1 / GRID: sums and doubles of them are exact in every type."""
SEEN = 12
"""Among so many cases of a layer one with a mask is looked for."""
MARGIN = 2.0
"""How many times its bound in float64 a definition may miss a relation that it has."""

Outputs = Sequence[np.ndarray]
Term = tuple[float, np.ndarray]
"""An array, and how often it counts."""


@dataclass(frozen=True)
class Relation:
    """calls: the arrays of further calls, made from those of the first; None where there is nothing to be made.

    terms: (outputs of the first call, outputs of each further one, the first output's mask) -> for each output, the
    terms of a sum that is zero where the relation holds.
    """

    name: str
    calls: Callable[[Drawn], list[Drawn] | None]
    terms: Callable[[Outputs, list[Outputs], np.ndarray | None], list[list[Term]]]


def changed(drawn: Drawn, change: Callable[[np.ndarray], np.ndarray]) -> Drawn:
    """Inputs, masks and states, all changed alike."""
    masks = [None if m is None else change(m) for m in drawn.masks]
    return replace(
        drawn, inputs=[change(x) for x in drawn.inputs], masks=masks, states=[change(s) for s in drawn.states]
    )


def samples(drawn: Drawn) -> int:
    """The size of the batch; 0 where arrays do not agree in it."""
    sizes = {x.shape[:1] for x in (*drawn.inputs, *drawn.states)}
    return next(iter(sizes), ())[0] if len(sizes) == 1 and sizes != {()} else 0


def numbers(drawn: Drawn) -> bool:
    """Whether all inputs are numbers that can be added to."""
    return bool(drawn.inputs) and all(x.dtype.kind == "f" for x in drawn.inputs)


def equal(first: Outputs, rest: list[Outputs], mask: np.ndarray | None) -> list[list[Term]]:
    """Both calls give the same."""
    return [[(1, x), (-1, y)] for x, y in zip(first, rest[0], strict=True)]


# The relations


def halves(drawn: Drawn) -> list[Drawn] | None:
    middle = samples(drawn) // 2
    return [changed(drawn, lambda x: x[:middle]), changed(drawn, lambda x: x[middle:])] if middle else None


def joined(whole: Outputs, parts: list[Outputs], mask: np.ndarray | None) -> list[list[Term]]:
    return [[(1, y), (-1, np.concatenate(pair))] for y, *pair in zip(whole, *parts, strict=True)]


def turned(drawn: Drawn) -> list[Drawn] | None:
    return [changed(drawn, lambda x: x[::-1])] if samples(drawn) > 1 else None


def turned_back(first: Outputs, rest: list[Outputs], mask: np.ndarray | None) -> list[list[Term]]:
    return [[(1, x), (-1, y[::-1])] for x, y in zip(first, rest[0], strict=True)]


def combined(drawn: Drawn) -> list[Drawn] | None:
    if not numbers(drawn):
        return None
    others = [np.roll(x, 1) for x in drawn.inputs]
    both = [2 * x + z for x, z in zip(drawn.inputs, others, strict=True)]
    return [replace(drawn, inputs=inputs) for inputs in (others, [0 * x for x in drawn.inputs], both)]


def superposed(first: Outputs, rest: list[Outputs], mask: np.ndarray | None) -> list[list[Term]]:
    """f(2 x + z) = 2 f(x) + f(z) - 2 f(0), for what is linear but for a constant."""
    return [[(1, both), (-2, x), (-1, z), (2, zero)] for x, z, zero, both in zip(first, *rest, strict=True)]


def raised(drawn: Drawn) -> list[Drawn] | None:
    return [replace(drawn, inputs=[x + 1 for x in drawn.inputs])] if numbers(drawn) else None


def shift(axis: int) -> Relation:
    """Without its first places along an axis, an input gives the outputs without their first ones."""

    def cut(x: np.ndarray) -> np.ndarray:
        return x[(slice(None),) * axis + (slice(1, None),)]

    def calls(drawn: Drawn) -> list[Drawn] | None:
        alone = len(drawn.inputs) == 1 and not drawn.states and drawn.masks[0] is None and samples(drawn)
        return [changed(drawn, cut)] if alone and drawn.inputs[0].shape[axis : axis + 1] > (2,) else None

    def terms(first: Outputs, rest: list[Outputs], mask: np.ndarray | None) -> list[list[Term]]:
        return [[(1, cut(x) if x.ndim > axis else x), (-1, y)] for x, y in zip(first, rest[0], strict=True)]

    return Relation(f"a shift along axis {axis}", calls, terms)


def hidden(drawn: Drawn) -> list[Drawn] | None:
    if not numbers(drawn) or all(m is None or m.all() for m in drawn.masks):
        return None
    return [replace(drawn, inputs=[_other_where(x, m) for x, m in zip(drawn.inputs, drawn.masks, strict=True)])]


def _other_where(x: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Other values where a mask is false."""
    if mask is None or mask.shape != x.shape[: mask.ndim]:
        return x
    return np.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 5 - 3 * x).astype(x.dtype)


def shown(first: Outputs, rest: list[Outputs], mask: np.ndarray | None) -> list[list[Term]]:
    """Both calls give the same where the output's mask is true."""
    pairs = list(zip(first, rest[0], strict=True))
    if mask is not None and all(mask.shape == x.shape[: mask.ndim] == y.shape[: mask.ndim] for x, y in pairs[:1]):
        pairs[0] = (pairs[0][0][mask], pairs[0][1][mask])
    return [[(1, x), (-1, y)] for x, y in pairs]


RELATIONS = (
    Relation("halves of the batch", halves, joined),
    Relation("the order of samples", turned, turned_back),
    Relation("linearity", combined, superposed),
    Relation("a constant added", raised, equal),
    *map(shift, (1, 2, 3)),
    Relation("values under a mask", hidden, shown),
)


def some(tier: str) -> Sequence[Case]:
    """The first case of each layer, and the first with a mask; relations are about what does not train."""
    chosen: dict[tuple[str, bool], Case] = {}
    for case in firsts(SEEN) if tier != "smoke" else ():
        if not case.training:
            chosen.setdefault((case.layer, any(pattern != "none" for pattern in case.masks)), case)
    return tuple(chosen.values())


@check("metamorphic", subjects=some, dtypes=("float32",), routes=("kernel",))
def relations(trial: Trial, bench: Any) -> list[Finding]:
    """The relations that the definition of a case has, on the backend."""
    case, drawn = trial.subject, on_grid(trial.subject.draw(trial.dtype))
    bounded = RunningError.of(trial.dtype, bench.capabilities.arithmetic(trial.dtype))
    first, held = read_outputs(case.make(), drawn, False, bounded), []
    for relation in RELATIONS:
        calls = relation.calls(drawn)
        expected = None if calls is None else implied(relation, case, first, calls, bounded)
        if expected is not None:
            held.append((relation, calls, expected))
    whole, *rest = bench.call(give_outputs, trial, [drawn, *(data for _, calls, _ in held for data in calls)])
    findings = []
    for relation, calls, expected in held:
        parts, rest = rest[: len(calls)], rest[len(calls) :]
        sums = [_sum(terms) for terms in relation.terms(whole, parts, first.mask)]
        findings += [compare(e, y.astype(trial.dtype), trial.dtype) for e, y in zip(expected, sums, strict=True)]
    return findings or [Finding(f"none of {len(RELATIONS)} relations holds here")]


def on_grid(drawn: Drawn) -> Drawn:
    """Inputs that can be added without rounding."""
    return replace(drawn, inputs=[np.round(x * GRID) / GRID if x.dtype.kind == "f" else x for x in drawn.inputs])


def implied(
    relation: Relation, case: Case, first: Reference, calls: list[Drawn], bounded: RunningError
) -> list[Expected] | None:
    """Zeros, with the bounds of what a backend may miss them by; None where the definition has not the relation."""
    layer = case.make()
    shapes = [spec.shape for spec in layer.weight_specs(*case.shapes)]
    rest = []
    for data in calls:
        try:
            if [spec.shape for spec in layer.weight_specs(*(x.shape for x in data.inputs))] != shapes:
                return None
            rest.append(read_outputs(layer, data, False, bounded))
        except LayerHubError:
            return None
    values = relation.terms([e.value for e in first.arrays], [[e.value for e in r.arrays] for r in rest], first.mask)
    errors = relation.terms([e.error for e in first.arrays], [[e.error for e in r.arrays] for r in rest], first.mask)
    found = []
    for k, (terms, bounds) in enumerate(zip(values, errors, strict=True)):
        if len({x.shape for _, x in terms}) > 1:
            return None
        bound = _sum([(abs(count), x) for count, x in bounds])
        with np.errstate(all="ignore"):
            holds = np.abs(_sum(terms)) <= MARGIN * bound * UNITS["float64"] / bounded.unit + SMALLEST["float64"]
        if not holds.all():  # bounds that are NaN too: what is undecided shows nothing
            return None
        found.append(Expected(f"{relation.name}: output {k}", np.zeros_like(bound), bound))
    return found


def _sum(terms: list[Term]) -> np.ndarray:
    return sum(count * np.asarray(x, np.float64) for count, x in terms)


def give_outputs(trial: Trial, calls: list[Drawn]) -> list[list[np.ndarray]]:
    """The outputs of several calls."""
    return [evaluate(trial, drawn).outputs for drawn in calls]
