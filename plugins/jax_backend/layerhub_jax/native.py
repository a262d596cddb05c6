"""``model.native``: a LayerHub model as a pure function, for whatever else is written for jax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from layerhub.graph import unwrapped

Params = Mapping[str, Mapping[str, Any]]


class Native:
    """A bound model as a pure function of its parameters, ``native(params, x)``, for jax.jit, jax.grad and the like.

    Parameters are a dict of dicts: of each layer, by its name, each weight by its name; what is not trained is among
    them. Penalties of regularizers are the caller's to add.
    """

    def __init__(self, executor: Any):
        self._executor = executor
        labels: dict[int, str] = {}
        self._paths: list[tuple[str, str]] = []
        for slot in executor.program.plan(False).slots:
            label = labels.setdefault(id(slot.layer), _free(slot.layer.label, labels.values()))
            self._paths.append((label, slot.spec.name))

    @property
    def params(self) -> dict[str, dict[str, jax.Array]]:
        """The weights as they are now: copies, which the model's own training leaves alone."""
        self._executor.fresh()
        return self._nested([jax.numpy.copy(w) for w in self._executor.weights()])

    @property
    def trainable(self) -> dict[str, dict[str, bool]]:
        """Which of the weights are trained."""
        return self._nested([variable.trainable for variable in self._executor.program.variables])

    def split(self, params: Params) -> tuple[Params, Params]:
        """(what is trained, the rest) of parameters: jax.grad of the first, carry along the second; see ``join``."""
        trained, rest = {}, {}
        for layer, weights in self.trainable.items():
            trained[layer] = {name: params[layer][name] for name, moves in weights.items() if moves}
            rest[layer] = {name: params[layer][name] for name, moves in weights.items() if not moves}
        return trained, rest

    def join(self, trained: Params, rest: Params) -> dict[str, dict[str, Any]]:
        """The parameters of which these are the parts."""
        return {layer: {**trained[layer], **rest[layer]} for layer in trained}

    def __call__(self, params: Params, *inputs: Any, training: bool = False, step: Any = 0) -> Any:
        """The outputs. training: dropout drops, other elements at each ``step``; see ``moved`` for what moves."""
        return self.moved(params, *inputs, training=training, step=step)[0]

    def moved(self, params: Params, *inputs: Any, training: bool = True, step: Any = 0) -> tuple[Any, Any]:
        """(outputs, the parameters after the call): moving averages, and states that last from batch to batch."""
        executor = self._executor
        weights = [params[layer][name] for layer, name in self._paths]
        plan = executor.program.plan(training)
        outputs, updates, _, _ = executor.forward(training)(weights, inputs, (), step)
        for index, value in zip(plan.updated, updates, strict=True):
            weights[index] = value.astype(weights[index].dtype)
        return unwrapped(outputs), self._nested(weights)

    def load(self, params: Params) -> None:
        """Give the model these weights."""
        for variable, (layer, name) in zip(self._executor.program.variables, self._paths, strict=True):
            variable.assign(np.asarray(params[layer][name]))

    def _nested(self, values: list[Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for (layer, name), value in zip(self._paths, values, strict=True):
            found.setdefault(layer, {})[name] = value
        return found


def _free(wanted: str, taken: Any) -> str:
    """A name that no other layer has yet; layers of nested models may share theirs."""
    while wanted in taken:
        wanted += "_"
    return wanted
