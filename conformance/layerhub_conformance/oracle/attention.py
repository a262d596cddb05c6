"""Attention, one query at a time."""

import itertools
import math

from .activations import activate
from .arithmetic import dot, exp, largest, total
from .core import dropout
from .nested import at, build, flatten, shape
from .registry import Outcome, oracle


def shares(scores, counts):
    """The share of each score's exponential in the sum over those that count; 0 for the others."""
    chosen = [s for s, counted in zip(scores, counts, strict=True) if counted]
    if not chosen:
        return [0.0] * len(scores)
    top = largest(chosen)
    odds = [exp(s - top) if counted else 0.0 for s, counted in zip(scores, counts, strict=True)]
    whole = total(odds)
    return [o / whole for o in odds]


def thinned(params, weights, training=False, bits=None, **_):
    """Weights after dropout."""
    return dropout({"rate": params["dropout"]}, [weights], [], training=training, bits=bits).outputs[0]


def attend(params, inputs, score, mask=None, **others):
    """Each query's shares in the values, as far as they are not dropped. score(q, k) for two rows of features."""
    query, value = inputs[:2]
    key = inputs[2] if len(inputs) > 2 else value
    of_query, of_value = (mask or [None, None])[:2]
    weights = []
    for n, (queries, keys) in enumerate(zip(query, key, strict=True)):
        rows = []
        for i, q in enumerate(queries):
            counts = [
                (of_value is None or of_value[n][j]) and (not params["use_causal_mask"] or j <= i)
                for j in range(len(keys))
            ]
            rows.append(shares([score(q, k) for k in keys], counts))
        weights.append(rows)
    weights = thinned(params, weights, **others)

    def output(n, i):
        columns = zip(*value[n], strict=True)
        return [dot(weights[n][i], c) if of_query is None or of_query[n][i] else 0.0 for c in columns]

    outputs = [[output(n, i) for i in range(len(rows))] for n, rows in enumerate(weights)]
    return Outcome([outputs, weights] if params["return_attention_scores"] else [outputs])


@oracle("Attention")
def attention(params, inputs, weights, **others):
    """Scores scale * (q . k), or factor * sum of tanh(scale * (q + k))."""
    weights = list(weights)
    scale = weights.pop(0) if params["use_scale"] else 1.0
    if params["score_mode"] == "dot":
        return attend(params, inputs, lambda q, k: scale * dot(q, k), **others)
    factor = weights.pop(0)

    def score(q, k):
        return factor * total(math.tanh(scale * (a + b)) for a, b in zip(q, k, strict=True))

    return attend(params, inputs, score, **others)


@oracle("AdditiveAttention")
def additive_attention(params, inputs, weights, **others):
    """Scores sum of scale * tanh(q + k)."""

    def score(q, k):
        scale = weights[0] if params["use_scale"] else [1.0] * len(q)
        return total(s * math.tanh(a + b) for s, a, b in zip(scale, q, k, strict=True))

    return attend(params, inputs, score, **others)


def places(sizes):
    """All multi-indices below these sizes."""
    return list(itertools.product(*map(range, sizes)))


def heads_attend(params, query, value, key, attention_mask, mask=None, **keywords):
    """Attention for inputs (batch, *places, heads, features): (outputs, shares), shares (batch, *others, heads, q, k).

    A query of head h finds keys of head h // (query heads / key heads). Outputs are what dropout leaves of the shares.
    """
    rank = len(shape(query)) - 2
    axes = params.get("attention_axes")
    axes = range(1, rank) if axes is None else [axes] if isinstance(axes, int) else axes
    axes = [axis % (rank + 1) for axis in axes]
    others = [axis for axis in range(1, rank) if axis not in axes]
    sizes = shape(query)
    key_sizes = shape(key)
    heads, d = sizes[-2:]
    share = heads // key_sizes[-2]
    masks = list(mask or []) + [None] * 4
    queries, keys = (places([s[axis] for axis in axes]) for s in (sizes, key_sizes))

    def whole(n, other, place):
        """The index of a place: its steps along the attention axes, and those along the others."""
        index = {0: n, **dict(zip(others, other, strict=True)), **dict(zip(axes, place, strict=True))}
        return [index[axis] for axis in range(rank)]

    def allowed(n, other, head, i, j):
        (q, k), bound = ((whole(n, other, p) for p in (i, j)), params.get("sliding_window"))
        seen = [m is None or m[index[0]][index[1]] for m, index in ((masks[0], q), (masks[1], k), (masks[2], k))]
        if params["use_causal_mask"]:
            seen.append(j[0] <= i[0])
        if bound is not None:
            seen.append(abs(i[0] - j[0]) < bound)
        if attention_mask is not None:
            full = [n, *other, head, *i, *j]
            mask_sizes = shape(attention_mask)
            # Axes that the mask lacks are those between its first ones and the queries and keys.
            behind = 2 * len(axes)
            index = full[: len(mask_sizes) - behind] + full[-behind:]
            seen.append(at(attention_mask, [0 if s == 1 else p for s, p in zip(mask_sizes, index, strict=True)]))
        return all(seen)

    found = {}
    for n in range(sizes[0]):
        for other in places([sizes[axis] for axis in others]):
            for head in range(heads):
                for i in queries:
                    q = at(query, [*whole(n, other, i), head])
                    rows = [at(key, [*whole(n, other, j), head // share]) for j in keys]
                    scores = [dot(q, k) / math.sqrt(d) for k in rows]
                    found[n, *other, head, *i] = shares(scores, [allowed(n, other, head, i, j) for j in keys])

    of_queries = [sizes[0], *(sizes[axis] for axis in others), heads, *(sizes[axis] for axis in axes)]
    scores = build(
        [*of_queries, *(key_sizes[axis] for axis in axes)],
        lambda index: found[index[: len(of_queries)]][keys.index(index[len(of_queries) :])],
    )
    kept = thinned(params, scores, **keywords)

    def output(index):
        n, *place, head, feature = index
        other, i = [place[axis - 1] for axis in others], [place[axis - 1] for axis in axes]
        values = [at(value, [*whole(n, other, j), head // share, feature]) for j in keys]
        return dot(flatten(at(kept, [n, *other, head, *i])), values)

    return build([*sizes[:-1], shape(value)[-1]], output), scores


@oracle("DotProductAttention")
def dot_product_attention(params, inputs, weights, **others):
    """softmax(q . k / sqrt(d)), and the sums of values weighted by it."""
    query, value, key, attention_mask = [*inputs, None, None][:4]
    y, scores = heads_attend(params, query, value, value if key is None else key, attention_mask, **others)
    return Outcome([y, scores] if params["return_attention_scores"] else [y])


def projected(x, kernel, bias, contracted=1):
    """Sums of products over the last axes of x and the first of the kernel."""
    lead = shape(x)[: len(shape(x)) - contracted]
    summed = places(shape(kernel)[:contracted])
    dims = shape(kernel)[contracted:]

    def value(index):
        here, there = index[: len(lead)], index[len(lead) :]
        start = at(bias, there) if bias is not None else 0.0
        return total([start, *(at(x, (*here, *k)) * at(kernel, (*k, *there)) for k in summed)])

    return build([*lead, *dims], value)


@oracle("Projection")
def projection(params, inputs, weights, **_):
    """A kernel and perhaps a bias, then the activation."""
    y = projected(inputs[0], weights[0], weights[1] if params["use_bias"] else None, params["contracted"])
    return Outcome([activate(params["activation"], y)])


def gated(x, gate):
    """x * gate, element by element."""
    return build(shape(x), lambda index: at(x, index) * at(gate, index))


@oracle("Gate")
def gate_(params, inputs, weights, **_):
    """x * gate"""
    return Outcome([gated(*inputs)])


@oracle("MultiHeadAttention", "GroupQueryAttention")
def multi_head_attention(params, inputs, weights, **others):
    """Projections of query, key, gate and value, attention, the projection of what the heads found."""
    query, value, key, attention_mask = [*inputs, None, None][:4]
    weights = list(weights)

    def take():
        return weights.pop(0), weights.pop(0) if params["use_bias"] else None

    q = projected(query, *take())
    k = projected(value if key is None else key, *take())
    gate = activate("sigmoid", projected(query, *take())) if params["use_gate"] else None
    v = projected(value, *take())
    y, scores = heads_attend(params, q, v, k, attention_mask, **others)
    y = projected(gated(y, gate) if gate is not None else y, *take(), contracted=2)
    return Outcome([y, scores] if params["return_attention_scores"] else [y])
