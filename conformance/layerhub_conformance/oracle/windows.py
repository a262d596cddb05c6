"""Which cells of an axis a sliding window covers: the one rule behind convolution and pooling."""

from itertools import product


def windows(length, size, stride, dilation, padding):
    """For each place of the window along one axis, the pairs (tap, cell) that lie inside the axis.

    Tap k of place p covers cell ``p stride + k dilation - before``. Cells outside are padding and left out:
    they add nothing to a sum, are no candidate for a maximum, and do not count in an average.
        valid:  before = 0, and the window lies inside
        same:   ceil(length / stride) places; the padding they need is split in two, the odd cell at the end
        causal: all padding before the start, so that no place sees a later cell
    Dumoulin & Visin 2016, arXiv:1603.07285.
    """
    reach = (size - 1) * dilation + 1
    if padding == "same":
        count = -(-length // stride)
        needed = (count - 1) * stride + reach - length
        before = max(needed, 0) // 2
    else:
        before = {"valid": 0, "causal": reach - 1}[padding]
        count = (before + length - reach) // stride + 1
    if count <= 0:
        raise ValueError(f"a window that reaches over {reach} cells does not fit a length of {length}")

    def pairs(place):
        cells = ((tap, place * stride + tap * dilation - before) for tap in range(size))
        return [(tap, cell) for tap, cell in cells if 0 <= cell < length]

    return [pairs(place) for place in range(count)]


def windows_over(space, size, strides, dilation, padding):
    """`windows` along each axis of space."""
    return [windows(*axis, padding) for axis in zip(space, size, strides, dilation, strict=True)]


def covered(axes, place):
    """The pairs (taps, cells), multi-indices both, that the window at this place covers."""
    for pairs in product(*(axis[p] for axis, p in zip(axes, place, strict=True))):
        yield tuple(tap for tap, _ in pairs), tuple(cell for _, cell in pairs)
