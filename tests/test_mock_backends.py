"""Backends that do wrong each in a way of its own, run as any backend is: each gets the verdict that it deserves.

They are real plugins, installed by a folder on the path, and each runs in a process of its own. What crashes, hangs or
raises costs its own trials only: those of the same layer that follow pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from layerhub_conformance.report import Run

WITH_BIAS, PLAIN, OTHER = "Dense(units=3);(2,4)", "Dense(units=3,use_bias=False);(2,4)", "ReLU();(2,4)"
PLUGIN = '''
"""Backends over numpy, each with one thing wrong."""

import os
import time
from functools import partial

import numpy as np

from layerhub.contract import Backend
from layerhub.hookspecs import BackendEntry, hookimpl
from layerhub.kernels import Kernel, KernelSet

LAYERHUB_API = 1


def product(x, kernel, bias):
    y = x @ kernel
    return y if bias is None else y + bias


def crashing(layer, x, kernel, bias):
    if bias is not None:
        os.abort()
    return product(x, kernel, bias)


def hanging(layer, x, kernel, bias):
    if bias is not None:
        time.sleep(600)
    return product(x, kernel, bias)


def raising(layer, x, kernel, bias):
    if bias is not None:
        raise RuntimeError("no bias today")
    return product(x, kernel, bias)


def wide(layer, x, kernel, bias):
    return product(x, kernel, bias).astype("float64")


def half_wrong(layer, x, kernel, bias):
    return product(x, kernel, None)


def delegating(layer, x, kernel, bias):
    import mindspore

    return mindspore.dense(x, kernel, bias)


DRAWS = np.random.default_rng(0)


def restless(layer, x, kernel, bias):
    y = product(x, kernel, bias)
    return np.where(DRAWS.uniform(size=y.shape) < 0.5, y, np.nextafter(y, np.float32(np.inf)))


def vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    (dy,) = cotangents
    return dy @ kernel.T, x.T @ dy, None if bias is None else dy.sum(axis=0)


DENSE = {
    "mock_crashing": crashing, "mock_hanging": hanging, "mock_raising": raising, "mock_wide": wide,
    "mock_half_wrong": half_wrong, "mock_delegating": delegating, "mock_restless": restless,
}


class Mock(Backend):
    namespace = np


class Graded(Mock):
    """Says that it differentiates, and does not."""

    def value_and_grad(self, function, params):
        raise NotImplementedError("some day")


class Constant(Mock):
    """Says that every gradient is zero."""

    def value_and_grad(self, function, params):
        loss, aux = function(params)
        return loss, aux, [np.zeros_like(p) for p in params]


class Ungraded(Mock):
    has_gradients = False


class Lacking(Mock):
    lacks = {"Dense": "no matrix products"}


class Short(Mock):
    """Claims a type that its namespace has not."""

    dtypes = ("float32", "float64", "bfloat16")


OWN = {
    "mock_graded": Graded, "mock_constant": Constant, "mock_ungraded": Ungraded, "mock_lacking": Lacking,
    "mock_short": Short,
}
NAMES = ("mock_perfect", *DENSE, *OWN)


def made(name):
    return type(name, (OWN.get(name, Mock),), {"name": name})()


@hookimpl
def layerhub_backend():
    return [BackendEntry(name, load=partial(made, name)) for name in NAMES]


@hookimpl
def layerhub_kernels(backend):
    kernels = KernelSet()
    if backend in DENSE:
        kernel = kernels.register("Dense")(DENSE[backend])
        if DENSE[backend] is restless:
            kernel.vjp(vjp)
    return kernels
'''
FRAMEWORK = """
def dense(x, kernel, bias):
    y = x @ kernel
    return y if bias is None else y + bias
"""
NAMES = (
    "mock_perfect", "mock_crashing", "mock_hanging", "mock_raising", "mock_wide", "mock_half_wrong", "mock_delegating",
    "mock_restless", "mock_graded", "mock_constant", "mock_ungraded", "mock_lacking",
)  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the plugin, installed as far as the path is concerned."""
    folder = tmp_path_factory.mktemp("mocks")
    metadata = folder / "layerhub_mocks-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: layerhub-mocks\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[layerhub]\nmocks = layerhub_mocks\n")
    (folder / "layerhub_mocks.py").write_text(PLUGIN)
    (folder / "mindspore.py").write_text(FRAMEWORK)
    return folder


def environment(installed: Path) -> dict[str, str]:
    """One in which the mock backends are installed."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))}


def certified(installed: Path, *options: str) -> Run:
    """A run of the suite, which is to find something."""
    command = [sys.executable, "-m", "pytest", "--pyargs", "layerhub_conformance", "-q", "-p", "no:cacheprovider"]
    command += ["--layerhub-dtype=float32", "--layerhub-timeout=5", f"--layerhub-report={installed / 'out'}", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=installed, env=environment(installed))
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr
    return Run.load(installed / "out/report.json")


@pytest.fixture(scope="module")
def run(installed) -> Run:
    """The values of a few cases on all mock backends."""
    backends = [f"--layerhub-backend={name}" for name in NAMES]
    return certified(installed, *backends, *(f"--layerhub-case={case}" for case in (WITH_BIAS, PLAIN, OTHER)))


@pytest.fixture(scope="module")
def others(installed) -> Run:
    """What is left: a contract, and a backend that does not load."""
    return certified(
        installed, "--layerhub-backend=mock_restless", "--layerhub-backend=mock_short", "--layerhub-layer=Dense",
        "--layerhub-check=contract: the same again",
    )  # fmt: skip


def verdicts(run: Run, backend: str, case: str, check: str = "values") -> dict[str, str]:
    """By route."""
    found = [r for r in run.results if (r.backend, r.case, r.check) == (backend, case, check)]
    return {result.route: result.verdict for result in found}


def cell(run: Run, backend: str, layer: str, direction: str) -> str:
    found = [c for c in run.cells if (c.backend, c.subject, c.direction) == (backend, layer, direction)]
    assert len(found) == 1
    return found[0].verdict


def messages(run: Run, backend: str) -> str:
    return "\n".join(result.message for result in run.results if result.backend == backend)


RIGHT = {"kernel": "pass", "definition": "pass"}
UNSERVED = {"kernel": "pass"}
"""Where no kernel serves, the route of the definition is the same one, and is not taken again."""


def test_a_perfect_backend_passes(run):
    assert {r.verdict for r in run.results if r.backend == "mock_perfect"} == {"pass"}
    assert {c.verdict for c in run.cells if c.backend == "mock_perfect"} == {"pass"}


@pytest.mark.parametrize(
    "backend, words",
    [
        ("mock_crashing", "the process ended by signal 6"),
        ("mock_hanging", "no answer within 5 s"),
        ("mock_raising", "RuntimeError: no bias today"),
    ],
)
def test_what_breaks_costs_its_own_trials_only(run, backend, words):
    assert verdicts(run, backend, WITH_BIAS) == {"kernel": "fail", "definition": "pass"}
    assert verdicts(run, backend, PLAIN) == RIGHT
    assert verdicts(run, backend, OTHER) == UNSERVED
    assert words in messages(run, backend)
    assert cell(run, backend, "Dense", "forward") == "fail"
    assert cell(run, backend, "ReLU", "forward") == "pass"
    assert cell(run, backend, "ReLU", "gradient") == "pass"


def test_the_wrong_type_fails_wherever_the_kernel_serves(run):
    for case in (WITH_BIAS, PLAIN):
        assert verdicts(run, "mock_wide", case) == {"kernel": "fail", "definition": "pass"}
    assert verdicts(run, "mock_wide", OTHER) == UNSERVED
    assert "is of type float64, float32 is declared" in messages(run, "mock_wide")


def test_what_is_half_wrong_fails_by_that_half(run):
    assert verdicts(run, "mock_half_wrong", WITH_BIAS) == {"kernel": "fail", "definition": "pass"}
    assert verdicts(run, "mock_half_wrong", PLAIN) == RIGHT
    # Gradients come from the definition here, and are right.
    assert cell(run, "mock_half_wrong", "Dense", "forward") == "fail"
    assert cell(run, "mock_half_wrong", "Dense", "gradient") == "pass"


def test_right_values_by_another_framework_are_not_trusted(run):
    found = verdicts(run, "mock_delegating", WITH_BIAS)
    assert found["kernel"] == "mistrusted"
    assert "mindspore was imported to do the work" in messages(run, "mock_delegating")
    assert cell(run, "mock_delegating", "Dense", "forward") == "mistrusted"


def test_what_differs_from_call_to_call_fails_there_alone(run, others):
    assert verdicts(run, "mock_restless", WITH_BIAS) == RIGHT
    again = [r for r in others.results if r.backend == "mock_restless"]
    assert {r.verdict for r in again} == {"fail"}
    assert "again is not the same" in messages(others, "mock_restless")


def test_gradients_that_are_claimed_but_not_there_fail(run):
    for case in (WITH_BIAS, PLAIN, OTHER):
        assert verdicts(run, "mock_graded", case) == {"kernel": "fail", "definition": "fail"}
    assert "says has_gradients = True, but its value_and_grad() raised NotImplementedError" in messages(
        run, "mock_graded"
    )


def test_gradients_that_are_always_zero_fail_and_values_do_not(run):
    for layer in ("Dense", "ReLU"):
        assert cell(run, "mock_constant", layer, "gradient") == "fail"
    failed = [r for r in run.results if r.backend == "mock_constant" and r.check == "values"]
    assert failed
    assert all(f.direction == "gradient" for result in failed for f in result.findings if not f.right)


def test_what_is_declared_absent_is_unsupported(run):
    assert verdicts(run, "mock_lacking", WITH_BIAS) == {"kernel": "unsupported", "definition": "unsupported"}
    assert verdicts(run, "mock_lacking", OTHER) == UNSERVED
    assert verdicts(run, "mock_ungraded", WITH_BIAS) == UNSERVED
    assert {f.direction for r in run.results if r.backend == "mock_ungraded" for f in r.findings} == {"forward"}


def test_a_type_that_is_claimed_but_not_there_keeps_the_backend_from_loading(others):
    assert {r.verdict for r in others.results if r.backend == "mock_short"} == {"fail"}
    assert "mock_short.dtypes has bfloat16, but its namespace has not" in messages(others, "mock_short")
    assert cell(others, "mock_short", "Dense", "forward") == "fail"


def test_exploring_tells_of_a_failure_once_and_writes_a_script_that_shows_it(installed):
    command = [str(Path(sys.executable).with_name("layerhub")), "conformance", "--tier", "explore", "--minutes", "0.05"]
    command += ["--backend", "mock_half_wrong", "--layer", "Dense", "--dtype", "float32", "--report", "explored"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=installed, env=environment(installed))
    assert told.returncode == 1, told.stdout + told.stderr
    rows = [json.loads(line) for line in (installed / "explored/explore.jsonl").read_text().splitlines()]
    keys = [row["failure"] for row in rows if "failure" in row]
    assert keys and len(keys) == len(set(keys)) and all(key.startswith("Dense on mock_half_wrong") for key in keys)
    script = told.stdout.split("script  ")[1].split()[0]
    shown = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=installed, env=environment(installed)
    )
    assert shown.returncode == 1 and "without gradients: 4 of 4 elements are wrong" in shown.stdout, shown.stderr
