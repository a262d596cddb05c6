"""One call after another: what was computed before makes no difference to layers and losses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from layerhub.errors import MaskDroppedWarning
from layerhub.execution import bound_loss
from layerhub.registry import registry
from layerhub.running_error import RunningError
from layerhub.spec.losses import at_least_float32
from layerhub_conformance.case import Case, Drawn
from layerhub_conformance.checks.contract import QUICK, first_cases, identical
from layerhub_conformance.checks.training import of_kind
from layerhub_conformance.reference import read
from layerhub_conformance.report.model import Finding
from layerhub_conformance.training import loss_case
from layerhub_conformance.trial import Trial, check
from layerhub_conformance.verdict import Expected, compare, wrong


def inferring(tier: str) -> Sequence[Case]:
    """Cases outside training, where kernels of whatever kind may serve, of layers that keep no states themselves."""
    return [replace(case, training=False) for case in first_cases(tier) if not case.make().stateful]


@check("contract: calls are independent", subjects=inferring, **QUICK)
def calls_are_independent(trial: Trial, bench: Any) -> list[Finding]:
    """Other data of the same shapes give what they must, and the first data then the same as at first."""
    case: Case = trial.subject
    drawn = case.draw(trial.dtype)
    new = replace(case, data="positive" if case.data == "normal" else "normal").draw(trial.dtype)
    other = replace(drawn, inputs=new.inputs, states=new.states)
    bounded = RunningError.of(trial.dtype, bench.capabilities.arithmetic(trial.dtype))
    wanted = [e for e in read(case.make(), other, False, bounded).arrays if e.what.startswith("output")]
    first, second, again = bench.call(give_three, trial, drawn, other)
    findings = [compare(expected, y, trial.dtype) for expected, y in zip(wanted, second, strict=True)]
    return findings + [identical(f"output {k}, again", y, x) for k, (x, y) in enumerate(zip(first, again, strict=True))]


def give_three(trial: Trial, drawn: Drawn, other: Drawn) -> list[list[np.ndarray]]:
    """One layer's outputs for some data, for other data, and for the first ones again."""
    backend, layer = registry().backend(trial.backend), trial.subject.make(trial.dtype)
    layer.build(*trial.subject.shapes)
    layer.set_weights(drawn.weights)

    def native(x: np.ndarray | None) -> Any:
        return None if x is None else backend.asarray(x, None, backend.check_device(trial.device))

    def call(data: Drawn) -> list[np.ndarray]:
        extras: dict[str, Any] = {"initial_state": [native(s) for s in data.states]} if data.states else {}
        extras |= {"mask": [native(m) for m in data.masks]} if any(m is not None for m in data.masks) else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MaskDroppedWarning)
            found = layer([native(x) for x in data.inputs], **extras)
        return [np.array(backend.to_numpy(y)) for y in (found if isinstance(found, list) else [found])]

    return [call(data) for data in (drawn, other, drawn)]


@check("contract: losses", subjects=of_kind("loss"), kind="loss", **QUICK)
def losses_keep_to_themselves(trial: Trial, bench: Any) -> list[Finding]:
    """A loss leaves its arguments and its earlier results alone, however they lie in memory."""
    dtype = at_least_float32(trial.dtype)
    loss, y_true, y_pred = turned_back(trial, dtype)
    bounded = RunningError.of(dtype, bench.capabilities.arithmetic(dtype))
    values = loss.define(bounded, y_true if loss.integer_targets else bounded.exact(y_true), bounded.exact(y_pred))
    first, later, second, again, notes = bench.call(give_calls, trial, dtype)
    return [
        *(wrong("purity", note) for note in notes),
        identical("values, after another call", later, first),
        identical("values, again", again, first),
        compare(Expected("values of other data", values.value, values.error), second, dtype),
    ]


def turned_back(trial: Trial, dtype: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """(loss, targets, predictions) with the samples in reverse order, the first axis changing fastest in memory."""
    loss, y_true, y_pred = loss_case(trial.subject.spec, dtype)
    return loss, np.asfortranarray(y_true[::-1]), np.asfortranarray(y_pred[::-1])


def give_calls(trial: Trial, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The values for some data, as they are after another call, those of that call, the first ones again; and notes."""
    backend = registry().backend(trial.backend)
    loss, *given = loss_case(trial.subject.spec, dtype)
    _, *other = turned_back(trial, dtype)
    call = bound_loss(registry(), backend, loss, False, trial.route)

    def fetched(x: Any) -> np.ndarray:
        return np.array(backend.to_numpy(x))

    arrays = [backend.asarray(x.copy()) for x in given]
    values = call(*arrays)
    first, second = fetched(values), fetched(call(*map(backend.asarray, other)))
    later, again = fetched(values), fetched(call(*arrays))
    changed = [not np.array_equal(fetched(x), y) for x, y in zip(arrays, given, strict=True)]
    notes = [
        f"{name} were changed by the call" for name, bad in zip(("targets", "predictions"), changed, strict=True) if bad
    ]
    return first, later, second, again, notes
