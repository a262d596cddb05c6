"""Which layers a subclassed model has: those in its attributes, also in lists, tuples and dicts of them.

Their order is that in which they became the model's, as in Keras: a layer that is appended to a list comes when it is
appended, not when the list was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from layerhub.network import Network
from layerhub.spec.layer import Layer

Told = Callable[[Any], Any]
"""Called with whatever is added; gives what is kept in its place."""


def held(value: Any) -> Iterator[Any]:
    """The layers and models in a value, in order."""
    if isinstance(value, (Layer, Network)):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from held(part)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from held(part)


class TrackedList(list):
    """A list that tells what is added to it."""

    def __init__(self, items: Iterable[Any], told: Told):
        self._told = told
        super().__init__(map(told, items))

    def append(self, item: Any) -> None:
        super().append(self._told(item))

    def insert(self, index: Any, item: Any) -> None:
        super().insert(index, self._told(item))

    def extend(self, items: Iterable[Any]) -> None:
        super().extend([self._told(item) for item in items])

    def __iadd__(self, items: Iterable[Any]) -> TrackedList:  # type: ignore[misc]
        self.extend(items)
        return self

    def __setitem__(self, index: Any, item: Any) -> None:
        super().__setitem__(index, [self._told(i) for i in item] if isinstance(index, slice) else self._told(item))


class TrackedDict(dict):
    """A dict that tells what is added to it."""

    def __init__(self, items: Mapping[Any, Any], told: Told):
        self._told = told
        super().__init__({key: told(item) for key, item in items.items()})

    def __setitem__(self, key: Any, item: Any) -> None:
        super().__setitem__(key, self._told(item))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **named: Any) -> None:
        for key, item in dict(*others, **named).items():
            self[key] = item


def tracked(value: Any, meet: Callable[[Any], None]) -> Any:
    """What an attribute keeps for a value. meet: told of each layer in it, now and later."""

    def told(part: Any) -> Any:
        if isinstance(part, (Layer, Network)):
            meet(part)
        elif type(part) is list:
            return TrackedList(part, told)
        elif type(part) is dict:
            return TrackedDict(part, told)
        elif isinstance(part, tuple):
            for layer in held(part):
                meet(layer)
        return part

    return told(value)
