"""Where the oracles of layers are found, and what one returns."""

from collections.abc import Callable
from dataclasses import dataclass, field

ORACLES: dict[str, Callable] = {}


@dataclass
class Outcome:
    """What one call of a layer gives.

    outputs: what the layer returns, in its order; with ``return_state`` the final states follow the output.
    weights: new values, by name, of the weights that the call itself updates (moving statistics).
    states: the final states of a recurrent layer, whether it returns them or not.
    """

    outputs: list
    weights: dict[str, list] = field(default_factory=dict)
    states: list = field(default_factory=list)


def oracle(*names):
    """Enter a function as the oracle of the layers with these class names.

    It is called as ``fn(params, inputs, weights, *, training=False, mask=None, initial_state=None,
    bits=None)`` and returns an `Outcome`; it names those of the keyword arguments that matter to it.
    ``bits(sizes, *parts, draw=0)`` draws: nested lists of integers in [0, 2^32). Parts are draws of one layer (0 is the
    same as none), each with parts of its own; ``draw`` counts those layers within a layer that may draw. None: the
    layer draws nothing. ``params`` holds all parameters of the canonical configuration, ``inputs`` and ``weights``
    are lists of nested lists, the weights in ``get_weights()`` order with those left out that the layer does not have.
    """

    def enter(fn):
        for name in names:
            if name in ORACLES:
                raise ValueError(f"there is an oracle for {name} already")
            ORACLES[name] = fn
        return fn

    return enter
