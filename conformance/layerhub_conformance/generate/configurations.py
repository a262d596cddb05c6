"""Everything that a layer can be given, as a strategy of hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies

from layerhub.layers import Layer
from layerhub_conformance.case import Case
from layerhub_conformance.data import SETS
from layerhub_conformance.generate.problem import Chosen, problem_of


def configurations(spec: type[Layer]) -> strategies.SearchStrategy[Case]:
    """Cases of a layer. Each variable's first choice is drawn; the solver makes of them what can go together.

    How weights start and what they are penalised for stays as it is: it changes nothing that is computed from them.
    """
    problem = problem_of(spec)
    wishes = {
        name: strategies.integers(0, variable.searched - 1)
        for name, variable in problem.variables.items()
        if variable.searched > 1 and variable.paired
    }

    def granted(wished: dict[str, Any], data: str) -> Case:
        def order(name: str, chosen: Chosen) -> Sequence[int]:
            first = wished.get(name, 0)
            return [first, *(k for k in range(problem.variables[name].searched) if k != first)]

        return problem.case(problem.plain(order), data)

    return strategies.builds(granted, strategies.fixed_dictionaries(wishes), strategies.sampled_from(list(SETS)))
