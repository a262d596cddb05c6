"""Files: whole models and their weights, in the layouts of Keras 3 and 2; weights in safetensors.

Reading a file runs none of its code. A file that cannot be read, or does not fit, changes nothing; a file that is
written replaces what was there once it is complete.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from layerhub import __version__
from layerhub.errors import FileFormatError, ParameterError
from layerhub.saving import archive, files, hdf5, legacy, tensors, training, weights

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
    weights: bytes
    numbers: Mapping[str, Any]
    old: bool
    name: str


def save_model(model: Any, entry: Mapping[str, Any], path: PathLike) -> None:
    """Write a model to a ``.keras`` archive, or to ``.h5``. entry: the model as ``serialize_model`` describes it."""
    suffix = Path(path).suffix
    if suffix == ".keras":
        content = _archived(model, entry)
        with files.replacing(path) as file:
            archive.write(file, *content)
    elif suffix in OLD:
        with files.replacing(path) as file, hdf5.writing(file) as opened:
            legacy.write_model(opened, model, entry, KERAS)
    else:
        raise ParameterError(f"{model.name}: a model is saved as a file with the suffix .keras, not {str(path)!r}")


def _archived(model: Any, entry: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The members of an archive: metadata, config, weights."""
    arrays, numbers = training.state_of(model)
    buffer = io.BytesIO()
    with hdf5.writing(buffer) as opened:
        hdf5.write(opened, weights.arrays_of(model) | arrays, weights.names_of(model))
    compiled = training.compile_config(model)
    config = dict(entry) | ({} if compiled is None else {"compile_config": compiled})
    metadata = {"keras_version": KERAS, "layerhub": {"version": __version__, "training": numbers}}
    return metadata, config, buffer.getvalue()


def read_model(path: PathLike) -> Held:
    """What a file holds of a model; its content says of which kind it is. Raises FileFormatError for any other file."""
    name = str(path)
    with files.opened(path) as file:
        start = file.read(len(hdf5.MAGIC))
        file.seek(0)
        if start != hdf5.MAGIC:
            found = archive.read(file, name)
            return Held(found.config, found.config.get("compile_config"), found.weights, _told(found), False, name)
        content = file.read()
    with hdf5.reading(io.BytesIO(content), name) as opened:
        if not legacy.recognised(opened):
            raise FileFormatError("it has weights alone; make the model, and let it load_weights")
        return Held(legacy.entry_in(opened), legacy.compiled_in(opened), content, {}, True, name)


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
    with hdf5.reading(io.BytesIO(held.weights), held.name) as opened:
        found, stand = _values(opened, model), None
        if compiled:
            stand = training.read(model, opened, held.numbers, legacy.optimizer_in(opened) if held.old else None)
    weights.assign(found)
    if stand is not None:
        training.resume(model, stand)


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
    with files.opened(path) as file:
        start = file.read(9)
        file.seek(0)
        if start.startswith(archive.MAGIC):
            file = io.BytesIO(archive.read(file, name).weights)
        elif tensors.recognised(start):
            return tensors.read(file, name, model)
        elif not start.startswith(hdf5.MAGIC):
            raise FileFormatError(f"{name} holds no weights: it is neither HDF5, nor safetensors, nor a .keras archive")
        with hdf5.reading(file, name) as opened:
            return _values(opened, model, by_name, skip_mismatch)
