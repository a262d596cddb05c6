"""Configs as text: JSON and YAML, read with limits. The library ``PyYAML`` is imported when it is first needed.

Both hold plain values alone: objects, lists, text, numbers, booleans, null. YAML's tags, by which a text may ask for
objects of Python, are refused but for those that Keras 1 and 2 wrote for tuples and text, which are read as a list and
as text. Values that a YAML text repeats by an alias count each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from layerhub.errors import FileFormatError, MissingPackageError

LIMIT = 1 << 24
"""How many bytes a text may have: enough for ten thousand layers."""
VALUES = 1_000_000
"""How many values a YAML text may hold."""
DEPTH = 200
"""How deep they may be nested."""
STANDARD = "tag:yaml.org,2002:"
SCALARS = ("str", "null", "bool", "int", "float")
PYTHON = {f"{STANDARD}python/tuple": "seq", f"{STANDARD}python/unicode": "str"}
"""The tags of Python's that are read, and as what."""


def json_object(content: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object. what: what errors call it. Raises FileFormatError for any other text."""
    if len(content) > LIMIT:
        raise FileFormatError(f"{what} has {len(content)} bytes; more than {LIMIT} are not read")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise FileFormatError(f"{what} is no JSON: {problem}") from None
    if not isinstance(found, dict):
        raise FileFormatError(f"{what} is no JSON object")
    return found


def library() -> Any:
    """PyYAML. Raises MissingPackageError."""
    try:
        return import_module("yaml")
    except ImportError:
        raise MissingPackageError("YAML needs PyYAML: pip install 'layerhub[files]'") from None


def to_yaml(value: Mapping[str, Any], **options: Any) -> str:
    """Plain values as YAML. options: those of ``yaml.dump``."""
    yaml = library()

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Writes what occurs twice twice: an alias would say that it is one thing."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(value, Dumper=Dumper, **options)


def yaml_object(content: str, what: str) -> dict[str, Any]:
    """A YAML mapping of plain values. what: what errors call it. Raises FileFormatError for any other text."""
    yaml = library()
    if len(content) > LIMIT:
        raise FileFormatError(f"{what} has {len(content)} characters; more than {LIMIT} are not read")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = _Reader(yaml, yaml.parse(content, Loader=loader)).document()
    except FileFormatError as problem:
        raise FileFormatError(f"{what}: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise FileFormatError(f"{what} is no YAML: {problem}") from None
    if not isinstance(found, dict):
        raise FileFormatError(f"{what} is no YAML mapping")
    return found


class _Reader:
    """Builds plain values from the events of a YAML parser, which are few whatever the text claims."""

    def __init__(self, yaml: Any, events: Iterator[Any]):
        self.yaml, self.events = yaml, events
        self.resolver, self.made = yaml.resolver.Resolver(), yaml.constructor.SafeConstructor()
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.count = 0

    def document(self) -> Any:
        """The one document of the text. Raises FileFormatError."""
        kinds = self.yaml.events
        found, documents = None, 0
        for event in self.events:
            if isinstance(event, kinds.DocumentStartEvent):
                found, documents = self.value(next(self.events), 0), documents + 1
        if documents != 1:
            raise FileFormatError(f"it holds {documents} documents; one was expected")
        return found

    def value(self, event: Any, depth: int) -> Any:
        """The value that begins with an event."""
        kinds = self.yaml.events
        if isinstance(event, kinds.AliasEvent):
            if event.anchor not in self.anchors:
                raise FileFormatError(f"*{event.anchor} stands for nothing, or for something that it is a part of")
            found, size = self.anchors[event.anchor]
            self._add(size)
            return found
        if depth > DEPTH:
            raise FileFormatError(f"it is nested more than {DEPTH} deep")
        self.anchors.pop(event.anchor, None)
        before = self.count
        self._add(1)
        if isinstance(event, kinds.ScalarEvent):
            found = self._scalar(event)
        elif isinstance(event, kinds.SequenceStartEvent):
            self._check_tag(event, "seq")
            found = [self.value(part, depth + 1) for part in self._until(kinds.SequenceEndEvent)]
        else:
            self._check_tag(event, "map")
            found = {}
            for key in self._until(kinds.MappingEndEvent):
                if not isinstance(key, kinds.ScalarEvent):
                    raise FileFormatError("a key of a mapping is no plain value")
                found[self.value(key, depth + 1)] = self.value(next(self.events), depth + 1)
        if event.anchor is not None:
            self.anchors[event.anchor] = found, self.count - before
        return found

    def _add(self, count: int) -> None:
        self.count += count
        if self.count > VALUES:
            raise FileFormatError(f"it holds more than {VALUES} values, those that it repeats counted each time")

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self.events), end):
            yield event

    def _scalar(self, event: Any) -> Any:
        node = self.yaml.nodes.ScalarNode
        tag = event.tag or self.resolver.resolve(node, event.value, event.implicit)
        name = tag.removeprefix(STANDARD)
        if name not in SCALARS and event.tag is None:
            return event.value  # a date, or the sign of a merge: text, in a config
        if tag in PYTHON:
            self._check_tag(event, "str")
            return event.value
        if name not in SCALARS or name == tag:
            self._refuse(tag)
        return event.value if name == "str" else self.made.construct_object(node(tag, event.value))

    def _check_tag(self, event: Any, kind: str) -> None:
        """Raise FileFormatError where a value asks to be something else than it is."""
        if event.tag not in (None, "!", STANDARD + kind) and PYTHON.get(event.tag) != kind:
            self._refuse(event.tag)

    def _refuse(self, tag: str) -> None:
        raise FileFormatError(f"the tag {tag} asks for an object, and none is made from a file; plain values are read")
