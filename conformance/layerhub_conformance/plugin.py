"""The pytest plugin: which backends to certify, what to run, what it adds up to, and the report.

pytest --pyargs layerhub_conformance --layerhub-backend mine -n 2
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from layerhub_conformance.session import Session

DEFINITIONS = ("layerhub_checked", "layerhub_smooth", "layerhub_loss", "layerhub_metric")
"""The fixtures for tests of definitions, which have no backend."""
TIERS = ("smoke", "quick", "certify")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("layerhub", "LayerHub conformance")
    group.addoption("--layerhub-backend", action="append", help="a backend to run on (repeat it; default: all usable)")
    group.addoption("--layerhub-layer", action="append", help="a layer to run (repeat it; default: all)")
    group.addoption(
        "--layerhub-dtype", action="append", help="a float type (repeat it; default: all that checks ask for)"
    )
    group.addoption("--layerhub-device", help="the device to run on (default: each backend's own)")
    group.addoption("--layerhub-route", action="append", choices=["kernel", "definition"], help="default: both")
    group.addoption(
        "--layerhub-check", action="append", help="a check to run, by the beginning of its name (repeat it)"
    )
    group.addoption("--layerhub-case", action="append", help="a case to run, by its id (repeat it)")
    group.addoption("--layerhub-tier", choices=TIERS, default="certify", help="how much to run (default: certify)")
    group.addoption("--layerhub-report", help="a folder for report.json, index.html, junit.xml, summary.md, badge.svg")
    group.addoption("--layerhub-against", help="the report.json of an earlier run, to compare with in the report")
    group.addoption("--layerhub-expected", action="append", help="a file of expected failures, beside the suite's own")
    group.addoption("--layerhub-timeout", type=float, default=60.0, help="seconds that a trial may take (default: 60)")
    group.addoption("--layerhub-shuffle", type=int, help="the seed of an order at random: no verdict may depend on it")
    group.addoption("--layerhub-in-process", action="store_true", help="no process of its own for each backend")
    group.addoption("--layerhub-exhaustive", action="store_true", help="every combination of what is written by hand")
    group.addoption("--layerhub-json", action="store_true", help="print the matrix as one line of JSON, last")
    parser.addini("layerhub_expected_failures", "files of expected failures", type="paths", default=[])


def pytest_configure(config: pytest.Config) -> None:
    config.layerhub_began = time.time()  # type: ignore[attr-defined]
    if config.getoption("layerhub_exhaustive"):
        # Read where cases are made, in the processes of pytest-xdist too.
        os.environ["LAYERHUB_EXHAUSTIVE"] = " ".join(config.getoption("layerhub_layer") or ["*"])


def suite(config: pytest.Config) -> Session:
    """What this process knows of the run; made when the suite is collected: other runs of pytest stay as they are."""
    if not hasattr(config, "layerhub_session"):
        from layerhub_conformance.session import Session

        option = config.getoption
        config.layerhub_session = Session(  # type: ignore[attr-defined]
            tier=option("layerhub_tier"),
            backends=option("layerhub_backend"),
            layers=option("layerhub_layer"),
            dtypes=option("layerhub_dtype"),
            routes=option("layerhub_route"),
            checks=option("layerhub_check"),
            cases=option("layerhub_case"),
            device=option("layerhub_device"),
            limit=option("layerhub_timeout"),
            isolated=not option("layerhub_in_process"),
            began=config.layerhub_began,  # type: ignore[attr-defined]
            expected=[*(option("layerhub_expected") or ()), *map(str, config.getini("layerhub_expected_failures"))],
        )
    return config.layerhub_session  # type: ignore[attr-defined]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    fixture = next((name for name in metafunc.fixturenames if name in ("layerhub_item", *DEFINITIONS)), None)
    if fixture is None:
        return
    session = suite(metafunc.config)
    if fixture in DEFINITIONS:
        metafunc.parametrize(fixture, [pytest.param(s, id=s.id) for s in session.definitions(fixture)])
    else:
        metafunc.parametrize(fixture, [pytest.param(item, id=item.id) for item in session.items()])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # A layer that was asked for by name leaves other tests without a subject; pytest would report these as skipped.
    subjects = {"layerhub_item", *DEFINITIONS}
    empty = [item for item in items if subjects & set(getattr(item, "fixturenames", ())) and _without_subject(item)]
    if empty:
        items[:] = [item for item in items if item not in empty]
        config.hook.pytest_deselected(items=empty)
    if config.getoption("layerhub_shuffle") is not None:
        random.Random(config.getoption("layerhub_shuffle")).shuffle(items)


def _without_subject(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("skip")
    return mark is not None and "empty parameter set" in mark.kwargs.get("reason", "")


@pytest.fixture(scope="session")
def layerhub_session(request: pytest.FixtureRequest) -> Any:
    """The run, whose processes end with it."""
    session = suite(request.config)
    yield session
    session.close()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # Every process has a list, but only the one that all reports come to uses it.
    for name, value in report.user_properties:
        if name == "layerhub" and report.when == "call":
            _results.append(value)


_results: list[str] = []


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or not _results:
        return
    option = session.config.getoption
    outcome = suite(session.config).concluded(_results, option("layerhub_report"), option("layerhub_against"))
    session.config.layerhub_outcome = outcome  # type: ignore[attr-defined]
    if outcome.fails and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    outcome = getattr(terminalreporter.config, "layerhub_outcome", None)
    if outcome is not None:
        terminalreporter.section("LayerHub conformance")
        terminalreporter.write(outcome.text())
        if terminalreporter.config.getoption("layerhub_json"):
            terminalreporter.write_line("\n" + outcome.as_json())
