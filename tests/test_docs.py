"""The documentation says what is so."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pluggy
import pytest

from layerhub import hookspecs

ROOT = Path(__file__).parent.parent


def test_generated_parts_are_up_to_date_the_readme_program_and_its_output_included():
    ran = subprocess.run([sys.executable, "tools/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_program_for_keras_runs_with_the_import_changed():
    page = (ROOT / "docs/coming-from-keras.md").read_text(encoding="utf-8")
    program, printed = re.findall(r"```(?:python)?\n(.*?)```", page, re.DOTALL)[:2]
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == printed, ran.stderr


def hooks() -> list[str]:
    manager = pluggy.PluginManager("layerhub")
    manager.add_hookspecs(hookspecs)
    return sorted(name for name in vars(manager.hook) if name.startswith("layerhub_"))


@pytest.mark.parametrize("hook", hooks())
def test_every_hook_documents_when_it_is_called_its_parameters_and_what_it_returns(hook):
    function = getattr(hookspecs, hook)
    text = inspect.getdoc(function)
    assert "Called once" in text and ":return:" in text
    for parameter in inspect.signature(function).parameters:
        assert f":param {parameter}:" in text


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_link_between_pages_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                there = page.parent / target if target else page
                assert there.exists(), f"{page.name} links to {target}"
                assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"
