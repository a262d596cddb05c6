"""numpy as a backend. Its weights are ndarrays that training changes in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerhub.contract import Backend
from layerhub_numpy import arrays


class NumpyBackend(Backend):
    """numpy. It has no differentiation of its own: the core's serves, with the VJPs of the kernels."""

    name = "numpy"
    namespace = np
    extras = {
        "einsum": arrays.einsum,
        "pad": arrays.pad,
        "unslice": arrays.unslice,
        "scatter_add": arrays.scatter_add,
        "random_bits": arrays.random_bits,
    }
    dtypes = ("float16", "float32", "float64")

    def asarray(self, value: Any, dtype: str | None = None, device: str | None = None) -> np.ndarray:
        """The array itself where it has the type already."""
        return np.asarray(value, dtype=None if dtype is None else self.dtype(dtype))

    def to_numpy(self, x: Any) -> np.ndarray:
        """The array itself."""
        return np.asarray(x)

    def owns(self, x: Any) -> bool:
        """ndarrays, and the scalars that numpy makes of them."""
        return isinstance(x, (np.ndarray, np.generic))

    def variable(
        self,
        value: np.ndarray,
        trainable: bool,
        device: str | None,
        memory: tuple[int, ...] | None,
        dtype: str | None = None,
    ) -> np.ndarray:
        """An array of its own, with its axes in memory as ``memory`` says, slowest first."""
        if memory is None:
            return np.array(value, dtype, order="C")
        place = np.empty([value.shape[axis] for axis in memory], dtype or value.dtype).transpose(np.argsort(memory))
        place[...] = value
        return place

    def read(self, variable: np.ndarray) -> np.ndarray:
        return variable

    def assign(self, variable: np.ndarray, value: Any) -> None:
        """Copies, unless the value was made in place."""
        if value is not variable:
            np.copyto(variable, value)
