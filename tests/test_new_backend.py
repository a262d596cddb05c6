"""``layerhub new-backend``: its project installs, is found and conforms; the page about backends fits it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from layerhub import __version__, scaffold
from layerhub.cli import main
from layerhub.errors import ParameterError
from layerhub.hookspecs import API_VERSIONS

ROOT = Path(__file__).parents[1]
FILES = {
    ".github/workflows/conformance.yml", ".gitignore", "README.md", "expected_failures.toml", "pyproject.toml",
    "layerhub_mylib/__init__.py", "layerhub_mylib/backend.py", "layerhub_mylib/kernels/__init__.py",
    "layerhub_mylib/kernels/core.py", "tests/test_conformance.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The folder of a new project for ``mylib``."""
    folder = tmp_path_factory.mktemp("new") / "layerhub-mylib"
    scaffold.new_backend("mylib", folder)
    return folder


# What is written


def test_a_project_has_all_its_files_and_nothing_is_left_to_fill_in(project):
    written = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert written == FILES
    for name in FILES:
        text = (project / name).read_text(encoding="utf-8")
        assert not re.search(r"\$(?!\{\{)", text), f"{name} has a placeholder"
        assert text.endswith("\n")
        if name.endswith(".py"):
            ast.parse(text)


def test_the_projects_metadata_fit_this_layerhub(project):
    told = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    release = ".".join(__version__.split(".")[:2])
    assert told["project"]["name"] == "layerhub-mylib"
    assert told["project"]["dependencies"] == [f"layerhub>={release}", "numpy"]
    assert told["project"]["optional-dependencies"]["test"] == [f"layerhub-conformance>={release}"]
    assert told["project"]["entry-points"]["layerhub"] == {"mylib": "layerhub_mylib"}
    assert "license" not in told["project"]
    assert f"LAYERHUB_API = {API_VERSIONS[-1]}\n" in (project / "layerhub_mylib/__init__.py").read_text(
        encoding="utf-8"
    )
    assert tomllib.loads((project / "expected_failures.toml").read_text(encoding="utf-8")) == {}


@pytest.mark.parametrize("command", [["check", "--select=E,F,I,B,UP"], ["format", "--check"]], ids=" ".join)
def test_the_projects_code_is_tidy(project, command):
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--isolated", "--line-length=120"]
    ran = subprocess.run(ruff, capture_output=True, text=True, cwd=project)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_backend_of_two_words_is_called_so_everywhere(tmp_path):
    scaffold.new_backend("my_lib2", tmp_path / "new")
    assert "class MyLib2Backend(Backend)" in (tmp_path / "new/layerhub_my_lib2/backend.py").read_text(encoding="utf-8")


def test_a_library_of_that_name_is_the_namespace(tmp_path, monkeypatch):
    (tmp_path / "library_here.py").write_text("from array_api_strict import *")
    (tmp_path / "library_half.py").write_text("from array_api_strict import *\ndel where, expm1")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert scaffold.namespace_for("library_here") == ("library_here", "")
    assert scaffold.namespace_for("library_half") == (
        "numpy", "the module library_half lacks expm1, where of the Python array API standard"
    )  # fmt: skip
    scaffold.new_backend("library_here", tmp_path / "new")
    backend = (tmp_path / "new/layerhub_library_here/backend.py").read_text(encoding="utf-8")
    assert "\nimport library_here as xp " in backend
    assert 'requires=("library_here",)' in (tmp_path / "new/layerhub_library_here/__init__.py").read_text("utf-8")


def test_a_namespace_inside_a_library_requires_the_library_and_its_distribution(tmp_path):
    scaffold.new_backend("mylib", tmp_path / "new", "array_api_compat.numpy")
    assert '"array-api-compat"]' in (tmp_path / "new/pyproject.toml").read_text(encoding="utf-8")
    assert 'requires=("array_api_compat",)' in (tmp_path / "new/layerhub_mylib/__init__.py").read_text("utf-8")


@pytest.mark.skipif(not find_spec("hatchling"), reason="without hatchling, pip would download it")
def test_the_templates_are_in_the_wheel(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(scaffold.SUFFIX)}
    assert len(shipped) == len(FILES)


# What is refused


@pytest.mark.parametrize(
    "name, hint",
    [
        ("My-Lib", "Did you mean 'my_lib'?"), ("mylib.numpy", "Did you mean 'mylib_numpy'?"), ("2d", ""), ("", ""),
        ("class", ""), ("../up", "Did you mean 'up'?"), ("größe", "Did you mean 'gr_e'?"),
    ],
)  # fmt: skip
def test_a_name_that_no_module_can_have_is_refused(name, hint, tmp_path):
    with pytest.raises(ParameterError, match=r"begins with a letter; it cannot be") as caught:
        scaffold.new_backend(name, tmp_path / "new")
    assert str(caught.value).endswith(f"{name!r}.{' ' + hint if hint else ''}")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name, words",
    [
        ("numpy", "a backend called 'numpy' is installed already, by the plugin"),
        ("conformance", "layerhub_conformance"),
    ],
)
def test_a_name_that_is_taken_is_refused(name, words):
    with pytest.raises(ParameterError, match=words):
        scaffold.check_name(name)


@pytest.mark.parametrize(
    "namespace, words",
    [
        ("nobody_has_this", "cannot be imported"), ("math", "the module math lacks abs, add"), ("a b", "no name of a"),
        ("", "no name of a module"),
    ],
)  # fmt: skip
def test_a_namespace_that_cannot_serve_is_refused(namespace, words, tmp_path):
    with pytest.raises(ParameterError, match=words) as caught:
        scaffold.new_backend("mylib", tmp_path / "new", namespace)
    assert "begin without --namespace, on numpy" in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(ParameterError, match="is there already, and is no empty folder; nothing was written"):
            scaffold.new_backend("mylib", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine.txt"]
    with pytest.raises(ParameterError, match="the project cannot be written to"):
        scaffold.new_backend("mylib", tmp_path / "file/below")


def test_the_command_tells_what_it_wrote_and_what_comes_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["new-backend", "mylib"])
    assert told.exit_code == 0, told.output
    assert {f"layerhub-mylib/{name}" for name in FILES} <= set(told.output.splitlines())
    assert "It runs on numpy, since the module mylib cannot be imported" in told.output
    assert "cd layerhub-mylib" in told.output
    again = CliRunner().invoke(main, ["new-backend", "mylib"])
    assert again.exit_code == 2
    assert "is there already" in again.output
    assert CliRunner().invoke(main, ["new-backend", "mylib", "--into", "other"]).exit_code == 0
    assert (tmp_path / "other/pyproject.toml").is_file()


# What becomes of it


def environment_of(project, target):
    """The environment variables of processes in which the project is installed, by pip, and from no index."""
    offline = ["--no-index", "--no-build-isolation"] if find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *offline, "--target", str(target)]
    done = subprocess.run([*pip, str(project)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(seen), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def environment(project, tmp_path_factory):
    return environment_of(project, tmp_path_factory.mktemp("installed"))


def run(environment, *command, cwd):
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def layerhub(environment, *arguments, cwd):
    command = "import sys; from layerhub.cli import main; sys.exit(main())"
    return run(environment, sys.executable, "-c", command, *arguments, cwd=cwd)


def test_it_is_listed_without_its_library_being_imported(environment, tmp_path):
    code = """
import sys
import layerhub as lh
assert "mylib" in lh.backends()
assert "layerhub_mylib" in sys.modules and "layerhub_mylib.backend" not in sys.modules
"""
    run(environment, sys.executable, "-W", "error", "-c", code, cwd=tmp_path)
    rows = json.loads(layerhub(environment, "backends", "--json", cwd=tmp_path))
    assert [row["usable"] for row in rows if row["backend"] == "mylib"] == [True]


def test_its_kernel_serves_and_differentiates(environment, tmp_path):
    code = """
import numpy as np
import layerhub as lh
x, dy = np.arange(12, dtype="float32").reshape(2, 2, 3), np.ones((2, 2, 4), "float32")
found = lh.evaluate_layer(lh.layers.Dense(4), x, backend="mylib", cotangents=[dy])
assert found.routes == ["kernel of mylib"], found.routes
np.testing.assert_array_equal(found.weight_grads[0], np.tile(x.sum((0, 1))[:, None], 4))
np.testing.assert_array_equal(found.weight_grads[1], np.full(4, 4))
"""
    run(environment, sys.executable, "-W", "error", "-c", code, cwd=tmp_path)


def test_it_conforms_as_it_stands(environment, tmp_path):
    told = layerhub(environment, "conformance", "--backend", "mylib", "--tier", "smoke", cwd=tmp_path)
    for name in ("Dense", "BatchNormalization", "LSTM", "SeparableConv2D", "Adam"):
        assert re.search(rf"^{name} .*\d+/\d+", told, re.MULTILINE), told


def test_its_own_tests_are_those_of_the_suite(environment, project):
    options = ["-q", "-p", "no:cacheprovider", "--layerhub-layer", "Dense", "--layerhub-tier", "smoke"]
    told = run(environment, sys.executable, "-m", "pytest", *options, cwd=project)
    assert re.search(r"^Dense .*\d+/\d+", told, re.MULTILINE), told
    assert re.search(r"\b[1-9]\d* passed", told), told


# The page


PAGE = ROOT / "docs/writing-a-backend.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_about_backends_runs_as_it_stands(project, tmp_path):
    """Its blocks are files of the project, by their first lines, or programs."""
    there = shutil.copytree(project, tmp_path / "project")
    files, programs = {}, []
    for block in blocks():
        named = re.match(r"# (layerhub_mylib/\S+\.py)\n", block)
        if named:
            files.setdefault(named[1], []).append(block)
        else:
            programs.append(block)
    for name, parts in files.items():
        (there / name).write_text("\n\n".join(parts), encoding="utf-8")
    assert set(files) - FILES == {"layerhub_mylib/executor.py"}
    target = tmp_path / "installed"
    environment = environment_of(there, target)
    (target / "mylib.py").write_text("import sys\n\nimport numpy\n\nsys.modules[__name__] = numpy\n")
    told = run(environment, sys.executable, "-W", "error", "-c", "\n".join(programs), cwd=tmp_path)
    assert "('x', 'kernel', 'bias') ('x', 'kernel', 'recurrent_kernel', 'bias', " in told
    assert "['kernel of mylib'] (2, 4) [(3, 4), (4,)]" in told
    run(environment, sys.executable, "-W", "error", "-c", COMPILED, cwd=tmp_path)
    layerhub(environment, "conformance", "--backend", "mylib", "--tier", "smoke", "--layer", "Dense", cwd=tmp_path)


COMPILED = """
import numpy as np
import layerhub as lh
from layerhub.registry import registry
from layerhub_conformance.cases import corpus
from layerhub_mylib.executor import MylibExecutor

backend, compiled = registry().backend("mylib"), []
type(backend).executor = lambda self, program, device=None: MylibExecutor(self, program, device)
type(backend).compiled = lambda self, function: compiled.append(function) or function
x = np.ones((6, 3), "float32")
model = lh.Sequential([lh.Input((3,)), lh.layers.Dense(2), lh.layers.Dropout(0.5)], backend="mylib", seed=1)
model.compile("sgd", "mse")
model.fit(x, x[:, :2], epochs=2, batch_size=2, verbose=0)
y = model.predict(x, verbose=0)
np.testing.assert_allclose(y, model.to("numpy").predict(x, verbose=0), rtol=1e-5)
assert len(compiled) == 1, compiled
assert any(case.shapes == ((31, 129),) for case in corpus())
"""


def test_every_extra_and_every_capability_is_explained():
    from layerhub.contract import Backend
    from layerhub.namespace import EXTRAS

    page = PAGE.read_text(encoding="utf-8")
    for name in EXTRAS:
        assert f"| `{name}(" in page
    public = {name for name in vars(Backend) if not name.startswith("_")}
    internal = {"name", "namespace", "check", "check_serves", "check_device", "own_autodiff", "recording_xp"}
    for name in public - internal:
        assert re.search(rf"`{name}\b", page), name
