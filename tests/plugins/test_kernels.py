"""Kernels: signatures are checked, and which one wins is the same every time, can be seen, and can be overridden."""

import itertools
import types

import numpy as np
import pytest

import layerhub as lh
from layerhub.contract import Backend
from layerhub.errors import BackendError, KernelError, LayerHubError, UnknownNameError
from layerhub.hookspecs import BackendEntry, hookimpl
from layerhub.kernels import Call, Kernel, KernelSet
from layerhub.plan import Planner
from layerhub.registry import Registry
from layerhub.registry import registry as installed

CALL = Call()


class Tiny(Backend):
    name = "tiny"
    namespace = np


def plugin(backend=None, **kernels):
    """A plugin: a backend of that name, if one is given, and kernel sets by the backend that they are for."""
    module = types.ModuleType("layerhub_fake")
    module.LAYERHUB_API = 1
    if backend:
        module.layerhub_backend = hookimpl(lambda: BackendEntry(backend, load=Tiny))
    module.layerhub_kernels = hookimpl(lambda backend: kernels.get(backend))
    return module


def registry_of(*named):
    return Registry([(name, lambda module=module: module) for name, module in named])


def dense(value=1.0, name="Dense", **options):
    """A kernel set with one kernel, which gives ``value`` everywhere."""
    kernels = KernelSet()

    @kernels.register(name, **options)
    def constant(layer, x, kernel, bias):
        return np.full((*x.shape[:-1], layer.units), value)

    return kernels


def run(registry, layer, x, **options):
    """A layer on the backend tiny: its output, and what served it."""
    planner = Planner(registry, "tiny", options.pop("training", False), 0, **options)
    plan = planner.plan(planner.call(layer, [planner.input(x.shape, str(x.dtype))], "0"))
    weights = [np.zeros(slot.spec.shape) for slot in plan.slots]
    outputs, *_ = plan.function(Tiny().xp)(weights, [x], (), 0)
    return outputs[0], [step.route for step in plan.steps if step.target is not None]


X = np.ones((2, 3))

# --------------------------------------------------------------------------------------------- signatures


def refusal(registry):
    (problem,) = registry.problems
    return problem.reason


@pytest.mark.parametrize(
    "name, kind, function, takes, declared",
    [
        ("Dense", "layer", lambda layer, x, w, b: x, "('layer', 'x', 'w', 'b')", "('layer', 'x', 'kernel', 'bias')"),
        ("Dense", "layer", lambda layer, x, bias, kernel: x, "'bias', 'kernel'", "('layer', 'x', 'kernel', 'bias')"),
        ("Dropout", "layer", lambda layer, x: x, "('layer', 'x')", "('layer', 'x', 'training', 'rng')"),
        ("Add", "layer", lambda layer, a, b: a, "('layer', 'a', 'b')", "('layer', 'xs')"),
        ("relu", "activation", lambda x: x, "('x',)", "('activation', 'x')"),
        ("MeanSquaredError", "loss", lambda loss, a, b: a, "('loss', 'a', 'b')", "('loss', 'y_true', 'y_pred')"),
    ],
)
def test_a_kernel_with_other_arguments_than_the_specs_is_refused_with_both_lists(name, kind, function, takes, declared):
    kernels = KernelSet()
    function.__name__ = "mine"
    kernels.register(name, kind=kind)(function)
    registry = registry_of(("sloppy", plugin("tiny", tiny=kernels)))
    assert registry.kernels("tiny", name, kind) == []
    assert refusal(registry).startswith(f"sloppy kernel mine for {name} takes ")
    assert takes in refusal(registry)
    assert f"the spec declares {declared}" in refusal(registry)


def test_the_saving_variant_of_a_kernel_is_checked_too():
    kernels = dense()
    (kernel,) = kernels
    kernel.saving(lambda layer, x, kernel: (x, None))
    registry = registry_of(("sloppy", plugin("tiny", tiny=kernels)))
    assert registry.kernels("tiny", "Dense") == []
    assert "takes ('layer', 'x', 'kernel')" in refusal(registry)


def test_one_wrong_kernel_does_not_take_its_neighbours_down():
    kernels = dense(2.0)
    kernels.register("Flatten")(lambda layer, y: y)
    registry = registry_of(("sloppy", plugin("tiny", tiny=kernels)))
    assert len(registry.kernels("tiny", "Dense")) == 1
    assert registry.kernels("tiny", "Flatten") == []
    assert "for Flatten" in refusal(registry)


def test_a_kernel_for_a_layer_that_nobody_has_is_reported_with_the_nearest_one():
    registry = registry_of(("sloppy", plugin("tiny", tiny=dense(name="Densee"))))
    registry.kernels("tiny", "Dense")
    assert "'Densee'" in refusal(registry)
    assert "Did you mean 'Dense'?" in refusal(registry)


def test_a_kernel_of_a_kind_that_has_none_is_reported():
    registry = registry_of(("sloppy", plugin("tiny", tiny=dense(name="zeros", kind="initializer"))))
    registry.kernels("tiny", "Dense")
    assert "no kernels of kind 'initializer' are known" in refusal(registry)


@pytest.mark.parametrize("name", ["dense", "DENSE", "Dense"])
def test_a_kernel_serves_under_any_spelling_of_the_layers_name(name):
    registry = registry_of(("mine", plugin("tiny", tiny=dense(7.0, name=name))))
    y, routes = run(registry, lh.layers.Dense(4), X)
    assert np.all(y == 7)
    assert routes == ["kernel of mine"]


def test_a_kernel_registered_under_an_alias_serves_the_layer():
    kernels = KernelSet()

    @kernels.register("MaxPool2D")
    def max_pooling(layer, x):
        return x[:, :1, :1]

    registry = registry_of(("mine", plugin("tiny", tiny=kernels)))
    _, routes = run(registry, lh.layers.MaxPooling2D(2), np.ones((1, 2, 2, 1)))
    assert routes == ["kernel of mine"]


# --------------------------------------------------------------------------------------------- which one wins


def test_a_third_partys_kernel_serves_on_a_backend_that_is_not_its_own():
    registry = registry_of(("owner", plugin("tiny")), ("stranger", plugin(tiny=dense(5.0))))
    y, routes = run(registry, lh.layers.Dense(4), X)
    assert np.all(y == 5)
    assert routes == ["kernel of stranger"]


def test_a_kernel_is_asked_for_by_no_other_backend():
    registry = registry_of(("owner", plugin("tiny", tiny=dense())), ("other", plugin("more")))
    assert registry.kernels("more", "Dense") == []


def test_at_equal_priority_the_backends_own_kernel_comes_before_a_strangers_and_strangers_go_by_name():
    named = [("zebra", plugin("tiny", tiny=dense())), ("ant", plugin(tiny=dense())), ("bee", plugin(tiny=dense()))]
    for order in itertools.permutations(named):
        assert [k.plugin for k in registry_of(*order).kernels("tiny", "Dense")] == ["zebra", "ant", "bee"]


def test_a_higher_priority_comes_before_the_backends_own():
    named = [
        ("owner", plugin("tiny", tiny=dense(1.0))),
        ("fast", plugin(tiny=dense(2.0, priority=10))),
        ("faster", plugin(tiny=dense(3.0, priority=20))),
        ("slow", plugin(tiny=dense(4.0, priority=-1))),
    ]
    for order in itertools.permutations(named):
        registry = registry_of(*order)
        assert [k.plugin for k in registry.kernels("tiny", "Dense")] == ["faster", "fast", "owner", "slow"]
        assert np.all(run(registry, lh.layers.Dense(4), X)[0] == 3)


def test_of_several_kernels_of_one_plugin_the_first_that_was_registered_comes_first():
    kernels = KernelSet()
    for value in (1, 2, 3):
        kernels.kernels += dense(float(value)).kernels
    registry = registry_of(("owner", plugin("tiny", tiny=kernels)))
    assert [k.function(lh.layers.Dense(1), X, None, None)[0, 0] for k in registry.kernels("tiny", "Dense")] == [1, 2, 3]


def test_when_may_ask_for_the_layer():
    kernels = dense(5.0, when=lambda layer: layer.units > 3)
    registry = registry_of(("owner", plugin("tiny", tiny=kernels)))
    assert run(registry, lh.layers.Dense(4), X)[1] == ["kernel of owner"]
    assert run(registry, lh.layers.Dense(3), X)[1] == ["definition"]


def test_when_may_ask_for_the_layer_and_the_call():
    seen = []

    def when(layer, call):
        seen.append(call)
        return call.training

    registry = registry_of(("owner", plugin("tiny", tiny=dense(5.0, when=when))))
    layer = lh.layers.Dense(4, dtype="float64")
    assert run(registry, layer, X, training=True)[1] == ["kernel of owner"]
    assert run(registry, layer, X, training=False)[1] == ["definition"]
    assert seen[0] == Call(training=True, masked=False, stateful=False, shapes=((2, 3),), dtype="float64")


def test_where_one_kernel_declines_the_next_one_serves():
    first = plugin("tiny", tiny=dense(1.0, when=lambda layer: layer.use_bias))
    registry = registry_of(("owner", first), ("stranger", plugin(tiny=dense(2.0))))
    assert np.all(run(registry, lh.layers.Dense(4), X)[0] == 1)
    assert np.all(run(registry, lh.layers.Dense(4, use_bias=False), X)[0] == 2)


def test_the_route_definition_takes_no_kernel():
    registry = registry_of(("owner", plugin("tiny", tiny=dense(5.0))))
    y, routes = run(registry, lh.layers.Dense(4), X, route="definition")
    assert np.all(y == 0)
    assert routes == ["definition"]


def test_an_activation_has_kernels_of_its_own_also_behind_a_layer():
    kernels = KernelSet()
    kernels.register("relu", kind="activation")(lambda activation, x: x + 100)
    registry = registry_of(("owner", plugin("tiny", tiny=kernels)))
    y, routes = run(registry, lh.layers.Dense(4, activation="relu"), X)
    assert np.all(y == 100)
    assert routes == ["definition", "kernel of owner"]


def test_a_kernel_names_the_place_where_it_is_defined():
    (kernel,) = dense()
    assert kernel.where.startswith(f"{__name__}.dense.")


# --------------------------------------------------------------------------------------------- overriding


def ones(layer, x, kernel, bias):
    return np.ones((*x.shape[:-1], layer.units))


def test_an_override_comes_before_every_priority_and_can_be_taken_back():
    registry = registry_of(("owner", plugin("tiny", tiny=dense(5.0, priority=1000))))
    registry.override("tiny", "dense", ones)
    y, routes = run(registry, lh.layers.Dense(4), X)
    assert np.all(y == 1)
    assert routes == ["kernel of user"]
    assert [k.plugin for k in registry.kernels("tiny", "Dense")] == ["user", "owner"]
    registry.override("tiny", "Dense", None)
    assert np.all(run(registry, lh.layers.Dense(4), X)[0] == 5)
    registry.override("tiny", "Dense", None)  # nothing to take back is fine


def test_the_later_of_two_overrides_holds():
    registry = registry_of(("owner", plugin("tiny")))
    registry.override("tiny", "Dense", ones)
    registry.override("tiny", "Dense", lambda layer, x, kernel, bias: ones(layer, x, kernel, bias) * 2)
    assert np.all(run(registry, lh.layers.Dense(4), X)[0] == 2)


def test_an_override_may_be_a_kernel_that_declines():
    registry = registry_of(("owner", plugin("tiny", tiny=dense(5.0))))
    registry.override("tiny", "Dense", Kernel("Dense", ones, when=lambda layer: layer.units == 3))
    assert np.all(run(registry, lh.layers.Dense(3), X)[0] == 1)
    assert np.all(run(registry, lh.layers.Dense(4), X)[0] == 5)


def test_an_override_with_other_arguments_is_refused_and_changes_nothing():
    registry = registry_of(("owner", plugin("tiny", tiny=dense(5.0))))
    with pytest.raises(KernelError, match=r"user kernel .* for Dense takes \('layer', 'x'\); the spec declares"):
        registry.override("tiny", "Dense", lambda layer, x: x)
    assert np.all(run(registry, lh.layers.Dense(4), X)[0] == 5)


def test_an_override_for_a_layer_that_nobody_has_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'Dense'"):
        registry_of(("owner", plugin("tiny"))).override("tiny", "Densse", ones)


def test_an_override_for_a_backend_that_nobody_has_is_refused():
    with pytest.raises(BackendError, match="no backend is called 'tinny'"):
        registry_of(("owner", plugin("tiny"))).override("tinny", "Dense", ones)


def test_an_override_serves_models_that_are_made_from_then_on():
    def model():
        return lh.Sequential([lh.Input((3,)), lh.layers.Dense(2)], backend="numpy", seed=1)

    before = model()
    plain = before.predict(X, verbose=0)
    lh.override_kernel("numpy", "Dense", lambda layer, x, kernel, bias: ones(layer, x, kernel, bias) * 9)
    try:
        assert np.all(model().predict(X, verbose=0) == 9)
        assert np.array_equal(before.predict(X, verbose=0), plain)
    finally:
        lh.override_kernel("numpy", "Dense", None)
    assert np.array_equal(model().predict(X, verbose=0), plain)


def test_a_kernel_error_is_a_type_error_and_a_layerhub_error():
    assert issubclass(KernelError, TypeError)
    assert issubclass(KernelError, LayerHubError)


# --------------------------------------------------------------------------------------------- the embedded backend


def test_every_kernel_of_the_embedded_backend_is_accepted():
    installed().backend("numpy")
    installed().kernels("numpy", "Dense")
    assert [problem for problem in installed().problems if problem.plugin == "numpy"] == []


def test_every_kernel_of_the_embedded_backend_is_differentiable_or_falls_back_to_its_definition():
    layer = lh.layers.Dense(4)
    for kernel in installed().kernels("numpy", "Dense"):
        assert kernel.serves(layer, CALL) in (True, False)
    found = lh.evaluate_layer(layer, X.astype("float32"), cotangents=[np.ones((2, 4), "float32")])
    assert [g.shape for g in found.weight_grads] == [(3, 4), (4,)]
