"""Layers that draw random numbers: distributions, seeds, and gradients that belong to the same draw."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from layerhub.errors import LayerHubError
from layerhub.registry import registry
from layerhub.running_error import RunningError
from layerhub.spec.layer import Layer
from layerhub.variable import HOST
from layerhub_conformance.case import Case, Drawn, Shape
from layerhub_conformance.checks.contract import arrays_of, identical
from layerhub_conformance.reference import planned, read, read_outputs
from layerhub_conformance.report.model import Finding
from layerhub_conformance.subjects import by_layer
from layerhub_conformance.trial import Trial, check, evaluate
from layerhub_conformance.verdict import compare, wrong

DRAWS = (400, 256)
"""Samples and channels of what distributions are seen on: 102,400 draws, also where a channel is drawn as one."""
DEVIATIONS = 5
"""By so many of its standard deviations a moment may be off; right ones are once in two million times."""


def draws(layer: Layer, *shapes: Shape) -> bool:
    """Whether the layer, or a part of it, asks for random numbers."""
    if not layer.is_composite:
        return "rng" in layer.extras
    return any(draws(part) for part in layer.made_of(*shapes) if not part.is_composite)


@cache
def drawing() -> tuple[Case, ...]:
    """For each layer that draws in training, the first case in which another seed, or step, is seen."""
    return tuple(found for cases in by_layer().values() if (found := next(filter(_seen, cases), None)))


def _seen(case: Case) -> bool:
    if not case.training or case.data != "normal" or not draws(case.make(), *case.shapes):
        return False
    case, drawn = unseeded(case), case.draw("float64")
    first, *others = (host(case, drawn, True, *place)[0] for place in ((1, 0), (2, 0), (1, 1)))
    return not any(np.array_equal(first, other) for other in others)


def unseeded(case: Case) -> Case:
    """The case without a seed of its own."""
    return replace(case, config={name: value for name, value in case.config.items() if name != "seed"})


def host(case: Case, drawn: Drawn, training: bool, seed: int = 0, step: int = 0) -> list[np.ndarray]:
    """The outputs by the definition, on the host."""
    plan, _, held = planned(case.make(), drawn, training, seed)
    masks = tuple(m for m in drawn.masks if m is not None)
    return list(plan.function(HOST)(held, [*drawn.inputs, *drawn.states], masks, step)[0])


@cache
def noises() -> tuple[Case, ...]:
    """Those of them that change their input in training alone, element by element, on many elements."""
    found = []
    for case in drawing():
        drawn = case.draw("float64")
        if len(drawn.inputs) == 1 and np.array_equal(host(case, drawn, False)[0], drawn.inputs[0]):
            found.append(_many(case))
    return tuple(found)


def _many(case: Case) -> Case:
    """The case with many samples and channels; it draws for each of them, whichever way its axes lie."""
    config = {name: value for name, value in case.config.items() if name not in ("noise_shape", "seed", "data_format")}
    samples, channels = DRAWS
    many = replace(case, config=config, shapes=((samples, *(1,) * (len(case.shapes[0]) - 2), channels),))
    try:
        many.make().output_shapes(*many.shapes)
    except LayerHubError:  # a third party's layer may have sizes of its own
        return case
    return many


# Checks

ONCE: dict[str, Any] = {"dtypes": ("float32",), "routes": ("kernel",)}


@check("random: seeds", subjects=lambda tier: () if tier == "smoke" else drawing(), **ONCE)
def seeds(trial: Trial, bench: Any) -> list[Finding]:
    """The same seed draws the same; another seed, or another step, something else; without training, none counts."""
    drawn = trial.subject.draw(trial.dtype)
    found = bench.call(give_seeded, replace(trial, subject=unseeded(trial.subject)), drawn)
    findings = [identical("the same seed again", found["again"], found["first"])]
    findings += [identical("another seed, not in training", found["other seed, still"], found["still"])]
    for name in ("other seed", "next step"):
        if np.array_equal(found[name], found["first" if name == "other seed" else "step"]):
            findings.append(wrong(name, f"the {name} draws the same numbers"))
    return findings


def give_seeded(trial: Trial, drawn: Drawn) -> dict[str, np.ndarray]:
    """The first output, by seed, mode and step."""
    backend, case = registry().backend(trial.backend), trial.subject
    still = replace(trial, subject=replace(case, training=False))
    found = {
        "first": evaluate(trial, drawn, seed=1), "again": evaluate(trial, drawn, seed=1),
        "other seed": evaluate(trial, drawn, seed=2), "still": evaluate(still, drawn, seed=1),
        "other seed, still": evaluate(still, drawn, seed=2),
    }  # fmt: skip
    layer = case.make(trial.dtype)
    layer.store.build(*case.shapes, seed=1)
    layer.set_weights(drawn.weights)
    native = [backend.asarray(x, None, backend.check_device(trial.device)) for x in drawn.inputs]
    steps = [layer(native, training=True) for _ in range(2)]
    firsts = [np.array(backend.to_numpy(y[0] if isinstance(y, list) else y)) for y in steps]
    return {name: e.outputs[0] for name, e in found.items()} | {"step": firsts[0], "next step": firsts[1]}


@check("random: noise", subjects=lambda tier: () if tier == "smoke" else noises(), **ONCE)
def noise(trial: Trial, bench: Any) -> list[Finding]:
    """Mean and variance are those of the definition; each value and gradient is that of its draw; else, nothing."""
    case, able = trial.subject, bench.capabilities
    drawn = case.draw(trial.dtype)
    drawn = replace(drawn, cotangents=[np.ones_like(c) for c in drawn.cotangents])
    given = bench.call(give_noise, trial, drawn, able.gradients)
    reading = read if able.gradients else read_outputs
    expected = reading(case.make(), drawn, True, RunningError.of(trial.dtype)).arrays
    findings = [compare(e, given["in training"].get(e.what), trial.dtype) for e in expected]
    findings.append(identical("output 0, not in training", given["still"]["output 0"], drawn.inputs[0]))
    (x,) = drawn.inputs
    return findings + moments(given["another seed"]["output 0"] - x, host(case, drawn, True)[0] - x)


def give_noise(trial: Trial, drawn: Drawn, gradients: bool) -> dict[str, dict[str, np.ndarray]]:
    """What the backend gives in training, by another seed, and without."""
    still, cotangents = replace(trial, subject=replace(trial.subject, training=False)), drawn.cotangents
    found = {
        "in training": evaluate(trial, drawn, cotangents if gradients else None),
        "another seed": evaluate(trial, drawn, seed=99), "still": evaluate(still, drawn),
    }  # fmt: skip
    return {name: arrays_of(trial.subject, e) for name, e in found.items()}


def moments(got: np.ndarray, wanted: np.ndarray) -> list[Finding]:
    """Whether two samples, drawn apart, have the same mean and variance."""
    findings = []
    for name, power in (("mean", 1), ("variance", 2)):
        first, second = ((np.asarray(x, np.float64) - (power - 1) * wanted.mean()) ** power for x in (got, wanted))
        gap, spread = first.mean() - second.mean(), math.sqrt(2 * second.var() / second.size)
        far = not abs(gap) <= DEVIATIONS * spread
        told = f"the {name} of the noise is off by {gap:.3g}, {abs(gap) / max(spread, 1e-300):.3g} standard deviations"
        findings.append(wrong(name, told) if far else Finding(name, size=got.size))
    return findings
