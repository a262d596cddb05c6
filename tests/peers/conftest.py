"""What the tests against peers share: a layer of ours beside the same one of Keras, in values and gradients.

Keras runs on tensorflow in float64, in the tests' own process; where it is not installed these tests are skipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import layerhub as lh

NEAR = 1e-10
"""How far float64 results may lie apart, relative to the largest element: both sides add up in orders of their own."""


@pytest.fixture(scope="module")
def keras(keras_in: Any) -> Iterator[Any]:
    """Keras in float64."""
    with keras_in("float64") as module:
        yield module


def near(ours: Any, theirs: Any, what: str, tolerance: float = NEAR) -> None:
    """Assert that two arrays are equal but for rounding."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, f"{what}: shapes {ours.shape} and {theirs.shape}"
    scale = max(1.0, float(np.max(np.abs(theirs), initial=0.0)))
    away = float(np.max(np.abs(ours - theirs), initial=0.0))
    assert away <= tolerance * scale, f"{what}: {away:.3g} apart, at a scale of {scale:.3g}"


@pytest.fixture
def close() -> Any:
    """``close(ours, theirs, what)``: equal but for rounding."""
    return near


@pytest.fixture
def agrees_with_keras(keras: Any) -> Any:
    """A function that runs a layer here (by its definition, on numpy) and in Keras, and compares everything.

    name, config: the layer; theirs: Keras's config where it differs. inputs: shapes (then normal values are drawn) or
    ndarrays. mask: an ndarray, or a list. initial_state: ndarrays. call: further arguments of Keras's call, whose
    counterparts here are parameters. weights: also compared are weights after the call. skip: gradients by what they
    belong to ("input 0", "kernel") that are not compared. Returns our Evaluation.
    """
    import tensorflow as tf

    def compare(
        name: str,
        config: dict[str, Any],
        inputs: Sequence[Any],
        *,
        theirs: dict[str, Any] | None = None,
        training: bool = False,
        mask: Any = None,
        initial_state: Sequence[np.ndarray] | None = None,
        call: dict[str, Any] | None = None,
        tolerance: float = NEAR,
        seed: int = 0,
        layer: Any = None,
        peer: Any = None,
        as_list: bool | None = None,
        skip: Sequence[str] = (),
    ) -> Any:
        rng = np.random.default_rng(seed)
        arrays = [x if isinstance(x, np.ndarray) else rng.normal(size=x) for x in inputs]
        mine = getattr(lh.layers, name)(**config) if layer is None else layer
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if peer is None:
                peer = getattr(keras.layers, name)(**(config if theirs is None else theirs), dtype="float64")
            tensors = [tf.constant(x) for x in arrays]
            states = [tf.constant(s) for s in initial_state or ()]
            given = tensors if (len(tensors) > 1 if as_list is None else as_list) else tensors[0]
            options: dict[str, Any] = dict(call or {})
            if "training" in options or training:
                options["training"] = training
            if mask is not None:
                options["mask"] = [None if m is None else tf.constant(m) for m in mask] if isinstance(
                    mask, list
                ) else tf.constant(mask)  # fmt: skip
            if states:
                options["initial_state"] = states
            peer(given, **options)  # builds the weights
            specs = mine.replace(dtype="float64").weight_specs(*(x.shape for x in arrays))
            values = [
                rng.uniform(0.5, 1.5, size=s.shape) if "variance" in s.name else rng.normal(size=s.shape) * 0.5
                for s in specs
            ]
            assert [tuple(w.shape) for w in peer.weights] == [s.shape for s in specs]
            peer.set_weights(values)
            with tf.GradientTape() as tape:
                tape.watch([t for t in tensors if t.dtype.is_floating])
                outputs = peer(given, **options)
                flat = [y for y in tf.nest.flatten(outputs) if y is not None]
                cotangents = [rng.normal(size=y.shape) for y in flat]
                total = tf.add_n([tf.reduce_sum(y * tf.constant(c)) for y, c in zip(flat, cotangents, strict=True)])
            trained = [w.value if hasattr(w, "value") else w for w in peer.trainable_weights]
            leaves = [t for t in tensors if t.dtype.is_floating] + trained
            found = tape.gradient(total, leaves, unconnected_gradients="zero")
        ours = lh.evaluate_layer(
            mine, arrays, values, "numpy", training, mask, initial_state, cotangents, "float64", route="definition"
        )
        assert len(ours.outputs) == len(flat)
        for k, (a, b) in enumerate(zip(ours.outputs, flat, strict=True)):
            near(a, b.numpy(), f"output {k}", tolerance)
        floats = [k for k, x in enumerate(arrays) if x.dtype.kind == "f"]
        names = [f"input {k}" for k in floats] + [s.name for s in specs if s.trainable]
        gradients = [ours.input_grads[k] for k in floats] + [g for g in ours.weight_grads if g is not None]
        for what, a, b in zip(names, gradients, found, strict=True):
            if what not in skip:
                b = tf.convert_to_tensor(b).numpy()
                near(a, b, f"gradient of {what}", tolerance)
        for spec, a, b in zip(specs, ours.weights, peer.get_weights(), strict=True):
            near(a, b, f"{spec.name} after the call", tolerance)
        return ours

    return compare
