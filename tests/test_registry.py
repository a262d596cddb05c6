"""The registry: what is installed, what is missing and how to get it, and what a name means."""

import json
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

import layerhub as lh
from layerhub.contract import Backend
from layerhub.errors import BackendError, DTypeError, GraphError, LayerHubError, UnknownNameError
from layerhub.hookspecs import BackendEntry, hookimpl
from layerhub.registry import Registry
from layerhub.registry import registry as installed
from layerhub.spec import KINDS
from layerhub.spec.layer import In, Layer, Out
from layerhub.spec.masks import passes


class Tiny(Backend):
    name = "tiny"
    namespace = np


def offering(*entries, specs=None):
    module = types.ModuleType("layerhub_fake")
    module.LAYERHUB_API = 1
    module.layerhub_backend = hookimpl(lambda: entries)
    if specs is not None:
        module.layerhub_specs = hookimpl(lambda: specs)
    return module


def registry_of(*entries, **options):
    return Registry([("fake", lambda: offering(*entries, **options))])


@pytest.fixture
def tables():
    """Puts the tables of specs back as they were."""
    before = {name: (dict(k.members), dict(k.origin), dict(k._keys)) for name, k in KINDS.items()}
    yield KINDS
    for name, (members, origin, keys) in before.items():
        KINDS[name].members, KINDS[name].origin, KINDS[name]._keys = members, origin, keys


# --------------------------------------------------------------------------------------------- names of backends


def test_an_unknown_backend_is_told_with_those_there_are_and_the_command_that_would_install_it():
    with pytest.raises(BackendError) as caught:
        registry_of(BackendEntry("tiny", load=Tiny)).backend("zzz")
    assert "no backend is called 'zzz' (installed: tiny)" in str(caught.value)
    assert "pip install layerhub-zzz" in str(caught.value)


def test_a_misspelt_backend_is_told_with_the_nearest_one():
    with pytest.raises(BackendError, match=r"no backend is called 'tyny'.*Did you mean 'tiny'"):
        registry_of(BackendEntry("tiny", load=Tiny)).backend("tyny")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: lh.Sequential([lh.Input((3,))], backend="jaxx"),
        lambda: lh.Sequential([lh.Input((3,)), lh.layers.Dense(2)]).to("jaxx"),
        lambda: lh.backend("jaxx").__enter__(),
        lambda: lh.evaluate_layer(lh.layers.Dense(2), np.ones((1, 2)), backend="jaxx"),
    ],
    ids=["a model", "to", "a scope", "the probe"],
)
def test_wherever_a_backend_is_named_an_unknown_one_names_the_pip_command(ask):
    with pytest.raises(BackendError, match="pip install layerhub-jaxx"):
        ask()


def test_an_unknown_backend_in_the_environment_is_told_in_the_same_words(monkeypatch):
    monkeypatch.setenv("LAYERHUB_BACKEND", "jaxx")
    with pytest.raises(BackendError, match="pip install layerhub-jaxx"):
        lh.Sequential([lh.Input((3,))])


def test_a_backend_is_the_argument_else_the_scope_else_the_environment_else_numpy(monkeypatch):
    monkeypatch.delenv("LAYERHUB_BACKEND", raising=False)
    assert lh.Sequential([lh.Input((3,))]).backend == "numpy"
    monkeypatch.setenv("LAYERHUB_BACKEND", "jaxx")
    with lh.backend("numpy"):
        assert lh.Sequential([lh.Input((3,))]).backend == "numpy"
    assert lh.Sequential([lh.Input((3,))], backend="numpy").backend == "numpy"


def test_an_array_is_owned_by_the_backend_of_the_library_that_its_class_stems_from():
    class Owner(Tiny):
        def owns(self, x):
            return isinstance(x, np.ndarray)

    class Weight(np.ndarray):
        """A class of a user's module."""

    registry = registry_of(
        BackendEntry("other", load=Tiny, requires=("json",)), BackendEntry("tiny", load=Owner, requires=("numpy",))
    )
    assert registry.owner(np.zeros(3).view(Weight)) is registry.backend("tiny")
    assert registry.loaded() == [registry.backend("tiny")]
    with pytest.raises(GraphError, match="no backend owns builtins"):
        registry.owner(object())


def test_the_functions_of_the_package_stay_functions_when_modules_of_their_names_are_imported():
    import layerhub.contract
    import layerhub.registry  # noqa: F401

    with lh.backend("numpy"):
        assert set(lh.backends()) >= {"numpy"}


# --------------------------------------------------------------------------------------------- requirements, loading


def test_a_missing_requirement_is_listed_and_told_with_the_command_that_installs_it():
    entry = BackendEntry("tiny", load=Tiny, requires=("numpy", "nobody_has_this"), install="pip install nobody")
    registry = registry_of(entry)
    assert registry.listing()["tiny"]["missing"] == ["nobody_has_this"]
    assert registry.listing()["tiny"]["versions"] == {"numpy": np.__version__}
    assert registry.usable() == {}
    with pytest.raises(BackendError) as caught:
        registry.backend("tiny")
    assert "the backend 'tiny' needs nobody_has_this, which is not installed" in str(caught.value)
    assert str(caught.value).endswith("pip install nobody")


def test_a_requirement_inside_a_package_that_is_missing_is_missing_and_takes_nothing_down():
    absent = BackendEntry("tiny", load=Tiny, requires=("nobody_has_this.inside",), install="pip install nobody")
    registry = registry_of(absent, BackendEntry("other", load=Tiny))
    assert list(registry.usable()) == ["other"]
    assert registry.listing()["tiny"]["missing"] == ["nobody_has_this.inside"]
    with pytest.raises(BackendError, match="pip install nobody"):
        registry.backend("tiny")


def test_a_backend_is_loaded_once_when_it_is_first_asked_for():
    loads = []
    registry = registry_of(BackendEntry("tiny", load=lambda: loads.append(1) or Tiny()))
    assert registry.listing()["tiny"]["loaded"] is False
    assert loads == []
    assert registry.backend("tiny") is registry.backend("tiny")
    assert loads == [1]
    assert registry.listing()["tiny"]["loaded"] is True
    assert registry.loaded() == [registry.backend("tiny")]


def test_many_threads_load_a_backend_once():
    loads, found = [], []
    begin = threading.Barrier(8)
    registry = registry_of(BackendEntry("tiny", load=lambda: loads.append(1) or Tiny()))

    def ask():
        begin.wait()
        found.append(registry.backend("tiny"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]
    assert len(set(map(id, found))) == 1


def test_a_backend_that_does_not_load_is_told_by_plugin_and_reason_and_kept_among_the_problems():
    def load():
        raise OSError("no such library")

    registry = registry_of(BackendEntry("tiny", load=load))
    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            registry.backend("tiny")
        assert str(caught.value) == "the backend 'tiny' of fake does not load: OSError: no such library"
        assert isinstance(caught.value.__cause__, OSError)
    assert [(p.plugin, p.reason) for p in registry.problems] == [
        ("fake", "the backend 'tiny' does not load: OSError: no such library")
    ]


def test_a_backend_that_says_itself_why_it_does_not_load_is_quoted():
    def load():
        raise BackendError("this library is too old; pip install --upgrade it")

    with pytest.raises(BackendError, match=r"^this library is too old; pip install --upgrade it$"):
        registry_of(BackendEntry("tiny", load=load)).backend("tiny")


@pytest.mark.parametrize("loaded", [None, 3, Tiny], ids=repr)
def test_what_loads_as_no_backend_is_told_by_plugin(loaded):
    with pytest.raises(BackendError, match=r"tiny.*fake.*Backend"):
        registry_of(BackendEntry("tiny", load=lambda: loaded)).backend("tiny")


def test_one_plugin_may_offer_several_backends():
    registry = registry_of(BackendEntry("one", load=Tiny), BackendEntry("two", load=Tiny))
    assert list(registry.usable()) == ["one", "two"]


def test_listing_backends_imports_no_framework():
    code = """
import json, sys
import layerhub as lh
lh.backends()
print(json.dumps([name for name in ("torch", "tensorflow", "jax", "keras") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_public_listing_has_numpy_with_its_version():
    assert lh.backends()["numpy"]["versions"] == {"numpy": np.__version__}
    assert lh.backends()["numpy"]["plugin"] == "numpy"
    assert installed() is installed()


# --------------------------------------------------------------------------------------------- the smallest backend


def test_a_backend_of_a_name_and_a_namespace_runs_and_says_what_it_has():
    backend = Tiny()
    assert not backend.own_autodiff
    assert backend.devices() == ["cpu"]
    assert backend.check_device(None) == "cpu"
    assert backend.dtype_name(np.zeros(1, "float64")) == "float64"
    with pytest.raises(BackendError, match="the backend 'tiny' has no device 'gpu:7'; it has: cpu"):
        backend.check_device("gpu:7")
    with pytest.raises(DTypeError, match="the backend 'tiny' has no data type 'bfloat16'"):
        backend.dtype("bfloat16")


def test_a_device_that_the_backend_has_not_is_told_before_the_model_is_touched():
    with pytest.raises(BackendError, match="the backend 'numpy' has no device 'gpu:0'"):
        lh.Sequential([lh.Input((3,))], device="gpu:0")
    model = lh.Sequential([lh.Input((3,)), lh.layers.Dense(2)])
    with pytest.raises(BackendError, match="gpu:0"):
        model.to("numpy", device="gpu:0")
    assert model.device == "cpu"


# --------------------------------------------------------------------------------------------- specs of plugins


class Doubling(Layer):
    """Twice the input."""

    x = In("...")
    y = Out("...")
    mask = passes

    def define(self, xp, x):
        return x * 2


def test_a_plugins_layer_is_found_by_its_name_and_runs_on_every_backend(tables):
    registry = registry_of(specs=Doubling)
    assert registry.problems == []
    assert tables["layer"].find("doubling") is Doubling
    assert tables["layer"].origin["Doubling"] == "fake"
    y = lh.layers.deserialize({"class_name": "Doubling", "config": {}})
    assert np.array_equal(lh.evaluate_layer(y, np.ones((1, 2))).outputs[0], [[2, 2]])


def test_a_module_of_specs_gives_those_that_it_defines_itself(tables):
    module = types.ModuleType("fake_layers")
    own = type("Tripling", (Doubling,), {"__module__": "fake_layers"})
    module.Tripling, module.Doubling, module.Dense = own, Doubling, lh.layers.Dense
    assert registry_of(specs=module).problems == []
    assert "Tripling" in tables["layer"]
    assert "Doubling" not in tables["layer"]


def test_a_plugin_cannot_take_the_name_of_a_layer_that_is_there(tables):
    dense = type("Dense", (Doubling,), {})
    registry = registry_of(specs=dense)
    (problem,) = registry.problems
    assert "layer 'Dense' of fake is already taken, by layerhub" in problem.reason
    assert tables["layer"].find("Dense") is lh.layers.Dense


@pytest.mark.parametrize(
    "kind, wrong, right",
    [
        ("layers", "Densse", "Dense"),
        ("activations", "rellu", "relu"),
        ("losses", "MeanSquareError", "MeanSquaredError"),
        ("optimizers", "Adamm", "Adam"),
        ("metrics", "BinaryAcuracy", "BinaryAccuracy"),
        ("initializers", "GlorottUniform", "GlorotUniform"),
        ("regularizers", "L11", "L1"),
        ("constraints", "MaxNormm", "MaxNorm"),
    ],
)
def test_a_misspelt_name_is_an_attribute_error_and_a_layerhub_error_with_the_nearest_name(kind, wrong, right):
    with pytest.raises(AttributeError, match=f"{wrong}.*Did you mean '{right}'") as caught:
        getattr(getattr(lh, kind), wrong)
    assert isinstance(caught.value, (UnknownNameError, LayerHubError))
    assert right in dir(getattr(lh, kind))
