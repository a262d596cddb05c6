"""Small random models: what single layers do not show, where layers meet, branch and are used twice.

A graph is made from its seed, layer by layer: each is one that the shape at hand allows, so nothing has to be thrown
away. Predictions, and the weights after a step of plain gradient descent, are compared with the float64 reading of the
same graph, within the running-error bound of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerhub import autodiff, layers, optimizers
from layerhub.errors import ParameterError
from layerhub.graph import Input, Tensor, unwrapped
from layerhub.losses import get as get_loss
from layerhub.models import Model
from layerhub.plan import Plan, Planner
from layerhub.running_error import RunningError
from layerhub.spec.losses import reduced
from layerhub_conformance import data
from layerhub_conformance.case import rounded
from layerhub_conformance.reference import DefinitionsOnly
from layerhub_conformance.report.model import Finding
from layerhub_conformance.trial import Trial, check
from layerhub_conformance.verdict import Expected, compare

SEEDS = {"smoke": 3, "quick": 15, "certify": 40}
"""How many graphs each tier tries."""
SIZES = (2, 3, 4, 5)
SAMPLES = 4
SHAPES = ((5,), (6, 4), (6, 5, 3))
"""Inputs: vectors, sequences, images."""
LOSS = "mean_squared_error"

Layers = dict[int, tuple[Callable[[np.random.Generator, tuple[int, ...]], Any], ...]]


def _choice(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _activation(rng: np.random.Generator) -> str:
    return _choice(rng, "linear", "tanh", "sigmoid", "softplus", "relu")


ANY = (
    lambda rng, shape: layers.Dense(int(rng.integers(2, 6)), activation=_activation(rng)),
    lambda rng, shape: layers.LayerNormalization(),
    lambda rng, shape: layers.BatchNormalization(momentum=0.8),
    lambda rng, shape: layers.Activation(_choice(rng, "gelu", "silu", "softmax", "elu")),
    lambda rng, shape: layers.PReLU(),
    lambda rng, shape: layers.Dropout(0.3, seed=int(rng.integers(9))),
    lambda rng, shape: layers.Flatten(),
)
"""What takes any shape, (batch, ..., features)."""
LAYERS: Layers = {
    2: (
        *ANY,
        lambda rng, shape: layers.RepeatVector(3),
        lambda rng, shape: layers.Reshape((shape[1], 1)),
        lambda rng, shape: layers.UnitNormalization(),
    ),
    3: (
        *ANY,
        lambda rng, shape: layers.Conv1D(
            3, min(2, shape[1]), padding=_choice(rng, "same", "valid", "causal"), activation=_activation(rng)
        ),
        lambda rng, shape: layers.LSTM(3, return_sequences=bool(rng.integers(2))),
        lambda rng, shape: layers.GRU(2, return_sequences=True, go_backwards=bool(rng.integers(2))),
        lambda rng, shape: layers.Bidirectional(layers.SimpleRNN(2, return_sequences=bool(rng.integers(2)))),
        lambda rng, shape: layers.GlobalAveragePooling1D(),
        lambda rng, shape: layers.AveragePooling1D(2, padding="same"),
        lambda rng, shape: layers.ZeroPadding1D(1),
        lambda rng, shape: layers.Permute((2, 1)),
        lambda rng, shape: layers.TimeDistributed(layers.Dense(3)),
    ),
    4: (
        *ANY,
        lambda rng, shape: layers.Conv2D(
            3, (min(3, shape[1]), min(2, shape[2])), padding=_choice(rng, "same", "valid"), activation=_activation(rng)
        ),
        lambda rng, shape: layers.DepthwiseConv2D(2, padding="same"),
        lambda rng, shape: layers.Conv2DTranspose(2, 2, strides=_choice(rng, 1, 2)),
        lambda rng, shape: layers.MaxPooling2D(2, padding="same"),
        lambda rng, shape: layers.GlobalMaxPooling2D(),
        lambda rng, shape: layers.UpSampling2D(2),
        lambda rng, shape: layers.GroupNormalization(1),
    ),
}
"""What fits inputs of so many axes, whatever their sizes."""
MERGES = (layers.Add, layers.Multiply, layers.Average, layers.Subtract, layers.Concatenate)


@dataclass(frozen=True)
class Graph:
    """A model of ``size`` layers, beside those that merge, made from a seed."""

    seed: int
    size: int

    layer = "graph"

    @property
    def id(self) -> str:
        return f"graph(seed={self.seed},layers={self.size})"

    @classmethod
    def parse(cls, text: str) -> Graph:
        """The graph that an id says."""
        found = re.fullmatch(r"graph\(seed=(\d+),layers=(\d+)\)", text.strip())
        if found is None:
            raise ParameterError(f"{text!r} is no graph; one is written as graph(seed=12,layers=4)")
        return cls(int(found[1]), int(found[2]))

    def make(self, dtype: str, backend: str = "numpy", device: str | None = None) -> Model:
        """The model; the same for every backend, but for its weights."""
        rng = np.random.default_rng([self.seed, self.size])
        inputs = [Input(_choice(rng, *SHAPES), dtype=dtype)]
        there, used, made = list(inputs), set[Tensor](), []
        while len(made) < self.size:
            x = _choice(rng, *[t for t in there if t not in used][-1:], *there)
            shared = [(layer, shape) for layer, shape in made if shape == x.shape and layer.held]
            if shared and rng.integers(3) == 0:
                layer = _choice(rng, *shared)[0]
            else:
                layer = _choice(rng, *LAYERS[len(x.shape)])(rng, x.shape).replace(dtype=dtype)
            y = layer(x)
            used.add(x)
            there.append(y)
            made.append((layer, x.shape))
            other = [t for t in there[:-1] if t.shape == y.shape]
            if other and rng.integers(2):
                z = _choice(rng, *other)
                used |= {y, z}
                there.append(_choice(rng, *MERGES)(dtype=dtype)([y, z]))
        return Model(inputs, [t for t in there if t not in used], backend=backend, device=device, seed=self.seed)

    def draw(self, model: Model, dtype: str) -> Arrays:
        """Weights, inputs and targets."""
        rng = np.random.default_rng([self.seed, self.size, 1])
        weights = [rounded(data.weight(rng, w.shape, w.name, "normal"), dtype) for w in model.weights]

        def values(tensors: Sequence[Tensor]) -> list[np.ndarray]:
            return [rounded(data.normal(rng, (SAMPLES, *t.shape[1:]), dtype), dtype) for t in tensors]

        return Arrays(weights, values(model.inputs), values(model.outputs))


@dataclass
class Arrays:
    """The arrays of a graph. weights: in get_weights() order."""

    weights: list[np.ndarray]
    inputs: list[np.ndarray]
    targets: list[np.ndarray]


def graphs(tier: str) -> Sequence[Graph]:
    return tuple(Graph(seed, SIZES[seed % len(SIZES)]) for seed in range(SEEDS[tier]))


@check("graphs", subjects=graphs, kind="graph", parse=Graph.parse, dtypes=("float32",), routes=("kernel",))
def graph(trial: Trial, bench: Any) -> list[Finding]:
    """Predictions, and the weights after one step of gradient descent with a learning rate of 1."""
    model = trial.subject.make(trial.dtype)
    arrays = trial.subject.draw(model, trial.dtype)
    bounded = RunningError.of(trial.dtype, bench.capabilities.arithmetic(trial.dtype))
    expected = predicted(model, arrays, bounded)
    if bench.capabilities.gradients:
        expected += trained(model, arrays, bounded)
    found = bench.call(give_graph, trial, arrays, bench.capabilities.gradients)
    return [compare(e, found.get(e.what), trial.dtype) for e in expected]


def give_graph(trial: Trial, arrays: Arrays, gradients: bool) -> dict[str, np.ndarray]:
    """What the backend predicts, and makes of the weights."""
    model = trial.subject.make(trial.dtype, trial.backend, trial.device)
    model.set_weights(arrays.weights)
    outputs = model.predict(unwrapped(arrays.inputs), verbose=0)
    found = {f"output {k}": y for k, y in enumerate(outputs if isinstance(outputs, list) else [outputs])}
    if gradients:
        model.compile(optimizers.SGD(1.0), unwrapped([LOSS] * len(model.outputs)))
        model.train_on_batch(unwrapped(arrays.inputs), unwrapped(arrays.targets))
        found |= {f"gradient and weight {k}": w for k, w in enumerate(model.get_weights())}
    return found


def _plan(model: Model, training: bool) -> Plan:
    """The model by definitions alone."""
    planner = Planner(DefinitionsOnly(), "", training, model.seed, route="definition")
    values = [planner.input((SAMPLES, *x.shape[1:]), "float64") for x in model.inputs]
    return planner.plan(model.lower(planner, values))


def _held(model: Model, plan: Plan, arrays: Arrays, made: Callable[[np.ndarray], Any]) -> list[Any]:
    """The weights by their numbers in the plan."""
    by_name = {(id(w.layer), w.name): made(x) for w, x in zip(model.weights, arrays.weights, strict=True)}
    return [by_name[id(slot.layer), slot.spec.name] for slot in plan.slots]


def predicted(model: Model, arrays: Arrays, bounded: RunningError) -> list[Expected]:
    """The outputs with their bounds."""
    plan = _plan(model, False)
    inputs = [bounded.exact(x) for x in arrays.inputs]
    outputs = plan.function(bounded)(_held(model, plan, arrays, bounded.exact), inputs, (), 0)[0]
    return [Expected(f"output {k}", y.value, np.asarray(y.error)) for k, y in enumerate(outputs)]


def trained(model: Model, arrays: Arrays, bounded: RunningError) -> list[Expected]:
    """All weights after a step, with their bounds."""
    plan, space = _plan(model, True), autodiff.Differentiable(bounded)
    held = _held(model, plan, arrays, lambda w: space.var(bounded.exact(w)))
    inputs = [bounded.exact(x) for x in arrays.inputs]
    outputs, updates, _, _ = plan.function(space, differentiate=True)(held, inputs, (), 0)
    total = 0.0
    for y, target in zip(outputs, arrays.targets, strict=True):
        loss = get_loss(LOSS)
        values = loss.define(space, bounded.exact(target), y)
        total = reduced(space, loss.reduction, values, None, None) + total
    slopes = autodiff.gradients([total], [bounded.exact(np.ones(()))], held)
    moved = dict(zip(plan.updated, updates, strict=True))
    after: dict[tuple[int, str], Any] = {}
    for number, slot in enumerate(plan.slots):
        w = autodiff.value_of(held[number])
        new = optimizers.SGD(1.0).update(bounded, (1.0,), w, slopes[number])[0] if slot.spec.trainable else w
        after[id(slot.layer), slot.spec.name] = autodiff.value_of(moved.get(number, new))
    ordered = [after[id(w.layer), w.name] for w in model.weights]
    return [Expected(f"gradient and weight {k}", w.value, np.asarray(w.error)) for k, w in enumerate(ordered)]
