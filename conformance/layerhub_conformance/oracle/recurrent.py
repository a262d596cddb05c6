"""Recurrent layers: a step for one sample, and one loop over time for all of them."""

from .activations import activate
from .convolution import correlate
from .core import affine
from .nested import build, channels_back, channels_last, rows, shape
from .registry import Outcome, oracle


def each(f, *xs):
    """f of the numbers that stand at the same place of nested lists."""
    if isinstance(xs[0], list | tuple):
        return [each(f, *parts) for parts in zip(*xs, strict=True)]
    return f(*xs)


def add(a, b):
    return each(lambda x, y: x + y, a, b)


def multiply(a, b):
    return each(lambda x, y: x * y, a, b)


def blocks(x, count):
    """The last axis, cut into ``count`` blocks of columns."""

    def block(k):
        return rows(lambda row: row[k * len(row) // count : (k + 1) * len(row) // count], x)

    return [block(k) for k in range(count)]


def biased(x, bias):
    """x with the bias added to each row of its last axis; None: no bias."""
    return x if bias is None else rows(lambda row: [a + b for a, b in zip(row, bias, strict=True)], x)


# Steps: (x, *states) -> (output, states) for one sample. A maker is given the parameters and the weights of a cell; it
# returns the step, and the zeros that its states begin with for a sample's first x.


def simple_rnn(params, weights):
    """h = act(x kernel + h recurrent_kernel + bias). Elman 1990, doi:10.1207/s15516709cog1402_1."""
    kernel, recurrent_kernel, bias = (*weights, None)[:3]

    def step(x, h):
        z = biased(add(affine(x, kernel), affine(h, recurrent_kernel)), bias)
        h = activate(params["activation"], z)
        return h, [h]

    return step, lambda x: [[0.0] * params["units"]]


def gru(params, weights):
    """h = z h + (1 - z) g, in three blocks of columns z, r, g.

        z, r = sigma(x kernel + h recurrent_kernel + bias)
        g = act(x kernel + b0 + r (h recurrent_kernel + b1))        with reset_after
        g = act(x kernel + b + (r h) recurrent_kernel)              without

    with sigma the recurrent activation. With reset_after the bias has two rows: b0 belongs to x, b1 to h. Cho et al.
    2014, arXiv:1406.1078, version 3 and version 1.
    """
    kernel, recurrent_kernel, bias = (*weights, None)[:3]
    after = params["reset_after"]
    of_x, of_h = (bias or (None, None)) if after else (bias, None)
    into_z, into_r, into_g = blocks(recurrent_kernel, 3)
    own = [None] * 3 if of_h is None else blocks(of_h, 3)

    def step(x, h):
        x_z, x_r, x_g = blocks(biased(affine(x, kernel), of_x), 3)
        z = activate(params["recurrent_activation"], add(x_z, biased(affine(h, into_z), own[0])))
        r = activate(params["recurrent_activation"], add(x_r, biased(affine(h, into_r), own[1])))
        from_h = multiply(r, biased(affine(h, into_g), own[2])) if after else affine(multiply(r, h), into_g)
        g = activate(params["activation"], add(x_g, from_h))
        h = each(lambda share, old, new: share * old + (1 - share) * new, z, h, g)
        return h, [h]

    return step, lambda x: [[0.0] * params["units"]]


def long_short_term(params, from_x, from_h, h, c):
    """(h, c) after a step, from what x and h give the gates, bias included, in blocks of columns i, f, g, o.

        c = sigma(f) c + sigma(i) act(g)
        h = sigma(o) act(c)

    with sigma the recurrent activation. Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; the
    forget gate is that of Gers et al. 2000, doi:10.1162/089976600300015015.
    """
    z_i, z_f, z_g, z_o = blocks(add(from_x, from_h), 4)
    i, f, o = (activate(params["recurrent_activation"], z) for z in (z_i, z_f, z_o))
    c = add(multiply(f, c), multiply(i, activate(params["activation"], z_g)))
    return multiply(o, activate(params["activation"], c)), c


def lstm(params, weights):
    """`long_short_term`, of x kernel + bias and h recurrent_kernel."""
    kernel, recurrent_kernel, bias = (*weights, None)[:3]

    def step(x, h, c):
        h, c = long_short_term(params, biased(affine(x, kernel), bias), affine(h, recurrent_kernel), h, c)
        return h, [h, c]

    return step, lambda x: [[0.0] * params["units"]] * 2


def conv_lstm(params, weights):
    """`long_short_term`, of convolutions: x by kernel, h by recurrent_kernel so that its size stays.

    Shi et al. 2015, arXiv:1506.04214, without peepholes. Channels come last, or are moved there and back.
    """
    kernel, recurrent_kernel, bias = (*weights, None)[:3]
    ones = (1,) * len(params["strides"])
    data_format = params["data_format"]

    def of_x(x):
        window = (params["strides"], params["padding"], params["dilation_rate"])
        return biased(correlate(channels_last(x, data_format), kernel, *window), bias)

    def step(x, h, c):
        h, c = (channels_last(state, data_format) for state in (h, c))
        from_h = correlate(h, recurrent_kernel, ones, "same", ones)
        h, c = (channels_back(state, data_format) for state in long_short_term(params, of_x(x), from_h, h, c))
        return h, [h, c]

    def zeros(x):
        size = (*shape(of_x(x))[:-1], params["filters"])
        return [channels_back(build(size, lambda index: 0.0), data_format)] * 2

    return step, zeros


def stacked(params, weights):
    """Cells one upon the other: the output of each is the x of the next. States: those of the first cell first."""
    parts, counts = [], []
    for cell in params["cells"]:
        make = CELLS[cell["class_name"]]
        own, weights = weights[: held(cell)], weights[held(cell) :]
        parts.append(make(cell["config"], own))
        counts.append(2 if make is lstm else 1)

    def step(x, *states):
        after = []
        for (one, _), count in zip(parts, counts, strict=True):
            own, states = states[:count], states[count:]
            x, moved = one(x, *own)
            after += moved
        return x, after

    return step, lambda x: [state for _, zeros in parts for state in zeros(x)]


def held(cell):
    """How many weights a cell has."""
    return 2 + cell["config"].get("use_bias", True)


CELLS = {"SimpleRNNCell": simple_rnn, "GRUCell": gru, "LSTMCell": lstm, "StackedRNNCells": stacked}


@oracle("SimpleRNNCell")
def simple_rnn_cell(params, inputs, weights, **others):
    """`simple_rnn` once."""
    return once(params, inputs, simple_rnn(params, weights), **others)


@oracle("GRUCell")
def gru_cell(params, inputs, weights, **others):
    """`gru` once."""
    return once(params, inputs, gru(params, weights), **others)


@oracle("LSTMCell")
def lstm_cell(params, inputs, weights, **others):
    """`lstm` once."""
    return once(params, inputs, lstm(params, weights), **others)


@oracle("StackedRNNCells")
def stacked_cells(params, inputs, weights, **others):
    """`stacked` once."""
    return once(params, inputs, stacked(params, weights), **others)


@oracle("SimpleRNN")
def simple_rnn_layer(params, inputs, weights, **others):
    """`simple_rnn` along time."""
    return along_time(params, inputs, simple_rnn(params, weights), **others)


@oracle("GRU")
def gru_layer(params, inputs, weights, **others):
    """`gru` along time."""
    return along_time(params, inputs, gru(params, weights), **others)


@oracle("LSTM")
def lstm_layer(params, inputs, weights, **others):
    """`lstm` along time."""
    return along_time(params, inputs, lstm(params, weights), **others)


@oracle("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def conv_lstm_layer(params, inputs, weights, **others):
    """`conv_lstm` along time."""
    return along_time(params, inputs, conv_lstm(params, weights), **others)


@oracle("RNN")
def rnn(params, inputs, weights, **others):
    """Any cell along time."""
    cell = params["cell"]
    return along_time(params, inputs, CELLS[cell["class_name"]](cell["config"], weights), **others)


def once(params, inputs, made, *, training=False, initial_state=None, **_):
    """One step of every sample: the output, then the states."""
    refuse_dropout(params, training)
    (x,), (step, zeros) = inputs, made
    outputs, final = [], []
    for n, row in enumerate(x):
        output, states = step(row, *(zeros(row) if initial_state is None else (s[n] for s in initial_state)))
        outputs.append(output)
        final.append(states)
    states = [list(state) for state in zip(*final, strict=True)]
    return Outcome([outputs, *states], states=states)


def along_time(params, inputs, made, *, training=False, mask=None, initial_state=None, **_):
    """A step for each element of each sample's sequence.

    Without ``return_sequences`` the output is that of the last step processed. ``unroll`` and ``stateful`` do
    not change what one call means; how weights are initialised is not this function's affair.
    """
    refuse_dropout(params, training)
    (x,), (step, zeros) = inputs, made
    sequences, last, final = [], [], []
    for n, sequence in enumerate(x):
        begin = zeros(sequence[0] if sequence else [])
        silent = begin[-1]  # zeros too, and the last state has the size of the output
        states = begin if initial_state is None else [state[n] for state in initial_state]
        outputs, states = scan(params, step, sequence, None if mask is None else mask[n], states, silent)
        sequences.append(outputs)
        last.append(outputs[-1] if outputs else silent)
        final.append(states)
    states = [list(state) for state in zip(*final, strict=True)]
    y = sequences if params["return_sequences"] else last
    return Outcome([y, *states] if params["return_state"] else [y], states=states)


def scan(params, step, sequence, mask, states, silent):
    """Run one sample's sequence through ``step``: (outputs, states), outputs in processing order.

    At a step that the mask hides the state is kept, and the output is the previous output, which is zero
    before the first step whatever the initial state; with ``zero_output_for_mask`` it is zero.
    ``go_backwards`` turns the sequence and its mask around, and does not turn the outputs back.
    """
    times = range(len(sequence))
    outputs, output = [], silent
    for t in reversed(times) if params["go_backwards"] else times:
        if mask is None or mask[t]:
            output, states = step(sequence[t], *states)
        elif params.get("zero_output_for_mask"):
            output = silent
        outputs.append(output)
    return outputs, states


def refuse_dropout(params, training):
    if training and (params.get("dropout") or params.get("recurrent_dropout")):
        raise ValueError("the oracle has no dropout: call it with training=False, or with rates of 0")
