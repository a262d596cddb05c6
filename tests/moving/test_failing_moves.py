"""A move that fails changes nothing: neither the model, nor others that share its layers, nor the run it is in."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from layerhub_numpy.backend import NumpyBackend

import layerhub as lh
from layerhub.callbacks import LambdaCallback
from layerhub.errors import BackendError
from layerhub.hookspecs import BackendEntry
from layerhub.registry import registry

from .conftest import NEAR, SHARES, X, Y, apart, laden, training

L = lh.layers


class Frail(NumpyBackend):
    """numpy under another name, which does not take everything. room: how many arrays it holds before it is full."""

    room = 10**9
    problem: type[BaseException] = MemoryError

    def _take(self) -> None:
        self.room -= 1
        if self.room < 0:
            raise self.problem("there is no more room")

    def variable(self, *args: Any) -> Any:
        self._take()
        return super().variable(*args)

    def asarray(self, value: Any, dtype: str | None = None, device: str | None = None) -> Any:
        self._take()
        return super().asarray(value, dtype, device)


class Lacking(Frail):
    lacks = {"GRU": "nobody wrote it"}


class Narrow(Frail):
    dtypes = ("float16", "float32")


class Flat(Frail):
    has_gradients = False


class Broken(Frail):
    def __init__(self) -> None:
        raise ImportError("a library is missing")


@pytest.fixture
def frail(monkeypatch):
    """Registers backends for the time of a test; gives a function that makes one of them hold so many arrays."""
    plugin = registry().entries["numpy"][1]
    kinds = {"frail": Frail, "lacking": Lacking, "narrow": Narrow, "flat": Flat, "broken": Broken}
    for name, kind in kinds.items():
        monkeypatch.setitem(registry().entries, name, (BackendEntry(name, load=partial(_named, kind, name)), plugin))
    entry = BackendEntry("absent", load=Frail, requires=("no_such_library",), install="pip install no-such-library")
    monkeypatch.setitem(registry().entries, "absent", (entry, plugin))
    loaded, problems = dict(registry()._loaded), list(registry().problems)
    yield lambda room, problem=MemoryError: vars(registry().backend("frail")).update(room=room, problem=problem)
    registry()._loaded.clear()
    registry()._loaded.update(loaded)
    registry().problems[:] = problems
    for name in kinds:
        registry()._kernels.pop(name, None)


def _named(kind: type[Frail], name: str) -> Frail:
    backend = kind()
    backend.name = name
    return backend


TARGETS = {
    "numpi": "Did you mean 'numpy'",
    "absent": "pip install no-such-library",
    "broken": "a library is missing",
    "lacking": "lacks GRU: nobody wrote it",
    "narrow": "float64",
}


@pytest.mark.parametrize("bound", [False, True], ids=["not bound yet", "in training"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_cannot_serve_is_refused_and_the_model_goes_on(frail, target, bound):
    alone, model = laden("numpy"), laden("numpy")
    if bound:
        for each in (alone, model):
            each.train_on_batch(X[:8], Y[:8], SHARES[:8])
    plans, executor = model._plans, model._executor
    with pytest.raises(BackendError, match=TARGETS[target]):
        model.to(target)
    assert (model.backend, model.device) == ("numpy", "cpu")
    assert model._plans is plans and model._executor is executor
    assert apart(training(alone, epochs=1), training(model, epochs=1)) == 0


def test_no_device_of_this_name(frail):
    model = laden("numpy")
    with pytest.raises(BackendError, match="has no device 'cuda:7'; it has: cpu"):
        model.to("frail", device="cuda:7")
    assert (model.backend, model.device) == ("numpy", "cpu")


def rooms() -> list[int]:
    """How much fits before it fails: nothing, a few weights, the weights but not all slots, all but the metrics."""
    return [0, 3, 14, 25, 40, 55]


@pytest.mark.parametrize("room", rooms())
@pytest.mark.parametrize("home", ["numpy", "torch"])
def test_a_target_that_runs_out_of_memory_leaves_the_model_whole_in_the_midst_of_fit(frail, home, room):
    pytest.importorskip(home)
    refused = []

    def attempt(batch: int, logs: Any) -> None:
        registry().backend("frail").check_device(None)  # so that the room is for the model alone
        frail(room)
        try:
            model.to("frail")
        except BackendError as problem:
            refused.append(str(problem))

    model = laden(home)
    handles = {}
    model.fit(X[:8], Y[:8], batch_size=8, verbose=0)
    handles = {id(v): v._handle for v in model.weights}
    alone = laden(home)
    alone.fit(X[:8], Y[:8], batch_size=8, verbose=0)
    moved = training(model, LambdaCallback(on_train_batch_begin=attempt), epochs=1)
    assert len(refused) == 6
    assert f"it is still on '{home}' on 'cpu', and whole" in refused[0] and "there is no more room" in refused[0]
    # Nothing was copied there and back: the very tensors that the model had are those that it has.
    assert all(v._handle is handles[id(v)] for v in model.weights)
    assert apart(training(alone, epochs=1), moved) == 0


def test_where_there_is_room_the_same_backend_takes_it(frail):
    alone, model = laden("numpy"), laden("numpy")
    first = training(alone), training(model, LambdaCallback(on_epoch_end=lambda epoch, logs: model.to("frail")))
    assert model.backend == "frail" and apart(*first) < NEAR


def test_where_there_are_no_gradients_fit_stops_before_the_step_and_goes_on_elsewhere(frail):
    model = laden("numpy")
    away = LambdaCallback(on_train_batch_end=lambda batch, logs: batch == 2 and model.to("flat"))
    with pytest.raises(BackendError, match="'flat' has no gradients"):
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[away])
    assert model.backend == "flat" and model.executor.step == 3
    assert np.isfinite(model.evaluate(X[:8], Y[:8], verbose=0)).all()
    model.to("numpy").train_on_batch(X[:8], Y[:8])
    assert model.executor.step == 4


def test_an_interruption_is_not_swallowed_and_leaves_the_model_whole(frail):
    model = laden("numpy")
    before = model.predict(X[:8])
    model.reset_states()
    registry().backend("frail").check_device(None)
    frail(3, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        model.to("frail")
    assert model.backend == "numpy" and np.array_equal(model.predict(X[:8]), before)


def test_a_model_that_shares_layers_does_not_notice_another_ones_failure(frail):
    x = lh.Input((4,))
    shared = L.Dense(3, activation="tanh")
    one, other = lh.Model(x, shared(x), backend="numpy"), lh.Model(x, L.Dense(2)(shared(x)), backend="numpy")
    data = np.ones((2, 4), "float32")
    expected = one.predict(data), other.predict(data)
    executor = other.executor
    registry().backend("frail").check_device(None)
    frail(1)
    with pytest.raises(BackendError, match="no more room"):
        one.to("frail")
    assert not executor.stale and other.executor is executor
    assert np.array_equal(one.predict(data), expected[0]) and np.array_equal(other.predict(data), expected[1])


def test_weights_that_lie_elsewhere_move_at_once_though_the_model_was_compiled_anew(frail):
    model = laden("numpy")
    model.predict(X[:8])
    model.compile("sgd", "sparse_categorical_crossentropy")  # which forgets how the model was bound
    registry().backend("frail").check_device(None)
    frail(2)
    with pytest.raises(BackendError, match="no more room"):
        model.to("frail")
    assert model.backend == "numpy"
    model.fit(X, Y, batch_size=8, verbose=0)


def test_a_model_without_layers_yet_moves_by_name_alone():
    model = lh.Sequential(backend="numpy").to("torch")
    model.add(L.Dense(2))
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert model.backend == "torch"
