"""Optimizers: one step for one weight, with the formulas of Keras 3.

Each is called as ``fn(params, weight, gradient, slots, step) -> (weight, slots)``. ``slots`` holds what the
optimizer remembers, by name, and is {} before the first step; ``step`` counts from 1. Nothing given is
modified. A weight is one number, for those that go number by number; for Lamb, Adafactor and Muon (WHOLE)
it is a list of numbers or of rows.
"""

import math

OPTIMIZERS = {}
WHOLE = ("Lamb", "Adafactor", "Muon")


def each(function, *nested):
    """A function of numbers on numbers at the same places of nested lists."""
    if isinstance(nested[0], list):
        return [each(function, *parts) for parts in zip(*nested, strict=True)]
    return function(*nested)


def numbers(nested):
    """All numbers of a nested list."""
    return [x for part in nested for x in numbers(part)] if isinstance(nested, list) else [nested]


def optimizer(*names):
    """Enter a function of (params, weight, gradient, slots, step) that returns (weight, slots).

    Where ``weight_decay`` is given the weight shrinks by learning_rate weight_decay weight first; the
    gradient is that of the weight before. Loshchilov & Hutter 2017, arXiv:1711.05101.
    """

    def enter(update):
        def step_of(params, weight, gradient, slots, step):
            decay = params.get("weight_decay") or 0.0
            weight = each(lambda w: w - params["learning_rate"] * decay * w, weight)
            return update(params, weight, gradient, slots, step)

        step_of.__doc__ = update.__doc__
        for name in names:
            OPTIMIZERS[name] = step_of
        return step_of

    return enter


@optimizer("SGD")
def sgd(params, weight, gradient, slots, step):
    """v = momentum v - lr g; w += v, or with nesterov w += momentum v - lr g. Without momentum w -= lr g."""
    momentum, push = params["momentum"], params["learning_rate"] * gradient
    if momentum == 0:
        return weight - push, {}
    v = momentum * slots.get("momentum", 0.0) - push
    return weight + (momentum * v - push if params["nesterov"] else v), {"momentum": v}


@optimizer("RMSprop")
def rmsprop(params, weight, gradient, slots, step):
    """v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + epsilon): epsilon is inside the root.

    centered: a = rho a + (1 - rho) g, and the root is that of v - a^2 + epsilon.
    momentum: m = momentum m + lr g / root; w -= m.
    """
    rho = params["rho"]
    v = rho * slots.get("velocity", 0.0) + (1 - rho) * gradient**2
    new = {"velocity": v}
    if params["centered"]:
        a = rho * slots.get("average_gradient", 0.0) + (1 - rho) * gradient
        new["average_gradient"] = a
        v -= a**2
    change = params["learning_rate"] * gradient / math.sqrt(v + params["epsilon"])
    if params["momentum"] > 0:
        change += params["momentum"] * slots.get("momentum", 0.0)
        new["momentum"] = change
    return weight - change, new


@optimizer("Adam", "AdamW")
def adam(params, weight, gradient, slots, step):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m / (sqrt(v) + epsilon).

    Here rate = lr sqrt(1 - b2^t) / (1 - b1^t) at step t.
    So epsilon stands beside the root of v before its correction ("epsilon hat" in Kingma & Ba 2014,
    arXiv:1412.6980, section 2). amsgrad: the root is that of the largest v so far (Reddi et al. 2018,
    arXiv:1904.09237). AdamW is Adam with a default for weight_decay.
    """
    b1, b2 = params["beta_1"], params["beta_2"]
    m = b1 * slots.get("momentum", 0.0) + (1 - b1) * gradient
    v = b2 * slots.get("velocity", 0.0) + (1 - b2) * gradient**2
    new = {"momentum": m, "velocity": v}
    if params["amsgrad"]:
        v = new["velocity_hat"] = max(slots.get("velocity_hat", 0.0), v)
    rate = params["learning_rate"] * math.sqrt(1 - b2**step) / (1 - b1**step)
    return weight - rate * m / (math.sqrt(v) + params["epsilon"]), new


@optimizer("Adagrad")
def adagrad(params, weight, gradient, slots, step):
    """a += g^2, from initial_accumulator_value on; w -= lr g / sqrt(a + epsilon)."""
    a = slots.get("accumulator", params["initial_accumulator_value"]) + gradient**2
    return weight - params["learning_rate"] * gradient / math.sqrt(a + params["epsilon"]), {"accumulator": a}


@optimizer("Adadelta")
def adadelta(params, weight, gradient, slots, step):
    """v = rho v + (1 - rho) g^2; delta = -sqrt(d + epsilon) / sqrt(v + epsilon) g; d likewise from delta^2."""
    rho, epsilon, d = params["rho"], params["epsilon"], slots.get("d", 0.0)
    v = rho * slots.get("v", 0.0) + (1 - rho) * gradient**2
    delta = -math.sqrt(d + epsilon) / math.sqrt(v + epsilon) * gradient
    return weight + params["learning_rate"] * delta, {"v": v, "d": rho * d + (1 - rho) * delta**2}


@optimizer("Adamax")
def adamax(params, weight, gradient, slots, step):
    """m = b1 m + (1 - b1) g; u = max(b2 u, |g|); w -= lr m / ((1 - b1^t) (u + epsilon))."""
    b1, b2 = params["beta_1"], params["beta_2"]
    m = b1 * slots.get("m", 0.0) + (1 - b1) * gradient
    u = max(b2 * slots.get("u", 0.0), abs(gradient))
    change = params["learning_rate"] * m / ((1 - b1**step) * (u + params["epsilon"]))
    return weight - change, {"m": m, "u": u}


@optimizer("Nadam")
def nadam(params, weight, gradient, slots, step):
    """With u_t = b1 (1 - 0.96^t / 2) and p_t = u_1 ... u_t, and m, v as Adam's:

    w -= lr (u_{t+1} m / (1 - p_{t+1}) + (1 - u_t) g / (1 - p_t)) / (sqrt(v / (1 - b2^t)) + epsilon)
    """
    b1, b2 = params["beta_1"], params["beta_2"]
    now, ahead = (b1 * (1 - 0.5 * 0.96**t) for t in (step, step + 1))
    p = slots.get("p", 1.0) * now
    m = b1 * slots.get("m", 0.0) + (1 - b1) * gradient
    v = b2 * slots.get("v", 0.0) + (1 - b2) * gradient**2
    m_hat = ahead * m / (1 - p * ahead) + (1 - now) * gradient / (1 - p)
    root = math.sqrt(v / (1 - b2**step)) + params["epsilon"]
    return weight - params["learning_rate"] * m_hat / root, {"m": m, "v": v, "p": p}


@optimizer("Ftrl")
def ftrl(params, weight, gradient, slots, step):
    """a' = a + g^2; z += g + 2 s w - (a'^-p - a^-p) / lr w; w = (clip(z, -l1, l1) - z) / (a'^-p / lr + 2 l2 + b / lr).

    McMahan et al. 2013, with s for the shrinkage and p for the power, -1/2 there.
    """
    rate, power, l1 = params["learning_rate"], -params["learning_rate_power"], params["l1_regularization_strength"]
    before = slots.get("a", params["initial_accumulator_value"])
    a = before + gradient**2
    shrinkage = 2 * params["l2_shrinkage_regularization_strength"] * weight
    z = slots.get("z", 0.0) + gradient + shrinkage - (a**power - before**power) / rate * weight
    below = a**power / rate + 2 * params["l2_regularization_strength"] + params["beta"] / rate
    return (max(-l1, min(z, l1)) - z) / below, {"a": a, "z": z}


@optimizer("Lion")
def lion(params, weight, gradient, slots, step):
    """w -= lr sign(b1 m + (1 - b1) g), then m = b2 m + (1 - b2) g."""
    b1, b2, m = params["beta_1"], params["beta_2"], slots.get("m", 0.0)
    blend = b1 * m + (1 - b1) * gradient
    sign = (blend > 0) - (blend < 0)
    return weight - params["learning_rate"] * sign, {"m": b2 * m + (1 - b2) * gradient}


@optimizer("ScheduleFreeAdamW")
def schedule_free_adamw(params, weight, gradient, slots, step):
    """z -= lr g / (sqrt(v / (1 - b2^t)) + epsilon); x = (1 - 1/t) x + z / t; y = (1 - b1) z + b1 x is the weight.

    z is the weight before the first step. x comes from y and z, so that weight decay of y moves it, too.
    lr is multiplied by t / warmup_steps until that is 1. Defazio et al. 2024, arXiv:2405.15682.
    """
    b1, b2, z = params["beta_1"], params["beta_2"], slots.get("z", weight)
    if step == 1:
        z /= 1 - params["learning_rate"] * (params.get("weight_decay") or 0.0)  # the weight before it decayed
    warm = min(1.0, step / params["warmup_steps"]) if params["warmup_steps"] else 1.0
    x = (weight - (1 - b1) * z) / b1
    v = b2 * slots.get("v", 0.0) + (1 - b2) * gradient**2
    z -= params["learning_rate"] * warm * gradient / (math.sqrt(v / (1 - b2**step)) + params["epsilon"])
    x = (1 - 1 / step) * x + z / step
    return (1 - b1) * z + b1 * x, {"v": v, "z": z}


@optimizer("Lamb")
def lamb(params, weight, gradient, slots, step):
    """u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon); w -= lr |w| / |u| u, and w -= lr u if a norm is 0."""
    b1, b2 = params["beta_1"], params["beta_2"]
    zeros = each(lambda w: 0.0, weight)
    m = each(lambda m, g: b1 * m + (1 - b1) * g, slots.get("m", zeros), gradient)
    v = each(lambda v, g: b2 * v + (1 - b2) * g**2, slots.get("v", zeros), gradient)
    u = each(lambda m, v: m / (1 - b1**step) / (math.sqrt(v / (1 - b2**step)) + params["epsilon"]), m, v)
    norms = [math.sqrt(sum(x**2 for x in numbers(part))) for part in (weight, u)]
    trust = norms[0] / norms[1] if all(norms) else 1.0
    return each(lambda w, u: w - params["learning_rate"] * trust * u, weight, u), {"m": m, "v": v}


@optimizer("Adafactor")
def adafactor(params, weight, gradient, slots, step):
    """Algorithms 4 and 5 of Shazeer & Stern 2018: a list of numbers has its own second moments, rows share theirs."""
    new = step ** params["beta_2_decay"]
    square = each(lambda g: g**2 + params["epsilon_1"], gradient)
    if isinstance(weight[0], list):
        rows = [sum(row) / len(row) for row in square]
        columns = [sum(column) / len(column) for column in zip(*square, strict=True)]
        r = each(lambda old, x: (1 - new) * old + new * x, slots.get("r", [0.0] * len(rows)), rows)
        c = each(lambda old, x: (1 - new) * old + new * x, slots.get("c", [0.0] * len(columns)), columns)
        mean = sum(r) / len(r)
        v, kept = [[a * b / mean for b in c] for a in r], {"r": r, "c": c}
    else:
        v = each(lambda old, x: (1 - new) * old + new * x, slots.get("v", [0.0] * len(weight)), square)
        kept = {"v": v}
    u = each(lambda g, v: g / math.sqrt(v), gradient, v)

    def rms(nested):
        return math.sqrt(sum(x**2 for x in numbers(nested)) / len(numbers(nested)))

    size = max(params["epsilon_2"], rms(weight)) * min(params["learning_rate"], 1 / math.sqrt(step))
    size /= max(1.0, rms(u) / params["clip_threshold"])
    return each(lambda w, u: w - size * u, weight, u), kept


@optimizer("Muon")
def muon(params, weight, gradient, slots, step):
    """m = momentum m + g; x = g + momentum m or m, made orthogonal; w -= lr rms_rate sqrt(max(shape)) x."""
    held = slots.get("m", each(lambda w: 0.0, weight))
    m = each(lambda m, g: params["momentum"] * m + g, held, gradient)
    x = each(lambda m, g: g + params["momentum"] * m, m, gradient) if params["nesterov"] else m
    tall = len(x) > len(x[0])
    x = transposed(x) if tall else x
    norm = math.sqrt(sum(value**2 for value in numbers(x))) + 1e-7
    x = each(lambda value: value / norm, x)
    a, b, c = params["muon_a"], params["muon_b"], params["muon_c"]
    for _ in range(params["ns_steps"]):
        square = product(x, transposed(x))
        mixed = each(lambda p, q: b * p + c * q, square, product(square, square))
        x = each(lambda p, q: a * p + q, x, product(mixed, x))
    x = transposed(x) if tall else x
    scale = 1.0 if params["rms_rate"] is None else params["rms_rate"] * math.sqrt(max(len(x), len(x[0])))
    return each(lambda w, x: w - params["learning_rate"] * scale * x, weight, x), {"m": m}


def transposed(rows):
    """A matrix with its rows as columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def product(left, right):
    """The product of two matrices."""
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in transposed(right)] for row in left]
