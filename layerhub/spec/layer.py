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

from layerhub.errors import ParameterError, ShapeError, StateError
from layerhub.spec import axes, masks
from layerhub.spec.activations import Activation
from layerhub.spec.axes import Pattern, Shape
from layerhub.spec.base import Kind, Spec, keyword, snake_case
from layerhub.spec.domains import LayerDType
from layerhub.spec.initializers import initializers
from layerhub.spec.regularizers import RegularizerLike

layers = Kind("layer")

EXTRAS = ("training", "mask", "initial_state", "rng")
"""What a definition or kernel may ask for beside inputs and weights, in this order."""


class Result(NamedTuple):
    """What a definition or kernel returns when its outputs are not all: new weight values, states."""

    outputs: Any
    weights: Mapping[str, Any] = {}
    states: tuple[Any, ...] = ()


class Declared:
    """Something that a class body declares under a name."""

    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class In(Declared):
    """An input by its axes. kind: "float" inputs are cast to the layer's type; "int" and "any" ones are not.

    many: the layer takes a list of inputs here, which share this pattern's number of axes.
    """

    def __init__(self, pattern: str, kind: str = "float", many: bool = False):
        self.pattern, self.kind, self.many = Pattern(pattern), kind, many


class Out(Declared):
    """An output by its axes."""

    def __init__(self, pattern: str):
        self.pattern = Pattern(pattern)


class Weight(Declared):
    """A weight by its axes.

    By the field's custom, ``kernel`` starts by the parameter ``kernel_initializer``, is regularised by
    ``kernel_regularizer``, constrained by ``kernel_constraint``, and is there when ``use_kernel`` is true, as far as
    the layer has such parameters. role replaces the weight's name in these; init and when name another attribute;
    trainable=False declares state that a call may update.
    """

    def __init__(
        self,
        pattern: str,
        role: str | None = None,
        init: str | None = None,
        when: str | None = None,
        trainable: bool = True,
    ):
        self.pattern, self.trainable = Pattern(pattern), trainable
        self._role, self._init, self._when = role, init, when

    def present(self, layer: Layer) -> bool:
        return bool(getattr(layer, self._when or f"use_{self.name}", True))

    def specs(self, layer: Layer, sizes: Mapping[str, Any]) -> tuple[WeightSpec | None, ...]:
        if not self.present(layer):
            return (None,)
        shape = self.pattern.sizes(lambda name: layer.lookup(name, sizes))
        if None in shape:
            raise ShapeError(
                f"{layer!r}: the shape of {self.name} is {shape}: an input size that must be known is None"
            )
        role = self._role or self.name
        start = getattr(layer, self._init or f"{role}_initializer")
        regularizer = getattr(layer, f"{role}_regularizer", None)
        constraint = getattr(layer, f"{role}_constraint", None)
        known: tuple[int, ...] = shape  # type: ignore[assignment]
        spec = WeightSpec(self.name, known, initializers.get(start), self.trainable, regularizer, constraint)
        return (spec,)


class Weights(Declared):
    """All the weights of an inner layer, as one argument (a tuple). layer: the attribute that holds the inner layer."""

    def __init__(self, layer: str, *patterns: str):
        self.layer, self.patterns = layer, tuple(map(Pattern, patterns))

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

    def store(self, layer: Layer) -> Any:
        """Where a layer's weights are."""
        raise StateError("a spec alone only describes a layer; import layerhub.graph to give it weights")


class Layer(Spec, abstract=True):
    """The base of all layers; see the module's page for how one is declared.

    name: must be unique within a model; made from the class name when not given.
    trainable: False freezes the weights; it may be set at any time before compile.
    dtype: the type of weights and computation; None takes ``lh.config.floatx()``.
    activity_regularizer: a penalty on the output, added to the loss, divided by the batch size.
    """

    kind = layers
    mutable = ("name", "trainable")

    activity_regularizer: RegularizerLike | None = keyword(default=None, kw_only=True)
    name: str | None = keyword(default=None, kw_only=True)
    trainable: bool = keyword(default=True, kw_only=True)
    dtype: LayerDType = keyword(default=None, kw_only=True)

    rank: ClassVar[int | None] = None
    inputs: ClassVar[tuple[In, ...]] = ()
    outputs: ClassVar[tuple[Out, ...]] = ()
    held: ClassVar[tuple[Weight | Weights, ...]] = ()
    extras: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[tuple[str, ...]] = ()
    mask: ClassVar[masks.MaskRule]
    states: ClassVar[int] = 0
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

    # What it is called

    @property
    def is_composite(self) -> bool:
        """Whether the meaning is given by parts (``compose``) rather than by array functions (``define``)."""
        return hasattr(self, "compose")

    @property
    def label(self) -> str:
        """The name; made from the class name and a counter when first asked for, if none was given."""
        if self.name is None:
            stem = snake_case(type(self).__name__)
            count = Layer._counts.get(stem, 0)
            Layer._counts[stem] = count + 1
            self.name = f"{stem}_{count}" if count else stem
        return self.name

    @property
    def compute_dtype(self) -> str:
        """The float type that this layer computes in."""
        return self.dtype

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

    def solve(self, *shapes: Shape) -> dict[str, Any]:
        """The sizes that the inputs' axes have, rules between them checked. Raises ShapeError."""
        many = bool(self.inputs) and self.inputs[-1].many
        if len(shapes) != len(self.inputs) and not (many and len(shapes) >= len(self.inputs)):
            wanted = f"at least {len(self.inputs)}" if many else str(len(self.inputs))
            raise ShapeError(f"{self!r} takes {wanted} inputs, {len(shapes)} were given")
        sizes: dict[str, Any] = {}
        for position, shape in enumerate(shapes):
            declared = self.inputs[min(position, len(self.inputs) - 1)]
            if declared.many:
                continue
            self._pattern(declared).match(tuple(shape), sizes, self.rank, lambda d=declared: f"{self!r}: {d.name}")
        sizes["shapes"] = tuple(map(tuple, shapes))
        self._check_rules(sizes)
        return sizes

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        """The shapes of all outputs, states included when they are returned."""
        sizes = self.solve(*shapes)
        if self.is_composite:
            return self._composed_shapes(shapes)
        return tuple(self._pattern(out).sizes(lambda name: self.lookup(name, sizes)) for out in self.outputs)

    def _composed_shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """The definition read with shapes in place of tensors."""

        def do(part: Layer, *arguments: Any, initial_state: Any = None) -> Any:
            inner = part.output_shapes(*(a for a in arguments if isinstance(a, tuple)))
            return inner if len(inner) > 1 else inner[0]

        weights = [None if isinstance(d, Weight) else self._blanks(d) for d in self.held]
        extras = dict.fromkeys(self.extras)
        found = self.compose(do, *shapes, *weights, **extras)
        return found if isinstance(found[0], tuple) else (found,)

    def _blanks(self, declared: Weights) -> tuple[None, ...]:
        return (None,) * len(getattr(self, declared.layer).held)

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

    def weight_arguments(self, *shapes: Shape) -> tuple[tuple[WeightSpec | None, ...], ...]:
        """The weights in the order of the definition's arguments, each argument a tuple (one weight, or a block)."""
        sizes = self.solve(*shapes)
        return tuple(declared.specs(self, sizes) for declared in self.held)

    def weight_specs(self, *shapes: Shape) -> list[WeightSpec]:
        """The weights for inputs of these shapes, in get_weights() order: trainable ones first."""
        found = [spec for argument in self.weight_arguments(*shapes) for spec in argument if spec is not None]
        return [s for s in found if s.trainable] + [s for s in found if not s.trainable]

    # Running, by way of the runtime

    def __call__(self, *inputs: Any, **extras: Any) -> Any:
        """Symbolic tensors grow a graph; native tensors and ndarrays run on the backend that owns them."""
        return Layer.runtime.call(self, *inputs, **extras)

    @property
    def store(self) -> Any:
        """Where the weights are: None of them until the layer is built."""
        return Layer.runtime.store(self)

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
