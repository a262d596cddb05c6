"""Who runs the workloads: LayerHub, the hand-written programs, Keras, each on one backend and alone in its process."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.workloads import RATE, Workload

MEASURES = ("inference", "predict", "training", "fit")
"""In this order: training leaves the allocator with habits from which inference after it would profit."""

HAND = {"numpy": "numpy_programs", "torch": "torch_programs", "tensorflow": "tf_programs", "jax": "jax_programs"}


class Contender:
    """One workload, ready to run.

    inference, training: one batch that is there already, in native tensors. predict, fit: ``work.batches`` of them,
    from ndarrays, as a user calls it. Each returns something that ``finish`` waits for.
    """

    measures = MEASURES
    packages: tuple[str, ...] = ()

    def __init__(self, backend: str, work: Workload):
        self.backend, self.work = backend, work
        self.one, self.many = work.data(1), work.data(work.batches)
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def inference(self) -> Any:
        raise NotImplementedError

    def training(self) -> Any:
        raise NotImplementedError

    def predict(self) -> Any:
        raise NotImplementedError

    def fit(self) -> Any:
        raise NotImplementedError

    def finish(self, returned: Any) -> Any:
        """What a call returned, on the host: reading it waits for it."""
        return np.asarray(returned)

    def step(self) -> float:
        """One step of training; the loss before it."""
        raise NotImplementedError

    def momentum(self) -> list[np.ndarray]:
        """Adam's first moments, in the order of the trained weights."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """The packages that do the work."""
        return {name: version(name) for name in (self.backend, *self.packages)}


class Hand(Contender):
    """A hand-written program."""

    def build(self) -> None:
        programs = import_module(f"benchmarks.hand.{HAND[self.backend]}").PROGRAMS
        self.program = programs[self.work.name](*self.work.split(self.work.first_weights()))
        self.x, self.y = map(self.program.tensor, self.one)

    def inference(self) -> Any:
        return self.program.predict(self.x)

    def training(self) -> Any:
        return self.program.train(self.x, self.y)

    def predict(self) -> np.ndarray:
        program = self.program
        parts = np.split(self.many[0], self.work.batches)
        return np.concatenate([program.array(program.predict(program.tensor(x))) for x in parts])

    def fit(self) -> Any:
        program, (x, y) = self.program, self.many
        for part in np.split(np.random.permutation(len(x)), self.work.batches):
            loss = program.train(program.tensor(x[part]), program.tensor(y[part]))
        return loss

    def finish(self, returned: Any) -> np.ndarray:
        return np.asarray(returned if isinstance(returned, np.ndarray) else self.program.array(returned))

    def step(self) -> float:
        return float(self.finish(self.training()))

    def momentum(self) -> list[np.ndarray]:
        return self.program.momentum()


class Framework(Contender):
    """LayerHub or Keras: the names are the same."""

    def compiled(self, api: Any, **options: Any) -> Any:
        """The workload as a model of ``api``."""
        work = self.work
        model = api.Sequential([api.Input(work.shape, dtype=work.dtype), *work.layers(api.layers)], **options)
        model.compile(api.optimizers.Adam(RATE), api.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.set_weights(work.first_weights())
        return model

    def predict(self) -> np.ndarray:
        return self.model.predict(self.many[0], batch_size=self.work.batch, verbose=0)

    def fit(self) -> float:
        return self.model.fit(*self.many, batch_size=self.work.batch, verbose=0).history["loss"][-1]


class LayerHub(Framework):
    """LayerHub; a step without what brings data in is its executor's."""

    packages = ("layerhub",)

    def build(self) -> None:
        import layerhub

        self.model = self.compiled(layerhub, backend=self.backend)
        self.executor = self.model.executor
        self.executor.prepare()
        x, y = self.one
        self.x, self.xy = self.executor.batch([x]), self.executor.batch([x], [y])

    def inference(self) -> Any:
        return self.executor.predict_batch(self.x)[0]

    def training(self) -> Any:
        self.executor.train_batch(self.xy)

    def finish(self, returned: Any) -> Any:
        if returned is None:
            return self.executor.results()
        if isinstance(returned, (float, np.ndarray)):
            return returned
        return self.executor.backend.to_numpy(returned)

    def step(self) -> float:
        self.executor.reset_metrics()
        self.training()
        return self.executor.results()[0][0]

    def momentum(self) -> list[np.ndarray]:
        return [moments[0] for moments in self.executor.host_slots()]


class Keras(Framework):
    """Keras, on the backend that KERAS_BACKEND names."""

    packages = ("keras",)

    def build(self) -> None:
        import keras

        if self.backend == "numpy":
            self.measures = ("inference", "predict")
        self.model = self.compiled(keras)
        self.x, self.y = map(keras.ops.convert_to_tensor, self.one)

    def inference(self) -> np.ndarray:
        return self.model.predict_on_batch(self.x)

    def training(self) -> Any:
        return self.model.train_on_batch(self.x, self.y)

    def step(self) -> float:
        self.model.reset_metrics()
        return float(self.training())

    def momentum(self) -> list[np.ndarray]:
        return [np.asarray(v) for v in self.model.optimizer.variables if "momentum" in v.path]


KINDS: dict[str, Callable[[str, Workload], Contender]] = {"hand": Hand, "keras": Keras, "layerhub": LayerHub}
