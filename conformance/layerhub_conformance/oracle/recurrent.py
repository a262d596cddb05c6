"""LSTM."""

from .activations import activate
from .core import affine
from .registry import Outcome, oracle


def lstm_step(params, weights, x, h, c):
    """One step for one sample: (h, c) after seeing x.

        i, f, g, o = x kernel + h recurrent_kernel + bias, in four blocks of columns
        c = sigma(f) c + sigma(i) act(g)
        h = sigma(o) act(c)

    with sigma the recurrent activation. Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; the
    forget gate is that of Gers et al. 2000, doi:10.1162/089976600300015015.
    """
    kernel, recurrent_kernel, *bias = weights
    bias = bias[0] if params["use_bias"] else [0.0] * (4 * params["units"])
    from_input, from_state = affine(x, kernel), affine(h, recurrent_kernel)
    z = [a + b + d for a, b, d in zip(from_input, from_state, bias, strict=True)]
    blocks = [z[k * params["units"] : (k + 1) * params["units"]] for k in range(4)]
    i, f, o = (activate(params["recurrent_activation"], blocks[k]) for k in (0, 1, 3))
    g = activate(params["activation"], blocks[2])
    c = [fu * cu + iu * gu for fu, cu, iu, gu in zip(f, c, i, g, strict=True)]
    h = [ou * au for ou, au in zip(o, activate(params["activation"], c), strict=True)]
    return h, c


def scan(params, step, sequence, mask, states):
    """Run one sample's sequence through ``step``: (outputs, states), outputs in processing order.

    At a step that the mask hides the state is kept, and the output is the previous output, which is zero
    before the first step whatever the initial state; with ``zero_output_for_mask`` it is zero.
    ``go_backwards`` turns the sequence and its mask around, and does not turn the outputs back.
    """
    times = range(len(sequence))
    outputs, output = [], [0.0] * params["units"]
    for t in reversed(times) if params["go_backwards"] else times:
        if mask is None or mask[t]:
            states = step(sequence[t], *states)
            output = states[0]
        elif params.get("zero_output_for_mask"):
            output = [0.0] * params["units"]
        outputs.append(output)
    return outputs, states


@oracle("LSTM")
def lstm(params, inputs, weights, *, training=False, mask=None, initial_state=None, **_):
    """`lstm_step` over the sequence of each sample. States: h, c.

    Without ``return_sequences`` the output is that of the last step processed. ``unroll`` and ``stateful`` do
    not change what one call means; how the bias is initialised is not this function's affair.
    """
    if training and (params.get("dropout") or params.get("recurrent_dropout")):
        raise ValueError("the oracle of LSTM has no dropout: call it with training=False, or with rates of 0")
    (x,) = inputs
    zeros = [0.0] * params["units"]
    sequences, final = [], ([], [])
    for n, sequence in enumerate(x):
        states = (zeros, zeros) if initial_state is None else tuple(state[n] for state in initial_state)
        outputs, states = scan(
            params,
            lambda xt, h, c: lstm_step(params, weights, xt, h, c),
            sequence,
            None if mask is None else mask[n],
            states,
        )
        sequences.append(outputs)
        for batch, state in zip(final, states, strict=True):
            batch.append(state)
    last = [outputs[-1] if outputs else zeros for outputs in sequences]
    y = sequences if params["return_sequences"] else last
    states = list(final)
    return Outcome([y, *states] if params["return_state"] else [y], states=states)
