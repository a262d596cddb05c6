"""JAX: pure functions of lists of arrays, compiled whole: predicting, and a step of training with Adam in it."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

BETA_1, BETA_2 = 0.9, 0.999
Arrays = list[jax.Array]


class Program:
    """Arrays, and two functions of them. What a step of training replaces, it may write over."""

    def __init__(self, trained: list[np.ndarray], moving: list[np.ndarray]):
        self.weights, self.moving = [list(map(jnp.array, values)) for values in (trained, moving)]
        self.m, self.v = [list(map(jnp.zeros_like, self.weights)) for _ in range(2)]
        self.steps = jnp.zeros((), "float32")
        self._predict = jax.jit(lambda weights, moving, x: self.logits(weights, moving, x, False)[0])
        self._train = jax.jit(self._step, donate_argnums=(0, 1, 2, 3, 4))

    def logits(self, weights: Arrays, moving: Arrays, x: jax.Array, training: bool) -> tuple[jax.Array, Arrays]:
        """The logits, and what moves along."""
        raise NotImplementedError

    def tensor(self, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array)

    def array(self, tensor: jax.Array) -> np.ndarray:
        return np.asarray(tensor)

    def predict(self, x: jax.Array) -> jax.Array:
        return self._predict(self.weights, self.moving, x)

    def train(self, x: jax.Array, y: jax.Array) -> jax.Array:
        self.weights, self.moving, self.m, self.v, self.steps, loss = self._train(
            self.weights, self.moving, self.m, self.v, self.steps, x, y
        )
        return loss

    def _loss(self, weights: Arrays, moving: Arrays, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Arrays]:
        logits, moving = self.logits(weights, moving, x, True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return -chosen.mean(), moving

    def _step(self, weights, moving, m, v, steps, x, y):
        (loss, moving), gradients = jax.value_and_grad(self._loss, has_aux=True)(weights, moving, x, y)
        t = steps + 1
        rate = 1e-3 * jnp.sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
        m = [a + (g - a) * (1 - BETA_1) for a, g in zip(m, gradients, strict=True)]
        v = [a + (g * g - a) * (1 - BETA_2) for a, g in zip(v, gradients, strict=True)]
        weights = [w - rate * a / (jnp.sqrt(b) + 1e-7) for w, a, b in zip(weights, m, v, strict=True)]
        return weights, moving, m, v, t, loss

    def momentum(self) -> list[np.ndarray]:
        return [np.asarray(m) for m in self.m]


class Mlp(Program):
    def logits(self, weights: Arrays, moving: Arrays, x: jax.Array, training: bool) -> tuple[jax.Array, Arrays]:
        w1, b1, w2, b2, w3, b3 = weights
        x = jax.nn.relu(x @ w1 + b1)
        x = jax.nn.relu(x @ w2 + b2)
        return x @ w3 + b3, moving


class Cnn(Program):
    def logits(self, weights: Arrays, moving: Arrays, x: jax.Array, training: bool) -> tuple[jax.Array, Arrays]:
        *blocks, w, b = weights
        moved: Arrays = []
        for k in range(3):
            kernel, gamma, beta = blocks[3 * k : 3 * k + 3]
            x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            mean, variance = moving[2 * k : 2 * k + 2]
            if training:
                now = x.mean((0, 1, 2)), x.var((0, 1, 2))
                moved += [a + (b - a) * 0.01 for a, b in zip((mean, variance), now, strict=True)]
                mean, variance = now
            x = jax.nn.relu((x - mean) * (gamma * lax.rsqrt(variance + 1e-3)) + beta)
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.mean((1, 2)) @ w + b, moved if training else moving


class Lstm(Program):
    def logits(self, weights: Arrays, moving: Arrays, x: jax.Array, training: bool) -> tuple[jax.Array, Arrays]:
        embeddings, kernel, recurrent, bias, w, b = weights
        # Time first; the inputs' share of all gates in one product.
        gates = embeddings[x.T] @ kernel + bias
        h = jnp.zeros((x.shape[0], recurrent.shape[0]))
        (h, _), _ = lax.scan(partial(self.cell, recurrent), (h, h), gates)
        return h @ w + b, moving

    @staticmethod
    def cell(recurrent: jax.Array, states: tuple, now: jax.Array) -> tuple:
        h, c = states
        i, f, g, o = jnp.split(now + h @ recurrent, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None


PROGRAMS = {"mlp": Mlp, "cnn": Cnn, "lstm": Lstm}
