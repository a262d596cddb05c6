"""``.safetensors`` files: weights by name, without code. The library ``safetensors`` is imported when first needed.

A weight is named by its layer's class and number in the model, as in HDF5 files, and its own name: ``dense_1/kernel``.
"""

from __future__ import annotations

from importlib import import_module
from typing import IO, Any

import numpy as np

from layerhub.errors import FileFormatError, MissingPackageError, WeightsError
from layerhub.saving import tree
from layerhub.variable import Variable


def library() -> Any:
    """safetensors' side for numpy. Raises MissingPackageError."""
    try:
        return import_module("safetensors.numpy")
    except ImportError:
        raise MissingPackageError("safetensors files need safetensors: pip install 'layerhub[files]'") from None


def recognised(start: bytes) -> bool:
    """Whether a file that begins so, with 9 bytes, is one of these: the length of a JSON object, then the object."""
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000


def names_of(model: Any) -> dict[str, Variable]:
    """The weights of a model by their names in a file."""
    return {
        f"{path.replace('layers/', '')}/{variable.name}": variable
        for path, layer in tree.layers_of(model)
        for variable in (layer.store.variables if layer.held else ())
    }


def write(file: IO[bytes], model: Any) -> None:
    """Write the weights of a model."""
    arrays = {name: np.ascontiguousarray(variable.numpy()) for name, variable in names_of(model).items()}
    file.write(library().save(arrays, {"format": "layerhub"}))


def read(file: IO[bytes], name: str, model: Any) -> list[tuple[Variable, np.ndarray]]:
    """The values that a file has for the weights of a model. name: what errors call the file.

    Raises FileFormatError for a file that is damaged, and WeightsError where its weights are not the model's.
    """
    load = library().load
    try:
        found = load(file.read())
    except (import_module("safetensors").SafetensorError, ValueError, TypeError, KeyError, OverflowError) as problem:
        raise FileFormatError(f"{name} is no safetensors file, or is damaged: {problem}") from None
    wanted = names_of(model)
    missing, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or more:
        raise WeightsError(
            f"{name} has other weights than {model.name}: without {', '.join(missing) or 'none'}, with "
            f"{', '.join(more) or 'none'} besides; nothing was changed"
        )
    return [(variable, found[key]) for key, variable in wanted.items()]
