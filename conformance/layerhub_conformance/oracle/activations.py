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


def celu(x, alpha=1.0):
    """x if x > 0 else alpha (e^(x / alpha) - 1). Barron 2017, arXiv:1704.07483."""
    return x if x > 0 else alpha * math.expm1(x / alpha)


def sigmoid(x):
    """1 / (1 + e^-x), written so that neither tail overflows or cancels."""
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def hard_sigmoid(x):
    """clip(x/6 + 1/2, 0, 1), as Keras 3 has it."""
    return clip(x / 6 + 0.5, 0.0, 1.0)


def hard_silu(x):
    """x times hard_sigmoid(x)."""
    return x * hard_sigmoid(x)


def hard_tanh(x):
    return clip(x, -1.0, 1.0)


def sparse_sigmoid(x):
    """The straight line from (-1, 0) to (1, 1), level outside."""
    return clip((x + 1) / 2, 0.0, 1.0)


def sparse_plus(x):
    """The integral of sparse_sigmoid from the left."""
    if x <= -1:
        return 0.0
    return x if x >= 1 else (x + 1) ** 2 / 4


def tanh(x):
    return math.tanh(x)


def tanh_shrink(x):
    return x - math.tanh(x)


def hard_shrink(x, threshold=0.5):
    """x, but 0 within the threshold of 0."""
    return 0.0 if abs(x) <= threshold else x


def soft_shrink(x, threshold=0.5):
    """x, nearer to 0 by the threshold, but not beyond 0."""
    if abs(x) <= threshold:
        return 0.0
    return x - threshold if x > 0 else x + threshold


def threshold(x, threshold, default_value):
    return default_value if x <= threshold else x


def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return (x if x > 0 else 0.0) + math.log1p(exp(-abs(x)))


def log_sigmoid(x):
    """log(1 / (1 + e^-x))."""
    return min(x, 0.0) - math.log1p(exp(-abs(x)))


def squareplus(x, b=4.0):
    """(x + sqrt(x^2 + b)) / 2, with the difference that cancels for x < 0 taken out of the root."""
    root = math.hypot(x, math.sqrt(b))
    return (x + root) / 2 if x >= 0 else b / (2 * (root - x))


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


def sparsemax(row):
    """max(x - t, 0) with the t for which that sums to 1. Martins & Astudillo 2016, arXiv:1602.02068.

    t is found by trying supports of growing size, largest elements first, as long as the next one stays positive.
    """
    if any(math.isnan(x) for x in row):
        return [math.nan] * len(row)
    falling = sorted(row, reverse=True)
    size = max(k for k in range(1, len(row) + 1) if 1 + k * falling[k - 1] > total(falling[:k]))
    t = (total(falling[:size]) - 1) / size
    return [max(x - t, 0.0) for x in row]


def glu(row):
    """The first half of the row times the sigmoid of the second. Dauphin et al. 2017, arXiv:1612.08083."""
    half = len(row) // 2
    return [a * sigmoid(b) for a, b in zip(row[:half], row[half:], strict=True)]


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
    linear, relu, relu6, leaky_relu, elu, celu, selu, sigmoid, hard_sigmoid, hard_silu, hard_tanh, sparse_sigmoid,
    sparse_plus, tanh, tanh_shrink, hard_shrink, soft_shrink, threshold, softplus, log_sigmoid, squareplus, softsign,
    exponential, silu, gelu, mish,
)  # fmt: skip
ACTIVATIONS = {f.__name__: _each(f) for f in ELEMENTWISE}
ACTIVATIONS |= {"softmax": softmax, "log_softmax": log_softmax, "sparsemax": sparsemax, "glu": glu}


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
