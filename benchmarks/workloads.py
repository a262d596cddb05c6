"""What is run: three networks with their data and first weights, the same for every contender.

A network is written once, for any module of layers with Keras's names: LayerHub's and Keras's own. The
hand-written programs say the same by themselves; ``benchmarks.check`` proves it. All end in logits, and are trained by
Adam on the sparse categorical crossentropy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RATE = 1e-3
WORDS = 10_000


@dataclass(frozen=True)
class Workload:
    """A network, and what goes through it.

    shape: of one sample. dtype: of the inputs. weights: (shape, what it is) in the order of get_weights().
    batches: how many of them ``fit`` and ``predict`` get.
    """

    name: str
    layers: Callable[[Any], list[Any]]
    weights: list[tuple[tuple[int, ...], str]]
    shape: tuple[int, ...]
    classes: int
    batch: int
    batches: int
    dtype: str = "float32"

    def first_weights(self) -> list[np.ndarray]:
        """Weights that keep activations at a common scale."""
        rng = np.random.default_rng(1)
        return [FIRST[what](rng, shape).astype("float32") for shape, what in self.weights]

    def split(self, values: list[Any]) -> tuple[list[Any], list[Any]]:
        """Values in the order of the weights: those of what is trained, and those of what only moves along."""
        trained = [what not in MOVING for _, what in self.weights]
        return (
            [value for value, is_trained in zip(values, trained, strict=True) if is_trained],
            [value for value, is_trained in zip(values, trained, strict=True) if not is_trained],
        )

    def data(self, batches: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and classes."""
        rng = np.random.default_rng(2)
        count = batches * self.batch
        x: Any = rng.standard_normal((count, *self.shape), dtype="float32")
        if self.dtype == "int32":
            x = rng.integers(0, WORDS, (count, *self.shape), dtype="int32")
        return x, rng.integers(0, self.classes, count)


def _kernel(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[:-1]))


MOVING = ("moving mean", "moving variance")
FIRST: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "kernel": _kernel,
    "bias": lambda rng, shape: 0.1 * rng.standard_normal(shape),
    "embeddings": lambda rng, shape: rng.standard_normal(shape),
    "gamma": lambda rng, shape: rng.uniform(0.5, 1.5, shape),
    "moving mean": lambda rng, shape: 0.1 * rng.standard_normal(shape),
    "moving variance": lambda rng, shape: rng.uniform(0.5, 1.5, shape),
}


def _dense(inputs: int, units: int) -> list[tuple[tuple[int, ...], str]]:
    return [((inputs, units), "kernel"), ((units,), "bias")]


def _block(channels: int, filters: int) -> list[tuple[tuple[int, ...], str]]:
    moments = ("gamma", "bias", "moving mean", "moving variance")
    return [((3, 3, channels, filters), "kernel"), *(((filters,), what) for what in moments)]


def _mlp(layers: Any) -> list[Any]:
    return [layers.Dense(512, activation="relu"), layers.Dense(256, activation="relu"), layers.Dense(10)]


def _cnn(layers: Any) -> list[Any]:
    blocks = [
        (
            layers.Conv2D(filters, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(2),
        )
        for filters in (32, 64, 128)
    ]
    return [*itertools.chain(*blocks), layers.GlobalAveragePooling2D(), layers.Dense(10)]


def _lstm(layers: Any) -> list[Any]:
    return [layers.Embedding(WORDS, 64), layers.LSTM(64), layers.Dense(4)]


WORKLOADS = {
    work.name: work
    for work in (
        Workload(
            "mlp", _mlp, [*_dense(784, 512), *_dense(512, 256), *_dense(256, 10)],
            shape=(784,), classes=10, batch=128, batches=64,
        ),
        Workload(
            "cnn", _cnn, [*_block(3, 32), *_block(32, 64), *_block(64, 128), *_dense(128, 10)],
            shape=(32, 32, 3), classes=10, batch=32, batches=16,
        ),
        Workload(
            "lstm", _lstm, [((WORDS, 64), "embeddings"), ((64, 256), "kernel"), *_dense(64, 256), *_dense(64, 4)],
            shape=(100,), classes=4, batch=32, batches=16, dtype="int32",
        ),
    )
}  # fmt: skip
