"""The backends themselves: a kernel that does not load would go unnoticed, since the definition serves in its place."""

from __future__ import annotations

from layerhub.registry import registry
from layerhub_conformance.bench import BrokenError


def test_the_plugins_of_the_backends_have_no_problem(layerhub_session):
    told = []
    for name in layerhub_session.backends:
        try:
            told += layerhub_session.bench(name).call(problems, name)
        except BrokenError as problem:
            told.append(f"{name}: {problem}")
    assert not told, "\n".join(told)


def problems(name: str) -> list[str]:
    """What is wrong with the plugin that a backend comes from, its kernels loaded."""
    registry().kernels(name, "Dense")
    plugin = registry().entries[name][1].name
    return [f"{problem.plugin}: {problem.reason}" for problem in registry().problems if problem.plugin == plugin]
