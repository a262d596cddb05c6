"""What there is to say about a spec, as data: for the pages of the reference and for ``layerhub describe``.

All of it is read off the spec: its docstrings, parameters, axes and rules. An example, with real sizes, is made from
what the spec declares; where that says too little, from ``EXAMPLES``.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import layerhub.graph
from layerhub.errors import LayerHubError, UnknownNameError, suggest
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub.spec.axes import SPACE_LETTERS
from layerhub.spec.base import REQUIRED, Parameter, Spec, gathered
from layerhub.spec.layer import Activated, Layer, Weight, Weights
from layerhub.spec.masks import MaskRule
from layerhub.spec.spellings import Formerly

FORMULA = re.compile(r"[=@+*/<>]|\w - \w|\blog \w|\w\[|\w\(\w")
"""What only a formula has."""
WIDTH = 110
"""How long a line of a signature may be."""


def said(value: Any) -> str:
    """A value as it would be written, strings in double quotes."""
    return f'"{value}"' if isinstance(value, str) and '"' not in value else repr(value)


def find(name: str, kind: str | None = None) -> type[Spec]:
    """The spec of that name, of any kind: spelled as it is if possible, else without regard to case."""
    registry()  # plugins may bring specs of their own
    kinds = [KINDS[kind]] if kind else list(KINDS.values())
    for members in kinds:
        if name in members.members:
            return members.members[name]
    for members in kinds:
        if name in members:
            return members.find(name)
    known = [known for members in kinds for known in members]
    *others, last = (members.name for members in kinds)
    what = f"{', '.join(others)} or {last}" if others else last
    raise UnknownNameError(f"no {what} is called {name!r}.{suggest(name, known)}")


def namesakes(spec: type[Spec]) -> list[str]:
    """The other kinds that have something of this name."""
    return [kind for kind, members in KINDS.items() if kind != spec.kind.name and spec.__name__ in members]


def describe(spec: type[Spec]) -> dict[str, Any]:
    """All there is to say about a spec."""
    told = Prose.of(spec)
    found: dict[str, Any] = {
        "name": spec.__name__,
        "kind": spec.kind.name,
        "family": spec.__module__.rpartition(".")[2],
        "aliases": list(spec.aliases),
        "summary": told.summary,
        "about": told.blocks,
        "sources": told.sources,
        "builds_on": [base.__name__ for base in spec.__mro__[1:] if _registered(base, spec)],
        "signature": signature(spec),
        "parameters": [parameter(spec, p, told.notes.get(p.name)) for p in spec.parameters.values()],
        "rules": [d.name.replace("_", " ") for d in spec.definitions.values() if d.role == "rule"],
        "formerly": old_spellings(spec),
        "keras_only": sorted(gathered(spec, "keras_only")),
    }
    if issubclass(spec, Layer):
        found |= described_layer(spec)
    return found


def described_layer(spec: type[Layer]) -> dict[str, Any]:
    """What there is to say about a layer beside that."""
    example = example_of(spec)
    sizes = example.sizes() if example else {}
    return {
        "inputs": [
            {
                "input": declared.name,
                "axes": declared.pattern.spelled(spec.rank),
                "kind": declared.kind,
                "given": _given(declared),
                "example": sizes.get(declared.name),
            }
            for declared in spec.inputs
        ],
        "weights": [row for declared in spec.held for row in weight_rows(spec, declared, example)],
        "outputs": [
            {"output": name, "axes": axes, "example": shape} for name, axes, shape in output_rows(spec, example)
        ],
        "axes": named_axes(spec),
        "call": [*(extra for extra in spec.extras if extra != "rng"), *spec.options],
        "mask": mask_words(spec),
        "meaning": "parts" if hasattr(spec, "compose") else "definition",
        "parts": example.parts() if example else [],
        "example": example.code() if example else None,
    }


# Words

INSET = "\0"
"""Marks, within a statement, where lines that are set in begin."""


@dataclass
class Prose:
    """What docstrings say, taken apart.

    blocks: paragraphs ({"text": …}) and formulas ({"code": …}). notes: on parameters, by name. sources: where it is
    from.
    """

    blocks: list[dict[str, str]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, spec: type[Spec]) -> Prose:
        """The docstrings of a spec and then of its families, up to the one that has the formula; notes of all."""
        told, enough = cls(), False
        for base in spec.__mro__:
            text = vars(base).get("__doc__")
            if not text or not issubclass(base, Spec) or base is Spec or (base is not spec and not base.abstract):
                continue
            # What all of a kind have in common is said elsewhere; what is outside of the family tells of its making.
            general = "kind" in vars(base) or base.__module__ != spec.__module__
            told.read(inspect.cleandoc(text), spec, notes_only=enough or general)
            enough = enough or told.is_exact
        module = inspect.getdoc(sys.modules[spec.__module__]) or ""
        told.sources = told.sources or re.findall(r"^Sources?\b[^.:]*: .*(?:\n.+)*", module, re.MULTILINE)[:1]
        return told

    @property
    def is_exact(self) -> bool:
        """Whether there is a formula, or a source that has it."""
        return bool(self.sources) or any("code" in block or FORMULA.search(block["text"]) for block in self.blocks)

    @property
    def summary(self) -> str:
        """The first sentence."""
        return _first_sentence(self.blocks[0].get("text", ""))[0] if self.blocks else ""

    def read(self, text: str, spec: type[Spec], notes_only: bool = False) -> None:
        """Take a docstring in."""
        kept = Prose(notes=self.notes) if notes_only else self
        for paragraph in re.split(r"\n\s*\n", text):
            lines = paragraph.splitlines()
            if lines[0].startswith("    "):
                kept.add({"code": textwrap.dedent(paragraph)})
                continue
            for told in _statements(lines):
                kept.tell(told, spec)

    def tell(self, told: str, spec: type[Spec]) -> None:
        """Take a statement in: prose, with notes on parameters and the source in it."""
        told, *source = re.split(r"(?:^|(?<=\. ))(?=Sources?\b[^.:]*: )", told, maxsplit=1)
        self.sources += [found for found in source if found not in self.sources]
        name = "|".join(sorted(spec.parameters, key=len, reverse=True)) or r"\b\B"
        pieces = re.split(rf"(?:^|(?<=[.;] ))((?:{name})(?:, (?:{name}))*): ", told)
        prose = pieces[0]
        for names, note in zip(pieces[1::2], pieces[2::2], strict=True):
            # Beyond its first sentence a note speaks of something else, unless it is set apart.
            note, rest = (note.replace(INSET, ""), "") if INSET in note else _first_sentence(note)
            prose += rest
            for on in names.split(", "):
                self.notes.setdefault(on, note.strip().rstrip(";"))
        if prose.strip():
            self.add({"text": re.sub(r";$", ".", prose.replace(INSET, "").strip())})

    def add(self, block: dict[str, str]) -> None:
        """A block, unless it was said before."""
        if block not in self.blocks:
            self.blocks.append(block)


def _statements(lines: Sequence[str]) -> Iterator[str]:
    """What the lines of a paragraph say: a line after a full stop begins anew, a line that is set in goes on.

    A note that goes on in lines that are set in is marked, so that it is taken whole.
    """
    told = ""
    for line in lines:
        inset = line.startswith(" ")
        if told and told.endswith((".", ":")) and not inset:
            yield told
            told = ""
        mark = INSET if inset and INSET not in told else ""
        told = f"{told} {mark}{line.strip()}" if told else line.strip()
    if told:
        yield told


def _first_sentence(text: str) -> tuple[str, str]:
    """The first sentence of a text, and the rest."""
    first, *rest = re.split(r"(?<=\.) (?=[A-Z`])", text, maxsplit=1)
    return first, rest[0] if rest else ""


# Parameters


def signature(spec: type[Spec]) -> str:
    """How it is made, in lines that are not too long."""
    words, starred = [], False
    for p in spec.parameters.values():
        if p.keyword_only and not starred:
            words.append("*")
            starred = True
        words.append(p.name if p.default is REQUIRED else f"{p.name}={said(p.default)}")
    line = f"{spec.__name__}({', '.join(words)})"
    if len(line) <= WIDTH:
        return line
    # Spaces within defaults are no places to break a line at.
    text = ", ".join(word.replace(" ", "\0") for word in words)
    lines = textwrap.wrap(text, WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return f"{spec.__name__}(\n    " + "\n    ".join(lines).replace("\0", " ") + ",\n)"


def parameter(spec: type[Spec], p: Parameter, note: str | None) -> dict[str, Any]:
    """A parameter: what it may be, what it is if nothing is said, what it means, examples."""
    schema = dict(p.domain.schema)
    if "enum" in schema:
        schema["enum"] = choices(spec, p.name)
    return {
        "parameter": p.name,
        "domain": p.domain.text,
        "default": "required" if p.default is REQUIRED else said(p.default),
        "meaning": note or customary(spec, p.name),
        "examples": [said(value) for value in p.domain.valid],
        "schema": schema,
    }


CUSTOM = {
    "axis": "the axis, or axes, that it goes along.",
    "cell": "what is carried along time.",
    "center": "whether there is a beta, which is added.",
    "data_format": "where the channels stand; None takes ``lh.config.image_data_format()``.",
    "depth_multiplier": "how many outputs each channel has.",
    "dilation_rate": "the steps between the cells of the window.",
    "epsilon": "keeps the divisor away from 0.",
    "filters": "how many channels come out.",
    "head_dim": "how many features a head has.",
    "go_backwards": "time is read from its end.",
    "keepdims": "the axes of the space stay, with size 1.",
    "kernel_size": "the size of the window.",
    "layer": "what is wrapped.",
    "name": "what it is called in logs and messages.",
    "num_heads": "how many heads there are.",
    "num_query_heads": "how many heads the queries have.",
    "output_dim": "how many features come out.",
    "output_padding": "decides how long the output is; see above.",
    "output_size": "how many windows there are.",
    "pool_size": "the size of the window.",
    "recurrent_activation": "the activation of the gates.",
    "return_sequences": "the outputs of all steps come out, not only the last one.",
    "return_state": "the last states are further outputs.",
    "scale": "whether there is a gamma, which multiplies.",
    "seed": "draws the random numbers; without one the model's seed does, with the layer's place in the model.",
    "strides": "the steps between the places of the window.",
    "unit_forget_bias": "the bias of the forget gate starts with ones.",
    "units": "how many features come out.",
    "unroll": "a hint to backends, which changes nothing that is computed.",
    "use_bias": "whether there is a bias.",
    "use_cudnn": "a hint to backends, which changes nothing that is computed.",
    "zero_output_for_mask": "steps that do not count give 0, and not the output before them.",
}
"""What parameters of layers mean that mean the same wherever they stand, unless a docstring says more."""

PADDING = {
    "valid": "the window stays inside",
    "same": "cells are added on both sides, so that there are size / strides places, rounded up",
    "causal": "all cells are added before, so that no place sees what comes after it",
}


def customary(spec: type[Spec], name: str) -> str:
    """What a parameter means by the field's custom; nothing where there is none."""
    if not issubclass(spec, Layer):
        return ""
    what, _, role = name.rpartition("_")
    if role in ROLES and what:
        kernel = " kernel" if what in KERNELS else ""
        return ROLES[role].format(what.replace("_", " ") + kernel)
    if name == "activation" and issubclass(spec, Activated):
        return "applied to the output."
    if name == "padding" and "enum" in spec.parameters[name].domain.schema:
        return "; ".join(f"{choice}: {PADDING[choice]}" for choice in choices(spec, name)) + "."
    return CUSTOM.get(name, "")


def choices(spec: type[Spec], name: str) -> list[Any]:
    """What a parameter that is one of a few may be; a family may have more than one of its members takes."""
    domain = spec.parameters[name].domain
    found = []
    for choice in domain.schema["enum"]:
        try:
            found.append(domain.accept(choice, spec))
        except (TypeError, ValueError):
            continue
    return found


KERNELS = ("depthwise", "pointwise", "recurrent")
"""Roles of kernels, of which parameters speak without saying so."""

ROLES = {
    "initializer": "how the {} starts.",
    "regularizer": "a penalty on the {}, added to the loss.",
    "constraint": "what the {} is brought back to after each update.",
}


def old_spellings(spec: type[Spec]) -> list[dict[str, str]]:
    """Old names of parameters that are still taken, and how they are said now."""
    found = []
    for old, way in gathered(spec, "formerly").items():
        way = way if isinstance(way, Formerly) else Formerly(way)
        if old in spec.parameters or way.name not in spec.parameters:
            continue
        now = way.name if way.part is None else f"{way.name}[{way.part}]"
        if way.values:
            now += ": " + ", ".join(f"{said(before)} is now {said(after)}" for before, after in way.values.items())
        found.append({"old": old, "now": now})
    return found


def _registered(base: type, spec: type[Spec]) -> bool:
    return base is not spec and spec.kind.members.get(base.__name__) is base


# Layers


def _given(declared: Any) -> str:
    if declared.many:
        return "a list"
    if declared.like is not None:
        return f"optional: else {declared.like}"
    return "optional" if declared.optional else "required"


def weight_rows(spec: type[Layer], declared: Any, example: Example | None) -> list[dict[str, Any]]:
    """A weight, or those of an inner layer: axes, when it is there, how it starts, its shape in the example."""
    made = example.weights().get(declared.name, ()) if example else ()
    if isinstance(declared, Weights):
        return [
            {
                "weight": found.name,
                "axes": "",
                "when": "",
                "start": repr(found.initializer),
                "trainable": found.trainable,
                "example": found.shape,
            }
            for found in made
            if found is not None
        ]
    assert isinstance(declared, Weight)
    start = declared.start
    if start not in spec.parameters:
        named = getattr(spec, start, "") if isinstance(start, str) else start
        start = next((repr(found.initializer) for found in made if found is not None), named)
    return [
        {
            "weight": declared.name,
            "axes": declared.pattern.text,
            "when": _when(spec, declared.switch),
            "start": str(start),
            "trainable": declared.trainable,
            "example": next((found.shape for found in made if found is not None), None),
        }
    ]


def _when(spec: type[Layer], switch: str) -> str:
    """In words, when a weight is there; nothing if always."""
    if switch in spec.parameters:
        return switch
    found = getattr(spec, switch, None)
    words = inspect.getdoc(found) if isinstance(found, property) else None
    return words.rstrip(".").removeprefix("Whether ") if words else ""


def output_rows(spec: type[Layer], example: Example | None) -> list[tuple[str, str, Any]]:
    """The outputs: name, axes, and shape in the example. What has no declared axes has those of its parts."""
    rows = [(out.name, out.pattern.spelled(spec.rank)) for out in spec.outputs] or [("y", "")]
    shapes = example.output_shapes() if example else ()
    states = len(shapes) - len(rows)
    rows += [(f"state {k}" if states > 1 else "state", "") for k in range(states)]
    return [(*row, shape) for row, shape in zip_longest(rows, shapes)]


def named_axes(spec: type[Layer]) -> list[dict[str, str]]:
    """The axes of inputs, weights and outputs that the layer derives itself, in words."""
    patterns = [declared.pattern for declared in spec.inputs]
    patterns += [declared.pattern for declared in spec.held if isinstance(declared, Weight)]
    patterns += [declared.pattern for declared in spec.outputs]
    found: dict[str, str] = {}
    for pattern in patterns:
        for name in re.findall(r"[A-Za-z_]\w*", pattern.text):
            derived = spec.definitions.get(name)
            method = derived.method if derived else getattr(spec, name, None)
            words = inspect.getdoc(method) if derived or isinstance(method, property) else None
            if words and name not in spec.parameters:
                found[name] = words.partition("\n\n")[0].replace("\n", " ")
    return [{"axis": name, "is": words} for name, words in found.items()]


def mask_words(spec: type[Layer]) -> str:
    """What becomes of a mask."""
    rule = getattr(spec, "mask", None)
    if isinstance(rule, MaskRule):
        return rule.text + ("; one that arrives is dropped, with a warning" if rule.drops else "")
    return "as its parameter mask says" if "mask" in spec.parameters else "as its parts have it"


# Examples

SIZES = {"n": 2, "t": 5, "c": 3, "tq": 4, "tv": 5, "d": 6, "dv": 6, "dk": 6, "query_heads": 4, "key_heads": 2}
"""The sizes of axes in examples. Different ones where they may be, so that one sees which is which."""
SPACE = {1: (12,), 2: (8, 10), 3: (6, 8, 10)}
"""The sizes of the space, by the number of its axes."""
OTHER = 4
"""The size of any other axis."""

VALUES = {
    "activation": "'relu'",
    "axes": "(2, 1)",
    "cell": "lh.layers.LSTMCell(4)",
    "cells": "[lh.layers.GRUCell(5), lh.layers.LSTMCell(4)]",
    "dims": "(2, 1)",
    "filters": "8",
    "head_dim": "4",
    "input_dim": "10",
    "kernel_size": "3",
    "key_dim": "4",
    "layer": "lh.layers.Dense(4)",
    "n": "3",
    "num_heads": "2",
    "num_key_value_heads": "2",
    "num_query_heads": "4",
    "output_dim": "4",
    "output_dims": "(2, 3)",
    "output_size": "4",
    "rate": "0.5",
    "stddev": "0.1",
    "target_shape": "(3, 2)",
    "units": "4",
}
"""What required parameters are in examples, by their names."""


@dataclass(frozen=True)
class Own:
    """What the example of one layer has of its own. values: of parameters; shapes: of inputs, batch first."""

    values: Mapping[str, str] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] | None = None


EXAMPLES: dict[str, Own] = {
    "Bidirectional": Own({"layer": "lh.layers.LSTM(4)"}),
    "Dot": Own(shapes=((2, 3, 4), (2, 4, 5))),
    "EinsumDense": Own({"equation": '"abc,cd->abd"', "output_shape": "(None, 8)"}, ((2, 5, 6),)),
    "GroupNormalization": Own({"groups": "3"}),
    "InputLayer": Own({"shape": "(6,)"}),
    "Lambda": Own({"function": "lambda x: lh.ops.exp(-x * x)"}, ((2, 6),)),
    "Permute": Own(shapes=((2, 3, 4),)),
}


@dataclass(frozen=True)
class Example:
    """A layer, made and called. made: the expression that makes it."""

    layer: Layer
    made: str
    shapes: tuple[tuple[int, ...], ...]
    training: bool

    @property
    def names(self) -> list[str]:
        """The inputs' names, one for each shape."""
        declared = self.layer.inputs
        if declared and declared[-1].many:
            return ["x", "z", "w"][: len(self.shapes)]
        return [d.name for d in declared][: len(self.shapes)]

    def sizes(self) -> dict[str, Any]:
        """The shapes of inputs by name; of a list of inputs, all of them."""
        if self.layer.inputs and self.layer.inputs[-1].many:
            return {self.layer.inputs[-1].name: list(self.shapes)}
        return dict(zip(self.names, self.shapes, strict=True))

    def output_shapes(self) -> tuple[Any, ...]:
        """The shapes of all outputs."""
        return self.layer.output_shapes(*self.shapes)

    def weights(self) -> dict[str, Any]:
        """The weights by the names that the class declares."""
        arguments = self.layer.weight_arguments(*self.shapes)
        return {d.name: found for d, found in zip(self.layer.held, arguments, strict=True)}

    def parts(self) -> list[str]:
        """The layers that a composite is made of, without those that have no name of their own."""
        if not self.layer.is_composite:
            return []
        names = dict.fromkeys(type(part).__name__ for part in self.layer.made_of(*self.shapes))
        return [name for name in names if name in KINDS["layer"].members]

    def code(self) -> str:
        """The program, with what it gives behind it."""
        lines = ["import numpy as np", "import layerhub as lh", "", "rng = np.random.default_rng(0)"]
        for position, (name, shape) in enumerate(zip(self.names, self.shapes, strict=True)):
            declared = self.layer.inputs[min(position, len(self.layer.inputs) - 1)]
            lines.append(f"{name} = {self._drawn(declared.kind, shape)}")
        arguments = ", ".join(self.names)
        if self.layer.inputs and self.layer.inputs[-1].many and len(self.names) > 1:
            arguments = f"[{arguments}]"
        arguments += ", training=True" if self.training else ""
        lines.append(f"layer = {self.made}")
        shapes = list(self.output_shapes())
        if len(shapes) == 1:
            lines.append(f"layer({arguments}).shape  # {shapes[0]}")
        else:
            lines.append(f"[y.shape for y in layer({arguments})]  # {shapes}")
        return "\n".join(lines)

    def _drawn(self, kind: str, shape: tuple[int, ...]) -> str:
        if kind == "int":
            return f"rng.integers(0, {getattr(self.layer, 'input_dim', OTHER)}, size={shape})"
        return f'rng.normal(size={shape}).astype("float32")'


def example_of(spec: type[Layer]) -> Example | None:
    """An example of a layer; None where what it declares is not enough to make one."""
    own = EXAMPLES.get(spec.__name__, Own())
    values = {}
    for name, p in spec.parameters.items():
        if name in own.values:
            values[name] = own.values[name]
        elif p.default is REQUIRED:
            values[name] = VALUES.get(name) or said(next(iter(p.domain.valid), None))
    home = "lh.layers." if spec.kind.origin.get(spec.__name__) == "layerhub" else ""
    arguments = ", ".join(f"{name}={value}" for name, value in values.items())
    try:
        layer = eval(f"make({arguments})", {"make": spec, "lh": layerhub})
        shapes = own.shapes or tuple(shape for declared in spec.inputs for shape in _shapes(spec, declared))
        example = Example(layer, f"{home}{spec.__name__}({arguments})", shapes, _for_training(spec))
        example.output_shapes()
    except (LayerHubError, TypeError, AttributeError):
        return None
    return example


def _shapes(spec: type[Layer], declared: Any) -> list[tuple[int, ...]]:
    """Shapes for an input: none for one that may be left out, two for a list."""
    if declared.optional:
        return []
    words = declared.pattern.words
    shape: list[int] = []
    for word in words:
        if word == "...":  # samples in front, features at the end, nothing in between
            shape += [SIZES["n"]] * (word == words[0]) + [SIZES["d"]] * (word == words[-1])
        elif word == "*space":
            shape += SPACE[spec.rank or 1]
        else:
            shape.append(SIZES.get(word, OTHER))
    if declared.kind == "int":
        shape = [2, 5]
    return [tuple(shape)] * (2 if declared.many else 1)


def _for_training(spec: type[Layer]) -> bool:
    """Whether the layer does something of its own in training, whatever its parameters."""
    moves = any(isinstance(declared, Weight) and not declared.trainable for declared in spec.held)
    return moves or any(name in spec.parameters for name in ("rate", "stddev"))


def vocabulary() -> list[tuple[str, str]]:
    """The names of axes, with what they are."""
    words = [("n", "samples of a batch"), ("t", "time"), ("c", "channels"), ("d", "features")]
    words += [
        (" ".join(letters), "the space of an image, as many axes as it has") for letters in SPACE_LETTERS.values()
    ]
    words += [("places", "positions of a window"), ("units, filters", "outputs"), ("...", "any axes, unchanged")]
    return words
