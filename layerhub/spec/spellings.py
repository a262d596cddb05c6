"""How parameters were said in Keras 1 and 2, and still may be, with a warning that names the new way.

A spec class lists its own under ``formerly``: the old name, and how it is said now. What a family shares stands on
the family; what all layers share, in ``EVERYWHERE``. An old name counts only where the new one is a parameter.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from layerhub.errors import OldSpellingWarning, ParameterError


@dataclass(frozen=True)
class Formerly:
    """An old way to say a parameter.

    name: the new name. values: old values and what they are now; None: values stay as they are. strict: no others are
    taken. part: the value is this part of the new one, a tuple.
    """

    name: str
    values: Mapping[Any, Any] | None = None
    strict: bool = False
    part: int | None = None

    def translated(self, old: str, value: Any, who: str) -> Any:
        """The value as it is said now."""
        known = self.values or {}
        try:
            if value in known:
                return known[value]
        except TypeError:  # what cannot be a key is no old value
            pass
        if self.strict:
            raise ParameterError(
                f"{who}: {old} was once one of {', '.join(map(repr, known))}, not {value!r}; say {self.name} instead"
            )
        return value


def warn(text: str) -> None:
    """Tell of an old spelling, at the line outside of LayerHub that has it."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "layerhub":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, OldSpellingWarning, stacklevel=level)


def modern(spec: Any, given: dict[str, Any], formerly: Mapping[str, Any], placed: Collection[str]) -> dict[str, Any]:
    """The arguments with new names for old ones, each told by a warning. placed: what was given by position."""
    named = {}
    for old, value in given.items():
        way = formerly.get(old)
        way = Formerly(way) if isinstance(way, str) else way
        if old in spec.parameters or way is None or way.name not in spec.parameters:
            named[old] = value
            continue
        value = way.translated(old, value, spec.__name__)
        if way.part is not None:
            found = list(named.get(way.name, ()))
            found[way.part : way.part] = [value]
            value = tuple(found)
        elif way.name in given or way.name in named or way.name in placed:
            raise ParameterError(f"{spec.__name__}: {old} is an old name of {way.name}; give one of them")
        named[way.name] = value
        said = f"{way.name}={value!r}" if way.values or way.part is not None else f"{way.name}=…"
        warn(f"{spec.__name__}: {old} is an old spelling; say {said}")
    return named


REGULARIZED = {
    f"{letter}_{what}": f"{weight}_{what}"
    for letter, weight in (("W", "kernel"), ("b", "bias"), ("U", "recurrent"))
    for what in ("regularizer", "constraint")
}
EVERYWHERE: dict[str, Any] = {
    "init": "kernel_initializer",
    "border_mode": "padding",
    "dim_ordering": Formerly("data_format", {"th": "channels_first", "tf": "channels_last", "default": None}, True),
    "bias": "use_bias",
    **REGULARIZED,
}
CONVOLUTION: dict[str, Any] = {
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "nb_row": Formerly("kernel_size", part=0),
    "nb_col": Formerly("kernel_size", part=1),
    "subsample": "strides",
    "subsample_length": "strides",
}
RECURRENT: dict[str, Any] = {
    "output_dim": "units",
    "inner_init": "recurrent_initializer",
    "forget_bias_init": Formerly("unit_forget_bias", {"one": True, "ones": True}, True),
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "consume_less": Formerly("implementation", {"cpu": 1, "mem": 1, "gpu": 2}, True),
}
EMBEDDING: dict[str, Any] = {
    "init": "embeddings_initializer",
    "W_regularizer": "embeddings_regularizer",
    "W_constraint": "embeddings_constraint",
}
