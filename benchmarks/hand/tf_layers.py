"""Single layers as a user of TensorFlow's own operations would call them, each in a tf.function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def _recurrent(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, step: Callable[..., Any], count: int) -> tf.Tensor:
    """The last output: the input's share of all gates in one product, then a loop."""
    batch, time, size = x.shape
    gates = tf.nn.bias_add(tf.reshape(tf.transpose(x, (1, 0, 2)), (-1, size)) @ kernel, bias)
    now = tf.TensorArray(x.dtype, time).unstack(tf.reshape(gates, (time, batch, -1)))
    units = kernel.shape[1] // {1: 1, 2: 4, 3: 3}[count]
    states = (tf.zeros((batch, units)),) * (2 if count == 2 else 1)
    _, *states = tf.while_loop(
        lambda t, *_: t < time, lambda t, *states: (t + 1, *step(now.read(t), *states)), (0, *states)
    )
    return states[0]


def _lstm(x: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    def step(z: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple:
        i, f, g, o = tf.split(z + h @ recurrent, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    return _recurrent(x, kernel, bias, step, 2)


def _gru(x: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    def step(now: tf.Tensor, h: tf.Tensor) -> tuple:
        z, r, g = tf.split(now, 3, axis=1)
        hz, hr, hg = tf.split(h @ recurrent + bias[1], 3, axis=1)
        z, r = tf.sigmoid(z + hz), tf.sigmoid(r + hr)
        return (z * h + (1 - z) * tf.tanh(g + r * hg),)

    return _recurrent(x, kernel, bias[0], step, 3)


def _rnn(x: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return _recurrent(x, kernel, bias, lambda z, h: (tf.tanh(z + h @ recurrent),), 1)


def _normalized(x: tf.Tensor, axes: list[int], gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


def _groups(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    n, h, w, c = x.shape
    g = tf.reshape(x, (n, h, w, 8, c // 8))
    mean, variance = tf.nn.moments(g, [1, 2, 4], keepdims=True)
    return tf.reshape((g - mean) * tf.math.rsqrt(variance + 1e-3), x.shape) * gamma + beta


def _dot_product(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, scale: float) -> tf.Tensor:
    return tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * scale) @ v


def _heads(x: tf.Tensor, y: tf.Tensor, qk, qb, kk, kb, vk, vb, ok, ob) -> tf.Tensor:
    def projected(a: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.einsum("btd,dhk->bthk", a, w) + b, (0, 2, 1, 3))

    z = _dot_product(projected(x, qk, qb), projected(y, kk, kb), projected(y, vk, vb), qk.shape[-1] ** -0.5)
    return tf.einsum("bhtk,hkd->btd", z, ok) + ob


def _local(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    patches = tf.image.extract_patches(x, (1, 3, 3, 1), (1, 1, 1, 1), (1, 1, 1, 1), "VALID")
    n, h, w, c = patches.shape
    y = tf.transpose(tf.reshape(patches, (n, h * w, c)), (1, 0, 2)) @ kernel
    return tf.reshape(tf.transpose(y, (1, 0, 2)), (n, h, w, -1)) + bias


CALLS: dict[str, Callable[..., tf.Tensor]] = {
    "dense": lambda x, w, b: tf.nn.bias_add(x @ w, b),
    "embedding": lambda x, e: tf.gather(e, x),
    "conv1d": lambda x, w, b: tf.nn.bias_add(tf.nn.conv1d(tf.pad(x, ((0, 0), (4, 0), (0, 0))), w, 1, "VALID"), b),
    "conv2d": lambda x, w, b: tf.nn.bias_add(tf.nn.conv2d(x, w, 1, "SAME"), b),
    "conv3d": lambda x, w, b: tf.nn.bias_add(tf.nn.conv3d(x, w, (1, 1, 1, 1, 1), "SAME"), b),
    "depthwise": lambda x, w, b: tf.nn.bias_add(tf.nn.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME"), b),
    "transposed": lambda x, w, b: tf.nn.bias_add(
        tf.nn.conv2d_transpose(x, w, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], b.shape[0]), 2, "SAME"), b
    ),
    "max pooling": lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"),
    "average pooling": lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"),
    "global pooling": lambda x: tf.reduce_mean(x, (1, 2)),
    "upsampling": lambda x: tf.image.resize(x, (2 * x.shape[1], 2 * x.shape[2])),
    "padding": lambda x: tf.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))),
    "locally connected": _local,
    "layer normalization": lambda x, g, b: _normalized(x, [2], g, b),
    "group normalization": _groups,
    "softmax": tf.nn.softmax,
    "lstm": _lstm,
    "gru": _gru,
    "simple rnn": _rnn,
    "bidirectional": lambda x, *w: tf.concat([_lstm(x, *w[:3]), _lstm(tf.reverse(x, (1,)), *w[3:])], 1),
    "attention": lambda x, y: _dot_product(x, y, y, 1.0),
    "multi-head attention": _heads,
    "merge": lambda x, y: x + y,
}


class Call:
    """One call, ready to run."""

    def __init__(self, name: str, config: dict[str, Any], inputs: list[np.ndarray], values: list[np.ndarray]):
        self.x = [tf.constant(x) for x in inputs]
        self.weights, self.moving = [tf.Variable(v) for v in values], []
        if name == "batch normalization":
            self.weights, self.moving = self.weights[:2], self.weights[2:]
        self.call = CALLS.get(name)
        self.training = False
        self.name = name

    def _run(self, x: list[tf.Tensor], training: bool) -> tf.Tensor:
        if self.name == "dropout":
            return tf.nn.dropout(x[0], 0.5) if training else tf.identity(x[0])
        if self.name != "batch normalization":
            return self.call(*x, *self.weights)  # type: ignore[misc]
        y, *moments = tf.compat.v1.nn.fused_batch_norm(
            x[0], *self.weights, *self.moving, epsilon=1e-3, is_training=training, exponential_avg_factor=0.01
        )
        for kept, now in zip(self.moving, moments, strict=True):
            if training:
                kept.assign(now)
        return y

    @tf.function(autograph=False)
    def forward(self) -> tf.Tensor:
        return self._run(self.x, False)

    @tf.function(autograph=False)
    def gradients(self) -> list[tf.Tensor]:
        floats = [x for x in self.x if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(floats)
            y = self._run(self.x, True)
            total = tf.reduce_sum(y * y)
        return [tf.convert_to_tensor(g) for g in tape.gradient(total, [*floats, *self.weights])]
