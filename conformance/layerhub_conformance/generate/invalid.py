"""What a layer must refuse: bad values of each parameter, and for each rule something that breaks it first of all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerhub.errors import LayerHubError
from layerhub.layers import Layer
from layerhub.spec import KINDS
from layerhub_conformance.case import Case, Shape, written
from layerhub_conformance.generate.covering import covering, questions
from layerhub_conformance.generate.problem import Problem, broken, problem_of, rules

SIZES = (0, 1, 2, 3, 4, 5, 7, -1, 9)
"""What is tried in the place of whole numbers."""
TRIED = 60_000
"""So many configurations are looked at for each rule."""

Given = tuple[dict[str, Any], tuple[Shape, ...]]
"""Parameters and shapes."""


@dataclass(frozen=True)
class Invalid:
    """Something that a layer must refuse. shapes: None where it must be refused at construction. says: the words."""

    layer: str
    config: Mapping[str, Any]
    shapes: tuple[Shape, ...] | None
    breaks: str
    says: str

    @property
    def id(self) -> str:
        """One line that says it all."""
        shapes = "" if self.shapes is None else ";" + "+".join(map(written, self.shapes))
        return f"{written({'class_name': self.layer, 'config': dict(self.config)})}{shapes} breaks {self.breaks}"


def invalid(spec: type[Layer]) -> list[Invalid]:
    """Every value that a domain names as none of its own, and for each rule what breaks it before any other."""
    return [*bad_values(spec), *(found for rule in rules(spec) if (found := bad_rule(spec, rule.name)))]


def bad_values(spec: type[Layer]) -> list[Invalid]:
    """The plainest configuration with a bad value in it."""
    problem = problem_of(spec)
    plain = problem.config(problem.plain())
    return [
        Invalid(
            spec.__name__, plain | {name: value}, None, name,
            f"{spec.__name__}: {name} must be {parameter.domain.text}, not {value!r}",
        )
        for name, parameter in spec.parameters.items()
        for value in parameter.domain.invalid
    ]  # fmt: skip


def bad_rule(spec: type[Layer], name: str, starts: Sequence[Case] = ()) -> Invalid | None:
    """What breaks a rule before any other, with the fewest changes of a case that is right. starts: such cases."""
    problem = problem_of(spec)
    asked = [case for case in starts or covering(spec) if name in questions(case)]
    wave: deque[Given] = deque((dict(case.config), case.shapes) for case in asked)
    read = set().union(*(problem.reads(config, name, shapes) for config, shapes in wave))
    seen: set[str] = set()
    while wave and len(seen) < TRIED:
        given = wave.popleft()
        for config, shapes in _changed(spec, given, read):
            key = written((config, shapes))
            if key in seen:
                continue
            seen.add(key)
            found, at_once = _first_broken(problem, config, shapes)
            if found == name:
                code, _, words = name.partition("_")
                says = f"{code} {words.replace('_', ' ')}, but "
                return Invalid(spec.__name__, config, None if at_once else shapes, name, says)
            wave.append((config, shapes))
    return None


def _first_broken(problem: Problem, config: dict[str, Any], shapes: tuple[Shape, ...]) -> tuple[str, bool]:
    """The first rule that does not hold ("" if none, or if something else is wrong), and whether shapes matter not."""
    try:
        layer, _ = problem.traced(config)
        if found := broken(layer, {}):
            return found, True
        return broken(layer, layer.solve(*shapes)), False
    except (LayerHubError, ArithmeticError, LookupError, TypeError, ValueError):
        return "", False


def _changed(spec: type[Layer], given: Given, names: set[str]) -> Iterator[Given]:
    """A case with one thing changed: a parameter, a size, an axis, an input."""
    config, shapes = given
    for name in spec.parameters:
        if name in names:
            parameter = spec.parameters[name]
            now = config.get(name, parameter.default)
            others = [value for value in parameter.domain.valid if value != now]
            yield from ((config | {name: value}, shapes) for value in (*others, *near(now)))
    yield from ((config, changed) for changed in near(shapes))


def near(value: Any) -> list[Any]:
    """What differs from a value in one place: another number, a letter or a part more or less, a flag of a spec."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [size for size in SIZES if size != value]
    if isinstance(value, (str, tuple)):
        wrap = (lambda part: part) if isinstance(value, str) else (lambda part: (part,))
        others = (lambda part: [*dict.fromkeys(value), "z"]) if isinstance(value, str) else near
        return [
            value[:at] + middle + value[at + 1 :]
            for at, part in enumerate(value)
            for middle in (*map(wrap, others(part)), value[:0], wrap(part) * 2)
        ]
    if isinstance(value, dict) and value.get("class_name", "") in KINDS["layer"]:
        flags = KINDS["layer"].find(value["class_name"]).parameters.items()
        own = value.get("config", {})
        return [
            value | {"config": own | {name: not own.get(name, p.default)}}
            for name, p in flags
            if isinstance(p.default, bool)
        ]
    return [1, 2, (1, 2), (2, 2, 2)]
