"""The small language in which specs declare axes: ``"n *places c/groups"``.

A pattern is a list of axes, one word each:

    n            an axis by name; the same name means the same size wherever it stands
    4            an axis of that size
    c/groups     products and exact quotients of names and numbers
    *places      several axes: a parameter or a derived axis of the layer that holds a tuple
    ...          any number of axes, carried through unchanged

The vocabulary of names, used by every spec:

    n batch      t time       h w space     c channels      d features     units, filters: outputs
    space        the axes of an image, as many as the layer's rank
    places       the positions of a window: floor((size + pads - dilation*(k-1) - 1) / stride) + 1

Unknown sizes are None, and whatever is computed from them is None too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from layerhub.errors import ShapeError

Size = int | None
Shape = tuple[Size, ...]

SPACE_LETTERS = {1: ("w",), 2: ("h", "w"), 3: ("d", "h", "w")}


class Pattern:
    """One declared shape, parsed once."""

    def __init__(self, text: str):
        self.text = text
        self.words = tuple(text.split())
        variadic = [word for word in self.words if word == "..." or word.startswith("*")]
        if len(variadic) > 1:
            raise ValueError(f"pattern {text!r} has more than one variadic axis: {variadic}")
        self.variadic = variadic[0] if variadic else None

    def channels_first(self) -> Pattern:
        """The same axes with the last one moved to stand right after the first."""
        if len(self.words) < 3:
            return self
        first, *middle, last = self.words
        return Pattern(" ".join([first, last, *middle]))

    def spelled(self, rank: int | None) -> str:
        """The pattern with ``*space`` written out as letters, for messages."""
        letters = SPACE_LETTERS.get(rank or 0, ("*space",))
        return " ".join(" ".join(letters) if word == "*space" else word for word in self.words)

    def match(self, shape: Shape, sizes: dict[str, Any], rank: int | None, who: Callable[[], str]) -> None:
        """Bind the names of this pattern to the sizes of ``shape``, adding them to ``sizes``.

        who: says whose shape it is, should it come to a message. Raises ShapeError when the number of axes is wrong or
        a size contradicts one already bound.
        """
        words = list(self.words)
        if self.variadic is not None:
            at = words.index(self.variadic)
            span = len(shape) - (len(words) - 1)
            if self.variadic == "*space" and rank is not None and span != rank:
                self._wrong_rank(shape, len(words) - 1 + rank, rank, who)
            if span < 0:
                self._wrong_rank(shape, len(words) - 1, rank, who, "at least ")
            name = self.variadic.lstrip("*")
            sizes["..." if self.variadic == "..." else name] = tuple(shape[at : at + span])
            shape = shape[:at] + shape[at + span :]
            del words[at]
        elif len(shape) != len(words):
            self._wrong_rank(shape, len(words), rank, who)
        for word, size in zip(words, shape, strict=True):
            known = sizes.get(word) if not word.isdigit() else int(word)
            if known is None or word == "n":
                sizes[word] = size if size is not None else known
            elif size is not None and size != known:
                raise ShapeError(
                    f"{who()} has {size} along {word!r}, where {known} was expected (declared {self.text!r})"
                )

    def _wrong_rank(self, shape: Shape, needed: int, rank: int | None, who: Callable[[], str], bound: str = "") -> None:
        raise ShapeError(
            f'{who()} has shape {shape}, but "{self.spelled(rank)}" was declared: '
            f"needs {bound}{needed} axes, has {len(shape)}"
        )

    def sizes(self, lookup: Callable[[str], Any]) -> Shape:
        """The shape that this pattern stands for, each name asked of ``lookup``."""
        shape: list[Size] = []
        for word in self.words:
            if word == "...":
                shape.extend(lookup("..."))
            elif word.startswith("*"):
                shape.extend(lookup(word[1:]))
            else:
                shape.append(evaluate(word, lookup))
        return tuple(shape)


def evaluate(expression: str, lookup: Callable[[str], Any]) -> Size:
    """The value of ``c/groups`` or ``4*units``; None where a name is unknown."""
    value: Size = 1
    for operator, term in re.findall(r"([*/]?)([^*/]+)", expression):
        factor = int(term) if term.isdigit() else lookup(term)
        if value is None or factor is None:
            value = None
        elif operator == "/":
            value //= factor
        else:
            value *= factor
    return value


def product(sizes: Sequence[Size]) -> Size:
    """The number of elements; None where a size is unknown."""
    return None if any(size is None for size in sizes) else math.prod(sizes)  # type: ignore[arg-type]


def conv_length(size: Size, window: int, stride: int, padding: str, dilation: int = 1) -> Size:
    """How many positions a window has along one axis (Dumoulin & Visin 2016, relationships 5 and 6)."""
    if size is None:
        return None
    if padding == "valid":
        return (size - dilation * (window - 1) - 1) // stride + 1
    return -(-size // stride)


def same_padding(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Cells added before and after an axis by ``same`` padding; the odd one comes after."""
    reach = dilation * (window - 1) + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def padding_cells(size: int, window: int, stride: int, padding: str, dilation: int = 1) -> tuple[int, int]:
    """Cells added before and after an axis; ``causal``: all before, so that no place sees a later cell."""
    if padding == "same":
        return same_padding(size, window, stride, dilation)
    return (dilation * (window - 1) if padding == "causal" else 0), 0


def broadcast(shapes: Sequence[Shape], who: str) -> Shape:
    """The common shape of arrays that are combined element by element, by the array API's broadcasting rules."""
    rank = max(len(shape) for shape in shapes)
    result: list[Size] = []
    for axis in range(rank):
        sizes = {shape[axis - rank + len(shape)] for shape in shapes if axis - rank + len(shape) >= 0}
        known = sizes - {1, None}
        if len(known) > 1:
            raise ShapeError(f"{who}: shapes {', '.join(map(str, shapes))} cannot be broadcast together")
        result.append(known.pop() if known else (None if None in sizes else 1))
    return tuple(result)


def as_shape(value: Mapping | Sequence | None) -> Shape:
    """A shape as a tuple of ints and None."""
    return tuple(None if size is None else int(size) for size in value or ())
