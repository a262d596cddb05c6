"""Pictures: paths and texts, written as SVG by hand and as PNG by matplotlib, which brings its own font.

Lengths are CSS pixels, of which 96 are an inch; y grows downwards. Text is set in DejaVu Sans, or in what the reader of
an SVG has of Verdana's family, which is as wide, or of others, which are narrower; so text fits where it was measured.
"""

from __future__ import annotations

import io
import unicodedata
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from layerhub.errors import ParameterError

PER_INCH = 96
FONTS = ("DejaVu Sans", "Verdana", "Geneva", "sans-serif")
BEYOND = ("Noto Sans CJK JP", "WenQuanYi Zen Hei", "Microsoft YaHei", "Hiragino Sans", "Yu Gothic", "Noto Sans")
"""Fonts for what DejaVu Sans lacks, where they are installed."""
LONGEST, LARGEST = 2**16 - 1, 2**27
"""Pixels of a side, as far as the renderer goes, and in all: half a gigabyte of memory."""

# DejaVu Sans, in thousandths of the size, from the space to the tilde; regular, then bold.
_ADVANCES = (
    (
        318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636,
        636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752,
        295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390,
        838, 500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411,
        521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
    ),
    (
        348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365, 696, 696, 696, 696,
        696, 696, 696, 696, 696, 696, 400, 400, 838, 838, 838, 580, 1000, 774, 762, 734, 830, 683, 683, 821,
        837, 372, 372, 775, 637, 995, 837, 850, 733, 850, 770, 720, 682, 812, 774, 1103, 771, 724, 725, 457,
        365, 457, 838, 500, 500, 675, 716, 593, 716, 678, 435, 716, 712, 343, 343, 665, 343, 1042, 712, 687,
        716, 716, 493, 595, 478, 712, 652, 924, 645, 652, 582, 712, 365, 712, 838,
    ),
)  # fmt: skip


def width(text: str, size: float, bold: bool = False) -> float:
    """How wide a text is, in pixels; for letters beyond ASCII, how wide it may be."""
    return sum(_advance(character, bold) for character in text) * size / 1000


def _advance(character: str, bold: bool) -> int:
    if " " <= character <= "~":
        return _ADVANCES[bold][ord(character) - 32]
    if unicodedata.combining(character):
        return 0
    return 1250 if bold else 1100


@dataclass(frozen=True)
class Path:
    """commands: ("M", x, y), ("L", x, y), ("C", x1, y1, x2, y2, x, y), ("Z",), as SVG has them."""

    commands: tuple[tuple[Any, ...], ...]
    fill: str = "none"
    stroke: str = "none"
    thickness: float = 1.0


@dataclass(frozen=True)
class Text:
    """A line of text with its baseline at y, that begins at x, or has its middle there."""

    x: float
    y: float
    text: str
    size: float
    bold: bool = False
    colour: str = "#1f2328"
    centred: bool = False


@dataclass(frozen=True)
class Group:
    """Paths and texts that belong together. title: what a reader is told who cannot see them, or points at them."""

    title: str
    items: tuple[Path | Text, ...]


@dataclass(frozen=True)
class Scene:
    """A picture on white. title and description: for those who cannot see it."""

    width: float
    height: float
    title: str
    description: str
    groups: Sequence[Group]


def rounded(x: float, y: float, breadth: float, height: float, radii: tuple[float, float]) -> tuple:
    """A rectangle with round corners as commands; radii: of the upper and of the lower ones."""
    upper, lower = radii
    right, bottom = x + breadth, y + height
    # What a control point of a curve leaves to the corner, for a quarter of a circle.
    u, v = upper * 0.4477, lower * 0.4477
    return (
        ("M", x + upper, y), ("L", right - upper, y), ("C", right - u, y, right, y + u, right, y + upper),
        ("L", right, bottom - lower), ("C", right, bottom - v, right - v, bottom, right - lower, bottom),
        ("L", x + lower, bottom), ("C", x + v, bottom, x, bottom - v, x, bottom - lower),
        ("L", x, y + upper), ("C", x, y + u, x + u, y, x + upper, y), ("Z",),
    )  # fmt: skip


# SVG


def svg(scene: Scene) -> str:
    """The picture as an SVG document."""
    w, h = _number(scene.width), _number(scene.height)
    # Pages may hold several pictures; the names within each must differ.
    mark = f"{zlib.crc32(repr(scene).encode('utf-8', 'replace')):08x}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" '
        f'aria-labelledby="title-{mark} desc-{mark}" font-family="{", ".join(FONTS)}">',
        f'<title id="title-{mark}">{escape(scene.title)}</title>',
        f'<desc id="desc-{mark}">{escape(scene.description)}</desc>',
        f'<rect width="{w}" height="{h}" fill="#ffffff"/>',
    ]
    for group in scene.groups:
        lines.append("<g>")
        if group.title:
            lines.append(f"<title>{escape(group.title)}</title>")
        lines += map(_element, group.items)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>\n"])


def _element(item: Path | Text) -> str:
    if isinstance(item, Path):
        d = " ".join(c[0] + " ".join(map(_number, c[1:])) for c in item.commands)
        stroke = "" if item.stroke == "none" else f' stroke="{item.stroke}" stroke-width="{_number(item.thickness)}"'
        return f'<path d="{d}" fill="{item.fill}"{stroke}/>'
    weight = ' font-weight="bold"' if item.bold else ""
    weight += ' text-anchor="middle"' if item.centred else ""
    return (
        f'<text x="{_number(item.x)}" y="{_number(item.y)}" font-size="{_number(item.size)}"{weight} '
        f'fill={quoteattr(item.colour)} xml:space="preserve">{escape(item.text)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


# PNG


def png(scene: Scene, dpi: float) -> bytes:
    """The picture as a PNG file. Raises ParameterError without matplotlib, and where the picture becomes too large."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path as Outline
    except ImportError as problem:
        raise ParameterError(
            f"a PNG is drawn by matplotlib, which cannot be imported ({problem}): pip install matplotlib; "
            "an SVG needs nothing: give a name that ends in .svg"
        ) from None
    wide, high = scene.width / PER_INCH, scene.height / PER_INCH
    most = int(min(LONGEST / max(wide, high), (LARGEST / (wide * high)) ** 0.5))
    if dpi > most:
        raise ParameterError(
            f"at dpi={dpi} the picture, of {wide:.1f} by {high:.1f} inches, has too many pixels; "
            f"take dpi={most} or less, or a name that ends in .svg"
        )
    families = _families()
    figure = Figure(figsize=(wide, high), dpi=dpi, facecolor="#ffffff")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), frame_on=False, xticks=[], yticks=[])
    axes.set(xlim=(0, scene.width), ylim=(scene.height, 0))
    for item in (item for group in scene.groups for item in group.items):
        if isinstance(item, Path):
            axes.add_patch(PathPatch(_outline(item, Outline), **_style(item)))
        else:
            axes.text(
                item.x, item.y, item.text, fontsize=item.size * 72 / PER_INCH, family=families, color=item.colour,
                weight="bold" if item.bold else "normal", va="baseline", parse_math=False,
                ha="center" if item.centred else "left",
            )  # fmt: skip
    file = io.BytesIO()
    # Hinting would make texts wider than they were measured.
    with rc_context({"text.hinting": "none"}), warnings.catch_warnings():
        # A letter that no font here has becomes a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasAgg(figure).print_png(file, metadata={"Title": _latin(scene.title), "Software": None})
    return file.getvalue()


def _families() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = {entry.name for entry in fontManager.ttflist}
    return [FONTS[0], *(name for name in BEYOND if name in installed)]


def _outline(path: Path, kind: Any) -> Any:
    codes = {"M": [kind.MOVETO], "L": [kind.LINETO], "C": [kind.CURVE4] * 3, "Z": [kind.CLOSEPOLY]}
    points: list[tuple[float, float]] = []
    for _, *numbers in path.commands:
        points += list(zip(numbers[::2], numbers[1::2], strict=True)) or [(0.0, 0.0)]
    return kind(points, [code for command in path.commands for code in codes[command[0]]])


def _style(path: Path) -> dict[str, Any]:
    return {
        "facecolor": path.fill,
        "edgecolor": path.stroke,
        "linewidth": path.thickness * 72 / PER_INCH if path.stroke != "none" else 0,
        "capstyle": "butt",
    }


def _latin(text: str) -> str:
    """What may stand in a PNG's own texts."""
    return text.encode("latin-1", "replace").decode("latin-1")
