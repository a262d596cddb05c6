"""Reverse-mode differentiation over any array namespace.

``Var`` is an array that remembers how it was made; ``Differentiable(xp)`` is a namespace that makes them. Derivatives
are written with functions of the same namespace, so that whatever can read a definition can read its gradient: plain
arrays give gradients, running-error arrays give their error bounds.

A function with a derivative of its own (a kernel with a VJP) joins as a ``primitive``.

Source: Griewank & Walther, Evaluating derivatives, 2nd ed. 2008, chapter 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from layerhub import namespace
from layerhub.errors import LayerHubError

_order = itertools.count()


class Node:
    """One recorded operation. pullback: cotangents of all outputs (None: zero) -> a cotangent for each parent."""

    __slots__ = ("order", "parents", "pullback", "width")

    def __init__(self, parents: Sequence[Var], pullback: Callable[[tuple], Sequence[Any]], width: int = 1):
        self.parents, self.pullback, self.width = parents, pullback, width
        self.order = next(_order)


class Var(namespace.Operand):
    """An array whose making is recorded."""

    __slots__ = ("node", "position", "space", "value")

    def __init__(self, value: Any, space: Differentiable, node: Node | None = None, position: int = 0):
        self.value, self.space, self.node, self.position = value, space, node, position

    def __getitem__(self, index: Any) -> Any:
        return self.space.slice(self, index if isinstance(index, tuple) else (index,))

    def __repr__(self) -> str:
        return f"Var({self.value!r})"


def value_of(x: Any) -> Any:
    """The plain array (or tuple, list, dict of them) behind recorded ones."""
    if isinstance(x, Var):
        return x.value
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(value_of, x))
    if isinstance(x, (tuple, list)):
        return type(x)(map(value_of, x))
    if isinstance(x, dict):
        return {key: value_of(v) for key, v in x.items()}
    return x


class Differentiable(namespace.Namespace):
    """The namespace ``xp``, recording what is done to ``Var``s."""

    def __init__(self, xp: Any):
        self.xp = xp
        self.depth = xp.depth + 1
        for name in ("scan", "random_bits", "size"):
            default = namespace.EXTRAS[name]
            # scan runs its step on Vars, so it is the loop; bits and sizes have no derivative.
            setattr(self, name, getattr(xp, name) if name != "scan" else default.__get__(self))

    def var(self, value: Any) -> Var:
        """A leaf: something to differentiate by."""
        return Var(value, self)

    def stop_gradient(self, x: Any) -> Any:
        return value_of(x)

    def slice(self, x: Var, index: tuple) -> Any:
        shape, xp = x.shape, self.xp
        return Var(x.value[index], self, Node((x,), lambda g: (xp.unslice(g[0], shape, _full(index, len(shape))),)))

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.xp, name)
        value = self._lifted(name, function) if callable(function) and not isinstance(function, type) else function
        setattr(self, name, value)
        return value

    def _lifted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        rule = RULES.get(name)
        passive = name in PASSIVE
        xp = self.xp

        def call(*args: Any, **kwargs: Any) -> Any:
            variables = [
                a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else (arg,)) if isinstance(a, Var)
            ]
            raw = [value_of(arg) for arg in args]
            result = function(*raw, **kwargs)
            if not variables or passive:
                return result
            if rule is None:
                raise LayerHubError(f"no derivative is known for the array function {name!r}")
            pull = rule(xp, result, *raw, **kwargs)
            if pull is None:
                return result
            owners = [i for i, arg in enumerate(args) if _holds(arg)]

            def pullback(cotangents: tuple) -> list[Any]:
                pulled = pull(cotangents[0])
                found: list[Any] = []
                for i in owners:
                    if isinstance(args[i], Var):
                        found.append(pulled[i])
                    else:
                        found.extend(p for a, p in zip(args[i], pulled[i], strict=True) if isinstance(a, Var))
                return found

            return Var(result, self, Node(variables, pullback))

        return call

    def primitive(
        self, saving: Callable[..., Any], vjp: Callable[..., Any], outputs: Callable[[Any], tuple]
    ) -> Callable:
        """A recorded function with a derivative of its own.

        saving(layer, *arguments) gives (result, saved); vjp(layer, saved, cotangents) gives the gradients of the
        arguments (tuples where arguments are tuples). outputs(result) lists the differentiable arrays of a result
        and a function that puts others in their places.
        """

        def call(layer: Any, *args: Any) -> Any:
            raw = [value_of(arg) for arg in args]
            result, saved = saving(layer, *raw)
            flat = [(i, j, a) for i, arg in enumerate(args) for j, a in _leaves(arg)]
            if not flat:
                return result
            arrays, rebuild = outputs(result)

            def pullback(cotangents: tuple) -> list[Any]:
                filled = tuple(
                    self.xp.zeros_like(array) if g is None else g for g, array in zip(cotangents, arrays, strict=True)
                )
                gradients = vjp(layer, saved, filled)
                return [gradients[i] if j is None else gradients[i][j] for i, j, _ in flat]

            node = Node([a for _, _, a in flat], pullback, width=len(arrays))
            return rebuild(tuple(Var(array, self, node, k) for k, array in enumerate(arrays)))

        return call


def _leaves(arg: Any) -> list[tuple[int | None, Var]]:
    if isinstance(arg, Var):
        return [(None, arg)]
    return [(j, a) for j, a in enumerate(arg) if isinstance(a, Var)] if isinstance(arg, (list, tuple)) else []


def _holds(arg: Any) -> bool:
    return bool(_leaves(arg))


def _full(index: tuple, ndim: int) -> tuple:
    """An index with its ellipsis written out."""
    if any(part is Ellipsis for part in index):
        at = next(i for i, part in enumerate(index) if part is Ellipsis)
        fill = ndim - (len(index) - 1)
        index = (*index[:at], *(slice(None),) * fill, *index[at + 1 :])
    return (*index, *(slice(None),) * (ndim - len(index)))


def gradients(outputs: Sequence[Any], cotangents: Sequence[Any], inputs: Sequence[Var]) -> list[Any]:
    """d sum(outputs * cotangents) / d inputs; zeros where an output does not depend on an input."""
    waiting: dict[Node, list[Any]] = {}
    leaves: dict[int, Any] = {}

    def give(var: Var, cotangent: Any) -> None:
        if cotangent is None:
            return
        if var.node is None:
            leaves[id(var)] = cotangent if id(var) not in leaves else leaves[id(var)] + cotangent
            return
        slots = waiting.setdefault(var.node, [None] * var.node.width)
        before = slots[var.position]
        slots[var.position] = cotangent if before is None else before + cotangent

    for output, cotangent in zip(outputs, cotangents, strict=True):
        if isinstance(output, Var):
            give(output, cotangent)
    for node in _in_reverse(outputs):
        slots = waiting.pop(node, None)
        if slots is not None:
            for parent, cotangent in zip(node.parents, node.pullback(tuple(slots)), strict=True):
                give(parent, cotangent)
    return [leaves[id(x)] if id(x) in leaves else x.space.xp.zeros_like(x.value) for x in inputs]


def _in_reverse(outputs: Sequence[Any]) -> list[Node]:
    """All nodes behind the outputs, the last made first."""
    seen: set[Node] = set()
    stack = [x.node for x in outputs if isinstance(x, Var) and x.node is not None]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(parent.node for parent in node.parents if parent.node is not None)
    return sorted(seen, key=lambda node: -node.order)


def value_and_grad(
    xp: Any, function: Callable[[list], tuple[Any, Any]], params: Sequence[Any]
) -> tuple[Any, Any, list]:
    """(loss, aux, gradients) of ``function(params) -> (loss, aux)``, which must compute with ``Differentiable(xp)``."""
    space = differentiable(xp)
    variables = [space.var(p) for p in params]
    loss, aux = function(variables)
    found = gradients([loss], [xp.ones_like(value_of(loss))], variables)
    return value_of(loss), value_of(aux), found


_spaces: dict[int, Differentiable] = {}


def differentiable(xp: Any) -> Differentiable:
    """The one recording namespace over ``xp``."""
    if id(xp) not in _spaces:
        _spaces[id(xp)] = Differentiable(xp)
    return _spaces[id(xp)]


# Derivatives. A rule takes (xp, result, *arguments) and gives a function from the result's cotangent to one for each
# argument; None in place of that function says that nothing flows back.

PASSIVE = frozenset(
    """
    all any arange argmax argmin asarray bitwise_and bitwise_right_shift bitwise_xor ceil equal floor
    full_like greater greater_equal isfinite isinf isnan less less_equal logical_and logical_not logical_or
    not_equal ones_like round sign zeros_like
""".split()
)

RULES: dict[str, Callable[..., Any]] = {}


def _rule(name: str) -> Callable:
    def enter(rule: Callable) -> Callable:
        RULES[name] = rule
        return rule

    return enter


def _shape(x: Any) -> tuple[int, ...] | None:
    return getattr(x, "shape", None)


def unbroadcast(xp: Any, g: Any, shape: tuple[int, ...] | None) -> Any:
    """A cotangent summed over the axes along which its argument was broadcast; None for plain numbers."""
    if shape is None:
        return None
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    if extra:
        g = xp.sum(g, axis=tuple(range(extra)))
    stretched = tuple(i for i, size in enumerate(shape) if size == 1 and g.shape[i] != 1)
    return xp.sum(g, axis=stretched, keepdims=True) if stretched else g


def _elementwise(name: str, *partials: Callable) -> None:
    """partials[i](xp, g, result, *arguments): what flows to argument i before broadcasting is undone."""

    def rule(xp: Any, result: Any, *args: Any) -> Callable:
        return lambda g: [
            unbroadcast(xp, partial(xp, g, result, *args), _shape(arg))
            for partial, arg in zip(partials, args, strict=True)
        ]

    RULES[name] = rule


_elementwise("add", lambda xp, g, y, a, b: g, lambda xp, g, y, a, b: g)
_elementwise("subtract", lambda xp, g, y, a, b: g, lambda xp, g, y, a, b: -g)
_elementwise("multiply", lambda xp, g, y, a, b: g * b, lambda xp, g, y, a, b: g * a)
_elementwise("divide", lambda xp, g, y, a, b: g / b, lambda xp, g, y, a, b: -(g * y / b))
_elementwise("negative", lambda xp, g, y, a: -g)
_elementwise("exp", lambda xp, g, y, a: g * y)
_elementwise("expm1", lambda xp, g, y, a: g * xp.exp(a))
_elementwise("log", lambda xp, g, y, a: g / a)
_elementwise("log1p", lambda xp, g, y, a: g / (1 + a))
_elementwise("sqrt", lambda xp, g, y, a: g / (2 * y))
_elementwise("tanh", lambda xp, g, y, a: g * ((1 - y) * (1 + y)))
_elementwise("sin", lambda xp, g, y, a: g * xp.cos(a))
_elementwise("cos", lambda xp, g, y, a: -(g * xp.sin(a)))
_elementwise("erf", lambda xp, g, y, a: g * (2 / math.sqrt(math.pi) * xp.exp(-(a * a))))
_elementwise("abs", lambda xp, g, y, a: g * xp.sign(a))
_elementwise("square", lambda xp, g, y, a: g * (2 * a))


def _share(xp: Any, won: Any, tied: Any, dtype: Any) -> Any:
    return xp.astype(won, dtype) + 0.5 * xp.astype(tied, dtype)


_elementwise(
    "maximum",
    lambda xp, g, y, a, b: g * _share(xp, a > b, a == b, g.dtype),
    lambda xp, g, y, a, b: g * _share(xp, b > a, a == b, g.dtype),
)
_elementwise(
    "minimum",
    lambda xp, g, y, a, b: g * _share(xp, a < b, a == b, g.dtype),
    lambda xp, g, y, a, b: g * _share(xp, b < a, a == b, g.dtype),
)


@_rule("pow")
def _pow(xp: Any, y: Any, a: Any, b: Any) -> Callable:
    if _shape(b) is not None:
        raise LayerHubError("pow has a derivative here for plain numbers as exponents only")
    return lambda g: (g * (b * a ** (b - 1)), None)


@_rule("where")
def _where(xp: Any, y: Any, condition: Any, a: Any, b: Any) -> Callable:
    def pull(g: Any) -> tuple:
        zero = xp.zeros_like(g)
        return (
            None,
            unbroadcast(xp, xp.where(condition, g, zero), _shape(a)),
            unbroadcast(xp, xp.where(condition, zero, g), _shape(b)),
        )

    return pull


@_rule("astype")
def _astype(xp: Any, y: Any, x: Any, dtype: Any, **_: Any) -> Callable | None:
    if dtype not in [getattr(xp, name) for name in ("float16", "bfloat16", "float32", "float64") if hasattr(xp, name)]:
        return None
    return lambda g: (xp.astype(g, x.dtype), None)


def _kept(xp: Any, g: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """A reduction's cotangent with the reduced axes as size 1."""
    if keepdims:
        return g
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    for i in sorted(a % x.ndim for a in axes):
        g = xp.expand_dims(g, axis=i)
    return g


@_rule("sum")
def _sum(xp: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Callable:
    return lambda g: (xp.broadcast_to(_kept(xp, g, x, axis, keepdims), x.shape),)


@_rule("mean")
def _mean(xp: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Callable:
    count = math.prod(x.shape) / max(math.prod(y.shape), 1)
    return lambda g: (xp.broadcast_to(_kept(xp, g / count, x, axis, keepdims), x.shape),)


def _extreme(xp: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Callable:
    def pull(g: Any) -> tuple:
        best = xp.astype(x == _kept(xp, y, x, axis, keepdims), g.dtype)
        return (_kept(xp, g, x, axis, keepdims) * best / xp.sum(best, axis=axis, keepdims=True),)

    return pull


RULES["max"] = RULES["min"] = _extreme


def _transposed(xp: Any, x: Any) -> Any:
    return xp.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


@_rule("matmul")
def _matmul(xp: Any, y: Any, a: Any, b: Any) -> Callable:
    def pull(g: Any) -> tuple:
        if b.ndim == 2 and a.ndim > 2:
            rows = xp.reshape(a, (-1, a.shape[-1]))
            return xp.matmul(g, _transposed(xp, b)), xp.matmul(_transposed(xp, rows), xp.reshape(g, (-1, g.shape[-1])))
        to_a = xp.matmul(g, _transposed(xp, b))
        to_b = xp.matmul(_transposed(xp, a), g)
        return unbroadcast(xp, to_a, a.shape), unbroadcast(xp, to_b, b.shape)

    return pull


@_rule("einsum")
def _einsum(xp: Any, y: Any, subscripts: str, a: Any, b: Any) -> Callable:
    terms, output = subscripts.replace(" ", "").split("->")
    first, second = terms.split(",")
    return lambda g: (
        None,
        xp.einsum(f"{output},{second}->{first}", g, b),
        xp.einsum(f"{output},{first}->{second}", g, a),
    )


@_rule("reshape")
def _reshape(xp: Any, y: Any, x: Any, shape: Any) -> Callable:
    return lambda g: (xp.reshape(g, x.shape), None)


for _name in ("expand_dims", "squeeze"):
    RULES[_name] = lambda xp, y, x, axis: lambda g: (xp.reshape(g, x.shape), None)


@_rule("permute_dims")
def _permute_dims(xp: Any, y: Any, x: Any, axes: Any) -> Callable:
    back = sorted(range(x.ndim), key=lambda i: axes[i] % x.ndim)
    return lambda g: (xp.permute_dims(g, tuple(back)), None)


@_rule("flip")
def _flip(xp: Any, y: Any, x: Any, axis: Any) -> Callable:
    return lambda g: (xp.flip(g, axis=axis),)


@_rule("broadcast_to")
def _broadcast_to(xp: Any, y: Any, x: Any, shape: Any) -> Callable:
    return lambda g: (unbroadcast(xp, g, x.shape), None)


def _pieces(g: Any, axis: int, sizes: list[int]) -> list[Any]:
    ends = list(itertools.accumulate(sizes))
    lead = (slice(None),) * (axis % g.ndim)
    return [g[(*lead, slice(end - size, end), ...)] for end, size in zip(ends, sizes, strict=True)]


@_rule("concat")
def _concat(xp: Any, y: Any, arrays: Any, axis: int = 0) -> Callable:
    return lambda g: (_pieces(g, axis, [a.shape[axis] for a in arrays]),)


@_rule("stack")
def _stack(xp: Any, y: Any, arrays: Any, axis: int = 0) -> Callable:
    return lambda g: ([xp.squeeze(piece, axis=axis % g.ndim) for piece in _pieces(g, axis, [1] * len(arrays))],)


@_rule("pad")
def _pad(xp: Any, y: Any, x: Any, widths: Any, value: float = 0.0) -> Callable:
    inner = tuple(slice(before, before + size) for (before, _), size in zip(widths, x.shape, strict=True))
    return lambda g: (g[inner], None, None)


@_rule("take")
def _take(xp: Any, y: Any, x: Any, index: Any, axis: int = 0) -> Callable:
    if axis != 0:
        raise LayerHubError("take has a derivative here along axis 0 only")
    return lambda g: (xp.scatter_add(x.shape[0], index, g), None)


@_rule("take_along_axis")
def _take_along_axis(xp: Any, y: Any, x: Any, index: Any, axis: int = -1) -> Callable:
    axis = axis % x.ndim

    def pull(g: Any) -> tuple:
        places = xp.reshape(xp.arange(x.shape[axis], dtype=index.dtype), (-1, *(1,) * (x.ndim - axis - 1)))
        total = 0
        for piece, at in zip(
            _pieces(g, axis, [1] * g.shape[axis]), _pieces(index, axis, [1] * g.shape[axis]), strict=True
        ):
            total = total + xp.where(at == places, piece, xp.zeros_like(piece))
        return total, None

    return pull


@_rule("unslice")
def _unslice(xp: Any, y: Any, x: Any, shape: Any, index: Any) -> Callable:
    return lambda g: (g[index], None, None)
