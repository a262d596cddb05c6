"""Pictures of models: a card for each layer, lines for what goes from one to another, frames around nested models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

from layerhub.errors import ParameterError
from layerhub.graph import Node, Tensor
from layerhub.network import Network
from layerhub.operation import Operation
from layerhub.saving import files
from layerhub.spec.core import InputLayer
from layerhub.spec.layer import Layer, parts
from layerhub.visual import outline, picture
from layerhub.visual.layout import Box, Line, Point, Spacing, lay_out
from layerhub.visual.outline import Outline, printable
from layerhub.visual.picture import Group, Path, Scene, Text, rounded, width

DIRECTIONS = ("TB", "LR")
FORMATS = (".png", ".svg")
MARGIN = 14
TITLE, SMALL = 13, 11
"""Sizes of text."""
LEADING = 1.4
"""The height of a line of text, in its size."""
PADDING = 10
LONGEST = 44
"""Characters of a line in a card; longer ones go on in the next line."""
HEADER = 24
"""The height of the strip in which a frame's name stands."""
INK, GREY, WIRE = "#1f2328", "#57606a", "#4b5563"
SHADES = {
    "input": ("#eceff3", "#6b7280"),
    "core": ("#dfe7ff", "#4361c2"),
    "convolution": ("#d6ecfb", "#1f77b4"),
    "local": ("#d6ecfb", "#1f77b4"),
    "pooling": ("#d8f3e1", "#2b8a57"),
    "recurrent": ("#ffe5d3", "#c2611f"),
    "attention": ("#fbdfee", "#b83280"),
    "normalization": ("#eee3fb", "#7a4fbf"),
    "activations": ("#fdf0c8", "#a97b09"),
    "advanced": ("#fdf0c8", "#a97b09"),
    "merge": ("#e4e7ec", "#4b5563"),
    "reshaping": ("#d5f1f0", "#1c8481"),
    "noise": ("#f3ead9", "#8a6d3b"),
    "model": ("#e8ecf1", "#1f2937"),
    "": ("#f0f0f0", "#6b7280"),
}
"""Fill of the head, and border, by the layer's family. Text on each fill is dark; names say what colours say."""


@dataclass(frozen=True)
class Options:
    """What a picture shows."""

    show_shapes: bool = False
    show_dtype: bool = False
    show_layer_names: bool = True
    sideways: bool = False
    expand_nested: bool = False
    show_layer_activations: bool = False
    show_trainable: bool = False


@dataclass(frozen=True)
class Picture:
    """A model's picture. Notebooks show it; ``save`` writes it."""

    scene: Scene

    @property
    def svg(self) -> str:
        """The picture as an SVG document."""
        return picture.svg(self.scene)

    def png(self, dpi: float = 200) -> bytes:
        """The picture as a PNG file. dpi: pixels to an inch; 96 gives one for each pixel of the SVG."""
        return picture.png(self.scene, dpi)

    def save(self, path: str | os.PathLike[str], dpi: float = 200) -> None:
        """Write it to a ``.svg`` or ``.png``. What was there before stays until the new file is whole."""
        suffix = _suffix(path)
        content = self.svg.encode() if suffix == ".svg" else self.png(dpi)
        with files.replacing(path) as file:
            file.write(content)

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Picture: {self.scene.title}, {self.scene.width:.0f} x {self.scene.height:.0f}>"


def plot_model(
    model: Any,
    to_file: str | os.PathLike[str] | None = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: float = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> Picture:
    """Draw a model: its layers, and what goes from which to which.

    to_file: a name that ends in ``.png`` or ``.svg``; None only gives the picture. show_shapes, show_dtype: of what
    goes in and comes out. rankdir: "TB" from top to bottom, "LR" from left to right. expand_nested: nested models as
    frames around their layers. dpi: of a PNG. show_trainable: whether training moves a layer's weights.

    A layer that is used several times is drawn once, as long as none of its uses depends on another one.

    Raises ParameterError for another suffix or direction, for a PNG without matplotlib, or one that becomes too large;
    StateError for a model that does not lead from inputs to outputs yet.
    """
    if not isinstance(model, Network):
        raise ParameterError(f"plot_model: model must be a model, not {model!r}")
    if rankdir not in DIRECTIONS:
        raise ParameterError(f"plot_model: rankdir must be one of {', '.join(DIRECTIONS)}, not {rankdir!r}")
    if not isinstance(dpi, (int, float)) or not dpi > 0:
        raise ParameterError(f"plot_model: dpi must be a number of pixels to an inch, not {dpi!r}")
    if to_file is not None:
        _suffix(to_file)
    options = Options(
        show_shapes, show_dtype, show_layer_names, rankdir == "LR", expand_nested, show_layer_activations,
        show_trainable,
    )  # fmt: skip
    made = Picture(_scene(model, options))
    if to_file is not None:
        made.save(to_file, dpi)
    return made


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = FilePath(path).suffix.lower()
    if suffix not in FORMATS:
        raise ParameterError(f"a picture's name must end in {' or '.join(FORMATS)}, not {str(path)!r}")
    return suffix


def _scene(model: Network, options: Options) -> Scene:
    model._check_complete()
    drawing = _Drawing(model, options)
    breadth, depth = drawing.size
    across, down = (depth, breadth) if options.sideways else (breadth, depth)
    frames, wires, cards = drawing.groups((MARGIN, MARGIN))
    return Scene(
        across + 2 * MARGIN, down + 2 * MARGIN, f"The model {printable(model.name)}", _description(model),
        [*frames, *wires, *cards],
    )  # fmt: skip


def _description(model: Network) -> str:
    """The picture in words: each layer, and what goes into it."""
    about = Outline(model)
    came = ", ".join(f"{printable(x.name)} {x.shape}" for x in model.inputs)
    sentences = [f"From {came}."]
    for layer, nodes in about.uses.items():
        takes = "; ".join(", ".join(about.source(x) for x in node.sources) for node in nodes if node.sources)
        if takes:
            sentences.append(f"{printable(layer.label)} ({outline.type_name(layer)}) takes {takes}.")
    sentences.append(f"Outputs: {', '.join(about.source(y) for y in model.outputs)}.")
    return " ".join(sentences)


# What is drawn of a layer


@dataclass(frozen=True)
class _Card:
    """A layer, by lines of text. head: (text, size, bold); rows: (what, value)."""

    head: tuple[tuple[str, float, bool], ...]
    rows: tuple[tuple[str, str], ...]
    shade: str
    told: str

    @property
    def labels(self) -> float:
        """The breadth of the column that says what values are."""
        return max([width(what, SMALL) for what, _ in self.rows], default=0.0)

    @property
    def across(self) -> float:
        heads = [width(text, size, bold) for text, size, bold in self.head]
        rows = [self.labels + 8 + width(value, SMALL) for _, value in self.rows]
        return max([80.0, *heads, *rows]) + 2 * PADDING

    @property
    def head_height(self) -> float:
        return sum(size * LEADING for _, size, _ in self.head) + 9

    @property
    def down(self) -> float:
        return self.head_height + (len(self.rows) * SMALL * LEADING + 9 if self.rows else 0)

    def group(self, x: float, y: float) -> Group:
        """The shapes, for a card with this upper left corner."""
        fill, border = SHADES[self.shade]
        wide, tall = self.across, self.down
        items: list[Path | Text] = []
        if self.shade == "model":  # a stack of cards
            items.append(Path(rounded(x + 4, y + 4, wide, tall, (7, 7)), "#ffffff", border))
        items += [
            Path(rounded(x, y, wide, tall, (7, 7)), "#ffffff"),
            Path(rounded(x, y, wide, self.head_height, (7, 0 if self.rows else 7)), fill),
            Path(rounded(x, y, wide, tall, (7, 7)), "none", border, 1.3),
        ]
        baseline = y + 4
        for text, size, bold in self.head:
            baseline += size * LEADING
            colour = INK if bold else GREY
            items.append(Text(x + wide / 2, baseline - size * 0.3, text, size, bold, colour, centred=True))
        baseline = y + self.head_height + 4
        for what, value in self.rows:
            baseline += SMALL * LEADING
            if what:
                items.append(Text(x + PADDING, baseline - SMALL * 0.3, what, SMALL, False, GREY))
            items.append(Text(x + PADDING + self.labels + 8, baseline - SMALL * 0.3, value, SMALL, False, INK))
        return Group(self.told, tuple(items))


def _card(layer: Any, nodes: Sequence[Node], options: Options, remarks: Sequence[tuple[str, str]]) -> _Card:
    kind = outline.type_name(layer)
    head = [(text, TITLE, True) for text in _folded(kind)]
    if options.show_layer_names:
        head += [(text, SMALL, False) for text in _folded(printable(layer.label))]
    rows: list[tuple[str, str]] = []
    activation = getattr(layer, "activation", None)
    if options.show_layer_activations and activation is not None:
        rows.append(("activation", printable(str(getattr(activation, "label", None) or type(activation).__name__))))
    if options.show_shapes:
        takes = _tensors((node.inputs for node in nodes), options)
        rows += zip(("in", *[""] * (len(takes) - 1)), takes, strict=False)  # an input takes nothing
        gives = _tensors((node.outputs for node in nodes), options)
        rows += zip(("out", *[""] * (len(gives) - 1)), gives, strict=True)
    elif options.show_dtype:
        types = dict.fromkeys(y.dtype for node in nodes for y in node.outputs)
        rows.append(("dtype", ", ".join(types)))
    if options.show_trainable and outline.variables(layer):
        rows.append(("trainable", "yes" if any(v.trainable for v in outline.variables(layer)) else "no"))
    told = printable(repr(layer)) if isinstance(layer, Layer) else f"{kind} {printable(layer.label)}"
    return _Card(tuple(head), (*rows, *remarks), _shade(layer), told)


def _tensors(sets: Iterable[Sequence[Tensor | None]], options: Options) -> list[str]:
    """The shapes of what goes in or comes out, a line each; uses that are alike once."""
    found: dict[tuple[str, ...], None] = {}
    for tensors in sets:
        lines = tuple(
            "-" if x is None else f"{x.shape} {x.dtype}" if options.show_dtype else f"{x.shape}" for x in tensors
        )
        found[lines] = None
    return [line for lines in found for line in lines]


def _folded(text: str) -> list[str]:
    """A text in lines of at most ``LONGEST`` characters, cut after a sign that separates where there is one."""
    lines = []
    while len(text) > LONGEST:
        cut = max((text.rfind(sign, LONGEST // 2, LONGEST) for sign in " _-/.,("), default=-1) + 1
        cut = cut or LONGEST
        lines.append(text[:cut].rstrip(" "))
        text = text[cut:]
    return [*lines, text]


def _shade(layer: Any) -> str:
    if isinstance(layer, Network):
        return "model"
    if isinstance(layer, InputLayer):
        return "input"
    if isinstance(layer, Operation):
        return "merge"
    inner = next(parts(layer), None)
    if inner is not None:
        return _shade(inner)
    family = type(layer).__module__.rpartition(".")[2]
    return family if type(layer).__module__.startswith("layerhub.spec.") and family in SHADES else ""


# How it is put together


@dataclass
class _Part:
    """One box of a drawing: a card, or a nested model's drawing, or, with neither, a port of the frame around."""

    box: Box
    card: _Card | None = None
    inside: _Drawing | None = None


@dataclass
class _Drawing:
    """A network, laid out. framed: it is drawn inside another one, with ports at its edges. size: (breadth, depth)."""

    network: Network
    options: Options
    framed: bool = False
    remarks: Sequence[tuple[str, str]] = ()
    parts: list[_Part] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    size: Point = (0.0, 0.0)
    entries: list[float] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    label_at: float = 0.0

    def __post_init__(self) -> None:
        about = Outline(self.network)
        at: dict[Node, _Part] = {}
        inputs = {x.node for x in self.network.inputs}
        if self.framed:
            # A port is as deep as the strip of the frame's name, so that no line bends across that.
            depth = 0 if self.options.sideways else HEADER
            for x in self.network.inputs:
                at[x.node] = _Part(Box(0, depth, exits=(0.0,), first=True))
        for nodes, remarks in _groups(about):
            if not self.framed or nodes[0] not in inputs:
                part = self._part(nodes, remarks)
                at.update(dict.fromkeys(nodes, part))
        self.parts = list({id(part): part for part in at.values()}.values())
        for node in about.nodes:
            for k, x in enumerate(node.sources):
                self.lines.append(Line(at[x.node].box, at[node].box, x.position if at[x.node].inside else 0, k, x))
        ends = []
        if self.framed:
            for y in self.network.outputs:
                ends.append(_Part(Box(0, 0, entries=(0.0,), last=True)))
                port = y.position if at[y.node].inside else 0
                self.lines.append(Line(at[y.node].box, ends[-1].box, port, bundle=y))
        self.parts += ends
        spacing = Spacing(ports=9, corner=8, beside=20, between=34) if self.options.sideways else Spacing()
        self.size = lay_out([part.box for part in self.parts], self.lines, spacing)
        if self.framed:
            self._frame([at[x.node].box for x in self.network.inputs], [end.box for end in ends])

    def _part(self, nodes: Sequence[Node], remarks: Sequence[tuple[str, str]]) -> _Part:
        layer = nodes[0].layer
        sideways = self.options.sideways
        if isinstance(layer, Network) and self.options.expand_nested:
            inside = _Drawing(layer, self.options, True, remarks)
            return _Part(Box(*inside.size, entries=inside.entries, exits=inside.exits), inside=inside)
        card = _card(layer, nodes, self.options, remarks)
        return _Part(Box(card.down, card.across) if sideways else Box(card.across, card.down), card)

    @property
    def label(self) -> str:
        """The name of a frame, and what is to be remarked."""
        remarks = "".join(f"; {what} {value}" for what, value in self.remarks)
        return f"{printable(self.network.label)} ({type(self.network).__name__}){remarks}"

    def _frame(self, begins: Sequence[Box], ends: Sequence[Box]) -> None:
        """Make room around for the frame and its name, and say where its ports are."""
        breadth, depth = self.size
        before = after = 14.0
        if self.options.sideways:
            before += HEADER
            depth = max(depth, width(self.label, SMALL, True) + 24)
        else:
            # The name stands beside the lines that come in: left of them, or right, where less has to be added.
            needs = width(self.label, SMALL, True) + 20
            places = [box.at[0] for box in begins]
            left, right = needs - (before + min(places)), needs - (after + breadth - max(places))
            if left <= max(right, 0):
                before += max(left, 0)
            else:
                after += max(right, 0)
            on_left = left <= max(right, 0)
            self.label_at = 10 if on_left else before + max(places) + 10
        for part in self.parts:
            part.box.at = (part.box.at[0] + before, part.box.at[1])
        for line in self.lines:
            line.points = [(x + before, y) for x, y in line.points]
            if line.source in begins:  # from the frame's edge on
                line.points[0] = (line.points[0][0], 0.0)
        self.size = (breadth + before + after, depth)
        middle = self.size[0] / 2
        self.entries, self.exits = [box.at[0] - middle for box in begins], [box.at[0] - middle for box in ends]

    def groups(self, origin: Point) -> tuple[list[Group], list[Group], list[Group]]:
        """Frames, lines and cards, in the order in which they are to be drawn. origin: of the drawing, in pixels."""
        frames, wires, cards = [], [], []
        if self.framed:
            frames.append(self._frame_group(origin))
        targets = {id(part.box): part for part in self.parts}
        drawn: dict[Any, list[list[Point]]] = {}
        for line in self.lines:
            ending = targets[id(line.target)]
            others = drawn.setdefault((line.source, line.bundle), [])
            points = line.points[max([_together(line.points, other) - 1 for other in others], default=0) :]
            others.append(line.points)
            wires.append(Group("", tuple(self._wire(points, origin, arrow=ending.card is not None))))
        for part in self.parts:
            corner = (part.box.at[0] - part.box.breadth / 2, part.box.at[1] - part.box.depth / 2)
            x, y = self._pixels(corner, origin)
            if part.card is not None:
                cards.append(part.card.group(x, y))
            elif part.inside is not None:
                for own, theirs in zip((frames, wires, cards), part.inside.groups((x, y)), strict=True):
                    own += theirs
        return frames, wires, cards

    def _pixels(self, point: Point, origin: Point) -> Point:
        breadth, depth = point
        return (
            (origin[0] + depth, origin[1] + breadth)
            if self.options.sideways
            else (origin[0] + breadth, origin[1] + depth)
        )

    def _frame_group(self, origin: Point) -> Group:
        breadth, depth = self.size
        wide, tall = (depth, breadth) if self.options.sideways else (breadth, depth)
        x, y = origin
        left = x + (10 if self.options.sideways else self.label_at)
        return Group(
            self.label,
            (
                Path(rounded(x, y, wide, tall, (9, 9)), "#f6f8fa", "#8c959f", 1.2),
                Text(left, y + 16, self.label, SMALL, True, INK),
            ),
        )

    def _wire(self, points: list[Point], origin: Point, arrow: bool) -> Iterator[Path]:
        points = list(points)
        end = points[-1]
        length, half = 8.0, 3.6
        if arrow:
            points[-1] = (end[0], end[1] - length + 1)
            points[-2] = (points[-2][0], min(points[-2][1], points[-1][1]))
        commands: list[tuple[Any, ...]] = [("M", *self._pixels(points[0], origin))]
        for (x0, y0), (x1, y1) in pairwise(points):
            if abs(x1 - x0) < 0.05:
                commands.append(("L", *self._pixels((x1, y1), origin)))
            else:
                middle = (y0 + y1) / 2
                bend = (self._pixels(p, origin) for p in ((x0, middle), (x1, middle), (x1, y1)))
                commands.append(("C", *(number for p in bend for number in p)))
        yield Path(tuple(commands), "none", WIRE, 1.3)
        if arrow:
            tip = [end, (end[0] - half, end[1] - length), (end[0] + half, end[1] - length)]
            corners = [self._pixels(p, origin) for p in tip]
            yield Path((("M", *corners[0]), ("L", *corners[1]), ("L", *corners[2]), ("Z",)), WIRE)


def _together(points: Sequence[Point], others: Sequence[Point]) -> int:
    """How many points two lines have in common from their beginning on; at least one."""
    count = next((k for k, (a, b) in enumerate(zip(points, others, strict=False)) if a != b), len(others))
    return max(1, count)


def _groups(about: Outline) -> Iterator[tuple[list[Node], list[tuple[str, str]]]]:
    """Uses that are drawn as one box, with what is to be remarked: all uses of a layer, unless that makes a cycle."""
    apart = _cyclic(about)
    inner = {x.node for node in about.nodes for x in node.sources}
    for layer, nodes in about.uses.items():
        boxes = [[node] for node in nodes] if layer in apart else [nodes]
        for number, box in enumerate(boxes, start=1):
            remarks = []
            if len(boxes) > 1:
                remarks.append(("use", f"{number} of {len(nodes)}"))
            elif len(nodes) > 1:
                remarks.append(("uses", str(len(nodes))))
            if any(y.node in box for y in about.network.outputs) and any(node in inner for node in box):
                remarks.append(("also", "an output"))
            yield box, remarks


def _cyclic(about: Outline) -> set[Any]:
    """The layers of several uses that cannot be drawn once: what goes out of them would come back to them."""
    after: dict[Any, set[Any]] = {layer: set() for layer in about.uses}
    for node in about.nodes:
        for x in node.sources:
            after[x.node.layer].add(node.layer)
    left = set(after)
    while True:
        # What nothing left leads to, or what leads to nothing left, is on no cycle.
        reached = {other for layer in left for other in after[layer]}
        kept = {layer for layer in left if layer in reached and after[layer] & left}
        if kept == left:
            return {layer for layer in left if len(about.uses[layer]) > 1}
        left = kept
