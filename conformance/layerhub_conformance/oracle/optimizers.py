"""Optimizers: one step for one scalar weight, with the formulas of Keras 3.

Each is called as ``fn(params, weight, gradient, slots, step) -> (weight, slots)``. ``slots`` holds what the
optimizer remembers, by name, and is {} before the first step; ``step`` counts from 1. Nothing given is
modified.
"""

import math

OPTIMIZERS = {}


def optimizer(*names):
    """Enter a function of (params, weight, gradient, slots, step) that returns (weight, slots).

    Where ``weight_decay`` is given the weight shrinks by learning_rate weight_decay weight first; the
    gradient is that of the weight before. Loshchilov & Hutter 2017, arXiv:1711.05101.
    """

    def enter(update):
        def step_of(params, weight, gradient, slots, step):
            decay = params.get("weight_decay") or 0.0
            weight = weight - params["learning_rate"] * decay * weight
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
