"""Models: the functional Model, Sequential, and copies of them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from layerhub import config as configuration
from layerhub import saving, scope, structure
from layerhub.data import as_array
from layerhub.errors import FileFormatError, GraphError, LayerHubError, ParameterError, StateError, UnknownNameError
from layerhub.graph import Input, Tensor, between, forget, nodes_of, remembering
from layerhub.network import Network
from layerhub.operation import dtype_name
from layerhub.saving import text as configs
from layerhub.saving import tree
from layerhub.saving.entries import (
    MODELS,
    deserialize_layer,
    deserialize_whole,
    input_of,
    known_kind,
    serialize_layer,
)
from layerhub.spec.core import InputLayer
from layerhub.spec.layer import Layer
from layerhub.tracking import held, tracked
from layerhub.training import Trainable


class Model(Trainable):
    """A model from inputs to outputs, or a class of one's own that says by ``call`` what leads there.

    ``Model(inputs, outputs)``: each a symbolic tensor, or a list, tuple or dict of them, also nested; what the model
    predicts has the structure of outputs.

    A subclass makes its layers in ``__init__``, after ``super().__init__()``, as attributes (also in lists and dicts),
    and connects them in ``call(self, inputs, training=False)``. Once the inputs' shapes are known (by the first data,
    ``build``, or a call on symbolic tensors) ``call`` is followed on symbolic tensors: once, and once more for training
    where it takes ``training``. From then on the graph is what runs, on any backend.
    """

    _arguments: Mapping[str, Any] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        model = super().__new__(cls)
        object.__setattr__(model, "_arguments", _plain_arguments(cls, args, kwargs))
        return model

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        backend: str | None = None,
        device: str | None = None,
        name: str | None = None,
        seed: int | None = None,
        trainable: bool = True,
    ):
        object.__setattr__(self, "_own", {})
        self._follows = inputs is None and outputs is None
        if not self._follows:
            super().__init__(inputs, outputs, backend, device, name, seed, trainable)
            return
        if type(self).call is Model.call:
            raise GraphError(
                f"{type(self).__name__} leads from inputs to outputs: give both, or define call(self, inputs)"
            )
        self._begin(backend, device, name, seed)
        self.trainable_flag = bool(trainable)

    def call(self, inputs: Any) -> Any:
        """What a subclass does with its inputs: symbolic tensors in the structure in which the data come.

        It may take ``training``, which says whether this is the way for training, and other arguments with defaults.
        """
        raise StateError(f"{type(self).__name__} has no call of its own")

    # The layers of a subclass

    def __setattr__(self, name: str, value: Any) -> None:
        if "_own" in self.__dict__:
            value = tracked(value, lambda layer: self._own.setdefault(layer))
        elif any(True for _ in held(value)):
            raise StateError(
                f"{type(self).__name__}.__init__ must call super().__init__() first: it sets the layer {name!r} before"
            )
        super().__setattr__(name, value)

    def _members(self) -> list[Any]:
        """The layers in attributes, in the order in which they came there; those that were replaced are none."""
        there = {id(layer) for value in self.__dict__.values() for layer in held(value)}
        return [layer for layer in self._own if id(layer) in there]

    @property
    def layers(self) -> list[Any]:
        return self._members() if self._follows else super().layers

    def located(self) -> list[tuple[str, Any]]:
        if not self._follows:
            return []
        there = {name: value for name, value in self.__dict__.items() if any(True for _ in held(value))}
        # Keras goes through attributes by name, "layers", which has them all, among them; who comes first is the path.
        found = [pair for name in sorted(there) if name < "layers" for pair in tree.within(name, there[name])]
        return found + tree.listed(self)

    # Following ``call``

    def build(self, input_shape: Any = None) -> None:
        """Say the inputs' shapes, batch axis included: one, or a structure of them."""
        if self._follows and input_shape is not None:
            self._see(structure.shapes(input_shape))

    def _see(self, data: Any) -> None:
        if not self._follows:
            return
        given = described(data)
        if not self.outputs:
            self._follow(symbols(given))
            return
        row = structure.flat(given)
        if len(row) != len(self.inputs) or not all(
            len(x.shape) == len(t.shape) for x, t in zip(row, self.inputs, strict=True)
        ):
            return  # whoever takes the data tells what is wrong
        wider = [
            tuple(t if t == s or t is None or (s is None and k == 0) else None for k, (s, t) in enumerate(pairs))
            for pairs in (list(zip(x.shape, t.shape, strict=True)) for x, t in zip(row, self.inputs, strict=True))
        ]
        if wider != [t.shape for t in self.inputs]:
            # Sizes that differ from data to data are unknown ones.
            like = structure.packed(
                self._takes, [structure.Shaped(w, t.dtype) for w, t in zip(wider, self.inputs, strict=True)]
            )
            self._follow(symbols(like))

    def _follow(self, inputs: Any) -> None:
        """Make the graph, by following ``call`` on symbolic inputs."""
        for i, member in enumerate(self._members()):
            # Models that get their weights only now start from this one's seed, so that it says all.
            if isinstance(member, Network) and not member.built and not member._seeded:
                member.seed, member._place = self.seed, f"{self._place}{i}/"
        modes = (False, True) if _takes_training(self.call) else (False,)
        found = [self._followed(inputs, training, len(modes) > 1) for training in modes]
        shapes = [structure.mapped(lambda y: y.shape, made) for made in found]
        if shapes[0] != shapes[-1]:
            raise GraphError(
                f"{type(self).__name__}.call must give outputs of the same structure and shapes whether or not it is "
                f"training: {shapes[0]}, but in training {shapes[-1]}"
            )
        members = self._members()
        trained = found[1] if len(found) > 1 else None
        self._check_owned(structure.flat(inputs), structure.flat(found), members)
        before = self._executor
        self._connect(inputs, found[0], trained, members)
        if before is not None:  # the graph is another one; what training keeps stays
            self._carry(before, self.executor)
        if not self.trainable_flag:
            self.trainable = False

    def _followed(self, inputs: Any, training: bool, told: bool) -> Any:
        who = f"{type(self).__name__}.call"
        several = not structure.is_leaf(inputs) and not isinstance(inputs, Mapping) and _required(self.call) > 1
        try:
            with remembering(False):
                outputs = self.call(*(inputs if several else (inputs,)), **({"training": training} if told else {}))
        except LayerHubError as problem:
            problem.add_note(f"in {who}, which is followed on {inputs!r}")
            raise
        except Exception as problem:
            raise GraphError(
                f"{who} fails on symbolic tensors ({inputs!r}): {type(problem).__name__}: {problem}. It may use "
                "layers, models, functions of lh.ops and operators; what depends on values is said by lh.ops.where"
            ) from problem
        wrong = next((y for y in structure.flat(outputs) if not isinstance(y, Tensor)), None)
        if wrong is not None or outputs is None or not structure.flat(outputs):
            raise GraphError(
                f"{who} must return the tensor that it makes, or a list, tuple or dict of them, not "
                f"{type(wrong if outputs is not None else outputs).__name__}"
            )
        return outputs

    def _check_owned(self, inputs: list[Tensor], outputs: list[Tensor], members: list[Any]) -> None:
        """Raise GraphError for a layer with weights that is none of the model's own."""
        known = set(map(id, _deep(members)))
        for node in between(inputs, outputs):
            layer = node.layer
            holds = isinstance(layer, Network) or layer.held
            if holds and id(layer) not in known:
                raise GraphError(
                    f"{type(self).__name__}.call uses {layer.label!r}, which has weights but is no attribute of the "
                    "model: make it in __init__ and keep it, as self.… or in a list or dict there"
                )

    # Description

    def get_config(self) -> dict[str, Any]:
        """The graph as Keras 3 writes it. A subclass: the arguments of its ``__init__``, where they are plain.

        Raises ParameterError where they are not, and the class has no get_config of its own.
        """
        if not self._follows:
            return super().get_config()
        told = {"name": self.name, "trainable": self.trainable_flag}
        if type(self).get_config is not Model.get_config:
            return told  # to which it adds its own
        if self._arguments is None:
            raise ParameterError(
                f"{type(self).__name__} was made with arguments that are no plain numbers, texts or lists of them: to "
                "write it down or copy it, give the class get_config(self), which returns a dict of arguments "
                "for its __init__ (and from_config(cls, config), where they must be made into objects)"
            )
        return {**told, **self._arguments}

    def build_config(self) -> dict[str, Any] | None:
        if not (self._follows and self.outputs):
            return None
        return {
            "input_shape": structure.listed(lambda x: list(x.shape), self._takes),
            "input_dtype": structure.listed(lambda x: x.dtype, self._takes),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """The model that a config describes, with fresh weights: of a graph, or the class with these arguments."""
        if cls is Model or "input_layers" in config:
            return super().from_config(config, custom_objects, **options)
        known = inspect.signature(cls.__init__).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
        given = {key: value for key, value in config.items() if anything or key in known or key not in TOLD}
        if "dtype" not in known:  # Keras has one for models, too
            given.pop("dtype", None)
        return cls(**given)

    @classmethod
    def remade(
        cls,
        config: Mapping[str, Any],
        built: Mapping[str, Any] | None = None,
        custom_objects: Mapping[str, Any] | None = None,
        backend: str | None = None,
        device: str | None = None,
        seed: int | None = None,
    ) -> Self:
        if (cls is Model or "input_layers" in config) and cls.from_config.__func__ is Model.from_config.__func__:  # type: ignore[attr-defined]
            return super().remade(config, built, custom_objects, backend, device, seed)
        with scope.backend(scope.chosen(backend)):
            model = cls.from_config(dict(config))
        if device is not None:
            model.to(device=device)
        if seed is not None:
            model.seed = seed
        if built and built.get("input_shape") is not None:
            shapes = structure.shapes(built["input_shape"])
            dtypes = structure.flat(built.get("input_dtype", [None] * len(structure.flat(shapes))))
            row = [structure.Shaped(x.shape, d) for x, d in zip(structure.flat(shapes), dtypes, strict=True)]
            model._see(structure.packed(shapes, row))
        return model


TOLD = ("name", "trainable", "dtype", "seed")
"""Parts of a config that are for the base class, where ``__init__`` does not take them."""


def _takes_training(call: Any) -> bool:
    return "training" in inspect.signature(call).parameters


def _required(call: Any) -> int:
    """How many arguments a call needs."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(call).parameters.values()
    return sum(p.default is p.empty and p.kind in kinds and p.name not in ("training", "mask") for p in found)


def _deep(layers: Sequence[Any]) -> Iterator[Any]:
    """Layers, and those of the models among them."""
    for layer in layers:
        yield layer
        if isinstance(layer, Network):
            yield from _deep([part for part in layer.layers if part is not layer])


def _plain_arguments(cls: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The arguments of a constructor by name, where JSON can hold them; else None."""
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for parameter, (name, value) in zip(signature.parameters.values(), list(bound.arguments.items()), strict=False):
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= value
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY) and found.keys() | {name} != {
            name
        }:
            return None
        else:
            found[name] = value
    found.pop(next(iter(signature.parameters)), None)
    for name in ("backend", "device"):
        found.pop(name, None)
    plain = all(isinstance(part, (str, int, float, bool, type(None))) for part in structure.flat(found))
    return found if plain else None


def described(data: Any) -> Any:
    """What is known of data: their structure, with something that has a shape for each array."""
    if any(not hasattr(x, "shape") for x in structure.flat(data)):
        data = as_array(data)  # numbers in lists
    return data


def symbols(given: Any) -> Any:
    """Symbolic inputs for data, or for what else has shapes, in the same structure."""

    def symbol(x: Any) -> Tensor:
        exact = isinstance(x, (Tensor, structure.Shaped))
        shape = tuple(None if size is None else int(size) for size in x.shape)
        name = x.dtype if exact else dtype_name(x)
        if name is not None and not exact:
            name = (
                None
                if name.startswith(("float", "bfloat"))
                else "int64"
                if name in ("int64", "uint32", "uint64")
                else name
            )
            name = "int32" if name in ("int8", "int16", "uint8", "uint16") else name
        return Input(batch_shape=shape if exact else (None, *shape[1:]), dtype=name)

    return structure.mapped(symbol, given)


class Sequential(Trainable):
    """Layers one after the other. Begin with ``lh.Input(shape)``, or the first data tell the input's shape.

    The first layer may be a model of several inputs, such as ``lh.layers.Merge`` makes: then this one has them too.
    """

    def __init__(
        self,
        layers: Sequence[Any] | None = None,
        backend: str | None = None,
        device: str | None = None,
        name: str | None = None,
        seed: int | None = None,
        trainable: bool = True,
    ):
        self._stack: list[Any] = []
        self._members: set[int] = set()
        self._chain: list[Any] = []  # the output of each layer that is connected
        self._begin(backend, device, name, seed)
        for layer in [layers] if isinstance(layers, (Layer, Network)) else layers or ():
            self._push(layer)
        self._rebuild()
        if not trainable:
            self.trainable = False

    def add(self, layer: Any) -> None:
        """Append a layer; one that does not fit is not kept."""
        before = list(self.inputs)
        self._push(layer)
        try:
            self._rebuild(len(self._chain))
        except LayerHubError:
            if self._stack and self._stack[-1] is layer:
                self._drop()
            self.inputs = before
            raise

    def pop(self, rebuild: bool = True) -> Any:
        """Take the last layer away, and return it."""
        if not self._stack:
            raise GraphError(f"{self.name} has no layers to pop")
        layer = self._drop()
        if rebuild:
            self._rebuild(len(self._chain))
        return layer

    def _drop(self) -> Any:
        layer = self._stack.pop()
        self._members.remove(id(layer))
        self._undo(len(self._stack))
        return layer

    def _undo(self, count: int) -> None:
        """Leave no more than the first layers connected."""
        while len(self._chain) > count:
            forget(structure.flat(self._chain.pop())[0].node)

    def _push(self, layer: Any) -> None:
        if isinstance(layer, Tensor):
            if self._stack:
                raise GraphError(f"{self.name}: lh.Input(shape) comes first, before any layer")
            if layer.node.inputs:
                raise GraphError(f"{self.name}: a layer was expected, not {layer!r}, which one made; give the layer")
            self.inputs = [*self.inputs, layer]
        elif isinstance(layer, InputLayer):
            self._push(nodes_of(layer)[0].outputs[0] if nodes_of(layer) else Input(batch_shape=layer.full_shape))
        elif isinstance(layer, (Layer, Network)):
            if id(layer) in self._members:
                raise GraphError(f"{self.name} has the layer {layer.label!r} already; use a Model to share layers")
            if layer is self:
                raise GraphError(f"{self.name} cannot be a layer of itself")
            if not self._stack and not self.inputs:
                self.inputs = self._first_inputs(layer)
            self._stack.append(layer)
            self._members.add(id(layer))
        else:
            hint = " Give a layer, not its class: with () behind it." if isinstance(layer, type) else ""
            raise GraphError(f"{self.name}: a layer was expected, not {layer!r}.{hint}")

    @staticmethod
    def _first_inputs(layer: Any) -> list[Tensor]:
        """The inputs that a first layer brings with it."""
        if isinstance(layer, Network):
            return [Input(batch_shape=x.shape, dtype=x.dtype, name=x.node.layer.name) for x in layer.inputs]
        if layer.first_shape is None:
            return []
        kind = getattr(layer.inputs[0], "kind", "float")
        return [Input(batch_shape=layer.first_shape, dtype="int32" if kind == "int" else None)]

    def _rebuild(self, kept: int = 0) -> None:
        """Connect the layers behind the first ``kept`` ones anew; whatever they had of weights they keep."""
        self._undo(kept)
        if not self.inputs or not self._stack:
            inputs = self.inputs
            self._disconnect()
            self.inputs = inputs
            return
        start: Any = self.inputs
        if isinstance(self._stack[0], Network) and len(self.inputs) == len(self._stack[0].inputs):
            start = structure.packed(self._stack[0]._takes, self.inputs)
        start = structure.simplest(start)
        for layer in self._stack[len(self._chain) :]:
            x = layer(self._chain[-1] if self._chain else start)
            self._chain.append(x)
            if not isinstance(x, Tensor):
                raise GraphError(f"{self.name}: {layer.label!r} has several outputs; use a Model for that")
        self._connect(start, self._chain[-1])

    def build(self, input_shape: Any = None) -> None:
        """Say the input's shape, batch axis included; shapes, where the first layer takes several inputs."""
        if not self.inputs and input_shape is not None:
            self._see(structure.shapes(input_shape))

    def _see(self, data: Any) -> None:
        if self.inputs or not self._stack:
            return
        given = described(structure.simplest(data))
        self.inputs = structure.flat(symbols(given))
        try:
            with remembering(True):
                self._rebuild()
        except LayerHubError:
            self._undo(0)
            self._disconnect()
            raise

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
        while entries and entries[0]["class_name"] == "InputLayer":
            made.append(input_of(entries.pop(0)))
        if entries and not made:
            first = entries[0].get("config", {})
            shape = first.get("batch_input_shape") or config.get("build_input_shape")
            if shape is not None:
                kind = "int32" if entries[0]["class_name"] == "Embedding" else None
                made.append(Input(batch_shape=shape, dtype=kind))
        layers = [deserialize_layer(entry, custom_objects) for entry in entries]
        told: dict[str, Any] = {"seed": config.get("seed"), **options}
        return cls([*made, *layers], name=config.get("name"), **told)


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
    known = f"which has a class_name (one of {', '.join(sorted(MODELS))}) and a config"
    if not isinstance(text, (str, bytes)):
        raise ParameterError(f"a model's {form} is a text, {known}, not {text!r:.100}")
    try:
        entry = parse(text, "the text")
        known_kind(entry, objects), entry["config"]
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
    before = configuration._chosen.get("dtype_policy")
    if dtype is not None:
        configuration.set_dtype_policy(dtype)  # for layers that the class of a model makes itself
    try:
        return type(model).remade(config, model.build_config(), None, backend or model.backend, device, model.seed)
    finally:
        configuration.set_dtype_policy(before)


def _with_dtype(config: Any, dtype: str) -> Any:
    """A config with another type in all its layers, those inside of layers included; inputs keep theirs."""
    if isinstance(config, list):
        return [_with_dtype(part, dtype) for part in config]
    if not isinstance(config, Mapping) or config.get("class_name") == "InputLayer":
        return config
    return {key: dtype if key == "dtype" else _with_dtype(value, dtype) for key, value in config.items()}
