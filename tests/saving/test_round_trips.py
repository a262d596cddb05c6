"""What LayerHub writes LayerHub reads, to the bit, on every backend; and training goes on where it stopped."""

import json
import zipfile

import numpy as np
import pytest
from layerhub_conformance.cases import corpus

import layerhub as lh
from layerhub.errors import FileFormatError, ParameterError, StateError, WeightsError
from layerhub.spec import KINDS

from .conftest import chain, compiled, data_for, graph, outputs_of, recurrent, same

L = lh.layers
BACKENDS = ["numpy", "torch", "tensorflow", "jax"]
FIRST = {}
for case in corpus():
    FIRST.setdefault(case.layer, case)
LAYERS = sorted(set(FIRST) - {"InputLayer", "Lambda"})
"""Lambda holds a function of the user's: see test_trust. InputLayer is in every model."""


def model_of(case):
    """A model of the one layer of a case, in float32."""
    layer, drawn = case.make("float32"), case.draw("float32")
    kinds = {"f": "float32", "b": "bool"}
    inputs = [
        lh.Input(shape[1:], batch_size=shape[0], dtype=kinds.get(x.dtype.kind, "int32"))
        for shape, x in zip(case.shapes, drawn.inputs, strict=True)
    ]
    outputs = layer(inputs if len(inputs) > 1 else inputs[0])
    model = lh.Model(inputs, outputs)
    model.set_weights(drawn.weights)
    return model, drawn.inputs if len(inputs) > 1 else drawn.inputs[0]


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_in_a_model_round_trips(name, tmp_path):
    model, x = model_of(FIRST[name])
    path = tmp_path / "one.keras"
    model.save(path)
    again = lh.models.load_model(path)
    assert again.get_config() == model.get_config()
    assert same(again.get_weights(), model.get_weights())
    assert same(outputs_of(again, x), outputs_of(model, x))


def test_the_layers_are_all_that_are_registered():
    missing = {name for name, origin in KINDS["layer"].origin.items() if origin == "layerhub"} - set(FIRST)
    assert not missing


MODELS = [(chain, backend) for backend in BACKENDS]
MODELS += [(make, backend) for make in (graph, recurrent) for backend in ("numpy", "torch")]
"""Other backends compile each step, which takes long for large graphs; what they predict is compared below."""


@pytest.mark.parametrize("make, backend", MODELS)
def test_training_goes_on_where_it_stopped(make, backend, tmp_path):
    pytest.importorskip(backend)
    model = compiled(make(backend))
    x, y = data_for(model)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    path = tmp_path / "trained.keras"
    model.save(path)
    again = lh.models.load_model(path, backend=backend)
    assert again.backend == backend
    assert same(outputs_of(again, x), outputs_of(model, x))
    for one in (model, again):
        one.fit(x, y, batch_size=5, epochs=1, verbose=0)
    assert same(again.get_weights(), model.get_weights())
    assert again.metrics_names == model.metrics_names


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_graph_predicts_the_same_after_its_file(backend, tmp_path):
    pytest.importorskip(backend)
    model = graph(backend)
    x, _ = data_for(model)
    model.save(tmp_path / "m.keras")
    again = lh.models.load_model(tmp_path / "m.keras", backend=backend)
    assert same(outputs_of(again, x), outputs_of(model, x))


OPTIMIZERS = {
    "sgd": lambda: lh.optimizers.SGD(0.1),
    "momentum, averages, sums": lambda: lh.optimizers.SGD(
        0.1, momentum=0.9, use_ema=True, gradient_accumulation_steps=2
    ),
    "rmsprop": lambda: lh.optimizers.RMSprop(centered=True, momentum=0.5, clipnorm=1.0),
    "amsgrad": lambda: lh.optimizers.Adam(lh.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9), amsgrad=True),
    "nadam": lambda: lh.optimizers.Nadam(),
    "adafactor": lambda: lh.optimizers.Adafactor(use_ema=True),
    "muon": lambda: lh.optimizers.Muon(),
    "ftrl": lambda: lh.optimizers.Ftrl(),
    "scaled": lambda: lh.optimizers.LossScaleOptimizer("adam", dynamic_growth_steps=3),
    "several": lambda: lh.optimizers.MultiOptimizer(lh.optimizers.OptimizerMap("sgd", {"dense.*": "adam"})),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_with_what_it_kept(name, tmp_path):
    model = compiled(chain(), OPTIMIZERS[name]())
    x, y = data_for(model)
    model.fit(x, y, batch_size=5, epochs=2, verbose=0)
    first, second = tmp_path / "first.keras", tmp_path / "second.keras"
    model.save(first)
    again = lh.models.load_model(first)
    again.save(second)
    assert second.read_bytes() == first.read_bytes()
    for one in (model, again):
        one.fit(x, y, batch_size=5, epochs=2, verbose=0)
    assert same(again.get_weights(), model.get_weights())


def test_slots_of_frozen_weights_are_kept_for_when_they_are_thawed(tmp_path):
    model = compiled(chain())
    x, y = data_for(model)
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = False
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "frozen.keras")
    again = lh.models.load_model(tmp_path / "frozen.keras")
    for one in (model, again):
        one.layers[0].trainable = True
    model.save(tmp_path / "thawed.keras")
    thawed = lh.models.load_model(tmp_path / "thawed.keras")
    for one in (model, again, thawed):
        one.fit(x, y, verbose=0)
    assert same(thawed.get_weights(), model.get_weights())
    assert same(again.get_weights(), model.get_weights())


def test_states_of_stateful_layers_are_kept(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    model = lh.Sequential([lh.Input((4, 3), batch_size=2), L.LSTM(3, stateful=True)])
    model.predict(x, verbose=0)
    model.save(tmp_path / "stateful.keras")
    again = lh.models.load_model(tmp_path / "stateful.keras")
    assert same(outputs_of(again, x), outputs_of(model, x))


def test_a_trained_model_moves_to_another_backend_by_way_of_a_file(tmp_path):
    model = compiled(graph())
    x, y = data_for(model)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    again = lh.models.load_model(tmp_path / "m.keras", backend="torch")
    for ours, theirs in zip(outputs_of(model, x), outputs_of(again, x), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_compile_false_leaves_the_model_uncompiled(tmp_path):
    model = compiled(chain())
    x, y = data_for(model)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    again = lh.models.load_model(tmp_path / "m.keras", compile=False)
    assert same(again.get_weights(), model.get_weights())
    with pytest.raises(StateError, match="not compiled"):
        again.fit(x, y)


def test_models_may_hold_float16_and_bfloat16_weights(tmp_path):
    x = np.ones((2, 3), "float32")
    for dtype, backend in (("float16", "numpy"), ("bfloat16", "torch"), ("float64", "numpy")):
        model = lh.Sequential([lh.Input((3,)), L.Dense(2, dtype=dtype)], backend=backend)
        model.save(tmp_path / "m.keras")
        again = lh.models.load_model(tmp_path / "m.keras", backend=backend)
        assert same(again.get_weights(), model.get_weights())
        assert again.get_weights()[0].dtype == model.get_weights()[0].dtype
        assert same(outputs_of(again, x), outputs_of(model, x))


def test_a_layer_that_nested_models_share_stays_one(tmp_path):
    shared = L.Dense(4, name="shared")
    inner = lh.Sequential([lh.Input((4,)), shared, L.Dense(4)], name="inner")
    x = lh.Input((4,), name="x")
    model = lh.Model(x, shared(inner(shared(x))), name="outer")
    model.save(tmp_path / "m.keras")
    data = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    for again in (lh.models.load_model(tmp_path / "m.keras"), lh.models.model_from_json(model.to_json())):
        again.set_weights(model.get_weights())
        assert same(outputs_of(again, data), outputs_of(model, data))
        assert again.get_layer("inner").layers[0] is again.get_layer("shared")


# Weights alone


@pytest.mark.parametrize("name", ["w.weights.h5", "w.safetensors"])
@pytest.mark.parametrize("make", [chain, graph, recurrent])
def test_weights_alone_round_trip(make, name, tmp_path):
    pytest.importorskip("safetensors")
    model, other = make(), make()
    model.set_weights([w + 1 for w in model.get_weights()])
    model.save_weights(tmp_path / name)
    other.load_weights(tmp_path / name)
    assert same(other.get_weights(), model.get_weights())


@pytest.mark.parametrize("name", ["w.weights.h5", "w.safetensors", "m.keras"])
def test_content_says_what_a_file_is_not_its_name(name, tmp_path):
    pytest.importorskip("safetensors")
    model, other = chain(), chain()
    model.set_weights([w + 1 for w in model.get_weights()])
    if name.endswith(".keras"):
        model.save(tmp_path / name)
    else:
        model.save_weights(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "any.thing")
    other.load_weights(tmp_path / "any.thing")
    assert same(other.get_weights(), model.get_weights())


@pytest.mark.parametrize("name", ["w.weights.h5", "w.safetensors"])
@pytest.mark.parametrize(
    "layers, told",
    [
        ([L.Dense(5), L.Dense(4)], "dense"),
        ([L.Dense(5)], "dense_1"),
        ([L.Dense(5), L.Dense(3), L.Dense(3)], "dense_2"),
        ([L.Dense(5), L.Dense(3, use_bias=False)], "dense_1"),
        ([L.Dense(5), L.Conv1D(3, 1)], "conv1d"),
    ],
)
def test_weights_of_another_model_are_refused_and_change_nothing(name, layers, told, tmp_path):
    pytest.importorskip("safetensors")
    lh.Sequential([lh.Input((6, 2)), L.Dense(5), L.Dense(3)]).save_weights(tmp_path / name)
    other = lh.Sequential([lh.Input((6, 2)), *(layer.replace(name=None) for layer in layers)])
    before = other.get_weights()
    with pytest.raises(WeightsError, match=told):
        other.load_weights(tmp_path / name)
    assert same(other.get_weights(), before)


@pytest.mark.parametrize(
    "save, told",
    [
        (lambda model, at: model.save(at / "m.h6"), "suffix .keras"),
        (lambda model, at: model.save_weights(at / "w.bin"), ".weights.h5"),
        (lambda model, at: model.save(at / "none" / "m.keras"), "no folder"),
        (lambda model, at: lh.models.save_model(lh.Sequential(), at / "m.keras"), "no input shape"),
    ],
)
def test_what_cannot_be_saved_is_told_and_leaves_no_file(save, told, tmp_path):
    with pytest.raises((ParameterError, StateError), match=told):
        save(chain(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileFormatError, match="cannot be read"):
        lh.models.load_model(tmp_path / "none.keras")
    with pytest.raises(FileFormatError, match="cannot be read"):
        chain().load_weights(tmp_path / "none.weights.h5")


def test_an_archive_has_the_members_of_keras_and_says_who_wrote_it(tmp_path):
    chain().save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert json.loads(archive.read("metadata.json"))["layerhub"]["version"] == lh.__version__


def test_a_link_to_a_file_stays_one(tmp_path):
    (tmp_path / "link.keras").symlink_to(tmp_path / "m.keras")
    model = chain()
    model.save(tmp_path / "link.keras")
    assert (tmp_path / "link.keras").is_symlink()
    assert same(lh.models.load_model(tmp_path / "m.keras").get_weights(), model.get_weights())


def test_the_same_model_gives_the_same_bytes(tmp_path):
    model = compiled(chain())
    for name in "ab":
        model.save(tmp_path / f"{name}.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
