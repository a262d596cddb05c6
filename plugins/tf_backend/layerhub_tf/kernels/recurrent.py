"""Recurrent layers: a loop over the steps; its gradient walks back once, and multiplies for all steps at a time.

Not tf.raw_ops.BlockLSTMV2: on CPU (2.21) its gradient has the blocks of f and c exchanged, and wide layers are slower.
"""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub.spec.activations import relu, sigmoid, tanh
from layerhub.spec.layer import Result
from layerhub_tf import namespace as xp
from layerhub_tf.kernels.activations import logistic
from layerhub_tf.kernels.convolution import conv

kernels = KernelSet()


def _usual(layer, call):
    return layer.activation == tanh() and layer.recurrent_activation == sigmoid() and _same_for_all_gates(layer, call)


def _same_for_all_gates(layer, call):
    # Other inputs for each gate, or dropped states, are left to the definition.
    return not call.training or (not layer.recurrent_dropout and (layer.implementation == 2 or not layer.dropout))


# What differs between the layers: a step, and the way back. weights: the recurrent kernel, then a bias if it needs one.
#
#   step(now, weights, states): now is the inputs' part of all gates -> (new states, parts of a row to be kept).
#   slopes(before, after, rows): of all steps at a time, what the way back needs, from the states before and after
#       each step and the rows; parts of a row again, which will be zeros for steps that do not count.
#   back(slopes, kernel, gradients): one step back; kernel is transposed -> (gradients of the states before, a row).
#   gathered(before, slopes, rows, biased): of all steps, from the rows of the way back -> the gradients of the inputs'
#       part, and of the weights.
#
# row, wide: the sizes of the rows that are kept on the way forward, and on the way back.


class _Lstm:
    """Gates lie i f o g, so that those with a sigmoid lie together. A row has what goes into them."""

    def __init__(self, units):
        self.units, self.row, self.wide = units, 4 * units, 4 * units

    def step(self, now, weights, states):
        h, c = states
        z = now + tf.matmul(h, weights[0])
        ifo, g = tf.split(z, (3 * self.units, self.units), axis=1)
        i, f, o = tf.split(logistic(ifo), 3, axis=1)
        c = f * c + i * tf.tanh(g)
        return (o * tf.tanh(c), c), (z,)

    def slopes(self, before, after, rows):
        ifo, g = tf.split(rows, (3 * self.units, self.units), axis=2)
        i, f, o = tf.split(tf.sigmoid(ifo), 3, axis=2)
        # The complements of the gates, without the cancellation of 1 - gate.
        i_, f_, o_ = tf.split(tf.sigmoid(-ifo), 3, axis=2)
        g, c_before = tf.tanh(g), before[1]
        c = tf.tanh(f * c_before + i * g)
        return g * i * i_, c_before * f * f_, c * o * o_, i * (1 - g) * (1 + g), o * (1 - c) * (1 + c), f

    def back(self, slopes, kernel, gradients):
        # dz = slopes * (dc, dc, dh, dc), dc = dc after + dh * through, and then dc before = dc * f.
        slope, through, f = tf.split(slopes, (self.wide, self.units, self.units), axis=1)
        dh, dc = gradients
        dc = dc + dh * through
        dz = slope * tf.concat((dc, dc, dh, dc), 1)
        return (tf.matmul(dz, kernel), dc * f), dz

    def gathered(self, before, slopes, rows, biased):
        return rows, (_product(before[0], rows),)


class _Gru:
    """Gates lie z r g. A row has what goes into z and r, then g, then what the state gives to g before it is reset."""

    def __init__(self, units):
        self.units, self.row, self.wide = units, 4 * units, units

    def step(self, now, weights, states):
        (h,), u = states, self.units
        inner = tf.matmul(h, weights[0])
        inner = tf.nn.bias_add(inner, weights[1]) if len(weights) == 2 else inner
        zr, inner = now[:, : 2 * u] + inner[:, : 2 * u], inner[:, 2 * u :]
        z, r = tf.split(logistic(zr), 2, axis=1)
        g = tf.tanh(now[:, 2 * u :] + r * inner)
        return (z * h + (1 - z) * g,), (zr, g, inner)

    def slopes(self, before, after, rows):
        zr, g, inner = tf.split(rows, (2 * self.units, self.units, self.units), axis=2)
        (z, r), (z_, r_) = tf.split(tf.sigmoid(zr), 2, axis=2), tf.split(tf.sigmoid(-zr), 2, axis=2)
        to_g = z_ * (1 - g) * (1 + g)
        return (before[0] - g) * z * z_, to_g * inner * r * r_, to_g * r, z, to_g

    def back(self, slopes, kernel, gradients):
        slope, z, _ = tf.split(slopes, (3 * self.units, self.units, self.units), axis=1)
        (dh,) = gradients
        return (tf.matmul(slope * tf.concat((dh, dh, dh), 1), kernel) + dh * z,), dh

    def gathered(self, before, slopes, rows, biased):
        u = self.units
        slope, _, to_g = tf.split(slopes, (3 * u, u, u), axis=2)
        inner = slope * tf.concat((rows, rows, rows), 2)
        gates = tf.concat((inner[:, :, : 2 * u], rows * to_g), 2)
        of_bias = (tf.reduce_sum(inner, (0, 1)),) if biased else ()
        return gates, (_product(before[0], inner), *of_bias)


class _Elman:
    """One gate; the state says all that there is to know of it."""

    def __init__(self, units, activation):
        self.units, self.row, self.wide = units, 0, units
        self.bent = isinstance(activation, tanh)

    def step(self, now, weights, states):
        z = now + tf.matmul(states[0], weights[0])
        return (tf.tanh(z) if self.bent else tf.nn.relu(z),), ()

    def slopes(self, before, after, rows):
        (h,) = after
        return ((1 - h) * (1 + h) if self.bent else xp.where(h <= 0, tf.zeros_like(h), tf.ones_like(h)),)

    def back(self, slopes, kernel, gradients):
        dz = slopes * gradients[0]
        return (tf.matmul(dz, kernel),), dz

    def gathered(self, before, slopes, rows, biased):
        return rows, (_product(before[0], rows),)


def _product(a, b):
    """The sum over all steps and samples of products of a feature of a and one of b."""
    return tf.matmul(tf.reshape(a, (-1, a.shape[-1])), tf.reshape(b, (-1, b.shape[-1])), transpose_a=True)


@kernels.register("LSTM", when=_usual)
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    weights = [None if weight is None else _ordered(weight) for weight in (kernel, bias, recurrent_kernel)]
    return _along(layer, _Lstm(layer.units), x, *weights[:2], weights[2:], training, mask, initial_state, rng)


def _ordered(weight):
    """Gates i f o g instead of i f g o."""
    i, f, g, o = tf.split(weight, 4, axis=-1)
    return tf.concat((i, f, o, g), -1)


@kernels.register("GRU", when=lambda layer, call: layer.reset_after and _usual(layer, call))
def gru(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    first, *second = (None,) if bias is None else tf.unstack(bias)
    weights = [recurrent_kernel, *second]
    return _along(layer, _Gru(layer.units), x, kernel, first, weights, training, mask, initial_state, rng)


@kernels.register(
    "SimpleRNN", when=lambda layer, call: layer.activation in (tanh(), relu()) and _same_for_all_gates(layer, call)
)
def simple_rnn(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    kind = _Elman(layer.units, layer.activation)
    return _along(layer, kind, x, kernel, bias, [recurrent_kernel], training, mask, initial_state, rng)


def _along(layer, kind, x, kernel, bias, weights, training, mask, initial_state, rng):
    """A layer of this kind, by the weights of its inputs and those of its states."""
    if layer.go_backwards:
        x = tf.reverse(x, (1,))
        mask = None if mask is None else tf.reverse(mask, (1,))
    factors, _ = layer.drops(xp, x, training, rng)
    if factors is not None:
        x = x * tf.expand_dims(factors[0], 1)
    batch, time = xp.size(x, 0), xp.size(x, 1)
    silence = tf.zeros((batch, layer.units), x.dtype)
    start = initial_state or (silence,) * layer.states
    if x.shape[1] == 0:
        return Result(tf.zeros((batch, 0, layer.units), x.dtype) if layer.return_sequences else silence, states=start)
    # The inputs' part of all gates at all steps is one product.
    gates = tf.matmul(tf.reshape(tf.transpose(x, (1, 0, 2)), (-1, kernel.shape[0])), kernel)
    gates = gates if bias is None else tf.nn.bias_add(gates, bias)
    gates = tf.reshape(gates, (time, batch, kernel.shape[1]))
    counts = None if mask is None else tf.expand_dims(tf.transpose(mask), -1)
    run = _differentiable if training else _forward
    outputs, *states = run(kind, gates, weights, start, counts, layer.return_sequences)
    silent = None
    if mask is not None and layer.zero_output_for_mask:
        silent = tf.logical_not(counts)
    elif mask is not None and initial_state is not None:
        # Before the first step that counts there is no output to go on with, though there are states.
        silent = tf.equal(tf.cumsum(tf.cast(counts, tf.int32)), 0)
    if not layer.return_sequences:
        if silent is None and initial_state is not None:
            silent = tf.fill((time, 1, 1), False)
        # Of no steps there is no last one.
        y = states[0] if silent is None else xp.where(tf.reduce_all(silent[-1:], 0), 0, states[0])
    else:
        y = outputs if silent is None else tf.where(silent, tf.zeros_like(outputs), outputs)
        # A loop forgets how often it went round, and a layer behind it may have to know: Flatten does.
        y = tf.ensure_shape(tf.transpose(y, (1, 0, 2)), (*x.shape[:2], layer.units))
    return Result(y, states=tuple(states))


def _forward(kind, gates, weights, start, counts, sequences):
    """(h at all steps or None, the last states). counts: (time, batch, 1), which steps count, or None."""
    (outputs, *_), _, last = _loop(kind, gates, weights, start, counts, sequences, False)
    return outputs, *last


def _differentiable(kind, gates, weights, start, counts, sequences):
    """``_forward`` with a gradient."""
    held = len(weights)

    @tf.custom_gradient
    def run(gates, *rest):
        weights, start = rest[:held], rest[held:]
        states, rows, last = _loop(kind, gates, weights, start, counts, True, True)

        def pull(*cotangents):
            dhs = cotangents[0] if sequences else None
            return _backward(kind, weights, start, states, rows, counts, dhs, cotangents[-len(start) :])

        return ((states[0], *last) if sequences else last), pull

    found = run(gates, *weights, *start)
    return found if sequences else (None, *found)


def _loop(kind, gates, weights, start, counts, sequences, keep):
    """The steps from first to last. sequences, keep: whether h, or all states and rows, are wanted of all steps.

    Returns the states of all steps, the rows (None for what is not wanted, or not there), the last states.
    """
    now, counted = _read(gates), None if counts is None else _read(counts)
    wide = [*(kind.units,) * len(start), kind.row]
    wanted = [size > 0 and (keep or (sequences and k == 0)) for k, size in enumerate(wide)]

    def step(t, states, lists):
        new, row = kind.step(now(t), weights, states)
        if counted is not None:
            new = _moved(counted(t), new, states)
        made = [tf.concat(x, 1) for x, want in zip((*([state] for state in new), row), wanted, strict=True) if want]
        return new, [_written(rows, t, x) for rows, x in zip(lists, made, strict=True)]

    shapes = [tf.stack((tf.shape(gates)[1], size)) for size, want in zip(wide, wanted, strict=True) if want]
    last, lists = _repeated(step, xp.size(gates, 0), tuple(start), [_rows(gates, shape) for shape in shapes])
    stacks = [_stacked(rows, shape, gates.dtype) for rows, shape in zip(lists, shapes, strict=True)]
    *states, rows = [stacks.pop(0) if want else None for want in wanted]
    return states, rows, last


def _backward(kind, weights, start, states, rows, counts, dhs, gradients):
    """The gradients of gates, weights and first states, from those of h at all steps (or None) and the last states."""
    before = [tf.concat((first[None], after), 0)[:-1] for first, after in zip(start, states, strict=True)]
    slopes = tf.concat(kind.slopes(before, states, rows), 2)
    if counts is not None:
        slopes = xp.where(counts, slopes, 0)
    now, count = _read(slopes), xp.size(slopes, 0)
    pulled, counted = None if dhs is None else _read(dhs), None if counts is None else _read(counts)
    kernel = tf.transpose(weights[0])

    def step(t, gradients, lists):
        t = count - 1 - t
        if pulled is not None:
            gradients = (gradients[0] + pulled(t), *gradients[1:])
        new, row = kind.back(now(t), kernel, gradients)
        if counted is not None:
            # A step that does not count hands everything on.
            new = _moved(counted(t), new, gradients)
        return new, [_written(lists[0], t, row)]

    shape = tf.stack((tf.shape(slopes)[1], kind.wide))
    gradients, (lists,) = _repeated(step, count, tuple(gradients), [_rows(slopes, shape)])
    found, of_weights = kind.gathered(before, slopes, _stacked(lists, shape, slopes.dtype), len(weights) > 1)
    return found, *of_weights, *gradients


def _moved(counts, new, old):
    return tuple(tf.where(counts, after, before) for after, before in zip(new, old, strict=True))


def _repeated(step, count, states, lists):
    """``step(t, states, lists)`` for t below ``count``; returns the last states and lists."""
    any_batch = tuple(tf.TensorShape((None, state.shape[1])) for state in states)
    _, states, lists = tf.while_loop(
        lambda t, *rest: t < count,
        lambda t, states, lists: (t + 1, *step(t, states, lists)),
        (tf.constant(0), states, lists),
        (tf.TensorShape(()), any_batch, [tf.TensorShape(())] * len(lists)),
    )
    return states, lists


# tf.TensorArray cannot stack no rows whose batch is unknown; the operations under it can, being told the shape.


def _read(x):
    """A function that gives row t."""
    return tf.TensorArray(x.dtype, tf.shape(x)[0], element_shape=x.shape[1:]).unstack(x).read


def _rows(x, shape):
    """Room for as many rows as ``x`` has, each of ``shape``."""
    return tf.raw_ops.TensorListReserve(element_shape=shape, num_elements=tf.shape(x)[0], element_dtype=x.dtype)


def _written(rows, t, row):
    return tf.raw_ops.TensorListSetItem(input_handle=rows, index=t, item=row)


def _stacked(rows, shape, dtype):
    return tf.raw_ops.TensorListStack(input_handle=rows, element_shape=shape, element_dtype=dtype)


def conv_lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    return layer.by(conv).define(xp, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng)


for rank in (1, 2, 3):
    kernels.register(f"ConvLSTM{rank}D")(conv_lstm)
