"""Cases: one layer in one configuration, with data drawn from the case's own id."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from layerhub.errors import LayerHubError, ParameterError
from layerhub.layers import Layer
from layerhub.spec import KINDS
from layerhub.spec.base import Spec
from layerhub.spec.layer import parts
from layerhub_conformance import data

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
        """One line that says it all, which ``parse`` reads, and from which the data are drawn."""
        said = [f"{self.layer}({_arguments(self.config)})", "+".join(map(written, self.shapes))]
        said += [f"masks={'+'.join(self.masks)}"] if self.masks else []
        said += ["states"] if self.states else []
        said += ["training"] if self.training else []
        said += [f"data={self.data}"] if self.data != "normal" else []
        return ";".join(said)

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case that an id says. Raises ParameterError where it says none; functions cannot be read back."""
        head, shapes, *rest = text.strip().split(";") if ";" in text else (text, "")
        options = dict(part.partition("=")[::2] for part in rest)
        try:
            spec = _read(head)
            unknown = sorted(options.keys() - {"masks", "states", "training", "data"})
            unknown += [options["data"]] if options.get("data", "normal") not in data.SETS else []
            if unknown:
                raise ValueError(f"unknown: {', '.join(unknown)}")
            return cls(
                spec["class_name"],
                spec["config"],
                tuple(ast.literal_eval(shape) for shape in shapes.split("+")) if shapes else (),
                "training" in options,
                tuple(options["masks"].split("+")) if "masks" in options else (),
                "states" in options,
                options.get("data", "normal"),
            )
        except (SyntaxError, TypeError, ValueError) as problem:
            raise ParameterError(
                f"{text!r} is no case ({problem}); one is written as "
                "Dense(units=3);(2,4);masks=left;states;training;data=wide, the last four where they apply"
            ) from None

    @cached_property
    def reported(self) -> tuple[str, str]:
        """The kind and name of what it is a case of: of the layer Activation alone, the activation that it holds."""
        if self.layer == "Activation" and self.config.keys() == {"activation"} and not self.masks:
            return "activation", type(self.make().activation).__name__
        return "layer", self.layer

    @cached_property
    def seed(self) -> int:
        return int.from_bytes(hashlib.blake2b(self.id.encode(), digest_size=6).digest(), "little")

    def make(self, dtype: str = "float64") -> Layer:
        """The layer."""
        return KINDS["layer"].find(self.layer)(**self.config, dtype=dtype)

    @property
    def differentiable(self) -> bool:
        """Whether gradients are to be compared too."""
        return self.data not in data.FORWARD

    def draw(self, dtype: str) -> Drawn:
        """Inputs, weights, masks, states and cotangents, rounded to ``dtype``."""
        rng = np.random.default_rng(self.seed)
        layer = self.make()

        def values(shape: Shape, drawing: data.Draw = data.SETS[self.data]) -> np.ndarray:
            return rounded(drawing(rng, shape, dtype), dtype)

        inputs: list[np.ndarray] = []
        ids = _ids(layer)
        for position, shape in enumerate(self.shapes):
            declared = layer.inputs[min(position, len(layer.inputs) - 1)]
            if ids is not None:
                inputs.append(rng.integers(0, ids, size=shape))
            elif declared.kind == "bool":
                inputs.append(rng.uniform(size=shape) < 0.7)
            else:
                inputs.append(values(shape))
        specs = layer.weight_specs(*self.shapes)
        weights = [rounded(data.weight(rng, spec.shape, spec.name, self.data), dtype) for spec in specs]
        masks = [
            _mask(pattern, layer.places_of(shape)[:2])
            for pattern, shape in itertools.zip_longest(self.masks, self.shapes, fillvalue="none")
        ]
        states = [values(shape) for shape in layer.state_shapes(*self.shapes)] if self.states else []
        plain = data.integer if self.data == "integer" else data.normal
        cotangents = [values(shape, plain) for shape in layer.output_shapes(*self.shapes)]
        return Drawn(inputs, weights, masks, states, cotangents)


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


def written(value: Any) -> str:
    """A value as an id has it: a literal, or a call for a spec. No semicolon is in it."""
    if isinstance(value, Spec):
        value = {"class_name": type(value).__name__, "config": _said(value)}
    if isinstance(value, Mapping) and value.keys() == {"class_name", "config"} and value["class_name"].isidentifier():
        return f"{value['class_name']}({_arguments(value['config'])})"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{written(key)}:{written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        inside = ",".join(map(written, value))
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, str):
        return json.dumps(value).replace(";", "\\u003b")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return value.__name__ if callable(value) else repr(value)


def _arguments(config: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={written(value)}" for name, value in config.items())


def _said(spec: Spec) -> dict[str, Any]:
    """The parameters of a spec that are not as they are by themselves, without its name and type."""
    plain = {name: spec._default(parameter) for name, parameter in spec.parameters.items()}
    config = spec.get_config()
    return {k: v for k, v in config.items() if k not in ("name", "dtype") and getattr(spec, k) != plain[k]}


def _read(text: str) -> Any:
    """What ``written`` wrote. A spec comes back as its config."""
    return _value(ast.parse(text, mode="eval").body)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(ast.Name(name), [], keywords) if all(k.arg for k in keywords):
            return {"class_name": name, "config": {str(k.arg): _value(k.value) for k in keywords}}
        case ast.Tuple(parts):
            return tuple(map(_value, parts))
        case ast.List(parts):
            return list(map(_value, parts))
        case ast.Dict(keys, values) if all(keys):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.Constant(value):
            return value
        case ast.Name(name):
            raise ValueError(f"the function {name} cannot be read back")
    return ast.literal_eval(node)


def _ids(layer: Layer) -> int | None:
    """How many ids there are, for a layer that takes ids, or wraps one that does; None for any other."""
    if layer.inputs and layer.inputs[0].kind == "int":
        return layer.input_dim
    return next((found for part in parts(layer) if (found := _ids(part))), None)


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
