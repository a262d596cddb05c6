"""Modules whose attributes are the registered specs of a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from layerhub.registry import registry
from layerhub.spec import KINDS


def table(kind: str, present: Callable[[Any], Any] = lambda spec: spec) -> tuple[Callable, Callable]:
    """``__getattr__`` and ``__dir__`` for such a module. present: what becomes of a spec class on the way out."""
    members = KINDS[kind]

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        registry()  # plugins may bring specs of their own
        return present(members.find(name))

    def names() -> list[str]:
        registry()
        return sorted(members)

    return find, names
