"""Figures, weights and the graph for TensorBoard. Its library, ``tensorboard``, is imported when training begins."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from layerhub.callbacks import given
from layerhub.callbacks.base import Callback, figures_so_far
from layerhub.callbacks.rates import rates
from layerhub.errors import MissingPackageError, ParameterError
from layerhub.spec.core import Embedding

_numbers = count()
BINS = 30
"""How many bars a histogram has; as many as TensorBoard's own."""


class TensorBoard(Callback):
    """Writes event files for TensorBoard, in the folders ``train`` and ``validation`` of ``log_dir``.

    For each epoch the figures (``epoch_loss``), and the learning rate; after each evaluation its figures by the number
    of training steps (``evaluation_loss_vs_iterations``). Needs ``pip install tensorboard``, and no framework.

    histogram_freq: in so many epochs, how the elements of each weight are distributed; 0 for never. write_images: with
    them, the weights as pictures. write_graph: the model's graph, as its JSON. write_steps_per_second: how fast it
    goes. update_freq: "epoch"; or, for figures of batches (``batch_loss``) too, "batch" or after how many batches.
    embeddings_freq: in so many epochs, the tables of Embedding layers, for the projector; embeddings_metadata: the file
    that says what their rows are, or one for each layer by name. profile_batch: 0; profilers belong to the frameworks.
    """

    figures = False

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: int | str = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: str | Mapping[str, str] | None = None,
        **others: Any,
    ):
        who = "TensorBoard"
        gone = dict.fromkeys(("batch_size", "write_grads", "embeddings_layer_names", "embeddings_data"))
        given.old(who, others, gone, given.arguments(type(self).__init__))
        if profile_batch:
            raise ParameterError(
                f"{who}: profile_batch must be 0, not {profile_batch!r}: a profiler belongs to the "
                "framework that runs the model; use its own"
            )
        self.log_dir = Path(log_dir)
        self.histogram_freq = given.whole(who, "histogram_freq", histogram_freq)
        self.embeddings_freq = given.whole(who, "embeddings_freq", embeddings_freq)
        self.embeddings_metadata = embeddings_metadata
        self.write_graph, self.write_images = write_graph, write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = given.frequency(who, "update_freq", 1 if update_freq == "batch" else update_freq)
        self._files: dict[str, EventFile] = {}
        self._batches = given.Every(self.update_freq)
        self._fitting = False

    def hears(self, hook: str) -> bool:
        return hook != "on_train_batch_end" or self.update_freq is not None

    def on_train_begin(self, logs: dict | None = None) -> None:
        library()
        self.abandoned()
        self._batches, self._fitting = given.Every(self.update_freq), True
        if self.write_graph:
            self._file("train").graph(self.model.to_json())
        if self.embeddings_freq:
            self._describe_embeddings()
        self._clock = Clock()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.abandoned()

    def on_test_end(self, logs: dict | None = None) -> None:
        library()
        file = self._file("validation")
        for name, value in _each(logs or {}):
            file.scalar(f"evaluation_{name}_vs_iterations", value, self.model.executor.step)
        file.flush()
        if not self._fitting:
            self.abandoned()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not self._batches.due(batch):
            return
        file, found = self._file("train"), figures_so_far(self.model, logs)
        if self.write_steps_per_second:
            found["steps_per_second"] = self._clock.speed(self._batches.all)
        for name, value in _each(found):
            file.scalar(f"batch_{name}", value, self._batches.all)
        file.flush()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._began = (time.perf_counter(), self.model.executor.step)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        trained = {name: value for name, value in (logs or {}).items() if not name.startswith("val_")}
        trained |= rates(self.model)
        if self.write_steps_per_second:
            when, step = self._began
            trained["steps_per_second"] = (self.model.executor.step - step) / (time.perf_counter() - when)
        measured = {name[4:]: value for name, value in (logs or {}).items() if name.startswith("val_")}
        for folder, found in (("train", trained), ("validation", measured)):
            for name, value in _each(found):
                self._file(folder).scalar(f"epoch_{name}", value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._show_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            for layer in self._embeddings():
                np.savetxt(self._table(layer), layer.get_weights()[0], delimiter="\t")
        for file in self._files.values():
            file.flush()

    def abandoned(self) -> None:
        for file in self._files.values():
            file.close()
        self._files, self._fitting = {}, False

    def state(self) -> dict[str, Any]:
        return {"batches": self._batches.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._batches.load(state["batches"])

    def _file(self, folder: str) -> EventFile:
        if folder not in self._files:
            self._files[folder] = EventFile(self.log_dir / folder)
        return self._files[folder]

    def _show_weights(self, epoch: int) -> None:
        file = self._file("train")
        for variable in self.model.weights:
            value = variable.numpy()
            file.histogram(f"{variable.path}/histogram", value, epoch)
            pictures = as_pictures(value) if self.write_images else None
            if pictures is not None:
                file.images(f"{variable.path}/image", pictures, epoch)

    # The projector, which reads tables of text

    def _embeddings(self) -> list[Any]:
        return [layer for layer in self.model.layers if isinstance(layer, Embedding)]

    def _table(self, layer: Any) -> Path:
        return self.log_dir / f"embedding_{layer.label}.tsv"

    def _describe_embeddings(self) -> None:
        told = self.embeddings_metadata
        layers = {layer.label: layer for layer in self._embeddings()}
        unknown = [name for name in told if name not in layers] if isinstance(told, Mapping) else []
        if unknown:
            raise ParameterError(
                f"TensorBoard: embeddings_metadata speaks of {unknown[0]!r}, which is no Embedding layer of "
                f"{self.model.name}; it has: {', '.join(layers) or 'none'}"
            )
        text = ""
        for name, layer in layers.items():
            rows = told.get(name) if isinstance(told, Mapping) else told
            about = {"tensor_name": name, "tensor_path": self._table(layer).name, "metadata_path": rows}
            lines = (f'  {key}: "{value}"\n' for key, value in about.items() if value is not None)
            text += f"embeddings {{\n{''.join(lines)}}}\n"
        self.log_dir.mkdir(parents=True, exist_ok=True)
        (self.log_dir / "projector_config.pbtxt").write_text(text, encoding="utf-8")


class Clock:
    """How many batches pass in a second."""

    def __init__(self) -> None:
        self.when, self.batches = time.perf_counter(), 0

    def speed(self, batches: int) -> float:
        """Since it was asked last, when there were fewer batches."""
        now = time.perf_counter()
        found = (batches - self.batches) / (now - self.when)
        self.when, self.batches = now, batches
        return found


def _each(figures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Figures that are single numbers, by name; those with a value for each class become several."""
    found: list[tuple[str, Any]] = []
    for name, value in figures.items():
        several = isinstance(value, (list, tuple))
        found += _each({f"{name}_{k}": part for k, part in enumerate(value)}) if several else [(name, value)]
    return found


def library() -> Any:
    """The messages that event files are made of. Raises MissingPackageError."""
    try:
        return import_module("tensorboard.compat.proto.event_pb2")
    except ImportError:
        raise MissingPackageError(
            "TensorBoard files need tensorboard: pip install 'layerhub[tensorboard]', or pip install tensorboard"
        ) from None


class EventFile:
    """A new event file in a folder.

    tensorboard's own writer would import tensorflow where that is installed; its records and messages are used here,
    and no more of it.
    """

    def __init__(self, folder: Path):
        self._messages = library()
        self._summaries = import_module("tensorboard.compat.proto.summary_pb2")
        self._tensor = import_module("tensorboard.util.tensor_util").make_tensor_proto
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._records = import_module("tensorboard.summary.writer.record_writer").RecordWriter(
            open(folder / name, "xb")  # noqa: SIM115
        )
        self._write(file_version="brain.Event:2")
        self.flush()

    def _write(self, **content: Any) -> None:
        self._records.write(self._messages.Event(wall_time=time.time(), **content).SerializeToString())

    def _value(self, tag: str, value: Any, step: int, plugin: str, content: bytes = b"", kind: int = 0) -> None:
        """A value under a tag. plugin: the part of TensorBoard that shows it. kind: a class of data."""
        summary = self._summaries.Summary()
        shown = self._summaries.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
        about = self._summaries.SummaryMetadata(plugin_data=shown, data_class=kind)
        summary.value.add(tag=tag, tensor=self._tensor(value), metadata=about)
        self._write(step=int(step), summary=summary)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """A number."""
        self._value(tag, np.float32(value), step, "scalars", kind=self._summaries.DATA_CLASS_SCALAR)

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        """How values are distributed: (from, to, how many) of each bar. What is not finite is left out."""
        values = np.asarray(values, dtype=np.float64)
        counts, edges = np.histogram(values[np.isfinite(values)], BINS)
        bars = np.stack([edges[:-1], edges[1:], counts.astype(np.float64)], axis=1)
        self._value(tag, bars, step, "histograms", kind=self._summaries.DATA_CLASS_TENSOR)

    def images(self, tag: str, images: np.ndarray, step: int) -> None:
        """Grey pictures (number, height, width) of bytes: the first three of them."""
        height, width = images.shape[1:]
        parts = [str(width).encode(), str(height).encode(), *map(_png, images[:3])]
        self._value(tag, parts, step, "images", kind=self._summaries.DATA_CLASS_BLOB_SEQUENCE)

    def graph(self, text: str) -> None:
        """A model, as its JSON."""
        self._value("keras", text.encode(), 0, "graph_keras_model", b"1")

    def flush(self) -> None:
        """Have others see what was written."""
        self._records.flush()

    def close(self) -> None:
        """No more is written."""
        self._records.close()


def as_pictures(weight: np.ndarray) -> np.ndarray | None:
    """A weight as grey pictures (number, height, width), from its least element to its largest; None where it is none.

    A matrix lies on its longer side; of a kernel over two axes each filter of each channel is one.
    """
    value = np.squeeze(np.asarray(weight, dtype=np.float64))
    if value.ndim == 1:
        value = value[None, None]
    elif value.ndim == 2:
        value = (value if value.shape[0] <= value.shape[1] else value.T)[None]
    elif value.ndim in (3, 4):
        height, width = value.shape[:2]
        value = np.moveaxis(value.reshape(height, width, -1), -1, 0)
    if value.ndim != 3 or not value.size or not np.all(np.isfinite(value)):
        return None
    low, high = value.min(), value.max()
    return np.round((value - low) * (255 / (high - low or 1.0))).astype(np.uint8)


def _png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file, by the library that tensorboard brings along for it."""
    buffer = io.BytesIO()
    import_module("PIL.Image").fromarray(picture).save(buffer, "png")
    return buffer.getvalue()
