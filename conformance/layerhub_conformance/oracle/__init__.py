"""Independent ground truth: every layer once more, in plain loops over plain Python numbers.

It shares no code with the specs or with any backend, and imports nothing but the standard library, so that an
agreement between the two says something. It is meant for tiny sizes; where a choice had to be made, it is the
obviously right formula that was chosen and not the fast one.

    ORACLES["Conv2D"](params, inputs, weights, training=False, ...) -> Outcome
    LOSSES["MeanSquaredError"](params, y_true, y_pred, ...) -> LossOutcome
    METRICS["Precision"](params, [(y_true, y_pred, weights), ...]) -> figure
    OPTIMIZERS["Adam"](params, weight, gradient, slots, step) -> (weight, slots)
    ACTIVATIONS["softmax"](row, **params) -> row
    difference(f, point) -> (gradient, error)

A module here is named like the spec module whose layers it covers.
"""

from . import (  # noqa: F401 fill ORACLES
    advanced,
    attention,
    convolution,
    core,
    local,
    merge,
    noise,
    normalization,
    pooling,
    recurrent,
    reshaping,
    wrappers,
)
from .activations import ACTIVATIONS
from .differences import difference, flatten, unflatten
from .losses import LOSSES, LossOutcome
from .metrics import METRICS
from .optimizers import OPTIMIZERS
from .random import philox4x32
from .registry import ORACLES, Outcome, oracle

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "METRICS",
    "OPTIMIZERS",
    "ORACLES",
    "LossOutcome",
    "Outcome",
    "difference",
    "flatten",
    "oracle",
    "philox4x32",
    "unflatten",
]
