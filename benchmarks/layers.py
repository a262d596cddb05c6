"""``python -m benchmarks.layers``: single layers beside the framework's own call, family by family.

Each backend has a process of its own. There LayerHub's layer and the hand-written call, on the same values, take turns;
a figure is the median over the rounds of LayerHub's time divided by the other's. forward: inference. gradients: forward
and backward in training, to the input and all weights. For numpy, which has no such calls, the other is torch's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.driver import BACKENDS, environment

ROOT = Path(__file__).parent.parent
MEASURES = ("forward", "gradients")

LAYERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "dense": ("Dense", {"units": 256}, (128, 256)),
    "embedding": ("Embedding", {"input_dim": 10_000, "output_dim": 64}, (64, 64)),
    "conv1d": ("Conv1D", {"filters": 64, "kernel_size": 5, "padding": "causal"}, (16, 128, 64)),
    "conv2d": ("Conv2D", {"filters": 64, "kernel_size": 3, "padding": "same"}, (16, 28, 28, 64)),
    "conv3d": ("Conv3D", {"filters": 16, "kernel_size": 3, "padding": "same"}, (4, 12, 12, 12, 16)),
    "depthwise": ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same"}, (16, 28, 28, 64)),
    "transposed": (
        "Conv2DTranspose", {"filters": 32, "kernel_size": 4, "strides": 2, "padding": "same"}, (8, 14, 14, 64)
    ),
    "max pooling": ("MaxPooling2D", {}, (16, 28, 28, 64)),
    "average pooling": ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, (16, 28, 28, 64)),
    "global pooling": ("GlobalAveragePooling2D", {}, (16, 28, 28, 64)),
    "upsampling": ("UpSampling2D", {"interpolation": "bilinear"}, (8, 14, 14, 64)),
    "padding": ("ZeroPadding2D", {"padding": 2}, (16, 28, 28, 64)),
    "locally connected": ("LocallyConnected2D", {"filters": 8, "kernel_size": 3}, (16, 16, 16, 8)),
    "batch normalization": ("BatchNormalization", {}, (16, 28, 28, 64)),
    "layer normalization": ("LayerNormalization", {}, (16, 64, 256)),
    "group normalization": ("GroupNormalization", {"groups": 8}, (16, 28, 28, 64)),
    "softmax": ("Softmax", {}, (128, 1000)),
    "lstm": ("LSTM", {"units": 64}, (32, 50, 64)),
    "gru": ("GRU", {"units": 64}, (32, 50, 64)),
    "simple rnn": ("SimpleRNN", {"units": 64}, (32, 50, 64)),
    "bidirectional": (
        "Bidirectional", {"layer": {"class_name": "LSTM", "config": {"units": 64}}}, (32, 50, 64)
    ),
    "dropout": ("Dropout", {"rate": 0.5}, (128, 1024)),
    "attention": ("Attention", {}, (16, 64, 64)),
    "multi-head attention": ("MultiHeadAttention", {"num_heads": 4, "key_dim": 32}, (16, 64, 128)),
    "merge": ("Add", {}, (16, 28, 28, 64)),
}  # fmt: skip
"""What is measured: the layer, its parameters, the shape of its input (which stands for both where there are two)."""

CALLS = {"numpy": "torch_layers", "torch": "torch_layers", "tensorflow": "tf_layers", "jax": "jax_layers"}
"""What each backend is measured beside, in ``hand``."""

TWICE = ("attention", "multi-head attention", "merge")


def inputs(name: str) -> list[np.ndarray]:
    """The values of the inputs."""
    kind, config, shape = LAYERS[name]
    rng = np.random.default_rng(1)
    if kind == "Embedding":
        return [rng.integers(0, config["input_dim"], shape)]
    return [rng.standard_normal(shape, dtype="float32") for _ in range(1 + (name in TWICE))]


class Ours:
    """A layer of LayerHub, bound to a backend."""

    def __init__(self, backend: str, name: str):
        from layerhub.layers import deserialize
        from layerhub.plan import Planner, recorded
        from layerhub.registry import registry
        from layerhub.variable import initial_value

        kind, config, _ = LAYERS[name]
        self.backend = target = registry().backend(backend)
        layer = deserialize({"class_name": kind, "config": config})
        arrays = inputs(name)
        self.values = [
            initial_value(spec, 0, spec.name).astype("float32")
            for spec in layer.weight_specs(*(x.shape for x in arrays))
        ]
        self.trained = [k for k, s in enumerate(layer.weight_specs(*(x.shape for x in arrays))) if s.trainable]
        plans = {}
        for training in (False, True):
            planner = Planner(registry(), backend, training, 0)
            given = [planner.input(x.shape, str(x.dtype)) for x in arrays]
            plans[training] = planner.plan(planner.call(layer, given, "0"))
        names = [spec.name for spec in layer.weight_specs(*(x.shape for x in arrays))]
        slots = plans[False].slots
        self.weights = [
            target.read(target.variable(self.values[names.index(slot.spec.name)], True, "cpu", slot.memory))
            for slot in slots
        ]
        self.x = [target.asarray(x) for x in arrays]
        self.floating = [k for k, x in enumerate(arrays) if x.dtype.kind == "f"]
        self.run = {
            training: recorded(plan, target.recording_xp if training and not target.own_autodiff else target.xp)
            for training, plan in plans.items()
        }
        compiled = target.compiled if backend == "jax" else lambda function: function
        self.of_values, self.of_slopes = compiled(self._forward), compiled(self._gradients)
        if backend == "tensorflow":
            import tensorflow as tf

            self.forward = tf.function(self.forward, autograph=False)
            self.gradients = tf.function(self.gradients, autograph=False)

    def _forward(self, weights: list[Any], x: list[Any]) -> Any:
        return self.run[False](weights, x, (), 0)[0][0]

    def _gradients(self, params: list[Any], inputs: list[Any]) -> list[Any]:
        xp = self.backend.recording_xp

        def objective(params: list[Any]) -> tuple[Any, Any]:
            x = list(inputs)
            for k, param in zip(self.floating, params, strict=False):
                x[k] = param
            y = self.run[True](params[len(self.floating) :], x, (), 0)[0][0]
            return xp.sum(y * y), None

        return self.backend.value_and_grad(objective, params)[2]

    def forward(self) -> Any:
        return self.of_values(self.weights, self.x)

    def gradients(self) -> Any:
        return self.of_slopes([*(self.x[k] for k in self.floating), *self.weights], self.x)


def measure(backend: str, rounds: int, seconds: float, names: list[str]) -> dict[str, Any]:
    """LayerHub's time by the hand-written call's, for each layer and measure."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            ours = Ours(backend, name)
            calls = import_module(f"benchmarks.hand.{CALLS[backend]}")
            other = calls.Call(name, LAYERS[name][1], inputs(name), ours.values)
            found[name] = {
                what: ratio(getattr(ours, what), getattr(other, what), guard(backend, what), rounds, seconds)
                for what in MEASURES
            }
        except Exception as problem:
            found[name] = {"missing": f"{type(problem).__name__}: {problem}"}
    return found


def guard(backend: str, what: str) -> Callable[[], Any]:
    """The scope in which both are called: torch's inference needs one."""
    if backend == "torch" and what == "forward":
        import torch

        return torch.inference_mode
    from contextlib import nullcontext

    return nullcontext


def ratio(ours: Callable, other: Callable, scope: Callable, rounds: int, seconds: float) -> float:
    """The median over rounds of the quotient of two times, each over as many calls as take some ``seconds``."""
    counts = []
    with scope():
        for call in (ours, other):
            done(call())
            start = time.perf_counter()
            done(call())
            counts.append(max(1, int(seconds / max(time.perf_counter() - start, 1e-7))))
        shares = []
        for turn in range(rounds):
            times = {}
            for which in (0, 1) if turn % 2 else (1, 0):
                call, count = (ours, other)[which], counts[which]
                done(call())
                start = time.perf_counter()
                for _ in range(count):
                    returned = call()
                done(returned)
                times[which] = (time.perf_counter() - start) / count
            shares.append(times[0] / times[1])
    return median(shares)


def done(returned: Any) -> None:
    """Wait for a result."""
    while isinstance(returned, (list, tuple)):
        returned = returned[0]
    if hasattr(returned, "block_until_ready"):
        returned.block_until_ready()
    elif hasattr(returned, "numpy") and not hasattr(returned, "detach"):
        returned.numpy()


@click.command()
@click.option("--backend", multiple=True, type=click.Choice(BACKENDS), default=BACKENDS, help="Backends to run on.")
@click.option("--layer", multiple=True, type=click.Choice(list(LAYERS)), default=list(LAYERS), help="Layers to run.")
@click.option("--rounds", default=9, show_default=True, help="Turns of each.")
@click.option("--seconds", default=0.05, show_default=True, help="The length of a turn.")
@click.option("--threads", default=2, show_default=True, help="Threads of each backend.")
@click.option("--markdown", is_flag=True, help="Print a table for the README.")
@click.option("--worker", hidden=True)
def main(
    backend: tuple[str, ...], layer: tuple[str, ...], rounds: int, seconds: float, threads: int, markdown: bool,
    worker: str | None,
) -> None:  # fmt: skip
    """Single layers of LayerHub beside the framework's own call."""
    if worker:
        click.echo(json.dumps(measure(worker, rounds, seconds, list(layer))))
        return
    found = {}
    for name in backend:
        command = [sys.executable, "-m", "benchmarks.layers", "--worker", name, "--rounds", str(rounds)]
        command += ["--seconds", str(seconds), *(part for each in layer for part in ("--layer", each))]
        env = environment(name, threads, str(ROOT))
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
        if ran.returncode:
            raise click.ClickException(f"{name}: {ran.stderr.strip()[-2000:]}")
        found[name] = json.loads(ran.stdout.splitlines()[-1])
    columns = [(name, what) for name in backend for what in MEASURES]
    rows = [[each, *(cell(found[name][each], what) for name, what in columns)] for each in layer]
    titles = ["layer", *(f"{name} {what}" + (" ÷ torch" if name == "numpy" else "") for name, what in columns)]
    if markdown:
        click.echo(f"| {' | '.join(titles)} |\n|---|{'---:|' * len(columns)}")
        click.echo("\n".join(f"| {' | '.join(row)} |" for row in rows))
    else:
        table = Table(*titles, title="LayerHub's time ÷ the framework's own call's", title_justify="left")
        for row in rows:
            table.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 160).print(table)
    for name in backend:
        for each in layer:
            if "missing" in found[name][each]:
                click.echo(f"- {each} on {name}: {found[name][each]['missing']}")


def cell(figures: dict[str, Any], what: str) -> str:
    """A figure as text."""
    return f"{figures[what]:.2f}" if what in figures else "-"


if __name__ == "__main__":
    main()
