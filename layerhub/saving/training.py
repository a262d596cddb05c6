"""What training keeps, to and from files: how a model was compiled, and where its optimizer stands.

Keras keeps an optimizer's variables in a row (``optimizer/vars``): the number of steps, the learning rate where it is a
number, averages of the weights, sums of gradients, then what the rule keeps. What Keras has no place for stands under
``layerhub/``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import Any, NamedTuple

import numpy as np

from layerhub.errors import FileFormatError, ParameterError, WeightsError
from layerhub.movement import Movement, Scaling
from layerhub.registry import registry
from layerhub.saving import dialect, hdf5
from layerhub.spec.losses import losses
from layerhub.spec.metrics import metrics
from layerhub.spec.optimizers import (
    Adafactor,
    Adam,
    LossScaleOptimizer,
    MultiOptimizer,
    Nadam,
    Optimizer,
    RMSprop,
    optimizers,
)
from layerhub.variable import Variable

Row = tuple[np.ndarray, ...]
VARIABLES = "optimizer/vars"
"""Where Keras keeps an optimizer's variables."""
COUNTED = ("step", "scale", "run", "skipped", "epochs")
KEPT = "layerhub/slots"
"""Where the slots are kept that Keras has no place for: by the number of their weight in the model."""


# How it was compiled


def compile_config(model: Any) -> dict[str, Any] | None:
    """What ``compile`` was given, as Keras writes it; None for a model that was not compiled."""
    if model.optimizer is None:
        return None
    loss, loss_weights, metrics, weighted_metrics = model._compiled
    given = {
        "loss": loss,
        "loss_weights": loss_weights,
        "metrics": metrics,
        "weighted_metrics": weighted_metrics,
    }
    running = model._running
    how = {
        "run_eagerly": running.eagerly, "steps_per_execution": running.together, "jit_compile": bool(running.compiled)
    }  # fmt: skip
    return {"optimizer": dialect.described(model.optimizer)} | {k: dialect.encoded(v) for k, v in given.items()} | how


def compile_from(model: Any, config: Mapping[str, Any], objects: dialect.Objects) -> None:
    """Compile a model as a file says. Raises ParameterError for what cannot be had here."""
    try:
        made = dialect.revived(dict(config), objects)
        model.compile(
            optimizers.get(made["optimizer"]),
            _made(losses, made.get("loss")),
            _made(metrics, made.get("metrics")),
            made.get("loss_weights"),
            _made(metrics, made.get("weighted_metrics")),
            run_eagerly=bool(made.get("run_eagerly")),
            steps_per_execution=made.get("steps_per_execution") or 1,
            # jit_compile is not taken: what compiles there may not compile here, and Keras says true unasked.
            auto_scale_loss=False,
        )
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as problem:
        raise ParameterError(
            f"the file says how {model.name} was compiled, which cannot be had here: {problem}; "
            "load it with compile=False, and compile it"
        ) from None


def _made(kind: Any, given: Any) -> Any:
    """Losses or metrics as ``compile`` takes them, from those of a file."""
    if isinstance(given, Mapping):
        if "class_name" in given:
            return kind.get(given)
        return {name: _made(kind, part) for name, part in given.items()}
    return [_made(kind, part) for part in given] if isinstance(given, (list, tuple)) else given


# Where it stands


def state_of(model: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by their paths in a file, numbers) of what training keeps."""
    executor = model._executor
    numbers: dict[str, Any] = {"epochs": model._epochs_begun}
    if model.optimizer is None or executor is None or executor.movement is None:
        return {}, numbers
    executor.settle()
    numbers["step"] = executor.step
    scaling = executor.scaling
    if scaling is not None:
        numbers |= {"scale": scaling.scale, "run": scaling.run, "skipped": scaling.skipped}
    rows = executor.resting | executor.held_slots()
    arrays, left = _in_keras(model, rows, executor.batch_number - 1, scaling), dict(rows)
    if arrays:
        left = {variable: row for variable, row in rows.items() if not variable.trainable}
    order = {variable: k for k, variable in enumerate(model.weights)}
    for variable, row in left.items():
        arrays |= {f"{KEPT}/{order[variable]}/{k}": slot for k, slot in enumerate(row)}
    return arrays, numbers


def row_of(model: Any) -> list[np.ndarray]:
    """The variables of a model's optimizer in Keras's order; none before it was trained."""
    arrays, _ = state_of(model)
    paths = (f"{VARIABLES}/{k}" for k in count())
    return [arrays[path] for path in takewhile(arrays.__contains__, paths)]


class Stand(NamedTuple):
    """Where training stands: the optimizer's slots by weight, and what is counted."""

    rows: dict[Variable, Row]
    numbers: dict[str, Any]


def read(model: Any, opened: Any, numbers: Mapping[str, Any], row: Sequence[Any] | None = None) -> Stand:
    """Where a file says that the training of a compiled model stands.

    numbers: what is counted, as far as it is known. row: the variables of its optimizer, where they are not in their
    place. Raises FileFormatError and WeightsError.
    """
    datasets = hdf5.numbered(opened, VARIABLES) if row is None else row
    if len(datasets) > 2 or numbers.get("step"):
        model.executor  # noqa: B018  weights go to their device first, and are held once when the slots come
    rows, told = _of_keras(model, datasets)
    told |= {name: value for name, value in numbers.items() if name in COUNTED}
    wrong = {name: value for name, value in told.items() if not _counts(value)}
    if wrong:
        raise FileFormatError(f"what the file says of training are no numbers from 0 up: {wrong}")
    return Stand(rows | _kept(model, opened), told)


def resume(model: Any, stand: Stand) -> None:
    """Let the training of a compiled model go on from somewhere."""
    rows, numbers = stand
    model._epochs_begun = int(numbers.get("epochs", 0))
    if not rows and not numbers.get("step"):
        return
    executor = model.executor
    executor.step, executor.resting = int(numbers.get("step", 0)), rows
    if model.optimizer.loss_scale is not None:
        scale = float(numbers.get("scale", model.optimizer.loss_scale))
        executor.scaling = Scaling(scale, int(numbers.get("run", 0)), int(numbers.get("skipped", 0)))
    executor.prepare()


def _counts(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


# An optimizer's variables, as Keras lays them out


def _in_keras(model: Any, rows: Mapping[Variable, Row], steps: int, scaling: Scaling | None) -> dict[str, np.ndarray]:
    """The arrays of an optimizer by their paths; none where Keras has another way to share weights out."""
    optimizer, weights = model.optimizer, model.trainable_weights
    inner = optimizer.inner_optimizer if isinstance(optimizer, LossScaleOptimizer) else optimizer
    if isinstance(inner, MultiOptimizer):
        return {}
    full = [rows.get(v) or _first_row(model, v) for v in weights]  # one that was thawed has none yet
    own = _listed(inner, weights, full, steps, inner is optimizer)
    if scaling is None or inner is optimizer:
        return _numbered("optimizer", own)
    head = [np.int64(steps), np.float32(0), np.int64(scaling.run), np.float32(scaling.scale)]
    return _numbered("optimizer", [*map(np.asarray, head), *own]) | _numbered("optimizer/inner_optimizer", own)


def _numbered(path: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{path}/vars/{k}": array for k, array in enumerate(arrays)}


def _listed(
    optimizer: Optimizer, weights: Sequence[Variable], rows: Sequence[Row], steps: int, alone: bool
) -> list[np.ndarray]:
    """The variables of an optimizer in Keras's order. alone: it is not within another one."""
    found = [np.asarray(np.int64(steps))]
    if isinstance(optimizer.learning_rate, float):
        found.append(np.asarray(np.float32(optimizer.learning_rate)))
    full = [_widened(optimizer, weight, row, alone) for weight, row in zip(weights, rows, strict=True)]
    for part in _passes(optimizer):
        for row in full:
            found += row[part]
    if isinstance(optimizer, Nadam):
        updates = range(1, optimizer.update_of(steps) + 1)
        found.append(np.asarray(np.float32(math.prod(optimizer.beta_1 * (1 - 0.5 * 0.96**k) for k in updates))))
    return found


def _passes(optimizer: Optimizer) -> list[slice]:
    """Keras makes an optimizer's variables in several passes over the weights: which slots each pass makes.

    The moving average and the sum of gradients, which are last in a row, come first.
    """
    extra = optimizer.use_ema + (optimizer.gradient_accumulation_steps is not None)
    first = [slice(k - extra, (k - extra + 1) or None) for k in range(extra)]
    own = slice(None, -extra or None)
    if isinstance(optimizer, RMSprop):
        return [*first, *(slice(k, k + 1) for k in range(len(optimizer.slots)))]
    if isinstance(optimizer, Adam) and optimizer.amsgrad:
        return [*first, slice(0, 2), slice(2, 3)]
    return [*first, own]


def _widened(optimizer: Optimizer, weight: Variable, row: Row, alone: bool) -> list[np.ndarray]:
    """A row as Keras has it. Adafactor has there rows, columns and a second moment, whichever of them it uses."""
    if not isinstance(optimizer, Adafactor):
        return list(row)
    if _factored(weight):
        return [*row[:2], np.zeros(weight.shape, row[0].dtype), *row[2:]]
    unused = [np.zeros((), row[0].dtype)] * 2 if alone else []
    return [*unused, *row]


def _narrowed(optimizer: Optimizer, weight: Variable, row: Row, alone: bool) -> Row:
    """A row as it is kept here, from Keras's."""
    if not isinstance(optimizer, Adafactor):
        return row
    if _factored(weight):
        return (*row[:2], *row[3:])
    return row[2:] if alone else row


def _factored(weight: Variable) -> bool:
    return len(weight.shape) >= 2


def _kept(model: Any, opened: Any) -> dict[Variable, Row]:
    """The slots of weights that Keras has no place for."""
    rows, weights = {}, model.weights
    for number in hdf5.names(opened, KEPT):
        path = f"{KEPT}/{number}"
        if not number.isdecimal() or int(number) >= len(weights):
            raise FileFormatError(f"{path} belongs to no weight of {model.name}")
        variable = weights[int(number)]
        shapes = [slot.shape for slot in _first_row(model, variable)]
        rows[variable] = _read_row(hdf5.numbered(opened, path), shapes, path, variable)
    return rows


def _of_keras(model: Any, datasets: Sequence[Any]) -> tuple[dict[Variable, Row], dict[str, Any]]:
    """The slots of the weights, and the numbers, that an optimizer's variables in Keras's order say."""
    optimizer, told = model.optimizer, {}
    if isinstance(optimizer, LossScaleOptimizer) and len(datasets) >= 4:
        told = {"run": _scalar(datasets[2]), "scale": _scalar(datasets[3])}
        optimizer, datasets = optimizer.inner_optimizer, datasets[4:]
    if isinstance(optimizer, (LossScaleOptimizer, MultiOptimizer)) or not datasets:
        return {}, told
    told["step"] = _scalar(datasets[0])
    weights, alone = model.trainable_weights, optimizer is model.optimizer
    firsts = [_outline(_first_row(model, weight)) for weight in weights]
    wide = [_widened(optimizer, weight, row, alone) for weight, row in zip(weights, firsts, strict=True)]
    begin = 2 if isinstance(optimizer.learning_rate, float) else 1
    places = _numbers(optimizer, wide, begin)
    end = begin + sum(map(len, wide)) + isinstance(optimizer, Nadam)
    if len(datasets) <= 2 < end:
        return {}, told  # compiled, but never trained
    if len(datasets) != end:
        raise WeightsError(
            f"the file has {len(datasets)} arrays at {VARIABLES}, the optimizer of {model.name} {end}; load the model "
            "with compile=False to leave them out"
        )
    rows = {}
    for weight, row, numbers in zip(weights, wide, places, strict=True):
        chosen = [datasets[k] for k in numbers]
        full = _read_row(chosen, [slot.shape for slot in row], f"{VARIABLES}", weight)
        rows[weight] = _narrowed(optimizer, weight, full, alone)
    return rows, told


def _numbers(optimizer: Optimizer, rows: Sequence[Sequence[Any]], begin: int) -> list[list[int]]:
    """For each row, the numbers that its slots have among an optimizer's variables."""
    found: list[list[int]] = [[-1] * len(row) for row in rows]
    for part in _passes(optimizer):
        for row in found:
            end = begin + len(row[part])
            row[part], begin = range(begin, end), end
    return found


def _first_row(model: Any, variable: Variable) -> Row:
    """The slots of a weight before the first step."""
    return Movement(registry(), model.backend, model.optimizer, [variable]).start(0)


def _outline(row: Row) -> Row:
    """Arrays of the same shapes and types, which take no memory."""
    return tuple(np.broadcast_to(np.zeros((), slot.dtype), slot.shape) for slot in row)


def _read_row(datasets: Sequence[Any], shapes: Sequence[tuple[int, ...]], path: str, variable: Variable) -> Row:
    if len(datasets) != len(shapes):
        raise WeightsError(
            f"the file has {len(datasets)} arrays at {path}; the slots of {variable.path} are {len(shapes)}"
        )
    owner = f"a slot of {variable.path}"
    return tuple(hdf5.array(dataset, path, shape, owner) for dataset, shape in zip(datasets, shapes, strict=True))


def _scalar(dataset: Any) -> float:
    return hdf5.array(dataset, VARIABLES, (), "the optimizer").item()
