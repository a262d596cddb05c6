"""Files: whole models (``.keras``) and their weights (``.weights.h5``), in Keras 3's layouts; safetensors.

Reading a file runs none of its code. A file that cannot be read, or does not fit, changes nothing; a file that is
written replaces what was there once it is complete.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from layerhub import __version__
from layerhub.errors import FileFormatError, ParameterError
from layerhub.saving import archive, files, hdf5, tensors, training, weights
from layerhub.variable import Variable

KERAS = "3.15.1"
"""The version of Keras whose layouts these are."""

PathLike = str | os.PathLike[str]


def save_model(model: Any, entry: Mapping[str, Any], path: PathLike) -> None:
    """Write a model to a ``.keras`` archive. entry: the model as ``serialize_model`` describes it."""
    if Path(path).suffix != ".keras":
        raise ParameterError(f"{model.name}: a model is saved as a file with the suffix .keras, not {str(path)!r}")
    arrays, numbers = training.state_of(model)
    buffer = io.BytesIO()
    hdf5.write(buffer, weights.arrays_of(model) | arrays, weights.names_of(model))
    config = dict(entry)
    compiled = training.compile_config(model)
    if compiled is not None:
        config["compile_config"] = compiled
    metadata = {"keras_version": KERAS, "layerhub": {"version": __version__, "training": numbers}}
    with files.replacing(path) as file:
        archive.write(file, metadata, config, buffer.getvalue())


def read_model(path: PathLike) -> archive.Archive:
    """What a ``.keras`` archive holds. Raises FileFormatError for any other file, whatever its name."""
    with files.opened(path) as file:
        return archive.read(file, str(path))


def restore(model: Any, held: archive.Archive, name: str, objects: Mapping[str, Any], compile: bool) -> None:
    """Give a model that was made from an archive's config what else the archive holds. name: what errors call it."""
    compiled = held.config.get("compile_config") if compile else None
    if compiled:
        training.compile_from(model, compiled, objects)
    with hdf5.reading(io.BytesIO(held.weights), name) as opened:
        weights.assign(weights.read(opened, model))
        if compiled:
            training.restore(model, opened, _told(held))


def _told(held: archive.Archive) -> dict[str, Any]:
    """What an archive says of training. Raises FileFormatError."""
    own = held.metadata.get("layerhub", {})
    found = own.get("training", {}) if isinstance(own, dict) else own
    if not isinstance(found, dict):
        raise FileFormatError(
            f"what the archive's {archive.METADATA} says of training is no JSON object: {found!r:.100}"
        )
    return found


def save_weights(model: Any, path: PathLike) -> None:
    """Write the weights of a model to a ``.weights.h5`` or a ``.safetensors`` file."""
    if Path(path).suffix == ".safetensors":
        with files.replacing(path) as file:
            tensors.write(file, model)
    elif str(path).endswith(".weights.h5"):
        with files.replacing(path) as file:
            hdf5.write(file, weights.arrays_of(model), weights.names_of(model))
    else:
        raise ParameterError(f"{model.name}: weights are saved as .weights.h5 or .safetensors, not {str(path)!r}")


def load_weights(model: Any, path: PathLike) -> None:
    """Give a model the weights of a file: HDF5, safetensors, or a ``.keras`` archive. Its content says which."""
    weights.assign(_weights_in(model, path))


def _weights_in(model: Any, path: PathLike) -> list[tuple[Variable, np.ndarray]]:
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
            return weights.read(opened, model)
