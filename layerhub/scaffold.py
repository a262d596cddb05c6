"""A new backend's project, written from the templates in ``layerhub/templates/backend``.

A template is a file of the project with ``.template`` after its name; ``package`` in its path stands for the plugin's
module, and ``$name``, ``$title``, … in its text for what ``placeholders`` gives.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from string import Template

from layerhub import __version__
from layerhub.errors import ParameterError
from layerhub.hookspecs import API_VERSIONS
from layerhub.namespace import STANDARD
from layerhub.registry import registry

SUFFIX = ".template"
FALLBACK = "numpy"
"""The array library of a project whose own one cannot be used yet."""


def new_backend(name: str, into: str | Path | None = None, namespace: str | None = None) -> list[Path]:
    """Write the project of a backend called ``name``; its files, in order.

    into: its folder, which must not exist or be empty; by default ``layerhub-NAME``. namespace: see ``namespace_for``.
    Raises ParameterError for a name, folder or namespace that cannot be; nothing is written then.
    """
    check_name(name)
    texts = dict(_rendered(placeholders(name, namespace_for(name, namespace)[0])))
    folder = Path(into or f"layerhub-{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParameterError(
            f"{folder} is there already, and is no empty folder; nothing was written: name another one"
        )
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise ParameterError(f"the project cannot be written to {folder}: {problem}") from problem
    return [folder / path for path in texts]


def check_name(name: str) -> None:
    """Raise ParameterError unless a backend can have this name."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        plain = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
        hint = f" Did you mean {plain!r}?" if re.fullmatch(r"[a-z][a-z0-9_]*", plain) and plain != name else ""
        raise ParameterError(
            f"the name of a backend is in small letters, digits and underscores, and begins with a letter; it cannot "
            f"be {name!r}.{hint}"
        )
    owner = registry().entries.get(name)
    if owner is not None:
        raise ParameterError(f"a backend called {name!r} is installed already, by the plugin {owner[1].name!r}")
    if find_spec(f"layerhub_{name}") is not None:
        raise ParameterError(f"a module layerhub_{name} is installed already; choose another name than {name!r}")


def placeholders(name: str, namespace: str) -> dict[str, str]:
    """What stands in the templates' ``$...``: see the names."""
    library = namespace.partition(".")[0]
    return {
        "name": name,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "namespace": namespace,
        "library": library,
        "distribution": packages_distributions().get(library, [library])[0],
        "version": ".".join(__version__.split(".")[:2]),
        "api": str(API_VERSIONS[-1]),
    }


def namespace_for(name: str, asked: str | None = None) -> tuple[str, str]:
    """(module, reason): the module with the functions of the array API standard, for a backend of this name.

    It is the one that is asked for; else the module ``name``; else, where that one cannot serve, numpy, and the reason.
    Raises ParameterError where the module that is asked for cannot serve.
    """
    if asked is None:
        unfit = _unfit(name)
        return (FALLBACK, unfit) if unfit else (name, "")
    if unfit := _unfit(asked):
        raise ParameterError(f"{unfit}; begin without --namespace, on {FALLBACK}, and put your library in its place")
    return asked, ""


def _unfit(module: str) -> str:
    """Why a module cannot be a backend's namespace; empty where it can."""
    if not all(part.isidentifier() for part in module.split(".")):
        return f"{module!r} is no name of a module"
    try:
        found = import_module(module)
    except Exception as problem:  # whatever another library raises
        return f"the module {module} cannot be imported ({type(problem).__name__}: {problem})"
    missing = [function for function in STANDARD if not hasattr(found, function)]
    what = f"the module {module} lacks {', '.join(missing)} of the Python array API standard"
    return what if missing else ""


def _rendered(values: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The project's files: path and text."""
    for path, template in _templates(files("layerhub") / "templates" / "backend"):
        own = path.removesuffix(SUFFIX).replace("package", f"layerhub_{values['name']}")
        yield own, Template(template.read_text(encoding="utf-8")).substitute(values)


def _templates(folder: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            yield above + entry.name, entry
