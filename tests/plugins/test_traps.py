"""What pluggy lets pass in silence, or lets take everything down, is reported by the plugin's name; the rest runs."""

import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from layerhub.contract import Backend
from layerhub.errors import BackendError
from layerhub.hookspecs import BackendEntry, hookimpl
from layerhub.kernels import KernelSet
from layerhub.registry import Registry


class Tiny(Backend):
    """Called whatever its entry says."""

    namespace = np


def plugin(api=1, **hooks):
    """A plugin's module, with these functions as its hooks."""
    module = types.ModuleType("layerhub_fake")
    if api is not None:
        module.LAYERHUB_API = api
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function))
    return module


def offering(name, **more):
    """A plugin with a backend called ``name``."""
    return plugin(layerhub_backend=lambda: BackendEntry(name, load=Tiny), **more)


def registry_of(**modules):
    return Registry([(name, lambda module=module: module) for name, module in modules.items()])


def only_problem(registry, plugin):
    """The one problem there is, which must be this plugin's."""
    (problem,) = registry.problems
    assert problem.plugin == plugin
    return problem.reason


def usable(registry):
    """The backends that can be loaded, loaded."""
    return [name for name in registry.usable() if isinstance(registry.backend(name), Backend)]


# --------------------------------------------------------------------------------------------- one plugin at a time


def test_a_misspelt_hook_is_reported_and_offers_nothing():
    bad = plugin(layerhub_backend=lambda: BackendEntry("bad", load=Tiny), layerhub_backends=lambda: None)
    registry = registry_of(bad=bad, good=offering("good"))
    assert "layerhub_backends" in only_problem(registry, "bad")
    assert usable(registry) == ["good"]


@pytest.mark.parametrize("hook", ["layerhub_backend", "layerhub_specs"])
def test_a_hook_that_raises_leaves_the_other_plugins_alone(hook):
    def broken():
        raise RuntimeError("out of luck")

    registry = registry_of(first=offering("first"), bad=plugin(**{hook: broken}), last=offering("last"))
    assert only_problem(registry, "bad") == "RuntimeError: out of luck"
    assert usable(registry) == ["first", "last"]


def test_a_hook_that_raises_halfway_through_its_answers_is_reported():
    def several():
        yield BackendEntry("one", load=Tiny)
        raise RuntimeError("out of luck")

    registry = registry_of(bad=plugin(layerhub_backend=several), good=offering("good"))
    assert only_problem(registry, "bad") == "RuntimeError: out of luck"
    assert "good" in usable(registry)


def test_a_kernels_hook_that_raises_leaves_the_other_plugins_kernels_alone():
    kernels = KernelSet()

    @kernels.register("Dense")
    def dense(layer, x, kernel, bias):
        return x

    def broken(backend):
        raise RuntimeError("out of luck")

    good = plugin(layerhub_kernels=lambda backend: kernels)
    registry = registry_of(a=plugin(layerhub_kernels=broken), b=good, c=offering("tiny"))
    assert [kernel.plugin for kernel in registry.kernels("tiny", "Dense")] == ["b"]
    assert only_problem(registry, "a") == "RuntimeError: out of luck"


def test_a_plugin_that_cannot_be_imported_leaves_the_others_alone():
    def load():
        raise ImportError("no module named luck")

    registry = Registry([("bad", load), ("good", lambda: offering("good"))])
    assert only_problem(registry, "bad") == "ImportError: no module named luck"
    assert usable(registry) == ["good"]


def test_a_backend_that_comes_of_a_plugin_that_cannot_be_imported_is_said_to_be_broken():
    def load():
        raise ImportError("no module named luck")

    registry = Registry([("bad", load)])
    with pytest.raises(BackendError) as caught:
        registry.backend("bad")
    assert str(caught.value) == "the plugin 'bad' is installed but broken: ImportError: no module named luck"


def test_an_interrupt_while_a_plugin_is_imported_is_not_held_up():
    """Only errors are kept; an interrupt is the user's."""

    def load():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Registry([("bad", load)])


def test_the_second_backend_of_a_name_is_refused_and_the_first_one_stays():
    first = object()
    registry = registry_of(
        a=plugin(layerhub_backend=lambda: BackendEntry("same", load=Tiny, install=first)), b=offering("same")
    )
    assert only_problem(registry, "b") == "the backend name 'same' is already taken by a"
    assert registry.entries["same"][0].install is first


@pytest.mark.parametrize(
    "api, said, remedy",
    [
        (None, "declares no LAYERHUB_API", "set LAYERHUB_API in the plugin's module"),
        (0, "was written for plugin API 0", "set LAYERHUB_API in the plugin's module"),
        ("1", "was written for plugin API '1'", "set LAYERHUB_API in the plugin's module"),
        (2, "was written for plugin API 2", "pip install --upgrade layerhub"),
    ],
)
def test_a_plugin_for_no_or_another_version_of_the_hooks_is_reported_with_what_to_do(api, said, remedy):
    bad = plugin(api=api, layerhub_backend=lambda: BackendEntry("bad", load=Tiny))
    registry = registry_of(bad=bad, good=offering("good"))
    assert only_problem(registry, "bad") == f"{said}; this LayerHub supports 1: {remedy}"
    assert usable(registry) == ["good"]


def test_a_hook_whose_argument_has_a_default_is_reported_since_it_would_never_get_its_value():
    kernels = KernelSet()
    bad = plugin(layerhub_kernels=lambda backend="numpy": kernels)
    registry = registry_of(bad=bad, good=offering("good"))
    assert "backend" in only_problem(registry, "bad")
    assert "default" in only_problem(registry, "bad")


def test_a_plugin_whose_hook_asks_for_an_unknown_argument_is_not_half_registered():
    """pluggy registers hooks in turn, and keeps those that came before the one that it refuses."""
    bad = plugin(
        layerhub_backend=lambda: BackendEntry("bad", load=Tiny), layerhub_kernels=lambda backend, device: KernelSet()
    )
    registry = registry_of(bad=bad, good=offering("good"))
    assert "device" in only_problem(registry, "bad")
    assert usable(registry) == ["good"]
    assert [found.name for found in registry.plugins] == ["good"]


@pytest.mark.parametrize("answer", ["numpy", 3, object(), [None, "numpy"], {"name": "numpy"}])
def test_what_is_no_backend_entry_is_reported(answer):
    registry = registry_of(bad=plugin(layerhub_backend=lambda: answer), good=offering("good"))
    assert "layerhub_backend must return a BackendEntry" in only_problem(registry, "bad")
    assert usable(registry) == ["good"]


def test_what_is_no_kernel_set_is_reported():
    registry = registry_of(bad=plugin(layerhub_kernels=lambda backend: 3), good=offering("tiny"))
    assert registry.kernels("tiny", "Dense") == []
    assert only_problem(registry, "bad") == "layerhub_kernels must return a KernelSet, not 3"


@pytest.mark.parametrize("answer", [3, "Dense", int])
def test_what_is_no_spec_is_reported(answer):
    registry = registry_of(bad=plugin(layerhub_specs=lambda: [answer]), good=offering("good"))
    assert only_problem(registry, "bad")
    assert usable(registry) == ["good"]


def test_no_answer_is_fine():
    registry = registry_of(
        quiet=plugin(
            layerhub_backend=lambda: None, layerhub_specs=lambda: None, layerhub_kernels=lambda backend: None,
            layerhub_conformance_cases=lambda: None,
        ),
        empty=plugin(),
        good=offering("good"),
    )  # fmt: skip
    assert registry.kernels("good", "Dense") == []
    assert registry.problems == []
    assert [found.ask("layerhub_conformance_cases") for found in registry.plugins] == [[], [], []]


def test_each_hook_is_asked_once_and_kernels_once_for_each_backend():
    asked = []
    counting = plugin(
        layerhub_backend=lambda: asked.append("backend") or BackendEntry("tiny", load=Tiny),
        layerhub_specs=lambda: asked.append("specs"),
        layerhub_kernels=lambda backend: asked.append(f"kernels of {backend}"),
    )
    registry = registry_of(counting=counting)
    for _ in range(3):
        registry.listing()
        registry.backend("tiny")
        registry.kernels("tiny", "Dense")
        registry.kernels("tiny", "LSTM")
        registry.kernels("other", "Dense")
    assert asked == ["backend", "specs", "kernels of tiny", "kernels of other"]


# --------------------------------------------------------------------------------------------- through entry points


def install(folder, name, source):
    """A distribution with a plugin, as pip would leave it in ``folder``."""
    info = folder / f"layerhub_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: layerhub-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[layerhub]\n{name} = layerhub_{name}\n")
    (folder / f"layerhub_{name}.py").write_text(source)


def installed(folder, code):
    """What ``code`` printed, as JSON, in a process that sees what is installed in ``folder``."""
    seen = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": seen})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_broken_distributions_are_told_by_the_command_line_and_leave_numpy_alone(tmp_path):
    install(tmp_path, "absent", "import a_module_that_nobody_has\n")
    install(tmp_path, "wordless", "raise SystemError('a bad day')\n")
    install(tmp_path, "unversioned", "x = 1\n")
    misspelt = "from layerhub.hookspecs import hookimpl\nLAYERHUB_API = 1\n@hookimpl\ndef layerhub_back(): ...\n"
    install(tmp_path, "misspelt", misspelt)
    rows = installed(tmp_path, "from layerhub.cli import main; main(['backends', '--json'])")
    rows = rows if isinstance(rows, list) else [*rows["problems"], *rows["backends"].values()]
    told = {row["plugin"]: str(row) for row in rows}
    assert "a_module_that_nobody_has" in told["absent"]
    assert "a bad day" in told["wordless"]
    assert "LAYERHUB_API" in told["unversioned"]
    assert "layerhub_back" in told["misspelt"]
    assert "numpy" in told


def test_the_embedded_backend_wins_its_name_over_a_distribution_that_takes_it_too(tmp_path):
    source = """
from layerhub.hookspecs import BackendEntry, hookimpl
LAYERHUB_API = 1
@hookimpl
def layerhub_backend():
    return BackendEntry("numpy", load=lambda: None)
"""
    install(tmp_path, "aaa", source)
    code = """
import json
from layerhub.registry import registry
problems = [[p.plugin, p.reason] for p in registry().problems]
print(json.dumps([problems, registry().listing()["numpy"]["plugin"]]))
"""
    problems, owner = installed(tmp_path, code)
    assert owner == "numpy"
    assert ["aaa", "the backend name 'numpy' is already taken by numpy"] in problems
