"""Derivatives from function values alone, each with an estimate of its own error.

The estimate is what makes the result a judge: a derivative d found otherwise is right if |d - gradient| stays
within a small multiple of the error, and no tolerance has to be chosen by hand.
"""

import math
from dataclasses import dataclass

from .nested import flatten, unflatten

__all__ = ["difference", "flatten", "unflatten"]

UNIT_ROUNDOFF = 2.0**-53
LEVELS = 16  # step sizes tried for a coordinate near 1: 2^-3 ... 2^-18 of it
EXTRA_LEVELS = 24  # at most so many more, below those, for a smaller coordinate
ORDERS = 6  # of extrapolation
FEW = 4  # roundings that every value is taken to carry
NOISE_SPACING = 2.0**-17
# Irregular: on a regular grid, values that are rounded to a grid of their own may happen to look smooth.
NOISE_GRID = (0.0, 1.08731, 2.31947, 3.17329, 4.63517, 5.44193, 6.89561, 7.71283, 9.02647)
NOISE_ORDER = 5


@dataclass
class Estimate:
    """A derivative, the part of its error that comes from the noise of f, and its whole error."""

    value: float
    noise: float
    error: float


def difference(f, point):
    """(gradient, error) of a scalar function f of a flat list of floats: two lists as long as point.

    For each coordinate central differences are taken at steps h, h/2, h/4 ..., and extrapolated to h = 0 by
    Richardson's rule, as Ridders does: D[k][0] = (f(x + h) - f(x - h)) / 2h at h = top / 2^k, and
        D[k][j] = D[k][j-1] + (D[k][j-1] - D[k-1][j-1]) / (4^j - 1).
    The error of D[k][j] is its distance from the two values it was made of, plus the noise of f carried
    through the same sums. The result is the D with the smallest error among those that agree, within their
    errors, with the finest steps: long steps may agree with one another on what they have jumped over. Where
    the slopes to the left and to the right of x do not meet (a kink), their distance is added to the error.
    Steps at which f is undefined, infinite or NaN are left out; with none left the answer is NaN, and its
    error infinite.

    A point costs about 60 values of f per coordinate. Where that is too much, take the derivative in one
    direction v instead: the function of one number t that is f at point + t v.
    Source: Ridders 1982, Adv. Eng. Software 4:75.
    """
    answers = [difference_along(along_axis(f, point, axis), float(point[axis])) for axis in range(len(point))]
    return [value for value, _ in answers], [error for _, error in answers]


def along_axis(f, point, axis):
    """f as a function of one coordinate, the others as at point; NaN where f is undefined."""

    def of_one(x):
        moved = list(point)
        moved[axis] = x
        try:
            return float(f(moved))
        except (ArithmeticError, ValueError):
            return math.nan

    return of_one


def difference_along(f, x):
    """(derivative, error) of a function of one number."""
    # Steps are powers of two, so that x + h is nearly always exact; the true distance is used in any case.
    exponent = math.frexp(x)[1] if x else 0
    top = 2.0 ** max(exponent, 0) / 8
    levels = LEVELS + min(max(-exponent, 0), EXTRA_LEVELS)
    # Noise may show only on the scale of x, or only on that of 1 (f rounded to multiples of 1e-9, say).
    noise = max(noise_of(f, x, 2.0**scale) for scale in {exponent, max(exponent, 0)})

    here, candidates, above, jumps = f(x), [], [], []
    for k in range(levels):
        right, left = x + top / 2**k, x - top / 2**k
        after, before = f(right), f(left)
        if not math.isfinite(after - before):
            above = []
            continue
        value_noise = noise + FEW * UNIT_ROUNDOFF * max(abs(after), abs(before))
        slope = (after - before) / (right - left)
        slope_noise = 2 * value_noise / (right - left) + FEW * UNIT_ROUNDOFF * abs(slope)
        above = extrapolated(slope, slope_noise, above)
        candidates += above
        jumps.append(((after - here) / (right - x) - (here - before) / (x - left), slope_noise))
    if len(candidates) < 2 or not math.isfinite(here):
        return math.nan, math.inf

    finest = min(above or candidates, key=lambda it: it.error)
    agreeing = [it for it in candidates if abs(it.value - finest.value) <= it.error + finest.error]
    best = min(agreeing, key=lambda it: it.error)
    return best.value, best.error + kink(jumps)


def extrapolated(slope, noise, above):
    """The row D[k][0], D[k][1] ... that begins with this slope, below the row of the step twice as long."""
    error = abs(slope - above[0].value) + noise if above else math.inf
    row = [Estimate(slope, noise, error)]
    for j, coarse in enumerate(above[:ORDERS], start=1):
        fine, weight = row[-1], 4.0**j
        value = fine.value + (fine.value - coarse.value) / (weight - 1)
        noise = (weight * fine.noise + coarse.noise) / (weight - 1)
        row.append(Estimate(value, noise, max(abs(value - fine.value), abs(value - coarse.value)) + noise))
    return row


def kink(jumps):
    """The jump of the slope at x, as far as it stands out of the noise.

    The slopes to the right and to the left differ by J + h f'' + O(h^3), with J = 0 where f is smooth; two
    steps tell J from f''. ``jumps`` holds, step by step, the difference of the slopes and the noise of one
    slope.
    """
    if len(jumps) < 2:
        return 0.0
    (coarse, _), (fine, noise) = jumps[-2:]
    jump = abs(2 * fine - coarse)
    return jump if jump > 10 * noise else 0.0


def noise_of(f, x, scale):
    """How far a value of f near x may be off by rounding, beyond a few roundings of the value itself.

    A divided difference of high order, sum of w_i f(x_i) with w_i = 1 / product over j of (x_i - x_j), sees
    next to nothing of a smooth function on a fine grid, and all of its noise: independent errors of deviation
    s give it the deviation s sqrt(sum of w_i^2). Four deviations are taken. On a scale beyond that of x,
    differences all of one sign are no noise, but a function that this grid is too coarse for. The idea is
    that of More & Wild 2011, Estimating computational noise, doi:10.1137/100786125.
    """
    away = math.copysign(scale * NOISE_SPACING, x)  # from zero, where many a function has its singularity
    here = f(x)
    values = [f(x + offset * away) - here for offset in NOISE_GRID]
    if not all(map(math.isfinite, values)):
        return 0.0
    samples = []
    for start in range(len(NOISE_GRID) - NOISE_ORDER):
        window = range(start, start + NOISE_ORDER + 1)
        weights = [1 / math.prod(NOISE_GRID[i] - NOISE_GRID[j] for j in window if j != i) for i in window]
        weighted = [w * values[i] for w, i in zip(weights, window, strict=True)]
        samples.append(sum(weighted) / math.hypot(*weights))
    if scale > 2 * abs(x) > 0 and not min(samples) < 0 < max(samples):
        return 0.0
    return 4 * max(map(abs, samples))
