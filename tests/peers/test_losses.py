"""Losses beside Keras's and torch's: values, gradients and reductions in float64."""

import numpy as np
import pytest

import layerhub as lh

RNG = np.random.default_rng(8)
SHAPE = (6, 5, 4)
NORMAL = RNG.normal(size=SHAPE) * 2
PROBABILITIES = 1 / (1 + np.exp(-NORMAL))
DISTRIBUTION = RNG.dirichlet(np.ones(4), size=SHAPE[:-1])
BINARY = RNG.integers(0, 2, size=SHAPE).astype(float)
CLASSES = RNG.integers(0, 4, size=SHAPE[:-1])
UNIT = NORMAL[:, 0] / np.linalg.norm(NORMAL[:, 0], axis=-1, keepdims=True)
SMOOTH = {"label_smoothing": 0.125}
# Parameters that float32 holds: Keras on tensorflow rounds them to it on their way.
LOSSES = [
    ("MeanSquaredError", {}, DISTRIBUTION, NORMAL),
    ("MeanAbsoluteError", {}, DISTRIBUTION, NORMAL),
    ("MeanAbsolutePercentageError", {}, DISTRIBUTION, NORMAL),
    ("MeanSquaredLogarithmicError", {}, DISTRIBUTION, NORMAL),
    ("Huber", {}, DISTRIBUTION, NORMAL),
    ("Huber", {"delta": 0.5}, DISTRIBUTION, NORMAL),
    ("LogCosh", {}, DISTRIBUTION, NORMAL),
    ("Hinge", {}, BINARY, NORMAL),
    ("Hinge", {}, 2 * BINARY - 1, NORMAL),
    ("Hinge", {}, DISTRIBUTION, NORMAL),
    ("SquaredHinge", {}, BINARY, NORMAL),
    ("CategoricalHinge", {}, DISTRIBUTION, NORMAL),
    ("CategoricalHinge", {}, np.eye(4)[CLASSES], NORMAL),
    ("KLDivergence", {}, DISTRIBUTION, PROBABILITIES),
    ("KLDivergence", {}, BINARY, PROBABILITIES),
    ("Poisson", {}, DISTRIBUTION, PROBABILITIES),
    ("CosineSimilarity", {}, DISTRIBUTION, NORMAL),
    ("CosineSimilarity", {"axis": 1}, DISTRIBUTION, NORMAL),
    ("BinaryCrossentropy", SMOOTH, BINARY, PROBABILITIES),
    ("BinaryCrossentropy", {"from_logits": True, "axis": 1}, BINARY, NORMAL),
    ("BinaryFocalCrossentropy", {}, BINARY, PROBABILITIES),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "alpha": 0.75, "gamma": 1.5}, BINARY, PROBABILITIES),
    ("BinaryFocalCrossentropy", {"from_logits": True, "axis": 1, **SMOOTH}, BINARY, NORMAL),
    ("CategoricalCrossentropy", SMOOTH, DISTRIBUTION, PROBABILITIES),
    ("CategoricalFocalCrossentropy", {}, DISTRIBUTION, PROBABILITIES),
    ("CategoricalFocalCrossentropy", {"alpha": [0.25, 0.5, 1.0, 2.0], "gamma": 1.5}, DISTRIBUTION, PROBABILITIES),
    ("CategoricalFocalCrossentropy", {"from_logits": True, **SMOOTH}, DISTRIBUTION, NORMAL),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, CLASSES, NORMAL),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": 2}, CLASSES, NORMAL),
    ("CategoricalGeneralizedCrossEntropy", {}, CLASSES, PROBABILITIES),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.75}, CLASSES, PROBABILITIES),
    ("Dice", {}, BINARY, PROBABILITIES),
    ("Dice", {"axis": (1, 2)}, BINARY, PROBABILITIES),
    ("Tversky", {"alpha": 0.25, "beta": 0.75}, BINARY, PROBABILITIES),
    ("Tversky", {"axis": 1}, BINARY, PROBABILITIES),
    ("Circle", {}, CLASSES[:, 0], UNIT),
    ("Circle", {"gamma": 8.0, "margin": 0.25, "remove_diagonal": False}, CLASSES[:, 0], UNIT),
]
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "none")


def named(case):
    return str(case) if isinstance(case, (str, dict)) else None


def differentiated(loss, y_true, y_pred, weights):
    """Our loss and its gradient, by torch."""
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(y_pred, requires_grad=True)
    value = loss(torch.tensor(y_true), leaf, None if weights is None else torch.tensor(weights))
    value.sum().backward()
    return value.detach().numpy(), leaf.grad.numpy()


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name, config, y_true, y_pred", LOSSES, ids=named)
def test_loss_agrees_with_keras(name, config, y_true, y_pred, reduction, weighted, keras, close):
    import tensorflow as tf

    theirs = getattr(keras.losses, name)(**config, reduction=reduction, dtype="float64")
    mine = lh.losses.get({"class_name": name, "config": {**config, "reduction": reduction}})
    y, x = tf.constant(y_true), tf.constant(y_pred)
    values = lh.losses.get({"class_name": name, "config": {**config, "reduction": "none"}})(y_true, y_pred)
    weights = RNG.uniform(0.5, 2, size=values.shape) if weighted else None
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = tf.convert_to_tensor(theirs(y, x, sample_weight=weights))
    value, gradient = differentiated(mine, y_true, y_pred, weights)
    # Epsilon is a float32 number there.
    close(value, found.numpy(), "value", 1e-6)
    close(gradient, tf.convert_to_tensor(tape.gradient(found, x)).numpy(), "gradient", 1e-6)


@pytest.mark.parametrize("name", [
    "mse", "mae", "mape", "msle", "kld", "bce", "huber", "log_cosh", "hinge", "squared_hinge", "categorical_hinge",
    "kl_divergence", "poisson", "cosine_similarity", "binary_focal_crossentropy", "categorical_focal_crossentropy",
    "mean_squared_error", "dice", "tversky",
])  # fmt: skip
def test_names_that_keras_knows_mean_the_same(name, keras, close):
    theirs = keras.losses.get(name)(BINARY, PROBABILITIES)
    mine = lh.losses.get(name).replace(reduction="none")(BINARY, PROBABILITIES)
    close(mine, np.asarray(theirs), name, 1e-6)
    if hasattr(keras.losses, name):
        close(getattr(lh.losses, name)(BINARY, PROBABILITIES), np.asarray(theirs), name, 1e-6)


def test_names_that_only_keras_2_knew_are_there():
    assert lh.losses.get("cosine_proximity") == lh.losses.CosineSimilarity()
    assert lh.losses.get("kullback_leibler_divergence") == lh.losses.KLDivergence()
    assert lh.losses.get("logcosh") == lh.losses.LogCosh()


TORCH = {
    "Huber": lambda f, y, p: f.huber_loss(p, y),
    "KLDivergence": lambda f, y, p: f.kl_div(p.log(), y, reduction="none").sum(-1).mean(),
    "MeanAbsoluteError": lambda f, y, p: f.l1_loss(p, y),
    "Poisson": lambda f, y, p: f.poisson_nll_loss(p, y, log_input=False, eps=1e-7),
    "CosineSimilarity": lambda f, y, p: -f.cosine_similarity(p, y, dim=-1).mean(),
    "BinaryCrossentropy": lambda f, y, p: f.binary_cross_entropy(p, y),
}


@pytest.mark.parametrize("name", TORCH)
def test_loss_agrees_with_torch(name, close):
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(PROBABILITIES, requires_grad=True)
    theirs = TORCH[name](torch.nn.functional, torch.tensor(DISTRIBUTION), leaf)
    theirs.backward()
    value, gradient = differentiated(lh.losses.get(name), DISTRIBUTION, PROBABILITIES, None)
    close(value, theirs.detach().numpy(), "value")
    close(gradient, leaf.grad.numpy(), "gradient")


def test_log_cosh_keeps_its_digits_near_zero():
    away = np.array([[1e-8], [1e-3], [0.5], [30.0]])
    found = lh.losses.LogCosh(reduction="none")(np.zeros_like(away), away)
    np.testing.assert_allclose(found, [5e-17, 4.999999166666889e-07, 0.12011450695827751, 30 - np.log(2)], rtol=1e-14)


LABELS = np.array([[1, 2, 2, 0], [3, 0, 0, 0], [4, 1, 0, 0], [0, 0, 0, 0], [1, 4, 1, 2], [2, 2, 2, 0]])
LOGITS = RNG.normal(size=(6, 9, 5)) * 2


def test_ctc_agrees_with_keras(keras, close):
    import tensorflow as tf

    x = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = keras.losses.CTC(reduction="none", dtype="float64")(LABELS, x)
    value, gradient = differentiated(lh.losses.CTC(reduction="none"), LABELS, LOGITS, None)
    close(value, found.numpy(), "value", 1e-5)  # float32 inside
    close(gradient, tape.gradient(found, x).numpy(), "gradient", 1e-5)


@pytest.mark.parametrize("backend", ["torch", "tensorflow", "numpy"])
def test_ctc_agrees_with_torch(backend, close):
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(LOGITS, requires_grad=True)
    logs = torch.log_softmax(leaf, -1).permute(1, 0, 2)
    lengths = torch.full((6,), 9), torch.tensor((LABELS != 0).sum(1))
    theirs = torch.nn.functional.ctc_loss(logs, torch.tensor(LABELS), *lengths, reduction="none")
    theirs.sum().backward()
    loss, home = lh.losses.CTC(), lh.registry.registry().backend(backend)
    labels, logits = home.asarray(LABELS), home.asarray(LOGITS)
    _, values, (gradient,) = home.value_and_grad(lambda p: summed(home, loss, labels, p[0]), [logits])
    close(home.to_numpy(values), theirs.detach().numpy(), "value")
    close(home.to_numpy(gradient), leaf.grad.numpy(), "gradient")


def summed(home, loss, labels, logits):
    values = loss.define(home.recording_xp, labels, logits)
    return home.recording_xp.sum(values), values


def test_ctc_of_labels_that_do_not_fit_is_infinite_and_has_no_slope():
    value, gradient = differentiated(lh.losses.CTC(reduction="none"), LABELS[:2], LOGITS[:2, :3], None)
    assert value[0] == np.inf
    assert np.isfinite(value[1])
    assert np.all(gradient[0] == 0)
    for labels, words in (([1, 2, 2, 0], "need 4 steps, the predictions have 3"), ([1, 0, 2, 0], "0 in the middle"),
                          ([1, 7, 0, 0], "not all among the 5 classes")):  # fmt: skip
        with pytest.raises(lh.errors.DataError, match=words):
            lh.losses.CTC()(np.array([labels]), LOGITS[:1, :3])


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow"])
def test_ctc_trains_on_batches_of_any_size(backend):
    model = lh.Sequential([lh.Input((9, 3)), lh.layers.Dense(5)], backend=backend, seed=1)
    model.compile("adam", "ctc")
    history = model.fit(LOGITS[..., :3], LABELS, batch_size=4, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_a_mask_and_weights_say_what_counts():
    y, p = np.zeros((2, 3, 1)), np.arange(6.0).reshape(2, 3, 1)
    mask = np.array([[True, True, False], [True, False, False]])
    loss = lh.losses.MeanAbsoluteError()
    assert loss(y, p, mask=mask) == (0 + 1 + 3) / 3
    assert loss(y, p, sample_weight=np.array([1.0, 2.0]), mask=mask) == (0 + 1 + 2 * 3) / 3
    weighted = loss.replace(reduction="mean_with_sample_weight")
    assert weighted(y, p, sample_weight=np.array([1.0, 2.0]), mask=mask) == (0 + 1 + 2 * 3) / 4


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_a_loss_takes_the_arrays_of_any_backend_and_numbers(backend):
    found = lh.losses.MeanSquaredError()([[0.0, 2.0]], native(backend, [[1.0, 2.0]]))
    assert type(found).__module__.partition(".")[0] == backend
    assert float(found) == 0.5
    assert float(lh.losses.mean_squared_error([0.0, 2.0], [1.0, 2.0])) == 0.5


def native(backend, value):
    library = pytest.importorskip(backend)
    return library.tensor(value) if backend == "torch" else library.constant(value)


def test_half_precision_is_computed_in_float32():
    torch = pytest.importorskip("torch")
    y = torch.zeros(4096, 1, dtype=torch.float16)
    found = lh.losses.MeanSquaredError(reduction="sum")(y, y + 5)
    assert (found.dtype, float(found)) == (torch.float32, 4096 * 25.0)
    assert lh.losses.MeanSquaredError(dtype="float64")(y, y + 5).dtype == torch.float64


def test_targets_that_do_not_fit_are_refused():
    with pytest.raises(lh.errors.DataError, match="the target 4 is outside the 3 classes"):
        lh.losses.SparseCategoricalCrossentropy()(np.array([4]), np.ones((1, 3)))
    with pytest.raises(lh.errors.DataError, match=r"Circle.*one class for each row"):
        lh.losses.Circle()(np.zeros((2, 3), int), np.ones((2, 3)))
    with pytest.raises(lh.errors.ParameterError, match=r"q must be a number in \(0, 1\)"):
        lh.losses.CategoricalGeneralizedCrossEntropy(q=1.0)
