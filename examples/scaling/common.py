"""What the examples of scaling out share: one model, its data, and the comparison with a run in one process.

In float64 nothing is left between the runs but the order in which the shares of a batch are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import layerhub as lh

STEPS, BATCH, CLASSES = 6, 32, 3
RATE, MOMENTUM = 0.02, 0.9
NEAR = 1e-12


def classifier(backend: str) -> lh.Sequential:
    """The model: the same first weights from the same seed, in every process and on every backend.

    It normalizes each sample by itself. BatchNormalization works as well, but sees the part of the batch that its
    process has, here as in torch and tensorflow: so it learns something else than one process with the whole batch.
    """
    layers, wide = lh.layers, {"dtype": "float64"}
    return lh.Sequential(
        [
            lh.Input((8, 8, 1), dtype="float64"),
            layers.Conv2D(4, 3, activation="relu", **wide),
            layers.Flatten(**wide),
            layers.LayerNormalization(**wide),
            layers.Dense(CLASSES, activation="softmax", **wide),
        ],
        backend=backend,
        seed=7,
    )


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """The global batches: images, and in which third of their rows they are brightest."""
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(BATCH, 8, 8, 1)) for _ in range(STEPS)]
    return [(x, np.argmax([x[:, k : k + 3].mean((1, 2, 3)) for k in (0, 3, 5)], axis=0)) for x in images]


def compare(several: Sequence[float], one: Sequence[float], trained: Any, reference: Any) -> None:
    """Say how far apart the two runs are: losses, weights, and what both predict on numpy, without the framework."""
    x, _ = batches()[0]
    gaps = {
        "losses": np.max(np.abs(np.array(several) - np.array(one))),
        "weights": max(np.max(np.abs(a - b)) for a, b in zip(trained.get_weights(), reference, strict=True)),
    }
    native = trained.predict(x)
    gaps["predictions on numpy"] = np.max(np.abs(trained.to("numpy").predict(x) - native))
    print(f"losses: {' '.join(f'{value:.6f}' for value in several)}")
    for what, gap in gaps.items():
        print(f"{what}: {gap:.1e} apart")
    if not (several[-1] < several[0] and max(gaps.values()) < NEAR):
        raise SystemExit("the runs differ by more than rounding")
    print("the same as in one process")
