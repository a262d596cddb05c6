"""The uses of layers: what went in and came out; layers by name; what is frozen; masks within steps."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import LayerHubError, NodeError, ParameterError, UnknownNameError

L = lh.layers
RNG = np.random.default_rng(2)


def test_a_layer_that_was_called_once_tells_what_went_in_and_came_out():
    x = lh.Input((4,))
    dense = L.Dense(3)
    y = dense(x)
    assert dense.input is x and dense.output is y
    assert (dense.input_shape, dense.output_shape) == ((None, 4), (None, 3))
    assert dense.get_output_at(0) is y and dense.get_input_shape_at(0) == (None, 4)
    total = L.Add()
    total([x, x])
    assert total.input == [x, x] and total.input_shape == [(None, 4), (None, 4)]
    assert x.node.layer.output is x


@pytest.mark.parametrize("what", ["input", "output", "input_shape", "output_shape"])
def test_with_several_uses_one_is_asked_for_by_number(what):
    a, b = lh.Input((5, 4)), lh.Input((6, 4))
    dense = L.Dense(3, name="twice")
    found = [dense(a), dense(b)]
    with pytest.raises(
        NodeError, match=rf"twice was called 2 times.*twice.get_{what}_at\(i\), with i from 0 to 1"
    ) as e:
        getattr(dense, what)
    assert isinstance(e.value, AttributeError) and isinstance(e.value, LayerHubError)
    assert not hasattr(dense, what)
    for number, (x, y) in enumerate(zip((a, b), found, strict=True)):
        tensor = x if what.startswith("input") else y
        assert getattr(dense, f"get_{what}_at")(number) == (tensor.shape if what.endswith("shape") else tensor)
    with pytest.raises(NodeError, match="twice was called 2 times; there is no call 2"):
        dense.get_output_at(2)


def test_a_layer_that_was_not_called_says_what_to_do():
    dense = L.Dense(3, name="idle")
    dense.build((None, 4))
    with pytest.raises(NodeError, match=r"idle has no output_shape: .* on a symbolic tensor yet, such as lh.Input"):
        dense.output_shape  # noqa: B018
    dense(np.ones((2, 4)))  # running it at once is no use in a graph
    assert not hasattr(dense, "output")


def test_a_parameter_of_that_name_stays_one():
    layer = L.EinsumDense("ab,bc->ac", output_shape=3)
    layer(lh.Input((4,)))
    assert layer.output_shape == (3,) and layer.get_output_shape_at(0) == (None, 3)


def test_models_have_their_own_ends_first_and_then_their_calls():
    inner = lh.Sequential([lh.Input((4,)), L.Dense(3)])
    assert inner.input is inner.inputs[0] and inner.output is inner.outputs[0]
    x = lh.Input((4,))
    y = inner(x)
    assert inner.get_output_at(1) is y and inner.get_input_at(1) is x
    assert inner.get_output_shape_at(0) == (None, 3) and inner.output is inner.outputs[0]
    with pytest.raises(ParameterError, match="a name or an index, one of them"):
        inner.get_layer()


def test_masks_of_uses_are_tensors():
    ids = lh.Input((4,), dtype="int32")
    embed, flat = L.Embedding(5, 3, mask_zero=True), L.Dense(2)
    flat(embed(ids))
    data = np.array([[1, 2, 0, 0]])
    model = lh.Model(ids, [embed.output_mask, flat.get_output_mask_at(0), flat.input_mask])
    for found in model.predict(data, verbose=0):
        np.testing.assert_array_equal(found, data != 0)
    assert embed.input_mask is None
    copy = lh.models.clone_model(model)
    np.testing.assert_array_equal(copy.predict(data, verbose=0)[0], data != 0)


# ------------------------------------------------------------------------------------------ freezing


@pytest.mark.parametrize(
    "make",
    [
        lambda inner: L.TimeDistributed(inner(L.Dense, 3)),
        lambda inner: L.Bidirectional(inner(L.LSTM, 3)),
        lambda inner: L.RNN(inner(L.GRUCell, 3)),
        lambda inner: L.RNN([L.LSTMCell(2), inner(L.GRUCell, 3)]),
    ],
    ids=["TimeDistributed", "Bidirectional", "RNN", "stacked cells"],
)
def test_a_frozen_layer_inside_of_another_stays_as_it_is(make):
    layer = make(lambda kind, units: kind(units, trainable=False))
    free = make(lambda kind, units: kind(units))
    model, other = (lh.Sequential([lh.Input((5, 4)), made, L.Flatten(), L.Dense(1)], seed=1) for made in (layer, free))
    stacked = 3 if isinstance(getattr(layer, "cell", None), L.StackedRNNCells) else 0
    assert len(model.trainable_weights) == 2 + stacked < len(other.trainable_weights)
    x = RNG.normal(size=(8, 5, 4)).astype("float32")
    before = layer.get_weights()
    for m in (model, other):
        m.compile(lh.optimizers.SGD(0.1), "mse")
        m.fit(x, np.ones((8, 1)), verbose=0)
    moved = [not np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True)]
    assert sum(moved) == stacked
    assert all(not np.array_equal(a, b) for a, b in zip(before, free.get_weights(), strict=True))


def test_a_layer_inside_of_another_is_frozen_and_thawed_at_any_time():
    wrapped = L.TimeDistributed(L.Dense(3))
    model = lh.Sequential([lh.Input((5, 4)), wrapped])
    wrapped.layer.trainable = False
    assert model.trainable_weights == [] and len(wrapped.non_trainable_weights) == 2
    wrapped.layer.trainable = True
    assert len(model.trainable_weights) == len(wrapped.trainable_weights) == 2


# ------------------------------------------------------------------------------------------ masks within steps


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_mask_of_sentences_reaches_the_layer_that_reads_each(backend):
    ids = np.array([[[1, 2, 0], [3, 0, 0], [0, 0, 0]], [[4, 4, 4], [0, 0, 0], [0, 0, 0]]])
    embed, read, above = L.Embedding(6, 2, mask_zero=True), L.LSTM(4), L.SimpleRNN(3)
    model = lh.Sequential([lh.Input((3, 3), dtype="int32"), embed, L.TimeDistributed(read), above], backend=backend)
    rows, *weights = model.get_weights()
    sentences = lh.evaluate_layer(read, rows[ids.reshape(-1, 3)], weights[:3], mask=ids.reshape(-1, 3) != 0).outputs[0]
    steps = sentences.reshape(2, 3, 4)
    wanted = lh.evaluate_layer(above, steps, weights[3:], mask=(ids != 0).any(-1)).outputs[0]
    np.testing.assert_allclose(model.predict(ids, verbose=0), wanted, atol=1e-6)


def test_a_mask_made_inside_of_each_step_comes_out():
    ids = np.array([[[1, 2, 0], [3, 0, 0]]])
    model = lh.Sequential([lh.Input((2, 3), dtype="int32"), L.TimeDistributed(L.Embedding(6, 2, mask_zero=True))])
    found = lh.Model(model.inputs, model.output_mask).predict(ids, verbose=0)
    np.testing.assert_array_equal(found, ids != 0)


def test_unknown_attributes_suggest_known_ones():
    model = lh.Sequential([lh.Input((4,)), L.Dense(2, name="end")])
    with pytest.raises(UnknownNameError, match=r"Sequential has no attribute 'traineble'\. Did you mean 'trainable'"):
        model.traineble  # noqa: B018
