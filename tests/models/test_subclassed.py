"""Models as classes of one's own: layers in attributes, connected by ``call``."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub import ops
from layerhub.errors import (
    GraphError,
    LayerHubError,
    NodeError,
    ParameterError,
    ShapeError,
    StateError,
    UnknownNameError,
)

L = lh.layers
RNG = np.random.default_rng(4)
X = RNG.normal(size=(8, 4)).astype("float32")
Y = RNG.normal(size=(8, 2)).astype("float32")
BACKENDS = ("numpy", "torch", "tensorflow", "jax")


class Block(lh.Model):
    """A dense layer with dropout, and one more in training: a nested model."""

    def __init__(self, units):
        super().__init__()
        self.dense, self.drop = L.Dense(units), L.Dropout(0.5)

    def call(self, x, training=False):
        return self.drop(self.dense(x), training=training) + 1


class Net(lh.Model):
    """Layers in lists and dicts, appended later; a graph of its own in training; outputs in a dict."""

    def __init__(self, units=5, **options):
        super().__init__(**options)
        self.blocks = []
        self.head = L.Dense(2, name="head")
        for number in range(2):
            self.blocks.append(L.Dense(units, name=f"block_{number}"))
        self.parts = {"norm": L.BatchNormalization(name="norm"), "block": Block(units)}
        self.unused = L.Dense(3)
        self.inner = lh.Sequential([L.Dense(units, name="within")])

    def call(self, x, training=False, mask=None):
        for block in self.blocks:
            x = block(x)
        x = self.parts["norm"](self.parts["block"](x, training=training), training=training)
        if training:
            x = ops.relu(x) * 0.5 + x
        return {"y": self.head(self.inner(x)), "sum": ops.sum(x, axis=1)}


def trained(backend, floatx="float32"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lh.config._chosen, "floatx", floatx)
        model = Net(seed=3, backend=backend)
        model.compile(lh.optimizers.Adam(0.01), {"y": "mse", "sum": "mae"})
        history = model.fit(X, {"y": Y, "sum": Y[:, 0]}, epochs=3, batch_size=4, verbose=0).history
    return model, history


@pytest.fixture(scope="module")
def on_numpy():
    return trained("numpy")


@pytest.fixture(scope="module")
def in_double():
    """Backends add up in orders of their own: in float64 that is far below whatever is looked for."""
    return trained("numpy", "float64")


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_it_trains_alike_on_every_backend_and_moves(in_double, backend):
    model, history = in_double
    other, theirs = trained(backend, "float64")
    assert history.keys() == theirs.keys() == {"loss", "y_loss", "sum_loss"}
    np.testing.assert_allclose(history["loss"], theirs["loss"], rtol=1e-9)
    moved = other.to("numpy").predict(X, verbose=0)
    np.testing.assert_allclose(moved["y"], model.predict(X, verbose=0)["y"], rtol=1e-9, atol=1e-12)


def test_weights_come_in_the_order_in_which_layers_became_attributes(on_numpy):
    model, _ = on_numpy
    names = [w.path.split("/")[0] for w in model.weights]
    dense = model.parts["block"].dense.label
    assert names == ["head"] * 2 + ["block_0"] * 2 + ["block_1"] * 2 + ["norm"] * 4 + [dense] * 2 + ["within"] * 2
    assert [layer.label for layer in model.layers][:4] == ["head", "block_0", "block_1", "norm"]
    assert model.unused in model.layers and not model.unused.built
    assert model.get_layer("norm") is model.parts["norm"]
    assert len(model.trainable_weights) == 12 and model.count_params() == sum(w.size for w in model.get_weights())


def test_training_follows_its_own_way_and_prediction_the_other(on_numpy):
    model, _ = on_numpy
    head, within = (layer.get_weights() for layer in (model.head, model.inner))

    def ends(training):
        kept = [np.asarray(x) for x in model(X, training=training).values()]
        return kept, kept[0] @ np.linalg.pinv(np.eye(2))

    (y, total), _ = ends(False)
    np.testing.assert_allclose(model.predict(X, verbose=0)["y"], y, rtol=1e-6)
    assert not np.allclose(ends(True)[0][1], total)
    assert y.shape == (8, 2) and total.shape == (8,) and head and within


def test_the_mode_of_a_layer_may_be_said_whatever_the_models_is():
    class Noisy(lh.Model):
        def __init__(self):
            super().__init__(seed=1)
            self.always, self.never = L.Dropout(0.5), L.Dropout(0.5)

        def call(self, x):
            return self.always(x, training=True), self.never(x, training=False)

    model = Noisy()
    for training in (False, True):
        always, never = model(np.ones((50, 4), "float32"), training=training)
        assert set(np.unique(always)) == {0.0, 2.0}
        assert np.all(never == 1)


def test_the_seed_of_the_outer_model_says_how_all_begin():
    one, same, other = (Net(seed=seed) for seed in (7, 7, 8))
    found = [model.predict(X, verbose=0)["y"] for model in (one, same, other)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    firsts = [w.ravel()[0] for w in one.get_weights() if w.ndim == 2]
    assert len(set(firsts)) == len(firsts)  # no two layers begin alike


def test_shapes_come_from_data_build_or_tensors():
    fed, built, called, eager = Net(), Net(), Net(), Net()
    fed.predict(X, verbose=0)
    built.build((None, 4))
    found = called(lh.Input((4,)))
    assert {name: y.shape for name, y in found.items()} == {"y": (None, 2), "sum": (None,)}
    assert eager(X)["y"].shape == (8, 2)
    assert {m.input_shape for m in (fed, built, called, eager)} == {(None, 4)}
    assert built.compute_output_shape((3, 4)) == {"y": (3, 2), "sum": (3,)}
    for early in (lambda m: m.summary(), lambda m: m.save_weights("w.weights.h5"), lambda m: m.output):
        with pytest.raises(LayerHubError, match=r"no input shape yet|has no output yet"):
            early(Net())


def test_a_size_that_differs_from_data_to_data_becomes_unknown_and_training_goes_on():
    class Reader(lh.Model):
        def __init__(self):
            super().__init__(seed=2)
            self.embed, self.read = L.Embedding(9, 3, mask_zero=True), L.LSTM(4)
            self.score = L.Dense(1)

        def call(self, ids):
            return self.score(self.read(self.embed(ids)))

    model = Reader()
    model.compile("adam", "mse")
    short, long = np.array([[1, 2, 0], [3, 0, 0]]), np.array([[1, 2, 3, 4, 0], [3, 0, 0, 0, 0]])
    model.train_on_batch(short, np.ones((2, 1)))
    model.train_on_batch(long, np.ones((2, 1)))
    assert model.input_shape == (None, None) and model.executor.step == 2
    # The mask goes from the embedding to the recurrent layer by itself.
    np.testing.assert_allclose(
        model.predict(np.array([[3, 0, 0]]), verbose=0), model.predict(np.array([[3, 0, 0, 0, 0]]), verbose=0), 1e-6
    )


def test_several_inputs_come_in_a_structure_or_one_by_one():
    class Pair(lh.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, a, b):
            return self.dense(a) - self.dense(b)

    class Named(Pair):
        def call(self, given, training=None):
            return super().call(given["left"], given["right"])

    pair, named = Pair(), Named()
    np.testing.assert_allclose(pair(X, X), np.zeros((8, 3)), atol=1e-6)
    assert pair.predict([X, -X], verbose=0).shape == (8, 3)
    named.dense = pair.dense
    found = named.predict({"right": -X, "left": X}, verbose=0)
    np.testing.assert_allclose(found, pair.predict((X, -X), verbose=0), rtol=1e-6)
    assert named.input_shape == {"right": (None, 4), "left": (None, 4)}
    x = lh.Input((4,))
    assert lh.Model(x, named({"left": x, "right": 2 * x})).predict(X, verbose=0).shape == (8, 3)


def test_a_mask_may_be_given_to_a_layer_in_call():
    class Masked(lh.Model):
        def __init__(self):
            super().__init__(seed=3)
            self.read = L.SimpleRNN(2)

        def call(self, x, mask=None):
            return self.read(x, mask=ops.greater(x[:, :, 0], 0))

    x = RNG.normal(size=(3, 5, 2)).astype("float32")
    model = Masked()
    found = model.predict(x, verbose=0)
    wanted = lh.evaluate_layer(L.SimpleRNN(2), x, model.get_weights(), mask=x[:, :, 0] > 0).outputs[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_freezing_reaches_nested_models():
    model = Net()
    model.trainable = False
    model.build((None, 4))
    assert model.trainable_weights == []
    model.trainable = True
    model.parts["block"].trainable = False
    assert len(model.trainable_weights) == 10


# ------------------------------------------------------------------------------------------ files, copies


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors"])
def test_files_hold_it(on_numpy, suffix, tmp_path):
    model, _ = on_numpy
    path = tmp_path / f"net{suffix}"
    if suffix == ".keras":
        model.save(path)
        copy = lh.models.load_model(path, backend="torch")
        assert type(copy) is Net and copy.name == model.name and copy.optimizer is not None
    else:
        model.save_weights(path)
        copy = Net(backend="torch")
        with pytest.raises(StateError, match=r"no input shape yet"):
            copy.load_weights(path)
        copy.build((None, 4))
        copy.load_weights(path)
    for one, other in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(copy.predict(X, verbose=0)["y"], model.predict(X, verbose=0)["y"], atol=1e-5)


def test_a_clone_is_of_the_same_class_and_starts_alike():
    model = Net(6, seed=5)
    model.build((None, 4))
    clone = lh.models.clone_model(model, dtype="float64")
    assert type(clone) is Net and clone.head is not model.head and clone.input_shape == (None, 4)
    assert clone.get_weights()[2].shape == (4, 6) and clone.get_weights()[2].dtype == np.float64
    for one, other in zip(model.get_weights(), clone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other.astype("float32"))


def test_it_is_a_layer_of_other_models_and_their_configs_name_its_class():
    x = lh.Input((4,))
    outer = lh.Model(x, L.Dense(1)(Net(seed=1)(x)["y"]))
    text = outer.to_json()
    copy = lh.models.model_from_json(text, backend="torch")
    copy.set_weights(outer.get_weights())
    np.testing.assert_allclose(copy.predict(X, verbose=0), outer.predict(X, verbose=0), atol=1e-5)
    with pytest.raises(UnknownNameError, match=r"called 'Nets', and no model. Did you mean 'Net'.*custom_objects"):
        lh.models.model_from_json(text.replace('"Net"', '"Nets"'))


def test_a_config_of_its_own_is_taken_and_one_that_is_missing_is_told():
    class Holding(lh.Model):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def call(self, x):
            return self.layer(x)

    with pytest.raises(ParameterError, match=r"Holding was made with arguments .* give the class get_config"):
        Holding(L.Dense(2)).to_json()

    class Described(Holding):
        def get_config(self):
            return {"layer": lh.layers.serialize(self.layer)}

        @classmethod
        def from_config(cls, config):
            return cls(lh.layers.deserialize(config["layer"]))

    model = Described(L.Dense(2, activation="tanh"))
    model.build((None, 4))
    copy = lh.models.model_from_json(model.to_json())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy.predict(X, verbose=0), model.predict(X, verbose=0))


# ------------------------------------------------------------------------------------------ mistakes


def follow(call, init=None):
    """What goes wrong when a class with this ``call`` is built."""

    class Wrong(lh.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(2)

    Wrong.call = call
    if init is not None:
        Wrong.__init__ = init
    Wrong().build((None, 4))


def test_forgetting_super_is_told():
    def forgets(self):
        self.dense = L.Dense(2)

    with pytest.raises(StateError, match=r"Wrong.__init__ must call super\(\).__init__\(\) first: .*'dense'"):
        follow(lambda self, x: x, forgets)
    with pytest.raises(StateError, match=r"Wrong.__init__ must call super\(\).__init__\(\) first"):
        follow(lambda self, x: x, lambda self: None)


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda self, x: None, "must return the tensor that it makes, .*, not NoneType"),
        (lambda self, x: [self.dense(x), 3.0], "must return .*, not float"),
        (lambda self, x: L.Dense(3)(x), "uses 'dense.*', which has weights but is no attribute"),
        (lambda self, x: x if x > 0 else -x, "no values before the model runs.*lh.ops.where"),
        (lambda self, x: x.mean(), r"no attribute 'mean'; say lh.ops.mean\(x\)"),
        (lambda self, x: np.sum(x), "fails on symbolic tensors|made an array"),
        (lambda self, x: self.dense(x)["a"], "cut by ints and slices"),
        (lambda self, x: self.desne(x), "has no attribute 'desne'. Did you mean 'dense'"),
        (lambda self, x: {}[3], "Wrong.call fails on symbolic tensors .*KeyError: 3"),
        (lambda self, x, training=False: self.dense(x) if training else x, "same structure and shapes"),
    ],
)
def test_what_call_cannot_do_is_told(call, told):
    with pytest.raises(LayerHubError, match=told):
        follow(call)


def test_other_mistakes_are_told():
    with pytest.raises(ShapeError, match=r"needs 3 axes|declared"):
        follow(lambda self, x: L.LSTM(3)(x))
    with pytest.raises(GraphError, match="define call"):

        class Silent(lh.Model):
            pass

        Silent()
    model = Net()
    with pytest.raises(UnknownNameError, match=r"Net has no attribute .haed.\. Did you mean .head."):
        model.haed  # noqa: B018
    assert not hasattr(model, "haed") and not hasattr(model, "output")
    with pytest.raises(NodeError, match="has no output yet"):
        model.output  # noqa: B018
