"""The contract of a call: what it leaves alone, what it depends on, and what comes of its results afterwards."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from layerhub.errors import LayerHubError, MaskDroppedWarning
from layerhub.graph import Input
from layerhub.layers import deserialize, serialize
from layerhub.models import Model
from layerhub.probe import Evaluation, evaluate_layer
from layerhub.registry import registry
from layerhub.running_error import RunningError
from layerhub.spec.layer import Layer
from layerhub.variable import HOST
from layerhub_conformance.bench import Bench, RaisedError
from layerhub_conformance.case import Case, Drawn
from layerhub_conformance.reference import by_name, planned, read, read_outputs
from layerhub_conformance.report.model import Finding
from layerhub_conformance.subjects import activated, firsts
from layerhub_conformance.trial import Trial, check, evaluate
from layerhub_conformance.verdict import compare, wrong

QUICK: dict[str, Any] = {"dtypes": ("float32",), "routes": ("kernel",)}
"""Checks of how a backend is called, not of what it computes: one type and one route will do."""


def first_cases(tier: str) -> Sequence[Case]:
    return () if tier == "smoke" else tuple(dict.fromkeys(firsts(1) + activated()))


def identical(what: str, got: Any, wanted: Any) -> Finding:
    """Whether two arrays are the same, bit by bit."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    direction = "gradient" if what.startswith("gradient") else "forward"
    alike = got.dtype == wanted.dtype and got.shape == wanted.shape and got.tobytes() == wanted.tobytes()
    if alike:
        return Finding(what, direction, size=got.size)
    told = f"{what} is not the same: {_shown(got)}, {_shown(wanted)} was expected"
    return wrong(what, told, direction)


def _shown(x: np.ndarray) -> str:
    return f"{x.dtype} {x.shape} {np.array2string(x.reshape(-1)[:4], separator=', ')}"


def all_identical(got: dict[str, Any], wanted: dict[str, Any]) -> list[Finding]:
    """Whether all arrays are, by name."""
    return [identical(what, got[what], x) for what, x in wanted.items() if x is not None]


def arrays_of(case: Case, found: Evaluation) -> dict[str, np.ndarray]:
    """All arrays that an evaluation gave, by name."""
    return {name: x for name, x in by_name(case, found).items() if x is not None}


# What results share


@check("contract: outputs alias nothing", subjects=first_cases, **QUICK)
def outputs_alias_nothing(trial: Trial, bench: Any) -> list[Finding]:
    """What a call gave stays as it is: it shares no memory with what went in, nor with what the next call gives."""
    case = trial.subject
    drawn, other = case.draw(trial.dtype), replace(case, data="positive").draw(trial.dtype)
    notes = bench.call(give_shared, trial, drawn, bench.capabilities.gradients)
    first, later = bench.call(give_in_turn, trial, drawn, other)
    found = [
        identical(f"output {k}, after another call", y, x) for k, (x, y) in enumerate(zip(first, later, strict=True))
    ]
    return [wrong("sharing", note) for note in notes] + found


def give_shared(trial: Trial, drawn: Drawn, gradients: bool) -> list[str]:
    """Which results share memory with each other, or with what was given."""
    found = give_arrays(trial, drawn, gradients)
    held = [*drawn.inputs, *drawn.weights, *drawn.states, *drawn.cotangents]
    notes = []
    for name, x in found.items():
        notes += [f"{name} shares memory with what was given" for y in held if np.shares_memory(x, y)]
        notes += [f"{name} cannot be written to" for _ in range(1) if not x.flags.writeable]
        held.append(x)
    return notes


def give_in_turn(trial: Trial, drawn: Drawn, other: Drawn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A layer's native outputs as they are at first, and as they are when it was called again, with other data."""
    backend, layer = registry().backend(trial.backend), trial.subject.make(trial.dtype)
    layer.build(*trial.subject.shapes)
    layer.set_weights(drawn.weights)

    def native(x: np.ndarray | None) -> Any:
        return None if x is None else backend.asarray(x, None, backend.check_device(trial.device))

    def call(data: Drawn) -> list[Any]:
        extras = {"training": trial.subject.training}
        extras |= {"initial_state": [native(s) for s in data.states]} if data.states else {}
        extras |= {"mask": [native(m) for m in data.masks]} if any(m is not None for m in data.masks) else {}
        found = layer([native(x) for x in data.inputs], **extras)
        return found if isinstance(found, list) else [found]

    first = call(drawn)
    before = [np.array(backend.to_numpy(y)) for y in first]
    call(other)
    return before, [np.array(backend.to_numpy(y)) for y in first]


# Types and shapes


@check("contract: types and shapes", subjects=first_cases, routes=("kernel",))
def types_and_shapes(trial: Trial, bench: Any) -> list[Finding]:
    """Outputs are of the type and shapes that the layer says, also where it did not know all sizes."""
    case, drawn = trial.subject, trial.subject.draw(trial.dtype)
    layer, found = case.make(trial.dtype), bench.call(evaluate, trial, drawn).outputs
    shapes, dtype = layer.output_shapes(*case.shapes), layer.output_dtype(*(str(x.dtype) for x in drawn.inputs))
    findings = [] if len(found) == len(shapes) else [wrong("outputs", f"{len(found)} came of {len(shapes)}")]
    for k, (y, shape) in enumerate(zip(found, shapes, strict=False)):
        declared = [shape, *(said[k] for said in _with_unknown(layer, case.shapes))]
        off = next((s for s in declared if not _fits(y.shape, s)), None)
        told = f"has shape {y.shape}, the layer says {off}" if off is not None else ""
        told = told or (f"is of type {y.dtype}, the layer says {dtype}" if str(y.dtype) != dtype else "")
        findings.append(wrong(f"output {k}", f"output {k} {told}") if told else Finding(f"output {k}", size=y.size))
    return findings


def _with_unknown(layer: Layer, shapes: Sequence[tuple[int, ...]]) -> Iterator[Sequence[tuple[int | None, ...]]]:
    """The shapes of the outputs where the batch, another axis, or all of these are unknown, as far as they may be."""
    most = max(map(len, shapes))
    for axes in [{0}, *({axis} for axis in range(1, most)), set(range(most - 1)), set(range(most))]:
        try:
            yield layer.output_shapes(*(tuple(None if k in axes else s for k, s in enumerate(x)) for x in shapes))
        except LayerHubError:  # this size must be known
            continue


def _fits(shape: tuple[int, ...], declared: Sequence[int | None]) -> bool:
    return len(shape) == len(declared) and all(said in (None, s) for s, said in zip(shape, declared, strict=True))


PASSED_ON = ("int32", "uint8", "bool")
"""Types that a layer gives as it gets them, if it only moves what it gets."""


@check("contract: whole numbers stay whole", subjects=lambda tier: _passing(first_cases(tier)), **QUICK)
def whole_numbers_stay_whole(trial: Trial, bench: Any) -> list[Finding]:
    """What a layer only moves comes out in the type that it went in."""
    drawn, findings = trial.subject.draw(trial.dtype), []
    layer = trial.subject.make(trial.dtype)
    for dtype in PASSED_ON:
        given = replace(drawn, inputs=[(np.abs(x) * 40).astype(dtype) for x in drawn.inputs])
        plan, _, held = planned(layer, given, trial.subject.training)
        masks = tuple(m for m in given.masks if m is not None)
        wanted = plan.function(HOST)(held, given.inputs, masks, 0)[0]
        found = bench.call(evaluate, trial, given).outputs
        findings += [
            identical(f"output {k} of {dtype}", y, x) for k, (y, x) in enumerate(zip(found, wanted, strict=True))
        ]
    return findings


def _passing(cases: Sequence[Case]) -> list[Case]:
    """Cases of layers whose outputs are of any type that their inputs are of."""
    return [c for c in cases if _moves(c.make()) and not c.training]


def _moves(layer: Layer) -> bool:
    kinds = {declared.kind for declared in layer.inputs}
    return kinds == {"any"} and all(layer.output_dtype(dtype) == dtype for dtype in PASSED_ON)


# How arrays lie in memory


def fortran(x: np.ndarray) -> np.ndarray:
    """The first axis lies closest, bytes are in the order that is not the machine's, and nobody may write to it."""
    x = np.asfortranarray(x.astype(x.dtype.newbyteorder()))
    x.flags.writeable = False
    return x


def sparse(x: np.ndarray) -> np.ndarray:
    """Every other element of a larger array, from its end, along each axis; between them NaN or other numbers."""
    held = np.full([2 * size for size in x.shape], np.nan if x.dtype.kind == "f" else 1, x.dtype)
    view = held[(slice(None, None, -2),) * x.ndim]
    view[...] = x
    return view


def repeated(x: np.ndarray) -> np.ndarray:
    """The first sample for all of them, once in memory."""
    return np.broadcast_to(x[:1], x.shape)


ALIKE = "broadcast"
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "in Fortran order": fortran,
    "with gaps, from the end": sparse,
    ALIKE: repeated,
}


@check("contract: any layout in memory", subjects=first_cases, **QUICK)
def any_layout(trial: Trial, bench: Any) -> list[Finding]:
    """How inputs and cotangents lie in memory makes no difference, but for what the order of sums may."""
    case, graded = trial.subject, bench.capabilities.gradients
    drawn = case.draw(trial.dtype)
    bounded = RunningError.of(trial.dtype, bench.capabilities.arithmetic(trial.dtype))
    same = _laid_out(drawn, repeated)
    readings = [(read if graded else read_outputs)(case.make(), x, case.training, bounded) for x in (drawn, same)]
    found = bench.call(give_laid_out, trial, drawn, graded)
    findings = []
    for name in LAYOUTS:
        plain = found["as they come, all alike" if name == ALIKE else "as they come"]
        for e in readings[name == ALIKE].arrays:
            # Two calls that are each within the bound.
            pair = replace(e, what=f"{e.what}, inputs {name}", value=plain[e.what].astype("float64"), error=2 * e.error)
            findings.append(compare(pair, found[name].get(e.what), trial.dtype))
    return findings


def give_laid_out(trial: Trial, drawn: Drawn, gradients: bool) -> dict[str, dict[str, np.ndarray]]:
    """What a case gives for each layout; made here, for arrays that are sent lose it."""
    laid = {name: _laid_out(drawn, layout) for name, layout in LAYOUTS.items()}
    laid |= {"as they come": drawn, "as they come, all alike": _laid_out(drawn, lambda x: repeated(x).copy())}
    return {name: give_arrays(trial, arrays, gradients) for name, arrays in laid.items()}


def _laid_out(drawn: Drawn, layout: Callable[[np.ndarray], np.ndarray]) -> Drawn:
    return replace(
        drawn, inputs=[layout(x) if x.ndim else x for x in drawn.inputs], states=[layout(s) for s in drawn.states],
        cotangents=[layout(c) if c.ndim else c for c in drawn.cotangents],
    )  # fmt: skip


# The same again


@check("contract: the same again", subjects=first_cases, **QUICK)
def the_same_again(trial: Trial, bench: Any) -> list[Finding]:
    """A call gives the same as before, bit by bit, also in another process."""
    drawn = trial.subject.draw(trial.dtype)
    findings = []
    first = bench.call(give_arrays, trial, drawn, bench.capabilities.gradients)
    for where, place in (("again", bench), ("in another process", another(bench))):
        found = None if place is None else place.call(give_arrays, trial, drawn, bench.capabilities.gradients)
        if found is not None:
            findings += all_identical(*({f"{k}, {where}": v for k, v in x.items()} for x in (found, first)))
    return findings


def give_arrays(trial: Trial, drawn: Drawn, gradients: bool) -> dict[str, np.ndarray]:
    """All that a case gives: gradients, and the rest as it is without them, when other code may run."""
    graded = arrays_of(trial.subject, evaluate(trial, drawn, drawn.cotangents)) if gradients else {}
    return graded | arrays_of(trial.subject, evaluate(trial, drawn))


def another(bench: Any) -> Bench | None:
    """A second process of the same backend; None where trials run in this one, whose specs others do not know."""
    return _spare(bench.backend) if isinstance(bench, Bench) else None


@cache
def _spare(backend: str) -> Bench:
    return Bench(backend)


# Training or not


@check("contract: training is what it says", subjects=first_cases, **QUICK)
def training_is_what_it_says(trial: Trial, bench: Any) -> list[Finding]:
    """In the other mode than the case is of, a layer does what its definition does there, gradients included.

    Where it does not train, parameters that count in training alone make no difference.
    """
    case, able = trial.subject, bench.capabilities
    drawn, other = case.draw(trial.dtype), replace(case, training=not case.training)
    bounded = RunningError.of(trial.dtype, able.arithmetic(trial.dtype))
    told = "in training" if other.training else "not in training"
    found = bench.call(give_arrays, replace(trial, subject=other), drawn, able.gradients)
    findings = [
        compare(replace(e, what=f"{e.what}, {told}"), found.get(e.what), trial.dtype)
        for e in (read if able.gradients else read_outputs)(case.make(), drawn, other.training, bounded).arrays
    ]
    still = replace(case, training=False)
    for name, idle in _idle(still, drawn):
        pair = [bench.call(give_arrays, replace(trial, subject=c), drawn, able.gradients) for c in (idle, still)]
        findings += [_retold(f, f"with another {name}, which counts in training alone") for f in all_identical(*pair)]
    return findings


def _retold(finding: Finding, when: str) -> Finding:
    return replace(finding, what=f"{finding.what}, {when}", detail=finding.detail and f"{when}: {finding.detail}")


def _idle(case: Case, drawn: Drawn) -> Iterator[tuple[str, Case]]:
    """The case with another value of a parameter that counts in training, and not otherwise; by its definition."""
    still = training = None
    for name, parameter in case.make().parameters.items():
        for value in parameter.domain.valid[:3]:
            if not isinstance(value, float):
                continue
            other = replace(case, config={**case.config, name: value})
            try:
                training = training or _outputs(case, drawn, True)
                if _outputs(other, drawn, True) == training:
                    continue
                still = still or _outputs(case, drawn, False)
                if _outputs(other, drawn, False) == still:
                    yield name, other
                    break
            except LayerHubError:  # a rule forbids this value here
                continue


def _outputs(case: Case, drawn: Drawn, training: bool) -> list[bytes]:
    plan, _, held = planned(case.make(), drawn, training)
    masks = tuple(m for m in drawn.masks if m is not None)
    with np.errstate(all="ignore"):
        found, moved, *_ = plan.function(HOST)(held, [*drawn.inputs, *drawn.states], masks, 0)
    return [np.asarray(y).tobytes() for y in (*found, *moved)]


# Away and back


@check("contract: a config is the layer", subjects=first_cases, **QUICK)
def a_config_is_the_layer(trial: Trial, bench: Any) -> list[Finding]:
    """A layer that was written down and read back gives the same, bit by bit."""
    return all_identical(*bench.call(give_both, trial, trial.subject.draw(trial.dtype)))


def give_both(trial: Trial, drawn: Drawn) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the layer read back gives, and what the layer gives."""
    case, layer = trial.subject, trial.subject.make(trial.dtype)
    try:
        again = deserialize(json.loads(json.dumps(serialize(layer))))
    except LayerHubError:  # a function that has no name cannot be read back; that is said of the layer
        again = layer
    run = partial(
        evaluate_layer, inputs=drawn.inputs, weights=drawn.weights, backend=trial.backend, training=case.training,
        mask=drawn.masks, initial_state=drawn.states or None, dtype=trial.dtype, device=trial.device,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskDroppedWarning)
        return arrays_of(case, run(again)), arrays_of(case, run(layer))


@check(
    "contract: weights move as they are",
    subjects=lambda tier: [c for c in first_cases(tier) if c.make().weight_specs(*c.shapes)], **QUICK,
)  # fmt: skip
def weights_move_as_they_are(trial: Trial, bench: Any) -> list[Finding]:
    """Weights that were on this backend, then on another and back are the same, bit by bit."""
    place = _mover() if isinstance(bench, Bench) else bench
    others = [name for name in registry().usable() if name != trial.backend]
    return [finding for other in (trial.backend, *others) for finding in _moved(trial, place, other)]


def _moved(trial: Trial, place: Any, other: str) -> list[Finding]:
    weights = [_marked(w) for w in trial.subject.draw(trial.dtype).weights]
    try:
        places = place.call(give_moved, trial, weights, other)
    except RaisedError as problem:
        if (
            problem.mistake and other != trial.backend
        ):  # that one does not load, or lacks the layer: not this one's fault
            return []
        raise
    return [
        identical(f"weight {k} {where}", y, x)
        for where, found in zip((f"on {other}", f"back from {other}"), places, strict=True)
        for k, (y, x) in enumerate(zip(found, weights, strict=True))
    ]


def _marked(weight: np.ndarray) -> np.ndarray:
    """A weight with numbers that are easily lost: a negative zero, the smallest normal one, the largest, infinity."""
    marked = weight.copy()
    marks = [-0.0, np.finfo(weight.dtype).tiny, np.finfo(weight.dtype).max, -np.inf]
    marked.reshape(-1)[: len(marks)] = marks[: weight.size]
    return marked


def give_moved(trial: Trial, weights: list[np.ndarray], other: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A model's weights on another backend, and back again."""
    case = trial.subject
    inputs = [Input(batch_shape=shape, dtype="int32" if declared.kind == "int" else trial.dtype)
              for shape, declared in zip(case.shapes, _declared(case), strict=True)]  # fmt: skip
    model = Model(inputs, case.make(trial.dtype)(inputs), backend=trial.backend)
    model.set_weights(weights)
    model.executor.fresh()
    there = model.to(other).executor and model.get_weights()
    back = model.to(trial.backend).executor and model.get_weights()
    return there, back


def _declared(case: Case) -> list[Any]:
    inputs = case.make().inputs
    return [inputs[min(k, len(inputs) - 1)] for k in range(len(case.shapes))]


@cache
def _mover() -> Bench:
    """A process of no backend in particular: in that of a backend, others must not be loaded."""
    return Bench("numpy")
