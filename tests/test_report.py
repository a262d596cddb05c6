"""The report: what goes in comes out, in every form, and nothing that goes in can break a form."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import layerhub_conformance.report as package
import pytest
from layerhub_conformance.report import Cell, Finding, Result, Run, compare_runs, write
from layerhub_conformance.report.badge import badge
from layerhub_conformance.report.figures import disagreements, figures
from layerhub_conformance.report.junit import junit
from layerhub_conformance.report.markdown import MOST, summary
from layerhub_conformance.report.page import page
from layerhub_conformance.report.sample import BACKENDS, sample

from layerhub.errors import DataError

ASSETS = Path(package.__file__).parent
HOSTILE = "</script><script>alert(1)</script><!--data-->]]>&amp;|`*_\"'\x00\x1b\ud7ff‮ \n@@title@@"


def trial(subject: str = "Dense", backend: str = "numpy", verdict: str = "pass", **said: Any) -> Result:
    """One trial of the smallest kind."""
    given = {"id": f"{subject}-{backend}", "kind": "layer", "check": "values", "case": f"{subject}();(1,)", **said}
    return Result(subject=subject, backend=backend, dtype="float32", verdict=verdict, **given)


def cell(subject: str = "Dense", backend: str = "numpy", verdict: str = "pass", **said: Any) -> Cell:
    """One cell of the smallest kind."""
    return Cell(
        subject, backend, "float32", said.pop("direction", "forward"), verdict, **{"run": 1, "passed": 1, **said}
    )


def wrong(what: str = "output 0", worst: float = 3.0, direction: str = "forward") -> Finding:
    """An array that fails."""
    return Finding(what, direction, False, worst, index=(0, 1), got=2.0, expected=1.0, bound=1e-7, pattern="tail")


def run(results: list[Result] = (), cells: list[Cell] = (), **said: Any) -> Run:
    """A run of the smallest kind."""
    given = {"registry": {"layer": ["Dense", "Dropout"]}, "backends": {"numpy": {"versions": {"numpy": "2"}}}, **said}
    return Run(
        "2026-01-02T03:04:05+00:00",
        "0.1",
        "0.1",
        "smoke",
        "layerhub conformance",
        results=[*results],
        cells=[*cells],
        **given,
    )


def numberless(item: Cell | Result) -> str:
    """A cell or trial in a form in which NaN equals NaN."""
    return repr(item)


@pytest.fixture(scope="module")
def small() -> Run:
    return sample(layers=20, cases=8)


class Page(HTMLParser):
    """What a browser would see of a page: elements, attributes and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.last = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.last = tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.last, []).append(data)

    @property
    def data(self) -> dict[str, Any]:
        """What the script reads."""
        return json.loads(gzip.decompress(base64.b64decode(self.texts["script"][0])))


# ---- as data ----


def test_a_run_comes_back_from_its_file(small, tmp_path):
    small.save(tmp_path / "report.json")
    again = Run.load(tmp_path / "report.json")
    assert again.to_json() == small.to_json()
    assert [numberless(c) for c in again.cells] == [numberless(c) for c in small.cells]
    assert [numberless(r) for r in again.results] == [numberless(r.slim()) for r in small.results]


def test_numbers_that_json_lacks_come_back(tmp_path):
    found = Finding(right=False, worst=math.nan, got=math.inf, expected=-math.inf, bound=0.0)
    run([trial(verdict="fail", findings=[found])]).save(tmp_path / "report.json")
    json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    (back,) = Run.load(tmp_path / "report.json").results[0].findings
    assert math.isnan(back.worst) and (back.got, back.expected, back.bound) == (math.inf, -math.inf, 0.0)


def test_a_passing_trial_keeps_one_finding_of_each_direction():
    found = [
        Finding(
            "output 0", worst=0.2, resolution=1e-6, rms=0.3, mean=0.1, size=3, index=(1,), detail="long", varied=False
        ),
        Finding("output 1", worst=0.5, resolution=1e-7, rms=0.1, mean=-0.1, size=1, undecided=2, grade="B"),
        Finding("gradient of x", "gradient", worst=math.nan),
    ]
    forward, gradient = trial(findings=found).slim().findings
    assert forward == Finding(
        worst=0.5,
        resolution=1e-7,
        rms=pytest.approx(math.sqrt(0.07)),
        mean=pytest.approx(0.05),
        size=4,
        undecided=2,
        grade="B",
    )
    assert gradient.direction == "gradient" and math.isnan(gradient.worst) and gradient.resolution is None
    assert trial(verdict="fail", findings=found).slim().findings == tuple(found)


def test_a_trial_passes_in_the_direction_in_which_nothing_is_wrong():
    failing = trial(verdict="fail", findings=[Finding("output 0"), wrong("gradient of x", direction="gradient")])
    assert [failing.verdict_in(d) for d in ("forward", "gradient")] == ["pass", "fail"]
    raised = trial(verdict="fail", findings=[Finding("output 0")], message="boom")
    assert raised.verdict_in("forward") == "fail"
    doubt = cell(verdict="mistrusted", reasons=["constant outputs"])
    assert junit(run([failing], [doubt])).count("<failure") == 2
    assert len(compare_runs(run(), run([failing], [doubt])).newly_failing) == 2


def test_what_is_no_report_is_told(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("{")
    with pytest.raises(DataError, match="holds no JSON"):
        Run.load(path)
    with pytest.raises(DataError, match="schema_version 1, not 7"):
        Run.from_json({**run().to_json(), "schema_version": 7})
    with pytest.raises(DataError, match=r"no report of the conformance suite.*surprise"):
        Run.from_json({**run().to_json(), "surprise": 1})
    with pytest.raises(DataError, match="schema_version"):
        Run.from_json([])


def test_the_schema_describes_what_is_written(small):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ASSETS / "schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    data = small.to_json()
    validator.validate(data)
    for broken in ({**data, "surprise": 1}, {**data, "cells": [{"subject": "Dense"}]}, {**data, "seconds": None}):
        assert not validator.is_valid(broken)


def test_the_schema_names_every_field():
    schema = json.loads((ASSETS / "schema.json").read_text())
    assert set(schema["properties"]) == {f.name for f in fields(Run)}
    for cls in (Cell, Result, Finding):
        assert set(schema["$defs"][cls.__name__.lower()]["properties"]) == {f.name for f in fields(cls)}


# ---- figures ----


def test_the_denominator_is_the_registry():
    told = figures(run([trial()], [cell(), cell(direction="gradient", verdict="xfail")]))
    assert told.standings == {("layer", "Dense"): "xfail", ("layer", "Dropout"): "not run"}
    assert told.headline == "0 of 2 specs pass, none fails"
    assert figures(run()).verdict == "not run"
    assert figures(run(cells=[cell(verdict="mistrusted")])).verdict == "fail"
    assert figures(run([trial(verdict="fail")], [cell(verdict="fail")])).headline == "1 fail, 0 pass, of 2 specs"


def test_a_spec_stands_as_its_worst_cell():
    order = ("fail", "mistrusted", "xfail", "pass", "unsupported")
    for k, verdict in enumerate(order):
        cells = [cell(backend=str(j), verdict=v) for j, v in enumerate(order[k:])]
        assert figures(run(cells=cells)).standings["layer", "Dense"] == verdict


def test_who_disagrees():
    def on(backends: str, failing: str, subject: str) -> list[Result]:
        return [
            trial(subject, b, "fail" if b in failing.split() else "pass", findings=[wrong()] if b in failing else [])
            for b in backends.split()
        ]

    groups = disagreements(
        run(on("a b c", "b", "One") + on("a b c", "a c", "Two") + on("a b", "a b", "All") + on("c", "c", "Lonely"))
    )
    assert {who: [row.subject for row in rows] for who, rows in groups.items()} == {
        "all 2 backends: suspect the reference": ["All"],
        "a and c": ["Two"],
        "b alone": ["One"],
        "c, which alone ran it": ["Lonely"],
    }
    assert next(iter(groups)).startswith("all ")
    assert groups["b alone"][0].what == "output 0" and groups["b alone"][0].worst == 3.0


def test_a_trial_that_raised_disagrees_too():
    (rows,) = disagreements(run([trial(verdict="fail", message="boom"), trial(backend="b")])).values()
    assert (rows[0].what, rows[0].failing, rows[0].ran) == ("values", ("numpy",), ("b", "numpy"))


# ---- JUnit, Markdown, badge ----


def test_junit_counts_what_happened(small):
    root = ElementTree.fromstring(junit(small).split("\n", 1)[1])
    suites = root.findall("testsuite")
    assert len(suites) == len(BACKENDS) * 2
    for element in (root, *suites):
        cases = element.findall(".//testcase")
        assert int(element.get("tests")) == len(cases)
        assert int(element.get("failures")) == sum(c.find("failure") is not None for c in cases)
        assert int(element.get("skipped")) == sum(c.find("skipped") is not None for c in cases)
        assert float(element.get("time")) == pytest.approx(sum(float(c.get("time")) for c in cases), abs=1e-3)
    told = figures(small)
    alone = sum(bool(c.reasons) for c in small.cells)
    assert int(root.get("failures")) == told.trials["fail"] + alone
    assert int(root.get("skipped")) == told.trials["xfail"] + told.trials["unsupported"]
    assert int(root.get("tests")) == len(small.results) + alone


def test_junit_says_what_is_wrong_and_how_to_replay_it():
    text = junit(run([trial(verdict="fail", findings=[wrong()], replay="layerhub conformance --case 'Dense()'")]))
    failure = ElementTree.fromstring(text.split("\n", 1)[1]).find(".//failure")
    assert failure.get("message") == "output 0: 3.00 of its bound"
    assert failure.text == (
        "output 0 (forward): 3.00 of its bound, tail; at [0, 1] 2, not 1 within 1e-07\n"
        "layerhub conformance --case 'Dense()'"
    )


def test_a_cell_that_no_trial_explains_fails_in_junit():
    text = junit(run([trial()], [cell(verdict="mistrusted", reasons=["nothing ran"])]))
    failure = ElementTree.fromstring(text.split("\n", 1)[1]).find(".//failure")
    assert (failure.get("type"), failure.get("message")) == ("mistrusted", "nothing ran")


def test_the_summary_tells_kinds_of_failures_once(small):
    text = summary(small, figures(small), compare_runs(small, small))
    assert text.startswith("# ❌ ")
    assert text.count("- **Conv2DTranspose** on torch") == 1
    assert "| all 4 backends: suspect the reference |" in text
    assert "errors are 6 times larger than on correct backends" in text
    assert "- loss: " in text and "### Newly failing: none" in text
    many = run([trial(f"Layer{k}", verdict="fail", message="boom") for k in range(MOST + 3)])
    assert "… and 3 more kinds, in report.json" in summary(many, figures(many))
    assert summary(run([trial()], [cell()]), figures(run([trial()], [cell()]))).startswith("# ✅ ")


def test_the_badge_has_the_colour_of_the_run():
    both = [cell(), cell("Dropout")]
    for cells, message in (
        (both, "2 of 2 specs"),
        (both[:1], "1 of 2 specs"),
        ([*both, cell(direction="gradient", verdict="fail")], "1 of 2 specs fail"),
    ):
        image = ElementTree.fromstring(badge(figures(run([trial()], cells))))
        assert image.get("aria-label") == f"conformance: {message}"
    colours = {re.findall('fill="(#[0-9a-f]{6})"', badge(figures(run([trial()], c))))[0] for c in (both, both[:1], [])}
    assert len(colours) == 2


# ---- two runs ----


def test_a_run_differs_in_nothing_from_itself(small):
    assert not any(changes for _, changes in compare_runs(small, small))
    assert "Newly failing: none" in compare_runs(small, small).text()


def test_what_fails_anew_what_is_fixed_and_what_is_gone():
    names = ("Stays", "Breaks", "Mends", "Goes", "Comes")
    old, new = (
        run([trial(name, verdict=verdict) for name, verdict in zip(names, verdicts, strict=True) if verdict])
        for verdicts in (("fail", "pass", "fail", "fail", ""), ("fail", "fail", "pass", "", "fail"))
    )
    found = compare_runs(old, new)
    assert [(c.name.split("(")[0], c.old, c.new) for c in found.newly_failing] == [
        ("values: Breaks", "pass", "fail"),
        ("values: Comes", "not run", "fail"),
    ]
    assert [(c.name.split("(")[0], c.old, c.new) for c in found.fixed] == [("values: Mends", "fail", "pass")]
    assert [(c.name.split("(")[0], c.new) for c in found.gone] == [("values: Goes", "not run")]
    assert "Newly failing: 2\n  values: Breaks" in found.text()
    assert "  and 1 more" in found.text(most=1)


def test_a_cell_is_named_where_no_trial_explains_it():
    old = run([trial()], [cell(), cell("Dropout")])
    doubt = cell("Dropout", verdict="mistrusted", reasons=["constant outputs"])
    new = run([trial(verdict="fail")], [cell(verdict="fail"), doubt])
    names = [(c.name, c.new) for c in compare_runs(old, new).newly_failing]
    assert names == [
        ("values: Dense();(1,) on numpy, float32, kernel, eager", "fail"),
        ("Dropout (layer) on numpy, float32, forward", "mistrusted (constant outputs)"),
    ]


def test_errors_that_grew_and_cells_that_slowed():
    old = run(
        cells=[cell(worst=0.2, seconds=1.0), cell("Dropout", worst=0.001, seconds=0.01), cell("Add", seconds=1.0)]
    )
    new = run(
        cells=[
            cell(worst=0.8, seconds=4.0),
            cell("Dropout", worst=0.01, seconds=0.05),
            cell("Add", worst=math.nan, seconds=3.0, run=3),
        ]
    )
    found = compare_runs(old, new)
    assert [(c.name[:5], c.factor) for c in found.larger_errors] == [("Dense", pytest.approx(4.0))]
    assert [(c.name[:5], c.old, c.new) for c in found.slower] == [("Dense", "1.0 s", "4.0 s")]
    elsewhere = compare_runs(replace(old, machine={"cpu": "another"}), new)
    assert not elsewhere.slower and "different machines" in elsewhere.text()


def test_an_error_that_became_nan_has_grown():
    found = compare_runs(run(cells=[cell(worst=0.2)]), run(cells=[cell(worst=math.nan, verdict="fail")]))
    assert [(c.old, c.new) for c in found.larger_errors] == [("0.20 of the bound", "NaN")]


# ---- the page ----


def test_the_page_holds_the_whole_registry_and_every_trial(small):
    data = Page(page(small, figures(small))).data
    assert {(kind, name) for kind, name, _ in data["specs"]} == {
        (k, n) for k, names in small.registry.items() for n in names
    }
    assert [verdict for _, name, verdict in data["specs"] if name == "InputLayer"] == ["not run"]
    assert len(data["results"]["text"]["case"]) == len(small.results)
    texts, results = data["texts"], data["results"]["text"]
    for k, result in enumerate(small.results):
        assert texts[results["case"][k]] == result.case
        assert texts[results["replay"][k]].replace("\0", result.case) == result.replay
    assert data["of"] == sorted(data["of"]) and len(data["of"]) == len(data["findings"]["data"]["worst"])


def test_the_page_asks_nobody_for_anything(small):
    text = page(small, figures(small), compare_runs(small, small))
    seen = Page(text)
    assert not re.search(
        r"""(src|href)=["']?(?!#)|url\(|@import|\bimport\(|fetch\(|XMLHttp""", text.replace('href="#', "#")
    )
    assert {attributes.get("href", "#")[0] for _, attributes in seen.found} == {"#"}
    (policy,) = (
        a["content"] for t, a in seen.found if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for asset in ("page.js", "page.css"):
        digest = hashlib.sha256((ASSETS / asset).read_bytes()).digest()
        assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
        assert (ASSETS / asset).read_text() in text


def test_what_is_shipped_is_small():
    assert sum((ASSETS / name).stat().st_size for name in ("page.js", "page.css")) < 25_000


def test_forty_thousand_trials_make_a_small_page():
    large = sample()
    assert len(large.results) == 40_000
    assert len(page(large, figures(large))) < 2_000_000


def test_nothing_in_a_run_is_taken_for_markup():
    found = replace(wrong(HOSTILE), detail=HOSTILE, pattern=HOSTILE)
    hostile = Run(
        *[HOSTILE] * 5,
        machine={HOSTILE: HOSTILE},
        backends={HOSTILE: {"versions": {HOSTILE: HOSTILE}, "devices": [HOSTILE], "lacks": {HOSTILE: HOSTILE}}},
        registry={HOSTILE: [HOSTILE], "layer": []},
        results=[
            Result(*[HOSTILE] * 9, "fail", HOSTILE, 1.0, (HOSTILE,), (found,), HOSTILE),
            Result(*[HOSTILE] * 9, "unsupported", HOSTILE),
        ],
        cells=[Cell(*[HOSTILE] * 3, "forward", "fail", reasons=(HOSTILE,), grade=HOSTILE, kind=HOSTILE)],
        coverage={HOSTILE: {HOSTILE: [1, 2]}},
    )
    harmless = run(
        [trial(verdict="fail", findings=[wrong()])], [cell(verdict="fail")], coverage={"Dense": {"rules": [1, 2]}}
    )
    for each in (hostile, harmless):
        each.results.append(trial("Other", verdict="fail"))
    text = page(hostile, figures(hostile), compare_runs(harmless, hostile))
    tags = [tag for tag, _ in Page(text).found]
    assert tags.count("script") == 2 and not [a for _, a in Page(text).found if any(k.startswith("on") for k in a)]
    assert HOSTILE in Page(text).data["texts"]
    ElementTree.fromstring(junit(hostile).split("\n", 1)[1])
    ElementTree.fromstring(badge(figures(hostile)))
    code_spans = r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)"
    text = re.sub(code_spans, "", summary(hostile, figures(hostile), compare_runs(harmless, hostile)))
    assert re.search(r"\\<script", text) and not re.search(r"(?<!\\)<script", text)


def test_write_makes_every_form(small, tmp_path):
    paths = write(small, tmp_path / "new" / "folder", before=small)
    assert [path.name for path in paths] == ["report.json", "junit.xml", "summary.md", "badge.svg", "index.html"]
    assert all(path.stat().st_size for path in paths)
    assert 'id="compared"' in paths[-1].read_text(encoding="utf-8")
    assert Run.load(paths[0]).to_json() == small.to_json()
