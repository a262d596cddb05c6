"""What the author of a backend does wrong is told in words that say what to do."""

import re
import types
from importlib.metadata import EntryPoint

import array_api_strict
import numpy as np
import pytest
from click.testing import CliRunner

import layerhub as lh
from layerhub import cli, probe
from layerhub.contract import Backend
from layerhub.errors import BackendError, KernelError, LayerHubError
from layerhub.hookspecs import BackendEntry, hookimpl
from layerhub.kernels import Call, Kernel, KernelSet
from layerhub.registry import Registry, _imported
from layerhub.registry import registry as installed
from layerhub.spec.layer import Result


class Mine(Backend):
    """A right backend, whose arrays are not ndarrays."""

    name = "mine"
    namespace = array_api_strict


def plugin(backend=Mine, api=1, kernels=(), **hooks):
    """A plugin's module, which offers the backend ``mine`` and kernels for it."""
    module = types.ModuleType("layerhub_mine")
    if api is not None:
        module.LAYERHUB_API = api
    module.layerhub_backend = hookimpl(lambda: BackendEntry("mine", load=backend))
    module.layerhub_kernels = hookimpl(lambda backend: list(kernels) if backend == "mine" else None)
    for name, function in hooks.items():
        setattr(module, name, function)
    return module


def registry_of(module):
    return Registry([("mine", lambda: module)])


def broken(module):
    """What asking for the backend says, where its plugin is refused."""
    with pytest.raises(BackendError) as caught:
        registry_of(module).backend("mine")
    return str(caught.value)


def with_kernel(function, name="Dense", **options):
    kernels = KernelSet()
    kernels.register(name, **options)(function)
    return kernels


# The plugin


def test_no_entry_point(monkeypatch, tmp_path):
    (tmp_path / "layerhub_unnamed.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendError) as caught:
        registry_of(plugin()).backend("unnamed")
    assert str(caught.value) == (
        "no backend is called 'unnamed' (installed: mine). There is a module layerhub_unnamed, but no entry point "
        "names it: write unnamed = 'layerhub_unnamed' under [project.entry-points.layerhub] in its pyproject.toml, "
        "and install it again"
    )


@pytest.mark.parametrize("module", ["layerhub_of_nobody", "layerhub_of_nobody.inside", "layerhub.inside"])
def test_an_entry_point_to_a_module_that_is_missing(module):
    point = EntryPoint("mine", module, "layerhub")
    registry = Registry([("mine", lambda: _imported(point))])
    (problem,) = registry.problems
    assert problem.reason == (
        f"its entry point names the module '{module}', which is not installed: correct "
        "[project.entry-points.layerhub] in its pyproject.toml, or put the module into the distribution"
    )
    with pytest.raises(BackendError, match="the plugin 'mine' is installed but broken: its entry point names"):
        registry.backend("mine")


def test_a_missing_import_inside_the_module_is_not_taken_for_a_missing_module(monkeypatch, tmp_path):
    (tmp_path / "layerhub_eager.py").write_text("import a_library_of_nobody")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry([("eager", lambda: _imported(EntryPoint("eager", "layerhub_eager", "layerhub")))])
    assert registry.problems[0].reason == "ModuleNotFoundError: No module named 'a_library_of_nobody'"


@pytest.mark.parametrize("mark", [hookimpl, lambda function: function], ids=["marked", "not marked"])
def test_a_hook_misspelt(mark):
    told = broken(plugin(layerhub_kernel=mark(lambda backend: None)))
    assert "layerhub_kernel is no hook. Did you mean 'layerhub_kernels'? The hooks are: layerhub_backend, " in told


def test_a_hook_not_marked():
    told = broken(plugin(layerhub_specs=lambda: None))
    assert "layerhub_specs is not marked, so it would never be called; put @hookimpl before it" in told


@pytest.mark.parametrize(
    "api, words",
    [
        (None, "declares no LAYERHUB_API; this LayerHub supports 1: set LAYERHUB_API in the plugin's module"),
        (9, "was written for plugin API 9; this LayerHub supports 1: pip install --upgrade layerhub"),
    ],
)
def test_an_api_version_missing_or_wrong(api, words):
    assert broken(plugin(api=api)) == f"the plugin 'mine' is installed but broken: {words}"


def test_no_backend_offered():
    told = broken(plugin(layerhub_backend=hookimpl(lambda: None)))
    assert "The plugin 'mine' offers none of that name: see what its layerhub_backend returns" in told


def test_a_name_that_is_nearly_right():
    with pytest.raises(BackendError, match=re.escape("(installed: mine). Did you mean 'mine'?")):
        registry_of(plugin()).backend("main")


# The backend


def load_that_raises():
    raise OSError("libmine.so: cannot open shared object file")


def a_backend(**attributes):
    return type("MyBackend", (Mine,), attributes)


class WithoutSuper(Mine):
    def __init__(self):
        self.ready = True


def namespace_without(*missing):
    names = {name: getattr(array_api_strict, name) for name in dir(array_api_strict) if name not in missing}
    return types.SimpleNamespace(**names)


@pytest.mark.parametrize(
    "load, words",
    [
        (load_that_raises, "OSError: libmine.so: cannot open shared object file"),
        (lambda: None, "its load() gave None, which is no layerhub.contract.Backend: return an instance of a subclass"),
        (lambda: Mine, "which is no layerhub.contract.Backend: return Mine()"),
        (
            lambda: a_backend(name="other")(),
            "its load() gave a backend called 'other', its entry says 'mine': use one name in both",
        ),
        (
            lambda: a_backend(namespace=namespace_without("expm1", "take_along_axis", "where"))(),
            "lacks expm1, take_along_axis, where: give them in MyBackend.extras, as the Python array API standard has",
        ),
        (WithoutSuper, "WithoutSuper.__init__ must call super().__init__()"),
        (
            lambda: a_backend(dtypes=("float32", "bfloat16", "half"))(),
            "MyBackend.dtypes has bfloat16, half, but its namespace has not: leave out what it lacks",
        ),
    ],
    ids=["raises", "None", "a class", "another name", "functions missing", "no super().__init__()", "types missing"],
)
def test_a_backend_that_does_not_load(load, words):
    told = broken(plugin(load))
    assert told.startswith("the backend 'mine' of mine does not load: ")
    assert words in told


def test_what_the_namespace_lacks_may_stand_in_the_extras():
    made = a_backend(namespace=namespace_without("expm1"), extras={"expm1": array_api_strict.expm1})
    assert registry_of(plugin(made)).backend("mine").name == "mine"


def test_a_device_that_cannot_be_used():
    def asarray(self, value, dtype=None, device=None):
        if device == "npu:0":
            raise RuntimeError("no driver")
        return Mine.asarray(self, value, dtype)

    backend = a_backend(devices=lambda self: ["cpu", "npu:0"], asarray=asarray)()
    assert backend.check_device(None) == "cpu"
    with pytest.raises(BackendError) as caught:
        backend.check_device("npu:0")
    assert str(caught.value) == (
        "the backend 'mine' lists the device 'npu:0', but cannot put an array there (RuntimeError: no driver): "
        "devices() must name only what can be used"
    )


def test_a_device_that_is_ignored():
    backend = a_backend(devices=lambda self: ["cpu", "npu:0"])()
    with pytest.raises(BackendError, match="is on 'cpu': asarray\\(\\) must follow its argument device"):
        backend.check_device("npu:0")


def test_a_device_is_tried_once():
    tried = []

    def asarray(self, value, dtype=None, device=None):
        tried.append(device)
        return Mine.asarray(self, value, dtype)

    backend = a_backend(asarray=asarray)()
    assert [backend.check_device(d) for d in (None, "cpu", None)] == ["cpu"] * 3
    assert tried == ["cpu"]


# Kernels


def test_a_kernel_with_other_arguments():
    registry = registry_of(plugin(kernels=[with_kernel(lambda layer, x, w: x)]))
    assert registry.kernels("mine", "Dense") == []
    assert (
        "takes ('layer', 'x', 'w'); the spec declares ('layer', 'x', 'kernel', 'bias')" in registry.problems[0].reason
    )


def test_a_vjp_with_other_arguments():
    kernels = with_kernel(dense)
    kernels.kernels[0].vjp(lambda layer, cotangents: None)
    registry = registry_of(plugin(kernels=[kernels]))
    assert registry.kernels("mine", "Dense") == []
    assert (
        "its VJP takes ('layer', 'cotangents'); a VJP takes ('layer', 'saved', 'cotangents')"
        in registry.problems[0].reason
    )


def test_a_when_that_raises():
    kernel = Kernel("Dense", dense, when=lambda layer: layer.filters > 3, plugin="mine")
    with pytest.raises(KernelError) as caught:
        kernel.serves(lh.layers.Dense(2), Call())
    assert "its when() failed for Dense(units=2): AttributeError" in str(caught.value)
    assert str(caught.value).endswith(
        "it takes (layer) or (layer, call), and must say True or False of every configuration"
    )


def dense(layer, x, kernel, bias):
    return x @ kernel + bias


@pytest.fixture
def evaluate(monkeypatch):
    """The probe, on a backend ``mine`` with these kernels."""

    def evaluated(layer, x, kernels, backend=Mine, **options):
        registry = registry_of(plugin(backend, kernels=[kernels]))
        monkeypatch.setattr(probe, "registry", lambda: registry)
        found = lh.evaluate_layer(layer, x, backend="mine", **options)
        assert registry.problems == []
        return found

    return evaluated


LAYER = lh.layers.Dense(4, name="four")
X = np.ones((2, 3), "float32")
DY = np.ones((2, 4), "float32")


def test_a_right_kernel_is_let_pass(evaluate):
    assert evaluate(LAYER, X, with_kernel(dense)).routes == ["kernel of mine"]


@pytest.mark.parametrize(
    "returned, words",
    [
        (lambda y: None, "output 0 is None, not an array of the backend (Array); is a return missing?"),
        (lambda y: (y,), "it gave a tuple of one output: return the array itself, not (y,)"),
        (lambda y: Result((y,)), "it gave a tuple of one output: return the array itself, not (y,)"),
        (lambda y: (y, y), "it gave 2 outputs, 1 are declared: return y, (y, z, ...), or Result("),
        (lambda y: Result(y, states=(y,)), "it gave 1 states, 0 are declared"),
        (lambda y: [[1.0]], "output 0 is a value of type list, not an array of the backend (Array)"),
        (lambda y: np.asarray(y), "output 0 is a value of type ndarray, not an array of the backend (Array)"),
        (lambda y: y[:, :1], "output 0 has shape (2, 1), (2, 4) is declared"),
        (lambda y: y[0, :], "output 0 has shape (4,), (2, 4) is declared"),
        (
            lambda y: array_api_strict.astype(y, array_api_strict.float64),
            "output 0 is of type float64, float32 is declared",
        ),
    ],
    ids=[
        "None",
        "a tuple of one",
        "a Result of one",
        "too many",
        "a state",
        "a list",
        "a foreign array",
        "a size",
        "an axis",
        "a type",
    ],
)
@pytest.mark.parametrize("gradients", [False, True])
def test_a_kernel_that_returns_what_is_wrong(evaluate, returned, words, gradients):
    kernels = with_kernel(lambda layer, x, kernel, bias: returned(dense(layer, x, kernel, bias)))
    kernels.kernels[0].vjp(dense_vjp)
    with pytest.raises(KernelError) as caught:
        evaluate(LAYER, X, kernels, cotangents=[DY] if gradients else None)
    assert str(caught.value).startswith("mine kernel ")
    assert f"for Dense(units=4, name='four'): {words}" in str(caught.value)


def test_a_recurrent_kernel_that_forgets_its_states(evaluate):
    def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
        return x[:, 0, :]

    with pytest.raises(
        KernelError, match=r"it gave 0 states, 2 are declared: return .* Result\(outputs, weights, states"
    ):
        evaluate(lh.layers.LSTM(3), np.ones((2, 5, 3), "float32"), with_kernel(lstm, "LSTM"))


def test_a_kernel_of_an_activation_that_returns_what_is_wrong(evaluate):
    kernels = with_kernel(lambda activation, x: x[0, :], "relu", kind="activation")
    with pytest.raises(KernelError, match=r"output 0 has shape \(4,\), \(2, 4\) is declared"):
        evaluate(lh.layers.Dense(4, activation="relu"), X, kernels)


def test_a_kernel_that_forgets_the_weights_it_must_move(evaluate):
    def batch_normalization(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
        return x

    with pytest.raises(KernelError, match=r"gave no new value for moving_mean.*return Result\(outputs, weights="):
        kernels = with_kernel(batch_normalization, "BatchNormalization")
        evaluate(lh.layers.BatchNormalization(), X, kernels, training=True)


def dense_vjp(layer, saved, cotangents):
    (x, kernel, _), _ = saved
    (dy,) = cotangents
    return dy @ kernel.T, x.T @ dy, array_api_strict.sum(dy, axis=0)


@pytest.mark.parametrize(
    "returned, words",
    [
        (
            lambda dx, dk, db: None,
            "its VJP gave None for gradients; it must return 3, of x, kernel, bias, in this order",
        ),
        (lambda dx, dk, db: dx, "its VJP gave a value of type Array for gradients; it must return 3"),
        (lambda dx, dk, db: (dx, dk), "its VJP gave 2 for gradients; it must return 3, of x, kernel, bias, in this"),
        (lambda dx, dk, db: (dx, dk.T, db), "the gradient of kernel has shape (4, 3), (3, 4) is declared"),
        (lambda dx, dk, db: (dx, dk, db[:1]), "the gradient of bias has shape (1,), (4,) is declared"),
        (
            lambda dx, dk, db: (np.asarray(dx), dk, db),
            "the gradient of x is a value of type ndarray, not an array of the backend",
        ),
    ],
    ids=["None", "one alone", "too few", "a transposed one", "a short one", "a foreign one"],
)
def test_a_vjp_that_returns_what_is_wrong(evaluate, returned, words):
    kernels = with_kernel(dense)
    kernels.kernels[0].vjp(lambda layer, saved, cotangents: returned(*dense_vjp(layer, saved, cotangents)))
    with pytest.raises(KernelError) as caught:
        evaluate(LAYER, X, kernels, cotangents=[DY])
    assert f"for Dense(units=4, name='four'): {words}" in str(caught.value)


@pytest.mark.parametrize(
    "returned, words",
    [
        (lambda dy: (dy, dy[:1, :]), r"the gradient of xs, part 1, has shape \(1, 3\), \(2, 3\) is declared"),
        (lambda dy: (dy,), "the gradient of xs must be a tuple of 2, as the argument is"),
        (lambda dy: dy, "the gradient of xs must be a tuple of 2, as the argument is"),
    ],
    ids=["a size", "too few", "one alone"],
)
def test_a_vjp_of_many_inputs_that_returns_what_is_wrong(evaluate, returned, words):
    kernels = with_kernel(lambda layer, xs: xs[0] + xs[1], "Add")
    kernels.kernels[0].vjp(lambda layer, saved, cotangents: (returned(cotangents[0]),))
    with pytest.raises(KernelError, match=words):
        evaluate(lh.layers.Add(), [X, X], kernels, cotangents=[X])


def test_a_saving_variant_that_saves_nothing(evaluate):
    kernels = with_kernel(dense)
    kernels.kernels[0].saving(dense)
    kernels.kernels[0].vjp(dense_vjp)
    with pytest.raises(
        KernelError, match=r"its saving variant gave a value of type Array; it must return \(result, saved\)"
    ):
        evaluate(LAYER, X, kernels, cotangents=[DY])


def test_models_do_not_pay_for_the_looking():
    model = lh.Sequential([lh.Input((3,)), lh.layers.Dense(2)], backend="numpy")
    (step,) = [step for step in model.plan(False).steps if step.target is not None]
    assert step.kernel in installed().kernels("numpy", "Dense")


# What is claimed and not there


def not_implemented(self, function, params):
    raise NotImplementedError("mylib does not differentiate")


def too_few(self, function, params):
    loss, aux = function(params)
    return loss, aux, params[:-1]


@pytest.mark.parametrize(
    "value_and_grad, words",
    [
        (
            not_implemented,
            "raised NotImplementedError: mylib does not differentiate: leave value_and_grad() out, and the",
        ),
        (too_few, "gave 2 gradients of 3 arrays"),
    ],
)
def test_gradients_that_are_claimed_and_not_there(evaluate, value_and_grad, words):
    backend = a_backend(value_and_grad=value_and_grad)
    with pytest.raises(BackendError) as caught:
        evaluate(LAYER, X, KernelSet(), backend, cotangents=[DY])
    assert f"the backend 'mine' says has_gradients = True, but its value_and_grad() {words}" in str(caught.value)
    assert "set has_gradients = False" in str(caught.value)


# The suite


def test_the_suite_not_installed(monkeypatch):
    monkeypatch.setattr(cli, "_commands", list)
    told = CliRunner().invoke(cli.main, ["conformance"])
    assert told.exit_code == 2
    assert "conformance is not installed: pip install layerhub-conformance" in told.output


def test_all_of_these_are_layerhub_errors():
    assert issubclass(BackendError, LayerHubError)
    assert issubclass(KernelError, LayerHubError)
