"""Dense, Activation, Flatten, Reshape, Embedding, Dropout."""

from math import prod

from .activations import activate
from .arithmetic import dot
from .nested import at, build, channels_last, flatten, reshape, rows, shape
from .registry import Outcome, oracle


def affine(row, kernel, bias=None):
    """y[u] = sum_i row[i] kernel[i][u] + bias[u]."""
    columns = list(zip(*kernel, strict=True))
    products = [dot(row, column) for column in columns]
    return products if bias is None else [y + b for y, b in zip(products, bias, strict=True)]


@oracle("Dense")
def dense(params, inputs, weights, **_):
    """activation(x @ kernel + bias), over the last axis whatever the rank."""
    (x,) = inputs
    kernel, *bias = weights
    bias = bias[0] if params["use_bias"] else None
    return Outcome([activate(params["activation"], rows(lambda row: affine(row, kernel, bias), x))])


@oracle("Activation")
def activation(params, inputs, weights, **_):
    """The activation alone."""
    (x,) = inputs
    return Outcome([activate(params["activation"], x)])


@oracle("Flatten")
def flatten_layer(params, inputs, weights, **_):
    """All numbers of a sample in C order of (space, channels); channels that come first are moved last."""
    (x,) = inputs
    return Outcome([[flatten(channels_last(sample, params["data_format"])) for sample in x]])


@oracle("Reshape")
def reshape_layer(params, inputs, weights, **_):
    """The numbers of each sample in C order, in a new shape; -1 stands for whatever size is left over."""
    (x,) = inputs

    def sized(sample):
        known = prod(size for size in params["target_shape"] if size != -1)
        return [len(flatten(sample)) // known if size == -1 else size for size in params["target_shape"]]

    return Outcome([[reshape(sample, sized(sample)) for sample in x]])


@oracle("Embedding")
def embedding(params, inputs, weights, **_):
    """Row number ``id`` of the table for each id; ids that are not whole are truncated."""
    (x,) = inputs
    (table,) = weights

    def look_up(index):
        row = int(at(x, index))
        if not 0 <= row < len(table):
            raise IndexError(f"id {row} is not in a table of {len(table)} rows")
        return list(table[row])

    return Outcome([build(shape(x), look_up)])


@oracle("Dropout")
def dropout(params, inputs, weights, *, training=False, bits=None, **_):
    """x / (1 - rate) where the mask keeps, 0 elsewhere; x itself when not training.

    Element i of the mask, in C order, is kept iff bits[i] >= round(rate 2^32), for bits uniform in [0, 2^32).
    ``noise_shape`` is the mask's shape where that is not x's: an axis of size 1 shares its decisions, None
    stands for x's size. Srivastava et al. 2014, JMLR 15:1929.
    """
    (x,) = inputs
    rate = params["rate"]
    if not training or rate == 0:
        return Outcome([x])
    sizes = shape(x)
    noise = params.get("noise_shape") or [None] * len(sizes)
    if len(noise) != len(sizes):
        raise ValueError(f"noise_shape {tuple(noise)} does not have the {len(sizes)} axes of the input")
    noise = [size if n is None else n for n, size in zip(noise, sizes, strict=True)]
    if any(n not in (1, size) for n, size in zip(noise, sizes, strict=True)):
        raise ValueError(f"noise_shape {tuple(noise)} does not broadcast to {sizes}")
    if bits is None:
        raise ValueError("Dropout in training needs the random bits of its mask")
    bits = reshape(list(bits), noise)
    threshold = round(rate * 2**32)

    def value(index):
        kept = at(bits, [0 if n == 1 else i for i, n in zip(index, noise, strict=True)]) >= threshold
        return at(x, index) / (1 - rate) if kept else 0.0

    return Outcome([build(sizes, value)])
