"""Callbacks: what is told of the progress of training, and may act on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from layerhub.errors import ParameterError

HOOKS = tuple(
    f"on_{moment}_{end}"
    for moment in ("train", "test", "predict", "epoch", "train_batch", "test_batch", "predict_batch")
    for end in ("begin", "end")
)


class Callback:
    """The base of callbacks: override what you want to hear of.

    model: the model at work. params: epochs, steps, verbose. ``self.model.stop_training = True`` ends fit after the
    epoch. Logs of batches are read from the device only if a callback overrides ``on_train_batch_end``.
    """

    model: Any = None
    params: Mapping[str, Any] = {}

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: dict | None = None) -> None: ...
    def on_train_end(self, logs: dict | None = None) -> None: ...
    def on_test_begin(self, logs: dict | None = None) -> None: ...
    def on_test_end(self, logs: dict | None = None) -> None: ...
    def on_predict_begin(self, logs: dict | None = None) -> None: ...
    def on_predict_end(self, logs: dict | None = None) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None: ...
    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None: ...
    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None: ...
    def on_test_batch_begin(self, batch: int, logs: dict | None = None) -> None: ...
    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None: ...
    def on_predict_batch_begin(self, batch: int, logs: dict | None = None) -> None: ...
    def on_predict_batch_end(self, batch: int, logs: dict | None = None) -> None: ...


class CallbackList:
    """Several callbacks as one. Only those that override a hook are called for it."""

    def __init__(self, callbacks: Iterable[Callback], model: Any, params: Mapping[str, Any]):
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not hasattr(callback, "set_model"):
                raise ParameterError(f"a callback must be a layerhub.callbacks.Callback, not {callback!r}")
            callback.set_model(model)
            callback.set_params(params)
        self._listening: dict[str, list[Callable]] = {
            hook: [getattr(c, hook) for c in self.callbacks if _overrides(c, hook)] for hook in HOOKS
        }

    def listens(self, hook: str) -> bool:
        """Whether any callback wants to hear of it."""
        return bool(self._listening[hook])

    def tell(self, hook: str, *arguments: Any) -> None:
        """Call a hook."""
        for function in self._listening[hook]:
            function(*arguments)


def _overrides(callback: Any, hook: str) -> bool:
    own = getattr(type(callback), hook, None)
    return (own is not None and own is not getattr(Callback, hook)) or hook in vars(callback)


class History(Callback):
    """Gathers the logs of every epoch in ``history``: name -> list of values."""

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """Callbacks from functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: …)``."""

    def __init__(self, **functions: Callable):
        for hook, function in functions.items():
            if hook not in HOOKS:
                raise TypeError(f"LambdaCallback: there is no hook {hook!r}; hooks: {', '.join(HOOKS)}")
            setattr(self, hook, function)


class ProgbarLogger(Callback):
    """Progress: a bar while an epoch runs, on a terminal; and a line with the figures of each epoch, everywhere."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.began, self.bar = time.perf_counter(), None
        if self.params.get("verbose") == 1 and sys.stdout.isatty():
            from rich.progress import Progress

            self.bar = Progress(transient=True)
            self.task = self.bar.add_task(self._title(epoch), total=self.params.get("steps"))
            self.bar.start()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        # Told before the batch, without figures: those would have to be waited for.
        if self.bar is not None:
            self.bar.update(self.task, completed=batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.bar is not None:
            self.bar.stop()
        figures = " - ".join(f"{name}: {value:.4g}" for name, value in (logs or {}).items())
        print(f"{self._title(epoch)} - {time.perf_counter() - self.began:.1f}s - {figures}", flush=True)

    def _title(self, epoch: int) -> str:
        return f"Epoch {epoch + 1}/{self.params['epochs']}"
