"""The report of a run: one ``Run`` in memory, and every form of it as files (``write``)."""

from __future__ import annotations

from layerhub_conformance.report.compare import Change, Comparison, compare_runs
from layerhub_conformance.report.files import write
from layerhub_conformance.report.model import FAILING, LIMIT, SCHEMA_VERSION, VERDICTS, Cell, Finding, Result, Run

__all__ = [
    "FAILING",
    "LIMIT",
    "SCHEMA_VERSION",
    "VERDICTS",
    "Cell",
    "Change",
    "Comparison",
    "Finding",
    "Result",
    "Run",
    "compare_runs",
    "write",
]
