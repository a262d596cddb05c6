"""``.safetensors`` files: weights by name, without code. The library ``safetensors`` is imported when first needed.

A weight is named by its layer's class and number in the model, as in HDF5 files, and its own name: ``dense_1/kernel``.
A file is the length of a JSON object, the object, which says where each array lies, and the arrays. The library checks
that, before a file is read and after it was written; the arrays go past it, one at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import import_module
from typing import IO, Any

import numpy as np

from layerhub.errors import FileFormatError, MissingPackageError, WeightsError
from layerhub.saving import text, tree
from layerhub.saving.files import Window
from layerhub.saving.weights import Values
from layerhub.variable import Variable

TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "<u1",
}  # fmt: skip
"""The types of arrays, as numpy reads their bytes."""
NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int16": "I16",
    "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL"}  # fmt: skip
COUNT = 8
"""How many bytes say how long the object is."""


def library() -> Any:
    """safetensors. Raises MissingPackageError."""
    try:
        return import_module("safetensors")
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
    safetensors = library()
    weights = names_of(model)
    # Larger types first, so that each array lies at a multiple of its type's size; then by name, as the library does.
    order = sorted(weights, key=lambda name: (-_stored(weights[name]).itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "layerhub"}}
    end = 0
    for name in order:
        dtype, shape = _stored(weights[name]), weights[name].shape
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype.name], "shape": list(shape), "data_offsets": [begin, end]}
    said = json.dumps(header, separators=(",", ":")).encode()
    said += b" " * (-len(said) % COUNT)
    file.write(len(said).to_bytes(COUNT, "little") + said)
    for name in order:
        array = np.ascontiguousarray(weights[name].view()).astype(_stored(weights[name]).newbyteorder("<"), copy=False)
        file.write(array.reshape(-1).view(np.uint8).data)
    file.flush()
    with safetensors.safe_open(file.name, "numpy"):
        pass


def _stored(variable: Variable) -> np.dtype:
    """The type of a weight on the host."""
    return np.dtype("float32" if variable.dtype == "bfloat16" else variable.dtype)


def read(file: IO[bytes], name: str, model: Any) -> Values:
    """The values that a file has for the weights of a model. name: what errors call the file.

    Raises FileFormatError for a file that is damaged, and WeightsError where its weights are not the model's.
    """
    wanted = names_of(model)
    window = Window(file)
    header, begin = _header(window, file.name, name)
    missing, more = sorted(wanted.keys() - header.keys()), sorted(header.keys() - wanted.keys())
    if missing or more:
        raise WeightsError(
            f"{name} has other weights than {model.name}: without {_listed(missing)}, with {_listed(more)} besides; "
            "nothing was changed"
        )
    try:
        return [(v, v.check(_array(window, begin, header[key], v))) for key, v in wanted.items()]
    except (FileFormatError, KeyError, TypeError) as problem:
        raise FileFormatError(f"{name}: {problem}") from None


def _listed(names: list[str]) -> str:
    return ", ".join([*names[:9], "…"] if len(names) > 9 else names) or "none"


def _header(window: Window, path: str, name: str) -> tuple[dict[str, Any], int]:
    """What a file says of its arrays, which the library has checked; and where they begin."""
    safetensors = library()
    window.seek(0)
    length = int.from_bytes(window.read(COUNT), "little")
    if length > text.LIMIT:
        raise FileFormatError(f"{name} has a header of {length} bytes; more than {text.LIMIT} are not read")
    try:
        with safetensors.safe_open(path, "numpy"):
            pass
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, OverflowError, OSError) as problem:
        raise FileFormatError(f"{name} is no safetensors file, or is damaged: {problem}") from None
    header = text.json_object(window.read(length), f"the header of {name}")
    header.pop("__metadata__", None)
    return header, COUNT + length


def _array(window: Window, begin: int, said: Mapping[str, Any], variable: Variable) -> np.ndarray:
    """One array of a file. said: what the header has of it. Raises FileFormatError and WeightsError."""
    shape, kind, (start, end) = tuple(said["shape"]), said["dtype"], said["data_offsets"]
    if shape != variable.shape:
        raise WeightsError(f"{variable.path} has shape {variable.shape}, the file's has {shape}; nothing was changed")
    if kind not in TYPES:
        raise FileFormatError(f"{variable.path} is of type {kind}; known are {', '.join(TYPES)}")
    dtype = np.dtype(TYPES[kind])
    if end - start != math.prod(shape) * dtype.itemsize:
        raise FileFormatError(f"{variable.path} has {end - start} bytes, which are not those of {kind}{list(shape)}")
    found = np.empty(shape, dtype)
    window.fill(found, begin + start)
    if kind == "BF16":
        return (found.astype(np.uint32) << 16).view(np.float32)
    return found != 0 if kind == "BOOL" else found
