"""Recurrent layers: a step for one sample, and one loop over time for all of them."""

from functools import partial

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


def dropping(params, bits):
    """``drop(n, kind, gate, x)``: sample n's x as this gate sees it, for kind "x" (the input) or "h" (the state).

    A number is kept iff its bits are >= round(rate 2^32), for all steps alike, and then divided by 1 - rate. With
    implementation 2, and nothing dropped from h, all gates see the same. ``bits(sizes, part)`` draws numbers of these
    sizes for each sample: parts 0, 1, ... for the gates' inputs, 4, 5, ... for their states; None: nothing is dropped.
    Gal & Ghahramani 2016, arXiv:1512.05287.
    """
    if bits is None:
        return lambda n, kind, gate, x: x
    rates = {"x": params["dropout"], "h": params["recurrent_dropout"]}
    alike = params["implementation"] == 2 and not params["recurrent_dropout"]

    def drop(n, kind, gate, x):
        rate = rates[kind]
        if rate == 0:
            return x
        words = bits(shape(x), 4 * (kind == "h") + (0 if alike else gate))[n]
        return each(lambda number, word: number / (1 - rate) if word >= round(rate * 2**32) else 0.0, x, words)

    return drop


# Steps: (n, x, *states) -> (output, states) for sample n. A maker is given the parameters and the weights of a cell,
# and bits as `dropping` takes them; it returns the step, and the zeros that states begin with for a sample's first x.


def simple_rnn(params, weights, bits=None):
    """h = act(x kernel + h recurrent_kernel + bias). Elman 1990, doi:10.1207/s15516709cog1402_1."""
    kernel, recurrent_kernel, bias = (*weights, None)[:3]
    drop = dropping(params, bits)

    def step(n, x, h):
        z = biased(add(affine(drop(n, "x", 0, x), kernel), affine(drop(n, "h", 0, h), recurrent_kernel)), bias)
        h = activate(params["activation"], z)
        return h, [h]

    return step, lambda x: [[0.0] * params["units"]]


def gru(params, weights, bits=None):
    """h = z h + (1 - z) g, in three blocks of columns z, r, g.

        z, r = sigma(x kernel + h recurrent_kernel + bias)
        g = act(x kernel + b0 + r (h recurrent_kernel + b1))        with reset_after
        g = act(x kernel + b + (r h) recurrent_kernel)              without

    with sigma the recurrent activation. With reset_after the bias has two rows: b0 belongs to x, b1 to h. Cho et al.
    2014, arXiv:1406.1078, version 3 and version 1.
    """
    kernel, recurrent_kernel, bias = (*weights, None)[:3]
    after, drop = params["reset_after"], dropping(params, bits)
    of_x, of_h = (bias or (None, None)) if after else (bias, None)
    kernels, recurrent_kernels = blocks(kernel, 3), blocks(recurrent_kernel, 3)
    biases, own = ([None] * 3 if b is None else blocks(b, 3) for b in (of_x, of_h))

    def step(n, x, h):
        def from_h(gate, h):
            return biased(affine(drop(n, "h", gate, h), recurrent_kernels[gate]), own[gate])

        x_z, x_r, x_g = (biased(affine(drop(n, "x", k, x), kernels[k]), biases[k]) for k in range(3))
        z = activate(params["recurrent_activation"], add(x_z, from_h(0, h)))
        r = activate(params["recurrent_activation"], add(x_r, from_h(1, h)))
        g = activate(params["activation"], add(x_g, multiply(r, from_h(2, h)) if after else from_h(2, multiply(r, h))))
        h = each(lambda share, old, new: share * old + (1 - share) * new, z, h, g)
        return h, [h]

    return step, lambda x: [[0.0] * params["units"]]


def long_short_term(params, from_x, from_h, c):
    """(h, c) after a step, from what x and h give the gates i, f, g, o, bias included.

        c = sigma(f) c + sigma(i) act(g)
        h = sigma(o) act(c)

    with sigma the recurrent activation. Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; the
    forget gate is that of Gers et al. 2000, doi:10.1162/089976600300015015.
    """
    z_i, z_f, z_g, z_o = map(add, from_x, from_h)
    i, f, o = (activate(params["recurrent_activation"], z) for z in (z_i, z_f, z_o))
    c = add(multiply(f, c), multiply(i, activate(params["activation"], z_g)))
    return multiply(o, activate(params["activation"], c)), c


def four_gates(weights):
    """Kernels, recurrent kernels and biases of the gates i, f, g, o; a bias of None is none."""
    kernel, recurrent_kernel, bias = (*weights, None)[:3]
    return blocks(kernel, 4), blocks(recurrent_kernel, 4), [None] * 4 if bias is None else blocks(bias, 4)


def lstm(params, weights, bits=None):
    """`long_short_term`, of x kernel + bias and h recurrent_kernel."""
    (kernels, recurrent_kernels, biases), drop = four_gates(weights), dropping(params, bits)

    def step(n, x, h, c):
        from_x = [biased(affine(drop(n, "x", k, x), kernels[k]), biases[k]) for k in range(4)]
        from_h = [affine(drop(n, "h", k, h), recurrent_kernels[k]) for k in range(4)]
        h, c = long_short_term(params, from_x, from_h, c)
        return h, [h, c]

    return step, lambda x: [[0.0] * params["units"]] * 2


def conv_lstm(params, weights, bits=None):
    """`long_short_term`, of convolutions: x by kernel, h by recurrent_kernel so that its size stays.

    Shi et al. 2015, arXiv:1506.04214, without peepholes. Channels come last, or are moved there and back.
    """
    (kernels, recurrent_kernels, biases), drop = four_gates(weights), dropping(params, bits)
    window = (params["strides"], params["padding"], params["dilation_rate"])
    ones = (1,) * len(params["strides"])
    data_format = params["data_format"]

    def step(n, x, h, c):
        x, h, c = (channels_last(part, data_format) for part in (x, h, c))
        from_x = [biased(correlate(drop(n, "x", k, x), kernels[k], *window), biases[k]) for k in range(4)]
        from_h = [correlate(drop(n, "h", k, h), recurrent_kernels[k], ones, "same", ones) for k in range(4)]
        h, c = (channels_back(state, data_format) for state in long_short_term(params, from_x, from_h, c))
        return h, [h, c]

    def zeros(x):
        places = shape(correlate(channels_last(x, data_format), kernels[0], *window))[:-1]
        return [channels_back(build((*places, params["filters"]), lambda index: 0.0), data_format)] * 2

    return step, zeros


def stacked(params, weights, bits=None):
    """Cells one upon the other: the output of each is the x of the next. States: those of the first cell first.

    What cell k draws is part k of the bits, which has parts of its own.
    """
    parts = []
    for k, cell in enumerate(params["cells"]):
        own, weights = weights[: held(cell)], weights[held(cell) :]
        parts.append(CELLS[cell["class_name"]](cell["config"], own, bits and part_of(bits, k)))
    counts = [carried(cell) for cell in params["cells"]]

    def step(n, x, *states):
        after = []
        for (one, _), count in zip(parts, counts, strict=True):
            own, states = states[:count], states[count:]
            x, moved = one(n, x, *own)
            after += moved
        return x, after

    return step, lambda x: [state for _, zeros in parts for state in zeros(x)]


def part_of(bits, k):
    """The bits that lie under part k."""
    return lambda sizes, *parts: bits(sizes, k, *parts)


def cells_of(layer):
    """The cells without further cells in them that a layer or a cell is made of."""
    config = layer["config"]
    inner = config.get("cells") or ([config["cell"]] if "cell" in config else [])
    return [leaf for cell in inner for leaf in cells_of(cell)] or [layer]


def held(layer):
    """How many weights a recurrent layer or a cell has."""
    return sum(2 + cell["config"]["use_bias"] for cell in cells_of(layer))


def carried(layer):
    """How many states a recurrent layer or a cell has."""
    return sum(2 if "LSTM" in cell["class_name"] else 1 for cell in cells_of(layer))


CELLS = {"SimpleRNNCell": simple_rnn, "GRUCell": gru, "LSTMCell": lstm, "StackedRNNCells": stacked}


@oracle("SimpleRNNCell")
def simple_rnn_cell(params, inputs, weights, **others):
    """`simple_rnn` once."""
    return once(params, inputs, partial(simple_rnn, params, weights), **others)


@oracle("GRUCell")
def gru_cell(params, inputs, weights, **others):
    """`gru` once."""
    return once(params, inputs, partial(gru, params, weights), **others)


@oracle("LSTMCell")
def lstm_cell(params, inputs, weights, **others):
    """`lstm` once."""
    return once(params, inputs, partial(lstm, params, weights), **others)


@oracle("StackedRNNCells")
def stacked_cells(params, inputs, weights, **others):
    """`stacked` once."""
    return once(params, inputs, partial(stacked, params, weights), **others)


@oracle("SimpleRNN")
def simple_rnn_layer(params, inputs, weights, **others):
    """`simple_rnn` along time."""
    return along_time(params, inputs, partial(simple_rnn, params, weights), **others)


@oracle("GRU")
def gru_layer(params, inputs, weights, **others):
    """`gru` along time."""
    return along_time(params, inputs, partial(gru, params, weights), **others)


@oracle("LSTM")
def lstm_layer(params, inputs, weights, **others):
    """`lstm` along time."""
    return along_time(params, inputs, partial(lstm, params, weights), **others)


@oracle("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def conv_lstm_layer(params, inputs, weights, **others):
    """`conv_lstm` along time."""
    return along_time(params, inputs, partial(conv_lstm, params, weights), **others)


@oracle("RNN")
def rnn(params, inputs, weights, **others):
    """Any cell along time."""
    cell = params["cell"]
    return along_time(params, inputs, partial(CELLS[cell["class_name"]], cell["config"], weights), **others)


def of_batch(count, bits, training):
    """Bits as makers take them: sizes are those of one of ``count`` samples. None when not training."""

    def draw(sizes, *parts):
        if bits is None:
            raise ValueError("dropout in training needs random bits")
        return bits((count, *sizes), *parts)

    return draw if training else None


def once(params, inputs, make, *, training=False, initial_state=None, bits=None, **_):
    """One step of every sample: the output, then the states."""
    (x,) = inputs
    step, zeros = make(of_batch(len(x), bits, training))
    outputs, final = [], []
    for n, row in enumerate(x):
        output, states = step(n, row, *(zeros(row) if initial_state is None else (s[n] for s in initial_state)))
        outputs.append(output)
        final.append(states)
    states = [list(state) for state in zip(*final, strict=True)]
    return Outcome([outputs, *states], states=states)


def along_time(params, inputs, make, *, training=False, mask=None, initial_state=None, bits=None, **_):
    """A step for each element of each sample's sequence.

    Without ``return_sequences`` the output is that of the last step processed. ``unroll`` and ``stateful`` do
    not change what one call means; how weights are initialised is not this function's affair.
    """
    (x,) = inputs
    step, zeros = make(of_batch(len(x), bits, training))
    sequences, last, final = [], [], []
    for n, sequence in enumerate(x):
        begin = zeros(sequence[0] if sequence else [])
        silent = begin[-1]  # zeros too, and the last state has the size of the output
        states = begin if initial_state is None else [state[n] for state in initial_state]
        outputs, states = scan(params, partial(step, n), sequence, None if mask is None else mask[n], states, silent)
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
