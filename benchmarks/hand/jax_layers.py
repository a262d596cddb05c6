"""Single layers as a user of JAX's own functions would call them, each compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp


def _recurrent(step: Callable[..., Any], states: int, x: jax.Array, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """The last output: the input's share of all gates in one product, then a scan."""
    start = (jnp.zeros((x.shape[0], recurrent.shape[0]), x.dtype),) * states
    gates = x.swapaxes(0, 1) @ kernel + bias
    last, _ = lax.scan(lambda carry, now: (step(recurrent, now, *carry), None), start, gates)
    return last[0]


def _lstm_step(recurrent: jax.Array, now: jax.Array, h: jax.Array, c: jax.Array) -> tuple:
    i, f, g, o = jnp.split(now + h @ recurrent, 4, axis=1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


_lstm = partial(_recurrent, _lstm_step, 2)


def _gru(x: jax.Array, kernel: jax.Array, recurrent: jax.Array, bias: jax.Array) -> jax.Array:
    def step(recurrent: jax.Array, now: jax.Array, h: jax.Array) -> tuple:
        z, r, g = jnp.split(now, 3, axis=1)
        hz, hr, hg = jnp.split(h @ recurrent + bias[1], 3, axis=1)
        z, r = jax.nn.sigmoid(z + hz), jax.nn.sigmoid(r + hr)
        return (z * h + (1 - z) * jnp.tanh(g + r * hg),)

    return _recurrent(step, 1, x, kernel, recurrent, bias[0])


def _rnn(x: jax.Array, *weights: jax.Array) -> jax.Array:
    return _recurrent(lambda recurrent, now, h: (jnp.tanh(now + h @ recurrent),), 1, x, *weights)


def _conv(layout: str, padding: Any, x: jax.Array, w: jax.Array, b: jax.Array, groups: int = 1) -> jax.Array:
    image = f"N{layout}C"
    return b + lax.conv_general_dilated(
        x, w, (1,) * len(layout), padding, dimension_numbers=(image, f"{layout}IO", image), feature_group_count=groups
    )


def _pooled(function: Any, start: float, x: jax.Array, size: int, stride: int, padding: str) -> jax.Array:
    return lax.reduce_window(x, start, function, (1, size, size, 1), (1, stride, stride, 1), padding)


def _average(x: jax.Array) -> jax.Array:
    total, count = (_pooled(lax.add, 0.0, a, 3, 2, "SAME") for a in (x, jnp.ones((1, *x.shape[1:-1], 1), x.dtype)))
    return total / count


def _transposed(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWOI", "NHWC")
    return b + lax.conv_transpose(x, jnp.flip(w, (0, 1)), (2, 2), "SAME", dimension_numbers=layout)


def _local(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    n, h, w, c = x.shape
    cells = [x[:, i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3)]
    patches = jnp.concatenate(cells, -1).reshape(n, -1, 9 * c)
    return jnp.einsum("npk,pkf->npf", patches, kernel).reshape(n, h - 2, w - 2, -1) + bias


def _normalized(x: jax.Array, axes: tuple[int, ...], gamma: Any = 1.0, beta: Any = 0.0) -> jax.Array:
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-3) * gamma + beta


def _groups(x: jax.Array, gamma: jax.Array, beta: jax.Array) -> jax.Array:
    n, h, w, c = x.shape
    return _normalized(x.reshape(n, h, w, 8, c // 8), (1, 2, 4)).reshape(x.shape) * gamma + beta


def _dot_product(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> jax.Array:
    return jax.nn.softmax(q @ k.swapaxes(-1, -2) * scale) @ v


def _heads(x: jax.Array, y: jax.Array, qk, qb, kk, kb, vk, vb, ok, ob) -> jax.Array:
    def projected(a: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        return (jnp.einsum("btd,dhk->bthk", a, w) + b).swapaxes(1, 2)

    z = _dot_product(projected(x, qk, qb), projected(y, kk, kb), projected(y, vk, vb), qk.shape[-1] ** -0.5)
    return jnp.einsum("bhtk,hkd->btd", z, ok) + ob


CALLS: dict[str, Callable[..., jax.Array]] = {
    "dense": lambda x, w, b: x @ w + b,
    "embedding": lambda x, e: e[x],
    "conv1d": partial(_conv, "W", ((4, 0),)),
    "conv2d": partial(_conv, "HW", "SAME"),
    "conv3d": partial(_conv, "DHW", "SAME"),
    "depthwise": lambda x, w, b: _conv("HW", "SAME", x, w.reshape(*w.shape[:2], 1, -1), b, x.shape[-1]),
    "transposed": _transposed,
    "max pooling": lambda x: _pooled(lax.max, -jnp.inf, x, 2, 2, "VALID"),
    "average pooling": _average,
    "global pooling": lambda x: x.mean((1, 2)),
    "upsampling": lambda x: jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "bilinear"),
    "padding": lambda x: jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))),
    "locally connected": _local,
    "layer normalization": lambda x, g, b: _normalized(x, (2,), g, b),
    "group normalization": _groups,
    "softmax": jax.nn.softmax,
    "lstm": _lstm,
    "gru": _gru,
    "simple rnn": _rnn,
    "bidirectional": lambda x, *w: jnp.concatenate([_lstm(x, *w[:3]), _lstm(x[:, ::-1], *w[3:])], 1),
    "attention": lambda x, y: _dot_product(x, y, y, 1.0),
    "multi-head attention": _heads,
    "merge": lambda x, y: x + y,
}


class Call:
    """One call, ready to run."""

    def __init__(self, name: str, config: dict[str, Any], inputs: list[np.ndarray], values: list[np.ndarray]):
        self.x, self.weights = list(map(jnp.array, inputs)), list(map(jnp.array, values))
        self.name, self.key = name, jax.random.key(0)
        self.floating = [k for k, x in enumerate(inputs) if x.dtype.kind == "f"]
        self._forward = jax.jit(lambda x, weights: self._run(x, weights, None))
        self._gradients = jax.jit(jax.grad(self._total))

    def _run(self, x: list[jax.Array], weights: list[jax.Array], key: Any) -> jax.Array:
        if self.name == "dropout":
            return x[0] if key is None else jnp.where(jax.random.bernoulli(key, 0.5, x[0].shape), x[0] / 0.5, 0)
        if self.name != "batch normalization":
            return CALLS[self.name](*x, *weights)
        gamma, beta, mean, variance = weights
        if key is not None:
            return _normalized(x[0], (0, 1, 2), gamma, beta)
        return (x[0] - mean) * (gamma * lax.rsqrt(variance + 1e-3)) + beta

    def _total(self, params: Any, x: list[jax.Array], key: Any) -> jax.Array:
        floats, weights = params
        x = list(x)
        for k, param in zip(self.floating, floats, strict=True):
            x[k] = param
        return (self._run(x, weights, key) ** 2).sum()

    def forward(self) -> jax.Array:
        return self._forward(self.x, self.weights)

    def gradients(self) -> Any:
        return self._gradients(([self.x[k] for k in self.floating], self.weights), self.x, self.key)
