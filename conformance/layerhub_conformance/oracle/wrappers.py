"""Bidirectional, TimeDistributed, Wrapper, SpectralNormalization, Flip."""

from functools import partial

from .arithmetic import total
from .nested import along, at, build, flatten, reshape, shape
from .recurrent import carried, held
from .registry import ORACLES, Outcome, oracle

MERGE = {
    "concat": lambda ahead, back: ahead + back,
    "sum": lambda ahead, back: [a + b for a, b in zip(ahead, back, strict=True)],
    "mul": lambda ahead, back: [a * b for a, b in zip(ahead, back, strict=True)],
    "ave": lambda ahead, back: [(a + b) / 2 for a, b in zip(ahead, back, strict=True)],
}


@oracle("Bidirectional")
def bidirectional(params, inputs, weights, *, mask=None, initial_state=None, bits=None, **others):
    """The layer forward, a copy of it with weights of its own backward, and the two outputs merged.

    A layer that goes backwards itself has a copy that goes forwards. The copy's sequence is turned around before the
    merge, so that both speak of the same step. Where sequences are returned, both layers give zeros at masked steps.
    Weights and states: forward, then backward. Schuster & Paliwal 1997, doi:10.1109/78.650093.
    """
    forward = params["layer"]
    backward = params.get("backward_layer") or {
        "class_name": forward["class_name"],
        "config": {**forward["config"], "go_backwards": not forward["config"]["go_backwards"]},
    }
    sequences, with_states = forward["config"]["return_sequences"], forward["config"]["return_state"]

    def run(layer, weights, states, bits):
        config = {**layer["config"], "zero_output_for_mask": sequences}
        return ORACLES[layer["class_name"]](
            config, inputs, weights, mask=mask, initial_state=states, bits=bits, **others
        )

    first, count = held(forward), carried(forward)
    states = initial_state and (initial_state[:count], initial_state[count:])
    of_forward, of_backward = states or (None, None)
    ahead = run(forward, weights[:first], of_forward, bits)
    back = run(backward, weights[first:], of_backward, bits and partial(bits, draw=1))
    y, reversed_y = ahead.outputs[0], back.outputs[0]
    if sequences:
        reversed_y = [steps[::-1] for steps in reversed_y]
    states = ahead.states + back.states
    if params["merge_mode"] is None:
        merged = [y, reversed_y]
    else:
        merge = MERGE[params["merge_mode"]]
        merged = [build(shape(y)[:-1], lambda index: merge(at(y, index), at(reversed_y, index)))]
    return Outcome(merged + (states if with_states else []), states=states)


def run_inner(params, inputs, weights, **keywords):
    """The layer that a wrapper holds; a wrapper that is frozen freezes it."""
    layer = params["layer"]
    config = {**layer["config"], "trainable": trainable(params)}
    return ORACLES[layer["class_name"]](config, inputs, weights, **keywords)


def trainable(params):
    """Whether neither a wrapper nor the layer that it holds is frozen."""
    return params.get("trainable", True) and params["layer"]["config"].get("trainable", True)


@oracle("TimeDistributed")
def time_distributed(params, inputs, weights, *, training=False, bits=None, **_):
    """The layer at each step by itself, one step after the other; what a step makes of its weights the next one has.

    Random bits are drawn for all steps of all samples at once, those of a sample's steps one after the other.
    """
    (x,), weights, moved = inputs, list(weights), {}
    names = WEIGHTS_THAT_MOVE.get(params["layer"]["class_name"], ())
    times = len(x[0])

    def bits_at(t):
        def of_step(sizes, *parts):
            drawn = bits((sizes[0] * times, *sizes[1:]), *parts)
            return drawn[t::times]

        return of_step

    steps = []
    for t in range(times):
        now = [[sample[t] for sample in x]]
        outcome = run_inner(params, now, weights, training=training, bits=bits and bits_at(t))
        steps.append(outcome.outputs[0])
        for name, value in outcome.weights.items():
            weights[len(weights) - len(names) + names.index(name)] = value
            moved[f"inner/{name}"] = value
    return Outcome([[[step[n] for step in steps] for n in range(len(x))]], weights=moved)


WEIGHTS_THAT_MOVE = {"BatchNormalization": ("moving_mean", "moving_variance")}
"""The last weights of a layer, which a call in training gives new values."""


@oracle("Wrapper")
def wrapper(params, inputs, weights, **keywords):
    """The wrapped layer itself."""
    outcome = run_inner(params, inputs, weights, **keywords)
    return Outcome(outcome.outputs, weights={f"inner/{name}": value for name, value in outcome.weights.items()})


@oracle("SpectralNormalization")
def spectral_normalization(params, inputs, weights, *, training=False, **keywords):
    """The wrapped layer; in training its kernel w is first divided by s = v w u, and stays so.

    w is taken for a matrix with as many columns as its last axis has cells. From the vector u that is kept, v =
    unit(w u) and u = unit(v w), ``power_iterations`` times. Miyato et al. 2018, arXiv:1802.05957, algorithm 1.
    """
    kernel, (u,), *others = weights
    moved = {}
    if training and trainable(params):
        cells = flatten(kernel)
        rows = [cells[k : k + len(u)] for k in range(0, len(cells), len(u))]
        for _step in range(params["power_iterations"]):
            v = unit([total(a * b for a, b in zip(row, u, strict=True)) for row in rows])
            u = unit([total(v[k] * rows[k][c] for k in range(len(rows))) for c in range(len(u))])
        sigma = total(v[k] * rows[k][c] * u[c] for k in range(len(rows)) for c in range(len(u)))
        kernel = reshape([cell / sigma for cell in cells], shape(kernel))
        name = "embeddings" if params["layer"]["class_name"] == "Embedding" else "kernel"
        moved = {f"inner/{name}": kernel, "vector_u": [u]}
    outcome = run_inner(params, inputs, [kernel, *others], training=training, **keywords)
    return Outcome(outcome.outputs, weights=moved)


def unit(vector):
    """The vector divided by its length, which is taken for 1e-6 at least."""
    length = max(total(x * x for x in vector), 1e-12) ** 0.5
    return [x / length for x in vector]


@oracle("Flip")
def flip(params, inputs, weights, **_):
    """The input in reverse order along an axis."""
    return Outcome([along(params["axis"], lambda row: row[::-1], inputs[0])])
