"""Arrays in HDF5 files, by their paths. The library ``h5py`` is imported when it is first needed.

A file is not trusted: links to elsewhere, arrays kept outside of it, arrays that claim far more than is stored, filters
that would have to be looked for on the disk, and whatever cannot be read are a FileFormatError. Files as Keras writes
them are read by ``layout``; h5py writes, and reads the layouts that newer libraries have.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any

import numpy as np

from layerhub.errors import FileFormatError, LayerHubError, MissingPackageError, WeightsError
from layerhub.saving import layout, trial
from layerhub.saving.files import Sink, Window

MAGIC = b"\x89HDF\r\n\x1a\n"
EXPANSION = 1000
"""How many times larger than its stored bytes an array may be, beyond ``SPARE``: more than any compression gives."""
SPARE = 1 << 24
ATTRIBUTE = 1 << 26
"""How many bytes an attribute may have."""
PATIENCE, SPEED = 10.0, 10e6
"""How long the library may take to read a file: seconds, and bytes in another one."""
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
"""The filters that h5py brings itself. For another the library would look for a plugin, and run it."""


def library() -> Any:
    """h5py. Raises MissingPackageError."""
    try:
        return import_module("h5py")
    except ImportError:
        raise MissingPackageError("HDF5 files need h5py: pip install 'layerhub[files]'") from None


@contextmanager
def reading(window: Window, name: str) -> Iterator[Any]:
    """The root of an HDF5 file. name: what errors call the file. Raises FileFormatError for whatever cannot be read."""
    h5py = library()
    try:
        window.seek(0)
        if window.read(len(MAGIC)) != MAGIC:
            raise FileFormatError("what should be an HDF5 file is none")
        try:
            root = layout.File(window).root
        except layout.Unknown:
            tried(window)
            with h5py.File(window, "r") as opened:
                yield Foreign(opened, window)
        else:
            yield root
        if window.problem is not None:
            raise window.problem
    except FileFormatError as problem:
        raise FileFormatError(f"{name}: {problem}") from None
    except LayerHubError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as problem:
        raise FileFormatError(f"{name} is no HDF5 file, or is damaged: {problem}") from problem


def tried(window: Window) -> None:
    """Have another process read a file through the library, which dies of some that are damaged, and hangs with others.

    Raises FileFormatError for such a file, and for one that the library refuses.
    """
    command = [sys.executable, "-m", trial.__name__, str(window.start), str(window.length)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    patience = PATIENCE + window.length / SPEED
    try:
        done = subprocess.run(
            command, stdin=window.file, capture_output=True, text=True, timeout=patience, env=environment
        )
    except subprocess.TimeoutExpired:
        raise FileFormatError(f"the HDF5 library did not come to an end with it in {patience:.0f} s") from None
    finally:
        window.file.seek(0, os.SEEK_END)  # the two share a place in the file; what is buffered here is no longer true
    if done.returncode == trial.REFUSED:
        raise FileFormatError(done.stdout.strip() or "the HDF5 library refuses it")
    if done.returncode:
        raise FileFormatError(f"the HDF5 library fails with it (exit code {done.returncode})")


class Foreign:
    """A group or an array that the library reads, with the face of ``layout.Node``."""

    def __init__(self, held: Any, window: Window):
        h5py = library()
        self.held, self.window = held, window
        self.place = h5py.h5o.get_info(held.id).addr
        self.is_group, self.is_array = isinstance(held, h5py.Group), isinstance(held, h5py.Dataset)
        if self.is_array:
            self.shape = held.shape
            self.external = bool(held.external) or held.is_virtual
            self.stored = held.id.get_storage_size()
            usual = held.dtype.kind in "fiub" or held.dtype == np.dtype("V2")
            self.dtype = held.dtype if usual and not held.dtype.hasobject else None

    def names(self) -> list[str]:
        return list(self.held)

    def child(self, name: str) -> Foreign:
        found = self.child_or_none(name)
        if found is None:
            raise FileFormatError(f"{name} is a link to elsewhere, which is not followed")
        return found

    def has(self, attribute: str) -> bool:
        return attribute in self.held.attrs

    def attribute(self, name: str) -> Any:
        found = self.held.attrs.get_id(name)
        count = math.prod(found.shape or ())
        # Texts of any length may all be the same bytes of the file.
        each = self.window.length if found.dtype.hasobject else found.dtype.itemsize
        if count > 1 and count * each > ATTRIBUTE:
            raise FileFormatError(f"the attribute {name} claims {count * each} bytes")
        return self.held.attrs[name]

    def read_all(self) -> None:
        """Read whatever there is in the file, once."""
        waiting, met = [self], set()
        while waiting:
            node = waiting.pop()
            if node.place in met:
                continue
            met.add(node.place)
            for name in node.held.attrs:
                node.attribute(name)
            if node.is_group:
                waiting += [child for child in map(node.child_or_none, node.names()) if child is not None]
            elif node.is_array and not node.external and node.dtype is not None and not node.overstated:
                node.read()

    def child_or_none(self, name: str) -> Foreign | None:
        """A child, if it is no link to elsewhere."""
        hard = isinstance(self.held.get(name, getlink=True), library().HardLink)
        return Foreign(self.held[name], self.window) if hard else None

    @property
    def overstated(self) -> bool:
        """Whether an array claims far more than is stored."""
        return math.prod(self.shape or ()) * self.held.dtype.itemsize > SPARE + EXPANSION * self.stored

    def read(self) -> np.ndarray:
        """The elements of an array: mapped, where they lie in the file as they do in memory."""
        h5py, made = library(), self.held.id.get_create_plist()
        for code in (made.get_filter(number)[0] for number in range(made.get_nfilters())):
            if code not in FILTERS:
                raise FileFormatError(f"it went through the filter {code}; known are {', '.join(FILTERS.values())}")
        place, dtype = self.held.id.get_offset(), self.held.dtype
        plain = dtype.kind in "fiu" and self.held.id.get_type() == h5py.h5t.py_create(dtype)
        if place is None or not plain or self.stored != math.prod(self.shape) * dtype.itemsize:
            return np.asarray(self.held[()])
        found = np.empty(self.shape, dtype)
        self.window.fill(found, place)
        return found


@contextmanager
def writing(file: IO[bytes]) -> Iterator[Any]:
    """A new HDF5 file. Raises OSError where it cannot be written."""
    # After a failure the library goes on as if nothing were, fails again when it closes the file, and tells of that.
    sink = Sink(file)
    with library().File(sink, "w") as opened:
        yield opened
        sink.raised()
    sink.raised()


def write(opened: Any, arrays: Iterable[tuple[str, Any]], attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write arrays by path, one after the other. attributes: of groups, by path."""
    for path, array in arrays:
        opened.create_dataset(path, data=array)
    for path, values in attributes.items():
        opened.require_group(path).attrs.update(values)


def attribute(node: Any, name: str) -> Any:
    """An attribute; None if there is none."""
    return node.attribute(name) if node.has(name) else None


def member(node: Any, path: str) -> Any:
    """What is at a path, links to elsewhere excluded; None if nothing is."""
    for part in path.split("/"):
        if node is None or not node.is_group or part not in node.names():
            return None
        node = node.child(part)
    return node


def names(root: Any, path: str) -> list[str]:
    """The names in a group; none where there is no such group."""
    group = member(root, path)
    if group is not None and not group.is_group:
        raise FileFormatError(f"{path} is no group")
    return group.names() if group is not None else []


def numbered(root: Any, path: str) -> list[Any]:
    """The arrays 0, 1, 2, … of a group. Raises FileFormatError where a number is missing."""
    known = names(root, path)
    found = [member(root, f"{path}/{k}") for k in range(len(known))]
    if any(array is None for array in found):
        raise FileFormatError(f"{path} has {', '.join(known)}; the numbers from 0 on were expected")
    return found


def has_arrays(node: Any) -> bool:
    """Whether there is an array in a group, or in one within it; a group that is within itself is met once."""
    waiting, met = [node], set()
    while waiting:
        found = waiting.pop()
        if found.is_array:
            return True
        if found.is_group and found.place not in met:
            met.add(found.place)
            waiting += map(found.child, found.names())
    return False


def array(node: Any, path: str, shape: tuple[int, ...], owner: str) -> np.ndarray:
    """An array of numbers of this shape, which is checked before anything is read. owner: what needs it.

    Raises WeightsError for another shape, FileFormatError for what is no such array.
    """
    if node is None or not node.is_array:
        raise FileFormatError(f"there is no array {path}, which {owner} needs")
    if node.external:
        raise FileFormatError(f"the array {path} is kept in another file, which is not opened")
    if node.shape != shape:
        raise WeightsError(f"{owner} has shape {shape}, the file's {path} has {node.shape}; nothing was changed")
    dtype = node.dtype
    short = dtype is not None and dtype.itemsize == 2 and _is_text(attribute(node, "dtype"), "bfloat16")
    if dtype is None or (dtype.kind == "V" and not short):
        raise FileFormatError(f"the array {path} holds {dtype or 'something else'}; numbers were expected")
    size = math.prod(shape) * dtype.itemsize
    if size > SPARE + EXPANSION * node.stored:
        raise FileFormatError(f"the array {path} claims {size} bytes, of which next to nothing is stored")
    values = node.read()
    return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32) if short else values


def _is_text(value: Any, text: str) -> bool:
    return isinstance(value, (str, bytes)) and value in (text, text.encode())
