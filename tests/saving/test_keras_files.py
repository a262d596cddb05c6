"""What Keras writes LayerHub reads, and what LayerHub writes Keras reads; both then predict the same.

Each model goes here -> Keras -> here: Keras opens our file, gets other weights, and writes a file of its own.
"""

import json
import warnings

import numpy as np
import pytest

import layerhub as lh

from .conftest import chain, compiled, data_for, graph, near, outputs_of, recurrent

# Keras on tensorflow converts its variables in a way that numpy is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

L = lh.layers
LAYERS = {
    "dense": lambda: ([(4,)], L.Dense(3, activation="gelu", bias_initializer="ones", kernel_regularizer="l1_l2")),
    "einsum": lambda: ([(4, 5)], L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d")),
    "embedding": lambda: ([(5,)], L.Embedding(9, 3, mask_zero=True)),
    "conv1d": lambda: ([(9, 4)], L.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    "conv2d": lambda: ([(7, 6, 4)], L.Conv2D(4, (3, 2), strides=2, groups=2, activation="relu")),
    "conv3d": lambda: ([(4, 5, 4, 2)], L.Conv3D(3, 2, padding="same")),
    "depthwise": lambda: ([(7, 6, 3)], L.DepthwiseConv2D(3, depth_multiplier=2)),
    "separable": lambda: ([(7, 6, 3)], L.SeparableConv2D(4, 3)),
    "transposed": lambda: ([(4, 3, 2)], L.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "pooling": lambda: ([(7, 6, 3)], L.MaxPooling2D(3, strides=2, padding="same")),
    "global pooling": lambda: ([(7, 3)], L.GlobalAveragePooling1D(keepdims=True)),
    "adaptive pooling": lambda: ([(7, 6, 3)], L.AdaptiveAveragePooling2D(3)),
    "batch norm": lambda: ([(5,)], L.BatchNormalization(center=False)),
    "layer norm": lambda: ([(4, 5)], L.LayerNormalization(axis=(1, 2))),
    "group norm": lambda: ([(4, 6)], L.GroupNormalization(3)),
    "rms norm": lambda: ([(4, 6)], L.RMSNormalization()),
    "spectral norm": lambda: ([(4,)], L.SpectralNormalization(L.Dense(3))),
    "lstm": lambda: ([(5, 4)], L.LSTM(3, dropout=0.2, recurrent_dropout=0.1, return_state=True)),
    "gru": lambda: ([(5, 4)], L.GRU(3, reset_after=False, go_backwards=True)),
    "simple rnn": lambda: ([(5, 4)], L.SimpleRNN(3, use_bias=False, return_sequences=True)),
    "cells": lambda: ([(5, 4)], L.RNN([L.LSTMCell(3), L.GRUCell(2), L.LSTMCell(2, use_bias=False)])),
    "conv lstm": lambda: ([(3, 6, 5, 2)], L.ConvLSTM2D(2, 2)),
    "bidirectional": lambda: ([(5, 4)], L.Bidirectional(L.LSTM(3), merge_mode="sum")),
    "both ways": lambda: ([(5, 4)], L.Bidirectional(L.GRU(3), backward_layer=L.LSTM(3, go_backwards=True))),
    "time distributed": lambda: ([(5, 4)], L.TimeDistributed(L.Dense(3))),
    "distributed norm": lambda: ([(5, 4)], L.TimeDistributed(L.BatchNormalization())),
    "attention": lambda: ([(3, 4), (5, 4)], L.Attention(use_scale=True)),
    "scores": lambda: ([(3, 4), (3, 4)], L.Attention(use_causal_mask=True, return_attention_scores=True)),
    "additive": lambda: ([(3, 4), (5, 4)], L.AdditiveAttention()),
    "heads": lambda: ([(3, 4), (5, 6), (5, 7)], L.MultiHeadAttention(2, 3, value_dim=5, output_shape=6)),
    "gated heads": lambda: ([(3, 4), (5, 4)], L.MultiHeadAttention(2, 3, use_gate=True, use_bias=False)),
    "grouped heads": lambda: ([(3, 4), (5, 4)], L.GroupQueryAttention(3, 4, 2, use_gate=True)),
    "prelu": lambda: ([(4, 5)], L.PReLU(shared_axes=[1])),
    "activation": lambda: ([(4,)], L.Activation("swish")),
    "relu": lambda: ([(4,)], L.ReLU(max_value=1.0, negative_slope=0.1)),
    "concatenate": lambda: ([(4, 3), (2, 3)], L.Concatenate(axis=1)),
    "dot": lambda: ([(4, 3), (2, 3)], L.Dot((2, 2), normalize=True)),
    "subtract": lambda: ([(4,), (4,)], L.Subtract()),
    "reshape": lambda: ([(4, 6)], L.Reshape((3, -1))),
    "permute": lambda: ([(4, 6)], L.Permute((2, 1))),
    "padding": lambda: ([(4, 6, 2)], L.ZeroPadding2D(((1, 2), (0, 3)))),
    "cropping": lambda: ([(4, 6, 2)], L.Cropping2D(((1, 2), (0, 3)))),
    "upsampling": lambda: ([(4, 5, 2)], L.UpSampling2D((2, 3), interpolation="bilinear")),
    "noise": lambda: ([(4, 5)], L.SpatialDropout1D(0.3, seed=4)),
}


def single(name):
    """A model of one layer, with data for it."""
    shapes, layer = LAYERS[name]()
    ids = isinstance(layer, L.Embedding)
    inputs = [lh.Input(shape, dtype="int32" if ids else None) for shape in shapes]
    separate = isinstance(layer, (L.MultiHeadAttention, L.GroupQueryAttention))
    model = lh.Model(inputs, layer(*inputs) if separate else layer(inputs if len(inputs) > 1 else inputs[0]))
    rng = np.random.default_rng(1)
    x = [rng.integers(0, 9, (2, *s)) if ids else rng.normal(size=(2, *s)).astype("float32") for s in shapes]
    return model, x if len(x) > 1 else x[0]


def around(keras, model, x, folder):
    """The model as Keras reads it, and as it comes back from Keras with other weights."""
    rng = np.random.default_rng(2)
    model.set_weights([rng.uniform(0.2, 0.6, w.shape) * rng.choice([-1, 1]) + ("var" in v.name) for v, w in zip(
        model.weights, model.get_weights(), strict=True)])  # fmt: skip
    model.save(folder / "ours.keras")
    theirs = opened(keras, folder / "ours.keras")
    near(outputs_of(model, x), outputs_of(theirs, x))
    theirs.set_weights([w * 1.25 for w in theirs.get_weights()])
    theirs.save(folder / "theirs.keras")
    again = lh.models.load_model(folder / "theirs.keras")
    near(outputs_of(again, x), outputs_of(theirs, x))
    return theirs, again


def opened(keras, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return keras.models.load_model(path)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_goes_to_keras_and_back(keras, name, tmp_path):
    model, x = single(name)
    around(keras, model, x, tmp_path)


@pytest.mark.parametrize("make", [chain, graph, recurrent])
def test_a_model_goes_to_keras_and_back(keras, make, tmp_path):
    model = make()
    _, again = around(keras, model, data_for(model)[0], tmp_path)
    assert type(again) is type(model)
    assert [layer.label for layer in again.layers] == [layer.label for layer in model.layers]


@pytest.mark.parametrize("make", [chain, graph, recurrent])
def test_weights_alone_go_to_keras_and_back(keras, make, tmp_path):
    model = make()
    x, _ = data_for(model)
    model.save(tmp_path / "m.keras")
    theirs = opened(keras, tmp_path / "m.keras")
    theirs.set_weights([w * 1.25 + 0.1 for w in theirs.get_weights()])
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    model.load_weights(tmp_path / "theirs.weights.h5")
    near(outputs_of(model, x), outputs_of(theirs, x))
    model.set_weights([w * 0.5 for w in model.get_weights()])
    model.save_weights(tmp_path / "ours.weights.h5")
    theirs.load_weights(tmp_path / "ours.weights.h5")
    near(outputs_of(model, x), outputs_of(theirs, x))


OPTIMIZERS = {
    "SGD": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "RMSprop": {"learning_rate": 0.01, "centered": True, "momentum": 0.5},
    "Adam": {"learning_rate": 0.01, "amsgrad": True, "clipnorm": 1.0},
    "AdamW": {"learning_rate": 0.01, "use_ema": True},
    "Adagrad": {"learning_rate": 0.01},
    "Adadelta": {"learning_rate": 0.5},
    "Adamax": {"learning_rate": 0.01},
    "Nadam": {"learning_rate": 0.01},
    "Ftrl": {"learning_rate": 0.01},
    "Lion": {"learning_rate": 0.001},
    "Lamb": {"learning_rate": 0.01},
    "Adafactor": {"learning_rate": 0.01},
    "Muon": {"learning_rate": 0.01},
    "Adam, scaled": {"learning_rate": 0.01},
    "SGD, scheduled": {"momentum": 0.5, "use_ema": True},
}
STEPS = 1e-4
"""Relative, in float32: some steps, which carry differences on."""


def trained(keras, name):
    """A model that Keras has trained, with its data."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activation="tanh"), layers.BatchNormalization(), layers.Dense(3)]
    )
    rule, _, how = name.partition(", ")
    schedule = {"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 20)} if how == "scheduled" else {}
    optimizer = getattr(keras.optimizers, rule)(**OPTIMIZERS[name], **schedule)
    if how == "scaled":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=2)
    model.compile(optimizer, "mse", metrics=["mae"], run_eagerly=True)  # tracing takes longer than these steps
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(12, 6)).astype("float32"), rng.normal(size=(12, 3)).astype("float32")
    for _ in range(3):
        model.train_on_batch(x, y)
    return model, x, y


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_keras_training_goes_on_here_and_back_there(keras, name, tmp_path):
    theirs, x, y = trained(keras, name)
    theirs.save(tmp_path / "theirs.keras")
    ours = lh.models.load_model(tmp_path / "theirs.keras")
    for _ in range(2):
        theirs.train_on_batch(x, y)
        ours.train_on_batch(x, y)
    near(ours.get_weights(), theirs.get_weights(), STEPS)
    ours.save(tmp_path / "ours.keras")
    again = opened(keras, tmp_path / "ours.keras")
    again.run_eagerly = True
    assert int(again.optimizer.iterations) == 5
    for _ in range(2):
        again.train_on_batch(x, y)
        ours.train_on_batch(x, y)
    near(ours.get_weights(), again.get_weights(), STEPS)


@pytest.mark.parametrize("make", [chain, graph])
def test_keras_reads_how_a_model_was_compiled(keras, make, tmp_path):
    model = compiled(make())
    x, y = data_for(model)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    theirs = opened(keras, tmp_path / "m.keras")
    figures = theirs.evaluate(x, y, verbose=0, return_dict=True)
    for name, value in model.evaluate(x, y, verbose=0, return_dict=True).items():
        assert abs(figures[name] - value) <= STEPS * max(1, abs(value)), name


def test_a_model_of_keras_with_named_inputs_and_outputs_is_read_in_the_order_of_names(keras, tmp_path):
    b, a = keras.Input((3,), name="b"), keras.Input((2,), name="a")
    outputs = {"y": keras.layers.Dense(2)(a), "x": keras.layers.Dense(3)(b)}
    inner = keras.Model({"b": b, "a": a}, outputs)
    named = {"b": keras.Input((3,), name="b"), "a": keras.Input((2,), name="a")}
    theirs = keras.Model(named, inner(named))
    theirs.save(tmp_path / "m.keras")
    ours = lh.models.load_model(tmp_path / "m.keras")
    x = {"a": np.ones((2, 2), "float32"), "b": np.ones((2, 3), "float32")}
    expected = theirs.predict(x, verbose=0)
    for given in (x, [x["a"], x["b"]]):
        found = ours.predict(given, verbose=0)
        assert list(found) == ["y", "x"]
        near([found["x"], found["y"]], [expected["x"], expected["y"]])


def test_a_nested_graph_of_keras_that_is_called_twice_is_read(keras, tmp_path):
    a, b = keras.Input((4,)), keras.Input((4,))
    inner = keras.Model(a, keras.layers.Dense(4)(a))
    twice = inner(keras.layers.ReLU()(inner(b)))
    theirs = keras.Model(b, [inner(b), twice, keras.layers.Dropout(0.4)(twice)])
    theirs.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    near(outputs_of(lh.models.load_model(tmp_path / "m.keras"), x), outputs_of(theirs, x))


def test_a_layer_that_nested_models_of_keras_share_stays_one(keras, tmp_path):
    # Keras writes such a model, and cannot open its file itself.
    shared = keras.layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared, keras.layers.Dense(4)], name="inner")
    x = keras.Input((4,), name="x")
    theirs = keras.Model(x, shared(inner(shared(x))))
    theirs.save(tmp_path / "m.keras")
    ours = lh.models.load_model(tmp_path / "m.keras")
    data = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    near(outputs_of(ours, data), outputs_of(theirs, data))
    assert ours.get_layer("inner").layers[0] is ours.get_layer("shared")


def test_the_json_of_a_keras_model_is_read_and_ours_is_read_by_keras(keras):
    model = graph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = keras.models.model_from_json(model.to_json())
    again = lh.models.model_from_json(theirs.to_json())
    again.set_weights(model.get_weights())
    theirs.set_weights(model.get_weights())
    x, _ = data_for(model)
    near(outputs_of(again, x), outputs_of(theirs, x))


def test_operations_of_keras_are_read_as_what_they_are(keras, tmp_path):
    x = keras.Input((4, 3))
    y = keras.layers.Dense(3)(x) * 2 + x
    z = keras.ops.concatenate([y[:, 1:, :2], -y[:, :3, :1]], axis=-1)
    z = keras.ops.mean(z, axis=1, keepdims=True) / keras.ops.max(keras.ops.exp(x), axis=[1, 2], keepdims=True)
    z = keras.activations.leaky_relu(keras.ops.reshape(keras.ops.where(z > 0, z, -z), (-1, 3)), negative_slope=0.25)
    theirs = keras.Model(x, [keras.ops.transpose(y, (0, 2, 1)), z @ np.ones((3, 2), "float32")])
    theirs.save(tmp_path / "m.keras")
    data = np.random.default_rng(0).normal(size=(3, 4, 3)).astype("float32")
    near(outputs_of(lh.models.load_model(tmp_path / "m.keras"), data), outputs_of(theirs, data))


def test_an_operation_of_keras_that_is_not_known_is_told(keras, tmp_path):
    x = keras.Input((3,))
    keras.Model(x, keras.ops.cumsum(keras.layers.Dense(3)(x), axis=1)).save(tmp_path / "m.keras")
    with pytest.raises(lh.errors.UnknownNameError, match="operation Cumsum"):
        lh.models.load_model(tmp_path / "m.keras")


def test_a_mask_that_is_not_made_by_layers_is_read_too(keras, tmp_path):
    x = keras.Input((4, 5))
    marked = keras.ops.not_equal(keras.ops.sum(x, axis=-1), 0.0)
    theirs = keras.Model(x, keras.layers.LSTM(3)(x, mask=marked))
    theirs.save(tmp_path / "m.keras")
    data = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    data[0, 2:], data[1, 1:] = 0, 0
    near(outputs_of(lh.models.load_model(tmp_path / "m.keras"), data), outputs_of(theirs, data))


def test_bfloat16_weights_of_keras_are_read(keras, tmp_path):
    theirs = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])
    theirs.save(tmp_path / "m.keras")
    ours = lh.models.load_model(tmp_path / "m.keras", backend="torch")
    near(ours.get_weights(), [w.astype("float32") for w in theirs.get_weights()], 0)


def test_keras_finds_the_number_of_its_layers_though_names_differ(keras, tmp_path):
    model = lh.Sequential([lh.Input((3,)), L.Dense(2, name="first"), L.Dense(2, name="second")])
    model.save_weights(tmp_path / "w.weights.h5")
    layers = [keras.layers.Dense(2, name=name) for name in "xy"]
    theirs = keras.Sequential([keras.Input((3,)), *layers])
    theirs.load_weights(tmp_path / "w.weights.h5")
    near(model.get_weights(), theirs.get_weights(), 0)
    assert json.loads(model.to_json())["config"]["layers"][1]["config"]["name"] == "first"
