"""Locally connected layers beside torch's products of slices, each flattened as it lies: what Keras 2 did."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import layerhub as lh


def by_slices(torch, x, kernel, bias, window, strides, first):
    """Every patch as it lies in the input, times the kernel of its place; the bias as it lies in memory."""
    space = x.shape[2:] if first else x.shape[1:-1]
    places = [(size - k) // s + 1 for size, k, s in zip(space, window, strides, strict=True)]
    rows = []
    for site, place in enumerate(itertools.product(*map(range, places))):
        index = [slice(p * s, p * s + k) for p, s, k in zip(place, strides, window, strict=True)]
        patch = x[(slice(None), slice(None), *index)] if first else x[(slice(None), *index)]
        rows.append(patch.reshape(len(x), -1) @ kernel[site])
    y = torch.stack(rows, dim=2 if first else 1)
    y = y.reshape(len(x), y.shape[1], *places) if first else y.reshape(len(x), *places, -1)
    return y + bias.reshape(y.shape[1:])


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "space, window, strides",
    [
        ((7,), (3,), (1,)), ((8,), (2,), (3,)),
        ((5, 6), (3, 2), (1, 1)), ((5, 6), (2, 3), (2, 1)), ((4, 4), (1, 1), (3, 2)),
    ],
)  # fmt: skip
def test_locally_connected(close, data_format, space, window, strides):
    torch = pytest.importorskip("torch")
    first = data_format == "channels_first"
    layer = getattr(lh.layers, f"LocallyConnected{len(space)}D")(3, window, strides, data_format=data_format)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, *space) if first else (2, *space, 2))
    weights = [rng.normal(size=spec.shape) for spec in layer.weight_specs(x.shape)]
    dy = rng.normal(size=layer.compute_output_shape(x.shape))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, *weights)]
    y = by_slices(torch, *tensors, window, strides, first)
    y.backward(torch.tensor(dy))
    ours = lh.evaluate_layer(layer, [x], weights, cotangents=[dy], dtype="float64", route="definition")
    close(ours.outputs[0], y.detach().numpy(), "output")
    for what, a, b in zip(["x", "kernel", "bias"], [*ours.input_grads, *ours.weight_grads], tensors, strict=True):
        close(a, b.grad.numpy(), f"gradient of {what}")


def test_a_config_of_keras_2_is_read_and_one_with_another_layout_of_the_kernel_is_refused():
    config = lh.layers.LocallyConnected2D(3, 2).get_config()
    assert lh.layers.LocallyConnected2D.from_config({**config, "implementation": 1}).filters == 3
    with pytest.raises(lh.errors.ParameterError, match="implementation"):
        lh.layers.LocallyConnected2D.from_config({**config, "implementation": 3})
