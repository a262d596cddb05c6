"""``.keras`` archives: a zip file with metadata.json, config.json and model.weights.h5, as Keras 3 has it.

Members are never unpacked under a name of theirs, and no more of them than their stored bytes can account for. The
weights are read where they lie in the archive; checksums are checked first.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from layerhub.errors import FileFormatError
from layerhub.saving import text
from layerhub.saving.files import Window

MAGIC = b"PK\x03\x04"
METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
EXPANSION = 100
"""How many times larger than its stored bytes a member may be, beyond ``SPARE``."""
SPARE = 1 << 20
HEADER = 30
"""How many bytes stand before the name of a member; the last four are the lengths of its name and its extra field."""


def write(
    file: IO[bytes], metadata: Mapping[str, Any], config: Mapping[str, Any], weights: Callable[[IO[bytes]], None]
) -> None:
    """Write an archive. Nothing is compressed, as in Keras. weights: writes them to a file."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in ((METADATA, metadata), (CONFIG, config)):
            # Without a date, so that the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), json.dumps(content))
        # HDF5 is not written from front to back, as a member has to be. The part has no name that could stay behind.
        with tempfile.TemporaryFile(dir=Path(file.name).parent) as part:
            weights(part)
            info = zipfile.ZipInfo(WEIGHTS)
            info.file_size = part.seek(0, os.SEEK_END)
            part.seek(0)
            with archive.open(info, "w") as member:
                shutil.copyfileobj(part, member, SPARE)


class Archive(NamedTuple):
    """What an archive holds. weights: an HDF5 file."""

    metadata: dict[str, Any]
    config: dict[str, Any]
    weights: Window


@contextmanager
def reading(file: IO[bytes], name: str) -> Iterator[Archive]:
    """An archive's contents. name: what errors call it. Raises FileFormatError for whatever cannot be read."""
    with ExitStack() as stack:
        yield _read(file, name, stack)


def _read(file: IO[bytes], name: str, stack: ExitStack) -> Archive:
    try:
        with zipfile.ZipFile(file) as archive:
            _check(archive)
            metadata, config = (_parsed(archive, member) for member in (METADATA, CONFIG))
            return Archive(metadata, config, _weights(archive, file, stack))
    except FileFormatError as problem:
        raise FileFormatError(f"{name}: {problem}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, IndexError) as problem:
        raise FileFormatError(f"{name} is no .keras archive, or is damaged: {problem}") from None


def _check(archive: zipfile.ZipFile) -> None:
    counts = Counter(archive.namelist())
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise FileFormatError(f"the archive has {twice} twice")
    for name in counts:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise FileFormatError(f"the archive's member {name!r} leads out of the archive")
    for name in (CONFIG, WEIGHTS):
        if name not in counts:
            raise FileFormatError(f"the archive has no {name}; it has {', '.join(counts) or 'nothing'}")


def _info(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """What the archive says of a member, of which it may not claim too much."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileFormatError(f"{name} is packed by method {info.compress_type}; stored and deflated are known")
    if info.file_size > SPARE + EXPANSION * info.compress_size:
        raise FileFormatError(f"{name} claims {info.file_size} bytes, of which {info.compress_size} are stored")
    return info


def _weights(archive: zipfile.ZipFile, file: IO[bytes], stack: ExitStack) -> Window:
    """The weights, checked against their checksum: in their place in the archive, or unpacked if they are deflated."""
    info = _info(archive, WEIGHTS)
    stored = info.compress_type == zipfile.ZIP_STORED
    unpacked = None if stored else stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    with archive.open(info) as member:
        while piece := member.read(SPARE):
            if unpacked is not None:
                unpacked.write(piece)
    if unpacked is not None:
        return Window(unpacked)
    file.seek(info.header_offset)
    header = file.read(HEADER)
    lengths = int.from_bytes(header[-4:-2], "little") + int.from_bytes(header[-2:], "little")
    return Window(file, info.header_offset + HEADER + lengths, info.file_size)


def _parsed(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """A member that is a JSON object; an empty one where there is no such member."""
    if name not in archive.namelist():
        return {}
    info = _info(archive, name)
    if info.file_size > text.LIMIT:
        raise FileFormatError(f"{name} claims {info.file_size} bytes; more than {text.LIMIT} are not read")
    return text.json_object(archive.read(info), name)
