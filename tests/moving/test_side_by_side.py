"""Several models in one process: on several backends, in threads, with layers that they share."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import layerhub as lh

from .conftest import NEAR, SHARES, Mover, X, Y, apart, laden, training

L, rules = lh.layers, lh.optimizers
DATA = np.random.default_rng(8).normal(size=(16, 4))
AIMS = np.random.default_rng(9).normal(size=(16, 2))


@pytest.fixture
def restless(monkeypatch):
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """What jobs give that begin together, each in a thread of its own; what one of them raises is raised."""
    together = threading.Barrier(len(jobs))
    results: list[Any] = [None] * len(jobs)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        try:
            together.wait()
            results[number] = jobs[number]()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return results


def test_models_train_in_threads_as_they_would_alone_several_to_a_backend(restless):
    pytest.importorskip("torch")
    places = ("numpy", "torch", "numpy", "torch")
    alone = {place: training(laden(place), epochs=1) for place in set(places)}
    found = at_once(*(lambda place=place: training(laden(place), epochs=1) for place in places))
    assert [apart(alone[place], run) for place, run in zip(places, found, strict=True)] == [0.0] * 4


def test_models_move_in_threads_past_each_other(restless):
    pytest.importorskip("torch")
    alone = training(laden("numpy"), epochs=1)
    ways = (["torch", "numpy"], ["numpy", "torch"], ["torch"])
    found = at_once(*(
        lambda way=way: training(laden("numpy"), Mover(way, ["on_train_batch_begin"]), epochs=1) for way in ways
    ))  # fmt: skip
    assert max(apart(alone, run) for run in found) < NEAR


def test_a_scope_holds_in_its_own_thread_alone():
    inside, left = threading.Event(), threading.Event()

    def scoped() -> str:
        with lh.backend("torch"):
            inside.set()
            assert left.wait(30)
            return lh.Sequential([lh.Input((2,)), L.Dense(1)]).backend

    def plain() -> str:
        assert inside.wait(30)
        found = lh.Sequential([lh.Input((2,)), L.Dense(1)]).backend
        left.set()
        return found

    pytest.importorskip("torch")
    assert at_once(scoped, plain) == ["torch", "numpy"]


def pair(one: str, other: str) -> tuple[lh.Model, lh.Model]:
    """Two models with an encoder in common, each on a backend and with an optimizer of its own."""
    x = lh.Input((4,), dtype="float64")
    encoder = L.Dense(3, activation="tanh", dtype="float64", name="encoder")
    normed = L.BatchNormalization(dtype="float64", name="normed")
    models = []
    for place, seed in ((one, 1), (other, 2)):
        head = L.Dense(2, dtype="float64")
        models.append(lh.Model(x, head(normed(encoder(x))), backend=place, seed=seed))
        models[-1].compile(rules.Adam(0.05), "mse")
    return models[0], models[1]


def turns(models: Sequence[lh.Model]) -> dict[str, list[Any]]:
    """Models trained in turns, each step of one beginning where the other's ended."""
    curve = [model.train_on_batch(DATA, AIMS) for _ in range(6) for model in models]
    return {"curve": curve, "weights": [w for model in models for w in model.get_weights()]}


@pytest.mark.parametrize("places", [("numpy", "torch"), ("torch", "numpy")])
def test_two_models_on_two_backends_train_a_layer_that_they_share(places):
    pytest.importorskip("torch")
    assert apart(turns(pair("numpy", "numpy")), turns(pair(*places))) < NEAR


def test_a_layer_that_comes_back_for_a_prediction_can_be_trained_again():
    torch = pytest.importorskip("torch")
    runs = []
    for places in (("numpy", "numpy"), ("torch", "numpy")):
        first, second = pair(*places)
        first.train_on_batch(DATA, AIMS)
        second.predict(DATA)  # takes the shared layers away, which the next line fetches back
        with torch.inference_mode():
            curve = [first.predict(DATA)]
        curve += [first.train_on_batch(DATA, AIMS) for _ in range(3)]
        first.set_weights(first.get_weights())
        runs.append({"curve": curve, "weights": first.get_weights()})
    assert apart(*runs) < NEAR


def test_moving_one_of_two_models_leaves_the_other_where_it_is_with_the_shared_weights_of_both():
    pytest.importorskip("torch")
    one, other = pair("numpy", "numpy")
    still = pair("numpy", "numpy")
    assert apart(turns(still), turns((one, other))) == 0
    one.to("torch")
    assert (one.backend, other.backend) == ("torch", "numpy")
    assert apart(turns(still), turns((one, other))) < NEAR


def test_a_shared_layer_may_be_used_on_two_backends_at_once_from_two_threads(restless):
    pytest.importorskip("torch")
    models = pair("numpy", "torch")
    expected = [model.predict(DATA) for model in models]

    def use(model: lh.Model) -> list[np.ndarray]:
        return [model.predict(DATA) for _ in range(60)]

    for found, wanted in zip(at_once(*(lambda m=m: use(m) for m in models)), expected, strict=True):
        assert max(float(np.max(np.abs(y - wanted))) for y in found) < NEAR


def test_new_weights_for_a_shared_layer_reach_every_thread(restless):
    pytest.importorskip("torch")
    models = pair("numpy", "torch")
    layer = models[0].get_layer("encoder")

    def use(model: lh.Model) -> None:
        for _ in range(40):
            model.predict(DATA)

    def change() -> None:
        for k in range(40):
            layer.set_weights([np.full((4, 3), k / 100), np.zeros(3)])

    at_once(change, *(lambda m=m: use(m) for m in models))
    fresh = pair("numpy", "numpy")
    for model, reference in zip(models, fresh, strict=True):
        reference.set_weights(model.get_weights())
        assert np.all(model.get_weights()[0] == 0.39)
        assert np.max(np.abs(model.predict(DATA) - reference.predict(DATA))) < NEAR


def test_a_layer_of_a_model_is_called_on_a_native_tensor_of_another_backend_between_two_steps():
    torch = pytest.importorskip("torch")
    alone, model = laden("numpy"), laden("numpy")
    for each in (alone, model):
        each.train_on_batch(X[:8], Y[:8], SHARES[:8])
    y = model.get_layer("frozen")(torch.ones((2, 3), dtype=torch.float64))
    assert isinstance(y, torch.Tensor)
    assert np.max(np.abs(alone.get_layer("frozen")(np.ones((2, 3))) - y.detach().numpy())) < NEAR
    assert apart(training(alone, epochs=1), training(model, epochs=1)) == 0
