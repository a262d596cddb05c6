"""Cases: one layer in one configuration, with data drawn from the case's own id."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from layerhub.errors import LayerHubError
from layerhub.layers import Layer
from layerhub.spec import KINDS

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One layer in one configuration.

    layer: class name. config: its parameters. shapes: of its inputs. masks: a pattern for each input ("none", "left",
    "right", "middle", "row", "all"). states: whether initial states are given. data: how values are drawn.
    """

    layer: str
    config: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    training: bool = False
    masks: tuple[str, ...] = ()
    states: bool = False
    data: str = "normal"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Case) and self.id == other.id

    @cached_property
    def id(self) -> str:
        """One line that says it all, and from which the data are drawn."""
        parts = [f"{name}={_short(value)}" for name, value in self.config.items()]
        parts.append("x".join(_short(shape) for shape in self.shapes))
        parts += [f"mask={'+'.join(self.masks)}"] if self.masks else []
        parts += ["states"] if self.states else []
        parts += ["training"] if self.training else []
        parts += [self.data] if self.data != "normal" else []
        return f"{self.layer}[{';'.join(parts)}]"

    @cached_property
    def seed(self) -> int:
        return int.from_bytes(hashlib.blake2b(self.id.encode(), digest_size=6).digest(), "little")

    def make(self, dtype: str = "float64") -> Layer:
        """The layer."""
        return KINDS["layer"].find(self.layer)(**self.config, dtype=dtype)

    def draw(self, dtype: str) -> Drawn:
        """Inputs, weights, masks, states and cotangents, rounded to ``dtype``."""
        rng = np.random.default_rng(self.seed)
        layer = self.make()

        def values(shape: Shape) -> np.ndarray:
            x = rng.normal(size=shape)
            if self.data == "positive":
                x = np.abs(x) + 0.1
            if self.data == "large_mean":
                x = x * 0.01 + 1000
            if self.data == "wide":
                x = x * 10.0 ** rng.integers(-6, 3, size=shape)
            if self.data == "binary":
                x = np.asarray(rng.integers(0, 2, size=shape))
            return rounded(x, dtype)

        inputs: list[np.ndarray] = []
        for position, shape in enumerate(self.shapes):
            declared = layer.inputs[min(position, len(layer.inputs) - 1)]
            if declared.kind == "int":
                inputs.append(rng.integers(0, self.config["input_dim"], size=shape))
            elif declared.kind == "bool":
                inputs.append(rng.uniform(size=shape) < 0.7)
            else:
                inputs.append(values(shape))
        specs = layer.weight_specs(*self.shapes)
        weights = [
            rounded(
                rng.uniform(0.5, 1.5, size=s.shape) if "variance" in s.name else rng.normal(size=s.shape) * 0.6, dtype
            )
            for s in specs
        ]
        masks = [_mask(pattern, shape[:2]) for pattern, shape in zip(self.masks, self.shapes, strict=False)]
        states = [values(shape) for shape in layer.state_shapes(*self.shapes)] if self.states else []
        cotangents = [values(shape) for shape in layer.output_shapes(*self.shapes)]
        return Drawn(inputs, weights, masks or [None] * len(inputs), states, cotangents)


@dataclass
class Drawn:
    """The arrays of a case."""

    inputs: list[np.ndarray]
    weights: list[np.ndarray]
    masks: list[np.ndarray | None]
    states: list[np.ndarray]
    cotangents: list[np.ndarray] = field(default_factory=list)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """An array in a float type; bfloat16, which numpy has not, as float32 rounded to its 8 bits."""
    if dtype != "bfloat16":
        return x.astype(dtype)
    bits = np.asarray(x, np.float32).view(np.uint32)
    # Half a unit, less one bit where the last kept bit is even: ties go to even.
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def _short(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "(" + ",".join(map(_short, value)) + ")"
    if callable(value):
        return value.__name__
    return repr(value).replace("'", "") if not isinstance(value, Mapping) else repr(dict(value)).replace("'", "")


def _mask(pattern: str, shape: Shape) -> np.ndarray | None:
    """A mask over (batch, time), with a different count in each row."""
    if pattern == "none":
        return None
    batch, steps = shape
    mask = np.ones(shape, dtype=bool)
    for row in range(batch):
        cut = min(steps, 1 + row % max(steps - 1, 1))
        if pattern == "left":
            mask[row, :cut] = False
        elif pattern == "right":
            mask[row, steps - cut :] = False
        elif pattern == "middle":
            mask[row, steps // 2 : steps // 2 + 1] = False
        elif pattern == "row":
            mask[row, :] = row != 0
        elif pattern == "all":
            mask[row, :] = False
    return mask


def covering(choices: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Rows that together hold every pair of values of any two names; far fewer than the product.

    Greedy: each row is completed, name by name, with the value that covers most pairs not yet seen.
    Source: Cohen et al., The AETG system, IEEE TSE 23 (1997), 437.
    """
    names = list(choices)
    open_pairs = {
        (a, i, b, j)
        for a, b in itertools.combinations(names, 2)
        for i in range(len(choices[a]))
        for j in range(len(choices[b]))
    }
    if len(names) == 1:
        yield from ({names[0]: value} for value in choices[names[0]])
    while open_pairs:
        row: dict[str, int] = {}
        a, i, b, j = min(open_pairs)
        row[a], row[b] = i, j
        for name in names:
            if name in row:
                continue

            def gain(k: int, name: str = name, row: dict[str, int] = row, left: set = open_pairs) -> int:
                return sum(((o, v, name, k) in left) + ((name, k, o, v) in left) for o, v in row.items())

            row[name] = max(range(len(choices[name])), key=lambda k: (gain(k), -k))
        open_pairs -= {(a, row[a], b, row[b]) for a, b in itertools.combinations(names, 2)}
        yield {name: choices[name][index] for name, index in row.items()}


def combinations(choices: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """All rows that there are."""
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def cases(
    layer: str,
    shapes: Sequence[Sequence[Shape]],
    fixed: Mapping[str, Any] | None = None,
    /,
    **choices: Sequence[Any],
) -> list[Case]:
    """Cases that cover all pairs of the given choices.

    Of layers that the variable LAYERHUB_EXHAUSTIVE names (``*``: of all), all combinations.
    A choice called ``_training``, ``_masks``, ``_states`` or ``_data`` goes to the case, the others to the layer's
    configuration; ``shapes`` is one more choice. Combinations that the spec refuses are left out.
    """
    found = []
    wanted = os.environ.get("LAYERHUB_EXHAUSTIVE", "").split()
    rows = combinations if layer in wanted or "*" in wanted else covering
    for row in rows({"_shapes": list(shapes), **choices}):
        config = {**(fixed or {}), **{k: v for k, v in row.items() if not k.startswith("_")}}
        case = Case(
            layer,
            config,
            tuple(map(tuple, row["_shapes"])),
            row.get("_training", False),
            tuple(row.get("_masks", ())),
            row.get("_states", False),
            row.get("_data", "normal"),
        )
        try:
            case.make().output_shapes(*case.shapes)
        except LayerHubError:
            continue
        found.append(case)
    return found


def unique(found: Iterable[Case]) -> list[Case]:
    """Each case once, in order."""
    return list(dict.fromkeys(found))
