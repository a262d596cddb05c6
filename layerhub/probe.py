"""The probe: one layer, one call, one backend; ndarrays in, ndarrays out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from layerhub import autodiff
from layerhub.config import compute_dtype, variable_dtype
from layerhub.errors import BackendError, DTypeError, KernelError, ParameterError, ShapeError, WeightsError
from layerhub.plan import Plan, Planner, recorded
from layerhub.registry import registry
from layerhub.spec.layer import Layer
from layerhub.variable import initial_value


@dataclass
class Evaluation:
    """What a layer gave.

    outputs: all of them, states included where the layer returns them. output_mask: the first output's, or None.
    weights: after the call, in get_weights() order. input_grads, weight_grads: of sum(outputs * cotangents), aligned
    with inputs and weights; None where there is no gradient (ints, weights that are not trained) or none was asked for.
    """

    outputs: list[np.ndarray]
    output_mask: np.ndarray | None
    weights: list[np.ndarray]
    input_grads: list[np.ndarray | None] | None = None
    weight_grads: list[np.ndarray | None] | None = None
    routes: list[str] = field(default_factory=list)


def evaluate_layer(
    layer: Layer,
    inputs: Any,
    weights: Sequence[Any] | None = None,
    backend: str = "numpy",
    training: bool = False,
    mask: Any = None,
    initial_state: Any = None,
    cotangents: Any = None,
    dtype: str = "float32",
    seed: int = 0,
    route: str = "kernel",
    device: str | None = None,
    compiled: bool | Literal["draft"] = False,
) -> Evaluation:
    """Run a layer once on a backend, and ask for gradients with ``cotangents``.

    inputs: an ndarray or a list, with None for inputs that are left out. weights: in get_weights() order; None:
    initialised from ``seed``, alike on every backend. mask: bool, or a list aligned with the inputs. initial_state: a
    flat list. cotangents: one for each output, None standing for zeros. dtype: of weights, computation, and float
    inputs, or a mixed policy. route: "kernel" takes kernels where they serve, "definition" never does. compiled:
    whether the backend compiles the call first; "draft": in the least time. The layer itself is left as it is.
    """
    if route not in ("kernel", "definition"):
        raise ParameterError(f"evaluate_layer: route must be 'kernel' or 'definition', not {route!r}")
    target = registry().backend(backend)
    computed = compute_dtype(dtype)
    if computed not in target.dtypes:
        raise BackendError(f"the backend {backend!r} has no {dtype}; its float types: {', '.join(target.dtypes)}")
    device = target.check_device(device)
    target.check_serves(type(layer).__name__)
    layer = layer.replace(dtype=dtype)
    inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    arrays = [None if x is None else _typed(layer, "an input", x, computed) for x in inputs]
    states = [_typed(layer, "an initial state", s, computed) for s in initial_state or ()]
    given = mask if isinstance(mask, (list, tuple)) else [mask]
    masks = [None if m is None else np.asarray(m, dtype=bool) for m in [*given, *[None] * len(arrays)][: len(arrays)]]
    shapes = [None if x is None else x.shape for x in arrays]
    for shape, m in zip(shapes, masks, strict=True):
        if m is not None and (shape is None or m.shape != layer.places_of(shape)[: m.ndim]):
            raise ShapeError(f"{layer!r}: a mask of shape {m.shape} does not fit an input of shape {shape}")
    for x in arrays:
        if x is not None and x.size:
            layer.check_input(x)

    planner = Planner(registry(), backend, training, seed, route)
    values = [
        None if x is None else planner.input(x.shape, str(x.dtype), m is not None)
        for x, m in zip(arrays, masks, strict=True)
    ]
    begin = [planner.input(s.shape, str(s.dtype)) for s in states]
    plan = planner.plan(planner.call(layer, values, "0", begin))
    for step in plan.steps:
        target.check_serves(type(step.target).__name__)
        # Here, so that models need not look at what kernels give.
        step.kernel = step.kernel and step.kernel.watched(target)
    wanted = layer.weight_specs(*shapes)
    if weights is None:
        weights = [initial_value(spec, seed, f"0/{spec.name}") for spec in wanted]
    if [np.shape(w) for w in weights] != [spec.shape for spec in wanted]:
        raise WeightsError(
            f"{layer!r} has weights {[(s.name, s.shape) for s in wanted]}, "
            f"values of shapes {[np.shape(w) for w in weights]} were given"
        )
    by_name = {spec.name: np.asarray(w) for spec, w in zip(wanted, weights, strict=True)}
    # What a stateful layer keeps begins as zeros.
    by_name |= {s.name: np.zeros(s.shape) for s in layer.state_specs(*shapes)}

    def native(x: Any, kind: str | None = None) -> Any:
        return target.asarray(x, kind, device)

    kept = variable_dtype(dtype)
    held = [native(by_name[slot.spec.name].astype(_host(kept)), kept) for slot in plan.slots]
    flat = [native(x, computed if x.dtype.kind == "f" else None) for x in (*arrays, *states) if x is not None]
    native_masks = tuple(native(m) for m in masks if m is not None)
    if cotangents is not None:
        cotangents = _fitting(layer, target, plan, cotangents)
        cotangents = [
            None if c is None else native(_typed(layer, "a cotangent", c, computed), computed) for c in cotangents
        ]
    outputs, updates, out_masks, gradients = run_plan(
        plan, target, device, held, flat, native_masks, cotangents, compiled, repr(layer)
    )

    def fetch(x: Any) -> np.ndarray:
        """An ndarray of its own: native arrays may be views of the inputs, of each other, or of nothing that lasts."""
        return np.array(target.to_numpy(x))

    after = dict(zip((slot.spec.name for slot in plan.slots), held, strict=True))
    for index, value in zip(plan.updated, updates, strict=True):
        after[plan.slots[index].spec.name] = value
    found = Evaluation(
        [fetch(y) for y in outputs],
        None if out_masks[0] is None else fetch(out_masks[0]),
        [fetch(after[spec.name]) for spec in wanted],
        routes=_routes(plan),
    )
    if gradients is not None:
        names = [slot.spec.name for slot in plan.slots]
        of_inputs = iter(gradients)
        found.input_grads = [None if x is None or (g := next(of_inputs)) is None else fetch(g) for x in arrays]
        of_weights = dict(zip(names, gradients[len(flat) :], strict=True))
        found.weight_grads = [fetch(of_weights[s.name]) if s.trainable else None for s in wanted]
    return found


def run_plan(
    plan: Plan,
    backend: Any,
    device: str,
    held: Sequence[Any],
    inputs: Sequence[Any],
    masks: tuple[Any, ...] = (),
    cotangents: Sequence[Any] | None = None,
    compiled: bool | Literal["draft"] = False,
    who: str = "the plan",
) -> tuple[Any, Any, Any, list[Any] | None]:
    """(outputs, updates, masks, gradients of inputs and weights) of a plan, all of them native arrays.

    held: the weights, by number. cotangents: as of ``evaluate_layer``; None asks for no gradients, which then are None.
    Raises KernelError where an input or weight was changed in place; ``who`` names what was run.
    """
    xp = backend.xp_on(device)
    recording_xp = xp if backend.own_autodiff else backend.recording_xp

    def whole(held: list, flat: list, masks: tuple, cotangents: list | None) -> tuple:
        if cotangents is None:
            return *recorded(plan, xp)(held, flat, masks, 0)[:3], None
        return _differentiated(backend, recording_xp, plan, held, flat, masks, cotangents)

    run = backend.compiled(whole, draft=compiled == "draft") if compiled else whole
    given = (*inputs, *held)
    before = [np.array(backend.to_numpy(x)) for x in given]
    # Without gradients it is computed as a prediction is: kernels may take another way there.
    with backend.inferring() if cotangents is None else nullcontext():
        found = run(list(held), list(inputs), masks, None if cotangents is None else list(cotangents))
    for x, old in zip(given, before, strict=True):
        if not np.array_equal(backend.to_numpy(x), old, equal_nan=old.dtype.kind == "f"):
            raise KernelError(
                f"{who} on {backend.name!r}, served by {', '.join(sorted(_routes(plan)))}: the call changed an input "
                f"or weight of shape {old.shape} in place; a kernel must be pure"
            )
    return found


def _routes(plan: Any) -> list[str]:
    """What serves each step."""
    return [step.route for step in plan.steps if step.target is not None]


def _fitting(layer: Layer, target: Any, plan: Any, cotangents: Any) -> list[Any]:
    """Cotangents, one for each output, of its shape."""
    if not target.has_gradients:
        raise BackendError(f"the backend {target.name!r} has no gradients")
    given = list(cotangents) if isinstance(cotangents, (list, tuple)) else [cotangents]
    shapes = [None if c is None else np.shape(c) for c in given]
    wanted = [y.shape for y in plan.outputs]
    fits = [a is None or a == b for a, b in zip(shapes, wanted, strict=False)]
    if len(given) != len(wanted) or not all(fits):
        raise ShapeError(f"{layer!r}: cotangents of shapes {shapes} do not fit outputs of {wanted}")
    return given


def _differentiated(target: Any, xp: Any, plan: Any, held: list, flat: list, masks: tuple, cotangents: list) -> tuple:
    """(outputs, updates, masks, gradients of all inputs and weights)."""
    run = recorded(plan, xp)
    floating = [i for i, value in enumerate(plan.inputs) if value.dtype.startswith(("float", "bfloat"))]

    def weighted(params: list) -> tuple[Any, Any]:
        inputs = list(flat)
        for i, param in zip(floating, params, strict=False):
            inputs[i] = param
        outputs, updates, out_masks, _ = run(params[len(floating) :], inputs, masks, 0)
        total = None
        for y, cotangent in zip(outputs, cotangents, strict=False):
            if cotangent is not None:
                term = xp.sum(y * cotangent)
                # Not all of the terms are recorded, and not every array library adds to what it does not know.
                total = term if total is None else xp.add(total, term)
        return total, (outputs, updates, out_masks)

    aux, found = _gradients(target, weighted, [*(flat[i] for i in floating), *held])
    outputs, updates, out_masks = aux if not isinstance(xp, autodiff.Differentiable) else map(autodiff.value_of, aux)
    of_inputs: list[Any] = [None] * len(flat)
    for i, gradient in zip(floating, found, strict=False):
        of_inputs[i] = gradient
    return outputs, updates, out_masks, of_inputs + found[len(floating) :]


def _gradients(target: Any, function: Any, params: list) -> tuple[Any, list]:
    """(aux, gradients) of a function of these arrays; raises BackendError where the backend has not what it claims."""
    who = f"the backend {target.name!r} says has_gradients = True, but its value_and_grad()"
    remedy = "leave value_and_grad() out, and the core differentiates; or set has_gradients = False"
    try:
        _, aux, found = target.value_and_grad(function, params)
    except NotImplementedError as problem:
        raise BackendError(f"{who} raised NotImplementedError: {problem}: {remedy}") from problem
    if len(found) != len(params):
        raise BackendError(f"{who} gave {len(found)} gradients of {len(params)} arrays: {remedy}")
    return aux, found


def _typed(layer: Layer, what: str, x: Any, dtype: str) -> np.ndarray:
    """Host data in the type of computation where they are floats; in the machine's order of bytes in any case."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{layer!r}: {what} has type {array.dtype}; numbers were expected")
    return array.astype(_host(dtype) if array.dtype.kind == "f" else array.dtype.newbyteorder("="), copy=False)


def _host(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype
