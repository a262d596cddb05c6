"""The backends themselves: a kernel that does not load would go unnoticed, since the definition serves in its place."""

from __future__ import annotations

from layerhub.registry import registry


def test_the_plugins_of_the_backends_have_no_problem(request):
    names = request.config.getoption("layerhub_backend") or list(registry().usable())
    for name in names:
        registry().kernels(name, "Dense")  # loads all kernels
    plugins = {registry().entries[name][1].name for name in names}
    wrong = [f"{problem.plugin}: {problem.reason}" for problem in registry().problems if problem.plugin in plugins]
    assert not wrong, "\n".join(wrong)
