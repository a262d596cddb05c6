"""Files that are whole or not there: written beside, then moved into place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from layerhub.errors import FileFormatError, ParameterError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file, which takes the place of ``path`` once it is whole and on the disk; an error leaves all as it was."""
    target = Path(path).resolve()  # a link stays one
    if not target.parent.is_dir():
        raise ParameterError(f"there is no folder {str(target.parent)!r} to save to")
    if target.is_dir():
        raise ParameterError(f"{str(target)!r} is a folder; give the name of a file")
    draft = target.with_name(f".{uuid4().hex}{target.suffix}")
    try:
        with open(draft, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
        _settle(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Have the disk know the folder's new entry, where the system can say so."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to read. Raises FileFormatError where there is none, or none that may be read."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as problem:
        raise FileFormatError(f"{path} cannot be read: {problem.strerror}") from None
    with file:
        yield file
