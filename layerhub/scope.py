"""Which backend a model takes: its argument, else ``with lh.backend("…")``, else LAYERHUB_BACKEND, else numpy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from layerhub.registry import registry

_current: ContextVar[str | None] = ContextVar("backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """The backend of all models made in this context (of this thread) that name none themselves."""
    registry().backend(name)
    token = _current.set(name)
    try:
        yield
    finally:
        _current.reset(token)


def chosen(name: str | None) -> str:
    """The name of the backend to take, checked to be there."""
    found = name or _current.get() or os.environ.get("LAYERHUB_BACKEND") or "numpy"
    registry().backend(found)
    return found
