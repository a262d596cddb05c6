"""Recurrent layers: each step by itself within the bound of one step, and long sequences as wholes.

Bounds of whole sequences grow with every step, so that they say little in the end. Hence the residual: the float64
definition makes one step from the state that the backend itself had, and the backend's next state must be within the
bound of that step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from layerhub.running_error import RunningError
from layerhub.spec import KINDS
from layerhub_conformance.case import Case, Drawn, written
from layerhub_conformance.checks.values import values
from layerhub_conformance.reference import read_outputs
from layerhub_conformance.report.model import Finding
from layerhub_conformance.subjects import by_layer
from layerhub_conformance.trial import Outcome, Trial, check, evaluate
from layerhub_conformance.verdict import compare

STEPS = (0, 1, 2, 7, 15, 23)
"""The steps that are looked at: the first ones, whole blocks of 8, and the last one."""
LONG = 32
LARGEST = 8
"""No other axis is longer: what matters here is time."""


def carries(name: str) -> bool:
    """Whether layers of this class carry states along time, and can return them."""
    spec = KINDS["layer"].find(name)
    return {"return_state", "return_sequences"} <= spec.parameters.keys() and bool(spec.inputs)


def sequences(length: int, variants: Sequence[dict[str, Any]]) -> Iterator[Case]:
    """The plainest case of each recurrent layer, with each cell that there is, made as long; in some variants."""
    for name, cases in by_layer().items():
        plain = [c for c in cases if not c.training and c.data == "normal"] if carries(name) else []
        kinds: dict[str, Case] = {}
        for case in plain:
            kinds.setdefault(written(case.config.get("cell")).partition("(")[0], case)
        for case, variant in itertools.product(kinds.values(), variants):
            _, _, *rest = case.shapes[0]
            shape = (3, length, *(min(size, LARGEST) for size in rest))
            yield replace(
                case, shapes=(shape,), masks=variant["masks"], states=variant["states"],
                config={**case.config, "return_state": True, "go_backwards": variant["go_backwards"]},
            )  # fmt: skip


VARIANTS = (
    {"masks": (), "states": False, "go_backwards": False},
    {"masks": ("left",), "states": True, "go_backwards": True},
)


def steps_of(tier: str) -> Sequence[Case]:
    return () if tier == "smoke" else tuple(sequences(max(STEPS) + 1, VARIANTS))


def long_ones(tier: str) -> Sequence[Case]:
    return () if tier == "smoke" else tuple(sequences(LONG, VARIANTS[:1]))


@check("recurrent: each step", subjects=steps_of, dtypes=("float32",), routes=("kernel",))
def each_step(trial: Trial, bench: Any) -> list[Finding]:
    """Each next state, from the one that the backend itself had, within the bound of one step."""
    case, layer, drawn = trial.subject, trial.subject.make(), trial.subject.draw(trial.dtype)
    bounded = RunningError.of(trial.dtype, bench.capabilities.arithmetic(trial.dtype))
    lengths = sorted({*STEPS, *(step + 1 for step in STEPS)} - {0})
    known = dict(zip(lengths, bench.call(give_states, trial, drawn, lengths), strict=True))
    known[0] = drawn.states or [np.zeros(shape, trial.dtype) for shape in layer.state_shapes(*case.shapes)]
    findings = []
    for step in STEPS:
        one = _part(case, drawn, step, step + 1, known[step])
        expected = read_outputs(layer, one, False, bounded).arrays[-layer.states :]
        findings += [
            compare(replace(e, what=f"state {k} after step {step}"), state, trial.dtype)
            for k, (e, state) in enumerate(zip(expected, known[step + 1], strict=True))
        ]
    return findings


def _part(case: Case, drawn: Drawn, begin: int, end: int, states: list[np.ndarray]) -> Drawn:
    """Some steps, in the order in which they are taken."""
    length = case.shapes[0][1]
    cut = slice(length - end, length - begin) if case.make().go_backwards else slice(begin, end)
    masks = [None if m is None else m[:, cut] for m in drawn.masks]
    return replace(drawn, inputs=[x[:, cut] for x in drawn.inputs], masks=masks, states=states)


def give_states(trial: Trial, drawn: Drawn, lengths: Sequence[int]) -> list[list[np.ndarray]]:
    """The states that the backend has after so many steps."""
    count = trial.subject.make().states
    parts = [_part(trial.subject, drawn, 0, length, drawn.states) for length in lengths]
    return [evaluate(trial, part).outputs[-count:] for part in parts]


@check("recurrent: long sequences", subjects=long_ones, dtypes=("float32",), routes=("kernel",))
def long_sequences(trial: Trial, bench: Any) -> Outcome:
    """Values and gradients of whole sequences, within what the same precision really loses on them."""
    return values(trial, bench)
