"""Arrays that losses and metrics are given outside of models: native ones of any backend, ndarrays, lists, numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from layerhub import config
from layerhub.ops import namespace_of
from layerhub.registry import registry
from layerhub.spec.masks import widened
from layerhub.variable import HOST


@dataclass
class Home:
    """Where an array is: its namespace, and its backend and device; on the host there is no backend.

    recorded: the array is being read, for gradients or error bounds.
    """

    xp: Any
    backend: Any = None
    device: str = "cpu"
    recorded: bool = False

    @classmethod
    def of(cls, x: Any) -> Home:
        """The home of an array; lists and numbers are on the host."""
        plain, space = x, getattr(x, "space", None)
        while hasattr(plain, "space"):
            plain = plain.value
        if isinstance(plain, (np.ndarray, np.generic, list, tuple, int, float)):
            return cls(space or HOST, recorded=space is not None)
        backend = registry().owner(plain)
        device = backend.device_of(plain)
        return cls(space or backend.xp_on(device), backend, device, space is not None)

    def array(self, x: Any, dtype: str) -> Any:
        """An array here, of this type."""
        space = namespace_of(x) if hasattr(x, "space") else None
        if space is not None:
            return x if self.dtype(x) == dtype else space.astype(x, getattr(space, dtype))
        if self.backend is None:
            return np.asarray(x, dtype)
        return self.backend.asarray(x, dtype, self.device)

    def numpy(self, x: Any) -> np.ndarray:
        """An array from here as an ndarray."""
        return np.asarray(x) if self.backend is None else self.backend.to_numpy(x)

    def dtype(self, x: Any) -> str:
        """The name of an array's type."""
        return str(x.dtype) if self.backend is None else self.backend.dtype_name(x)

    def float_type(self, x: Any) -> str:
        """The float type of an array, or the usual one for what has none."""
        name = self.dtype(x if hasattr(x, "dtype") else np.asarray(x))
        return name if name in config.FLOATS else config.floatx()


def targets(spec: Any, home: Home, y_true: Any, y_pred: Any, dtype: str) -> Any:
    """Targets for a loss or metric, cast and shaped so that they stand against the predictions."""
    shape = tuple(y_pred.shape)
    on_host = isinstance(y_true, (np.ndarray, np.generic, list, tuple, int, float))
    if on_host:
        y_true = np.asarray(y_true)
    y = home.array(y_true, dtype)
    wanted = spec.target_shape(tuple(y.shape), shape)
    if on_host:
        spec.check_targets(y_true.reshape(wanted), shape)
    if wanted == tuple(y.shape):
        return y
    return home.xp.reshape(y, tuple(-1 if size is None else size for size in wanted))


def both(xp: Any, a: Any, b: Any) -> Any:
    """Where both of two masks are true; None is true everywhere."""
    if a is None or b is None:
        return b if a is None else a
    ndim = max(a.ndim, b.ndim)
    return xp.logical_and(widened(xp, a, ndim), widened(xp, b, ndim))
