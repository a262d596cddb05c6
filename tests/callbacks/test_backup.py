"""BackupAndRestore: training that breaks off anywhere ends as if nothing had happened."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import resuming

import layerhub as lh
from layerhub.callbacks import BackupAndRestore, Callback, CSVLogger, EarlyStopping, LambdaCallback
from layerhub.errors import FileFormatError, LayerHubError, ParameterError, WeightsError


class CrashError(Exception):
    """The process ends here."""


class Crashing(Callback):
    """Ends the process before a batch."""

    figures = False

    def __init__(self, before):
        self.left = before

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise CrashError


@pytest.fixture(scope="module", params=["numpy", "torch"])
def whole(request, tmp_path_factory):
    """(a backend, what an unbroken run on it leaves)."""
    folder = tmp_path_factory.mktemp("whole")
    return request.param, resuming.train(resuming.classifier(request.param), folder)


def test_the_run_that_is_broken_off_has_something_to_lose(whole):
    _, found = whole
    assert found["epochs"] == [0, 1, 2, 3, 4]  # it is stopped early
    assert found["rate"] < 0.02 * 0.9**5  # the plateau was reached, too
    assert len(found["csv"].splitlines()) == 6


@pytest.mark.parametrize("save_freq, before", [(1, 3), (2, 8), (2, 20), (3, 24), ("epoch", 7), ("epoch", 13), (1, 5)])
def test_a_run_that_broke_off_ends_with_the_same_weights_figures_rates_and_files(whole, save_freq, before, tmp_path):
    backend, expected = whole
    with pytest.raises(CrashError):
        resuming.train(resuming.classifier(backend), tmp_path, Crashing(before), save_freq=save_freq)
    again = resuming.classifier(backend, seed=77)  # another process draws another seed
    assert resuming.same(resuming.train(again, tmp_path, save_freq=save_freq), expected)
    assert not (tmp_path / "backup").exists()


def test_a_process_killed_at_a_random_moment_goes_on_to_the_same_end(whole, tmp_path):
    backend, expected = whole
    rng = np.random.default_rng(len(backend))
    found = resuming.killed(backend, tmp_path, rng)
    assert found["killed"]
    assert found["all"] < 25 + found["at"]  # it did not begin anew
    assert resuming.same(found, expected)


def small(optimizer="adam", seed=1, backend="numpy", **options):
    layers = [lh.Input((3,)), lh.layers.Dense(4), lh.layers.Dropout(0.5), lh.layers.Dense(1)]
    model = lh.Sequential(layers, backend=backend, seed=seed)
    model.compile(optimizer, "mse", **options)
    return model


X, Y = np.random.default_rng(0).normal(size=(2, 20, 3))
Y = Y[:, :1]


def broken(folder, before, model=None, **options):
    """A fit that breaks off before some batch."""
    backup = BackupAndRestore(folder, save_freq=1)
    with pytest.raises(CrashError):
        (model or small()).fit(X, Y, batch_size=4, verbose=0, callbacks=[backup, Crashing(before)], **options)


def resumed(folder, model=None, x=X, y=Y, batch_size=4, **options):
    """The same fit, called again."""
    model = model or small(seed=9)
    model.fit(x, y, batch_size=batch_size, verbose=0, callbacks=[BackupAndRestore(folder, save_freq=1)], **options)
    return model


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_what_backends_compile_goes_on_too(backend, tmp_path):
    expected = small(backend=backend)
    expected.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    broken(tmp_path, 7, small(backend=backend), epochs=2)
    found = resumed(tmp_path, small(seed=9, backend=backend), epochs=2)
    assert found.history.history == expected.history.history
    assert all(np.array_equal(a, b) for a, b in zip(expected.get_weights(), found.get_weights(), strict=True))


def test_batches_that_were_done_are_not_computed_again(tmp_path):
    broken(tmp_path, 3)
    told = []
    batches = LambdaCallback(on_train_batch_begin=lambda batch, logs: told.append(batch))
    small().fit(X, Y, batch_size=4, verbose=0, callbacks=[BackupAndRestore(tmp_path, 1), batches])
    assert told == [3, 4]


def test_the_figures_of_an_epoch_are_of_all_its_batches(tmp_path):
    broken(tmp_path, 3)
    assert resumed(tmp_path).history.history == small().fit(X, Y, batch_size=4, verbose=0).history


@pytest.mark.parametrize("before", [1, 2, 4])
def test_batches_that_go_through_one_call_together_go_on_after_a_crash(before, tmp_path):
    def together(seed=1):
        return small(seed=seed, steps_per_execution=2)

    expected = together()
    expected.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    with pytest.raises(CrashError):
        crashing = [BackupAndRestore(tmp_path, 2), Crashing(before)]
        together().fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=crashing)
    found = together(seed=9)
    found.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path, 2)])
    assert found.history.history == expected.history.history
    assert all(np.array_equal(a, b) for a, b in zip(expected.get_weights(), found.get_weights(), strict=True))


def test_early_stopping_that_was_decided_stays_decided(tmp_path):
    """Killed after the last epoch's backup, before the end of training is told."""

    class Ending(Callback):
        def on_train_end(self, logs=None):
            raise CrashError

    def listed(*more):
        return [EarlyStopping("loss", patience=1, min_delta=9), BackupAndRestore(tmp_path), *more]

    with pytest.raises(CrashError):
        small().fit(X, Y, epochs=9, verbose=0, callbacks=[Ending(), *listed()])
    history = small().fit(X, Y, epochs=9, verbose=0, callbacks=listed())
    assert history.epoch == [0, 1]


@pytest.mark.parametrize("before", [3, 4, 6])
def test_passes_that_go_on_from_epoch_to_epoch_go_on_after_a_crash(before, tmp_path):
    options = {"batch_size": 5, "epochs": 4, "steps_per_epoch": 2, "verbose": 0}
    expected, found = small(), small(seed=9)
    expected.fit(X, Y, **options)
    with pytest.raises(CrashError):
        small().fit(X, Y, callbacks=[BackupAndRestore(tmp_path, 1), Crashing(before)], **options)
    found.fit(X, Y, callbacks=[BackupAndRestore(tmp_path, 1)], **options)
    assert all(np.array_equal(a, b) for a, b in zip(expected.get_weights(), found.get_weights(), strict=True))


def generated():
    """A generator that ends."""
    for k in range(16):
        yield X[k : k + 4], Y[k : k + 4]


class Numbered:
    """Batches by number, in an order that the model draws."""

    def __len__(self):
        return 5

    def __getitem__(self, k):
        return X[4 * k : 4 * k + 4], Y[4 * k : 4 * k + 4]


class Drawn:
    """Batches in an order that each pass draws anew, from one generator of random numbers."""

    def __init__(self):
        self.rng = np.random.default_rng(4)

    def __iter__(self):
        order = self.rng.permutation(20)  # when the first batch is asked for, as in a loader of torch
        for k in range(0, 20, 4):
            yield X[order[k : k + 4]], Y[order[k : k + 4]]


@pytest.mark.parametrize("data, steps", [(generated, 4), (Numbered, None), (Numbered, 3), (Drawn, None), (Drawn, 3)])
@pytest.mark.parametrize("before", [1, 4, 7, 9])
def test_streams_go_on_where_they_were(data, steps, before, tmp_path):
    options = {"epochs": 4, "steps_per_epoch": steps, "verbose": 0}
    expected, found = small(), small(seed=9)
    expected.fit(data(), **options)
    # The first weights come from the seed, so the second process needs it only before the first backup.
    with pytest.raises(CrashError):
        small().fit(data(), callbacks=[BackupAndRestore(tmp_path, 1), Crashing(before)], **options)
    found.fit(data(), callbacks=[BackupAndRestore(tmp_path, 1)], **options)
    assert all(np.array_equal(a, b) for a, b in zip(expected.get_weights(), found.get_weights(), strict=True))


def test_data_that_end_before_the_place_where_training_stopped_are_refused(tmp_path):
    with pytest.raises(CrashError):
        small().fit(generated(), verbose=0, callbacks=[BackupAndRestore(tmp_path, 1), Crashing(9)])
    short = (batch for batch in [(X[:4], Y[:4])])
    with pytest.raises(lh.errors.DataError, match="end before batch 9"):
        small().fit(short, verbose=0, callbacks=[BackupAndRestore(tmp_path, 1)])


def test_a_model_that_a_callback_moved_goes_on_where_it_was_moved_to(tmp_path):
    class Mover(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.to("torch")

    with pytest.raises(CrashError):
        small().fit(X, Y, epochs=4, verbose=0, callbacks=[Mover(), BackupAndRestore(tmp_path), Crashing(2)])
    model = small(seed=9)
    places = []
    watch = LambdaCallback(on_epoch_begin=lambda epoch, logs: places.append((epoch, model.backend)))
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[BackupAndRestore(tmp_path), watch])
    assert places == [(2, "torch"), (3, "torch")]


def test_a_model_made_for_another_backend_goes_on_there(tmp_path, monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")
    broken(tmp_path, 7, epochs=3)
    found, expected = resumed(tmp_path, small().to("torch"), epochs=3), small()
    expected.fit(X, Y, batch_size=4, epochs=3, verbose=0)
    assert found.backend == "torch"
    for a, b in zip(expected.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_what_is_trained_in_float16_goes_on_with_the_scale_of_its_loss(backend, tmp_path):
    def half(seed=1):
        layers = [lh.Input((3,)), lh.layers.Dense(4, dtype="float16"), lh.layers.Dense(1, dtype="float16")]
        model = lh.Sequential(layers, backend=backend, seed=seed)
        model.compile(lh.optimizers.LossScaleOptimizer("adam", initial_scale=2.0**40, dynamic_growth_steps=2), "mse")
        return model

    expected = half()
    expected.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    broken(tmp_path, 6, half(), epochs=2)
    found = resumed(tmp_path, half(seed=9), epochs=2)
    for model in (expected, found):
        model.executor.settle()
    assert expected.executor.scaling == found.executor.scaling
    assert found.executor.scaling.skipped > 0
    assert all(np.array_equal(a, b) for a, b in zip(expected.get_weights(), found.get_weights(), strict=True))


# What cannot be gone on from


@pytest.mark.parametrize(
    "model, said",
    [
        (lambda: small("sgd"), "Adam"),
        (lambda: small(metrics=["mae"]), "figures"),
        (lambda: lh.Sequential([lh.Input((3,)), lh.layers.Dense(1)]), "2 .*6 weights|6 weights"),
    ],
)
def test_a_backup_of_another_model_is_refused_and_changes_nothing(model, said, tmp_path):
    broken(tmp_path, 3)
    model = model()
    if model.optimizer is None:
        model.compile("adam", "mse")
    before = model.get_weights()
    with pytest.raises(WeightsError, match=rf"backup\.npz is of another model.*({said}|4 weights)"):
        resumed(tmp_path, model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_backup_made_in_the_middle_of_an_epoch_of_other_data_is_refused(tmp_path):
    broken(tmp_path, 3)
    model = small(seed=9)
    before = model.get_weights()
    with pytest.raises(WeightsError, match=r"20 samples in batches of 4, but there are 20 samples in batches of 5 now"):
        resumed(tmp_path, model, batch_size=5)
    assert model.seed == 9 and all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_backup_of_an_optimizer_that_keeps_something_else_is_refused(tmp_path):
    broken(tmp_path, 3)
    with pytest.raises(WeightsError, match=r"keeps arrays of shapes .* for dense.*/kernel, and .* frozen, otherwise"):
        resumed(tmp_path, small(lh.optimizers.Adam(amsgrad=True)))


def test_a_table_that_is_gone_is_told_of_and_not_taken_for_damage(tmp_path):
    table, backup = CSVLogger(tmp_path / "a.csv"), BackupAndRestore(tmp_path / "b")
    with pytest.raises(CrashError):
        small().fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[table, backup, Crashing(7)])
    (tmp_path / "a.csv").unlink()
    with pytest.raises(FileFormatError, match=r"CSVLogger: .*a\.csv has 0 bytes, and had \d+ when the backup was made"):
        small().fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[CSVLogger(tmp_path / "a.csv"), backup])


def test_a_damaged_backup_is_refused_or_harmless(tmp_path):
    broken(tmp_path, 3)
    path = tmp_path / "backup.npz"
    content = path.read_bytes()
    expected = small()
    expected.fit(X, Y, batch_size=4, verbose=0)
    rng, refused = np.random.default_rng(2), 0
    for k in range(60):
        harmed = bytearray(content)
        if k % 4 == 0:
            harmed = harmed[: int(rng.integers(len(harmed)))]
        else:
            harmed[int(rng.integers(len(harmed)))] ^= int(rng.integers(1, 256))
        tmp_path.mkdir(exist_ok=True)
        path.write_bytes(harmed)
        model = small(seed=9)
        try:
            resumed(tmp_path, model)
        except LayerHubError as problem:
            assert "delete it" in str(problem) or "deleted" in str(problem)
            refused += 1
        else:
            assert all(np.array_equal(a, b) for a, b in zip(expected.get_weights(), model.get_weights(), strict=True))
    assert refused > 40


@pytest.mark.parametrize(
    "change", [{"format": "other"}, {"epoch": "x"}, {"seed": None}, {"homes": 3}, {"place": [1]}, {"rates": 3}]
)
def test_a_backup_that_says_something_else_is_refused(change, tmp_path):
    broken(tmp_path, 3)
    path = tmp_path / "backup.npz"
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    about = json.loads(arrays.pop("about").tobytes()) | change
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    with pytest.raises(FileFormatError, match=re.escape(str(path))):
        resumed(tmp_path)


def test_with_two_backups_a_damaged_one_is_made_up_for_by_the_one_before(tmp_path):
    with pytest.raises(CrashError):
        small().fit(X, Y, batch_size=4, verbose=0, callbacks=[BackupAndRestore(tmp_path, 1, True), Crashing(3)])
    (tmp_path / "backup.npz").write_bytes(b"PK")
    told = []
    batches = LambdaCallback(on_train_batch_begin=lambda batch, logs: told.append(batch))
    small(seed=9).fit(X, Y, batch_size=4, verbose=0, callbacks=[BackupAndRestore(tmp_path, 1), batches])
    assert told == [2, 3, 4]


def test_drafts_of_a_process_that_was_killed_are_cleared_away_and_other_files_left_alone(tmp_path):
    draft, other = tmp_path / f".{'0a' * 16}.npz", tmp_path / "notes.txt"
    draft.touch(), other.touch()
    resumed(tmp_path)
    assert list(tmp_path.iterdir()) == [other]


def test_a_backup_that_is_kept_lets_training_go_on_for_more_epochs(tmp_path):
    kept = BackupAndRestore(tmp_path, delete_checkpoint=False)
    small().fit(X, Y, epochs=2, verbose=0, callbacks=[kept])
    history = small(seed=9).fit(X, Y, epochs=3, verbose=0, callbacks=[kept])
    assert history.history == small().fit(X, Y, epochs=3, verbose=0).history


@pytest.mark.parametrize(
    "given, said",
    [(("",), "backup_dir"), (("x", 0), "save_freq"), (("x", "batch"), "save_freq"), (("x", True), "save_freq")],
)
def test_backups_are_told_where_and_when(given, said):
    with pytest.raises(ParameterError, match=rf"BackupAndRestore: {said} must be"):
        BackupAndRestore(*given)


def test_a_state_that_cannot_be_kept_is_named(tmp_path):
    class Odd(Callback):
        def state(self):
            return {"what": object()}

    with pytest.raises(ParameterError, match="state may have strings, numbers"):
        small().fit(X, Y, verbose=0, callbacks=[Odd(), BackupAndRestore(tmp_path)])
