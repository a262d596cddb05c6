"""The suite for one layer of one's own, from Python: ``check(MyLayer(3), (4, 5))``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layerhub.layers import Layer
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub_conformance.bench import Local
from layerhub_conformance.case import Case, Shape
from layerhub_conformance.checks import table
from layerhub_conformance.report.model import Result
from layerhub_conformance.trial import Trial, conduct


@dataclass(frozen=True)
class Row:
    """What came of a layer on a backend. worst: the largest error as a share of its bound (1.25 is the limit)."""

    backend: str
    dtype: str
    route: str
    training: bool
    worst: float


def check(
    layer: Layer,
    *shapes: Shape,
    backends: Sequence[str] | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
    masks: Sequence[str] = (),
) -> list[Row]:
    """Compare a layer's values and gradients with its definition's, on every backend, by kernel and by definition.

    shapes: of its inputs, batch axis included. backends: None takes all that are usable. masks: a pattern for each
    input ("left", "right", "middle", "row", "all", "none"). The layer's class must be known (``lh.register``).
    Raises AssertionError, which says what is wrong where.
    """
    name = type(layer).__name__
    KINDS["layer"].find(name)
    config: dict[str, Any] = {key: getattr(layer, key) for key in layer.parameters if key not in ("name", "dtype")}
    rows, wrong = [], []
    for training in (False, True):
        case = Case(name, config, shapes, training, tuple(masks))
        for backend in backends or list(registry().usable()):
            for dtype in dtypes:
                for route in ("kernel", "definition"):
                    result = measure(case, backend, dtype, route)
                    worst = max((f.worst or 0.0 for f in result.findings), default=0.0)
                    rows.append(Row(backend, dtype, route, training, worst))
                    wrong += [] if result.verdict == "pass" else [f"{backend} ({dtype}, {route}): {result.message}"]
    if wrong:
        raise AssertionError("\n".join([f"{layer!r} does not conform:", *wrong]))
    return rows


def measure(case: Case, backend: str, dtype: str, route: str = "kernel") -> Result:
    """The verdict on a case, run in this process."""
    table()
    return conduct(Trial("values", case, backend, dtype, route), Local(backend))
