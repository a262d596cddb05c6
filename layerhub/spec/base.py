"""What all specs share: parameters with domains, construction, configs. And the tables of specs by kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform, get_origin

from layerhub.errors import ParameterError, ShapeError, UnknownNameError, suggest
from layerhub.spec.domains import Domain, domain_of
from layerhub.spec.spellings import modern

REQUIRED = object()

KERAS_BOOKKEEPING = frozenset(
    {"module", "registered_name", "build_config", "shared_object_id", "batch_input_shape", "compile_config"}
)
"""Keys that Keras writes beside a config; they say nothing that LayerHub needs."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: its name, domain and default (REQUIRED when it has none)."""

    name: str
    domain: Domain
    default: Any
    keyword_only: bool = False


class Keyword:
    """Marks a default as that of a parameter which is given by name only."""

    def __init__(self, default: Any):
        self.default = default


def keyword(*, default: Any, kw_only: bool = True) -> Any:
    """The default of a keyword-only parameter. (type checkers want to read ``kw_only=True`` where it is used)"""
    return Keyword(default)


@dataclass(frozen=True)
class Definition:
    """A ``derived axis`` or ``rule``: a method whose arguments are asked for by name."""

    method: Any
    role: str
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.method.__name__


def _definition(role: str) -> Any:
    def decorate(method: Any) -> Definition:
        return Definition(method, role, method.__code__.co_varnames[1 : method.__code__.co_argcount])

    return decorate


axis = _definition("axis")
"""A method that derives an axis, or a tuple of axes, from others: ``def places(self, space)``."""
rule = _definition("rule")
"""A numbered method that must return true: ``def c1_the_window_must_fit(self, places)``."""


class Kind:
    """A table of specs of one kind: layers, activations, losses, …; looked up without regard to case or underscores."""

    def __init__(self, name: str):
        self.name = name
        self.members: dict[str, type[Spec]] = {}
        self.origin: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def add(self, spec: type[Spec], plugin: str = "layerhub") -> None:
        """Enter a spec under its class name and its aliases.

        A name that is taken is refused; but a user may define a spec of their own again.
        """
        for name in (spec.__name__, *spec.aliases):
            taken = self._keys.get(_plain(name))
            again = taken is not None and plugin == self.origin[taken] == "user"
            if taken is not None and self.members[taken] is not spec and not again:
                raise ParameterError(f"{self.name} {name!r} of {plugin} is already taken, by {self.origin[taken]}")
        self.members[spec.__name__] = spec
        self.origin[spec.__name__] = plugin
        for name in (spec.__name__, *spec.aliases):
            self._keys[_plain(name)] = spec.__name__

    def find(self, name: str) -> type[Spec]:
        """The spec called ``name``, in any common spelling: GlorotUniform, glorot_uniform."""
        try:
            return self.members[self._keys[_plain(name)]]
        except KeyError:
            known = suggest(name, self) or f" Known: {', '.join(sorted(self))}."
            raise UnknownNameError(f"no {self.name} is called {name!r}.{known}") from None

    def get(self, identifier: Any) -> Any:
        """A spec of this kind from what people write: a spec, its class, a name, or a config."""
        if isinstance(identifier, Spec) and identifier.kind is self:
            return identifier
        if isinstance(identifier, type) and issubclass(identifier, Spec) and identifier.kind is self:
            return identifier()
        if isinstance(identifier, str):
            return self.find(identifier)()
        if isinstance(identifier, Mapping) and "class_name" in identifier:
            return self.find(identifier["class_name"]).from_config(identifier.get("config", {}))
        raise TypeError(f"{identifier!r} is no {self.name}")

    def domain(self, valid: tuple[Any, ...] = ()) -> Domain:
        """The domain of parameters that hold a spec of this kind. valid: some of its names."""
        article = "an" if self.name[0] in "aeiou" else "a"
        text = f"{article} {self.name}: an object, a name or a config"
        return Domain(
            text, lambda value, owner: self.get(value), encode=serialize, valid=valid, invalid=("no_such_name", 3.5)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __contains__(self, name: str) -> bool:
        return _plain(name) in self._keys


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def snake_case(name: str) -> str:
    """``MaxPooling2D`` as Keras names such a layer: ``max_pooling2d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def serialize(spec: Spec | None) -> Any:
    """A spec as JSON can hold it: ``{"class_name": …, "config": {…}}``."""
    return None if spec is None else {"class_name": type(spec).__name__, "config": spec.get_config()}


@dataclass_transform(field_specifiers=(keyword,))
class Spec:
    """Something declared by its parameters alone.

    keras_only: parameters that Keras writes into configs and that mean nothing here, with the value that is accepted.
    formerly: old names of parameters, and how they are said now (see spellings.py).
    hints: names that people try, and what they should say.
    unsaid: parameters that configs leave out while they have their defaults, because Keras does not know them.
    behind: parameters that stand right behind another one in the order of arguments; None: they stand first.
    stands: a class's own parameters stand behind those of classes with a lower number.
    delegates: it computes nothing itself, but leaves that to a function, or to other specs, that it is given.

    A class body declares parameters as annotated attributes, in the order of the constructor's arguments; a base
    class's parameters come first. A class made with ``abstract=True`` is a family: it is not meant to be constructed.
    """

    kind: ClassVar[Kind]
    parameters: ClassVar[dict[str, Parameter]] = {}
    definitions: ClassVar[dict[str, Definition]] = {}
    aliases: ClassVar[tuple[str, ...]] = ()
    keras_only: ClassVar[Mapping[str, Any]] = {}
    behind: ClassVar[Mapping[str, str | None]] = {}
    stands: ClassVar[int] = 0
    delegates: ClassVar[bool] = False
    formerly: ClassVar[Mapping[str, Any]] = {}
    hints: ClassVar[Mapping[str, str]] = {}
    abstract: ClassVar[bool] = True
    _own_parameters: ClassVar[dict[str, Parameter]] = {}
    mutable: ClassVar[tuple[str, ...]] = ()
    unsaid: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:  # families speak of parameters that their members declare

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, abstract: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.abstract = abstract
        own = {}
        for name, hint in get_annotations(cls, eval_str=True).items():
            if get_origin(hint) is ClassVar or name.startswith("_"):
                continue
            default = vars(cls).get(name, REQUIRED)
            named = isinstance(default, Keyword)
            own[name] = Parameter(name, domain_of(hint), default.default if named else default, named)
            if isinstance(getattr(cls, name, None), property) and name not in vars(cls):
                setattr(cls, name, None)  # a property that all specs have (output_shape) gives way to a parameter
        cls._own_parameters = own
        # A parameter declared again takes its new place; keyword-only ones stand last.
        ordered: dict[str, Parameter] = {}
        lineage = list(reversed(cls.__mro__))
        for base in sorted(lineage, key=lambda base: vars(base).get("stands", 0)):
            for name, parameter in vars(base).get("_own_parameters", {}).items():
                ordered.pop(name, None)
                ordered[name] = parameter
            # A property in the place of a parameter derives it: it cannot be given any more.
            for name in [name for name in ordered if isinstance(vars(base).get(name), property)]:
                del ordered[name]
        for name, before in gathered(cls, "behind").items():
            ordered = _placed(ordered, name, before)
        cls.parameters = dict(sorted(ordered.items(), key=lambda item: item[1].keyword_only))
        found = {}
        for base in reversed(cls.__mro__):
            found.update({name: value for name, value in vars(base).items() if isinstance(value, Definition)})
        cls.definitions = found

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        positional = [p.name for p in self.parameters.values() if not p.keyword_only]
        if len(args) > len(positional):
            raise ParameterError(
                f"{type(self).__name__} takes at most {len(positional)} positional arguments "
                f"({', '.join(positional)}), {len(args)} were given"
            )
        given = dict(zip(positional, args, strict=False))
        kwargs = modern(type(self), kwargs, gathered(type(self), "formerly"), given)
        for name in kwargs:
            if name in given:
                raise ParameterError(f"{type(self).__name__}: {name} was given twice, by position and by name")
            if name not in self.parameters:
                hint = gathered(type(self), "hints").get(name)
                hint = f" Say {hint}." if hint else suggest(name, self.parameters)
                raise ParameterError(
                    f"{type(self).__name__} has no parameter {name!r}.{hint} It has: {', '.join(self.parameters)}"
                )
        given |= kwargs
        for name, parameter in self.parameters.items():
            value = given.get(name, parameter.default)
            if value is REQUIRED:
                raise ParameterError(f"{type(self).__name__}: {name} is missing; it must be {parameter.domain.text}")
            self.__dict__[name] = self._accept(parameter, value)
        self._check_rules({})

    def _accept(self, parameter: Parameter, value: Any) -> Any:
        # A declared default needs no more than its canonical form: None may mean "as configured" or "off".
        try:
            return parameter.domain.accept(value, self)
        except (TypeError, ValueError, KeyError, AttributeError, LookupError) as problem:
            if value is None and parameter.default is None:
                return None
            detail = f" ({problem})" if isinstance(problem, (ParameterError, UnknownNameError)) else ""
            raise ParameterError(
                f"{type(self).__name__}: {parameter.name} must be {parameter.domain.text}, not {value!r}{detail}"
            ) from None

    def lookup(self, name: str, sizes: Mapping[str, Any]) -> Any:
        """What a name means here: a bound size, a derived axis, or an attribute of the spec; KeyError if none."""
        if name in sizes:
            return sizes[name]
        derived = self.definitions.get(name)
        if derived is not None and derived.role == "axis":
            return derived.method(self, *(self.lookup(argument, sizes) for argument in derived.arguments))
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def _check_rules(self, sizes: Mapping[str, Any]) -> None:
        """Check every rule whose arguments are all known by now."""
        for definition in self.definitions.values():
            if definition.role != "rule":
                continue
            try:
                values = [self.lookup(argument, sizes) for argument in definition.arguments]
            except KeyError:
                continue
            if any(value is None for value in values):
                continue
            if not definition.method(self, *values):
                code, _, words = definition.name.partition("_")
                what = ", ".join(f"{k}={v!r}" for k, v in zip(definition.arguments, values, strict=True))
                kind = ShapeError if sizes else ParameterError
                raise kind(f"{self!r}: {code} {words.replace('_', ' ')}, but {what}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.parameters:
            if name not in self.mutable:
                raise ParameterError(
                    f"{type(self).__name__}: {name} is fixed once made; use .replace({name}={value!r}) for a copy"
                )
            value = self._accept(self.parameters[name], value)
        super().__setattr__(name, value)

    def get_config(self) -> dict[str, Any]:
        """The parameters as JSON can hold them; ``from_config`` turns them back into an equal spec."""
        return {
            name: p.domain.encode(getattr(self, name))
            for name, p in self.parameters.items()
            if name not in self.unsaid or getattr(self, name) != p.default
        }

    @classmethod
    def spelled(cls, name: str) -> Any:
        """What makes this spec when it is asked for under a certain one of its names."""
        return cls

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The spec that a config describes. Keys that Keras adds for its own bookkeeping are ignored."""
        given = {}
        for name, value in config.items():
            elsewhere = name in cls.keras_only and value == cls.keras_only[name]
            if name not in KERAS_BOOKKEEPING and not elsewhere:
                given[name] = value
        return cls(**given)

    def replace(self, **changes: Any) -> Self:
        """A copy with some parameters changed."""
        return type(self)(**{name: getattr(self, name) for name in self.parameters} | changes)

    def __repr__(self) -> str:
        shown = []
        for name, parameter in self.parameters.items():
            value = self.__dict__.get(name)
            if parameter.default is REQUIRED or (value is not None and value != self._default(parameter)):
                # A function by its name: its address says nothing, and differs from process to process.
                shown.append(f"{name}={getattr(value, '__name__', repr(value)) if callable(value) else repr(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _default(self, parameter: Parameter) -> Any:
        try:
            return parameter.domain.accept(parameter.default, self)
        except (TypeError, ValueError, LookupError):
            return parameter.default


def gathered(spec: type[Spec], name: str) -> dict[str, Any]:
    """A mapping that the classes of a family declare together."""
    return {key: value for base in reversed(spec.__mro__) for key, value in vars(base).get(name, {}).items()}


def _placed(ordered: dict[str, Parameter], name: str, before: str | None) -> dict[str, Parameter]:
    """The same parameters, with one of them right behind another."""
    if name not in ordered or (before is not None and before not in ordered):
        return ordered
    others = [other for other in ordered if other != name]
    at = 0 if before is None else others.index(before) + 1
    return {key: ordered[key] for key in (*others[:at], name, *others[at:])}


class ValueSpec(Spec, abstract=True):
    """A spec that is nothing but its parameters: equal when they are equal."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))
