"""What Keras has in ``keras.utils``, as far as models need it: one-hot labels, padded sequences, pictures of models.

All of it works on the host, with ndarrays.
"""

from __future__ import annotations

from collections.abc import Sequence as Listed
from typing import Any

import numpy as np

from layerhub.data import pack_x_y_sample_weight, unpack_x_y_sample_weight
from layerhub.errors import DataError
from layerhub.seeds import set_random_seed

__all__ = [
    "PyDataset",
    "Sequence",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "set_random_seed",
    "to_categorical",
    "unpack_x_y_sample_weight",
]


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Class numbers, 0 and up, as rows of float32 with a one at the class: (…,) -> (…, num_classes).

    A last axis of size 1 is left out first. num_classes: None takes one more than the largest number.
    Raises DataError for what are no class numbers, or too large.
    """
    classes = np.asarray(x)
    if classes.dtype.kind not in "iub" and not (
        classes.dtype.kind == "f" and np.array_equal(classes, np.trunc(classes))
    ):
        raise DataError(f"to_categorical: class numbers are whole, not {_first(classes, classes != np.trunc(classes))}")
    classes = classes.astype(np.int64)
    if classes.ndim > 1 and classes.shape[-1] == 1:
        classes = classes[..., 0]
    if num_classes is None:
        num_classes = int(classes.max(initial=-1)) + 1
    outside = (classes < 0) | (classes >= num_classes)
    if outside.any():
        raise DataError(
            f"to_categorical: the class {_first(classes, outside)} is not among {num_classes} classes, "
            f"which are numbered from 0 to {num_classes - 1}"
        )
    return np.eye(num_classes, dtype=np.float32)[classes]


def _first(x: np.ndarray, where: np.ndarray) -> Any:
    """The first element of which something holds."""
    return x[where].flat[0].item()


def normalize(x: Any, axis: int = -1, order: int | float = 2) -> np.ndarray:
    """x over its norm along an axis; where that is 0, x as it is. order: of the norm, such as 1, 2 or inf."""
    x = np.atleast_1d(np.asarray(x))
    norm = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norm == 0, 1, norm)


def pad_sequences(
    sequences: Listed[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Sequences of different lengths as one array, (samples, maxlen, …), filled up with ``value``.

    maxlen: None takes the longest. padding, truncating: the end, "pre" or "post", that is filled up or cut off.
    Raises DataError for any other word, and for sequences whose steps have different shapes.
    """
    for what, given in ("padding", padding), ("truncating", truncating):
        if given not in ("pre", "post"):
            raise DataError(f"pad_sequences: {what} must be 'pre' or 'post', not {given!r}")
    rows = [np.asarray(row) for row in sequences]
    flat = next((row for row in rows if row.ndim == 0), None)
    if flat is not None:
        raise DataError(f"pad_sequences: each sequence is a list of steps, not {flat.item()!r}")
    shapes = {row.shape[1:] for row in rows if len(row)}
    if len(shapes) > 1:
        raise DataError(f"pad_sequences: the steps have different shapes: {', '.join(map(str, sorted(shapes)))}")
    length = max(map(len, rows), default=0) if maxlen is None else maxlen
    padded = np.full((len(rows), length, *next(iter(shapes), ())), value, dtype)
    for place, row in zip(padded, rows, strict=True):
        if len(row) and length:
            kept = row[-length:] if truncating == "pre" else row[:length]
            place[slice(length - len(kept), None) if padding == "pre" else slice(len(kept))] = kept
    return padded


class PyDataset:
    """Batches by number, for ``fit``, ``evaluate`` and ``predict``: override ``__len__`` and ``__getitem__``.

    ``__getitem__(k)`` gives the batch (x, y) or (x, y, sample_weight), for k from 0; ``on_epoch_end`` is told after
    each pass. workers, use_multiprocessing, max_queue_size: accepted as in Keras; batches are made as they are needed.
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size

    def __len__(self) -> int:
        raise DataError(f"{type(self).__name__} must override __len__: the number of batches")

    def __getitem__(self, index: int) -> Any:
        raise DataError(f"{type(self).__name__} must override __getitem__: the batch of a number")

    def on_epoch_end(self) -> None:
        """Told after each pass over the batches."""


Sequence = PyDataset


def plot_model(model: Any, to_file: Any = "model.png", **options: Any) -> Any:
    """A picture of a model; see ``layerhub.plot_model``."""
    from layerhub import visual

    return visual.plot_model(model, to_file, **options)
