"""What the tests of files share: models of each kind."""

from __future__ import annotations

from typing import Any

import numpy as np

import layerhub as lh

L = lh.layers
NEAR = 2e-5
"""Relative, in float32: a few layers, in which both sides add up in orders of their own."""


def chain(backend: str = "numpy") -> Any:
    """A Sequential."""
    return lh.Sequential(
        [
            lh.Input((6,), name="x"),
            L.Dense(5, activation="relu", kernel_regularizer="l2"),
            L.Dropout(0.3),
            L.BatchNormalization(),
            L.Dense(3, activation="softmax"),
        ],
        backend=backend,
        seed=3,
        name="chain",
    )


def graph(backend: str = "numpy") -> Any:
    """A graph of two inputs and outputs, with a nested model and a layer that are used twice."""
    a, b = lh.Input((4, 5), name="a"), lh.Input((6,), name="b")
    inner = lh.Sequential([lh.Input((6,)), L.Dense(7), L.Dense(6, activation="tanh")], name="inner")
    twice = L.Dense(7, name="twice")
    x = L.MultiHeadAttention(2, 3)(a, a, use_causal_mask=True)
    x = L.GlobalAveragePooling1D()(x)
    x = L.Concatenate()([twice(inner(b)), twice(inner(inner(b))), x])
    x = L.BatchNormalization()(L.Dropout(0.3)(x))
    return _two(a, b, x, backend)


def recurrent(backend: str = "numpy") -> Any:
    """A graph whose recurrent layers take masks, hand on their states, and hold cells."""
    a, b = lh.Input((4, 5), name="a"), lh.Input((6,), name="b")
    x = L.Bidirectional(L.GRU(3, dropout=0.2, return_sequences=True))(L.Masking()(a))
    sequence, h, c = L.LSTM(4, return_sequences=True, return_state=True)(x)
    x = L.LSTM(4, return_sequences=True)(sequence, initial_state=[h, c])
    x = L.RNN([L.GRUCell(3), L.LSTMCell(2), L.GRUCell(2)])(x)
    inner_b = lh.Input((6,))
    inner = lh.Model(inner_b, L.Dense(3)(inner_b), name="inner")
    return _two(a, b, L.Concatenate()([x, inner(b), inner(L.ReLU()(b))]), backend)


def _two(a: Any, b: Any, x: Any, backend: str) -> Any:
    outputs = [L.Dense(1, name="o1")(x), L.Dense(3, activation="softmax", name="o2")(x)]
    return lh.Model([a, b], outputs, backend=backend, seed=4)


def compiled(model: Any, optimizer: Any = "adam") -> Any:
    """The model, ready to train on ``data_for`` it."""
    if len(model.outputs) == 1:
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    else:
        losses = ["mse", lh.losses.SparseCategoricalCrossentropy()]
        model.compile(optimizer, losses, metrics=[["mae"], ["accuracy"]], loss_weights=[1.0, 0.5])
    return model


def data_for(model: Any, count: int = 12) -> tuple[Any, Any]:
    """Inputs and targets."""
    rng = np.random.default_rng(5)
    x = [rng.normal(size=(count, *t.shape[1:])).astype("float32") for t in model.inputs]
    y = [rng.normal(size=(count, 1)).astype("float32"), rng.integers(0, 3, size=count)]
    return (x, y) if len(x) > 1 else (x[0], y[1])


def outputs_of(model: Any, x: Any) -> list[np.ndarray]:
    """What a model of ours, or of Keras, predicts. Keras's runs eagerly: tracing takes longer than these models."""
    found = model.predict(x, verbose=0) if isinstance(model, lh.Model | lh.Sequential) else model(x, training=False)
    return [np.asarray(y) for y in (found if isinstance(found, (list, tuple)) else [found])]


def same(some: Any, others: Any) -> bool:
    """Whether arrays are the same, to the bit."""
    return len(some) == len(others) and all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def near(ours: Any, theirs: Any, tolerance: float = NEAR) -> None:
    """Assert that arrays are equal but for rounding."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        assert float(np.max(np.abs(a - b), initial=0.0)) <= tolerance * scale
