"""What is installed: backends, specs and kernels, gathered from plugins once, and why each kernel won.

``Registry`` asks plugins one by one and keeps their answers in dictionaries. Nothing that one plugin does wrong
reaches another: each has a plugin manager of its own, and its problem is kept to be shown.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pluggy

from layerhub import hookspecs
from layerhub.errors import BackendError, GraphError, KernelError, ParameterError, PluginError, suggest
from layerhub.hookspecs import API_VERSIONS, BackendEntry, Exporter
from layerhub.kernels import Call, Kernel, KernelSet
from layerhub.spec import KINDS, Spec, collect

GROUP = "layerhub"
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("layerhub_"))


KNOWN_FORMATS = {".onnx": "pip install layerhub-onnxruntime"}
"""Suffixes of files that a plugin may write which is not installed, and how to install it."""


@dataclass(frozen=True)
class Problem:
    """A plugin that cannot be used, or a part of one, and why."""

    plugin: str
    reason: str


class Plugin:
    """One plugin with a manager of its own, so that it can neither abort the others' hooks nor hide among them."""

    def __init__(self, name: str, module: Any):
        self.name = name
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self._check_version(module)
        self._check_names(module)
        self.manager.register(module, name)
        for hook in self.manager.get_hookcallers(module) or ():
            for implementation in hook.get_hookimpls():
                if implementation.kwargnames:
                    argument = implementation.kwargnames[0]
                    raise PluginError(
                        f"{hook.name}: the argument {argument!r} has a default, so it would never receive its value; "
                        "write it without one"
                    )

    @staticmethod
    def _check_version(module: Any) -> None:
        api = getattr(module, "LAYERHUB_API", None)
        if api in API_VERSIONS:
            return
        newer = isinstance(api, int) and api >= API_VERSIONS.stop
        said = "declares no LAYERHUB_API" if api is None else f"was written for plugin API {api!r}"
        remedy = "pip install --upgrade layerhub" if newer else "set LAYERHUB_API in the plugin's module"
        raise PluginError(f"{said}; this LayerHub supports {', '.join(map(str, API_VERSIONS))}: {remedy}")

    @staticmethod
    def _check_names(module: Any) -> None:
        """Raise PluginError for a hook that pluggy would never call, by its name or for want of its mark."""
        for name in dir(module):
            function = getattr(module, name, None)
            if not inspect.isroutine(function):
                continue
            marked = hasattr(function, "layerhub_impl")
            if name not in HOOKS and (marked or name.startswith("layerhub_")):
                raise PluginError(f"{name} is no hook.{suggest(name, HOOKS)} The hooks are: {', '.join(HOOKS)}")
            if name in HOOKS and not marked:
                raise PluginError(f"{name} is not marked, so it would never be called; put @hookimpl before it")

    def ask(self, hook: str, **arguments: Any) -> list[Any]:
        """The plugin's answers to a hook: flat, without None."""
        answers: list[Any] = []
        for answer in getattr(self.manager.hook, hook)(**arguments):
            several = isinstance(answer, Iterable) and not isinstance(answer, (KernelSet, type, ModuleType))
            answers.extend(answer if several else [answer])
        return [answer for answer in answers if answer is not None]


class Registry:
    """Backends and kernels by name. ``plugins`` are (name, function that imports the plugin's module)."""

    def __init__(self, plugins: Iterable[tuple[str, Callable[[], Any]]]):
        self.plugins: list[Plugin] = []
        self.problems: list[Problem] = []
        self.entries: dict[str, tuple[BackendEntry, Plugin]] = {}
        self._loaded: dict[str, Any] = {}
        self._kernels: dict[str, dict[tuple[str, str], list[Kernel]]] = {}
        self._overrides: dict[tuple[str, str, str], Kernel] = {}
        self._exporters: dict[str, tuple[Exporter, Plugin]] | None = None
        self._lock = threading.RLock()
        for name, load in plugins:
            with self._reporting(name):
                plugin = Plugin(name, load())
                self.plugins.append(plugin)
                for entry in plugin.ask("layerhub_backend"):
                    self._enter(entry, plugin)
                for spec in plugin.ask("layerhub_specs"):
                    collect(spec, name) if isinstance(spec, ModuleType) else spec.kind.add(spec, name)

    def _reporting(self, plugin: str) -> _Reporting:
        return _Reporting(self.problems, plugin)

    def _enter(self, entry: BackendEntry, plugin: Plugin) -> None:
        if not isinstance(entry, BackendEntry):
            raise PluginError(f"layerhub_backend must return a BackendEntry, not {entry!r}")
        if entry.name in self.entries:
            raise PluginError(f"the backend name {entry.name!r} is already taken by {self.entries[entry.name][1].name}")
        self.entries[entry.name] = (entry, plugin)

    # Backends

    def usable(self) -> dict[str, dict[str, Any]]:
        """The backends that are installed and whose requirements are there; nothing is imported to find out."""
        return {name: detail for name, detail in self.listing().items() if detail["missing"] == []}

    def listing(self) -> dict[str, dict[str, Any]]:
        """All backends on offer: plugin, requirements with their versions, what is missing, how to install it."""
        found = {}
        for name, (entry, plugin) in self.entries.items():
            missing = [module for module in entry.requires if not _importable(module)]
            versions = {module: _version(module) for module in entry.requires if module not in missing}
            found[name] = {
                "plugin": plugin.name,
                "requires": list(entry.requires),
                "versions": versions,
                "missing": missing,
                "install": entry.install,
                "loaded": name in self._loaded,
            }
        return found

    def backend(self, name: str) -> Any:
        """The backend called ``name``, loaded at first use. Raises BackendError, saying what to install."""
        found = self._loaded.get(name)
        if found is not None:
            return found
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def loaded(self) -> list[Any]:
        """The backends that are in use in this process."""
        return list(self._loaded.values())

    def owner(self, x: Any) -> Any:
        """The backend that owns a native tensor; numpy owns ndarrays. Raises GraphError where none does."""
        for backend in self.loaded():
            if backend.owns(x):
                return backend
        # A tensor's framework is imported already, so its backend is cheap to load; no other one is tried.
        roots = {base.__module__.partition(".")[0] for base in type(x).__mro__}
        for name, (entry, _) in self.entries.items():
            if roots & set(entry.requires):
                backend = self.backend(name)
                if backend.owns(x):
                    return backend
        raise GraphError(
            f"no backend owns {type(x).__module__}.{type(x).__qualname__}; give a tensor of an installed backend"
        )

    def check_usable(self, name: str) -> None:
        """Raise BackendError, saying what to install, where a backend cannot be used; nothing is imported for it."""
        if name not in self.entries:
            raise BackendError(self._why_unknown(name))
        entry, _ = self.entries[name]
        missing = [module for module in entry.requires if not _importable(module)]
        if missing:
            how = f": {entry.install}" if entry.install else ""
            raise BackendError(
                f"the backend {name!r} needs {', '.join(missing)}, which is not installed; install it{how}"
            )

    def _load(self, name: str) -> Any:
        self.check_usable(name)
        entry, plugin = self.entries[name]
        try:
            found = entry.load()
            _check_loaded(found, name)
        except Exception as problem:
            told = Problem(plugin.name, f"the backend {name!r} does not load: {_told(problem)}")
            if told not in self.problems:
                self.problems.append(told)
            if isinstance(problem, BackendError):  # it says itself what to do
                raise
            raise BackendError(f"the backend {name!r} of {plugin.name} does not load: {_told(problem)}") from problem
        found.name = name
        return found

    def _why_unknown(self, name: str) -> str:
        """Why there is no backend of this name, and what to do."""
        broken = [problem for problem in self.problems if problem.plugin == name]
        if broken:
            return f"the plugin {name!r} is installed but broken: {broken[0].reason}"
        told = f"no backend is called {name!r} (installed: {', '.join(self.entries)})."
        module = f"layerhub_{name}"
        if any(plugin.name == name for plugin in self.plugins):
            return f"{told} The plugin {name!r} offers none of that name: see what its layerhub_backend returns"
        if name.isidentifier() and _importable(module):
            return (
                f"{told} There is a module {module}, but no entry point names it: write {name} = {module!r} under "
                f"[project.entry-points.{GROUP}] in its pyproject.toml, and install it again"
            )
        return f"{told}{suggest(name, self.entries)} If there is such a one, install it: pip install layerhub-{name}"

    # Kernels

    def _table(self, backend: str) -> dict[tuple[str, str], list[Kernel]]:
        if backend in self._kernels:
            return self._kernels[backend]
        with self._lock:
            owner = self.entries[backend][1].name if backend in self.entries else ""
            found: list[Kernel] = []
            for plugin in self.plugins:
                with self._reporting(plugin.name):
                    for kernel_set in plugin.ask("layerhub_kernels", backend=backend):
                        if not isinstance(kernel_set, KernelSet):
                            raise PluginError(f"layerhub_kernels must return a KernelSet, not {kernel_set!r}")
                        for kernel in kernel_set:
                            kernel.plugin = plugin.name
                            with self._reporting(plugin.name):
                                kernel.check()
                                found.append(kernel)
            # The highest priority first; at equal priority the backend's own plugin, then others by name.
            found.sort(key=lambda k: (-k.priority, k.plugin != owner, k.plugin))
            table: dict[tuple[str, str], list[Kernel]] = {}
            for kernel in found:
                table.setdefault((kernel.kind, kernel.name), []).append(kernel)
            self._kernels[backend] = table
            return table

    def kernels(self, backend: str, name: str, kind: str = "layer") -> list[Kernel]:
        """The kernels for a spec on a backend, the preferred one first."""
        override = self._overrides.get((backend, kind, name))
        registered = self._table(backend).get((kind, name), [])
        return ([override] if override else []) + registered

    def kernel(self, backend: str, spec: Spec, call: Call) -> Kernel | None:
        """The kernel that serves this configuration; None where the definition does."""
        for kernel in self.kernels(backend, type(spec).__name__, spec.kind.name):
            if kernel.serves(spec, call):
                return kernel
        return None

    def override(self, backend: str, name: str, function: Callable[..., Any] | None, kind: str = "layer") -> None:
        """Prefer a function of one's own for a spec on a backend, in models bound from now on; None takes it back."""
        if backend not in self.entries:
            self._load(backend)  # says what is wrong with that name
        key = (backend, kind, KINDS[kind].find(name).__name__)
        if function is None:
            self._overrides.pop(key, None)
            return
        kernel = function if isinstance(function, Kernel) else Kernel(key[2], function, kind)
        kernel.plugin = kernel.plugin or "user"
        kernel.check()
        self._overrides[key] = kernel

    # Exporters

    def exporters(self) -> dict[str, tuple[Exporter, Plugin]]:
        """What writes which files, by suffix, with the plugin that brings it; asked for once."""
        with self._lock:
            if self._exporters is None:
                self._exporters = {}
                for plugin in self.plugins:
                    with self._reporting(plugin.name):
                        for exporter in plugin.ask("layerhub_exporters"):
                            self._enter_exporter(self._exporters, exporter, plugin)
            return self._exporters

    @staticmethod
    def _enter_exporter(found: dict[str, tuple[Exporter, Plugin]], exporter: Exporter, plugin: Plugin) -> None:
        if not isinstance(exporter, Exporter) or not exporter.suffix.startswith("."):
            raise PluginError(f"layerhub_exporters must return Exporters, with suffixes such as '.onnx': {exporter!r}")
        if exporter.suffix in found:
            raise PluginError(f"files {exporter.suffix!r} are already written by {found[exporter.suffix][1].name}")
        found[exporter.suffix] = exporter, plugin

    def exporter(self, suffix: str) -> Callable[..., None]:
        """What writes files with this suffix. Raises BackendError, saying what to install."""
        found = self.exporters()
        if suffix not in found:
            here = f"no plugin here writes {suffix!r} files (those here write: {', '.join(found) or 'nothing'})"
            known = KNOWN_FORMATS.get(suffix)
            raise BackendError(f"{here}; install one that does: {known}" if known else here)
        exporter, plugin = found[suffix]
        missing = [module for module in exporter.requires if not _importable(module)]
        if missing:
            how = f": {exporter.install}" if exporter.install else ""
            raise BackendError(
                f"writing {suffix!r} files needs {', '.join(missing)}, which is not installed; install it{how}"
            )
        try:
            return exporter.load()
        except Exception as problem:
            raise BackendError(
                f"the exporter of {suffix!r} files of {plugin.name} does not load: {_told(problem)}"
            ) from problem


class _Reporting:
    """Turns what a plugin raises into a Problem."""

    def __init__(self, problems: list[Problem], plugin: str):
        self.problems, self.plugin = problems, plugin

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> bool:
        if not isinstance(problem, (Exception, SystemExit)):  # a plugin that exits takes itself down, nobody else
            return False
        self.problems.append(Problem(self.plugin, _told(problem)))
        return True


def _check_loaded(found: Any, name: str) -> None:
    """Raise PluginError unless what a plugin loaded is a backend that can serve under this name."""
    if isinstance(found, type) or not callable(getattr(found, "check", None)):
        remedy = f"{found.__name__}()" if isinstance(found, type) else "an instance of a subclass of it"
        raise PluginError(f"its load() gave {found!r}, which is no layerhub.contract.Backend: return {remedy}")
    called = getattr(found, "name", name)
    if called != name:
        raise PluginError(f"its load() gave a backend called {called!r}, its entry says {name!r}: use one name in both")
    found.check()


def _told(problem: BaseException) -> str:
    text = str(problem)
    return text if isinstance(problem, (PluginError, KernelError)) else f"{type(problem).__name__}: {text}"


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing
        return False


def _version(module: str) -> str:
    try:
        return version(module)
    except PackageNotFoundError:
        return "unknown"


def _from_metadata() -> list[tuple[str, Callable[[], Any]]]:
    """Installed plugins: the embedded ones first, then by name, so that who wins a name is always the same."""

    def order(point: EntryPoint) -> tuple[bool, str]:
        return (point.dist is None or point.dist.name != "layerhub", point.name)

    return [(point.name, partial(_imported, point)) for point in sorted(set(entry_points(group=GROUP)), key=order)]


def _imported(point: EntryPoint) -> Any:
    """The module of a plugin."""
    try:
        return point.load()
    except ModuleNotFoundError as problem:
        if f"{point.module}.".startswith(f"{problem.name}."):
            raise PluginError(
                f"its entry point names the module {point.module!r}, which is not installed: correct "
                f"[project.entry-points.{GROUP}] in its pyproject.toml, or put the module into the distribution"
            ) from problem
        raise


@cache
def registry() -> Registry:
    """The registry of installed plugins."""
    return Registry(_from_metadata())


def backends() -> dict[str, dict[str, Any]]:
    """The backends that are installed and usable, by name, with details. No framework is imported."""
    return registry().usable()


def register(spec: type[Spec]) -> type[Spec]:
    """Make a spec of one's own known by its name, to configs, kernels and the conformance suite. A class decorator.

    A plugin's specs come by the hook ``layerhub_specs`` instead. Defining the class again replaces it.
    """
    if not (isinstance(spec, type) and issubclass(spec, Spec) and not spec.abstract):
        raise ParameterError(f"register takes a spec class, such as a subclass of lh.layers.Layer, not {spec!r}")
    registry()  # so that no plugin finds its names taken
    spec.kind.add(spec, "user")
    return spec


def kernel(
    backend: str,
    name: str,
    *,
    kind: str = "layer",
    when: Callable[..., bool] | None = None,
    memory: Mapping[str, tuple[int, ...]] | None = None,
) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorates a kernel of one's own for a spec on a backend; models bound from now on prefer it.

    The options are those of ``layerhub.kernels.KernelSet.register``; ``override_kernel(backend, name, None)`` takes it
    back.
    """

    def enter(function: Callable[..., Any]) -> Kernel:
        made = Kernel(KINDS[kind].find(name).__name__, function, kind, when, memory or {})
        registry().override(backend, name, made, kind)
        return made

    return enter


def override_kernel(backend: str, name: str, function: Callable[..., Any] | None, kind: str = "layer") -> None:
    """Prefer a kernel of one's own, in models bound from now on; None takes it back. See ``layerhub.kernels``."""
    registry().override(backend, name, function, kind)
