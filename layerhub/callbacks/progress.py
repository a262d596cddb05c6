"""Progress: in a terminal a bar, in a notebook one output kept up to date, anywhere else a line when something is
done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, Protocol

from layerhub.callbacks.base import Callback, figures_so_far
from layerhub.errors import ParameterError

OFTEN = 0.3
"""Seconds between two looks at the figures, at least."""
SHARE = 0.02
"""How much of the time may be spent on waiting for them."""


def verbosity(verbose: Any, shows_figures: bool = True) -> int:
    """0 silent, 1 live, 2 a line at the end. "auto" is 1; without figures, only where somebody looks on.

    Raises ParameterError.
    """
    if isinstance(verbose, str) and verbose == "auto":
        return int(shows_figures or _live() is not None)
    if verbose not in (0, 1, 2):
        raise ParameterError(f'verbose must be 0, 1, 2 or "auto", not {verbose!r}')
    return int(verbose)


class Display(Protocol):
    """A place where progress is shown while it goes on."""

    def begin(self, title: str, steps: int | None) -> None:
        """Something begins, of so many steps as far as that is known."""

    def move(self, done: int, figures: str) -> None:
        """So many steps are done."""

    def end(self, line: str) -> None:
        """It is over; the line stays."""

    def abandon(self) -> None:
        """It broke off."""


class Lines:
    """No place to show anything but what stays."""

    def begin(self, title: str, steps: int | None) -> None: ...
    def move(self, done: int, figures: str) -> None: ...
    def abandon(self) -> None: ...

    def end(self, line: str) -> None:
        print(line, flush=True)


class Terminal(Lines):
    """A bar that vanishes, then the line."""

    bar: Any = None

    def begin(self, title: str, steps: int | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        text = (TextColumn(f"{{task.{what}}}", markup=False) for what in ("description", "fields[figures]"))
        self.bar = Progress(
            next(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), next(text),
            transient=True, refresh_per_second=4,
        )  # fmt: skip
        self.task = self.bar.add_task(title, total=steps, figures="")
        self.bar.start()

    def move(self, done: int, figures: str) -> None:
        self.bar.update(self.task, completed=done, figures=figures)

    def end(self, line: str) -> None:
        self.abandon()
        super().end(line)

    def abandon(self) -> None:
        if self.bar is not None:
            self.bar.stop()
        self.bar = None


class Notebook(Lines):
    """One output, kept up to date, that becomes the line."""

    WIDTH = 20
    handle: Any = None

    def begin(self, title: str, steps: int | None) -> None:
        display = import_module("IPython.display").display

        self.title, self.steps = title, steps
        self.handle = display(_plain(title), raw=True, display_id=True)

    def move(self, done: int, figures: str) -> None:
        full = 0 if not self.steps else min(done * self.WIDTH // self.steps, self.WIDTH)
        bar = "" if not self.steps else f" {'━' * full}{'─' * (self.WIDTH - full)}"
        said = f"{self.title}{bar} {done}/{self.steps or '?'}{'  ' if figures else ''}{figures}"
        self.handle.update(_plain(said), raw=True)

    def end(self, line: str) -> None:
        self.handle.update(_plain(line), raw=True)


def _plain(text: str) -> dict[str, str]:
    return {"text/plain": text}


def _live() -> type[Lines] | None:
    """Where progress can be shown while it goes on; None in pipes and files."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if hasattr(shell, "kernel"):
        return Notebook
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console

        return None if Console().is_dumb_terminal else Terminal
    return None


class ProgbarLogger(Callback):
    """Shows how far training, evaluation and prediction are, and the figures.

    verbose (of ``params``): 1 while it goes on, where that can be shown; 2 a line for each epoch. Figures of the
    running epoch are read a few times a second at most, for whoever reads them waits for the device.
    """

    figures: ClassVar[bool] = False

    def __init__(self) -> None:
        self.display: Display = Lines()
        self.epoch: int | None = None
        self._shown = 0.0
        self._pause = OFTEN

    def set_params(self, params: Mapping[str, Any]) -> None:
        super().set_params(params)
        live = _live() if params.get("verbose") == 1 else None
        self.display = Lines() if live is None else live()

    def hears(self, hook: str) -> bool:
        # Told before a batch, when the one before is done; in a log there is nothing to be told of.
        return "batch" not in hook or type(self.display) is not Lines

    # Fit

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch
        self._begin(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._move(batch, lambda: figures_so_far(self.model))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._end(logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        self.epoch = None

    # Evaluate, predict

    def on_test_begin(self, logs: dict | None = None) -> None:
        if self.epoch is None:
            self._begin("Evaluation")

    def on_test_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self.epoch is None:
            self._move(batch, lambda: figures_so_far(self.model))

    def on_test_end(self, logs: dict | None = None) -> None:
        if self.epoch is None:
            self._end(logs)

    def on_predict_begin(self, logs: dict | None = None) -> None:
        self._begin("Prediction")

    def on_predict_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._move(batch, dict)

    def on_predict_end(self, logs: dict | None = None) -> None:
        self._end(None)

    def abandoned(self) -> None:
        self.display.abandon()
        self.epoch = None

    # What is shown

    def _begin(self, title: str) -> None:
        self.title, self.began = title, time.perf_counter()
        self._shown, self._pause = self.began, OFTEN
        self.display.begin(title, self.params.get("steps"))

    def _move(self, done: int, figures: Callable[[], dict[str, Any]]) -> None:
        now = time.perf_counter()
        if now - self._shown < self._pause:
            return
        self.display.move(done, shown(figures()))
        self._shown = time.perf_counter()
        self._pause = max(OFTEN, (self._shown - now) / SHARE)

    def _end(self, logs: Mapping[str, Any] | None) -> None:
        took = f"{time.perf_counter() - self.began:.1f}s"
        self.display.end(" - ".join(part for part in (self.title, took, shown(logs or {})) if part))


def shown(figures: Mapping[str, Any]) -> str:
    """Figures as they are read."""
    return " - ".join(f"{name}: {_shown(value)}" for name, value in figures.items())


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
