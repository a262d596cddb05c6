"""Core layers: dense, activation, dropout, shape changes, embedding, functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from layerhub.errors import DataError, ShapeError
from layerhub.spec.activations import ActivationLike
from layerhub.spec.axes import Shape as Sizes
from layerhub.spec.axes import product
from layerhub.spec.base import rule
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.domains import DataFormat, Function, Rate, Shape, Size
from layerhub.spec.initializers import InitializerLike
from layerhub.spec.layer import Activated, In, Layer, Out, Weight
from layerhub.spec.masks import MaskRule, passes, sizes, stops
from layerhub.spec.regularizers import RegularizerLike


class Dense(Activated):
    """A linear map of the last axis: activation(x @ kernel + bias)."""

    keras_only = {"quantization_config": None, "lora_rank": None}

    units: Size
    activation: ActivationLike = "linear"
    use_bias: bool = True
    kernel_initializer: InitializerLike = "glorot_uniform"
    bias_initializer: InitializerLike = "zeros"
    kernel_regularizer: RegularizerLike | None = None
    bias_regularizer: RegularizerLike | None = None
    activity_regularizer: RegularizerLike | None = None
    kernel_constraint: ConstraintLike | None = None
    bias_constraint: ConstraintLike | None = None

    x = In("n ... d")
    kernel = Weight("d units")
    bias = Weight("units")
    y = Out("n ... units")
    mask = passes

    def define(self, xp, x, kernel, bias):
        y = xp.matmul(x, kernel)
        return y if bias is None else y + bias


class Activation(Activated):
    """An activation as a layer of its own."""

    activation: ActivationLike

    x = In("...")
    y = Out("...")
    mask = passes

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

    rate: Rate
    noise_shape: Shape | None = None
    seed: int | None = None

    x = In("...")
    y = Out("...")
    mask = passes

    def define(self, xp, x, training, rng):
        if not training or self.rate == 0:
            return x
        if self.rate == 1:
            return xp.zeros_like(x)
        noise = self.noise_shape or (None,) * x.ndim
        shape = tuple(xp.size(x, axis) if size is None else size for axis, size in enumerate(noise))
        kept = xp.random_bits(rng, shape) >= round(self.rate * 2**32)
        return xp.where(kept, x / (1 - self.rate), xp.zeros_like(x))


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

    target_shape: Shape

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


class Embedding(Layer):
    """A row of a table for each id: y = embeddings[x].

    input_dim: how many ids there are; ids are ints in [0, input_dim).
    mask_zero: id 0 means "nothing here" and is masked; its row is trained all the same.
    """

    keras_only = {"quantization_config": None, "lora_rank": None}

    input_dim: Size
    output_dim: Size
    embeddings_initializer: InitializerLike = "uniform"
    embeddings_regularizer: RegularizerLike | None = None
    embeddings_constraint: ConstraintLike | None = None
    mask_zero: bool = False

    x = In("...", kind="int")
    embeddings = Weight("input_dim output_dim")
    y = Out("... output_dim")
    mask = MaskRule(
        "ids other than 0, with mask_zero",
        lambda layer, has: layer.mask_zero,
        lambda layer, xp, inputs, masks: inputs[0] != 0,
    )

    def check_input(self, x: Any) -> None:
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= self.input_dim:
            wrong = low if low < 0 else high
            raise DataError(f"{self!r}: the id {wrong} is outside [0, {self.input_dim}); ids must be below input_dim")

    def define(self, xp, x, embeddings):
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
        if self.output_shape is None:
            return (Layer.runtime.trial(lambda *xs: self.define(None, xs), shapes, self.compute_dtype),)
        if callable(self.output_shape):
            return (tuple(self.output_shape(shapes[0] if len(shapes) == 1 else list(shapes))),)
        return ((shapes[0][0], *self.output_shape),)

    def define(self, xp, xs):
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
