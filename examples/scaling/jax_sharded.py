"""A LayerHub model in jax, data-parallel over several devices (two of the processor's, or all accelerators):

    python examples/scaling/jax_sharded.py

``model.native`` is a pure function of a pytree of parameters. Parameters are laid on all devices, each batch is shared
out among them, and jax.jit sees to the rest. ``load`` gives the trained parameters back to the model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

# Two devices where there is one processor; before jax is imported.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"

import jax
import jax.numpy as jnp
import numpy as np
from common import MOMENTUM, RATE, batches, classifier, compare
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def train(native: Any, devices: Sequence[jax.Device]) -> tuple[Any, list[float]]:
    """A plain jax loop, which is the same for one device and for several; gives parameters, and the losses."""
    mesh = Mesh(np.array(devices), ("data",))
    everywhere, shared_out = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))

    def loss_of(trained: Any, rest: Any, x: jax.Array, y: jax.Array, number: jax.Array) -> tuple[jax.Array, Any]:
        predicted, moved = native.moved(native.join(trained, rest), x, step=number)
        return -jnp.mean(jnp.log(jnp.take_along_axis(predicted, y[:, None], axis=1))), native.split(moved)[1]

    @jax.jit
    def step(trained: Any, rest: Any, velocity: Any, x: jax.Array, y: jax.Array, number: jax.Array) -> Any:
        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained, rest, x, y, number)
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
        return jax.tree.map(lambda w, v: w - RATE * v, trained, velocity), rest, velocity, loss

    trained, rest = jax.device_put(native.split(native.params), everywhere)
    velocity = jax.tree.map(jnp.zeros_like, trained)
    losses = []
    for number, (x, y) in enumerate(batches()):
        x, y = jax.device_put((x, y), shared_out)
        trained, rest, velocity, loss = step(trained, rest, velocity, x, y, number)
        losses.append(loss)
    return native.join(trained, rest), [float(loss) for loss in losses]


def main() -> None:
    print(f"jax, {jax.device_count()} devices")
    model, alone = classifier("jax"), classifier("jax")
    params, losses = train(model.native, jax.devices())
    model.native.load(params)
    params, one = train(alone.native, jax.devices()[:1])
    alone.native.load(params)
    compare(losses, one, model, alone.get_weights())


if __name__ == "__main__":
    main()
