"""A file names functions and classes; the caller, or the registry, has them. Nothing of a file is run."""

import json
import zipfile

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import ParameterError, UnknownNameError
from layerhub.spec import KINDS

from .conftest import outputs_of, same

L = lh.layers
X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


class Scaled(L.Layer):
    """The input times a weight."""

    power: int = 1

    x = L.In("n d")
    scale = L.Weight("d", init="ones")
    y = L.Out("n d")
    mask = lh.layers.passes

    def define(self, xp, x, scale):
        return x * scale**self.power


def tripled(x):
    return x * 3


def own_loss(y_true, y_pred):
    return lh.ops.mean(lh.ops.square(y_true - y_pred), axis=-1)


class Halved(lh.regularizers.Regularizer):
    """Half the sum of a weight."""

    def define(self, xp, w):
        return xp.sum(w) * 0.5


@pytest.fixture
def registered():
    """The layer, known by its name for as long as a test takes."""
    lh.register(Scaled)
    yield
    for table in (KINDS["layer"].members, KINDS["layer"].origin):
        del table["Scaled"]
    del KINDS["layer"]._keys["scaled"]


def saved(layers, path, **compile):
    model = lh.Sequential([lh.Input((4,)), *layers])
    model.set_weights([w + 0.5 for w in model.get_weights()])
    if compile:
        model.compile("sgd", **compile)
    model.save(path)
    return model


def test_a_registered_layer_comes_back_by_its_name(registered, tmp_path):
    model = saved([Scaled(2), L.Dense(3)], tmp_path / "m.keras")
    again = lh.models.load_model(tmp_path / "m.keras")
    assert again.layers[0].power == 2
    assert same(outputs_of(again, X), outputs_of(model, X))


@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: L.Wrapper(layer)])
def test_a_layer_of_the_callers_comes_from_custom_objects(wrap, tmp_path):
    model = saved([L.Dense(3), wrap(Scaled(3))], tmp_path / "m.keras")
    again = lh.models.load_model(tmp_path / "m.keras", custom_objects={"Scaled": Scaled})
    assert same(outputs_of(again, X), outputs_of(model, X))
    with pytest.raises(UnknownNameError, match="Scaled"):
        lh.models.load_model(tmp_path / "m.keras")


def test_what_another_package_registered_is_not_taken_for_the_layer_of_its_name(tmp_path):
    saved([L.Dense(3)], tmp_path / "m.keras")
    changed = config_of(tmp_path / "m.keras")
    changed["config"]["layers"][1] |= {"module": "theirs", "registered_name": "theirs>Dense"}
    write_config(tmp_path / "m.keras", changed)
    with pytest.raises(UnknownNameError, match=r"theirs>Dense.*custom_objects"):
        lh.models.load_model(tmp_path / "m.keras")
    again = lh.models.load_model(tmp_path / "m.keras", custom_objects={"theirs>Dense": L.Dense})
    assert isinstance(again.layers[0], L.Dense)


def config_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def write_config(path, config):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"config.json": json.dumps(config)}).items():
            archive.writestr(name, content)


def test_functions_of_layers_come_from_custom_objects(tmp_path):
    layers = [L.Lambda(tripled, name="times"), L.Dense(3, activation=tripled, kernel_regularizer=Halved())]
    model = saved(layers, tmp_path / "m.keras")
    objects = {"tripled": tripled, "Halved": Halved}
    again = lh.models.load_model(tmp_path / "m.keras", custom_objects=objects)
    assert same(outputs_of(again, X), outputs_of(model, X))
    assert isinstance(again.layers[1].kernel_regularizer, Halved)
    with pytest.raises(UnknownNameError, match=r"Lambda 'times' calls the function 'tripled'.*custom_objects"):
        lh.models.load_model(tmp_path / "m.keras", custom_objects={"Halved": Halved})
    with pytest.raises((UnknownNameError, ParameterError), match="Halved"):
        lh.models.load_model(tmp_path / "m.keras", custom_objects={"tripled": tripled})


def test_losses_and_metrics_of_the_callers_come_from_custom_objects(tmp_path):
    saved([L.Dense(3)], tmp_path / "m.keras", loss=own_loss, metrics=[own_loss, "mae"])
    again = lh.models.load_model(tmp_path / "m.keras", custom_objects={"own_loss": own_loss})
    assert again.metrics_names == ["loss", "own_loss", "mae"]
    with pytest.raises(ParameterError, match=r"own_loss.*compile=False"):
        lh.models.load_model(tmp_path / "m.keras")


CODE = {
    "Keras 3": {"class_name": "__lambda__", "config": {"value": ["bm90IHJ1bg==", None, None]}},
    "Keras 2": ["bm90IHJ1bg==", None, None],
}


@pytest.mark.parametrize("code", CODE.values(), ids=CODE)
def test_code_in_a_file_is_never_run(code, tmp_path):
    saved([L.Lambda(tripled, name="times")], tmp_path / "m.keras")
    changed = config_of(tmp_path / "m.keras")
    changed["config"]["layers"][1]["config"]["function"] = code
    write_config(tmp_path / "m.keras", changed)
    with pytest.raises(UnknownNameError, match="'times' holds code, which is never run"):
        lh.models.load_model(tmp_path / "m.keras")
    again = lh.models.load_model(tmp_path / "m.keras", custom_objects={"times": tripled})
    assert np.array_equal(again.predict(X, verbose=0), X * 3)


def test_a_mask_function_as_code_has_a_name_of_its_own(tmp_path):
    saved([L.Lambda(tripled, name="times")], tmp_path / "m.keras")
    changed = config_of(tmp_path / "m.keras")
    changed["config"]["layers"][1]["config"]["mask"] = CODE["Keras 3"]
    write_config(tmp_path / "m.keras", changed)
    objects = {"times": tripled}
    with pytest.raises(UnknownNameError, match=r"custom_objects=\{'times/mask': …\}"):
        lh.models.load_model(tmp_path / "m.keras", custom_objects=objects)
    objects["times/mask"] = lambda x, mask: mask
    again = lh.models.load_model(tmp_path / "m.keras", custom_objects=objects)
    assert np.array_equal(again.predict(X, verbose=0), X * 3)


def test_a_function_of_another_module_is_not_looked_for(tmp_path):
    saved([L.Dense(3)], tmp_path / "m.keras")
    changed = config_of(tmp_path / "m.keras")
    function = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    changed["config"]["layers"][1]["config"]["activation"] = function
    write_config(tmp_path / "m.keras", changed)
    with pytest.raises(UnknownNameError, match="'system' of os"):
        lh.models.load_model(tmp_path / "m.keras")
