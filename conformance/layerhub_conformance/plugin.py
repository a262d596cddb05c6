"""The pytest plugin: which backends to certify, what to run, and the matrix at the end.

pytest --pyargs layerhub_conformance --layerhub-backend mine -n 2
"""

from __future__ import annotations

import json
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DEFINITIONS = ("layerhub_checked", "layerhub_smooth", "layerhub_loss_definition", "layerhub_metric_definition")
"""The fixtures for tests of definitions, which have no backend."""
SUBJECTS = ("layerhub_case", "layerhub_loss", "layerhub_metric", "layerhub_optimizer", *DEFINITIONS)
"""The fixtures that this plugin fills in."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("layerhub", "LayerHub conformance")
    group.addoption("--layerhub-backend", action="append", help="a backend to run on (repeat it; default: all usable)")
    group.addoption("--layerhub-layer", action="append", help="a layer to run (repeat it; default: all)")
    group.addoption("--layerhub-dtype", action="append", help="a float type (repeat it; default: float32 and float64)")
    group.addoption("--layerhub-device", help="the device to run on (default: each backend's own)")
    group.addoption(
        "--layerhub-exhaustive", action="store_true", help="every combination of parameters, not only every pair"
    )
    group.addoption("--layerhub-json", action="store_true", help="print the matrix as one line of JSON, last")
    group.addoption("--layerhub-route", action="append", choices=["kernel", "definition"], help="default: both")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("layerhub_exhaustive"):
        # Read where cases are made, in the processes of pytest-xdist too.
        os.environ["LAYERHUB_EXHAUSTIVE"] = " ".join(config.getoption("layerhub_layer") or ["*"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    fixture = next((name for name in metafunc.fixturenames if name in SUBJECTS), None)
    if fixture is None:
        return
    # Only when this suite is collected, so that pytest runs without it stay as they were.
    from layerhub.registry import registry

    option = metafunc.config.getoption
    backends = option("layerhub_backend") or list(registry().usable())
    dtypes = option("layerhub_dtype") or ["float32", "float64"]
    routes = option("layerhub_route") or ["kernel", "definition"]
    for name in backends:
        registry().backend(name)  # an unknown one is told at once, with what to install
    subjects = _subjects(fixture, option("layerhub_layer"))
    if fixture in DEFINITIONS:
        metafunc.parametrize(fixture, [pytest.param(subject, id=name) for name, subject in subjects])
        return
    device = (option("layerhub_device"),) if fixture == "layerhub_case" else ()
    rows = [
        pytest.param(
            (subject, backend, dtype, route, *device),
            id=f"{backend}-{dtype}-{route}-{name}",
            marks=[
                pytest.mark.xfail(strict=True, raises=AssertionError, reason=known["reason"])
                for known in expected_failures()
                if matches(known, backend, dtype, route, name)
            ],
        )
        for backend in backends
        for name, subject in subjects
        for dtype in dtypes
        for route in routes
    ]
    metafunc.parametrize(fixture, rows)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # A layer that was asked for by name leaves other tests without a subject; pytest would report these as skipped.
    empty = [
        item for item in items if set(SUBJECTS) & set(getattr(item, "fixturenames", ())) and _without_subject(item)
    ]
    if empty:
        items[:] = [item for item in items if item not in empty]
        config.hook.pytest_deselected(items=empty)


def _without_subject(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("skip")
    return mark is not None and "empty parameter set" in mark.kwargs.get("reason", "")


@cache
def expected_failures() -> list[dict[str, str]]:
    """The entries of expected_failures.toml."""
    with open(Path(__file__).parent / "expected_failures.toml", "rb") as file:
        return tomllib.load(file)["failure"]


def matches(known: dict[str, str], backend: str, dtype: str, route: str, name: str) -> bool:
    """Whether an entry speaks of this case."""
    exact = zip((known["backend"], known["dtype"], known["route"]), (backend, dtype, route), strict=True)
    return all(said in ("*", value) for said, value in exact) and name.startswith(known["case"])


def _subjects(fixture: str, names: list[str] | None) -> list[tuple[str, Any]]:
    """What is to be tested, with ids: cases of layers, losses, metrics or optimizers; only named ones, if any are."""
    from layerhub.spec import KINDS
    from layerhub_conformance import test_definitions, test_training
    from layerhub_conformance.cases import corpus

    training = {
        "layerhub_loss": test_training.LOSSES,
        "layerhub_metric": test_training.METRICS,
        "layerhub_optimizer": test_training.OPTIMIZERS,
    }
    specs = training.get(fixture.removesuffix("_definition"))
    if specs is not None:
        return [] if names else [(test_training.said(spec), spec) for spec in specs]
    definitions = {"layerhub_checked": test_definitions.CHECKED, "layerhub_smooth": test_definitions.SMOOTH}
    chosen = {KINDS["layer"].find(name).__name__ for name in names or ()}
    return [(case.id, case) for case in definitions.get(fixture, corpus()) if not chosen or case.layer in chosen]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    results: dict[tuple[str, str, str], list[tuple[bool, float]]] = {}
    for outcome in ("passed", "failed", "xfailed"):
        for report in terminalreporter.stats.get(outcome, []):
            found = dict(getattr(report, "user_properties", [])).get("layerhub")
            if found and report.when == "call":
                key = (found["layer"], found["backend"], found["dtype"])
                results.setdefault(key, []).append(
                    (outcome != "failed", found["worst"] if outcome != "xfailed" else 0.0)
                )
    if results:
        terminalreporter.section("LayerHub conformance")
        terminalreporter.write(matrix(results))
        if terminalreporter.config.getoption("layerhub_json"):
            terminalreporter.write_line("\n" + as_json(results))


def as_json(results: dict[tuple[str, str, str], list[tuple[bool, float]]]) -> str:
    """The matrix as data."""
    rows = [
        {
            "layer": layer,
            "backend": backend,
            "dtype": dtype,
            "run": len(found),
            "passed": sum(ok for ok, _ in found),
            "worst": max(worst for _, worst in found),
        }
        for (layer, backend, dtype), found in sorted(results.items())
    ]
    return json.dumps({"layerhub": rows})


def matrix(results: dict[tuple[str, str, str], list[tuple[bool, float]]]) -> str:
    """Layers by backends: passed / run, and the largest share of its bound that an error used."""
    columns = sorted({(backend, dtype) for _, backend, dtype in results})
    rows = sorted({layer for layer, _, _ in results})
    table = [["layer", *(f"{backend} {dtype}" for backend, dtype in columns)]]
    for layer in rows:
        cells = []
        for backend, dtype in columns:
            found = results.get((layer, backend, dtype), [])
            passed, worst = sum(ok for ok, _ in found), max((w for _, w in found), default=0.0)
            cells.append(
                f"{passed}/{len(found)} {worst:.2f}" + ("" if passed == len(found) else " FAIL") if found else "-"
            )
        table.append([layer, *cells])
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", "passed/run, then the largest error as a share of its bound (1.25 is the limit)", ""])
