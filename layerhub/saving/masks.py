"""Masks in graphs of Keras 3, which writes them down: operations that compute them, and calls that they are given to.

Here masks follow from rules, from ``Masking`` and ``Embedding`` on. So what Keras derived by its own rules is left out
when a graph is read; a mask that is anything else is not, and is then refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerhub.saving.dialect import Call, Key, is_operation

Calls = Mapping[str, Sequence[Call]]
GIVEN = ("mask", "query_mask", "value_mask", "key_mask")
"""The arguments by which Keras gives masks to layers."""


def implied(
    entries: Sequence[Mapping[str, Any]], calls: Calls, outputs: Sequence[Key]
) -> tuple[list[Mapping[str, Any]], dict[str, list[Call]]]:
    """The layers of a graph, and their calls, without what only serves masks that follow from rules."""
    operations = {entry["name"]: entry["class_name"] for entry in entries if is_operation(entry)}
    if not operations:
        return list(entries), {name: list(of) for name, of in calls.items()}
    marks = _marks(entries, calls)
    kept: dict[str, list[Call]] = {}
    for entry in entries:
        name = entry["name"]
        if name not in operations:
            kept[name] = [_without(call, operations, calls, marks) for call in calls[name]]
    used = {key for of in kept.values() for call in of for key in call.keys}
    needed: set[str] = set()
    found = {key.layer for key in (*used, *outputs)} & operations.keys()
    while found:  # and what these take in turn
        needed |= found
        taken = {key.layer for name in found for call in calls[name] for key in call.keys}
        found = taken & operations.keys() - needed
    left = [entry for entry in entries if entry["name"] in kept or entry["name"] in needed]
    return left, kept | {name: list(calls[name]) for name in needed}


def _marks(entries: Sequence[Mapping[str, Any]], calls: Calls) -> set[tuple[Key, float]]:
    """(tensor, value) wherever a layer masks the steps of a tensor that have a value."""
    found = set()
    for entry in entries:
        config = entry["config"]
        masks = entry["class_name"] == "Masking" or (entry["class_name"] == "Embedding" and config.get("mask_zero"))
        if masks and not is_operation(entry):
            found |= {(key, config.get("mask_value", 0)) for call in calls[entry["name"]] for key in call.keys}
    return found


def _without(call: Call, operations: Mapping[str, str], calls: Calls, marks: set[tuple[Key, float]]) -> Call:
    def derived(key: Key) -> bool:
        """Whether a mask comes from layers that mask, by Keras's rules."""
        kind = operations.get(key.layer)
        if kind is None:
            return False
        of = calls[key.layer][key.call]
        if kind == "NotEqual":
            value = of.args[1] if len(of.args) > 1 else None
            return (of.args[0], value) in marks
        return kind in ("ZerosLike", "OnesLike") or (bool(of.keys) and all(map(derived, of.keys)))

    def stays(name: str, value: Any) -> bool:
        keys = Call([value], {}).keys
        return name not in GIVEN or not keys or not all(map(derived, keys))

    return Call(call.args, {name: value for name, value in call.kwargs.items() if stays(name, value)})
