"""Values, new weights, masks and all gradients of every case, within the bounds that its definition implies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from layerhub_conformance.case import Case
from layerhub_conformance.cases import corpus
from layerhub_conformance.reference import Reference, by_name, forward_only, reference
from layerhub_conformance.report.model import Finding
from layerhub_conformance.subjects import firsts
from layerhub_conformance.trial import Outcome, Trial, check, give
from layerhub_conformance.verdict import compare, wrong

FIRST = {"smoke": 1, "quick": 5}
"""How many cases of each layer the smaller tiers have."""


def of_tier(tier: str) -> tuple[Case, ...]:
    """All cases; of the smaller tiers, the first ones of each layer."""
    return firsts(FIRST[tier]) if tier in FIRST else corpus()


@check("values", subjects=of_tier, shared=True)
def values(trial: Trial, bench: Any) -> Outcome:
    """Everything that a case gives, with gradients and without."""
    case, able = trial.subject, bench.capabilities
    expected = reference(case, trial.dtype, able.arithmetic(trial.dtype))
    graded = able.gradients and case.differentiable
    if not graded:
        expected = forward_only(expected)
    given = bench.call(give, trial, case.draw(trial.dtype), graded)
    findings = [wrong("purity", note) for note in given.notes]
    if given.graded is not None:
        findings += judged(expected, case, given.graded, trial.dtype)
    forward = forward_only(expected)
    alone = forward if given.graded is None else _renamed(forward)
    findings += judged(alone, case, given.plain, trial.dtype, forward)
    return Outcome(findings, given.plain.routes)


@check("compiled", subjects=lambda tier: () if tier == "smoke" else firsts(2), routes=("kernel",), compiled=True)
def compiled(trial: Trial, bench: Any) -> Outcome:
    """The same of what the backend has compiled."""
    return values(trial, bench)


@check(
    "short types", subjects=lambda tier: () if tier == "smoke" else firsts(3), routes=("kernel",),
    dtypes=("float16", "bfloat16"),
)  # fmt: skip
def short_types(trial: Trial, bench: Any) -> Outcome:
    """The same in 16 bits, with a grade: A where errors are those of one rounding, B where each operation may round."""
    return values(trial, bench)


def judged(expected: Reference, case: Case, got: Any, dtype: str, named: Reference | None = None) -> list[Finding]:
    """Findings of all arrays of an evaluation, its mask included. named: the reference whose names the arrays have."""
    arrays = by_name(case, got)
    pairs = zip(expected.arrays, (named or expected).arrays, strict=True)
    findings = [compare(e, arrays.get(n.what), dtype) for e, n in pairs]
    same = (expected.mask is None) == (got.output_mask is None) and (
        expected.mask is None or np.array_equal(expected.mask, got.output_mask)
    )
    if not same:
        findings.append(wrong("mask", f"the mask is {got.output_mask}, {expected.mask} was expected"))
    return findings


def _renamed(found: Reference) -> Reference:
    return replace(found, arrays=[replace(e, what=f"{e.what}, without gradients") for e in found.arrays])
