"""Graphs: symbolic tensors, the nodes between them, and what calling a layer does.

A layer called on symbolic tensors adds a node. Called on native tensors it runs at once, on the backend that owns
them, as one more step of that backend's own differentiation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from layerhub import config, ops, seeds
from layerhub.errors import GraphError, NodeError, StateError, WeightsError
from layerhub.namespace import Namespace
from layerhub.operation import recorded
from layerhub.plan import Planner, Value
from layerhub.registry import registry
from layerhub.spec.axes import Shape, as_shape
from layerhub.spec.core import Activation, InputLayer
from layerhub.spec.layer import In, Layer, Out, Runtime
from layerhub.spec.masks import absorbs
from layerhub.variable import Variable, initial_value

_order = itertools.count()


class Symbolic(Namespace):
    """The namespace of tensors of a graph: each function adds an ``Operation`` to it."""

    depth = math.inf
    symbolic = True

    def __init__(self) -> None:
        pass

    def operate(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The tensor that a function of ``layerhub.ops`` gives."""
        layer, tensors = recorded(name, args, kwargs, _is_tensor, lambda x: registry().owner(x).to_numpy(x))
        return Node(layer, tensors).outputs[0]

    def activate(self, activation: Any, x: Any) -> Any:
        """The tensor that an activation gives."""
        return Activation(activation)(x)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(ops, name)


SYMBOLIC = Symbolic()


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


@dataclass(eq=False)
class Tensor:
    """A tensor of which only the shape and type are known. node: what makes it; position: among its outputs.

    Operators and functions of ``lh.ops`` make further ones. Two tensors are equal when they are the same one;
    ``lh.ops.equal`` compares their elements.
    """

    shape: Shape
    dtype: str
    node: Node
    position: int = 0

    __array_ufunc__ = None  # numpy's arrays and scalars leave mixed operations to us
    space = SYMBOLIC

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def name(self) -> str:
        """The name of the layer that makes it."""
        return self.node.layer.label

    def __repr__(self) -> str:
        return f"<Tensor {self.name} shape={self.shape} dtype={self.dtype}>"

    def __getitem__(self, key: Any) -> Tensor:
        parts = key if isinstance(key, tuple) else (key,)
        for part in parts:
            step = part.step if isinstance(part, slice) else None
            plain = part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice))
            if not plain or isinstance(part, bool) or (step is not None and step < 1):
                raise GraphError(
                    f"{self!r} is cut by ints and slices with positive steps, not by {part!r}; "
                    "lh.ops.take and lh.ops.flip do the rest"
                )
        return ops.get_item(self, key)

    def __neg__(self) -> Tensor:
        return ops.negative(self)

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __invert__(self) -> Tensor:
        return ops.logical_not(self)

    def _without_value(self, what: str) -> GraphError:
        return GraphError(
            f"{self!r} has no values before the model runs, so it cannot be {what}; "
            "choose by lh.ops.where, or put the computation into a layer of your own"
        )

    def __bool__(self) -> bool:
        raise self._without_value("true or false")

    def __iter__(self) -> Any:
        raise self._without_value("looped over")

    def __len__(self) -> int:
        raise self._without_value("counted (its sizes are in .shape)")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise self._without_value("made an array")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        hint = f"; say lh.ops.{name}(x)" if name in dir(ops) else ""
        raise NodeError(f"a symbolic tensor has no attribute {name!r}{hint}")


def _operator(name: str, swapped: bool) -> Callable[[Any, Any], Any]:
    def operate(a: Any, b: Any) -> Any:
        function = getattr(ops, name)
        return function(b, a) if swapped else function(a, b)

    return operate


for _python, _name in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "matmul": "matmul",
    "and": "logical_and", "or": "logical_or",
}.items():  # fmt: skip
    setattr(Tensor, f"__{_python}__", _operator(_name, swapped=False))
    setattr(Tensor, f"__r{_python}__", _operator(_name, swapped=True))
for _python, _name in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}.items():
    setattr(Tensor, f"__{_python}__", _operator(_name, swapped=False))

_recording: ContextVar[bool] = ContextVar("recording", default=True)
"""Whether layers remember their uses; not while the ``call`` of a subclassed model is followed."""


@contextmanager
def remembering(whether: bool) -> Iterator[None]:
    """Nodes that are made meanwhile are remembered by their layers, or are not."""
    token = _recording.set(whether)
    try:
        yield
    finally:
        _recording.reset(token)


class Node:
    """One use of a layer: what goes in and comes out.

    options: parameters that this use has otherwise. training: the mode of this use; None: that of the model.
    masks: a mask for each input, in place of the one that it brings; None leaves that one.
    tensor: the native tensor that an input wraps, if any.
    """

    def __init__(
        self,
        layer: Any,
        inputs: Sequence[Tensor | None],
        states: Sequence[Tensor] = (),
        options: Mapping[str, Any] | None = None,
        training: bool | None = None,
        masks: Sequence[Tensor | None] = (),
    ):
        self.layer, self.inputs, self.states = layer, tuple(inputs), tuple(states)
        self.options = dict(options or {})
        self.training, self.masks = training, tuple(masks)
        self.tensor: Any = None
        self.order = next(_order)
        self.outputs: tuple[Tensor, ...] = ()
        if states:
            layer.check_states([s.shape for s in states], *(x.shape for x in inputs if x is not None))
        if inputs:
            acting = layer.replace(**self.options) if self.options else layer
            shapes = acting.output_shapes(*(None if x is None else x.shape for x in inputs))
            if isinstance(layer, Layer):
                dtypes = [acting.output_dtype(*(x.dtype for x in inputs if x is not None))] * len(shapes)
            else:
                dtypes = [y.dtype for y in layer.outputs]
            pairs = enumerate(zip(shapes, dtypes, strict=True))
            self.outputs = tuple(Tensor(shape, dtype, self, k) for k, (shape, dtype) in pairs)
        if _recording.get():
            nodes_of(layer).append(self)

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """All tensors that go in."""
        return tuple(x for x in (*self.inputs, *self.states, *self.masks) if x is not None)


_nodes: WeakKeyDictionary[Any, list[Node]] = WeakKeyDictionary()


def nodes_of(layer: Any) -> list[Node]:
    """The uses of a layer, in the order in which they were made."""
    return _nodes.setdefault(layer, [])


def forget(node: Node) -> None:
    """Take back a use of a layer."""
    known = nodes_of(node.layer)
    if node in known:
        known.remove(node)


def node_at(layer: Any, nodes: Sequence[Any], what: str, index: int | None) -> Any:
    """A use of a layer by its number; the only one for None. what: the attribute that was asked for.

    Raises NodeError where there is no such use, or more than one to choose from.
    """
    who, count = layer.label, len(nodes)
    if not count:
        raise NodeError(f"{who} has no {what}: it was not called on a symbolic tensor yet, such as lh.Input(shape)")
    if index is None and count > 1:
        raise NodeError(
            f"{who} was called {count} times, so there is no one {what}; say {who}.get_{what}_at(i), "
            f"with i from 0 to {count - 1}, or use the tensor that a call returned"
        )
    index = index or 0
    if not isinstance(index, int) or not -count <= index < count:
        raise NodeError(f"{who} was called {count} times; there is no call {index!r} to have a {what}")
    return nodes[index]


def Input(
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    sparse: bool = False,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    tensor: Any = None,
) -> Tensor:
    """Where data enter a model.

    shape: without the batch axis; batch_shape: with it. dtype: float inputs are converted to it; None takes
    ``lh.config.floatx()``. sparse: only for backends that declare it. tensor: a native tensor, whose shape and type are
    taken.
    """
    if tensor is not None:
        backend = registry().owner(tensor)
        batch_shape, dtype = tuple(int(size) for size in tensor.shape), dtype or backend.dtype_name(tensor)
        shape = None
    layer = InputLayer(shape=shape, batch_size=batch_size, sparse=sparse, batch_shape=batch_shape, name=name)  # type: ignore[arg-type]
    node = Node(layer, (), ())
    node.outputs = (Tensor(layer.full_shape, dtype or config.floatx(), node),)
    node.tensor = tensor
    return node.outputs[0]


class Store:
    """The weights of one layer that is used by itself or in models."""

    def __init__(self, layer: Layer):
        self.layer = layer
        self._variables: list[Variable] | None = None
        self.states: list[Variable] = []
        self.seed, self.place = 0, ""

    @property
    def built(self) -> bool:
        return self._variables is not None

    def build(self, *shapes: Shape, seed: int | None = None, place: str = "0") -> list[Variable]:
        """Make the variables, or check that those there are fit these input shapes."""
        shapes = tuple(None if shape is None else as_shape(shape) for shape in shapes)
        specs = self.layer.weight_specs(*shapes)
        if self._variables is None:
            self.seed, self.place = seeds.next_seed() if seed is None else seed, place
            states = self.layer.state_specs(*shapes)
            self._variables = [Variable(spec, self.layer, self._starter(spec)) for spec in specs]
            self.states = [Variable(spec, self.layer, self._starter(spec)) for spec in states]
            if self.layer.initial_weights is not None:
                self.set(self.layer.initial_weights)
        for variable, spec in zip(self._variables, specs, strict=True):
            if variable.shape != spec.shape:
                raise WeightsError(
                    f"{self.layer!r} has weights for other inputs: {spec.name} has shape {variable.shape}, "
                    f"inputs of shape {', '.join(map(str, shapes))} need {spec.shape}"
                )
        return self._variables

    def _starter(self, spec: Any) -> Callable[[], np.ndarray]:
        return lambda: initial_value(spec, self.seed, f"{self.place}/{spec.name}")

    @property
    def variables(self) -> list[Variable]:
        if self._variables is None:
            raise StateError(f"{self.layer!r} has no weights yet: build(shape) it, or use it in a model first")
        return self._variables

    def by_name(self) -> dict[str, Variable]:
        """The variables, and where states are kept, by the names that the spec gives them."""
        return {variable.name: variable for variable in (*self.variables, *self.states)}

    def reset_states(self) -> None:
        """Zeros for all states that are kept."""
        for variable in self.states:
            variable.assign(np.zeros(variable.shape))

    def get(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.variables] if self.built or self.layer.held else []

    def set(self, values: Sequence[Any]) -> None:
        set_all(self.variables if self.built or self.layer.held else [], values, repr(self.layer))

    def count(self) -> int:
        return sum(int(np.prod(v.shape)) for v in self.variables) if self.built or self.layer.held else 0


def set_all(variables: Sequence[Variable], values: Sequence[Any], who: str) -> None:
    """Give variables new values, all of them or none."""
    if len(values) != len(variables):
        raise WeightsError(f"{who} has {len(variables)} weights, {len(values)} were given; nothing was changed")
    checked = [variable.check(value) for variable, value in zip(variables, values, strict=True)]
    for variable, value in zip(variables, checked, strict=True):
        variable.assign(value)


_stores: WeakKeyDictionary[Layer, Store] = WeakKeyDictionary()


class GraphRuntime(Runtime):
    """What layers do when they are called."""

    def store(self, layer: Layer) -> Store:
        found = _stores.get(layer)
        if found is None:
            found = _stores[layer] = Store(layer)
        return found

    def at(self, layer: Layer, what: str, index: int | None = None) -> Any:
        node = node_at(layer, nodes_of(layer), what, index)
        side = node.inputs if what.startswith("input") else node.outputs
        found = [x for x in side if x is not None]
        if not found and what.startswith("input"):  # where data enter a model
            found = list(node.outputs)
        if what.endswith("shape"):
            return unwrapped([x.shape for x in found])
        return unwrapped([mask_of(x) for x in found] if what.endswith("mask") else found)

    def call(self, layer: Layer, *inputs: Any, **extras: Any) -> Any:
        options = {name: extras.pop(name) for name in layer.options if name in extras}
        states = list(extras.pop("initial_state", None) or ())
        if layer.states and len(inputs) == 2 and isinstance(inputs[1], (list, tuple)):
            states, inputs = list(inputs[1]), inputs[:1]
        flat = list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)) else list(inputs)
        # x, h, c in one list, as Keras has it for recurrent layers.
        if layer.states and len(flat) == 1 + layer.states:
            flat, states = flat[:1], flat[1:]
        masks = {name: extras.pop(f"{name}_mask", None) for name in _maskable(layer, extras)}
        if any(mask is not None for mask in masks.values()):
            extras["mask"] = [masks.get(declared.name) for declared in layer.inputs]
        flat = _by_name(layer, flat, extras)
        if not flat:
            raise GraphError(f"{layer!r} was called without an input")
        given = [x for x in flat if x is not None]
        training, mask = extras.pop("training", None), extras.pop("mask", None)
        if extras:
            raise GraphError(
                f"{layer!r} takes no {', '.join(extras)} when it is called; a call takes its inputs, training, mask"
                f"{', initial_state' if layer.states else ''}{''.join(f', {name}' for name in layer.options)}"
            )
        if all(isinstance(x, Tensor) for x in given + states):
            given_masks = _masks_given(layer, mask, len(flat))
            return unwrapped(Node(layer, flat, states, options, training, given_masks).outputs)
        if any(isinstance(x, Tensor) for x in given + states):
            raise GraphError(f"{layer!r} was called on symbolic and native tensors at once; give tensors of one sort")
        return run_eagerly(layer, flat, states, options, bool(training), mask)

    def trial(self, function: Callable, shapes: Sequence[Shape], dtype: str) -> Shape:
        """A function's output shape: run on zeros, twice, with different sizes for what is unknown."""
        # The host has no bfloat16; a shape does not depend on it.
        dtype = "float32" if dtype == "bfloat16" else dtype
        found = []
        for unknown in (2, 3):
            given = [np.zeros(tuple(unknown if s is None else s for s in shape), dtype) for shape in shapes]
            found.append(np.shape(function(*given)))
        return tuple(a if a == b else None for a, b in zip(*found, strict=True))


Layer.runtime = GraphRuntime()


def _masks_given(layer: Layer, mask: Any, count: int) -> tuple[Tensor | None, ...]:
    """The masks that a call names, one for each input."""
    masks = list(mask) if isinstance(mask, (list, tuple)) else [mask] * (mask is not None)
    wrong = next((m for m in masks if m is not None and not isinstance(m, Tensor)), None)
    if wrong is not None:
        raise GraphError(f"{layer!r} was called on symbolic tensors; its mask must be one too, not {type(wrong)}")
    return tuple([*masks, *[None] * count][:count]) if masks else ()


def _maskable(layer: Layer, extras: Mapping[str, Any]) -> list[str]:
    """The inputs whose masks are given by name (``value_mask=…``)."""
    names = [declared.name for declared in layer.inputs]
    return [name for name in names if f"{name}_mask" in extras and f"{name}_mask" not in names]


def _by_name(layer: Layer, flat: list[Any], extras: dict[str, Any]) -> list[Any]:
    """The inputs, with those that were given by name in their places; what is optional and not given is left out."""
    names = [declared.name for declared in layer.inputs]
    named = {name: extras.pop(name) for name in names if name in extras}
    if len(flat) > len(names):
        return flat
    items = [*flat, *[None] * (len(names) - len(flat))]
    for name, x in named.items():
        if items[names.index(name)] is not None:
            raise GraphError(f"{layer!r}: the input {name} was given twice, by position and by name")
        items[names.index(name)] = x
    before = items[: max(map(names.index, named), default=-1)]
    items = list(layer.filled(items)) if any(x is None for x in before) else items
    while items and items[-1] is None:
        items.pop()
    return items


def unwrapped(outputs: Sequence[Any]) -> Any:
    """One output by itself, several as a list."""
    return outputs[0] if len(outputs) == 1 else list(outputs)


_eager: WeakKeyDictionary[Layer, dict[Any, Any]] = WeakKeyDictionary()


def run_eagerly(
    layer: Layer,
    inputs: list[Any],
    states: list[Any],
    options: Mapping[str, Any] | None = None,
    training: bool = False,
    mask: Any = None,
) -> Any:
    """A layer on native tensors, on the backend that owns the first; differentiable there."""
    backend = registry().owner(inputs[0])
    # Inside a function that a backend traces, a batch may be unknown.
    shapes = [None if x is None else as_shape(x.shape) for x in inputs]
    layer.store.build(*shapes)
    masks = list(mask) if isinstance(mask, (list, tuple)) else [mask] * (mask is not None)
    masks = [*masks, *[None] * len(inputs)][: len(inputs)]
    device = backend.device_of(inputs[0])
    masked = tuple(m is not None for m in masks)
    key = (backend.name, device, training, tuple(shapes), masked, len(states), repr(options))
    plans = _eager.setdefault(layer, {})
    if key not in plans:
        planner = Planner(registry(), backend.name, training, layer.store.seed)
        values = [
            None if x is None or shape is None else planner.input(shape, backend.dtype_name(x), masked=m is not None)
            for shape, x, m in zip(shapes, inputs, masks, strict=True)
        ]
        begin = [planner.input(as_shape(s.shape), backend.dtype_name(s)) for s in states]
        outputs = planner.call(layer, values, layer.store.place or "0", begin, options)
        plan = planner.plan(outputs)
        names = layer.store.by_name()
        plans[key] = (
            plan.function(backend.xp_on(device)),
            [names[slot.spec.name] for slot in plan.slots],
            plan,
            itertools.count(),
        )
    run, ordered, plan, steps = plans[key]
    handles = [v.at(backend, device, slot.memory) for v, slot in zip(ordered, plan.slots, strict=True)]
    given = tuple(backend.asarray(m, "bool", device) for m in masks if m is not None)
    arrays = [x for x in (*inputs, *states) if x is not None]
    outputs, updates, _, _ = run([backend.read(h) for h in handles], arrays, given, next(steps) if training else 0)
    for index, value in zip(plan.updated, updates, strict=True):
        backend.assign(handles[index], value)
    return unwrapped(outputs)


# Models as graphs


def between(inputs: Sequence[Tensor], outputs: Sequence[Tensor], open_: bool = False) -> list[Node]:
    """The nodes that lead from inputs to outputs: the farthest from the outputs first, as Keras has it.

    Among equals, in the order in which a walk back from the outputs meets their layers; so the order follows from the
    graph alone, not from the order in which it was made. open_: all inputs that are met belong to it; else GraphError
    is raised for one that is not among the given ones.
    """
    known = {x.node for x in inputs}
    met: dict[Any, int] = {}
    finished: dict[Node, None] = {}
    stack = [(y.node, False) for y in reversed(outputs)]
    while stack:
        node, done = stack.pop()
        if done:
            finished[node] = None
        elif node not in finished and node not in known:
            if not node.inputs and not open_:
                raise GraphError(
                    f"the outputs depend on the input {node.layer.label!r}, which is not among the model's inputs"
                )
            met.setdefault(node.layer, len(met))
            stack.append((node, True))
            stack.extend((x.node, False) for x in reversed(node.sources))
    depth: dict[Node, int] = {}
    deepest: dict[Any, int] = {}
    for node in reversed(finished):
        depth[node] = deepest[node.layer] = max(depth.get(node, 0), deepest.get(node.layer, 0))
        for x in node.sources:
            depth[x.node] = max(depth.get(x.node, 0), depth[node] + 1)
    return sorted(finished, key=lambda node: (-depth[node], met[node.layer], node.order))


def unique_layers(nodes: Sequence[Node]) -> list[Any]:
    """The layers of nodes, each once."""
    return list(dict.fromkeys(node.layer for node in nodes))


def lower(
    planner: Planner, inputs: Sequence[Tensor], outputs: Sequence[Tensor], values: Sequence[Value], prefix: str = ""
) -> list[Value]:
    """The steps of a graph, given the values of its inputs. Nested models are lowered in place."""
    return Graph(list(inputs), list(outputs)).lower(planner, values, prefix)


class MaskOf(Layer):
    """The mask of a tensor, as a tensor; true everywhere where it has none."""

    x = In("...", kind="any")
    y = Out("...")
    mask = absorbs

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (shapes[0][:2],)

    def output_dtype(self, *dtypes: str) -> str:
        return "bool"

    def define(self, xp, x, mask):
        if mask is not None:
            return mask
        steps = x if x.ndim < 3 else x[(slice(None), slice(None), *(0,) * (x.ndim - 2))]
        return xp.astype(xp.ones_like(steps), xp.bool)


def mask_of(x: Tensor) -> Tensor | None:
    """The mask that a tensor brings, as a tensor; None where it brings none."""
    inputs = [node.outputs[0] for node in between([], [x], open_=True) if not node.inputs]
    planner = Planner(registry(), "numpy", False, 0, route="definition")
    values = [planner.input(y.shape, y.dtype) for y in inputs]
    (found,) = Graph(inputs, [x]).lower(planner, values)
    with remembering(False):
        return None if found.mask is None else Node(MaskOf(), [x]).outputs[0]


@dataclass
class Graph:
    """What leads from inputs to outputs.

    trained: the outputs in training, where they are made in another way. members: the layers that it counts as its own,
    in this order, where that does not follow from the nodes.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    trained: list[Tensor] | None = None
    members: Sequence[Any] | None = None

    @cached_property
    def nodes(self) -> list[Node]:
        """All nodes; those that only training has come last."""
        return list(dict.fromkeys([*self.nodes_in(False), *self.nodes_in(True)]))

    def nodes_in(self, training: bool) -> list[Node]:
        """The nodes of one mode."""
        return self._both[training and self.trained is not None]

    @cached_property
    def _both(self) -> list[list[Node]]:
        ways = [self.outputs] if self.trained is None else [self.outputs, self.trained]
        return [between(self.inputs, outputs) for outputs in ways]

    @cached_property
    def layers(self) -> list[Any]:
        """All layers but the inputs, each once: the members first."""
        return list(dict.fromkeys([*(self.members or ()), *(node.layer for node in self.nodes)]))

    def lower(self, planner: Planner, values: Sequence[Value], prefix: str = "") -> list[Value]:
        """The steps of this graph, given the values of its inputs."""
        places = {layer: f"{prefix}{i}" for i, layer in enumerate(self.layers)}
        known: dict[Any, Value] = dict(zip(self.inputs, values, strict=True))
        training = planner.training and self.trained is not None
        for node in self.nodes_in(training):
            given = [None if x is None else known[x] for x in node.inputs]
            for k, mask in enumerate(node.masks):
                if mask is not None and given[k] is not None:
                    given[k] = replace(given[k], mask=planner.as_mask(known[mask]))  # type: ignore[type-var]
            states = [known[x] for x in node.states]
            with planner.mode(node.training):
                if hasattr(node.layer, "lower"):
                    made = node.layer.lower(planner, given, f"{places[node.layer]}/")
                else:
                    made = planner.call(node.layer, given, places[node.layer], states, node.options)
            known.update(zip(node.outputs, made, strict=True))
        return [known[y] for y in (self.trained if training else self.outputs)]  # type: ignore[union-attr]

    def placed(self, prefix: str = "", met: set[int] | None = None) -> Iterator[tuple[str, Layer, list[Shape | None]]]:
        """(place, layer, input shapes) of every layer that is used, nested models opened; each once."""
        met = set() if met is None else met
        first: dict[Any, Node] = {}
        for node in self.nodes:
            first.setdefault(node.layer, node)
        for i, layer in enumerate(self.layers):
            if layer not in first or id(layer) in met:
                continue
            met.add(id(layer))
            if hasattr(layer, "lower"):
                yield from layer.graph.placed(f"{prefix}{i}/", met)
            else:
                yield f"{prefix}{i}", layer, [None if x is None else x.shape for x in first[layer].inputs]


def placed_layers(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], prefix: str = ""
) -> Iterator[tuple[str, Layer, list[Shape | None]]]:
    """(place, layer, input shapes) of every layer of a graph; see ``Graph.placed``."""
    return Graph(list(inputs), list(outputs)).placed(prefix)
