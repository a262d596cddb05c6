"""Recurrent layers.

Not tf.raw_ops.BlockLSTMV2: on CPU (2.21) its gradient has the blocks of f and c exchanged, and wide layers are slower.
"""

import tensorflow as tf

from layerhub.kernels import KernelSet
from layerhub.spec.activations import sigmoid, tanh
from layerhub.spec.layer import Result
from layerhub_tf import namespace as xp
from layerhub_tf.kernels.activations import logistic

kernels = KernelSet()


def _served(layer, call):
    if layer.activation != tanh() or layer.recurrent_activation != sigmoid():
        return False
    # Other inputs for each gate, or dropped states, are left to the definition.
    return not call.training or (not layer.recurrent_dropout and (layer.implementation == 2 or not layer.dropout))


@kernels.register("LSTM", when=_served)
def lstm(layer, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng):
    if x.shape[1] == 0:
        return layer.define(xp, x, kernel, recurrent_kernel, bias, training, mask, initial_state, rng)
    if layer.go_backwards:
        x = tf.reverse(x, (1,))
        mask = None if mask is None else tf.reverse(mask, (1,))
    factors, _ = layer.drops(xp, x, training, rng)
    if factors is not None:
        x = x * tf.expand_dims(factors[0], 1)
    batch, time = xp.size(x, 0), xp.size(x, 1)
    start = initial_state or (tf.zeros((batch, layer.units), x.dtype),) * 2
    # The inputs' part of all gates at all steps is one product.
    rows = tf.reshape(tf.transpose(x, (1, 0, 2)), (-1, kernel.shape[0]))
    gates = tf.matmul(rows, _ordered(kernel))
    gates = gates if bias is None else tf.nn.bias_add(gates, _ordered(bias))
    gates = tf.reshape(gates, (time, batch, 4 * layer.units))
    counts = None if mask is None else tf.expand_dims(tf.transpose(mask), -1)
    run = _differentiable if training else _forward
    outputs, h, c = run(gates, _ordered(recurrent_kernel), *start, counts, layer.return_sequences)
    silent = None
    if mask is not None and layer.zero_output_for_mask:
        silent = tf.logical_not(counts)
    elif mask is not None and initial_state is not None:
        # Before the first step that counts there is no output to go on with, though there are states.
        silent = tf.equal(tf.cumsum(tf.cast(counts, tf.int32)), 0)
    if not layer.return_sequences:
        y = h if silent is None else tf.where(silent[-1], tf.zeros_like(h), h)
    else:
        y = outputs if silent is None else tf.where(silent, tf.zeros_like(outputs), outputs)
        y = tf.transpose(y, (1, 0, 2))
    return Result(y, states=(h, c))


def _ordered(weight):
    """Gates i f o g instead of i f g o, so that those with a sigmoid lie together."""
    i, f, g, o = tf.split(weight, 4, axis=-1)
    return tf.concat((i, f, o, g), -1)


def _forward(gates, weight, h, c, counts, sequences):
    """(h at all steps or None, the last h, the last c). counts: (time, batch, 1), which steps count, or None."""
    (outputs, *_), h, c = _loop(gates, weight, h, c, counts, (sequences, False, False))
    return outputs, h, c


def _differentiable(gates, weight, h, c, counts, sequences):
    """``_forward`` with a gradient that walks back once, and multiplies matrices for all steps at a time."""

    @tf.custom_gradient
    def run(gates, weight, h, c):
        (hs, cs, zs), last_h, last_c = _loop(gates, weight, h, c, counts, (True, True, True))

        def pull(*cotangents):
            dhs = cotangents[0] if sequences else None
            return _backward(weight, h, c, hs, cs, zs, counts, dhs, *cotangents[-2:])

        return ((hs, last_h, last_c) if sequences else (last_h, last_c)), pull

    found = run(gates, weight, h, c)
    return found if sequences else (None, *found)


def _loop(gates, weight, h, c, counts, kept):
    """The steps from first to last. kept: whether h, c, z (what goes into the gates) of all steps are wanted.

    Returns what was kept (None for what was not), the last h, the last c.
    """
    units = weight.shape[0]
    now, counted = _read(gates), None if counts is None else _read(counts)

    def step(t, h, c, lists):
        z = now(t) + tf.matmul(h, weight)
        ifo, g = tf.split(z, (3 * units, units), axis=1)
        i, f, o = tf.split(logistic(ifo), 3, axis=1)
        new_c = f * c + i * tf.tanh(g)
        new_h = o * tf.tanh(new_c)
        if counted is not None:
            valid = counted(t)
            new_h, new_c = tf.where(valid, new_h, h), tf.where(valid, new_c, c)
        made = [row for row, keep in zip((new_h, new_c, z), kept, strict=True) if keep]
        return t + 1, new_h, new_c, [_written(rows, t, row) for rows, row in zip(lists, made, strict=True)]

    shapes = [tf.shape(x)[-2:] for x, keep in zip((h, c, gates), kept, strict=True) if keep]
    lists, h, c = _repeated(step, xp.size(gates, 0), h, c, [_rows(gates, shape) for shape in shapes])
    stacks = [_stacked(rows, shape, gates.dtype) for rows, shape in zip(lists, shapes, strict=True)]
    return [stacks.pop(0) if keep else None for keep in kept], h, c


def _backward(weight, h, c, hs, cs, zs, counts, dhs, dh, dc):
    """The gradients of gates, weight, h and c, from those of h at all steps (or None), the last h and the last c."""
    units, last = weight.shape[0], xp.size(zs, 0) - 1
    # What needs no step before it is done for all steps at a time.
    before, c_before = tf.concat((h[None], hs), 0)[:-1], tf.concat((c[None], cs), 0)[:-1]
    ifo, g = tf.split(zs, (3 * units, units), axis=2)
    i, f, o = tf.split(tf.sigmoid(ifo), 3, axis=2)
    # The complements of the gates, without the cancellation of 1 - gate.
    i_, f_, o_ = tf.split(tf.sigmoid(-ifo), 3, axis=2)
    g = tf.tanh(g)
    c_after = tf.tanh(f * c_before + i * g)
    # A step's gradients: dz = slopes * (dc, dc, dh, dc), dc = dc after + dh * through, and then dc before = dc * f.
    slopes = tf.concat((g * i * i_, c_before * f * f_, c_after * o * o_, i * (1 - g) * (1 + g)), 2)
    through = o * (1 - c_after) * (1 + c_after)
    if counts is not None:
        # A step that does not count hands everything on.
        slopes, through = xp.where(counts, slopes, 0), xp.where(counts, through, 0)
        f = xp.where(counts, f, 1)
    now = _read(tf.concat((slopes, through, f), 2))
    pulled, counted = None if dhs is None else _read(dhs), None if counts is None else _read(counts)
    back = tf.transpose(weight)

    def step(t, dh, dc, rows):
        t = last - t
        slope, through, f = tf.split(now(t), (4 * units, units, units), axis=1)
        dh = dh if pulled is None else dh + pulled(t)
        dc = dc + dh * through
        dz = slope * tf.concat((dc, dc, dh, dc), 1)
        handed = tf.matmul(dz, back)
        handed = handed if counted is None else handed + xp.where(counted(t), 0, dh)
        return last - t + 1, handed, dc * f, [_written(rows[0], t, dz)]

    (dz,), dh, dc = _repeated(step, last + 1, dh, dc, [_rows(zs, tf.shape(zs)[1:])])
    dz = _stacked(dz, tf.shape(zs)[1:], zs.dtype)
    rows = tf.reshape(before, (-1, units)), tf.reshape(dz, (-1, 4 * units))
    return dz, tf.matmul(*rows, transpose_a=True), dh, dc


def _repeated(step, count, h, c, rows):
    """``step(t, h, c, rows)`` for t below ``count``; returns rows, h, c."""
    any_batch = tf.TensorShape((None, h.shape[1]))
    _, h, c, rows = tf.while_loop(
        lambda t, *rest: t < count,
        step,
        (tf.constant(0), h, c, rows),
        (tf.TensorShape(()), any_batch, any_batch, [tf.TensorShape(())] * len(rows)),
    )
    return rows, h, c


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
