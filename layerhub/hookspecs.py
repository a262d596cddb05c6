"""The hooks: everything that a plugin can do for LayerHub.

A plugin is a module, named in its distribution's metadata as an entry point of the group ``layerhub``:

    [project.entry-points.layerhub]
    mylib = "layerhub_mylib"

It says which version of these hooks it was written for, and implements the ones it needs:

    from layerhub.hookspecs import BackendEntry, hookimpl

    LAYERHUB_API = 1

    @hookimpl
    def layerhub_backend():
        return BackendEntry("mylib", load=load, requires=("mylib",))

The module is imported when the registry is first used, so it must be cheap to import: no framework at its top level.
Plugins are asked one by one, each hook once; what one of them does wrong is reported under its name by
``layerhub backends`` and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pluggy

API_VERSIONS = range(1, 2)
"""The versions of this page that are supported."""

hookspec = pluggy.HookspecMarker("layerhub")
hookimpl = pluggy.HookimplMarker("layerhub")


@dataclass(frozen=True)
class BackendEntry:
    """A backend on offer.

    name: what users write; no other plugin may use it.
    load: makes the backend (a ``layerhub.contract.Backend``); here the framework may be imported.
    requires: modules that must be importable; where one is absent the backend is listed as unavailable.
    install: the command that installs what is required.
    """

    name: str
    load: Callable[[], Any]
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True)
class Exporter:
    """A file format that models can be written in.

    suffix: of the files, with its dot; no other plugin may use it.
    load: gives ``write(model, file, **options)``, which writes to a file that is open for bytes, and leaves the model
        as it is; here the framework may be imported. The options are those that the signature names.
    requires: modules that must be importable.
    install: the command that installs what is required.
    """

    suffix: str
    load: Callable[[], Callable[..., None]]
    requires: tuple[str, ...] = ()
    install: str = ""


@hookspec
def layerhub_backend() -> BackendEntry | Iterable[BackendEntry]:  # type: ignore[empty-body]
    """Offer a backend.

    Called once, when the registry is first asked for anything. Do not import your framework here: name it in
    ``requires``, and import it in ``load``, so that listing backends works, fast, on a machine without it.

    :return: a BackendEntry, or several.
    """


@hookspec
def layerhub_specs() -> Any:
    """Offer layers, activations, losses, optimizers, metrics, initializers, regularizers or constraints.

    Called once, when the registry is first asked for anything. Specs import no framework.

    :return: a module, or several; every spec class that it defines is registered. Or spec classes themselves.
    """


@hookspec
def layerhub_kernels(backend: str) -> Any:
    """Offer kernels for a backend: your own, or anybody else's.

    Called once for each backend, when it is first loaded; its framework may be imported here.

    :param backend: the backend's name.
    :return: a KernelSet, or several; None when you have none for this backend.
    """


@hookspec
def layerhub_exporters() -> Exporter | Iterable[Exporter]:  # type: ignore[empty-body]
    """Offer file formats for ``model.export``.

    Called once, when a model is exported for the first time. Do not import what writes the format here: name it in
    ``requires``, and import it in ``load``.

    :return: an Exporter, or several.
    """


@hookspec
def layerhub_conformance_cases() -> Any:
    """Offer cases for the conformance suite, beside those that are made from the specs.

    Called once, by the suite.

    :return: an iterable of ``layerhub_conformance.cases.Case``.
    """
