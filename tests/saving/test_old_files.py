"""Files in Keras 2's layout (``.h5``): whole models, weights in order and by name, and what was meant then."""

import json
import warnings

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import FileFormatError, LayerHubError, ParameterError, WeightsError

from .conftest import chain, compiled, data_for, graph, near, outputs_of, same

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
L = lh.layers


@pytest.mark.parametrize("make", [chain, graph])
def test_a_whole_model_round_trips_and_goes_on(make, tmp_path):
    model = compiled(make())
    x, y = data_for(model)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.h5")
    again = lh.models.load_model(tmp_path / "m.h5")
    assert same(again.get_weights(), model.get_weights())
    assert again.get_config() == model.get_config()
    assert again.metrics_names == model.metrics_names
    assert again.executor.step == model.executor.step


@pytest.mark.parametrize("make", [chain, graph])
def test_a_whole_model_goes_to_keras_and_back(keras, make, tmp_path):
    model = make()
    x, y = data_for(model)
    if make is chain:  # Keras opens no such file whose losses are a list
        compiled(model).fit(x, y, verbose=0)
    model.save(tmp_path / "ours.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = keras.models.load_model(tmp_path / "ours.h5")
        near(outputs_of(model, x), outputs_of(theirs, x))
        theirs.set_weights([w * 1.25 for w in theirs.get_weights()])
        theirs.save(tmp_path / "theirs.h5")
    again = lh.models.load_model(tmp_path / "theirs.h5")
    near(outputs_of(again, x), outputs_of(theirs, x))
    assert again.executor.step == model.executor.step


def test_masks_that_keras_3_writes_down_are_read_though_nothing_says_that_they_are_operations(keras, tmp_path):
    # Keras cannot open such a file itself.
    x = keras.Input((6,), dtype="int32")
    y = keras.layers.Embedding(9, 4, mask_zero=True)(x)
    y = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True))(y)
    y = keras.layers.TimeDistributed(keras.layers.Dense(4))(y)
    theirs = keras.Model(x, [keras.layers.GRU(3)(y), keras.layers.LSTM(2)(keras.layers.Masking(0.5)(y))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.save(tmp_path / "m.h5")
    data = np.random.default_rng(0).integers(0, 3, (4, 6)).astype("int32")
    near(outputs_of(lh.models.load_model(tmp_path / "m.h5"), data), outputs_of(theirs, data))


def test_an_operation_in_a_file_of_keras_3_is_not_taken_for_the_layer_of_its_name(keras, tmp_path):
    x = keras.Input((3,))
    theirs = keras.Model(x, keras.layers.Dense(3)(x) + x * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.save(tmp_path / "m.h5")
    data = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    near(outputs_of(lh.models.load_model(tmp_path / "m.h5"), data), outputs_of(theirs, data))


@pytest.mark.parametrize("make", [chain, graph])
def test_weights_alone_round_trip(make, tmp_path):
    model, other = make(), make()
    model.set_weights([w + 1 for w in model.get_weights()])
    model.save_weights(tmp_path / "w.hdf5")
    other.load_weights(tmp_path / "w.hdf5")
    assert same(other.get_weights(), model.get_weights())


def dense(*layers):
    return lh.Sequential([lh.Input((4,)), *(L.Dense(units, name=name) for name, units in layers)])


def test_by_name_takes_the_layers_that_are_called_so(tmp_path):
    model = dense(("a", 3), ("b", 4), ("c", 2))
    model.save_weights(tmp_path / "w.h5")
    other = dense(("new", 3), ("b", 4), ("d", 2))
    before = other.get_weights()
    other.load_weights(tmp_path / "w.h5", by_name=True)
    found = other.get_weights()
    assert same(found[2:4], model.get_weights()[2:4])
    assert same([*found[:2], *found[4:]], [*before[:2], *before[4:]])


@pytest.mark.parametrize("by_name", [True, False])
def test_skip_mismatch_leaves_layers_that_do_not_fit(by_name, tmp_path):
    model = dense(("a", 3), ("b", 4))
    model.save_weights(tmp_path / "w.h5")
    other = dense(("a", 3), ("b", 5))
    before = other.get_weights()
    with pytest.raises(WeightsError, match=r"b/kernel has shape \(3, 5\)"):
        other.load_weights(tmp_path / "w.h5", by_name=by_name)
    assert same(other.get_weights(), before)
    with pytest.warns(UserWarning, match="b was left as it is"):
        other.load_weights(tmp_path / "w.h5", by_name=by_name, skip_mismatch=True)
    assert same(other.get_weights(), [*model.get_weights()[:2], *before[2:]])


def test_a_file_with_other_layers_is_refused(tmp_path):
    dense(("a", 3), ("b", 4)).save_weights(tmp_path / "w.h5")
    with pytest.raises(WeightsError, match=r"weights of 2 layers \(a, b\), .* has 1"):
        dense(("a", 3)).load_weights(tmp_path / "w.h5")


def test_by_name_is_refused_for_files_that_do_not_name_their_layers(tmp_path):
    model = chain()
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ParameterError, match="by_name"):
        model.load_weights(tmp_path / "w.weights.h5", by_name=True)


def test_many_layers_are_listed_in_several_attributes(tmp_path):
    model = dense(*((f"{'x' * 900}{k}", 4) for k in range(80)))
    model.save_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as opened:
        assert "layer_names1" in opened.attrs
    other = dense(*((f"{'x' * 900}{k}", 4) for k in range(80)))
    other.load_weights(tmp_path / "w.h5", by_name=True)
    assert same(other.get_weights(), model.get_weights())


# Files as Keras 2 wrote them

GRU = {
    "name": "gru_1", "trainable": True, "batch_input_shape": [None, 5, 4], "dtype": "float32", "units": 3,
    "return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False, "unroll": False,
    "activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True,
    "kernel_initializer": {
        "class_name": "VarianceScaling",
        "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None},
    },
    "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}},
    "bias_initializer": {"class_name": "Zeros", "config": {}}, "kernel_regularizer": None,
    "recurrent_regularizer": None, "bias_regularizer": None, "activity_regularizer": None, "kernel_constraint": None,
    "recurrent_constraint": None, "bias_constraint": None, "dropout": 0.0, "recurrent_dropout": 0.0,
    "implementation": 1, "time_major": False,
}  # fmt: skip
DENSE = {"name": "dense_1", "trainable": True, "units": 2, "activation": "linear", "use_bias": True}
NORM = {"name": "norm_1", "trainable": True, "axis": [1], "momentum": 0.9, "epsilon": 0.001, "renorm": False}


def entry(kind, config, *calls):
    return {"class_name": kind, "config": config, "name": config["name"], "inbound_nodes": list(calls)}


SEQUENTIAL = {
    "class_name": "Sequential",
    "config": {
        "name": "sequential_1",
        "layers": [{"class_name": kind, "config": config} for kind, config in (("GRU", GRU), ("Dense", DENSE))],
    },
}
INPUT = {"batch_input_shape": [None, 5, 4], "dtype": "float32", "sparse": False, "name": "input_1"}
GRAPH = {
    "class_name": "Model",
    "config": {
        "name": "model_1",
        "layers": [
            entry("InputLayer", INPUT),
            entry("GRU", {k: v for k, v in GRU.items() if k != "batch_input_shape"}, [["input_1", 0, 0, {}]]),
            entry("BatchNormalization", NORM, [["gru_1", 0, 0, {}]]),
            entry("Dense", DENSE, [["norm_1", 0, 0, {}]], [["norm_1", 0, 0, {}]]),
            entry("Add", {"name": "add_1", "trainable": True}, [["dense_1", 0, 0, {}], ["dense_1", 1, 0, {}]]),
        ],
        "input_layers": [["input_1", 0, 0]],
        "output_layers": [["add_1", 0, 0]],
    },
}
TRAINING = {
    "optimizer_config": {"class_name": "SGD", "config": {"lr": 0.25, "momentum": 0.0, "decay": 0.0, "nesterov": False}},
    "loss": "mean_squared_error", "metrics": ["mae"], "sample_weight_mode": None, "loss_weights": None,
}  # fmt: skip
SHAPES = {
    "gru_1": {"kernel": (4, 9), "recurrent_kernel": (3, 9), "bias": (9,)},
    "norm_1": {"gamma": (3,), "beta": (3,), "moving_mean": (3,), "moving_variance": (3,)},
    "dense_1": {"kernel": (3, 2), "bias": (2,)},
}


def written(path, config, version="2.3.1", backend="tensorflow"):
    """A file as Keras 2 wrote it; returns its weights by layer."""
    rng = np.random.default_rng(0)
    values = {layer: {n: rng.uniform(0.1, 1, s) for n, s in of.items()} for layer, of in SHAPES.items()}
    with h5py.File(path, "w") as opened:
        said = {"keras_version": version.encode(), "backend": backend.encode()}
        opened.attrs.update(said | {"model_config": json.dumps(config).encode()})
        opened.attrs["training_config"] = json.dumps(TRAINING).encode()
        group = opened.create_group("model_weights")
        layers = [part["config"]["name"] for part in config["config"]["layers"]]
        group.attrs.update(said | {"layer_names": [name.encode() for name in layers]})
        for layer in layers:
            own = group.create_group(layer)
            names = [f"{layer}/{name}:0" for name in values.get(layer, {})]
            own.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, values.get(layer, {}).values(), strict=True):
                own.create_dataset(name, data=value.astype("float32"))
    return values


def expected(values, x, norm):
    """What the model computes, by the formulas of Keras 2."""
    gru, dense = values["gru_1"], values["dense_1"]
    h = np.zeros((len(x), 3))

    def gate(z):
        return np.clip(0.2 * z + 0.5, 0, 1)

    for t in range(x.shape[1]):
        ahead = x[:, t] @ gru["kernel"] + gru["bias"]
        z, r = (gate(ahead[:, s] + h @ gru["recurrent_kernel"][:, s]) for s in (slice(0, 3), slice(3, 6)))
        h = z * h + (1 - z) * np.tanh(ahead[:, 6:] + (r * h) @ gru["recurrent_kernel"][:, 6:])
    if not norm:
        return h @ dense["kernel"] + dense["bias"]
    of = values["norm_1"]
    h = (h - of["moving_mean"]) / np.sqrt(of["moving_variance"] + 1e-3) * of["gamma"] + of["beta"]
    return 2 * (h @ dense["kernel"] + dense["bias"])


@pytest.mark.parametrize("config", [SEQUENTIAL, GRAPH], ids=["Sequential", "Model"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_file_of_keras_2_means_what_it_meant(config, backend, tmp_path):
    values = written(tmp_path / "old.h5", config)
    model = lh.models.load_model(tmp_path / "old.h5", backend=backend)
    x = np.random.default_rng(1).normal(size=(6, 5, 4)).astype("float32")
    near(outputs_of(model, x), [expected(values, x, config is GRAPH)])
    assert model.optimizer.learning_rate == 0.25
    model.save(tmp_path / "new.keras")
    again = lh.models.load_model(tmp_path / "new.keras", backend=backend)
    assert same(outputs_of(again, x), outputs_of(model, x))


@pytest.mark.parametrize("backend", ["theano", "cntk"])
def test_kernels_that_lie_otherwise_are_refused(backend, tmp_path):
    written(tmp_path / "old.h5", SEQUENTIAL, backend=backend)
    with pytest.raises(FileFormatError, match=backend):
        lh.models.load_model(tmp_path / "old.h5")


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda f: f.attrs.pop("model_config"), "weights alone"),
        (lambda f: f.attrs.update({"model_config": b"{"}), "no JSON"),
        (lambda f: f.attrs.update({"model_config": b"[]"}), "no JSON object"),
        (lambda f: f.attrs.update({"model_config": b"{}"}), "describes no model"),
        (lambda f: f.pop("model_weights/gru_1"), "has no group"),
        (lambda f: f.pop("model_weights/dense_1/dense_1/bias:0"), "lists an array dense_1/bias:0"),
        (lambda f: f.pop("model_weights"), "."),
    ],
)
def test_a_file_that_lies_is_refused(change, told, tmp_path):
    written(tmp_path / "old.h5", SEQUENTIAL)
    with h5py.File(tmp_path / "old.h5", "r+") as opened:
        change(opened)
    with pytest.raises(LayerHubError, match=told):
        lh.models.load_model(tmp_path / "old.h5")


def test_a_file_that_is_cut_off_or_changed_is_refused_or_harmless(tmp_path):
    written(tmp_path / "old.h5", SEQUENTIAL)
    whole = (tmp_path / "old.h5").read_bytes()
    rng = np.random.default_rng(2)
    for length in np.linspace(0, len(whole) - 1, 25, dtype=int):
        (tmp_path / "old.h5").write_bytes(whole[:length])
        with pytest.raises(LayerHubError):
            lh.models.load_model(tmp_path / "old.h5")
    opened = 0
    for place in rng.integers(0, len(whole), 80):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        (tmp_path / "old.h5").write_bytes(changed)
        try:
            opened += len(lh.models.load_model(tmp_path / "old.h5").layers)
        except LayerHubError:
            continue
    assert opened  # most bytes of such a file are values, or unused
