"""Where nothing is differentiated kernels may take a shorter way; what is predicted is what the definitions mean."""

from itertools import product

import numpy as np
import pytest

import layerhub as lh

L = lh.layers


def one_channel_or_each_by_itself():
    for padding, strides, dilation in product(("valid", "same", "causal"), (1, 2), (1, 2, 3)):
        if 1 in (strides, dilation):
            options = {"strides": strides, "padding": padding, "dilation_rate": dilation}
            yield L.Conv1D(3, 4, **options), (11, 1)
            if padding != "causal":
                yield L.DepthwiseConv1D(4, **options), (11, 3)
                yield L.Conv2D(3, (4, 2), **options), (11, 8, 1)
                yield L.DepthwiseConv2D((2, 3), **options), (8, 11, 2)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_convolutions_of_single_channels_predict_what_they_mean(backend):
    for layer, shape in one_channel_or_each_by_itself():
        x = np.random.default_rng(1).normal(size=(2, *shape))
        model = lh.Sequential(
            [lh.Input(shape, dtype="float64"), layer.replace(dtype="float64")], backend=backend, seed=1
        )
        meant = lh.evaluate_layer(
            layer, x, model.get_weights(), backend="numpy", dtype="float64", route="definition"
        ).outputs[0]
        # Sums of at most 8 products of numbers below 4, in double precision: 8 roundings of at most 32 * 2**-53, twice.
        np.testing.assert_allclose(
            model.predict(x, verbose=0), meant, rtol=0, atol=16 * 32 * 2**-53, err_msg=repr(layer)
        )
