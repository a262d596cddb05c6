"""What ``tools/agreement.py`` trains: models, optimizers and their data, written once for LayerHub and for Keras.

A model is a function of the library (``layerhub`` or ``keras``: their layers have the same names and arguments). It
gives inputs, outputs, and what ``compile`` takes. ``trained`` trains one of them for ten steps and tells all that
training keeps.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

STEPS, BATCH = 10, 8
MEASURED = 20
"""Samples that ``evaluate`` measures, in batches of BATCH: the last one is smaller."""
DTYPES = ("float64", "float32")

# Powers of two and the like are the same in float32 and float64. Keras on tensorflow takes Python's numbers to float64
# by way of float32, which for 0.9 alone is a difference of 1e-8.
RATE, B1, B2, SMALL = 2.0**-6, 0.875, 1 - 2.0**-10, 2.0**-20


class Compiled(NamedTuple):
    """A graph, and how it is compiled: losses, metrics and loss weights by the names that ``compile`` has."""

    inputs: Any
    outputs: Any
    arguments: dict[str, Any]


# Models: the smallest that have the layers in question. Layers are named, so that weights can be named.


def dense(lib: Any) -> Compiled:
    """Dense layers with three activations, and a regularizer."""
    layers = lib.layers
    x = lib.Input((5,))
    h = layers.Dense(6, activation="tanh", kernel_regularizer=lib.regularizers.L2(2.0**-8), name="first")(x)
    h = layers.Dense(4, activation="elu", name="second")(h)
    y = layers.Dense(3, activation="softmax", name="head")(h)
    return Compiled(x, y, {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]})


def convolutional(lib: Any) -> Compiled:
    """Convolutions, each followed by batch normalization, and both kinds of pooling."""
    layers = lib.layers
    x = lib.Input((6, 6, 2))
    h = layers.Conv2D(3, 3, padding="same", use_bias=False, name="conv_1")(x)
    h = layers.BatchNormalization(name="norm_1")(h)
    h = layers.MaxPooling2D(2, name="pool")(layers.Activation("tanh", name="tanh")(h))
    h = layers.Conv2D(4, 2, strides=2, padding="same", activation="relu", name="conv_2")(h)
    h = layers.BatchNormalization(momentum=0.75, name="norm_2")(h)
    y = layers.Dense(3, name="head")(layers.GlobalAveragePooling2D(name="average")(h))
    loss = lib.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Compiled(x, y, {"loss": loss, "metrics": ["accuracy"]})


def biased(lib: Any) -> Compiled:
    """A convolution whose bias batch normalization takes away again: the true gradient of that bias is zero."""
    layers = lib.layers
    x = lib.Input((5, 2))
    h = layers.Conv1D(3, 2, name="conv")(x)
    h = layers.BatchNormalization(name="norm")(h)
    h = layers.Flatten(name="flat")(layers.Activation("tanh", name="tanh")(h))
    return Compiled(x, layers.Dense(2, name="head")(h), {"loss": "mse", "metrics": ["mae"]})


def recurrent(lib: Any) -> Compiled:
    """Embedded words of several lengths, an LSTM over their mask that returns all steps, a GRU over the same mask."""
    layers = lib.layers
    x = lib.Input((5,), dtype="int32")
    h = layers.Embedding(7, 4, mask_zero=True, name="embedding")(x)
    h = layers.LSTM(3, return_sequences=True, name="lstm")(h)
    h = layers.GRU(4, name="gru")(h)
    y = layers.Dense(1, activation="sigmoid", name="head")(h)
    return Compiled(x, y, {"loss": "binary_crossentropy", "metrics": ["accuracy"]})


def bidirectional(lib: Any) -> Compiled:
    """A bidirectional LSTM with a label for each step, then a bidirectional GRU whose directions are summed."""
    layers = lib.layers
    x = lib.Input((4, 3))
    h = layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="lstm"), name="both")(x)
    h = layers.Bidirectional(layers.GRU(2, return_sequences=True, name="gru"), merge_mode="sum", name="sum")(h)
    y = layers.TimeDistributed(layers.Dense(2, name="inner"), name="head")(h)
    return Compiled(x, y, {"loss": "mse", "metrics": ["mae"]})


def several(lib: Any) -> Compiled:
    """Two inputs and two outputs, whose losses count differently."""
    layers = lib.layers
    left, right = lib.Input((3,)), lib.Input((4,))
    a = layers.Dense(4, activation="tanh", name="left")(left)
    b = layers.Dense(4, activation="softplus", name="right")(right)
    h = layers.Concatenate(name="joined")([layers.Multiply(name="product")([a, b]), a])
    label = layers.Dense(3, activation="softmax", name="label")(h)
    value = layers.Dense(2, name="value")(layers.Add(name="total")([a, b]))
    losses, metrics = ["categorical_crossentropy", "huber"], [["accuracy"], ["mae"]]
    return Compiled(
        [left, right], [label, value], {"loss": losses, "loss_weights": [0.75, 2.0], "metrics": metrics}
    )  # fmt: skip


def siamese(lib: Any) -> Compiled:
    """One encoder for two inputs: its weights gather the gradients of both uses."""
    layers = lib.layers
    left, right = lib.Input((4,)), lib.Input((4,))
    first, second = layers.Dense(5, activation="tanh", name="first"), layers.Dense(3, name="second")
    a, b = second(first(left)), second(first(right))
    apart = layers.Subtract(name="apart")([a, b])
    y = layers.Dense(1, activation="sigmoid", name="head")(layers.Multiply(name="squared")([apart, apart]))
    return Compiled([left, right], y, {"loss": "binary_crossentropy", "metrics": ["accuracy"]})


def separable(lib: Any) -> Compiled:
    """Depthwise and depthwise-separable convolutions."""
    layers = lib.layers
    x = lib.Input((6, 6, 2))
    h = layers.SeparableConv2D(4, 3, activation="tanh", depth_multiplier=2, padding="same", name="separable")(x)
    h = layers.DepthwiseConv2D(2, strides=2, activation="tanh", name="depthwise")(h)
    h = layers.AveragePooling2D(2, padding="same", name="pool")(h)
    y = layers.Dense(2, name="head")(layers.Flatten(name="flat")(h))
    return Compiled(x, y, {"loss": "mse", "metrics": ["mae"]})


def attention(lib: Any) -> Compiled:
    """A transformer's block: attention of a sequence to itself, and layer normalization."""
    layers = lib.layers
    x = lib.Input((4, 6))
    # 1 / sqrt(key_dim) is a power of two: Keras keeps that scale in float32.
    h = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    h = layers.LayerNormalization(name="norm_1")(layers.Add(name="sum_1")([x, h]))
    m = layers.Dense(6, name="narrow")(layers.Dense(8, activation="tanh", name="wide")(h))
    h = layers.LayerNormalization(name="norm_2")(layers.Add(name="sum_2")([h, m]))
    y = layers.Dense(3, activation="softmax", name="head")(layers.GlobalAveragePooling1D(name="average")(h))
    return Compiled(x, y, {"loss": "categorical_crossentropy", "metrics": ["accuracy"]})


def dropout(lib: Any) -> Compiled:
    """Everything that draws: dropout, noise, and dropout inside a recurrent layer."""
    layers = lib.layers
    x = lib.Input((4, 3))
    h = layers.GaussianNoise(0.125, name="noise")(x)
    h = layers.LSTM(4, return_sequences=True, dropout=0.25, recurrent_dropout=0.25, name="lstm")(h)
    h = layers.SpatialDropout1D(0.25, name="spatial")(h)
    h = layers.Dense(5, activation="selu", name="body")(layers.Flatten(name="flat")(h))
    h = layers.Dropout(0.5, name="plain")(layers.AlphaDropout(0.25, name="alpha")(h))
    return Compiled(x, layers.Dense(2, name="head")(h), {"loss": "mse", "metrics": ["mae"]})


MODELS: dict[str, Callable[[Any], Compiled]] = {
    model.__name__: model
    for model in (
        dense, convolutional, recurrent, bidirectional, several, siamese, separable, attention, biased, dropout
    )
}  # fmt: skip
OURS_ALONE = ("dropout",)
"""Models that Keras trains otherwise by design: its random draws are others."""


# Optimizers


def _adam(lib: Any, rate: float = RATE, **more: Any) -> Any:
    return lib.optimizers.Adam(rate, beta_1=B1, beta_2=B2, epsilon=SMALL, **more)


def _moments(name: str, **more: Any) -> Callable[[Any], Any]:
    """An optimizer with two decaying means."""
    return lambda lib: getattr(lib.optimizers, name)(RATE, beta_1=B1, beta_2=B2, epsilon=SMALL, **more)


def _by_path(lib: Any) -> Any:
    of = lib.optimizers
    momentum = of.SGD(RATE, momentum=0.875, clipnorm=1.0)
    return of.MultiOptimizer(of.OptimizerMap(momentum, {".*bias": of.RMSprop(RATE, rho=0.875, epsilon=SMALL)}))


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda lib: lib.optimizers.SGD(2.0**-4),
    "momentum": lambda lib: lib.optimizers.SGD(2.0**-4, momentum=0.875),
    "nesterov": lambda lib: lib.optimizers.SGD(2.0**-4, momentum=0.875, nesterov=True),
    "RMSprop": lambda lib: lib.optimizers.RMSprop(RATE, rho=0.875, epsilon=SMALL),
    "centered": lambda lib: lib.optimizers.RMSprop(RATE, rho=0.875, momentum=0.5, epsilon=SMALL, centered=True),
    "Adagrad": lambda lib: lib.optimizers.Adagrad(2.0**-4, initial_accumulator_value=0.125, epsilon=SMALL),
    "Adadelta": lambda lib: lib.optimizers.Adadelta(1.0, rho=0.9375, epsilon=2.0**-10),
    "Adam": _adam,
    "amsgrad": lambda lib: _adam(lib, amsgrad=True),
    "AdamW": _moments("AdamW", weight_decay=0.25),
    "Adamax": _moments("Adamax"),
    "Nadam": _moments("Nadam"),
    "Ftrl": lambda lib: lib.optimizers.Ftrl(
        2.0**-3, initial_accumulator_value=0.125, l1_regularization_strength=2.0**-9,
        l2_regularization_strength=2.0**-8, beta=0.125,
    ),
    "Lion": lambda lib: lib.optimizers.Lion(2.0**-8, beta_1=B1, beta_2=1 - 2.0**-7),
    "Lamb": _moments("Lamb", weight_decay=0.125),
    "Adafactor": lambda lib: lib.optimizers.Adafactor(
        2.0**-4, beta_2_decay=-0.75, epsilon_1=2.0**-100, epsilon_2=2.0**-10
    ),
    "Muon": lambda lib: lib.optimizers.Muon(
        RATE, adam_beta_1=B1, adam_beta_2=B2, adam_weight_decay=0.125, epsilon=SMALL, weight_decay=0.25,
        momentum=0.875, rms_rate=0.25, exclude_layers=["head"],
    ),
    "ScheduleFreeAdamW": _moments("ScheduleFreeAdamW", warmup_steps=4),
    "LossScaleOptimizer": lambda lib: lib.optimizers.LossScaleOptimizer(_adam(lib), 2.0**10, dynamic_growth_steps=4),
    "MultiOptimizer": _by_path,
    "weight_decay": lambda lib: lib.optimizers.SGD(2.0**-4, momentum=0.5, weight_decay=0.25),
    "clipnorm": lambda lib: _adam(lib, clipnorm=0.125),
    "clipvalue": lambda lib: lib.optimizers.SGD(2.0**-3, momentum=0.5, clipvalue=2.0**-5),
    "global_clipnorm": lambda lib: lib.optimizers.SGD(2.0**-3, momentum=0.5, global_clipnorm=0.25),
    "EMA": lambda lib: _adam(lib, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=4),
    "accumulation": lambda lib: _adam(lib, gradient_accumulation_steps=3, weight_decay=0.125),
    "schedule": lambda lib: lib.optimizers.SGD(
        lib.optimizers.schedules.PiecewiseConstantDecay([2, 6], [2.0**-3, 2.0**-4, 2.0**-5]), momentum=0.5
    ),
    "EMA, accumulation": lambda lib: _adam(
        lib, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=2, gradient_accumulation_steps=3
    ),
}  # fmt: skip


class Case(NamedTuple):
    """A model, an optimizer and a type."""

    model: str
    optimizer: str
    dtype: str = "float64"


@dataclass
class Told:
    """What a run of a case came to. Arrays by name; a name begins with what it is: log, weight, slot, evaluate.

    row: the optimizer's variables in Keras's order, by Keras's names where Keras ran, and by number elsewhere.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    row: list[tuple[str, np.ndarray]] = field(default_factory=list)


# Data


def data(model: str, compiled: Compiled, count: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs and targets that fit a model; the same for every library."""
    rng = np.random.default_rng([zlib.crc32(model.encode()), seed])
    inputs = [_input(rng, x, count) for x in _listed(compiled.inputs)]
    losses = compiled.arguments["loss"]
    losses = losses if isinstance(losses, list) else [losses]
    return inputs, [_target(rng, loss, y, count) for loss, y in zip(losses, _listed(compiled.outputs), strict=True)]


def _input(rng: np.random.Generator, x: Any, count: int) -> np.ndarray:
    if not str(x.dtype).endswith("int32"):
        return _rounded(rng.normal(size=(count, *x.shape[1:])))
    ids = rng.integers(1, 7, size=(count, *x.shape[1:]))
    # Sentences of every length from 1 on, padded behind.
    return np.where(np.arange(ids.shape[1]) < 1 + np.arange(count)[:, None] % ids.shape[1], ids, 0).astype("int32")


def _target(rng: np.random.Generator, loss: Any, y: Any, count: int) -> np.ndarray:
    shape = (count, *y.shape[1:])
    name = loss if isinstance(loss, str) else type(loss).__name__
    if name.lower().startswith("sparse"):
        return rng.integers(0, shape[-1], size=shape[:-1])
    if name == "categorical_crossentropy":
        return np.eye(shape[-1])[rng.integers(0, shape[-1], size=shape[:-1])]
    if name == "binary_crossentropy":
        return rng.integers(0, 2, size=shape).astype(float)
    return _rounded(rng.normal(size=shape))


def first_weights(model: str, names: Sequence[str], shapes: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Initial weights, none of them zero or alike, by the order of the weights and the ends of their names."""
    rng = np.random.default_rng(zlib.crc32(model.encode()))
    found = []
    for name, shape in zip(names, shapes, strict=True):
        draw = rng.normal(size=tuple(shape))
        if name.endswith("variance"):
            draw = 0.5 + np.abs(draw)
        elif name.endswith("gamma"):
            draw = 1 + draw / 8
        else:
            draw = draw / 4 if len(shape) < 2 else draw / np.sqrt(np.prod(shape[:-1]))
        found.append(_rounded(draw))
    return found


def _listed(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _unlisted(x: list[Any]) -> Any:
    return x if len(x) > 1 else x[0]


# Running


def trained(library: str, case: Case, route: Sequence[str] = ()) -> Told:
    """A case, trained for STEPS steps by ``layerhub`` or ``keras``.

    route: for LayerHub, the backends to be on; each gets its share of the steps. Keras has the one of its process.
    """
    return _on_keras(case) if library == "keras" else _on_layerhub(case, route or ("numpy",))


def _on_layerhub(case: Case, route: Sequence[str]) -> Told:
    import layerhub as lh

    before = lh.config.floatx()
    lh.config.set_floatx(case.dtype)
    try:
        compiled = MODELS[case.model](lh)
        model = lh.Model(compiled.inputs, compiled.outputs, backend=route[0], seed=7)
        moves = {STEPS * k // len(route): backend for k, backend in enumerate(route)}
        told = _follow(model, lh, case, compiled, lambda step: model.to(moves.get(step)))
        rows = model.executor.held_slots()
    finally:
        lh.config.set_floatx(before)
    for weight in model.trainable_weights:
        told.arrays |= {f"slot {weight.path} {k}": slot for k, slot in enumerate(rows[weight])}
    told.row = [(str(k), value) for k, value in enumerate(_row(model))]
    return told


def _row(model: Any) -> list[np.ndarray]:
    """The variables of a model's optimizer in Keras's order; of several optimizers, those of one after the other."""
    from layerhub.saving.training import _listed as listed
    from layerhub.saving.training import row_of
    from layerhub.spec.optimizers import MultiOptimizer

    optimizer, executor = model.optimizer, model.executor
    if not isinstance(optimizer, MultiOptimizer):
        return row_of(model)
    rows, weights = executor.held_slots(), model.trainable_weights
    shared = dict(optimizer.shared_out(weights))
    found = []
    for inner in optimizer.optimizers:
        mine = [weights[k] for k in shared[inner]]
        found += listed(inner, mine, [rows[w] for w in mine], STEPS, True)
    return found


def _on_keras(case: Case) -> Told:
    import keras

    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(case.dtype)
    keras.config.set_dtype_policy(case.dtype)
    try:
        compiled = MODELS[case.model](keras)
        model = keras.Model(compiled.inputs, compiled.outputs)
        told = _follow(model, keras, case, compiled)
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
    optimizer = model.optimizer
    several = isinstance(optimizer, keras.optimizers.MultiOptimizer)
    kept = [v for inner in optimizer.optimizers for v in inner.variables] if several else optimizer.variables
    names = _names_of_means(optimizer) if isinstance(optimizer, keras.optimizers.Adafactor) else {}
    told.row = [(names.get(id(v), v.path), keras.ops.convert_to_numpy(v.value)) for v in kept]
    return told


def _names_of_means(optimizer: Any) -> dict[int, str]:
    """Names for Adafactor's means of rows and columns, which all biases share in Keras."""
    kinds = zip(("rows", "columns"), (optimizer._r, optimizer._c), strict=True)
    weights = optimizer._trainable_variables
    return {id(v): f"{w.path} {kind}" for kind, kept in kinds for w, v in zip(weights, kept, strict=True)}


def _dense_gradients(optimizer: Any) -> None:
    """Let a Keras optimizer see an embedding's gradient as an array.

    As slices, on tensorflow, it would square the gradients of an id that comes twice before it sums them.
    """
    from tensorflow import convert_to_tensor

    apply = optimizer.apply
    optimizer.apply = lambda gradients, weights=None: apply(list(map(convert_to_tensor, gradients)), weights)


def _follow(
    model: Any, lib: Any, case: Case, compiled: Compiled, before: Callable[[int], Any] = lambda step: None
) -> Told:
    """Train a model, and tell its losses, metrics and weights. before: called before each step."""
    told = Told()
    model.set_weights(first_weights(case.model, [w.path for w in model.weights], [w.shape for w in model.weights]))
    optimizer = OPTIMIZERS[case.optimizer](lib)
    if lib.__name__ == "keras":
        _dense_gradients(optimizer)
        model.compile(optimizer=optimizer, **compiled.arguments, run_eagerly=True)
    else:
        model.compile(optimizer=optimizer, **compiled.arguments)
    logs = []
    for step in range(STEPS):
        before(step)
        x, y = _batch(case, compiled, BATCH, step + 1)
        model.reset_metrics()
        logs.append(model.train_on_batch(x, y, return_dict=True))
    for name in logs[0]:
        told.arrays[f"log {name}"] = np.array([float(log[name]) for log in logs])
    for weight, value in zip(model.weights, model.get_weights(), strict=True):
        told.arrays[f"weight {weight.path}"] = value
    x, y = _batch(case, compiled, MEASURED, 0)
    for name, value in model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True).items():
        told.arrays[f"evaluate {name}"] = np.array(float(value))
    return told


def _batch(case: Case, compiled: Compiled, count: int, seed: int) -> tuple[Any, Any]:
    arrays = data(case.model, compiled, count, seed)
    typed = [[a.astype(case.dtype) if a.dtype.kind == "f" else a for a in part] for part in arrays]
    return _unlisted(typed[0]), _unlisted(typed[1])


def _rounded(x: np.ndarray) -> np.ndarray:
    """Numbers that float32 holds, so that both types begin alike."""
    return x.astype("float32").astype("float64")
