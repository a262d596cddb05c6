"""A LayerHub model under tensorflow's MirroredStrategy, on two devices (two halves of the processor, or all GPUs):

    python examples/scaling/tensorflow_mirrored.py

``model.native`` is a tf.Module. Asked for within the strategy's scope, its variables are mirrored on all devices; they
are the model's own weights, so that after training it predicts, also on numpy.
"""

from __future__ import annotations

import tensorflow as tf
from common import BATCH, MOMENTUM, RATE, batches, classifier, compare

Distributed = tf.distribute.Strategy


def two_halves() -> None:
    """Two devices where there is one processor; before anything else is asked of tensorflow."""
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)


def train(strategy: Distributed, module: tf.Module) -> list[float]:
    """A plain tensorflow loop, which is the same for one device and for several; gives the loss of each step."""
    with strategy.scope():
        velocities = [tf.Variable(tf.zeros_like(w), trainable=False) for w in module.trainable_variables]

    def on_each(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        weights = module.trainable_variables
        with tf.GradientTape() as tape:
            chosen = tf.gather(module(x, training=True), y, batch_dims=1)
            loss = -tf.reduce_sum(tf.math.log(chosen)) / BATCH  # its share in the mean of the global batch
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, tape.gradient(loss, weights))
        for weight, velocity, gradient in zip(weights, velocities, gradients, strict=True):
            velocity.assign(MOMENTUM * velocity + gradient)
            weight.assign_sub(RATE * velocity)
        return loss

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(on_each, (x, y)), axis=None)

    def pairs():
        yield from batches()

    data = tf.data.Dataset.from_generator(
        pairs, output_signature=(tf.TensorSpec((BATCH, 8, 8, 1), tf.float64), tf.TensorSpec((BATCH,), tf.int64))
    ).rebatch(BATCH)
    return [float(step(x, y)) for x, y in strategy.experimental_distribute_dataset(data)]


def main() -> None:
    if not tf.config.list_physical_devices("GPU"):
        two_halves()
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    strategy = tf.distribute.MirroredStrategy(devices)
    print(f"tensorflow, {strategy.num_replicas_in_sync} devices")
    with strategy.scope():
        model = classifier("tensorflow")
        module = model.native
    losses = train(strategy, module)
    alone = classifier("tensorflow")
    one = train(tf.distribute.get_strategy(), alone.native)  # tensorflow's own for one device
    compare(losses, one, model, alone.get_weights())


if __name__ == "__main__":
    main()
