"""The command line: tables to read, the same as JSON, exit codes that say what happened."""

import json

import pytest
from click.testing import CliRunner

from layerhub import __version__
from layerhub.cli import main
from layerhub.registry import Problem, registry
from layerhub.spec import KINDS
from layerhub.spec.layer import Weight


def run(*arguments, code=0):
    """What a command prints, which must exit with ``code``."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


def data(*arguments):
    return json.loads(run(*arguments, "--json"))


def test_the_version_and_every_command_are_told():
    assert __version__ in run("--version")
    said = run("--help")
    for command in ("backends", "layers", "describe", "kernels", "conformance"):
        assert command in said
        assert "--json" in run(command, "--help")


@pytest.mark.parametrize("command", [["backends"], ["layers"], ["describe", "Dense"], ["kernels", "Dense"]])
def test_every_command_prints_a_table_and_json(command):
    assert len(run(*command).splitlines()) > 3
    assert data(*command)


def test_backends_are_listed_with_plugin_and_versions():
    said = run("backends")
    assert "numpy" in said
    assert "usable" in said
    assert '"numpy"' in run("backends", "--json")


def test_broken_plugins_are_listed_by_name_with_their_reason(monkeypatch):
    monkeypatch.setattr(registry(), "problems", [Problem("shaky", "ImportError: no luck")])
    for said in (run("backends"), run("backends", "--json")):
        assert "shaky" in said
        assert "ImportError: no luck" in said


def test_layers_are_listed_with_aliases_meaning_and_kernels():
    rows = {row["layer"]: row for row in data("layers")}
    assert set(rows) == set(KINDS["layer"])
    assert rows["Conv2D"]["aliases"] == ["Convolution2D"]
    assert (rows["Dense"]["meaning"], rows["Bidirectional"]["meaning"]) == ("definition", "composite")
    assert "numpy" in rows["Dense"]["kernels"]
    assert all(row["about"] for row in rows.values())


@pytest.mark.parametrize("layer", list(KINDS["layer"]))
def test_every_layer_is_described_with_all_its_parameters(layer):
    described = data("describe", layer)
    spec = KINDS["layer"].find(layer)
    assert [p["parameter"] for p in described["parameters"]] == list(spec.parameters)
    assert all(p["domain"] for p in described["parameters"])
    assert {w.name for w in spec.held if isinstance(w, Weight)} <= {w["weight"] for w in described["weights"]}
    assert described["mask"]
    text = run("describe", layer)
    assert layer in text
    assert all(p in text for p in spec.parameters)


def test_a_description_says_axes_rules_and_what_is_required():
    described = data("describe", "conv2d")
    assert (described["name"], described["kind"]) == ("Conv2D", "layer")
    assert described["inputs"][0]["axes"] == "n h w c"
    assert described["weights"][0] == {
        "weight": "kernel",
        "axes": "*kernel_size c/groups filters",
        "when": "",
        "start": "kernel_initializer",
        "trainable": True,
        "example": [3, 3, 3, 8],
    }
    assert "c1 the window must fit" in described["rules"]
    parameters = {p["parameter"]: p for p in described["parameters"]}
    assert parameters["filters"]["default"] == "required"
    assert parameters["padding"]["schema"] == {"enum": ["valid", "same"]}
    assert described["mask"].startswith("cannot use a mask")
    assert {"old": "nb_filter", "now": "filters"} in described["formerly"]
    assert described["example"].endswith("layer(x).shape  # (2, 6, 8, 8)")
    assert "arXiv:1603.07285" in described["sources"][0]


def test_kernels_are_listed_in_order_of_preference_with_the_definition_last():
    rows = [row for row in data("kernels", "Dense") if row["backend"] == "numpy"]
    assert [row["order"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["plugin"] == "numpy"
    assert rows[-1]["served_by"].startswith("definition (layerhub.spec.core.Dense)")
    assert data("kernels", "relu", "--kind", "activation")
    assert "composition of parts" in data("kernels", "Bidirectional")[-1]["served_by"]


@pytest.mark.parametrize(
    "command, words",
    [
        (["describe", "Densee"], ["is called 'Densee'", "Did you mean 'Dense'?"]),
        (["describe", "Densee", "--kind", "layer"], ["no layer is called 'Densee'", "Did you mean 'Dense'?"]),
        (["kernels", "Conv2"], ["no layer is called 'Conv2'", "Conv2D"]),
        (["kernels", "Dense", "--kind", "leyer"], ["leyer"]),
        (["conformance", "--backend", "nompy"], ["no backend is called 'nompy'", "Did you mean 'numpy'?"]),
        (["conformance", "--backend", "jaxx"], ["pip install layerhub-jaxx"]),
        (["conformance", "--layer", "Densee"], ["no layer is called 'Densee'"]),
        (["conformance", "--dtype", "float12", "--layer", "Flatten", "--backend", "numpy"], ["float12"]),
        (["nonsense"], ["No such command 'nonsense'"]),
        (["describe"], ["Missing argument"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_misuse_is_one_line_that_helps_and_exits_with_2(command, words):
    said = run(*command, code=2)
    for word in words:
        assert word in said
    assert "Traceback" not in said


def test_the_conformance_suite_runs_on_one_layer_and_gives_the_matrix(capfd):
    result = CliRunner().invoke(
        main, ["conformance", "--backend", "numpy", "--layer", "Flatten", "--dtype", "float32", "--json"]
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)["layerhub"]
    assert rows
    assert {(row["layer"], row["backend"], row["dtype"]) for row in rows} == {("Flatten", "numpy", "float32")}
    assert all(row["verdict"] == "pass" and row["passed"] > 0 for row in rows)
