"""The reference says all there is to say: every spec is explained, every example runs, every picture is so."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt  # comes with rich

from layerhub.cli import main
from layerhub.errors import ShapeError, UnknownNameError
from layerhub.reference import FORMULA, describe, example_of, find, namesakes
from layerhub.spec import KINDS
from layerhub.spec.layer import In, Layer, Out, Weight
from layerhub.spec.masks import passes
from layerhub.spec.windows import Windowed

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import pages  # noqa: E402
import pictures  # noqa: E402

LAYERS = pages.members("layer")
SPECS = [spec for kind in KINDS for spec in pages.members(kind)]


def named(spec):
    return f"{spec.kind.name} {spec.__name__}"


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


# Docstrings


def test_every_spec_has_a_docstring_of_its_own():
    assert [named(spec) for spec in SPECS if not vars(spec).get("__doc__")] == []


def exact(spec):
    """Whether there is a formula, or a source."""
    told = describe(spec)
    return bool(told["sources"]) or any("code" in block or FORMULA.search(block["text"]) for block in told["about"])


def test_layers_with_weights_or_chance_give_a_formula_or_a_source():
    # What has neither moves elements about, or takes its meaning from its parts.
    def own(spec):
        return any(isinstance(held, Weight) for held in spec.held) or ("rng" in spec.extras and not spec.held)

    assert [spec.__name__ for spec in LAYERS if own(spec) and not exact(spec)] == []


@pytest.mark.parametrize("kind", ["activation", "loss", "optimizer", "schedule", "regularizer"])
def test_what_is_a_function_of_numbers_gives_a_formula_or_a_source(kind):
    # Those that stand for a function, or for several of their kind, have no formula of their own.
    stands_for_others = {"custom", "linear", "FunctionLoss", "MultiOptimizer"}
    assert {spec.__name__ for spec in pages.members(kind) if not exact(spec)} <= stands_for_others


def test_docstrings_are_taken_apart_into_meaning_notes_and_sources():
    told = describe(find("Dropout"))
    notes = {row["parameter"]: row["meaning"] for row in told["parameters"]}
    assert told["summary"].startswith("Zero a random share")
    assert notes["rate"] == "the share that is dropped (not kept)."
    assert told["sources"] == ["Source: Srivastava et al., JMLR 15 (2014) 1929."]
    assert told["about"][-1] == {
        "text": "An element is dropped when its 32 random bits, as an integer, are below rate * 2**32."
    }
    told = describe(find("LSTM"))
    assert [block for block in told["about"] if "code" in block] == [
        {
            "code": "i, f, g, o = split(x[t] @ kernel + h @ recurrent_kernel + bias, 4)\n"
            "c = sigmoid(f) * c + sigmoid(i) * tanh(g)\nh = sigmoid(o) * tanh(c)"
        }
    ]


# Pages. That they are up to date is checked with all that is generated, in test_docs.py.


def test_every_layer_has_a_page_and_a_line_in_the_index():
    index = text_of("docs/layers/README.md")
    for spec in LAYERS:
        assert text_of(f"docs/layers/{spec.__name__}.md").startswith(f"# {spec.__name__}\n")
        assert f"[{spec.__name__}]({spec.__name__}.md)" in index


def test_everything_else_has_a_heading_on_the_page_of_its_kind():
    for kind, page in pages.KIND_PAGES.items():
        text = text_of(f"docs/{page}.md")
        for spec in pages.members(kind):
            assert f"\n## {spec.__name__}\n" in text


def test_a_page_says_every_parameter_input_weight_and_rule():
    for spec in LAYERS:
        text, told = text_of(f"docs/layers/{spec.__name__}.md"), describe(spec)
        for row in told["parameters"]:
            assert f"| `{row['parameter']}` |" in text
        for name in [row["input"] for row in told["inputs"]] + [row["weight"] for row in told["weights"]]:
            assert f"`{name}`" in text
        assert text.count("\n- **c") == len(told["rules"])


@pytest.mark.parametrize("layer", [spec.__name__ for spec in LAYERS])
def test_the_example_on_every_page_runs_and_gives_what_it_says(layer):
    (program,) = re.findall(r"## Example\n\n```python\n(.*?)\n```", text_of(f"docs/layers/{layer}.md"), re.DOTALL)
    *statements, last = ast.parse(program).body
    said = program.rpartition("# ")[2]
    scope: dict = {}
    exec(compile(ast.Module(statements, []), layer, "exec"), scope)
    assert repr(eval(compile(ast.Expression(last.value), layer, "eval"), scope)) == said


def test_words_are_set_so_that_markdown_takes_nothing_amiss():
    assert pages.text("sum x**2 of |x|, see ``a|b``") == r"sum x\*\*2 of \|x\|, see `a\|b`"
    assert pages.text("kernel_size, _x") == r"kernel_size, \_x"
    assert pages.text("arXiv:1603.07285, doi:10.1162/neco.1997.9.8.1735; and") == (
        "[arXiv:1603.07285](https://arxiv.org/abs/1603.07285), "
        "[doi:10.1162/neco.1997.9.8.1735](https://doi.org/10.1162/neco.1997.9.8.1735); and"
    )


def test_no_page_has_emphasis_or_lists_by_accident():
    read = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse
    for path in [*ROOT.glob("docs/layers/*.md"), *(ROOT / f"docs/{page}.md" for page in pages.KIND_PAGES.values())]:
        tokens = read(path.read_text(encoding="utf-8"))
        assert not {token.type for token in tokens} & {"blockquote_open", "ordered_list_open", "code_block"}, path
        for token in tokens:
            kinds = {child.type for child in token.children or ()}
            assert not kinds & {"em_open", "s_open", "html_inline"}, f"{path}: {token.content}"
            assert "strong_open" not in kinds or token.content.startswith("**c"), f"{path}: {token.content}"


# Pictures


def test_every_picture_is_up_to_date_and_on_a_page():
    drawn = {
        f"docs/{'layers/' if kind == 'layer' else ''}pictures/{picture.name}.svg": picture.svg
        for kind in KINDS
        for spec in pages.members(kind)
        for picture in pictures.pictures(spec)
    }
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/pictures/*.svg")} == set(drawn)
    shown = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/**/*.md"))
    for path, svg in drawn.items():
        assert text_of(path) == svg, path
        assert f"(pictures/{path.rpartition('/')[2]})" in shown


WINDOWED = [spec for spec in LAYERS if issubclass(spec, Windowed) and "t" not in spec.inputs[0].pattern.words]


@pytest.mark.parametrize("spec", WINDOWED, ids=lambda spec: spec.__name__)
def test_windows_in_pictures_see_the_cells_that_the_layer_sees_when_it_runs(spec):
    for label, given in pictures.variants(spec):
        space = (6, 7)[-(spec.rank or 0) :] if spec.rank < 3 else (1, 1, 7)
        shown, found = (way(spec(**given), space) for way in (pictures.by_windows, pictures.by_trial))
        assert shown.places == found.places, label
        for place, cells in shown.seen.items():
            inside = {tuple(np.subtract(cell, shown.before)) for cell in cells if shown.inside(cell)}
            assert inside == set(found.seen[place]), (label, place)


def test_causal_windows_see_nothing_that_comes_later():
    cells = pictures.cells_of(find("Conv1D")(1, 3, padding="causal"), (7,))
    assert cells.before == (2,)
    assert all(max(seen) == (place[0] + 2,) for place, seen in cells.seen.items())


# Layers of one's own


def test_a_layer_of_ones_own_is_described_as_far_as_it_says_something():
    class Scaled(Layer):
        factor: float
        x = In("... d")
        gain = Weight("d", init="ones")
        y = Out("... d")
        mask = passes

        def define(self, xp, x, gain):
            return x * gain * self.factor

    told = describe(Scaled)
    assert (told["name"], told["summary"], told["sources"]) == ("Scaled", "", [])
    assert told["weights"][0] == {
        "weight": "gain", "axes": "d", "when": "", "start": "Ones()", "trainable": True, "example": (6,)
    }  # fmt: skip
    assert told["example"].splitlines()[-2:] == ["layer = Scaled(factor=1.0)", "layer(x).shape  # (2, 6)"]

    class Particular(Scaled):
        def output_shapes(self, *shapes):
            raise ShapeError("only what nobody guesses")

    assert describe(Particular)["example"] is None


# The command line


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["describe", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_everything_can_be_described_by_its_name():
    for spec in SPECS:
        kind = spec.kind.name
        told = json.loads(run(spec.__name__, "--kind", kind, "--json"))
        assert (told["name"], told["kind"]) == (spec.__name__, kind)
        assert [row["parameter"] for row in told["parameters"]] == list(spec.parameters)
        assert all(row["domain"] for row in told["parameters"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_can_be_read_in_a_terminal(kind):
    spec = pages.members(kind)[-1]
    said = run(spec.__name__, "--kind", kind)
    assert spec.__name__ in said
    assert all(name in said for name in spec.parameters)


def test_a_name_is_taken_as_it_is_spelled_first():
    assert find("softmax").kind.name == "activation"
    assert find("Softmax").kind.name == "layer"
    assert find("conv_2d").__name__ == "Conv2D"
    assert find("glorot_uniform").kind.name == "initializer"
    assert namesakes(find("Softmax")) == ["activation"]
    assert "--kind activation" in run("Softmax")


@pytest.mark.parametrize("name, near", [("Densee", "Dense"), ("reluu", "relu"), ("Adamm", "Adam"), ("Hubber", "Huber")])
def test_a_name_that_nothing_has_brings_the_nearest_to_mind(name, near):
    assert f"Did you mean '{near}'?" in run(name, code=2)
    with pytest.raises(UnknownNameError, match=near):
        find(name)


def test_an_example_knows_the_shapes_that_come_out():
    for spec in LAYERS:
        example = example_of(spec)
        assert example is not None, f"{spec.__name__} needs an entry in layerhub.reference.EXAMPLES"
        assert example.output_shapes()
