"""Training on numpy: fit, evaluate, predict, and all that goes into a step, against independent ground truth."""

import itertools

import numpy as np
import pytest
from layerhub_conformance.oracle import LOSSES, OPTIMIZERS
from layerhub_conformance.oracle.optimizers import WHOLE

import layerhub as lh
from layerhub import ops
from layerhub.callbacks import HOOKS, Callback, History, LambdaCallback
from layerhub.errors import DataError, ParameterError
from layerhub.spec import KINDS

NEAR = 1e-12
"""Relative: a short chain of float64 operations on well-conditioned numbers of size 1, each good to 1e-16."""

RNG = np.random.default_rng(5)
X = RNG.normal(size=(12, 4))
Y = RNG.normal(size=(12, 3))
CLASSES = np.arange(12) % 3


def near(expected):
    return pytest.approx(expected, rel=NEAR, abs=NEAR * 1e-3)


@pytest.fixture(autouse=True)
def double_precision(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")


def linear(**compiled):
    """One linear layer, 4 features to 3, without bias."""
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3, use_bias=False)], seed=2)
    model.compile(**{"optimizer": lh.optimizers.SGD(0.1), "loss": "mse", **compiled})
    return model


def only_weight(model):
    (weight,) = model.get_weights()
    return weight


def given_gradients(optimizer, **options):
    """A model of one weight, 4 zeros at first, whose gradient is what is given as target: the mean of w.x over 4."""
    layer = lh.layers.Dense(1, use_bias=False, kernel_initializer="zeros", **options)
    model = lh.Sequential([lh.Input((4,)), layer])
    model.compile(optimizer, lambda y_true, y_pred: y_true * y_pred)
    return model


def push(model, gradient):
    """One step with this gradient (exactly: the mean over 4 samples undoes the factor 4)."""
    model.train_on_batch(np.eye(4), 4 * np.reshape(gradient, (4, 1)))


# --------------------------------------------------------------------------------------------- fit


def test_fit_returns_the_history_of_every_epoch_under_keras_names():
    model = linear(metrics=["mae", "mse"])
    history = model.fit(X, Y, epochs=3, batch_size=5, validation_split=0.25, verbose=0)
    assert isinstance(history, History)
    assert history.epoch == [0, 1, 2]
    assert list(history.history) == ["loss", "mae", "mse", "val_loss", "val_mae", "val_mse"]
    assert all(len(values) == 3 for values in history.history.values())
    assert history is model.history


def test_an_epoch_steps_down_the_mean_gradient_of_each_batch():
    model = linear()
    w = only_weight(model)
    losses = []
    for part in (slice(0, 5), slice(5, 10), slice(10, 12)):
        error = X[part] @ w - Y[part]
        losses += [np.mean(error**2)] * len(error)
        w = w - 0.1 * X[part].T @ error * 2 / error.size
    history = model.fit(X, Y, batch_size=5, shuffle=False, verbose=0)
    np.testing.assert_allclose(only_weight(model), w, rtol=NEAR)
    assert history.history["loss"] == [near(np.mean(losses))]


def test_the_loss_goes_down_over_epochs():
    losses = linear().fit(X, Y, epochs=30, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < 0.95 * losses[0]


def test_training_twice_from_the_same_seed_is_the_same_to_the_last_bit():
    one, other = linear(), linear()
    for model in (one, other):
        model.fit(X, Y, epochs=3, batch_size=5, verbose=0)
    assert np.array_equal(only_weight(one), only_weight(other))


def test_shuffling_sees_every_sample_once_in_another_order_each_epoch():
    model = linear()
    orders = [model._shuffled(12) for model._epochs_begun in range(3)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_shuffling_keeps_inputs_targets_and_weights_together():
    x = np.arange(10.0)[:, None]
    model = lh.Sequential([lh.Input((1,)), lh.layers.Dense(1, kernel_initializer="ones")])
    model.compile(lh.optimizers.SGD(0.0), lambda y_true, y_pred: ops.abs(y_pred - 2 * y_true), weighted_metrics=["mae"])
    history = model.fit(x, x / 2, sample_weight=x[:, 0], batch_size=3, epochs=2, verbose=0)
    assert history.history["loss"] == [0.0, 0.0]
    # The mean of x / 2 with weights x.
    assert history.history["mae"] == [near(np.sum(x**2) / 2 / np.sum(x))] * 2


def test_epochs_0_trains_nothing_and_initial_epoch_says_where_to_go_on():
    model = linear()
    before = only_weight(model)
    assert model.fit(X, Y, epochs=0, verbose=0).history == {}
    assert np.array_equal(only_weight(model), before)
    assert model.fit(X, Y, epochs=5, initial_epoch=3, verbose=0).epoch == [3, 4]


def test_fit_goes_on_where_it_stopped():
    whole, halves = linear(), linear()
    whole.fit(X, Y, epochs=4, batch_size=5, verbose=0)
    for _ in range(2):
        halves.fit(X, Y, epochs=2, batch_size=5, verbose=0)
    assert np.array_equal(only_weight(whole), only_weight(halves))


def test_steps_per_epoch_ends_an_epoch_of_arrays_early():
    model = linear()
    model.fit(X, Y, batch_size=4, steps_per_epoch=2, verbose=0)
    assert model.executor.step == 2


def test_the_data_are_left_as_they_were():
    x, y = X.copy(), Y.copy()
    model = linear()
    model.fit(x, y, epochs=2, batch_size=5, verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)


def test_predictions_and_weights_alias_nothing_of_the_model():
    model = linear()
    before = model.predict(X, verbose=0)
    model.get_weights()[0][...] = 7
    model.weights[0].numpy()[...] = 7
    kept = before.copy()
    before[...] = 7
    assert np.array_equal(model.predict(X, verbose=0), kept)
    given = [np.ones((4, 3))]
    model.set_weights(given)
    given[0][...] = 9
    model.fit(X, Y, verbose=0)
    assert np.all(given[0] == 9)
    assert not np.any(only_weight(model) == 9)


# --------------------------------------------------------------------------------------------- validation


def test_validation_split_holds_back_the_last_samples_before_shuffling():
    model = linear()
    history = model.fit(X, Y, epochs=1, validation_split=0.25, verbose=0)
    assert history.history["val_loss"] == [near(np.mean((X[9:] @ only_weight(model) - Y[9:]) ** 2))]
    assert model.executor.step == 1


def test_validation_data_are_measured_after_the_epoch_without_training_on_them():
    one, other = linear(), linear()
    history = one.fit(X[:8], Y[:8], epochs=2, validation_data=(X[8:], Y[8:]), verbose=0)
    other.fit(X[:8], Y[:8], epochs=2, verbose=0)
    assert np.array_equal(only_weight(one), only_weight(other))
    assert history.history["val_loss"][-1] == near(other.evaluate(X[8:], Y[8:], verbose=0))


def test_validation_data_may_have_sample_weights():
    model = linear()
    history = model.fit(X, Y, validation_data=(X, Y, np.zeros(12)), verbose=0)
    assert history.history["val_loss"] == [0.0]


def test_validation_data_may_be_a_stream():
    model = linear()
    history = model.fit(X, Y, epochs=2, validation_data=Batches(5), verbose=0)
    assert history.history["val_loss"][-1] == near(model.evaluate(X, Y, verbose=0))


def test_validation_freq_measures_every_so_many_epochs():
    history = linear().fit(X, Y, epochs=5, validation_split=0.5, validation_freq=2, verbose=0)
    assert len(history.history["val_loss"]) == 2
    assert len(history.history["loss"]) == 5


# --------------------------------------------------------------------------------------------- streams


class Batches:
    """Batches of X and Y, as many times over as they are asked for."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return -(-len(X) // self.size)

    def __iter__(self):
        for start in range(0, len(X), self.size):
            yield X[start : start + self.size], Y[start : start + self.size]


def test_batches_of_a_stream_train_like_arrays_that_are_not_shuffled():
    one, other = linear(), linear()
    streamed = one.fit(Batches(5), epochs=3, verbose=0)
    arrays = other.fit(X, Y, epochs=3, batch_size=5, shuffle=False, verbose=0)
    assert np.array_equal(only_weight(one), only_weight(other))
    assert streamed.history == arrays.history


def test_an_endless_generator_goes_on_where_the_last_epoch_stopped():
    one, other = linear(), linear()
    endless = itertools.chain.from_iterable(itertools.repeat(Batches(4)))
    one.fit(endless, epochs=3, steps_per_epoch=2, verbose=0)
    other.fit(Batches(4), epochs=2, verbose=0)
    assert np.array_equal(only_weight(one), only_weight(other))


def test_a_stream_may_have_sample_weights_and_dicts():
    model = linear()
    before = only_weight(model)
    model.fit(iter([(X, Y, np.zeros(12))]), verbose=0)
    assert np.array_equal(only_weight(model), before)


def test_evaluate_and_predict_take_streams():
    model = linear()
    assert model.evaluate(Batches(5), verbose=0) == near(model.evaluate(X, Y, verbose=0))
    np.testing.assert_allclose(model.predict(Batches(5), verbose=0), model.predict(X, verbose=0), rtol=NEAR)
    assert model.predict(Batches(5), steps=1, verbose=0).shape == (5, 3)


# --------------------------------------------------------------------------------------------- batches, predict


@pytest.mark.parametrize("size", [1, 5, 12, 100])
def test_the_size_of_batches_changes_neither_predictions_nor_figures(size):
    model = linear(metrics=["mae"])
    np.testing.assert_allclose(model.predict(X, batch_size=size, verbose=0), X @ only_weight(model), rtol=NEAR)
    error = X @ only_weight(model) - Y
    figures = [np.mean(error**2), np.mean(np.abs(error))]
    assert model.evaluate(X, Y, batch_size=size, verbose=0) == near(figures)


def test_evaluate_gives_the_loss_alone_or_a_list_or_a_dict_by_name():
    assert isinstance(linear().evaluate(X, Y, verbose=0), float)
    model = linear(metrics=["mae"])
    assert [type(v) for v in model.evaluate(X, Y, verbose=0)] == [float, float]
    assert list(model.evaluate(X, Y, verbose=0, return_dict=True)) == ["loss", "mae"] == model.metrics_names


def test_evaluate_changes_no_weights_and_no_random_state():
    model = lh.Sequential([lh.Input((4,)), lh.layers.BatchNormalization(), lh.layers.Dropout(0.5), lh.layers.Dense(3)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    assert model.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_no_samples_give_no_predictions():
    assert linear().predict(X[:0], verbose=0).shape == (0, 3)


def test_train_on_batch_is_a_step_and_gathers_until_metrics_are_reset():
    model, other = linear(), linear()
    first = model.train_on_batch(X, Y)
    other.fit(X, Y, batch_size=12, shuffle=False, verbose=0)
    assert np.array_equal(only_weight(model), only_weight(other))
    second = np.mean((X @ only_weight(model) - Y) ** 2)
    assert model.test_on_batch(X, Y) == near((first + second) / 2)
    model.reset_metrics()
    assert model.test_on_batch(X, Y) == near(second)
    assert list(model.test_on_batch(X, Y, return_dict=True)) == ["loss"]
    np.testing.assert_allclose(model.predict_on_batch(X), X @ only_weight(model), rtol=NEAR)


def test_integer_and_float32_data_are_converted():
    model = linear()
    ints = np.arange(48).reshape(12, 4)
    np.testing.assert_allclose(model.predict(ints, verbose=0), ints @ only_weight(model), rtol=NEAR)
    assert model.predict(X.astype("float32"), verbose=0).dtype == np.float64


def test_lists_are_taken_for_arrays():
    model = linear()
    assert np.array_equal(model.predict(X.tolist(), verbose=0), model.predict(X, verbose=0))


# --------------------------------------------------------------------------------------------- weights of samples


def test_sample_weights_multiply_and_do_not_change_the_divisor():
    model = linear()
    weights = RNG.uniform(size=12)
    values = np.mean((X @ only_weight(model) - Y) ** 2, axis=-1)
    assert model.evaluate(X, Y, sample_weight=weights, verbose=0) == near(np.sum(values * weights) / 12)


def test_sample_weights_scale_gradients():
    one, other = linear(), linear(optimizer=lh.optimizers.SGD(0.2))
    one.fit(X, Y, sample_weight=np.full(12, 2.0), verbose=0)
    other.fit(X, Y, verbose=0)
    np.testing.assert_allclose(only_weight(one), only_weight(other), rtol=NEAR)


def test_metrics_take_sample_weights_when_they_are_weighted_metrics():
    weights = RNG.uniform(size=12)
    values = np.mean(np.abs(X @ only_weight(linear()) - Y), axis=-1)
    plain = linear(metrics=["mae"]).evaluate(X, Y, sample_weight=weights, verbose=0)[1]
    weighted = linear(weighted_metrics=["mae"]).evaluate(X, Y, sample_weight=weights, verbose=0)[1]
    assert plain == near(np.mean(values))
    assert weighted == near(np.sum(values * weights) / np.sum(weights))


def test_a_weighted_metric_that_is_also_watched_plainly_has_a_name_of_its_own():
    model = linear(metrics=["mae"], weighted_metrics=["mae"])
    found = model.evaluate(X, Y, sample_weight=np.zeros(12), return_dict=True, verbose=0)
    assert list(found) == ["loss", "mae", "weighted_mae"]
    assert found["mae"] > 0
    assert found["weighted_mae"] == 0


@pytest.mark.parametrize("targets", [CLASSES, CLASSES[:, None], np.eye(3)[CLASSES]], ids=["ints", "column", "one-hot"])
def test_class_weights_are_sample_weights_by_class(targets):
    loss = "categorical_crossentropy" if targets.shape[-1] == 3 else "sparse_categorical_crossentropy"
    given = {0: 2.0, 2: 0.5}
    one, other = (softmax(loss) for _ in range(2))
    one.fit(X, targets, class_weight=given, verbose=0)
    other.fit(X, targets, sample_weight=np.array([given.get(int(c), 1.0) for c in CLASSES]), verbose=0)
    assert np.array_equal(one.get_weights()[0], other.get_weights()[0])


def softmax(loss, **compiled):
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3, activation="softmax")], seed=2)
    model.compile("sgd", loss, **compiled)
    return model


# --------------------------------------------------------------------------------------------- losses

PROBABILITIES = (lambda e: e / e.sum(-1, keepdims=True))(np.exp(RNG.normal(size=(12, 3))))
SPARSE = "SparseCategoricalCrossentropy"
LOSS_CASES = [
    ("MeanSquaredError", {}, X[:, :3], Y),
    ("MeanAbsoluteError", {}, X[:, :3], Y),
    ("BinaryCrossentropy", {}, PROBABILITIES, np.eye(3)[CLASSES]),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, PROBABILITIES, np.eye(3)[CLASSES]),
    ("BinaryCrossentropy", {"from_logits": True}, X[:, :3] * 20, np.eye(3)[CLASSES]),
    ("CategoricalCrossentropy", {}, PROBABILITIES * 3, np.eye(3)[CLASSES]),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, PROBABILITIES, np.eye(3)[CLASSES]),
    ("CategoricalCrossentropy", {"from_logits": True}, X[:, :3] * 20, np.eye(3)[CLASSES]),
    (SPARSE, {}, PROBABILITIES, CLASSES),
    (SPARSE, {"from_logits": True}, X[:, :3] * 20, CLASSES),
    (SPARSE, {"ignore_class": 1}, PROBABILITIES, CLASSES),
    (SPARSE, {"ignore_class": -1}, PROBABILITIES, np.where(CLASSES == 1, -1, CLASSES)),
]


def passing(loss, shape, **options):
    """A model that hands its input on, to measure a loss of given predictions."""
    model = lh.Sequential([lh.Input(shape), lh.layers.Activation("linear")])
    model.compile("sgd", loss, **options)
    return model


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "sum", "none"])
@pytest.mark.parametrize("name, config, predicted, targets", LOSS_CASES, ids=lambda v: str(v) * (np.ndim(v) == 0))
def test_a_loss_is_what_loops_over_plain_numbers_give(name, config, predicted, targets, reduction, weighted):
    weights = np.linspace(0.1, 2, 12) if weighted else None
    loss = KINDS["loss"].find(name)(**config, reduction=reduction)
    said = LOSSES[name](
        {**config, "reduction": reduction}, targets.tolist(), predicted.tolist(),
        None if weights is None else weights.tolist(),
    )  # fmt: skip
    expected = np.sum(said.reduced) if reduction == "none" else said.reduced
    got = passing(loss, (3,)).evaluate(predicted, targets, sample_weight=weights, verbose=0)
    assert got == near(float(expected))


@pytest.mark.parametrize("name", ["BinaryCrossentropy", "CategoricalCrossentropy"])
def test_crossentropies_of_certain_and_wrong_predictions_are_finite(name):
    predicted, targets = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    said = LOSSES[name]({}, targets.tolist(), predicted.tolist()).reduced
    assert passing(name, (3,)).evaluate(predicted, targets, verbose=0) == near(said)
    assert said > 5


def test_crossentropies_of_extreme_logits_are_exact():
    predicted, targets = np.array([[800.0, -800.0]]), np.array([[0.0, 1.0]])
    binary = lh.losses.BinaryCrossentropy(from_logits=True)
    assert passing(binary, (2,)).evaluate(predicted, targets, verbose=0) == 800.0
    categorical = lh.losses.CategoricalCrossentropy(from_logits=True)
    assert passing(categorical, (2,)).evaluate(predicted, targets, verbose=0) == 1600.0


def test_targets_may_leave_out_a_last_axis_of_one():
    predicted, targets = X[:, :1], Y[:, 0]
    expected = np.mean((predicted[:, 0] - targets) ** 2)
    for given in (targets, targets[:, None]):
        assert passing("mse", (1,)).evaluate(predicted, given, verbose=0) == near(expected)


def test_a_function_of_ops_serves_as_a_loss_and_as_a_metric():
    def largest(y_true, y_pred):
        return ops.max(ops.abs(y_true - y_pred), axis=-1)

    model = linear(loss=largest, metrics=[largest])
    expected = np.mean(np.max(np.abs(X @ only_weight(model) - Y), axis=-1))
    assert model.evaluate(X, Y, return_dict=True, verbose=0) == {"loss": near(expected), "largest": near(expected)}
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    "loss, targets, label",
    [
        ("sparse_categorical_crossentropy", CLASSES, "accuracy"),
        ("categorical_crossentropy", np.eye(3)[CLASSES], "acc"),
        ("categorical_crossentropy", np.eye(3)[CLASSES], "categorical_accuracy"),
        ("sparse_categorical_crossentropy", CLASSES, "sparse_categorical_accuracy"),
    ],
)
def test_accuracy_is_the_one_that_fits_the_loss_and_keeps_the_name_it_was_asked_for_by(loss, targets, label):
    model = softmax(loss, metrics=[label])
    right = np.mean(model.predict(X, verbose=0).argmax(-1) == CLASSES)
    assert model.evaluate(X, targets, return_dict=True, verbose=0)[label] == near(right)


def test_accuracy_of_one_probability_is_the_binary_one():
    model = passing("binary_crossentropy", (1,), metrics=["accuracy"])
    predicted = np.array([[0.2], [0.7], [0.5], [0.9]])
    assert model.evaluate(predicted, np.array([0, 1, 1, 0]), verbose=0)[1] == 0.5


# --------------------------------------------------------------------------------------------- several outputs


def two_outputs(**compiled):
    x = lh.Input((4,))
    model = lh.Model(x, [lh.layers.Dense(3, name="left")(x), lh.layers.Dense(1, name="right")(x)], seed=1)
    model.compile(**{"optimizer": "sgd", **compiled})
    return model


TWO = [Y, X[:, :1]]


def parts(model):
    return [np.mean((p - y) ** 2) for p, y in zip(model.predict(X, verbose=0), TWO, strict=True)]


@pytest.mark.parametrize(
    "loss, shares, factors",
    [
        ("mse", None, (1, 1)),
        (["mse", "mse"], [0.3, 2.0], (0.3, 2)),
        ({"left": "mse", "right": "mse"}, {"right": 5.0}, (1, 5)),
    ],
)
def test_the_loss_of_several_outputs_is_their_weighted_sum(loss, shares, factors):
    model = two_outputs(loss=loss, loss_weights=shares)
    left, right = parts(model)
    total = factors[0] * left + factors[1] * right
    found = model.evaluate(X, TWO, return_dict=True, verbose=0)
    assert found == {"loss": near(total), "left_loss": near(left), "right_loss": near(right)}
    assert list(model.fit(X, TWO, verbose=0).history) == ["left_loss", "loss", "right_loss"]


def test_targets_of_several_outputs_may_come_by_name():
    model = two_outputs(loss="mse")
    assert model.evaluate(X, {"right": TWO[1], "left": TWO[0]}, verbose=0) == model.evaluate(X, TWO, verbose=0)


def test_metrics_of_several_outputs_are_named_after_them():
    model = two_outputs(loss="mse", metrics={"right": ["mae"]})
    found = model.evaluate(X, TWO, return_dict=True, verbose=0)
    assert list(found) == ["left_loss", "loss", "right_loss", "right_mae"] == sorted(model.metrics_names)
    assert model.metrics_names[0] == "loss"
    assert found["right_mae"] == near(np.mean(np.abs(model.predict(X, verbose=0)[1] - TWO[1])))


def test_an_output_without_a_loss_is_not_trained():
    model = two_outputs(loss={"left": "mse"})
    before = model.get_layer("right").get_weights()
    model.fit(X, TWO, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("right").get_weights(), strict=True))


def test_sample_weights_of_several_outputs_come_as_a_list_or_by_name():
    model = two_outputs(loss="mse")
    left, _ = parts(model)
    for given in ([np.ones(12), np.zeros(12)], {"left": np.ones(12), "right": np.zeros(12)}):
        assert model.evaluate(X, TWO, sample_weight=given, verbose=0) == near([left, left, 0.0])


# --------------------------------------------------------------------------------------------- optimizers

OPTIMIZER_CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"learning_rate": 0.2, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"rho": 0.7, "momentum": 0.5, "epsilon": 1e-3}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.3}),
    ("Adam", {}),
    ("Adam", {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.3, "amsgrad": True}),
    ("Adagrad", {"learning_rate": 0.1}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "epsilon": 0.1, "weight_decay": 0.1}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adadelta", {"rho": 0.5, "epsilon": 0.1}),
    ("Adamax", {}),
    ("Adamax", {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1}),
    ("Nadam", {}),
    ("Nadam", {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1, "weight_decay": 0.1}),
    ("Ftrl", {}),
    ("Ftrl", {"learning_rate": 0.1, "learning_rate_power": -0.7, "beta": 0.3, "initial_accumulator_value": 0.2}),
    (
        "Ftrl",
        {
            "l1_regularization_strength": 0.01, "l2_regularization_strength": 0.2,
            "l2_shrinkage_regularization_strength": 0.3, "weight_decay": 0.1,
        },
    ),
    ("Lion", {}),
    ("Lion", {"beta_1": 0.5, "beta_2": 0.7, "weight_decay": 0.1}),
    ("Lamb", {}),
    ("Lamb", {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1, "weight_decay": 0.1}),
    ("Adafactor", {}),
    ("Adafactor", {"learning_rate": 0.5, "epsilon_2": 3.0, "clip_threshold": 0.2, "beta_2_decay": -0.5}),
    ("Muon", {}),
    ("Muon", {"momentum": 0.5, "nesterov": False, "rms_rate": None, "ns_steps": 2, "weight_decay": None}),
    ("ScheduleFreeAdamW", {}),
    ("ScheduleFreeAdamW", {"beta_1": 0.5, "beta_2": 0.7, "warmup_steps": 3, "weight_decay": 0.1}),
]  # fmt: skip
GRADIENTS = [RNG.normal(size=4) * scale for scale in (1, 0.1, 3, 1e-3, 0, 1, 1)]


@pytest.mark.parametrize("name, config", OPTIMIZER_CASES, ids=str)
def test_an_optimizer_moves_a_weight_as_the_formula_for_one_number_says(name, config):
    optimizer = KINDS["optimizer"].find(name)(**config)
    model = given_gradients(optimizer)
    start = RNG.normal(size=4)
    model.set_weights([start[:, None]])
    expected, slots = start.tolist(), [{} for _ in range(4)]
    whole, held = start[:, None].tolist(), {}
    for step, gradient in enumerate(GRADIENTS, start=1):
        push(model, gradient)
        if name in WHOLE:
            whole, held = OPTIMIZERS[name](optimizer.get_config(), whole, gradient[:, None].tolist(), held, step)
            np.testing.assert_allclose(only_weight(model), whole, rtol=NEAR)
            continue
        for i in range(4):
            expected[i], slots[i] = OPTIMIZERS[name](
                optimizer.get_config(), expected[i], float(gradient[i]), slots[i], step
            )
        np.testing.assert_allclose(only_weight(model)[:, 0], expected, rtol=NEAR)


def test_every_optimizer_is_held_against_the_formula():
    around = {"LossScaleOptimizer", "MultiOptimizer"}
    assert {name for name, _ in OPTIMIZER_CASES} | around == set(KINDS["optimizer"])


def test_a_change_of_the_learning_rate_acts_from_the_next_step_on():
    model = given_gradients(lh.optimizers.SGD(0.5))
    push(model, np.ones(4))
    model.optimizer.learning_rate = 0.25
    push(model, np.ones(4))
    assert np.all(only_weight(model) == -0.75)


def test_a_callback_may_change_the_learning_rate():
    def slower(epoch, logs):
        model.optimizer.learning_rate = 0.5 / 2**epoch

    model = given_gradients(lh.optimizers.SGD(9.0))
    callback = LambdaCallback(on_epoch_begin=slower)
    model.fit(np.eye(4), np.full((4, 1), 4.0), epochs=3, callbacks=[callback], shuffle=False, verbose=0)
    assert np.all(only_weight(model) == -(0.5 + 0.25 + 0.125))


@pytest.mark.parametrize(
    "bound, expected",
    [
        ({"clipvalue": 0.5}, [0.5, -0.5, 0.25, 0.0]),
        ({"clipnorm": 1.5}, [1.0, -1.0, 0.25, 0.0]),
        ({"clipnorm": 0.5}, np.array([1.0, -1.0, 0.25, 0.0]) * 0.5 / np.sqrt(2.0625)),
        ({"global_clipnorm": 0.5}, np.array([1.0, -1.0, 0.25, 0.0]) * 0.5 / np.sqrt(2.0625)),
    ],
)
def test_a_gradient_is_clipped_to_its_bound(bound, expected):
    model = given_gradients(lh.optimizers.SGD(1.0, **bound))
    push(model, [1.0, -1.0, 0.25, 0.0])
    np.testing.assert_allclose(-only_weight(model)[:, 0], expected, rtol=NEAR)


def test_clipnorm_looks_at_each_weight_and_global_clipnorm_at_all_of_them():
    x, y = np.array([[3.0]]), np.array([[1.0]])
    moved = {}
    for name in ("clipnorm", "global_clipnorm"):
        layer = lh.layers.Dense(1, kernel_initializer="zeros")
        model = lh.Sequential([lh.Input((1,)), layer])
        model.compile(lh.optimizers.SGD(1.0, **{name: 1.0}), lambda y_true, y_pred: y_true * y_pred)
        model.train_on_batch(x, y)  # the gradients are 3 and 1
        moved[name] = [-float(w.reshape(())) for w in model.get_weights()]
    assert moved["clipnorm"] == near([1.0, 1.0])
    assert moved["global_clipnorm"] == near([3 / np.sqrt(10), 1 / np.sqrt(10)])


def test_a_gradient_of_zeros_is_clipped_to_zeros():
    model = given_gradients(lh.optimizers.SGD(1.0, clipnorm=1.0))
    push(model, np.zeros(4))
    assert np.all(only_weight(model) == 0)


def test_constraints_hold_after_each_step():
    model = given_gradients(lh.optimizers.SGD(1.0), kernel_constraint="non_neg")
    push(model, [1.0, -1.0, 2.0, -3.0])
    assert only_weight(model)[:, 0].tolist() == [0.0, 1.0, 0.0, 3.0]
    model = given_gradients(lh.optimizers.SGD(1.0), kernel_constraint=lh.constraints.MaxNorm(0.5))
    push(model, [-3.0, -4.0, 0.0, 0.0])
    # Keras divides by the norm plus 1e-7.
    np.testing.assert_allclose(only_weight(model)[:, 0], np.array([3.0, 4.0, 0, 0]) * 0.5 / (1e-7 + 5), rtol=NEAR)


def test_a_constraint_sees_only_the_weight_it_is_declared_for():
    layer = lh.layers.Dense(1, kernel_initializer="zeros", kernel_constraint="non_neg")
    model = lh.Sequential([lh.Input((4,)), layer])
    model.compile(lh.optimizers.SGD(1.0), lambda y_true, y_pred: y_true * y_pred)
    model.train_on_batch(np.eye(4), np.full((4, 1), 4.0))
    kernel, bias = model.get_weights()
    assert np.all(kernel == 0)
    assert bias == near([-4.0])


# --------------------------------------------------------------------------------------------- regularizers


@pytest.mark.parametrize(
    "regularizer, penalty, slope",
    [
        (lh.regularizers.L2(0.1), lambda w: 0.1 * np.sum(w**2), lambda w: 0.2 * w),
        (lh.regularizers.L1(0.1), lambda w: 0.1 * np.sum(np.abs(w)), lambda w: 0.1 * np.sign(w)),
        ("l2", lambda w: 0.01 * np.sum(w**2), lambda w: 0.02 * w),
        (
            lh.regularizers.L1L2(0.1, 0.2),
            lambda w: 0.1 * np.sum(np.abs(w)) + 0.2 * np.sum(w**2),
            lambda w: 0.1 * np.sign(w) + 0.4 * w,
        ),
    ],
)
def test_a_weights_penalty_is_in_the_loss_and_in_its_gradient(regularizer, penalty, slope):
    model = given_gradients(lh.optimizers.SGD(0.5), kernel_regularizer=regularizer)
    w = np.array([[1.0], [-2.0], [0.5], [3.0]])
    model.set_weights([w])
    assert model.evaluate(np.eye(4), np.zeros((4, 1)), verbose=0) == near(penalty(w))
    push(model, np.zeros(4))
    np.testing.assert_allclose(only_weight(model), w - 0.5 * slope(w), rtol=NEAR)


def test_penalties_of_several_outputs_are_in_the_total_alone():
    x = lh.Input((4,))
    left = lh.layers.Dense(3, name="left", kernel_regularizer="l2")(x)
    model = lh.Model(x, [left, lh.layers.Dense(1, name="right")(x)])
    model.compile("sgd", "mse")
    total, *each = model.evaluate(X, TWO, verbose=0)
    assert total == near(sum(each) + 0.01 * np.sum(model.get_layer("left").get_weights()[0] ** 2))


@pytest.mark.parametrize("batch", [1, 4])
def test_an_outputs_penalty_is_divided_by_the_size_of_the_batch(batch):
    layer = lh.layers.Dense(1, use_bias=False, kernel_initializer="ones", activity_regularizer=lh.regularizers.L2(0.5))
    model = lh.Sequential([lh.Input((1,)), layer])
    model.compile(lh.optimizers.SGD(1.0), lambda y_true, y_pred: y_pred * 0)
    loss = model.train_on_batch(np.full((batch, 1), 2.0), np.zeros((batch, 1)))
    assert loss == near(0.5 * 4)
    assert only_weight(model)[0, 0] == near(1 - 2 * 0.5 * 4)


def test_an_outputs_penalty_counts_in_evaluate_as_in_training():
    layer = lh.layers.Dense(1, use_bias=False, kernel_initializer="ones", activity_regularizer=lh.regularizers.L2(0.5))
    model = lh.Sequential([lh.Input((1,)), layer])
    model.compile("sgd", lambda y_true, y_pred: y_pred * 0)
    assert model.evaluate(np.full((3, 1), 2.0), np.zeros((3, 1)), verbose=0) == near(2.0)


# --------------------------------------------------------------------------------------------- masks, frozen weights


def test_steps_that_a_mask_leaves_out_count_neither_in_loss_nor_in_metrics():
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0], [1, 2, 3, 4]])
    targets = RNG.normal(size=(3, 4, 1))
    layers = [lh.layers.Embedding(5, 3, mask_zero=True), lh.layers.LSTM(4, return_sequences=True), lh.layers.Dense(1)]
    model = lh.Sequential([lh.Input((4,), dtype="int32"), *layers])
    model.compile("sgd", "mse", weighted_metrics=["mae"])
    errors = (model.predict(ids, verbose=0) - targets)[ids != 0]
    found = model.evaluate(ids, targets, verbose=0)
    assert found == near([np.mean(errors**2), np.mean(np.abs(errors))])


def test_a_batch_that_is_masked_altogether_has_no_loss_and_moves_nothing():
    layers = [lh.layers.Embedding(5, 3, mask_zero=True), lh.layers.LSTM(4, return_sequences=True), lh.layers.Dense(1)]
    model = lh.Sequential([lh.Input((4,), dtype="int32"), *layers])
    model.compile("sgd", "mse")
    before = model.get_weights()
    assert model.train_on_batch(np.zeros((2, 4), int), np.ones((2, 4, 1))) == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_weights_of_a_frozen_layer_do_not_move_and_the_others_do():
    hidden = lh.layers.Dense(5, trainable=False)
    model = lh.Sequential([lh.Input((4,)), hidden, lh.layers.Dense(3)])
    model.compile(lh.optimizers.SGD(0.1, weight_decay=0.1), "mse")
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert moved == [False, False, True, True]


def test_freezing_acts_from_the_next_compile_on():
    model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(5), lh.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert moved == [False, False, True, True]


def test_a_frozen_batch_normalization_infers_during_training():
    layer = lh.layers.BatchNormalization(trainable=False)
    model = lh.Sequential([lh.Input((4,)), layer])
    model.compile("sgd", "mse")
    before = model.get_weights()
    loss = model.train_on_batch(X, np.zeros((12, 4)))
    assert loss == near(np.mean((X / np.sqrt(1 + 1e-3)) ** 2))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("wrap", [lh.layers.Wrapper, lh.layers.TimeDistributed])
@pytest.mark.parametrize("freeze", ["wrapper", "inner", "model"])
def test_batch_normalization_in_a_frozen_layer_infers_during_training(wrap, freeze):
    layer = wrap(lh.layers.BatchNormalization())
    model = lh.Sequential([lh.Input((2, 2)), layer])
    {"wrapper": layer, "inner": layer.layer, "model": model}[freeze].trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()[2:]
    loss = model.train_on_batch(X.reshape(12, 2, 2), np.zeros((12, 2, 2)))
    assert loss == near(np.mean((X / np.sqrt(1 + 1e-3)) ** 2))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()[2:], strict=True))


def test_batch_normalization_moves_its_statistics_in_training():
    model = lh.Sequential([lh.Input((4,)), lh.layers.BatchNormalization(momentum=0.75)])
    model.compile("sgd", "mse")
    model.train_on_batch(X, np.zeros((12, 4)))
    _, _, mean, variance = model.get_weights()
    np.testing.assert_allclose(mean, 0.25 * X.mean(0), rtol=NEAR)
    np.testing.assert_allclose(variance, 0.75 + 0.25 * X.var(0), rtol=NEAR)


def test_dropout_drops_in_training_alone_and_anew_at_each_step():
    model = lh.Sequential([lh.Input((1000,)), lh.layers.Dropout(0.5, seed=1), lh.layers.Dense(1, use_bias=False)])
    model.compile(lh.optimizers.SGD(1.0), lambda y_true, y_pred: y_pred)
    model.set_weights([np.zeros((1000, 1))])
    steps = []
    for _ in range(3):
        before = only_weight(model)
        model.train_on_batch(np.ones((1, 1000)), np.zeros((1, 1)))
        steps.append((before - only_weight(model))[:, 0])
    assert all(set(step) == {0.0, 2.0} for step in steps)
    assert len({tuple(step) for step in steps}) == 3
    # The count of kept ones is binomial: five standard deviations of n = 1000, p = 1/2.
    assert all(abs(np.sum(step == 2) - 500) < 5 * np.sqrt(250) for step in steps)
    assert model.predict(np.ones((1, 1000)), verbose=0)[0, 0] == near(only_weight(model).sum())


# --------------------------------------------------------------------------------------------- callbacks


def recorder(told):
    return LambdaCallback(**{hook: lambda *arguments, hook=hook: told.append(hook) for hook in HOOKS})


def test_callbacks_hear_of_everything_in_order():
    told = []
    linear().fit(X, Y, epochs=2, batch_size=6, validation_split=0.5, callbacks=[recorder(told)], verbose=0)
    batch = ["on_train_batch_begin", "on_train_batch_end"]
    test = ["on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"]
    epoch = ["on_epoch_begin", *batch, *test, "on_epoch_end"]
    assert told == ["on_train_begin", *epoch, *epoch, "on_train_end"]


def test_callbacks_hear_of_evaluate_and_predict():
    told = []
    model = linear()
    model.evaluate(X, Y, batch_size=8, callbacks=[recorder(told)], verbose=0)
    assert told == ["on_test_begin", *["on_test_batch_begin", "on_test_batch_end"] * 2, "on_test_end"]
    told.clear()
    model.predict(X, batch_size=8, callbacks=[recorder(told)], verbose=0)
    assert told == ["on_predict_begin", *["on_predict_batch_begin", "on_predict_batch_end"] * 2, "on_predict_end"]


def test_a_callback_knows_the_model_its_parameters_and_the_logs():
    class Watcher(Callback):
        def __init__(self):
            self.batches, self.epochs = [], []

        def on_train_begin(self, logs=None):
            self.began = dict(self.params)

        def on_train_batch_end(self, batch, logs=None):
            self.batches.append((batch, set(logs)))

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append((epoch, logs["loss"], logs["val_loss"]))

    watcher, model = Watcher(), linear(metrics=["mae"])
    history = model.fit(X, Y, epochs=2, batch_size=6, validation_split=0.25, callbacks=[watcher], verbose=0)
    assert watcher.model is model
    assert watcher.began == {"epochs": 2, "steps": 2, "verbose": 0}
    assert watcher.batches == [(0, {"loss", "mae"}), (1, {"loss", "mae"})] * 2
    losses, validated = history.history["loss"], history.history["val_loss"]
    assert watcher.epochs == [(0, losses[0], validated[0]), (1, losses[1], validated[1])]


def test_stop_training_ends_fit_after_the_epoch():
    def stop(epoch, logs):
        model.stop_training = epoch == 1

    model, told = linear(), []
    stopper = LambdaCallback(on_epoch_end=stop)
    history = model.fit(X, Y, epochs=9, callbacks=[stopper, recorder(told)], verbose=0)
    assert history.epoch == [0, 1]
    assert told[-1] == "on_train_end"
    assert model.fit(X, Y, epochs=1, verbose=0).epoch == [0]


def test_an_unknown_hook_is_refused_with_those_there_are():
    with pytest.raises(
        ParameterError, match=r"no hook 'on_epoch_ended'. Did you mean 'on_epoch_end'\? The hooks are: "
    ):
        LambdaCallback(on_epoch_ended=print)


@pytest.mark.parametrize("verbose, lines", [(0, 0), (2, 3), (1, 3), ("auto", 3)])
def test_progress_off_a_terminal_is_one_line_for_each_epoch(verbose, lines, capsys):
    linear(metrics=["mae"]).fit(X, Y, epochs=3, verbose=verbose)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == lines
    assert all(f"Epoch {i + 1}/3" in line and "loss: " in line and "mae: " in line for i, line in enumerate(said))


# --------------------------------------------------------------------------------------------- compile


def test_compiling_again_forgets_the_optimizers_memory_and_keeps_the_weights():
    one, other = linear(optimizer=lh.optimizers.SGD(0.1, momentum=0.9)), linear()
    one.fit(X, Y, verbose=0)
    other.set_weights(one.get_weights())
    for model in (one, other):
        model.compile(lh.optimizers.Adam(0.1), "mse")
        model.fit(X, Y, shuffle=False, verbose=0)
    np.testing.assert_allclose(only_weight(one), only_weight(other), rtol=NEAR)


@pytest.mark.parametrize("optimizer", ["sgd", "SGD", lh.optimizers.SGD, lh.optimizers.SGD(0.01), {"class_name": "SGD"}])
def test_an_optimizer_may_be_a_name_a_class_an_object_or_a_config(optimizer):
    model = given_gradients(optimizer)
    push(model, np.ones(4))
    assert np.all(only_weight(model) == -0.01)


def test_one_optimizer_may_serve_two_models_without_mixing_them_up():
    optimizer = lh.optimizers.Adam(0.1)
    alone, together = linear(optimizer=lh.optimizers.Adam(0.1)), linear(optimizer=optimizer)
    neighbour = linear(optimizer=optimizer)
    for _ in range(3):
        alone.train_on_batch(X, Y)
        together.train_on_batch(X, Y)
        neighbour.train_on_batch(X * 3, Y)
    assert np.array_equal(only_weight(alone), only_weight(together))


def test_a_model_that_learns_its_shape_from_the_first_data_trains():
    model = lh.Sequential([lh.layers.Dense(3)])
    model.compile("sgd", "mse", metrics=["mae"])
    assert set(model.fit(X, Y, verbose=0).history) == {"loss", "mae"}
    assert model.input_shape == (None, 4)


def test_a_model_that_learns_its_shape_from_a_stream_loses_no_batch():
    streamed, built = lh.Sequential([lh.layers.Dense(3)], seed=3), lh.Sequential([lh.layers.Dense(3)], seed=3)
    built.build((None, 4))
    for model in (streamed, built):
        model.compile("sgd", "mse")
    streamed.fit((batch for batch in Batches(5)), verbose=0)
    built.fit(X, Y, batch_size=5, shuffle=False, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(streamed.get_weights(), built.get_weights(), strict=True))


def test_weights_set_during_training_are_those_that_training_goes_on_with():
    model = linear()
    model.fit(X, Y, verbose=0)
    model.set_weights([np.zeros((4, 3))])
    assert model.evaluate(X, Y, verbose=0) == near(np.mean(Y**2))


def test_two_models_that_share_a_layer_train_the_same_weights():
    shared = lh.layers.Dense(3, use_bias=False)
    one, other = (lh.Sequential([lh.Input((4,)), shared, *more]) for more in ([], [lh.layers.Activation("tanh")]))
    one.compile(lh.optimizers.SGD(0.1), "mse")
    other.compile(lh.optimizers.SGD(0.1), "mse")
    one.fit(X, Y, verbose=0)
    assert np.array_equal(one.get_weights()[0], other.get_weights()[0])
    other.fit(X, Y, verbose=0)
    assert np.array_equal(one.get_weights()[0], other.get_weights()[0])
    np.testing.assert_allclose(one.predict(X, verbose=0), X @ shared.get_weights()[0], rtol=NEAR)


def test_a_stream_without_batches_is_told():
    with pytest.raises(DataError, match="no batches"):
        linear().fit(iter([]), verbose=0)


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow", "jax"])
def test_layers_may_be_frozen_and_thawed_between_fits_and_those_still_trained_keep_their_slots(backend):
    a, b, c = lh.layers.Dense(3), lh.layers.Dense(4), lh.layers.Dense(1)
    model = lh.Sequential([lh.Input((2,)), a, b, c], backend=backend, seed=1)
    model.compile(lh.optimizers.SGD(0.1, momentum=0.9), "mse")
    x, y = np.ones((4, 2)), np.ones((4, 1))
    b.trainable = False
    model.fit(x, y, verbose=0)
    a.trainable, b.trainable = False, True  # as many weights as before, but others
    before = [w.copy() for w in model.get_weights()]
    model.fit(x, y, verbose=0)
    moved = [not np.array_equal(w, v) for w, v in zip(before, model.get_weights(), strict=True)]
    assert moved == [False, False, True, True, True, True]
