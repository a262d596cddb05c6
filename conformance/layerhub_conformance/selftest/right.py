"""Right kernels, made of a spec's own meaning, for faults to be planted in.

Values come from the definition (of a composite: from those of its parts), gradients from the core's reverse mode.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from layerhub import autodiff
from layerhub.kernels import SIGNATURES, Call, Kernel
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub.spec.base import Spec
from layerhub.spec.layer import Layer, Result
from layerhub.spec.optimizers import Optimizer

Value = Callable[..., Any]
"""``value(spec, xp, *arguments)``: what a spec means, over any namespace."""
After = Callable[..., Any]
"""``after(spec, arguments, result)``: what becomes of a result, as arrays of the backend."""
Gradients = Callable[..., Sequence[Any]]
"""``gradients(spec, arguments, cotangents)``: of each argument; a tuple where the argument is one."""
Pull = Callable[..., Sequence[Any]]
"""``pull(gradients, spec, arguments, cotangents)``: what is given in place of the right gradients."""


def meaning(spec: Any, xp: Any, *arguments: Any) -> Any:
    """What a spec gives for the arguments of a kernel."""
    if isinstance(spec, Layer) and spec.is_composite:
        return _composed(spec, xp, arguments)
    if isinstance(spec, Optimizer):
        return spec.update(xp, *arguments)
    return spec.define(xp, *arguments)


def _composed(layer: Layer, xp: Any, arguments: Sequence[Any]) -> Any:
    acting = layer.carrying() if layer.states else layer
    training = dict(zip(layer.takes, arguments, strict=True)).get("training", False)

    def do(part: Layer, *given: Any, initial_state: Any = None) -> Any:
        inputs, weights = part.split(given, object)
        lead = (tuple(inputs),) if part.inputs and part.inputs[-1].many else part.filled(inputs)
        extras = {"training": training, "mask": None, "initial_state": initial_state, "rng": None}
        found = as_result(meaning(part, xp, *lead, *weights, *(extras[name] for name in part.extras)))
        outputs = list(listed(found.outputs))
        if part.trailing is not None:
            outputs[0] = part.trailing(xp, outputs[0])
        outputs += found.states if getattr(part, "return_state", False) else ()
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    found = acting.compose(do, *arguments)
    if not layer.states:
        return found
    outputs, states = found[: -layer.states], found[-layer.states :]
    return Result(outputs[0] if len(outputs) == 1 else outputs, states=states)


def as_result(found: Any) -> Result:
    """A result with all its parts named."""
    return found if isinstance(found, Result) else Result(found)


def listed(outputs: Any) -> tuple[Any, ...]:
    """Outputs as a tuple, also where there is one."""
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def differentiable(x: Any) -> bool:
    """Whether an argument is an array that there is a gradient of."""
    return getattr(x, "dtype", None) is not None and "float" in str(x.dtype)


def gradients_of(value: Value, xp: Any) -> Gradients:
    """The gradients of a meaning, which is computed once more for them."""

    def gradients(spec: Any, arguments: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        space = autodiff.differentiable(xp)
        leaves: list[autodiff.Var] = []

        def leaf(x: Any) -> Any:
            if isinstance(x, (tuple, list)):
                return tuple(map(leaf, x))
            if not differentiable(x):
                return x
            leaves.append(space.var(x))
            return leaves[-1]

        found = as_result(value(spec, space, *map(leaf, arguments)))
        given = iter(autodiff.gradients([*listed(found.outputs), *found.states], cotangents, leaves))

        def taken(x: Any) -> Any:
            if isinstance(x, (tuple, list)):
                return tuple(map(taken, x))
            return next(given) if differentiable(x) else None

        return [taken(x) for x in arguments]

    return gradients


def kernel_of(
    kind: str, name: str, backend: str, value: Value = meaning, after: After | None = None, pull: Pull | None = None
) -> Kernel:
    """A kernel with this meaning, and what a fault makes of its results and gradients.

    Of an optimizer ``value`` is the update of one weight.
    """
    if kind == "optimizer":
        return _stepping(name, backend, value, after)
    spec: type[Spec] = KINDS[kind].find(name)
    xp = registry().backend(backend).xp

    def function(acting: Any, *arguments: Any) -> Any:
        result = value(acting, xp, *arguments)
        return result if after is None else after(acting, arguments, result)

    def backward(acting: Any, saved: Any, cotangents: Sequence[Any]) -> Sequence[Any]:
        arguments, _ = saved
        gradients = gradients_of(value, xp)
        return (pull or _plainly)(gradients, acting, arguments, cotangents)

    takes = ("layer", *spec.takes) if kind == "layer" else SIGNATURES[kind]  # type: ignore[attr-defined]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in takes]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Kernel(name, function, kind, _serves if kind == "layer" else None, backward=backward)


def _serves(layer: Layer, call: Call) -> bool:
    if layer.trailing is not None and not layer.trailing.keeps_shape:
        return False
    if not layer.is_composite:
        return True
    # In training parts may draw random bits and move weights; and some make masks: a kernel can do neither for them.
    made = layer.made_of(*call.shapes)
    return not call.training and not any(_makes_masks(part) for part in made)


def _makes_masks(part: Layer) -> bool:
    return hasattr(type(part), "mask") and part.mask_rule.exists(part, (False,) * max(1, len(part.inputs)))


def _plainly(gradients: Gradients, *given: Any) -> Sequence[Any]:
    return gradients(*given)


def _stepping(name: str, backend: str, value: Value, after: After | None) -> Kernel:
    """A kernel of an optimizer, which moves all weights at once."""
    xp = registry().backend(backend).xp

    def function(optimizer: Any, coefficients: Any, weights: Any, gradients: Any, slots: Any) -> Any:
        moved = [
            value(optimizer, xp, coefficients, w, g, *row) for w, g, row in zip(weights, gradients, slots, strict=True)
        ]
        result = [row[0] for row in moved], [tuple(row[1:]) for row in moved]
        return result if after is None else after(optimizer, (coefficients, weights, gradients, slots), result)

    return Kernel(name, function, "optimizer")
