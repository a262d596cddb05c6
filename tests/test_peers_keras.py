"""LayerHub beside Keras 3, which runs in a process of its own, on tensorflow in float64.

What people bring from Keras must mean the same here: the shapes, names and order of weights, configurations, and how a
small model trains. One process answers all questions; where Keras is not installed there is nobody to ask.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import layerhub as lh
from layerhub.models import Model, Sequential

# One process of Keras serves them all, so they stay together when tests are spread over processes.
pytestmark = pytest.mark.xdist_group("keras")

NEAR = 1e-9
"""Relative: dozens of float64 steps, in which both sides add up in an order of their own."""

LAYERS = [
    ("Dense", {"units": 5}, [[None, 3, 4]]),
    ("Dense", {"units": 5, "use_bias": False, "activation": "relu"}, [[None, 4]]),
    ("Conv2D", {"filters": 4, "kernel_size": [3, 2], "groups": 2}, [[None, 8, 7, 6]]),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False}, [[None, 9, 8, 3]]),
    ("DepthwiseConv2D", {"kernel_size": [3, 2], "depth_multiplier": 2, "dilation_rate": 2}, [[None, 9, 8, 3]]),
    ("SeparableConv2D", {"filters": 5, "kernel_size": 3, "depth_multiplier": 2}, [[None, 9, 8, 3]]),
    ("MaxPooling2D", {"pool_size": [3, 2], "padding": "same"}, [[None, 9, 8, 3]]),
    ("AveragePooling2D", {"pool_size": 3, "strides": 1}, [[None, 9, 8, 3]]),
    ("GlobalAveragePooling2D", {"keepdims": True}, [[None, 9, 8, 3]]),
    ("BatchNormalization", {}, [[None, 5, 3]]),
    ("BatchNormalization", {"axis": 1, "center": False}, [[None, 5, 3]]),
    ("Embedding", {"input_dim": 7, "output_dim": 3}, [[None, 5]]),
    ("LSTM", {"units": 4, "return_sequences": True}, [[None, 5, 3]]),
    ("LSTM", {"units": 4, "use_bias": False}, [[None, None, 3]]),
    ("Flatten", {}, [[None, 5, 3]]),
    ("Reshape", {"target_shape": [3, -1]}, [[None, 5, 3]]),
    ("Dropout", {"rate": 0.3}, [[None, 5, 3]]),
    ("Activation", {"activation": "selu"}, [[None, 5, 3]]),
    ("Add", {}, [[None, 5, 3], [None, 3]]),
    ("Average", {}, [[None, 5, 3], [None, 5, 1]]),
    ("Multiply", {}, [[None, 5, 3], [None, 5, 3]]),
    ("Concatenate", {"axis": 1}, [[None, 5, 3], [None, 2, 3]]),
]
WRAPPED = {"units": 3, "return_sequences": True}
# Powers of two and the like: Keras on tensorflow rounds Python's numbers to float32 on their way into float64.
OPTIMIZERS = [
    ("SGD", {"learning_rate": 2**-4}),
    ("SGD", {"learning_rate": 2**-4, "momentum": 0.875, "nesterov": True}),
    ("RMSprop", {"learning_rate": 2**-6, "rho": 0.875, "centered": True, "momentum": 0.5, "epsilon": 2**-20}),
    ("Adam", {"learning_rate": 2**-6, "beta_1": 0.875, "beta_2": 1 - 2**-10, "epsilon": 2**-20}),
    ("Adam", {"learning_rate": 2**-6, "beta_1": 0.5, "beta_2": 0.75, "amsgrad": True, "clipnorm": 2**-3}),
    ("AdamW", {"learning_rate": 2**-6, "beta_1": 0.875, "beta_2": 0.75, "epsilon": 2**-20, "weight_decay": 2**-3}),
    ("SGD", {"learning_rate": 2**-4, "clipvalue": 2**-7}),
    ("SGD", {"learning_rate": 2**-4, "global_clipnorm": 2**-3}),
]

SCRIPT = """
import json, sys
import numpy as np
import keras

asked = json.load(sys.stdin)
keras.config.set_floatx("float64")
told = {"layers": [], "curves": []}


def whole(x):
    return json.loads(json.dumps(x, default=str))


for name, config, shapes in asked["layers"]:
    layer = getattr(keras.layers, name)(**config)
    shapes = [tuple(s) for s in shapes]
    inputs = [keras.Input(batch_shape=s, dtype="int32" if name == "Embedding" else None) for s in shapes]
    y = layer(inputs if len(inputs) > 1 else inputs[0])
    told["layers"].append({
        "weights": [[w.name, list(w.shape), bool(w.trainable)] for w in layer.weights],
        "shape": list(y.shape),
        "config": whole(keras.saving.serialize_keras_object(layer)),
    })

wrapped = keras.layers.Bidirectional(keras.layers.LSTM(**asked["wrapped"]))
shape = list(wrapped(keras.Input((5, 3))).shape)
told["bidirectional"] = {"shape": shape, "weights": [list(w.shape) for w in wrapped.weights]}

data = {k: np.array(v) for k, v in asked["data"].items()}
weights = [np.array(w) for w in asked["mlp"]]


def mlp(**compiled):
    penalty = keras.regularizers.L2(2**-6)
    model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.Dense(5, activation="tanh", kernel_regularizer=penalty, kernel_constraint="non_neg"),
        keras.layers.BatchNormalization(momentum=0.875, epsilon=2**-10),
        keras.layers.Dense(3, activation="softmax", activity_regularizer=keras.regularizers.L1(2**-5)),
    ])
    model.set_weights(weights)
    model.compile(**compiled)
    return model


for name, config in asked["optimizers"]:
    optimizer = getattr(keras.optimizers, name)(**config)
    model = mlp(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(data["x"], data["classes"], epochs=8, batch_size=8, shuffle=False, verbose=0,
                        sample_weight=data["w"], validation_split=0.25)
    told["curves"].append({
        "history": history.history,
        "evaluate": model.evaluate(data["x"], data["classes"], verbose=0),
        "weights": [w.tolist() for w in model.get_weights()],
    })

x = keras.Input((4,), name="x")
left = keras.layers.Dense(3, name="left")(x)
right = keras.layers.Dense(1, name="right", activation="sigmoid")(left)
model = keras.Model(x, [left, right])
model.set_weights([np.array(w) for w in asked["two"]])
model.compile("sgd", {"left": "mse", "right": "binary_crossentropy"}, loss_weights={"left": 0.5, "right": 2.0},
              metrics={"right": ["mae"]}, weighted_metrics={"right": ["mae"]})
targets = {"left": data["y"], "right": data["b"]}
history = model.fit(data["x"], targets, epochs=3, batch_size=8, shuffle=False, verbose=0)
told["two"] = history.history

shared = keras.layers.Dense(4, name="shared")
a, b = keras.Input((4,)), keras.Input((4,))
inner = keras.Sequential([keras.Input((8,)), keras.layers.BatchNormalization(), keras.layers.Dense(2)])
late = keras.layers.Dense(6, name="late")
joined = keras.layers.Concatenate()([shared(a), shared(b)])
model = keras.Model([a, b], [late(joined), inner(joined)])
told["order"] = [list(w.shape) for w in model.get_weights()]
told["model_config"] = whole(keras.saving.serialize_keras_object(keras.Sequential([
    keras.Input((4,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dropout(0.5), keras.layers.Dense(2)])))
print("ANSWER" + json.dumps(told))
"""

RNG = np.random.default_rng(12)
DATA = {
    "x": RNG.normal(size=(32, 4)),
    "classes": RNG.integers(0, 3, size=32),
    "w": RNG.uniform(0.5, 1.5, size=32),
    "y": RNG.normal(size=(32, 3)),
    "b": RNG.integers(0, 2, size=(32, 1)).astype(float),
}
MLP = [RNG.uniform(0.1, 0.9, size=(4, 5)), RNG.normal(size=5), np.ones(5), np.zeros(5), np.zeros(5), np.ones(5)]
MLP += [RNG.normal(size=(5, 3)), RNG.normal(size=3)]
TWO = [RNG.normal(size=(4, 3)), RNG.normal(size=3), RNG.normal(size=(3, 1)), RNG.normal(size=1)]


def plain(x):
    return {k: v.tolist() for k, v in x.items()} if isinstance(x, dict) else [v.tolist() for v in x]


@pytest.fixture(scope="module")
def keras():
    """Keras's answers."""
    asked = {
        "layers": LAYERS, "wrapped": WRAPPED, "optimizers": OPTIMIZERS, "data": plain(DATA), "mlp": plain(MLP),
        "two": plain(TWO),
    }  # fmt: skip
    env = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.partition("ANSWER")[2])


@pytest.fixture(autouse=True)
def double_precision(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")


NUMBERED = list(enumerate(LAYERS))


def named(number_and_row):
    number, (name, config, _) = number_and_row
    return f"{number}-{name}-{config}"


@pytest.mark.parametrize("row", NUMBERED, ids=named)
def test_weights_have_keras_names_shapes_and_order(row, keras):
    number, (name, config, shapes) = row
    specs = getattr(lh.layers, name)(**config).weight_specs(*map(tuple, shapes))
    assert [[s.name, list(s.shape), s.trainable] for s in specs] == _known(keras["layers"][number]["weights"])


def _known(weights):
    """Without the counters of Keras's random generators, which are no weights here."""
    return [weight for weight in weights if "seed" not in weight[0]]


@pytest.mark.parametrize("row", NUMBERED, ids=named)
def test_outputs_have_keras_shapes(row, keras):
    number, (name, config, shapes) = row
    found = getattr(lh.layers, name)(**config).output_shapes(*map(tuple, shapes))[0]
    assert list(found) == keras["layers"][number]["shape"]


@pytest.mark.parametrize("row", NUMBERED, ids=named)
def test_keras_configuration_makes_the_same_layer(row, keras):
    number, (name, config, _) = row
    layer = lh.layers.deserialize(keras["layers"][number]["config"])
    mine = getattr(lh.layers, name)(**config)
    assert type(layer) is type(mine)
    left_out = ("name", "dtype", "seed")
    theirs = {k: v for k, v in layer.get_config().items() if k not in left_out}
    assert theirs == {k: v for k, v in mine.get_config().items() if k not in left_out}


def test_bidirectional_has_keras_shapes(keras):
    layer = lh.layers.Bidirectional(lh.layers.LSTM(**WRAPPED))
    assert list(layer.output_shapes((None, 5, 3))[0]) == keras["bidirectional"]["shape"]
    assert [list(s.shape) for s in layer.weight_specs((None, 5, 3))] == keras["bidirectional"]["weights"]


def test_weights_of_a_model_come_in_keras_order(keras):
    shared, late = lh.layers.Dense(4), lh.layers.Dense(6)
    a, b = lh.Input((4,)), lh.Input((4,))
    inner = Sequential([lh.Input((8,)), lh.layers.BatchNormalization(), lh.layers.Dense(2)])
    joined = lh.layers.Concatenate()([shared(a), shared(b)])
    model = Model([a, b], [late(joined), inner(joined)])
    assert [list(w.shape) for w in model.get_weights()] == keras["order"]


def test_a_keras_model_configuration_makes_the_same_model(keras):
    model = Sequential.from_config(keras["model_config"]["config"])
    assert model.output_shape == (None, 2)
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Dropout", "Dense"]


def mlp(optimizer):
    penalty = lh.regularizers.L2(2**-6)
    layers = [
        lh.layers.Dense(5, activation="tanh", kernel_regularizer=penalty, kernel_constraint="non_neg"),
        lh.layers.BatchNormalization(momentum=0.875, epsilon=2**-10),
        lh.layers.Dense(3, activation="softmax", activity_regularizer=lh.regularizers.L1(2**-5)),
    ]
    model = Sequential([lh.Input((4,)), *layers])
    model.set_weights(MLP)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize("number", range(len(OPTIMIZERS)), ids=lambda i: f"{OPTIMIZERS[i][0]}-{OPTIMIZERS[i][1]}")
def test_a_small_network_trains_along_the_curve_that_keras_draws(number, keras):
    name, config = OPTIMIZERS[number]
    model = mlp(getattr(lh.optimizers, name)(**config))
    fitted = model.fit(
        DATA["x"], DATA["classes"], epochs=8, batch_size=8, shuffle=False, verbose=0, sample_weight=DATA["w"],
        validation_split=0.25,
    )  # fmt: skip
    theirs = keras["curves"][number]
    assert set(fitted.history) == set(theirs["history"])
    for figure, values in theirs["history"].items():
        np.testing.assert_allclose(fitted.history[figure], values, rtol=NEAR, err_msg=figure)
    for mine, other in zip(model.get_weights(), theirs["weights"], strict=True):
        np.testing.assert_allclose(mine, other, rtol=NEAR, atol=NEAR)
    np.testing.assert_allclose(model.evaluate(DATA["x"], DATA["classes"], verbose=0), theirs["evaluate"], rtol=NEAR)


def test_several_outputs_train_and_are_logged_as_keras_does(keras):
    x = lh.Input((4,), name="x")
    left = lh.layers.Dense(3, name="left")(x)
    right = lh.layers.Dense(1, name="right", activation="sigmoid")(left)
    model = Model(x, [left, right])
    model.set_weights(TWO)
    model.compile(
        "sgd", {"left": "mse", "right": "binary_crossentropy"}, metrics={"right": ["mae"]},
        loss_weights={"left": 0.5, "right": 2.0}, weighted_metrics={"right": ["mae"]},
    )  # fmt: skip
    targets = {"left": DATA["y"], "right": DATA["b"]}
    history = model.fit(DATA["x"], targets, epochs=3, batch_size=8, shuffle=False, verbose=0).history
    assert set(history) == set(keras["two"])
    for figure, values in keras["two"].items():
        np.testing.assert_allclose(history[figure], values, rtol=NEAR, err_msg=figure)
