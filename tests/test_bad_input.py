"""Bad input is a LayerHubError that says who, what came, what was expected; and the model stays as it was."""

import contextlib

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import (
    BackendError,
    DataError,
    DTypeError,
    GraphError,
    LayerHubError,
    ParameterError,
    ShapeError,
    StateError,
    UnknownNameError,
    WeightsError,
)

X = np.linspace(-1, 1, 24, dtype="float32").reshape(6, 4)
Y = np.array([0, 1, 2, 0, 1, 2])


def classifier(**options):
    """A compiled and trained model: 4 features, 3 classes."""
    layers = [lh.Input((4,)), lh.layers.Dense(5, activation="tanh", name="hidden"), lh.layers.Dense(3, name="scores")]
    model = lh.Sequential(layers, seed=3, name="judge")
    loss = lh.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(lh.optimizers.SGD(0.1, momentum=0.9), loss, **options)
    model.fit(X, Y, epochs=1, verbose=0)
    return model


@contextlib.contextmanager
def refused(model, kind, *words):
    """The block raises an error of this kind with these words in it, and the model trains on as if nothing had been."""
    weights, step, backend = model.get_weights(), model.executor.step, model.backend
    slots = [slot.copy() for row in model.executor.host_slots() for slot in row]
    with pytest.raises(kind) as caught:
        yield
    assert isinstance(caught.value, LayerHubError)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
    for before, after in zip(weights, model.get_weights(), strict=True):
        assert np.array_equal(before, after)
    assert model.executor.step == step
    for before, after in zip(slots, [slot for row in model.executor.host_slots() for slot in row], strict=True):
        assert np.array_equal(before, after)
    assert model.backend == backend


def told(problem):
    """All that an error says, the notes of composites included."""
    return "\n".join([str(problem), *getattr(problem, "__notes__", [])])


# --------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize(
    "layer, shape, words",
    [
        (
            lh.layers.Conv2D(3, (3, 3)),
            (2, 8, 8),
            ["Conv2D(filters=3, kernel_size=(3, 3)): x has shape (2, 8, 8)", '"n h w c" was declared: needs 4 axes'],
        ),
        (lh.layers.LSTM(3), (2, 8), ["LSTM(units=3): x has shape (2, 8)", "needs 3 axes, has 2"]),
        (lh.layers.MaxPooling2D(), (2, 8, 8, 3, 1), ["MaxPooling2D", "needs 4 axes, has 5"]),
        (lh.layers.Bidirectional(lh.layers.LSTM(3)), (2, 8), ["needs 3 axes, has 2"]),
        (lh.layers.SeparableConv2D(3, 2), (2, 8, 8), ["needs 4 axes, has 3"]),
        (lh.layers.Conv2D(4, 3, groups=2), (None, 8, 8, 3), ["c4 groups divide the channels", "c=3", "groups=2"]),
        (lh.layers.DepthwiseConv2D(5), (None, 4, 9, 3), ["c1 the window must fit", "places=(0, 5)"]),
        (lh.layers.SeparableConv2D(3, 5), (None, 4, 9, 3), ["c1 the window must fit", "SeparableConv2D"]),
        (lh.layers.MaxPooling2D(5), (None, 9, 4, 3), ["c1 the window must fit", "places=(1, 0)"]),
        (lh.layers.BatchNormalization(axis=4), (None, 3, 3), ["c1 the axis must exist", "axis=4"]),
        (lh.layers.Reshape((5, 2)), (None, 12), ["12 elements for each sample", "10"]),
        (lh.layers.Reshape((5, -1)), (None, 12), ["12 elements for each sample cannot be divided"]),
        (lh.layers.Dense(3), (None, None), ["Dense(units=3", "the shape of kernel is (None, 3)", "must be known"]),
    ],
    ids=lambda value: repr(value) if not isinstance(value, list) else "",
)
def test_an_input_that_does_not_fit_its_layer_is_a_shape_error(layer, shape, words):
    with pytest.raises(ShapeError) as caught:
        lh.Sequential([lh.Input(batch_shape=shape), layer])
    missing = [word for word in words if word not in told(caught.value)]
    assert not missing, f"{missing} not in: {told(caught.value)}"


@pytest.mark.parametrize(
    "shapes, words",
    [
        ([(None, 3, 4), (None, 3, 5)], ["cannot be broadcast together", "(None, 3, 4)", "(None, 3, 5)"]),
        ([(None, 3)], ["c1 there are two inputs or more"]),
    ],
)
def test_what_cannot_be_added_is_a_shape_error(shapes, words):
    inputs = [lh.Input(batch_shape=shape) for shape in shapes]
    with pytest.raises(ShapeError) as caught:
        lh.layers.Add()(inputs)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "axis, shapes, words",
    [
        (-1, [(None, 3, 4), (None, 2, 4)], ["differ along axis 1"]),
        (1, [(None, 3, 4), (None, 4)], ["c2 the inputs have as many axes"]),
        (3, [(None, 3, 4), (None, 3, 4)], ["c3 the axis must exist", "axis=3"]),
        (0, [(None, 3), (None, 3)], ["c4 the axis is not the batch"]),
        (-2, [(None, 3), (None, 3)], ["c4 the axis is not the batch"]),
    ],
)
def test_what_cannot_be_joined_is_a_shape_error(axis, shapes, words):
    inputs = [lh.Input(batch_shape=shape) for shape in shapes]
    with pytest.raises(ShapeError) as caught:
        lh.layers.Concatenate(axis=axis)(inputs)
    assert all(word in str(caught.value) for word in words)


def test_the_part_of_a_composite_that_refuses_is_told_with_the_composite():
    with pytest.raises(ShapeError) as caught:
        lh.layers.SeparableConv2D(3, 5).compute_output_shape((None, 4, 9, 3))
    assert "c1 the window must fit" in told(caught.value)
    assert "SeparableConv2D(filters=3, kernel_size=(5, 5))" in told(caught.value)


def test_a_recurrent_layer_refuses_too_few_states():
    x, h = lh.Input((5, 4)), lh.Input((3,))
    with pytest.raises((ShapeError, GraphError), match="2 states"):
        lh.layers.LSTM(3)(x, initial_state=[h])


def test_a_recurrent_layer_refuses_states_of_another_size():
    x, h, c = lh.Input((5, 4)), lh.Input((3,)), lh.Input((7,))
    with pytest.raises(ShapeError, match=r"state.*\(None, 7\).*\(None, 3\)"):
        lh.layers.LSTM(3)(x, initial_state=[h, c])


def test_a_layer_called_without_an_input_is_a_graph_error():
    with pytest.raises(GraphError, match=r"Add.* was called without an input"):
        lh.layers.Add()([])


def test_a_layer_called_on_symbolic_and_native_tensors_at_once_is_a_graph_error():
    with pytest.raises(GraphError, match="symbolic and native tensors at once"):
        lh.layers.Add()([lh.Input((4,)), X])


def test_a_layer_called_on_nothing_is_a_graph_error():
    with pytest.raises(GraphError, match="was called without an input"):
        lh.layers.Dense(2)(None)


@pytest.mark.parametrize("x", ["text", {1, 2}], ids=repr)
def test_a_layer_called_on_what_no_backend_owns_is_a_graph_error(x):
    with pytest.raises(GraphError, match="no backend owns"):
        lh.layers.Dense(2)(x)


def test_a_layer_used_on_another_number_of_features_keeps_its_weights():
    layer = lh.layers.Dense(3)
    layer.build((None, 4))
    before = layer.get_weights()
    with pytest.raises(WeightsError, match=r"kernel has shape \(4, 3\).*need \(5, 3\)"):
        layer.build((None, 5))
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))


def test_weights_of_a_layer_that_has_none_yet_are_a_state_error():
    with pytest.raises(StateError, match=r"Dense\(units=3\) has no weights yet: build"):
        lh.layers.Dense(3).get_weights()


# --------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "make, kind, words",
    [
        (lambda: lh.layers.Densse(3), UnknownNameError, ["no layer is called 'Densse'", "Did you mean 'Dense'?"]),
        (lambda: lh.layers.Dense(0), ParameterError, ["Dense: units must be a positive int, not 0"]),
        (lambda: lh.layers.Dense(3, unit=3), ParameterError, ["Dense has no parameter 'unit'", "'units'?"]),
        (lambda: lh.layers.Dense(3, activation="rellu"), ParameterError, ["Dense: activation", "'rellu'", "relu"]),
        (lambda: lh.layers.Conv2D(3, 3, padding="SAME"), ParameterError, ["Conv2D: padding", "'same'", "'SAME'"]),
        (lambda: lh.layers.Dense(3, dtype="float12"), ParameterError, ["Dense: dtype", "float32", "'float12'"]),
        (lambda: lh.layers.deserialize({"class_name": "Dens", "config": {}}), UnknownNameError, ["'Dens'", "Dense"]),
        (lambda: lh.Input((3, "a")), ParameterError, ["shape", "'a'"]),
        (lambda: lh.Input(), ParameterError, ["c1 shape or batch shape is given"]),
    ],
)
def test_a_wrong_name_or_parameter_is_told_with_what_was_meant(make, kind, words):
    with pytest.raises(kind) as caught:
        make()
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"optimizer": "sdg", "loss": "mse"}, ["no optimizer is called 'sdg'", "SGD"]),
        ({"optimizer": "sgd", "loss": "msse"}, ["no loss is called 'msse'"]),
        ({"optimizer": "sgd", "loss": "mse", "metrics": ["acurracy"]}, ["no metric is called 'acurracy'"]),
        ({"optimizer": 3, "loss": "mse"}, ["compile: optimizer must be", "3"]),
        ({"optimizer": "sgd", "loss": 3}, ["compile: loss must be", "3"]),
        ({"optimizer": "sgd", "loss": {"nobody": "mse"}}, ["compile: loss for 'nobody'", "scores"]),
        ({"optimizer": "sgd", "loss": ["mse", "mse"]}, ["2 entries of loss for 1 outputs"]),
        ({"optimizer": "sgd", "loss": "mse", "loss_weights": {"x": 1}}, ["loss_weights for 'x'"]),
        ({"optimizer": "sgd", "loss": "mse", "backend": "nompy"}, ["no backend is called 'nompy'", "numpy"]),
        ({"optimizer": "sgd", "loss": "mse", "device": "gpu:3"}, ["no device 'gpu:3'"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_compile_that_is_refused_leaves_the_model_compiled_as_it_was(arguments, words):
    model = classifier()
    optimizer, losses = model.optimizer, model._losses
    with refused(model, LayerHubError, *words):
        model.compile(**arguments)
    assert model.optimizer is optimizer
    assert model._losses is losses
    model.fit(X, Y, epochs=1, verbose=0)


# --------------------------------------------------------------------------------------------- data

BAD_DATA = {
    "wrong rank": (X[..., None], Y, DataError, ["judge: the input", "(6, 4, 1)", "(None, 4) was declared"]),
    "wrong features": (X[:, :3], Y, DataError, ["judge: the input", "(6, 3)", "(None, 4)"]),
    "no axes": (np.float32(3), Y, DataError, ["judge: the input", "()"]),
    "strings": (np.full((6, 4), "a"), Y, DataError, ["judge: the input", "<U1", "numbers were expected"]),
    "objects": (np.full((6, 4), None), Y, DataError, ["object", "numbers were expected"]),
    "ragged rows": ([[1.0, 2.0], [3.0]], Y, DataError, ["ragged"]),
    "complex numbers": (X + 1j, Y, DataError, ["complex64", "numbers were expected"]),
    "two inputs": ((X, X), Y, DataError, ["judge takes 1 inputs, 2 were given"]),
    "fewer targets": (X, Y[:5], DataError, ["different numbers of samples", "(6, 4)", "(5,)"]),
    "no targets": (X, None, DataError, ["no targets were given"]),
    "too many targets": (X, (Y, Y), DataError, ["judge has 1 outputs, targets for 2 were given"]),
    "targets of another rank": (X, np.eye(3)[Y], DataError, ["integer targets", "(6, 3)", "CategoricalCrossentropy"]),
    "targets beyond the classes": (X, Y + 1, DataError, ["the target 3 is outside the 3 classes"]),
    "negative targets": (X, Y - 1, DataError, ["the target -1 is outside the 3 classes"]),
    "broken targets": (X, Y + 0.5, DataError, ["targets must be whole numbers, not float64"]),
    "no data": (None, Y, DataError, ["judge takes 1 inputs, 0 were given"]),
}


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_do_not_fit_the_model_are_told_and_nothing_is_trained(method, case):
    x, y, kind, words = BAD_DATA[case]
    model = classifier()
    quiet = {"verbose": 0} if method in ("fit", "evaluate") else {}
    with refused(model, kind, *words):
        getattr(model, method)(x, y, **quiet)


@pytest.mark.parametrize("case", ["wrong rank", "wrong features", "no axes", "strings", "two inputs"])
@pytest.mark.parametrize("method", ["predict", "predict_on_batch", "__call__"])
def test_data_that_do_not_fit_cannot_be_predicted_from(method, case):
    x, _, kind, words = BAD_DATA[case]
    model = classifier()
    with refused(model, kind, *words):
        getattr(model, method)(x)


def test_a_bad_batch_in_the_middle_of_a_stream_is_told():
    model = classifier()
    with pytest.raises(DataError, match=r"\(6, 3\)"):
        model.fit(iter([(X, Y), (X[:, :3], Y)]), steps_per_epoch=2, verbose=0)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"epochs": -1}, ["fit: epochs", "-1"]),
        ({"epochs": True}, ["fit: epochs"]),
        ({"epochs": 1.5}, ["fit: epochs", "1.5"]),
        ({"epochs": "2"}, ["fit: epochs", "2"]),
        ({"initial_epoch": -2}, ["initial_epoch", "-2"]),
        ({"batch_size": 0}, ["fit: batch_size must be a positive int, not 0"]),
        ({"batch_size": -3}, ["fit: batch_size", "-3"]),
        ({"batch_size": 2.5}, ["fit: batch_size", "2.5"]),
        ({"batch_size": True}, ["fit: batch_size", "True"]),
        ({"validation_split": 1.0}, ["validation_split must be in (0, 1), not 1.0"]),
        ({"validation_split": -0.1}, ["validation_split must be in (0, 1), not -0.1"]),
        ({"validation_split": 1.5}, ["validation_split", "1.5"]),
        ({"validation_split": 0.999}, ["validation_split=0.999 leaves no samples"]),
        ({"validation_split": "half"}, ["validation_split", "half"]),
        ({"steps_per_epoch": 0}, ["steps_per_epoch", "0"]),
        ({"steps_per_epoch": -1}, ["steps_per_epoch", "-1"]),
        ({"validation_freq": 0, "validation_split": 0.5}, ["validation_freq", "0"]),
        ({"validation_batch_size": -1, "validation_split": 0.5}, ["validation_batch_size", "-1"]),
        ({"validation_data": X}, ["validation_data must be (x, y)"]),
        ({"validation_data": (X, Y, Y, Y)}, ["validation_data must be (x, y)"]),
        ({"validation_data": (X[:, :3], Y)}, ["(6, 3)"]),
        ({"sample_weight": np.ones(5)}, ["different numbers of samples"]),
        ({"sample_weight": np.ones((6, 2))}, ["weight", "(6, 2)"]),
        ({"class_weight": [1, 2, 3]}, ["class_weight"]),
        ({"callbacks": [3]}, ["callback", "3"]),
    ],
    ids=lambda value: (
        str({k: np.shape(v) if hasattr(v, "shape") else v for k, v in value.items()})[:60]
        if isinstance(value, dict)
        else ""
    ),
)
def test_a_fit_that_cannot_be_meant_is_refused_before_anything_is_trained(options, words):
    model = classifier()
    with refused(model, LayerHubError, *words):
        model.fit(X, Y, verbose=0, **options)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
@pytest.mark.parametrize("size", [0, -1, 1.5, "4"])
def test_a_batch_size_that_cannot_be_meant_is_refused(method, size):
    model = classifier()
    arguments = (X, Y) if method == "evaluate" else (X,)
    with refused(model, DataError, f"{method}: batch_size must be a positive int, not {size!r}"):
        getattr(model, method)(*arguments, batch_size=size, verbose=0)


def test_a_generator_brings_its_own_targets():
    model = classifier()
    for more in ({"y": Y}, {"validation_split": 0.5}):
        with refused(model, DataError, "an iterable brings its own targets"):
            model.fit(iter([(X, Y)]), verbose=0, **more)


@pytest.mark.parametrize("batch, words", [((X, Y, Y, Y), ["4 parts"]), ((X,), ["no targets"]), (X, ["no targets"])])
def test_a_batch_of_a_generator_must_be_inputs_and_targets(batch, words):
    model = classifier()
    with refused(model, DataError, *words):
        model.fit(iter([batch]), steps_per_epoch=1, verbose=0)


def test_a_generator_that_ends_early_is_told():
    model = classifier()
    with pytest.raises(DataError, match="the generator ended after 1 of 3 batches"):
        model.fit((batch for batch in [(X, Y)]), steps_per_epoch=3, verbose=0)


def test_data_for_inputs_by_name_must_have_every_name():
    a, b = lh.Input((4,), name="left"), lh.Input((4,), name="right")
    model = lh.Model([a, b], lh.layers.Add()([a, b]))
    with pytest.raises(DataError, match="the data have no entry for right; they have: left, wrong"):
        model.predict({"left": X, "wrong": X}, verbose=0)


# --------------------------------------------------------------------------------------------- ids


def reader(**options):
    layers = [lh.layers.Embedding(7, 3), lh.layers.Flatten(), lh.layers.Dense(1)]
    model = lh.Sequential([lh.Input((5,), dtype="int32"), *layers])
    model.compile("sgd", "mse", **options)
    model.fit(np.zeros((2, 5), int), np.zeros((2, 1)), verbose=0)
    return model


@pytest.mark.parametrize("wrong", [7, 700, -1])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_an_id_outside_the_table_is_told_with_its_value(method, wrong):
    ids = np.array([[0, 1, 2, 3, wrong]])
    model = reader()
    arguments = (ids,) if method == "predict" else (ids, np.zeros((1, 1)))
    with refused(model, DataError, f"the id {wrong} is outside [0, 7)", "input_dim", "Embedding"):
        getattr(model, method)(*arguments, verbose=0)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("wrong", [7.0, -1.0, float("nan"), float("inf")])
def test_an_id_outside_the_table_is_told_where_the_input_is_of_floats(backend, wrong):
    model = lh.Sequential([lh.Input((2,)), lh.layers.Embedding(7, 3)], backend=backend)
    assert model.predict(np.array([[6.9, -0.5]]), verbose=0).shape == (1, 2, 3)  # cut to 6 and 0
    with refused(model, DataError, f"the id {wrong:g} is outside [0, 7)"):
        model.predict(np.array([[0.0, wrong]]), verbose=0)


@pytest.mark.parametrize("wrong", [7, -1])
def test_an_id_outside_the_table_is_told_by_the_probe_and_by_the_layer_itself(wrong):
    layer = lh.layers.Embedding(7, 3)
    for run in (lh.evaluate_layer, lambda layer, ids: layer(ids)):
        with pytest.raises(DataError, match=f"the id {wrong} is outside"):
            run(layer, np.array([[0, wrong]]))


def test_ids_cannot_be_truth_values():
    with pytest.raises(DTypeError, match=r"Embedding.* must hold ints, not bool"):
        lh.evaluate_layer(lh.layers.Embedding(7, 3), np.array([[True, False]]))


# --------------------------------------------------------------------------------------------- too early


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_training_before_compile_is_a_state_error_that_says_what_to_do(method):
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3)], name="raw")
    before = model.get_weights()
    with pytest.raises(StateError, match=r"raw is not compiled: call compile\(optimizer, loss, metrics\) first"):
        getattr(model, method)(X, np.zeros((6, 3)))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_training_without_a_loss_is_a_state_error():
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3)])
    model.compile("sgd")
    with pytest.raises(StateError, match="compiled without a loss"):
        model.fit(X, np.zeros((6, 3)), verbose=0)


def test_a_model_without_an_input_shape_says_so():
    model = lh.Sequential([lh.layers.Dense(3)], name="raw")
    for ask in (model.summary, lambda: model.native, lambda: model.executor):
        with pytest.raises(StateError, match="raw has no input shape yet"):
            ask()


def test_a_model_without_layers_says_so():
    model = lh.Sequential(name="empty")
    with pytest.raises(LayerHubError, match="empty"):
        model.predict(X, verbose=0)


# --------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda w: w[:-1], ["judge has 4 weights, 3 were given; nothing was changed"]),
        (lambda w: [], ["judge has 4 weights, 0 were given"]),
        (lambda w: [*w[:-1], w[-1][:2]], ["scores/bias has shape (3,)", "(2,)", "nothing was changed"]),
        (lambda w: [w[0], w[1], w[2].T, w[3]], ["scores/kernel has shape (5, 3)", "(3, 5)"]),
        (lambda w: [w[0] * 0, w[1], w[2], "text"], ["scores/bias", "nothing was changed"]),
        (lambda w: [w[0] * 0, w[1], w[2], w[3] + 1j], ["scores/bias", "complex", "nothing was changed"]),
        (lambda w: [w[0] * 0, w[1], w[2], [[1.0], [2.0, 3.0], [4.0]]], ["scores/bias", "nothing was changed"]),
    ],
)
def test_weights_that_do_not_fit_change_none_of_them(spoil, words):
    model = classifier()
    with refused(model, WeightsError, *words):
        model.set_weights(spoil([w + 1 for w in model.get_weights()]))


def test_weights_of_a_layer_that_do_not_fit_change_none_of_them():
    model = classifier()
    hidden = model.get_layer("hidden")
    kernel, bias = hidden.get_weights()
    with refused(model, WeightsError, "hidden/bias has shape (5,)", "(4,)"):
        hidden.set_weights([kernel + 1, bias[:4]])


def test_the_probe_refuses_weights_that_do_not_fit_with_those_it_wants():
    with pytest.raises(WeightsError, match=r"\('kernel', \(4, 3\)\), \('bias', \(3,\)\).*\(4, 2\)"):
        lh.evaluate_layer(lh.layers.Dense(3), X, [np.zeros((4, 2)), np.zeros(3)])


# --------------------------------------------------------------------------------------------- graphs


def test_a_model_of_what_are_no_symbolic_tensors_is_a_graph_error():
    x = lh.Input((4,))
    with pytest.raises(GraphError, match=r"symbolic tensors \(lh.Input"):
        lh.Model(x, X)


def test_a_model_whose_outputs_depend_on_an_input_that_is_not_listed_is_a_graph_error():
    x, z = lh.Input((4,)), lh.Input((4,), name="forgotten")
    with pytest.raises(GraphError, match="'forgotten', which is not among the model's inputs"):
        lh.Model(x, lh.layers.Add()([x, z]))


def test_an_input_that_is_listed_twice_is_a_graph_error():
    x = lh.Input((4,))
    with pytest.raises(GraphError, match="listed twice"):
        lh.Model([x, x], lh.layers.Dense(2)(x))


def test_two_layers_of_one_name_are_a_graph_error():
    with pytest.raises(GraphError, match=r"'same'.*unique|two layers.*'same'"):
        lh.Sequential([lh.Input((4,)), lh.layers.Dense(3, name="same"), lh.layers.Dense(3, name="same")])


@pytest.mark.parametrize("layer", ["dense", 3, None, lh.layers.Dense], ids=repr)
def test_what_is_no_layer_cannot_be_added(layer):
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3)])
    with pytest.raises(GraphError, match="a layer was expected"):
        model.add(layer)
    assert len(model.layers) == 1


def test_a_layer_that_does_not_fit_is_not_added():
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3)])
    before = model.predict(X, verbose=0)
    with pytest.raises(ShapeError):
        model.add(lh.layers.LSTM(3))
    assert len(model.layers) == 1
    assert np.array_equal(model.predict(X, verbose=0), before)


def test_a_nested_model_with_another_number_of_inputs_is_a_graph_error():
    inner = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3)], name="inner")
    with pytest.raises(GraphError, match="inner takes 1 inputs, 2 were given"):
        inner([lh.Input((4,)), lh.Input((4,))])


def test_a_nested_model_on_another_shape_is_a_layerhub_error():
    inner = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3)], name="inner")
    with pytest.raises(LayerHubError, match=r"inner|Dense|kernel"):
        inner(lh.Input((5,)))


def test_there_is_nothing_to_pop_from_an_empty_model():
    with pytest.raises(GraphError, match="no layers to pop"):
        lh.Sequential().pop()


# --------------------------------------------------------------------------------------------- backends


@pytest.mark.parametrize("name", ["nompy", "jaxx"])
def test_a_move_to_a_backend_that_is_not_there_leaves_the_model_where_it_was(name):
    model = classifier()
    with refused(model, BackendError, f"no backend is called {name!r}"):
        model.to(name)
    model.fit(X, Y, epochs=1, verbose=0)


def test_a_float_type_that_the_backend_has_not_is_told_with_those_it_has():
    with pytest.raises(BackendError, match=r"'numpy' has no bfloat16; its float types: float16, float32, float64"):
        lh.evaluate_layer(lh.layers.Dense(2), X, dtype="bfloat16")


@pytest.mark.parametrize("options, words", [({"route": "fast"}, "route must be 'kernel' or 'definition', not 'fast'")])
def test_the_probe_refuses_what_cannot_be_meant(options, words):
    with pytest.raises(ParameterError, match=words):
        lh.evaluate_layer(lh.layers.Dense(2), X, **options)


def test_every_error_is_a_layerhub_error_and_the_builtin_that_fits():
    pairs = {
        ParameterError: ValueError, ShapeError: ValueError, DTypeError: TypeError, WeightsError: ValueError,
        DataError: ValueError, GraphError: ValueError, StateError: RuntimeError, UnknownNameError: LookupError,
        BackendError: RuntimeError,
    }  # fmt: skip
    for kind, builtin in pairs.items():
        assert issubclass(kind, (LayerHubError,))
        assert issubclass(kind, builtin)
