"""Programs as ONNX models: one for a plan, whatever the size of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import onnxruntime

from layerhub.errors import BackendError
from layerhub.execution import Batch, Executor
from layerhub.plan import Plan
from layerhub_onnxruntime import sessions
from layerhub_onnxruntime.arrays import Array, given
from layerhub_onnxruntime.lowering import model

KEPT = 16
"""How many models of one plan are kept, where each shape needs one of its own."""


class OnnxExecutor(Executor):
    """Inference: a session for each plan, with the weights inside."""

    def forward(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        key = (training, recording)
        if key not in self._functions:
            self._functions[key] = _Compiled(self.program.plan(training), super().forward(training, recording))
        return self._functions[key]

    def test_batch(self, batch: Batch) -> None:
        super().test_batch(batch)
        # Now, so that what is gathered does not grow from batch to batch.
        sessions.evaluate([*self.loss_state, *(array for state in self.metric_state for array in state)])

    @property
    def native(self) -> onnxruntime.InferenceSession:
        """The session that predicts; its inputs and outputs are in the model's order."""
        return self.forward(False).session(self.weights(), self.step)


class _Compiled:
    """A plan as a function of arrays with values. Weights are in the model until they change."""

    def __init__(self, plan: Plan, run: Callable[..., tuple]):
        self.plan, self.run = plan, run
        self.moved = set(plan.updated)
        self.symbolic = True
        self._held: list[Array] = []
        self._step: Any = None
        self._sessions: dict[tuple, _Bound] = {}

    def __call__(self, weights: Sequence[Array], inputs: Sequence[Array], masks: tuple, step: Any) -> tuple:
        feeds = [x.numpy() for x in inputs]
        moved = [weights[i].numpy() for i in self.plan.updated]
        session, counts = self._bound(weights, step, [x.shape for x in feeds])
        values = named([*feeds, *moved])
        outputs = iter(map(given, sessions.run(session, {x.name: values[x.name] for x in session.get_inputs()})))
        return tuple(tuple(next(outputs) if there else None for there in part) for part in counts)

    def session(self, weights: Sequence[Array], step: Any) -> onnxruntime.InferenceSession:
        """The session for the shapes that the plan declares."""
        return self._bound(weights, step, [x.shape for x in self.plan.inputs]).session

    def _bound(self, weights: Sequence[Array], step: Any, shapes: Sequence[tuple]) -> _Bound:
        fixed = [w for i, w in enumerate(weights) if i not in self.moved]
        if self._step != step or [id(w) for w in fixed] != [id(w) for w in self._held]:
            self._sessions, self._held, self._step = {}, fixed, step
        # onnxruntime's Scan takes no sequence without steps: what is empty gets a model of its own.
        if self.symbolic and not any(0 in shape for shape in shapes):
            try:
                return self._made(weights, step, [x.shape for x in self.plan.inputs])
            except (TypeError, ValueError, BackendError):
                # A definition that needs sizes as numbers: there will be a model for each shape.
                self.symbolic = False
        return self._made(weights, step, shapes)

    def _made(self, weights: Sequence[Array], step: Any, shapes: Sequence[tuple]) -> _Bound:
        key = tuple(shapes)
        if key not in self._sessions:
            inputs = [Array(shape, x.dtype) for shape, x in zip(shapes, self.plan.inputs, strict=True)]
            held = [Array(w.shape, w.dtype) if i in self.moved else w for i, w in enumerate(weights)]
            parts = self.run(held, inputs, (), step)
            outputs = [y for part in parts for y in part if y is not None]
            proto = model(
                named([*inputs, *(held[i] for i in self.plan.updated)]),
                {f"output_{k}": y for k, y in enumerate(outputs)},
            )
            while len(self._sessions) >= KEPT:
                del self._sessions[next(iter(self._sessions))]
            counts = [[y is not None for y in part] for part in parts]
            self._sessions[key] = _Bound(sessions.session(proto), counts)
        return self._sessions[key]


class _Bound(NamedTuple):
    """A session, and which of the values that a plan returns are there."""

    session: onnxruntime.InferenceSession
    counts: list[list[bool]]


def named(inputs: Sequence[Any]) -> dict[str, Any]:
    """Inputs, and weights that move, by the names that they have in models."""
    return {f"input_{k}": x for k, x in enumerate(inputs)}
