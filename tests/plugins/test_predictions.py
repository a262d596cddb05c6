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


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow", "jax"])
@pytest.mark.parametrize("groups", [1, 3])
def test_one_channel_with_unequal_strides_and_one_column_of_output(backend, groups):
    # tf.nn.conv2d gives 13 and 31 for 20 and 56.
    layer = L.Conv2D(groups, 2, strides=(1, 2), groups=groups, use_bias=False)
    x = np.repeat(np.arange(18.0).reshape(2, 3, 3, 1), groups, axis=-1).astype("float32")
    y = lh.evaluate_layer(layer, x, [np.ones((2, 2, 1, groups))], backend=backend).outputs[0]
    expected = np.array([[8.0, 20.0], [44.0, 56.0]])[:, :, None, None]
    np.testing.assert_array_equal(y, np.broadcast_to(expected, (2, 2, 1, groups)))
