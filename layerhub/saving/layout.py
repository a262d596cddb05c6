"""HDF5 files as Keras and LayerHub write them, read without the HDF5 library.

That library runs into endless loops on some files that are damaged, or made to do so. What is read here, is read with
every length checked against the file, and every structure once: groups with symbol tables or a few links, attributes,
arrays that are contiguous, compact, or chunked through gzip, shuffle and fletcher32. ``Unknown`` is raised for what the
library's newer layouts have, before anything of the file is used.

Source: The HDF Group, HDF5 file format specification 3.0, https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
(the section numbers below are its).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from layerhub.errors import FileFormatError
from layerhub.saving.files import Window

NOWHERE = 2**64 - 1
"""The address of what is not there."""
FLOATS = {2: (0, 16, 10, 5, 0, 10, 15), 4: (0, 32, 23, 8, 0, 23, 127), 8: (0, 64, 52, 11, 0, 52, 1023)}
"""IEEE's floats by size: bit offset, precision, place and size of the exponent, and of the mantissa, bias."""
GZIP, SHUFFLE, FLETCHER, LZF = 1, 2, 3, 32000
SPARE = 1 << 20
"""How many bytes a chunk may have beyond those of its array."""


class Unknown(Exception):  # noqa: N818  it is no error, but asks for another reader
    """The file has a structure that is not read here, though it may be right."""


class Part:
    """Bytes of a file, read from front to back. Raises FileFormatError where there are too few."""

    def __init__(self, data: bytes, at: int = 0):
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise FileFormatError("a structure in it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def numbers(self, *widths: int) -> list[int]:
        return [self.number(width) for width in widths]

    def padded(self, count: int) -> bytes:
        """Bytes that are followed by others, up to a multiple of 8."""
        found = self.take(count)
        self.take(-count % 8)
        return found

    @property
    def left(self) -> int:
        return len(self.data) - self.at


class Kind(NamedTuple):
    """The type of elements. size: of one, in the file. dtype: as numpy has it; None for text and whatever else.

    text: "fixed", or "any" for text of any length. truth: zeros and ones that say False and True.
    """

    size: int
    dtype: np.dtype | None = None
    text: str = ""
    truth: bool = False


class Message(NamedTuple):
    """A message of an object's header. bare: it stands there itself, not by a reference."""

    kind: int
    data: bytes
    bare: bool


class Node:
    """A group or an array.

    links: what a group holds, by name: an address, or None for a link to elsewhere. shape, kind: of an array.
    """

    def __init__(self, file: File, place: int, messages: list[Message]):
        self.file, self.place = file, place
        self.by_kind: dict[int, list[Part]] = {}
        for message in messages:
            if not message.bare and message.kind in KNOWN:
                raise Unknown("a shared message")
            self.by_kind.setdefault(message.kind, []).append(Part(message.data))
        self.links: dict[str, int | None] = {}
        self.is_group = bool(self.by_kind.keys() & {SYMBOLS, LINKS, LINK})
        self.is_array = not self.is_group and self.by_kind.keys() >= {SPACE, TYPE, LAYOUT}
        self.external = EXTERNAL in self.by_kind
        if self.is_group:
            self.links = self._links()
        if self.is_array:
            self.shape, self.kind = _space(self.by_kind[SPACE][0]), _type(self.by_kind[TYPE][0])
            self.layout = _layout(self.by_kind[LAYOUT][0], self.kind)
            self.filters = [number for part in self.by_kind.get(FILTERS, ()) for number in _filters(part)]
        for part in self.by_kind.get(DENSE, ()):
            flags = part.numbers(1, 1)[1]
            part.take(2 * (flags & 1))
            if part.number(8) != NOWHERE:
                raise Unknown("attributes in a heap")
        self.attributes = dict(map(_attribute, self.by_kind.get(ATTRIBUTE, ())))

    def _links(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for part in self.by_kind.get(SYMBOLS, ()):
            tree, heap = part.numbers(8, 8)
            found |= self.file.symbols(tree, heap)
        for part in self.by_kind.get(LINKS, ()):
            flags = part.numbers(1, 1)[1]
            part.take(8 * (flags & 1))
            if part.number(8) != NOWHERE:
                raise Unknown("links in a heap")
        return found | dict(map(_link, self.by_kind.get(LINK, ())))

    def names(self) -> list[str]:
        """What a group holds."""
        return sorted(self.links)

    def child(self, name: str) -> Node:
        """What a group holds under a name. Raises FileFormatError for a link to elsewhere."""
        place = self.links[name]
        if place is None:
            raise FileFormatError(f"{name} is a link to elsewhere, which is not followed")
        return self.file.nodes[place]

    def has(self, attribute: str) -> bool:
        return attribute in self.attributes

    def attribute(self, name: str) -> Any:
        """The value of an attribute: text, an array of bytes or of numbers; None for what is neither."""
        shape, kind, data = self.attributes[name]
        count = math.prod(shape)
        if kind.text == "any":
            self.file.spend(count * 16)
            found = [self.file.text(Part(data, 16 * k)) for k in range(count)]
            return found if shape else found[0]
        values: Any = None
        if kind.text == "fixed":
            values = np.frombuffer(data, f"S{kind.size}", count) if kind.size and count else np.zeros(0, "S1")
        elif kind.dtype is not None:
            values = np.frombuffer(data, kind.dtype, count)
        return values if values is None or shape else values[0]

    # Arrays

    @property
    def stored(self) -> int:
        """How many bytes of the file an array has."""
        place, data, chunk = self.layout
        if chunk is not None:
            return sum(size for size, _, _, _ in self.file.chunks(place, len(chunk)))
        return len(data) if data is not None else 0 if place == NOWHERE else math.prod(self.shape) * self.kind.size

    def read(self) -> np.ndarray:
        """The elements of an array of numbers, as they are stored."""
        place, data, chunk = self.layout
        dtype = self.kind.dtype
        assert dtype is not None
        found = self._found(place, data, chunk, dtype)
        return found != 0 if self.kind.truth else found

    @property
    def dtype(self) -> np.dtype | None:
        """The type of an array's numbers; None where it holds something else."""
        return self.kind.dtype

    def _found(self, place: int, data: bytes | None, chunk: tuple[int, ...] | None, dtype: np.dtype) -> np.ndarray:
        if chunk is not None:
            return self._gathered(place, chunk, dtype)
        if data is not None:
            if len(data) < math.prod(self.shape) * dtype.itemsize:
                raise FileFormatError("an array in it is shorter than its shape")
            return np.frombuffer(data, dtype, math.prod(self.shape)).reshape(self.shape).copy()
        found = np.zeros(self.shape, dtype)
        if place != NOWHERE:
            self.file.window.fill(found, place)
        return found

    def _gathered(self, place: int, chunk: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        found = np.zeros(self.shape, dtype)
        if math.prod(chunk) * dtype.itemsize > found.nbytes + SPARE:
            raise FileFormatError("the chunks of an array in it are larger than the array")
        for size, mask, offset, at in self.file.chunks(place, len(chunk)):
            values = self._unpacked(self.file.piece(at, size), mask, math.prod(chunk) * dtype.itemsize)
            block = np.frombuffer(values, dtype).reshape(chunk)
            if all(o < n for o, n in zip(offset, self.shape, strict=True)):
                place_of = tuple(slice(o, o + c) for o, c in zip(offset, chunk, strict=True))
                target = found[place_of]
                target[...] = block[tuple(slice(n) for n in target.shape)]
        return found

    def _unpacked(self, data: bytes, mask: int, size: int) -> bytes:
        """A chunk as it was before it went through the filters. mask: those that it did not go through."""
        for number, code in reversed(list(enumerate(self.filters))):
            if mask >> number & 1:
                continue
            if code == FLETCHER:
                data = _checked(data)
            elif code == GZIP:
                unpacking = zlib.decompressobj()
                try:
                    data = unpacking.decompress(data, size + 8)
                except zlib.error as problem:
                    raise FileFormatError(f"an array in it is damaged: {problem}") from None
            elif code == SHUFFLE and self.kind.size > 1:
                whole = len(data) // self.kind.size * self.kind.size
                mixed = np.frombuffer(data[:whole], np.uint8).reshape(self.kind.size, -1)
                data = mixed.T.tobytes() + data[whole:]
        if len(data) != size:
            raise FileFormatError("an array in it is damaged: a chunk has another size than it should")
        return data


# What messages of an object's header are (IV.A.2)

SPACE, LINKS, TYPE, LINK, EXTERNAL, LAYOUT = 1, 2, 3, 6, 7, 8
FILTERS, ATTRIBUTE, MORE, SYMBOLS, DENSE = 11, 12, 16, 17, 21
KNOWN = (SPACE, LINKS, TYPE, LINK, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE, MORE, SYMBOLS, DENSE)


class File:
    """An HDF5 file, all of whose groups and headers have been read. Raises Unknown and FileFormatError."""

    def __init__(self, window: Window):
        self.window = window
        # Structures are met once, or by what names them: a file that has many on the same bytes is a trap.
        self.budget = 8 * window.length + (1 << 20)
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        part = Part(self.piece(0, min(96, window.length)), 8)
        version, _, _, _, _, offsets, lengths, _ = part.numbers(*[1] * 8)
        if version in (2, 3):
            raise Unknown(f"superblock {version}")
        if version > 1 or (offsets, lengths) != (8, 8):
            raise FileFormatError(f"it has a superblock {version} with addresses of {offsets} bytes")
        part.take(8 + 4 * version)
        base, _, end, driver = part.numbers(8, 8, 8, 8)
        if base or driver != NOWHERE:
            raise FileFormatError("it is a part of another file")
        if end > window.length:
            raise FileFormatError(f"it was cut off: it says that it has {end} bytes, and has {window.length}")
        root = part.numbers(8, 8)[1]
        self.nodes: dict[int, Node] = {}
        waiting = [root]
        while waiting:
            place = waiting.pop()
            if place not in self.nodes:
                self.nodes[place] = node = Node(self, place, self._header(place))
                waiting += [at for at in node.links.values() if at is not None]
        self.root = self.nodes[root]

    def piece(self, place: int, count: int) -> bytes:
        """Some bytes of the file."""
        if not 0 <= place <= place + count <= self.window.length:
            raise FileFormatError(f"it points to byte {place + count}, and has {self.window.length}")
        self.spend(count)
        self.window.seek(place)
        return self.window.read(count)

    def spend(self, count: int) -> None:
        """Count what is read of structures. Raises FileFormatError where that is more than a file can need."""
        self.budget -= count
        if self.budget < 0:
            raise FileFormatError("its structures lead to the same bytes over and over")

    def _signed(self, place: int, signature: bytes, count: int) -> Part:
        part = Part(self.piece(place, len(signature) + count))
        if part.take(len(signature)) != signature:
            raise FileFormatError(f"it has no {signature.decode()} at byte {place}, where there should be one")
        return part

    def _header(self, place: int) -> list[Message]:
        """The messages of an object's header (IV.A.1.a)."""
        part = Part(self.piece(place, 16))
        version, _, count, _, size = part.numbers(1, 1, 2, 4, 4)
        if part.data.startswith(b"OHDR"):
            raise Unknown("a header of version 2")
        if version != 1:
            raise FileFormatError(f"it has no header at byte {place}, where there should be one")
        found: list[Message] = []
        blocks, met = [(place + 16, size)], set()
        while blocks:
            block = blocks.pop(0)
            if block[0] in met:
                raise FileFormatError("a header in it goes on within itself")
            met.add(block[0])
            part = Part(self.piece(*block))
            while part.left >= 8 and len(found) < count:
                kind, length, flags, _ = part.numbers(2, 2, 1, 3)
                found.append(Message(kind, part.take(length), not flags & 2))
                if kind == MORE:
                    blocks.append(tuple(Part(found[-1].data).numbers(8, 8)))  # type: ignore[arg-type]
        return found

    def symbols(self, tree: int, heap: int) -> dict[str, int | None]:
        """What a group holds by a symbol table (III.A.1, III.B, III.D)."""
        _, size, _, place = self._signed(heap, b"HEAP", 28).numbers(4, 8, 8, 8)
        names = self.piece(place, size)
        found: dict[str, int | None] = {}
        for leaf in self._leaves(tree, 0, 8):
            part = self._signed(leaf[1], b"SNOD", 4)
            count = part.numbers(1, 1, 2)[2]
            part = Part(self.piece(leaf[1] + 8, count * 40))
            for _ in range(count):
                name, header, cached, _ = part.numbers(8, 8, 4, 4)
                part.take(16)
                end = names.find(b"\0", name)
                if end < 0:
                    raise FileFormatError("the name of something in it has no end")
                found[_decoded(names[name:end])] = None if cached == 2 else header
        return found

    def _leaves(self, place: int, kind: int, width: int) -> Iterator[tuple[bytes, int]]:
        """(key, address) of everything that a tree of version 1 leads to. width: of a key. Raises for cycles."""
        waiting, met = [(place, -1)], set()
        while waiting:
            place, wanted = waiting.pop()
            if place in met:
                raise FileFormatError("a tree in it leads back to itself")
            met.add(place)
            of, level, count, _, _ = self._signed(place, b"TREE", 20).numbers(1, 1, 2, 8, 8)
            if of != kind or wanted not in (-1, level):
                raise FileFormatError("a tree in it has a node that is none of its own")
            part = Part(self.piece(place + 24, count * (width + 8)))
            entries = [(part.take(width), part.number(8)) for _ in range(count)]
            if level:
                waiting += [(child, level - 1) for _, child in reversed(entries)]
            else:
                yield from entries

    def chunks(self, tree: int, rank: int) -> Iterator[tuple[int, int, tuple[int, ...], int]]:
        """(bytes, mask of filters, offset, address) of each chunk of an array (III.A.1)."""
        if tree != NOWHERE:
            for key, place in self._leaves(tree, 1, 8 * (rank + 2)):
                part = Part(key)
                size, mask = part.numbers(4, 4)
                yield size, mask, tuple(part.numbers(*[8] * rank)), place

    def text(self, part: Part) -> bytes:
        """Text of any length, from the heap that it is in (III.E)."""
        length, place, index = part.numbers(4, 8, 4)
        if place in (0, NOWHERE):
            return b""
        if place not in self._heaps:
            self._heaps[place] = self._heap(place)
        if index not in self._heaps[place]:
            raise FileFormatError("a text in it is not where it should be")
        at, size = self._heaps[place][index]
        if length > size:
            raise FileFormatError("a text in it is longer than its place")
        return self.piece(at, length)

    def _heap(self, place: int) -> dict[int, tuple[int, int]]:
        """(address, size) of what a heap holds, by number."""
        _, size = self._signed(place, b"GCOL", 12).numbers(4, 8)
        found, at = {}, place + 16
        while at + 16 <= place + size:
            index, _, length = Part(self.piece(at, 16)).numbers(2, 6, 8)
            if index == 0:
                break
            if at + 16 + length > place + size:
                raise FileFormatError("a text in it is longer than the heap that it is in")
            found[index] = (at + 16, length)
            at += 16 + length + -length % 8
        return found


# Messages


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _link(part: Part) -> tuple[str, int | None]:
    """(name, address) of a link; no address for a soft or an external one (IV.A.2.g)."""
    version, flags = part.numbers(1, 1)
    if version != 1:
        raise FileFormatError(f"it has a link of version {version}, which there is not")
    kind = part.number(1) if flags & 8 else 0
    part.take(8 * bool(flags & 4) + bool(flags & 16))
    name = _decoded(part.take(part.number(1 << (flags & 3))))
    return name, part.number(8) if kind == 0 else None


def _space(part: Part) -> tuple[int, ...]:
    """The shape that a dataspace says (IV.A.2.b); none has elements where it says that there are none."""
    version, rank, _, kind = part.numbers(1, 1, 1, 1)
    if version not in (1, 2):
        raise FileFormatError(f"it has a dataspace of version {version}, which there is not")
    if version == 1:
        part.take(4)
    if rank > 32:
        raise FileFormatError(f"an array in it has {rank} axes")
    return tuple(part.numbers(*[8] * rank)) if version == 1 or kind != 2 else (0,)


def _type(part: Part) -> Kind:
    """A datatype (IV.A.2.d)."""
    head, bits, _, _, size = part.numbers(1, 1, 1, 1, 4)
    order = ">" if bits & 1 else "<"
    match head & 15:
        case 0 if size in (1, 2, 4, 8) and part.numbers(2, 2) == [0, 8 * size]:
            return Kind(size, np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}"))
        case 1 if size in FLOATS and not bits & 64 and tuple(part.numbers(2, 2, 1, 1, 1, 1, 4)) == FLOATS[size]:
            return Kind(size, np.dtype(f"{order}f{size}"))
        case 3:
            return Kind(size, text="fixed")
        case 5 if size == 2:  # where Keras has bfloat16
            return Kind(size, np.dtype("V2"))
        case 8 if size == 1:
            return Kind(size, np.dtype("u1"), truth=True)
        case 9 if size == 16 and bits & 15 == 1:
            return Kind(size, text="any")
    return Kind(size)


def _layout(part: Part, kind: Kind) -> tuple[int, bytes | None, tuple[int, ...] | None]:
    """(address, the bytes themselves, shape of a chunk) of an array: where it lies, or how (IV.A.2.i)."""
    version, way = part.numbers(1, 1)
    if version in (1, 2, 4, 5):
        raise Unknown(f"a layout of version {version}")
    if version != 3:
        raise FileFormatError(f"it has a layout of version {version}, which there is not")
    if way == 0:
        return NOWHERE, part.take(part.number(2)), None
    if way == 1:
        return part.number(8), None, None
    if way != 2:
        raise FileFormatError(f"an array in it is laid out in the way {way}, which there is not")
    rank = part.number(1)
    place, *chunk = part.numbers(8, *[4] * rank)
    if rank < 2 or chunk[-1] != kind.size or 0 in chunk:
        raise FileFormatError("the chunks of an array in it have no size")
    return place, None, tuple(chunk[:-1])


def _filters(part: Part) -> list[int]:
    """The numbers of the filters that an array went through (IV.A.2.l)."""
    version, count = part.numbers(1, 1)
    if version not in (1, 2):
        raise FileFormatError(f"it has filters of version {version}, which there are not")
    part.take(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        code = part.number(2)
        name = part.number(2) if version == 1 or code >= 256 else 0
        _, values = part.numbers(2, 2)
        part.take(name + (-name % 8 if version == 1 else 0))
        part.take(4 * (values + (values % 2 if version == 1 else 0)))
        if code == LZF:
            raise Unknown("the filter lzf")
        if code not in (GZIP, SHUFFLE, FLETCHER):
            raise FileFormatError(
                f"an array in it went through the filter {code}; known are gzip, shuffle, fletcher32, lzf"
            )
        found.append(code)
    return found


def _attribute(part: Part) -> tuple[str, tuple[tuple[int, ...], Kind, bytes]]:
    """(name, (shape, type, bytes)) of an attribute (IV.A.2.m)."""
    version, flags, name, kind, space = part.numbers(1, 1, 2, 2, 2)
    if version not in (1, 2, 3):
        raise FileFormatError(f"it has an attribute of version {version}, which there is not")
    if version > 1 and flags & 3:
        raise Unknown("an attribute with a shared type")
    part.take(1 if version == 3 else 0)
    take = part.padded if version == 1 else part.take
    said, of, shape = _decoded(take(name).split(b"\0")[0]), _type(Part(take(kind))), _space(Part(take(space)))
    size = math.prod(shape) * of.size
    return said, (shape, of, part.take(size))


def _checked(data: bytes) -> bytes:
    """Bytes without their Fletcher checksum behind them. Raises FileFormatError where it is another."""
    data, said = data[:-4], int.from_bytes(data[-4:], "little")
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    low = int(words.sum()) % 65535
    high = int((words * np.arange(len(words), 0, -1, dtype=np.uint64) % 65535).sum()) % 65535
    if (said & 65535) % 65535 != low or (said >> 16) % 65535 != high:
        raise FileFormatError("an array in it has another checksum than it should")
    return data
