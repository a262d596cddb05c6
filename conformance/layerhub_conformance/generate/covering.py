"""Cases that together hold every pair of values, and what they leave out.

Each row begins with a pair that no row has yet, and is completed by the values that bring most such pairs, as far as
the spec lets them go together. Source: Cohen et al., The AETG system, IEEE TSE 23 (1997), 437.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from layerhub.layers import Layer
from layerhub_conformance.case import Case, written
from layerhub_conformance.generate.problem import Chosen, Problem, arguments, problem_of, rules

Literal = tuple[int, int]
"""A variable, by its place among all, and which of its values."""
Group = tuple[Literal, ...]
"""Literals of different variables, in order."""

LOOKED_AT = 5000
"""Of so many groups the best is chosen. All pairs of any layer are fewer."""


class Cover:
    """Groups of ``strength`` values that are still to be seen together.

    infeasible: those of them that the spec does not let go together, as far as they came up.
    """

    def __init__(self, problem: Problem, strength: int = 2):
        self.problem, self.strength = problem, strength
        self.names = list(problem.variables)
        self.place = {name: k for k, name in enumerate(self.names)}
        self.left: dict[Group, None] = dict.fromkeys(self._groups())
        self.infeasible: list[Group] = []

    def _groups(self) -> Iterator[Group]:
        """All groups that are wanted; of values that are not wanted in groups, each by itself."""
        paired = {}
        for name, variable in self.problem.variables.items():
            literals = [(self.place[name], index) for index in range(variable.wanted)]
            paired |= {name: literals[: variable.paired]} if variable.paired else {}
            yield from ((literal,) for literal in literals[variable.paired :])
        for names in itertools.combinations(paired, min(self.strength, len(paired))):
            for group in itertools.product(*(paired[name] for name in names)):
                if self.problem.consistent(self._fixed(group)):
                    yield group

    def _fixed(self, group: Group) -> Chosen:
        return {self.names[place]: index for place, index in group}

    def _literals(self, chosen: Chosen) -> list[Literal]:
        return sorted((self.place[name], index) for name, index in chosen.items())

    def seen(self, chosen: Chosen) -> None:
        """Strike out what an assignment has."""
        literals = self._literals(chosen)
        for size in {1, self.strength}:
            for group in itertools.combinations(literals, size):
                self.left.pop(group, None)

    def rows(self) -> Iterator[Chosen]:
        """Assignments, until nothing is left. The first is the plainest."""
        plain = self.problem.plain()
        self.seen(plain)
        yield plain
        while self.left:
            group = self._next()
            row = self.solve(group)
            if row is not None:
                self.seen(row)
                yield row

    def solve(self, group: Group) -> Chosen | None:
        """An assignment with these values, and many more that are left. None: there is none, and it is left no more."""
        row = self.problem.solve(self._fixed(group), self._order)
        if row is None:
            self.infeasible.append(group)
            del self.left[group]
        return row

    def _next(self) -> Group:
        """The group whose values have most others left. Of very many triples, the best of the first is good enough."""
        groups = list(itertools.islice(self.left, LOOKED_AT))
        count = Counter(itertools.chain.from_iterable(groups))
        return max(groups, key=lambda group: sum(count[literal] for literal in group))

    def _order(self, name: str, chosen: Chosen) -> Sequence[int]:
        """The values of a variable, those first that complete most groups that are left."""
        variable, place = self.problem.variables[name], self.place[name]
        others = [literal for literal in self._literals(chosen) if literal[0] != place]
        rest = list(itertools.combinations(others, self.strength - 1)) if variable.paired else []

        def gain(index: int) -> int:
            own = (place, index)
            return ((own,) in self.left) + sum(tuple(sorted((*group, own))) in self.left for group in rest)

        wanted = sorted(range(variable.wanted), key=gain, reverse=True)
        return [*wanted, *range(variable.wanted, variable.searched)]

    def told(self, group: Group) -> str:
        """A group in words."""
        fixed = self._fixed(group).items()
        return " with ".join(f"{name}={written(self.problem.variables[name].values[index])}" for name, index in fixed)


def covering(spec: type[Layer]) -> list[Case]:
    """Cases with every two values of different variables that the spec lets go together."""
    return list(_covering(spec))


@cache
def _covering(spec: type[Layer]) -> tuple[Case, ...]:
    problem = problem_of(spec)
    return tuple(map(problem.case, Cover(problem).rows()))


def triples(spec: type[Layer]) -> Iterator[Case]:
    """Cases that hold every three values that can go together, made one by one: there are very many."""
    problem = problem_of(spec)
    yield from map(problem.case, Cover(problem, 3).rows())


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    covered: int
    total: int

    def __str__(self) -> str:
        return f"{self.covered}/{self.total}"


@dataclass(frozen=True)
class Coverage:
    """What cases cover of a spec; of what is impossible nothing counts.

    parameters: values by themselves. pairs: values of two variables. rules: those that some case asks.
    missing: what no case has. infeasible: what no case can have.
    """

    parameters: Share
    pairs: Share
    rules: Share
    missing: tuple[str, ...]
    infeasible: tuple[str, ...]


def coverage(spec: type[Layer], cases: Iterable[Case]) -> Coverage:
    """What cases of a layer cover of what its spec declares."""
    problem, asked = problem_of(spec), set()
    cover, values = Cover(problem), Cover(problem, 1)
    counts = [len(c.left) for c in (cover, values)]
    for case in cases:
        chosen = problem.read(case)
        cover.seen(chosen)
        values.seen(chosen)
        asked |= questions(case)
    missing = [c.told(group) for c in (values, cover) for group in list(c.left) if c.solve(group) is not None]
    named = [rule.name for rule in rules(spec)]
    pairs, parameters = (
        Share(count - len(c.infeasible) - len(c.left), count - len(c.infeasible))
        for count, c in zip(counts, (cover, values), strict=True)
    )
    return Coverage(
        parameters, pairs, Share(len(asked), len(named)),
        (*missing, *(f"rule {name}" for name in named if name not in asked)),
        tuple(c.told(group) for c in (values, cover) for group in c.infeasible),
    )  # fmt: skip


def questions(case: Case) -> set[str]:
    """The rules that a case makes a layer ask."""
    layer = case.make()
    sizes = layer.solve(*case.shapes)
    return {rule.name for rule in rules(layer) if arguments(layer, rule, sizes) is not None}
