"""Recurrent layers beside those of Keras and torch."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import layerhub as lh

RNG = np.random.default_rng(5)
N, T, D, U = 3, 5, 4, 3


def mask_of(pattern: str | None, batch: int = N, steps: int = T) -> np.ndarray | None:
    """Which steps count: in each row another number of them."""
    if pattern is None:
        return None
    mask = np.ones((batch, steps), dtype=bool)
    for row in range(batch):
        cut = 1 + row % (steps - 1)
        mask[
            row,
            {"left": slice(0, cut), "right": slice(steps - cut, None), "middle": slice(2, 3)}.get(pattern, slice(0)),
        ] = False
    if pattern == "row":
        mask[0] = False
    if pattern == "all":
        mask[:] = False
    return mask


MASKS = [None, "left", "right", "middle", "row", "all"]
GATED = {"SimpleRNN": 1, "GRU": 1, "LSTM": 2}
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "SimpleRNN": [{}, {"activation": "relu", "use_bias": False}],
    "GRU": [
        {},
        {"reset_after": False},
        {"use_bias": False, "recurrent_activation": "hard_sigmoid"},
        {"reset_after": False, "use_bias": False, "activation": "relu"},
    ],
    "LSTM": [{}, {"activation": "softsign", "recurrent_activation": "hard_sigmoid", "use_bias": False}],
}
GIVEN = [
    {},
    {"return_sequences": True},
    {"return_state": True, "go_backwards": True},
    {"return_sequences": True, "return_state": True, "go_backwards": True},
    {"return_sequences": True, "zero_output_for_mask": True},
    {"go_backwards": True, "zero_output_for_mask": True},
]
PAIRS = [(GIVEN[k % 6], MASKS[(k + k // 6 * 2) % 6]) for k in range(12)]
"""What is returned, and how, with each of two masks."""

along_time = pytest.mark.parametrize(("given", "pattern"), PAIRS, ids=str)


@along_time
@pytest.mark.parametrize("name", GATED)
def test_gated_layers_along_time(agrees_with_keras, name, given, pattern):
    for own in PARAMETERS[name]:
        agrees_with_keras(name, {"units": U, **own, **given}, [(N, T, D)], mask=mask_of(pattern))


@along_time
@pytest.mark.parametrize("name", GATED)
def test_initial_states(agrees_with_keras, name, given, pattern):
    states = [RNG.normal(size=(N, U)) for _ in range(GATED[name])]
    agrees_with_keras(name, {"units": U, **given}, [(N, T, D)], mask=mask_of(pattern), initial_state=states)


@pytest.mark.parametrize("given", GIVEN[:4], ids=str)
@pytest.mark.parametrize("name", GATED)
def test_an_unrolled_layer_is_the_same(agrees_with_keras, name, given):
    agrees_with_keras(name, {"units": U, "unroll": True, **given}, [(N, T, D)])


@pytest.mark.parametrize("name", GATED)
def test_a_cell_by_itself(keras, agrees_with_keras, close, name):
    import tensorflow as tf

    for own in PARAMETERS[name]:
        peer = getattr(keras.layers, f"{name}Cell")(U, dtype="float64", **own)
        x, *states = RNG.normal(size=(N, D)), *(RNG.normal(size=(N, U)) for _ in range(GATED[name]))
        peer(tf.constant(x), [tf.constant(s) for s in states])
        weights = [RNG.normal(size=w.shape) for w in peer.weights]
        peer.set_weights(weights)
        wanted = tf.nest.flatten(peer(tf.constant(x), [tf.constant(s) for s in states]))
        layer = getattr(lh.layers, f"{name}Cell")(U, **own)
        ours = lh.evaluate_layer(layer, [x], weights, initial_state=states, dtype="float64", route="definition")
        assert len(ours.outputs) == len(wanted) == 1 + GATED[name]
        for k, (a, b) in enumerate(zip(ours.outputs, wanted, strict=True)):
            close(a, b.numpy(), f"{name}Cell, output {k}")


def cells(where: Any, which: list[tuple[str, dict[str, Any]]], **common: Any) -> list[Any]:
    return [getattr(where, name)(**config, **common) for name, config in which]


STACKS = [
    [("GRUCell", {"units": 2, "reset_after": False}), ("LSTMCell", {"units": 4})],
    [("LSTMCell", {"units": 2}), ("SimpleRNNCell", {"units": 4}), ("GRUCell", {"units": 3, "use_bias": False})],
]


@along_time
@pytest.mark.parametrize("stack", STACKS, ids=len)
def test_cells_one_upon_the_other(keras, agrees_with_keras, stack, given, pattern):
    # A stack of one cell is not compared: under a mask Keras takes its states for nested, and raises.
    if given.get("return_state"):
        # Keras returns the states of a stack as a list of lists, and these here are flat; so they are no gradients'.
        given = {**given, "return_state": False}
    mine = lh.layers.RNN(cells(lh.layers, stack), **given)
    peer = keras.layers.RNN(cells(keras.layers, stack, dtype="float64"), **given, dtype="float64")
    agrees_with_keras("RNN", {}, [(N, T, D)], mask=mask_of(pattern), layer=mine, peer=peer)


@pytest.mark.parametrize("given", GIVEN[:4], ids=str)
@pytest.mark.parametrize("name", GATED)
def test_a_cell_along_time(keras, agrees_with_keras, name, given):
    (mine,), (peer,) = (cells(where, [(f"{name}Cell", {"units": U})]) for where in (lh.layers, keras.layers))
    layer = keras.layers.RNN(peer, **given, dtype="float64")
    states = [RNG.normal(size=(N, U)) for _ in range(GATED[name])]
    agrees_with_keras(
        "RNN",
        {},
        [(N, T, D)],
        mask=mask_of("right"),
        layer=lh.layers.RNN(mine, **given),
        peer=layer,
        initial_state=states,
    )


IMAGES = {1: (2, 3, 7, 2), 2: (2, 3, 5, 6, 2), 3: (2, 2, 3, 4, 3, 2)}
WINDOWS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "padding": "same", "strides": 2, "use_bias": False},
    {"kernel_size": 2, "padding": "same", "dilation_rate": 2, "recurrent_activation": "hard_sigmoid"},
    {"kernel_size": 1, "strides": 2, "activation": "relu"},
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("rank", IMAGES)
def test_lstms_over_images(agrees_with_keras, rank, window):
    shape, number = IMAGES[rank], WINDOWS.index(window)
    # On CPU Keras's tensorflow has no convolution of dilated volumes, and none with channels first.
    window = {**window, "dilation_rate": 1} if rank == 3 else window
    for given, pattern in PAIRS[number::4] if rank == 2 else PAIRS[(number + rank) % 6 :: 6]:
        config = {"filters": 2, "data_format": "channels_last", **window, **given}
        agrees_with_keras(f"ConvLSTM{rank}D", config, [shape], mask=mask_of(pattern, *shape[:2]))


@pytest.mark.parametrize("pattern", [None, "left", "middle"])
@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize(
    "inner", [("GRU", {}), ("GRU", {"return_sequences": True}), ("SimpleRNN", {"return_state": True})], ids=str
)
def test_both_directions(keras, agrees_with_keras, inner, merge_mode, pattern):
    name, config = inner
    mine = lh.layers.Bidirectional(getattr(lh.layers, name)(U, **config), merge_mode=merge_mode)
    peer = keras.layers.Bidirectional(
        getattr(keras.layers, name)(U, **config, dtype="float64"), merge_mode=merge_mode, dtype="float64"
    )
    agrees_with_keras("Bidirectional", {}, [(N, T, D)], mask=mask_of(pattern), layer=mine, peer=peer)


@pytest.mark.parametrize(
    "name",
    "SimpleRNN GRU LSTM SimpleRNNCell GRUCell LSTMCell StackedRNNCells RNN ConvLSTM1D ConvLSTM2D ConvLSTM3D".split(),
)
def test_parameters_stand_in_keras_order_and_have_its_defaults(keras, name):
    theirs = list(inspect.signature(getattr(keras.layers, name).__init__).parameters.values())[1:-1]
    ours = getattr(lh.layers, name).parameters
    assert list(ours)[: len(theirs)] == [p.name for p in theirs]
    required = inspect.Parameter.empty
    for p in theirs:
        assert p.default is required or p.default == ours[p.name].default, p.name


# torch


def test_gru_is_that_of_torch_with_gates_in_another_order(close):
    torch = pytest.importorskip("torch")
    peer = torch.nn.GRU(D, U, batch_first=True).double()
    x, start = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, U))
    ours = evaluate(lh.layers.GRU(U, return_sequences=True, return_state=True), x, peer, [1, 0, 2], [start])
    beside(close, torch, peer, x, start, ours)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_simple_rnn_is_that_of_torch(close, activation):
    torch = pytest.importorskip("torch")
    peer = torch.nn.RNN(D, U, batch_first=True, nonlinearity=activation).double()
    x, start = RNG.normal(size=(N, T, D)), RNG.normal(size=(N, U))
    layer = lh.layers.SimpleRNN(U, activation, return_sequences=True, return_state=True)
    ours = evaluate(layer, x, peer, [0], [start])
    beside(close, torch, peer, x, start, ours)


def test_lstm_is_that_of_torch(close):
    torch = pytest.importorskip("torch")
    peer = torch.nn.LSTM(D, U, batch_first=True).double()
    x, start = RNG.normal(size=(N, T, D)), [RNG.normal(size=(N, U)) for _ in range(2)]
    ours = evaluate(lh.layers.LSTM(U, return_sequences=True, return_state=True), x, peer, [0, 1, 2, 3], start)
    y, (h, c) = peer(torch.tensor(x), tuple(torch.tensor(s)[None] for s in start))
    for a, b in zip(ours.outputs, (y, h[0], c[0]), strict=True):
        close(a, b.detach().numpy(), "torch.nn.LSTM")


def evaluate(layer: Any, x: np.ndarray, peer: Any, gates: list[int], states: list[np.ndarray]) -> Any:
    """Our layer with torch's weights. gates: the numbers that torch has for them, in our order."""

    def ordered(rows: Any) -> np.ndarray:
        blocks = np.split(rows.detach().numpy(), len(gates))
        return np.concatenate([blocks[k] for k in gates]).T

    biases = ordered(peer.bias_ih_l0), ordered(peer.bias_hh_l0)
    bias = np.stack(biases) if isinstance(layer, lh.layers.GRU) else biases[0] + biases[1]
    weights = [ordered(peer.weight_ih_l0), ordered(peer.weight_hh_l0), bias]
    cotangents = [np.ones((N, T, U)), *(np.zeros((N, U)) for _ in states)]
    return lh.evaluate_layer(
        layer, [x], weights, initial_state=states, cotangents=cotangents, dtype="float64", route="definition"
    )


def beside(close: Any, torch: Any, peer: Any, x: np.ndarray, start: np.ndarray, ours: Any) -> None:
    """Values and the input's gradient beside torch's, for layers with one state."""
    given = torch.tensor(x, requires_grad=True)
    y, h = peer(given, torch.tensor(start)[None])
    y.sum().backward()
    close(ours.outputs[0], y.detach().numpy(), "outputs")
    close(ours.outputs[1], h[0].detach().numpy(), "state")
    close(ours.input_grads[0], given.grad.numpy(), "gradient of the input")
