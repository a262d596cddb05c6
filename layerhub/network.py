"""Networks: a graph with its weights, bound to a backend. Models add training to it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from layerhub import scope, seeds
from layerhub.data import as_array
from layerhub.errors import (
    BackendError,
    DataError,
    GraphError,
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
from layerhub.spec import KINDS
from layerhub.spec.axes import Shape
from layerhub.spec.base import serialize, snake_case
from layerhub.spec.core import InputLayer
from layerhub.spec.layer import Layer
from layerhub.variable import Variable

_names: dict[str, int] = {}


def _flat(tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Mapping):
        return list(tensors.values())
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]


class Network:
    """A graph from inputs to outputs. It can be called like a layer, and then follows the model it is called in.

    backend, device: where it runs; resolved when it is first needed (see ``layerhub.scope``).
    seed: what initial weights, dropout and shuffles are drawn from; None takes the next one in order of making.
    """

    states = 0
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
        plan = self.plan(training)
        outputs, updates, _, _ = executor.forward(training)(executor.weights(), tuple(arrays), (), executor.step)
        for index, value in zip(plan.updated, updates, strict=True):
            executor.backend.assign(executor.handles[index], value)
        return unwrapped(outputs)

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
            self._check_types(backend)
            self._executor = backend.executor(self._program(), self._device)
        return self._executor

    def _check_complete(self) -> None:
        """Raise StateError before the graph leads from inputs to outputs."""
        if not self.outputs:
            what = "no layers" if self.inputs else "no input shape yet: begin it with lh.Input(shape), or give it data"
            raise StateError(f"{self.name} has {what}")

    def _check_types(self, backend: Any) -> None:
        """Raise BackendError where a layer computes in a type that the backend has not."""
        for step in self.plan(False).steps:
            layer = step.target
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

    def to(self, backend: str | None = None, device: str | None = None) -> Any:
        """Move to another backend or device, in place, with everything that training keeps. Returns the model."""
        name = backend or self._backend
        target = registry().backend(name)
        device = target.check_device(device)
        self._check_sparse(self.inputs, name)
        if (name, device) == (self._backend, self._device):
            return self
        before = self._executor
        self._backend, self._device = name, device
        self._unbind()
        if before is not None:
            self._carry(before, self.executor)
        return self

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

    # Description

    def get_config(self) -> dict[str, Any]:
        """The graph as JSON can hold it; ``from_config`` turns it back into a model (without weights)."""
        nodes = between(self.inputs, self.outputs)
        listed = [x.node for x in self.inputs] + nodes
        layers = list(dict.fromkeys(node.layer for node in listed))
        keys: dict[Tensor, list[Any]] = {}
        counts: dict[Any, int] = {}
        calls: dict[Any, list[Any]] = {layer: [] for layer in layers}
        for node in listed:
            number = counts.get(node.layer, 0)
            counts[node.layer] = number + 1
            calls[node.layer].append(
                {
                    "inputs": [None if x is None else keys[x] for x in node.inputs],
                    "initial_state": [keys[x] for x in node.states],
                }
                | ({"options": node.options} if node.options else {})
            )
            for k, y in enumerate(node.outputs):
                keys[y] = [node.layer.label, number, k]
        return {
            "name": self.name,
            "seed": self.seed,
            "layers": [
                serialize_layer(layer)
                | {"name": layer.label, "calls": calls[layer] if not isinstance(layer, InputLayer) else []}
                for layer in layers
            ],
            "input_layers": [keys[x] for x in self.inputs],
            "output_layers": [keys[y] for y in self.outputs],
        }

    def to_json(self, **options: Any) -> str:
        """The configuration as JSON text; ``lh.models.model_from_json`` reads it. options: those of ``json.dumps``."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **options)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> Any:
        """The model that a config describes, with fresh weights. options: backend, device, seed."""
        made: dict[tuple, Tensor] = {}
        layers = {entry["name"]: deserialize_layer(entry) for entry in config["layers"]}
        waiting = []
        for entry in config["layers"]:
            if entry["class_name"] == "InputLayer":
                layer = layers[entry["name"]]
                made[entry["name"], 0, 0] = Input(
                    batch_shape=layer.full_shape,
                    dtype=entry["config"].get("dtype"),
                    sparse=layer.sparse,
                    name=entry["name"],
                )
            waiting += [(entry["name"], number, call) for number, call in enumerate(entry["calls"])]
        while waiting:
            left: list[Any] = []
            for name, number, call in waiting:
                wanted = [tuple(key) for key in (*call["inputs"], *call["initial_state"]) if key is not None]
                before_me = any(other[0] == name for other in left)
                if before_me or any(key not in made for key in wanted):
                    left.append((name, number, call))
                    continue
                given = [None if key is None else made[tuple(key)] for key in call["inputs"]]
                states = [made[tuple(key)] for key in call["initial_state"]]
                extras = {**call.get("options", {}), **({"initial_state": states} if states else {})}
                outputs = layers[name](given if len(given) > 1 else given[0], **extras)
                outputs = outputs if isinstance(outputs, list) else [outputs]
                made.update({(name, number, k): y for k, y in enumerate(outputs)})
            if len(left) == len(waiting):
                raise GraphError(f"the config of {config.get('name')} has a cycle, or speaks of a layer that it lacks")
            waiting = left
        inputs = [made[tuple(key)] for key in config["input_layers"]]
        outputs = [made[tuple(key)] for key in config["output_layers"]]
        return cls(inputs, outputs, name=config.get("name"), **{"seed": config.get("seed")} | options)

    def summary(self, line_length: int | None = None, print_fn: Any = None) -> None:
        """Print the layers: output shape, parameters, what each is connected to, and the route that serves it."""
        self._check_complete()
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"{self.name} on {self.backend} ({self.device})")
        for column, side in (
            ("Layer", "left"),
            ("Output shape", "left"),
            ("Params", "right"),
            ("Connected to", "left"),
        ):
            table.add_column(column, justify=side)  # type: ignore[arg-type]
        table.add_column("Route")
        routes = {id(step.target): step.route for step in self.plan(False).steps if step.target is not None}
        for layer in self.layers:
            nodes = nodes_of(layer)
            node = nodes[0]
            shapes = ", ".join(str(y.shape) for y in node.outputs)
            params = layer.count_params() if not isinstance(layer, Layer) or layer.held else 0
            came = ", ".join(x.name for node in nodes for x in node.inputs)
            route = routes.get(id(layer), "parts" if getattr(layer, "held", None) else "")
            table.add_row(f"{layer.label} ({type(layer).__name__})", shapes, f"{params:,}", came, route)
        moved = sum(int(np.prod(v.shape)) for v in self.trainable_weights)
        total = self.count_params()
        target = io.StringIO() if print_fn else None
        console = Console(file=target, width=line_length)
        console.print(table)
        console.print(f"Parameters: {total:,} ({moved:,} trainable, {total - moved:,} not)")
        if print_fn:
            print_fn(target.getvalue())  # type: ignore[union-attr]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} on {self._backend}: {self.input_shape} -> {self.output_shape}>"


def _weights_of(layer: Layer) -> list[Variable]:
    return layer.store.variables if layer.held else []


def serialize_layer(layer: Any) -> dict[str, Any]:
    """A layer or a nested model as JSON can hold it."""
    if isinstance(layer, Network):
        return {"class_name": type(layer).__name__, "config": layer.get_config()}
    if isinstance(layer, InputLayer):
        dtype = nodes_of(layer)[0].outputs[0].dtype if nodes_of(layer) else layer.dtype
        shape = {"batch_shape": list(layer.full_shape), "dtype": dtype, "sparse": layer.sparse}
        return {"class_name": "InputLayer", "config": shape | {"name": layer.label}}
    written = serialize(layer)
    written["config"]["name"] = layer.label
    return written


def deserialize_layer(entry: Mapping[str, Any]) -> Any:
    """The layer or nested model that a config describes."""
    if not isinstance(entry, Mapping) or "class_name" not in entry:
        raise ParameterError(f"a layer's config is {{'class_name': …, 'config': …}}, not {entry!r}")
    config = dict(entry.get("config", {}))
    if "layers" in config:
        if entry["class_name"] not in Network.kinds:
            raise UnknownNameError(
                f"no model is called {entry['class_name']!r}.{suggest(entry['class_name'], Network.kinds)}"
            )
        return Network.kinds[entry["class_name"]].from_config(config)
    if entry["class_name"] == "InputLayer":
        config = {k: v for k, v in config.items() if k in ("shape", "batch_shape", "batch_size", "sparse", "name")}
    return KINDS["layer"].find(entry["class_name"]).from_config(config)
