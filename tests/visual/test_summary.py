"""The table of a model: what it says, where it says it, and that nothing is cut."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

import layerhub as lh
from layerhub.errors import ParameterError, StateError

sys.path.insert(0, str(Path(__file__).parent))
import zoo

L = lh.layers


def text(model, **options):
    told = []
    model.summary(print_fn=told.append, **options)
    assert len(told) == 1
    return told[0]


def rows(model, **options):
    """The table as {layer: {column: cell}}, where a cell of several lines has them joined by blanks."""
    lines = [line for line in text(model, **options).splitlines() if line[:1] in "┃│"]
    names = [cell.strip() for cell in lines[0].strip("┃").split("┃")]
    found, last = {}, None
    for line in lines[1:]:
        cells = [cell.rstrip() for cell in line.strip("│").split("│")]
        if cells[0].strip():
            last = found[cells[0].strip().partition(" (")[0]] = dict(zip(names, map(str.strip, cells), strict=True))
        else:
            for name, cell in zip(names, cells, strict=True):
                last[name] = f"{last[name]} {cell.strip()}".strip()
    return found


def test_a_row_says_type_shape_parameters_connections_and_what_serves_it():
    row = rows(zoo.two_and_two())["joined"]
    assert row == {
        "Layer (type)": "joined (Concatenate)",
        "Output shape": "(None, 11)",
        "Params": "0",
        "Connected to": "wide, read",
        "Served by": "definition",
    }
    assert rows(zoo.two_and_two())["deep"]["Params"] == str(11 * 7 + 7)


def test_the_title_says_backend_and_device():
    assert text(zoo.chain()).startswith("chain on numpy (cpu)")


def test_a_chain_says_nothing_of_connections():
    assert "Connected to" not in text(zoo.chain())
    assert "Connected to" in text(zoo.repeated())


def test_each_use_of_a_layer_has_its_connections_in_a_line():
    found = rows(zoo.repeated())
    assert found["shared"]["Connected to"] == "x between"
    assert found["between"]["Connected to"] == "shared[0][0]"


def test_outputs_of_a_layer_with_several_are_told_apart():
    x = lh.Input((5, 3), name="x")
    y, h, c = L.LSTM(4, return_sequences=True, return_state=True, name="read")(x)
    model = lh.Model(x, L.LSTM(4, name="again")(y, initial_state=[h, c]))
    found = rows(model)
    assert found["again"]["Connected to"] == "read[0][0], read[0][1], read[0][2]"
    assert found["read"]["Output shape"] == "(None, 5, 4), (None, 4), (None, 4)"


def test_uses_in_other_models_are_not_told():
    x = lh.Input((4,), name="x")
    shared = L.Dense(4, name="shared")
    first = lh.Model(x, shared(x))
    z = lh.Input((4,), name="z")
    lh.Model(z, shared(L.Dense(4, name="other")(z)))
    assert "other" not in text(first)


def test_parameters_are_counted_before_there_are_values_and_by_what_training_moves():
    model = zoo.chain()
    model.get_layer("see").trainable = False
    said = text(model, show_trainable=True)
    counts = 3 * 3 * 4 + 4, 4 * 4, 400 * 3 + 3
    assert f"Parameters: {sum(counts):,} ({8 + counts[2]:,} trainable, {counts[0] + 8} not), 4.9 KiB of memory" in said
    assert [row["Trainable"] for row in rows(model, show_trainable=True).values()] == ["no", "yes", "-", "yes"]
    held = [variable for layer in model.layers for variable in layer.store.variables]
    assert all(variable._value is None and variable._home is None for variable in held)


def test_weights_of_a_shared_layer_are_counted_once_wherever_it_stands():
    x = lh.Input((4,))
    shared = L.Dense(4, name="shared")
    inner = lh.Model(x, shared(x), name="inner")
    z = lh.Input((4,))
    assert "Parameters: 20 (20 trainable" in text(lh.Model(z, shared(inner(z)))), "4 * 4 + 4"


def test_weights_in_short_types_take_less_memory():
    model = lh.Sequential([lh.Input((4,)), L.Dense(5, dtype="float16"), L.Dense(2)])
    assert "37 (37 trainable, 0 not), 98 bytes" in text(model), "25 * 2 + 12 * 4"


def test_nested_models_open_on_request():
    assert "thin" not in rows(zoo.nested())
    found = rows(zoo.nested(), expand_nested=True)
    assert list(found)[:4] == ["x", "z", "first", "mixer"]
    assert found["└ bottleneck"]["Params"] == str(5 * 2 + 2 + 2 * 5 + 5)
    assert found["└ mixed"]["Connected to"] == "from_a, from_b, bottleneck"
    assert found["└ thin"]["Served by"] == "kernel of numpy"
    assert "│   └ thin (Dense)" in text(zoo.nested(), expand_nested=True)
    assert found["last"]["Connected to"] == "mixer[0][0]"


def test_operations_have_rows_and_layers_that_are_never_used_come_last():
    found = rows(zoo.computed(), expand_nested=True)
    names = [row["Layer (type)"].partition(" (")[2].rstrip(")") for row in found.values()]
    assert names[2:8] == ["Block", "Dense", "Dense", "ops.multiply", "ops.add", "Dense"]
    spare = found["└ spare"]
    assert (spare["Output shape"], spare["Params"], spare["Connected to"], spare["Served by"]) == ("", "0", "", "")
    total = next(row for row in found.values() if row["Connected to"] == "block, z")
    assert (total["Layer (type)"].partition(" (")[2], total["Served by"]) == ("ops.add)", "definition")


def test_a_model_by_its_call_has_a_table_as_soon_as_it_knows_its_inputs():
    model = zoo.Block(name="block")
    with pytest.raises(StateError, match="block has no input shape yet"):
        model.summary()
    model.predict(np.zeros((2, 4)), verbose=0)
    assert rows(model)["wide"]["Params"] == "20"


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_route_is_that_of_the_backend(backend):
    model = zoo.tagger().to(backend)
    found = rows(model)
    assert found["embed"]["Served by"] == f"kernel of {backend}"
    assert found["read"]["Layer (type)"] == "read (Bidirectional(LSTM))"
    assert found["read"]["Served by"].startswith("parts: ")
    assert f"kernel of {backend}" in found["read"]["Served by"]
    assert found["add"]["Served by"] == "definition"


def test_where_a_kernel_serves_only_one_use_of_a_layer_both_routes_are_told():
    halves = L.AdaptiveAveragePooling1D(2, name="halves")
    even, odd = lh.Input((4, 3)), lh.Input((5, 3))
    found = rows(lh.Model([even, odd], [halves(even), halves(odd)]))
    assert found["halves"]["Served by"] == "kernel of numpy definition"


def test_a_use_with_options_of_its_own_is_told_as_well():
    x = lh.Input((5, 4), name="x")
    y = L.MultiHeadAttention(2, 3, name="attend")(x, x, use_causal_mask=True)
    assert "kernel of numpy" in rows(lh.Model(x, y))["attend"]["Served by"]


def test_a_stateful_layer_has_a_route():
    x = lh.Input(batch_shape=(2, 5, 4), name="x")
    assert rows(lh.Model(x, L.LSTM(3, stateful=True, name="go")(x)))["go"]["Served by"] == "kernel of numpy"


# Width


@pytest.mark.parametrize("build", zoo.ALL, ids=lambda build: build.__name__)
def test_in_a_pipe_no_cell_is_cut_or_broken(build, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    model = build()
    model.summary(expand_nested=True)
    said = capsys.readouterr().out
    for layer in model.layers:
        name = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in layer.label)
        assert f"{name} ({type(layer).__name__}" in said
    assert "…" not in said
    assert len({cell_len(line) for line in said.splitlines()[1:-1]}) == 1


@pytest.mark.parametrize("width", [40, 60, 100])
def test_within_a_line_length_cells_are_folded_and_nothing_is_lost(width):
    said = text(zoo.tagger(), line_length=width)
    assert all(cell_len(line) <= width for line in said.splitlines()[:-1])
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if line[:1] == "│"]
    column = "".join(cell[0] for cell in cells).replace(" ", "")
    for layer in zoo.tagger().layers:
        assert f"{layer.label}({type(layer).__name__}" in column


def test_columns_end_where_positions_say():
    model = zoo.two_and_two()
    for positions, length in ([0.25, 0.5, 0.6, 0.85, 1.0], 120), ([30, 60, 72, 102, 120], None):
        said = text(model, positions=positions, line_length=length)
        ends = [k for k, c in enumerate(said.splitlines()[2]) if c == "┃"]
        assert ends == [0, 30, 60, 72, 102, 120]


def test_positions_for_keras_columns_leave_the_last_column_what_it_needs():
    said = text(zoo.two_and_two(), positions=[0.3, 0.56, 0.74, 1.0], line_length=100)
    assert [k for k, c in enumerate(said.splitlines()[2]) if c == "┃"][:5] == [0, 30, 56, 74, 100]
    assert "kernel of numpy" in said


@pytest.mark.parametrize(
    "options, words",
    [
        ({"line_length": 10}, "line_length must be at least 40 characters, not 10"),
        ({"positions": [0.5, 1.0]}, "one number for each of the columns"),
        ({"positions": [0.5, 0.4, 0.9, 1.0]}, "leave a column less than 6 characters"),
        ({"layer_range": ["see"]}, "must be two names of layers"),
        ({"layer_range": ["sea", "judge"]}, "'sea' matches no layer. Did you mean 'see'"),
        ({"layer_range": ["judge", "see"]}, "'judge' comes after 'see'"),
        ({"layer_range": ["(", "judge"]}, "nor a regular expression"),
    ],
)
def test_arguments_that_cannot_be_meant_are_named(options, words):
    with pytest.raises(ParameterError) as caught:
        zoo.chain().summary(**options)
    assert words in str(caught.value)


def test_a_range_of_layers_is_given_by_names_or_patterns():
    assert list(rows(zoo.chain(), layer_range=["norm", "flat"])) == ["norm", "flat"]
    first, *_, last = rows(zoo.residual(3), layer_range=["conv_1", r"add_\d"])
    assert (first, last) == ("conv_1", "add_2")
    nested = rows(zoo.nested(), layer_range=["thin", "wide"], expand_nested=True)
    assert list(nested) == ["└ thin", "└ wide"]
    assert list(rows(zoo.strange(), layer_range=[zoo.NAMES[-1]] * 2)) == [zoo.NAMES[-1]]


def test_before_there_is_an_input_shape_it_says_what_to_do():
    with pytest.raises(
        StateError, match=r"raw has no input shape yet: begin it with lh.Input\(shape\), or give it data"
    ):
        lh.Sequential([L.Dense(3)], name="raw").summary()


def test_a_stack_has_a_table_from_its_first_data_on():
    model = lh.Sequential([L.Dense(3, name="late")])
    model.predict(np.zeros((2, 4)), verbose=0)
    assert rows(model)["late"]["Params"] == "15"


def test_the_page_shows_what_is_printed(capsys):
    page = (Path(__file__).parents[2] / "docs/visual.md").read_text(encoding="utf-8")
    program, shown = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL).groups()
    exec(program, {})
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == shown.splitlines()
