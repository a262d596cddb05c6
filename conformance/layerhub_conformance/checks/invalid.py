"""What must be refused is refused by name, before anything runs on the backend.

Mistakes come from the specs: values that a domain names as none of its own, for each rule what breaks it first, and
what can be wrong with a call: inputs, weights, masks and states that do not fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

from layerhub.errors import LayerHubError, MaskDroppedWarning, ParameterError
from layerhub.plan import Plan
from layerhub.probe import evaluate_layer
from layerhub.spec import KINDS
from layerhub.spec.layer import Layer
from layerhub_conformance.case import Case, Drawn, Shape
from layerhub_conformance.generate.invalid import invalid
from layerhub_conformance.report.model import Finding
from layerhub_conformance.subjects import firsts
from layerhub_conformance.trial import Trial, check
from layerhub_conformance.verdict import wrong


class TrippedError(Exception):
    """Something was about to run."""


@dataclass(frozen=True)
class Mistake:
    """A call that must be refused. config: the layer's. says: words of the error; "" where any error of ours will do.

    drawn: None where the layer must be refused by itself.
    """

    name: str
    config: dict[str, Any]
    drawn: Drawn | None
    says: str = ""


def once(tier: str) -> Sequence[Case]:
    return () if tier == "smoke" else firsts(1)


@check("invalid", subjects=once, dtypes=("float32",), routes=("kernel",))
def refused(trial: Trial, bench: Any) -> list[Finding]:
    """Every mistake is refused by an error of LayerHub's own that says what is wrong, and nothing has run."""
    drawn = trial.subject.draw(trial.dtype)
    mistakes = [*_of_spec(trial.subject), *_of_call(trial.subject, drawn, trial.dtype)]
    right = Mistake("the right call", dict(trial.subject.config), drawn)
    answer, *answers = bench.call(give_answers, trial, [right, *mistakes])
    findings = [] if answer[0] == "ran" else [wrong(right.name, f"{right.name} did not run: {answer[1]}")]
    for mistake, (what, told) in zip(mistakes, answers, strict=True):
        good = what == "refused" and mistake.says in told
        problem = {
            "refused": f"the error says {told!r}, {mistake.says!r} was expected",
            "raised": f"{told} was raised, which is no error of LayerHub's own",
            "ran": "it was not refused before the backend was called",
        }[what]
        findings.append(Finding(mistake.name) if good else wrong(mistake.name, f"{mistake.name}: {problem}"))
    return findings


def give_answers(trial: Trial, mistakes: Sequence[Mistake]) -> list[tuple[str, str]]:
    """For each call: whether it was "refused", or another error was "raised", or it "ran"; and the words."""
    with tripwire(), warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskDroppedWarning)
        return [_answer(trial, mistake) for mistake in mistakes]


@contextmanager
def tripwire() -> Iterator[None]:
    """No plan can be run: whoever is about to raises TrippedError."""

    def trip(self: Plan, *_: Any, **__: Any) -> Any:
        raise TrippedError

    with mock.patch.object(Plan, "function", trip):
        yield


def _answer(trial: Trial, mistake: Mistake) -> tuple[str, str]:
    try:
        layer, drawn = _made(trial.subject.layer, mistake.config), mistake.drawn
        if drawn is not None:
            evaluate_layer(
                layer, drawn.inputs, drawn.weights or None, trial.backend, trial.subject.training, drawn.masks,
                drawn.states or None, dtype=trial.dtype, device=trial.device,
            )  # fmt: skip
    except LayerHubError as problem:
        return "refused", str(problem)
    except TrippedError:
        return "ran", ""
    except Exception as problem:
        return "raised", f"{type(problem).__name__}: {problem}"
    return "ran", ""


def _made(name: str, config: dict[str, Any]) -> Layer:
    return KINDS["layer"].find(name)(**config)


def _of_spec(case: Case) -> Iterator[Mistake]:
    """What the layer's parameters and rules forbid."""
    try:
        found = invalid(KINDS["layer"].find(case.layer))
    except ParameterError:  # it takes a function, for which no values are known
        return
    for item in found:
        drawn = None if item.shapes is None else Drawn([np.zeros(s, "float32") for s in item.shapes], [], [], [])
        yield Mistake(item.id, dict(item.config), drawn, item.says)


def _of_call(case: Case, drawn: Drawn, dtype: str) -> Iterator[Mistake]:
    """What can be wrong with what a layer is given."""
    layer, config = case.make(dtype), dict(case.config)
    wholly = {
        "no input": [],
        "an input too many": [*drawn.inputs, *drawn.inputs[:1] * (1 + len(layer.inputs) - len(drawn.inputs))],
        "an axis too many": [x[..., None] for x in drawn.inputs],
        "an axis too few": [x.reshape(-1, *x.shape[2:]) for x in drawn.inputs if x.ndim > 1],
        "features too many": [np.concatenate([x, x], axis=-1) for x in drawn.inputs],
        "scalars": [x.reshape(-1)[:1].reshape(()) for x in drawn.inputs],
    }
    for name, inputs in wholly.items():
        said = _refusal(layer, drawn, [x.shape for x in inputs])
        if said is not None:
            yield Mistake(name, config, replace(drawn, inputs=inputs, masks=[None] * len(inputs)), said)
    for name, other in (("text", "U1"), ("complex numbers", "complex64"), ("objects", "O")):
        yield Mistake(name, config, replace(drawn, inputs=[x.astype(other) for x in drawn.inputs]), "an input")
    if drawn.weights:
        yield Mistake(
            "a weight of another shape", config, replace(drawn, weights=[w[None] for w in drawn.weights]), "has weights"
        )
        yield Mistake(
            "a weight too many", config, replace(drawn, weights=[*drawn.weights, drawn.weights[0]]), "has weights"
        )
    if drawn.inputs and drawn.inputs[0].ndim > 1:
        long = [np.ones((x.shape[0], x.shape[1] + 1), bool) if x.ndim > 1 else None for x in drawn.inputs]
        yield Mistake("a mask that does not fit", config, replace(drawn, masks=long), "mask")
    if drawn.states:
        yield Mistake(
            "a state of another shape", config, replace(drawn, states=[s[:, :-1] for s in drawn.states]), "state"
        )
        yield Mistake("a state too many", config, replace(drawn, states=[*drawn.states, drawn.states[0]]), "states")


def _refusal(layer: Layer, drawn: Drawn, shapes: Sequence[Shape]) -> str | None:
    """How the layer's own rules refuse these inputs, or the weights for them; None where they take them.

    "" where they fail to say so: that is for the call to show.
    """
    try:
        layer.output_shapes(*shapes)
        fits = [spec.shape for spec in layer.weight_specs(*shapes)] == [w.shape for w in drawn.weights]
        return None if fits else "has weights"
    except LayerHubError as problem:
        return str(problem).partition(": ")[2] or str(problem)  # a part of the layer may say it too
    except Exception:
        return ""
