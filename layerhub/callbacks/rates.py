"""The learning rate, while training goes on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from layerhub.callbacks.base import Callback
from layerhub.callbacks.given import number
from layerhub.errors import ParameterError
from layerhub.spec.optimizers import BaseOptimizer, LossScaleOptimizer, MultiOptimizer


def rated(optimizer: BaseOptimizer) -> dict[str, Any]:
    """The optimizers that have a learning rate, by the names of these in logs: ``learning_rate`` where there is one."""
    if isinstance(optimizer, LossScaleOptimizer):
        return rated(optimizer.inner_optimizer)
    if not isinstance(optimizer, MultiOptimizer):
        return {"learning_rate": optimizer}
    found: dict[str, Any] = {}
    for one in optimizer.optimizers:
        name = f"learning_rate_{one.name or type(one).__name__.lower()}"
        count = sum(key == name or key.startswith(f"{name}_") for key in found)
        found[f"{name}_{count}" if count else name] = one
    return found


def settable(model: Any, who: str) -> dict[str, Any]:
    """The same. Raises ParameterError where a learning rate is no number, but follows from the step."""
    found = rated(model.optimizer)
    for name, optimizer in found.items():
        if not isinstance(optimizer.learning_rate, float):
            raise ParameterError(
                f"{who} sets the learning rate, but {name} is {optimizer.learning_rate!r}: give the optimizer a "
                f"number, or leave {who} out"
            )
    return found


def rate_of(model: Any, optimizer: Any) -> float:
    """The learning rate of the step that comes."""
    rate = optimizer.learning_rate
    return rate if isinstance(rate, float) else optimizer.rate(optimizer.update_of(model.executor.batch_number))


def rates(model: Any) -> dict[str, float]:
    """The learning rates of the step that comes, by their names in logs."""
    return {name: rate_of(model, optimizer) for name, optimizer in rated(model.optimizer).items()}


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of each epoch: ``schedule(epoch, rate)``, or ``schedule(epoch)``.

    schedule: given the epoch, from 0, and the rate so far, the rate. verbose: 1 prints it.
    """

    def __init__(self, schedule: Callable[..., Any], verbose: int = 0):
        if not callable(schedule):
            raise ParameterError(f"LearningRateScheduler: schedule must be a function (epoch, rate), not {schedule!r}")
        self.schedule, self.verbose = schedule, verbose
        self._takes_rate = _takes_two(schedule)

    def on_train_begin(self, logs: dict | None = None) -> None:
        settable(self.model, "LearningRateScheduler")

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        for name, optimizer in settable(self.model, "LearningRateScheduler").items():
            given = (epoch, optimizer.learning_rate) if self._takes_rate else (epoch,)
            rate = number("LearningRateScheduler", "what schedule returns", self.schedule(*given))
            optimizer.learning_rate = rate
            if self.verbose:
                print(f"Epoch {epoch + 1}: LearningRateScheduler sets {name} to {rate:.6g}", flush=True)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs |= rates(self.model)


def _takes_two(function: Callable[..., Any]) -> bool:
    """Whether a function takes two arguments by position; yes, where it does not say."""
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # written in another language
        return True
    return True
