"""The certifying corpus: for each family of specs the cases that a backend must pass."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from layerhub.registry import registry
from layerhub_conformance.case import Case, unique


@cache
def corpus() -> tuple[Case, ...]:
    """All cases: those of this package's modules, then those that plugins bring."""
    found: list[Case] = []
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        found += import_module(f"{__name__}.{info.name}").CASES
    for plugin in registry().plugins:
        found += plugin.ask("layerhub_conformance_cases")
    return tuple(unique(found))
