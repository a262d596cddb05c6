"""Changed files and configs are refused by a LayerHubError, or read; the tool that tries it notices when they are not.

`docs/fuzzing.md` has the large run, of which this is a small part.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import layerhub as lh

pytest.importorskip("h5py")
pytest.importorskip("safetensors")
pytest.importorskip("yaml")
pytest.importorskip("resource")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "tools" / "fuzz.py")
    module = sys.modules["fuzz"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fuzz"]


def test_changed_files_and_configs_are_refused_or_read():
    ran = subprocess.run(
        [sys.executable, "tools/fuzz.py", "--inputs", "250", "--seed", "7"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "**0 went wrong.**" in ran.stdout


def test_an_input_depends_on_its_number_alone(fuzz, tmp_path):
    known = fuzz.bases(tmp_path)
    numbers = range(1, 60)
    first = [fuzz.made(known, 0, k) for k in numbers]
    assert [fuzz.made(known, 0, k) for k in reversed(numbers)] == first[::-1]
    assert {given.form for given in first} == set(fuzz.FORMS)


def given(fuzz, known, form):
    """What was not changed."""
    return fuzz.Input(form, "dense", known.files["dense", form])


def test_files_that_were_not_changed_are_read(fuzz, tmp_path):
    known = fuzz.bases(tmp_path)
    targets = {"dense": fuzz.models()["dense"]()}
    for path in tmp_path.iterdir():
        path.unlink()
    for form in sorted({form for _, form in known.files}):
        assert fuzz.run(given(fuzz, known, form), tmp_path, targets) == "read", form


def raises(model, path):
    raise ZeroDivisionError


def takes_all_memory(model, path):
    raise MemoryError


def changes_the_model(model, path):
    model.set_weights([w + 1 for w in model.get_weights()])
    raise lh.errors.FileFormatError("refused")


def leaves_a_file(model, path):
    path.with_name("left").touch()


def changes_the_file(model, path):
    path.write_bytes(b"")


@pytest.mark.parametrize("fault", [raises, takes_all_memory, changes_the_model, leaves_a_file, changes_the_file])
def test_what_comes_out_wrong_is_noticed(fault, fuzz, tmp_path, monkeypatch):
    monkeypatch.setattr(lh.Sequential, "load_weights", fault)
    targets = {"dense": fuzz.models()["dense"]()}
    with pytest.raises((ZeroDivisionError, MemoryError, AssertionError)):
        fuzz.run(fuzz.Input("w.weights.h5", "dense", b"x"), tmp_path, targets)


PLANTED = """
import os, sys, time
sys.path.insert(0, {tools!r})
import layerhub as lh
calls = 0

def load_weights(*given):
    global calls
    calls += 1
    os.abort() if calls == 1 and sys.argv[-1] != "second" else time.sleep(60)

lh.Sequential.load_weights = load_weights
import fuzz
fuzz.PATIENCE, fuzz.FORMS, fuzz.OFTEN, fuzz.EVERY = 2, ("w.weights.h5",), ("dense",), 10**9
if __name__ == "__main__":
    found = fuzz.watched(0, 0, 1)
    assert [what for _, _, what in found.wrong] == ["dies (-6)"], found
    sys.argv.append("second")
    found = fuzz.watched(0, 0, 1)
    assert [what for _, _, what in found.wrong] == ["hangs"], found
"""


def test_a_process_that_dies_or_hangs_is_noticed(tmp_path):
    script = tmp_path / "planted.py"
    script.write_text(PLANTED.format(tools=str(ROOT / "tools")))
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_page_has_the_result_of_a_hundred_thousand_inputs():
    page = (ROOT / "docs" / "fuzzing.md").read_text(encoding="utf-8")
    assert "**0 went wrong.**" in page
    count = int(re.search(r"--inputs (\d+)", page)[1])
    rows = re.findall(r"^\| \S.* \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert count >= 100_000 and sum(int(n) for row in rows for n in row) == count
