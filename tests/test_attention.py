"""Attention in models: masks, options of single calls, sizes that are unknown, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import layerhub as lh
from layerhub import layers
from layerhub.errors import LayerHubError, ParameterError, ShapeError

BACKENDS = ("numpy", "torch", "tensorflow", "jax")
RNG = np.random.default_rng(4)
IDS = RNG.integers(1, 9, size=(12, 7))
IDS[np.arange(7) >= RNG.integers(3, 8, size=(12, 1))] = 0
TARGETS = RNG.integers(0, 2, size=(12, 7, 1)).astype(float)


@pytest.fixture(autouse=True)
def double_precision(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")


def block(backend: str, dropout: float = 0.0, **options):
    """A transformer block over ids, 0 for padding, that sees no later ids."""
    ids = lh.Input((None,), dtype="int64")
    x = layers.Embedding(9, 8, mask_zero=True)(ids)
    attended = layers.MultiHeadAttention(2, 4, dropout=dropout, **options)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization()(layers.Add()([x, attended]))
    x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(8, activation="relu")(x)]))
    return lh.Model(ids, layers.Dense(1, activation="sigmoid")(x), backend=backend, seed=3)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"use_gate": True, "sliding_window": 3}], ids=repr)
def test_a_transformer_block_learns_alike_on_every_backend(options):
    losses = {}
    for backend in BACKENDS:
        model = block(backend, **options)
        model.compile("adam", "binary_crossentropy")
        losses[backend] = model.fit(IDS, TARGETS, epochs=4, batch_size=5, shuffle=False, verbose=0).history["loss"]
    assert losses["numpy"][-1] < losses["numpy"][0]
    for backend in BACKENDS[1:]:
        np.testing.assert_allclose(losses[backend], losses["numpy"], rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_later_ids_and_padding_change_nothing_before_them(backend):
    model = block(backend)
    before = model.predict(IDS, verbose=0)
    changed = IDS.copy()
    changed[:, 2] = changed[:, 2] % 8 + 1
    after = model.predict(changed, verbose=0)
    assert np.array_equal(before[:, :2], after[:, :2])
    assert not np.any(before[:, 2] == after[:, 2])
    # A longer batch only adds padding, which the masks hide.
    longer = np.pad(IDS, ((0, 0), (0, 4)))
    np.testing.assert_allclose(model.predict(longer, verbose=0)[:, :3], before[:, :3], rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "layer",
    [
        layers.Attention(use_scale=True),
        layers.AdditiveAttention(),
        layers.MultiHeadAttention(2, 3, sliding_window=4),
        layers.GroupQueryAttention(3, 4, 2),
    ],
    ids=repr,
)
def test_times_may_be_unknown(backend, layer):
    layer = layer.replace(name=None, dtype="float64")
    query, value = lh.Input((None, 4)), lh.Input((None, 4))
    y, scores = layer([query, value], use_causal_mask=True, return_attention_scores=True)
    assert y.shape == (None, None, 4)
    assert scores.shape[-2:] == (None, None)
    model = lh.Model([query, value], [y, scores], backend=backend, seed=1)
    for times in ((3, 5), (4, 2)):
        q, v = (RNG.normal(size=(2, time, 4)) for time in times)
        found, weights = model.predict([q, v], verbose=0)
        assert np.allclose(weights.sum(axis=-1), 1)
        assert not weights[..., ~np.tri(*times, dtype=bool)].any()
        expected = lh.evaluate_layer(
            layer.replace(use_causal_mask=True), [q, v], model.get_weights(), dtype="float64", route="definition"
        )
        np.testing.assert_allclose(found, expected.outputs[0], rtol=1e-10, atol=1e-13)


def test_a_model_keeps_the_options_of_its_calls():
    x, seen = lh.Input((5, 4)), lh.Input((5, 5), dtype="bool")
    layer = layers.MultiHeadAttention(2, 3)
    first = layer(x, x, attention_mask=seen, use_causal_mask=True)
    second, scores = layer(first, x, return_attention_scores=True)
    model = lh.Model([x, seen], [second, scores])
    copy = lh.Model.from_config(json.loads(json.dumps(model.get_config())))
    copy.set_weights(model.get_weights())
    given = [RNG.normal(size=(3, 5, 4)), RNG.uniform(size=(3, 5, 5)) < 0.5]
    ours, theirs = model.predict(given, verbose=0), copy.predict(given, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    # What a single call asked for is not the layer's own.
    assert not layer.use_causal_mask and not layer.return_attention_scores


def test_a_layer_used_twice_draws_another_dropout_each_time():
    layer = layers.MultiHeadAttention(2, 3, dropout=0.5)
    x = lh.Input((6, 4))
    calls = [layer(x, x, return_attention_scores=True)[0] for _ in range(2)]
    model = lh.Model(x, calls, seed=2)
    first, second = model(RNG.normal(size=(3, 6, 4)), training=True)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_query_that_nothing_is_left_for_gets_zeros(backend):
    q, v, hidden = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 5, 4)), np.zeros((2, 5), bool)
    for layer in (
        layers.Attention(return_attention_scores=True),
        layers.AdditiveAttention(return_attention_scores=True),
        layers.MultiHeadAttention(2, 3, return_attention_scores=True),
        layers.GroupQueryAttention(3, 2, 1),
    ):
        found = lh.evaluate_layer(layer, [q, v], backend=backend, mask=[None, hidden], dtype="float64")
        assert not any(y.any() for y in found.outputs)


def test_what_has_no_weight_may_be_anything():
    q, v = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 5, 4))
    layer = layers.MultiHeadAttention(2, 3, return_attention_scores=True)
    seen = np.ones((2, 3, 5), bool)
    seen[:, :, 2] = False
    outputs = []
    for filling in (0.0, 1e6):
        v[:, 2] = filling
        outputs.append(lh.evaluate_layer(layer, [q, v, None, seen], dtype="float64").outputs)
    for a, b in zip(*outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(dtype):
    q, v = RNG.normal(size=(2, 64, 4)).astype("float16"), RNG.normal(size=(2, 64, 4)).astype("float16")
    for backend, route in (("torch", "definition"), ("tensorflow", "definition"), ("tensorflow", "kernel")):
        layer = layers.Attention(return_attention_scores=True)
        exact = lh.evaluate_layer(layer, [q, v], dtype="float64").outputs
        found = lh.evaluate_layer(layer, [q, v], backend=backend, dtype=dtype, route=route).outputs
        unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
        inputs = unit if dtype == "bfloat16" else 0.0
        for a, b in zip(found, exact, strict=True):
            # bfloat16 rounds the inputs as well, and with them the scores, which are about 4.
            np.testing.assert_allclose(a.astype(float), b, rtol=1.1 * unit + 40 * inputs, atol=1e-7 + 40 * inputs)


@pytest.mark.parametrize(
    ("layer", "shapes", "words"),
    [
        (lambda: layers.MultiHeadAttention(0, 3), (), "MultiHeadAttention: num_heads must be a positive int, not 0"),
        (lambda: layers.MultiHeadAttention(2, 3, output_shape=(2, 0)), (), "output_shape must be"),
        (lambda: layers.MultiHeadAttention(2, 3, sliding_window=0), (), "sliding_window must be a positive int"),
        (lambda: layers.GroupQueryAttention(3, 4, 3), (), "c1 heads of keys serve as many queries each"),
        (lambda: layers.Attention(score_mode="Dot"), (), "score_mode must be one of 'dot', 'concat', not 'Dot'"),
        (lambda: layers.Attention(dropout=1.5), (), "dropout must be a number"),
        (lambda: layers.Attention(), ((2, 3, 4),), "takes 2 to 3 inputs, 1 were given"),
        (lambda: layers.Attention(), ((2, 3, 4), (2, 5, 3)), "key has 3 along 'd', where 4 was expected"),
        (lambda: layers.Attention(), ((2, 3, 4), (2, 0, 4)), "c1 there are values"),
        (lambda: layers.AdditiveAttention(), ((2, 4), (2, 4)), "needs 3 axes"),
        (lambda: layers.MultiHeadAttention(2, 3), ((2, 3, 4), (2, 3, 1, 4)), "c2 inputs have as many axes"),
        (lambda: layers.MultiHeadAttention(2, 3), ((2, 3, 4), (2, 5, 4), (2, 6, 4)), "key has 6 along 'tv'"),
        (lambda: layers.MultiHeadAttention(2, 3), ((2, 3, 4), (2, 5, 4), None, (2, 3, 4)), "c8 the attention mask"),
        (lambda: layers.MultiHeadAttention(2, 3, attention_axes=2), ((2, 3, 4),) * 2, "c4 attention axes"),
        (lambda: layers.MultiHeadAttention(2, 3, attention_axes=0), ((2, 3, 4),) * 2, "c4 attention axes"),
        (lambda: layers.MultiHeadAttention(2, 3, attention_axes=(1,)), ((2, 3, 4, 5), (2, 3, 6, 5)), "c5 other axes"),
        (lambda: layers.MultiHeadAttention(2, 3, sliding_window=2), ((2, 3, 4, 5),) * 2, "c6 causal masks and windows"),
        (lambda: layers.GroupQueryAttention(2, 3, 1), ((2, 3, 4, 5),) * 2, "needs 3 axes"),
    ],
)
def test_what_is_refused_is_named(layer, shapes, words):
    with pytest.raises((ParameterError, ShapeError)) as caught:
        layer().output_shapes(*shapes)
    assert words in str(caught.value)
    assert "Attention" in str(caught.value)


def test_options_of_no_layer_are_refused():
    x = lh.Input((3, 4))
    with pytest.raises(LayerHubError, match="use_causal_mask"):
        layers.Dense(2)(x, use_causal_mask=True)


@pytest.mark.parametrize("masked", [False, True])
def test_the_activity_of_every_projection_is_penalised(masked):
    heads = {"use_gate": True, "use_bias": False, "activity_regularizer": lh.regularizers.L2(0.5)}
    x = lh.Input((3, 4))
    y = layers.MultiHeadAttention(2, 3, **heads)(layers.Masking()(x) if masked else x, x)
    model = lh.Model(x, y)
    model.compile("sgd", lambda y_true, y_pred: 0 * y_pred)
    given = RNG.normal(size=(2, 3, 4))
    query, key, gate, value = (np.einsum("ntd,dhk->nthk", given, w) for w in model.get_weights()[:4])
    parts = [query, key, value, 1 / (1 + np.exp(-gate)), model.predict(given, verbose=0)]
    expected = sum(0.5 * np.sum(part**2) for part in parts) / 2
    np.testing.assert_allclose(model.evaluate(given, np.zeros((2, 3, 4)), verbose=0), expected, rtol=1e-10)


def test_masks_of_inputs_may_be_given_by_name():
    rng = np.random.default_rng(0)
    q, v = rng.normal(size=(2, 3, 4)).astype("float32"), rng.normal(size=(2, 5, 4)).astype("float32")
    mask = np.array([[True, True, False, True, False], [False, True, True, True, True]])
    layer = lh.layers.MultiHeadAttention(2, 3)
    named = layer(q, v, value_mask=mask)
    np.testing.assert_array_equal(named, layer(q, v, mask=[None, mask]))
    assert not np.allclose(named, layer(q, v))
