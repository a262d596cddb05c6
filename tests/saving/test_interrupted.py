"""A save that is stopped anywhere leaves the file that was there, whole; and what it left is cleaned up."""

import errno
import os
import signal
import subprocess
import sys

import pytest

import layerhub as lh
from layerhub.errors import LayerHubError, StorageError
from layerhub.saving import files

from .conftest import chain, compiled, data_for, same

pytest.importorskip("h5py")
pytest.importorskip("safetensors")
fcntl = pytest.importorskip("fcntl")
NAMES = ("m.keras", "m.h5", "w.weights.h5", "w.h5", "w.safetensors")


def save(model, path):
    (model.save if path.name.startswith("m") else model.save_weights)(path)


def load(path):
    if path.name.startswith("m"):
        return lh.models.load_model(path)
    model = chain()
    model.load_weights(path)
    return model


class Failing:
    """A file whose call number ``last`` of those that change it fails."""

    def __init__(self, file, last):
        self.file, self.last, self.calls = file, last, 0

    def __getattr__(self, name):
        found = getattr(self.file, name)
        if name not in ("write", "truncate", "flush", "writelines"):
            return found

        def counted(*arguments):
            self.calls += 1
            if self.calls > self.last:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return found(*arguments)

        return counted

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.file.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_full_at_any_write_leaves_the_file_and_nothing_else(name, tmp_path, monkeypatch):
    model = compiled(chain())
    model.fit(*data_for(model), verbose=0)
    path = tmp_path / name
    save(model, path)
    before, weights = path.read_bytes(), model.get_weights()
    model.set_weights([w + 1 for w in weights])
    real, last, made = open, 0, []

    def failing(target, mode="r", *arguments, **named):
        file = real(target, mode, *arguments, **named)
        if mode != "x+b":
            return file
        made.append(Failing(file, last))
        return made[-1]

    monkeypatch.setattr(files, "open", failing, raising=False)
    while True:
        try:
            save(model, path)
        except StorageError as problem:
            assert isinstance(problem, OSError) and problem.errno == errno.ENOSPC
            assert name in str(problem) and "No space left" in str(problem)
            assert path.read_bytes() == before, last
            assert os.listdir(tmp_path) == [name], last
            last += 1 if last < 30 else 7
        else:
            break
    assert last >= (1 if name == "w.safetensors" else 3)
    assert same(load(path).get_weights(), model.get_weights())


def test_a_folder_that_is_not_to_be_written_to_is_told_with_the_path(tmp_path, monkeypatch):
    def refused(*arguments, **named):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files, "open", refused, raising=False)
    with pytest.raises(StorageError, match=r"m\.keras cannot be written: Permission denied"):
        chain().save(tmp_path / "m.keras")


KILLED = """
import os, signal, sys
import layerhub as lh
from layerhub.saving import files
model = lh.Sequential([lh.Input((6,)), lh.layers.Dense(5)])
save = model.save if sys.argv[1].endswith(".keras") else model.save_weights
save(sys.argv[1])
model.set_weights([w + 1 for w in model.get_weights()])
names = ("write", "truncate", "flush")

class Deadly:
    calls = 0
    def __init__(self, file):
        self.file = file
    def __getattr__(self, name):
        found = getattr(self.file, name)
        return (lambda *a: (step(), found(*a))[1]) if name in names else found
    def __enter__(self):
        return self
    def __exit__(self, *problem):
        self.file.close()

def step():
    Deadly.calls += 1
    if Deadly.calls == last:
        os.kill(os.getpid(), signal.SIGKILL)

real = open
files.open = lambda target, mode="r", *a, **k: (
    Deadly(real(target, mode, *a, **k)) if mode == "x+b" else real(target, mode, *a, **k)
)
first = True
for last in map(int, sys.argv[2:]):
    Deadly.calls = 0
    if os.fork() == 0:
        save(sys.argv[1])
        os._exit(0)
    code = os.wait()[1]
    found = lh.Sequential([lh.Input((6,)), lh.layers.Dense(5)])
    found.load_weights(sys.argv[1])
    killed = os.WIFSIGNALED(code)
    print(killed, bool(found.get_weights()[1].any()), len(os.listdir(os.path.dirname(sys.argv[1]))))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not made so here")
@pytest.mark.parametrize("name", ["m.keras", "w.weights.h5", "w.safetensors"])
def test_a_process_that_is_killed_at_any_write_leaves_the_file_and_the_next_save_cleans_up(name, tmp_path):
    steps = ["1", "2", "3", "1", "1000000"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / name), *steps], capture_output=True, text=True, timeout=100
    )
    assert not done.returncode, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    # Killed, the file is the old one, and there is one draft beside it: that of the save before is gone.
    assert all(line == ["True", "False", "2"] for line in lines[:2]), lines
    assert lines[-1] == ["False", "True", "1"]


def test_a_draft_that_someone_still_writes_is_left_alone(tmp_path):
    draft = tmp_path / f".m.keras.{'0' * 32}{files.DRAFT}"
    stale = tmp_path / f".m.keras.{'1' * 32}{files.DRAFT}"
    others = tmp_path / f".n.keras.{'1' * 32}{files.DRAFT}"
    for path in (draft, stale, others):
        path.write_bytes(b"x")
    with open(draft, "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        chain().save(tmp_path / "m.keras")
        assert set(tmp_path.iterdir()) == {tmp_path / "m.keras", draft, others}
    chain().save(tmp_path / "m.keras")
    assert set(tmp_path.iterdir()) == {tmp_path / "m.keras", others}


def test_a_name_as_long_as_names_may_be_is_saved(tmp_path):
    path = tmp_path / ("x" * 249 + ".keras")
    chain().save(path)
    chain().save(path)
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_keeps_its_permissions(tmp_path):
    chain().save(tmp_path / "m.keras")
    (tmp_path / "m.keras").chmod(0o640)
    chain().save(tmp_path / "m.keras")
    assert (tmp_path / "m.keras").stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.keras")
    signal.alarm(20)
    try:
        for read in (lh.models.load_model, chain().load_weights):
            with pytest.raises(LayerHubError, match="it is no file"):
                read(tmp_path / "pipe.keras")
            with pytest.raises(LayerHubError, match="cannot be read"):
                read(tmp_path / "nul\0.keras")
    finally:
        signal.alarm(0)
