"""What a case must give: values in float64, each with the error that a correct result may have.

The definition is read once, by running-error arrays under reverse-mode differentiation (see ``layerhub.running_error``
and ``layerhub.autodiff``): that gives values, gradients, and bounds of both.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerhub import autodiff
from layerhub.errors import MaskDroppedWarning
from layerhub.plan import Plan, Planner
from layerhub.probe import evaluate_layer
from layerhub.registry import Registry
from layerhub.running_error import EACH_ONCE, SMALLEST, UNITS, Arithmetic, RunningError
from layerhub.spec.layer import Layer
from layerhub_conformance.case import Case, Drawn
from layerhub_conformance.verdict import Expected

REMEMBERED = 4096
"""References that a process keeps, so that the second backend does not pay for them."""
STEPS_OF_A_BOUND = 128
"""How many times the error of a same-precision reference a whole sequence may be off: bounds explode backwards."""


@dataclass
class Reference:
    """All arrays that a case must give."""

    arrays: list[Expected]
    mask: np.ndarray | None


class DefinitionsOnly(Registry):
    """A registry without plugins, in which every layer is served by its definition."""

    def __init__(self) -> None:
        super().__init__([])


_REMEMBERED: OrderedDict[tuple[Any, ...], Reference] = OrderedDict()


def reference(case: Case, dtype: str, arithmetic: Arithmetic = EACH_ONCE) -> Reference:
    """The reference of a case for results in ``dtype``. Inputs are rounded to it; the rest is float64.

    arithmetic: how a backend declares that it rounds.
    """
    key = (case.id, dtype, arithmetic)
    if key not in _REMEMBERED:
        if len(_REMEMBERED) >= REMEMBERED:
            _REMEMBERED.popitem(last=False)
        # Data with NaN and infinity are meant so.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", MaskDroppedWarning)
            _REMEMBERED[key] = _reference(case, case.draw(dtype), dtype, arithmetic)
    return _REMEMBERED[key]


def _reference(case: Case, drawn: Drawn, dtype: str, arithmetic: Arithmetic) -> Reference:
    found = read(case.make(), drawn, case.training, RunningError.of(dtype, arithmetic))
    if UNITS[dtype] > UNITS["float32"]:
        fine = read(case.make(), drawn, case.training, RunningError.of("float32", arithmetic))
        for coarse, precise in zip(found.arrays, fine.arrays, strict=True):
            once = UNITS[dtype] * np.abs(precise.value) + SMALLEST[dtype]
            coarse.fine = np.where(precise.error == 0, 0.0, once) + precise.error
    elif dtype == "float32" and case.make().states:
        _limit(found, case, drawn)
    return found


def _limit(found: Reference, case: Case, drawn: Drawn) -> None:
    """Bounds of what goes through many steps, limited by what computing in the same precision really loses."""
    for expected, array in zip(found.arrays, _plain(case, drawn, [e.what for e in found.arrays]), strict=True):
        if array is None or not expected.value.size:
            continue
        lost = math.sqrt(np.mean(np.square(array - expected.value)))
        scale = math.sqrt(np.mean(np.square(expected.value)))
        limit = STEPS_OF_A_BOUND * max(lost, UNITS["float32"] * scale) + STEPS_OF_A_BOUND * SMALLEST["float32"]
        if math.isfinite(limit):
            expected.error = np.minimum(expected.error, limit)


def _plain(case: Case, drawn: Drawn, names: list[str]) -> list[np.ndarray | None]:
    """The arrays of a case as the definition gives them in float32."""
    got = evaluate_layer(
        case.make(), drawn.inputs, drawn.weights, "numpy", case.training, drawn.masks, drawn.states or None,
        drawn.cotangents, "float32", 0, "definition",
    )  # fmt: skip
    arrays = by_name(case, got)
    return [None if (x := arrays.get(name)) is None else np.asarray(x, np.float64) for name in names]


def by_name(case: Case, got: Any) -> dict[str, np.ndarray | None]:
    """What an evaluation gave, by the names that references have for it."""
    names = [spec.name for spec in case.make().weight_specs(*case.shapes)]
    arrays: dict[str, Any] = {f"output {k}": y for k, y in enumerate(got.outputs)}
    arrays |= {f"{name} after the call": w for name, w in zip(names, got.weights, strict=True)}
    arrays |= {f"gradient of input {k}": g for k, g in enumerate(got.input_grads or [])}
    return arrays | {f"gradient of {name}": g for name, g in zip(names, got.weight_grads or [], strict=False)}


def planned(
    layer: Layer, drawn: Drawn, training: bool, seed: int = 0
) -> tuple[Plan, list[str | None], list[np.ndarray]]:
    """(a call of a layer by definitions alone, the names of the weights that it reports, all its weights)"""
    shapes = [x.shape for x in drawn.inputs]
    planner = Planner(DefinitionsOnly(), "", training, seed, route="definition")
    values = [
        planner.input(x.shape, {"i": "int64", "b": "bool"}.get(x.dtype.kind, "float64"), m is not None)
        for x, m in zip(drawn.inputs, drawn.masks, strict=True)
    ]
    begin = [planner.input(s.shape, "float64") for s in drawn.states]
    plan = planner.plan(planner.call(layer, values, "0", begin))
    weights = dict(zip((spec.name for spec in layer.weight_specs(*shapes)), drawn.weights, strict=True))
    names = [slot.spec.name if slot.spec.name in weights else None for slot in plan.slots]
    weights |= {s.name: np.zeros(s.shape) for s in layer.state_specs(*shapes)}
    return plan, names, [weights[slot.spec.name] for slot in plan.slots]


def read(layer: Layer, drawn: Drawn, training: bool, bounded: RunningError) -> Reference:
    """A layer's definition, read by running-error arrays: values, new weights and gradients."""
    plan, names, held = planned(layer, drawn, training)
    masks = tuple(m for m in drawn.masks if m is not None)
    return read_plan(plan, names, held, drawn.inputs, bounded, drawn.cotangents, masks, drawn.states)


def read_outputs(layer: Layer, drawn: Drawn, training: bool, bounded: RunningError) -> Reference:
    """The same of the outputs and the mask alone."""
    plan, _, held = planned(layer, drawn, training)

    def exact(x: np.ndarray) -> Any:
        return x if x.dtype.kind in "ib" else bounded.exact(x)

    given, masks = [exact(x) for x in (*drawn.inputs, *drawn.states)], tuple(m for m in drawn.masks if m is not None)
    with np.errstate(all="ignore"):
        outputs, _, out_masks, _ = plan.function(bounded)([exact(w) for w in held], given, masks, 0)
    return Reference([_expected(f"output {k}", y) for k, y in enumerate(outputs)], _array(out_masks))


def read_plan(
    plan: Plan,
    names: Sequence[str | None],
    held: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
    bounded: RunningError,
    cotangents: Sequence[np.ndarray | None],
    masks: tuple[np.ndarray, ...] = (),
    states: Sequence[np.ndarray] = (),
) -> Reference:
    """A plan of definitions, read by running-error arrays. names: of its weights; None for those not reported."""
    space = autodiff.Differentiable(bounded)

    def variable(x: np.ndarray) -> Any:
        return x if x.dtype.kind in "ib" else space.var(bounded.exact(x))

    variables, given = [variable(w) for w in held], [variable(x) for x in inputs]
    run = plan.function(space, differentiate=True)
    with np.errstate(all="ignore"):
        outputs, updates, out_masks, _ = run(variables, [*given, *(variable(s) for s in states)], masks, 0)
        arrays = [_expected(f"output {k}", y) for k, y in enumerate(outputs)]
        after = zip(plan.updated, updates, strict=True)
        arrays += [_expected(f"{names[i]} after the call", value) for i, value in after if names[i]]
        leaves = [x for x in given if isinstance(x, autodiff.Var)] + variables
        pairs = [(y, bounded.exact(c)) for y, c in zip(outputs, cotangents, strict=True) if c is not None]
        found = autodiff.gradients([y for y, _ in pairs], [c for _, c in pairs], leaves)
    told = [f"gradient of input {i}" for i, x in enumerate(given) if isinstance(x, autodiff.Var)]
    wanted = [
        *(True for _ in told),
        *(slot.spec.trainable and name for slot, name in zip(plan.slots, names, strict=True)),
    ]
    told += [f"gradient of {name}" for name in names]
    arrays += [_expected(what, g) for what, g, asked in zip(told, found, wanted, strict=True) if asked]
    return Reference(arrays, _array(out_masks))


def _array(masks: Sequence[Any]) -> np.ndarray | None:
    """The first mask, as an ndarray."""
    mask = masks[0] if masks else None
    return None if mask is None else np.asarray(getattr(mask, "value", mask))


def _expected(what: str, x: Any) -> Expected:
    x = autodiff.value_of(x)
    if hasattr(x, "error"):
        return Expected(what, x.value, np.asarray(x.error))
    return Expected(what, np.asarray(x, dtype=np.float64), np.zeros(np.shape(x)))


def forward_only(found: Reference) -> Reference:
    """The part of a reference that a backend without gradients must meet."""
    return replace(found, arrays=[e for e in found.arrays if e.direction == "forward"])
