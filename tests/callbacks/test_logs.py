"""Callbacks that write down, or pass on, what they are told."""

from __future__ import annotations

import csv
import io
import json
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import numpy as np
import pytest

import layerhub as lh
from layerhub.callbacks import (
    BaseLogger,
    Callback,
    CallbackList,
    CSVLogger,
    History,
    LambdaCallback,
    RemoteMonitor,
    TensorBoard,
)
from layerhub.errors import MissingPackageError, OldSpellingWarning, ParameterError

# Who is told


def test_callbacks_may_be_one_or_nested_lists_of_them(make, fit):
    told = []
    one, two, three = (LambdaCallback(on_train_begin=lambda logs, k=k: told.append(k)) for k in range(3))
    fit(make(), callbacks=one)
    fit(make(), callbacks=[one, [two, (three,)]])
    fit(make(), callbacks=CallbackList([two]))
    fit(make(), callbacks=None)
    assert told == [0, 0, 1, 2, 1]


@pytest.mark.parametrize("wrong", [3, "EarlyStopping", History])
def test_what_is_no_callback_is_refused(wrong, make, fit):
    with pytest.raises(ParameterError, match=r"a callback must be a layerhub\.callbacks\.Callback, not"):
        fit(make(), callbacks=[wrong])


def test_hooks_have_the_older_names_of_batches_too(make, fit):
    class Old(Callback):
        def __init__(self):
            self.told = []

        def on_batch_begin(self, batch, logs=None):
            self.told.append(batch)

        def on_batch_end(self, batch, logs=None):
            self.told.append(sorted(logs))

    old = Old()
    fit(make(), old, steps_per_epoch=2)
    assert old.told == [0, ["loss"], 1, ["loss"]]


def test_a_list_of_callbacks_is_one_callback():
    told = []
    both = CallbackList([LambdaCallback(on_epoch_end=lambda *given: told.append(given))], epochs=3)
    both.append(LambdaCallback(on_batch_end=lambda *given: told.append(given)))
    both.on_epoch_end(2, {"loss": 1})
    both.on_batch_end(7)
    both.on_train_begin()
    assert told == [(2, {"loss": 1}), (7, {})]
    assert [c.params for c in both] == [{"epochs": 3}] * 2


def test_what_callbacks_put_into_the_logs_is_in_the_history(make, fit):
    class Adds(Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["epoch_squared"] = epoch**2

    assert fit(make(), Adds(), epochs=3).history["epoch_squared"] == [0, 1, 4]


def test_a_history_of_ones_own_is_the_one_that_fit_returns_and_begins_anew(make, fit):
    mine, model = History(), make()
    assert fit(model, mine) is mine
    assert fit(model, mine) is mine
    assert mine.epoch == [0] and len(mine.history["loss"]) == 1


def test_callbacks_that_hear_of_no_batch_cost_none(make, fit):
    """Not one call for each batch, and no figures are read from the device before the epoch ends."""
    model = make()
    told = CallbackList([CSVLogger("x.csv"), TensorBoard("x"), History()], add_progbar=True, model=model, verbose=1)
    for hook in ("on_train_batch_begin", "on_train_batch_end", "on_test_batch_end", "on_predict_batch_end"):
        assert not told.listens(hook) and not told.wants_figures(hook)


def test_figures_of_batches_are_read_once_for_all_and_only_where_somebody_wants_them(make, fit):
    class Quiet(Callback):
        figures = False

        def __init__(self):
            self.told = []

        def on_train_batch_end(self, batch, logs=None):
            self.told.append(dict(logs))

    alone, beside = Quiet(), Quiet()
    fit(make(), alone, steps_per_epoch=1)
    fit(make(), beside, LambdaCallback(on_train_batch_end=lambda batch, logs: None), steps_per_epoch=1)
    assert alone.told == [{}]
    assert list(beside.told[0]) == ["loss"]


def test_callbacks_learn_when_training_ends_by_an_exception(make, fit):
    class Holding(Callback):
        abandonings = 0

        def abandoned(self):
            Holding.abandonings += 1

    class Failing(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            raise ZeroDivisionError("on purpose")

        def abandoned(self):
            raise OSError("the disk is gone")

    with pytest.raises(ZeroDivisionError) as caught:
        fit(make(), Failing(), Holding())
    assert Holding.abandonings == 1
    assert "Failing.abandoned: OSError('the disk is gone')" in caught.value.__notes__[0]
    fit(make(), Holding())
    assert Holding.abandonings == 1


def test_keras_2s_base_logger_is_taken_and_told_to_be_of_no_use(make, fit):
    with pytest.warns(OldSpellingWarning, match="BaseLogger has nothing to do any more"):
        logger = BaseLogger(["mae"])
    assert list(fit(make(), logger).history) == ["loss"]


# CSV


def read(path, delimiter=","):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_a_table_has_the_figures_of_each_epoch_exactly(make, fit, tmp_path):
    history = fit(make(metrics=["mae"]), CSVLogger(tmp_path / "a.csv", ";"), epochs=3, validation_split=0.2).history
    rows = read(tmp_path / "a.csv", ";")
    assert list(rows[0]) == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == values


def test_a_table_has_columns_for_a_validation_that_comes_later(make, fit, tmp_path):
    fit(make(), CSVLogger(tmp_path / "a.csv"), epochs=2, validation_split=0.2, validation_freq=2)
    rows = read(tmp_path / "a.csv")
    assert rows[0]["val_loss"] == "NA" and float(rows[1]["val_loss"]) > 0


@pytest.mark.parametrize("append, epochs", [(False, ["0", "1"]), (True, ["0", "1", "0", "1"])])
def test_a_table_is_written_anew_or_gone_on_with(append, epochs, make, fit, tmp_path):
    logger = CSVLogger(tmp_path / "a.csv", append=append)
    for _ in range(2):
        fit(make(), logger, epochs=2)
    assert [row["epoch"] for row in read(tmp_path / "a.csv")] == epochs


def test_figures_for_each_class_are_one_cell(make, fit, tmp_path):
    class Several(Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["f1"] = [0.5, 0.25]

    fit(make(), Several(), CSVLogger(tmp_path / "a.csv"))
    assert read(tmp_path / "a.csv")[0]["f1"] == "[0.5, 0.25]"


# A server


class Server(HTTPServer):
    """Keeps what it is sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answering)
        self.got = []


class Answering(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.got.append((self.path, self.headers["Content-Type"], self.headers["Who"], body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *given):
        pass


@pytest.mark.parametrize("as_json", [False, True])
def test_a_server_is_sent_the_figures(as_json, make, fit):
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        monitor = RemoteMonitor(root, "/here/", "figures", {"Who": "me"}, send_as_json=as_json)
        history = fit(make(), monitor, epochs=2).history
        server.shutdown()
    path, kind, who, body = server.got[1]
    sent = json.loads(body if as_json else parse_qs(body)["figures"][0])
    assert (path, kind, who) == ("/here/", f"application/{'json' if as_json else 'x-www-form-urlencoded'}", "me")
    assert sent == {"epoch": 1, "loss": history["loss"][1]}


def test_a_server_that_does_not_answer_is_a_warning(make, fit):
    with pytest.warns(UserWarning, match=r"http://127.0.0.1:9 could not be reached"):
        fit(make(), RemoteMonitor("http://127.0.0.1:9"))


# TensorBoard


@pytest.fixture
def events(monkeypatch):
    """``events(folder)``: tag -> [(step, value), …], as TensorBoard reads them."""
    if "tensorflow" not in sys.modules:  # TensorBoard would import it, and does without
        monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    make_ndarray = pytest.importorskip("tensorboard.util.tensor_util").make_ndarray

    def read(folder):
        found = accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
        found.Reload()
        return {
            tag: [(event.step, make_ndarray(event.tensor_proto)) for event in found.Tensors(tag)]
            for tag in found.Tags()["tensors"]
        }

    return read


def test_tensorboard_reads_the_figures_of_epochs_evaluations_and_batches(make, fit, events, tmp_path):
    batches = []
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(logs["loss"]))
    board = TensorBoard(tmp_path, update_freq=3, write_steps_per_second=True)
    history = fit(make(metrics=["mae"]), watch, board, epochs=2, validation_split=0.25, batch_size=4).history
    train, validation = events(tmp_path / "train"), events(tmp_path / "validation")
    for there, prefix in ((train, ""), (validation, "val_")):
        for name in ("loss", "mae"):
            steps, values = zip(*there[f"epoch_{name}"], strict=True)
            assert steps == (0, 1)
            assert list(values) == [np.float32(value) for value in history[prefix + name]]
    assert [step for step, _ in train["batch_loss"]] == [3, 6]
    assert [value for _, value in train["batch_loss"]] == [np.float32(batches[2]), np.float32(batches[5])]
    assert [step for step, _ in validation["evaluation_loss_vs_iterations"]] == [4, 8]
    assert [float(value) for _, value in train["epoch_learning_rate"]] == [np.float32(0.01)] * 2
    assert all(value > 0 for tag in ("epoch", "batch") for _, value in train[f"{tag}_steps_per_second"])


def test_an_evaluation_by_itself_is_written_too_and_its_file_closed(make, data, events, tmp_path):
    board = TensorBoard(tmp_path)
    loss = make().evaluate(*data, verbose=0, callbacks=[board])
    assert events(tmp_path / "validation")["evaluation_loss_vs_iterations"] == [(0, np.float32(loss))]
    assert not board._files


def test_tensorboard_reads_weights_as_histograms_and_pictures_and_the_graph(fit, events, tmp_path):
    image = pytest.importorskip("PIL.Image")
    model = lh.Sequential([lh.Input((3,)), lh.layers.Dense(4, name="hidden"), lh.layers.Dense(1, name="out")], seed=4)
    model.compile("sgd", "mse")
    kept = []
    keeping = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()[0]))
    fit(model, keeping, TensorBoard(tmp_path, histogram_freq=2, write_images=True), epochs=3)
    found = events(tmp_path / "train")
    (first, _), (last, bars) = found["hidden/kernel/histogram"]
    assert (first, last) == (0, 2)
    counts, edges = np.histogram(kept[2].astype("float64"), 30)
    np.testing.assert_array_equal(bars[:, 2], counts)
    np.testing.assert_array_equal(bars[:, :2], np.stack([edges[:-1], edges[1:]], 1))
    _, (width, height, picture) = found["hidden/kernel/image"][1]
    assert (width, height) == (b"4", b"3")
    pixels = np.asarray(image.open(io.BytesIO(picture)))
    assert pixels.shape == (3, 4)
    # Darkest where the weight is least, brightest where it is largest, in between as it lies between.
    weight = kept[2].astype("float64")
    low, high = weight.min(), weight.max()
    assert np.array_equal(pixels, np.round((weight - low) / (high - low) * 255))
    graph = pytest.importorskip("tensorboard.plugins.graph.keras_util").keras_model_to_graph_def(
        json.loads(found["keras"][0][1].item())
    )
    assert [node.name.rpartition("/")[2] for node in graph.node][1:] == ["hidden", "out"]


def test_weights_that_are_not_finite_have_histograms_of_what_is(events, tmp_path):
    from layerhub.callbacks.tensorboard import EventFile, as_pictures

    file = EventFile(tmp_path)
    file.histogram("w", np.array([1.0, np.nan, np.inf, 2.0]), 0)
    file.close()
    assert events(tmp_path)["w"][0][1][:, 2].sum() == 2
    assert as_pictures(np.array([[np.nan]])) is None
    assert as_pictures(np.zeros((3, 3, 2, 5))).shape == (10, 3, 3)


def test_tables_of_embeddings_are_written_for_the_projector(tmp_path):
    model = lh.Sequential([lh.Input((2,), dtype="int32"), lh.layers.Embedding(5, 3, name="words"), lh.layers.Flatten()])
    model.compile("sgd", "mse")
    board = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"words": "words.txt"})
    model.fit(np.zeros((4, 2)), np.zeros((4, 6)), verbose=0, callbacks=[board])
    table = np.loadtxt(tmp_path / "embedding_words.tsv", delimiter="\t")
    np.testing.assert_array_equal(table.astype("float32"), model.get_weights()[0])
    config = pytest.importorskip("tensorboard.plugins.projector").ProjectorConfig()
    text_format = pytest.importorskip("google.protobuf.text_format")
    text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), config)
    (about,) = config.embeddings
    assert (about.tensor_name, about.tensor_path) == ("words", "embedding_words.tsv")
    assert about.metadata_path == "words.txt"
    wrong = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"wrods": "words.txt"})
    with pytest.raises(ParameterError, match=r"speaks of 'wrods', which is no Embedding layer .* it has: words"):
        model.fit(np.zeros((4, 2)), np.zeros((4, 6)), verbose=0, callbacks=[wrong])


def test_without_its_library_tensorboard_says_what_to_install_before_training_begins(make, fit, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    model = make()
    before = model.get_weights()
    with pytest.raises(MissingPackageError, match=r"pip install 'layerhub\[tensorboard\]'"):
        fit(model, TensorBoard(tmp_path))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_profiling_is_refused_and_old_arguments_are_told_to_be_of_no_use(tmp_path):
    with pytest.raises(ParameterError, match="profile_batch must be 0, not 2"):
        TensorBoard(tmp_path, profile_batch=2)
    with pytest.warns(OldSpellingWarning, match="write_grads is an old argument"):
        TensorBoard(tmp_path, write_grads=True)
