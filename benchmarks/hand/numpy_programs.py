"""numpy: plain arrays, gradients derived by hand, BLAS on one thread and the work cut into one lane per thread.

Each lane takes its share of the batch all the way through the network and back, in memory of its own that is kept from
step to step; it meets the others only where batch normalization needs the moments of the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from threadpoolctl import threadpool_limits

THREADS = int(os.environ.get("OMP_NUM_THREADS", 2))
CREW = ThreadPoolExecutor(max(THREADS - 1, 1))
CHUNK = 1 << 14
"""How many numbers of each of some vectors stay in the cache together."""

threadpool_limits(1, "blas")


class Lane:
    """What one thread has of its own."""

    def __init__(self, number: int):
        self.number = number
        self._rooms: dict[str, np.ndarray] = {}

    def room(self, name: str, *shape: int, dtype: type = np.float32) -> np.ndarray:
        """An array to write to, the same at each step: zeros at first."""
        held = self._rooms.get(name)
        if held is None or held.shape != shape:
            held = self._rooms[name] = np.zeros(shape, dtype)
        return held

    def share(self, count: int) -> slice:
        """This lane's part of range(count)."""
        return slice(count * self.number // THREADS, count * (self.number + 1) // THREADS)


LANES = [Lane(number) for number in range(THREADS)]


def together(function: Callable[[Lane], Any]) -> list[Any]:
    """The function in all lanes at once."""
    others = [CREW.submit(function, lane) for lane in LANES[1:]]
    return [function(LANES[0]), *(other.result() for other in others)]


class Meeting:
    """A place where lanes exchange what they have."""

    def __init__(self) -> None:
        self.barrier = Barrier(THREADS)
        self.brought: list[Any] = [None] * THREADS

    def all(self, lane: Lane, mine: Any) -> list[Any]:
        self.brought[lane.number] = mine
        self.barrier.wait()
        everything = list(self.brought)
        self.barrier.wait()
        return everything


class Program:
    """Parameters, and Adam for them.

    All parameters are views of one vector, and so are the gradients, of which each lane has a vector of its own.
    """

    lanes = THREADS

    def __init__(self, trained: list[np.ndarray], moving: list[np.ndarray]):
        self.shapes = [w.shape for w in trained]
        self.moving = [value.copy() for value in moving]
        self.w = np.concatenate([w.ravel() for w in trained])
        self.g = np.zeros((self.lanes, self.w.size), np.float32)
        self.m, self.v = np.zeros_like(self.w), np.zeros_like(self.w)
        self.weights = self.views(self.w)
        self.gradients = [self.views(g) for g in self.g]
        self.steps = 0

    def views(self, vector: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), self.shapes, strict=True)]

    def tensor(self, array: np.ndarray) -> np.ndarray:
        return array

    def array(self, tensor: np.ndarray) -> np.ndarray:
        return tensor

    def momentum(self) -> list[np.ndarray]:
        return self.views(self.m.copy())

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate(together(lambda lane: self.logits(lane, x[lane.share(len(x))])))

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        def work(lane: Lane) -> float:
            part = lane.share(len(x))
            return self.learn(lane, x[part], y[part], len(x))

        loss = sum(together(work)) / len(x)
        self.adam()
        return loss

    def logits(self, lane: Lane, x: np.ndarray) -> np.ndarray:
        """The outputs for a share of the batch."""
        raise NotImplementedError

    def learn(self, lane: Lane, x: np.ndarray, y: np.ndarray, count: int) -> float:
        """The sum of the losses of a share of the batch; the gradients of the mean over ``count`` are written."""
        raise NotImplementedError

    def adam(self) -> None:
        self.steps += 1
        rate = 1e-3 * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        together(lambda lane: self.move(lane, np.float32(rate)))

    def move(self, lane: Lane, rate: np.float32) -> None:
        part, t = lane.share(self.w.size), lane.room("adam", CHUNK)
        for start in range(part.start, part.stop, CHUNK):
            chunk = slice(start, min(start + CHUNK, part.stop))
            w, m, v, (g, *more) = self.w[chunk], self.m[chunk], self.v[chunk], self.g[:, chunk]
            s = t[: len(w)]
            for other in more:
                g += other
            np.subtract(g, m, out=s)
            s *= 0.1
            m += s
            np.multiply(g, g, out=s)
            s -= v
            s *= 0.001
            v += s
            np.sqrt(v, out=s)
            s += 1e-7
            np.divide(m, s, out=s)
            s *= rate
            w -= s


def crossentropy(z: np.ndarray, y: np.ndarray, count: int) -> tuple[float, np.ndarray]:
    """The sum of the losses, and the gradient of their mean over ``count``, in place of the logits."""
    rows = np.arange(len(y))
    z -= z.max(axis=1, keepdims=True)
    chosen = z[rows, y].sum()
    np.exp(z, out=z)
    total = z.sum(axis=1, keepdims=True)
    loss = float(np.log(total).sum() - chosen)
    z /= total
    z[rows, y] -= 1
    z /= count
    return loss, z


def column_sums(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """x.sum(0), by BLAS."""
    return np.dot(np.ones(len(x), np.float32), x, out=out)


class Mlp(Program):
    def logits(self, lane: Lane, x: np.ndarray) -> np.ndarray:
        return self.activations(lane, x)[-1]

    def activations(self, lane: Lane, x: np.ndarray) -> list[np.ndarray]:
        found = [x]
        for k in range(3):
            kernel, bias = self.weights[2 * k : 2 * k + 2]
            y = np.dot(found[-1], kernel, out=lane.room(f"y{k}", len(x), len(bias)))
            y += bias
            if k < 2:
                np.maximum(y, 0, out=y)
            found.append(y)
        return found

    def learn(self, lane: Lane, x: np.ndarray, y: np.ndarray, count: int) -> float:
        *inputs, z = self.activations(lane, x)
        loss, dz = crossentropy(z, y, count)
        gradients = self.gradients[lane.number]
        for k in (2, 1, 0):
            x = inputs[k]
            np.dot(x.T, dz, out=gradients[2 * k])
            column_sums(dz, out=gradients[2 * k + 1])
            if k:
                before = np.dot(dz, self.weights[2 * k].T, out=lane.room(f"d{k}", *x.shape))
                before *= x > 0
                dz = before
        return loss


CONVOLUTIONS = 3
EPSILON = np.float32(1e-3)
FEW = 4
TILE = 1 << 16
"""How many numbers the columns of some images may be, to stay in the cache until they are multiplied."""


def columns(lane: Lane, x: np.ndarray) -> np.ndarray:
    """The 3 by 3 windows of images with a border, as rows."""
    n, h, w, c = x.shape
    a, b, d, e = x.strides
    windows = as_strided(x, (n, h - 2, w - 2, 3, 3 * c), (a, b, d, b, e), writeable=False)
    made = lane.room(f"columns {h} {c} {n}", *windows.shape)
    np.copyto(made, windows)
    return made.reshape(-1, 9 * c)


def tiles(x: np.ndarray) -> list[slice]:
    """Images with a border in parts whose columns stay in the cache."""
    n, h, w, c = x.shape
    size = max(TILE // ((h - 2) * (w - 2) * 9 * c), 1)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def convolve(lane: Lane, x: np.ndarray, kernel: np.ndarray, y: np.ndarray) -> None:
    """y becomes images with a border, convolved."""
    kernel = kernel.reshape(-1, kernel.shape[-1])
    for tile in tiles(x):
        np.dot(columns(lane, x[tile]), kernel, out=y[tile].reshape(-1, kernel.shape[-1]))


def bordered(lane: Lane, name: str, n: int, h: int, w: int, c: int) -> np.ndarray:
    """Room for images, with a border of zeros that nobody writes to."""
    return lane.room(name, n, h + 2, w + 2, c)


def inside(x: np.ndarray) -> np.ndarray:
    """Images without their border."""
    return x[:, 1:-1, 1:-1]


def rows(x: np.ndarray) -> np.ndarray:
    """Images as a matrix of their rows: numpy is several times faster along 1,000 numbers than along 32."""
    return x.reshape(-1, x.shape[2] * x.shape[3])


def wide(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A value for each channel, as it stands against ``rows(x)``."""
    return np.tile(values, x.shape[2])


def doubled(lane: Lane, name: str, x: np.ndarray) -> np.ndarray:
    """Images with every column twice."""
    n, h, w, c = x.shape
    y = lane.room(name, n, h, w, 2, c)
    y[...] = x[:, :, :, None]
    return y.reshape(n, h, 2 * w, c)


def pool(lane: Lane, x: np.ndarray, y: np.ndarray) -> None:
    """y becomes the largest of each 2 by 2."""
    n, h, w, c = x.shape
    pairs = np.maximum(x[:, ::2], x[:, 1::2], out=lane.room(f"pairs {h} {n}", n, h // 2, w, c))
    np.maximum(pairs[:, :, ::2], pairs[:, :, 1::2], out=y)


class Saved(NamedTuple):
    """What the way back needs of the way there. z: less the lane's own mean, which ``off`` brings to that of all."""

    padded: np.ndarray
    z: np.ndarray
    off: np.ndarray
    inverse: np.ndarray
    active: np.ndarray
    pooled: np.ndarray


class Cnn(Program):
    def __init__(self, trained: list[np.ndarray], moving: list[np.ndarray]):
        super().__init__(trained, moving)
        self.meeting = Meeting()

    def predict(self, x: np.ndarray) -> np.ndarray:
        self.folded = [self.without_normalization(k) for k in range(CONVOLUTIONS)]
        return super().predict(x)

    def without_normalization(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """A kernel and a bias that do what convolution and batch normalization do together."""
        kernel, gamma, beta = self.weights[3 * k : 3 * k + 3]
        mean, variance = self.moving[2 * k : 2 * k + 2]
        scale = gamma / np.sqrt(variance + EPSILON)
        return kernel * scale, beta - mean * scale

    def logits(self, lane: Lane, x: np.ndarray) -> np.ndarray:
        # A few images at a time go through all layers, so that they stay in the cache.
        features = np.concatenate([self.features(lane, x[start : start + FEW]) for start in range(0, len(x), FEW)])
        kernel, bias = self.weights[-2:]
        return features @ kernel + bias

    def features(self, lane: Lane, x: np.ndarray) -> np.ndarray:
        padded = bordered(lane, "few x", *x.shape)
        inside(padded)[...] = x
        for k, (kernel, bias) in enumerate(self.folded):
            n, h, w, c = *inside(padded).shape[:3], len(bias)
            y = lane.room(f"few y{k}", n, h, w, c)
            convolve(lane, padded, kernel, y)
            line = rows(y)
            line += wide(bias, y)
            padded = bordered(lane, f"few p{k}", n, h // 2, w // 2, c)
            pool(lane, np.maximum(y, 0, out=y), inside(padded))
        return inside(padded).mean(axis=(1, 2))

    def learn(self, lane: Lane, x: np.ndarray, y: np.ndarray, count: int) -> float:
        padded = bordered(lane, "x", *x.shape)
        inside(padded)[...] = x
        saved = []
        for k in range(CONVOLUTIONS):
            saved.append(self.forward(lane, k, padded))
            padded = saved[-1].pooled
        last = inside(padded)
        features = last.mean(axis=(1, 2))
        kernel, bias = self.weights[-2:]
        loss, dz = crossentropy(features @ kernel + bias, y, count)
        gradients = self.gradients[lane.number]
        np.dot(features.T, dz, out=gradients[-2])
        column_sums(dz, out=gradients[-1])
        spread = dz @ kernel.T
        spread /= last.shape[1] * last.shape[2]
        d: Any = spread[:, None, None, :]
        for k in reversed(range(CONVOLUTIONS)):
            d = self.backward(lane, k, d, saved[k], count)
        return loss

    def forward(self, lane: Lane, k: int, padded: np.ndarray) -> Saved:
        """Convolution, batch normalization, relu, pooling."""
        kernel, gamma, beta = self.weights[3 * k : 3 * k + 3]
        n, h, w, c = *inside(padded).shape[:3], len(gamma)
        z, active = lane.room(f"z{k}", n, h, w, c), lane.room(f"a{k}", n, h, w, c)
        convolve(lane, padded, kernel, z)
        own = column_sums(z.reshape(-1, c)) / (n * h * w)
        line = rows(z)
        line -= wide(own, z)
        np.multiply(z, z, out=active)
        # The moments of the whole batch from those of its parts (Chan et al. 1983).
        parts = self.meeting.all(lane, (n * h * w, own, column_sums(active.reshape(-1, c))))
        count = sum(size for size, _, _ in parts)
        mean = sum(size * m for size, m, _ in parts) / count
        variance = sum(s + size * (m - mean) ** 2 for size, m, s in parts) / count
        if lane.number == 0:
            for moving, now in zip(self.moving[2 * k : 2 * k + 2], (mean, variance), strict=True):
                moving += (now - moving) / 100
        inverse, off = 1 / np.sqrt(variance + EPSILON), mean - own
        scale = gamma * inverse
        moved = np.multiply(rows(z), wide(scale, z), out=rows(active))
        moved += wide(beta - off * scale, z)
        np.maximum(active, 0, out=active)
        pooled = bordered(lane, f"p{k}", n, h // 2, w // 2, c)
        pool(lane, active, inside(pooled))
        return Saved(padded, z, off, inverse, active, pooled)

    def backward(self, lane: Lane, k: int, dp: np.ndarray, saved: Saved, count: int) -> np.ndarray | None:
        """From the gradient of what was pooled to that of what came in."""
        padded, z, off, inverse, active, pooled = saved
        kernel, gamma, _ = self.weights[3 * k : 3 * k + 3]
        to_kernel, to_gamma, to_beta = self.gradients[lane.number][3 * k : 3 * k + 3]
        n, h, w, c = z.shape
        d, largest = lane.room(f"d{k}", n, h, w, c), inside(pooled)
        # Where the largest is 0, relu lets nothing through, so no other one need be asked for its sign.
        chosen = lane.room(f"chosen {k}", n, h // 2, w, c, dtype=bool)
        gate = np.greater(largest, 0, out=chosen[:, :, : w // 2])
        dp = doubled(lane, f"dp {k}", np.multiply(dp, gate, out=d[:, : h // 2, : w // 2]))
        largest = doubled(lane, f"largest {k}", largest)
        for i in (0, 1):
            np.multiply(dp, np.equal(active[:, i::2], largest, out=chosen), out=d[:, i::2])
        column_sums(d.reshape(-1, c), out=to_beta)
        np.multiply(d, z, out=active)
        to_gamma[...] = (column_sums(active.reshape(-1, c)) - off * to_beta) * inverse
        parts = self.meeting.all(lane, (to_beta.copy(), to_gamma.copy()))
        mean, slope = (sum(part) / np.float32(count * h * w) for part in zip(*parts, strict=True))
        # gamma * inverse * (d - mean - hat * slope), where hat = (z - off) * inverse.
        scale, slope = gamma * inverse, slope * inverse
        lines, others = rows(d), rows(z)
        lines *= wide(scale, z)
        others *= wide(scale * slope, z)
        lines -= others
        lines -= wide(scale * (mean - off * slope), z)
        flat, more = to_kernel.reshape(-1, c), lane.room(f"more {k}", 9 * kernel.shape[2], c)
        flat[...] = 0
        for tile in tiles(padded):
            flat += np.dot(columns(lane, padded[tile]).T, d[tile].reshape(-1, c), out=more)
        if k == 0:
            return None
        # The gradient of a convolution's input is a convolution with the kernel turned round.
        border, before = bordered(lane, f"b{k}", n, h, w, c), lane.room(f"dx{k}", n, h, w, kernel.shape[2])
        inside(border)[...] = d
        convolve(lane, border, kernel[::-1, ::-1].swapaxes(2, 3), before)
        return before


WORDS, STEPS, SIZE = 10_000, 100, 64


class Lstm(Program):
    """The recurrence is too fine to be cut: its products are small. What is done for all steps at once is."""

    lanes = 1

    def __init__(self, trained: list[np.ndarray], moving: list[np.ndarray]):
        super().__init__(trained, moving)
        # One tanh for all gates, since sigmoid(z) = (1 + tanh(z / 2)) / 2; the third gate is a tanh anyway.
        self.half = np.repeat(np.array([0.5, 0.5, 1, 0.5], np.float32), SIZE)
        self.rest = 1 - self.half
        self.touched = np.zeros(0, int)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.run(x)[-1] @ self.weights[4] + self.weights[5]

    def run(self, x: np.ndarray) -> np.ndarray:
        """The outputs at all steps; what else the gradients need stays in its rooms."""
        embeddings, kernel, recurrent, bias = self.weights[:4]
        n, ids, lane = len(x), x.T, LANES[0]
        words, z = lane.room("words", STEPS, n, SIZE), lane.room("z", STEPS, n, 4 * SIZE)
        kernel, recurrent, bias = kernel * self.half, recurrent * self.half, bias * self.half

        def project(lane: Lane) -> None:
            part = lane.share(STEPS)
            np.take(embeddings, ids[part], axis=0, out=words[part], mode="clip")
            np.dot(words[part].reshape(-1, SIZE), kernel, out=z[part].reshape(-1, 4 * SIZE))
            z[part] += bias

        together(project)
        h, c = lane.room("h", STEPS + 1, n, SIZE), lane.room("c", STEPS + 1, n, SIZE)
        squashed, more, input_part = (
            lane.room("tanh c", STEPS, n, SIZE), lane.room("more", n, 4 * SIZE), lane.room("input", n, SIZE),
        )  # fmt: skip
        for t in range(STEPS):
            gates = z[t]
            gates += np.dot(h[t], recurrent, out=more)
            np.tanh(gates, out=gates)
            gates *= self.half
            gates += self.rest
            i, f, g, o = (gates[:, k * SIZE : (k + 1) * SIZE] for k in range(4))
            np.multiply(f, c[t], out=c[t + 1])
            np.multiply(i, g, out=input_part)
            c[t + 1] += input_part
            np.tanh(c[t + 1], out=squashed[t])
            np.multiply(o, squashed[t], out=h[t + 1])
        return h

    def train(self, x: np.ndarray, y: np.ndarray) -> float:
        n, lane = len(x), LANES[0]
        to_embeddings, to_kernel, to_recurrent, to_bias, to_w, to_b = self.gradients[0]
        kernel, recurrent, w = self.weights[1], self.weights[2], self.weights[4]
        h = self.run(x)
        loss, dz = crossentropy(h[-1] @ w + self.weights[5], y, n)
        np.dot(h[-1].T, dz, out=to_w)
        column_sums(dz, out=to_b)
        dh, dc = dz @ w.T, lane.room("dc", n, SIZE)
        gates = lane.room("z", STEPS, n, 4 * SIZE).reshape(STEPS, n, 4, SIZE)
        slopes, through = lane.room("slopes", STEPS, n, 4, SIZE), lane.room("through", STEPS, n, SIZE)
        together(lambda lane: self.slopes(lane, gates, slopes, through))
        dz = lane.room("dz", STEPS, n, 4, SIZE)
        dc[...] = 0
        push = lane.room("push", n, SIZE)
        back = np.ascontiguousarray(recurrent.T)
        for t in reversed(range(STEPS)):
            dc += np.multiply(dh, through[t], out=push)
            np.multiply(dc[:, None], slopes[t, :, :3], out=dz[t, :, :3])
            np.multiply(dh, slopes[t, :, 3], out=dz[t, :, 3])
            dc *= gates[t, :, 1]
            np.dot(dz[t].reshape(n, -1), back, out=dh)
        rows = dz.reshape(STEPS * n, 4 * SIZE)
        words, before = lane.room("words", STEPS, n, SIZE).reshape(-1, SIZE), h[:-1].reshape(-1, SIZE)
        dx = lane.room("dx", STEPS * n, SIZE)

        def gather(lane: Lane) -> None:
            part, some = lane.share(SIZE), lane.share(STEPS * n)
            np.dot(words.T[part], rows, out=to_kernel[part])
            np.dot(before.T[part], rows, out=to_recurrent[part])
            np.dot(rows[some], kernel.T, out=dx[some])

        together(gather)
        column_sums(rows, out=to_bias)
        self.scatter(x.T.ravel(), dx, to_embeddings)
        self.adam()
        return loss / n

    def slopes(self, lane: Lane, gates: np.ndarray, slopes: np.ndarray, through: np.ndarray) -> None:
        """What dc (for i, f, g) and dh (for o) are multiplied with to give the gradients of the gates' sums.

        through: what dh is multiplied with to give its part of dc.
        """
        part, first = lane.share(STEPS), LANES[0]
        n = gates.shape[1]
        squashed, c = first.room("tanh c", STEPS, n, SIZE)[part], first.room("c", STEPS + 1, n, SIZE)[:-1][part]
        i, _, g, o = (gates[part, :, k] for k in range(4))
        s, through = slopes[part], through[part]
        np.subtract(1, gates[part], out=s)
        s *= gates[part]
        s[:, :, 0] *= g
        s[:, :, 1] *= c
        s[:, :, 2] = (1 - g * g) * i
        s[:, :, 3] *= squashed
        np.multiply(squashed, squashed, out=through)
        np.subtract(1, through, out=through)
        through *= o

    def scatter(self, ids: np.ndarray, dx: np.ndarray, gradient: np.ndarray) -> None:
        """The sums of dx by word, into a gradient that is zero but for the words of the step before."""
        gradient[self.touched] = 0
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
        self.touched = ids[starts]
        gradient[self.touched] = np.add.reduceat(dx[order], starts)


PROGRAMS = {"mlp": Mlp, "cnn": Cnn, "lstm": Lstm}
