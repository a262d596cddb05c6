"""HDF5 files are read as the HDF5 library reads them; where that library fails, the file is refused."""

import io
import subprocess
import sys

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import FileFormatError
from layerhub.saving import hdf5, layout
from layerhub.saving.files import Window

from .conftest import chain, same

h5py = pytest.importorskip("h5py")
L = lh.layers
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(70, 9, 3))
ARRAYS = {
    "float32": (VALUES.astype("f4"), {}),
    "float64, big end first": (VALUES.astype(">f8"), {}),
    "float16": (VALUES.astype("f2"), {}),
    "int64": ((VALUES * 100).astype("i8"), {}),
    "uint16, big end first": (RNG.integers(0, 60000, (5, 2)).astype(">u2"), {}),
    "bool": (VALUES > 0, {}),
    "one number": (np.float32(3), {}),
    "no numbers": (np.zeros((0, 4), "f4"), {}),
    "chunks": (VALUES, {"chunks": (20, 4, 2)}),
    "gzip": (VALUES, {"chunks": (32, 9, 2), "compression": "gzip"}),
    "all filters": ((VALUES * 100).astype("i4"), {"compression": "gzip", "shuffle": True, "fletcher32": True}),
    "checksums": (VALUES[0, 0].astype("f2"), {"chunks": (3,), "fletcher32": True}),
    "many chunks": (RNG.integers(0, 9, (90, 90)).astype("u1"), {"chunks": (3, 3), "compression": "gzip"}),
}


def written(libver="earliest"):
    """A file with all of these, in groups that are large and small."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=libver) as opened:
        for name, (value, how) in ARRAYS.items():
            opened.create_dataset(f"arrays/{name}", data=value, **how)
        opened.create_dataset("arrays/never written", (3, 2), "f4")
        opened.create_dataset("arrays/never written chunks", (3, 2), "f4", chunks=(1, 1))
        space = h5py.h5s.create_simple((4,))
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_layout(h5py.h5d.COMPACT)
        compact = h5py.h5d.create(opened["arrays"].id, b"compact", h5py.h5t.NATIVE_FLOAT, space, how)
        compact.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(4, dtype="f4"))
        for k in range(300):
            opened.create_group(f"many/{k}")
        opened.attrs["text"] = "any length: é"
        opened.attrs["texts"] = ["one", "two", ""]
        opened.attrs["names"] = np.array([b"a", b"bcd"])
        opened.attrs["number"] = 3.5
    return buffer.getvalue()


def opened(content):
    return hdf5.reading(Window(io.BytesIO(content)), "it")


def test_every_array_is_as_the_library_reads_it():
    content = written()
    with opened(content) as root, h5py.File(io.BytesIO(content)) as theirs:
        assert isinstance(root, layout.Node)
        assert set(hdf5.names(root, "arrays")) == set(theirs["arrays"]) > set(ARRAYS)
        for name in theirs["arrays"]:
            expected = theirs["arrays"][name][()]
            found = hdf5.array(hdf5.member(root, f"arrays/{name}"), name, expected.shape, "it")
            assert found.dtype == expected.dtype, name
            assert np.array_equal(found, expected), name


def test_groups_and_attributes_are_as_the_library_reads_them():
    with opened(written()) as root:
        assert set(hdf5.names(root, "many")) == {str(k) for k in range(300)}
        assert hdf5.attribute(root, "text").decode() == "any length: é"
        assert hdf5.attribute(root, "texts") == [b"one", b"two", b""]
        assert hdf5.attribute(root, "names").tolist() == [b"a", b"bcd"]
        assert hdf5.attribute(root, "number") == 3.5
        assert hdf5.attribute(root, "none") is None


def changed(content, place, value):
    data = bytearray(content)
    data[place : place + len(value)] = value
    return bytes(data)


def small():
    """A file of one array in a group, with a text of any length."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("group/array", data=np.arange(6, dtype="f4"))
        file.attrs["text"] = "x" * 300
    return buffer.getvalue()


def read_all(content):
    with opened(content) as root:
        hdf5.attribute(root, "text")
        return hdf5.array(hdf5.member(root, "group/array"), "group/array", (6,), "it")


def test_a_group_that_holds_itself_is_met_once():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("group")
        for name in "abcdefgh":
            group[name] = group
    with opened(buffer.getvalue()) as root:
        assert not hdf5.has_arrays(root)


def test_a_tree_that_leads_back_to_itself_is_told():
    content = small()
    tree = content.index(b"TREE")
    looped = changed(content, tree + 5, b"\1")  # a level above the leaves, whose child
    looped = changed(looped, tree + 32, tree.to_bytes(8, "little"))  # is the tree itself
    with pytest.raises(FileFormatError, match=r"back to itself|none of its own"):
        read_all(looped)


@pytest.mark.parametrize("size", [0, 1, 2**63, 2**64 - 16, 2**64 - 1])
def test_a_heap_with_a_size_that_cannot_be_is_told(size):
    content = small()
    heap = content.index(b"GCOL")
    # The library never comes to an end with some of these.
    with pytest.raises(FileFormatError):
        read_all(changed(content, heap + 24, size.to_bytes(8, "little")))


def test_texts_that_are_the_same_bytes_a_thousand_times_are_not_read_a_thousand_times():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["text"] = "x" * 200_000
        file.attrs.create("texts", ["y"] * 4000, dtype=h5py.string_dtype())
    content = bytearray(buffer.getvalue())
    heaps = {place for place in range(len(content)) if content[place : place + 4] == b"GCOL"}
    places = [
        place
        for place in range(0, len(content) - 16, 8)
        if int.from_bytes(content[place + 4 : place + 12], "little") in heaps
    ]
    whole = next(place for place in places if content[place : place + 4] == (200_000).to_bytes(4, "little"))
    assert len(places) == 4001
    for place in places:
        content[place : place + 16] = content[whole : whole + 16]
    with pytest.raises(FileFormatError, match="over and over"), opened(bytes(content)) as root:
        hdf5.attribute(root, "texts")


# Newer layouts, which the library reads


def newer(tmp_path):
    model = chain()
    with h5py.File(tmp_path / "w.weights.h5", "w", libver="latest") as file:
        hdf5.write(file, ((path, array + 1) for path, array in lh.saving.weights.arrays_of(model)), {})
    return model, tmp_path / "w.weights.h5"


def test_a_file_in_a_newer_layout_is_read_by_the_library(tmp_path):
    model, path = newer(tmp_path)
    other = chain()
    other.load_weights(path)
    assert same(other.get_weights(), [w + 1 for w in model.get_weights()])


@pytest.mark.parametrize(
    "program, told",
    [
        ("import os; os.abort()", r"fails with it \(exit code"),
        ("import time; time.sleep(60)", "did not come to an end"),
        ("print('no good'); raise SystemExit(3)", "no good"),
    ],
)
def test_a_file_of_which_the_library_dies_or_hangs_is_refused(program, told, tmp_path, monkeypatch):
    _, path = newer(tmp_path)
    run = subprocess.run
    monkeypatch.setattr(hdf5, "PATIENCE", 0.5 if "sleep" in program else 20.0)
    monkeypatch.setattr(subprocess, "run", lambda command, **how: run([sys.executable, "-c", program], **how))
    model = chain()
    before = model.get_weights()
    with pytest.raises(FileFormatError, match=told):
        model.load_weights(path)
    assert same(model.get_weights(), before)
