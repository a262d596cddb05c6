"""Losses, metrics, optimizers, regularizers and constraints: values, gradients, updates, against their definitions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerhub import autodiff
from layerhub.execution import bound_loss
from layerhub.kernels import Call
from layerhub.optimizers import get as get_optimizer
from layerhub.registry import registry
from layerhub.running_error import EACH_ONCE, Arithmetic, RunningError
from layerhub.spec import KINDS
from layerhub.spec.losses import at_least_float32
from layerhub.variable import HOST
from layerhub_conformance.report.model import Finding
from layerhub_conformance.training import Figure, figures, loss_case, metric_case
from layerhub_conformance.trial import Trial, check
from layerhub_conformance.verdict import Expected, compare

STEPS = 3
FULL = ("float32", "float64")
"""The types that weights are kept in."""


def of_kind(kind: str) -> Callable[[str], Sequence[Figure]]:
    """The subjects of a tier: all cases of a kind, or the first one of each spec."""

    def subjects(tier: str) -> Sequence[Figure]:
        found = figures(kind)
        return list({figure.layer: figure for figure in reversed(found)}.values()) if tier == "smoke" else found

    return subjects


@check("loss", subjects=of_kind("loss"), kind="loss")
def loss_values(trial: Trial, bench: Any) -> list[Finding]:
    """A loss of each sample, and the gradient of the predictions."""
    dtype = at_least_float32(trial.dtype)  # as models compute losses
    loss, y_true, y_pred = loss_case(trial.subject.spec, dtype)
    bounded = RunningError.of(dtype, bench.capabilities.arithmetic(dtype))
    space = autodiff.Differentiable(bounded)
    leaf = space.var(bounded.exact(y_pred))
    target = y_true if loss.integer_targets else bounded.exact(y_true)
    values = loss.define(space, target, leaf)
    cotangents = np.asarray(np.random.default_rng(6).normal(size=values.shape)).astype(dtype)
    (gradient,) = autodiff.gradients([values], [bounded.exact(cotangents)], [leaf])
    plain = values.value
    expected = [Expected("values", plain.value, plain.error)]
    if bench.capabilities.gradients:
        expected += [
            Expected("values, with gradients", plain.value, plain.error),
            Expected("gradient of the predictions", gradient.value, gradient.error),
        ]
    given = bench.call(give_loss, trial, dtype, cotangents, bench.capabilities.gradients)
    return judged(expected, given, dtype)


def give_loss(trial: Trial, dtype: str, cotangents: np.ndarray, gradients: bool) -> list[np.ndarray]:
    """A loss's values, and where gradients are wanted its values again and the gradient of the predictions."""
    backend = registry().backend(trial.backend)
    loss, y_true, y_pred = loss_case(trial.subject.spec, dtype)
    truth, weights = backend.asarray(y_true), backend.asarray(cotangents)
    found = [bound_loss(registry(), backend, loss, False, trial.route)(truth, backend.asarray(y_pred))]
    if gradients:
        call = bound_loss(registry(), backend, loss, True, trial.route)

        def weighted(params: list[Any]) -> tuple[Any, Any]:
            values = call(truth, params[0])
            return backend.recording_xp.sum(values * weights), values

        _, values, slopes = backend.value_and_grad(weighted, [backend.asarray(y_pred)])
        found += [autodiff.value_of(values), slopes[0]]
    return [np.asarray(backend.to_numpy(x)) for x in found]


@check("metric", subjects=of_kind("metric"), kind="metric", routes=("definition",))
def metric_figure(trial: Trial, bench: Any) -> list[Finding]:
    """A metric's figure after two batches."""
    dtype = at_least_float32(trial.dtype)  # as models gather metrics
    metric, batches = metric_case(trial.subject.spec, dtype)
    expected = bounded_figure(metric, batches, dtype, bench.capabilities.arithmetic(dtype))
    return judged([expected], bench.call(give_metric, trial, dtype), dtype)


def bounded_figure(metric: Any, batches: Sequence[Any], dtype: str, arithmetic: Arithmetic = EACH_ONCE) -> Expected:
    """A metric's figure with its bound, read from its definition."""
    space = RunningError.of(dtype, arithmetic)
    state = tuple(space.exact(np.zeros(shape)) for shape in metric.shapes(batches[0][1].shape))
    for y_true, y_pred, weights in batches:
        target = y_true if y_true.dtype.kind == "i" else space.exact(y_true)
        state = metric.define(space, state, target, space.exact(y_pred), space.exact(weights))
    figure = metric.figure(space, state)
    return Expected("figure", figure.value, np.asarray(figure.error))


def give_metric(trial: Trial, dtype: str) -> list[np.ndarray]:
    """The figure on the backend."""
    backend = registry().backend(trial.backend)
    metric, batches = metric_case(trial.subject.spec, dtype)
    state = tuple(backend.asarray(np.zeros(shape), dtype) for shape in metric.shapes(batches[0][1].shape))
    for batch in batches:
        state = metric.define(backend.xp, state, *map(backend.asarray, batch))
    return [np.asarray(backend.to_numpy(metric.figure(backend.xp, state)))]


@check("regularizer", subjects=of_kind("regularizer"), kind="regularizer", routes=("definition",), dtypes=FULL)
def penalty(trial: Trial, bench: Any) -> list[Finding]:
    """The penalty of a weight."""
    return _of_a_weight(trial, bench)


@check("constraint", subjects=of_kind("constraint"), kind="constraint", routes=("definition",), dtypes=FULL)
def constrained(trial: Trial, bench: Any) -> list[Finding]:
    """A weight as the constraint allows it."""
    return _of_a_weight(trial, bench)


def _of_a_weight(trial: Trial, bench: Any) -> list[Finding]:
    made = KINDS[trial.subject.kind].get(trial.subject.spec)
    space = RunningError.of(trial.dtype, bench.capabilities.arithmetic(trial.dtype))
    found = made.define(space, space.exact(_weight(trial)))
    return judged([Expected("value", found.value, found.error)], bench.call(give_weight, trial), trial.dtype)


def give_weight(trial: Trial) -> list[np.ndarray]:
    """What a regularizer or constraint makes of a weight on the backend."""
    backend = registry().backend(trial.backend)
    made = KINDS[trial.subject.kind].get(trial.subject.spec)
    return [np.asarray(backend.to_numpy(made.define(backend.xp, backend.asarray(_weight(trial)))))]


def _weight(trial: Trial) -> np.ndarray:
    # Regularizers may want a matrix; constraints have axes that a kernel of convolution has.
    shape = (5, 4) if trial.subject.kind == "regularizer" else (3, 3, 4, 4)
    return np.random.default_rng(9).normal(size=shape).astype(trial.dtype)


class Named:
    """What an optimizer may know of a weight."""

    def __init__(self, path: str, shape: tuple[int, ...]):
        self.path, self.shape = path, shape


@check("optimizer", subjects=of_kind("optimizer"), kind="optimizer", dtypes=FULL)
def optimizer_steps(trial: Trial, bench: Any) -> list[Finding]:
    """Weights and slots after some steps, with weights that a rule may treat together."""
    weights, gradients, rules = _problem(trial)
    bounded = RunningError.of(trial.dtype, bench.capabilities.arithmetic(trial.dtype))
    expected: dict[int, list[Expected]] = {}
    for rule, places in rules.items():
        wanted = {k: (bounded.exact(weights[k]), *_started(rule, bounded, weights[k])) for k in places}
        for step, row in enumerate(gradients, start=1):
            # The coefficients are rounded to the type once, when they reach the device.
            numbers = tuple(float(c) for c in rule.coefficients(step))
            wanted = {
                k: rule.update(bounded, numbers, state[0], bounded.exact(row[k]), *state[1:])
                for k, state in wanted.items()
            }
        for k, state in wanted.items():
            expected[k] = [
                Expected(f"part {n} of weight {k} after {STEPS} steps", part.value, part.error)
                for n, part in enumerate(state)
            ]
    found = bench.call(give_steps, trial)
    return judged([e for k in range(len(weights)) for e in expected[k]], found, trial.dtype)


def _problem(trial: Trial) -> tuple[list[np.ndarray], list[list[np.ndarray]], dict[Any, list[int]]]:
    """(weights, gradients of each step, which weights each rule of the optimizer moves)"""
    optimizer, rng = get_optimizer(trial.subject.spec), np.random.default_rng(4)
    shapes: list[tuple[int, ...]] = [(3, 4), (5,), (), (5, 2), (2, 3, 2)]
    weights = [np.asarray(rng.normal(size=shape)).astype(trial.dtype) for shape in shapes]
    gradients = [
        [np.asarray(rng.normal(size=shape) * 10.0**-step).astype(trial.dtype) for shape in shapes]
        for step in range(STEPS)
    ]
    rules: dict[Any, list[int]] = {}
    for k, shape in enumerate(shapes):
        rules.setdefault(optimizer.rule_for(Named(f"layer{k}/{'kernel' if k else 'bias'}", shape)), []).append(k)
    return weights, gradients, rules


def _started(rule: Any, bounded: RunningError, weight: np.ndarray) -> list[Any]:
    """The slots of a weight before the first step, without error."""
    return [bounded.exact(np.asarray(slot, weight.dtype)) for slot in rule.start(HOST, weight)]


def give_steps(trial: Trial) -> list[np.ndarray]:
    """Weights and slots after the steps, on the backend."""
    backend = registry().backend(trial.backend)
    weights, gradients, rules = _problem(trial)
    handles = [backend.variable(w, True, backend.check_device(None), None) for w in weights]
    slots: dict[int, tuple] = {}
    for rule, places in rules.items():
        kernel = registry().kernel(backend.name, rule, Call()) if trial.route == "kernel" else None
        own = [tuple(backend.asarray(slot, trial.dtype) for slot in rule.start(HOST, weights[k])) for k in places]
        for step, row in enumerate(gradients, start=1):
            current, moves = [backend.read(handles[k]) for k in places], [backend.asarray(row[k]) for k in places]
            numbers = rule.coefficients(step)
            if kernel is not None:
                current, own = kernel.function(rule, numbers, current, moves, own)
            else:
                moved = [
                    rule.update(backend.xp, numbers, w, g, *s) for w, g, s in zip(current, moves, own, strict=True)
                ]
                current, own = [m[0] for m in moved], [tuple(m[1:]) for m in moved]
            for k, value in zip(places, current, strict=True):
                backend.assign(handles[k], value)
        slots.update(zip(places, own, strict=True))
    parts = itertools.chain.from_iterable((backend.read(handles[k]), *slots[k]) for k in range(len(weights)))
    return [np.asarray(backend.to_numpy(x)) for x in parts]


def judged(expected: Sequence[Expected], found: Sequence[Any], dtype: str) -> list[Finding]:
    """Each array beside its reference."""
    return [compare(e, y, dtype) for e, y in zip(expected, found, strict=True)]
