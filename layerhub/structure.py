"""Structures: lists, tuples and dicts of things, one inside the other, and the same things in a row.

In a row, the entries of a dict stand in the order of their keys, as Keras has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerhub.errors import DataError


def is_leaf(structure: Any) -> bool:
    """Whether this is no list, tuple or dict."""
    return not isinstance(structure, (list, tuple, Mapping))


def parts(structure: Any) -> list[tuple[Any, Any]]:
    """(key or number, part) of a structure that is no leaf."""
    if isinstance(structure, Mapping):
        return [(key, structure[key]) for key in sorted(structure)]
    return list(enumerate(structure))


def flat(structure: Any) -> list[Any]:
    """What a structure holds, in a row."""
    return list(_leaves(structure))


def _leaves(structure: Any) -> Iterator[Any]:
    if is_leaf(structure):
        yield structure
    else:
        for _, part in parts(structure):
            yield from _leaves(part)


def packed(structure: Any, row: Sequence[Any]) -> Any:
    """The things of a row in a structure like this one."""
    left = iter(row)
    return mapped(lambda _: next(left), structure)


def mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same structure of what a function makes of each thing."""
    if is_leaf(structure):
        return function(structure)
    made = {key: mapped(function, part) for key, part in parts(structure)}
    if isinstance(structure, Mapping):
        return {key: made[key] for key in structure}
    if hasattr(structure, "_fields"):  # a named tuple
        return type(structure)(*made.values())
    return tuple(made.values()) if isinstance(structure, tuple) else list(made.values())


def listed(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same as JSON has it: with lists for tuples."""
    if is_leaf(structure):
        return function(structure)
    made = {key: listed(function, part) for key, part in parts(structure)}
    return {key: made[key] for key in structure} if isinstance(structure, Mapping) else list(made.values())


def paths(structure: Any, prefix: str = "") -> list[str]:
    """Where each thing stands, in a row: keys and numbers joined by ``_``."""
    if is_leaf(structure):
        return [prefix]
    return [path for key, part in parts(structure) for path in paths(part, f"{prefix}_{key}" if prefix else str(key))]


def simplest(structure: Any) -> Any:
    """The structure, but what is by itself in a list or tuple as it is."""
    return structure[0] if isinstance(structure, (list, tuple)) and len(structure) == 1 else structure


def arranged(data: Any, like: Any, names: Sequence[str], partial: bool = False) -> list[Any]:
    """Data in a row, in the order of the structure ``like``, whose things have these names.

    data: a structure like it, a row, or a dict by name; one array where there is one name. partial: a dict may leave
    entries out, which are None then. Raises DataError.
    """
    if data is None:
        return []
    if isinstance(data, Mapping):
        if not isinstance(like, Mapping):
            return _entries(data, names, partial)
        given = _entries(data, [key for key, _ in parts(like)], partial)
    elif is_leaf(like):
        several = isinstance(data, tuple) or (isinstance(data, list) and len(data) == 1 and hasattr(data[0], "shape"))
        return list(data) if several else [data]
    elif not isinstance(data, (list, tuple)):
        return [data]
    elif len(data) != len(like) or isinstance(like, Mapping):
        return list(data)  # a row; whoever takes it counts
    else:
        given = list(data)
    rest, row = list(names), []
    for part, (_, expected) in zip(given, parts(like), strict=True):
        count = len(flat(expected))
        own, rest = rest[:count], rest[count:]
        whole = is_leaf(expected) or part is None
        row += [part] * (1 if is_leaf(expected) else count) if whole else arranged(part, expected, own, partial)
    return row


def _entries(data: Mapping[Any, Any], keys: Sequence[Any], partial: bool) -> list[Any]:
    known = ", ".join(map(str, keys))
    missing = [str(key) for key in keys if key not in data]
    unknown = [key for key in data if key not in keys]
    if partial and unknown:
        raise DataError(f"there are data for {unknown[0]!r}, but the names are {known}")
    if missing and not partial:
        raise DataError(f"the data have no entry for {', '.join(missing)}; they have: {', '.join(map(str, data))}")
    return [data.get(key) for key in keys]


def is_shape(structure: Any) -> bool:
    """Whether this is a shape: a row of ints and None."""
    return isinstance(structure, (list, tuple)) and all(
        size is None or hasattr(size, "__index__") for size in structure
    )


def shapes(given: Any) -> Any:
    """A structure of shapes with each of them as a ``Shaped``, which is a leaf."""
    if is_shape(given):
        return Shaped(tuple(None if size is None else int(size) for size in given))
    if is_leaf(given):
        raise DataError(f"a shape is a tuple of ints and None, batch axis included, not {given!r}")
    made = {key: shapes(part) for key, part in parts(given)}
    return made if isinstance(given, Mapping) else list(made.values())


@dataclass(frozen=True)
class Shaped:
    """Something of which only the shape is known, and the type, unless that is the usual one."""

    shape: tuple[int | None, ...]
    dtype: str | None = None
