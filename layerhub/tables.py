"""Modules whose attributes are the registered specs of a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub.spec.base import snake_case


def table(kind: str, present: Callable[[Any], Any] = lambda spec: spec, function: Any = None) -> tuple[Callable, ...]:
    """``__getattr__`` and ``__dir__`` for such a module.

    present: what becomes of a spec class on the way out. function: what becomes of it where the name that is asked for
    is all in lower case, as those of functions are.
    """
    members = KINDS[kind]

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        registry()  # plugins may bring specs of their own
        spec = members.find(name)
        return function(spec) if function is not None and name.islower() else present(spec.spelled(name))

    def names() -> list[str]:
        registry()
        return sorted({*members, *(map(snake_case, members) if function is not None else ())})

    return find, names
