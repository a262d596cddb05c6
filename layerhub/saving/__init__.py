"""Files: whole models and their weights, in the layouts of Keras 3 and 2; weights in safetensors.

Reading a file runs none of its code. A file that cannot be read, or does not fit, changes nothing; a file that is
written replaces what was there once it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from layerhub import __version__
from layerhub.errors import FileFormatError, ParameterError
from layerhub.saving import archive, dialect, files, hdf5, legacy, tensors, training, weights

KERAS = "3.15.1"
"""The version of Keras whose layouts these are."""

PathLike = str | os.PathLike[str]
OLD = (".h5", ".hdf5")
"""The suffixes of files in Keras 2's layout."""


class Held(NamedTuple):
    """What a file holds of a model.

    entry: its config. compiled: how it was compiled. weights: an HDF5 file; old: in Keras 2's layout. numbers: where
    training stands. name: what errors call the file.
    """

    entry: Mapping[str, Any]
    compiled: Mapping[str, Any] | None
    weights: files.Window
    numbers: Mapping[str, Any]
    old: bool
    name: str


def save_model(model: Any, entry: Mapping[str, Any], path: PathLike) -> None:
    """Write a model to a ``.keras`` archive, or to ``.h5``. entry: the model as ``serialize_model`` describes it."""
    suffix = Path(path).suffix
    if suffix not in (".keras", *OLD):
        raise ParameterError(f"{model.name}: a model is saved as a file with the suffix .keras, not {str(path)!r}")
    hdf5.library()
    with files.replacing(path) as file:
        if suffix == ".keras":
            _write_archive(file, model, entry)
            return
        with hdf5.writing(file) as opened:
            legacy.write_model(opened, model, entry, KERAS)


def _write_archive(file: IO[bytes], model: Any, entry: Mapping[str, Any]) -> None:
    arrays, numbers = training.state_of(model)
    compiled = training.compile_config(model)
    config = dict(entry) | ({} if compiled is None else {"compile_config": compiled})
    metadata = {"keras_version": KERAS, "layerhub": {"version": __version__, "training": numbers}}

    def write_weights(part: IO[bytes]) -> None:
        with hdf5.writing(part) as opened:
            hdf5.write(opened, chain(weights.arrays_of(model), arrays.items()), weights.names_of(model))

    archive.write(file, metadata, config, write_weights)


@contextmanager
def reading_model(path: PathLike) -> Iterator[Held]:
    """What a file holds of a model; its content says of which kind it is. Raises FileFormatError for any other file."""
    name = str(path)
    with files.opened(path) as file:
        start = file.read(len(hdf5.MAGIC))
        if start != hdf5.MAGIC:
            with archive.reading(file, name) as found:
                yield Held(found.config, found.config.get("compile_config"), found.weights, _told(found), False, name)
            return
        window = files.Window(file)
        with hdf5.reading(window, name) as opened:
            if not legacy.recognised(opened):
                raise FileFormatError("it has weights alone; make the model, and let it load_weights")
            entry, compiled = legacy.entry_in(opened), legacy.compiled_in(opened)
        yield Held(entry, compiled, window, {}, True, name)


def as_meant(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model that a text describes, as it is said now, where the text says that Keras 1 or 2 wrote it."""
    return legacy.modern(entry) if dialect.is_old(entry) else entry


def _told(held: archive.Archive) -> dict[str, Any]:
    """What an archive says of training. Raises FileFormatError."""
    own = held.metadata.get("layerhub", {})
    found = own.get("training", {}) if isinstance(own, dict) else own
    if not isinstance(found, dict):
        raise FileFormatError(
            f"what the archive's {archive.METADATA} says of training is no JSON object: {found!r:.100}"
        )
    return found


def restore(model: Any, held: Held, objects: Mapping[str, Any], compile: bool) -> None:
    """Give a model that was made from a file's config what else the file holds."""
    compiled = bool(compile and held.compiled)
    if compiled:
        training.compile_from(model, held.compiled or {}, objects)
    with hdf5.reading(held.weights, held.name) as opened:
        weights.assign(_values(opened, model))
        if compiled:
            row = legacy.optimizer_in(opened) if held.old else None
            training.resume(model, training.read(model, opened, held.numbers, row))


def _values(opened: Any, model: Any, by_name: bool = False, skip_mismatch: bool = False) -> weights.Values:
    if legacy.recognised(opened):
        return legacy.read(opened, model, by_name, skip_mismatch)
    if by_name or skip_mismatch:
        raise ParameterError(
            f"{model.name}: by_name and skip_mismatch are for files in Keras 2's layout (.h5), which name their layers"
        )
    return weights.read(opened, model)


def save_weights(model: Any, path: PathLike) -> None:
    """Write the weights of a model to ``.weights.h5``, to ``.safetensors``, or to ``.h5`` in Keras 2's layout."""
    suffix = Path(path).suffix
    if suffix not in (*OLD, ".safetensors"):
        raise ParameterError(f"{model.name}: weights are saved as .weights.h5 or .safetensors, not {str(path)!r}")
    (tensors if suffix == ".safetensors" else hdf5).library()
    with files.replacing(path) as file:
        if suffix == ".safetensors":
            tensors.write(file, model)
            return
        with hdf5.writing(file) as opened:
            if str(path).endswith(".weights.h5"):
                hdf5.write(opened, weights.arrays_of(model), weights.names_of(model))
            else:
                legacy.write_weights(opened, model, KERAS)


def load_weights(model: Any, path: PathLike, by_name: bool = False, skip_mismatch: bool = False) -> None:
    """Give a model the weights of a file: HDF5, safetensors, or a ``.keras`` archive. Its content says which."""
    weights.assign(_weights_in(model, path, by_name, skip_mismatch))


def _weights_in(model: Any, path: PathLike, by_name: bool, skip_mismatch: bool) -> weights.Values:
    name = str(path)
    with files.opened(path) as file, ExitStack() as stack:
        start = file.read(9)
        file.seek(0)
        if start.startswith(archive.MAGIC):
            window = stack.enter_context(archive.reading(file, name)).weights
        elif tensors.recognised(start):
            return tensors.read(file, name, model)
        elif start.startswith(hdf5.MAGIC):
            window = files.Window(file)
        else:
            raise FileFormatError(f"{name} holds no weights: it is neither HDF5, nor safetensors, nor a .keras archive")
        with hdf5.reading(window, name) as opened:
            return _values(opened, model, by_name, skip_mismatch)
