"""Every case on every chosen backend: values, new weights, masks and all gradients, by both routes."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from layerhub.errors import MaskDroppedWarning
from layerhub.probe import Evaluation, evaluate_layer
from layerhub_conformance.case import Case
from layerhub_conformance.reference import Finding, compare, reference


def measure(
    case: Case, backend: str, dtype: str, route: str, device: str | None = None
) -> tuple[list[Finding], Evaluation]:
    """Run a case on a backend and compare everything that it gives."""
    drawn = case.draw(dtype)
    before = [x.copy() for x in (*drawn.inputs, *drawn.weights, *drawn.states)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskDroppedWarning)
        expected = reference(case, dtype)

        def call(cotangents: Any) -> Evaluation:
            return evaluate_layer(
                case.make(dtype), drawn.inputs, drawn.weights, backend, case.training, drawn.masks,
                drawn.states or None, cotangents, dtype, 0, route, device,
            )  # fmt: skip

        # Twice: asked for gradients, a backend may run other code than it runs without.
        got, plain = call(drawn.cotangents), call(None)
    names = [spec.name for spec in case.make(dtype).weight_specs(*case.shapes)]
    arrays = values(got, names)
    arrays |= {f"gradient of input {k}": g for k, g in enumerate(got.input_grads or [])}
    arrays |= {f"gradient of {name}": g for name, g in zip(names, got.weight_grads or [], strict=True)}
    findings = [compare(e, arrays.get(e.what), dtype) for e in expected.arrays]
    alone = values(plain, names)
    findings += [
        compare(replace(e, what=f"{e.what}, without gradients"), alone[e.what], dtype)
        for e in expected.arrays
        if e.what in alone
    ]
    same_mask = (expected.mask is None) == (got.output_mask is None) and (
        expected.mask is None or np.array_equal(expected.mask, got.output_mask)
    )
    if not same_mask:
        findings.append(Finding("mask", False, detail=f"the mask is {got.output_mask}, {expected.mask} was expected"))
    for x, y in zip((*drawn.inputs, *drawn.weights, *drawn.states), before, strict=True):
        if not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
            findings.append(Finding("purity", False, detail="an input or weight was changed by the call"))
    return findings, got


def values(found: Evaluation, names: list[str]) -> dict[str, np.ndarray]:
    """Outputs and weights after the call, by the names that references have for them."""
    outputs = {f"output {k}": y for k, y in enumerate(found.outputs)}
    return outputs | {f"{name} after the call": w for name, w in zip(names, found.weights, strict=True)}


def test_layer_means_what_its_definition_says(layerhub_case, record_property):
    case, backend, dtype, route, device = layerhub_case
    findings, got = measure(case, backend, dtype, route, device)
    worst = max((f.worst for f in findings), default=0.0)
    record_property(
        "layerhub", {"layer": case.layer, "backend": backend, "dtype": dtype, "route": route, "worst": worst}
    )
    wrong = [f.detail for f in findings if not f.right]
    assert not wrong, "\n".join(
        [f"{case.layer} on {backend} ({dtype}, {route}; served by {', '.join(got.routes)})", f"case {case.id}", *wrong]
    )
