"""Racing: real steps of one model on every backend and device that is here, timed, and told in one report.

Each contender runs in a process of its own: the thread pools of two array libraries disturb each other within one
process, and what a library takes of time to start and of memory can be seen nowhere else. The contenders take turns,
so that whatever else the machine does meets all of them alike. Only a model that another process cannot be given (one
with layers or functions of the caller's own) is raced in this process; then start-up and memory stay unknown.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from layerhub import saving
from layerhub.data import HostBatch
from layerhub.errors import (
    BackendError,
    DataError,
    FileFormatError,
    LayerHubError,
    MissingPackageError,
    ParameterError,
    StateError,
    UnknownNameError,
)
from layerhub.graph import Input, Node, Tensor, between, unwrapped
from layerhub.models import Model, load_model
from layerhub.network import Network
from layerhub.registry import registry
from layerhub.spec.core import Embedding

TURN = 0.05
"""Seconds that a turn takes at least, in as many whole steps as that needs."""
ROUNDS = 7
"""How many turns each contender has, where the budget allows them."""
GRACE = 1.0
"""Seconds that a contender may still take for a step after the budget is spent."""
BATCH = 32
SERVE = "from layerhub.racing import serve; serve()"
"""What the process of a contender runs."""
UNSAID = 16
"""The size of an axis, other than the batch, that the model leaves open: time steps, height, width."""


@dataclass(frozen=True)
class Row:
    """One backend on one device. Times are in seconds; None where there is no figure.

    median, fastest, slowest: of a step, over the turns. first: the first step, compilation included. loading: the
    import of the backend and its library. binding: the making of the model there. memory: the peak of its process on
    the host, in bytes. turns: how many there were. reason: why it was not timed.
    """

    backend: str
    device: str | None = None
    median: float | None = None
    fastest: float | None = None
    slowest: float | None = None
    first: float | None = None
    loading: float | None = None
    binding: float | None = None
    memory: int | None = None
    turns: int = 0
    reason: str | None = None

    def told(self) -> dict[str, str]:
        """The row for people: milliseconds, seconds, megabytes."""
        return {
            "backend": self.backend,
            "device": self.device or "",
            "step ms": _figure(self.median, 1e3),
            "min": _figure(self.fastest, 1e3),
            "max": _figure(self.slowest, 1e3),
            "first step s": _figure(self.first),
            "import s": _figure(self.loading),
            "bind s": _figure(self.binding),
            "peak MB": _figure(self.memory, 1e-6),
            "why not": self.reason or "",
        }


@dataclass(frozen=True)
class Race:
    """What came out: the rows, the fastest first, then those that were not timed.

    training: whether the steps were training steps. batch_size: of each step. apart: whether each contender had a
    process of its own.
    """

    rows: list[Row]
    training: bool
    batch_size: int
    apart: bool = True

    @property
    def winner(self) -> Row:
        """The row with the smallest median. Raises BackendError where there is none, with everybody's reason."""
        timed = [row for row in self.rows if row.median is not None]
        if not timed:
            told = "; ".join(f"{row.backend}: {row.reason}" for row in self.rows) or "there are no backends"
            raise BackendError(f"no backend could be timed: {told}")
        return min(timed, key=lambda row: row.median or 0.0)

    @property
    def title(self) -> str:
        """What was timed."""
        kind = "Training steps" if self.training else "Inference"
        where = "" if self.apart else ", all in one process"
        return f"{kind}, batches of {self.batch_size}{where}"

    def data(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [row.told() for row in self.rows]
        columns = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]} if rows else {}
        lines = ["  ".join(name.ljust(width) for name, width in columns.items())]
        lines += ["  ".join(row[name].ljust(width) for name, width in columns.items()) for row in rows]
        return "\n".join([self.title, *(line.rstrip() for line in lines)])


def _figure(value: float | None, factor: float = 1.0) -> str:
    """A number in about three digits."""
    if value is None:
        return ""
    value *= factor
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def race(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    training: bool = False,
    batch_size: int | None = None,
    budget: float = 30.0,
    backends: Sequence[str] | None = None,
    devices: Sequence[str] | None = None,
) -> Race:
    """Time steps of a model on every backend and device; nothing of the model changes.

    model: a model, or the path of one that was saved. x, y: data of which the first batch is taken; left out, they are
    made from the shapes of inputs and outputs. training: time training steps; so it is, too, where y is given.
    batch_size: as the model declares it, or 32, or as much as there is of x. budget: seconds for all together; who was
    not begun by then is listed so. backends: their names; all installed ones for None. devices: their names, or kinds
    such as "cpu" and "cuda"; all for None.
    Raises StateError for training steps of a model that is not compiled. Whatever hinders one backend stands in its
    row: that it is not installed, lacks a layer or a type, has no gradients, or fails.
    """
    training = training or y is not None
    if not isinstance(budget, (int, float)) or isinstance(budget, bool) or budget <= 0:
        raise ParameterError(f"race: budget must be a positive number of seconds, not {budget!r}")
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise ParameterError(f"race: batch_size must be a positive int, not {batch_size!r}")
    names = list(registry().entries) if backends is None else list(dict.fromkeys(backends))
    course = Course(training, batch_size)
    if isinstance(model, (str, os.PathLike)):
        if x is not None or y is not None:
            raise ParameterError("race: data are taken for a model, not for a file; load the model first")
        with saving.reading_model(model):
            pass  # it is a model's file
        try:
            return _race_apart(replace(course, model=os.path.abspath(model)), names, devices, budget)
        except UnknownElsewhereError as problem:
            raise UnknownNameError(str(problem)) from None
    if training and (model.optimizer is None or not model._losses):
        raise StateError(f"{model.name} has no optimizer and loss: training steps need compile(optimizer, loss) first")
    host = host_batch(model, x, y, training, batch_size)
    course = replace(course, batch_size=len(host[0][0]))
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = _race_apart(_packed(model, host, course, folder), names, devices, budget)
        except (UnknownElsewhereError, MissingPackageError, FileFormatError):
            found = None
    if found is not None:
        return found
    rows = compete(
        names, lambda name, device: Here(name, device, devices, partial(copied, model), host, training), budget
    )
    return Race(rows, training, len(host[0][0]), apart=False)


@dataclass(frozen=True)
class Course:
    """What every contender runs, as text can say it. model, data: paths; without data, they are made from shapes."""

    training: bool
    batch_size: int | None
    model: str = ""
    data: str | None = None


def _race_apart(course: Course, names: Sequence[str], devices: Sequence[str] | None, budget: float) -> Race:
    made: list[Apart] = []

    def contender(name: str, device: str | None) -> Apart:
        made.append(Apart(name, device, devices, course))
        return made[-1]

    rows = compete(names, contender, budget)
    return Race(
        rows, course.training, next((one.batch_size for one in made if one.batch_size), course.batch_size or BATCH)
    )


# Data


def host_batch(model: Any, x: Any, y: Any, training: bool, batch_size: int | None) -> HostBatch:
    """The batch that is run: from what is given, or made; targets only for training. Raises DataError."""
    declared = model.batch_size
    if declared is not None and batch_size not in (None, declared):
        raise DataError(f"race: batch_size is {batch_size}, but {model.name} declares batches of {declared}")
    size = batch_size or declared
    if x is None:
        if y is not None:
            raise DataError("race: y was given without x")
        if not model.outputs:
            raise StateError(f"{model.name} does not know the shape of its input yet: give x")
        inputs = example_inputs(model, size or BATCH)
        y = unwrapped(example_targets(model, size or BATCH)) if training else None
        x = inputs if len(inputs) > 1 else inputs[0]
    found = model._data(x, y, batch=False)
    if training and not found.targets:
        made = example_targets(model, found.count)
        found = model._data(x, unwrapped(made), batch=False)
    size = min(size or BATCH, found.count)
    return next(found.batches(size))


def example_inputs(model: Network, size: int) -> list[np.ndarray]:
    """Inputs of the declared shapes: normal numbers, or whole ones that every embedding of that input has."""
    rng = np.random.default_rng(0)
    bounds = looked_up(model)
    found = []
    for index, declared in enumerate(model.inputs):
        shape = (size, *(UNSAID if axis is None else axis for axis in declared.shape[1:]))
        if index in bounds or not declared.dtype.startswith(("float", "bfloat")):
            found.append(rng.integers(0, bounds.get(index, 2), size=shape).astype("int32"))
        else:
            found.append(rng.normal(size=shape).astype("float32"))
    return found


def looked_up(model: Network) -> dict[int, int]:
    """For each input that embeddings look up, the number of rows that all of them have."""
    places = {x: index for index, x in enumerate(model.inputs)}
    found: dict[int, int] = {}
    for node in between(model.inputs, model.outputs):
        inner = looked_up(node.layer) if isinstance(node.layer, Network) else {}
        for position, x in enumerate(node.inputs):
            rows = node.layer.input_dim if isinstance(node.layer, Embedding) else inner.get(position)
            if rows is not None and x in places:
                found[places[x]] = min(rows, found.get(places[x], rows))
    return found


def example_targets(model: Any, size: int) -> list[np.ndarray]:
    """Targets of the outputs' shapes: classes for losses that take them, else shares that add up to 1."""
    rng = np.random.default_rng(1)
    integer = {term.output: term.loss.integer_targets for term in model._losses}
    found = []
    for index, output in enumerate(model.outputs):
        shape = (size, *(UNSAID if axis is None else axis for axis in output.shape[1:]))
        if integer.get(index):
            found.append(rng.integers(0, shape[-1], size=shape[:-1] if len(shape) > 1 else shape))
        else:
            values = rng.uniform(0.01, 1.0, size=shape)
            found.append((values / values.sum(-1, keepdims=True) if shape[-1] > 1 else values).astype("float32"))
    return found


# Contenders


class UnknownElsewhereError(Exception):
    """The model has something of the caller's own, which another process does not know."""


class Contender(Protocol):
    """One backend and device. Whatever goes wrong is a LayerHubError, whose text is the reason."""

    def start(self, seconds: float) -> dict[str, Any]:
        """Import the backend and make the model there: device, devices (all that are asked for), loading, binding."""

    def first(self, seconds: float) -> float:
        """The seconds of the first step; another one follows, so that all is warm."""

    def turn(self, seconds: float) -> float:
        """The seconds of a step, over one turn."""

    def end(self) -> int | None:
        """Stop; gives the peak of memory in bytes, where it is known."""


class Here:
    """A contender in this process. make: gives the model on a backend and device. host: the batch, or None for one
    that is made."""

    def __init__(
        self,
        backend: str,
        device: str | None,
        devices: Sequence[str] | None,
        make: Callable[[str, str], Any],
        host: HostBatch | None,
        training: bool,
        batch_size: int | None = None,
    ):
        self.name, self.device, self.devices, self.make = backend, device, devices, make
        self.host, self.training, self.batch_size = host, training, batch_size

    def start(self, seconds: float = 0.0) -> dict[str, Any]:
        began = time.perf_counter()
        self.backend = registry().backend(self.name)
        loaded = time.perf_counter()
        devices = _wanted(self.backend, self.devices)
        device = self.device or devices[0]
        with _as_ours(self.name):
            self.model = self.make(self.name, device)
            self.model._ready_to_train() if self.training else self.model.executor
        bound = time.perf_counter()
        if self.host is None:
            self.host = host_batch(self.model, None, None, self.training, self.batch_size)
        found = {"device": device, "devices": devices, "loading": loaded - began, "binding": bound - loaded}
        return found | {"batch_size": len(self.host[0][0])}

    def _step(self) -> None:
        """A step as fit and predict take it: the batch goes to the device, and what is predicted comes back."""
        assert self.host is not None
        if self.training:
            executor = self.model.executor
            executor.train_batch(executor.batch(*self.host))
        else:
            self.model._predicted((self.host[0], [], []))

    def _steps(self, at_least: float) -> float:
        """The seconds of a step, in the mean of as many as take so long."""
        began, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - began < at_least:
            self._step()
            count += 1
        self.backend.synchronize()
        return (time.perf_counter() - began) / count

    def first(self, seconds: float = 0.0) -> float:
        with _as_ours(self.name):
            found = self._steps(0.0)
            self._steps(0.0)
        return found

    def turn(self, seconds: float = 0.0) -> float:
        with _as_ours(self.name):
            return self._steps(TURN)

    def end(self) -> int | None:
        self.model = None
        return None


@contextmanager
def _as_ours(backend: str) -> Iterator[None]:
    """What a library raises, as a BackendError."""
    try:
        yield
    except LayerHubError:
        raise
    except Exception as problem:
        raise BackendError(f"{backend} fails: {type(problem).__name__}: {_first_line(problem)}") from problem


def _first_line(problem: BaseException) -> str:
    return (str(problem).strip().splitlines() or [""])[0]


def _wanted(backend: Any, asked: Sequence[str] | None) -> list[str]:
    """Those of a backend's devices that are asked for, by name or kind. Raises BackendError where there is none."""
    available = backend.devices()
    found = [device for device in available if asked is None or {device, _kind(device)} & {*asked, *map(_same, asked)}]
    if not found:
        raise BackendError(f"it has no device {' or '.join(asked or ())}; it has: {', '.join(available)}")
    return found


def _kind(device: str) -> str:
    return _same(device.partition(":")[0])


def _same(kind: str) -> str:
    # Some libraries call by its maker's name what others call a GPU.
    return "gpu" if kind == "cuda" else kind


class Apart:
    """A contender in a process of its own, which is asked by lines of JSON."""

    def __init__(self, backend: str, device: str | None, devices: Sequence[str] | None, course: Course):
        self.name = backend
        self.batch_size: int | None = None
        self._asked = {"backend": backend, "device": device, "devices": devices, **asdict(course)}
        self._process: subprocess.Popen[str] | None = None

    def start(self, seconds: float) -> dict[str, Any]:
        registry().check_usable(self.name)
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 closed by end()
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, json.dumps(self._asked)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, encoding="utf-8",
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        found = self._ask("start", seconds)
        self.batch_size = found.pop("batch_size")
        return found

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put("")

    def _ask(self, what: str, seconds: float) -> Any:
        """The answer to a request. Raises BackendError where there is none in time, or an error is the answer."""
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(f"{json.dumps(what)}\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise BackendError(f"it did not get through its {what} within the budget") from None
        except OSError:
            line = ""
        if not line:
            raise BackendError(f"its process ended with status {self._process.wait()}{self._last_words()}")
        answer = json.loads(line)
        if answer.get("kind") == UnknownNameError.__name__:
            raise UnknownElsewhereError(answer["error"])
        if "error" in answer:
            raise BackendError(answer["error"])
        return answer["value"]

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return f": {lines[-1]}" if lines else ""

    def first(self, seconds: float) -> float:
        return self._ask("first", seconds)

    def turn(self, seconds: float) -> float:
        return self._ask("turn", seconds)

    def end(self) -> int | None:
        if self._process is None:
            return None
        process, self._process = self._process, None
        try:
            return self._end(process)
        finally:
            process.kill()
            process.wait()
            self._log.close()

    def _end(self, process: subprocess.Popen[str]) -> int | None:
        assert process.stdin is not None
        try:
            process.stdin.write(f"{json.dumps('memory')}\n")
            process.stdin.close()
            line = self._lines.get(timeout=GRACE)
        except (OSError, queue.Empty):
            return None
        return json.loads(line).get("value") if line else None


def serve() -> None:
    """The other end of ``Apart``: answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    asked = json.loads(sys.argv[1])
    contender = Here(
        asked["backend"], asked["device"], asked["devices"], lambda *place: load_model(asked["model"], *place),
        None if asked["data"] is None else unpacked(asked["data"]), asked["training"], asked["batch_size"],
    )  # fmt: skip
    able: dict[str, Callable[[], Any]] = {
        "start": contender.start, "first": contender.first, "turn": contender.turn, "memory": peak_memory
    }  # fmt: skip
    for line in sys.stdin:
        try:
            answer = {"value": able[json.loads(line)]()}
        except Exception as problem:
            ours = isinstance(problem, LayerHubError)
            told = str(problem) if ours else f"{type(problem).__name__}: {_first_line(problem)}"
            answer = {"error": told, "kind": type(problem).__name__}
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()


def peak_memory() -> int | None:
    """The most memory that this process has had, in bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _packed(model: Any, host: HostBatch, course: Course, folder: str) -> Course:
    """The course with a model and a batch in files. Raises what saving raises."""
    path, data = Path(folder, "model.keras"), Path(folder, "data.npz")
    model.save(path)
    names = ("inputs", "targets", "weights")
    arrays = {f"{name}{k}": x for name, group in zip(names, host, strict=True) for k, x in enumerate(group)}
    np.savez(data, allow_pickle=False, **{name: x for name, x in arrays.items() if x is not None})
    return replace(course, model=str(path), data=str(data))


def unpacked(path: str) -> HostBatch:
    """The batch of a file."""
    with np.load(path, allow_pickle=False) as held:
        first, second, third = (
            [held[f"{name}{k}"] for k in range(len(held.files)) if f"{name}{k}" in held.files]
            for name in ("inputs", "targets", "weights")
        )
    return first, second, third


def copied(model: Any, backend: str, device: str) -> Any:
    """A copy of a model with its weights, compiled as it is, that shares no layer with it.

    Its graph is that of inference: what a class of the caller's own does otherwise in training is not in it.
    """
    layers: dict[Any, Any] = {}
    inputs, outputs = _copied_graph(model, layers)
    found = Model(inputs, outputs, backend=backend, device=device, name=model.name, seed=model.seed)
    for layer, copy in layers.items():
        if not isinstance(layer, Network):
            copy.set_weights(layer.get_weights())
    found.optimizer, found._compiled, found._running = model.optimizer, model._compiled, model._running
    found._losses, found._metrics = model._losses, model._metrics
    return found


def _copied_graph(model: Network, layers: dict[Any, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a graph of new layers with the parameters of the old ones, those of nested models too.

    layers: takes the copy of each layer.
    """
    made: dict[Any, Any] = {
        x: Input(batch_shape=x.shape, dtype=x.dtype, sparse=x.node.layer.sparse, name=x.name) for x in model.inputs
    }
    inputs = list(made.values())
    for node in between(model.inputs, model.outputs):
        layer = node.layer
        if layer not in layers and isinstance(layer, Network):
            layers[layer] = Model(*_copied_graph(layer, layers), name=layer.name, seed=layer.seed)
        elif layer not in layers:
            layers[layer] = layer.replace(name=layer.label)
        given, masks = ([None if x is None else made[x] for x in row] for row in (node.inputs, node.masks))
        copy = Node(layers[layer], given, [made[x] for x in node.states], node.options, node.training, masks)
        made.update(zip(node.outputs, copy.outputs, strict=True))
    return inputs, [made[y] for y in model.outputs]


# The race itself


@dataclass
class _Standing:
    """A contender, and what is known of it so far."""

    contender: Any
    row: Row
    times: list[float] = field(default_factory=list)
    running: bool = True

    def fail(self, reason: str) -> None:
        self.row, self.running = replace(self.row, reason=reason), False


def compete(
    names: Sequence[str],
    contender: Callable[[str, str | None], Any],
    budget: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[Row]:
    """The rows of a race, the fastest first.

    contender: makes the one for a backend and a device, None standing for the first of those that are asked for; its
    start tells the others. All start, one after the other, and take a first step; then they take turns, until each had
    ``ROUNDS`` of them or the budget is spent. Whoever started has one turn at least.
    """
    deadline = clock() + budget
    field_: list[_Standing] = []
    try:
        for name in names:
            waiting: list[str | None] = [None]
            while waiting:
                standing = _Standing(contender(name, waiting[0]), Row(name, waiting.pop(0)))
                field_.append(standing)
                waiting += _begun(standing, budget, deadline - clock())
        for number in range(ROUNDS):
            if number and clock() >= deadline:
                break
            for standing in field_:
                if standing.running:
                    _take_turn(standing, max(deadline - clock(), GRACE))
        for standing in field_:
            memory = standing.contender.end()
            standing.row = replace(standing.row, memory=memory)
    finally:
        for standing in field_:
            standing.contender.end()
    return sorted(map(_result, field_), key=lambda row: (row.median is None, row.median or 0.0))


def _begun(standing: _Standing, budget: float, left: float) -> list[str]:
    """Start a contender and let it take its first step; gives the other devices that its backend is asked for on."""
    others: list[str] = []
    if left <= 0:
        standing.fail(f"not begun: the budget of {budget:g} s was spent")
        return others
    try:
        told = standing.contender.start(max(left, GRACE))
        others = told["devices"][1:] if standing.row.device is None else []
        spent = told["loading"] + told["binding"]
        standing.row = replace(standing.row, device=told["device"], loading=told["loading"], binding=told["binding"])
        standing.row = replace(standing.row, first=standing.contender.first(max(left - spent, GRACE)))
    except LayerHubError as problem:
        standing.fail(str(problem))
        standing.contender.end()
    return others


def _take_turn(standing: _Standing, seconds: float) -> None:
    try:
        standing.times.append(standing.contender.turn(seconds))
    except LayerHubError as problem:
        standing.fail(str(problem))
        standing.contender.end()


def _result(standing: _Standing) -> Row:
    times = standing.times
    if not times or not standing.running:
        return standing.row
    return replace(
        standing.row, median=median(times), fastest=min(times), slowest=max(times), turns=len(times)
    )  # fmt: skip
