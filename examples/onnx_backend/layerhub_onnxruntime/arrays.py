"""Lazy arrays: each is a value from the host, a placeholder, or what an ONNX node will give.

Shapes are known beforehand, as far as they can be; a size that is None is known only when the model runs. Nothing is
computed until somebody asks for the value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx.helper import np_dtype_to_tensor_dtype

Shape = tuple[int | None, ...]


@dataclass(eq=False)
class Body:
    """A graph within a node.

    nodes: those that depend on its inputs, in order. captures: what they take from outside.
    """

    inputs: list[Array]
    outputs: list[Array]
    nodes: list[Node] = field(init=False)
    captures: tuple[Array, ...] = field(init=False)

    def __post_init__(self) -> None:
        inside = {id(x) for x in self.inputs}
        self.nodes, captures = [], {}
        for node in ordered(self.outputs):
            if any(id(x) in inside or id(x.node) in inside for x in node.takes):
                inside.add(id(node))
                self.nodes.append(node)
        for x in (*(x for node in self.nodes for x in node.takes), *self.outputs):
            if id(x) not in inside and id(x.node) not in inside:
                captures[id(x)] = x
        self.captures = tuple(captures.values())


@dataclass(eq=False)
class Node:
    """A call of an ONNX operator. inputs: None where an optional one is left out."""

    operator: str
    inputs: tuple[Array | None, ...]
    attributes: dict[str, Any]
    count: int = 1
    body: Body | None = None

    @property
    def takes(self) -> list[Array]:
        """All arrays that must be there first."""
        return [x for x in (*self.inputs, *(self.body.captures if self.body else ())) if x is not None]


class Array:
    """A lazy array.

    value: from the host, or once it was computed. node, slot: what gives it, as which output; a placeholder has
    neither. fixed: a constant of the graph, not an input. name: what it should be called in a file.
    """

    __slots__ = ("__weakref__", "dtype", "fixed", "name", "node", "shape", "slot", "value")
    __array_ufunc__ = None  # numpy's arrays and scalars leave mixed operations to us
    __hash__ = object.__hash__
    __iter__ = None  # else Python would try x[0], x[1], ... without end

    def __init__(
        self,
        shape: Sequence[int | None],
        dtype: Any,
        node: Node | None = None,
        slot: int = 0,
        value: np.ndarray | None = None,
        fixed: bool = False,
        name: str = "",
    ):
        self.shape: Shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.node, self.slot, self.value, self.fixed, self.name = node, slot, value, fixed, name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def numpy(self) -> np.ndarray:
        """The value; computed now, where it was not yet."""
        from layerhub_onnxruntime.sessions import evaluate  # which is built on this module

        if self.value is None:
            evaluate([self])
        return self.value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __float__(self) -> float:
        return float(self.numpy())

    def __neg__(self) -> Array:
        return elementwise("Neg", self)

    def __getitem__(self, index: Any) -> Array:
        return sliced(self, index)

    def __repr__(self) -> str:
        what = "value" if self.value is not None else self.node.operator if self.node else "placeholder"
        return f"<onnx array {self.shape} {self.dtype}: {what}>"


def ordered(arrays: Sequence[Array]) -> list[Node]:
    """The nodes that these arrays need and that have no value yet, each after those that it needs itself."""
    found: list[Node] = []
    done: set[int] = set()
    waiting = [x.node for x in arrays if x.value is None and x.node is not None]
    while waiting:
        node = waiting[-1]
        if id(node) in done:
            waiting.pop()
            continue
        needed = [x.node for x in node.takes if x.value is None and x.node is not None and id(x.node) not in done]
        if needed:
            waiting += needed
        else:
            done.add(id(waiting.pop()))
            found.append(node)
    return found


# Making arrays


def constant(value: Any, dtype: Any = None) -> Array:
    """A constant of the graph."""
    array = np.asarray(value, dtype)
    return Array(array.shape, array.dtype, value=array, fixed=True)


def given(value: np.ndarray, name: str = "") -> Array:
    """An array from the host."""
    return Array(value.shape, value.dtype, value=value, name=name)


def filled(shape: Sequence[Any], value: Any, dtype: Any) -> Array:
    """An array of this shape, whose sizes may be arrays, that holds one value everywhere."""
    return op("ConstantOfShape", (vector(shape),), known(shape), dtype, value=np.array([value], dtype))


def op(
    name: str, inputs: Sequence[Array | None], shape: Sequence[int | None], dtype: Any = None, **attributes: Any
) -> Array:
    """The output of an operator that has one. dtype: where it is not the first input's."""
    node = Node(name, tuple(inputs), attributes)
    return Array(shape, inputs[0].dtype if dtype is None else dtype, node)


def ops(
    name: str,
    inputs: Sequence[Array | None],
    shapes: Sequence[Sequence[int | None] | None],
    dtype: Any = None,
    **attributes: Any,
) -> list[Array]:
    """All outputs of an operator."""
    node = Node(name, tuple(inputs), attributes, len(shapes))
    dtype = inputs[0].dtype if dtype is None else dtype
    return [Array(shape or (), dtype, node, slot) for slot, shape in enumerate(shapes)]


def lifted(x: Any, like: Array) -> Array:
    """An operand as an array; a plain number takes the type of the array beside it."""
    if isinstance(x, Array):
        return x
    if isinstance(x, float) and like.dtype.kind in "iu":
        raise TypeError(f"the number {x} does not go with an array of type {like.dtype}")
    return constant(x, like.dtype if isinstance(x, (bool, int, float)) else None)


def alike(a: Any, b: Any) -> tuple[Array, Array]:
    """Two operands as arrays of one type."""
    a, b = lifted(a, b), lifted(b, a)
    if a.dtype == b.dtype:
        return a, b
    common = np.result_type(a.dtype, b.dtype)
    return cast(a, common), cast(b, common)


def cast(x: Array, dtype: Any) -> Array:
    """x in another type."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    if x.fixed and x.value is not None:
        return constant(x.value, dtype)
    return op("Cast", (x,), x.shape, dtype, to=np_dtype_to_tensor_dtype(dtype))


def broadcast(*shapes: Shape) -> Shape:
    """The shape of arrays of these shapes together."""
    ndim = max(map(len, shapes))
    return tuple(map(_common, zip(*((1,) * (ndim - len(shape)) + shape for shape in shapes), strict=True)))


def _common(sizes: tuple[int | None, ...]) -> int | None:
    wide = {size for size in sizes if size != 1}
    known = wide - {None}
    if len(known) > 1:
        raise ValueError(f"sizes {sizes} do not go together")
    return next(iter(known), None) if wide else 1


def elementwise(name: str, *operands: Array, dtype: Any = None, **attributes: Any) -> Array:
    """An operator that works element by element."""
    return op(name, operands, broadcast(*(x.shape for x in operands)), dtype, **attributes)


def binary(name: str, dtype: Any = None) -> Callable[[Any, Any], Array]:
    """A function of two operands. dtype: of the result, where it is not the operands'."""

    def function(a: Any, b: Any) -> Array:
        return elementwise(name, *alike(a, b), dtype=dtype)

    return function


add, subtract, multiply = binary("Add"), binary("Sub"), binary("Mul")
less, less_equal = binary("Less", bool), binary("LessOrEqual", bool)
greater, greater_equal = binary("Greater", bool), binary("GreaterOrEqual", bool)
equal = binary("Equal", bool)
logical_and, logical_or = binary("And"), binary("Or")


def divide(a: Any, b: Any) -> Array:
    a, b = alike(a, b)
    if a.dtype.kind in "iub":
        a, b = cast(a, np.float64), cast(b, np.float64)
    return elementwise("Div", a, b)


def not_equal(a: Any, b: Any) -> Array:
    return elementwise("Not", equal(a, b))


def power(a: Any, b: Any) -> Array:
    return elementwise("Pow", *alike(a, b))


def matmul(a: Array, b: Array) -> Array:
    a, b = alike(a, b)
    if a.ndim == 1 or b.ndim == 1:
        rest = a.shape[:-1] + b.shape[1:]
    else:
        rest = (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    if 0 in rest:  # onnxruntime does not broadcast a matrix over an empty batch
        return filled(rest, 0, a.dtype)
    return op("MatMul", (a, b), rest)


# Sizes are not negative: ONNX's division of ints is that of Python for them.
_OPERATORS = {
    "add": add, "sub": subtract, "mul": multiply, "truediv": divide, "floordiv": binary("Div"), "mod": binary("Mod"),
    "pow": power, "matmul": matmul, "and": logical_and, "or": logical_or,
}  # fmt: skip
_COMPARISONS = {
    "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal, "eq": equal, "ne": not_equal,
}  # fmt: skip


def _method(function: Callable[[Any, Any], Array], swapped: bool = False) -> Callable[[Array, Any], Array]:
    return (lambda self, other: function(other, self)) if swapped else (lambda self, other: function(self, other))


for _name, _function in _OPERATORS.items():
    setattr(Array, f"__{_name}__", _method(_function))
    setattr(Array, f"__r{_name}__", _method(_function, swapped=True))
for _name, _function in _COMPARISONS.items():
    setattr(Array, f"__{_name}__", _method(_function))


# Sizes


def size(x: Array, axis: int) -> Any:
    """A size: an int, or a scalar array where it is known only when the model runs."""
    known = x.shape[axis]
    if known is not None:
        return known
    axis %= x.ndim
    return squeeze(op("Shape", (x,), (1,), np.int64, start=axis, end=axis + 1), (0,))


def whole_shape(x: Array) -> Array:
    """The shape as a vector."""
    return op("Shape", (x,), (x.ndim,), np.int64) if None in x.shape else constant(x.shape, np.int64)


def vector(sizes: Sequence[Any]) -> Array:
    """Sizes, some of which may be scalar arrays, as one vector."""
    if all(isinstance(s, (int, np.integer)) for s in sizes):
        return constant(sizes, np.int64)
    parts = [_row(s) if isinstance(s, Array) else constant([s], np.int64) for s in sizes]
    return op("Concat", parts, (len(parts),), axis=0)


def _row(size: Array) -> Array:
    """A scalar as a vector."""
    before = size.node
    if size.value is None and before is not None and before.operator == "Squeeze" and before.inputs[0].ndim == 1:
        return before.inputs[0]  # it was one: see ``size``
    return unsqueeze(cast(size, np.int64), (0,))


def known(sizes: Sequence[Any]) -> Shape:
    """Sizes as a shape: None for those that are arrays."""
    return tuple(int(s) if isinstance(s, (int, np.integer)) else None for s in sizes)


# Shapes


def unsqueeze(x: Array, axes: Sequence[int]) -> Array:
    """x with new axes of size 1, at these places of the result."""
    ndim = x.ndim + len(axes)
    places = sorted(axis % ndim for axis in axes)
    shape = list(x.shape)
    for place in places:
        shape.insert(place, 1)
    return op("Unsqueeze", (x, constant(places, np.int64)), shape)


def squeeze(x: Array, axes: Sequence[int]) -> Array:
    """x without these axes of size 1."""
    places = sorted(axis % x.ndim for axis in axes)
    shape = [s for axis, s in enumerate(x.shape) if axis not in places]
    return op("Squeeze", (x, constant(places, np.int64)), shape) if places else x


def sliced(x: Array, index: Any) -> Array:
    """x[index], for ints, slices, None and an ellipsis."""
    parts = list(index) if isinstance(index, tuple) else [index]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    parts[at : at + 1] = [slice(None)] * (x.ndim - used)
    axis, new, picked, cuts = 0, [], [], []
    for part in parts:
        if part is None:
            new.append(axis - len(picked) + len(new))
            continue
        if isinstance(part, slice):
            cuts.append((axis, part))
        else:
            picked.append((axis, operator.index(part)))
        axis += 1
    x = _cut(x, cuts)
    for axis, place in reversed(picked):
        x = op("Gather", (x, constant(place, np.int64)), x.shape[:axis] + x.shape[axis + 1 :], axis=axis)
    return unsqueeze(x, new) if new else x


LAST = 2**63 - 1
"""As the end of a slice: as far as there is."""


def _cut(x: Array, cuts: Sequence[tuple[int, slice]]) -> Array:
    cuts = [(axis, part) for axis, part in cuts if not _covers(part, x.shape[axis])]
    if not cuts:
        return x
    shape = list(x.shape)
    for axis, part in cuts:
        length = shape[axis]
        plain = all(s is None or isinstance(s, int) for s in (part.start, part.stop, part.step))
        shape[axis] = len(range(*part.indices(length))) if plain and length is not None else None
    starts = [0 if part.start is None else part.start for _, part in cuts]
    stops = [LAST if part.stop is None else part.stop for _, part in cuts]
    steps = [1 if part.step is None else part.step for _, part in cuts]
    axes = [axis for axis, _ in cuts]
    return op("Slice", (x, vector(starts), vector(stops), vector(axes), vector(steps)), shape)


def _covers(part: slice, length: int | None) -> bool:
    """Whether a slice is the whole axis."""
    if part.step not in (None, 1) or not (part.start is None or (isinstance(part.start, int) and part.start == 0)):
        return False
    return part.stop is None or (isinstance(part.stop, int) and length is not None and part.stop >= length)
