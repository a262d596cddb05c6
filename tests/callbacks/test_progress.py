"""What is seen of progress: in a terminal, in a notebook, in a log."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
import types

import pytest

from layerhub.callbacks import Callback, LambdaCallback, ProgbarLogger, progress
from layerhub.errors import ParameterError

# Logs

LINE = r"{} - \d+\.\ds - loss: [\d.e+-]+ - mae: [\d.e+-]+"
VALIDATED = LINE + r" - val_loss: [\d.e+-]+ - val_mae: [\d.e+-]+"


def lines(capsys):
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("verbose, count", [(0, 0), (1, 2), (2, 2), ("auto", 2), (True, 2), (False, 0)])
def test_a_log_has_a_line_for_each_epoch(verbose, count, make, fit, capsys):
    fit(make(metrics=["mae"]), epochs=2, verbose=verbose, validation_split=0.2)
    said = lines(capsys)
    assert len(said) == count
    assert all(re.fullmatch(VALIDATED.format(f"Epoch {k + 1}/2"), line) for k, line in enumerate(said))


@pytest.mark.parametrize("verbose, count", [(0, 0), (1, 1), (2, 1), ("auto", 1)])
def test_a_log_has_a_line_for_an_evaluation(verbose, count, make, capsys, data):
    make(metrics=["mae"]).evaluate(*data, verbose=verbose)
    said = lines(capsys)
    assert len(said) == count
    assert all(re.fullmatch(LINE.format("Evaluation"), line) for line in said)


@pytest.mark.parametrize("verbose, count", [(0, 0), (1, 1), (2, 1), ("auto", 0)])
def test_a_log_has_a_line_for_a_prediction_only_where_it_is_asked_for(verbose, count, make, capsys, data):
    """A prediction has no figures: there is nothing to keep."""
    make().predict(data[0], verbose=verbose)
    said = lines(capsys)
    assert len(said) == count
    assert all(re.fullmatch(r"Prediction - \d+\.\ds", line) for line in said)


@pytest.mark.parametrize("verbose", [3, -1, "loud", None])
def test_other_ways_to_show_progress_there_are_none(verbose, make, fit, data):
    model = make()
    calls = (
        lambda **v: fit(model, **v),
        lambda **v: model.evaluate(*data, **v),
        lambda **v: model.predict(data[0], **v),
    )
    for call in calls:
        with pytest.raises(ParameterError, match='verbose must be 0, 1, 2 or "auto", not'):
            call(verbose=verbose)


def test_figures_of_several_classes_and_names_are_shown_as_they_are():
    figures = {"loss": 0.123456, "f1": [0.5, 1.0], "learning_rate": 1e-6, "note": "x"}
    assert progress.shown(figures) == "loss: 0.1235 - f1: [0.5, 1] - learning_rate: 1e-06 - note: x"


# Terminals

PROGRAM = """
import time
import numpy as np
import layerhub as lh

class Slow(lh.callbacks.Callback):
    figures = False
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.04)
    def on_test_batch_end(self, batch, logs=None):
        time.sleep(0.04)
    on_predict_batch_end = on_test_batch_end

model = lh.Sequential([lh.Input((3,)), lh.layers.Dense(1)], seed=1)
model.compile("sgd", "mse")
reads = []
results = type(model.executor).results
type(model.executor).results = lambda self: reads.append(time.perf_counter()) or results(self)
x, y = np.ones((60, 3)), np.ones((60, 1))
{work}
"""
FIT = """
model.fit(x, y, batch_size=2, epochs=2, verbose={verbose}, callbacks=[Slow()])
print("reads", len(reads), min(b - a for a, b in zip(reads, reads[1:])) > 0)
"""
OTHERS = """
model.evaluate(x, y, batch_size=2, callbacks=[Slow()])
model.predict(x, batch_size=2, callbacks=[Slow()])
"""
BROKEN = """
class Failing(Slow):
    def on_epoch_end(self, epoch, logs=None):
        raise ZeroDivisionError
try:
    model.fit(x, y, batch_size=2, callbacks=[Slow(), Failing()])
except ZeroDivisionError:
    print("broken off", flush=True)
"""


def on_a_terminal(work: str, term: str = "xterm-256color") -> str:
    """Everything that a program writes to a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": term, "COLUMNS": "120", "LINES": "30"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(work=work)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    written, until = b"", time.monotonic() + 120
    while time.monotonic() < until:
        if not select.select([ours], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait(30) == 0, written.decode()
    return written.decode()


def screen(written: str) -> list[str]:
    """What stands on the terminal in the end: the few control sequences that bars are made of, carried out."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif part == "\x1b[2K":
            rows[row] = ""
        elif match := re.fullmatch(r"\x1b\[(\d*)A", part):
            row -= int(match[1] or 1)
        elif not part.startswith("\x1b"):
            rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
            column += len(part)
    return [row.rstrip() for row in rows if row.strip()]


def plain(written: str) -> str:
    return re.sub(r"\x1b\[\??[\d;]*[A-Za-z]", "", written)


def test_a_terminal_shows_a_bar_with_figures_while_an_epoch_runs_and_keeps_a_line():
    written = on_a_terminal(FIT.format(verbose='"auto"'))
    frames = re.findall(r"Epoch 1/2 [━╸╺ ]+ +(\d+)/30 [\d:-]+ (loss: [\d.e+-]+)", plain(written))
    done = [int(count) for count, _ in frames]
    assert len(set(done)) >= 3 and done == sorted(done)
    *kept, reads = screen(written)
    assert [re.sub(r"[\d.]+s - loss: .*", "", line) for line in kept] == ["Epoch 1/2 - ", "Epoch 2/2 - "]
    # Each epoch takes at least 1.2 s and is looked at every 0.3 s at most, and once when it is over.
    count = int(reads.split()[1])
    took = sum(float(re.search(r"- ([\d.]+)s", line)[1]) for line in kept)
    assert 4 <= count <= 2 + (took + 0.1) / progress.OFTEN
    assert "\x1b[?25h" in written  # the cursor is there again


def test_a_terminal_shows_bars_for_evaluation_and_prediction_too():
    written = on_a_terminal(OTHERS)
    assert re.search(r"Evaluation [━╸╺ ]+ +\d+/30 [\d:-]+ loss: ", plain(written))
    assert re.search(r"Prediction [━╸╺ ]+ +\d+/30", plain(written))
    evaluation, prediction = screen(written)
    assert evaluation.startswith("Evaluation - ") and "loss: " in evaluation
    assert re.fullmatch(r"Prediction - [\d.]+s", prediction)


def test_a_bar_that_is_broken_off_leaves_the_terminal_as_it_was():
    written = on_a_terminal(BROKEN)
    assert screen(written) == ["broken off"]
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l")


@pytest.mark.parametrize("work, term", [(FIT.format(verbose=2), "xterm"), (FIT.format(verbose=1), "dumb")])
def test_without_a_bar_a_terminal_gets_what_a_log_gets(work, term):
    written = on_a_terminal(work, term)
    assert "\x1b" not in written
    assert len(written.splitlines()) == 3
    assert written.splitlines()[-1].startswith("reads 2 ")


# Notebooks


class Output:
    """An output of a notebook, with all that it ever showed."""

    def __init__(self, data):
        self.shown = [data["text/plain"]]

    def update(self, data, raw):
        assert raw
        self.shown.append(data["text/plain"])


@pytest.fixture
def notebook(monkeypatch):
    """The outputs of a notebook's kernel, in which the test runs."""
    outputs = []

    def display(data, raw, display_id):
        assert raw and display_id
        outputs.append(Output(data))
        return outputs[-1]

    ipython, shown = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shown.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return outputs


class Ticking(Callback):
    """Lets time pass between batches, as the progress bar sees it."""

    figures = False

    def __init__(self, monkeypatch, seconds):
        self.now, self.seconds = 0.0, seconds
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)

    def on_train_batch_end(self, batch, logs=None):
        self.now += self.seconds


def test_a_notebook_has_one_output_for_each_epoch_which_becomes_its_line(notebook, make, fit, capsys, monkeypatch):
    fit(make(), Ticking(monkeypatch, 0.4), epochs=2, verbose=1)
    assert capsys.readouterr().out == ""
    assert len(notebook) == 2
    for k, output in enumerate(notebook):
        begin, *moves, end = output.shown
        title = f"Epoch {k + 1}/2"
        assert begin == title
        assert [re.sub(r"\d\.\d+$", "", move) for move in moves] == [
            f"{title} {'━' * full}{'─' * (20 - full)} {done}/4  loss: " for done, full in ((1, 5), (2, 10), (3, 15))
        ]
        assert re.fullmatch(rf"{title} - 1\.6s - loss: \d\.\d+", end)


def test_a_notebook_is_not_flooded_by_quick_batches(notebook, make, fit, monkeypatch):
    fit(make(), Ticking(monkeypatch, 0.001), batch_size=1, epochs=50, verbose=1)
    assert {len(output.shown) for output in notebook} == {2}


def test_a_notebook_shows_streams_whose_end_is_not_known_by_their_number(notebook, make, monkeypatch, data):
    model, (x, y) = make(), data
    batches = ((x[k : k + 5], y[k : k + 5]) for k in range(0, 20, 5))
    model.fit(batches, verbose="auto", callbacks=[Ticking(monkeypatch, 0.4)])
    assert notebook[0].shown[1].startswith("Epoch 1/1 1/?  loss: ")


def test_a_shell_without_a_kernel_is_no_notebook(notebook, make, fit, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: types.SimpleNamespace())
    fit(make(), verbose=1)
    assert not notebook
    assert len(lines(capsys)) == 1


def test_figures_that_are_slow_to_come_are_asked_for_less_often(notebook, make, fit, monkeypatch):
    """Reading them may take a fiftieth of the time."""
    ticking, model = Ticking(monkeypatch, 0.5), make()
    results = type(model.executor).results

    def slow(self):
        ticking.now += 0.2
        return results(self)

    monkeypatch.setattr(type(model.executor), "results", slow)
    fit(model, ticking, batch_size=1, epochs=1, verbose=1)
    # Read after the first batch; 0.2 s are a fiftieth of 10 s, which are 20 batches.
    assert len(notebook[0].shown) == 3


def test_a_progress_bar_of_ones_own_is_the_only_one(make, fit, capsys):
    fit(make(), ProgbarLogger(), verbose=1)
    assert len(lines(capsys)) == 1


def test_what_callbacks_print_comes_before_the_line_of_the_epoch(make, fit, capsys):
    fit(make(), LambdaCallback(on_epoch_end=lambda epoch, logs: print("mine")), verbose=1)
    said = lines(capsys)
    assert said[0] == "mine" and said[1].startswith("Epoch 1/1")
