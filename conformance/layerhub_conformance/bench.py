"""Where trials run: a process for each backend, so that one which crashes or hangs costs its own trials only.

A ``Bench`` calls functions of this package in that process. It also sees which frameworks are imported there: a backend
that leaves its work to another one is not to be trusted.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from layerhub.contract import Backend
from layerhub.errors import LayerHubError
from layerhub.registry import registry
from layerhub.running_error import Arithmetic

FRAMEWORKS = frozenset(
    "cupy dask jax keras mindspore mlx mxnet ndonnx onnxruntime paddle tensorflow tinygrad torch".split()
)
"""What a backend may have imported to let others do its work."""
STARTING = 300.0
"""Seconds that a backend may take to load."""
RENEWED = 400
"""Calls after which a process that compiles them all begins anew: what it compiled stays in its memory."""
SILENT = "no answer within"
"""How the message begins of a call that took too long."""
STARTS = 3
"""How many times in a row a backend may fail to load before it is given up."""


class BrokenError(Exception):
    """A call that did not come back with a result. lost: its process had to be replaced."""

    lost = False


class RaisedError(BrokenError):
    """The call raised. mistake: by an error of LayerHub's own. trace: where."""

    def __init__(self, kind: str, message: str, mistake: bool, trace: str):
        super().__init__(f"{kind}: {message}")
        self.kind, self.message, self.mistake, self.trace = kind, message, mistake, trace

    def __reduce__(self) -> Any:
        return RaisedError, (self.kind, self.message, self.mistake, self.trace)


class HungError(BrokenError):
    """The call took longer than it may."""

    lost = True


class CrashedError(BrokenError):
    """The process ended."""

    lost = True


@dataclass
class Capabilities:
    """What a backend says of itself."""

    name: str
    dtypes: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    gradients: bool = True
    compiles: bool = False
    lacks: dict[str, str] = field(default_factory=dict)
    fast_matmul: dict[str, float] = field(default_factory=dict)
    reciprocals: bool = False
    eager: bool = True
    versions: dict[str, str] = field(default_factory=dict)

    def arithmetic(self, dtype: str) -> Arithmetic:
        """How it rounds in a float type."""
        return Arithmetic(self.fast_matmul.get(dtype), self.reciprocals)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Local:
    """Trials in this process: quick to start, and for specs that only this process knows."""

    def __init__(self, backend: str):
        self.backend = backend
        self.foreign: tuple[str, ...] = ()
        self.capabilities = capabilities(backend)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result. Raises RaisedError."""
        try:
            return function(*args)
        except Exception as problem:
            raise raised(problem) from problem

    def close(self) -> None:
        """Nothing to end."""


class Bench:
    """Trials of one backend in a process of its own, which is replaced when it is lost.

    limit: seconds that a call may take.
    """

    def __init__(self, backend: str, limit: float = 60.0):
        self.backend, self.limit = backend, limit
        self.foreign: tuple[str, ...] = ()
        self._process: Any = None
        self._pipe: Any = None
        self._failures = self._calls = 0
        self._log = Path(tempfile.mkdtemp(prefix="layerhub-")) / f"{os.getpid()}.log"
        self.capabilities: Capabilities = self._start()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result. Raises RaisedError, HungError or CrashedError."""
        self._calls += 1
        if not self.capabilities.eager and self._calls % RENEWED == 0:
            self.close()
        if self._process is None:
            self._start()
        return self._asked((function, args), self.limit)

    def _start(self) -> Capabilities:
        if self._failures >= STARTS:
            raise CrashedError(f"the backend {self.backend!r} did not load {STARTS} times in a row")
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.backend, str(self._log)), daemon=True)
        self._process.start()
        theirs.close()
        self._failures += 1
        found = self._asked(None, STARTING)
        self._failures = 0
        return found

    def _asked(self, question: Any, limit: float) -> Any:
        try:
            self._pipe.send(question)
            if not self._pipe.poll(limit):
                self.close()
                raise HungError(f"{SILENT} {limit:g} s")
            good, answer, self.foreign = self._pipe.recv()
        except (EOFError, OSError) as problem:
            self._process.join(5)
            code = self._process.exitcode
            self.close()
            how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
            raise CrashedError(f"the process ended {how}. {self._last_words()}".strip()) from problem
        if good:
            return answer
        raise answer

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return " | ".join(line.strip() for line in lines[-3:])[-300:]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None


def capabilities(name: str) -> Capabilities:
    """What a backend says of itself, in this process."""
    backend: Backend = registry().backend(name)
    return Capabilities(
        name,
        list(backend.dtypes),
        list(backend.devices()),
        backend.has_gradients,
        type(backend).compiled is not Backend.compiled,
        dict(backend.lacks),
        dict(backend.fast_matmul),
        backend.reciprocals,
        backend.eager,
        dict(registry().listing()[name]["versions"]),
    )


def raised(problem: BaseException) -> RaisedError:
    """An exception in a form that any process can read."""
    trace = "".join(traceback.format_exception(problem)[-6:])
    return RaisedError(type(problem).__name__, str(problem), isinstance(problem, LayerHubError), trace)


def _serve(pipe: Any, name: str, log: str) -> None:
    """The life of a bench's process: load the backend, then do as asked."""
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    # What frameworks print belongs to whoever wants to know why the process ended.
    os.dup2(words, 1)
    os.dup2(words, 2)
    known = frozenset[str]()
    first = True
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        try:
            if first:
                known = _own_frameworks(name)
                answer: Any = capabilities(name)
            else:
                function, args = question
                answer = function(*args)
            good = True
        except Exception as problem:
            good, answer = False, raised(problem)
        first = False
        foreign = tuple(sorted((FRAMEWORKS & sys.modules.keys()) - known))
        try:
            pipe.send((good, answer, foreign))
        except (TypeError, AttributeError, ValueError) as problem:  # an answer that cannot be pickled
            pipe.send((False, raised(problem), foreign))


def _own_frameworks(name: str) -> frozenset[str]:
    """The frameworks that come with what a backend says it requires."""
    entry, _ = registry().entries[name]
    for module in entry.requires:
        importlib.import_module(module)
    return FRAMEWORKS & sys.modules.keys()


def sleep(seconds: float) -> None:
    """For trying out what happens to a call that hangs."""
    time.sleep(seconds)
