"""Metrics beside Keras's: over two batches with weights, in float64; and how they are used alone."""

import gc

import numpy as np
import pytest
from layerhub_conformance.training import METRICS, metric_case, said

import layerhub as lh


def options(spec):
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in spec["config"].items()}
    return config | {"dtype": "float64"}


def case(spec):
    marks = []
    if spec["class_name"] == "OneHotMeanIoU" and "axis" in spec["config"]:
        marks = [pytest.mark.xfail(strict=True, reason="Keras 3.15.1 sums the shares of classes along axis, too")]
    return pytest.param(spec, id=said(spec), marks=marks)


@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "plain"])
@pytest.mark.parametrize("spec", [case(spec) for spec in METRICS])
def test_metric_agrees_with_keras(spec, weighted, keras, close):
    name = spec["class_name"]
    theirs = getattr(keras.metrics, name)(**options(spec))
    mine, batches = metric_case(spec, "float64")

    def update(y_true, y_pred, *weights):
        mine.update_state(*(() if name in ("Mean", "Sum") else (y_true,)), y_pred, *weights)
        if "TopK" in name:  # tensorflow has it in float32 only
            y_pred = y_pred.astype("float32")
        if "IoU" in name:  # Keras wants a weight for each place
            places = y_true.shape if np.ndim(y_true) < np.ndim(y_pred) or "OneHot" not in name else y_true.shape[:-1]
            weights = tuple(np.repeat(w, np.prod(places[1:], dtype=int)).reshape(places) for w in weights)
        theirs.update_state(*(() if name in ("Mean", "Sum") else (y_true,)), y_pred, *weights)

    for y_true, y_pred, weights in batches:
        update(y_true, y_pred, *((weights,) if weighted else ()))
    # Epsilon and thresholds are float32 numbers there.
    close(mine.result(), np.asarray(theirs.result()), "result", 1e-6)
    mine.reset_state()
    theirs.reset_state()
    update(*batches[1][:2])
    close(mine.result(), np.asarray(theirs.result()), "result after a reset", 1e-6)


@pytest.mark.parametrize("spec", METRICS, ids=said)
def test_a_configuration_of_keras_makes_the_same_metric(spec, keras):
    theirs = getattr(keras.metrics, spec["class_name"])(**options(spec))
    mine = lh.metrics.get({"class_name": spec["class_name"], "config": theirs.get_config()})
    wanted = metric_case(spec, "float64")[0]
    if spec["class_name"] == "AUC":
        assert mine.limits() == pytest.approx(wanted.limits(), abs=1e-12)
    elif spec["class_name"] != "CosineSimilarity":  # whose configuration lacks the axis
        assert mine.replace(name=None, dtype=None) == wanted
    assert mine.label.rpartition("_")[0] == theirs.name.rpartition("_")[0]


@pytest.mark.parametrize(
    "name", ["mse", "mae", "mape", "msle", "bce", "cosine_similarity", "AUC", "F1Score", "MeanIoU"]
)
def test_names_that_keras_knows_are_known(name):
    try:
        assert lh.metrics.get(name)
    except lh.errors.ParameterError as problem:
        assert "num_classes is missing" in str(problem)


def test_names_in_lower_case_are_functions(keras, close):
    y, p = np.eye(3), np.array([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]])
    for name in ("mean_squared_error", "binary_accuracy", "categorical_accuracy", "kl_divergence"):
        close(getattr(lh.metrics, name)(y, p), np.asarray(getattr(keras.metrics, name)(y, p)), name, 1e-6)


def test_equal_metrics_have_states_of_their_own():
    one, two = lh.metrics.Mean(), lh.metrics.Mean()
    one.update_state([1.0, 3.0])
    two.update_state([5.0], sample_weight=[2.0])
    assert one == two
    assert (float(one.result()), float(two.result())) == (2.0, 5.0)
    assert float(one([8.0])) == 4.0
    one.reset_state()
    assert (float(one.result()), float(lh.metrics.Mean().result())) == (0.0, 0.0)


def test_a_state_goes_when_its_metric_goes():
    held = lh.metrics.Metric.runtime.held
    metric = lh.metrics.Sum()
    metric.update_state([1.0])
    assert id(metric) in held
    number = id(metric)
    del metric
    gc.collect()
    assert number not in held


def test_a_metric_takes_the_arrays_of_any_backend_one_after_the_other():
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    metric = lh.metrics.BinaryAccuracy()
    metric.update_state(torch.tensor([[1.0]]), torch.tensor([[0.9]]))
    assert isinstance(metric.result(), torch.Tensor)
    metric.update_state(tf.constant([[1.0]]), tf.constant([[0.2]]))
    assert isinstance(metric.result(), tf.Tensor)
    metric.update_state([[0.0]], [[0.2]])
    assert float(metric.result()) == pytest.approx(2 / 3)


def test_half_precision_is_gathered_in_float32():
    torch = pytest.importorskip("torch")
    metric = lh.metrics.Mean()
    for _ in range(4):
        metric.update_state(torch.ones(1000, dtype=torch.bfloat16))
    assert float(metric.result()) == 1.0
    assert metric.result().dtype == torch.float32


def test_a_wrapper_averages_a_function_of_whatever_arguments():
    metric = lh.metrics.MeanMetricWrapper(lambda y, p, power: lh.ops.abs(p - y) ** power, power=2.0, name="mine")
    metric.update_state(np.zeros((2, 2)), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert (metric.label, float(metric.result())) == ("mine", 7.5)
    of_loss = lh.metrics.MeanMetricWrapper(lh.losses.MeanSquaredError())
    of_loss.update_state(np.zeros((2, 2)), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert float(of_loss.result()) == 7.5


def test_digits_do_not_cancel_in_an_explained_variance_far_from_zero():
    y = np.array([[1e8], [1e8 + 1], [1e8 + 2], [1e8 + 3]])
    metric = lh.metrics.R2Score()
    for half in (slice(0, 2), slice(2, 4)):
        metric.update_state(y[half], y[half] + 0.5)
    assert float(metric.result()) == pytest.approx(0.8, rel=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow"])
def test_metrics_whose_state_has_the_shape_of_predictions_train_along(backend):
    x, y = np.random.default_rng(0).normal(size=(20, 5)).astype("float32"), np.eye(3)[np.arange(20) % 3]
    model = lh.Sequential([lh.Input((5,)), lh.layers.Dense(3, activation="softmax")], backend=backend, seed=1)
    watched = [
        lh.metrics.F1Score(average="macro"), lh.metrics.R2Score(), lh.metrics.AUC(multi_label=True),
        lh.metrics.Precision(top_k=2), "AUC", "kld", lh.metrics.MeanIoU(3, sparse_y_true=False, sparse_y_pred=False),
    ]  # fmt: skip
    model.compile("sgd", "categorical_crossentropy", metrics=watched)
    model.fit(x, y, epochs=2, batch_size=8, verbose=0)
    logs = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    p = model.predict(x)
    for metric in watched:
        metric = lh.metrics.get(metric)
        metric.update_state(y, p)
        name = "kld" if metric.label == "kl_divergence" else metric.label
        name = "AUC" if name == "auc" and not metric.multi_label else name
        assert logs[name] == pytest.approx(float(metric.result()), rel=1e-5), name


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_half_precision_predictions_train_with_losses_and_metrics_in_float32(backend):
    x, y = np.random.default_rng(0).normal(size=(300, 5)), np.arange(300)[:, None] % 2
    layer = lh.layers.Dense(1, activation="sigmoid", dtype="bfloat16", kernel_regularizer="l2")
    model = lh.Sequential([lh.Input((5,)), layer], backend=backend, seed=1)
    model.compile("sgd", "binary_crossentropy", metrics=["mse", "AUC"])
    model.fit(x, y, epochs=1, verbose=0)
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    p = model.predict(x).astype("float32")
    assert logs["mse"] == pytest.approx(float(np.mean((p - y) ** 2)), rel=1e-5)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(lh.errors.ParameterError, match=r"thresholds must be a number in \[0, 1\], or several"):
        lh.metrics.Precision(thresholds=[0.5, 2])
    with pytest.raises(lh.errors.ParameterError, match="c1 target classes are among all"):
        lh.metrics.IoU(2, [2])
    with pytest.raises(lh.errors.DataError, match=r"F1Score.*a row with one for each class"):
        lh.metrics.F1Score().update_state(np.ones(3), np.ones(3))
    with pytest.raises(lh.errors.DataError, match="the target 3 is outside"):
        lh.metrics.SparseCategoricalCrossentropy().update_state([3], [[0.1, 0.9]])
