"""Sums and extremes that are right for every float, infinities and NaN included."""

import math


def total(numbers):
    """The sum, rounded once where that is possible, so that the order of summation does not matter."""
    numbers = list(numbers)
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # a partial sum overflows, or inf - inf: fsum raises, floats do not
        return sum(numbers)


def dot(a, b):
    """Sum of products."""
    return total(x * y for x, y in zip(a, b, strict=True))


def mean(numbers):
    """Sum over count."""
    numbers = list(numbers)
    return total(numbers) / len(numbers)


def largest(numbers):
    """The maximum; NaN if any is NaN (the built-in max then depends on the order)."""
    numbers = list(numbers)
    return math.nan if any(math.isnan(x) for x in numbers) else max(numbers)


def clip(x, low, high):
    """x, but no less than low and no more than high; NaN stays NaN."""
    return low if x < low else high if x > high else x


def exp(x):
    """e to the x, infinite where it overflows."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
