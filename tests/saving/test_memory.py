"""Large files are read in place and written piece by piece: what that takes in memory, counted, not timed."""

import tracemalloc
import zipfile

import numpy as np
import pytest

import layerhub as lh
from layerhub.saving import files

from .conftest import same

pytest.importorskip("h5py")
pytest.importorskip("safetensors")
L = lh.layers
SIDE, LAYERS = 512, 8
ONE, ALL = SIDE * SIDE * 4, SIDE * SIDE * 4 * LAYERS
"""Bytes of a weight, and of all of them: 1 and 8 MiB."""


def large():
    return lh.Sequential(
        [lh.Input((SIDE,)), *(L.Dense(SIDE, use_bias=False, kernel_initializer="zeros") for _ in range(LAYERS))], seed=0
    )


def filled():
    model, rng = large(), np.random.default_rng(0)
    model.set_weights([rng.random(w.shape, np.float32) / SIDE for w in model.get_weights()])
    return model


def peak(act):
    """The bytes that a call held at once, beyond those that it was given."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def save(model, path):
    (model.save if path.name.startswith("m") else model.save_weights)(path)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "w.weights.h5", "w.h5", "w.safetensors"])
def test_saving_holds_no_copy_of_the_file_and_loading_one(name, tmp_path, monkeypatch):
    model, path = filled(), tmp_path / name
    save(large(), path)  # what is imported at first use is no part of it
    (lh.models.load_model if name.startswith("m") else large().load_weights)(path)
    assert peak(lambda: save(model, path)) < ONE + ALL / 4
    mapped = []
    real = files.mmap.mmap
    monkeypatch.setattr(files.mmap, "mmap", lambda *given, **how: mapped.append(given[1]) or real(*given, **how))
    found = [large()]

    def load():
        if name.startswith("m"):
            found[0] = lh.models.load_model(path)
        else:
            found[0].load_weights(path)

    taken = peak(load)
    assert ALL <= taken < 1.3 * ALL
    assert sum(mapped) >= ALL
    assert same(found[0].get_weights(), model.get_weights())


def test_a_trained_model_is_loaded_with_one_copy_of_everything(tmp_path):
    model = filled()
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((1, SIDE), "float32"), np.ones((1, SIDE), "float32"))
    model.save(tmp_path / "m.keras")
    lh.models.load_model(tmp_path / "m.keras")
    again = []
    taken = peak(lambda: again.append(lh.models.load_model(tmp_path / "m.keras")))
    assert 3 * ALL <= taken < 1.3 * 3 * ALL
    assert again[0].executor.step == 1


def test_a_large_array_is_mapped_a_piece_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 1 << 17)
    path = tmp_path / "any"
    values = np.random.default_rng(0).random(200_000)
    path.write_bytes(b"12345" + values.tobytes() + b"678")
    with open(path, "rb") as file:
        window = files.Window(file, 3)
        found = np.empty(200_000)
        window.fill(found, 2)
        assert np.array_equal(found, values)
        assert window.read(4) == b"45" + values.tobytes()[:2]
        with pytest.raises(lh.errors.FileFormatError, match="ends before byte"):
            window.fill(found, 6)


def test_weights_that_an_archive_deflates_are_read_too(tmp_path):
    model = filled()
    model.save(tmp_path / "m.keras")
    with (
        zipfile.ZipFile(tmp_path / "m.keras") as source,
        zipfile.ZipFile(tmp_path / "packed.keras", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert same(lh.models.load_model(tmp_path / "packed.keras").get_weights(), model.get_weights())
