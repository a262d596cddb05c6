"""The layer spec: what a layer takes, holds, gives and means.

    class Dense(Layer):
        units: Size                                   # parameters
        use_bias: bool = True
        x = In("... d")                               # inputs, weights, outputs by named axes (see axes.py)
        kernel = Weight("d units")
        bias = Weight("units")
        y = Out("... units")
        mask = passes                                 # a mask rule (see masks.py)

        def define(self, xp, x, kernel, bias):        # the meaning
            y = xp.matmul(x, kernel)
            return y if bias is None else y + bias

``define`` takes the namespace, the inputs and the weights by their declared names, then whichever of ``training``,
``mask``, ``initial_state`` and ``rng`` it needs; naming them is declaring them. A weight that is switched off arrives
as None. A composite has ``compose(self, do, …)`` with the same arguments instead: ``do(layer, *inputs, *weights)``
stands for one of its parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from layerhub.config import compute_dtype, variable_dtype
from layerhub.errors import ParameterError, ShapeError, StateError
from layerhub.spec import axes, masks
from layerhub.spec.activations import Activation
from layerhub.spec.axes import Pattern, Shape
from layerhub.spec.base import Kind, Spec, keyword, snake_case
from layerhub.spec.domains import LayerDType
from layerhub.spec.initializers import Zeros, initializers
from layerhub.spec.regularizers import RegularizerLike
from layerhub.spec.spellings import EVERYWHERE, warn

layers = Kind("layer")

FIRST = ("input_shape", "batch_input_shape", "batch_size", "input_dim", "input_length", "weights")
"""What any layer may be told besides its parameters: the shape that the first one expects, and initial weights."""

EXTRAS = ("training", "mask", "initial_state", "rng")
"""What a definition or kernel may ask for beside inputs and weights, in this order."""


class Result(NamedTuple):
    """What a definition or kernel returns when its outputs are not all: new weight values, states.

    weights: by name. A composite has them by the weight's argument, as ``compose`` got it.
    """

    outputs: Any
    weights: Mapping[Any, Any] = {}
    states: tuple[Any, ...] = ()


class Declared:
    """Something that a class body declares under a name."""

    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class In(Declared):
    """An input by its axes. kind: "float" inputs are cast to the layer's type; "int", "bool" and "any" ones are not.

    many: the layer takes a list of inputs here, which share this pattern's number of axes.
    like: the input that stands here where none is given. optional: None stands here then.
    """

    def __init__(
        self, pattern: str, kind: str = "float", many: bool = False, like: str | None = None, optional: bool = False
    ):
        self.pattern, self.kind, self.many, self.like = Pattern(pattern), kind, many, like
        self.optional = optional or like is not None


class Out(Declared):
    """An output by its axes."""

    def __init__(self, pattern: str):
        self.pattern = Pattern(pattern)


class Weight(Declared):
    """A weight by its axes.

    By the field's custom, ``kernel`` starts by the parameter ``kernel_initializer``, is regularised by
    ``kernel_regularizer``, constrained by ``kernel_constraint``, and is there when ``use_kernel`` is true, as far as
    the layer has such parameters. role replaces the weight's name in these; init and when name another attribute;
    init may also be an initializer, or its name;
    path is the name that users see, where it is not the attribute's; trainable=False declares state that a call may
    update.
    """

    def __init__(
        self,
        pattern: str,
        role: str | None = None,
        init: Any = None,
        when: str | None = None,
        trainable: bool = True,
        path: str | None = None,
    ):
        self.pattern, self.trainable = Pattern(pattern), trainable
        self._role, self._init, self._when, self._path = role, init, when, path

    def count(self, layer: Layer) -> int:
        """How many arrays it is."""
        return 1

    @property
    def start(self) -> Any:
        """How it begins: an attribute of the layer that says so, or an initializer."""
        return self._init or f"{self._role or self.name}_initializer"

    @property
    def switch(self) -> str:
        """The attribute of the layer that says whether it is there; it is where there is no such attribute."""
        return self._when or f"use_{self.name}"

    def present(self, layer: Layer) -> bool:
        return bool(getattr(layer, self.switch, True))

    def specs(self, layer: Layer, sizes: Mapping[str, Any]) -> tuple[WeightSpec | None, ...]:
        if not self.present(layer):
            return (None,)
        shape = self.pattern.sizes(lambda name: layer.lookup(name, sizes))
        if None in shape:
            raise ShapeError(
                f"{layer!r}: the shape of {self.name} is {shape}: an input size that must be known is None"
            )
        role = self._role or self.name
        start = getattr(layer, self.start, None) if isinstance(self.start, str) else self.start
        if start is None:
            start = self._init or ("glorot_uniform" if self.trainable else "zeros")
        regularizer = getattr(layer, f"{role}_regularizer", None)
        constraint = getattr(layer, f"{role}_constraint", None)
        known: tuple[int, ...] = shape  # type: ignore[assignment]
        spec = WeightSpec(
            self._path or self.name, known, initializers.get(start), self.trainable, regularizer, constraint
        )
        return (spec,)


class Weights(Declared):
    """All the weights of an inner layer, as one argument (a tuple). layer: the attribute that holds the inner layer."""

    def __init__(self, layer: str, *patterns: str):
        self.layer, self.patterns = layer, tuple(map(Pattern, patterns))

    def count(self, layer: Layer) -> int:
        """How many arrays it is, those that are switched off included."""
        inner = getattr(layer, self.layer)
        return sum(declared.count(inner) for declared in inner.held)

    def owner(self, layer: Layer, name: str) -> tuple[Layer, str] | None:
        """The inner layer that a weight of this name belongs to, and its name there; None if it is none of these."""
        own, _, rest = name.partition("/")
        return (getattr(layer, self.layer), rest) if own == self.name and rest else None

    def specs(self, layer: Layer, sizes: Mapping[str, Any]) -> tuple[WeightSpec | None, ...]:
        inner = getattr(layer, self.layer)
        shapes = [pattern.sizes(lambda name: layer.lookup(name, sizes)) for pattern in self.patterns]
        return tuple(
            None if spec is None else spec._replace(name=f"{self.name}/{spec.name}")
            for argument in inner.weight_arguments(*shapes)
            for spec in argument
        )


class WeightSpec(NamedTuple):
    """One weight of a layer whose sizes are known."""

    name: str
    shape: tuple[int, ...]
    initializer: Any
    trainable: bool = True
    regularizer: Any = None
    constraint: Any = None


class Runtime:
    """What turns descriptions into computation. A spec only describes; ``layerhub.graph`` installs the real one."""

    def call(self, layer: Layer, *inputs: Any, **extras: Any) -> Any:
        """Apply a layer to symbolic or native tensors."""
        raise StateError("a spec alone only describes a layer; import layerhub.graph to run it")

    def trial(self, function: Any, shapes: Sequence[Shape], dtype: str) -> Shape:
        """The shape that a function gives for inputs of these shapes, found by trying it out."""
        raise StateError("a spec alone only describes a layer; import layerhub.graph to try functions out")

    def at(self, layer: Layer, what: str, index: int | None = None) -> Any:
        """What a use of a layer has: its input, output, input_shape, …; of the only use for None."""
        raise StateError("a spec alone only describes a layer; import layerhub.graph to connect it")

    def store(self, layer: Layer) -> Any:
        """Where a layer's weights are."""
        raise StateError("a spec alone only describes a layer; import layerhub.graph to give it weights")


class Layer(Spec, abstract=True):
    """The base of all layers; see the module's page for how one is declared.

    name: must be unique within a model; made from the class name when not given.
    trainable: False freezes the weights; it may be set at any time before compile.
    dtype: the float type of weights and computation, or a mixed policy, which keeps weights in float32 and computes in
        a shorter type; None takes ``lh.config.dtype_policy()``.
    activity_regularizer: a penalty on the output, added to the loss, divided by the batch size.

    ``casts_weights``: under a mixed policy the definition sees weights in the type of computation; where it is False,
    as they are kept. What a call itself moves (trainable=False) it always sees as it is kept.
    ``options`` names parameters that a single call may give otherwise: ``layer(x, use_causal_mask=True)``.
    ``penalises_parts``: a composite's activity_regularizer is for those parts that have it, not for its own output.
    """

    kind = layers
    mutable = ("name", "trainable")

    activity_regularizer: RegularizerLike | None = keyword(default=None, kw_only=True)
    name: str | None = keyword(default=None, kw_only=True)
    trainable: bool = keyword(default=True, kw_only=True)
    dtype: LayerDType = keyword(default=None, kw_only=True)

    formerly = EVERYWHERE

    rank: ClassVar[int | None] = None
    inputs: ClassVar[tuple[In, ...]] = ()
    outputs: ClassVar[tuple[Out, ...]] = ()
    held: ClassVar[tuple[Weight | Weights, ...]] = ()
    extras: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[tuple[str, ...]] = ()
    mask: ClassVar[masks.MaskRule]
    states: ClassVar[int] = 0
    stateful: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ()
    penalises_parts: ClassVar[bool] = False
    casts_weights: ClassVar[bool] = True
    runtime: ClassVar[Runtime] = Runtime()
    _counts: ClassVar[dict[str, int]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        declared: dict[str, Declared] = {}
        for base in reversed(cls.__mro__):
            declared.update({name: value for name, value in vars(base).items() if isinstance(value, Declared)})
        cls.inputs = tuple(d for d in declared.values() if isinstance(d, In))
        cls.outputs = tuple(d for d in declared.values() if isinstance(d, Out))
        cls.held = tuple(d for d in declared.values() if isinstance(d, Weight | Weights))
        meaning = getattr(cls, "define", None) or getattr(cls, "compose", None)
        if meaning is None:
            return
        names = tuple(inspect.signature(meaning).parameters)[2:]
        expected = tuple(d.name for d in (*cls.inputs, *cls.held))
        cls.extras = tuple(name for name in EXTRAS if name in names)
        cls.takes = (*expected, *cls.extras)
        if names != cls.takes:
            raise ParameterError(
                f"{cls.__name__}: {meaning.__name__} takes {names}, but the class declares {expected}, "
                f"which may be followed by {', '.join(EXTRAS)} in this order"
            )
        if hasattr(cls, "define") and not cls.abstract and not hasattr(cls, "mask"):
            raise ParameterError(f"{cls.__name__}: state the mask rule (mask = passes, stops, …); there is no default")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = {name: kwargs.pop(name) for name in FIRST if name in kwargs and name not in self.parameters}
        super().__init__(*args, **kwargs)
        self.first_shape: Shape | None = self._first_shape(given)
        self.initial_weights: Sequence[Any] | None = given.get("weights")

    def _first_shape(self, given: Mapping[str, Any]) -> Shape | None:
        """The shape, batch axis included, that a first layer was told to expect; None if it was told nothing."""
        shape: Shape | None = None
        if given.get("batch_input_shape") is not None:
            shape = axes.as_shape(given["batch_input_shape"])
        elif given.get("input_shape") is not None:
            shape = (given.get("batch_size"), *axes.as_shape(given["input_shape"]))
        else:
            shape = self.shape_of_first(given.get("input_dim"), given.get("input_length"))
        told = [name for name in given if name != "weights"]
        if told:
            names = ", ".join(told)
            warn(f"{type(self).__name__}: {names}: an old spelling; begin the model with lh.Input(batch_shape={shape})")
        return shape

    def shape_of_first(self, input_dim: int | None, input_length: int | None) -> Shape | None:
        """The input's shape as ``input_dim`` and ``input_length`` once said it."""
        return None if input_dim is None else (None, input_dim)

    # What it is called

    @property
    def is_composite(self) -> bool:
        """Whether the meaning is given by parts (``compose``) rather than by array functions (``define``)."""
        return hasattr(self, "compose")

    @property
    def label(self) -> str:
        """The name; made from the class name and a counter when first asked for, if none was given."""
        if self.name is None:
            stem = self.stem
            count = Layer._counts.get(stem, 0)
            Layer._counts[stem] = count + 1
            self.name = f"{stem}_{count}" if count else stem
        return self.name

    @property
    def stem(self) -> str:
        """What it is called, but for a number, where it was given no name."""
        return snake_case(type(self).__name__)

    @property
    def compute_dtype(self) -> str:
        """The float type that this layer computes in."""
        return compute_dtype(self.dtype)

    @property
    def variable_dtype(self) -> str:
        """The float type that this layer keeps its weights in."""
        return variable_dtype(self.dtype)

    @property
    def trailing(self) -> Activation | None:
        """The activation that follows the definition, for layers with an ``activation`` of their own output."""
        return None

    @property
    def mask_rule(self) -> masks.MaskRule:
        """How masks go through this layer."""
        return type(self).mask

    # Shapes

    def _pattern(self, declared: In | Out) -> Pattern:
        first = getattr(self, "data_format", None) == "channels_first"
        return declared.pattern.channels_first() if first else declared.pattern

    def solve(self, *shapes: Shape | None) -> dict[str, Any]:
        """The sizes that the inputs' axes have, rules between them checked. Raises ShapeError."""
        items = self.filled(shapes)
        sizes: dict[str, Any] = {}
        for position, shape in enumerate(items):
            declared = self.inputs[min(position, len(self.inputs) - 1)]
            if shape == ():
                raise ShapeError(f"{self!r}: {declared.name} has no axes; the first one is that of the batch")
            if declared.many or shape is None:
                continue
            self._pattern(declared).match(tuple(shape), sizes, self.rank, lambda d=declared: f"{self!r}: {d.name}")
        sizes["shapes"] = tuple(None if shape is None else tuple(shape) for shape in items)
        self._check_rules(sizes)
        return sizes

    def filled(self, given: Sequence[Any]) -> tuple[Any, ...]:
        """One item for each declared input: those given, then what stands for inputs that were left out.

        Raises ShapeError where there are too few, or too many.
        """
        many = bool(self.inputs) and self.inputs[-1].many
        needed = sum(not declared.optional for declared in self.inputs)
        if not needed <= len(given) <= (len(given) if many else len(self.inputs)):
            wanted = f"at least {needed}" if many else " to ".join(map(str, sorted({needed, len(self.inputs)})))
            raise ShapeError(f"{self!r} takes {wanted} inputs, {len(given)} were given")
        items = [*given, *[None] * (len(self.inputs) - len(given))]
        names = [declared.name for declared in self.inputs]
        for position, declared in enumerate(self.inputs):
            if declared.like is not None and items[position] is None:
                items[position] = items[names.index(declared.like)]
            if items[position] is None and not declared.optional:
                raise ShapeError(f"{self!r}: the input {declared.name} is missing")
        return tuple(items)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        """The shapes of all outputs, states included when they are returned."""
        sizes = self.solve(*shapes)
        if self.is_composite:
            return self._composed_shapes(shapes)
        return tuple(self._pattern(out).sizes(lambda name: self.lookup(name, sizes)) for out in self.outputs)

    def made_of(self, *shapes: Shape) -> list[Layer]:
        """The parts of a composite, in the order of their use, for inputs of these shapes."""
        parts: list[Layer] = []
        self._composed_shapes(shapes, parts)
        return parts

    def _composed_shapes(self, shapes: tuple[Shape, ...], parts: list[Layer] | None = None) -> tuple[Shape, ...]:
        """The definition read with shapes in place of tensors. parts: a list that gathers what it is made of."""

        def do(part: Layer, *arguments: Any, initial_state: Any = None) -> Any:
            if parts is not None:
                parts.append(part)
            inner = part.output_shapes(*part.split(arguments, tuple)[0])
            return inner if len(inner) > 1 else inner[0]

        # Weights may be inputs of parts: there their shapes stand for them.
        weights = [
            specs[0] and specs[0].shape if isinstance(declared, Weight) else tuple(s and s.shape for s in specs)
            for declared, specs in zip(self.held, self.weight_arguments(*shapes), strict=True)
        ]
        extras = dict.fromkeys(self.extras)
        found = self.compose(do, *self.filled(shapes), *weights, **extras)
        found = found.outputs if isinstance(found, Result) else found
        return found if isinstance(found[0], tuple) else (found,)

    def split(self, arguments: Sequence[Any], kind: type) -> tuple[list[Any], list[Any]]:
        """The arguments of a part of a composite: inputs, of this kind where they may be many, and weights."""
        count = len(self.inputs)
        if self.inputs and self.inputs[-1].many:
            count = sum(isinstance(argument, kind) for argument in arguments)
        return list(arguments[:count]), list(arguments[count:])

    def compute_output_shape(self, *shapes: Shape) -> Shape:
        """The shape of the (first) output for inputs of these shapes; None stands for unknown sizes."""
        return self.output_shapes(*map(axes.as_shape, shapes))[0]

    def state_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        """The shapes of the states of a recurrent layer, in cell order."""
        return ()

    def check_states(self, states: Sequence[Shape], *shapes: Shape) -> None:
        """Raise ShapeError where initial states do not fit, in number or shape."""
        wanted = self.state_shapes(*shapes)
        if len(states) != len(wanted):
            raise ShapeError(f"{self!r} has {len(wanted)} states, {len(states)} initial ones were given")
        for state, shape in zip(states, wanted, strict=True):
            if len(state) != len(shape) or any(
                None not in (a, b) and a != b for a, b in zip(state, shape, strict=True)
            ):
                raise ShapeError(f"{self!r}: an initial state has shape {tuple(state)}, {shape} was expected")

    def output_dtype(self, *dtypes: str) -> str:
        """The type of the outputs for inputs of these types."""
        return self.compute_dtype

    def check_input(self, x: Any) -> None:
        """Raise DataError where values of host data (a non-empty ndarray) that reach this layer cannot be meant."""

    def linear_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        """The outputs' shapes before the activation that follows, which may change them."""
        return self.output_shapes(*shapes)

    def weight_arguments(self, *shapes: Shape | None) -> tuple[tuple[WeightSpec | None, ...], ...]:
        """The weights in the order of the definition's arguments, each argument a tuple (one weight, or a block)."""
        sizes = self.solve(*shapes)
        return tuple(declared.specs(self, sizes) for declared in self.held)

    def weight_specs(self, *shapes: Shape | None) -> list[WeightSpec]:
        """The weights for inputs of these shapes, in get_weights() order: trainable ones first."""
        found = [spec for argument in self.weight_arguments(*shapes) for spec in argument if spec is not None]
        return [s for s in found if s.trainable] + [s for s in found if not s.trainable]

    def places_of(self, shape: Shape) -> Shape:
        """The sizes of an input that a mask is laid along: all, but for channels that come first."""
        first = getattr(self, "data_format", None) == "channels_first"
        return (*shape[:1], *shape[2:]) if first else shape

    def state_specs(self, *shapes: Shape | None) -> list[WeightSpec]:
        """Where a stateful layer keeps its states between batches; they are no weights. Empty for other layers."""
        if not self.stateful:
            return []
        found = self.state_shapes(*(s for s in shapes if s is not None))
        if any(None in shape for shape in found):
            raise ShapeError(
                f"{self!r}: stateful=True needs a known batch size, for states of shape {found[0]}; "
                "give the model's input a batch_shape"
            )
        return [WeightSpec(f"state_{k}", shape, Zeros(), trainable=False) for k, shape in enumerate(found)]  # type: ignore[arg-type]

    def carrying(self) -> Layer:
        """A stateful layer as one that is given its states and returns them; who calls it keeps them."""
        return self.replace(stateful=False, return_state=True)

    # Running, by way of the runtime

    def __call__(self, *inputs: Any, **extras: Any) -> Any:
        """Symbolic tensors grow a graph; native tensors and ndarrays run on the backend that owns them."""
        return Layer.runtime.call(self, *inputs, **extras)

    @property
    def store(self) -> Any:
        """Where the weights are: None of them until the layer is built."""
        return Layer.runtime.store(self)

    # Its uses in graphs

    @property
    def input(self) -> Any:
        """The symbolic tensor, or the list of them, that it was called on. Raises NodeError unless that was once."""
        return Layer.runtime.at(self, "input")

    @property
    def output(self) -> Any:
        """The symbolic tensor, or the list of them, that its call gave."""
        return Layer.runtime.at(self, "output")

    @property
    def input_shape(self) -> Any:
        """The shape of ``input``."""
        return Layer.runtime.at(self, "input_shape")

    @property
    def output_shape(self) -> Any:
        """The shape of ``output``."""
        return Layer.runtime.at(self, "output_shape")

    @property
    def input_mask(self) -> Any:
        """The mask that ``input`` brings, as a symbolic tensor; None where it brings none."""
        return Layer.runtime.at(self, "input_mask")

    @property
    def output_mask(self) -> Any:
        """The mask that ``output`` brings."""
        return Layer.runtime.at(self, "output_mask")

    def get_input_at(self, node_index: int) -> Any:
        """The input of a call, by the number of the call."""
        return Layer.runtime.at(self, "input", node_index)

    def get_output_at(self, node_index: int) -> Any:
        """The output of a call."""
        return Layer.runtime.at(self, "output", node_index)

    def get_input_shape_at(self, node_index: int) -> Any:
        """The shape of the input of a call."""
        return Layer.runtime.at(self, "input_shape", node_index)

    def get_output_shape_at(self, node_index: int) -> Any:
        """The shape of the output of a call."""
        return Layer.runtime.at(self, "output_shape", node_index)

    def get_input_mask_at(self, node_index: int) -> Any:
        """The mask of the input of a call."""
        return Layer.runtime.at(self, "input_mask", node_index)

    def get_output_mask_at(self, node_index: int) -> Any:
        """The mask of the output of a call."""
        return Layer.runtime.at(self, "output_mask", node_index)

    def trains(self, name: str) -> bool:
        """Whether training moves the weight of this name: not where the layer, or one inside that has it, is frozen."""
        found = (d.owner(self, name) for d in self.held if isinstance(d, Weights))
        inner = next((pair for pair in found if pair is not None), None)
        return self.trainable and (inner is None or inner[0].trains(inner[1]))

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that training moves."""
        return [variable for variable in self.weights if variable.trainable]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The weights that it leaves alone."""
        return [variable for variable in self.weights if not variable.trainable]

    @property
    def built(self) -> bool:
        """Whether the layer has its weights."""
        return self.store.built

    def build(self, *shapes: Shape) -> None:
        """Make the weights for inputs of these shapes, without running anything."""
        self.store.build(*shapes)

    @property
    def weights(self) -> list[Any]:
        """The weights as variables, in get_weights() order."""
        return self.store.variables

    def get_weights(self) -> list[Any]:
        """The weights as ndarrays: trainable ones in declared order, then the others."""
        return self.store.get()

    def set_weights(self, values: Sequence[Any]) -> None:
        """Give all weights new values; checked as a whole first, so that an error changes nothing."""
        self.store.set(values)

    def count_params(self) -> int:
        """The number of elements of all weights."""
        return self.store.count()

    def reset_state(self) -> None:
        """Begin anew: the states that a stateful layer keeps become zeros."""
        self.store.reset_states()


class Activated(Layer, abstract=True):
    """A layer whose parameter ``activation`` is applied to its output, after the definition."""

    @property
    def trailing(self) -> Activation | None:
        return self.activation


def parts(layer: Layer) -> Iterator[Layer]:
    """The inner layers that a wrapper holds as parameters."""
    for name in layer.parameters:
        value = getattr(layer, name)
        if isinstance(value, Layer):
            yield value
