"""Attention: averages of values, weighted by how well their keys fit a query.

What does not count has no weight at all: values that are masked, those that an ``attention_mask`` excludes, those that
come later under ``use_causal_mask``. A query that nothing is left for gets zeros, never NaN.
"""

from __future__ import annotations

import math
import operator
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from layerhub.spec.activations import ActivationLike
from layerhub.spec.axes import Shape
from layerhub.spec.base import axis, keyword, rule
from layerhub.spec.core import Dropout
from layerhub.spec.domains import Axis, Domain, Rate, Size
from layerhub.spec.halves import as_type, in_single
from layerhub.spec.layer import Activated, In, Layer, Out, Weight
from layerhub.spec.masks import passes, sizes, widened
from layerhub.spec.weighted import KernelAndBias

LOWEST = -(2.0**100)
"""Below every score that counts, and far enough from the end of float32 that differences do not overflow."""


def softmax_where(xp: Any, x: Any, counts: Any, axes: tuple[int, ...]) -> Any:
    """exp(x) / sum(exp(x)) over what counts; the rest is 0, and all is where nothing counts. counts: None for all."""
    if counts is None:
        odds = xp.exp(x - xp.stop_gradient(xp.max(x, axis=axes, keepdims=True)))
        return odds / xp.sum(odds, axis=axes, keepdims=True)
    zeros = xp.zeros_like(x)
    top = xp.max(xp.where(counts, x, xp.full_like(x, LOWEST)), axis=axes, keepdims=True)
    odds = xp.where(counts, xp.exp(xp.where(counts, x - xp.stop_gradient(top), zeros)), zeros)
    total = xp.sum(odds, axis=axes, keepdims=True)
    return odds / xp.where(xp.any(counts, axis=axes, keepdims=True), total, xp.ones_like(total))


def both(xp: Any, a: Any, b: Any) -> Any:
    """Where both masks are true; None is a mask that is true everywhere."""
    return b if a is None else a if b is None else xp.logical_and(a, b)


def steps(xp: Any, rows: Any, columns: Any) -> tuple[Any, Any]:
    """The numbers of rows and columns, shaped such that comparing them gives a matrix."""
    return xp.expand_dims(xp.arange(rows), axis=1), xp.expand_dims(xp.arange(columns), axis=0)


def transposed(xp: Any, x: Any) -> Any:
    """x with its last two axes exchanged."""
    return xp.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


class Weighing(Layer, abstract=True):
    """What all attention has: weights that may be dropped in training, looked at, and kept from the future.

    dropout: the share of the weights that training drops.
    use_causal_mask: a query sees the keys up to its own step alone. return_attention_scores: the weights are a second
    output. A single call may give these two.
    """

    use_causal_mask: bool = keyword(default=False, kw_only=True)
    return_attention_scores: bool = keyword(default=False, kw_only=True)

    options = ("use_causal_mask", "return_attention_scores")

    @cached_property
    def thinning(self) -> Dropout:
        """Dropout of weights: ``thinning.define`` does it."""
        return Dropout(self.dropout)


class SequenceAttention(Weighing, abstract=True):
    """Attention without projections: inputs query, value and key, where the value is the key unless one is given.

        weights = softmax(scores(query, key)),  y = weights @ value

    The mask of the value says which steps count; that of the query sets outputs to 0. As in Keras, the key's is not
    asked. The weights that are returned are those after dropout.
    """

    query = In("n tq d")
    value = In("n tv dv")
    key = In("n tv d", like="value")
    y = Out("n tq dv")
    scores = Out("n tq tv")
    mask = passes

    @rule
    def c1_there_are_values(self, tv):
        return tv > 0

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return super().output_shapes(*shapes)[: 1 + self.return_attention_scores]

    def attended(self, xp: Any, scores: Any, value: Any, dtype: Any, training: bool, mask: Any, rng: Any) -> Any:
        """The output, and the weights where they are asked for."""
        of_query, of_value = (None, None) if mask is None else mask[:2]
        counts = None if of_value is None else xp.expand_dims(of_value, axis=1)
        if self.use_causal_mask:
            rows, columns = steps(xp, xp.size(scores, 1), xp.size(scores, 2))
            counts = both(xp, counts, rows >= columns)
        weights = self.thinning.define(xp, softmax_where(xp, scores, counts, (-1,)), training, rng)
        y = xp.matmul(weights, value)
        if of_query is not None:
            y = xp.where(xp.expand_dims(of_query, axis=-1), y, xp.zeros_like(y))
        y = as_type(xp, y, dtype)
        return (y, as_type(xp, weights, dtype)) if self.return_attention_scores else y


class Attention(SequenceAttention):
    """Attention by products: inputs query, value and key, where the value is the key unless one is given.

        scores = query @ key^T,  weights = softmax(scores),  y = weights @ value

    score_mode: "concat" scores by concat_score_weight * sum(tanh(query + key)) instead.
    use_scale: multiply the scores (for "concat", what is in the tanh) by a number to be learnt.
    The mask of the value says which steps count; that of the query sets outputs to 0. As in Keras, the key's is not
    asked. The weights that ``return_attention_scores`` adds are those after dropout.
    Source: Luong et al. 2015, arXiv:1508.04025, section 3.1.
    """

    use_scale: bool = False
    score_mode: Literal["dot", "concat"] = "dot"
    dropout: Rate = 0.0
    seed: int | None = None

    scale_initializer: ClassVar[str] = "ones"
    concat_score_weight_initializer: ClassVar[str] = "ones"

    scale = Weight("")
    concat_score_weight = Weight("", when="concatenates")

    @property
    def concatenates(self) -> bool:
        """Whether scores are sums of tanh."""
        return self.score_mode == "concat"

    def define(self, xp, query, value, key, scale, concat_score_weight, training, mask, rng):
        q, v, k, scale, factor = in_single(xp, query, value, key, scale, concat_score_weight)
        if self.concatenates:
            pairs = xp.expand_dims(q, axis=2) + xp.expand_dims(k, axis=1)
            scores = xp.sum(xp.tanh(pairs if scale is None else pairs * scale), axis=-1) * factor
        else:
            scores = xp.matmul(q, transposed(xp, k))
            scores = scores if scale is None else scores * scale
        return self.attended(xp, scores, v, query.dtype, training, mask, rng)


class AdditiveAttention(SequenceAttention):
    """Attention by sums: inputs query, value and key, where the value is the key unless one is given.

        scores = sum(scale * tanh(query + key)),  weights = softmax(scores),  y = weights @ value

    use_scale: whether there is such a vector, to be learnt; else it is 1.
    The mask of the value says which steps count; that of the query sets outputs to 0. As in Keras, the key's is not
    asked. The weights that ``return_attention_scores`` adds are those after dropout.
    Source: Bahdanau et al. 2015, arXiv:1409.0473, appendix A.1.2.
    """

    use_scale: bool = True
    dropout: Rate = 0.0
    seed: int | None = None

    scale_initializer: ClassVar[str] = "glorot_uniform"

    scale = Weight("d")

    def define(self, xp, query, value, key, scale, training, mask, rng):
        q, v, k, scale = in_single(xp, query, value, key, scale)
        bent = xp.tanh(xp.expand_dims(q, axis=2) + xp.expand_dims(k, axis=1))
        scores = xp.sum(bent if scale is None else bent * scale, axis=-1)
        return self.attended(xp, scores, v, query.dtype, training, mask, rng)


class SharedKeys(Layer, abstract=True):
    """What is asked of heads of which some may share their keys and values."""

    @rule
    def c1_heads_of_keys_serve_as_many_queries_each(self, query_heads, key_heads):
        return query_heads % key_heads == 0


class SeveralAxes(Layer, abstract=True):
    """What is asked of inputs of which attention goes along some axes of several.

    attention_axes: the axes that attention goes along, counted with the batch; None takes all between batch and
    features.
    """

    @rule
    def c2_inputs_have_as_many_axes(self, shapes):
        return len(set(map(len, shapes[:3]))) == 1

    @rule
    def c3_keys_and_values_have_the_same_places(self, shapes, leading):
        value, key = (shape[1:leading] for shape in shapes[1:3])
        return all(a == b or None in (a, b) for a, b in zip(value, key, strict=True))

    @rule
    def c4_attention_axes_are_some_of_the_places(self, attention_axes, leading):
        axes = self.along(leading)
        return len(set(axes)) == len(axes) > 0 and all(
            -leading - 1 <= i <= leading and 0 < i % (leading + 1) < leading
            for i in ((attention_axes,) if isinstance(attention_axes, int) else attention_axes)
        )

    @rule
    def c5_other_axes_are_the_same(self, shapes, leading):
        rest = [i for i in range(1, leading) if i not in self.along(leading)]
        return all(None in (shapes[0][i], shapes[1][i]) or shapes[0][i] == shapes[1][i] for i in rest)

    @rule
    def c6_causal_masks_and_windows_go_along_one_axis(self, use_causal_mask, leading):
        bounded = use_causal_mask or self.sliding_window is not None
        return not bounded or len(self.along(leading)) == 1


class HeadAttention(Weighing, abstract=True):
    """Attention for each head, and for each place on axes that it does not go along.

    sliding_window: a query sees keys less than so many steps away. ``behind_places`` says how many axes stand behind
    the places: features, or heads and features.
    """

    behind_places: ClassVar[int] = 1

    @rule
    def c7_there_are_values(self, shapes, leading):
        return all(shapes[1][i] != 0 for i in self.along(leading))

    @rule
    def c8_the_attention_mask_fits_the_scores(self, attention_mask_shape, scores_shape, leading):
        axes = len(self.along(leading))
        mask = spread(attention_mask_shape, len(scores_shape), axes)
        return (
            len(attention_mask_shape) >= 2 * axes
            and len(mask) == len(scores_shape)
            and all(None in (a, b) or a in (1, b) for a, b in zip(mask, scores_shape, strict=True))
        )

    @axis
    def leading(self, shapes):
        """How many axes batch and places are."""
        return len(shapes[0]) - self.behind_places

    @axis
    def attention_mask_shape(self, shapes):
        """The shape of the attention mask; None where there is none."""
        return shapes[3]

    @axis
    def scores_shape(self, shapes, leading, query_heads):
        """The shape of scores: batch, places that attention does not go along, heads, queries, keys."""
        query, value = shapes[:2]
        axes = self.along(leading)
        rest = (query[i] for i in range(leading) if i not in axes)
        return (*rest, query_heads, *(query[i] for i in axes), *(value[i] for i in axes))

    def along(self, leading: int) -> tuple[int, ...]:
        """The axes that attention goes along, of inputs whose first ``leading`` axes are the batch and places."""
        if self.attention_axes is None:
            return tuple(range(1, leading))
        axes = (self.attention_axes,) if isinstance(self.attention_axes, int) else self.attention_axes
        return tuple(i % (leading + 1) for i in axes)


def spread(shape: Shape, rank: int, axes: int) -> Shape:
    """A mask's shape with as many axes as scores have: those that it lacks stand before queries and keys."""
    missing = rank - len(shape)
    return (*shape[: len(shape) - 2 * axes], *(1,) * missing, *shape[len(shape) - 2 * axes :])


class DotProductAttention(HeadAttention, SeveralAxes, SharedKeys):
    """Attention of each head, from queries, values and keys that are projected already: (batch, places, heads, d).

        weights = softmax(query @ key^T / sqrt(d)),  y = weights @ value

    There may be fewer heads of keys and values, each of which then serves as many neighbouring heads of queries.
    attention_mask: which keys a query sees; (batch, queries, keys), with axes for other places and heads behind the
    batch if need be. What the masks of query, value and key exclude is excluded too.
    The weights that ``return_attention_scores`` adds are those before dropout.
    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """

    behind_places = 2

    attention_axes: Axis | None = None
    dropout: Rate = 0.0
    sliding_window: Size | None = None
    seed: int | None = None

    query = In("n tq ... query_heads d")
    value = In("n tv ... key_heads dv")
    key = In("n tv ... key_heads d", like="value")
    attention_mask = In("...", kind="bool", optional=True)
    mask = passes

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        found = self.solve(*shapes)
        y = (*found["shapes"][0][:-1], found["dv"])
        return (y, self.lookup("scores_shape", found)) if self.return_attention_scores else (y,)

    def order(self, ndim: int) -> tuple[int, ...]:
        """The axes of an input so ordered: batch, other places, heads, places that attention goes along, features."""
        axes = self.along(ndim - 2)
        return (*(i for i in range(ndim - 2) if i not in axes), ndim - 2, *axes, ndim - 1)

    def counts(self, xp: Any, query: Any, key: Any, attention_mask: Any, mask: Any) -> Any:
        """Which scores count: something that broadcasts to their shape, or None if all do."""
        axes = self.along(query.ndim - 2)
        ahead = query.ndim - 1 - len(axes)
        found = None
        for position, steps_of in enumerate(mask[:3] if mask is not None else ()):
            if steps_of is not None:
                laid = xp.permute_dims(widened(xp, steps_of, query.ndim - 1), self.order(query.ndim)[:-1])
                for _ in axes:
                    laid = xp.expand_dims(laid, axis=laid.ndim if position == 0 else ahead)
                found = both(xp, found, laid)
        if attention_mask is not None:
            for _ in range(ahead + 2 * len(axes) - attention_mask.ndim):
                attention_mask = xp.expand_dims(attention_mask, axis=-2 * len(axes) - 1)
            found = both(xp, found, attention_mask)
        if self.use_causal_mask or self.sliding_window is not None:
            rows, columns = steps(xp, xp.size(query, axes[0]), xp.size(key, axes[0]))
            near = rows >= columns if self.use_causal_mask else None
            if self.sliding_window is not None:
                near = both(xp, near, rows - columns < self.sliding_window)
                near = both(xp, near, columns - rows < self.sliding_window)
            found = both(xp, found, near)
        return found

    def define(self, xp, query, value, key, attention_mask, training, mask, rng):
        counts = self.counts(xp, query, key, attention_mask, mask)
        order = self.order(query.ndim)
        q, v, k = (xp.permute_dims(x, order) for x in in_single(xp, query, value, key))
        count = len(self.along(query.ndim - 2))
        *others, heads = sizes(xp, q)[: q.ndim - 1 - count]
        queries, keys = sizes(xp, q)[-1 - count : -1], sizes(xp, k)[-1 - count : -1]
        groups, (d, dv) = k.shape[-2 - count], (q.shape[-1], v.shape[-1])
        # The queries of all heads that share a key are rows of one matrix.
        rows = (*others, groups, heads // groups * math.prod(queries))
        columns = (*others, groups, math.prod(keys))
        q = xp.reshape(q * (1 / math.sqrt(d)), (*rows, d))
        scores = xp.matmul(q, transposed(xp, xp.reshape(k, (*columns, d))))
        scores = xp.reshape(scores, (*others, heads, *queries, *keys))
        weights = softmax_where(xp, scores, counts, tuple(range(-count, 0)))
        kept = self.thinning.define(xp, weights, training, rng)
        y = xp.matmul(xp.reshape(kept, (*rows, math.prod(keys))), xp.reshape(v, (*columns, dv)))
        y = xp.reshape(y, (*others, heads, *queries, dv))
        y = as_type(xp, xp.permute_dims(y, tuple(map(order.index, range(y.ndim)))), query.dtype)
        return (y, as_type(xp, weights, query.dtype)) if self.return_attention_scores else y


class Projection(Activated):
    """A linear map from the last axes of the input to others, of any number: heads and their features, or back.

    y = x @ kernel + bias, with the axes that are summed over as one, and those that come out as one.
    output_dims: the sizes of the axes that come out. contracted: how many axes are summed over.
    """

    output_dims: Annotated[
        tuple[int, ...],
        Domain(
            "a tuple of positive ints",
            lambda value, owner: _dims(value),
            encode=list,
            valid=((3,), (2, 3), (1, 2, 3)),
            invalid=((0,), "a"),
        ),
    ]
    contracted: Size = 1
    use_bias: bool = True
    activation: ActivationLike = "linear"

    kernel_initializer: ClassVar[str] = "glorot_uniform"
    bias_initializer: ClassVar[str] = "zeros"

    x = In("...")
    kernel = Weight("*kernel_dims")
    bias = Weight("*output_dims")
    y = Out("...")
    mask = passes

    @rule
    def c1_there_are_axes_to_sum_over(self, contracted, shapes):
        return contracted < len(shapes[0])

    @axis
    def kernel_dims(self, shapes):
        """The axes that are summed over, then those that come out."""
        return (*shapes[0][len(shapes[0]) - self.contracted :], *self.output_dims)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        self.solve(*shapes)
        return ((*shapes[0][: len(shapes[0]) - self.contracted], *self.output_dims),)

    def define(self, xp, x, kernel, bias):
        kept = sizes(xp, x)[: x.ndim - self.contracted]
        summed = math.prod(kernel.shape[: self.contracted])
        y = xp.matmul(xp.reshape(x, (*kept, summed)), xp.reshape(kernel, (summed, math.prod(self.output_dims))))
        y = xp.reshape(y, (*kept, *self.output_dims))
        return y if bias is None else y + bias


class Gate(Layer):
    """x * gate, at masked steps too, which ``Multiply`` leaves out."""

    x = In("...")
    gate = In("...")
    y = Out("...")
    mask = passes

    @rule
    def c1_inputs_have_the_same_shape(self, shapes):
        return len(shapes[0]) == len(shapes[1]) and all(None in (a, b) or a == b for a, b in zip(*shapes, strict=True))

    def define(self, xp, x, gate):
        return x * gate


def _dims(value: Any) -> tuple[int, ...]:
    dims = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(size, bool) or operator.index(size) < 1 for size in dims):
        raise ValueError
    return tuple(map(operator.index, dims))


class MultiHead(HeadAttention, KernelAndBias, abstract=True):
    """Attention of several heads between projections: of queries, keys and values, and of what the heads find.

    query_heads, key_heads: how many heads there are. key_size, value_size: how many features of each.
    """

    behind = {"use_gate": "bias_constraint", "seed": "use_gate"}

    query = In("n tq ... d")
    value = In("n tv ... dv")
    key = In("n tv ... dk", like="value")
    attention_mask = In("...", kind="bool", optional=True)
    penalises_parts = True

    query_kernel = Weight("d query_heads key_size", role="kernel", path="query/kernel")
    query_bias = Weight("query_heads key_size", role="bias", when="use_bias", path="query/bias")
    key_kernel = Weight("dk key_heads key_size", role="kernel", path="key/kernel")
    key_bias = Weight("key_heads key_size", role="bias", when="use_bias", path="key/bias")
    gate_kernel = Weight("d query_heads value_size", role="kernel", when="use_gate", path="gate/kernel")
    gate_bias = Weight("query_heads value_size", role="bias", when="gate_is_biased", path="gate/bias")
    value_kernel = Weight("dv key_heads value_size", role="kernel", path="value/kernel")
    value_bias = Weight("key_heads value_size", role="bias", when="use_bias", path="value/bias")
    output_kernel = Weight("query_heads value_size *out_dims", role="kernel", path="attention_output/kernel")
    output_bias = Weight("*out_dims", role="bias", when="use_bias", path="attention_output/bias")

    @property
    def gate_is_biased(self) -> bool:
        """Whether the gate has a bias."""
        return self.use_gate and self.use_bias

    @axis
    def out_dims(self, d):
        """The axes of the output behind its places."""
        return (d,)

    def compose(
        self, do, query, value, key, attention_mask, query_kernel, query_bias, key_kernel, key_bias, gate_kernel,
        gate_bias, value_kernel, value_bias, output_kernel, output_bias,
    ):  # fmt: skip
        # Where the definition is read for shapes, a shape stands for itself.
        out_dims = self.lookup("out_dims", {"d": getattr(query, "shape", query)[-1]})
        q = do(self._projection(self.query_heads, self.key_size), query, query_kernel, query_bias)
        k = do(self._projection(self.key_heads, self.key_size), key, key_kernel, key_bias)
        v = do(self._projection(self.key_heads, self.value_size), value, value_kernel, value_bias)
        y = do(self._attention, q, v, k, attention_mask)
        y, scores = y if self.return_attention_scores else (y, None)
        if self.use_gate:
            gated = self._projection(self.query_heads, self.value_size, activation="sigmoid")
            gate = do(gated, query, gate_kernel, gate_bias)
            y = do(Gate(dtype=self.compute_dtype), y, gate)
        y = do(self._projection(*out_dims, contracted=2), y, output_kernel, output_bias)
        return (y, scores) if self.return_attention_scores else y

    def _projection(self, *dims: int, contracted: int = 1, activation: str = "linear") -> Projection:
        return Projection(
            dims, contracted, self.use_bias, activation,
            activity_regularizer=self.activity_regularizer, dtype=self.compute_dtype,
        )  # fmt: skip

    @property
    def _attention(self) -> DotProductAttention:
        return DotProductAttention(
            self.attention_axes, self.dropout, self.sliding_window, self.seed, dtype=self.compute_dtype,
            use_causal_mask=self.use_causal_mask, return_attention_scores=self.return_attention_scores,
        )  # fmt: skip


class MultiHeadAttention(MultiHead, SeveralAxes):
    """Attention of several heads, each over projections of its own; what they find is projected once more.

        head[h] = softmax(query @ Wq[h] @ (key @ Wk[h])^T / sqrt(key_dim)) @ (value @ Wv[h])
        y = sum of head[h] @ Wo[h], every projection with a bias

    Inputs query, value, key (the value unless given), and ``attention_mask``: which keys a query sees, (batch, queries,
    keys); it may lack axes, or have axes for other places and heads behind the batch. The masks of query, value and key
    exclude as well. Weights: query, key, gate, value, output.

    key_dim, value_dim: features of a head; value_dim is key_dim unless given. output_shape: the last axes of the
    output; None takes the query's features. attention_axes: the axes that attention goes along, counted with the batch;
    None takes all between batch and features. sliding_window: a query sees keys less than so many steps away, before
    and behind. flash_attention: a hint, that changes nothing: backends take the fastest algorithm that is right.
    use_gate: heads are multiplied by the sigmoid of one more projection of the query (Qiu et al. 2025,
    arXiv:2505.06708). activity_regularizer: a penalty on every projection, not on the output alone. The weights that
    ``return_attention_scores`` adds are those before dropout.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    num_heads: Size
    key_dim: Size
    value_dim: Size | None = None
    dropout: Rate = 0.0
    use_bias: bool = True
    output_shape: (
        Annotated[
            Any,
            Domain(
                "a positive int, or a tuple of them",
                lambda value, owner: _dims(value) or None,
                encode=lambda value: value and list(value),
                valid=((3,), (2, 3)),
                invalid=((0, 2), -1, "a"),
                schema={"type": "array", "items": {"type": "integer", "minimum": 1}},
            ),
        ]
        | None
    ) = None
    attention_axes: Axis | None = None
    sliding_window: Size | None = None
    flash_attention: bool | None = None
    use_gate: bool = False
    seed: int | None = None

    @property
    def query_heads(self) -> int:
        return self.num_heads

    @property
    def key_heads(self) -> int:
        return self.num_heads

    @property
    def key_size(self) -> int:
        return self.key_dim

    @property
    def value_size(self) -> int:
        return self.value_dim or self.key_dim

    @axis
    def out_dims(self, d):
        """The axes of the output behind its places."""
        return self.output_shape or (d,)


class GroupQueryAttention(MultiHead, SharedKeys):
    """Attention of several heads, neighbouring ones of which share keys and values. See ``MultiHeadAttention``.

    num_key_value_heads: how many heads keys and values have; it divides num_query_heads. 1 is multi-query attention.
    Inputs query, value, key (the value unless given), and ``attention_mask``, which may have an axis for the heads of
    queries behind the batch. Weights: query, key, gate, value, output.
    Source: Ainslie et al. 2023, arXiv:2305.13245.
    """

    aliases = ("GroupedQueryAttention",)

    head_dim: Size
    num_query_heads: Size
    num_key_value_heads: Size
    dropout: Rate = 0.0
    use_bias: bool = True
    sliding_window: Size | None = None
    flash_attention: bool | None = None
    use_gate: bool = False
    seed: int | None = None

    attention_axes: ClassVar[tuple[int, ...] | None] = None

    query = In("n tq d")
    value = In("n tv dv")
    key = In("n tv dk", like="value")

    @property
    def query_heads(self) -> int:
        return self.num_query_heads

    @property
    def key_heads(self) -> int:
        return self.num_key_value_heads

    @property
    def key_size(self) -> int:
        return self.head_dim

    @property
    def value_size(self) -> int:
        return self.head_dim
