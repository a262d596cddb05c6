"""Cases that together hold every pair of values, and what they leave out.

Each row begins with a pair that no row has yet, and is completed by the values that bring most such pairs, as far as
the spec lets them go together. Source: Cohen et al., The AETG system, IEEE TSE 23 (1997), 437.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from layerhub_conformance.generate.problem import Chosen, Problem

Literal = tuple[int, int]
"""A variable, by its place among all, and which of its values."""
Group = tuple[Literal, ...]
"""Literals of different variables, in order."""


class Cover:
    """Rows of a problem until every group of ``strength`` values has been seen, or has been found impossible."""

    def __init__(self, problem: Problem, strength: int = 2):
        self.problem, self.strength = problem, strength
        self.names = list(problem.variables)
        self.place = {name: k for k, name in enumerate(self.names)}
        self.left: dict[Group, None] = dict.fromkeys(self.groups())
        self.infeasible: list[Group] = []

    def groups(self) -> Iterator[Group]:
        """All groups that are wanted; of variables that matter little, each value by itself."""
        wanted = {
            name: [(self.place[name], index) for index in range(variable.covered)]
            for name, variable in self.problem.variables.items()
        }
        for name, variable in self.problem.variables.items():
            if not variable.paired:
                yield from ((literal,) for literal in wanted[name])
        paired = [name for name, variable in self.problem.variables.items() if variable.paired]
        for names in itertools.combinations(paired, min(self.strength, len(paired))):
            for group in itertools.product(*(wanted[name] for name in names)):
                if self.problem.consistent(self._fixed(group)):
                    yield group

    def literals(self, chosen: Chosen) -> list[Literal]:
        """What an assignment has, in order."""
        return sorted((self.place[name], index) for name, index in chosen.items())

    def seen(self, chosen: Chosen) -> None:
        """Strike out what an assignment has."""
        literals = self.literals(chosen)
        for size in {1, self.strength}:
            for group in itertools.combinations(literals, size):
                self.left.pop(group, None)

    def rows(self) -> Iterator[Chosen]:
        """Assignments, until nothing is left."""
        plain = self.problem.solve({})
        while plain is not None and self.left:
            group = self._next()
            row = self.problem.solve(self._fixed(group), self._order)
            if row is None:
                self.infeasible.append(group)
                del self.left[group]
                continue
            self.seen(row)
            yield row

    def _fixed(self, group: Group) -> Chosen:
        return {self.names[place]: index for place, index in group}

    def _next(self) -> Group:
        """A group whose values have most others left."""
        count = Counter(literal for group in self.left for literal in group)
        return max(self.left, key=lambda group: sum(count[literal] for literal in group))

    def _order(self, name: str, chosen: Chosen) -> Sequence[int]:
        """The values of a variable, those first that complete most groups that are left."""
        variable, place = self.problem.variables[name], self.place[name]
        others = [literal for literal in self.literals(chosen) if literal[0] != place]
        rest = list(itertools.combinations(others, self.strength - 1)) if variable.paired else [()]

        def gain(index: int) -> int:
            own = (place, index)
            return sum(tuple(sorted((*group, own))) in self.left for group in rest)

        covered = sorted(range(variable.covered), key=gain, reverse=True)
        return [*covered, *range(variable.covered, variable.searched)]
