"""What a layer can be given, as a finite constraint problem, and a solver for it.

The variables are the layer's parameters, the sizes of its inputs' axes, masks, initial states and training. What may
go together only the spec knows: its rules, its construction and its shapes are asked. A refusal is explained by what
the refusing rule has read, so each one rules out all assignments that agree in that (a *nogood*): the solver backs up
to the variables that a refusal depends on, and never runs into it twice. Source: Dechter, Enhancement schemes for
constraint processing: backjumping, learning, and cutset decomposition, Artificial Intelligence 41 (1990), 273.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from layerhub.errors import LayerHubError, ParameterError
from layerhub.layers import Layer
from layerhub.spec.base import REQUIRED, Definition, Parameter, Spec
from layerhub.spec.layer import In
from layerhub_conformance.case import Case, Shape, written

COVERED = 4
"""So many values of a parameter are covered in pairs; the others each by itself, for rows would become many."""
SIZES = (3, 4, 5)
"""Sizes of axes to be covered; each axis begins with another one of them."""
BATCHES = (2, 3, 1)
SPARE = (2, 1, 6, 7, 8, 9, 10, 12, 16, 32)
"""Sizes that are taken where no other one will do."""
FREE, AMID, ALIKE = (1, 2, 0, 3), (0, 1), (1, 2, 0)
"""How many axes stand where a pattern leaves it open: at an end, amid others, in one of many inputs."""
PATTERNS = ("none", "left", "right", "middle", "row", "all")
PAIRED_PATTERNS = ("none", "left", "row", "all")
"""Patterns of masks of one input, and of each of several."""

GIVEN, STATES, TRAINING = "inputs given", "initial states", "in training"

Chosen = dict[str, int]
"""For each variable, which of its values."""
Order = Callable[[str, Chosen], Sequence[int]]


@dataclass
class Variable:
    """One choice. values: the plainest first.

    wanted: how many of them cases must have. paired: how many of these together with those of all other variables.
    place: the input that it is of, by position. searched: how many values the solver tries by itself.
    """

    name: str
    values: list[Any]
    wanted: int
    paired: int
    place: int | None = None
    searched: int = field(init=False)

    def __post_init__(self) -> None:
        self.searched = len(self.values)

    @cached_property
    def index(self) -> dict[str, int]:
        return {written(value): k for k, value in enumerate(self.values)}

    def find(self, value: Any) -> int:
        """Which value it is; one that the solver would not try by itself is taken in."""
        key = written(value)
        if key not in self.index:
            self.index[key] = len(self.values)
            self.values.append(value)
        return self.index[key]


def canonical(spec: type[Layer], parameter: Parameter, value: Any) -> Any:
    """A value as the spec keeps it. Raises TypeError, ValueError or LookupError where it is none for this spec."""
    try:
        return parameter.domain.accept(value, object.__new__(spec))
    except (TypeError, ValueError, LookupError, AttributeError):
        if value is None and parameter.default is None:
            return None
        raise


def candidates(spec: type[Layer], parameter: Parameter) -> list[Any]:
    """The values of a parameter that cases have: its default, those that its domain names, mixtures of these."""
    named = [] if parameter.default is REQUIRED else [parameter.default]
    named += parameter.domain.valid
    found: dict[str, Any] = {}
    for value in named:
        try:
            found.setdefault(written(canonical(spec, parameter, value)), value)
        except (TypeError, ValueError, LookupError):
            continue  # not for this spec: its rank may be another
    first, *rest = found.values() or [None]
    mixed = [canonical(spec, parameter, value) for value in found.values()]
    found = {written(canonical(spec, parameter, value)): value for value in (first, *mixtures(mixed), *rest) if found}
    if not found:
        raise ParameterError(
            f"{spec.__name__}: no cases can be made, for no value is known that {parameter.name} may have; "
            f"name some in its domain: Annotated[…, Domain({parameter.domain.text!r}, …, valid=(…))]"
        )
    return list(found.values())


def mixtures(values: Sequence[Any]) -> list[Any]:
    """Of tuples with all parts alike, such as (2, 2) and (3, 3), those whose parts differ: (2, 3), (3, 2)."""
    alike = [value for value in values if isinstance(value, tuple) and len(leaves(value)) > 1 == len({*leaves(value)})]
    if len(alike) < 2:
        return []
    parts = [leaves(value)[0] for value in alike]
    rotated = (itertools.islice(itertools.cycle(parts), k, None) for k in range(len(parts)))
    return [shaped(alike[0], stream) for stream in rotated]


def leaves(value: Any) -> list[Any]:
    """The numbers of a nested tuple."""
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, tuple) else [value]


def shaped(like: Any, stream: Iterator[Any]) -> Any:
    """Numbers in the nesting of a tuple."""
    return tuple(shaped(part, stream) for part in like) if isinstance(like, tuple) else next(stream)


def axes_of(layer: type[Layer] | Layer, declared: In) -> tuple[str, ...]:
    """The words of an input's pattern, the batch first. layer: where the data format is known."""
    pattern = layer._pattern(declared) if isinstance(layer, Layer) else declared.pattern
    return pattern.words if pattern.words[0] != "..." else ("n", *pattern.words)


def is_open(word: str) -> bool:
    """Whether a word of a pattern stands for several axes."""
    return word == "..." or word.startswith("*")


class Problem:
    """All that a layer can be given."""

    def __init__(self, spec: type[Layer]):
        self.spec = spec
        self.variables: dict[str, Variable] = {}
        self.defaults: dict[str, str] = {}
        self.nogoods: dict[tuple[str, int], list[Mapping[str, int]]] = {}
        self._structure()
        self._parameters()
        self._sizes()
        self._extras()

    # Variables

    def _add(
        self, name: str, values: Sequence[Any], wanted: int | None = None, paired: int | None = None, **options: Any
    ) -> None:
        wanted = len(values) if wanted is None else wanted
        self.variables[name] = Variable(name, list(values), wanted, wanted if paired is None else paired, **options)

    @property
    def slots(self) -> list[tuple[str, In]]:
        """The inputs, each with a name; of an input of many there are three."""
        return [
            (f"{declared.name}{k}" if declared.many else declared.name, declared)
            for declared in self.spec.inputs
            for k in range(3 if declared.many else 1)
        ]

    @cached_property
    def lengths(self) -> list[str]:
        """The sizes along which things are laid out one after the other: time, and the axes of an image."""
        names = [f"size {name}.{k}" for name, declared in self.slots for k in range(self.spec.rank or 0)]
        return [name for name in self.variables if name.startswith("size t") or name in names]

    @cached_property
    def features(self) -> str | None:
        """The size of the first input's last axis; where axes are open, of the first of them."""
        first = next((name for name, declared in self.slots if declared.kind != "bool"), "")
        own = [name for name in self.variables if name.startswith("size ") and self.variables[name].place == 0]
        own = [name for name in own if name not in self.lengths and name != "size n"]
        named = [name for name in own if not name.startswith(f"size {first}.")]
        return (named or own or [None])[-1 if named else 0]

    def _structure(self) -> None:
        """How many inputs and axes there are."""
        many = any(declared.many for declared in self.spec.inputs)
        needed = sum(not declared.optional for declared in self.spec.inputs)
        self._add(GIVEN, (2, 3, 1) if many else range(needed, len(self.slots) + 1))
        for place, (name, declared) in enumerate(self.slots):
            words = declared.pattern.words
            if "..." in words or (self.spec.rank is None and any(map(is_open, words))):
                counts = ALIKE if declared.many else AMID if "..." in words[1:-1] else FREE
                self._add(f"axes of {name}", counts, place=place)

    def _parameters(self) -> None:
        for name, parameter in self.spec.parameters.items():
            if name == "dtype":
                continue
            values = candidates(self.spec, parameter)
            if parameter.default is not REQUIRED:
                self.defaults[name] = written(canonical(self.spec, parameter, parameter.default))
            self._add(name, values, paired=0 if self._quiet(parameter) else min(len(values), COVERED))

    def _quiet(self, parameter: Parameter) -> bool:
        """Whether a parameter is of no consequence for what is computed from given weights."""
        kept = [canonical(self.spec, parameter, value) for value in candidates(self.spec, parameter)]
        starts = any(isinstance(value, Spec) and value.kind.name not in ("layer", "activation") for value in kept)
        moves = "training" in self.spec.extras or hasattr(self.spec, "compose")
        return starts or parameter.name in ("name", "seed") or (parameter.name == "trainable" and not moves)

    def _sizes(self) -> None:
        position = 0
        for place, (name, declared) in enumerate(self.slots):
            for word in axes_of(self.spec, declared):
                count = self.variables.get(f"axes of {name}")
                several = max(count.values) if count else self.spec.rank or 0
                names = [f"size {name}.{k}" for k in range(several)] if is_open(word) else [f"size {word}"]
                for axis in names:
                    if axis in self.variables or word.isdigit():
                        continue
                    plain = BATCHES if word == "n" else _rotated(SIZES, position)
                    spare = (size for size in SPARE if size not in plain)
                    covered = min(2, len(plain)) if word == "..." else len(plain)
                    self._add(axis, (*plain, *spare), covered, place=place)
                    position += word != "n"

    def _extras(self) -> None:
        composite = hasattr(self.spec, "compose")
        rule = getattr(self.spec, "mask", None)
        states = getattr(self.spec, "states", 0) != 0
        floats = [
            (place, name) for place, (name, declared) in enumerate(self.slots) if declared.kind in ("float", "any")
        ]
        if floats and not getattr(rule, "drops", False):
            used = "mask" in self.spec.extras or states or (composite and len(floats) > 1)
            patterns = (PAIRED_PATTERNS if len(floats) > 1 else PATTERNS) if used else PATTERNS[:2]
            for place, name in floats:
                self._add(f"mask of {name}", patterns, place=place)
        if states:
            self._add(STATES, (False, True))
        if composite or "training" in self.spec.extras:
            self._add(TRAINING, (False, True))

    # Assignments and cases

    def active(self, name: str, chosen: Chosen) -> bool:
        """Whether a variable means anything beside what is chosen for those that it depends on."""
        place, count = self.variables[name].place, self._count_of(name)
        if place is not None and GIVEN in chosen and place >= self.value(GIVEN, chosen):
            return False
        return count not in chosen or int(name.rpartition(".")[2]) < self.value(count, chosen)

    def consistent(self, chosen: Chosen) -> bool:
        """Whether all that is chosen means something."""
        return all(self.active(name, chosen) for name in chosen)

    def parents(self, name: str) -> set[str]:
        """The variables that a variable depends on."""
        count = self._count_of(name)
        return ({GIVEN} if self.variables[name].place is not None else set()) | ({count} if count else set())

    @cache  # noqa: B019 (problems are few, and are kept)
    def _count_of(self, name: str) -> str | None:
        """The variable that says how many axes there are, of the size of one of them."""
        owner = name.removeprefix("size ").rpartition(".")[0]
        found = f"axes of {owner}"
        return found if name.startswith("size ") and owner and found in self.variables else None

    def value(self, name: str, chosen: Chosen) -> Any:
        return self.variables[name].values[chosen[name]]

    def config(self, chosen: Chosen) -> dict[str, Any]:
        """The parameters that differ from their defaults."""
        found = {}
        for name in self.spec.parameters:
            if name in self.variables:
                value = self.value(name, chosen)
                if self._key(name, chosen[name]) != self.defaults.get(name):
                    found[name] = value
        return found

    @cache  # noqa: B019
    def _key(self, name: str, index: int) -> str:
        parameter, value = self.spec.parameters[name], self.variables[name].values[index]
        return written(canonical(self.spec, parameter, value))

    def shapes(self, layer: Layer, chosen: Chosen, unknown: Collection[str] = ()) -> tuple[Any, ...]:
        """The inputs' shapes. unknown: sizes that are left open."""

        def size(name: str) -> int | None:
            return None if name in unknown else self.value(name, chosen)

        found = []
        for name, declared in self.slots[: self.value(GIVEN, chosen)]:
            shape: list[int | None] = []
            for word in axes_of(layer, declared):
                if is_open(word):
                    count = f"axes of {name}"
                    several = self.value(count, chosen) if count in self.variables else self.spec.rank
                    shape += [size(f"size {name}.{k}") for k in range(several)]
                else:
                    shape.append(int(word) if word.isdigit() else size(f"size {word}"))
            found.append(tuple(shape))
        return tuple(found)

    def case(self, chosen: Chosen, data: str = "normal") -> Case:
        """An assignment as a case."""
        config = self.config(chosen)
        shapes = self.shapes(self.spec(**config), chosen)
        masks = self._masks(chosen)
        return Case(
            self.spec.__name__, config, shapes,
            TRAINING in self.variables and self.value(TRAINING, chosen),
            masks if any(pattern != "none" for pattern in masks) else (),
            STATES in self.variables and self.value(STATES, chosen),
            data,
        )  # fmt: skip

    def _masks(self, chosen: Chosen) -> tuple[str, ...]:
        names = [f"mask of {name}" for name, _ in self.slots[: self.value(GIVEN, chosen)]]
        return tuple(self.value(name, chosen) if name in self.variables else "none" for name in names)

    def read(self, case: Case) -> Chosen:
        """What a case chooses, as far as it is among the values that there are."""
        layer, found = case.make(), {}
        for name, parameter in self.spec.parameters.items():
            if name in self.variables:
                key = written(canonical(self.spec, parameter, case.config.get(name, parameter.default)))
                keys = [self._key(name, k) for k in range(self.variables[name].searched)]
                found |= {name: keys.index(key)} if key in keys else {}
        said: dict[str, Any] = {GIVEN: len(case.shapes), STATES: case.states, TRAINING: case.training}
        for (name, declared), shape, mask in itertools.zip_longest(
            self.slots[: len(case.shapes)], case.shapes, case.masks, fillvalue="none"
        ):
            said |= {f"mask of {name}": mask} | self._said(name, axes_of(layer, declared), shape)
        for name, value in said.items():
            if name in self.variables:
                at = self.variables[name].index.get(written(value), len(self.variables[name].values))
                found |= {name: at} if at < self.variables[name].searched else {}
        return found

    def _said(self, name: str, words: tuple[str, ...], shape: Shape) -> dict[str, Any]:
        """The sizes of a shape by the names of variables."""
        said: dict[str, Any] = {}
        for at, word in enumerate(words):
            if is_open(word):
                count = len(shape) - len(words) + 1
                said[f"axes of {name}"] = count
                said |= {f"size {name}.{k}": shape[at + k] for k in range(count)}
                after = words[at + 1 :]
                return said | {f"size {w}": s for w, s in zip(after, shape[len(shape) - len(after) :], strict=True)}
            said[f"size {word}"] = shape[at]
        return said

    # Solving

    def solve(self, fixed: Mapping[str, int], order: Order | None = None) -> Chosen | None:
        """The first assignment, in the order in which values are tried, that has what is fixed; None: there is none."""
        order = order or (lambda name, chosen: range(self.variables[name].searched))
        # What others depend on first; then what is fixed, so that refusals come early.
        names = sorted(self.variables, key=lambda name: (name != GIVEN, not name.startswith("axes"), name not in fixed))
        chosen: Chosen = dict(fixed)
        return chosen if self._extend(names, 0, chosen, fixed, order) is None else None

    def plain(self, order: Order | None = None) -> Chosen:
        """The first assignment that there is."""
        found = self.solve({}, order)
        if found is None:
            raise ParameterError(
                f"{self.spec.__name__}: no cases can be made, for none of the values that its parameters' domains name "
                "go together by its rules and shapes; name others in their domains: Domain(…, valid=(…))"
            )
        return found

    def _extend(
        self, names: list[str], at: int, chosen: Chosen, fixed: Mapping[str, int], order: Order
    ) -> set[str] | None:
        """Complete an assignment in place: None if done, else the variables that the failure depends on."""
        if at == len(names):
            return self._refusal(chosen)
        name = names[at]
        reasons = self.parents(name) & chosen.keys()
        if not self.active(name, chosen):
            if name in fixed:
                return reasons | {name}
            return self._extend(names, at + 1, chosen, fixed, order)
        for index in [fixed[name]] if name in fixed else order(name, chosen):
            chosen[name] = index
            why = self._known(name, chosen)
            if why is None:
                why = self._extend(names, at + 1, chosen, fixed, order)
            if why is None:
                return None
            if name not in why:
                return why if name in fixed else self._undone(name, chosen, why)
            reasons |= why
        if name in fixed:
            return reasons
        self._learn(self._undone(name, chosen, reasons), chosen)
        return reasons

    @staticmethod
    def _undone(name: str, chosen: Chosen, reasons: set[str]) -> set[str]:
        """The reasons without a variable whose choice is taken back."""
        del chosen[name]
        reasons.discard(name)
        return reasons

    def _known(self, name: str, chosen: Chosen) -> set[str] | None:
        """The variables of a nogood that the last choice completes."""
        for nogood in self.nogoods.get((name, chosen[name]), ()):
            if all(chosen.get(other) == index for other, index in nogood.items()):
                return set(nogood)
        return None

    def _learn(self, names: Collection[str], chosen: Chosen) -> None:
        nogood = {name: chosen[name] for name in names}
        for literal in nogood.items():
            self.nogoods.setdefault(literal, []).append(nogood)

    def _refusal(self, chosen: Chosen) -> set[str] | None:
        """The variables by which the spec refuses an assignment; None if it takes it."""
        try:
            layer = self.spec(**self.config(chosen))
            shapes = self.shapes(layer, chosen)
            failed = ask(layer, shapes)
        except LayerHubError:
            failed = "construction"
        reasons = self._explained(chosen) if failed else self._masked(layer, shapes, chosen)
        if reasons is not None:
            self._learn(reasons, chosen)
        return reasons

    def _masked(self, layer: Layer, shapes: tuple[Shape, ...], chosen: Chosen) -> set[str] | None:
        """The variables by which a mask has no steps to lie along.

        Of many inputs those with fewer axes are aligned with the others from behind, masks from the front: there a
        masked one has all three axes.
        """
        for (name, declared), shape, pattern in zip(self.slots, shapes, self._masks(chosen), strict=False):
            if pattern != "none" and len(layer.places_of(shape)) < (3 if declared.many else 2):
                return {f"mask of {name}"} | ({f"axes of {name}"} & self.variables.keys())
        return None

    def _explained(self, chosen: Chosen) -> set[str]:
        """The variables that a refusal depends on: what was read, and what of the shapes cannot be left open."""
        config = self.config(chosen)
        layer, _ = self.traced(config)
        if failure := broken(layer, {}):
            return self.reads(config, failure, None)
        shapes = self.shapes(layer, chosen)
        failure = ask(layer, shapes)
        shape = {name for name in chosen if name == GIVEN or name.startswith(("axes of ", "size "))}
        open_: set[str] = set()
        for name in sorted(name for name in shape if name.startswith("size ")):
            if refuses(layer, self.shapes(layer, chosen, open_ | {name}), failure):
                open_.add(name)
        return self.reads(config, failure, shapes) | (shape - open_)

    def reads(self, config: Mapping[str, Any], failure: str, shapes: tuple[Any, ...] | None) -> set[str]:
        """The parameters that a rule, or else what gives shapes, reads. shapes: None at construction."""
        rule = next((rule for rule in rules(self.spec) if rule.name == failure), None)
        sizes = {} if shapes is None or rule is None else self.traced(config)[0].solve(*shapes)
        # A layer of its own: what another rule has read may have been kept, and would not be read again.
        layer, noted = self.traced(config)
        if rule is None:
            ask(layer, shapes or (), named=False)
        else:
            rule.method(layer, *(layer.lookup(name, sizes) for name in rule.arguments))
        return noted & self.variables.keys()

    def traced(self, config: Mapping[str, Any]) -> tuple[Layer, set[str]]:
        """The layer, its rules unchecked, and a set that gathers the names of parameters as they are read."""
        noted: set[str] = set()
        kind = _traced(self.spec)
        layer = kind.__new__(kind)
        layer.__dict__["_noted"] = noted
        layer.__init__(**config)  # type: ignore[misc]
        noted.clear()
        return layer, noted


def _rotated(values: tuple[int, ...], by: int) -> tuple[int, ...]:
    by %= len(values)
    return values[by:] + values[:by]


class _Noting:
    """Stands for a parameter in a traced spec, and notes that it is read."""

    def __init__(self, parameter: Parameter):
        self.name, self.default = parameter.name, parameter.default

    def __get__(self, layer: Any, owner: Any = None) -> Any:
        if layer is None:
            return self.default
        layer.__dict__["_noted"].add(self.name)
        return layer.__dict__.get(self.name, self.default)

    def __set__(self, layer: Any, value: Any) -> None:
        layer.__dict__[self.name] = value


@cache
def _traced(spec: type[Layer]) -> type[Layer]:
    """A spec whose parameters note that they are read; it does not check its rules, nor read all to name itself."""
    body = {"_check_rules": lambda self, sizes: None, "__repr__": lambda self: spec.__name__, "__module__": __name__}
    kind = type(spec.__name__, (spec,), body)
    for parameter in spec.parameters.values():
        setattr(kind, parameter.name, _Noting(parameter))
    return kind


def rules(spec: type[Layer] | Layer) -> list[Definition]:
    """The named rules of a spec, in the order in which they are checked."""
    return [definition for definition in spec.definitions.values() if definition.role == "rule"]


def arguments(layer: Layer, rule: Definition, sizes: Mapping[str, Any]) -> list[Any] | None:
    """What a rule is asked about; None where that is not known (yet)."""
    try:
        values = [layer.lookup(name, sizes) for name in rule.arguments]
    except KeyError:
        return None
    return None if any(value is None for value in values) else values


def broken(layer: Layer, sizes: Mapping[str, Any]) -> str:
    """The name of the first rule that does not hold; "" if all do."""
    for rule in rules(layer):
        values = arguments(layer, rule, sizes)
        if values is not None and not rule.method(layer, *values):
            return rule.name
    return ""


def ask(layer: Layer, shapes: tuple[Any, ...], named: bool = True) -> str:
    """What refuses inputs of these shapes: a rule (if ``named``), or a line of the spec's; "" if nothing does."""
    try:
        sizes = layer.solve(*shapes)
        if named and (found := broken(layer, sizes)):
            return found
        layer.output_shapes(*shapes)
        layer.weight_specs(*shapes)
        layer.state_shapes(*shapes)
    except LayerHubError as refusal:
        trace = refusal.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "refused"
    return ""


def refuses(layer: Layer, shapes: tuple[Any, ...], failure: str) -> bool:
    """Whether inputs of these shapes, of which sizes may be open, are refused for a certain reason too."""
    rule = next((rule for rule in rules(layer) if rule.name == failure), None)
    if rule is None:
        return ask(layer, shapes) == failure
    values = arguments(layer, rule, layer.solve(*shapes))
    return values is not None and not rule.method(layer, *values)


@cache
def problem_of(spec: type[Layer]) -> Problem:
    """The problem of a layer; what was learnt of it is kept."""
    return Problem(spec)
