"""The values that parameters may have.

A ``Domain`` is declared once, as part of a parameter's annotation, and serves validation and its error text,
``layerhub describe``, configs, and the generators of valid and invalid values for the conformance suite. Plain
annotations have the domain that they name: ``bool``, ``int``, ``float``, ``str``, ``Literal["valid", "same"]``,
``X | None``.
"""

from __future__ import annotations

import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from layerhub import config

Accept = Callable[[Any, Any], Any]
"""``accept(value, owner)`` gives the canonical value, or raises TypeError or ValueError when it is outside."""


def unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True, eq=False)
class Domain:
    """A set of values: what it is called, which values belong to it, and some of each kind.

    text: completes the sentence "units must be …".
    accept: makes a value canonical, given the spec that it is for (whose rank may matter).
    encode: the canonical value as JSON can hold it.
    valid, invalid: representative values, for generated cases; the first valid one is the plainest.
    """

    text: str
    accept: Accept
    encode: Callable[[Any], Any] = unchanged
    valid: tuple[Any, ...] = ()
    invalid: tuple[Any, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)


def integer(text: str, low: int, valid: tuple[int, ...], invalid: tuple[Any, ...]) -> Domain:
    """Whole numbers from ``low`` up. numpy's integers count; bools and 3.0 do not."""

    def accept(value: Any, owner: Any) -> int:
        if isinstance(value, bool) or operator.index(value) < low:
            raise ValueError
        return operator.index(value)

    return Domain(text, accept, valid=valid, invalid=invalid, schema={"type": "integer", "minimum": low})


def number(text: str, inside: Callable[[float], bool], valid: tuple[float, ...], invalid: tuple[Any, ...]) -> Domain:
    """Finite real numbers for which ``inside`` holds."""

    def accept(value: Any, owner: Any) -> float:
        if isinstance(value, (bool, str)) or not math.isfinite(value) or not inside(value):
            raise ValueError
        return float(value)

    return Domain(text, accept, valid=valid, invalid=invalid, schema={"type": "number"})


def one_of(*choices: Any) -> Domain:
    """One of a few names, case-sensitive."""

    def accept(value: Any, owner: Any) -> Any:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError
        return value

    text = "one of " + ", ".join(map(repr, choices))
    return Domain(
        text, accept, valid=choices, invalid=(str(choices[0]).upper() + "?", 3.5), schema={"enum": list(choices)}
    )


def optional(domain: Domain) -> Domain:
    """The same domain, or None."""

    def accept(value: Any, owner: Any) -> Any:
        return None if value is None else domain.accept(value, owner)

    return replace(
        domain,
        text=f"{domain.text} or None",
        accept=accept,
        encode=lambda value: None if value is None else domain.encode(value),
        valid=(*domain.valid, None),
        invalid=tuple(value for value in domain.invalid if value is not None),
        schema={"anyOf": [dict(domain.schema), {"type": "null"}]},
    )


def either(*domains: Domain) -> Domain:
    """What belongs to any of several domains; the first that takes a value makes it canonical."""

    def accept(value: Any, owner: Any) -> Any:
        for domain in domains:
            try:
                return domain.accept(value, owner)
            except (TypeError, ValueError):
                continue
        raise ValueError

    def encode(value: Any) -> Any:
        for domain in domains:
            try:
                domain.accept(value, None)
            except (TypeError, ValueError):
                continue
            return domain.encode(value)
        return value

    return Domain(" or ".join(d.text for d in domains), accept, encode, valid=sum((d.valid for d in domains), ()))


def _accept_mapping(value: Any, owner: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return dict(value)


def _accept_bool(value: Any, owner: Any) -> bool:
    if value not in (True, False):
        raise ValueError
    return bool(value)


def _accept_str(value: Any, owner: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _sizes(value: Any, count: int | None, low: int) -> tuple[int, ...]:
    """A tuple of ``count`` ints from ``low`` up; one int stands for them all."""
    if count is not None and not isinstance(value, Sequence):
        value = (value,) * count
    if isinstance(value, (str, bytes)) or (count is not None and len(value) != count):
        raise ValueError
    if any(isinstance(size, bool) or operator.index(size) < low for size in value):
        raise ValueError
    return tuple(operator.index(size) for size in value)


def _accept_dtype(value: Any, owner: Any) -> str:
    # Keras configs hold a policy where we hold a name: {"class_name": "DTypePolicy", "config": {"name": "float32"}}.
    if isinstance(value, Mapping):
        value = value["config"]["name"]
    name = getattr(value, "name", value)
    if name not in config.POLICIES:
        raise ValueError
    return name


def _accept_axis(value: Any, owner: Any) -> int | tuple[int, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(operator.index(axis) for axis in value)
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _accept_shape(value: Any, owner: Any) -> tuple[int | None, ...]:
    if isinstance(value, (str, bytes)):
        raise TypeError
    return tuple(None if size is None else operator.index(size) for size in value)


def _accept_function(value: Any, owner: Any) -> Callable:
    if not callable(value):
        raise TypeError
    return value


BOOL = Domain("True or False", _accept_bool, valid=(True, False), invalid=("yes", 2), schema={"type": "boolean"})
INT = integer("an int", -(2**63), (1, 2), (1.5, "a"))
FLOAT = number("a finite number", lambda value: True, (1.0, 0.5), ("a", math.nan))
STR = Domain("a string", _accept_str, valid=("a",), invalid=(3,), schema={"type": "string"})
MAPPING = Domain("a mapping", _accept_mapping, encode=dict, invalid=(3,), schema={"type": "object"})
ANY = Domain("any value", lambda value, owner: value, valid=(None,))

Size = Annotated[int, integer("a positive int", 1, (2, 3, 5, 6), (0, -1, 1.5, "a"))]
Count = Annotated[int, integer("an int, 0 or more", 0, (0, 2), (-1, 1.5, "a"))]
Rate = Annotated[
    float, number("a number in [0, 1]", lambda value: 0 <= value <= 1, (0.3, 0.0, 0.5, 1.0), (-0.1, 1.1, "a", math.nan))
]
Share = Annotated[float, number("a number in [0, 1]", lambda value: 0 <= value <= 1, (0.9, 0.99), (-0.1, 1.1, "a"))]
Positive = Annotated[float, number("a positive number", lambda value: value > 0, (1e-3, 1.0), (0, -1.0, "a"))]
NonNegative = Annotated[float, number("a number, 0 or more", lambda value: value >= 0, (0.0, 0.1, 1.5), (-1.0, "a"))]
Window = Annotated[
    Any,
    Domain(
        "a positive int, or one for each axis",
        lambda value, owner: _sizes(value, owner.rank, low=1),
        encode=list,
        valid=(2, 3, 1, 4),
        invalid=(0, (1, 2, 3, 4), "a", None),
        schema={"type": "array", "items": {"type": "integer", "minimum": 1}},
    ),
]
"""Sizes of a window or its strides: one int for each axis of the layer's space, or one for all."""
Margin = Annotated[
    Any,
    Domain(
        "an int, 0 or more, or one for each axis",
        lambda value, owner: _sizes(value, owner.rank, low=0),
        encode=list,
        valid=(0, 1, 2),
        invalid=(-1, (1, 2, 3, 4), "a"),
        schema={"type": "array", "items": {"type": "integer", "minimum": 0}},
    ),
]
"""Cells beside an image: one count for each axis of the layer's space, or one for all."""
SHAPE = Domain(
    "a tuple of ints (None where unknown)",
    _accept_shape,
    encode=list,
    valid=((2, 3),),
    invalid=(3, "ab"),
    schema={"type": "array", "items": {"type": ["integer", "null"]}},
)
Shape = Annotated[tuple[int | None, ...], SHAPE]
Axis = Annotated[
    int | tuple[int, ...],
    Domain("an axis, or a tuple of axes", _accept_axis, valid=(-1, 1, (1, 2), (2, 1)), invalid=("a", 1.5)),
]
FLOAT_TYPE = Domain(
    "one of " + ", ".join(config.POLICIES),
    _accept_dtype,
    valid=("float32", "float64"),
    invalid=("float12", 3),
    schema={"enum": list(config.POLICIES)},
)
LayerDType = Annotated[
    Any,
    # The default of the moment is resolved when the layer is made, and stays with it.
    replace(
        FLOAT_TYPE,
        accept=lambda value, owner: config.dtype_policy() if value is None else _accept_dtype(value, owner),
    ),
]
Function = Annotated[
    Callable, Domain("a function", _accept_function, encode=lambda f: getattr(f, "__name__", repr(f)), invalid=(3,))
]
DataFormat = Annotated[
    Any,
    replace(
        one_of(*config.DATA_FORMATS),
        # The default of the moment is resolved when the layer is made, and stays with it.
        accept=lambda value, owner: (
            config.image_data_format() if value is None else one_of(*config.DATA_FORMATS).accept(value, owner)
        ),
    ),
]

_PLAIN = {bool: BOOL, int: INT, float: FLOAT, str: STR, Any: ANY}


def domain_of(hint: Any) -> Domain:
    """The domain that an annotation names."""
    if get_origin(hint) is Annotated:
        return next(extra for extra in get_args(hint) if isinstance(extra, Domain))
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in get_args(hint) if arg is not type(None)]
        if len(rest) == 1 and len(get_args(hint)) == 2:
            return optional(domain_of(rest[0]))
        return (
            either(*map(domain_of, rest))
            if len(rest) == len(get_args(hint))
            else optional(either(*map(domain_of, rest)))
        )
    if get_origin(hint) in (Mapping, dict):
        return MAPPING
    if hint in _PLAIN:
        return _PLAIN[hint]
    raise TypeError(f"no domain is known for the annotation {hint!r}; use Annotated[…, Domain(…)]")
