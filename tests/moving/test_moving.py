"""One model, many backends: the same training everywhere, moved at any time, side by side in one process."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import layerhub as lh

BACKENDS = ("numpy", "torch", "tensorflow", "jax")
RNG = np.random.default_rng(5)
X = RNG.normal(size=(60, 6, 6, 2))
Y = RNG.integers(0, 3, size=60)


def classifier(backend: str = "numpy", seed: int = 11, dtype: str = "float64") -> lh.Sequential:
    """A convolutional classifier with everything that has state: moving statistics, dropout, Adam."""
    layers = lh.layers
    model = lh.Sequential(
        [
            lh.Input((6, 6, 2), dtype=dtype),
            layers.Conv2D(4, 3, padding="same", activation="tanh", dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.MaxPooling2D(dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dropout(0.3, dtype=dtype),
            layers.Dense(3, activation="softmax", dtype=dtype),
        ],
        backend=backend,
        seed=seed,
    )
    model.compile(lh.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def losses(model: lh.Sequential, steps: int, start: int = 0) -> list[float]:
    """The loss of each of some training steps."""
    found = []
    for step in range(start, start + steps):
        rows = np.arange(step * 20, step * 20 + 20) % len(X)
        model.reset_metrics()
        found.append(model.train_on_batch(X[rows], Y[rows])[0])
    return found


def test_initial_weights_are_bitwise_the_same_on_every_backend():
    weights = [classifier(backend).get_weights() for backend in BACKENDS]
    for other in weights[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(weights[0], other, strict=True))


@pytest.mark.parametrize("alone", BACKENDS)
def test_a_model_moved_in_the_middle_of_training_continues_the_same_trajectory(alone):
    still = losses(classifier(alone), 50)
    moved = classifier("numpy")
    curve = losses(moved, 17)
    curve += losses(moved.to("torch"), 17, 17)
    curve += losses(moved.to("tensorflow"), 8, 34)
    curve += losses(moved.to("jax"), 8, 42)
    # The figure that the project promises; both curves are sums of some hundred rounded operations a step.
    assert np.max(np.abs(np.array(curve) / np.array(still) - 1)) < 1e-9


def test_a_callback_may_move_the_model_in_the_middle_of_fit():
    still, moved = classifier("numpy"), classifier("numpy")

    class Mover(lh.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.to(BACKENDS[batch % len(BACKENDS)])

    a = still.fit(X, Y, batch_size=10, epochs=2, verbose=0, validation_split=0.2)
    b = moved.fit(X, Y, batch_size=10, epochs=2, verbose=0, validation_split=0.2, callbacks=[Mover()])
    assert a.history.keys() == b.history.keys()
    for name, values in a.history.items():
        assert np.max(np.abs(np.array(values) - b.history[name])) < 1e-9


def test_predictions_move_with_the_weights():
    model = classifier()
    model.fit(X, Y, epochs=1, verbose=0)
    first = model.predict(X)
    for backend in BACKENDS[1:]:
        assert np.max(np.abs(model.to(backend).predict(X) - first)) < 1e-12
    assert model.backend == BACKENDS[-1]


def test_two_models_on_two_backends_alternate_in_one_process():
    one, two = classifier("torch"), classifier("tensorflow")
    curves = ([], [])
    for step in range(6):
        curves[0].extend(losses(one, 1, step))
        curves[1].extend(losses(two, 1, step))
    assert np.max(np.abs(np.array(curves[0]) / np.array(curves[1]) - 1)) < 1e-9


def test_models_on_all_backends_train_in_threads_at_once():
    wanted = losses(classifier("numpy"), 8)
    found: dict[str, list[float]] = {}

    def train(backend: str) -> None:
        found[backend] = losses(classifier(backend), 8)

    threads = [threading.Thread(target=train, args=(backend,)) for backend in BACKENDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for backend in BACKENDS:
        assert np.max(np.abs(np.array(found[backend]) / np.array(wanted) - 1)) < 1e-9


def test_layers_shared_by_two_models_are_shared_across_moves():
    x = lh.Input((4,))
    encoder = lh.layers.Dense(3, activation="tanh")
    small = lh.Model(x, encoder(x), backend="numpy")
    whole = lh.Model(x, lh.layers.Dense(4)(encoder(x)), backend="torch")
    whole.compile("sgd", "mse")
    data = np.ones((8, 4), dtype="float32")
    before = small.predict(data)
    whole.fit(data, data, epochs=2, verbose=0)
    after = small.predict(data)
    assert not np.array_equal(before, after)
    assert np.array_equal(small.get_weights()[0], whole.get_weights()[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_backend_is_chosen_by_scope_environment_and_argument(backend, monkeypatch):
    layers = [lh.Input((2,)), lh.layers.Dense(1)]
    monkeypatch.setenv("LAYERHUB_BACKEND", backend)
    assert lh.Sequential(layers).backend == backend
    with lh.backend("numpy"):
        assert lh.Sequential([lh.Input((2,)), lh.layers.Dense(1)]).backend == "numpy"
        assert lh.Sequential([lh.Input((2,)), lh.layers.Dense(1)], backend=backend).backend == backend
    model = lh.Sequential([lh.Input((2,)), lh.layers.Dense(1)], backend="numpy")
    model.compile("sgd", "mse", backend=backend)
    assert model.backend == backend


def test_a_layer_called_on_a_torch_tensor_is_differentiable_there():
    torch = pytest.importorskip("torch")
    layer = lh.layers.Dense(3, activation="tanh")
    x = torch.ones((2, 4), requires_grad=True)
    y = layer(x)
    assert isinstance(y, torch.Tensor)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == (2, 4)
    kernel = layer.weights[0].at(lh.registry.registry().backend("torch"), "cpu")
    assert kernel.grad is not None and float(kernel.grad.abs().sum()) > 0


def test_a_layer_called_on_a_tensorflow_tensor_is_differentiable_there():
    tf = pytest.importorskip("tensorflow")
    layer = lh.layers.Dense(3, activation="tanh")
    x = tf.ones((2, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert tf.is_tensor(y)
    variables = [v.at(lh.registry.registry().backend("tensorflow"), "cpu") for v in layer.weights]
    for gradient in tape.gradient(y, [x, *variables]):
        assert float(tf.reduce_sum(tf.abs(gradient))) > 0


def test_a_native_torch_module_trains_in_a_plain_torch_loop():
    torch = pytest.importorskip("torch")
    model = classifier("torch", dtype="float32")
    module = model.native.train()
    assert isinstance(module, torch.nn.Module) and len(list(module.parameters())) == 6
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = model.get_weights()
    for _ in range(3):
        optimizer.zero_grad()
        probabilities = module(torch.tensor(X, dtype=torch.float32))
        loss = torch.nn.functional.nll_loss(torch.log(probabilities), torch.tensor(Y))
        loss.backward()
        optimizer.step()
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_native_tensorflow_module_trains_under_a_gradient_tape():
    tf = pytest.importorskip("tensorflow")
    model = classifier("tensorflow", dtype="float32")
    module = model.native
    assert isinstance(module, tf.Module) and len(module.trainable_variables) == 6
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(-tf.math.log(module(tf.constant(X, tf.float32), training=True)[:, 0]))
    gradients = tape.gradient(loss, module.trainable_variables)
    assert all(g is not None for g in gradients)
