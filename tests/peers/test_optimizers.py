"""Optimizers and learning-rate schedules beside Keras's and PyTorch's, over 50 steps in float64."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh

STEPS = 50
NEAR = 1e-10
ROUNDED = {"Nadam": 1e-7}
"""Keras brings a constant of Nadam into double precision by way of float32, PyTorch the product of its momenta."""
ALIASED = pytest.mark.xfail(
    strict=True, reason="Keras's momentum_old is the variable itself, which has moved by the time it is read"
)
RNG = np.random.default_rng(17)
SHAPES = [(4, 2), (2, 4), (4, 4)]
START = {shape: [RNG.normal(size=shape), RNG.normal(size=shape[1])] for shape in SHAPES}
TARGETS = {shape: RNG.normal(size=(STEPS, *shape)) * 10 ** RNG.uniform(-2, 1, size=(STEPS, 1, 1)) for shape in SHAPES}

# Powers of two and the like: Keras on tensorflow rounds Python's numbers to float32 on their way into float64.
B1, B2, EPSILON, RATE = 0.875, 1 - 2**-10, 2**-20, 2**-5
CASES = [
    ("SGD", {"learning_rate": RATE, "momentum": 0.875, "nesterov": True, "weight_decay": 2**-4}),
    ("RMSprop", {"learning_rate": RATE, "rho": 0.875, "centered": True, "momentum": 0.5, "epsilon": EPSILON}),
    ("Adam", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON, "amsgrad": True}),
    ("AdamW", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON, "weight_decay": 2**-4}),
    ("Adagrad", {"learning_rate": RATE, "initial_accumulator_value": 0.125, "epsilon": EPSILON}),
    ("Adagrad", {"learning_rate": 0.5, "initial_accumulator_value": 0.0, "epsilon": 0.5, "weight_decay": 2**-4}),
    ("Adadelta", {"learning_rate": 1.0, "rho": 0.9375, "epsilon": EPSILON}),
    ("Adadelta", {"learning_rate": 0.5, "rho": 0.5, "epsilon": 2**-4, "clipnorm": 0.25}),
    ("Adamax", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON}),
    ("Adamax", {"learning_rate": RATE, "beta_1": 0.5, "beta_2": 0.5, "epsilon": 2**-4, "weight_decay": 2**-4}),
    ("Nadam", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON}),
    ("Nadam", {"learning_rate": RATE, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 2**-4, "weight_decay": 2**-4}),
    ("Ftrl", {"learning_rate": RATE, "initial_accumulator_value": 0.125}),
    (
        "Ftrl",
        {
            "learning_rate": 0.5, "learning_rate_power": -0.75, "initial_accumulator_value": 0.5, "beta": 0.25,
            "l1_regularization_strength": 2**-4, "l2_regularization_strength": 2**-5,
            "l2_shrinkage_regularization_strength": 2**-6,
        },
    ),
    ("Lion", {"learning_rate": RATE, "beta_1": B1, "beta_2": 1 - 2**-7}),
    ("Lion", {"learning_rate": RATE, "beta_1": 0.5, "beta_2": 0.5, "weight_decay": 2**-2}),
    ("Lamb", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON}),
    ("Lamb", {"learning_rate": RATE, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 2**-4, "weight_decay": 2**-4}),
    ("Adafactor", {"learning_rate": 0.5, "beta_2_decay": -0.75, "epsilon_1": 2**-100, "epsilon_2": 2**-10}),
    (
        "Adafactor",
        {
            "learning_rate": 2**-4, "beta_2_decay": -0.5, "epsilon_1": 2**-20, "epsilon_2": 4.0, "clip_threshold": 0.5,
            "relative_step": False, "weight_decay": 2**-4,
        },
    ),
    (
        "Muon",
        {
            "learning_rate": RATE, "adam_beta_1": B1, "adam_beta_2": B2, "adam_weight_decay": 2**-4,
            "epsilon": EPSILON, "weight_decay": 2**-3, "momentum": 0.875, "rms_rate": 0.25,
        },
    ),
    (
        "Muon",
        {
            "learning_rate": RATE, "adam_beta_1": B1, "adam_beta_2": B2, "adam_weight_decay": None, "nesterov": False,
            "epsilon": EPSILON, "weight_decay": None, "momentum": 0.5, "rms_rate": None, "adam_lr_ratio": 0.5,
            "ns_steps": 3,
        },
    ),
    (
        "Muon",
        {
            "learning_rate": RATE, "adam_beta_1": B1, "adam_beta_2": B2, "exclude_layers": ["kern"],
            "adam_lr_ratio": 0.5, "adam_weight_decay": 2**-3, "epsilon": EPSILON,
        },
    ),
    ("ScheduleFreeAdamW", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON}),
    (
        "ScheduleFreeAdamW",
        {
            "learning_rate": RATE, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 2**-4, "warmup_steps": 8,
            "weight_decay": 2**-4,
        },
    ),
    ("SGD", {"learning_rate": RATE, "use_ema": True, "ema_momentum": 0.875}),
    ("Adam", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON, "use_ema": True,
              "ema_momentum": 0.75, "ema_overwrite_frequency": 4}),
    ("Adam", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON,
              "gradient_accumulation_steps": 3, "weight_decay": 2**-4, "clipnorm": 0.125}),
    ("Nadam", {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON,
               "gradient_accumulation_steps": 2, "global_clipnorm": 0.125}),
    ("SGD", {"learning_rate": RATE, "clipvalue": 2**-3, "loss_scale_factor": 2.0**10}),
]  # fmt: skip


def named(case):
    return f"{case[0]}-{','.join(f'{k}={v}' for k, v in case[1].items() if k != 'learning_rate')}"


def ours(optimizer, shape):
    """A model of one linear layer whose gradients are given: its targets over the count of its outputs."""
    dtype = "float64"
    model = lh.Sequential([lh.Input((shape[0],), dtype=dtype), lh.layers.Dense(shape[1], dtype=dtype)], backend="numpy")
    model.set_weights(START[shape])
    model.compile(optimizer, lambda y_true, y_pred: y_true * y_pred)
    return model


def theirs(keras, shape):
    layer = keras.layers.Dense(shape[1])
    layer.build((None, shape[0]))
    layer.set_weights(START[shape])
    return layer


def gradients_at(shape, step):
    gradient = TARGETS[shape][step] / np.prod(shape)
    return [gradient, gradient.sum(axis=0)]


def follow(keras, mine, other, shape, close, scale=lambda: 1.0, spoiled=()):
    """Both over all steps, side by side; spoiled: steps whose gradients are infinite."""
    model, layer = ours(mine, shape), theirs(keras, shape)
    for step in range(STEPS):
        factor = np.inf if step in spoiled else 1.0
        model.train_on_batch(np.eye(shape[0]), TARGETS[shape][step] * factor)
        pulls = [g * factor * scale() for g in gradients_at(shape, step)]
        other.apply([keras.ops.convert_to_tensor(g) for g in pulls], layer.trainable_variables)
        for k, (a, b) in enumerate(zip(model.get_weights(), layer.get_weights(), strict=True)):
            close(a, b, f"weight {k} after step {step + 1}", ROUNDED.get(type(mine).__name__, NEAR))
    model.executor.finalize()
    other.finalize_variable_values(layer.trainable_variables)
    for a, b in zip(model.get_weights(), layer.get_weights(), strict=True):
        close(a, b, "a weight at the end", ROUNDED.get(type(mine).__name__, NEAR))


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=named(c), marks=[ALIASED] if c[0] == "ScheduleFreeAdamW" else []) for c in CASES],
)
def test_an_optimizer_moves_weights_as_keras_does(case, shape, keras, close):
    name, config = case
    mine, other = getattr(lh.optimizers, name)(**config), getattr(keras.optimizers, name)(**config)
    factor = config.get("loss_scale_factor", 1.0)
    follow(keras, mine, other, shape, close, lambda: factor)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_configuration_of_keras_makes_the_same_optimizer(case, keras):
    name, config = case
    other = getattr(keras.optimizers, name)(**config)
    read = lh.optimizers.deserialize(keras.optimizers.serialize(other))
    mine = getattr(lh.optimizers, name)(**config)
    assert type(read) is type(mine)
    assert read.replace(name=None).get_config() == mine.get_config()


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_defaults_are_those_of_keras(name, keras):
    told = getattr(keras.optimizers, name)().get_config()
    mine = getattr(lh.optimizers, name)().get_config()
    assert set(mine) == set(told)
    for key, value in told.items():
        # A learning rate comes back from a variable in float32.
        assert mine[key] == (pytest.approx(value, rel=1e-6) if key == "learning_rate" else value) or key == "name", key


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_dynamic_loss_scaling_skips_and_rescales_as_keras_does(keras, close):
    config = {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON}
    settings = {"initial_scale": 2.0**10, "dynamic_growth_steps": 4}
    mine = lh.optimizers.LossScaleOptimizer(lh.optimizers.Adam(**config), **settings)
    other = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(**config), **settings)

    def scale():
        return float(other.dynamic_scale) if other.built else other.initial_scale

    follow(keras, mine, other, (4, 2), close, scale, spoiled=(0, 7, 8, 30))
    read = lh.optimizers.deserialize(keras.optimizers.serialize(other))
    assert read.get_config()["dynamic_growth_steps"] == 4
    assert read.inner_optimizer.beta_1 == B1


def test_several_optimizers_move_what_keras_gives_them(keras, close):
    def chosen(optimizers, wrap):
        sgd, adam = optimizers.SGD(RATE, momentum=0.5), optimizers.Adam(RATE, B1, B2, EPSILON)
        return optimizers.MultiOptimizer(wrap(sgd, {".*bias": adam}))

    other = chosen(keras.optimizers, keras.optimizers.OptimizerMap)
    follow(keras, chosen(lh.optimizers, lh.optimizers.OptimizerMap), other, (4, 2), close)
    read = lh.optimizers.deserialize(keras.optimizers.serialize(other))
    assert [type(o).__name__ for o in read.optimizers] == ["Adam", "SGD"]


def test_weights_excluded_from_decay_are_those_that_keras_excludes(keras, close):
    config = {"learning_rate": RATE, "beta_1": B1, "beta_2": B2, "epsilon": EPSILON, "weight_decay": 0.25}
    mine, other = lh.optimizers.AdamW(**config), keras.optimizers.AdamW(**config)
    for optimizer in (mine, other):
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    follow(keras, mine, other, (4, 2), close)


# --------------------------------------------------------------------------------------------- schedules

SCHEDULES = [
    ("ExponentialDecay", {"initial_learning_rate": 0.5, "decay_steps": 7, "decay_rate": 0.75}),
    ("ExponentialDecay", {"initial_learning_rate": 0.5, "decay_steps": 7, "decay_rate": 0.75, "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.5, "decay_steps": 7, "decay_rate": 0.75}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.5, "decay_steps": 7, "decay_rate": 0.75, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [3, 10, 11], "values": [1.0, 0.5, 0.25, 0.125]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.5, "decay_steps": 20, "end_learning_rate": 2**-6, "power": 2.0}),
    ("PolynomialDecay", {"initial_learning_rate": 0.5, "decay_steps": 8, "end_learning_rate": 2**-6, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.5, "decay_steps": 30, "alpha": 0.125}),
    (
        "CosineDecay",
        {"initial_learning_rate": 0.125, "decay_steps": 20, "warmup_target": 0.5, "warmup_steps": 10, "alpha": 0.25},
    ),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.5, "first_decay_steps": 5}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.5, "first_decay_steps": 6, "t_mul": 1.0, "m_mul": 0.5}),
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.5, "first_decay_steps": 6, "t_mul": 1.5, "m_mul": 0.75, "alpha": 0.125},
    ),
]


@pytest.mark.parametrize("case", SCHEDULES, ids=named)
def test_a_schedule_gives_the_rates_that_keras_gives(case, keras):
    name, config = case
    mine = getattr(lh.optimizers.schedules, name)(**config)
    other = getattr(keras.optimizers.schedules, name)(**config)
    told = [float(other(keras.ops.convert_to_tensor(step, dtype="float64"))) for step in range(64)]
    found = [mine(step) for step in range(64)]
    # Keras computes in double precision here, but rounds some of its constants to float32.
    np.testing.assert_allclose(found, told, rtol=1e-6, atol=1e-8)
    read = lh.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(other))
    assert read == mine
    assert mine.get_config().keys() == other.get_config().keys()


@pytest.mark.parametrize("accumulation", [None, 3])
def test_a_schedule_counts_batches_as_keras_does(accumulation, keras, close):
    def made(module):
        rate = module.schedules.PiecewiseConstantDecay([2, 7, 20], [0.5, 0.25, 0.125, 0.0625])
        return module.SGD(rate, gradient_accumulation_steps=accumulation)

    other = made(keras.optimizers)
    follow(keras, made(lh.optimizers), other, (4, 2), close)
    read = lh.optimizers.deserialize(keras.optimizers.serialize(other))
    assert read.learning_rate == made(lh.optimizers).learning_rate


# --------------------------------------------------------------------------------------------- PyTorch


def torch_optimizers():
    """(ours, PyTorch's) where formulas are the same; what is not the same is said in the docstrings."""
    small = 1e-20  # where epsilon stands elsewhere, it must not matter
    return {
        "SGD": (lh.optimizers.SGD(0.03), lambda t, w: t.SGD(w, 0.03)),
        "Adagrad": (
            lh.optimizers.Adagrad(0.1, 0.1, epsilon=small),
            lambda t, w: t.Adagrad(w, 0.1, initial_accumulator_value=0.1, eps=small),
        ),
        "Adadelta": (lh.optimizers.Adadelta(0.7, 0.9, 1e-6), lambda t, w: t.Adadelta(w, 0.7, 0.9, 1e-6)),
        "Adamax": (
            lh.optimizers.Adamax(0.02, 0.9, 0.99, small), lambda t, w: t.Adamax(w, 0.02, (0.9, 0.99), small)
        ),
        "Nadam": (
            lh.optimizers.Nadam(0.02, 0.9, 0.99, 1e-6),
            lambda t, w: t.NAdam(w, 0.02, (0.9, 0.99), 1e-6, momentum_decay=1.0),
        ),
        "Adam": (lh.optimizers.Adam(0.02, 0.9, 0.99, small), lambda t, w: t.Adam(w, 0.02, (0.9, 0.99), small)),
        "AdamW": (
            lh.optimizers.AdamW(0.02, 0.1, 0.9, 0.99, small),
            lambda t, w: t.AdamW(w, 0.02, (0.9, 0.99), small, weight_decay=0.1),
        ),
        "RMSprop": (
            lh.optimizers.RMSprop(0.02, 0.9, 0.0, small), lambda t, w: t.RMSprop(w, 0.02, 0.9, small)
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(torch_optimizers()))
def test_an_optimizer_moves_weights_as_pytorch_does(name, close):
    torch = pytest.importorskip("torch")
    shape = (4, 2)
    mine, make = torch_optimizers()[name]
    model = ours(mine, shape)
    weights = [torch.tensor(w, requires_grad=True) for w in START[shape]]
    other = make(torch.optim, weights)
    for step in range(STEPS):
        model.train_on_batch(np.eye(shape[0]), TARGETS[shape][step])
        for w, g in zip(weights, gradients_at(shape, step), strict=True):
            w.grad = torch.tensor(g)
        other.step()
    for k, (a, b) in enumerate(zip(model.get_weights(), weights, strict=True)):
        close(a, b.detach().numpy(), f"weight {k}", ROUNDED.get(name, NEAR))


@pytest.mark.parametrize("warmup", [0, 8])
def test_schedule_free_training_follows_the_update_of_its_authors(warmup, close):
    shape, rate, b1, b2, epsilon = (4, 2), 0.03, 0.9, 0.99, 1e-8
    model = ours(lh.optimizers.ScheduleFreeAdamW(rate, b1, b2, epsilon, warmup), shape)
    y = [w.copy() for w in START[shape]]
    z, v = [w.copy() for w in y], [np.zeros_like(w) for w in y]
    for step in range(1, STEPS + 1):
        model.train_on_batch(np.eye(shape[0]), TARGETS[shape][step - 1])
        share, warm = 1 / step, rate * min(1, step / warmup) if warmup else rate
        for k, g in enumerate(gradients_at(shape, step - 1)):
            # Defazio et al. 2024, arXiv:2405.15682, as their published code has it: x is never formed.
            v[k] = b2 * v[k] + (1 - b2) * g**2
            normal = g / (np.sqrt(v[k] / (1 - b2**step)) + epsilon)
            y[k] = (1 - share) * y[k] + share * z[k] - warm * (1 - b1 * (1 - share)) * normal
            z[k] = z[k] - warm * normal
    for k, (a, b) in enumerate(zip(model.get_weights(), y, strict=True)):
        close(a, b, f"weight {k}", NEAR)
