"""Locally connected layers: convolutions whose kernel differs from place to place."""

from itertools import product

from .activations import activate
from .arithmetic import total
from .nested import at, build, channels_last, reshape, shape
from .registry import Outcome, oracle
from .windows import covered, windows_over


@oracle("LocallyConnected1D", "LocallyConnected2D")
def locally_connected(params, inputs, weights, **_):
    """The window at the s-th place has the weights kernel[s], in the order in which its cells lie in the input.

    The bias is laid out in memory as one sample of the output is. Keras 2.3.1, backend.local_conv2d and bias_add.
    """
    (x,) = inputs
    kernel, *bias = weights
    first = params["data_format"] == "channels_first"
    size = params["kernel_size"]
    filters = len(kernel[0][0])

    def one(sample):
        sample = channels_last(sample, params["data_format"])
        *space, channels = shape(sample)
        axes = windows_over(space, size, params["strides"], (1,) * len(size), "valid")
        places = list(product(*(range(len(axis)) for axis in axes)))

        def patch(place):
            cells = [cell for _, cell in covered(axes, place)]
            order = product(range(channels), cells) if first else ((c, cell) for cell in cells for c in range(channels))
            return [at(sample, cell)[c] for c, cell in order]

        seen = {place: patch(place) for place in places}
        sizes = [len(axis) for axis in axes]
        layout = [filters, *sizes] if first else [*sizes, filters]
        added = reshape(bias[0], layout) if params["use_bias"] else build(layout, lambda index: 0.0)

        def value(index):
            f, place = (index[0], index[1:]) if first else (index[-1], index[:-1])
            row = kernel[places.index(tuple(place))]
            return total(v * w[f] for v, w in zip(seen[tuple(place)], row, strict=True)) + at(added, index)

        return build(layout, value)

    return Outcome([activate(params["activation"], [one(sample) for sample in x])])
