"""What is imported when, and that the distributions fit together."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = sorted(
    [ROOT / "pyproject.toml", ROOT / "conformance/pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")],
)
FRAMEWORKS = {"torch", "tensorflow", "jax", "keras"}


def project(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"]


def run(*arguments):
    """The output of Python in a process of its own, where warnings are errors."""
    done = subprocess.run([sys.executable, "-W", "error", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_by(code):
    """The top-level modules that are there after ``code``."""
    show = "import sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    return set(run("-c", f"{code}\n{show}").splitlines()[-1].split())


LISTING = """
from layerhub.cli import main
try:
    main(["backends"])
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "code",
    ["import layerhub", "import layerhub; layerhub.backends()", "import layerhub; layerhub.layers.Dense(3)", LISTING],
    ids=["import", "backends()", "a layer", "command line"],
)
def test_no_framework_is_imported_before_it_is_used(code):
    assert not imported_by(code) & FRAMEWORKS


def test_import_layerhub_imports_next_to_nothing():
    assert not imported_by("import layerhub") & {"numpy", "pluggy", "rich", "click"}


def test_specs_import_neither_numpy_nor_a_plugin():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "layerhub/spec").rglob("*.py"))
        if path.stem != "__init__"
    ]
    found = imported_by("import layerhub.spec, " + ", ".join(modules))
    plugins = {name for name in found if name.startswith("layerhub_")}
    assert not plugins | found & (FRAMEWORKS | {"numpy", "array_api_compat", "pluggy", "rich", "click"})


def test_no_module_hides_a_public_name():
    # Importing layerhub.x sets the attribute x of the package, whatever layerhub itself calls x.
    run(
        "-c",
        """
import importlib, pkgutil, layerhub
for module in pkgutil.walk_packages(layerhub.__path__, "layerhub."):
    importlib.import_module(module.name)
for name, module in layerhub._NAMES.items():
    assert getattr(layerhub, name) is getattr(importlib.import_module(f"layerhub.{module}"), name), name
""",
    )


def test_the_module_tests_whether_it_can_see_an_import():
    assert "json" in imported_by("import json.decoder")


# What the core may not name


def names_in(tree):
    """(line, word) of all that code says outside docstrings and comments: imports, names, attributes, strings."""
    docstrings = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        # A string that stands by itself, also below an assignment, documents.
        if isinstance(body, list):
            docstrings |= {id(part.value) for part in body if isinstance(part, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            words = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        elif isinstance(node, ast.Name):
            words = [node.id]
        elif isinstance(node, ast.Attribute):
            words = [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words = [node.value]
        else:
            continue
        yield from ((node.lineno, word) for text in words for word in re.findall(r"[a-z0-9]+", text.lower()))


def offences(source):
    return [(line, word) for line, word in names_in(ast.parse(source)) if word in FRAMEWORKS - {"keras"} | {"tf"}]


ORDERS = "layerhub/spec/spellings.py"
"""Where Keras 1's name for an order of axes stands, which was also that of a framework."""


@pytest.mark.parametrize(
    "path", sorted((ROOT / "layerhub").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_core_names_no_framework(path):
    allowed = ["tf"] if str(path.relative_to(ROOT)) == ORDERS else []
    assert [word for _, word in offences(path.read_text(encoding="utf-8"))] == allowed


@pytest.mark.parametrize(
    "source",
    ["import torch", "from tensorflow import nn", "import layerhub_torch", "known = ['tensorflow']", "f('pip jax')"],
)
def test_naming_a_framework_is_seen(source):
    assert offences(source)


def test_citing_a_framework_is_allowed():
    assert not offences('"""As torch does."""\nx = 1  # tensorflow differs\n"""Not as in jax."""')


# Distributions


def test_all_distributions_have_the_version_of_the_core():
    import layerhub

    assert {path: project(path)["version"] for path in PROJECTS} == dict.fromkeys(PROJECTS, layerhub.__version__)


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_entry_points_name_modules_that_are_shipped(path):
    groups = project(path)["entry-points"]
    folders = [path.parent, *(ROOT / "plugins").glob("*")] if path.parent == ROOT else [path.parent]
    for module in [module for group in groups.values() for module in group.values()]:
        parts = module.partition(":")[0].split(".")
        places = [folder.joinpath(*parts) for folder in folders]
        assert any(place.with_suffix(".py").is_file() or (place / "__init__.py").is_file() for place in places), module


def test_a_backend_is_named_as_its_distribution():
    # The core tells who asks for a backend that is not installed: pip install layerhub-<name>.
    for path in set(PROJECTS) - {ROOT / "pyproject.toml", ROOT / "conformance/pyproject.toml"}:
        for backend in project(path)["entry-points"]["layerhub"]:
            assert project(path)["name"] == f"layerhub-{backend}"


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_direct_dependency_is_pinned():
    wanted = set()
    for path in PROJECTS:
        declared = project(path)
        extras = declared.get("optional-dependencies", {}).values()
        for requirement in [*declared["dependencies"], *(item for extra in extras for item in extra)]:
            wanted.add(re.match(r"[\w.-]+", requirement)[0].lower())
    assert {name for name in wanted if not name.startswith("layerhub")} <= set(pins())


PREFLIGHT = "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, 'tools'); import preflight"


def test_preflight_speaks_of_the_pinned_versions():
    table = run("-c", f"{PREFLIGHT}; print({{name: release for name, (release, _) in preflight.NEWEST.items()}})")
    assert ast.literal_eval(table) == {name: pins()[name] for name in ("numpy", "torch", "tensorflow", "jax")}


def preflight(*arguments, pretend=None):
    """(exit status, message) of the check before an installation, on this Python or one that is pretended."""
    pretence = f"preflight.HERE = {pretend}" if pretend else "pass"
    code = f"{PREFLIGHT}; {pretence}; sys.exit(preflight.main({list(arguments)}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stderr


def test_preflight_accepts_this_python():
    assert preflight("--new", "--asked", sys.executable, "numpy") == (0, "")


@pytest.mark.parametrize(
    "arguments, pretend, words",
    [
        ([], (3, 10), "Python 3.11 or newer is needed"),
        (["torch", "tensorflow"], (3, 14), "leave tensorflow out of BACKENDS"),
        (["torch"], (3, 15), "has no wheels for Pythons after 3.14"),
        (["--asked", "no-such-python"], None, "PYTHON=no-such-python cannot be run"),
        (["--asked", sys.executable], (3, 13), "in the environment that is already there"),
    ],
    ids=["too old", "too new for tensorflow", "too new for all", "not there", "another one"],
)
def test_preflight_says_what_is_wrong(arguments, pretend, words):
    status, message = preflight(*arguments, pretend=pretend)
    assert status == 1
    assert words in message


def make(*arguments, **variables):
    return subprocess.run(
        ["make", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("BACKENDS", "PYTHON")} | variables,
    )


def test_make_alone_tells_what_there_is():
    assert "make demo" in make().stdout


def test_make_refuses_an_unknown_backend_before_it_installs_anything(tmp_path):
    done = make("demo", f"VENV={tmp_path / 'venv'}", "BACKENDS=numpy nonsense")
    assert done.returncode
    assert "no plugin here is called nonsense; BACKENDS may name: numpy torch tensorflow jax" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_make_refuses_a_python_that_is_not_there(tmp_path):
    done = make("demo", f"VENV={tmp_path / 'venv'}", PYTHON="no-such-python")
    assert done.returncode
    assert "there is no no-such-python; install Python 3.11 or newer" in done.stderr
    assert not (tmp_path / "venv").exists()
