"""Models: the functional Model, Sequential, and copies of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from layerhub import saving
from layerhub.errors import FileFormatError, GraphError, LayerHubError, ParameterError, UnknownNameError
from layerhub.graph import Input, Tensor, nodes_of
from layerhub.network import (
    Network,
    deserialize_layer,
    deserialize_whole,
    input_of,
    model_kind,
    serialize_layer,
)
from layerhub.saving import text as configs
from layerhub.spec.core import InputLayer
from layerhub.spec.layer import Layer
from layerhub.training import Trainable


class Model(Trainable):
    """A model from inputs to outputs: ``Model(inputs, outputs)``, each a symbolic tensor or several."""


class Sequential(Trainable):
    """Layers one after the other. Begin with ``lh.Input(shape)``, or the first data tell the input's shape."""

    def __init__(
        self,
        layers: Sequence[Any] | None = None,
        backend: str | None = None,
        device: str | None = None,
        name: str | None = None,
        seed: int | None = None,
    ):
        self._stack: list[Any] = []
        self._members: set[int] = set()
        self._begin(backend, device, name, seed)
        for layer in layers or ():
            self._push(layer)
        self._rebuild()

    def add(self, layer: Any) -> None:
        """Append a layer; one that does not fit is not kept."""
        before = list(self.inputs)
        self._push(layer)
        try:
            self._rebuild()
        except LayerHubError:
            self._drop()
            self.inputs = before
            raise

    def pop(self) -> Any:
        """Take the last layer away, and return it."""
        if not self._stack:
            raise GraphError(f"{self.name} has no layers to pop")
        layer = self._drop()
        self._rebuild()
        return layer

    def _drop(self) -> Any:
        layer = self._stack.pop()
        self._members.remove(id(layer))
        return layer

    def _push(self, layer: Any) -> None:
        if isinstance(layer, Tensor):
            if self._stack or self.inputs:
                raise GraphError(f"{self.name}: lh.Input(shape) comes first, before any layer")
            self.inputs = [layer]
        elif isinstance(layer, InputLayer):
            self._push(nodes_of(layer)[0].outputs[0] if nodes_of(layer) else Input(batch_shape=layer.full_shape))
        elif isinstance(layer, (Layer, Network)):
            if id(layer) in self._members:
                raise GraphError(f"{self.name} has the layer {layer.label!r} already; use a Model to share layers")
            first = getattr(layer, "first_shape", None)
            if first is not None and not self._stack and not self.inputs:
                kind = getattr(layer.inputs[0], "kind", "float")
                self.inputs = [Input(batch_shape=first, dtype="int32" if kind == "int" else None)]
            self._stack.append(layer)
            self._members.add(id(layer))
        else:
            raise GraphError(f"{self.name}: a layer was expected, not {layer!r}")

    def _rebuild(self) -> None:
        """Connect the layers anew; whatever they had of weights they keep."""
        if not self.inputs or not self._stack:
            self.outputs = []
            self._unbind()
            return
        x = self.inputs[0]
        for layer in self._stack:
            x = layer(x)
            if isinstance(x, list):
                raise GraphError(f"{self.name}: {layer.label!r} has several outputs; use a Model for that")
        self._connect(self.inputs, [x])

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Say the input's shape, batch axis included."""
        if not self.inputs:
            self.inputs = [Input(batch_shape=(None, *tuple(input_shape)[1:]))]
            self._rebuild()

    def _see(self, x: list[Any]) -> None:
        if not self.inputs and x:
            self.build((None, *x[0].shape[1:]))

    @property
    def layers(self) -> list[Any]:
        """The layers, without the input."""
        return list(self._stack)

    def get_config(self) -> dict[str, Any]:
        first = [serialize_layer(x.node.layer) for x in self.inputs]
        return {"name": self.name, "seed": self.seed, "layers": [*first, *map(serialize_layer, self._stack)]}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | list[Any], custom_objects: Mapping[str, Any] | None = None, **options: Any
    ) -> Sequential:
        # Keras 2.2 and earlier wrote the list of layers alone.
        config = {"layers": config} if isinstance(config, list) else config
        entries = list(config["layers"])
        made: list[Any] = []
        if entries and entries[0]["class_name"] == "InputLayer":
            made.append(input_of(entries.pop(0)))
        elif entries:
            first = entries[0].get("config", {})
            shape = first.get("batch_input_shape") or config.get("build_input_shape")
            if shape is not None:
                kind = "int32" if entries[0]["class_name"] == "Embedding" else None
                made.append(Input(batch_shape=shape, dtype=kind))
        layers = [deserialize_layer(entry, custom_objects) for entry in entries]
        return cls([*made, *layers], name=config.get("name"), **{"seed": config.get("seed")} | options)


def model_from_json(
    text: str,
    backend: str | None = None,
    device: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Any:
    """The model that ``to_json`` wrote down, here or in Keras 1, 2 or 3, with fresh weights, on any backend.

    What a text of Keras 1 or 2 (by its ``keras_version``) leaves unsaid means what it meant then.

    custom_objects: classes and functions by the names that the text has for them.
    """
    return _described(configs.json_object, text, "JSON", custom_objects, backend=backend, device=device)


def model_from_yaml(
    text: str,
    backend: str | None = None,
    device: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Any:
    """The model that ``to_yaml`` wrote down, here or in Keras 1 or 2, with fresh weights, on any backend.

    The text holds plain values; a tag by which it asks for an object of Python is refused.
    custom_objects: classes and functions by the names that the text has for them. Needs PyYAML.
    """
    return _described(configs.yaml_object, text, "YAML", custom_objects, backend=backend, device=device)


def _described(parse: Any, text: str, form: str, objects: Mapping[str, Any] | None, **options: Any) -> Any:
    """The model that a text describes. parse: reads the text. Raises ParameterError for what describes none."""
    known = f"which has a class_name (one of {', '.join(sorted(Network.kinds))}) and a config"
    if not isinstance(text, (str, bytes)):
        raise ParameterError(f"a model's {form} is a text, {known}, not {text!r:.100}")
    try:
        entry = parse(text, "the text")
        model_kind(entry["class_name"]), entry["config"]
    except (FileFormatError, TypeError, KeyError, UnknownNameError) as problem:
        raise ParameterError(f"the text is no model's {form}, {known}: {problem}") from None
    return deserialize_whole(saving.as_meant(entry), objects, **options)


def save_model(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model to a ``.keras`` archive; see ``model.save``."""
    model.save(path)


def load_model(
    path: str | os.PathLike[str],
    backend: str | None = None,
    device: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
) -> Any:
    """The model of a file that LayerHub or Keras wrote (``.keras``, or ``.h5`` in Keras 2's layout), on any backend.

    custom_objects: classes and functions by the names that the file has for them; none of its own code is run.
    compile: compile it as it was, and let training go on where it stopped, unless Keras 2 wrote the file.
    Raises FileFormatError for a file that is damaged or of another kind, UnknownNameError for what is not known here.
    """
    objects = custom_objects or {}
    with saving.reading_model(path) as held:
        try:
            model = deserialize_whole(held.entry, objects, backend=backend, device=device)
        except FileFormatError as problem:
            raise FileFormatError(f"{path}: {problem}") from problem
        saving.restore(model, held, objects, compile)
        return model


def clone_model(model: Any, backend: str | None = None, device: str | None = None, dtype: str | None = None) -> Any:
    """A copy of a model's graph, with fresh weights from the same seed, on any backend.

    Give it the weights by ``copy.set_weights(model.get_weights())``. dtype: the float type, or mixed policy, of all its
    layers; None: as they have it.
    """
    config = model.get_config() if dtype is None else _with_dtype(model.get_config(), dtype)
    return type(model).from_config(config, backend=backend or model.backend, device=device)


def _with_dtype(config: Any, dtype: str) -> Any:
    """A config with another type in all its layers, those inside of layers included; inputs keep theirs."""
    if isinstance(config, list):
        return [_with_dtype(part, dtype) for part in config]
    if not isinstance(config, Mapping) or config.get("class_name") == "InputLayer":
        return config
    return {key: dtype if key == "dtype" else _with_dtype(value, dtype) for key, value in config.items()}
