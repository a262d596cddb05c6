"""The certifying corpus: for each layer the cases that a backend must pass.

Most are made from the specs (see ``generate``) and frozen in text files; for layers of plugins they are made on the
spot. The modules here hold what no spec says: bugs that were met, data that only some layers mind, nested stacks.
"""

from __future__ import annotations

import pkgutil
import warnings
from functools import cache
from importlib import import_module

from layerhub.errors import LayerHubError
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub_conformance.case import Case, unique
from layerhub_conformance.generate import certifying, frozen

OURS = ("layerhub", "user")
"""Where layers come from that are frozen, or that only one process knows."""


@cache
def corpus() -> tuple[Case, ...]:
    """All cases: frozen ones, those of this package's modules, those of plugins' layers, and what plugins add."""
    found = list(frozen())
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        found += import_module(f"{__name__}.{info.name}").CASES
    for plugin in registry().plugins:
        found += plugin.ask("layerhub_conformance_cases")
    for name, origin in KINDS["layer"].origin.items():
        found += [] if origin in OURS else _made(name)
    return tuple(unique(found))


def _made(layer: str) -> list[Case]:
    """Cases of a plugin's layer, as far as its spec says enough."""
    try:
        return certifying(KINDS["layer"].find(layer))
    except LayerHubError as problem:
        warnings.warn(f"no cases are made for {layer}: {problem}", stacklevel=3)
        return []
