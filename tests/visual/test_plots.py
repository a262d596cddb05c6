"""Pictures of models, read as a reader would: from the SVG text and the PNG's pixels."""

import re
import struct
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import ParameterError, StateError
from layerhub.visual import picture

sys.path.insert(0, str(Path(__file__).parent))
import zoo

L = lh.layers
SVG = "{http://www.w3.org/2000/svg}"
EVERYTHING = {
    "show_shapes": True,
    "show_dtype": True,
    "show_layer_activations": True,
    "show_trainable": True,
    "expand_nested": True,
}


class Read:
    """An SVG: cards and frames as (left, top, right, bottom) with their texts, ways of lines as lists of points."""

    def __init__(self, svg):
        self.root = ElementTree.fromstring(svg)
        self.cards, self.frames, self.ways, self.heads, self.texts = {}, {}, [], [], []
        for group in self.root.findall(f"{SVG}g"):
            title = group.find(f"{SVG}title")
            paths = [points(path.get("d")) for path in group.findall(f"{SVG}path")]
            texts = group.findall(f"{SVG}text")
            if title is None:
                self.ways.append(paths[0])
                self.heads += paths[1:]
                continue
            box = bounds(paths[-1])
            is_frame = group.find(f"{SVG}path").get("fill") == "#f6f8fa"
            (self.frames if is_frame else self.cards)[title.text, box] = [text.text for text in texts]
            self.texts += [(text, box) for text in texts]

    @property
    def width(self):
        return float(self.root.get("width"))

    @property
    def height(self):
        return float(self.root.get("height"))

    def card(self, name):
        """The box of the card on which a name stands."""
        (found,) = [box for (_, box), texts in self.cards.items() if name in texts]
        return found


def points(d):
    """Points along a path, curves sampled."""
    found = []
    for letter, numbers in re.findall(r"([MLCZ])([^MLCZ]*)", d):
        p = np.array(numbers.split(), dtype=float).reshape(-1, 2)
        if letter == "C":
            t = np.linspace(0, 1, 17)[1:, None]
            a = np.array(found[-1])
            p = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * p[0] + 3 * (1 - t) * t**2 * p[1] + t**3 * p[2]
        elif letter == "L":
            p = np.array(found[-1]) + np.linspace(0, 1, 9)[1:, None] * (p[0] - np.array(found[-1]))
        found += list(map(tuple, p))
    return found


def bounds(path):
    x, y = zip(*path, strict=True)
    return min(x), min(y), max(x), max(y)


def inside(point, box, by=0.0):
    (x, y), (left, top, right, bottom) = point, box
    return left + by < x < right - by and top + by < y < bottom - by


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def read(model, **options):
    return Read(lh.plot_model(model, None, **options).svg)


DRAWINGS = [(build, rankdir, options) for build in zoo.ALL for rankdir in ("TB", "LR") for options in ({}, EVERYTHING)]


@pytest.mark.parametrize(
    "build, rankdir, options", DRAWINGS, ids=lambda value: getattr(value, "__name__", None) or str(len(value))
)
def test_nothing_overlaps_and_all_is_within_the_picture(build, rankdir, options):
    drawn = read(build(), rankdir=rankdir, **options)
    boxes = [box for _, box in drawn.cards]
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    for way in drawn.ways:
        # An arrowhead covers what a line has left to its end; so nothing of a line is in any card.
        assert not [box for box in boxes for point in way if inside(point, box, by=0.1)]
    for _, frame in drawn.frames:
        assert not [
            box
            for box in boxes
            if overlap(frame, box) and not all(inside(corner, frame) for corner in (box[:2], box[2:]))
        ]
    for box in [*boxes, *(box for _, box in drawn.frames), *map(bounds, drawn.ways)]:
        assert box[0] >= 5 and box[1] >= 5 and box[2] <= drawn.width - 5 and box[3] <= drawn.height - 5


@pytest.mark.parametrize("build", zoo.ALL, ids=lambda build: build.__name__)
@pytest.mark.parametrize("rankdir", ["TB", "LR"])
def test_lines_bend_but_never_turn_back(build, rankdir):
    for way in read(build(), rankdir=rankdir, expand_nested=True).ways:
        along = [point[rankdir == "TB"] for point in way]
        assert all(b >= a - 1e-6 for a, b in pairwise(along))


def ends(drawn, sideways=False):
    """{(name of the upper card, name of the lower card)} of lines with an arrowhead, by where they touch."""
    found = set()
    for way, head in zip(drawn.ways, drawn.heads, strict=True):
        touches = []
        for x, y in (way[0], head[0]):
            near = [texts[1] for (_, box), texts in drawn.cards.items() if inside((x, y), box, by=-0.6)]
            assert len(near) == 1, (x, y)
            touches += near
        found.add(tuple(touches))
    return found


def test_each_line_leads_from_what_gives_to_what_takes():
    expected = {
        ("user", "wide"), ("words", "embed"), ("embed", "read"), ("wide", "joined"), ("read", "joined"),
        ("joined", "deep"), ("deep", "deeper"), ("deep", "again"), ("deeper", "again"), ("deep", "click"),
        ("again", "stars"),
    }  # fmt: skip
    assert ends(read(zoo.two_and_two())) == expected
    assert ends(read(zoo.two_and_two(), rankdir="LR")) == expected


def test_what_gives_stands_before_what_takes():
    down, right = read(zoo.two_and_two()), read(zoo.two_and_two(), rankdir="LR")
    assert down.height > down.width and right.width > right.height
    for above, below in ends(down):
        assert down.card(above)[3] < down.card(below)[1]
        assert right.card(above)[2] < right.card(below)[0]


@pytest.mark.parametrize("build", [zoo.residual, zoo.dense], ids=lambda build: build.__name__)
def test_the_main_way_is_straight_whatever_passes_by(build):
    drawn = read(build())
    middles = {round((box[0] + box[2]) / 2, 3) for _, box in drawn.cards}
    assert len(drawn.cards) == len(build().layers)
    assert len(middles) == 1


def test_what_goes_to_several_far_layers_goes_together_and_is_drawn_once():
    drawn = read(zoo.dense())
    assert len(drawn.heads) == 8 + sum(range(2, 9)), "a head for each connection"
    pieces = [piece for way in drawn.ways for piece in pairwise(way) if piece[0] != piece[1]]
    assert len(pieces) == len(set(pieces))
    upright = {x for (x, y0), (end, y1) in pieces if x == end and y1 - y0 > 4}
    assert len(upright) < 20, "of 28 lines that pass others by"


def test_branches_that_need_not_cross_do_not():
    x = lh.Input((4,), name="x")
    model = lh.Model(x, [L.Dense(2, name=f"b{k}")(L.Dense(2, name=f"a{k}")(x)) for k in (0, 1, 2, 3)])
    drawn = read(model)
    order = [sorted(range(4), key=lambda k, row=row: drawn.card(f"{row}{k}")[0]) for row in "ab"]
    assert order[0] == order[1]


def test_a_layer_used_side_by_side_is_one_card_and_one_used_in_turn_is_several():
    drawn = read(zoo.siamese())
    assert [texts for texts in drawn.cards.values() if "shared" in texts] == [["Dense", "shared", "uses", "2"]]
    assert len(drawn.ways) == 6
    uses = [texts[2:] for texts in read(zoo.repeated()).cards.values() if "shared" in texts]
    assert uses == [["use", "1 of 2"], ["use", "2 of 2"]]


def test_nested_models_are_cards_or_frames_around_their_layers():
    closed = read(zoo.nested())
    assert not closed.frames
    assert any("mixer" in texts for texts in closed.cards.values())
    drawn = read(zoo.nested(), expand_nested=True)
    frames = {texts[0]: box for (_, box), texts in drawn.frames.items()}
    assert list(frames) == ["mixer (Model); also an output", "bottleneck (Sequential)"]
    outer, inner = frames.values()
    assert inside(inner[:2], outer) and inside(inner[2:], outer)
    for name in ("thin", "wide"):
        assert inside(drawn.card(name)[:2], inner)
    assert inside(drawn.card("from_b")[:2], outer) and not overlap(drawn.card("from_b"), inner)
    assert not overlap(drawn.card("last"), outer)


@pytest.mark.parametrize("build", [zoo.siamese, zoo.nested, zoo.fan], ids=lambda build: build.__name__)
def test_no_line_runs_through_the_name_of_a_frame(build):
    drawn = read(build(), expand_nested=True)
    for (_, box), (label,) in drawn.frames.items():
        ((text, _),) = [(text, box) for text, box in drawn.texts if text.text == label]
        x, y = float(text.get("x")), float(text.get("y"))
        strip = (x, y - 10, x + picture.width(label, 11, True), y + 3)
        assert strip[2] <= box[2]
        assert not [point for way in drawn.ways for point in way if inside(point, strip)]


def test_a_card_says_what_is_asked_for():
    def judge(**options):
        return next(texts for texts in read(zoo.chain(), **options).cards.values() if texts[0] == "Dense")

    assert judge() == ["Dense", "judge"]
    assert judge(show_layer_names=False) == ["Dense"]
    assert judge(show_shapes=True)[2:] == ["in", "(None, 400)", "out", "(None, 3)"]
    assert judge(show_shapes=True, show_dtype=True)[2:] == ["in", "(None, 400) float32", "out", "(None, 3) float32"]
    assert judge(show_dtype=True)[2:] == ["dtype", "float32"]
    assert judge(show_layer_activations=True)[2:] == ["activation", "softmax"]
    assert judge(show_trainable=True)[2:] == ["trainable", "yes"]


def test_frozen_layers_are_told():
    model = zoo.chain()
    model.get_layer("judge").trainable = False
    texts = [texts for texts in read(model, show_trainable=True).cards.values() if "judge" in texts]
    assert texts == [["Dense", "judge", "trainable", "no"]]


def test_wrappers_say_what_they_wrap():
    kinds = {texts[0] for texts in read(zoo.tagger()).cards.values()}
    assert {"Bidirectional(LSTM)", "TimeDistributed(Dense)"} <= kinds


def test_operations_are_cards_and_classes_of_models_are_opened():
    drawn = read(zoo.computed(), expand_nested=True)
    kinds = sorted(texts[0] for texts in drawn.cards.values())
    assert kinds == ["Dense", "Dense", "InputLayer", "InputLayer", "ops.add", "ops.add", "ops.get_item", "ops.multiply"]
    assert list(drawn.frames.values()) == [["block (Block)"]]
    told = [title for (title, _), texts in drawn.cards.items() if texts[0] == "ops.multiply"]
    assert told == ["ops.multiply(x0, 2.0)"]


# What cannot be seen


def test_the_svg_has_a_title_and_a_description_in_words():
    root = read(zoo.two_and_two()).root
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [title.get("id"), description.get("id")]
    assert title.text == "The model two_and_two"
    assert "again (Add) takes deeper, deep." in description.text
    assert description.text.endswith("Outputs: click, stars.")
    other = read(zoo.siamese()).root.find(f"{SVG}title").get("id")
    assert other != title.get("id"), "two pictures may stand in one page"


def test_strange_names_are_text_and_nothing_else():
    drawn = read(zoo.strange())
    said = "".join(text for texts in drawn.cards.values() for text in texts)
    for name in ('<in> & "out"', "日本語 ✓ 🚀 ünïcødé", "turned \\u202e round", "line\\nbreak", "$\\frac{1}{2}$ [b]"):
        assert name in said
    assert "long_" * 30 + "name" in said, "in several lines"
    assert "<script>" not in lh.plot_model(zoo.strange(), None).svg


def test_text_is_as_wide_as_it_was_taken_to_be():
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    printable = "".join(map(chr, range(33, 127)))
    for bold in (False, True):
        font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
        for text in (printable, "(None, 28, 28, 64) float32", "Bidirectional(LSTM)", "ünïcødé ñ ß Ж Ω"):
            drawn = TextPath((0, 0), text, size=100, prop=font).get_extents()
            measured = picture.width(text, 100, bold)
            assert drawn.width <= measured * 1.01
            if text.isascii():
                assert drawn.width > measured * 0.95


@pytest.mark.parametrize("build", [zoo.chain, zoo.tagger, zoo.strange], ids=lambda build: build.__name__)
def test_text_fits_into_its_card(build):
    for text, box in read(build(), **EVERYTHING).texts:
        size, x = float(text.get("font-size")), float(text.get("x"))
        wide = picture.width(text.text, size, text.get("font-weight") == "bold")
        left = x - wide / 2 if text.get("text-anchor") == "middle" else x
        assert box[0] + 5 <= left and left + wide <= box[2] - 5
        assert box[1] < float(text.get("y")) - size * 0.7 and float(text.get("y")) < box[3] - 2


def contrast(a, b):
    """The ratio that WCAG 2 defines."""
    lights = []
    for colour in (a, b):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        lights.append(float(np.dot(linear, [0.2126, 0.7152, 0.0722])) + 0.05)
    return max(lights) / min(lights)


def test_text_is_dark_on_light():
    from layerhub.visual import plots

    for fill, border in plots.SHADES.values():
        assert contrast(fill, plots.INK) > 7
        assert contrast(fill, plots.GREY) > 4.5, "WCAG AA"
        assert contrast("#ffffff", border) > 3, "WCAG AA, for shapes"


# Files


def size_of(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_a_png_has_the_size_that_dpi_says_and_is_not_blank(tmp_path):
    from matplotlib.image import imread

    shown = lh.plot_model(zoo.two_and_two(), tmp_path / "model.png", dpi=192)
    width, height = size_of((tmp_path / "model.png").read_bytes())
    assert abs(width - 2 * shown.scene.width) <= 2 and abs(height - 2 * shown.scene.height) <= 2
    pixels = imread(tmp_path / "model.png")[..., :3]
    drawn = read(zoo.two_and_two())
    for name, colour in (("user", "input"), ("read", "recurrent"), ("joined", "merge")):
        from layerhub.visual.plots import SHADES

        left, top, *_ = drawn.card(name)
        seen = pixels[round(2 * top) + 12, round(2 * left) + 12]
        expected = [int(SHADES[colour][0][k : k + 2], 16) / 255 for k in (1, 3, 5)]
        np.testing.assert_allclose(seen, expected, atol=0.02)
    assert (pixels[0] == 1).all(), "a white margin"


def test_names_that_no_font_has_do_not_stop_a_png():
    assert size_of(lh.plot_model(zoo.strange(), None).png(50))[0] > 100


def test_the_same_model_gives_the_same_files(tmp_path):
    model = zoo.chain()
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        lh.plot_model(model, tmp_path / name, dpi=60)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_keras_spelling_works(tmp_path):
    lh.utils.plot_model(zoo.chain(), to_file=str(tmp_path / "model.SVG"), show_shapes=True, rankdir="LR")
    assert ElementTree.parse(tmp_path / "model.SVG").getroot().tag == f"{SVG}svg"


def test_notebooks_show_the_picture():
    shown = lh.plot_model(zoo.chain(), None)
    assert shown._repr_svg_() == shown.svg
    assert repr(shown).startswith("<Picture: The model chain, ")


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "model.png"
    path.write_bytes(b"old")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ParameterError, match=r"pip install matplotlib; an SVG needs nothing"):
        lh.plot_model(zoo.chain(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.png"]
    assert path.read_bytes() == b"old"
    lh.plot_model(zoo.chain(), tmp_path / "model.svg")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"to_file": "model.pdf"}, r"must end in \.png or \.svg, not 'model\.pdf'"),
        ({"to_file": "model"}, r"must end in \.png or \.svg"),
        ({"rankdir": "down"}, "rankdir must be one of TB, LR, not 'down'"),
        ({"dpi": 0}, "dpi must be a number of pixels to an inch, not 0"),
        ({"to_file": "no/such/folder/model.svg"}, "there is no folder"),
        ({"dpi": 10_000}, r"inches, has too many pixels; take dpi=\d+ or less, or a name that ends in \.svg"),
    ],
)
def test_arguments_that_cannot_be_meant_are_named(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=words):
        lh.plot_model(zoo.two_and_two(), **options)
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_or_none_yet_is_told():
    with pytest.raises(ParameterError, match="model must be a model"):
        lh.plot_model(L.Dense(3))
    with pytest.raises(StateError, match="raw has no input shape yet"):
        lh.plot_model(lh.Sequential([L.Dense(3)], name="raw"))


NOTHING = """
import sys, layerhub as lh
model = lh.Sequential([lh.Input((4,)), lh.layers.Dense(3)])
assert "layerhub.visual" not in sys.modules
lh.plot_model(model, sys.argv[1])
assert not {"matplotlib", "PIL", "rich"} & set(sys.modules)
"""


def test_an_svg_needs_no_other_library(tmp_path):
    subprocess.run([sys.executable, "-W", "error", "-c", NOTHING, str(tmp_path / "model.svg")], check=True)
    assert (tmp_path / "model.svg").exists()


# The command line


def test_the_command_line_shows_a_saved_model(tmp_path, capsys, monkeypatch):
    from layerhub.cli import main

    zoo.nested().save(tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["show", "model.keras", "--expand-nested", "--backend", "numpy", "--plot", "model.svg"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "outer on numpy (cpu)" in said and "└ bottleneck (Sequential)" in said and said.endswith("model.svg\n")
    assert len(Read((tmp_path / "model.svg").read_text(encoding="utf-8")).frames) == 2


def test_the_command_line_says_what_is_wrong_with_a_file(tmp_path, capsys):
    from layerhub.cli import main

    with pytest.raises(SystemExit) as end:
        main(["show", str(tmp_path / "none.keras")])
    assert end.value.code == 2
    assert "none.keras cannot be read" in capsys.readouterr().err
