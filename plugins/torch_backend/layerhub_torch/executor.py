"""Programs on torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch._dynamo.exc import TorchDynamoException

from layerhub.errors import BackendError
from layerhub.execution import Batch, Executor
from layerhub_torch.native import NativeModel


class TorchExecutor(Executor):
    """A program on torch. Nothing here waits for the device but ``results``."""

    @torch.inference_mode(False)
    def bind(self) -> None:
        slots = self.host_slots() if self.slots else []
        super().bind()
        self._native: NativeModel | None = None
        self._orders: list[Order] = []
        self._lying: list[torch.Tensor] = []
        for variable, handle in zip(self.program.variables, self.handles, strict=True):
            handle.requires_grad_(variable.trainable)
        if slots:
            self.load_slots(slots)

    def array(self, value: Any, dtype: str | None = None) -> torch.Tensor:
        # A step is over before its caller can change the data, so there is nothing to copy for.
        return self.backend.asarray(value, dtype, self.device, copy=False)

    def forward(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        # torch records by itself, so that both are one.
        if training not in self._functions:
            run = self.program.plan(training).function(self.xp)
            self._functions[training] = compiled(run) if self.program.running.compiled else run
        return self._functions[training]

    # Steps

    # Weights, gradients and slots are moved as they lie in memory: an optimizer goes element by element and minds no
    # order of axes, and torch's fused ones take twice the time for what is not contiguous.

    @torch.inference_mode(False)
    def load_slots(self, values: Sequence[Sequence[np.ndarray]]) -> None:
        assert self.movement is not None
        handles = [self.handles[i] for i in self.trainable]
        # A constraint knows axes by their numbers, and so may an optimizer: what has one stays as it is declared.
        rules = [part.rule for part in self.movement.part_of]
        free = [c is None and rule.elementwise for c, rule in zip(self._constraints, rules, strict=True)]
        self._orders = [order_of(w) if may else None for may, w in zip(free, handles, strict=True)]
        self._lying = [lying(w, order) for w, order in zip(handles, self._orders, strict=True)]
        with torch.no_grad():
            self.slots = [
                tuple(self._slot(w, order, value) for value in row)
                for w, order, row in zip(self._lying, self._orders, values, strict=True)
            ]

    def _slot(self, w: torch.Tensor, order: Order, value: np.ndarray) -> torch.Tensor:
        if value.shape != w.shape and order is None:  # such as one number for each row
            return torch.tensor(value, dtype=w.dtype, device=w.device)
        return torch.empty_like(w, requires_grad=False).copy_(lying(self.array(value), order))

    def host_slots(self) -> list[tuple[np.ndarray, ...]]:
        return [
            tuple(np.array(self.backend.to_numpy(lying(slot, inverse(order)))) for slot in row)
            for order, row in zip(self._orders, self.slots, strict=True)
        ]

    @torch.no_grad()
    def updated(
        self, numbers: Any, phases: Any, weights: Sequence, gradients: Sequence, slots: Sequence
    ) -> tuple[list, list]:
        gradients = list(map(lying, gradients, self._orders))
        moved, slots = super().updated(numbers, phases, self._lying, gradients, slots)
        ways = zip(weights, self._lying, moved, self._orders, strict=True)
        return [w if new is old else lying(new, inverse(order)) for w, old, new, order in ways], slots

    @torch.no_grad()
    def measured(self, *args: Any) -> Any:
        return super().measured(*args)

    @torch.inference_mode()
    def test_batch(self, batch: Batch) -> None:
        super().test_batch(batch)

    @torch.inference_mode()
    def predict_batch(self, batch: Batch) -> tuple[Any, ...]:
        outputs = super().predict_batch(batch)
        given = {x.untyped_storage().data_ptr() for x in batch.inputs}
        return tuple(y.clone() if y.untyped_storage().data_ptr() in given else y for y in outputs)

    @property
    def native(self) -> NativeModel:
        if self._native is None:
            self._native = NativeModel(self.program, self.handles, self.forward, self.step)
        # What was frozen or thawed since the model was bound is so for torch's optimizers, too.
        for variable, handle in zip(self.program.variables, self.handles, strict=True):
            handle.requires_grad_(variable.trainable)
        return self._native


def compiled(run: Callable[..., tuple]) -> Callable[..., tuple]:
    """A plan's function by torch.compile, backward pass included."""
    made = torch.compile(run)

    def call(*arguments: Any) -> tuple:
        try:
            return made(*arguments)
        except TorchDynamoException as problem:
            why = " ".join(str(problem).partition("\n\n")[0].split())
            raise BackendError(
                f"compile(jit_compile=True): torch.compile cannot compile this model here ({why:.300}); it needs "
                "a C++ compiler, and on GPUs triton; leave jit_compile out to run the model as it is"
            ) from problem

    return call


Order = tuple[int, ...] | None


def order_of(x: torch.Tensor) -> Order:
    """The axes of a tensor in the order in which they lie in memory, slowest first; None for the usual order."""
    order = tuple(sorted(range(x.ndim), key=lambda axis: -x.stride(axis)))
    return order if not x.is_contiguous() and x.permute(order).is_contiguous() else None


def lying(x: torch.Tensor, order: Order) -> torch.Tensor:
    """A tensor with its axes in the given order."""
    return x if order is None else x.mT if order == (1, 0) else x.permute(order)


def inverse(order: Order) -> Order:
    """The order that undoes an order."""
    return None if order is None else tuple(sorted(range(len(order)), key=order.__getitem__))
