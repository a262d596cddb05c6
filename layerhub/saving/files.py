"""Files that are whole or not there: written beside, then moved into place; and files that are read in place.

A draft is called ``.m.keras.0123….layerhub-draft``. Who writes it holds a lock on it, so that the next one who saves to
the same place can tell a draft that a killed process left behind, and removes it.
"""

from __future__ import annotations

import io
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np

from layerhub.errors import FileFormatError, ParameterError, StorageError

try:
    import fcntl
except ImportError:  # on Windows, where an open file cannot be removed
    fcntl = None  # type: ignore[assignment]

DRAFT = ".layerhub-draft"
PIECE = 1 << 25
"""How many bytes are mapped, or copied, at a time."""
SMALL = 1 << 16
"""Fewer bytes than these are read rather than mapped."""


# Writing


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file, which takes the place of ``path`` once it is whole and on the disk; an error leaves all as it was.

    Raises ParameterError for a path that no file can have, and StorageError where the system refuses to write.
    """
    target = Path(path).resolve()  # a link stays one
    if not target.parent.is_dir():
        raise ParameterError(f"there is no folder {str(target.parent)!r} to save to")
    if target.is_dir():
        raise ParameterError(f"{str(target)!r} is a folder; give the name of a file")
    try:
        _sweep(target)
        with _draft(target) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, file.name)
            if fcntl is None:
                file.close()  # Windows moves no file that is open
            os.replace(file.name, target)
        _settle(target.parent)
    except OSError as problem:
        if isinstance(problem, StorageError):
            raise
        raise StorageError(
            problem.errno, f"{path} cannot be written: {problem.strerror or problem}; what was there is as it was"
        ) from problem


@contextmanager
def _draft(target: Path) -> Iterator[IO[bytes]]:
    """A new file beside the target, locked while it is written; it is gone afterwards, unless it was moved."""
    while True:
        # A name may have 255 bytes.
        draft = target.with_name(f"{_stem(target)}{uuid4().hex}{DRAFT}")
        file: IO[bytes] = open(draft, "x+b")  # noqa: SIM115
        if _lock(file) is not False and draft.exists():
            break
        file.close()  # someone took it for an old one
    try:
        with file:
            yield file
    finally:
        draft.unlink(missing_ok=True)


def _stem(target: Path) -> str:
    return f".{os.fsencode(target.name)[:150].decode('utf-8', 'ignore')}."


def _sweep(target: Path) -> None:
    """Remove the drafts of a target whose writers are no more, as far as that can be told."""
    with suppress(OSError):
        for entry in list(os.scandir(target.parent)):
            ours = entry.name.startswith(_stem(target)) and entry.name.endswith(DRAFT)
            if not ours or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(OSError):
                if fcntl is None:
                    os.unlink(entry.path)
                    continue
                with open(entry.path, "r+b") as file:
                    if _lock(file):
                        os.unlink(entry.path)


def _lock(file: IO[bytes]) -> bool | None:
    """Lock a file until it is closed or the process ends. False: someone else has locked it. None: no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _settle(folder: Path) -> None:
    """Have the disk know the folder's new entry, where the system can say so."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        with suppress(OSError):
            os.fsync(handle)
        os.close(handle)


class Sink(io.RawIOBase):
    """A file to write to, for a library that must not be told of failures, and goes wrong after them.

    ``problem`` is the first failure; what is written after it is lost. ``raised`` raises it.
    """

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.problem: OSError | None = None

    def _try(self, act: Any, otherwise: Any) -> Any:
        if self.problem is None:
            try:
                return act()
            except OSError as problem:
                self.problem = problem
        return otherwise

    def write(self, data: Any) -> int:
        return self._try(lambda: self.file.write(data), memoryview(data).nbytes)

    def readinto(self, buffer: Any) -> int:
        return self._try(lambda: self.file.readinto(buffer), 0)  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(lambda: self.file.seek(offset, whence), offset)

    def tell(self) -> int:
        return self._try(self.file.tell, 0)

    def truncate(self, size: int | None = None) -> int:
        return self._try(lambda: self.file.truncate(size), size or 0)

    def flush(self) -> None:
        self._try(self.file.flush, None)

    def raised(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.problem is not None:
            raise self.problem


# Reading


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to read. Raises FileFormatError where there is none, or none that may be read."""
    try:
        if not os.path.isfile(path) and os.path.exists(path):
            raise FileFormatError(f"{path} cannot be read: it is no file")  # a pipe would be waited for
        file = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as problem:
        if isinstance(problem, FileFormatError):
            raise
        raise FileFormatError(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    with file:
        yield file


class Window(io.RawIOBase):
    """A part of a file, as a file to read. It is read in place.

    ``problem`` is the first failure of the disk, of which libraries are not told (see ``Sink``).
    """

    def __init__(self, file: IO[bytes], start: int = 0, length: int | None = None):
        self.file, self.start = file, start
        self.length = file.seek(0, os.SEEK_END) - start if length is None else length
        self._place = 0
        self.problem: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self.length)[whence])
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; what lies behind the end are zeros, so that nothing depends on what was in memory."""
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self.length - self._place))
        try:
            self.file.seek(self.start + self._place)
            count = self.file.readinto(view[:count])  # type: ignore[attr-defined]
        except OSError as problem:
            self.problem, count = self.problem or problem, 0
        view[count:] = bytes(len(view) - count)
        self._place += count
        return count

    def fill(self, array: np.ndarray, offset: int) -> None:
        """Fill an array with the bytes from an offset on, mapped piece by piece, so that they are in memory once.

        Raises FileFormatError where there are fewer bytes.
        """
        if offset < 0 or offset + array.nbytes > self.length:
            raise FileFormatError(f"it ends before byte {offset + array.nbytes}, which an array was to reach")
        whole = array.reshape(-1).view(np.uint8)
        for begin in range(0, whole.size, PIECE):
            piece = whole[begin : begin + PIECE]
            self._fill(piece, self.start + offset + begin)

    def _fill(self, piece: np.ndarray, place: int) -> None:
        if piece.size >= SMALL:
            skipped = place % mmap.ALLOCATIONGRANULARITY
            try:
                handle = self.file.fileno()
                mapped = mmap.mmap(handle, skipped + piece.size, access=mmap.ACCESS_READ, offset=place - skipped)
            except (OSError, ValueError):
                pass  # not on a disk, or on one that maps no files
            else:
                with mapped, memoryview(mapped) as view, view[skipped:] as data:
                    piece[:] = np.frombuffer(data, np.uint8)
                return
        self.file.seek(place)
        if self.file.readinto(piece.data) != piece.size:  # type: ignore[attr-defined]
            raise FileFormatError("it was cut off while it was read")
