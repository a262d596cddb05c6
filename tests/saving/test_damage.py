"""Files that are damaged, or lie, are told and change nothing; a save that fails leaves what was there."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import layerhub as lh
from layerhub import saving
from layerhub.errors import FileFormatError, LayerHubError, WeightsError

from .conftest import chain, compiled, data_for, same

h5py = pytest.importorskip("h5py")
pytest.importorskip("safetensors")
L = lh.layers
KINDS = ("m.keras", "w.weights.h5", "w.safetensors")


def saved(name, folder):
    """A file of each kind, of a model that was trained."""
    model = compiled(chain())
    x, y = data_for(model)
    model.fit(x, y, verbose=0)
    if name.endswith(".keras"):
        model.save(folder / name)
    else:
        model.save_weights(folder / name)
    return folder / name


def try_it(path, content):
    """Load a changed file; None where it was refused and changed nothing, else the weights that it gave."""
    path.write_bytes(content)
    model = chain()
    before = model.get_weights()
    try:
        if path.suffix == ".keras":
            return lh.models.load_model(path).get_weights()
        model.load_weights(path)
    except LayerHubError:
        assert same(model.get_weights(), before)
        return None
    return model.get_weights()


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_cut_off_is_refused(name, tmp_path):
    path = saved(name, tmp_path)
    whole = path.read_bytes()
    for length in [*range(0, 64, 7), *np.linspace(64, len(whole) - 1, 40, dtype=int)]:
        assert try_it(path, whole[:length]) is None, length


@pytest.mark.parametrize("name", KINDS)
def test_a_file_with_changed_bytes_is_refused_or_harmless(name, tmp_path):
    path = saved(name, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole)
    first = try_it(path, whole)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 120):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        found = try_it(path, bytes(changed))
        # An archive has checksums; of other files the values themselves may differ.
        assert found is None or name != "m.keras" or same(found, first), place
        assert found is None or [w.shape for w in found] == [w.shape for w in first]


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x05" + bytes(7) + b"{"])
def test_what_is_no_such_file_is_refused(content, tmp_path):
    path = tmp_path / "any.keras"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"any\.keras"):
        lh.models.load_model(path)
    with pytest.raises(FileFormatError, match=r"any\.keras"):
        chain().load_weights(path)


# Archives that lie


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path, changes, compression=zipfile.ZIP_STORED):
    content = members(path) | changes
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"config.json": None}, "no config.json"),
        ({"model.weights.h5": None}, "no model.weights.h5"),
        ({"config.json": b"{"}, "no JSON"),
        ({"config.json": b"[1]"}, "no JSON object"),
        ({"config.json": b"[" * 100_000}, "no JSON"),
        ({"config.json": b"\xff"}, "no JSON"),
        ({"config.json": b"{}"}, "describes no model"),
        ({"config.json": b'{"class_name": "Sequential", "config": {}}'}, "describes no model"),
        ({"config.json": b'{"class_name": "Sequential", "config": {"layers": [3]}}'}, "describes no model"),
        ({"config.json": b'{"class_name": "Functional", "config": {"layers": [3]}}'}, "a layer of a model is"),
        ({"model.weights.h5": b"nothing"}, "HDF5 file is none"),
        ({"../escaped": b""}, "leads out"),
        ({"/escaped": b""}, "leads out"),
        ({"assets\\..\\..\\escaped": b""}, "leads out"),
    ],
)
def test_an_archive_that_is_none_is_refused(changes, told, tmp_path):
    path = rewritten(saved("m.keras", tmp_path), changes)
    with pytest.raises(FileFormatError, match=told):
        lh.models.load_model(path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.keras"]


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    path = saved("m.keras", tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    with pytest.raises(FileFormatError, match="twice"):
        lh.models.load_model(path)


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_a_member_that_grows_beyond_measure_is_not_unpacked(name, tmp_path):
    path = rewritten(saved("m.keras", tmp_path), {name: bytes(1 << 25)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(FileFormatError, match="claims 33554432 bytes"):
        lh.models.load_model(path)


@pytest.mark.parametrize(
    "training", [3, {"step": -1}, {"step": "2"}, {"step": 1e999}, {"epochs": None}, {"scale": True}], ids=str
)
def test_what_an_archive_says_of_training_is_checked(training, tmp_path):
    metadata = json.dumps({"layerhub": {"training": training}})
    path = rewritten(saved("m.keras", tmp_path), {"metadata.json": metadata})
    with pytest.raises(FileFormatError, match="training"):
        lh.models.load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "no_such_optimizer"},
        {"loss": "no_such_loss"},
        {"metrics": ["no_such_metric"]},
        {"optimizer": None},
        {"loss": [1, 2]},
    ],
    ids=str,
)
def test_a_compile_config_that_cannot_be_had_is_told_and_may_be_left_out(change, tmp_path):
    path = saved("m.keras", tmp_path)
    config = json.loads(members(path)["config.json"])
    config["compile_config"] |= change
    rewritten(path, {"config.json": json.dumps(config)})
    with pytest.raises(lh.errors.ParameterError, match="compile=False"):
        lh.models.load_model(path)
    assert lh.models.load_model(path, compile=False).name == "chain"


# HDF5 files that lie


def edited(path, edit):
    """The file with its HDF5 part changed by a function."""
    buffer = io.BytesIO(members(path)["model.weights.h5"] if path.suffix == ".keras" else path.read_bytes())
    with h5py.File(buffer, "r+") as opened:
        edit(opened)
    if path.suffix == ".keras":
        return rewritten(path, {"model.weights.h5": buffer.getvalue()})
    path.write_bytes(buffer.getvalue())
    return path


def replaced(place, make):
    def edit(opened):
        del opened[place]
        make(opened, place)

    return edit


def external(opened, place):
    opened.create_dataset(place, (6, 5), "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def virtual(opened, place):
    layout = h5py.VirtualLayout((6, 5), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (6, 5))
    opened.create_virtual_dataset(place, layout)


KERNEL = "layers/dense/vars/0"
LIES = {
    "gone": (lambda opened: opened.pop(KERNEL), "1 arrays at layers/dense/vars|numbers from 0"),
    "more": (lambda opened: opened.create_dataset("layers/dense/vars/2", data=[1.0]), "3 arrays"),
    "another layer": (lambda opened: opened.create_dataset("layers/lstm/cell/vars/0", data=[1.0]), "layer lstm"),
    "shape": (replaced(KERNEL, lambda f, p: f.create_dataset(p, data=np.ones((5, 6)))), r"\(6, 5\).*\(5, 6\)"),
    "text": (replaced(KERNEL, lambda f, p: f.create_dataset(p, data=np.full((6, 5), b"x"))), "numbers were expected"),
    "group": (replaced(KERNEL, lambda f, p: f.create_group(p)), "no array"),
    "no group": (replaced("layers/dense", lambda f, p: f.create_dataset(p, data=np.ones(9))), "0 arrays|no group"),
    "no groups": (replaced("layers", lambda f, p: f.create_dataset(p, data=np.ones(9))), "0 arrays|no group"),
    "link": (replaced(KERNEL, lambda f, p: f.update({p: h5py.SoftLink("/layers/dense_1/vars/0")})), "link"),
    "file": (replaced(KERNEL, lambda f, p: f.update({p: h5py.ExternalLink("/etc/hostname", "/")})), "link"),
    "external": (replaced(KERNEL, external), "another file"),
    "virtual": (replaced(KERNEL, virtual), "another file"),
}


@pytest.mark.parametrize("name", ["m.keras", "w.weights.h5"])
@pytest.mark.parametrize("lie", LIES)
def test_an_hdf5_file_that_lies_is_refused(lie, name, tmp_path):
    edit, told = LIES[lie]
    path = edited(saved(name, tmp_path), edit)
    model = chain()
    before = model.get_weights()
    with pytest.raises((FileFormatError, WeightsError), match=told):
        model.load_weights(path)
    assert same(model.get_weights(), before)
    if name == "m.keras":
        with pytest.raises((FileFormatError, WeightsError), match=told):
            lh.models.load_model(path)


def test_an_array_that_claims_more_than_is_stored_is_not_read(tmp_path):
    model = lh.Sequential([lh.Input((10_000,)), L.Dense(10_000, use_bias=False)])
    with h5py.File(tmp_path / "w.weights.h5", "w") as opened:
        opened.create_dataset(KERNEL, (10_000, 10_000), "f4", chunks=(100, 100), compression="gzip")
    with pytest.raises(FileFormatError, match="claims 400000000 bytes"):
        model.load_weights(tmp_path / "w.weights.h5")


@pytest.mark.parametrize(
    "edit, told",
    [
        (lambda opened: opened.pop("optimizer/vars/3"), "numbers from 0|arrays at optimizer"),
        (lambda opened: opened.create_dataset("optimizer/vars/99", data=1.0), "numbers from 0"),
        (replaced("optimizer/vars/2", lambda f, p: f.create_dataset(p, data=[1.0])), "a slot of"),
        (replaced("optimizer/vars/0", lambda f, p: f.create_dataset(p, data=-3)), "training"),
        (lambda opened: opened.create_dataset("layerhub/slots/77/0", data=1.0), "no weight"),
    ],
)
def test_what_a_file_has_of_an_optimizer_is_checked(edit, told, tmp_path):
    path = edited(saved("m.keras", tmp_path), edit)
    rewritten(path, {"metadata.json": "{}"})
    with pytest.raises((FileFormatError, WeightsError), match=told):
        lh.models.load_model(path)
    assert lh.models.load_model(path, compile=False).name == "chain"


# Saving


@pytest.mark.parametrize("name", KINDS)
def test_a_save_that_fails_leaves_what_was_there(name, tmp_path, monkeypatch):
    path = saved(name, tmp_path)
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        saved(name, tmp_path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


STOPPED = """
import os, signal, sys
import layerhub as lh
model = lh.Sequential([lh.Input((6,)), lh.layers.Dense(5)])
save = model.save if sys.argv[1].endswith(".keras") else model.save_weights
save(sys.argv[1])
model.set_weights([w + 1 for w in model.get_weights()])
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
save(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes are not killed so here")
def test_a_process_that_is_killed_while_it_saves_leaves_the_file_before(tmp_path):
    path = tmp_path / "m.keras"
    done = subprocess.run([sys.executable, "-c", STOPPED, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    model = lh.models.load_model(path)
    assert not model.get_weights()[1].any()
    assert len(list(tmp_path.iterdir())) == 2  # the file, and the draft that nobody could remove


@pytest.mark.parametrize("module, name", [("hdf5", "w.weights.h5"), ("tensors", "w.safetensors")])
def test_a_library_that_is_not_installed_is_told_with_the_command(module, name, tmp_path, monkeypatch):
    def none(name):
        raise ImportError(name)

    path = saved(name, tmp_path)
    monkeypatch.setattr(getattr(saving, module), "import_module", none)
    for attempt in (chain().save_weights, chain().load_weights):
        with pytest.raises(lh.errors.MissingPackageError, match=r"pip install 'layerhub\[files\]'"):
            attempt(path)
