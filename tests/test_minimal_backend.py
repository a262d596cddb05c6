"""A third party's backend, installed by pip where only the processes started here see it."""

import ast
import io
import json
import os
import subprocess
import sys
import tokenize
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "examples/minimal_backend"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment variables of processes in which layerhub-minimal is installed."""
    target = tmp_path_factory.mktemp("installed")
    # With hatchling at hand nothing is downloaded; otherwise pip builds in an environment of its own.
    offline = ["--no-index", "--no-build-isolation"] if find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *offline, "--target", str(target)]
    done = subprocess.run([*pip, str(PROJECT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(seen), "MINIMAL_IS_IN": str(target)}


def run(environment, *command):
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=environment["MINIMAL_IS_IN"])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(environment, code):
    """What ``code`` printed, in a process of its own where warnings are errors."""
    setting = "import json, os, sys\nimport numpy as np\nimport layerhub as lh\n"
    return run(environment, sys.executable, "-W", "error", "-c", setting + code)


def layerhub(environment, *arguments):
    command = "import sys; from layerhub.cli import main; sys.exit(main())"
    return run(environment, sys.executable, "-c", command, *arguments)


def test_it_is_about_25_lines_of_code():
    source = (PROJECT / "layerhub_minimal.py").read_text(encoding="utf-8")
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    assert len({token.start[0] for token in tokens if token.type not in blank}) <= 25


def test_it_brings_no_kernel_and_no_differentiation():
    tree = ast.parse((PROJECT / "layerhub_minimal.py").read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert functions == {"load", "owns", "layerhub_backend"}


def test_it_is_found_through_its_entry_point(environment):
    found = python(
        environment,
        """
listed = lh.backends()
assert "array_api_compat" not in sys.modules, "listing must not import it"
import layerhub_minimal
assert os.path.dirname(layerhub_minimal.__file__) == os.environ["MINIMAL_IS_IN"]
print(json.dumps(sorted(listed)))
""",
    )
    assert {"minimal", "numpy"} <= set(json.loads(found))


def test_the_command_line_lists_it_as_usable(environment):
    rows = json.loads(layerhub(environment, "backends", "--json"))
    assert [(row["backend"], row["usable"]) for row in rows if row["plugin"] == "minimal"] == [("minimal", True)]


def test_a_model_trains_on_it(environment):
    python(
        environment,
        """
lh.set_random_seed(3)
rng = np.random.default_rng(3)
x = rng.normal(size=(64, 5, 7)).astype("float32")
y = (x.sum(axis=(1, 2)) > 0).astype("int32")
layers = [lh.Input((5, 7)), lh.layers.LSTM(11), lh.layers.Dense(2, activation="softmax")]
model = lh.Sequential(layers, backend="minimal")
model.compile(lh.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
losses = model.fit(x, y, epochs=20, batch_size=16, verbose=0).history["loss"]
assert losses[-1] < 0.2 * losses[0], losses
assert model.evaluate(x, y, verbose=0)[1] > 0.95
""",
    )


def test_gradients_of_a_dense_layer_are_those_of_the_formula(environment):
    python(
        environment,
        """
rng = np.random.default_rng(5)
x, kernel, bias, c = (rng.normal(size=size) for size in [(3, 5), (5, 7), (7,), (3, 7)])
ev = lh.evaluate_layer(lh.layers.Dense(7), x, [kernel, bias], backend="minimal", cotangents=[c], dtype="float64")
np.testing.assert_allclose(ev.outputs[0], x @ kernel + bias, rtol=1e-13)
np.testing.assert_allclose(ev.input_grads[0], c @ kernel.T, rtol=1e-13)
np.testing.assert_allclose(ev.weight_grads[0], x.T @ c, rtol=1e-13)
np.testing.assert_allclose(ev.weight_grads[1], c.sum(axis=0), rtol=1e-13)
""",
    )


def test_gradients_of_an_lstm_are_those_of_numpys_kernel(environment):
    python(
        environment,
        """
rng = np.random.default_rng(5)
x, c = rng.normal(size=(3, 5, 7)), rng.normal(size=(3, 11))
here, there = (
    lh.evaluate_layer(lh.layers.LSTM(11), x, backend=name, cotangents=[c], dtype="float64", seed=2)
    for name in ("minimal", "numpy")
)
for mine, other in zip(here.input_grads + here.weight_grads, there.input_grads + there.weight_grads, strict=True):
    assert np.abs(other).max() > 1e-3
    np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-13)
""",
    )


def test_a_trained_model_moves_to_it(environment):
    python(
        environment,
        """
x = np.random.default_rng(1).normal(size=(4, 6)).astype("float32")
model = lh.Sequential([lh.Input((6,)), lh.layers.Dense(5, activation="tanh"), lh.layers.Dense(3)], backend="numpy")
before = model.predict(x, verbose=0)
np.testing.assert_allclose(model.to("minimal").predict(x, verbose=0), before, rtol=1e-5, atol=1e-6)
""",
    )


def test_it_does_not_claim_numpys_arrays(environment):
    python(
        environment,
        """
from layerhub.registry import registry
assert registry().backend("minimal").name == "minimal"
assert registry().owner(np.zeros(3)).name == "numpy"
""",
    )


def test_the_conformance_suite_passes_it(environment):
    said = layerhub(environment, "conformance", "--backend", "minimal", "--tier", "smoke", "--json")
    rows = json.loads(said)["layerhub"]
    assert {"Conv2D", "BatchNormalization", "LSTM", "SeparableConv2D"} <= {row["layer"] for row in rows}
    assert {row["backend"] for row in rows} == {"minimal"}
    assert {row["verdict"] for row in rows} <= {"pass", "unsupported"}
    assert all(row["passed"] > 0 for row in rows if row["verdict"] == "pass")
