"""Attention beside Keras's layers and torch's functions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from layerhub_conformance.case import covering

import layerhub as lh

CAUSAL = {"use_causal_mask": True}
SCORES = {"return_attention_scores": True}
CALLS = [{}, CAUSAL, SCORES, CAUSAL | SCORES]


class Spread:
    """A layer of Keras that takes its inputs one by one, with the masks that they carry, and None for none."""

    def __init__(self, keras: Any, layer: Any, places: tuple[str, ...]):
        self.keras, self.layer, self.places = keras, layer, places

    def __call__(self, inputs: Any, mask: Any = None, **options: Any) -> Any:
        for x, m in zip(inputs, mask or (), strict=False):
            if m is not None:
                self.keras.src.backend.set_keras_mask(x, m)
        return self.layer(**dict(zip(self.places, inputs, strict=True)), **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)


@pytest.fixture
def compare(agrees_with_keras: Any, keras: Any) -> Any:
    """``compare(name, config, inputs, call=…)`` for layers called as ``layer(query=…, value=…, …)``."""

    def compared(name: str, config: dict, inputs: dict[str, Any], call: Any = (), **more: Any) -> Any:
        layer = getattr(lh.layers, name)(**config, **dict(call))
        theirs = getattr(keras.layers, name)(**config, dtype="float64")
        order = ("query", "value", "key", "attention_mask")
        given = [inputs[place] for place in order if place in inputs]
        if "attention_mask" in inputs and "key" not in inputs:
            raise ValueError("give the key, so that inputs are aligned")
        peer = Spread(keras, theirs, tuple(place for place in order if place in inputs))
        return agrees_with_keras(name, config, given, layer=layer, peer=peer, call=dict(call), as_list=True, **more)

    return compared


LISTS = [[(2, 3, 4), (2, 5, 4)], [(2, 4, 3), (2, 4, 3)], [(2, 3, 4), (2, 5, 2), (2, 5, 4)]]


@pytest.mark.parametrize("call", CALLS, ids=repr)
@pytest.mark.parametrize("inputs", LISTS, ids=repr)
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Attention", {}),
        ("Attention", {"use_scale": True}),
        ("Attention", {"score_mode": "concat"}),
        ("Attention", {"score_mode": "concat", "use_scale": True}),
        ("AdditiveAttention", {}),
        ("AdditiveAttention", {"use_scale": False}),
    ],
    ids=repr,
)
def test_attention_of_sequences(agrees_with_keras, name, config, inputs, call):
    agrees_with_keras(name, config, inputs, layer=getattr(lh.layers, name)(**config, **call), call=call)


OF_QUERY = np.array([[True, True, False], [False, True, False]])
OF_VALUE = np.array([[True, False, True, True, False], [True, True, True, False, False]])
OF_KEY = np.array([[True, True, True, True, False], [True, False, True, True, True]])


@pytest.mark.parametrize("call", CALLS, ids=repr)
@pytest.mark.parametrize(
    "mask", [[OF_QUERY, OF_VALUE], [None, OF_VALUE], [OF_QUERY, None]], ids=["both", "value", "query"]
)
@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
def test_attention_of_masked_sequences(agrees_with_keras, name, mask, call):
    ours = agrees_with_keras(name, {}, LISTS[0], layer=getattr(lh.layers, name)(**call), call=call, mask=mask)
    assert (ours.output_mask is None) == (mask[0] is None)


def test_the_mask_of_the_key_of_attention_is_not_asked(agrees_with_keras):
    agrees_with_keras("Attention", {}, [(2, 3, 4), (2, 5, 4), (2, 5, 4)], mask=[None, OF_VALUE, OF_KEY])


# Of which 1 / sqrt is exact: Keras's factor for the scores has gone through float32.
SIZE = 4

HEADS = list(
    covering(
        {
            "inputs": [
                {"query": (2, 3, 4), "value": (2, 5, 4)},
                {"query": (2, 4, 3), "value": (2, 4, 5), "key": (2, 4, 2)},
                {"query": (2, 4, 3), "value": (2, 4, 3)},
            ],
            "value_dim": [None, 2],
            "use_bias": [True, False],
            "output_shape": [None, 5, (2, 3)],
            "sliding_window": [None, 2],
            "use_gate": [False, True],
            "call": CALLS,
        }
    )
)


@pytest.mark.parametrize("row", HEADS, ids=repr)
def test_multi_head_attention(compare, row):
    config = {k: v for k, v in row.items() if k not in ("inputs", "call")}
    compare("MultiHeadAttention", {"num_heads": 2, "key_dim": SIZE, **config}, row["inputs"], row["call"])


@pytest.mark.parametrize("row", HEADS, ids=repr)
def test_group_query_attention(compare, row):
    config = {k: v for k, v in row.items() if k not in ("inputs", "call", "value_dim", "output_shape")}
    config |= {"num_query_heads": 4, "num_key_value_heads": 1 + (row["value_dim"] is None), "head_dim": SIZE}
    compare("GroupQueryAttention", config, row["inputs"], row["call"])


@pytest.mark.parametrize("attention_axes", [None, 1, (2,), (1, 2), (2, 1), -2], ids=repr)
@pytest.mark.parametrize("call", [{}, SCORES], ids=repr)
def test_multi_head_attention_along_several_axes(compare, attention_axes, call):
    same = {"query": (2, 3, 4, 5), "value": (2, 3, 4, 5)}
    compare("MultiHeadAttention", {"num_heads": 2, "key_dim": SIZE, "attention_axes": attention_axes}, same, call)


def test_multi_head_attention_along_one_of_several_axes_is_causal(compare):
    config = {"num_heads": 2, "key_dim": SIZE, "attention_axes": 1}
    compare("MultiHeadAttention", config, {"query": (2, 3, 2, 5), "value": (2, 4, 2, 5)}, CAUSAL)


NAMED = [
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": SIZE}),
    ("GroupQueryAttention", {"num_query_heads": 4, "num_key_value_heads": 2, "head_dim": SIZE}),
]


# Without the scores Keras gives a query for which nothing counts, as all that are masked, the mean of all values: with
# them zeros, as we do. So queries are masked here only where the scores are asked for.
@pytest.mark.parametrize("call", [SCORES, CAUSAL | SCORES], ids=repr)
@pytest.mark.parametrize(("name", "config"), NAMED)
@pytest.mark.parametrize("masked", [(1, 0), (0, 1), (1, 1)])
def test_heads_with_masks(compare, name, config, call, masked):
    mask = [m if on else None for m, on in zip((OF_QUERY, OF_VALUE), masked, strict=True)]
    compare(name, config, {"query": (2, 3, 4), "value": (2, 5, 4)}, call, mask=mask)


@pytest.mark.parametrize(("name", "config"), NAMED)
@pytest.mark.parametrize("call", [{}, CAUSAL], ids=repr)
def test_heads_with_a_mask_of_values_and_no_scores(compare, name, config, call):
    compare(name, config, {"query": (2, 3, 4), "value": (2, 5, 4)}, call, mask=[None, OF_VALUE])


# Of an attention mask with an axis for heads and a mask of the values Keras takes the samples of one for the heads of
# the other.
@pytest.mark.parametrize(("name", "config"), NAMED)
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 1, 5), (1, 3, 5), (3, 5), (2, 1, 3, 5)], ids=repr)
@pytest.mark.parametrize("masked", [False, True])
def test_heads_with_an_attention_mask(compare, name, config, shape, masked):
    seen = np.random.default_rng(1).uniform(size=shape) < 0.6
    inputs = {"query": (2, 3, 4), "value": (2, 5, 4), "key": (2, 5, 2), "attention_mask": seen}
    mask = [None, OF_VALUE, OF_KEY, None] if masked and len(shape) < 4 else None
    compare(name, config, inputs, SCORES, mask=mask)


def test_a_config_of_keras_is_loaded(keras):
    for name, config in (*NAMED, ("Attention", {"score_mode": "concat"}), ("AdditiveAttention", {"dropout": 0.2})):
        theirs = getattr(keras.layers, name)(**config, seed=3, name="a")
        ours = getattr(lh.layers, name).from_config(theirs.get_config())
        assert all(getattr(ours, key) == value for key, value in config.items())
        assert lh.layers.deserialize(keras.layers.serialize(theirs)).get_config() == ours.get_config()


def test_weights_have_keras_s_names(keras):
    for name, config in NAMED:
        for use_bias, use_gate in itertools.product([True, False], repeat=2):
            theirs = getattr(keras.layers, name)(**config, use_bias=use_bias, use_gate=use_gate, name="a")
            theirs.build((2, 3, 4), (2, 5, 6), (2, 5, 7))
            ours = getattr(lh.layers, name)(**config, use_bias=use_bias, use_gate=use_gate)
            specs = ours.weight_specs((2, 3, 4), (2, 5, 6), (2, 5, 7))
            assert [f"a/{s.name}" for s in specs] == [w.path for w in theirs.weights]
            assert [s.shape for s in specs] == [w.shape for w in theirs.weights]


# torch


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_dot_product_attention_beside_torch(close, causal, masked, groups):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 6, 4 // groups, 5))
    v, g = rng.normal(size=(2, 6, 4 // groups, 7)), rng.normal(size=(2, 3, 4, 7))
    seen = rng.uniform(size=(2, 4, 3, 6)) < 0.6 if masked else np.ones((2, 4, 3, 6), bool)
    seen[0, 0, 1] = not masked
    both = seen & np.tri(3, 6, dtype=bool) if causal else seen
    tensors = [torch.tensor(x, requires_grad=True) for x in (q, v, k)]
    y = torch.nn.functional.scaled_dot_product_attention(
        *(tensors[i].transpose(1, 2) for i in (0, 2, 1)), torch.tensor(both), enable_gqa=groups > 1
    ).transpose(1, 2)
    y.backward(torch.tensor(g))
    ours = lh.evaluate_layer(
        lh.layers.DotProductAttention(use_causal_mask=causal), [q, v, k, seen], cotangents=g, dtype="float64",
        route="definition",
    )  # fmt: skip
    close(ours.outputs[0], y.detach().numpy(), "output")
    for mine, theirs, what in zip(ours.input_grads, tensors, ("query", "value", "key"), strict=False):
        close(mine, theirs.grad.numpy(), f"gradient of {what}")


@pytest.mark.parametrize("use_bias", [True, False])
def test_multi_head_attention_beside_torch(close, use_bias):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    peer = torch.nn.MultiheadAttention(6, 2, bias=use_bias, kdim=4, vdim=5, batch_first=True, dtype=torch.float64)
    q, v, k = rng.normal(size=(2, 3, 6)), rng.normal(size=(2, 5, 5)), rng.normal(size=(2, 5, 4))
    padded = np.array([[0, 0, 0, 1, 1], [0, 1, 0, 0, 0]], bool)
    w = {name: p.detach() for name, p in peer.named_parameters()}
    if use_bias:
        for name in ("in_proj_bias", "out_proj.bias"):
            w[name].copy_(torch.tensor(rng.normal(size=w[name].shape)))
    biases = w["in_proj_bias"].reshape(3, 2, 3) if use_bias else [None] * 3
    weights = []
    for name, bias in zip("qkv", biases, strict=True):
        weights += [w[f"{name}_proj_weight"].T.reshape(-1, 2, 3), bias]
    weights += [w["out_proj.weight"].T.reshape(2, 3, 6), w.get("out_proj.bias")]
    y, scores = peer(
        *(torch.tensor(x) for x in (q, k, v)), key_padding_mask=torch.tensor(padded), average_attn_weights=False
    )
    layer = lh.layers.MultiHeadAttention(2, 3, use_bias=use_bias, return_attention_scores=True)
    ours = lh.evaluate_layer(
        layer, [q, v, k], [x.numpy() for x in weights if x is not None], mask=[None, ~padded], dtype="float64",
        route="definition",
    )  # fmt: skip
    close(ours.outputs[0], y.detach().numpy(), "output")
    close(ours.outputs[1], scores.detach().numpy(), "scores")
