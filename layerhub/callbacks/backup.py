"""Training that goes on where it was broken off.

A backup is one file, ``backup.npz``, which takes the place of the one before when it is whole: arrays by name, and
under ``about`` a JSON text with all that is no array. Nothing in it is ever run or unpickled.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from layerhub.callbacks import given
from layerhub.callbacks.base import Callback
from layerhub.callbacks.rates import rated
from layerhub.data import Cut
from layerhub.errors import FileFormatError, LayerHubError, ParameterError, WeightsError
from layerhub.movement import Scaling
from layerhub.saving import files
from layerhub.spec.optimizers import LossScaleOptimizer

NAME = "backup.npz"
FORMAT = "layerhub backup 1"
DRAFT = re.compile(r"\.[0-9a-f]{32}\.npz")
"""What a file is called that was being written when the process was killed."""
ARRAY = "layerhub array"
"""The key by which the JSON text speaks of an array."""


def _counts(value: Any) -> bool:
    return type(value) is int and value >= 0


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


TOLD: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("epoch", "batches", "epochs_begun", "seed", "step"), _counts),
    **dict.fromkeys(("stop", "swapped"), lambda value: type(value) is bool),
    **dict.fromkeys(("rates", "callbacks", "model"), lambda value: isinstance(value, dict)),
    "place": lambda value: _pair(value) and all(map(_counts, value)),
    "data": lambda value: _pair(value) and all(part is None or _counts(part) for part in value),
    "homes": lambda value: _pair(value) and all(_pair(home) for home in value),
    "scaling": lambda value: value is None or (isinstance(value, list) and len(value) == 3),
}
"""What the JSON text of a backup says, and what that has to be."""


class BackupAndRestore(Callback):
    """Keeps where training stands in a folder; when ``fit`` is called again after a crash, it goes on from there.

    The new process makes and compiles the model, and calls ``fit``, as the old one did; it ends with the same weights
    as if nothing had happened. Kept are weights, what the optimizer keeps, moving averages, the loss's scale, learning
    rates, seeds, the figures of the running epoch, its place in the data, and what other callbacks give for their
    ``state``. Batches that were done are passed over. At the end of training the backup is deleted.

    backup_dir: a folder of its own. save_freq: "epoch", or after how many batches. double_checkpoint: also keep the
    backup before, and take it when the last one is damaged, as files may be where disks are. delete_checkpoint: False
    leaves the backup there: training goes on from it when ``fit`` is called with more epochs.
    Raises FileFormatError and WeightsError for a backup that is damaged, or belongs to another model or other data.
    """

    figures: ClassVar[bool] = False
    last: ClassVar[bool] = True
    others: Iterable[Any] = ()
    """The other callbacks."""

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: int | str = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        who = "BackupAndRestore"
        if not backup_dir:
            raise ParameterError(f"{who}: backup_dir must be the path of a folder, not {backup_dir!r}")
        self.backup_dir, self.save_freq = Path(backup_dir), save_freq
        self.double_checkpoint, self.delete_checkpoint = double_checkpoint, delete_checkpoint
        batches = given.frequency(who, "save_freq", save_freq)
        self._batches = given.Every(batches)
        self._epoch = 0
        self._began: list[str] = []
        self._held: Backup | None = None

    @property
    def _path(self) -> Path:
        return self.backup_dir / NAME

    @property
    def _before(self) -> Path:
        return self.backup_dir / f"previous_{NAME}"

    def hears(self, hook: str) -> bool:
        return hook != "on_train_batch_end" or self._batches.batches is not None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        for path in self.backup_dir.iterdir():
            if DRAFT.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self._began = [self.model.backend, self.model.device]
        self._held = self._found()
        if self._held is not None:
            self._held.check(self.model)
            self._held.restore(self.model, self.others)
            self._held.place(self.model)

    def _found(self) -> Backup | None:
        """The backup that is there, if any."""
        try:
            return Backup.read(self._path) if self._path.exists() else None
        except FileFormatError:
            if not self._before.exists():
                raise
            return Backup.read(self._before)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        if self._held is not None and self._held.about["batches"]:
            # The epoch began before the crash: what its beginning has changed now, it had changed then already.
            self._held.restore(self.model, self.others)
        self._held = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._batches.due(batch):
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._batches.batches is None:
            self._save(epoch + 1, 0)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._held = None
        if self.delete_checkpoint:
            for path in (self._path, self._before):
                path.unlink(missing_ok=True)
            if not any(self.backup_dir.iterdir()):
                self.backup_dir.rmdir()

    def _save(self, epoch: int, batches: int) -> None:
        backup = Backup.of(self.model, self.others, epoch, batches, self._began)
        if self.double_checkpoint and self._path.exists():
            os.replace(self._path, self._before)
        backup.write(self._path)


class Backup:
    """Where training stands. about: what JSON can hold; arrays: by name. name: what errors call it."""

    def __init__(self, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str = ""):
        self.about, self.arrays, self.name = about, arrays, name

    # From a model

    @classmethod
    def of(cls, model: Any, callbacks: Iterable[Any], epoch: int, batches: int, began: list[str]) -> Backup:
        """How a model and callbacks stand in the middle of fit. began: backend and device that it began on."""
        executor, going = model.executor, model._going
        executor.settle()
        variables, scaling = executor.program.variables, executor.scaling
        arrays = {f"weights/{i}": variable.numpy() for i, variable in enumerate(variables)}
        number = {variable: i for i, variable in enumerate(variables)}
        for variable, row in (executor.resting | executor.held_slots()).items():
            arrays |= {f"slots/{number[variable]}/{k}": slot for k, slot in enumerate(row)}
        losses, metrics = executor.metric_values()
        for i, row in enumerate([losses, *metrics]):
            arrays |= {f"figures/{i}/{k}": value for k, value in enumerate(row)}
        about = {
            "format": FORMAT,
            "model": _likeness(model),
            "epoch": epoch,
            "batches": batches,
            "data": _data(going),
            "place": list(going.source.place),
            "epochs_begun": model._epochs_begun,
            "stop": model.stop_training,
            "seed": model.seed,
            "step": executor.step,
            "swapped": executor.swapped,
            "scaling": None if scaling is None else [scaling.scale, scaling.run, scaling.skipped],
            "rates": _rates(model),
            "homes": [began, [model.backend, model.device]],
            "callbacks": {key: _packed(c.state(), arrays) for key, c in _keyed(callbacks) if callable(c.state)},
        }
        return cls(about, arrays)

    def write(self, path: Path) -> None:
        """Write it to a file, which is whole or not there."""
        text = np.frombuffer(json.dumps(self.about).encode(), np.uint8)
        with files.replacing(path) as file:
            np.savez(file, about=text, **self.arrays)  # type: ignore[arg-type]

    # To a model

    @classmethod
    def read(cls, path: Path) -> Backup:
        """The backup in a file. Raises FileFormatError."""
        try:
            with files.opened(path) as file, np.load(file, allow_pickle=False) as held:
                arrays = {name: held[name] for name in held.files}
            about = json.loads(arrays.pop("about").tobytes())
            known = about["format"]
        except LayerHubError:
            raise
        except (
            OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, MemoryError, NotImplementedError,
            RuntimeError, RecursionError, zipfile.BadZipFile, zlib.error,
        ) as problem:  # fmt: skip
            raise FileFormatError(
                f"BackupAndRestore: {path} is damaged, or no backup ({problem!r:.200}); "
                "delete it to train from the start"
            ) from None
        if known != FORMAT:
            raise FileFormatError(f"BackupAndRestore: {path} is of another version: {known!r:.100}, not {FORMAT!r}")
        wrong = [name for name, fits in TOLD.items() if not fits(about.get(name))]
        if wrong:
            raise FileFormatError(
                f"BackupAndRestore: {path} is damaged: it says {wrong[0]}={about.get(wrong[0])!r:.100}; delete it to "
                "train from the start"
            )
        return cls(about, arrays, str(path))

    def check(self, model: Any) -> None:
        """Raise WeightsError where it is of another model, or of other data, than those at hand."""
        about, executor = self.about, model._ready()
        if about["model"] != _likeness(model):
            raise WeightsError(
                f"BackupAndRestore: {self.name} is of another model, or of one that was compiled otherwise: "
                f"{_different(about['model'], _likeness(model))}; give a folder of its own, or delete it to "
                "train from the start. Nothing was changed"
            )
        if about["batches"] and about["data"] != _data(model._going):
            raise WeightsError(
                f"BackupAndRestore: {self.name} was made in the middle of an epoch with {_said(about['data'])}, but "
                f"there are {_said(_data(model._going))} now; give the same, or delete it to train from the start. "
                "Nothing was changed"
            )
        for k, i in enumerate(executor.trainable):
            wanted, there = (
                [slot.shape for slot in row] for row in (executor.movement.start(k), self._row(f"slots/{i}"))
            )
            if wanted != there:
                raise WeightsError(
                    f"BackupAndRestore: the optimizer keeps arrays of shapes {wanted} for "
                    f"{executor.program.variables[i].path}, and {self.name} has {there}: it was compiled, or frozen, "
                    "otherwise; delete it to train from the start. Nothing was changed"
                )

    def restore(self, model: Any, callbacks: Iterable[Any]) -> None:
        """Bring a compiled model, and callbacks, to where they stood. Raises FileFormatError."""
        try:
            self._restore(model)
            for key, callback in _keyed(callbacks):
                if key in self.about["callbacks"] and callable(callback.load_state):
                    callback.load_state(_unpacked(self.about["callbacks"][key], self.arrays))
        except LayerHubError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as problem:
            raise FileFormatError(
                f"BackupAndRestore: {self.name} is damaged ({problem!r:.200}); delete it to train from the start"
            ) from problem

    def _restore(self, model: Any) -> None:
        about = self.about
        variables = model.executor.program.variables
        values = [variable.check(self.arrays[f"weights/{i}"]) for i, variable in enumerate(variables)]
        rows = {variable: tuple(self._row(f"slots/{i}")) for i, variable in enumerate(variables)}
        losses, *metrics = (tuple(self._row(f"figures/{i}")) for i in range(1 + len(model.executor.program.metrics)))
        scaling = None if about["scaling"] is None else Scaling(*about["scaling"])
        began, now = about["homes"]
        if began != now and [model.backend, model.device] == began:
            model.to(*now)  # a callback had moved it
        if model.seed != about["seed"]:
            model.seed = about["seed"]
            model._unbind()
        executor = model._ready()
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        executor.load_slots([rows.pop(variables[i]) for i in executor.trainable])
        executor.resting = {variable: row for variable, row in rows.items() if row}
        executor.load_metric_values((list(losses), metrics))
        executor.step, executor.swapped, executor.scaling = about["step"], about["swapped"], scaling
        for name, optimizer in rated(model.optimizer).items():
            if about["rates"].get(name) is not None and isinstance(optimizer.learning_rate, float):
                optimizer.learning_rate = about["rates"][name]
        model._epochs_begun, model.stop_training = about["epochs_begun"], about["stop"]

    def _row(self, prefix: str) -> Iterator[np.ndarray]:
        k = 0
        while (found := self.arrays.get(f"{prefix}/{k}")) is not None:
            yield found
            k += 1

    def place(self, model: Any) -> None:
        """Have fit begin where it stood. Raises DataError where a stream ends before that."""
        about, going = self.about, model._going
        # The order of the pass that was under way is drawn once more.
        model._epochs_begun = about["epochs_begun"] - 1
        going.source.go_to(tuple(about["place"]))
        model._epochs_begun = about["epochs_begun"]
        model._going = going._replace(epoch=about["epoch"], batches=about["batches"])


def _likeness(model: Any) -> dict[str, Any]:
    """What a model must have in common with the one whose backup it takes. Names may differ: they count models made."""
    optimizer = model.optimizer
    inner = optimizer.inner_optimizer if isinstance(optimizer, LossScaleOptimizer) else optimizer
    return {
        "weights": [
            [type(v.layer).__name__, v.spec.name, list(v.shape), str(v.dtype)] for v in model.executor.program.variables
        ],
        "optimizer": [type(optimizer).__name__, type(inner).__name__],
        "figures": [term.name for term in model._metrics],
    }


def _different(there: Any, here: Mapping[str, Any]) -> str:
    """In what two likenesses differ."""
    for what, mine in here.items():
        other = there.get(what) if isinstance(there, dict) else None
        if other != mine:
            if isinstance(other, list) and len(other) == len(mine):
                first = next(k for k, pair in enumerate(zip(other, mine, strict=True)) if pair[0] != pair[1])
                return f"it has {other[first]} among its {what}, where the model has {mine[first]}"
            return f"it has {len(other) if isinstance(other, list) else 'no'} {what}, the model {len(mine)}"
    return "more is told of it"


def _data(going: Any) -> list[Any]:
    """What the data must have in common for an epoch to be gone on with."""
    source = going.source
    return [source.arrays.count, source.batch_size] if isinstance(source, Cut) else [None, None]


def _said(data: Any) -> str:
    count, size = data
    return "a stream of batches" if count is None else f"{count} samples in batches of {size}"


def _rates(model: Any) -> dict[str, float | None]:
    """Learning rates by name; None for those that follow from the step."""
    found = {name: optimizer.learning_rate for name, optimizer in rated(model.optimizer).items()}
    return {name: rate if isinstance(rate, float) else None for name, rate in found.items()}


def _keyed(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Callbacks by their class, and their number among those of it; only those that have a state."""
    counts: Counter[str] = Counter()
    for callback in callbacks:
        name = type(callback).__name__
        counts[name] += 1
        if hasattr(callback, "state") and hasattr(callback, "load_state"):
            yield f"{name} {counts[name]}", callback


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A state as JSON can hold it; its arrays go among the others. Raises ParameterError for what cannot be kept."""
    if isinstance(value, np.ndarray):
        name = f"states/{len(arrays)}"
        arrays[name] = value
        return {ARRAY: name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _packed(part, arrays) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(part, arrays) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ParameterError(
        f"a callback's state may have strings, numbers, ndarrays, lists and dicts of these, not {value!r:.100}"
    )


def _unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {key: _unpacked(part, arrays) for key, part in value.items()}
    return [_unpacked(part, arrays) for part in value] if isinstance(value, list) else value
