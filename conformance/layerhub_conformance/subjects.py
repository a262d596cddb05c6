"""Which cases stand for a layer where not all are tried."""

from __future__ import annotations

import math
import re
from functools import cache

from layerhub_conformance.case import Case
from layerhub_conformance.cases import corpus

LARGEST = 4096
"""Elements of a case's inputs beyond which it is no quick one."""

DIMENSIONS = re.compile(r"[123]D(?=$|Transpose)")
"""What names of layers say of the number of dimensions."""


@cache
def by_layer() -> dict[str, tuple[Case, ...]]:
    """The corpus, by layer."""
    found: dict[str, list[Case]] = {}
    for case in corpus():
        found.setdefault(case.layer, []).append(case)
    return {layer: tuple(cases) for layer, cases in found.items()}


@cache
def firsts(count: int) -> tuple[Case, ...]:
    """A few cases of each layer that say most: plain data, no empty axis, different ways of calling."""
    return tuple(case for cases in by_layer().values() for case in _telling(cases)[:count])


@cache
def akin(layer: str) -> tuple[str, ...]:
    """The layers that differ from this one in the number of dimensions only, itself among them."""
    found = [name for name in by_layer() if DIMENSIONS.sub("", name) == DIMENSIONS.sub("", layer)]
    return tuple(found) or (layer,)


@cache
def activated() -> tuple[Case, ...]:
    """A case of each activation: they have kernels of their own, and one layer stands for them all."""
    found: dict[str, Case] = {}
    for case in _telling(by_layer().get("Activation", ())):
        found.setdefault(type(case.make().activation).__name__, case)
    return tuple(found.values())


def _telling(cases: tuple[Case, ...]) -> list[Case]:
    """Cases in order of what they tell: first of each way of calling (training, masked, states), then the rest."""
    full = [case for case in cases if all(0 not in shape for shape in case.shapes) and _size(case) <= LARGEST]
    plain = [case for case in full if case.data == "normal"] or full or list(cases)
    ways: dict[tuple[bool, bool, bool], Case] = {}
    for case in plain:
        ways.setdefault((case.training, any(m not in ("none", "") for m in case.masks), case.states), case)
    first = list(ways.values())
    return first + [case for case in plain if case not in first]


def _size(case: Case) -> int:
    return sum(math.prod(shape) for shape in case.shapes)
