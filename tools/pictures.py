"""Pictures for the reference, as SVG. What they show is asked of the specs: where windows stand, which cells they see,
which values come out; so they show what is so.

Colours are of middling brightness and nothing is filled behind them, so that they read well on light and on dark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerhub.reference import choices, example_of
from layerhub.registry import registry
from layerhub.spec import Spec
from layerhub.spec.activations import Activation
from layerhub.spec.layer import Layer
from layerhub.spec.schedules import LearningRateSchedule
from layerhub.spec.windows import Spatial, Windowed

INK, BLUE, ORANGE = "#818b98", "#3f8cf4", "#e0792b"
CELL = 16


@dataclass(frozen=True)
class Picture:
    """A picture: the name of its file, what it shows in words, and the picture."""

    name: str
    caption: str
    svg: str


def pictures(spec: type[Spec]) -> list[Picture]:
    """The pictures that help to understand a spec; none for most."""
    if issubclass(spec, Spatial):
        return [*of_space(spec), *of_interpolation(spec), *of_time(spec)]
    if issubclass(spec, Layer):
        return [*of_activation_layer(spec), *of_moments(spec), *of_attention(spec), *of_time(spec)]
    if issubclass(spec, Activation):
        return of_activation(spec)
    return of_schedule(spec) if issubclass(spec, LearningRateSchedule) else []


# Which cells belong together


@dataclass(frozen=True)
class Cells:
    """What a layer does with the cells of its space.

    before, after: cells of padding, for each axis. seen: for each place of the output, the cells that it sees, counted
    with the padding.
    """

    space: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    places: tuple[int, ...]
    seen: dict[tuple[int, ...], list[tuple[int, ...]]]

    @property
    def padded(self) -> tuple[int, ...]:
        """The space with its padding."""
        return tuple(b + s + a for b, s, a in zip(self.before, self.space, self.after, strict=True))

    def inside(self, cell: tuple[int, ...]) -> bool:
        """Whether a cell is not padding."""
        return all(b <= i < b + s for i, b, s in zip(cell, self.before, self.space, strict=True))

    @property
    def feeds(self) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
        """For each cell that is seen, the places that see it."""
        found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for place, cells in self.seen.items():
            for cell in cells:
                found.setdefault(cell, []).append(place)
        return found


def cells_of(layer: Any, space: tuple[int, ...]) -> Cells:
    """What a layer does with the cells of a space: by its windows, if it has any, else by trying it out."""
    return by_windows(layer, space) if isinstance(layer, Windowed) else by_trial(layer, space)


def by_windows(layer: Any, space: tuple[int, ...]) -> Cells:
    """The same, asked of the layer's padding and windows."""
    pads = layer.pads(space)
    before, after = (tuple(side) for side in zip(*pads, strict=True))
    padded = [b + s + a for b, s, a in zip(before, space, after, strict=True)]
    numbers = np.arange(np.prod(padded)).reshape(1, *padded, 1)
    seen: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for _, numbered in layer.taps(numbers, space):
        for place in np.ndindex(*numbered.shape[1:-1]):
            cell = np.unravel_index(int(numbered[(0, *place, 0)]), padded)
            seen.setdefault(place, []).append(tuple(map(int, cell)))
    return Cells(space, before, after, layer.lookup("places", {"space": space}), seen)


def by_trial(layer: Any, space: tuple[int, ...]) -> Cells:
    """The same, found by running the layer on images in which one cell is 1 and all others are 0."""
    count = int(np.prod(space))
    images = np.eye(count, dtype="float32").reshape(count, *space, 1)
    layer.build(images.shape)
    layer.set_weights([np.full(w.shape, w.name != "bias", "float32") for w in layer.weights])
    answers = layer(images)
    places = answers.shape[1:-1]
    seen = {
        place: [cell for i, cell in enumerate(np.ndindex(*space)) if answers[(i, *place, 0)]]
        for place in np.ndindex(*places)
    }
    return Cells(space, (0,) * len(space), (0,) * len(space), places, seen)


# Convolution, pooling and their like


def of_space(spec: type[Layer]) -> list[Picture]:
    """A layer from image to image: a grid for two axes, else a strip along one axis."""
    panels = list(variants(spec))
    rank = spec.rank or 0
    if not panels:
        return []
    drawn = []
    for label, given in panels:
        layer = spec(**given)
        if rank == 2:
            # What makes images larger is shown on a small one.
            grows = "output_padding" in spec.parameters or "size" in spec.parameters
            drawn.append((label, *grids(cells_of(layer, (4, 5) if grows else (6, 7)))))
        else:
            drawn.append((label, *strip(cells_of(layer, (*(1,) * (rank - 1), 7)))))
    what = "the cells that two places see" if rank == 2 else "along one axis, the cells below and the places above"
    return [Picture(spec.__name__, f"{spec.__name__}: {what}", framed(drawn, columns=2, title=spec.__name__))]


def variants(spec: type[Layer]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to show of a layer over space: a label, and parameters."""
    names = spec.parameters
    base: dict[str, Any] = {}
    for name, value in (("filters", 1), ("kernel_size", 3), ("pool_size", 2)):
        if name in names:
            base[name] = value
    several: list[dict[str, Any]]
    if "output_padding" in names:
        several = [
            {"strides": 2},
            {"strides": 2, "padding": "same"},
            {"strides": 2, "output_padding": 1},
            {"dilation_rate": 2},
        ]
    elif "padding" in names and names["padding"].domain.schema.get("enum"):
        several = [{"padding": choice} for choice in choices(spec, "padding")]
        several += [{"strides": 1 if "pool_size" in names else 2}]
        several += [{"dilation_rate": 2}] if "dilation_rate" in names else []
    elif "output_size" in names:
        several = [{"output_size": 3}, {"output_size": 4}]
    elif "size" in names:
        several = [{"size": 2}, {"size": 3}]
    else:
        sides = next((name for name in ("cropping", "padding") if name in names), None)
        several = [{sides: (1, 1)}, {sides: (2, 0)}] if sides else []
    for given in several:
        label = ", ".join(f"{name}={value!r}" for name, value in given.items())
        yield label, {name: along(spec, name, value) for name, value in (base | given).items()}


def along(spec: type[Layer], name: str, value: Any) -> Any:
    """A parameter that has this value along the axes that are shown, and along others one that changes nothing."""
    rank, pair = spec.rank or 0, isinstance(value, tuple)
    if rank == 1 or isinstance(value, str) or name == "filters":
        return value
    neutral: Any = (0, 0) if pair else 0 if name == "output_padding" else 1
    return (value, value) if rank == 2 else (*(neutral,) * (rank - 1), value)


def strip(cells: Cells) -> tuple[str, float, float]:
    """Cells below, places above, and lines between what belongs together."""
    step, height = CELL + 6, 4 * CELL
    length, places = cells.padded[-1], cells.places[-1]
    width = max(length, places) * step
    left, right = (width - length * step) / 2 + 24, (width - places * step) / 2 + 24
    if places == cells.space[-1]:
        right = left + cells.before[-1] * step  # each place above its cell
    # Where more comes out than goes in, cells are followed to their places; else places to the cells that they see.
    scatters = places > cells.space[-1]
    feeds = cells.feeds
    marked = dict(zip(_ends(list(feeds if scatters else cells.seen)), (BLUE, ORANGE), strict=True))
    lines, squares = [], []
    for place, seen in cells.seen.items():
        for cell in seen:
            colour = marked.get(cell if scatters else place, "")
            start = (left + cell[-1] * step + CELL / 2, height)
            end = (right + place[-1] * step + CELL / 2, CELL)
            lines.append((bool(colour), line(start, end, colour or INK, 1.6 if colour else 0.8, 1 if colour else 0.45)))
    for i in range(length):
        cell = (*(0,) * (len(cells.padded) - 1), i)
        colour = marked.get(cell, "") if scatters else ""
        squares.append(square(left + i * step, height, colour, cells.inside(cell), cell in feeds))
    for i in range(places):
        place = (*(0,) * (len(cells.places) - 1), i)
        colour = "" if scatters else marked.get(place, "")
        squares.append(square(right + i * step, 0, colour, bool(cells.seen[place]), bool(cells.seen[place])))
    names = words(8, CELL - 4, "y") + words(8, height + CELL - 4, "x")
    body = "".join(drawn for _, drawn in sorted(lines, key=lambda item: item[0]))
    return names + body + "".join(squares), width + 24, height + CELL


def grids(cells: Cells) -> tuple[str, float, float]:
    """The cells as a grid on the left, the places on the right; what belongs together in one colour."""
    (rows, columns), (high, wide) = cells.padded, cells.places
    scatters = high * wide > int(np.prod(cells.space))
    feeds = cells.feeds
    if scatters:
        ends = _ends(list(feeds))
        first = dict(zip(ends, (BLUE, ORANGE), strict=True))
        second = {place: colour for cell, colour in first.items() for place in feeds[cell]}
    else:
        ends = _ends([place for place, seen in cells.seen.items() if seen])
        second = dict(zip(ends, (BLUE, ORANGE), strict=True))
        first = {cell: colour for place, colour in second.items() for cell in cells.seen[place]}
    height = max(rows, high) * CELL
    gap = columns * CELL + 3 * CELL
    drawn = []
    for cell in np.ndindex(rows, columns):
        at = (cell[1] * CELL, cell[0] * CELL + (height - rows * CELL) / 2)
        drawn.append(square(*at, first.get(cell, ""), cells.inside(cell), cell in feeds, gap=1))
    for place in np.ndindex(high, wide):
        at = (gap + place[1] * CELL, place[0] * CELL + (height - high * CELL) / 2)
        some = bool(cells.seen[place])
        drawn.append(square(*at, second.get(place, ""), some, some, gap=1))
    middle = height / 2
    drawn.append(arrow((columns + 0.7) * CELL, middle, (columns + 2.3) * CELL))
    return "".join(drawn), gap + wide * CELL, height


def _ends(items: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Two that lie apart: the first and the last."""
    items = sorted(items)
    return [items[0], items[-1]] if len(items) > 1 else [items[0], (-1,) * len(items[0])]


def of_interpolation(spec: type[Layer]) -> list[Picture]:
    """What the ways of interpolation make of one small image."""
    if "interpolation" not in spec.parameters:
        return []
    image = np.asarray([[0.1, 0.9, 0.2, 0.1], [0.2, 0.6, 1.0, 0.3], [0.9, 0.1, 0.4, 0.8], [0.1, 0.3, 0.2, 0.9]])
    drawn = [("x", *shades(image, 4))]
    for way in choices(spec, "interpolation"):
        layer = spec(size=4, interpolation=way)
        drawn.append((f"interpolation={way!r}", *shades(np.asarray(layer(image[None, :, :, None]))[0, :, :, 0], 1)))
    name = f"{spec.__name__}-interpolation"
    return [Picture(name, "the ways of interpolation, size=4", framed(drawn, columns=3, title=name))]


def shades(image: np.ndarray, size: int) -> tuple[str, float, float]:
    """An image whose values are shown by how dense the colour is."""
    side = 8 * size
    drawn = [
        f'<rect x="{x * side}" y="{y * side}" width="{side}" height="{side}" fill="{BLUE}" '
        f'fill-opacity="{min(max(float(image[y, x]), 0.0), 1.0):.2f}" shape-rendering="crispEdges"/>'
        for y, x in np.ndindex(*image.shape)
    ]
    return "".join(drawn), image.shape[1] * side, image.shape[0] * side


# Time


def of_time(spec: type[Layer]) -> list[Picture]:
    """For a recurrent layer: the steps that each output has seen, found by trial."""
    example = example_of(spec)
    if example is None or "return_sequences" not in spec.parameters:
        return []
    drawn = []
    for given in ({"return_sequences": True}, {"return_sequences": True, "go_backwards": True}, {}):
        label = ", ".join(f"{name}={value}" for name, value in given.items()) or "return_sequences=False"
        drawn.append((label, *strip(steps_of(example.layer.replace(**given), example.shapes[0]))))
    name = f"{spec.__name__}-time"
    caption = f"{spec.__name__}: the steps below that each output above has seen"
    return [Picture(name, caption, framed(drawn, columns=2, title=name))]


def steps_of(layer: Any, shape: tuple[int, ...]) -> Cells:
    """Which steps of a sequence each output depends on."""
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer.build(shape)
    steps = shape[1]

    def outputs(x: np.ndarray) -> np.ndarray:
        y = np.asarray(layer(x))
        return y if layer.return_sequences else y[:, None]

    plain = outputs(x)
    seen: dict[tuple[int, ...], list[tuple[int, ...]]] = {(place,): [] for place in range(plain.shape[1])}
    for step in range(steps):
        moved = x.copy()
        moved[:, step] += 1
        changed = outputs(moved) != plain
        for place in range(plain.shape[1]):
            if changed[:, place].any():
                seen[(place,)].append((step,))
    return Cells((steps,), (0,), (0,), (plain.shape[1],), seen)


# Normalization


def of_moments(spec: type[Layer]) -> list[Picture]:
    """For a layer that normalizes: the elements that share their moments with one of them, found by trial."""
    example = example_of(spec)
    if example is None or not spec.__name__.endswith("Normalization"):
        return []
    layer = example.layer
    shape = (3, 4, 6)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer.build(shape)
    at = (1, 1, 2)

    def value(x: np.ndarray) -> float:
        return float(np.asarray(layer(x, training=True) if "training" in layer.extras else layer(x))[at])

    plain, drawn, gap = value(x), [], 7 * CELL
    for element in np.ndindex(*shape):
        moved = x.copy()
        moved[element] += 0.5
        colour = ORANGE if element == at else BLUE if value(moved) != plain else ""
        n, t, c = element
        drawn.append(square(n * gap + c * CELL, t * CELL, colour, True, True, gap=1))
    panel = ("".join(drawn), 3 * gap - CELL, 4 * CELL)
    caption = f"{spec.__name__}: what one element (orange) of an input (samples, steps, channels) depends on (blue)"
    label = f"{example.made.removeprefix('lh.layers.')}: samples side by side, steps down, channels across"
    return [Picture(spec.__name__, caption, framed([(label, *panel)], columns=1, title=spec.__name__))]


# Attention


def of_attention(spec: type[Layer]) -> list[Picture]:
    """How much each query (down) attends to each key (across) where all fit alike, with masks and windows."""
    example = example_of(spec)
    if example is None or "return_attention_scores" not in spec.options:
        return []
    given: list[dict[str, Any]] = [{}, {"use_causal_mask": True}]
    if "sliding_window" in spec.parameters:
        given += [{"sliding_window": 2}, {"use_causal_mask": True, "sliding_window": 3}]
    drawn = []
    for options in given:
        layer = example.layer.replace(return_attention_scores=True, **options)
        inputs = [np.zeros((1, 6, *shape[2:]), "float32") for shape in example.shapes]
        scores = np.asarray(layer(*inputs)[1])
        label = ", ".join(f"{name}={value}" for name, value in options.items()) or "no mask"
        drawn.append((label, *matrix(scores.reshape(-1, 6, 6)[0])))
    caption = f"{spec.__name__}: weights of queries (down) over keys (across) that all fit alike"
    return [Picture(spec.__name__, caption, framed(drawn, columns=2, title=spec.__name__))]


def matrix(values: np.ndarray) -> tuple[str, float, float]:
    """Numbers from 0 to 1 as cells that are filled so densely."""
    drawn = [
        f'<rect x="{j * CELL}" y="{i * CELL}" width="{CELL - 1}" height="{CELL - 1}" rx="2" fill="{BLUE}" '
        f'fill-opacity="{min(float(values[i, j]), 1.0):.2f}" stroke="{BLUE if values[i, j] else INK}" '
        f'stroke-opacity="{1 if values[i, j] else 0.4}" stroke-width="1"/>'
        for i, j in np.ndindex(*values.shape)
    ]
    return "".join(drawn), values.shape[1] * CELL, values.shape[0] * CELL


# Curves


def of_activation(spec: type[Activation]) -> list[Picture]:
    """The graph of an activation, if it acts on each element by itself and needs no parameter."""
    activation = plain(spec)
    if activation is None or not activation.keeps_shape:
        return []
    xp = registry().backend("numpy").xp_on("cpu")
    xs = np.linspace(-4, 4, 161)
    ys = np.asarray(activation(xp, xs))
    alone = np.asarray([np.asarray(activation(xp, xs[i : i + 1]))[0] for i in (20, 80, 140)])
    if not np.allclose(ys[[20, 80, 140]], alone):
        return []
    name = spec.__name__
    return [Picture(name, f"the graph of {name}", framed([(name, *graph(xs, ys, -2, 4))], 1, name))]


def of_activation_layer(spec: type[Layer]) -> list[Picture]:
    """The graph of a layer that is an activation."""
    example = example_of(spec)
    if example is None or example.layer.trailing is None or spec.held or "activation" in spec.parameters:
        return []
    activation = example.layer.trailing
    xp = registry().backend("numpy").xp_on("cpu")
    xs = np.linspace(-4, 4, 161)
    panel = (repr(activation), *graph(xs, np.asarray(activation(xp, xs)), -2, 4))
    return [Picture(spec.__name__, f"the graph of {spec.__name__}", framed([panel], 1, spec.__name__))]


SCHEDULES: dict[str, Any] = {
    "initial_learning_rate": 1.0,
    "decay_steps": 50,
    "first_decay_steps": 20,
    "decay_rate": 0.3,
    "boundaries": (20, 50),
    "values": (1.0, 0.5, 0.2),
}


def of_schedule(spec: type[LearningRateSchedule]) -> list[Picture]:
    """The learning rate over a hundred steps, with the parameters that it needs."""
    given = {name: value for name, value in SCHEDULES.items() if name in spec.parameters}
    schedule = spec(**given)
    steps = np.arange(0, 101)
    rates = np.asarray([schedule(int(step)) for step in steps])
    label = ", ".join(f"{name}={value}" for name, value in given.items())
    panel = graph(steps, rates, 0, 1.1, jump=0.25)
    return [Picture(spec.__name__, f"{spec.__name__} over 100 steps", framed([(label, *panel)], 1, spec.__name__))]


def plain(spec: Callable) -> Any:
    """A spec without arguments, if it can be made so."""
    try:
        return spec()
    except ValueError:
        return None


def graph(xs: Any, ys: Any, low: float, high: float, jump: float = 0.06) -> tuple[str, float, float]:
    """A curve with its axes, cut off above and below. jump: how much of the height it may not go in one step."""
    width, height = 240.0, 130.0
    first, last = float(xs[0]), float(xs[-1])

    def right(x: float) -> float:
        return (x - first) / (last - first) * width

    def down(y: float) -> float:
        return height - (y - low) / (high - low) * height

    drawn = line((0, down(0)), (width, down(0)), INK, 0.8, 0.7)
    drawn += line((right(max(first, 0)), 0), (right(max(first, 0)), height), INK, 0.8, 0.7)
    drawn += "".join(line((right(x), down(0) - 2), (right(x), down(0) + 2), INK, 0.8, 0.7) for x in _ticks(first, last))
    for y in _ticks(low, high):
        drawn += line((right(max(first, 0)) - 2, down(y)), (right(max(first, 0)) + 2, down(y)), INK, 0.8, 0.7)
    runs: list[list[str]] = [[]]
    before = None
    for x, y in zip(map(float, xs), map(float, ys), strict=True):
        if not low <= y <= high or (before is not None and abs(y - before) > jump * (high - low)):
            runs.append([])
        if low <= y <= high:
            runs[-1].append(f"{right(x):.1f},{down(y):.1f}")
        before = y
    for run in runs:
        if len(run) > 1:
            drawn += f'<polyline points="{" ".join(run)}" fill="none" stroke="{BLUE}" stroke-width="2"/>'
    return drawn, width, height


def _ticks(low: float, high: float) -> list[float]:
    step = 1 if high - low < 20 else 20
    if high - low < 2:
        return [0.5, 1.0]
    return [step * k for k in range(int(np.ceil(low / step)), int(high // step) + 1)]


# SVG


def framed(drawn: Sequence[tuple[str, str, float, float]], columns: int, title: str) -> str:
    """Panels in rows, each with a label above it."""
    width = max(max(panel[2], 6.2 * len(panel[0])) for panel in drawn) + 28
    top, bodies = 8.0, []
    for row in _batched(drawn, columns):
        for k, (label, body, _, _) in enumerate(row):
            at = f"translate({k * width + 8:.1f} {top:.1f})"
            bodies.append(f'<g transform="{at}">{words(0, 10, label)}<g transform="translate(0 20)">{body}</g></g>')
        top += max(panel[3] for panel in row) + 40
    total = min(columns, len(drawn)) * width
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total:.0f}" height="{top:.0f}" '
        f'viewBox="0 0 {total:.0f} {top:.0f}">\n<title>{title}</title>\n' + "\n".join(bodies) + "\n</svg>\n"
    )


def _batched(items: Sequence[Any], count: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), count):
        yield items[start : start + count]


def square(x: float, y: float, colour: str, solid: bool, used: bool, gap: float = 0) -> str:
    """A cell: coloured where it is marked, grey where it is used, dashed where it is made up."""
    side = CELL - gap
    opacity = 0.75 if colour else 0.22 if used and solid else 0
    dash = "" if solid else ' stroke-dasharray="2 2"'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{side}" height="{side}" rx="2" fill="{colour or INK}" '
        f'fill-opacity="{opacity}" stroke="{colour or INK}" stroke-width="1"{dash}/>'
    )


def line(start: tuple[float, float], end: tuple[float, float], colour: str, width: float, opacity: float) -> str:
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" stroke-opacity="{opacity}"/>'
    )


def arrow(x: float, y: float, end: float) -> str:
    head = f"M{end - 5:.1f} {y - 4:.1f} L{end:.1f} {y:.1f} L{end - 5:.1f} {y + 4:.1f}"
    return line((x, y), (end, y), INK, 1.2, 1) + f'<path d="{head}" fill="none" stroke="{INK}" stroke-width="1.2"/>'


def words(x: float, y: float, said: str) -> str:
    said = said.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="10" '
        f'fill="{INK}">{said}</text>'
    )
