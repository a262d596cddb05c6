"""Moving averages of the weights, in their place for a while."""

from __future__ import annotations

from layerhub.callbacks.base import Callback
from layerhub.errors import ParameterError


class SwapEMAWeights(Callback):
    """Puts the moving averages of the weights in their place for evaluation and prediction, and the weights back after
    it.

    The optimizer keeps them with ``use_ema``.

    swap_on_epoch: between the end of an epoch and the beginning of the next one, too, so that what is saved then has
    the averages.
    """

    def __init__(self, swap_on_epoch: bool = False):
        self.swap_on_epoch = swap_on_epoch

    def _put(self, averages: bool) -> None:
        """Have the averages, or the weights, in the model."""
        executor = self.model._ready()
        if executor.swapped != averages:
            if not averages or executor.averages():
                executor.swap_averages()
            else:
                raise ParameterError(
                    f"SwapEMAWeights: the optimizer of {self.model.name} keeps no moving averages of the weights; "
                    "give it use_ema=True"
                )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._put(False)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.swap_on_epoch:
            self._put(True)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._put(True)

    def on_test_end(self, logs: dict | None = None) -> None:
        self._put(False)

    def on_predict_begin(self, logs: dict | None = None) -> None:
        self._put(True)

    def on_predict_end(self, logs: dict | None = None) -> None:
        self._put(False)

    def abandoned(self) -> None:
        self._put(False)
