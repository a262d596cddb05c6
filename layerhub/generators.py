"""The calls of Keras 1 and 2 for data that come in batches, and for classes; each says how it is said now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from layerhub.data import batches_of, is_stream
from layerhub.errors import DataError, ParameterError, suggest
from layerhub.feeding import whole
from layerhub.spec.spellings import warn

IDLE = {
    "max_queue_size": 10, "max_q_size": 10, "workers": 1, "nb_worker": 1, "use_multiprocessing": False,
    "pickle_safe": False,
}  # fmt: skip
"""How batches were drawn ahead of time. Here they are drawn when they are needed; a loader of a framework does more."""

ARGUMENTS = """
    x y batch_size epochs verbose callbacks validation_split validation_data shuffle class_weight sample_weight
    initial_epoch steps_per_epoch validation_steps validation_batch_size validation_freq
""".split()
"""Those of ``fit``."""


class Generators:
    """What Keras 3 has no more. Each call warns (OldSpellingWarning)."""

    def fit_generator(
        self, generator: Any, steps_per_epoch: int | None = None, epochs: int = 1, verbose: Any = 1,
        callbacks: Any = None, validation_data: Any = None, validation_steps: int | None = None,
        validation_freq: Any = 1, class_weight: Any = None, max_queue_size: int = 10, workers: int = 1,
        use_multiprocessing: bool = False, shuffle: bool = True, initial_epoch: int = 0, **formerly: Any,
    ) -> Any:  # fmt: skip
        """``fit(generator, …)``. Positions are those of Keras 2.

        Of Keras 1 it takes, by name: samples_per_epoch and nb_val_samples, which count samples: batches are drawn until
        that many have passed; nb_epoch, max_q_size, nb_worker, pickle_safe.
        """
        given = _known("fit_generator", formerly, ("samples_per_epoch", "nb_epoch", "nb_val_samples"))
        idle = {"max_queue_size": max_queue_size, "workers": workers, "use_multiprocessing": use_multiprocessing}
        _say("fit_generator(generator)", "fit(generator)", given | idle)
        samples, held = given.get("samples_per_epoch"), given.get("nb_val_samples")
        if samples is not None:
            generator = _by_samples("fit_generator: samples_per_epoch", generator, samples)
        if held is not None and validation_data is not None and is_stream(validation_data):
            validation_data = _by_samples("fit_generator: nb_val_samples", validation_data, held)
        model: Any = self
        return model.fit(
            generator, steps_per_epoch=steps_per_epoch, epochs=given.get("nb_epoch", epochs), verbose=verbose,
            callbacks=callbacks, validation_data=validation_data, validation_steps=validation_steps,
            validation_freq=validation_freq, class_weight=class_weight, shuffle=shuffle, initial_epoch=initial_epoch,
        )  # fmt: skip

    def evaluate_generator(
        self, generator: Any, steps: int | None = None, callbacks: Any = None, max_queue_size: int = 10,
        workers: int = 1, use_multiprocessing: bool = False, verbose: Any = 0, **formerly: Any,
    ) -> Any:  # fmt: skip
        """``evaluate(generator, …)``. Of Keras 1: val_samples, which counts samples."""
        given = _known("evaluate_generator", formerly, ("val_samples",))
        idle = {"max_queue_size": max_queue_size, "workers": workers, "use_multiprocessing": use_multiprocessing}
        _say("evaluate_generator(generator)", "evaluate(generator)", given | idle)
        if "val_samples" in given:
            generator = _by_samples("evaluate_generator: val_samples", generator, given["val_samples"])
        model: Any = self
        return model.evaluate(generator, steps=steps, callbacks=callbacks, verbose=verbose)

    def predict_generator(
        self, generator: Any, steps: int | None = None, callbacks: Any = None, max_queue_size: int = 10,
        workers: int = 1, use_multiprocessing: bool = False, verbose: Any = 0, **formerly: Any,
    ) -> Any:  # fmt: skip
        """``predict(generator, …)``. Of Keras 1: val_samples, which counts samples."""
        given = _known("predict_generator", formerly, ("val_samples",))
        idle = {"max_queue_size": max_queue_size, "workers": workers, "use_multiprocessing": use_multiprocessing}
        _say("predict_generator(generator)", "predict(generator)", given | idle)
        if "val_samples" in given:
            generator = _by_samples("predict_generator: val_samples", generator, given["val_samples"])
        model: Any = self
        return model.predict(generator, steps=steps, callbacks=callbacks, verbose=verbose)

    def predict_classes(self, x: Any, batch_size: int | None = None, verbose: Any = 0) -> np.ndarray:
        """The place of the largest output, or 1 where the only output is above a half."""
        warn("predict_classes(x) is an old spelling; say predict(x).argmax(-1), or (predict(x) > 0.5).astype('int32')")
        found = self._single("predict_classes", x, batch_size, verbose)
        return found.argmax(axis=-1) if found.shape[-1] > 1 else (found > 0.5).astype("int32")

    def predict_proba(self, x: Any, batch_size: int | None = None, verbose: Any = 0) -> np.ndarray:
        """``predict(x)``."""
        warn("predict_proba(x) is an old spelling; say predict(x)")
        return self._single("predict_proba", x, batch_size, verbose)

    def _single(self, what: str, x: Any, batch_size: int | None, verbose: Any) -> np.ndarray:
        model: Any = self
        if len(model.outputs) > 1:
            raise DataError(f"{what}: {model.name} has {len(model.outputs)} outputs, not one; use predict(x)")
        return model.predict(x, batch_size=batch_size, verbose=verbose)


def _known(call: str, given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of Keras 1. Raises ParameterError for what never was one."""
    wrong = next((name for name in given if name not in names and name not in IDLE), None)
    if wrong is not None:
        raise ParameterError(f"{call} has no argument {wrong!r}; of Keras 1 it takes {', '.join((*names, *IDLE))}")
    return dict(given)


def renamed(call: str, formerly: Mapping[str, Any], old: str, new: str, value: Any) -> Any:
    """The value of an argument that has an old name too. Raises ParameterError for any other name."""
    wrong = next((name for name in formerly if name != old), None)
    if wrong is not None:
        raise ParameterError(f"{call} has no argument {wrong!r}.{suggest(wrong, ARGUMENTS)}")
    if old not in formerly:
        return value
    warn(f"{call}: {old} is an old spelling; say {new}=…")
    return formerly[old]


def _say(old: str, new: str, given: Mapping[str, Any]) -> None:
    """Warn of an old call, and of what it says in vain."""
    idle = [name for name, value in given.items() if name in IDLE and value != IDLE[name]]
    ignored = f"; {', '.join(idle)}: batches are drawn when they are needed" if idle else ""
    warn(f"{old} is an old spelling; say {new}{ignored}")


class BySamples:
    """A generator whose epochs have as many batches as it takes for so many samples to pass."""

    def __init__(self, data: Any, count: int):
        self.data, self.count = batches_of(data), count
        self._iterator: Any = None

    def __iter__(self) -> Any:
        passed = 0
        while passed < self.count:
            item = next(self._iterator, None) if self._iterator is not None else None
            if item is None:
                self._iterator = iter(self.data)
                item = next(self._iterator, None)
            if item is None:
                raise DataError(f"the generator ended after {passed} of {self.count} samples")
            x = item[0] if isinstance(item, (tuple, list)) else item
            x = next(iter(x.values())) if isinstance(x, Mapping) else x[0] if isinstance(x, (tuple, list)) else x
            passed += len(x)
            yield item


def _by_samples(what: str, data: Any, count: Any) -> Any:
    whole(what, count)
    if not is_stream(data):
        raise DataError(f"{what} counts the samples of a generator; {type(data).__name__} is none")
    return BySamples(data, count)
