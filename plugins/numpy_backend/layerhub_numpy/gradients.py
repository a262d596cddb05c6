"""What a VJP returns when some of its gradients may not be asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class OnDemand(Sequence):
    """Gradients that are computed when they are asked for: nobody wants that of the data which enter a model."""

    def __init__(self, *makers: Callable[[], Any]):
        self.makers = makers

    def __len__(self) -> int:
        return len(self.makers)

    def __getitem__(self, index: Any) -> Any:
        found = self.makers[index]
        return tuple(make() for make in found) if isinstance(index, slice) else found()


def absent() -> None:
    """The gradient of what has none."""
