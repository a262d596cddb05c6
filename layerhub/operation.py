"""Functions of ``layerhub.ops`` as layers: what ``x + y`` and ``ops.mean(x, axis=1)`` add to a graph.

An ``Operation`` holds the name of its function and its arguments, with a ``Place`` wherever an input stands. Its
meaning is the function's own, so it runs and differentiates on every backend.

Types: tensors that are combined take a common one, a float type as soon as one of them is float; constant arrays, and
ints that a function needs as floats, follow it. So the result's type does not depend on the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from layerhub import config, structure
from layerhub.errors import GraphError, ShapeError
from layerhub.namespace import EXTRAS, STANDARD
from layerhub.ops import MADE, named
from layerhub.spec.axes import Shape, broadcast, product
from layerhub.spec.domains import Domain
from layerhub.spec.layer import In, Layer, Out
from layerhub.spec.masks import stops
from layerhub.variable import HOST

TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
"""Types, from narrow to wide: of two that meet, the wider one holds."""

COMPARING = frozenset("equal not_equal less less_equal greater greater_equal".split())
TRUTHS = frozenset({*COMPARING, *"all any logical_and logical_not logical_or".split()})
"""Functions whose result is a truth value."""
FLOATING = frozenset("cos divide erf exp expm1 l2_normalize log log1p mean sin sqrt tanh variance".split())
"""Functions of floats alone: ints are converted."""
COMBINING = COMPARING | frozenset(
    "add subtract multiply divide pow matmul einsum maximum minimum concat concatenate stack".split()
)
"""Functions whose arrays must have one type."""
ELEMENTWISE = (FLOATING - {"mean", "variance", "l2_normalize"} | COMPARING) | frozenset(
    """
    abs add astype bitwise_and bitwise_right_shift bitwise_xor clip floor full_like logical_and logical_not logical_or
    maximum minimum multiply negative ones_like pow sign square stop_gradient subtract where zeros_like
    """.split()
)
"""Functions that keep the sizes, or broadcast them."""
DTYPES = frozenset(config.FLOATS) | {"int32", "int64", "bool"}
REFUSED = frozenset({"scan", "random_bits", *DTYPES})
"""Names of ``layerhub.ops`` that are no functions of tensors alone."""


class Place(NamedTuple):
    """Where an input stands among the arguments. kind: float, int or bool."""

    number: int
    kind: str = "float"


class Arguments(NamedTuple):
    """The arguments of a function, by position and by name."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def filled(self, function: Callable[[Any], Any]) -> Arguments:
        """The same with other things in the place of each ``Place`` and each array."""

        def put(value: Any) -> Any:
            if isinstance(value, (Place, np.ndarray)):
                return function(value)
            if isinstance(value, (list, tuple)):
                return tuple(map(put, value))
            return value

        return Arguments(tuple(map(put, self.args)), {name: put(value) for name, value in self.kwargs.items()})

    def found(self) -> list[Any]:
        """Each ``Place`` and array, in order."""
        gathered: list[Any] = []
        self.filled(gathered.append)
        return gathered


def encoded(value: Any) -> Any:
    """An argument as JSON can hold it; slices and arrays as Keras has them."""
    if isinstance(value, Place):
        return {"class_name": "__input__", "config": value._asdict()}
    if isinstance(value, slice):
        config = {"start": value.start, "stop": value.stop, "step": value.step}
        return {"class_name": "__slice__", "config": config}
    if value is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(value, np.ndarray):
        return {"class_name": "__numpy__", "config": {"value": value.tolist(), "dtype": value.dtype.name}}
    if isinstance(value, (list, tuple)):
        return [encoded(part) for part in value]
    return value


def decoded(value: Any) -> Any:
    """What ``encoded`` made, as it was."""
    if isinstance(value, Mapping):
        kind, held = value.get("class_name"), value.get("config") or {}
        if kind == "__input__":
            return Place(int(held["number"]), str(held["kind"]))
        if kind == "__slice__":
            return slice(held["start"], held["stop"], held["step"])
        if kind == "__ellipsis__":
            return Ellipsis
        if kind == "__numpy__":
            return np.asarray(held["value"], held["dtype"])
        raise ValueError(f"{value!r} is no argument of a function")
    if isinstance(value, (list, tuple)):
        return tuple(map(decoded, value))
    return value


def _accept_function(value: Any, owner: Any) -> str:
    if not isinstance(value, str) or value in REFUSED or value not in {*STANDARD, *EXTRAS, *MADE}:
        raise ValueError
    return value


def _accept_arguments(value: Any, owner: Any) -> Arguments:
    if isinstance(value, Arguments):
        return value
    return Arguments(decoded(value["args"]), {name: decoded(part) for name, part in value["kwargs"].items()})


def _encode_arguments(value: Arguments) -> Any:
    return {"args": encoded(value.args), "kwargs": {name: encoded(part) for name, part in value.kwargs.items()}}


class Operation(Layer):
    """A function of ``layerhub.ops`` on tensors of a graph.

    function: its name. arguments: of the function, with a ``Place`` for each input.
    """

    function: Annotated[str, Domain("the name of a function of layerhub.ops", _accept_function)]
    arguments: Annotated[
        Any,
        Domain("the arguments of the function: {'args': […], 'kwargs': {…}}", _accept_arguments, _encode_arguments),
    ]

    xs = In("...", kind="any", many=True)
    y = Out("...")
    mask = stops

    @property
    def stem(self) -> str:
        return self.function

    def __repr__(self) -> str:
        def shown(value: Any) -> str:
            if isinstance(value, Place):
                return f"x{value.number}"
            if isinstance(value, np.ndarray):
                return f"<array of shape {value.shape}>"
            return f"({', '.join(map(shown, value))})" if isinstance(value, tuple) else repr(value)

        named = [f"{name}={shown(value)}" for name, value in self.arguments.kwargs.items()]
        return f"ops.{self.function}({', '.join([*map(shown, self.arguments.args), *named])})"

    # Types

    def _common(self, dtypes: Sequence[str]) -> str | None:
        """The type that arrays which are combined take; None where each keeps its own."""
        operands = self.arguments.found()
        if self.function == "where":
            operands = Arguments(self.arguments.args[1:], {}).found()
        elif self.function not in COMBINING | FLOATING:
            return None
        known = [dtypes[p.number] for p in operands if isinstance(p, Place)]
        arrays = [p.dtype.name for p in operands if isinstance(p, np.ndarray)]
        found = widest(known) if known else widest(arrays)
        if found not in config.FLOATS:
            found = widest([found, *(name for name in arrays if name in TYPES)])
            numbers = any(isinstance(part, float) for part in structure.flat(list(self.arguments.args)))
            if numbers or self.function in FLOATING or found in config.FLOATS:
                return self.compute_dtype
        return found

    def output_dtype(self, *dtypes: str) -> str:
        if self.function in TRUTHS:
            return "bool"
        if self.function in ("argmax", "size"):
            return "int64"
        if self.function == "astype":
            return str(self.arguments.args[1])
        return self._common(dtypes) or dtypes[0]

    # Sizes

    def solve(self, *shapes: Shape | None) -> dict[str, Any]:
        # The function checks its arguments itself; a size is a tensor without axes.
        return {"shapes": shapes}

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        if self.function == "size":
            return ((),)
        if self.function in ELEMENTWISE:
            operands = self.arguments.found()
            return (broadcast([shapes[p.number] if isinstance(p, Place) else p.shape for p in operands], repr(self)),)
        if self.function == "reshape":
            return (self._reshaped(shapes[0]),)
        return (self._tried(shapes),)

    def _reshaped(self, shape: Shape) -> Shape:
        wanted: Any = [*self.arguments.args, *self.arguments.kwargs.values()][1]
        target = [None if isinstance(size, Place) else size for size in wanted]
        count, fixed = product(shape), product([size for size in target if size != -1])
        fits = None in (count, fixed) or (count % max(fixed, 1) == 0 if -1 in target else count == fixed)  # type: ignore[operator,type-var]
        if not fits or target.count(-1) > 1:
            raise ShapeError(f"{self!r}: {count} elements of shape {shape} cannot be laid out as {tuple(wanted)}")
        rest = None if count is None or fixed is None else count // max(fixed, 1)
        return tuple(rest if size == -1 else size for size in target)

    def _tried(self, shapes: Sequence[Shape]) -> Shape:
        kinds = {p.number: p.kind for p in self.arguments.found() if isinstance(p, Place)}
        types = {"float": "float64", "int": "int64", "bool": "bool"}
        host = [tuple(shape) for shape in shapes]

        def run(*xs: Any) -> Any:
            given = [x.astype(types[kinds[number]]) for number, x in enumerate(xs)]
            return self.define(HOST, given)

        try:
            with np.errstate(all="ignore"):
                return Layer.runtime.trial(run, host, "float64")
        except (ValueError, TypeError, IndexError, LookupError, AttributeError, ZeroDivisionError) as problem:
            told = ", ".join(map(str, shapes))
            raise ShapeError(f"{self!r} fails for tensors of shape {told}: {problem}") from problem

    # Meaning

    def define(self, xp, xs):
        names = [dtype_name(x) for x in xs]
        common = self._common(names)
        operands = self.arguments.args[1:] if self.function == "where" else self.arguments.args
        cast = {p.number for p in Arguments(operands, self.arguments.kwargs).found() if isinstance(p, Place)}

        def put(part: Any) -> Any:
            if isinstance(part, np.ndarray):
                return xp.asarray(part, dtype=getattr(xp, common or part.dtype.name))
            x = xs[part.number]
            if common is not None and part.number in cast and names[part.number] != common:
                x = xp.astype(x, getattr(xp, common))
            return x

        args, kwargs = self.arguments.filled(put)
        if self.function == "astype":
            args = (args[0], getattr(xp, args[1]))
        y = named(self.function)(xp, *args, **kwargs)
        if self.function == "sum" and dtype_name(y) != names[0]:  # where the standard widens ints
            y = xp.astype(y, getattr(xp, names[0]))
        return y


def widest(names: Sequence[str]) -> str:
    """The type that holds the values of all of these."""
    if {"float16", "bfloat16"} <= set(names):
        names = [*names, "float32"]
    return max(names, key=lambda name: TYPES.index(name) if name in TYPES else len(TYPES))


def dtype_name(x: Any) -> str:
    """The name of an array's type, whatever library it is of."""
    dtype = getattr(x, "dtype", None)
    if dtype is None:  # a number, such as a size
        return "int64"
    return getattr(dtype, "name", None) or str(dtype).rpartition(".")[2]


def recorded(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], is_tensor: Any, fetch: Any) -> tuple[Any, list]:
    """(the operation, the tensors that go in) of a function that is called with tensors among its arguments.

    is_tensor: whether something is a symbolic tensor. fetch: an ndarray from whatever else has a shape.
    """
    if name in REFUSED:
        raise GraphError(f"ops.{name} is no function of symbolic tensors; put what uses it into a Lambda or a layer")
    tensors: list[Any] = []

    def keep(value: Any) -> Any:
        if is_tensor(value):
            if value not in tensors:
                tensors.append(value)
            kind = "float" if value.dtype in config.FLOATS else "bool" if value.dtype == "bool" else "int"
            return Place(tensors.index(value), kind)
        if isinstance(value, (list, tuple)):
            return tuple(map(keep, value))
        if isinstance(value, np.generic):
            return value.item()
        if hasattr(value, "shape"):
            return np.asarray(fetch(value))
        if value is None or value is Ellipsis or isinstance(value, (bool, int, float, str, slice)):
            return value
        named = getattr(value, "__name__", None) or getattr(value, "name", None)
        if named in DTYPES:
            return named
        raise GraphError(f"ops.{name}: {value!r} cannot be kept in a graph; give tensors, arrays, numbers or names")

    arguments = Arguments(tuple(map(keep, args)), {key: keep(value) for key, value in kwargs.items()})
    return Operation(name, arguments), tensors
