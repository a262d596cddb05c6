"""Exploring: it goes on where it stopped, shares layers out among processes, and passes by what cannot be made."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from layerhub_conformance.case import Case
from layerhub_conformance.explore import EXAMPLES, Explorer, explore
from layerhub_conformance.generate import triples
from layerhub_conformance.generate.covering import Cover
from layerhub_conformance.generate.problem import problem_of
from layerhub_conformance.report.model import Result
from layerhub_conformance.session import Session
from layerhub_conformance.trial import Trial

from layerhub.errors import ParameterError
from layerhub.spec import KINDS


@pytest.fixture
def session():
    found = Session(backends=["numpy"], routes=("kernel",), isolated=False)
    yield found
    found.close()


def rounds(file: Path) -> list[tuple[int, str]]:
    rows = map(json.loads, file.read_text().splitlines())
    return [(row["round"], row["layer"]) for row in rows if "round" in row]


def explorer(session: Session, file: Path, seen: list[Case], stop: int) -> Explorer:
    """One that tries nothing, and is stopped after so many cases."""
    found = Explorer(session, file, print)

    def attempt(case: Case) -> list:
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(case)
        found.cases += 1
        return []

    found.attempt = attempt  # type: ignore[method-assign]
    found.resume()
    return found


def test_an_interrupted_run_goes_on_where_it_stopped(session, tmp_path):
    file, layers, late = tmp_path / "explore.jsonl", ["Dense", "Flatten"], time.monotonic() + 3600
    whole: list[Case] = []
    with pytest.raises(KeyboardInterrupt):
        explorer(session, tmp_path / "other.jsonl", whole, 150).run(layers, late)
    for stop in (60, 70):  # amid the third piece of work, which is begun anew
        seen: list[Case] = []
        found = explorer(session, file, seen, stop)
        with pytest.raises(KeyboardInterrupt):
            found.run(layers, late)
        done = rounds(file)
        assert len(done) == len(set(done))
    tried = [case.id for case in whole]
    assert tried[:50] == [c.id for name in layers for c in list(triples(KINDS["layer"].find(name)))[:EXAMPLES]]
    assert seen[0].id == tried[50] and [case.id for case in seen] == tried[50:120]


def failing(case: Case, message: str) -> list[Result]:
    name = Trial("values", case, "numpy", "float32").id
    return [Result(name, case.layer, "layer", "values", case.id, "numpy", "float32", verdict="fail", message=message)]


@pytest.mark.parametrize("message, times", [("no answer within 5 s", 9), ("ValueError: once", 1)])
def test_what_hangs_or_fails_only_once_is_told_and_the_rest_goes_on(session, tmp_path, message, times):
    found = explorer(session, tmp_path / "explore.jsonl", [], 0)
    tried: list[Case] = []

    def attempt(case: Case) -> list[Result]:
        tried.append(case)
        return failing(case, message) if 3 < len(tried) <= 3 + times else []

    found.attempt = attempt  # type: ignore[method-assign]
    assert found._round(1, "Dense", [], time.monotonic() + 3600)
    assert [row["messages"][0].splitlines()[3] for row in found.failures.values()] == [message]
    assert rounds(tmp_path / "explore.jsonl") == [(1, "Dense")] and len(tried) <= EXAMPLES + times


def test_a_line_that_was_cut_short_is_passed_by(session, tmp_path):
    file = tmp_path / "explore.jsonl"
    file.write_text('{"round": 0, "layer": "Dense", "cases": 25, "seconds": 1.5}\n{"round": 1, "lay')
    found = explorer(session, file, [], 0)
    assert found.done == {(0, "Dense")} and found.cases == 25


def test_processes_share_the_layers(tmp_path, capfd):
    layers = ["Flatten", "Permute", "ReLU"]
    assert explore(["numpy"], layers, 0.05, tmp_path, print, workers=2) == 0
    told = capfd.readouterr().out.splitlines()[-1]
    done = rounds(tmp_path / "explore.jsonl")
    assert len(done) == len(set(done)) and {name for _, name in done} == set(layers)
    assert told.endswith(f"0 failures, in {tmp_path / 'explore.jsonl'}") and " cases on numpy in " in told


def test_a_layer_that_no_cases_can_be_made_of_is_refused_by_name(tmp_path):
    with pytest.raises(ParameterError, match="Lambda: no cases can be made"):
        explore(["numpy"], ["Lambda"], 0.01, tmp_path, print)


def test_triples_hold_all_three_values_that_go_together():
    spec = KINDS["layer"].find("UpSampling2D")
    problem = problem_of(spec)
    cover = Cover(problem, 3)
    total = len(cover.left)
    for case in triples(spec):
        cover.seen(problem.read(case))
    assert len(cover.left) < total and all(cover.solve(group) is None for group in list(cover.left))
