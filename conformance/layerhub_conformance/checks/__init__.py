"""What all backends must do: a module for each kind of check."""

import pkgutil
from importlib import import_module

from layerhub_conformance.trial import CHECKS, Check


def table() -> dict[str, Check]:
    """All checks, by name."""
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        import_module(f"{__name__}.{info.name}")
    return CHECKS
