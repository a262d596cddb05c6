"""ReLU, LeakyReLU, ELU, ThresholdedReLU, PReLU, Softmax."""

from .activations import elu, leaky_relu, relu, softmax
from .nested import along, at, build, shape
from .registry import Outcome, oracle

ELEMENTWISE = {
    "ReLU": lambda x, p: relu(x, p["negative_slope"], p["max_value"], p["threshold"]),
    "LeakyReLU": lambda x, p: leaky_relu(x, p["negative_slope"]),
    "ELU": lambda x, p: elu(x, p["alpha"]),
    "ThresholdedReLU": lambda x, p: relu(x, threshold=p["theta"]),
}


def elementwise(f):
    """The oracle that applies f(number, params) to each number."""

    def layer(params, inputs, weights, **_):
        (x,) = inputs
        return Outcome([build(shape(x), lambda index: f(at(x, index), params))])

    return layer


for name, function in ELEMENTWISE.items():
    oracle(name)(elementwise(function))


@oracle("PReLU")
def prelu(params, inputs, weights, **_):
    """x if x > 0 else alpha x; alpha has a sample's shape, with size 1 along shared axes. He et al. 2015."""
    (x,), (alpha,) = inputs, weights
    shared = params["shared_axes"] or ()

    def value(index):
        slope = at(alpha, [0 if axis in shared else i for axis, i in enumerate(index) if axis > 0])
        return at(x, index) if at(x, index) > 0 else slope * at(x, index)

    return Outcome([build(shape(x), value)])


@oracle("Softmax")
def softmax_layer(params, inputs, weights, *, mask=None, **_):
    """e^x / sum(e^x) along ``axis``, over what the mask leaves; 0 for all else."""
    (x,) = inputs
    sizes, depth = shape(x), len(shape(mask)) if mask is not None else 0
    if mask is None and isinstance(params["axis"], int):
        return Outcome([along(params["axis"], softmax, x)])
    axes = params["axis"] if isinstance(params["axis"], tuple) else (params["axis"],)
    axes = [axis % len(sizes) for axis in axes]
    rows = {}

    def note(index):
        if mask is None or at(mask, index[:depth]):
            key = tuple(i for axis, i in enumerate(index) if axis not in axes)
            rows.setdefault(key, {})[index] = at(x, index)

    build(sizes, note)
    found = {}
    for row in rows.values():
        found |= dict(zip(row, softmax(list(row.values())), strict=True))
    return Outcome([build(sizes, lambda index: found.get(index, 0.0))])
