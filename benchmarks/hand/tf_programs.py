"""TensorFlow: plain ops in one tf.function for each of predicting and training, Adam included."""

from __future__ import annotations

from functools import partial

import numpy as np
import tensorflow as tf

BETA_1, BETA_2 = 0.9, 0.999


class Program(tf.Module):
    """Variables, and two functions of them."""

    def __init__(self, trained: list[np.ndarray], moving: list[np.ndarray]):
        super().__init__()
        self.weights = [tf.Variable(value) for value in trained]
        self.moving = [tf.Variable(value, trainable=False) for value in moving]
        self.m = [tf.Variable(tf.zeros_like(w), trainable=False) for w in self.weights]
        self.v = [tf.Variable(tf.zeros_like(w), trainable=False) for w in self.weights]
        self.steps = tf.Variable(0.0, trainable=False)

    def logits(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        raise NotImplementedError

    def tensor(self, array: np.ndarray) -> tf.Tensor:
        return tf.constant(array)

    def array(self, tensor: tf.Tensor) -> np.ndarray:
        return tensor.numpy()

    @tf.function
    def predict(self, x: tf.Tensor) -> tf.Tensor:
        return self.logits(x, training=False)

    @tf.function
    def train(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = self.logits(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        gradients = tape.gradient(loss, self.weights)
        t = self.steps.assign_add(1.0)
        rate = 1e-3 * tf.sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
        for w, g, m, v in zip(self.weights, map(tf.convert_to_tensor, gradients), self.m, self.v, strict=True):
            moved = m.assign_add((g - m) * (1 - BETA_1))
            spread = v.assign_add((tf.square(g) - v) * (1 - BETA_2))
            w.assign_sub(rate * moved / (tf.sqrt(spread) + 1e-7))
        return loss

    def momentum(self) -> list[np.ndarray]:
        return [m.numpy() for m in self.m]


class Mlp(Program):
    def logits(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        w1, b1, w2, b2, w3, b3 = self.weights
        x = tf.nn.relu(tf.nn.bias_add(x @ w1, b1))
        x = tf.nn.relu(tf.nn.bias_add(x @ w2, b2))
        return tf.nn.bias_add(x @ w3, b3)


class Cnn(Program):
    def logits(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        *blocks, w, b = self.weights
        for k in range(3):
            kernel, gamma, beta = blocks[3 * k : 3 * k + 3]
            x = tf.nn.conv2d(x, kernel, 1, "SAME")
            x = tf.nn.relu(self.normalized(x, gamma, beta, self.moving[2 * k : 2 * k + 2], training))
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        return tf.nn.bias_add(tf.reduce_mean(x, [1, 2]) @ w, b)

    def normalized(self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, moving: list, training: bool) -> tf.Tensor:
        y, *moments = tf.compat.v1.nn.fused_batch_norm(
            x, gamma, beta, *moving, epsilon=1e-3, is_training=training, exponential_avg_factor=0.01
        )
        if training:
            for kept, now in zip(moving, moments, strict=True):
                kept.assign(now)
        return y


class Lstm(Program):
    def logits(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        embeddings, kernel, recurrent, bias, w, b = self.weights
        # Time first; the inputs' share of all gates in one product.
        x = tf.nn.embedding_lookup(embeddings, tf.transpose(x))
        steps, batch, size = x.shape
        gates = tf.nn.bias_add(tf.reshape(x, [steps * batch, size]) @ kernel, bias)
        gates = tf.reshape(gates, [steps, batch, 4 * size])
        # A step is read fastest by gather; but its gradient is as large as all steps, which a TensorArray avoids.
        now = tf.TensorArray(tf.float32, steps).unstack(gates).read if training else partial(tf.gather, gates)
        h = c = tf.zeros([batch, size])
        for t in tf.range(steps):
            i, f, g, o = tf.split(now(t) + h @ recurrent, 4, axis=1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            h = tf.sigmoid(o) * tf.tanh(c)
        return tf.nn.bias_add(h @ w, b)


PROGRAMS = {"mlp": Mlp, "cnn": Cnn, "lstm": Lstm}
