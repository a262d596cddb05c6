"""Bidirectional."""

from .nested import at, build, shape
from .registry import ORACLES, Outcome, oracle

MERGE = {
    "concat": lambda ahead, back: ahead + back,
    "sum": lambda ahead, back: [a + b for a, b in zip(ahead, back, strict=True)],
    "mul": lambda ahead, back: [a * b for a, b in zip(ahead, back, strict=True)],
    "ave": lambda ahead, back: [(a + b) / 2 for a, b in zip(ahead, back, strict=True)],
}


@oracle("Bidirectional")
def bidirectional(params, inputs, weights, *, training=False, mask=None, initial_state=None, **_):
    """The layer forward, a copy of it with weights of its own backward, and the two outputs merged.

    A backward sequence is turned back before the merge, so that both speak of the same step. Where sequences
    are returned, both layers give zeros at masked steps. Weights and states: forward, then backward. Schuster
    & Paliwal 1997, doi:10.1109/78.650093.
    """
    forward = params["layer"]
    backward = params.get("backward_layer") or {
        "class_name": forward["class_name"],
        "config": {**forward["config"], "go_backwards": True},
    }
    if forward["config"]["go_backwards"] or not backward["config"]["go_backwards"]:
        raise ValueError("the forward layer must go forwards and the backward layer backwards")
    sequences, with_states = forward["config"]["return_sequences"], forward["config"]["return_state"]

    def run(layer, weights, states):
        config = {**layer["config"], "zero_output_for_mask": sequences}
        call = ORACLES[layer["class_name"]]
        return call(config, inputs, weights, training=training, mask=mask, initial_state=states)

    forward_weights, backward_weights = halves(weights)
    forward_state, backward_state = halves(initial_state)
    ahead = run(forward, forward_weights, forward_state)
    back = run(backward, backward_weights, backward_state)
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


def halves(both):
    """The forward and the backward half of a list."""
    if both is None:
        return None, None
    middle = len(both) // 2
    return both[:middle], both[middle:]
