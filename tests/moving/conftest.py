"""What the tests of moves share: a model with everything that has state, and runs of it to compare."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import layerhub as lh
from layerhub.callbacks import HOOKS, Callback

L, rules = lh.layers, lh.optimizers
RNG = np.random.default_rng(3)
X = RNG.normal(size=(48, 5, 3))
Y = RNG.integers(0, 3, size=48)
SHARES = RNG.uniform(0.5, 1.5, size=48)
NEAR = 1e-9
"""What the project promises of curves in float64: absolute, for figures around 1."""


def laden(backend: str = "numpy", optimizer: Any = None, rnn: bool = True) -> lh.Model:
    """A model that keeps something of every kind: states from batch to batch, moving statistics, draws, a frozen
    layer, a penalty and a constraint; and an optimizer with sums, averages, decay, clipping and a schedule."""
    wide = {"dtype": "float64"}
    x = lh.Input(batch_shape=(8, 5, 3), dtype="float64")
    h = L.LSTM(4, stateful=True, return_sequences=True, dropout=0.2, **wide)(x) if rnn else x
    h = L.GRU(3, stateful=True, **wide)(L.BatchNormalization(**wide)(h))
    frozen = L.Dense(4, activation="tanh", name="frozen", **wide)
    h = L.GaussianNoise(0.1, **wide)(frozen(h))
    y = L.Dense(3, activation="softmax", kernel_regularizer="l2", kernel_constraint="max_norm", **wide)(h)
    frozen.trainable = False
    model = lh.Model(x, y, backend=backend, seed=5)
    model.compile(
        optimizer or everything(),
        "sparse_categorical_crossentropy",
        ["accuracy", "sparse_categorical_crossentropy"],
        weighted_metrics=["accuracy"],
    )
    return model


def everything() -> Any:
    """An optimizer that uses what all of them can."""
    return rules.AdamW(
        rules.schedules.ExponentialDecay(0.02, 5, 0.9),
        use_ema=True,
        ema_overwrite_frequency=3,
        gradient_accumulation_steps=2,
        global_clipnorm=1.0,
    )


class Mover(Callback):
    """Moves the model in some hooks, each time to the next of some backends, over and over."""

    def __init__(self, backends: Iterable[str], hooks: Iterable[str]):
        self.backends, self.moves = itertools.cycle(backends), 0
        for hook in hooks:
            assert hook in HOOKS
            setattr(self, hook, self.move)

    def move(self, *_: Any) -> None:
        self.model.to(next(self.backends))
        self.moves += 1


class Notes(Callback):
    """The logs of every batch."""

    def __init__(self) -> None:
        self.logs: list[Mapping[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.logs.append(dict(logs))

    on_test_batch_end = on_train_batch_end


def training(model: lh.Model, *callbacks: Callback, epochs: int = 2) -> dict[str, list[Any]]:
    """All that can be seen of a run: curves, logs of every batch, weights, slots, and what the next calls give."""
    notes = Notes()
    history = model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, sample_weight=SHARES, validation_data=(X[:16], Y[:16]),
        callbacks=[notes, *callbacks],
    ).history  # fmt: skip
    executor = model.executor
    slots = [slot for row in executor.host_slots() for slot in row]
    return {
        "curves": [history[name] for name in sorted(history)],
        "batches": [[logs[name] for name in sorted(logs)] for logs in notes.logs],
        "weights": model.get_weights(),
        "slots": slots + [slot for row in executor.resting.values() for slot in row],
        "steps": [executor.step],
        "predictions": [model.predict(X[:16])],
        "next": [model.train_on_batch(X[:8], Y[:8], SHARES[:8])],
    }


def apart(one: Mapping[str, list[Any]], other: Mapping[str, list[Any]]) -> float:
    """The largest difference of two runs."""
    assert one.keys() == other.keys()
    found = [0.0]
    for name, values in one.items():
        for a, b in zip(values, other[name], strict=True):
            assert np.shape(a) == np.shape(b), name
            found.append(float(np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0.0)))
    return max(found)
