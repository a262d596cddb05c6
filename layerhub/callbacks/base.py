"""What a callback is, and several as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

from layerhub.errors import ParameterError

HOOKS = tuple(
    f"on_{moment}_{end}"
    for moment in ("train", "test", "predict", "epoch", "train_batch", "test_batch", "predict_batch")
    for end in ("begin", "end")
)
ALSO = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
"""Hooks that have a second, older name."""


class Callback:
    """The base of callbacks: override what you want to hear of.

    model: the model at work. params: epochs, steps, verbose. ``self.model.stop_training = True`` ends training after
    the batch, or after the epoch when it is said at its end.

    figures: whether the logs of each batch are read from the device for it, which has to be waited for; else it is
    given those that others asked for, or none, and may read them itself when it wants them (``figures_so_far``). last:
    whether it is told after all others.
    """

    figures: ClassVar[bool] = True
    last: ClassVar[bool] = False
    model: Any = None
    params: Mapping[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """The model at work, before anything else is told."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """What is known beforehand of the work."""
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
    def on_batch_begin(self, batch: int, logs: dict | None = None) -> None: ...
    def on_batch_end(self, batch: int, logs: dict | None = None) -> None: ...

    def hears(self, hook: str) -> bool:
        """Whether it wants to be told of what it overrides. Asked once, after ``set_model`` and ``set_params``."""
        return True

    def abandoned(self) -> None:
        """The work ended by an exception, and no end will be told: let go of files, threads and screens."""

    def state(self) -> dict[str, Any]:
        """What it would have to know to go on in another process, for ``BackupAndRestore``.

        Strings, numbers, bools, None and ndarrays, in dicts and lists.
        """
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave, in this process or another; told after ``on_train_begin``."""


def figures_so_far(model: Any, logs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The logs of the running epoch: those given, else as the device has them, which has to be waited for."""
    return dict(logs) if logs else model._logs()


class CallbackList:
    """Several callbacks as one: ``tell("on_epoch_end", 3, logs)``, or ``on_epoch_end(3, logs)``.

    callbacks: one, or nested lists of them. add_history, add_progbar: see to it that there is one, after the others.
    params: see ``Callback``. Only callbacks that override a hook are called for it. As a context, it lets them know
    when the work ends by an exception.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        from layerhub.callbacks.logs import History
        from layerhub.callbacks.progress import ProgbarLogger

        self.callbacks: list[Any] = list(_flat(callbacks))
        self.model: Any = None
        self.params: Mapping[str, Any] = {}
        for wanted, kind in ((add_history, History), (add_progbar, ProgbarLogger)):
            if wanted and not any(isinstance(callback, kind) for callback in self.callbacks):
                self.callbacks.append(kind())
        if params:
            self.set_params(params)
        if model is not None:
            self.set_model(model)
        self._attend()

    def append(self, callback: Any) -> None:
        """Add a callback."""
        for one in _flat(callback):
            self.callbacks.append(one)
            if self.model is not None:
                one.set_model(self.model)
            one.set_params(self.params)
        self._attend()

    def set_model(self, model: Any) -> None:
        """Tell all of them the model at work."""
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)
        self._attend()

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Tell all of them what is known beforehand."""
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)
        self._attend()

    def _attend(self) -> None:
        """Find out who wants to hear of what."""
        told = sorted(self.callbacks, key=lambda callback: getattr(callback, "last", False) is True)
        for callback in told:
            if getattr(callback, "last", False) is True:
                callback.others = [other for other in told if other is not callback]
        listening = {hook: [(c, function) for c in told if (function := _heard(c, hook)) is not None] for hook in HOOKS}
        self._listening = {hook: [function for _, function in heard] for hook, heard in listening.items()}
        self._figures = {hook for hook, heard in listening.items() for c, _ in heard if getattr(c, "figures", True)}

    def __iter__(self) -> Iterator[Any]:
        return iter(self.callbacks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        if problem is None:
            return
        for callback in self.callbacks:
            try:
                getattr(callback, "abandoned", _nothing)()
            except Exception as other:  # what went wrong first is what counts
                problem.add_note(f"and then {type(callback).__name__}.abandoned: {other!r}")

    def find(self, kind: type) -> Any:
        """The first callback of a kind, None where there is none."""
        return next((callback for callback in self.callbacks if isinstance(callback, kind)), None)

    def listens(self, hook: str) -> bool:
        """Whether any callback wants to hear of it."""
        return bool(self._listening[hook])

    def wants_figures(self, hook: str) -> bool:
        """Whether the figures of a batch are to be read for it."""
        return hook in self._figures

    def tell(self, hook: str, *arguments: Any) -> None:
        """Call a hook."""
        for function in self._listening[hook]:
            function(*arguments)


def _teller(hook: str, numbered: bool) -> Callable[..., None]:
    def on_one(self: CallbackList, number: int, logs: dict | None = None) -> None:
        self.tell(hook, number, {} if logs is None else logs)

    def on_all(self: CallbackList, logs: dict | None = None) -> None:
        self.tell(hook, {} if logs is None else logs)

    return on_one if numbered else on_all


for _hook in HOOKS:
    _method = _teller(_hook, "batch" in _hook or "epoch" in _hook)
    setattr(CallbackList, _hook, _method)
    if _hook in ALSO:
        setattr(CallbackList, ALSO[_hook], _method)


def _flat(callbacks: Any) -> Iterable[Any]:
    """The callbacks of nested lists. Raises ParameterError for what is none."""
    if callbacks is None:
        return
    if isinstance(callbacks, (list, tuple, CallbackList)):
        for part in callbacks:
            yield from _flat(part)
    elif isinstance(callbacks, type) or not hasattr(callbacks, "set_model"):
        raise ParameterError(f"a callback must be a layerhub.callbacks.Callback, not {callbacks!r}")
    else:
        yield callbacks


def _heard(callback: Any, hook: str) -> Callable[..., None] | None:
    """What a callback has for a hook, None where it does not want to hear of it."""
    if isinstance(callback, Callback) and not callback.hears(hook):
        return None
    for name in (hook, ALSO.get(hook)):
        if name is not None and _overrides(callback, name):
            return getattr(callback, name)
    return None


def _overrides(callback: Any, hook: str) -> bool:
    own = getattr(type(callback), hook, None)
    return (own is not None and own is not getattr(Callback, hook)) or hook in vars(callback)


def _nothing() -> None: ...
