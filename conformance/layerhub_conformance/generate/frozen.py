"""The frozen corpus: cases in text files, one id a line, so that what blocks is the same until somebody changes it."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from pathlib import Path

from layerhub.errors import ParameterError
from layerhub.layers import Layer
from layerhub.spec import KINDS
from layerhub_conformance.case import Case
from layerhub_conformance.generate.edges import certifying
from layerhub_conformance.generate.problem import problem_of

CORPUS = Path(__file__).parent.parent / "corpus"


def members() -> list[type[Layer]]:
    """The layers of LayerHub itself whose cases can be made and read back."""
    found = [KINDS["layer"].find(name) for name, origin in KINDS["layer"].origin.items() if origin == "layerhub"]
    return [spec for spec in found if _can_be_read(spec)]


def _can_be_read(spec: type[Layer]) -> bool:
    """Whether cases of it can be made, and be written down: functions cannot."""
    try:
        problem = problem_of(spec)
        return Case.parse(problem.case(problem.plain()).id) is not None
    except ParameterError:
        return False


def freeze() -> dict[Path, str]:
    """The files of the corpus as the specs are now: path and text."""
    lines = defaultdict(list)
    for spec in members():
        lines[spec.__module__.rpartition(".")[2]] += [case.id for case in certifying(spec)]
    return {CORPUS / f"{module}.txt": "\n".join(ids) + "\n" for module, ids in sorted(lines.items())}


@cache
def frozen() -> tuple[Case, ...]:
    """The cases of the files."""
    files = sorted(CORPUS.glob("*.txt"))
    return tuple(Case.parse(line) for file in files for line in file.read_text(encoding="utf-8").splitlines())
