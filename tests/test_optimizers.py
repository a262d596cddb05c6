"""Optimizers on every backend: equal curves, accumulation, moving averages, scaled losses, moves in the middle."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import ParameterError
from layerhub.optimizers import schedules

BACKENDS = ("numpy", "torch", "tensorflow", "jax")
RNG = np.random.default_rng(23)
X, Y = RNG.normal(size=(48, 4)), RNG.normal(size=(48, 2))
NEAR = 1e-9
"""Relative, after dozens of float64 steps in which backends add up in orders of their own."""

OPTIMIZERS = {
    "SGD": lambda: lh.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSprop": lambda: lh.optimizers.RMSprop(0.01, centered=True),
    "Adam": lambda: lh.optimizers.Adam(0.02, amsgrad=True, clipnorm=0.5),
    "AdamW": lambda: lh.optimizers.AdamW(0.02),
    "Adagrad": lambda: lh.optimizers.Adagrad(0.1),
    "Adadelta": lambda: lh.optimizers.Adadelta(1.0),
    "Adamax": lambda: lh.optimizers.Adamax(0.02, weight_decay=0.1),
    "Nadam": lambda: lh.optimizers.Nadam(0.02),
    "Ftrl": lambda: lh.optimizers.Ftrl(0.1, l1_regularization_strength=0.001, beta=0.1),
    "Lion": lambda: lh.optimizers.Lion(0.003),
    "Lamb": lambda: lh.optimizers.Lamb(0.02, weight_decay=0.1),
    "Adafactor": lambda: lh.optimizers.Adafactor(0.05),
    "Muon": lambda: lh.optimizers.Muon(0.02, exclude_layers=["head"]),
    "ScheduleFreeAdamW": lambda: lh.optimizers.ScheduleFreeAdamW(0.02, warmup_steps=5, weight_decay=0.1),
    "averaged": lambda: lh.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3),
    "accumulating": lambda: lh.optimizers.Nadam(0.02, gradient_accumulation_steps=3, global_clipnorm=0.1),
    "both": lambda: lh.optimizers.Lamb(0.02, gradient_accumulation_steps=2, use_ema=True, ema_overwrite_frequency=2),
    "scheduled": lambda: lh.optimizers.AdamW(schedules.CosineDecayRestarts(0.05, 7)),
    "scaled": lambda: lh.optimizers.SGD(0.1, momentum=0.5, loss_scale_factor=1000.0),
    "LossScaleOptimizer": lambda: lh.optimizers.LossScaleOptimizer(
        lh.optimizers.Adam(0.02, gradient_accumulation_steps=2), 2.0**1022, dynamic_growth_steps=5
    ),
    "MultiOptimizer": lambda: lh.optimizers.MultiOptimizer(
        lh.optimizers.OptimizerMap(
            lh.optimizers.Muon(0.02, use_ema=True, clipnorm=0.1),
            {".*/bias": lh.optimizers.SGD(0.1, gradient_accumulation_steps=2)},
        )
    ),
}
EVERY = pytest.mark.parametrize("name", list(OPTIMIZERS))
EVERYWHERE = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def double_precision(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "floatx", "float64")


def small(optimizer, backend="numpy", seed=3):
    """Matrices and vectors, and what training moves by itself: moving statistics."""
    layers = lh.layers
    model = lh.Sequential(
        [
            lh.Input((4,)),
            layers.Dense(6, activation="tanh", name="body"),
            layers.Reshape((3, 2)),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(2, name="head"),
        ],
        backend=backend,
        seed=seed,
    )
    model.compile(optimizer, "mse")
    return model


def curve(model, steps=20, start=0, size=8):
    found = []
    for step in range(start, start + steps):
        rows = np.arange(step * size, (step + 1) * size) % len(X)
        model.reset_metrics()
        found.append(model.train_on_batch(X[rows], Y[rows]))
    return found


def all_near(a, b, near=NEAR):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=near, atol=near)


# --------------------------------------------------------------------------------------------- everywhere alike


def test_every_optimizer_is_tried_here():
    assert set(lh.spec.KINDS["optimizer"]) <= set(OPTIMIZERS)


@EVERY
def test_every_backend_trains_along_the_same_curve_and_so_does_a_model_that_moves(name):
    models = [small(OPTIMIZERS[name](), backend) for backend in BACKENDS]
    curves = [curve(model) for model in models]
    traveller = small(OPTIMIZERS[name]())
    travelled = []
    for step in range(20):
        travelled += curve(traveller.to(BACKENDS[step // 5]), 1, step)
    for other in (*curves[1:], travelled):
        all_near(curves[0], other)
    for model in (*models[1:], traveller):
        all_near(models[0].get_weights(), model.get_weights())


@EVERY
def test_a_configuration_survives_json_and_trains_alike(name):
    written = json.loads(json.dumps(lh.optimizers.serialize(OPTIMIZERS[name]())))
    assert curve(small(written), 7) == curve(small(OPTIMIZERS[name]()), 7)


@EVERYWHERE
@pytest.mark.parametrize("name", ["Adafactor", "Muon", "ScheduleFreeAdamW", "both", "MultiOptimizer"])
def test_weights_that_are_frozen_for_a_while_keep_their_slots(name, backend):
    still, model = small(OPTIMIZERS[name](), backend), small(OPTIMIZERS[name](), backend)
    layer = model.layers[-1]
    for m in (still, model):
        curve(m, 6)
    before = model.executor.held_slots()
    kernel = layer.weights[0]
    layer.trainable = False
    curve(model, 3, 6)
    model.to(BACKENDS[(BACKENDS.index(backend) + 1) % len(BACKENDS)])
    curve(model, 3, 9)
    layer.trainable = True
    model._ready()
    after = model.executor.held_slots()
    assert len(after) == len(before)
    all_near(after[kernel], before[kernel], 0)


def test_a_model_that_moves_while_all_of_it_is_frozen_keeps_its_slots():
    still, model = (gathering(lh.optimizers.Adam(0.1), "numpy") for _ in range(2))
    for m in (still, model):
        curve(m, 3)
    model.trainable = False
    model.evaluate(X, Y, verbose=0)
    model.to("torch")
    model.trainable = True
    all_near(curve(model, 3, 3), curve(still, 3, 3))


# --------------------------------------------------------------------------------------------- accumulation


def gathering(optimizer, backend):
    """A model without what looks at a whole batch."""
    layers = [lh.Input((4,)), lh.layers.Dense(5, activation="tanh"), lh.layers.Dense(2)]
    model = lh.Sequential(layers, backend=backend, seed=3)
    model.compile(optimizer, "mse")
    return model


@EVERYWHERE
@pytest.mark.parametrize(
    "kind, config",
    [
        ("SGD", {"momentum": 0.9, "clipnorm": 0.01}),
        ("Adam", {"weight_decay": 0.1}),
        ("Nadam", {"global_clipnorm": 0.01}),
        ("Lamb", {"clipvalue": 0.01}),
        ("Muon", {}),
        ("AdamW", {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}),
    ],
    ids=str,
)
def test_accumulating_over_k_batches_is_training_on_batches_of_k_times_the_size(kind, config, backend):
    make = getattr(lh.optimizers, kind)
    one = gathering(make(0.02, **config, gradient_accumulation_steps=3), backend)
    other = gathering(make(0.02, **config), backend)
    for step in range(8):
        curve(one, 3, 3 * step, size=4)
        curve(other, 1, step, size=12)
        all_near(one.get_weights(), other.get_weights())


@EVERYWHERE
def test_weights_stand_still_while_gradients_are_gathered(backend):
    model = gathering(lh.optimizers.Adam(0.1, weight_decay=0.1, gradient_accumulation_steps=4), backend)
    start = model.get_weights()
    curve(model, 3)
    all_near(model.get_weights(), start, 0)
    curve(model, 1, 3)
    assert all(np.all(a != b) for a, b in zip(model.get_weights(), start, strict=True))


@pytest.mark.parametrize(
    "route", [("numpy", "torch"), ("torch", "tensorflow"), ("tensorflow", "jax"), ("jax", "numpy")], ids=str
)
def test_a_model_moves_in_the_middle_of_an_accumulation(route):
    make = lambda: lh.optimizers.Adam(0.05, gradient_accumulation_steps=4, use_ema=True)
    still, model = small(make(), route[0]), small(make(), route[0])
    expected = curve(still, 16)
    assert all(np.any(row[-1]) for row in (curve(model, 6), model.executor.host_slots())[1])
    model.to(route[1])
    curve(model, 10, 6)
    all_near(model.get_weights(), still.get_weights())
    assert len(expected) == 16


# --------------------------------------------------------------------------------------------- moving averages


@EVERYWHERE
def test_moving_averages_begin_with_the_first_update_and_replace_the_weights_at_the_end_of_fit(backend):
    model = gathering(lh.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75), backend)
    plain = gathering(lh.optimizers.SGD(0.1), backend)
    average = None
    for step in range(6):
        rows = slice(8 * step, 8 * step + 8)
        plain.train_on_batch(X[rows], Y[rows])
        now = plain.get_weights()
        average = now if average is None else [0.75 * a + 0.25 * w for a, w in zip(average, now, strict=True)]
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    all_near(model.get_weights(), average)


@EVERYWHERE
def test_moving_averages_may_replace_the_weights_now_and_then(backend):
    model = gathering(lh.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=2), backend)
    for step in range(4):
        curve(model, 1, step)
        weights = model.get_weights()
        averages = [average for _, average in model.executor.averages()]
        equal = [np.array_equal(a, b) for a, b in zip(weights, averages, strict=True)]
        # The first average is the weight itself.
        assert all(equal) if step in (0, 1, 3) else not any(equal)


@EVERYWHERE
def test_weights_and_their_averages_can_be_exchanged_and_back(backend):
    model, still = (gathering(lh.optimizers.Adam(0.1, use_ema=True), backend) for _ in range(2))
    curve(model, 5)
    curve(still, 5)
    weights, averages = model.get_weights(), [a for _, a in model.executor.averages()]
    model.executor.swap_averages()
    all_near(model.get_weights(), averages, 0)
    all_near([a for _, a in model.executor.averages()], weights, 0)
    model.executor.swap_averages()
    assert curve(model, 3, 5) == curve(still, 3, 5)


# --------------------------------------------------------------------------------------------- scaled losses


@EVERYWHERE
def test_the_scale_of_the_loss_shows_neither_in_logs_nor_in_weights(backend):
    scaled = gathering(lh.optimizers.SGD(0.1, momentum=0.5, loss_scale_factor=2.0**20), backend)
    plain = gathering(lh.optimizers.SGD(0.1, momentum=0.5), backend)
    assert curve(scaled) == curve(plain)
    all_near(scaled.get_weights(), plain.get_weights(), 0)


@EVERYWHERE
def test_a_step_with_gradients_that_are_not_finite_is_skipped_and_halves_the_scale(backend):
    inner = lh.optimizers.Adam(0.1)
    model = gathering(lh.optimizers.LossScaleOptimizer(inner, 1024.0, dynamic_growth_steps=3), backend)
    plain = gathering(lh.optimizers.Adam(0.1), backend)

    def scale():
        model.executor.settle()
        return model.executor.scaling.scale, model.executor.scaling.run

    good, bad = (X[:8], Y[:8]), (X[:8], np.where(np.arange(8)[:, None] == 3, np.inf, Y[:8]))
    told = []
    for batch in (good, bad, good, good, good, bad, bad, good):
        before = model.get_weights()
        model.train_on_batch(*batch)
        told.append(scale())
        if batch is bad:
            all_near(model.get_weights(), before, 0)
        else:
            plain.train_on_batch(*batch)
            # Bias corrections count the steps that were taken.
            all_near(model.get_weights(), plain.get_weights())
    assert told == [(1024, 1), (512, 0), (512, 1), (512, 2), (1024, 0), (512, 0), (256, 0), (256, 1)]


@EVERYWHERE
def test_training_recovers_from_a_scale_that_is_too_large_for_the_type(backend):
    layers = [lh.Input((4,), dtype="float32"), lh.layers.Dense(2, dtype="float32")]
    model = lh.Sequential(layers, backend=backend, seed=3)
    model.compile(lh.optimizers.LossScaleOptimizer(lh.optimizers.SGD(0.1), 2.0**140), "mse")
    losses = curve(model, 40)
    model.executor.settle()
    assert model.executor.scaling.scale < 2.0**128
    assert 0 < model.executor.scaling.skipped < 30
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_the_scale_moves_with_the_model():
    optimizer = lh.optimizers.LossScaleOptimizer("sgd", 2.0**1023, 2)
    model = gathering(optimizer, "tensorflow")
    for _ in range(5):
        model.train_on_batch(X[:8], Y[:8] + 10)
    told = []
    for backend in BACKENDS:
        model.to(backend)
        scaling = model.executor.scaling
        told.append((scaling.scale, scaling.run, scaling.skipped))
    assert len(set(told)) == 1 and told[0][2] > 0


# --------------------------------------------------------------------------------------------- which weights


@EVERYWHERE
def test_weights_may_be_excluded_from_decay_by_name_and_one_by_one(backend):
    optimizer = lh.optimizers.SGD(0.0625, weight_decay=0.5)
    model = gathering(optimizer, backend)
    chosen = model.weights[2]
    optimizer.exclude_from_weight_decay([chosen], ["bias"])
    model.compile(optimizer, lambda y_true, y_pred: y_pred * 0)
    for weight in model.weights:
        weight.assign(np.ones(weight.shape))
    model.train_on_batch(X[:8], Y[:8])
    assert [float(w.numpy().flat[0]) for w in model.weights] == [1 - 0.5 * 0.0625, 1.0, 1.0, 1.0]
    optimizer.learning_rate = 0.125  # that of the weights without decay follows
    assert optimizer._without_decay.rate(1) == 0.125


def test_muon_leaves_what_is_no_matrix_of_a_hidden_layer_to_adam():
    layers = [lh.layers.Embedding(5, 3), lh.layers.Conv1D(4, 2), lh.layers.Flatten(), lh.layers.Dense(6, name="body")]
    model = lh.Sequential([lh.Input((4,), dtype="int32"), *layers, lh.layers.Dense(2, name="head")])
    muon = lh.optimizers.Muon(0.5, exclude_layers=["head"], adam_lr_ratio=0.25, adam_weight_decay=0.125)
    rules = {weight.path: muon.rule_for(weight) for weight in model.weights}
    assert [path for path, chosen in rules.items() if chosen is muon] == ["body/kernel"]
    (adam,) = {chosen for chosen in rules.values() if chosen is not muon}
    assert type(adam) is lh.optimizers.AdamW and adam.rate(1) == 0.125
    assert adam.weight_decay * adam.rate(1) == 0.125 * 0.5
    assert lh.optimizers.Muon(exclude_embeddings=False).rule_for(model.weights[0]).slots == ("momentum",)


def test_a_map_of_optimizers_goes_by_whole_paths_and_says_what_is_wrong():
    sgd, adam = lh.optimizers.SGD(), lh.optimizers.Adam()
    chosen = lh.optimizers.OptimizerMap(sgd, {"a/.*": adam})
    assert chosen["a/kernel"] is adam and chosen["ba/kernel"] is sgd
    chosen["a/kernel"] = sgd
    assert chosen["a/kernel"] is sgd and list(chosen) == ["a/.*", "a/kernel"]
    with pytest.raises(ParameterError, match=r"'a/\.\*' has an optimizer already"):
        chosen["a/.*"] = sgd
    chosen[".*/bias"] = sgd
    with pytest.raises(ParameterError, match="'a/bias' is matched by several patterns"):
        chosen["a/bias"]
    for wrong in (lh.optimizers.LossScaleOptimizer("sgd"), 3):
        with pytest.raises(ParameterError, match="one without others inside"):
            lh.optimizers.OptimizerMap(wrong)
    assert lh.optimizers.MultiOptimizer(chosen).optimizers == [adam, sgd]


def test_a_function_may_choose_the_optimizer_of_each_weight():
    made = []

    def choose(weight):
        made.append(lh.optimizers.SGD(0.1 if weight.path.endswith("kernel") else 0.0))
        return made[-1]

    optimizer = lh.optimizers.MultiOptimizer(choose)
    model = gathering(optimizer, "numpy")
    before = model.get_weights()
    curve(model, 2)
    model.to("torch")
    curve(model, 2)
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert moved == [True, False, True, False]
    assert optimizer.optimizers == made and len(made) == 4
    with pytest.raises(ParameterError, match="optimizer_map must give an optimizer without others inside for"):
        curve(gathering(lh.optimizers.MultiOptimizer(lambda weight: "sgd"), "numpy"), 1)


# --------------------------------------------------------------------------------------------- learning rates


@EVERYWHERE
def test_a_learning_rate_may_be_a_schedule_a_function_or_be_set(backend):
    def steps(optimizer, before_each=lambda step: None):
        model = gathering(optimizer, backend)
        model.compile(optimizer, lambda y_true, y_pred: y_pred)
        found = []
        for step in range(4):
            before_each(step)
            old = model.get_weights()[-1]
            model.train_on_batch(X[:8], Y[:8])
            found.append(float((old - model.get_weights()[-1])[0]) / 0.5)  # the gradient: 1 of 2 outputs
        return found

    rates = [0.5, 0.25, 0.25, 0.125]
    schedule = schedules.PiecewiseConstantDecay([0, 2], [0.5, 0.25, 0.125])
    assert steps(lh.optimizers.SGD(schedule)) == pytest.approx(rates)
    assert steps(lh.optimizers.SGD(lh.optimizers.schedules.serialize(schedule))) == pytest.approx(rates)
    left = iter(rates)
    assert steps(lh.optimizers.SGD(lambda: next(left))) == pytest.approx(rates)
    optimizer = lh.optimizers.SGD(9.0)
    assert steps(optimizer, lambda step: setattr(optimizer, "learning_rate", rates[step])) == pytest.approx(rates)
    around = lh.optimizers.LossScaleOptimizer(optimizer)
    assert steps(around, lambda step: setattr(around, "learning_rate", rates[step])) == pytest.approx(rates)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: schedules.CosineDecay(0.1, 0), "decay_steps must be a positive int or a positive number, not 0"),
        (lambda: schedules.CosineDecayRestarts(0.1, 5, 0.5), "t_mul must be a number, 1 or more, not 0.5"),
        (lambda: schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2]), "one value more than boundaries"),
        (lambda: schedules.PiecewiseConstantDecay([2, 1], [0.1, 0.2, 0.3]), "boundaries rise"),
        (lambda: lh.optimizers.SGD("fast"), "SGD: learning_rate must be a number, 0 or more, a schedule, or a fun"),
        (lambda: lh.optimizers.SGD(0.1, gradient_accumulation_steps=1), "must be an int, 2 or more or None, not 1"),
        (lambda: lh.optimizers.SGD(0.1, ema_momentum=1.5), r"ema_momentum must be a number in \[0, 1\], not 1.5"),
        (lambda: lh.optimizers.Lion(beta_1=0), "Lion: beta_1 must be a number above 0, at most 1, not 0"),
        (lambda: lh.optimizers.Ftrl(learning_rate_power=1), "learning_rate_power must be a number, 0 or less, not 1"),
        (lambda: lh.optimizers.LossScaleOptimizer("sdg"), "no optimizer is called 'sdg'"),
        (lambda: lh.optimizers.Muon(exclude_layers="head"), "exclude_layers must be a list of regular expressions"),
        (lambda: lh.optimizers.MultiOptimizer("adam"), "optimizer_map must be an OptimizerMap, or a function"),
    ],
)
def test_what_is_wrong_is_told(make, said):
    with pytest.raises(ParameterError, match=said):
        make()


def test_cosine_decays_restart_exactly_where_they_should():
    for first, growth in ((10, 2.0), (7, 3.0), (5, 1.5), (3, 1.0)):
        schedule = schedules.CosineDecayRestarts(1.0, first, growth)
        begin = 0.0
        for k in range(12):
            assert schedule(begin) == 1.0
            assert schedule(begin + first * growth**k * (1 - 1e-9)) == pytest.approx(0.0, abs=1e-9)
            begin += first * growth**k


def test_a_schedule_of_ones_own_is_asked_with_the_number_of_batches_so_far():
    asked = []

    class Mine(schedules.LearningRateSchedule):
        start: float = 0.5

        def __call__(self, step):
            asked.append(step)
            return self.start / (1 + step)

    curve(gathering(lh.optimizers.SGD(Mine()), "numpy"), 3)
    assert asked == [0, 1, 2]
    assert math.isclose(Mine(0.25)(1), 0.125)
