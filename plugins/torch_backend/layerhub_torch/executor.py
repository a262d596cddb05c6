"""Programs on torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from layerhub.execution import Batch, Executor
from layerhub.namespace import Namespace
from layerhub_torch import namespace
from layerhub_torch.native import NativeModel


class TorchExecutor(Executor):
    """A program on torch. Nothing here waits for the device but ``results``."""

    def __init__(self, backend: Any, program: Any, device: str | None = None):
        super().__init__(backend, program, device)
        if self.device != "cpu":
            self.xp = Namespace(namespace, **namespace.EXTRAS | namespace.placed(self.device))

    def bind(self) -> None:
        super().bind()
        self._native: NativeModel | None = None

    def array(self, value: Any, dtype: str | None = None) -> torch.Tensor:
        # A step is over before its caller can change the data, so there is nothing to copy for.
        return self.backend.asarray(value, dtype, self.device, copy=False)

    def forward(self, training: bool, recording: bool = False) -> Callable[..., tuple]:
        # torch records by itself, so that both are one.
        if training not in self._functions:
            self._functions[training] = self.program.plan(training).function(self.xp)
        return self._functions[training]

    # Steps

    def load_slots(self, values: Sequence[Sequence[np.ndarray]]) -> None:
        """Slots lie in memory as their weights do, so that fused optimizers can go through both side by side."""
        handles = [self.handles[i] for i in self.trainable]
        with torch.no_grad():
            self.slots = [
                tuple(torch.empty_like(w, requires_grad=False).copy_(self.array(value)) for value in row)
                for w, row in zip(handles, values, strict=True)
            ]

    @torch.no_grad()
    def updated(self, *args: Any) -> Any:
        return super().updated(*args)

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
        return self._native
