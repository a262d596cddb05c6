"""Nested lists of numbers, addressed by multi-indices. The first axis is the outermost list."""


def shape(x):
    """Its sizes, outermost first; () for a number. What lies inside an empty list is unknown and left out."""
    sizes = []
    while isinstance(x, list | tuple):
        sizes.append(len(x))
        if not x:
            break
        x = x[0]
    return tuple(sizes)


def at(x, index):
    """x[i][j]... for index (i, j, ...)."""
    for i in index:
        x = x[i]
    return x


def build(sizes, value):
    """The nested list of this shape with ``value(index)`` at every index."""

    def inside(index):
        if len(index) == len(sizes):
            return value(index)
        return [inside((*index, i)) for i in range(sizes[len(index)])]

    return inside(())


def flatten(x):
    """The numbers of nested lists, of a regular shape or not, in C order (last axis fastest)."""
    if not isinstance(x, list | tuple):
        return [x]
    return [leaf for part in x for leaf in flatten(part)]


def unflatten(leaves, like):
    """Nested lists of the same structure as ``like``, with these leaves: unflatten(flatten(x), x) == x."""
    rest = iter(leaves)

    def fill(part):
        return [fill(inner) for inner in part] if isinstance(part, list | tuple) else next(rest)

    try:
        filled = fill(like)
    except StopIteration:
        raise ValueError("too few leaves for this structure") from None
    if next(rest, None) is not None:
        raise ValueError("too many leaves for this structure")
    return filled


def reshape(x, sizes):
    """The same numbers, in C order, as nested lists of another shape."""
    leaves = flatten(x)
    strides = [1]
    for size in reversed(sizes):
        strides.insert(0, strides[0] * size)
    if strides[0] != len(leaves):
        raise ValueError(f"{len(leaves)} numbers do not fill the shape {tuple(sizes)}")
    return build(sizes, lambda index: leaves[sum(i * s for i, s in zip(index, strides[1:], strict=True))])


def transpose(x, order):
    """Axis ``order[a]`` of x becomes axis a of the result."""
    sizes = shape(x)
    if 0 in sizes:  # nothing to move, and the sizes inside are unknown
        return x
    where = [order.index(axis) for axis in range(len(sizes))]
    return build([sizes[axis] for axis in order], lambda index: at(x, [index[a] for a in where]))


def rows(f, x):
    """Replace every innermost list (the last axis) by what f makes of it."""
    if x and isinstance(x[0], list | tuple):
        return [rows(f, part) for part in x]
    return f(x) if x else []


def along(axis, f, x):
    """As `rows`, but along any axis; f keeps the length of the row."""
    rank = len(shape(x))
    if axis in (-1, rank - 1) or 0 in shape(x):
        return rows(f, x)
    axis %= rank
    last = [a for a in range(rank) if a != axis] + [axis]
    back = [last.index(a) for a in range(rank)]
    return transpose(rows(f, transpose(x, last)), back)


def channels_last(sample, data_format):
    """One sample (no batch axis) with its channels moved from first to last, if that is where they are."""
    rank = len(shape(sample))
    if data_format == "channels_last" or rank < 2:
        return sample
    return transpose(sample, [*range(1, rank), 0])


def channels_back(sample, data_format):
    """The reverse of `channels_last`."""
    if data_format == "channels_last":
        return sample
    rank = len(shape(sample))
    return transpose(sample, [rank - 1, *range(rank - 1)])
