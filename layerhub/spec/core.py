"""Core layers: dense, activation, dropout, shape changes, masking, embedding, functions."""

from __future__ import annotations

import math
import operator
import re
import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from layerhub.errors import DataError, LayerHubError, ShapeError
from layerhub.spec.activations import ActivationLike, AnyActivation
from layerhub.spec.axes import Shape as Sizes
from layerhub.spec.axes import product
from layerhub.spec.base import axis, keyword, rule
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.contraction import contract
from layerhub.spec.domains import SHAPE, STR, DataFormat, Domain, Function, NonNegative, Rate, Shape, Size
from layerhub.spec.initializers import Fanned, InitializerLike
from layerhub.spec.layer import Activated, In, Layer, Out, Weight
from layerhub.spec.masks import MaskRule, passes, sizes, stops
from layerhub.spec.regularizers import L1L2, RegularizerLike
from layerhub.spec.spellings import EMBEDDING
from layerhub.spec.weighted import Affine


class Dense(Affine):
    """A linear map of the last axis: activation(x @ kernel + bias)."""

    keras_only = {"quantization_config": None, "lora_rank": None, "lora_alpha": None}
    formerly = {"output_dim": "units"}

    units: Size

    x = In("n ... d")
    kernel = Weight("d units")
    bias = Weight("units")
    y = Out("n ... units")
    mask = passes

    def define(self, xp, x, kernel, bias):
        y = xp.matmul(x, kernel)
        return y if bias is None else y + bias


class Terms(NamedTuple):
    """The letters of an equation such as ``...ab,bc->...ac``. dots: where there is an ellipsis: left, right, or ""."""

    x: str
    kernel: str
    y: str
    dots: str


EQUATION = re.compile(
    r"(?!.*\.\.\..*\.\.\.,)(?P<left>(\.\.\.)?)(?P<x>[a-zA-Z]+)(?P<right>(\.\.\.)?),(?P<kernel>[a-zA-Z]+)"
    r"->(?P=left)(?P<y>[a-zA-Z]+)(?P=right)"
)
"""Input, kernel and output, where input and output may have an ellipsis on the same side."""


def _accept_equation(value: Any, owner: Any) -> str:
    if not isinstance(value, str) or EQUATION.fullmatch(value) is None:
        raise ValueError
    return value


def _accept_output_shape(value: Any, owner: Any) -> tuple[int | None, ...]:
    sizes = value if isinstance(value, (tuple, list)) else (value,)
    found = tuple(None if size is None else operator.index(size) for size in sizes)
    if any(size is not None and size < 1 for size in found) or isinstance(value, bool):
        raise ValueError
    return found


class EinsumDense(Activated):
    """A product of the input and a kernel, summed as an equation says: activation(einsum(equation, x, kernel) + bias).

    equation: letters for the axes of input, kernel and output, as in "abc,cd->abd"; "...bc,cd->...bd" and
        "ab...,bc->ac..." leave out axes that are carried through unchanged. The first axis is the batch.
    output_shape: a size for each letter of the output, without the batch; None where it is the input's.
    bias_axes: the letters of the output along which there is a bias; None for none.
    """

    keras_only = {
        "quantization_config": None, "lora_rank": None, "lora_alpha": None, "gptq_unpacked_column_size": None
    }  # fmt: skip

    equation: Annotated[
        str,
        Domain(
            "an equation of input, kernel and output, such as 'ab,bc->ac', '...b,bc->...c' or 'ab...,bc->ac...'",
            _accept_equation,
            valid=(
                "ab,bc->ac",
                "...b,cb->...c",
                "ab...,bc->ac...",
                "abc,cd->abd",
                "abc,bcd->acd",
                "abc,bde->aed",
                "abcd,cde->abe",
                "abc,cb->ab",
                "...ab,bcd->...acd",
            ),
            invalid=("a", "ab,bc", "...ab...,bc->...ac...", 3),
            schema={"type": "string"},
        ),
    ]
    output_shape: Annotated[
        Any,
        Domain(
            "a positive int, or a tuple of them (None where a size is the input's)",
            _accept_output_shape,
            encode=list,
            valid=((3,), (5,), (None, 5), (3, 2), (None,), (3, 2, 5)),
            invalid=(0, "a", (1.5,)),
            schema={"type": "array", "items": {"type": ["integer", "null"]}},
        ),
    ]
    activation: ActivationLike = "linear"
    bias_axes: Annotated[str, replace(STR, valid=("c", "d", "bd", "a", "e"))] | None = None
    kernel_initializer: InitializerLike = "glorot_uniform"
    bias_initializer: InitializerLike = "zeros"
    kernel_regularizer: RegularizerLike | None = None
    bias_regularizer: RegularizerLike | None = None
    kernel_constraint: ConstraintLike | None = None
    bias_constraint: ConstraintLike | None = None

    x = In("...")
    kernel = Weight("*kernel_sizes", init="kernel_start")
    bias = Weight("*bias_sizes")
    y = Out("...")
    mask = stops

    @rule
    def c1_no_term_has_a_letter_twice(self, equation):
        return all(len(set(term)) == len(term) for term in self.terms[:3])

    @rule
    def c2_each_letter_of_the_kernel_is_in_the_input_or_the_output(self, equation):
        return set(self.terms.kernel) <= {*self.terms.x, *self.terms.y}

    @rule
    def c3_each_letter_of_the_output_is_in_the_input_or_the_kernel(self, equation):
        return set(self.terms.y) <= {*self.terms.x, *self.terms.kernel}

    @rule
    def c4_the_output_shape_has_a_size_for_each_letter_but_the_batch(self, equation, output_shape):
        return len(output_shape) == len(self._sized)

    @rule
    def c5_the_output_shape_leaves_out_sizes_of_the_input_only(self, equation, output_shape):
        open_ = {letter for letter, size in zip(self._sized, output_shape, strict=True) if size is None}
        return open_ <= set(self.terms.x)

    @rule
    def c6_the_bias_axes_are_letters_of_the_output(self, equation, bias_axes):
        return bool(bias_axes) and set(bias_axes) <= set(self.terms.y)

    @rule
    def c7_the_input_has_the_axes_of_the_equation(self, equation, shapes):
        carried = len(shapes[0]) - len(self.terms.x)
        return {"left": carried >= 1, "right": carried >= 0, "": carried == 0}[self.terms.dots]

    @rule
    def c8_sizes_of_the_output_shape_are_those_of_the_input(self, equation, output_shape, shapes):
        of_input = self._letters(shapes[0])[0]
        pairs = [(of_input.get(letter), size) for letter, size in zip(self._sized, output_shape, strict=True)]
        return all(None in pair or pair[0] == pair[1] for pair in pairs)

    @property
    def terms(self) -> Terms:
        """The letters of the equation."""
        found: Any = EQUATION.fullmatch(self.equation)
        dots = "left" if found["left"] else "right" if found["right"] else ""
        return Terms(found["x"], found["kernel"], found["y"], dots)

    @property
    def _sized(self) -> str:
        """The letters that ``output_shape`` gives sizes for."""
        return self.terms.y if self.terms.dots == "left" else self.terms.y[1:]

    def _letters(self, shape: Sizes) -> tuple[dict[str, int | None], Sizes]:
        """The sizes of the input's letters, and of the axes that are carried through."""
        terms, carried = self.terms, len(shape) - len(self.terms.x)
        if terms.dots == "left":
            return dict(zip(terms.x, shape[carried:], strict=True)), shape[:carried]
        return dict(zip(terms.x, shape[: len(terms.x)], strict=True)), shape[len(terms.x) :]

    def _known(self, shape: Sizes) -> dict[str, int | None]:
        """The sizes of all letters."""
        given = {letter: size for letter, size in zip(self._sized, self.output_shape, strict=True) if size is not None}
        return self._letters(shape)[0] | given

    @axis
    def kernel_sizes(self, shapes):
        """The shape of the kernel."""
        known = self._known(shapes[0])
        return tuple(known[letter] for letter in self.terms.kernel)

    @axis
    def bias_sizes(self, shapes):
        """The shape of the bias: from its first letter on, with size 1 for letters that it lacks."""
        known, terms, own = self._known(shapes[0]), self.terms, self.bias_axes or ""
        letters = terms.y[min(terms.y.index(letter) for letter in own) :]
        ones = (1,) * len(self._letters(shapes[0])[1]) if terms.dots == "right" else ()
        return (*(known[letter] if letter in own else 1 for letter in letters), *ones)

    @property
    def use_bias(self) -> bool:
        """Whether there is a bias."""
        return self.bias_axes is not None

    @property
    def kernel_start(self) -> Any:
        """The initializer of the kernel: its inputs are the letters that are summed, its outputs those that stay."""
        start, stays = self.kernel_initializer, [letter in self.terms.y for letter in self.terms.kernel]
        if not isinstance(start, Fanned) or None not in (start.input_axes, start.output_axes):
            return start
        return start.replace(
            input_axes=[i for i, stay in enumerate(stays) if not stay],
            output_axes=[i for i, stay in enumerate(stays) if stay],
        )

    def output_shapes(self, *shapes: Sizes) -> tuple[Sizes, ...]:
        self.solve(*shapes)
        known, carried = self._known(shapes[0]), self._letters(shapes[0])[1]
        own = tuple(known[letter] for letter in self.terms.y)
        return (carried + own if self.terms.dots == "left" else own + carried,)

    def define(self, xp, x, kernel, bias):
        terms = self.terms
        spare = [letter for letter in string.ascii_letters if letter not in self.equation]
        carried = "".join(spare[: x.ndim - len(terms.x)])
        first, output = (carried + t if terms.dots == "left" else t + carried for t in (terms.x, terms.y))
        y = contract(xp, f"{first},{terms.kernel}->{output}", x, kernel)
        return y if bias is None else y + bias


class Activation(Activated):
    """An activation as a layer of its own."""

    activation: AnyActivation

    x = In("...")
    y = Out("...")
    mask = passes

    def output_shapes(self, *shapes: Sizes) -> tuple[Sizes, ...]:
        return tuple(self.activation.output_shape(shape) for shape in super().output_shapes(*shapes))

    def linear_shapes(self, *shapes: Sizes) -> tuple[Sizes, ...]:
        return super().output_shapes(*shapes)

    def define(self, xp, x):
        return x


class Dropout(Layer):
    """Zero a random share ``rate`` of the input in training, and scale the rest by 1 / (1 - rate).

    rate: the share that is dropped (not kept).
    noise_shape: the shape of the random mask, broadcast over the input; None stands for the input's size.
    seed: draws the mask; without one the model's seed does, with the layer's place in the model.

    An element is dropped when its 32 random bits, as an integer, are below rate * 2**32.
    Source: Srivastava et al., JMLR 15 (2014) 1929.
    """

    formerly = {"p": "rate"}

    rate: Rate
    noise_shape: Annotated[Any, replace(SHAPE, valid=((None, 1), (None, 1, 5), (1, 3, None)))] | None = None
    seed: int | None = None

    x = In("...")
    y = Out("...")
    mask = passes

    @rule
    def c1_the_noise_shape_has_a_size_for_each_axis(self, noise_shape, shapes):
        return len(noise_shape) == len(shapes[0])

    @rule
    def c2_the_noise_broadcasts_over_the_input(self, noise_shape, shapes):
        return all(noise in (None, 1, size) or size is None for noise, size in zip(noise_shape, shapes[0], strict=True))

    def define(self, xp, x, training, rng):
        if not training or self.rate == 0:
            return x
        if self.rate == 1:
            return xp.zeros_like(x)
        return xp.where(self.kept(xp, x, rng), x / (1 - self.rate), xp.zeros_like(x))

    def kept(self, xp: Any, x: Any, rng: Any) -> Any:
        """Which elements are kept, in the shape of the noise."""
        noise = self.noise_shape or (None,) * x.ndim
        shape = tuple(xp.size(x, axis) if size is None else size for axis, size in enumerate(noise))
        return xp.random_bits(rng, shape) >= round(self.rate * 2**32)


class Flatten(Layer):
    """All axes but the batch as one. With channels_first, the channels are moved last beforehand."""

    data_format: DataFormat = None

    x = In("...", kind="any")
    y = Out("n flat")
    mask = stops

    def output_shapes(self, *shapes: Sizes) -> tuple[Sizes, ...]:
        batch, *rest = self.solve(*shapes)["..."]
        return ((batch, product(rest)),)

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def define(self, xp, x):
        if self.data_format == "channels_first" and x.ndim > 2:
            x = xp.permute_dims(x, (0, *range(2, x.ndim), 1))
        return xp.reshape(x, (-1, math.prod(x.shape[1:])))


class Reshape(Layer):
    """The same elements in another shape; one size may be -1 and follows from the others.

    target_shape: without the batch axis.
    """

    target_shape: Annotated[Any, replace(SHAPE, valid=((2, 3), (-1,), (6,), (2, -1, 3), (3, 4)))]

    x = In("...", kind="any")
    y = Out("n *target_shape")
    mask = stops

    @rule
    def c1_at_most_one_size_is_left_open(self, target_shape):
        return target_shape.count(-1) <= 1 and all(size >= -1 for size in target_shape)

    def output_shapes(self, *shapes: Sizes) -> tuple[Sizes, ...]:
        batch, *rest = self.solve(*shapes)["..."]
        return ((batch, *self._target(rest)),)

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def _target(self, rest: Any) -> Sizes:
        total, fixed = product(rest), math.prod(size for size in self.target_shape if size != -1)
        if -1 not in self.target_shape:
            if total is not None and total != fixed:
                raise ShapeError(f"{self!r}: x has {total} elements for each sample, the target shape has {fixed}")
            return self.target_shape
        if total is not None and (fixed == 0 or total % fixed):
            raise ShapeError(f"{self!r}: {total} elements for each sample cannot be divided into {self.target_shape}")
        return tuple((None if total is None else total // fixed) if s == -1 else s for s in self.target_shape)

    def define(self, xp, x):
        target = self._target(x.shape[1:])
        return xp.reshape(x, (xp.size(x, 0), *(-1 if size is None else size for size in target)))


def _accept_order(value: Any, owner: Any) -> tuple[int, ...]:
    dims = tuple(operator.index(dim) for dim in value)
    if sorted(dims) != list(range(1, len(dims) + 1)):
        raise ValueError
    return dims


class Permute(Layer):
    """The axes after the batch in another order: axis i of the output is axis dims[i - 1] of the input.

    dims: input axes, counted from 1; the batch, axis 0, stays where it is.
    """

    dims: Annotated[
        tuple[int, ...],
        Domain(
            "the numbers from 1 up to the number of axes after the batch, in some order",
            _accept_order,
            encode=list,
            valid=((2, 1), (1,), (3, 1, 2)),
            invalid=((0, 1), (1, 3), (1, 1), 2, "ab"),
            schema={"type": "array", "items": {"type": "integer", "minimum": 1}},
        ),
    ]

    x = In("n ...", kind="any")
    y = Out("n ...")
    mask = stops

    @rule
    def c1_there_is_one_of_dims_for_each_axis(self, dims, shapes):
        return len(dims) == len(shapes[0]) - 1

    def output_shapes(self, *shapes: Sizes) -> tuple[Sizes, ...]:
        self.solve(*shapes)
        return ((shapes[0][0], *(shapes[0][dim] for dim in self.dims)),)

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def define(self, xp, x):
        return xp.permute_dims(x, (0, *self.dims))


class RepeatVector(Layer):
    """Each sample's vector, ``n`` times over: (batch, features) becomes (batch, n, features)."""

    n: Size

    x = In("n d", kind="any")
    y = Out("n times d")
    mask = stops

    @property
    def times(self) -> int:
        """The parameter ``n``, under a name that axes do not have for the batch."""
        return self.n

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def define(self, xp, x):
        return xp.broadcast_to(xp.expand_dims(x, axis=1), (xp.size(x, 0), self.n, xp.size(x, 1)))


class Identity(Layer):
    """The input, unchanged."""

    x = In("...", kind="any")
    y = Out("...")
    mask = passes

    def output_dtype(self, *dtypes: str) -> str:
        return dtypes[0]

    def define(self, xp, x):
        return x


class ActivityRegularization(Layer):
    """The input, unchanged; l1 * sum |x| + l2 * sum x**2, divided by the batch size, is added to the loss."""

    l1: NonNegative = 0.0
    l2: NonNegative = 0.0

    x = In("...")
    y = Out("...")
    mask = passes

    @property
    def activity_regularizer(self) -> L1L2 | None:  # type: ignore[override]
        """The penalty; None where it is always 0."""
        return L1L2(self.l1, self.l2) if self.l1 or self.l2 else None

    def define(self, xp, x):
        return x


class Masking(Layer):
    """A step counts when any of its features differs from ``mask_value``; steps that do not count become 0."""

    mask_value: float = 0.0

    x = In("n ... d")
    y = Out("n ... d")
    mask = MaskRule(
        "steps with a feature other than mask_value",
        lambda layer, has: True,
        lambda layer, xp, inputs, masks: layer.counts(xp, inputs[0]),
        shape=lambda layer, shapes, masks: shapes[0][:-1],
    )

    def counts(self, xp: Any, x: Any) -> Any:
        """Which steps count."""
        return xp.any(x != self.mask_value, axis=-1)

    def define(self, xp, x):
        return xp.where(xp.expand_dims(self.counts(xp, x), axis=-1), x, xp.zeros_like(x))


class Embedding(Layer):
    """A row of a table for each id: y = embeddings[x].

    input_dim: how many ids there are; ids are ints in [0, input_dim).
    mask_zero: id 0 means "nothing here" and is masked; its row is trained all the same.
    dropout: the share of rows of the table that a step in training takes for zeros (the others count the more for it).
    Source of the dropout: Gal & Ghahramani 2016, arXiv:1512.05287.
    """

    keras_only = {"quantization_config": None, "lora_rank": None, "lora_alpha": None}
    formerly = EMBEDDING
    unsaid = ("dropout",)

    input_dim: Size
    output_dim: Size
    embeddings_initializer: InitializerLike = "uniform"
    embeddings_regularizer: RegularizerLike | None = None
    embeddings_constraint: ConstraintLike | None = None
    mask_zero: bool = False
    dropout: Rate = keyword(default=0.0, kw_only=True)

    x = In("...", kind="int")
    embeddings = Weight("input_dim output_dim")
    y = Out("... output_dim")
    mask = MaskRule(
        "ids other than 0, with mask_zero",
        lambda layer, has: layer.mask_zero,
        lambda layer, xp, inputs, masks: inputs[0] != 0,
        shape=lambda layer, shapes, masks: shapes[0],
    )

    def check_input(self, x: Any) -> None:
        # Floats are cut to whole numbers, as -0.5 to 0; and NaN is no id.
        low, high = x.min(), x.max()
        if not (low > -1 and high < self.input_dim):
            wrong = high if low > -1 else low
            raise DataError(
                f"{self!r}: the id {wrong:.15g} is outside [0, {self.input_dim}); ids must be below input_dim"
            )

    def shape_of_first(self, input_dim: int | None, input_length: int | None) -> Sizes | None:
        return None if input_length is None else (None, input_length)

    def define(self, xp, x, embeddings, training, rng):
        if training and self.dropout:
            kept = xp.random_bits(rng, (self.input_dim, 1)) >= round(self.dropout * 2**32)
            embeddings = embeddings * (xp.astype(kept, embeddings.dtype) / max(1 - self.dropout, 2.0**-32))
        rows = xp.take(embeddings, xp.reshape(x, (-1,)), axis=0)
        return xp.reshape(rows, (*sizes(xp, x), self.output_dim))


class Lambda(Layer):
    """A function, written with ``layerhub.ops``, as a layer.

    function: takes the input (or the list of inputs), then ``arguments`` by name.
    output_shape: without the batch axis, or a function of the input shape; None: found by trying the function out.
    mask: None passes no mask on; a function takes the inputs and their masks and gives the output's.
    """

    function: Function
    output_shape: Shape | Function | None = None
    mask: Function | None = None  # type: ignore[assignment]
    arguments: Mapping[str, Any] | None = None

    xs = In("...", kind="any", many=True)
    y = Out("...")

    @property
    def mask_rule(self) -> MaskRule:
        if self.mask is None:
            return stops
        return MaskRule(
            "its own function's", lambda layer, has: any(has), lambda layer, xp, xs, masks: self._masked(xs, masks)
        )

    def _masked(self, xs: tuple, masks: tuple) -> Any:
        function: Any = self.mask
        return function(*(xs[0], masks[0]) if len(xs) == 1 else (list(xs), list(masks)))

    def output_shapes(self, *shapes: Sizes) -> tuple[Sizes, ...]:
        self.solve(*shapes)
        if self.output_shape is None:
            return (self._tried(shapes),)
        if callable(self.output_shape):
            return (tuple(self.output_shape(shapes[0] if len(shapes) == 1 else list(shapes))),)
        return ((shapes[0][0], *self.output_shape),)

    def _tried(self, shapes: tuple[Sizes, ...]) -> Sizes:
        try:
            return Layer.runtime.trial(lambda *xs: self.define(None, xs), shapes, self.compute_dtype)
        except LayerHubError:
            raise
        except Exception as problem:
            told = f"{type(problem).__name__}: {problem}"
            raise ShapeError(f"{self!r}: its function fails for inputs of shape {shapes}: {told}") from problem

    def define(self, xp, xs):
        if xp is not None:
            # Copies: what the function does to its arguments in place (``x -= 1``) stays its own.
            xs = tuple(xp.concat([x], axis=0) for x in xs)
        return self.function(xs[0] if len(xs) == 1 else list(xs), **(self.arguments or {}))


class InputLayer(Layer):
    """Where data enter a model; ``layerhub.Input`` makes one. It hands its input on unchanged.

    shape: without the batch axis; batch_shape: with it; give one of them. sparse: whether the data are sparse.
    """

    shape: Shape | None = None
    batch_size: Size | None = None
    sparse: bool = False
    batch_shape: Shape | None = None

    x = In("...", kind="any")
    y = Out("...")
    mask = passes

    @rule
    def c1_shape_or_batch_shape_is_given(self):
        return (self.shape is None) != (self.batch_shape is None)

    @property
    def full_shape(self) -> Sizes:
        """The shape with its batch axis."""
        return self.batch_shape if self.batch_shape is not None else (self.batch_size, *(self.shape or ()))

    def define(self, xp, x):
        return x
