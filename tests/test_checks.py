"""The kinds of checks: each passes what is right, and each finds a fault that was planted for it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from layerhub_conformance.bench import Local
from layerhub_conformance.checks import contract, graphs, table
from layerhub_conformance.checks.metamorphic import RELATIONS
from layerhub_conformance.trial import Trial, conduct
from layerhub_numpy.backend import NumpyBackend

import layerhub as lh
from layerhub import probe
from layerhub.kernels import Kernel
from layerhub.plan import Plan
from layerhub.registry import Registry
from layerhub.variable import HOST

OF_CALLS = [name for name, rule in table().items() if rule.function.__module__ == contract.__name__]
RIGHT = [
    *((name, "Dense") for name in OF_CALLS if "whole" not in name),
    ("contract: whole numbers stay whole", "Permute"), ("contract: any layout in memory", "LSTM"),
    ("contract: outputs alias nothing", "Flatten"), ("contract: outputs alias nothing", "LSTMCell"),
    ("contract: training is what it says", "Dropout"), ("contract: training is what it says", "BatchNormalization"),
    ("contract: a config is the layer", "Bidirectional"), ("metamorphic", "Conv2D"), ("metamorphic", "Softmax"),
    ("metamorphic", "Attention"), ("metamorphic", "GRU"), ("invalid", "Conv2D"), ("invalid", "Attention"),
    ("invalid", "Flatten"), ("invalid", "Lambda"), ("random: seeds", "GRU"), ("random: noise", "AlphaDropout"),
    ("random: noise", "SpatialDropout2D"), ("recurrent: each step", "RNN"), ("recurrent: long sequences", "LSTM"),
    ("graphs", "graph"),
]  # fmt: skip


def subject(check: str, layer: str):
    return next(found for found in table()[check].subjects("certify") if found.layer == layer)


def tried(check: str, layer: str, of=None):
    """The result of a check of the first subject of a layer. of: another subject."""
    return conduct(Trial(check, of or subject(check, layer), "numpy", "float32"), Local("numpy"))


@contextmanager
def planted(layer: str, kernel):
    lh.override_kernel("numpy", layer, kernel)
    try:
        yield
    finally:
        lh.override_kernel("numpy", layer, None)


def dense(x, kernel, bias):
    y = x @ kernel
    return y if bias is None else y + bias


@pytest.fixture(autouse=True)
def two_backends(monkeypatch):
    monkeypatch.setattr(Registry, "usable", lambda self: ["numpy", "torch"])


@pytest.mark.parametrize("check, layer", RIGHT, ids=[f"{check}-{layer}" for check, layer in RIGHT])
def test_what_is_right_passes(check, layer):
    result = tried(check, layer)
    assert result.verdict == "pass", result.message
    assert result.findings


# Contract


def reusing():
    buffers: dict[tuple[int, ...], np.ndarray] = {}

    def kernel(layer, x, kernel, bias):
        y = dense(x, kernel, bias)
        buffer = buffers.setdefault(y.shape, np.empty_like(y))
        buffer[...] = y
        return buffer

    return kernel


def widened(layer, x, kernel, bias):
    return dense(x, kernel, bias).astype("float64")


def by_memory(layer, x, kernel, bias):
    return dense(x.ravel(order="K").reshape(x.shape), kernel, bias)


def drifting():
    calls: list[int] = []

    def kernel(layer, x, kernel, bias):
        calls.append(1)
        return dense(x, kernel, bias) * np.float32(1 + 1e-6 * len(calls))

    return kernel


def other_mode(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    found = layer.define(HOST, x, gamma, beta, moving_mean, moving_variance, not training, mask)
    moved = {"moving_mean": moving_mean, "moving_variance": moving_variance}
    return found._replace(weights=found.weights or moved) if training else found


def scaled_when_idle(layer, x, training, rng):
    return layer.define(HOST, x, training, rng) if training else x * (1 - layer.rate)


@pytest.mark.parametrize(
    "check, layer, kernel, words",
    [
        ("outputs alias nothing", "Dense", reusing(), "after another call"),
        ("types and shapes", "Dense", widened, "float64"),
        ("whole numbers stay whole", "Permute", lambda layer, x: x.transpose(0, *layer.dims) * np.float32(1), "float"),
        ("any layout in memory", "Dense", by_memory, "inputs in Fortran order"),
        ("the same again", "Dense", drifting(), "again"),
        ("training is what it says", "BatchNormalization", other_mode, "training"),
        ("training is what it says", "Dropout", scaled_when_idle, "another rate"),
    ],
    ids=["buffer", "type", "whole numbers", "strides", "drift", "mode", "rate"],
)  # fmt: skip
def test_what_breaks_the_contract_is_found(check, layer, kernel, words):
    with planted(layer, kernel):
        result = tried(f"contract: {check}", layer)
    assert result.verdict == "fail"
    assert words in result.message


def test_a_result_that_shares_memory_is_found(monkeypatch):
    right = contract.evaluate
    monkeypatch.setattr(contract, "evaluate", lambda *args: replace(right(*args), outputs=list(args[1].inputs)))
    result = tried("contract: outputs alias nothing", "Identity")
    assert result.verdict == "fail"
    assert "output 0 shares memory" in result.message


def test_what_another_process_gives_otherwise_is_found(monkeypatch):
    class Elsewhere:
        def call(self, function, *args):
            return {name: x * np.float32(1 + 1e-6) for name, x in function(*args).items()}

    monkeypatch.setattr(contract, "another", lambda bench: Elsewhere())
    result = tried("contract: the same again", "Dense")
    assert result.verdict == "fail"
    assert "output 0, in another process is not the same" in result.message


def test_a_config_that_forgets_is_found(monkeypatch):
    whole = lh.layers.Dense.get_config
    monkeypatch.setattr(lh.layers.Dense, "get_config", lambda self: whole(self) | {"activation": "tanh"})
    case = subject("contract: a config is the layer", "Dense")
    result = tried("contract: a config is the layer", "Dense", replace(case, config={"units": 3, "activation": "relu"}))
    assert result.verdict == "fail"
    assert "not the same" in result.message


def test_weights_that_change_on_their_way_are_found(monkeypatch):
    right = NumpyBackend.variable

    def without_sign_of_zero(self, value, *rest):
        return right(self, value + 0, *rest)

    monkeypatch.setattr(NumpyBackend, "variable", without_sign_of_zero)
    result = tried("contract: weights move as they are", "Dense")
    assert result.verdict == "fail"
    assert "weight 0" in result.message


# Metamorphic


def alone(layer, x, kernel, bias):
    return dense(x, kernel, bias) * np.float32(1 + 1e-4 * (len(x) == 1))


def beside(layer, x, kernel, bias):
    return dense(x, kernel, bias) + np.float32(1e-3) * x.flat[0] * (np.arange(len(x)) == len(x) - 1).reshape(
        -1, *[1] * (x.ndim - 1)
    ).astype(x.dtype)


def bent(layer, x, kernel, bias):
    return dense(x, kernel, bias) + np.float32(1e-5) * dense(x, kernel, bias) ** 2


@pytest.mark.parametrize(
    "kernel, relation",
    [(alone, "halves of the batch"), (beside, "the order of samples"), (bent, "linearity")],
)  # fmt: skip
def test_a_broken_relation_is_found(kernel, relation):
    case = replace(subject("metamorphic", "Dense"), config={"units": 3}, shapes=((2, 5),), masks=())
    assert relation in {known.name for known in RELATIONS}
    with planted("Dense", kernel):
        result = tried("metamorphic", "Dense", case)
    assert result.verdict == "fail"
    assert any(f.what.startswith(relation) for f in result.findings if not f.right)


def test_what_looks_under_a_mask_is_found():
    case = next(s for s in table()["metamorphic"].subjects("certify") if s.layer == "LSTM" and set(s.masks) - {"none"})

    def unmasked(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
        return layer.define(HOST, x, kernel, recurrent_kernel, bias, training, mask | True, initial_state, rng)

    with planted("LSTM", unmasked):
        result = tried("metamorphic", "LSTM", case)
    assert any(f.what.startswith("values under a mask") for f in result.findings if not f.right)


# Invalid


def test_what_is_not_refused_is_found(monkeypatch):
    monkeypatch.setattr(probe, "_typed", lambda layer, what, x, dtype: np.asarray(x))
    result = tried("invalid", "Dense")
    assert result.verdict == "fail"
    assert "text" in result.message


def test_what_is_refused_too_late_is_found(monkeypatch):
    check = Plan.function
    monkeypatch.setattr(probe, "WeightsError", RuntimeError)
    result = tried("invalid", "Dense")
    assert Plan.function is check
    assert result.verdict == "fail"
    assert "RuntimeError" in result.message


# Random


def own_numbers(layer, x, training, rng):
    keep = np.random.default_rng().uniform(size=x.shape) >= layer.rate
    return x * keep / np.float32(1 - layer.rate) if training else x


def too_few(layer, x, training, rng):
    wrong = layer.replace(rate=layer.rate + 0.02)
    return wrong.define(HOST, x, training, rng)


@pytest.mark.parametrize("check, kernel", [("seeds", own_numbers), ("noise", too_few)])
def test_wrong_draws_are_found(check, kernel):
    with planted("Dropout", kernel):
        assert tried(f"random: {check}", "Dropout").verdict == "fail"


def test_another_mask_on_the_way_back_is_found():
    def forward(layer, x, training, rng):
        return layer.define(HOST, x, training, rng)

    def stale(layer, saved, cotangents):
        (_, training, rng), _ = saved
        return layer.define(HOST, cotangents[0], training, rng.child(1)), None, None

    with planted("Dropout", Kernel("Dropout", forward, backward=stale)):
        result = tried("random: noise", "Dropout")
    assert [f.what for f in result.findings if not f.right] == ["gradient of input 0"]


# Recurrent


def forgetting(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    weights = (kernel, recurrent_kernel, bias)
    found = layer.define(HOST, x, *weights, training, mask, initial_state, rng)
    if x.shape[1] != 16 or not layer.return_state:
        return found
    return found._replace(states=(*found.states[:-1], found.states[-1] * np.float32(1 + 1e-5)))


def test_a_wrong_step_is_found():
    with planted("LSTM", forgetting):
        result = tried("recurrent: each step", "LSTM")
    assert {f.what for f in result.findings if not f.right} == {"state 1 after step 15"}


def test_what_goes_wrong_in_long_sequences_only_is_found():
    def drifting_away(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
        weights = (kernel, recurrent_kernel, bias)
        found = layer.define(HOST, x, *weights, training, mask, initial_state, rng)
        return found._replace(outputs=found.outputs * np.float32(1 + 1e-4)) if x.shape[1] > 24 else found

    with planted("LSTM", drifting_away):
        assert tried("recurrent: long sequences", "LSTM").verdict == "fail"


# Graphs


def test_a_graph_is_made_from_its_id():
    for made in graphs.graphs("certify"):
        assert graphs.Graph.parse(made.id) == made
    first, again = (graphs.Graph(12, 4).make("float32") for _ in range(2))
    assert [type(layer) for layer in first.layers] == [type(layer) for layer in again.layers]
    with pytest.raises(lh.errors.ParameterError, match="graph\\(seed=12,layers=4\\)"):
        graphs.Graph.parse("graph(12)")


def test_graphs_branch_merge_and_share_layers():
    kinds = set()
    for made in graphs.graphs("certify"):
        model = made.make("float32")
        names = [type(layer).__name__ for layer in model.layers]
        kinds |= {"merge"} if set(names) & {"Add", "Multiply", "Average", "Subtract", "Concatenate"} else set()
        kinds |= {"branch"} if len(model.outputs) > 1 else set()
        kinds |= {"shared"} if any(len(lh.graph.nodes_of(layer)) > 1 for layer in model.layers) else set()
    assert kinds == {"merge", "branch", "shared"}


def test_what_goes_wrong_where_a_layer_is_used_twice_is_found():
    seen: dict[int, np.ndarray] = {}

    def remembering(layer, x, kernel, bias):
        y = dense(x, kernel, bias)
        return seen.setdefault(id(layer), y) if seen.get(id(layer), y).shape == y.shape else y

    def fails() -> bool:
        return any(tried("graphs", "graph", made).verdict == "fail" for made in graphs.graphs("certify"))

    with planted("Dense", remembering):
        assert fails()


# What the checks have found


def test_group_normalization_may_come_first_in_training_on_torch():
    model = lh.Sequential([lh.Input((6, 5, 3)), lh.layers.GroupNormalization(1)], backend="torch")
    model.compile("sgd", "mse")
    x = np.random.default_rng(1).normal(size=(4, 6, 5, 3)).astype("float32")
    assert np.isfinite(model.train_on_batch(x, x))


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow"])
def test_truth_values_are_padded_with_false(backend):
    x = np.ones((1, 2, 3), dtype=bool)
    (y,) = lh.evaluate_layer(lh.layers.ZeroPadding1D(1), x, backend=backend).outputs
    assert y.dtype == bool
    assert y.sum() == x.sum()


@pytest.mark.parametrize("layer", [lh.layers.Identity(), lh.layers.Reshape((2, 2))], ids=["identity", "reshape"])
def test_predictions_are_arrays_of_their_own(layer):
    x = np.ones((3, 4), "float32")
    model = lh.Sequential([lh.Input((4,)), layer], backend="numpy")
    for y in (model.predict(x, verbose=0), model.predict_on_batch(x), lh.evaluate_layer(layer, x).outputs[0]):
        assert not np.shares_memory(x, y)
        assert y.flags.writeable


def test_gradients_do_not_share_memory():
    x = np.ones((2, 3), "float32")
    first, second = lh.evaluate_layer(lh.layers.Add(), [x, x], cotangents=[x]).input_grads
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize("dtype", ["U3", "complex64", "O"])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(lh.errors.DTypeError, match="numbers were expected"):
        lh.evaluate_layer(lh.layers.ReLU(), np.ones((2, 3)).astype(dtype))


@pytest.mark.parametrize("layer", [lh.layers.Flatten(), lh.layers.Reshape((1,)), lh.layers.ReLU()])
def test_an_input_without_a_batch_is_refused(layer):
    with pytest.raises(lh.errors.ShapeError, match="the first one is that of the batch"):
        lh.evaluate_layer(layer, np.float32(3))


def test_a_function_that_does_not_fit_its_input_is_told():
    layer = lh.layers.Lambda(lambda x: np.sum(x, axis=5))
    with pytest.raises(lh.errors.ShapeError, match=r"its function fails for inputs of shape .*AxisError"):
        lh.evaluate_layer(layer, np.ones((2, 3)))


@pytest.mark.parametrize("order", [">f4", ">i4"])
def test_the_order_of_bytes_makes_no_difference(order):
    x = np.arange(6).reshape(2, 3)
    (y,) = lh.evaluate_layer(lh.layers.Identity(), x.astype(order), backend="torch").outputs
    assert np.array_equal(x, y)
