"""Arrays in HDF5 files, by their paths. The library ``h5py`` is imported when it is first needed.

A file is not trusted: links to elsewhere, arrays kept outside of it, arrays that claim far more than is stored, and
whatever the library cannot read are a FileFormatError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any

import numpy as np

from layerhub.errors import FileFormatError, LayerHubError, MissingPackageError, WeightsError

MAGIC = b"\x89HDF\r\n\x1a\n"
EXPANSION = 1000
"""How many times larger than its stored bytes an array may be, beyond ``SPARE``: more than any compression gives."""
SPARE = 1 << 24


def library() -> Any:
    """h5py. Raises MissingPackageError."""
    try:
        return import_module("h5py")
    except ImportError:
        raise MissingPackageError("HDF5 files need h5py: pip install 'layerhub[files]'") from None


@contextmanager
def reading(file: IO[bytes], name: str) -> Iterator[Any]:
    """An HDF5 file, opened. name: what errors call it. Raises FileFormatError for whatever cannot be read."""
    h5py = library()
    try:
        with h5py.File(file, "r") as opened:
            yield opened
    except FileFormatError as problem:
        raise FileFormatError(f"{name}: {problem}") from None
    except LayerHubError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as problem:
        raise FileFormatError(f"{name} is no HDF5 file, or is damaged: {problem}") from problem


@contextmanager
def writing(file: IO[bytes]) -> Iterator[Any]:
    """A new HDF5 file."""
    with library().File(file, "w") as opened:
        yield opened


def write(opened: Any, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write arrays by path. attributes: of groups, by path."""
    for path, array in arrays.items():
        opened.create_dataset(path, data=array)
    for path, values in attributes.items():
        opened.require_group(path).attrs.update(values)


def member(group: Any, path: str) -> Any:
    """What is at a path, links to elsewhere excluded; None if nothing is."""
    h5py = library()
    for part in path.split("/"):
        if not isinstance(group, h5py.Group) or part not in group:
            return None
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise FileFormatError(f"{path} is a link to elsewhere, which is not followed")
        group = group[part]
    return group


def names(opened: Any, path: str) -> list[str]:
    """The names in a group; none where there is no such group."""
    group = member(opened, path)
    if group is not None and not isinstance(group, library().Group):
        raise FileFormatError(f"{path} is no group")
    return list(group or ())


def numbered(opened: Any, path: str) -> list[Any]:
    """The datasets 0, 1, 2, … of a group. Raises FileFormatError where a number is missing."""
    known = names(opened, path)
    found = [member(opened, f"{path}/{k}") for k in range(len(known))]
    if any(dataset is None for dataset in found):
        raise FileFormatError(f"{path} has {', '.join(known)}; the numbers from 0 on were expected")
    return found


def has_arrays(group: Any) -> bool:
    """Whether there is an array in a group, or in one within it."""
    h5py = library()
    if isinstance(group, h5py.Dataset):
        return True
    return any(has_arrays(member(group, name)) for name in group) if isinstance(group, h5py.Group) else False


def array(dataset: Any, path: str, shape: tuple[int, ...], owner: str) -> np.ndarray:
    """A dataset of numbers of this shape, which is checked before anything is read. owner: what needs it.

    Raises WeightsError for another shape, FileFormatError for what is no such array.
    """
    if not isinstance(dataset, library().Dataset):
        raise FileFormatError(f"there is no array {path}, which {owner} needs")
    if dataset.external or dataset.is_virtual:
        raise FileFormatError(f"the array {path} is kept in another file, which is not opened")
    if dataset.shape != shape:
        raise WeightsError(f"{owner} has shape {shape}, the file's {path} has {dataset.shape}; nothing was changed")
    short = dataset.attrs.get("dtype") == "bfloat16" and dataset.dtype.itemsize == 2
    if dataset.dtype.kind not in "fiub" and not short:
        raise FileFormatError(f"the array {path} holds {dataset.dtype}; numbers were expected")
    size = math.prod(shape) * dataset.dtype.itemsize
    if size > SPARE + EXPANSION * dataset.id.get_storage_size():
        raise FileFormatError(f"the array {path} claims {size} bytes, of which next to nothing is stored")
    values = np.asarray(dataset[()])
    return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32) if short else values
