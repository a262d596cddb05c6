"""Dense, Activation, shape changes, Masking, Embedding, Dropout."""

from itertools import product
from math import prod

from .activations import activate
from .arithmetic import dot, total
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


@oracle("EinsumDense")
def einsum_dense(params, inputs, weights, **_):
    """activation(y + bias), y[out] = sum over all letters that are not in ``out`` of x[in] kernel[k].

    An ellipsis stands for letters of its own, the same in input and output. The bias has the shape of the
    output from its first letter on, with size 1 where ``bias_axes`` lacks a letter.
    """
    (x,), (kernel, *bias) = inputs, weights
    terms, out = params["equation"].split("->")
    first, second = terms.split(",")
    sizes = shape(x)
    carried = "0123456789"[: len(sizes) - len(first.replace("...", ""))]
    first, out = first.replace("...", carried), out.replace("...", carried)
    size = dict(zip(first, sizes, strict=True)) | dict(zip(second, shape(kernel), strict=True))
    summed = sorted({*first, *second} - {*out})

    def value(index):
        known = dict(zip(out, index, strict=True))
        terms = []
        for inner in product(*(range(size[letter]) for letter in summed)):
            place = known | dict(zip(summed, inner, strict=True))
            terms.append(at(x, [place[i] for i in first]) * at(kernel, [place[i] for i in second]))
        y = total(terms)
        if not bias:
            return y
        ones = shape(bias[0])
        return y + at(bias[0], [0 if n == 1 else i for n, i in zip(ones, index[len(index) - len(ones) :], strict=True)])

    y = build([size[letter] for letter in out], value)
    return Outcome([activate(params["activation"], y)])


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


@oracle("Permute")
def permute(params, inputs, weights, **_):
    """y[n][j1][j2]... = x[n][i1][i2]..., where j_k = i_(dims[k]): axes counted from 1, the batch left out."""
    (x,) = inputs
    order = [0, *params["dims"]]
    sizes = [shape(x)[axis] for axis in order]

    def value(index):
        place = dict(zip(order, index, strict=True))
        return at(x, [place[axis] for axis in range(len(order))])

    return Outcome([build(sizes, value)])


@oracle("RepeatVector")
def repeat_vector(params, inputs, weights, **_):
    """Each row n times."""
    (x,) = inputs
    return Outcome([[[list(row) for _ in range(params["n"])] for row in x]])


@oracle("Identity", "ActivityRegularization")
def identity(params, inputs, weights, **_):
    """The input; what ActivityRegularization adds to the loss is no output."""
    return Outcome(list(inputs))


@oracle("Masking")
def masking(params, inputs, weights, **_):
    """Rows (along the last axis) that hold nothing but mask_value become zero."""
    (x,) = inputs
    return Outcome(
        [rows(lambda row: list(row) if any(v != params["mask_value"] for v in row) else [0.0] * len(row), x)]
    )


@oracle("Embedding")
def embedding(params, inputs, weights, *, training=False, bits=None, **_):
    """Row number ``id`` of the table for each id; ids that are not whole are truncated.

    In training, whole rows of the table are dropped. Gal & Ghahramani 2016, arXiv:1512.05287.
    """
    (x,) = inputs
    (table,) = weights
    if params.get("dropout"):
        rows_alike = {"rate": params["dropout"], "noise_shape": (None, 1)}
        (table,) = dropout(rows_alike, [table], [], training=training, bits=bits).outputs

    def look_up(index):
        row = int(at(x, index))
        if not 0 <= row < len(table):
            raise IndexError(f"id {row} is not in a table of {len(table)} rows")
        return list(table[row])

    return Outcome([build(shape(x), look_up)])


@oracle("Dropout")
def dropout(params, inputs, weights, *, training=False, bits=None, **_):
    """x / (1 - rate) where the mask keeps, 0 elsewhere; x itself when not training.

    An element of the mask is kept iff its bits are >= round(rate 2^32), for bits uniform in [0, 2^32).
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
    words = bits(noise)
    threshold = round(rate * 2**32)

    def value(index):
        kept = at(words, [0 if n == 1 else i for i, n in zip(index, noise, strict=True)]) >= threshold
        return at(x, index) / (1 - rate) if kept else 0.0

    return Outcome([build(sizes, value)])
