"""Activations, each a function from a row of floats to a row: most of them act on one number at a time."""

import math

from .arithmetic import clip, exp, largest, total
from .nested import along

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


def linear(x):
    return x


def relu(x, negative_slope=0.0, max_value=None, threshold=0.0):
    """min(x, max_value) above the threshold, negative_slope (x - threshold) elsewhere."""
    if x > threshold:
        return x if max_value is None else min(x, max_value)
    if negative_slope == 0 and not math.isnan(x):
        return 0.0  # also for -inf, where the product would be NaN
    return negative_slope * (x - threshold)


def relu6(x):
    return relu(x, max_value=6.0)


def leaky_relu(x, negative_slope=0.2):
    """x if x > 0 else negative_slope x, for slopes above 1 too."""
    return x if x > 0 else negative_slope * x


def elu(x, alpha=1.0):
    """x if x > 0 else alpha (e^x - 1). Clevert et al. 2015, arXiv:1511.07289."""
    return x if x > 0 else alpha * math.expm1(x)


def selu(x):
    """scale * elu(x, alpha). Klambauer et al. 2017, arXiv:1706.02515."""
    return SELU_SCALE * elu(x, SELU_ALPHA)


def sigmoid(x):
    """1 / (1 + e^-x), written so that neither tail overflows or cancels."""
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def hard_sigmoid(x):
    """clip(x/6 + 1/2, 0, 1), as Keras 3 has it."""
    return clip(x / 6 + 0.5, 0.0, 1.0)


def tanh(x):
    return math.tanh(x)


def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return (x if x > 0 else 0.0) + math.log1p(exp(-abs(x)))


def softsign(x):
    return x / (1 + abs(x))


def exponential(x):
    return exp(x)


def silu(x):
    """x sigmoid(x)."""
    return x * sigmoid(x)


def gelu(x, approximate=False):
    """x times the standard normal distribution function; or its tanh approximation.

    Hendrycks & Gimpel 2016, arXiv:1606.08415. Written so that the left tail does not cancel:
    1 + erf(z) = erfc(-z), and (1 + tanh(z)) / 2 = sigmoid(2z).
    """
    if approximate:
        return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


def mish(x):
    """x tanh(softplus(x)). Misra 2019, arXiv:1908.08681."""
    return x * math.tanh(softplus(x))


def softmax(row):
    """e^x / sum(e^x), shifted by the maximum, which changes nothing but the overflow."""
    top = largest(row)
    powers = [exp(x - top) for x in row]
    whole = total(powers)
    return [power / whole for power in powers]


def log_softmax(row):
    """x - log(sum(e^x))."""
    top = largest(row)
    log_whole = math.log(total(exp(x - top) for x in row))
    return [(x - top) - log_whole for x in row]


def _each(f):
    """The row function that applies f to each number."""

    def on_row(row, **params):
        return [f(x, **params) for x in row]

    return on_row


ELEMENTWISE = (
    linear, relu, relu6, leaky_relu, elu, selu, sigmoid, hard_sigmoid, tanh, softplus, softsign, exponential,
    silu, gelu, mish,
)  # fmt: skip
ACTIVATIONS = {f.__name__: _each(f) for f in ELEMENTWISE}
ACTIVATIONS |= {"softmax": softmax, "log_softmax": log_softmax}


def activate(activation, x):
    """Apply an activation as a configuration names it: None, a name, or {"class_name": ..., "config": {...}}.

    A row is the last axis, unless the configuration says which ``axis``.
    """
    if activation is None:
        return x
    if isinstance(activation, str):
        activation = {"class_name": activation, "config": {}}
    params = dict(activation.get("config") or {})
    axis = params.pop("axis", -1)
    return along(axis, lambda row: ACTIVATIONS[activation["class_name"]](row, **params), x)
