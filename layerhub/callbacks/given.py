"""What callbacks are given: checked once, when they are made."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from layerhub.errors import ParameterError, suggest
from layerhub.spec import spellings


def whole(who: str, what: str, value: Any, low: int = 0) -> int:
    """A whole number from ``low`` up. Raises ParameterError."""
    try:
        if isinstance(value, bool):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        found = low - 1
    if found < low:
        raise ParameterError(f"{who}: {what} must be an int, {low} or more, not {value!r}")
    return found


def number(who: str, what: str, value: Any) -> float:
    """A finite real number; numpy's and tensors of one element count. Raises ParameterError."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise ParameterError(f"{who}: {what} must be a number, not {value!r}")
    return found


def frequency(who: str, what: str, value: Any) -> int | None:
    """How many batches there are between two times; None for "epoch". Raises ParameterError."""
    if isinstance(value, str) and value == "epoch":
        return None
    if isinstance(value, (str, bool)):
        raise ParameterError(f'{who}: {what} must be "epoch" or a number of batches, not {value!r}')
    return whole(who, what, value, 1)


def old(who: str, given: Mapping[str, Any], names: Mapping[str, str | None], known: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of Keras 1 and 2 under the names that they have now, each told by a warning.

    names: old -> new, or None for what has nothing to do any more. Raises ParameterError for what never was.
    """
    found = {}
    for name, value in given.items():
        if name not in names:
            raise ParameterError(
                f"{who} has no argument {name!r}.{suggest(name, known)} Its arguments: {', '.join(known)}"
            )
        new = names[name]
        if new is None:
            spellings.warn(f"{who}: {name} is an old argument, which has nothing to do any more; leave it out")
        else:
            spellings.warn(f"{who}: {name} is an old spelling; say {new}=…")
            found[new] = value
    return found


def arguments(function: Any) -> tuple[str, ...]:
    """The names of what a constructor takes."""
    code = function.__code__
    return tuple(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])


class Every:
    """Counts batches, and says when so many have passed since the last time.

    Batches come by their numbers in the epoch; several may come at once (``steps_per_execution``).
    """

    def __init__(self, batches: int | None):
        self.batches, self.passed, self.all, self._seen = batches, 0, 0, 0

    def due(self, batch: int) -> bool:
        """Whether it is time, after the batch of this number."""
        done = batch + 1
        new = done - self._seen if done > self._seen else done
        self._seen, self.passed, self.all = done, self.passed + new, self.all + new
        if self.batches is None or self.passed < self.batches:
            return False
        self.passed = 0
        return True

    def state(self) -> list[int]:
        """What has to be known to go on counting."""
        return [self.passed, self.all, self._seen]

    def load(self, state: Sequence[int]) -> None:
        """Go on counting from what ``state`` gave."""
        self.passed, self.all, self._seen = state
