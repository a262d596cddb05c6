"""JUnit XML, which continuous integration reads."""

from __future__ import annotations

import re
from collections import defaultdict
from xml.etree import ElementTree

from layerhub_conformance.report.figures import faults
from layerhub_conformance.report.model import FAILING, Cell, Result, Run
from layerhub_conformance.report.wording import number, share

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) has no way to write."""


def junit(run: Run) -> str:
    """A suite for each backend and type, a case for each trial, and one for each cell that fails by itself."""
    root = ElementTree.Element("testsuites", name="layerhub conformance")
    suites: dict[tuple[str, str], list[ElementTree.Element]] = defaultdict(list)
    explained = set()
    for result in run.results:
        suites[result.backend, result.dtype].append(_trial(result))
        if result.verdict in FAILING:
            spec = (result.kind, result.subject, result.backend, result.dtype)
            explained |= {(*spec, d) for d in result.directions if result.verdict_in(d) in FAILING}
    for cell in run.cells:
        place = (cell.kind, cell.subject, cell.backend, cell.dtype, cell.direction)
        if cell.verdict in FAILING and place not in explained:
            suites[cell.backend, cell.dtype].append(_cell(cell))
    for (backend, dtype), cases in sorted(suites.items()):
        suite = ElementTree.SubElement(
            root, "testsuite", name=_legal(f"{backend} {dtype}"), timestamp=_legal(run.created)
        )
        suite.extend(cases)
        _count(suite, cases)
    _count(root, [case for cases in suites.values() for case in cases])
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _count(element: ElementTree.Element, cases: list[ElementTree.Element]) -> None:
    element.set("tests", str(len(cases)))
    element.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    element.set("errors", "0")
    element.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _trial(result: Result) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        classname=_legal(f"{result.backend}.{result.dtype}.{result.subject}"),
        name=_legal(f"{result.check}: {result.case} [{result.route}, {result.mode}]"),
        time=f"{result.seconds:.4f}",
    )
    if result.verdict in FAILING:
        failure = ElementTree.SubElement(case, "failure", type=result.verdict, message=_legal(_first(result)))
        failure.text = _legal("\n".join(_lines(result)))
    elif result.verdict != "pass":
        ElementTree.SubElement(case, "skipped", type=result.verdict, message=_legal(result.message or result.verdict))
    return case


def _cell(cell: Cell) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        classname=_legal(f"{cell.backend}.{cell.dtype}.{cell.subject}"),
        name=f"all of {cell.direction}",
        time="0",
    )
    message = "; ".join(cell.reasons) or f"{cell.failed} of {cell.run} failed"
    ElementTree.SubElement(case, "failure", type=cell.verdict, message=_legal(message))
    return case


def _first(result: Result) -> str:
    if result.message:
        return result.message.splitlines()[0]
    return "; ".join(f"{f.what}: {share(f.worst)} of its bound" for f in faults(result)) or result.verdict


def _lines(result: Result) -> list[str]:
    lines = [result.message] if result.message else []
    for f in faults(result):
        if f.worst is not None:
            lines.append(
                f"{f.what} ({f.direction}): {share(f.worst)} of its bound, {f.pattern or 'no pattern'}; "
                f"at {list(f.index)} {number(f.got)}, not {number(f.expected)} within {number(f.bound, 3)}"
            )
        lines += [f.detail] if f.detail and f.detail != result.message else []
    return [*lines, result.replay]


def _legal(text: str) -> str:
    return NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
