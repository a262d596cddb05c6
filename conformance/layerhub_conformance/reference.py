"""What a case must give: values in float64, each with the error that a correct result may have.

The definition is read once, by running-error arrays under reverse-mode differentiation (see ``layerhub.running_error``
and ``layerhub.autodiff``): that gives values, gradients, and bounds of both.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerhub import autodiff
from layerhub.errors import MaskDroppedWarning
from layerhub.plan import Planner
from layerhub.probe import evaluate_layer
from layerhub.registry import Registry
from layerhub.running_error import SMALLEST, UNITS, RunningError
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


def reference(case: Case, dtype: str, products: float | None = None) -> Reference:
    """The reference of a case for results in ``dtype``. Inputs are rounded to it; the rest is float64.

    products: the unit roundoff of matrix products, where a backend declares that they are less precise.
    """
    key = (case.id, dtype, products)
    if key not in _REMEMBERED:
        if len(_REMEMBERED) >= REMEMBERED:
            _REMEMBERED.popitem(last=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MaskDroppedWarning)
            _REMEMBERED[key] = _reference(case, case.draw(dtype), dtype, products)
    return _REMEMBERED[key]


def _reference(case: Case, drawn: Drawn, dtype: str, products: float | None) -> Reference:
    found = read(case.make(), drawn, case.training, RunningError.of(dtype, products))
    if UNITS[dtype] > UNITS["float32"]:
        fine = read(case.make(), drawn, case.training, RunningError.of("float32", products))
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
        limit = STEPS_OF_A_BOUND * max(lost, UNITS["float32"] * scale) + SMALLEST["float32"]
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


def read(layer: Layer, drawn: Drawn, training: bool, bounded: RunningError) -> Reference:
    """A layer's definition, read by running-error arrays: values, new weights and gradients."""
    shapes = [x.shape for x in drawn.inputs]
    planner = Planner(DefinitionsOnly(), "", training, 0, route="definition")
    values = [
        planner.input(x.shape, {"i": "int64", "b": "bool"}.get(x.dtype.kind, "float64"), m is not None)
        for x, m in zip(drawn.inputs, drawn.masks, strict=True)
    ]
    begin = [planner.input(s.shape, "float64") for s in drawn.states]
    plan = planner.plan(planner.call(layer, values, "0", begin))
    space = autodiff.Differentiable(bounded)

    def variable(x: np.ndarray) -> Any:
        return x if x.dtype.kind in "ib" else space.var(bounded.exact(x))

    names = [spec.name for spec in layer.weight_specs(*shapes)]
    weights = dict(zip(names, map(variable, drawn.weights), strict=True))
    weights |= {s.name: variable(np.zeros(s.shape)) for s in layer.state_specs(*shapes)}
    held = [weights[slot.spec.name] for slot in plan.slots]
    inputs = [variable(x) for x in drawn.inputs]
    states = [variable(s) for s in drawn.states]
    masks = tuple(m for m in drawn.masks if m is not None)
    run = plan.function(space, differentiate=True)
    with np.errstate(all="ignore"):
        outputs, updates, out_masks, _ = run(held, [*inputs, *states], masks, 0)
        arrays = [_expected(f"output {k}", y) for k, y in enumerate(outputs)]
        after = {plan.slots[i].spec.name: value for i, value in zip(plan.updated, updates, strict=True)}
        arrays += [_expected(f"{name} after the call", after[name]) for name in names if name in after]
        leaves = [x for x in inputs if isinstance(x, autodiff.Var)] + held
        found = autodiff.gradients(outputs, [bounded.exact(c) for c in drawn.cotangents], leaves)
    labels = [f"gradient of input {i}" for i, x in enumerate(inputs) if isinstance(x, autodiff.Var)]
    labels += [f"gradient of {slot.spec.name}" for slot in plan.slots]
    trained = [True] * len(labels[: len(labels) - len(held)]) + [slot.spec.trainable for slot in plan.slots]
    arrays += [_expected(what, g) for what, g, wanted in zip(labels, found, trained, strict=True) if wanted]
    mask = out_masks[0] if out_masks else None
    return Reference(arrays, None if mask is None else np.asarray(getattr(mask, "value", mask)))


def _expected(what: str, x: Any) -> Expected:
    x = autodiff.value_of(x)
    if hasattr(x, "error"):
        return Expected(what, x.value, np.asarray(x.error))
    return Expected(what, np.asarray(x, dtype=np.float64), np.zeros(np.shape(x)))


def forward_only(found: Reference) -> Reference:
    """The part of a reference that a backend without gradients must meet."""
    return replace(found, arrays=[e for e in found.arrays if e.direction == "forward"])
