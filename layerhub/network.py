"""Networks: a graph with its weights, bound to a backend. Models add files and training to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerhub import scope, seeds, structure
from layerhub.data import as_array
from layerhub.errors import (
    BackendError,
    DataError,
    GraphError,
    LayerHubError,
    NodeError,
    ParameterError,
    ShapeError,
    StateError,
    UnknownNameError,
    suggest,
)
from layerhub.execution import Executor, Program
from layerhub.graph import (
    Graph,
    Input,
    MaskOf,
    Node,
    Tensor,
    between,
    mask_of,
    node_at,
    nodes_of,
    remembering,
    set_all,
    unwrapped,
)
from layerhub.operation import Operation
from layerhub.plan import Plan, Planner, Value
from layerhub.registry import registry
from layerhub.spec.axes import Shape
from layerhub.spec.base import snake_case
from layerhub.spec.layer import Layer
from layerhub.variable import Places, Variable

_names: dict[str, int] = {}


class Network:
    """A graph from inputs to outputs. It can be called like a layer, and then follows the model it is called in.

    backend, device: where it runs; resolved when it is first needed (see ``layerhub.scope``).
    seed: what initial weights, dropout and shuffles are drawn from; None takes the next one in order of making.
    raced: the report of the last race, a ``layerhub.racing.Race``.
    """

    states = 0
    raced: Any = None

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        backend: str | None = None,
        device: str | None = None,
        name: str | None = None,
        seed: int | None = None,
        trainable: bool = True,
    ):
        self._begin(backend, device, name, seed)
        self._connect(inputs, outputs)
        if not trainable:
            self.trainable = False

    def _begin(self, backend: str | None, device: str | None, name: str | None, seed: int | None) -> None:
        self._backend = scope.chosen(backend)
        self._device = registry().backend(self._backend).check_device(device)
        self._seeded, self._place = seed is not None, ""
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
        self._disconnect()

    def _disconnect(self) -> None:
        """Without a graph, as long as the input's shape is not known."""
        self.graph = Graph([], [])
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self._takes: Any = []
        self._gives: Any = []
        self._unbind()

    def _connect(self, inputs: Any, outputs: Any, trained: Any = None, members: Sequence[Any] | None = None) -> None:
        """Take a graph for one's own. inputs, outputs: structures of tensors. trained, members: see ``Graph``.

        Raises GraphError, and WeightsError where a layer is used for inputs that need other weights.
        """
        given, made = structure.flat(inputs), structure.flat(outputs)
        wrong = next((x for x in (*given, *made) if not isinstance(x, Tensor)), None)
        if wrong is not None or not given or not made:
            what = "nothing" if wrong is None else repr(wrong)
            raise GraphError(f"a model leads from symbolic tensors (lh.Input(shape)) to symbolic tensors, not {what}")
        twice = next((x for x in given if sum(x is y for y in given) > 1), None)
        if twice is not None:
            raise GraphError(f"an input of the model is listed twice: {twice!r}")
        if any(x.node.inputs for x in given):
            given, made = _cut(given, made)
        graph = Graph(given, made, None if trained is None else structure.flat(trained), members)
        # The config of a subclass does not name its layers.
        layers = [x.node.layer for x in given] + graph.layers if members is None else []
        names = [layer.label for layer in layers]
        same = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if same is not None:
            raise GraphError(f"two layers of {self.name} are called {same!r}; give each a name of its own")
        self._check_sparse(given, self._backend)
        for place, layer, shapes in graph.placed(self._place):
            layer.store.build(*shapes, seed=self.seed, place=place)
        for node in graph.nodes:
            if isinstance(node.layer, Layer) and node.layer.held:
                node.layer.store.build(*(None if x is None else x.shape for x in node.inputs))
        self.graph, self.inputs, self.outputs = graph, given, made
        self._takes = structure.simplest(structure.packed(inputs, given))
        self._gives = structure.simplest(structure.packed(outputs, made))
        self._unbind()

    @staticmethod
    def _check_sparse(inputs: Sequence[Tensor], backend: str) -> None:
        sparse = [x.name for x in inputs if x.node.layer.sparse]
        if sparse and not registry().backend(backend).has_sparse:
            raise BackendError(f"the input {sparse[0]!r} is sparse, and the backend {backend!r} has no sparse arrays")

    # Structure

    @property
    def layers(self) -> list[Any]:
        """All layers, inputs first, in the order in which they were called; operations on tensors are none."""
        found = [x.node.layer for x in self.inputs] + self.graph.layers
        return [layer for layer in found if not isinstance(layer, Operation | MaskOf)]

    @property
    def operations(self) -> list[Any]:
        """All layers, inputs first, and all operations on tensors."""
        return [x.node.layer for x in self.inputs] + self.graph.layers

    @property
    def label(self) -> str:
        """The name."""
        return self.name

    @property
    def built(self) -> bool:
        """Whether the graph leads from inputs to outputs, so that there are weights."""
        return bool(self.outputs)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """A layer by its name or its index."""
        if (name is None) == (index is None):
            raise ParameterError(f"{self.name}.get_layer takes a name or an index, one of them")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise UnknownNameError(f"{self.name} has {len(self.layers)} layers, none at index {index}")
            return self.layers[index]
        for layer in self.operations:
            if layer.label == name:
                return layer
        known = [layer.label for layer in self.layers]
        raise UnknownNameError(
            f"{self.name} has no layer {name!r}.{suggest(str(name), known)} It has: {', '.join(known)}"
        )

    @property
    def input(self) -> Any:
        """The symbolic input, or inputs, in the structure that they were given in."""
        return self._at("input", 0)

    @property
    def output(self) -> Any:
        """The symbolic output, or outputs."""
        return self._at("output", 0)

    @property
    def input_shape(self) -> Any:
        """The shape of the input; shapes, where there are several."""
        return self._at("input_shape", 0) if self.inputs else None

    @property
    def output_shape(self) -> Any:
        """The shape of the output; shapes, where there are several."""
        return self._at("output_shape", 0) if self.outputs else None

    @property
    def output_mask(self) -> Any:
        """The mask that the output brings, as a symbolic tensor; None where it brings none."""
        return self._at("output_mask", 0)

    def get_input_at(self, node_index: int) -> Any:
        """The input of a call, by its number; that of the model itself has the number 0."""
        return self._at("input", node_index)

    def get_output_at(self, node_index: int) -> Any:
        """The output of a call."""
        return self._at("output", node_index)

    def get_input_shape_at(self, node_index: int) -> Any:
        """The shape of the input of a call."""
        return self._at("input_shape", node_index)

    def get_output_shape_at(self, node_index: int) -> Any:
        """The shape of the output of a call."""
        return self._at("output_shape", node_index)

    def _at(self, what: str, index: int) -> Any:
        if not self.outputs:
            raise NodeError(f"{self.name} has no {what} yet: build(input_shape) it, call it, or give it data")
        own = (self.inputs, self.outputs)
        calls = [own, *((node.inputs, node.outputs) for node in nodes_of(self))]
        given, made = node_at(self, calls, what, index)
        row, like = (given, self._takes) if what.startswith("input") else (made, self._gives)
        if what.endswith("shape"):
            row = [x.shape for x in row]
        elif what.endswith("mask"):
            row = [mask_of(x) for x in row]
        return structure.packed(like, row)

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs."""
        return [x.name for x in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs: their keys, where they are in a dict; else those of the layers that make them."""
        if isinstance(self._gives, Mapping):
            return structure.paths(self._gives)
        return [y.node.layer.label for y in self.outputs]

    def packed(self, outputs: Sequence[Any]) -> Any:
        """The outputs, given in a row, in the structure in which the model has them.

        Others than these, which a step of the user's own made, stay in their row.
        """
        if len(outputs) != len(self.outputs):
            return unwrapped(list(outputs))
        return structure.packed(self._gives, outputs)

    def packed_inputs(self, inputs: Sequence[Any]) -> Any:
        """The inputs, given in a row, in the structure in which the model takes them."""
        return structure.packed(self._takes, inputs)

    def arranged(self, data: Any) -> list[Any]:
        """Data for the inputs in a row: from one array, a structure like that of the inputs, or a dict by name."""
        if data is not None:
            self._see(data)
        return structure.arranged(data, self._takes, self.input_names)

    def arranged_outputs(self, data: Any, partial: bool = False) -> list[Any]:
        """What belongs to the outputs (targets, sample weights) in a row. partial: a dict may leave some out."""
        return structure.arranged(data, self._gives, self.output_names, partial)

    def _see(self, data: Any) -> None:
        """A chance to learn the shapes of inputs from the first data, or from the first tensors."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if "_backend" not in self.__dict__:
            raise StateError(
                f"{type(self).__name__}.__init__ must call super().__init__() first, before it sets or uses anything"
            )
        declared = getattr(type(self), name, None)
        if isinstance(declared, property):  # what its function raised was an AttributeError: let that be seen
            return declared.fget(self)  # type: ignore[misc]
        raise UnknownNameError(f"{type(self).__name__} has no attribute {name!r}.{suggest(name, dir(self))}")

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

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The output's shape for an input of this shape, batch axis included; structures, where there are several."""
        row = self.arranged(structure.shapes(input_shape))
        if len(row) != len(self.inputs):
            raise ShapeError(f"{self.name} takes {len(self.inputs)} inputs, {len(row)} shapes were given")
        return self.packed(self.output_shapes(*(x.shape for x in row)))

    def lower(self, planner: Planner, values: Sequence[Value], prefix: str = "") -> list[Value]:
        """The steps of this graph within another plan."""
        return self.graph.lower(planner, values, prefix)

    def __call__(self, *inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """On symbolic tensors: a part of another model. On arrays: the outputs, as this model's native tensors.

        training: the mode of this call; None: that of the model that it is a part of. mask: of the input, or one for
        each, where it is called on symbolic tensors; None: the masks that they bring.
        """
        data = inputs[0] if len(inputs) == 1 else inputs
        if any(isinstance(x, Tensor) for x in structure.flat(data)):
            row = structure.flat(self.arranged(data))
            if len(row) != len(self.inputs):
                raise GraphError(f"{self.name} takes {len(self.inputs)} inputs, {len(row)} were given")
            if not all(isinstance(x, Tensor) for x in row):
                raise GraphError(f"{self.name} was called on symbolic tensors and others at once")
            masks = [] if mask is None else structure.flat(mask)
            return self.packed(Node(self, row, training=training, masks=masks).outputs)
        if mask is not None:
            raise GraphError(f"{self.name}: a mask is given to a model where it is called on symbolic tensors")
        row, training = self.arranged(data), bool(training)
        executor = self.executor
        arrays = []
        for x, declared in zip(self._checked_inputs(row), self.inputs, strict=True):
            native = executor.backend.owns(x) and not isinstance(x, np.ndarray)
            arrays.append(x if native else executor.array(x, declared.dtype))
        executor.fresh()
        return self.packed(self._run(executor, tuple(arrays), training))

    def _run(self, executor: Executor, inputs: tuple[Any, ...], training: bool) -> Sequence[Any]:
        """The outputs for native arrays; what a call moves is moved."""
        outputs, updates, _, _ = executor.forward(training)(
            executor.weights(), inputs, (), executor.step if training else 0
        )
        executor.store(training, updates)
        return outputs

    # Weights

    @property
    def weights(self) -> list[Variable]:
        """All weights: layer by layer, each layer's trainable ones first."""
        return [variable for _, layer, _ in self.graph.placed() for variable in _weights_of(layer)]

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
        for _, layer, _ in self.graph.placed():
            layer.reset_state()

    def count_params(self) -> int:
        """The number of elements of all weights."""
        return sum(int(np.prod(variable.shape)) for variable in self.weights)

    # Binding

    def plan(self, training: bool) -> Plan:
        """The plan on the model's backend."""
        if training not in self._plans:
            planner = Planner(registry(), self._backend, training, self.seed)
            # First all weights, so that both modes number them alike, whatever each uses.
            for place, layer, shapes in self.graph.placed():
                planner.hold(layer, shapes, place)
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
        self._check_complete()
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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} on {self._backend}: {self.input_shape} -> {self.output_shape}>"


def _cut(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The same graph, with an input of its own in the place of each tensor in the middle of another one."""
    known: dict[Tensor, Tensor] = {x: Input(batch_shape=x.shape, dtype=x.dtype) if x.node.inputs else x for x in inputs}
    with remembering(False):
        for node in between(inputs, outputs):
            lost = next((x for x in node.sources if x not in known), None)
            if lost is not None:
                raise GraphError(f"the outputs depend on {lost!r}, which is not among the model's inputs")
            given, states, masks = (
                [None if x is None else known[x] for x in row] for row in (node.inputs, node.states, node.masks)
            )
            copy = Node(node.layer, given, states, node.options, node.training, masks)  # type: ignore[arg-type]
            known.update(zip(node.outputs, copy.outputs, strict=True))
    return [known[x] for x in inputs], [known[y] for y in outputs]


def _weights_of(layer: Layer) -> list[Variable]:
    return layer.store.variables if layer.held else []
