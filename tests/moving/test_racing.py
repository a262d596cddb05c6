"""Races: who takes part, in which order, what is told of it, and that nothing of the model changes. No test waits for a
clock: contenders here have scripted times, and those in processes are looked at for what they did."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import layerhub as lh
from layerhub import racing, seeds
from layerhub.cli import main
from layerhub.errors import (
    BackendError,
    DataError,
    FileFormatError,
    ParameterError,
    StateError,
    UnknownNameError,
)
from layerhub.racing import GRACE, ROUNDS, Apart, Course, Here, Race, Row, compete, example_inputs, host_batch

from .conftest import SHARES, X, Y, apart, laden, training

L = lh.layers


class Clock:
    """A clock that stands until somebody takes time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """A contender whose times are known beforehand. costs: what start and first take; fails: at what, with which
    reason; devices: of its backend."""

    def __init__(self, scene: Scene, name: str, device: str | None):
        self.scene, self.name, self.script = scene, name, scene.scripts[name]
        self.device, self.left = device, list(self.script.get("turns", ()))
        scene.told.append(("made", name, device))

    def _do(self, what: str, seconds: float) -> None:
        self.scene.told.append((what, self.name, self.device))
        self.scene.allowed.append(seconds)
        self.scene.clock.now += self.script.get("costs", {}).get(what, 0.0)
        reason = self.script.get("fails", {}).get(what)
        if reason is not None:
            raise BackendError(reason)

    def start(self, seconds: float) -> dict[str, Any]:
        devices = self.script.get("devices", ["cpu"])
        self.device = self.device or devices[0]
        self._do("start", seconds)
        return {"device": self.device, "devices": devices, "loading": 2.0, "binding": 0.5}

    def first(self, seconds: float) -> float:
        self._do("first", seconds)
        return 9.0

    def turn(self, seconds: float) -> float:
        self._do("turn", seconds)
        return self.left.pop(0) if self.left else 1.0

    def end(self) -> int | None:
        self.scene.told.append(("end", self.name, self.device))
        return 10**6 if self.script.get("measures", True) else None


class Scene:
    """A race of scripted contenders."""

    def __init__(self, budget: float = 100.0, **scripts: dict[str, Any]):
        self.scripts, self.clock = scripts, Clock()
        self.told: list[tuple[str, str, str | None]] = []
        self.allowed: list[float] = []
        self.rows = compete(list(scripts), lambda name, device: Scripted(self, name, device), budget, self.clock)

    def row(self, name: str, device: str = "cpu") -> Row:
        return next(row for row in self.rows if row.backend == name and row.device in (device, None))

    def did(self, what: str) -> list[str]:
        return [name for done, name, _ in self.told if done == what]


def test_the_smallest_median_wins_whatever_the_best_and_the_first_step_were():
    scene = Scene(steady={"turns": [3.0] * ROUNDS}, moody={"turns": [1.0, 9.0, 9.0, 9.0, 1.0, 9.0, 9.0]})
    assert [row.backend for row in scene.rows] == ["steady", "moody"]
    assert Race(scene.rows, False, 8).winner.backend == "steady"
    row = scene.row("moody")
    assert (row.median, row.fastest, row.slowest, row.first, row.turns) == (9.0, 1.0, 9.0, 9.0, ROUNDS)
    assert (row.loading, row.binding, row.memory, row.reason) == (2.0, 0.5, 10**6, None)


def test_all_are_warm_before_any_is_timed_and_then_they_take_turns():
    scene = Scene(a={}, b={}, c={})
    order = [(what, name) for what, name, _ in scene.told if what not in ("made", "end")]
    warm = [(what, name) for name in "abc" for what in ("start", "first")]
    assert order == warm + [("turn", name) for name in "abc"] * ROUNDS


@pytest.mark.parametrize("when", ["start", "first", "turn"])
def test_who_fails_is_listed_last_with_the_reason_and_is_stopped_at_once(when):
    scene = Scene(bad={"fails": {when: "no luck"}}, good={})
    assert [row.backend for row in scene.rows] == ["good", "bad"]
    row = scene.row("bad")
    assert (row.reason, row.median, row.turns) == ("no luck", None, 0)
    assert scene.did(when).count("bad") == 1
    # Nothing is asked of it after it failed but to stop.
    last = max(k for k, (what, name, _) in enumerate(scene.told) if name == "bad" and what == when)
    assert scene.told[last + 1][:2] == ("end", "bad")
    assert scene.row("good").turns == ROUNDS


def test_whoever_was_not_begun_within_the_budget_is_told_so_and_the_others_have_one_turn():
    scene = Scene(10.0, slow={"costs": {"start": 11.0}}, late={})
    assert scene.row("late").reason == "not begun: the budget of 10 s was spent"
    assert "late" not in scene.did("start")
    assert scene.row("slow").turns == 1
    assert min(scene.allowed) == GRACE  # what is begun may still be finished


def test_a_round_that_was_begun_is_finished_so_that_all_have_as_many_turns():
    scene = Scene(10.0, a={"costs": {"turn": 3.0}}, b={"costs": {"turn": 3.0}})
    assert scene.did("turn") == ["a", "b", "a", "b"]
    assert {row.turns for row in scene.rows} == {2}


def test_every_device_that_is_asked_for_is_a_contender():
    scene = Scene(a={"devices": ["cpu", "cuda:0", "cuda:1"]}, b={})
    assert [(row.backend, row.device) for row in sorted(scene.rows, key=str)] == [
        ("a", "cpu"), ("a", "cuda:0"), ("a", "cuda:1"), ("b", "cpu")
    ]  # fmt: skip
    assert all(row.turns == ROUNDS for row in scene.rows)


def test_a_device_that_fails_leaves_the_backends_other_ones_in_the_race():
    class FirstFails(Scripted):
        def first(self, seconds: float) -> float:
            if self.device == "cpu":
                raise BackendError("not on this one")
            return super().first(seconds)

    scene = Scene()
    scene.scripts = {"a": {"devices": ["cpu", "cuda:0"]}}
    rows = compete(["a"], lambda name, device: FirstFails(scene, name, device), 10.0, scene.clock)
    assert [(row.device, row.reason) for row in rows] == [("cuda:0", None), ("cpu", "not on this one")]


def test_everybody_is_stopped_when_the_race_is_interrupted():
    class Interrupted(Scripted):
        def turn(self, seconds: float) -> float:
            raise KeyboardInterrupt

    scene = Scene()
    scene.scripts = {"a": {}, "b": {}}
    with pytest.raises(KeyboardInterrupt):
        compete(["a", "b"], lambda name, device: Interrupted(scene, name, device), 10.0, scene.clock)
    assert sorted(scene.did("end")) == ["a", "b"]


def test_where_nobody_can_run_the_error_has_everybodys_reason():
    scene = Scene(a={"fails": {"start": "too young"}}, b={"fails": {"first": "too old"}})
    with pytest.raises(BackendError, match=r"no backend could be timed: a: too young; b: too old"):
        Race(scene.rows, False, 8).winner  # noqa: B018


def test_a_report_is_a_table_to_read_and_data_for_programs():
    rows = [
        Row("swift", "cpu", 0.00125, 0.001, 0.002, 1.5, 0.25, 0.125, 123_456_789, 7),
        Row("absent", reason="needs swift_lib, which is not installed"),
    ]
    told = str(Race(rows, True, 16)).splitlines()
    assert told[0] == "Training steps, batches of 16"
    assert told[2].split() == ["swift", "cpu", "1.25", "1", "2", "1.5", "0.25", "0.125", "123"]
    assert told[3].split(None, 1) == ["absent", "needs swift_lib, which is not installed"]
    assert "all in one process" in str(Race(rows, False, 16, apart=False))
    assert json.loads(json.dumps(Race(rows, True, 16).data()))["rows"][0]["median"] == 0.00125


# Contenders in processes


def state(model: Any) -> dict[str, list[Any]]:
    """Everything of a model that a race could spoil."""
    executor = model._executor
    held = {"weights": model.get_weights(), "seed": [model.seed, model._epochs_begun]}
    if executor is not None:
        held |= {
            "slots": [slot for row in executor.host_slots() for slot in row],
            "steps": [executor.step],
            "gathered": list(executor.metric_values()[0]),
        }
    return held


@pytest.fixture(scope="module")
def raced() -> dict[str, Any]:
    """A model in the midst of training after races on numpy, beside one that never raced; and the reports."""
    alone, model = laden("numpy"), laden("numpy")
    for each in (alone, model):
        each.fit(X, Y, batch_size=8, verbose=0)
        each.train_on_batch(X[:8], Y[:8], SHARES[:8])
    seeds.set_random_seed(4)
    before, executor, drawn = state(model), model._executor, dict(vars(racing))
    reports = [
        lh.race(model, X, Y, backends=["numpy", "nobody"], budget=60),
        lh.race(model, backends=["numpy"], budget=60),
    ]
    found = {"alone": alone, "model": model, "before": before, "after": state(model), "reports": reports}
    found["kept"] = model._executor is executor and drawn.keys() == vars(racing).keys()
    following = seeds.next_seed()
    seeds.set_random_seed(4)
    found["seeds"] = (following, seeds.next_seed())
    return found


def test_a_race_leaves_weights_optimizer_figures_and_random_draws_as_they_were(raced):
    assert raced["kept"] and apart(raced["before"], raced["after"]) == 0
    assert raced["seeds"][0] == raced["seeds"][1]
    assert apart(training(raced["alone"], epochs=1), training(raced["model"], epochs=1)) == 0


def test_a_race_in_processes_tells_times_of_steps_start_up_and_memory_and_who_is_not_there(raced):
    report = raced["reports"][0]
    assert report.training and report.apart and report.batch_size == 8
    row, absent = report.rows
    assert (row.backend, row.device, row.reason) == ("numpy", "cpu", None)
    assert 1 <= row.turns <= ROUNDS and 0 < row.fastest <= row.median <= row.slowest
    assert row.first > 0 and row.loading > 0 and row.binding > 0
    assert 2e7 < row.memory < 4e9
    assert absent.backend == "nobody" and "pip install layerhub-nobody" in absent.reason
    assert not raced["reports"][1].training and raced["reports"][1].winner.backend == "numpy"


def test_to_the_fastest_moves_to_the_winner_and_keeps_the_report(monkeypatch):
    pytest.importorskip("torch")
    asked = {}

    def race(model: Any, *data: Any, **options: Any) -> Race:
        asked.update(data=data, options=options, backend=model.backend)
        return Race([Row("torch", "cpu", 0.1), Row("numpy", "cpu", 0.2)], False, 8)

    monkeypatch.setattr(racing, "race", race)
    model = laden("numpy")
    expected = model.predict(X[:8])
    model.reset_states()
    assert model.to("fastest", X, budget=3) is model
    assert model.backend == "torch" and model.raced.winner.backend == "torch"
    assert asked["data"][0] is X and asked["options"] == {"budget": 3} and asked["backend"] == "numpy"
    assert np.max(np.abs(model.predict(X[:8]) - expected)) < 1e-12
    assert model.to("fastest").backend == "torch" and asked["data"] == ()


def test_to_the_fastest_of_none_leaves_the_model_where_it_is():
    model = laden("numpy")
    with pytest.raises(BackendError, match="nobody: no backend is called 'nobody'"):
        model.to("fastest", X, backends=["nobody"])
    assert model.backend == "numpy" and model.raced.rows[0].backend == "nobody"
    with pytest.raises(ParameterError, match=r"budget belong to a race: model\.to\('fastest'"):
        model.to("numpy", budget=3)


class Ours(L.Layer):
    """A layer that no other process knows."""

    x = L.In("n d")
    y = L.Out("n d")
    mask = L.passes

    def define(self, xp, x):
        return x * 2.0


def test_a_model_with_layers_of_the_callers_own_is_raced_in_this_process_by_copies(monkeypatch):
    pytest.importorskip("torch")
    inner = lh.Sequential([lh.Input((4,)), L.Dense(4), L.Lambda(lambda x: x + 1)], seed=2)
    x = lh.Input((4,))
    model = lh.Model(x, L.Dense(3)(L.Dropout(0.5)(inner(Ours()(inner(x))))), backend="numpy", seed=3)
    model.compile("adam", "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 3)), verbose=0)
    before = state(model)
    homes = [id(v._handle) for v in model.weights]
    report = lh.race(model, training=True, batch_size=8, backends=["numpy", "torch"])
    assert not report.apart and {row.backend for row in report.rows if row.turns} == {"numpy", "torch"}
    assert apart(before, state(model)) == 0 and homes == [id(v._handle) for v in model.weights]
    copy = racing.copied(model, "torch", "cpu")
    assert np.max(np.abs(copy.predict(np.ones((2, 4))) - model.predict(np.ones((2, 4))))) < 1e-5
    assert not set(copy.layers) & set(model.layers)


def test_a_copy_has_the_same_graph_whatever_there_is_in_it():
    a, b = lh.Input((3, 4), name="a"), lh.Input((4,), name="b")
    sequence, h, c = L.LSTM(4, return_sequences=True, return_state=True)(L.Masking()(a))
    x = L.LSTM(4)(sequence, initial_state=[h, c]) * 2.0 + L.Dropout(0.5)(b, training=False)
    shared = L.Dense(4, activation="tanh")
    model = lh.Model({"a": a, "b": b}, {"p": shared(shared(x)), "q": L.Dense(2)(x)}, backend="numpy", seed=8)
    model.compile("adam", {"p": "mse", "q": "mse"}, {"q": ["mae"]})
    rng = np.random.default_rng(0)
    data = {"a": rng.normal(size=(6, 3, 4)), "b": rng.normal(size=(6, 4))}
    data["a"][:, 0] = 0.0
    host = host_batch(model, data, None, True, 6)
    copy = racing.copied(model, "numpy", "cpu")
    # Weights are changed where they lie, so a step of the copy would show in the model if they shared one.
    before = model.predict(data)
    assert all(np.array_equal(one, other) for one, other in zip(copy._predicted(host), before.values(), strict=True))
    one = Here("numpy", "cpu", None, lambda *place: copy, host, True)
    one.start()
    assert one.first() > 0 and one.turn() > 0
    after = model.predict(data)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not np.array_equal(copy._predicted(host)[0], before["p"])


def contender(**changes: Any) -> Apart:
    return Apart("numpy", None, None, replace(Course(False, 4, "no-such-file.keras"), **changes))


@pytest.mark.parametrize(
    "serve, words",
    [
        ("import sys; sys.exit('out of luck')", "its process ended with status 1: out of luck"),
        ("import os; os.abort()", "its process ended with status -6"),
        ("import time; time.sleep(600)", "it did not get through its start within the budget"),
        (racing.SERVE, "no-such-file.keras"),
    ],
    ids=["exits", "crashes", "hangs", "cannot open the model"],
)
def test_a_process_that_fails_is_stopped_and_its_reason_told(monkeypatch, serve, words):
    monkeypatch.setattr(racing, "SERVE", serve)
    one = contender()
    with pytest.raises(BackendError, match=words):
        one.start(0.2 if "sleep" in serve else 60)
    process = one._process
    one.end()
    assert process.poll() is not None


def test_what_a_library_prints_is_no_answer(monkeypatch):
    chatty = "import layerhub.racing as r; f = r.load_model; r.load_model = lambda *a: print('hi') or f(*a); r.serve()"
    monkeypatch.setattr(racing, "SERVE", chatty)
    one = contender()
    with pytest.raises(BackendError, match=r"no-such-file\.keras"):
        one.start(60)
    one.end()


def test_backends_that_lack_something_are_listed_with_the_reason(monkeypatch):
    from layerhub_numpy.backend import NumpyBackend

    model = laden("numpy")
    host = host_batch(model, X, Y, True, None)

    def reason(training: bool = True, **settings: Any) -> str:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setattr(NumpyBackend, name, value)

            def here(name: str, device: str | None) -> Here:
                return Here(name, device, settings.get("asked"), lambda *p: racing.copied(model, *p), host, training)

            (row,) = compete(["numpy"], here, 60.0)
        return row.reason

    assert "has no gradients" in reason(has_gradients=False)
    assert reason(False, has_gradients=False) is None
    assert "lacks GRU: nobody wrote it" in reason(lacks={"GRU": "nobody wrote it"})
    assert "computes in float64" in reason(dtypes=("float32",))
    monkeypatch.setattr(NumpyBackend, "asked", None, raising=False)
    assert "it has no device tpu; it has: cpu" in reason(asked=["tpu"])
    monkeypatch.setattr(NumpyBackend, "synchronize", lambda self: 1 / 0)
    assert reason() == "numpy fails: ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    "asked, found", [(None, ["cpu", "cuda:0", "mps:0"]), (["gpu"], ["cuda:0"]), (["cuda:0", "cpu"], ["cpu", "cuda:0"])]
)
def test_devices_are_asked_for_by_name_or_kind(asked, found):
    class Several:
        def devices(self) -> list[str]:
            return ["cpu", "cuda:0", "mps:0"]

    assert racing._wanted(Several(), asked) == found


# Data that are made


def test_data_are_made_from_shapes_ids_for_embeddings_and_classes_for_losses_that_count():
    ids, other = lh.Input((None,), name="ids"), lh.Input((4, None, 2), name="other")
    inner = lh.Sequential([lh.Input((None,)), L.Embedding(3, 2)])
    x = L.Concatenate()([L.GlobalAveragePooling1D()(inner(ids)), L.GlobalAveragePooling2D()(other)])
    model = lh.Model([ids, other], [L.Dense(5, activation="softmax")(x), L.Dense(3)(x)], backend="numpy")
    model.compile("sgd", ["sparse_categorical_crossentropy", "mse"])
    first, second = example_inputs(model, 6)
    assert (first.shape, second.shape) == ((6, racing.UNSAID), (6, 4, racing.UNSAID, 2))
    assert first.dtype.kind == "i" and set(np.unique(first)) == {0, 1, 2} and second.dtype.kind == "f"
    inputs, (classes, shares), _ = host_batch(model, None, None, True, 6)
    assert [len(part) for part in (*inputs, classes, shares)] == [6] * 4
    assert classes.dtype.kind == "i" and classes.min() >= 0 and classes.max() < 5
    assert shares.shape == (6, 3) and np.allclose(shares.sum(-1), 1)
    model.executor  # noqa: B018
    Here("numpy", "cpu", None, lambda *place: model, (inputs, [classes, shares], []), True).start()


def test_the_batch_is_the_first_of_what_is_given_or_as_large_as_declared():
    plain = lh.Sequential([lh.Input((3,)), L.Dense(2)], backend="numpy")
    data = np.arange(120.0).reshape(40, 3)
    assert np.array_equal(host_batch(plain, data, None, False, 7)[0][0], data[:7])
    assert len(host_batch(plain, data, None, False, None)[0][0]) == racing.BATCH
    assert len(host_batch(plain, data[:5], None, False, None)[0][0]) == 5
    assert len(host_batch(laden("numpy"), None, None, False, None)[0][0]) == 8
    with pytest.raises(DataError, match=r"batch_size is 5, but .* declares batches of 8"):
        host_batch(laden("numpy"), None, None, False, 5)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"budget": 0}, ParameterError, "budget must be a positive number of seconds, not 0"),
        ({"batch_size": 2.5}, ParameterError, r"batch_size must be a positive int, not 2\.5"),
        ({"training": True}, StateError, "training steps need compile"),
        ({"y": np.ones((2, 2))}, StateError, "training steps need compile"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(arguments, error, words):
    model = lh.Sequential([lh.Input((3,)), L.Dense(2)], backend="numpy")
    with pytest.raises(error, match=words):
        lh.race(model, **arguments)


# The command line


def command(*arguments: Any, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["race", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_races_a_file_and_prints_a_table_or_json(tmp_path):
    path = tmp_path / "model.keras"
    model = lh.Sequential([lh.Input((12,)), L.Embedding(9, 4), L.GRU(3), L.Dense(2)], backend="numpy")
    model.compile("adam", "mse")
    model.save(path)
    before = path.read_bytes()
    said = command(path, "--backends", "numpy,nobody", "--batch", 4)
    assert "Inference, batches of 4" in said and "no backend is called" in said
    data = json.loads(command(path, "--backends", "numpy", "--training", "--devices", "cpu", "--json"))
    assert data["training"] and data["batch_size"] == racing.BATCH
    assert data["rows"][0]["median"] > 0 and data["rows"][0]["memory"] > 0
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.keras"]
    assert "no backend could be timed" in command(path, "--backends", "nobody", code=2)


def test_a_file_that_holds_no_model_or_a_layer_that_nobody_knows_is_no_race(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"nothing")
    with pytest.raises(FileFormatError):
        lh.race(path)
    lh.Sequential([lh.Input((2,)), Ours()], backend="numpy").save(path)
    with pytest.raises(UnknownNameError, match="Ours"):
        lh.race(path, backends=["numpy"])
    with pytest.raises(ParameterError, match="load the model first"):
        lh.race(path, np.ones((2, 2)))
