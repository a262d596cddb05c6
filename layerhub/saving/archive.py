"""``.keras`` archives: a zip file with metadata.json, config.json and model.weights.h5, as Keras 3 has it.

Members are read into memory, never unpacked to a disk, and no more of them than their stored bytes can account for.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from layerhub.errors import FileFormatError

MAGIC = b"PK\x03\x04"
METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
EXPANSION = 100
"""How many times larger than its stored bytes a member may be, beyond ``SPARE``."""
SPARE = 1 << 20


def write(file: IO[bytes], metadata: Mapping[str, Any], config: Mapping[str, Any], weights: bytes) -> None:
    """Write an archive. Nothing is compressed, as in Keras."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in ((METADATA, json.dumps(metadata)), (CONFIG, json.dumps(config)), (WEIGHTS, weights)):
            # Without a date, so that the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content)


class Archive(NamedTuple):
    """What an archive holds."""

    metadata: dict[str, Any]
    config: dict[str, Any]
    weights: bytes


def read(file: IO[bytes], name: str) -> Archive:
    """An archive's contents. name: what errors call it. Raises FileFormatError for whatever cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check(archive)
            return Archive(_parsed(archive, METADATA), _parsed(archive, CONFIG), _member(archive, WEIGHTS))
    except FileFormatError as problem:
        raise FileFormatError(f"{name}: {problem}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as problem:
        raise FileFormatError(f"{name} is no .keras archive, or is damaged: {problem}") from None


def _check(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FileFormatError(f"the archive has {twice} twice")
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise FileFormatError(f"the archive's member {name!r} leads out of the archive")
    for name in (CONFIG, WEIGHTS):
        if name not in names:
            raise FileFormatError(f"the archive has no {name}; it has {', '.join(names) or 'nothing'}")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member, checked against its checksum."""
    info = archive.getinfo(name)
    if info.file_size > SPARE + EXPANSION * info.compress_size:
        raise FileFormatError(f"{name} claims {info.file_size} bytes, of which {info.compress_size} are stored")
    return archive.read(info)


def _parsed(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """A member that is a JSON object; an empty one where there is no such member."""
    if name not in archive.namelist():
        return {}
    try:
        found = json.loads(_member(archive, name))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as problem:
        raise FileFormatError(f"{name} is no JSON: {problem}") from None
    if not isinstance(found, dict):
        raise FileFormatError(f"{name} is no JSON object")
    return found
