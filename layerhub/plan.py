"""Plans: a model as a flat list of steps, and that list as one straight-line function.

``Planner`` lowers layers to steps. For each it resolves, once, what a call would otherwise have to look up: the kernel
or the definition that serves, casts, masks, the activation that follows, the parts of a composite. ``Plan.function``
writes the steps out as Python source, so that running a model costs no more than the calls themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakSet

from layerhub import autodiff, config
from layerhub.errors import DTypeError, KernelError, MaskDroppedWarning
from layerhub.kernels import Call, Kernel
from layerhub.registry import Registry
from layerhub.spec.axes import Shape
from layerhub.spec.layer import Layer, Result, Weight, Weights, WeightSpec
from layerhub.stream import Stream

# Layers of which it was said that a mask ends there; once is enough.
_warned: WeakSet[Layer] = WeakSet()


@dataclass(frozen=True)
class Value:
    """An array that a step makes: where the plan keeps it, and what is known of it beforehand."""

    slot: int
    shape: Shape
    dtype: str
    mask: Value | None = None
    source: str = ""


class WeightRef(NamedTuple):
    """A weight, by its number in the plan."""

    number: int


class StreamRef(NamedTuple):
    """A place to draw random bits from."""

    stream: Stream


@dataclass
class Slot:
    """A weight of the plan: what it is, whose, and how its kernel wants it in memory."""

    spec: WeightSpec
    layer: Layer
    place: str
    memory: tuple[int, ...] | None = None


@dataclass
class Step:
    """One call. target: the spec it is for; arguments: Values, WeightRefs, StreamRefs, constants and tuples of these.

    outs: the slots of what it returns. rich: it returns a Result, with states in ``states`` and new values for the
    weights ``updates`` (name -> number).
    """

    target: Any
    kernel: Kernel | None
    function: Callable[..., Any] | None
    arguments: tuple[Any, ...]
    outs: tuple[int, ...]
    states: tuple[int, ...] = ()
    updates: dict[str, int] = field(default_factory=dict)
    rich: bool = False
    shape: Shape = ()

    @property
    def route(self) -> str:
        """What serves: a kernel, by plugin, or the definition."""
        return f"kernel of {self.kernel.plugin}" if self.kernel else "definition"


class Planner:
    """Lowers layers to a Plan for one backend.

    route: "kernel" takes kernels where they serve, "definition" never does.
    """

    def __init__(self, registry: Registry, backend: str, training: bool, seed: int, route: str = "kernel"):
        self.registry, self.backend, self.training, self.seed, self.route = registry, backend, training, seed, route
        self.steps: list[Step] = []
        self.slots: list[Slot] = []
        self.inputs: list[Value] = []
        self.masks: list[Value] = []
        self.penalties: list[Value] = []
        self.checks: list[tuple[int, Layer]] = []
        self._cast_of: dict[int, Value] = {}
        self._count = 0
        self._held: dict[int, list[Any]] = {}
        self._kept: dict[int, tuple[WeightRef, ...]] = {}
        self._calls: dict[str, int] = {}
        self._variants: list[Layer] = []
        self.moves: dict[int, Value] = {}

    # Values

    def _slot(self) -> int:
        self._count += 1
        return self._count - 1

    def input(self, shape: Shape, dtype: str, masked: bool = False) -> Value:
        """An array given from outside; masked: with a mask, given from outside too."""
        mask = None
        if masked:
            mask = Value(self._slot(), shape[:2], "bool", source="the input")
            self.masks.append(mask)
        value = Value(self._slot(), shape, dtype, mask, "the input")
        self.inputs.append(value)
        return value

    def _emit(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], shape: Shape, dtype: str, **more: Any
    ) -> Value:
        value = Value(self._slot(), shape, dtype, **more)
        self.steps.append(Step(None, None, function, arguments, (value.slot,), shape=shape))
        return value

    def as_mask(self, value: Value) -> Value:
        """A value as a mask."""
        return value if value.dtype == "bool" else self._emit(_astype, ("xp", value, "bool"), value.shape, "bool")

    @contextmanager
    def mode(self, training: bool | None) -> Iterator[None]:
        """What is lowered meanwhile is in training, or is not; None leaves that as it is."""
        before, self.training = self.training, self.training if training is None else training
        try:
            yield
        finally:
            self.training = before

    # Layers

    def hold(self, layer: Layer, shapes: Sequence[Shape | None], place: str) -> list[Any]:
        """The weights of a layer as arguments, numbered when the layer is met first."""
        if id(layer) not in self._held:
            arguments: list[Any] = []
            for declared, specs in zip(layer.held, layer.weight_arguments(*shapes), strict=True):
                refs: list[Any] = []
                for spec in specs:
                    if spec is None:
                        refs.append(None)
                        continue
                    refs.append(WeightRef(len(self.slots)))
                    self.slots.append(Slot(spec, layer, f"{place}/{spec.name}"))
                arguments.append(refs[0] if isinstance(declared, Weight) else tuple(refs))
            self._held[id(layer)] = arguments
            states = layer.state_specs(*shapes)
            self._kept[id(layer)] = tuple(WeightRef(len(self.slots) + k) for k in range(len(states)))
            self.slots += [Slot(spec, layer, f"{place}/{spec.name}") for spec in states]
        return self._held[id(layer)]

    def call(
        self,
        layer: Layer,
        inputs: Sequence[Value | None],
        place: str,
        initial_state: Sequence[Value] = (),
        options: Mapping[str, Any] | None = None,
    ) -> list[Value]:
        """A use of a layer of the model: its steps are appended, its outputs returned. options: of this call alone."""
        shapes: list[Any] = [None if x is None else x.shape for x in inputs]
        if initial_state:
            layer.check_states([s.shape for s in initial_state], *shapes)
        weights = self.hold(layer, shapes, place)
        acting = self._variant(layer, options) if options else layer
        if layer.stateful:
            outputs = self._carrying(acting, inputs, weights, place, self._kept[id(layer)], initial_state)
        else:
            outputs = self.apply(acting, inputs, weights, place, tuple(initial_state) or None)
        if not layer.penalises_parts:
            self._penalise(layer, outputs)
        return outputs

    def _penalise(self, layer: Layer, outputs: Sequence[Value]) -> None:
        if layer.activity_regularizer is not None:
            for output in outputs[:1]:
                self.penalties.append(
                    self._emit(_penalty, (layer.activity_regularizer, "xp", output), (), output.dtype)
                )

    def _variant(self, layer: Layer, changes: Mapping[str, Any]) -> Layer:
        """The layer with other parameters, for as long as the plan lives."""
        self._variants.append(layer.replace(**changes))
        return self._variants[-1]

    def _carrying(
        self,
        layer: Layer,
        inputs: Sequence[Value | None],
        weights: Sequence[Any],
        place: str,
        kept: Sequence[WeightRef],
        initial_state: Sequence[Value],
    ) -> list[Value]:
        """The steps of a stateful layer, from the states that it has ``kept`` (or is given) to those that it keeps."""
        self._variants.append(acting := layer.carrying())
        begin = tuple(initial_state) or tuple(map(self._read, kept))
        outputs = self.apply(acting, inputs, weights, place, begin)
        states = outputs[len(outputs) - len(kept) :]
        self.moves |= {ref.number: state for ref, state in zip(kept, states, strict=True)}
        return outputs if layer.return_state else outputs[: len(outputs) - len(kept)]

    def _read(self, ref: WeightRef) -> Value:
        """A weight as a value among others."""
        spec = self.slots[ref.number].spec
        moved = self.moves.get(ref.number)
        if moved is not None:
            return moved
        return self._emit(_same, (ref,), spec.shape, self.slots[ref.number].layer.variable_dtype)

    def _as_computed(self, layer: Layer, declared: Weight | Weights, weight: Any) -> Any:
        """A weight, or a block of them, in the type that the layer computes in."""
        if type(weight) is tuple:
            return tuple(self._as_computed(layer, declared, part) for part in weight)
        moved = isinstance(declared, Weight) and not declared.trainable
        if not isinstance(weight, WeightRef) or moved or not layer.casts_weights:
            return weight
        slot = self.slots[weight.number]
        if slot.layer.variable_dtype == layer.compute_dtype:
            return weight
        return self._emit(_astype, ("xp", weight, layer.compute_dtype), slot.spec.shape, layer.compute_dtype)

    def apply(
        self,
        layer: Layer,
        inputs: Sequence[Value | None],
        weights: Sequence[Any],
        place: str,
        initial_state: tuple | None,
    ) -> list[Value]:
        """The steps of a layer or of a part of one."""
        inputs = [None if x is None else self._cast(layer, x, i) for i, x in enumerate(layer.filled(inputs))]
        shapes: tuple[Any, ...] = tuple(None if x is None else x.shape for x in inputs)
        masks = tuple(None if x is None else x.mask for x in inputs)
        training = self.training and (layer.trainable or not self._updates(layer))
        call = Call(training, any(masks), initial_state is not None, shapes, layer.compute_dtype)
        kernel = self.registry.kernel(self.backend, layer, call) if self.route == "kernel" else None
        penalised = layer.penalises_parts and layer.activity_regularizer is not None
        if layer.is_composite and (kernel is None or any(masks) or penalised):
            # A composite's mask follows from its parts, so with a mask they are lowered, each with its own kernel.
            outputs = self._parts(layer, inputs, weights, place, initial_state)
        else:
            outputs = self._step(layer, kernel, inputs, weights, place, initial_state, training)
        if layer.trailing is not None:
            outputs = [self._activation(layer.trailing, outputs[0]), *outputs[1:]]
        return outputs

    def _parts(
        self,
        layer: Layer,
        inputs: Sequence[Value | None],
        weights: Sequence[Any],
        place: str,
        initial_state: tuple | None,
    ) -> list[Value]:
        count = 0

        def do(part: Layer, *arguments: Any, initial_state: tuple | None = None) -> Any:
            nonlocal count
            values, rest = part.split(arguments, Value)
            values = [self._read(a) if isinstance(a, WeightRef) else a for a in values]
            count += 1
            outputs = self.apply(part, values, rest, f"{place}.{count - 1}", initial_state)
            if layer.penalises_parts:
                self._penalise(part, outputs)
            return outputs[0] if len(outputs) == 1 else tuple(outputs)

        given = {"initial_state": initial_state, "training": self.training}
        extras = {name: given.get(name) for name in layer.extras}
        outputs = layer.compose(do, *inputs, *weights, **extras)
        if isinstance(outputs, Result):
            self.moves |= {ref.number: value for ref, value in outputs.weights.items()}
            outputs = outputs.outputs
        return list(outputs) if isinstance(outputs, tuple) else [outputs]

    def _step(
        self,
        layer: Layer,
        kernel: Kernel | None,
        inputs: Sequence[Value | None],
        weights: Sequence[Any],
        place: str,
        initial_state: tuple | None,
        training: bool,
    ) -> list[Value]:
        shapes: list[Any] = [None if x is None else x.shape for x in inputs]
        several = len(layer.inputs) > 1 or (bool(layer.inputs) and layer.inputs[-1].many)
        many = bool(layer.inputs) and layer.inputs[-1].many
        masks = tuple(None if x is None else x.mask for x in inputs)
        self._warn_of_dropped(layer, inputs)
        for x in inputs:
            given_as = None if x is None else self._cast_of.get(x.slot, x)
            if given_as in self.inputs:
                self.checks.append((self.inputs.index(given_as), layer))
        given = {
            "training": training,
            "mask": (masks if any(masks) else None) if several else masks[0] if masks else None,
            "initial_state": initial_state,
            "rng": StreamRef(self._stream(layer, place)) if "rng" in layer.extras else None,
        }
        arguments = (
            *([tuple(inputs)] if many else inputs),
            *(self._as_computed(layer, declared, w) for declared, w in zip(layer.held, weights, strict=True)),
            *(given[name] for name in layer.extras),
        )
        found = layer.linear_shapes(*shapes)
        dtype = layer.output_dtype(*(x.dtype for x in inputs if x is not None))
        state_count = layer.states
        plain = found[: len(found) - state_count] if getattr(layer, "return_state", False) else found
        outs = [Value(self._slot(), shape, dtype, source=layer.label) for shape in plain]
        states = [Value(self._slot(), shape, dtype) for shape in layer.state_shapes(*shapes)]
        states = states or [Value(self._slot(), (), dtype) for _ in range(state_count)]
        updates = {
            declared.name: ref.number
            for declared, ref in zip(layer.held, weights, strict=True)
            if isinstance(declared, Weight) and not declared.trainable and isinstance(ref, WeightRef) and training
        }
        step = Step(
            layer, kernel, None, arguments, tuple(v.slot for v in outs), tuple(v.slot for v in states), updates,
            rich=bool(state_count or self._updates(layer)), shape=plain[0],
        )  # fmt: skip
        self.steps.append(step)
        if kernel is not None and kernel.memory:
            for declared, ref in zip(layer.held, weights, strict=True):
                if isinstance(ref, WeightRef) and declared.name in kernel.memory:
                    self.slots[ref.number].memory = kernel.memory[declared.name]
        mask = self._mask(layer, inputs, masks)
        outputs = [Value(v.slot, v.shape, v.dtype, mask if k == 0 else None, v.source) for k, v in enumerate(outs)]
        return outputs + (states if getattr(layer, "return_state", False) else [])

    @staticmethod
    def _updates(layer: Layer) -> bool:
        return any(isinstance(d, Weight) and not d.trainable for d in layer.held)

    def _stream(self, layer: Layer, place: str) -> Stream:
        seed = getattr(layer, "seed", None)
        # Counted by place: parts of a composite, and a layer with other options, are new objects in every call.
        count = self._calls.get(place, 0)
        self._calls[place] = count + 1
        stream = Stream.at(self.seed if seed is None else seed, place)
        return Stream(stream.key, 0, count)

    def _cast(self, layer: Layer, x: Value, position: int) -> Value:
        declared = layer.inputs[min(position, len(layer.inputs) - 1)]
        floating = x.dtype in config.FLOATS
        if declared.kind == "float" and x.dtype != layer.compute_dtype:
            return self._emit(_astype, ("xp", x, layer.compute_dtype), x.shape, layer.compute_dtype, mask=x.mask)
        if declared.kind == "int":
            if x.dtype in ("bool", "complex64", "complex128"):
                raise DTypeError(f"{layer!r}: {declared.name} must hold ints, not {x.dtype}")
            if floating:
                ids = self._emit(_astype, ("xp", x, "int32"), x.shape, "int32", mask=x.mask)
                self._cast_of[ids.slot] = x
                return ids
        if declared.kind == "bool" and x.dtype != "bool":
            return self._emit(_astype, ("xp", x, "bool"), x.shape, "bool", mask=x.mask)
        return x

    def _activation(self, activation: Any, x: Value) -> Value:
        if type(activation).__name__ == "linear":
            return x
        kernel = self.registry.kernel(self.backend, activation, Call(dtype=x.dtype)) if self.route == "kernel" else None
        shape = activation.output_shape(x.shape)
        value = Value(self._slot(), shape, x.dtype, x.mask, x.source)
        self.steps.append(Step(activation, kernel, None, (x,), (value.slot,), shape=shape))
        return value

    # Masks

    def _mask(self, layer: Layer, inputs: Sequence[Value | None], masks: tuple) -> Value | None:
        if layer.is_composite:  # it has no rule of its own, and is lowered to its parts where there is a mask
            return None
        rule = layer.mask_rule
        masks = tuple(None if mask is None or len(mask.shape) < rule.least else mask for mask in masks)
        if not rule.exists(layer, tuple(mask is not None for mask in masks)):
            return None
        if rule.value is None:
            return masks[0]
        had = tuple(None if mask is None else mask.shape for mask in masks)
        if rule.shape is not None:
            shape = rule.shape(layer, tuple(None if x is None else x.shape for x in inputs), had)
        else:
            shape = next((found for found in had if found is not None), ())
        return self._emit(rule.value, (layer, "xp", tuple(inputs), masks), shape, "bool", source=layer.label)

    def _warn_of_dropped(self, layer: Layer, inputs: Sequence[Value | None]) -> None:
        if layer.is_composite or not layer.mask_rule.drops or "mask" in layer.extras or layer in _warned:
            return
        for x in inputs:
            if x is not None and x.mask is not None:
                text = f"{layer.label} ({layer!r}) cannot use the mask of {x.source or 'its input'}; it ends there"
                if config.strict_masks():
                    raise DTypeError(text)
                warnings.warn(text, MaskDroppedWarning, stacklevel=2)
                _warned.add(layer)

    def plan(self, outputs: Sequence[Value]) -> Plan:
        """The finished plan."""
        return Plan(
            self.backend, self.training, self.steps, self.slots, self.inputs, self.masks, list(outputs), self.penalties,
            self.checks, self._count, self.moves,
        )  # fmt: skip


def _same(x: Any) -> Any:
    return x


def _astype(xp: Any, x: Any, dtype: str) -> Any:
    return xp.astype(x, getattr(xp, dtype))


def _penalty(regularizer: Any, xp: Any, y: Any) -> Any:
    # A share for each sample, so that the penalty does not depend on the size of the batch.
    total = regularizer.define(xp, y)
    return total / xp.astype(xp.asarray(xp.size(y, 0)), y.dtype)


@dataclass
class Plan:
    """Steps in order. ``function`` gives them as one function; the rest says what goes in and comes out."""

    backend: str
    training: bool
    steps: list[Step]
    slots: list[Slot]
    inputs: list[Value]
    masks: list[Value]
    outputs: list[Value]
    penalties: list[Value]
    checks: list[tuple[int, Layer]]
    count: int
    moves: dict[int, Value] = field(default_factory=dict)

    @cached_property
    def updated(self) -> list[int]:
        """The numbers of the weights that a call gives new values, in the order in which it returns them."""
        # A layer that is used twice goes on, the second time, from what the first one made of its weights.
        return list(dict.fromkeys([*(i for step in self.steps for i in step.updates.values()), *self.moves]))

    @property
    def output_masks(self) -> list[Value | None]:
        """The masks of the outputs."""
        return [output.mask for output in self.outputs]

    def function(self, xp: Any, differentiate: bool = False) -> Callable[..., tuple]:
        """``run(weights, inputs, masks, step) -> (outputs, updates, output masks, penalties)`` over native arrays.

        differentiate: arrays may be recorded ones (``autodiff.Var``), and kernels run by their VJPs; a kernel without
        one gives way to the definition.
        """
        return _Writer(self, xp, differentiate).function()


class _Writer:
    """Writes a plan out as source and compiles it."""

    def __init__(self, plan: Plan, xp: Any, differentiate: bool):
        self.plan, self.xp, self.differentiate = plan, xp, differentiate
        self.names: dict[str, Any] = {"X": xp, "as_result": _as_result, "moved": _moved}
        self.lines: list[str] = []
        self.current: dict[int, str] = {}

    def function(self) -> Callable[..., tuple]:
        plan = self.plan
        last = self._last_uses()
        if plan.slots:
            self.lines.append(f"{', '.join(f'w{i}' for i in range(len(plan.slots)))}, = weights")
        if plan.inputs:
            self.lines.append(f"{', '.join(f'v{v.slot}' for v in plan.inputs)}, = inputs")
        if plan.masks:
            self.lines.append(f"{', '.join(f'v{v.slot}' for v in plan.masks)}, = masks")
        for number, step in enumerate(plan.steps):
            self._write(number, step)
            # What nobody will read again is let go, so that memory holds no more than what is alive.
            if last[number]:
                self.lines.append(f"del {', '.join(f'v{slot}' for slot in sorted(last[number]))}")
        updates = [self._text(plan.moves.get(index, WeightRef(index))) for index in plan.updated]
        masks = [self._text(mask) for mask in plan.output_masks]
        returned = [[self._text(v) for v in plan.outputs], updates, masks, [self._text(v) for v in plan.penalties]]
        self.lines.append(f"return {', '.join(map(_tuple, returned))}")
        source = "def run(weights, inputs, masks, step):\n" + "".join(f"    {line}\n" for line in self.lines)
        exec(compile(source, "<plan>", "exec"), self.names)
        return self.names["run"]

    def _last_uses(self) -> list[list[int]]:
        plan = self.plan
        kept = {
            v.slot for v in (*plan.outputs, *plan.penalties, *filter(None, plan.output_masks), *plan.moves.values())
        }
        seen, last = set(kept), []
        for step in reversed(plan.steps):
            used = (
                {slot for argument in step.arguments for slot in _slots(argument)} | set(step.outs) | set(step.states)
            )
            last.append([slot for slot in used if slot not in seen])
            seen |= used
        return last[::-1]

    def _write(self, number: int, step: Step) -> None:
        function, lead = self._callee(number, step)
        self.names[f"k{number}"] = function
        arguments = ", ".join([*lead, *map(self._text, step.arguments)])
        call = f"k{number}({arguments})"
        outs = ", ".join(f"v{slot}" for slot in step.outs)
        if not step.rich:
            self.lines.append(f"{outs} = {call}")
            return
        self.lines.append(f"r = as_result({call})")
        self.lines.append(f"{outs} = r.outputs")
        if step.states:
            self.lines.append(f"{', '.join(f'v{slot}' for slot in step.states)}, = r.states")
        for name, index in step.updates.items():
            self.lines.append(f"u{index} = moved(r, {name!r}, k{number})")
            self.current[index] = f"u{index}"

    def _callee(self, number: int, step: Step) -> tuple[Callable[..., Any], list[str]]:
        """What is called, and the names of the arguments that come before the step's own."""
        if step.function is not None:
            return step.function, []
        self.names[f"L{number}"] = step.target
        kernel = step.kernel
        if kernel is not None and not self.differentiate:
            return kernel.function, [f"L{number}"]
        if kernel is not None and kernel.backward is not None:
            return self.xp.primitive(kernel.forward, kernel.backward, _differentiable_outputs), [f"L{number}"]
        return type(step.target).define, [f"L{number}", "X"]

    def _text(self, argument: Any) -> str:
        if isinstance(argument, Value):
            return f"v{argument.slot}"
        if isinstance(argument, WeightRef):
            return self.current.get(argument.number, f"w{argument.number}")
        if isinstance(argument, StreamRef):
            name = f"s{len(self.names)}"
            self.names[name] = argument.stream
            return f"{name}.during(step)"
        if isinstance(argument, tuple):
            return _tuple([self._text(part) for part in argument])
        if argument is None or isinstance(argument, bool):
            return repr(argument)
        if isinstance(argument, str) and argument == "xp":
            return "X"
        name = f"c{len(self.names)}"
        self.names[name] = argument
        return name


def _tuple(parts: list[str]) -> str:
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def _slots(argument: Any) -> list[int]:
    if isinstance(argument, Value):
        return [argument.slot]
    if type(argument) is tuple:
        return [slot for part in argument for slot in _slots(part)]
    return []


def _as_result(returned: Any) -> Result:
    return returned if isinstance(returned, Result) else Result(returned)


def _moved(result: Result, name: str, function: Any) -> Any:
    """The new value of a weight that a call in training must give one."""
    try:
        return result.weights[name]
    except KeyError:
        raise KernelError(
            f"{getattr(function, '__qualname__', function)} gave no new value for {name}, which is declared "
            "trainable=False: in training return Result(outputs, weights={...}) with all such weights"
        ) from None


def _differentiable_outputs(returned: Any) -> tuple[tuple, Callable[[tuple], Any]]:
    """The arrays of a kernel's return value that gradients flow back from, and how to put others in their place."""
    if not isinstance(returned, Result):
        if isinstance(returned, tuple):
            return returned, lambda arrays: arrays
        return (returned,), lambda arrays: arrays[0]
    single = not isinstance(returned.outputs, tuple)
    outputs = (returned.outputs,) if single else returned.outputs

    def rebuild(arrays: tuple) -> Result:
        first, states = arrays[: len(outputs)], arrays[len(outputs) :]
        return Result(first[0] if single else first, returned.weights, states)

    return (*outputs, *returned.states), rebuild


def recorded(plan: Plan, xp: Any) -> Callable[..., tuple]:
    """The plan as a function over a recording namespace, or over a plain one that differentiates by itself."""
    return plan.function(xp, differentiate=isinstance(xp, autodiff.Differentiable))
