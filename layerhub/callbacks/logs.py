"""Callbacks that write down, or pass on, what they are told."""

from __future__ import annotations

import csv
import json
import os
import warnings
from collections.abc import Callable, Mapping
from typing import IO, Any
from urllib import error, parse, request

from layerhub.callbacks.base import ALSO, HOOKS, Callback
from layerhub.errors import FileFormatError, ParameterError, suggest
from layerhub.spec import spellings


class History(Callback):
    """Gathers the logs of every epoch in ``history``: name -> list of values."""

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.history, self.epoch = {}, []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def state(self) -> dict[str, Any]:
        return {"history": self.history, "epoch": self.epoch}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.epoch = list(state["epoch"])


class LambdaCallback(Callback):
    """Callbacks from functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: …)``."""

    def __init__(self, **functions: Callable | None):
        for hook, function in functions.items():
            if hook not in HOOKS and hook not in ALSO.values():
                raise ParameterError(
                    f"LambdaCallback: there is no hook {hook!r}.{suggest(hook, HOOKS)} "
                    f"The hooks are: {', '.join(HOOKS)}"
                )
            if function is not None:
                setattr(self, hook, function)


class BaseLogger(Callback):
    """Keras 2's: what it did is done by ``fit`` itself. stateful_metrics: of no effect."""

    def __init__(self, stateful_metrics: Any = None):
        spellings.warn("BaseLogger has nothing to do any more: fit averages the figures of an epoch; leave it out")


class CSVLogger(Callback):
    """Writes a line for each epoch to a CSV file: the epoch, from 0, and the figures, by name in order.

    The columns are those of the first epoch; where that has none of the validation, these have columns too. A figure
    that an epoch lacks is ``NA``.

    separator: between the columns. append: go on in a file that is there; else it is written anew.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self._file: IO[str] | None = None
        self._columns: list[str] | None = None
        self._mode = "w"

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.abandoned()
        self._columns, self._mode = None, "a" if self.append else "w"

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        file = self._opened()
        writer = csv.writer(file, delimiter=self.separator, lineterminator="\n")
        if self._columns is None:
            self._columns = self._found(logs)
            if file.tell() == 0:
                writer.writerow(["epoch", *self._columns])
        writer.writerow([epoch, *(_cell(logs.get(name, "NA")) for name in self._columns)])
        file.flush()

    def _opened(self) -> IO[str]:
        if self._file is None:
            self._file = open(self.filename, self._mode, newline="", encoding="utf-8")  # noqa: SIM115
            self._mode = "a"
        return self._file

    @staticmethod
    def _found(logs: Mapping[str, Any]) -> list[str]:
        names = sorted(logs)
        return names if any(name.startswith("val_") for name in names) else [*names, *(f"val_{n}" for n in names)]

    def on_train_end(self, logs: dict | None = None) -> None:
        self.abandoned()

    def abandoned(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def state(self) -> dict[str, Any]:
        return {"columns": self._columns, "size": None if self._file is None else self._file.tell()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        size = state["size"]
        if size is None:
            return
        # What was written after the backup will be written again.
        self.abandoned()
        there = os.path.getsize(self.filename) if os.path.exists(self.filename) else 0
        if there < size:
            raise FileFormatError(
                f"CSVLogger: {self.filename} has {there} bytes, and had {size} when the backup was made that training "
                "goes on from; put the file back, or leave the callback out"
            )
        os.truncate(self.filename, size)
        self._columns, self._mode = list(state["columns"]), "a"
        # Opened at once: a backup that is made before the next line has to know the size, too.
        self._opened()


def _cell(value: Any) -> Any:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, (list, tuple)) else value


class RemoteMonitor(Callback):
    """Sends the figures of each epoch to a server, as JSON.

    root, path: where to. field: the field of a form in which they are sent; send_as_json: they are what is sent.
    headers: more headers. A server that does not answer is a warning.
    """

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: Mapping[str, str] | None = None,
        send_as_json: bool = False,
    ):
        self.root, self.path, self.field = root, path, field
        self.headers, self.send_as_json = dict(headers or {}), send_as_json

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        text = json.dumps({"epoch": epoch, **(logs or {})})
        kind = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        body = text if self.send_as_json else parse.urlencode({self.field: text})
        asked = request.Request(self.root + self.path, body.encode(), {"Content-Type": kind, **self.headers})
        try:
            with request.urlopen(asked, timeout=10):
                pass
        except (error.URLError, OSError) as problem:
            warnings.warn(f"RemoteMonitor: {self.root} could not be reached: {problem}", stacklevel=2)
