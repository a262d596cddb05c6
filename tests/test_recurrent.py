"""Recurrent layers in models: states that are kept, batches of a declared size, cells of one's own."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import DataError, ParameterError, ShapeError
from layerhub.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    ConvLSTM1D,
    ConvLSTM2D,
    Dense,
    GRUCell,
    LSTMCell,
    Masking,
    SimpleRNN,
    SimpleRNNCell,
    StackedRNNCells,
)
from layerhub.spec.domains import Size
from layerhub.spec.layer import In, Out, Result, Weight
from layerhub.spec.recurrent import Cell

BACKENDS = ["numpy", "torch", "tensorflow", "jax"]
N, T, D = 4, 6, 3
KEPT = {
    "LSTM": lambda **given: LSTM(5, **given),
    "GRU": lambda **given: GRU(5, **given),
    "SimpleRNN": lambda **given: SimpleRNN(5, **given),
    "RNN": lambda **given: RNN([GRUCell(2), LSTMCell(5)], **given),
    "Bidirectional": lambda **given: Bidirectional(LSTM(5, **given)),
}


@pytest.fixture(params=BACKENDS)
def backend(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def model_of(layer, backend, batch_shape=(N, T, D), **options):
    x = lh.Input(batch_shape=batch_shape)
    return lh.Model(x, layer(x), backend=backend, seed=1, **options)


def near(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# States that are kept


@pytest.mark.parametrize("name", [name for name in KEPT if name != "Bidirectional"])
def test_two_halves_are_as_one_pass_over_the_whole(backend, rng, name):
    x = rng.normal(size=(N, 2 * T, D)).astype("float32")
    stateful = model_of(KEPT[name](stateful=True, return_sequences=True), backend)
    whole = model_of(KEPT[name](return_sequences=True), backend, (None, 2 * T, D))
    whole.set_weights(stateful.get_weights())
    wanted = whole.predict(x)
    near(np.concatenate([stateful.predict(x[:, :T]), stateful.predict(x[:, T:])], axis=1), wanted)
    stateful.reset_states()
    near(stateful.predict(x[:, :T]), wanted[:, :T])


def test_images_two_halves_are_as_one_pass_over_the_whole(backend, rng):
    x = rng.normal(size=(2, 4, 5, 4, 2)).astype("float32")
    stateful = model_of(ConvLSTM2D(3, 2, stateful=True), backend, (2, 2, 5, 4, 2))
    whole = model_of(ConvLSTM2D(3, 2), backend, (None, 4, 5, 4, 2))
    whole.set_weights(stateful.get_weights())
    stateful.predict(x[:, :2])
    near(stateful.predict(x[:, 2:]), whole.predict(x))


@pytest.mark.parametrize("name", KEPT)
def test_states_go_on_until_they_are_reset(backend, rng, name):
    x = rng.normal(size=(N, T, D)).astype("float32")
    layer = KEPT[name](stateful=True)
    model = model_of(layer, backend)
    first, second = model.predict(x), model.predict(x)
    assert np.abs(first - second).max() > 1e-3
    layer.reset_state()
    near(model.predict(x), first)
    model.reset_states()
    near(model.predict(x), first)


def test_training_carries_states_from_batch_to_batch(backend, rng):
    x, y = rng.normal(size=(3 * N, T, D)).astype("float32"), rng.normal(size=(3 * N, 5)).astype("float32")

    def trained(stateful):
        model = model_of(LSTM(5, stateful=stateful), backend)
        model.compile(lh.optimizers.SGD(0.0), "mse")
        model.fit(x, y, batch_size=N, shuffle=False, verbose=0)
        return model

    model = trained(True)
    state = model.layers[1].store.states[0].numpy()
    # With a rate of 0 nothing is learned, so the states are those of three predictions one after the other.
    model.reset_states()
    kept = [model.predict(part) for part in np.split(x, 3)]
    near(state, kept[-1])
    assert np.abs(trained(False).predict(x[-N:]) - state).max() > 1e-3


def test_training_a_stateful_model_is_the_same_on_all_backends(rng):
    x, y = rng.normal(size=(2 * N, T, D)).astype("float32"), rng.normal(size=(2 * N, 5)).astype("float32")
    losses = []
    for backend in BACKENDS:
        model = model_of(GRU(5, stateful=True), backend)
        model.compile("adam", "mse")
        losses.append(model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"])
    near(losses[0], losses[1])
    near(losses[0], losses[2])


def test_states_are_no_weights(backend):
    layer = GRU(5, stateful=True)
    model = model_of(layer, backend)
    assert [w.shape for w in layer.get_weights()] == [(D, 15), (5, 15), (2, 15)]
    assert len(model.get_weights()) == 3
    assert model.count_params() == D * 15 + 5 * 15 + 30


def test_a_stateful_model_moves_with_its_states(rng):
    x = rng.normal(size=(N, T, D)).astype("float32")
    at_home = model_of(LSTM(5, stateful=True), "numpy")
    wanted = [at_home.predict(x) for _ in range(len(BACKENDS))]
    model = model_of(LSTM(5, stateful=True), "numpy")
    for backend, y in zip(BACKENDS, wanted, strict=True):
        near(model.to(backend).predict(x), y)


def test_initial_states_are_where_a_stateful_layer_begins(backend, rng):
    x, start = lh.Input(batch_shape=(N, T, D)), lh.Input(batch_shape=(N, 5))
    model = lh.Model([x, start], GRU(5, stateful=True)(x, initial_state=[start]), backend=backend, seed=1)
    data = rng.normal(size=(N, T, D)).astype("float32"), rng.normal(size=(N, 5)).astype("float32")
    near(model.predict(list(data)), model.predict(list(data)))


@pytest.mark.parametrize("name", KEPT)
def test_a_stateful_layer_needs_a_known_batch(name):
    with pytest.raises(ShapeError, match=r"stateful=True needs a known batch size.*batch_shape"):
        KEPT[name](stateful=True)(lh.Input((T, D))).node.layer.store.build((None, T, D))


# Batches of a declared size


@pytest.fixture
def declared(backend):
    model = model_of(LSTM(5), backend, name="fours")
    model.compile("sgd", "mse")
    return model


def test_data_may_be_several_batches_of_the_declared_size(declared, rng):
    x, y = rng.normal(size=(3 * N, T, D)), rng.normal(size=(3 * N, 5))
    assert declared.batch_size == N
    assert declared.predict(x).shape == (3 * N, 5)
    declared.fit(x, y, verbose=0, validation_data=(x[:N], y[:N]))
    declared.evaluate(x, y, verbose=0)
    declared.train_on_batch(x[:N], y[:N])


def test_other_batches_than_declared_are_refused(declared, rng):
    x, y = rng.normal(size=(3 * N, T, D)), rng.normal(size=(3 * N, 5))
    said = "10 samples make no whole batches of 4, which fours declares"
    for call in (
        lambda: declared.predict(x[:10]),
        lambda: declared.fit(x[:10], y[:10], verbose=0),
        lambda: declared.evaluate(x[:10], y[:10], verbose=0),
        lambda: declared.fit(x, y, verbose=0, validation_data=(x[:10], y[:10])),
    ):
        with pytest.raises(DataError, match=said):
            call()
    with pytest.raises(DataError, match="predict: batch_size is 3, but fours declares batches of 4"):
        declared.predict(x, batch_size=3)
    for call in (lambda: declared.train_on_batch(x, y), lambda: declared.predict_on_batch(x), lambda: declared(x)):
        with pytest.raises(DataError, match=r"has shape \(12, 6, 3\), \(4, 6, 3\) was declared"):
            call()
    with pytest.raises(DataError, match="was declared"):
        declared.predict(iter([x[:3]]))


# Cells


class Leaky(Cell):
    """h = rate * h + (1 - rate) * x @ kernel."""

    units: Size
    rate: float = 0.5

    x = In("n d")
    kernel = Weight("d units", init="start")
    y = Out("n units")
    start = "glorot_uniform"

    def define(self, xp, x, kernel, initial_state):
        h = self.rate * initial_state[0] + (1 - self.rate) * xp.matmul(x, kernel)
        return Result(h, states=(h,))


def test_a_cell_of_ones_own_means_the_same_everywhere(backend, rng):
    x = rng.normal(size=(N, T, D)).astype("float32")
    model = model_of(RNN(Leaky(5, rate=0.25), return_sequences=True), backend, (None, T, D))
    (kernel,) = model.get_weights()
    h, wanted = np.zeros((N, 5)), []
    for t in range(T):
        h = 0.25 * h + 0.75 * x[:, t] @ kernel
        wanted.append(h)
    near(model.predict(x), np.stack(wanted, axis=1))


def test_a_cell_of_ones_own_trains(backend, rng):
    x = rng.normal(size=(64, T, D)).astype("float32")
    y = x.sum(axis=(1, 2))[:, None]
    model = lh.Sequential([lh.Input((T, D)), RNN([Leaky(5), LSTMCell(4)]), Dense(1)], backend=backend, seed=1)
    model.compile(lh.optimizers.Adam(0.05), "mse")
    history = model.fit(x, y, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


def test_a_cell_called_by_itself_gives_its_output_and_states(backend, rng):
    x, h, c = (lh.Input((size,)) for size in (D, 5, 5))
    y, *states = LSTMCell(5)(x, [h, c])
    model = lh.Model([x, h, c], [y, *states], backend=backend, seed=1)
    data = [rng.normal(size=(N, size)).astype("float32") for size in (D, 5, 5)]
    output, after_h, after_c = model.predict(data)
    near(output, after_h)
    whole = model_of(LSTM(5, return_state=True), backend, (None, 1, D))
    whole.set_weights(model.get_weights())
    x = lh.Input((1, D))
    start = [lh.Input((5,)), lh.Input((5,))]
    again = lh.Model([x, *start], whole.layers[1](x, initial_state=start), backend=backend)
    near(again.predict([data[0][:, None], *data[1:]])[2], after_c)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RNN(Dense(3)), "RNN: cell must be a cell"),
        (lambda: RNN([]), "RNN: cell must be a cell"),
        (lambda: StackedRNNCells([LSTMCell(2), 3]), "StackedRNNCells: cells must be a list of cells"),
        (lambda: GRU(0), "GRU: units must be"),
        (lambda: SimpleRNN(3, dropout=1.5), "SimpleRNN: dropout must be"),
        (lambda: ConvLSTM2D(2, 3, strides=2, dilation_rate=2), "c2 strides and dilation exclude each other"),
        (lambda: Bidirectional(LSTM(2), backward_layer=LSTM(2)), "c1 the layers read in opposite directions"),
        (
            lambda: Bidirectional(LSTM(2), backward_layer=LSTM(2, go_backwards=True, return_sequences=True)),
            "c2 both return sequences or neither",
        ),
        (lambda: Bidirectional(Dense(2)), "Bidirectional: layer must be a recurrent layer"),
    ],
)
def test_errors_name_layer_and_parameter(make, said):
    with pytest.raises(ParameterError, match=said):
        make()


@pytest.mark.parametrize(
    "layer", [RNN([LSTMCell(2), GRUCell(3)]), ConvLSTM1D(2, 3), Bidirectional(GRU(2)), RNN(SimpleRNNCell(2))]
)
def test_configs_make_equal_layers(layer):
    written = lh.layers.serialize(layer)
    again = lh.layers.deserialize(written)
    assert lh.layers.serialize(again)["config"] == written["config"] | {"name": again.name}


# Unknown lengths of time


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: GRU(4), (D,)),
        (lambda: SimpleRNN(4, return_sequences=True, go_backwards=True), (D,)),
        (lambda: RNN([GRUCell(4), LSTMCell(2)], return_sequences=True), (D,)),
        (lambda: Bidirectional(GRU(4, return_sequences=True)), (D,)),
        (lambda: ConvLSTM1D(2, 3), (5, 2)),
        (lambda: ConvLSTM2D(2, 2, padding="same", return_sequences=True, data_format="channels_first"), (2, 4, 3)),
    ],
)
def test_time_may_be_unknown(backend, rng, make, size):
    model = model_of(make(), backend, (None, None, *size))
    known = model_of(make(), backend, (None, 3, *size))
    known.set_weights(model.get_weights())
    x = rng.normal(size=(2, 3, *size)).astype("float32")
    near(model.predict(x), known.predict(x))
    y = model.predict(x)
    model.compile("sgd", "mse")
    known.compile("sgd", "mse")
    for one in (model, known):
        one.fit(x, y + 1, epochs=2, verbose=0)
    for a, b in zip(model.get_weights(), known.get_weights(), strict=True):
        near(a, b)
    assert model.predict(x[:, :1]).shape == tuple(model.output_shape[0] or s for s in model.predict(x[:, :1]).shape)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("make", [GRU, SimpleRNN, LSTM, lambda units, **given: RNN(GRUCell(units), **given)])
def test_no_steps_give_zeros_whatever_the_first_state(backend, make, sequences, masked):
    layer = make(4, return_sequences=sequences)
    x, *start = lh.Input((None, D)), *(lh.Input((4,)) for _ in range(layer.states))
    y = layer(Masking()(x) if masked else x, initial_state=start)
    model = lh.Model([x, *start], y, backend=backend, seed=1)
    found = model.predict([np.zeros((2, 0, D)), *[np.ones((2, 4))] * layer.states])
    assert found.shape == ((2, 0, 4) if sequences else (2, 4))
    assert not found.any()
