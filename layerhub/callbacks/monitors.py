"""Callbacks that watch a figure, and act on whether it gets better."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerhub.callbacks import given
from layerhub.callbacks.base import Callback, figures_so_far
from layerhub.callbacks.rates import rates, settable
from layerhub.errors import ParameterError, TrainingError, suggest
from layerhub.spec import spellings

MODES = ("auto", "min", "max")


class Monitor(Callback):
    """Watches a figure of the logs.

    monitor: its name. mode: whether smaller ("min") or larger ("max") is better; "auto": as it is for the loss, or the
    metric, of that name. min_delta: a change of less is no improvement. best: the best value so far, None before any.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0, best: float | None = None):
        if not isinstance(monitor, str):
            raise ParameterError(f"{self._who}: monitor must be the name of a figure in the logs, not {monitor!r}")
        if mode not in MODES:
            raise ParameterError(f"{self._who}: mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}")
        self.monitor, self.mode = monitor, mode
        self.min_delta = abs(given.number(self._who, "min_delta", min_delta))
        self.best = best
        self.direction = 0 if mode == "auto" else _DIRECTIONS[mode]

    @property
    def _who(self) -> str:
        return type(self).__name__

    def find_direction(self) -> None:
        """Find out which way is better. Raises ParameterError where that cannot be known."""
        if self.mode == "auto":
            aim = aim_of(self.model, self.monitor)
            if aim is None:
                raise ParameterError(
                    f"{self._who}: whether {self.monitor!r} should become smaller or larger is not known; "
                    "say mode='min' or mode='max'"
                )
            self.direction = _DIRECTIONS[aim]

    def improves(self, value: float, on: float | None) -> bool:
        """Whether a value is better by more than ``min_delta``; NaN never is, and whatever else is better than None."""
        if on is None:
            return not math.isnan(value)
        nearer = value - self.direction * self.min_delta
        return nearer > on if self.direction > 0 else nearer < on

    def current(self, logs: Mapping[str, Any] | None) -> float | None:
        """The figure in the logs; None, with a warning, where it is not there."""
        logs = logs or {}
        value = logs.get(self.monitor)
        if value is None:
            warnings.warn(
                f"{self._who}: the logs have no {self.monitor!r}, so there is nothing to go by."
                f"{suggest(self.monitor, logs)} They have: {', '.join(logs)}",
                stacklevel=2,
            )
            return None
        if not isinstance(value, (int, float)):
            raise ParameterError(f"{self._who}: {self.monitor!r} must be one number to be watched, but it is {value!r}")
        return float(value)


_DIRECTIONS = {"min": -1, "max": 1}


def aim_of(model: Any, name: str) -> str | None:
    """Whether smaller ("min") or larger ("max") figures of this name are better; None where that is not known."""
    name = name.removeprefix("val_")
    if name == "loss" or name in (f"{output}_loss" for output in model.output_names):
        return "min"
    return next((term.metric.aim for term in model._metrics if term.name == name), None)


class EarlyStopping(Monitor):
    """Ends training when a figure has not improved for ``patience`` epochs.

    min_delta: a change of less is no improvement. baseline: only what is better than that counts as progress.
    restore_best_weights: at the end, take the weights back that the best epoch had. start_from_epoch: epochs before
    that one, from 0, do not count. verbose: 1 prints what is done.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = given.whole(self._who, "patience", patience)
        self.verbose, self.restore_best_weights = verbose, restore_best_weights
        self.baseline = None if baseline is None else given.number(self._who, "baseline", baseline)
        self.start_from_epoch = given.whole(self._who, "start_from_epoch", start_from_epoch)
        self._forget()

    def _forget(self) -> None:
        self.best, self.best_epoch, self.best_weights = None, 0, None
        self.wait, self.stopped_epoch = 0, 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.find_direction()
        self._forget()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        value = self.current(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        better = self.improves(value, self.best)
        if self.restore_best_weights and (better or self.best_weights is None):
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if better:
            self.best, self.best_epoch = value, epoch
            if self.baseline is None or self.improves(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: EarlyStopping ends training", flush=True)
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                print(f"EarlyStopping takes the weights of epoch {self.best_epoch + 1} back", flush=True)
            self.model.set_weights(self.best_weights)

    def state(self) -> dict[str, Any]:
        names = ("best", "best_epoch", "best_weights", "wait", "stopped_epoch")
        return {name: getattr(self, name) for name in names}

    def load_state(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by ``factor`` when a figure has not improved for ``patience`` epochs.

    cooldown: so many epochs after that do not count. min_lr: it does not go below. verbose: 1 prints what is done.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        **others: Any,
    ):
        others = given.old("ReduceLROnPlateau", others, {"epsilon": "min_delta"}, given.arguments(type(self).__init__))
        super().__init__(monitor, mode, others.get("min_delta", min_delta))
        self.factor = given.number(self._who, "factor", factor)
        if not 0 < self.factor < 1:
            raise ParameterError(f"{self._who}: factor must be above 0 and below 1, not {factor!r}")
        self.patience = given.whole(self._who, "patience", patience)
        self.cooldown = given.whole(self._who, "cooldown", cooldown)
        self.min_lr, self.verbose = given.number(self._who, "min_lr", min_lr), verbose
        self._forget()

    def _forget(self) -> None:
        self.best, self.wait, self.cooldown_counter = None, 0, 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        settable(self.model, self._who)
        self.find_direction()
        self._forget()

    def in_cooldown(self) -> bool:
        """Whether the learning rate was reduced but now."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        value = self.current(logs)
        if logs is not None:
            logs |= rates(self.model)
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
        if self.improves(value, self.best):
            self.best, self.wait = value, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch):
                self.cooldown_counter, self.wait = self.cooldown, 0

    def _reduce(self, epoch: int) -> bool:
        """Whether any learning rate could be reduced."""
        reduced = False
        for name, optimizer in settable(self.model, self._who).items():
            if optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                reduced = True
                if self.verbose:
                    print(f"Epoch {epoch + 1}: {self._who} sets {name} to {optimizer.learning_rate:.6g}", flush=True)
        return reduced

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "cooldown_counter": self.cooldown_counter}

    def load_state(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


class ModelCheckpoint(Monitor):
    """Saves the model, or its weights, after every epoch, or every ``save_freq`` batches.

    filepath: where to; ``{epoch}``, from 1, ``{batch}``, from 1, and the names of figures stand for their values, with
    formats as ``{val_loss:.3f}``. Folders are made. The suffix says in which format: ``.keras`` or ``.h5`` for models,
    ``.weights.h5``, ``.safetensors`` or ``.h5`` for weights. save_best_only: only when ``monitor`` is better than
    whenever it was saved before, and than initial_value_threshold. verbose: 1 prints what is done.
    """

    figures = False

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: int | str = "epoch",
        initial_value_threshold: float | None = None,
        **others: Any,
    ):
        who = "ModelCheckpoint"
        period = others.pop("period", None)
        given.old(who, others, {"load_weights_on_restart": None}, given.arguments(type(self).__init__))
        threshold = initial_value_threshold
        super().__init__(monitor, mode, 0, None if threshold is None else given.number(who, "threshold", threshold))
        self.filepath = os.fspath(filepath)
        self.verbose, self.save_best_only, self.save_weights_only = verbose, save_best_only, save_weights_only
        self.save_freq = save_freq
        batches = given.frequency(who, "save_freq", save_freq)
        self._batches = given.Every(batches)
        self._period, self._since = 1 if period is None else given.whole(who, "period", period, 1), 0
        self._epoch = 0
        if period is not None:
            spellings.warn(f"{who}: period, in epochs, is an old argument; say save_freq, in batches")
        suffixes = (".weights.h5", ".safetensors", ".h5", ".hdf5") if save_weights_only else (".keras", ".h5", ".hdf5")
        if not self.filepath.endswith(suffixes):
            what = "weights are" if save_weights_only else "a model is"
            raise ParameterError(f"{who}: {what} saved to {', '.join(suffixes)}, not {self.filepath!r}")

    def hears(self, hook: str) -> bool:
        return self._batches.batches is not None or hook != "on_train_batch_end"

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.save_best_only:
            self.find_direction()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._batches.due(batch):
            self._save(self._epoch, batch, figures_so_far(self.model, logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._since += 1
        if self._batches.batches is None and self._since >= self._period:
            self._since = 0
            self._save(epoch, None, logs or {})

    def _save(self, epoch: int, batch: int | None, logs: Mapping[str, Any]) -> None:
        if self.save_best_only:
            value = self.current(logs)
            # Where there is nothing to go by, rather too much is saved than too little.
            if value is not None and not self.improves(value, self.best):
                self._say(epoch, f"{self.monitor} is {value:.5g}, which is no better than {self.best:.5g}")
                return
            self.best = self.best if value is None else value
        path = Path(self._path(epoch, batch, logs))
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        self._say(epoch, f"saved to {path}")

    def _say(self, epoch: int, what: str) -> None:
        if self.verbose:
            print(f"Epoch {epoch + 1}: {what}", flush=True)

    def _path(self, epoch: int, batch: int | None, logs: Mapping[str, Any]) -> str:
        known = {**logs, "epoch": epoch + 1} | ({} if batch is None else {"batch": batch + 1})
        try:
            return self.filepath.format_map(known)
        except (LookupError, ValueError, TypeError, AttributeError) as problem:
            raise ParameterError(
                f"ModelCheckpoint: {self.filepath!r} cannot be filled in ({problem!r}); it may speak of: "
                f"{', '.join(known)}"
            ) from None

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "batches": self._batches.state(), "since": self._since}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.best, self._since = state["best"], state["since"]
        self._batches.load(state["batches"])


class TerminateOnNaN(Callback):
    """Ends training when the loss is no finite number. raise_error: by a TrainingError, at once."""

    def __init__(self, raise_error: bool = False):
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise TrainingError(
                f"{self.model.name}: the loss is {loss} at batch {batch}, so that training cannot go on"
            )
        print(f"Batch {batch}: the loss is {loss}; TerminateOnNaN ends training", flush=True)
        self.model.stop_training = True
