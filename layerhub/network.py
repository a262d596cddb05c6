"""Networks: a graph with its weights, bound to a backend. Models add training to it."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from layerhub import saving, scope, seeds
from layerhub.data import as_array
from layerhub.errors import (
    BackendError,
    DataError,
    FileFormatError,
    GraphError,
    LayerHubError,
    ParameterError,
    ShapeError,
    StateError,
    UnknownNameError,
    suggest,
)
from layerhub.execution import Executor, Program
from layerhub.graph import (
    Input,
    Node,
    Tensor,
    between,
    lower,
    nodes_of,
    placed_layers,
    set_all,
    unique_layers,
    unwrapped,
)
from layerhub.plan import Plan, Planner, Value
from layerhub.registry import registry
from layerhub.saving import dialect, masks
from layerhub.saving import text as configs
from layerhub.spec import KINDS
from layerhub.spec.axes import Shape
from layerhub.spec.base import snake_case
from layerhub.spec.core import InputLayer
from layerhub.spec.layer import Layer
from layerhub.variable import Places, Variable

_names: dict[str, int] = {}


def _flat(tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Mapping):
        return list(tensors.values())
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]


class Network:
    """A graph from inputs to outputs. It can be called like a layer, and then follows the model it is called in.

    backend, device: where it runs; resolved when it is first needed (see ``layerhub.scope``).
    seed: what initial weights, dropout and shuffles are drawn from; None takes the next one in order of making.
    raced: the report of the last race, a ``layerhub.racing.Race``.
    """

    states = 0
    raced: Any = None
    kinds: ClassVar[dict[str, type[Network]]] = {}

    def __init_subclass__(cls) -> None:
        Network.kinds[cls.__name__] = cls

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        backend: str | None = None,
        device: str | None = None,
        name: str | None = None,
        seed: int | None = None,
    ):
        self._begin(backend, device, name, seed)
        self._connect(_flat(inputs), _flat(outputs))

    def _begin(self, backend: str | None, device: str | None, name: str | None, seed: int | None) -> None:
        self._backend = scope.chosen(backend)
        self._device = registry().backend(self._backend).check_device(device)
        self.seed = seeds.next_seed() if seed is None else seed
        self.trainable_flag = True
        self._executor: Executor | None = None
        self._plans: dict[bool, Plan] = {}
        if name is None:
            stem = snake_case(type(self).__name__)
            count = _names.get(stem, 0)
            _names[stem] = count + 1
            name = f"{stem}_{count}" if count else stem
        self.name = name
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def _connect(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        wrong = next((x for x in (*inputs, *outputs) if not isinstance(x, Tensor)), None)
        if wrong is not None:
            raise GraphError(
                f"a model leads from symbolic tensors (lh.Input(shape)) to symbolic tensors, not {wrong!r}"
            )
        if len(set(map(id, inputs))) != len(inputs):
            raise GraphError("an input of the model is listed twice")
        layers = [x.node.layer for x in inputs] + unique_layers(between(inputs, outputs))
        names = [layer.label for layer in layers]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None:
            raise GraphError(f"two layers of {self.name} are called {twice!r}; give each a name of its own")
        self._check_sparse(inputs, self._backend)
        self.inputs, self.outputs = inputs, outputs
        for place, layer, shapes in placed_layers(inputs, outputs):
            layer.store.build(*shapes, seed=self.seed, place=place)
        self._unbind()

    @staticmethod
    def _check_sparse(inputs: Sequence[Tensor], backend: str) -> None:
        sparse = [x.name for x in inputs if x.node.layer.sparse]
        if sparse and not registry().backend(backend).has_sparse:
            raise BackendError(f"the input {sparse[0]!r} is sparse, and the backend {backend!r} has no sparse arrays")

    # Structure

    @property
    def layers(self) -> list[Any]:
        """All layers, inputs first, in the order in which they were called."""
        nodes = between(self.inputs, self.outputs)
        return [x.node.layer for x in self.inputs] + unique_layers(nodes)

    @property
    def label(self) -> str:
        """The name."""
        return self.name

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """A layer by its name or its index."""
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise UnknownNameError(f"{self.name} has {len(self.layers)} layers, none at index {index}")
            return self.layers[index]
        for layer in self.layers:
            if layer.label == name:
                return layer
        known = [layer.label for layer in self.layers]
        raise UnknownNameError(
            f"{self.name} has no layer {name!r}.{suggest(str(name), known)} It has: {', '.join(known)}"
        )

    @property
    def input_shape(self) -> Any:
        return unwrapped([x.shape for x in self.inputs])

    @property
    def output_shape(self) -> Any:
        return unwrapped([y.shape for y in self.outputs])

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that make the outputs."""
        return [y.node.layer.label for y in self.outputs]

    # As a layer in another model

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        """The outputs' shapes for inputs of these shapes."""
        for shape, x in zip(shapes, self.inputs, strict=True):
            fits = len(shape) == len(x.shape) and all(
                None in (a, b) or a == b for a, b in zip(shape, x.shape, strict=True)
            )
            if not fits:
                raise ShapeError(f"{self.name}: the input {x.name!r} has shape {shape}, {x.shape} was declared")
        planner = Planner(registry(), self._backend, False, 0, route="definition")
        values = [planner.input(shape, x.dtype) for shape, x in zip(shapes, self.inputs, strict=True)]
        return tuple(value.shape for value in self.lower(planner, values))

    def output_dtype(self, *dtypes: str) -> str:
        return self.outputs[0].dtype

    def lower(self, planner: Planner, values: Sequence[Value], prefix: str = "") -> list[Value]:
        """The steps of this graph within another plan."""
        return lower(planner, self.inputs, self.outputs, values, prefix)

    def __call__(self, *inputs: Any, training: bool = False) -> Any:
        """On symbolic tensors: a part of another model. On arrays: the outputs, as this model's native tensors."""
        several = len(inputs) == 1 and isinstance(inputs[0], (list, tuple))
        several = several and (len(self.inputs) > 1 or all(hasattr(x, "shape") for x in inputs[0]))
        flat = list(inputs[0]) if several else list(inputs)
        if all(isinstance(x, Tensor) for x in flat):
            if len(flat) != len(self.inputs):
                raise GraphError(f"{self.name} takes {len(self.inputs)} inputs, {len(flat)} were given")
            return unwrapped(Node(self, flat, ()).outputs)
        executor = self.executor
        arrays = []
        for x, declared in zip(self._checked_inputs(flat), self.inputs, strict=True):
            native = executor.backend.owns(x) and not isinstance(x, np.ndarray)
            arrays.append(x if native else executor.array(x, declared.dtype))
        executor.fresh()
        return unwrapped(self._run(executor, tuple(arrays), training))

    def _run(self, executor: Executor, inputs: tuple[Any, ...], training: bool) -> Sequence[Any]:
        """The outputs for native arrays; what a call moves is moved."""
        outputs, updates, _, _ = executor.forward(training)(executor.weights(), inputs, (), executor.step)
        executor.store(training, updates)
        return outputs

    # Weights

    @property
    def weights(self) -> list[Variable]:
        """All weights: layer by layer, each layer's trainable ones first."""
        placed = placed_layers(self.inputs, self.outputs)
        return [variable for _, layer, _ in placed for variable in _weights_of(layer)]

    @property
    def trainable_weights(self) -> list[Variable]:
        return [variable for variable in self.weights if variable.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        return [variable for variable in self.weights if not variable.trainable]

    @property
    def trainable(self) -> bool:
        """Whether training moves the weights; setting it sets it on every layer."""
        return self.trainable_flag

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.trainable_flag = bool(value)
        for layer in self.layers:
            layer.trainable = bool(value)

    def get_weights(self) -> list[np.ndarray]:
        """The values of all weights, as ndarrays."""
        return [variable.numpy() for variable in self.weights]

    def set_weights(self, values: Sequence[Any]) -> None:
        """Give all weights new values; an error changes nothing."""
        set_all(self.weights, values, self.name)

    def reset_states(self) -> None:
        """Begin anew: what stateful layers keep from batch to batch becomes zeros."""
        for _, layer, _ in placed_layers(self.inputs, self.outputs):
            layer.reset_state()

    def count_params(self) -> int:
        """The number of elements of all weights."""
        return sum(int(np.prod(variable.shape)) for variable in self.weights)

    # Binding

    def plan(self, training: bool) -> Plan:
        """The plan on the model's backend."""
        if training not in self._plans:
            planner = Planner(registry(), self._backend, training, self.seed)
            values = [planner.input(x.shape, x.dtype) for x in self.inputs]
            self._plans[training] = planner.plan(self.lower(planner, values))
        return self._plans[training]

    def _variables(self) -> list[Variable]:
        stores: dict[int, dict[str, Variable]] = {}
        for slot in self.plan(False).slots:
            stores.setdefault(id(slot.layer), slot.layer.store.by_name())
        return [stores[id(slot.layer)][slot.spec.name] for slot in self.plan(False).slots]

    def _program(self) -> Program:
        return Program(registry(), self.plan, self._variables())

    @property
    def executor(self) -> Executor:
        """What runs the model; made when it is first needed."""
        self._check_complete()
        if self._executor is None:
            backend = registry().backend(self._backend)
            self._check_served(backend)
            self._executor = backend.executor(self._program(), self._device)
        return self._executor

    def _check_complete(self) -> None:
        """Raise StateError before the graph leads from inputs to outputs."""
        if not self.outputs:
            what = "no layers" if self.inputs else "no input shape yet: begin it with lh.Input(shape), or give it data"
            raise StateError(f"{self.name} has {what}")

    def _check_served(self, backend: Any) -> None:
        """Raise BackendError for a layer that the backend lacks, or that computes in a type that it has not."""
        for layer in self.layers:
            backend.check_serves(type(layer).__name__)
        for step in self.plan(False).steps:
            layer = step.target
            backend.check_serves(type(layer).__name__)
            if isinstance(layer, Layer) and layer.compute_dtype not in backend.dtypes:
                raise BackendError(
                    f"{self.name}: {layer.label} computes in {layer.compute_dtype} (dtype={layer.dtype!r}), which the "
                    f"backend {backend.name!r} has not; its float types: {', '.join(backend.dtypes)}"
                )

    def _unbind(self) -> None:
        self._plans, self._executor = {}, None

    @property
    def backend(self) -> str:
        """The name of the backend that the model runs on."""
        return self._backend

    @property
    def device(self) -> str:
        """The device that the model runs on."""
        return self._device

    @property
    def native(self) -> Any:
        """The backend's own object for this model: an nn.Module, a tf.Module, a function of arrays."""
        self.executor.fresh()
        return self.executor.native

    def to(self, backend: str | None = None, device: Any = None, **race: Any) -> Any:
        """Move to another backend or device, in place, with everything that training keeps. Returns the model.

        ``to("fastest", x, y=None, training=False, budget=30, backends=None, devices=None)`` times steps on all of them
        and moves to the fastest; the arguments are those of ``lh.race``, whose report is then in ``model.raced``.
        Raises BackendError where the target is not there, lacks something that the model needs, or fails while it is
        given the weights; then the model is what and where it was.
        """
        if backend == "fastest":
            return self._to_fastest(*([] if device is None else [device]), **race)
        if race:
            raise ParameterError(f"to: {', '.join(race)} belong to a race: model.to('fastest', x, …)")
        name = backend or self._backend
        target = registry().backend(name)
        device = target.check_device(device)
        self._check_sparse(self.inputs, name)
        if (name, device) == (self._backend, self._device):
            return self
        before, plans, home = self._executor, self._plans, (self._backend, self._device)
        places: Places | None = None
        self._backend, self._device = name, device
        self._unbind()
        try:
            if self.outputs:  # a model without them is moved by its name alone
                self._check_served(target)
                variables = self._variables()
                places = Places(variables)
                if before is not None:
                    self._carry(before, self.executor)
                elif any(variable.placed for variable in variables):
                    self._executor = target.executor(self._program(), device)
        except BaseException as problem:
            (self._backend, self._device), self._plans, self._executor = home, plans, before
            if places is not None:
                places.restore()
            if isinstance(problem, LayerHubError) or not isinstance(problem, Exception):
                raise
            raise BackendError(
                f"{self.name} cannot be moved to the backend {name!r} on {device!r} ({type(problem).__name__}: "
                f"{problem}); it is still on {home[0]!r} on {home[1]!r}, and whole"
            ) from problem
        return self

    def _to_fastest(self, *data: Any, **options: Any) -> Any:
        # What races models stands above them.
        from layerhub.racing import race

        self.raced = race(self, *data, **options)
        return self.to(self.raced.winner.backend, self.raced.winner.device)

    def _carry(self, before: Executor, after: Executor) -> None:
        """Hand over what training keeps."""
        after.step = before.step

    # Data

    @property
    def batch_size(self) -> int | None:
        """How many samples a batch has, where an input declares it."""
        return next((x.shape[0] for x in self.inputs if x.shape and x.shape[0] is not None), None)

    def _checked_inputs(self, arrays: Sequence[Any], batch: bool = True) -> list[Any]:
        """Inputs against what the model declares. batch: they are one batch, not to be cut. Raises DataError."""
        if len(arrays) != len(self.inputs):
            raise DataError(f"{self.name} takes {len(self.inputs)} inputs, {len(arrays)} were given")
        checked = []
        for x, declared in zip(arrays, self.inputs, strict=True):
            if not hasattr(x, "shape"):
                x = as_array(x)
            shape = tuple(x.shape)
            wanted = declared.shape if batch else (None, *declared.shape[1:])
            fits = len(shape) == len(wanted) and all(w in (None, s) for w, s in zip(wanted, shape, strict=True))
            if not fits and len(shape) + 1 == len(wanted) and wanted[-1] == 1 and isinstance(x, np.ndarray):
                x, fits = x[..., None], True  # one feature may be left unsaid
            if not fits:
                raise DataError(f"{self.name}: the input {declared.name!r} has shape {shape}, {wanted} was declared")
            if isinstance(x, np.ndarray) and x.dtype.kind not in "fiub":
                raise DataError(f"{self.name}: the input {declared.name!r} has type {x.dtype}; numbers were expected")
            checked.append(x)
        for index, layer in self.plan(False).checks:
            if isinstance(checked[index], np.ndarray) and checked[index].size:
                layer.check_input(checked[index])
        return checked

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a ``.keras`` archive: its graph, its weights, how it was compiled, where training stands.

        What was at ``path`` before stays there until the new file is whole. Keras 3 opens it, too. With the suffix
        ``.h5`` or ``.hdf5`` the file is in Keras 2's layout.
        """
        self._check_complete()
        saving.save_model(self, serialize_whole(self), path)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights alone: to ``.weights.h5``, in Keras 3's layout, to ``.safetensors``, or to ``.h5``."""
        self._check_complete()
        saving.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str], by_name: bool = False, skip_mismatch: bool = False) -> None:
        """Take the weights that a file holds; its content says of which kind it is, not its name.

        by_name: take those of layers whose names the file has, and leave the others as they are. skip_mismatch: leave
        layers as they are whose weights do not fit, with a warning. Both are for files in Keras 2's layout.
        Raises FileFormatError for a file that is damaged or of another kind, and WeightsError where its weights do not
        fit; then nothing is changed.
        """
        self._check_complete()
        saving.load_weights(self, path, by_name, skip_mismatch)

    def export(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the model, as it predicts, in a format for other programs; the path's suffix says in which.

        options: those of the plugin that writes the format. What was at ``path`` before stays there until the new file
        is whole. Raises BackendError where no plugin writes such files, and ParameterError for an option that is none.
        """
        self._check_complete()
        suffix = Path(path).suffix
        write = registry().exporter(suffix)
        known = list(inspect.signature(write).parameters)[2:]
        wrong = next((name for name in options if name not in known), None)
        if wrong is not None:
            raise ParameterError(
                f"{self.name}: {suffix!r} files have no option {wrong!r}.{suggest(wrong, known)} "
                f"Their options: {', '.join(known)}"
            )
        with saving.files.replacing(path) as file:
            write(self, file, **options)

    # Description

    def get_config(self) -> dict[str, Any]:
        """The graph as Keras 3 writes it; ``from_config`` turns it back into a model (without weights)."""
        nodes = between(self.inputs, self.outputs)
        listed = [x.node for x in self.inputs] + nodes
        keys: dict[Tensor, dialect.Key] = {}
        calls: dict[Any, list[Any]] = {node.layer: [] for node in listed}
        counts: dict[Any, int] = {}
        for node in listed:
            number = counts.get(node.layer, 0)
            counts[node.layer] = number + 1
            if node.inputs:
                calls[node.layer].append(dialect.call_of(node, keys))
            keys.update({y: dialect.Key(node.layer.label, number, k) for k, y in enumerate(node.outputs)})
        entries = []
        for layer, made in calls.items():
            entry = serialize_layer(layer)
            for option in dialect.options_of(layer):  # said at each call
                del entry["config"][option]
            entries.append(entry | {"name": layer.label, "inbound_nodes": made})
        return {
            "name": self.name,
            "seed": self.seed,
            "layers": entries,
            "input_layers": unwrapped([list(keys[x]) for x in self.inputs]),
            "output_layers": unwrapped([list(self._as_output(keys[y], y)) for y in self.outputs]),
        }

    @staticmethod
    def _as_output(key: dialect.Key, y: Tensor) -> dialect.Key:
        # Keras counts a graph's own making as its first call, where it says what a model's outputs are.
        return key._replace(call=key.call + 1) if _is_graph(y.node.layer) else key

    def to_json(self, **options: Any) -> str:
        """The configuration as JSON text; ``lh.models.model_from_json`` reads it. options: those of ``json.dumps``."""
        return json.dumps(serialize_whole(self), **options)

    def to_yaml(self, **options: Any) -> str:
        """The configuration as YAML text; ``lh.models.model_from_yaml`` reads it. options: those of ``yaml.dump``.

        Needs PyYAML.
        """
        return configs.to_yaml(serialize_whole(self), **options)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """The model that a config describes, with fresh weights.

        custom_objects: classes and functions by the names that the config has for them. options: backend, device, seed.
        Raises FileFormatError, GraphError and UnknownNameError.
        """
        entries = [_named(entry) for entry in config["layers"]]
        old = any(isinstance(node, list) for entry in entries for node in entry.get("inbound_nodes") or ())
        graphs = {entry["name"]: 1 for entry in entries if "layers" in entry["config"]}
        listed = {entry["name"]: dialect.calls_in(entry, graphs if old else {}) for entry in entries}
        kept, listed = masks.implied(entries, listed, dialect.keys_in(config["output_layers"]))
        layers = {entry["name"]: deserialize_layer(entry, custom_objects) for entry in kept}
        made = {
            dialect.Key(entry["name"], 0, 0): input_of(entry) for entry in kept if entry["class_name"] == "InputLayer"
        }
        _call(layers, listed, made, str(config.get("name")))

        def tensors(structure: Any) -> list[Tensor]:
            found = []
            for key in dialect.keys_in(structure):
                graph = key.layer in graphs and (old or _is_graph(layers.get(key.layer)))
                key = key._replace(call=key.call - 1) if graph else key
                if key not in made:
                    raise GraphError(f"the config of {config.get('name')} has no call {key.call} of {key.layer!r}")
                found.append(made[key])
            return found

        inputs, outputs = tensors(config["input_layers"]), tensors(config["output_layers"])
        return cls(inputs, outputs, name=config.get("name"), **{"seed": config.get("seed")} | options)

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print the layers: output shapes, parameters, what each is connected to, and what serves it on the backend.

        line_length: characters of a line; None takes the terminal's, and in a pipe what the table needs. positions:
        where columns end, in characters or as shares of the line, one number for each; the last may be left out.
        print_fn: gets the text, in place of the terminal. expand_nested: also the layers of nested models.
        show_trainable: also whether training moves a layer's weights. layer_range: the names of the first and the last
        layer to print, or regular expressions for them.
        Raises StateError before the model leads from inputs to outputs, ParameterError for what cannot be meant.
        """
        self._check_complete()
        from layerhub.visual.summary import print_summary

        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} on {self._backend}: {self.input_shape} -> {self.output_shape}>"


def _weights_of(layer: Layer) -> list[Variable]:
    return layer.store.variables if layer.held else []


def serialize_layer(layer: Any) -> dict[str, Any]:
    """A layer or a nested model as JSON can hold it, as Keras 3 writes it."""
    if isinstance(layer, Network):
        return serialize_model(layer)
    if isinstance(layer, InputLayer):
        dtype = nodes_of(layer)[0].outputs[0].dtype if nodes_of(layer) else layer.dtype
        shape = {"batch_shape": list(layer.full_shape), "dtype": dtype, "sparse": layer.sparse}
        return dialect.entry_of(InputLayer, shape | {"name": layer.label})
    written = dialect.described(layer)
    written["config"]["name"] = layer.label
    return written


def serialize_model(model: Network) -> dict[str, Any]:
    """A model as Keras 3 writes it; its seed, which Keras has not, stands beside its config."""
    config = model.get_config()
    seed = config.pop("seed")
    entry = {"module": "keras", "class_name": type(model).__name__, "config": config, "registered_name": None}
    return entry | {"seed": seed}


def serialize_whole(model: Network) -> dict[str, Any]:
    """A model as Keras 3 writes it, with a number on each layer that several of its nested models share."""
    entry = serialize_model(model)
    places: dict[Any, list[dict[str, Any]]] = {}

    def walk(network: Network, entry: Mapping[str, Any]) -> None:
        layers = network.layers
        # The config of a Sequential begins with its input, which is none of its layers.
        for layer, part in zip(layers, entry["config"]["layers"][-len(layers) :], strict=True):
            places.setdefault(layer, []).append(part)
            if isinstance(layer, Network):
                walk(layer, part)

    walk(model, entry)
    for number, parts in enumerate(parts for parts in places.values() if len(parts) > 1):
        for part in parts:
            part["shared_object_id"] = number
    return entry


_shared: ContextVar[dict[int, Any] | None] = ContextVar("shared", default=None)
"""Layers by their numbers, while a whole model is made."""


def deserialize_whole(entry: Mapping[str, Any], objects: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """The model that an entry describes; see ``serialize_whole``. options: backend, device.

    Raises FileFormatError for what describes none, GraphError and UnknownNameError.
    """
    seed = entry.get("seed")
    token = _shared.set({})
    try:
        kind = model_kind(entry["class_name"])
        return kind.from_config(entry["config"], objects, seed=seed if isinstance(seed, int) else None, **options)
    except LayerHubError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as problem:
        raise FileFormatError(f"the config describes no model: {problem!r}") from problem
    finally:
        _shared.reset(token)


def deserialize_layer(entry: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The layer or nested model that a config describes.

    custom_objects: classes and functions by the names that the config has for them. Raises UnknownNameError for what
    is not known, and ParameterError for what describes no layer.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str):
        raise ParameterError(f"a layer's config is {{'class_name': …, 'config': …}}, not {entry!r}")
    shared, number = _shared.get(), entry.get("shared_object_id")
    if shared is None or number is None:
        return _deserialized(entry, custom_objects or {})
    if number not in shared:
        shared[number] = _deserialized(entry, custom_objects or {})
    return shared[number]


def _deserialized(entry: Mapping[str, Any], objects: Mapping[str, Any]) -> Any:
    name, config = entry["class_name"], entry.get("config") or {}
    if "layers" in config:
        return model_kind(name).from_config(config, objects, seed=entry.get("seed"))
    if name == "InputLayer":
        known = ("shape", "batch_shape", "batch_size", "sparse", "name")
        shape = config.get("batch_input_shape", config.get("batch_shape"))
        config = {k: v for k, v in config.items() if k in known} | {"batch_shape": shape}
    made = dialect.revived({"class_name": name, **entry, "config": config}, objects)
    if isinstance(made, Layer):
        return made
    return KINDS["layer"].find(name).from_config(made["config"])


def model_kind(name: str) -> type[Network]:
    """The class of models that a config calls so. Raises UnknownNameError."""
    name = "Model" if name == "Functional" else name
    if name not in Network.kinds:
        raise UnknownNameError(f"no model is called {name!r}.{suggest(name, Network.kinds)}")
    return Network.kinds[name]


def input_of(entry: Mapping[str, Any]) -> Tensor:
    """The input that an InputLayer's entry describes."""
    layer, config = deserialize_layer(entry), entry["config"]
    return Input(batch_shape=layer.full_shape, dtype=config.get("dtype"), sparse=layer.sparse, name=config.get("name"))


def _is_graph(layer: Any) -> bool:
    """Whether Keras takes a layer for a graph: models are, that are no stack of layers."""
    return isinstance(layer, Network) and not isinstance(layer, Network.kinds["Sequential"])


def _call(
    layers: Mapping[str, Any], calls: Mapping[str, Sequence[dialect.Call]], made: dict[dialect.Key, Tensor], name: str
) -> None:
    """Call the layers of the graph ``name`` as listed, each as soon as what it takes is made, into ``made``."""
    waiting = [(layer, number, call) for layer, of in calls.items() for number, call in enumerate(of)]
    while waiting:
        left: list[tuple[str, int, dialect.Call]] = []
        for layer, number, call in waiting:
            if any(other[0] == layer for other in left) or not call.keys <= made.keys():
                left.append((layer, number, call))
                continue
            args, kwargs = call.given(made)
            outputs = layers[layer](*args, **kwargs)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            made.update({dialect.Key(layer, number, k): y for k, y in enumerate(outputs)})
        if len(left) == len(waiting):
            raise GraphError(f"the config of {name} has a cycle, or speaks of a layer that it lacks")
        waiting = left


def _named(entry: Any) -> dict[str, Any]:
    """A layer's entry in the config of a graph, which has a name. Raises FileFormatError."""
    if isinstance(entry, Mapping) and isinstance(entry.get("config"), Mapping):
        name = entry.get("name", entry["config"].get("name"))
        if isinstance(name, str) and isinstance(entry.get("class_name"), str):
            return {**entry, "name": name}
    raise FileFormatError(f"a layer of a model is {{'class_name': …, 'name': …, 'config': …}}, not {entry!r:.200}")
