"""How Keras 1 joined branches: ``Merge`` as the first layer of a Sequential, and ``merge`` on symbolic tensors.

Both tell the way that is usual now. What they make are the layers that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from layerhub import structure
from layerhub.errors import GraphError, ParameterError, UnknownNameError, suggest
from layerhub.graph import Input, Tensor
from layerhub.models import Model, Sequential
from layerhub.network import Network
from layerhub.saving.entries import deserialize_layer
from layerhub.spec.core import Lambda
from layerhub.spec.layer import Layer
from layerhub.spec.merge import Add, Average, Concatenate, Dot, Maximum, Multiply
from layerhub.spec.spellings import warn

Axes = int | Sequence[int]


def _axes(given: Any) -> Any:
    """``dot_axes``: an int for both inputs, or one for each, which may be by itself in a list."""
    if isinstance(given, (list, tuple)):
        return tuple(axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis for axis in given)
    return given


MODES: dict[str, Callable[[int, Any], Layer]] = {
    "sum": lambda concat, dot: Add(),
    "mul": lambda concat, dot: Multiply(),
    "ave": lambda concat, dot: Average(),
    "max": lambda concat, dot: Maximum(),
    "concat": lambda concat, dot: Concatenate(concat),
    "dot": lambda concat, dot: Dot(_axes(dot)),
    "cos": lambda concat, dot: Dot(_axes(dot), normalize=True),
}
"""What each mode is called now; made of ``concat_axis`` and ``dot_axes``."""


def _layer(
    who: str, mode: Any, concat_axis: int, dot_axes: Axes, output_shape: Any, arguments: Any, output_mask: Any
) -> Layer:
    """The layer that does what a mode says. Raises ParameterError for an unknown one."""
    if isinstance(mode, str) and mode in MODES:
        layer = MODES[mode](concat_axis, dot_axes)
        warn(f"{who}: mode={mode!r} is an old spelling; say lh.layers.{type(layer).__name__}(…)([a, b])")
        return layer
    if callable(mode):
        if isinstance(output_shape, (list, tuple)):
            output_shape = tuple(output_shape)
        warn(f"{who}: a function as mode is an old spelling; say lh.layers.Lambda(function)([a, b])")
        mask = output_mask if callable(output_mask) else None
        return Lambda(mode, output_shape=output_shape, mask=mask, arguments=arguments or None)
    hint = suggest(str(mode), MODES)
    raise ParameterError(f"{who}: mode must be one of {', '.join(MODES)}, or a function of a list, not {mode!r}.{hint}")


def merge(
    inputs: Sequence[Tensor],
    mode: Any = "sum",
    concat_axis: int = -1,
    dot_axes: Axes = -1,
    output_shape: Any = None,
    output_mask: Any = None,
    arguments: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Any:
    """Several symbolic tensors as one, as Keras 1 spelled it.

    mode: sum, mul, ave, max, concat, dot, cos, or a function of the list of tensors. concat_axis: of concat; dot_axes:
    of dot and cos: one axis for both inputs, or one for each. output_shape, arguments: of a function, as in ``Lambda``.
    """
    tensors = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    wrong = next((x for x in tensors if not isinstance(x, Tensor)), None)
    if wrong is not None:
        raise GraphError(
            f"merge takes a list of symbolic tensors (lh.Input(shape)), not {wrong!r}; models: lh.layers.Merge"
        )
    layer = _layer("merge", mode, concat_axis, dot_axes, output_shape, arguments, output_mask)
    layer.name = name
    return layer(tensors)


def Merge(  # noqa: N802 - a class in Keras 1
    layers: Sequence[Any],
    mode: Any = "sum",
    concat_axis: int = -1,
    dot_axes: Axes = -1,
    output_shape: Any = None,
    output_mask: Any = None,
    arguments: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Model:
    """Several models side by side, their outputs joined: the first layer of a Sequential of Keras 1.

    layers: models whose input shapes are known, or layers that say theirs. The result takes the inputs of all of them,
    in their order. The other arguments are those of ``merge``. It is a ``Model``, and can be written down as any.
    """
    if not isinstance(layers, (list, tuple)) or len(layers) < 2:
        raise GraphError(f"Merge takes a list of two models or more, not {layers!r}")
    branches = [_branch(layer, number) for number, layer in enumerate(layers)]
    if len(set(map(id, branches))) < len(branches):
        raise GraphError("Merge: a model stands in the list twice; give each branch a model of its own")
    joined = _layer("Merge", mode, concat_axis, dot_axes, output_shape, arguments, output_mask)
    inputs, outputs = [], []
    for branch in branches:
        own = [Input(batch_shape=x.shape, dtype=x.dtype, name=x.node.layer.name) for x in branch.inputs]
        inputs += own
        outputs += structure.flat(branch(structure.packed(branch._takes, own)))
    return Model(inputs, joined(outputs), name=name)


def merge_from_config(config: Mapping[str, Any], objects: Mapping[str, Any]) -> Model:
    """What a config of Keras 1 calls ``Merge``. Raises UnknownNameError for a function that objects do not have."""
    told = {key: config.get(key) for key in ("output_shape", "output_mask", "arguments", "name")}
    mode = config.get("mode", "sum")
    if mode not in MODES:
        if mode not in objects:
            raise UnknownNameError(f"the Merge of the config joins by {mode!r}; give it in custom_objects")
        mode = objects[mode]
    layers = [deserialize_layer(entry, objects) for entry in config["layers"]]
    return Merge(layers, mode, config.get("concat_axis", -1), config.get("dot_axes", -1), **told)


def _branch(layer: Any, number: int) -> Network:
    """What Merge was given, as a model that knows its inputs."""
    if isinstance(layer, Layer):
        layer = Sequential([layer])
    if not isinstance(layer, Network):
        raise GraphError(f"Merge takes models, not {layer!r}; symbolic tensors: lh.layers.merge")
    if not layer.built:
        raise GraphError(
            f"Merge: the input shape of {layer.name}, number {number} in the list, is not known; begin it with "
            "lh.Input(shape)"
        )
    return layer
