"""Cropping, zero padding and enlarging of images in any number of dimensions."""

from fractions import Fraction
from itertools import product
from math import pi, sin

from .arithmetic import total
from .nested import at, build, channels_back, channels_last, shape
from .registry import Outcome, oracle


def each_sample(params, inputs, change):
    """change(sample with its channels last) for each sample of the input."""
    (x,) = inputs
    data_format = params.get("data_format", "channels_last")
    return Outcome([[channels_back(change(channels_last(sample, data_format)), data_format) for sample in x]])


def pairs(sides):
    """(before, after) for each axis; with one axis the pair stands alone."""
    return [sides] if isinstance(sides[0], int) else sides


@oracle("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(params, inputs, weights, **_):
    """The cells that are left when some are cut off before and after each axis."""
    sides = pairs(params["cropping"])

    def change(sample):
        *space, channels = shape(sample)
        left = [size - before - after for size, (before, after) in zip(space, sides, strict=True)]
        firsts = [before for before, _ in sides] + [0]
        return build([*left, channels], lambda index: at(sample, [i + f for i, f in zip(index, firsts, strict=True)]))

    return each_sample(params, inputs, change)


@oracle("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(params, inputs, weights, **_):
    """The image with zeros before and after each axis."""
    sides = pairs(params["padding"])

    def change(sample):
        *space, channels = shape(sample)
        wide = [size + before + after for size, (before, after) in zip(space, sides, strict=True)]

        def value(index):
            *place, c = index
            cell = [p - before for p, (before, _) in zip(place, sides, strict=True)]
            inside = all(0 <= i < size for i, size in zip(cell, space, strict=True))
            return at(sample, [*cell, c]) if inside else 0.0

        return build([*wide, channels], value)

    return each_sample(params, inputs, change)


def triangle(d):
    """1 at 0, 0 from 1 on."""
    return max(1 - abs(d), 0)


def keys(d, a=Fraction(-1, 2)):
    """The cubic convolution of Keys 1981, formula 14, with the a for which it is exact to the third order."""
    d = abs(d)
    if d < 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0


def lanczos(d, radius):
    """sinc(d) sinc(d / radius) within the radius."""
    d = float(d)
    if d == 0:
        return 1.0
    return sin(pi * d) / (pi * d) * sin(pi * d / radius) / (pi * d / radius) if abs(d) < radius else 0.0


CURVES = {
    "bilinear": triangle,
    "bicubic": keys,
    "lanczos3": lambda d: lanczos(d, 3),
    "lanczos5": lambda d: lanczos(d, 5),
}


def shares(length, factor, curve):
    """For each new cell along one axis, the pairs (old cell, weight), weights of sum 1.

    A new cell of width 1 / factor has its centre at (new + 1/2) / factor, an old one at old + 1/2.
    """
    if curve is None:
        return [[(new // factor, 1.0)] for new in range(length * factor)]
    rows = []
    for new in range(length * factor):
        centre = Fraction(2 * new + 1, 2 * factor)
        weights = [curve(Fraction(2 * old + 1, 2) - centre) for old in range(length)]
        whole = sum(weights)
        rows.append([(old, float(w / whole)) for old, w in enumerate(weights) if w != 0])
    return rows


@oracle("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(params, inputs, weights, **_):
    """Each new cell is a weighted sum of old ones, axis by axis; "nearest" takes the one old cell it lies in."""
    curve = CURVES.get(params.get("interpolation"))
    factors = [params["size"]] if isinstance(params["size"], int) else params["size"]

    def change(sample):
        *space, channels = shape(sample)
        axes = [shares(length, factor, curve) for length, factor in zip(space, factors, strict=True)]

        def value(index):
            *place, c = index
            terms = []
            for chosen in product(*(axis[p] for axis, p in zip(axes, place, strict=True))):
                weight = 1.0
                for _, share in chosen:
                    weight *= share
                terms.append(weight * at(sample, [old for old, _ in chosen])[c])
            return total(terms)

        return build([*map(len, axes), channels], value)

    return each_sample(params, inputs, change)
