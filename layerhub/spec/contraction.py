"""Sums of products of two arrays, by index letters."""

from __future__ import annotations

import math
from typing import Any

from layerhub.spec.masks import sizes


def contract(xp: Any, subscripts: str, a: Any, b: Any) -> Any:
    """``einsum`` of two arrays as one product of matrices: contract(xp, "nik,nkj->nij", a, b).

    Letters are single, and no term has one twice. Those that both arrays have and the output lacks are summed in the
    product, those that only one array has beforehand; those that all three have make it a batch of products.
    """
    terms, output = subscripts.split("->")
    first, second = terms.split(",")
    a, first = _reduced(xp, a, first, second + output)
    b, second = _reduced(xp, b, second, first + output)
    batch = [letter for letter in first if letter in second and letter in output]
    summed = [letter for letter in first if letter in second and letter not in output]
    left = [letter for letter in first if letter not in second]
    right = [letter for letter in second if letter not in first]
    size = dict(zip(first, sizes(xp, a), strict=True)) | dict(zip(second, sizes(xp, b), strict=True))

    def matrix(x: Any, term: str, rows: list[str], columns: list[str]) -> Any:
        x = _ordered(xp, x, [term.index(letter) for letter in batch + rows + columns])
        shape = [math.prod(size[letter] for letter in group) for group in (rows, columns)]
        return xp.reshape(x, (*(size[letter] for letter in batch), *shape))

    product = xp.matmul(matrix(a, first, left, summed), matrix(b, second, summed, right))
    made = batch + left + right
    product = xp.reshape(product, tuple(size[letter] for letter in made))
    return _ordered(xp, product, [made.index(letter) for letter in output])


def _reduced(xp: Any, x: Any, term: str, wanted: str) -> tuple[Any, str]:
    """The array summed over the letters that are not wanted, and the letters that are left."""
    idle = tuple(i for i, letter in enumerate(term) if letter not in wanted)
    return (xp.sum(x, axis=idle), "".join(letter for letter in term if letter in wanted)) if idle else (x, term)


def _ordered(xp: Any, x: Any, order: list[int]) -> Any:
    return x if order == sorted(order) else xp.permute_dims(x, tuple(order))
