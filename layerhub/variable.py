"""Variables: the weights of layers, wherever they are at the moment.

A variable lives in one home at a time: on the host as an ndarray, or on a backend's device as that backend's own
variable. Whoever needs it elsewhere asks ``at``, and it moves; those that used it in its old home are told.

Threads may use a layer on several backends at once: a move happens as a whole, before or after whatever else is asked
of the variable. Training it is for one of them at a time, for a step ends where the weight was when it began.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

import numpy as np

from layerhub.errors import WeightsError
from layerhub.namespace import Namespace
from layerhub.spec.layer import Layer, WeightSpec
from layerhub.stream import Stream

HOST = Namespace(np)
"""numpy as a namespace: initial values, and whatever else is computed on the host."""


_moving = threading.RLock()
"""Held while a variable changes its home, or is read or written where it is."""


def initial_value(spec: WeightSpec, seed: int, place: str) -> np.ndarray:
    """The first value of a weight, in float64: the same on every backend, from the seed and the weight's place."""
    own = getattr(spec.initializer, "seed", None)
    stream = Stream.at(seed if own is None else own, place)
    draws = iter(range(2**31))

    def bits(shape: tuple[int, ...]) -> np.ndarray:
        return HOST.random_bits(stream.child(next(draws)), shape)

    return np.asarray(spec.initializer.define(HOST, spec.shape, bits), dtype=np.float64)


class Variable:
    """One weight of one layer."""

    def __init__(self, spec: WeightSpec, layer: Layer, start: Callable[[], np.ndarray]):
        self.spec, self.layer, self._start = spec, layer, start
        self.dtype = layer.variable_dtype
        self.users: WeakSet[Any] = WeakSet()
        self._value: np.ndarray | None = None
        self._home: tuple[Any, str] | None = None
        self._handle: Any = None

    @property
    def name(self) -> str:
        """The weight's name within its layer."""
        return self.spec.name

    @property
    def path(self) -> str:
        """The layer's name and the weight's."""
        return f"{self.layer.label}/{self.spec.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def trainable(self) -> bool:
        """Whether training moves it: by its declaration, and by what its layer says now."""
        return self.spec.trainable and self.layer.trains(self.spec.name)

    def numpy(self) -> np.ndarray:
        """The value, as an ndarray of its own."""
        with _moving:
            if self._home is not None:
                backend = self._home[0]
                return np.array(backend.to_numpy(backend.read(self._handle)))
            if self._value is None:
                self._value = _cast(self._start(), self.dtype)
            return self._value.copy()

    @property
    def placed(self) -> bool:
        """Whether it lies with a backend; else it is on the host, or was not made yet."""
        return self._home is not None

    def view(self) -> np.ndarray:
        """The value, as an ndarray that is not to be changed, nor to be kept."""
        with _moving:
            if self._home is not None:
                backend = self._home[0]
                return np.asarray(backend.to_numpy(backend.read(self._handle)))
            return self.numpy() if self._value is None else self._value

    def check(self, value: Any) -> np.ndarray:
        """A new value as it would be stored. Raises WeightsError when its shape is wrong."""
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(None)
        if array.shape != self.shape or array.dtype.kind not in "fiub":
            raise WeightsError(
                f"{self.path} has shape {self.shape}, a value of shape {array.shape} and type {array.dtype} was given; "
                "nothing was changed"
            )
        return _cast(array, self.dtype)

    def assign(self, value: Any, copy: bool = True) -> None:
        """Give a new value. copy: someone else may change the array that was given."""
        array = self.check(value)
        with _moving:
            if self._home is None:
                self._value = array.copy() if copy else array
            else:
                backend, device = self._home
                backend.assign(self._handle, backend.asarray(array, self.dtype, device))

    def at(self, backend: Any, device: str, memory: tuple[int, ...] | None = None, user: Any = None) -> Any:
        """The backend's own variable on a device, moved there if it is elsewhere."""
        with _moving:
            if self._home is None or self._home[0] is not backend or self._home[1] != device:
                # The backend makes a place of its own; what another one holds might be shared with it.
                value = self.view() if self._home is None else self.numpy()
                self._handle = backend.variable(value, self.spec.trainable, device, memory, self.dtype)
                self._home, self._value = (backend, device), None
                for other in self.users:
                    other.stale = True
                self.users = WeakSet()
            if user is not None:
                self.users.add(user)
            return self._handle

    def __repr__(self) -> str:
        return f"<Variable {self.path} shape={self.shape} dtype={self.dtype}>"


class Places:
    """Where variables are at one moment, so that a move which fails can be undone without copying anything back."""

    def __init__(self, variables: Iterable[Variable]):
        with _moving:
            self._kept = [(v, v._home, v._handle, v._value, [(u, u.stale) for u in v.users]) for v in variables]

    def restore(self) -> None:
        """Put all of them where they were. Only for variables whose values have not changed since."""
        with _moving:
            for variable, home, handle, value, users in self._kept:
                variable._home, variable._handle, variable._value = home, handle, value
                variable.users = WeakSet(user for user, _ in users)
                for user, stale in users:
                    user.stale = stale


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
    # numpy has no bfloat16: the host keeps such weights in float32, which holds every bfloat16 exactly.
    return np.asarray(array, dtype="float32" if dtype == "bfloat16" else dtype)
