"""``model.native`` is at home in its library: names, buffers, modes, freezing; and the weights are the model's own."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import BackendError

L = lh.layers
DATA = np.random.default_rng(2).normal(size=(8, 4)).astype("float32")


def normed(backend: str) -> lh.Sequential:
    """A model with moving statistics, dropout, and a name that is no identifier."""
    return lh.Sequential(
        [
            lh.Input((4,)),
            L.Dense(3, name="first one"),
            L.BatchNormalization(name="norm"),
            L.Dropout(0.5),
            L.Dense(2, name="last"),
        ],
        backend=backend,
        seed=6,
    )


NAMES = [
    "first_one.kernel", "first_one.bias", "norm.gamma", "norm.beta", "norm.moving_mean", "norm.moving_variance",
    "last.kernel", "last.bias",
]  # fmt: skip


def test_a_torch_state_dict_names_layers_and_weights_and_brings_them_back():
    torch = pytest.importorskip("torch")
    model, other = normed("torch"), normed("torch")
    module = model.native
    assert sorted(module.state_dict()) == sorted(NAMES)
    assert {name for name, _ in module.named_buffers()} == {"norm.moving_mean", "norm.moving_variance"}
    with torch.no_grad():
        for held in module.parameters():
            held.add_(1.0)
    module.train()(torch.from_numpy(DATA))  # moves the statistics
    other.native.load_state_dict(module.state_dict())
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))
    assert np.array_equal(model.predict(DATA), other.predict(DATA))
    assert np.max(np.abs(other.to("numpy").predict(DATA) - model.predict(DATA))) < 1e-5


def test_torch_modes_choose_between_batch_and_moving_statistics_and_drop_or_not():
    torch = pytest.importorskip("torch")
    model = normed("torch")
    module, x = model.native, torch.from_numpy(DATA)
    assert not module.training
    still, before = module(x), model.get_weights()[4]
    assert torch.equal(still, module(x)) and np.array_equal(model.get_weights()[4], before)
    module.train()
    assert not torch.equal(module(x), module(x)) and not np.array_equal(model.get_weights()[4], before)


def test_frozen_layers_are_frozen_for_torch_and_tensorflow_and_thaw_again():
    torch = pytest.importorskip("torch")
    model = normed("torch")
    module = model.native
    model.get_layer("first one").trainable = False
    assert model.native is module
    asks = {name: held.requires_grad for name, held in module.named_parameters()}
    assert asks == {name: not name.startswith("first") for name in NAMES if "moving" not in name}
    module.train()(torch.from_numpy(DATA)).sum().backward()
    assert module.first_one.kernel.grad is None and module.last.kernel.grad is not None
    model.get_layer("first one").trainable = True
    assert all(held.requires_grad for held in model.native.parameters())


def test_a_torch_module_does_not_slip_away_from_its_model_but_a_copy_of_it_may():
    torch = pytest.importorskip("torch")
    model = normed("torch")
    module = model.native
    assert module.to("cpu").float() is module
    for leave in (module.double, lambda: module.to("meta"), lambda: torch.nn.Sequential(module).double()):
        with pytest.raises(BackendError, match=r"belongs to a LayerHub model.*copy\.deepcopy"):
            leave()
    assert {held.dtype for held in module.state_dict().values()} == {torch.float32}
    own = copy.deepcopy(module).double()
    assert own.first_one.kernel.dtype == torch.float64 and module.first_one.kernel.dtype == torch.float32
    with torch.no_grad():
        own.last.bias.add_(1.0)
    assert np.all(model.get_weights()[-1] == 0)


def test_a_tensorflow_module_has_a_module_for_each_layer_which_checkpoints_name(tmp_path):
    tf = pytest.importorskip("tensorflow")
    model, other = normed("tensorflow"), normed("tensorflow")
    module = model.native
    assert [v.shape for v in module.variables] == [handle.shape for handle in model.executor.handles]
    assert len(module.trainable_variables) == 6 and len(module.non_trainable_variables) == 2
    model.set_weights([w + 1.0 for w in model.get_weights()])
    path = tf.train.Checkpoint(model=module).save(str(tmp_path / "held"))
    listed = {name for name, _ in tf.train.list_variables(path) if name.startswith("model/")}
    assert listed == {f"model/{name.replace('.', '/')}/.ATTRIBUTES/VARIABLE_VALUE" for name in NAMES}
    tf.train.Checkpoint(model=other.native).restore(path).assert_consumed()
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))
    model.get_layer("norm").trainable = False
    assert module.trainable_variables == (*module.variables[:2], *module.variables[6:])


def test_replicas_keep_the_mean_of_what_each_moved_of_its_own():
    tf = pytest.importorskip("tensorflow")
    module = normed("tensorflow").native
    mean, none = tf.VariableAggregation.MEAN, tf.VariableAggregation.NONE
    assert [v.aggregation for v in module.variables] == [none] * 4 + [mean] * 2 + [none] * 2


def test_jax_parameters_part_into_what_is_trained_and_the_rest_and_join_again():
    jax = pytest.importorskip("jax")
    model = normed("jax")
    native, params = model.native, model.native.params
    trained, rest = native.split(params)
    assert sorted(rest["norm"]) == ["moving_mean", "moving_variance"] and sorted(trained["norm"]) == ["beta", "gamma"]
    assert jax.tree.structure(native.join(trained, rest)) == jax.tree.structure(params)
    model.get_layer("last").trainable = False
    assert native.split(params)[0]["last"] == {} and sorted(native.split(params)[1]["last"]) == ["bias", "kernel"]
    gradient = jax.grad(lambda part: native(native.join(part, rest), DATA).sum())(trained)
    assert jax.tree.structure(gradient) == jax.tree.structure(trained)
