"""Pooling beside Keras's and torch's."""

from __future__ import annotations

import numpy as np
import pytest
from layerhub_conformance.case import covering

import layerhub as lh

SHAPES = {1: [(2, 9, 4), (3, 8, 2)], 2: [(2, 7, 6, 4), (1, 8, 9, 3)], 3: [(2, 5, 4, 6, 2), (1, 6, 5, 7, 3)]}
FORMATS = ["channels_last", "channels_first"]
RANKS = pytest.mark.parametrize("rank", [1, 2, 3])
KINDS = pytest.mark.parametrize("kind", ["Max", "Average"])


def sliding(rank):
    return covering(
        {
            "shape": SHAPES[rank],
            "pool_size": [2, (3, 2, 4)[:rank], (4, 3, 1)[:rank]],
            "strides": [None, 1, (2, 3, 1)[:rank]],
            "padding": ["valid", "same"],
            "data_format": FORMATS,
        }
    )


def adaptive(rank):
    # Keras's sizes must leave room for a window of one cell more than needed: else the process dies.
    return covering({"shape": SHAPES[rank], "output_size": [2, (3, 2, 4)[:rank]], "data_format": FORMATS})


def laid_out(row):
    """A row's configuration, and the shape as its data format has it."""
    config = {name: value for name, value in row.items() if name != "shape"}
    n, *space, c = row["shape"]
    return config, (n, *space, c) if row["data_format"] == "channels_last" else (n, c, *space)


@pytest.mark.parametrize("rank", [1, 2])  # on CPU tensorflow pools no volumes of float64
@KINDS
def test_pooling_is_that_of_keras(agrees_with_keras, kind, rank):
    for row in sliding(rank):
        config, shape = laid_out(row)
        agrees_with_keras(f"{kind}Pooling{rank}D", config, [shape])


@pytest.mark.parametrize("rank", [1, 2])
@KINDS
def test_adaptive_pooling_is_that_of_keras(agrees_with_keras, kind, rank):
    for row in adaptive(rank):
        config, shape = laid_out(row)
        agrees_with_keras(f"Adaptive{kind}Pooling{rank}D", config, [shape])


@RANKS
@KINDS
def test_global_pooling_is_that_of_keras(agrees_with_keras, kind, rank):
    for row in covering({"shape": SHAPES[rank], "data_format": FORMATS, "keepdims": [False, True]}):
        config, shape = laid_out(row)
        agrees_with_keras(f"Global{kind}Pooling{rank}D", config, [shape])


@RANKS
def test_maxima_that_tie_share_the_gradient_as_in_keras(agrees_with_keras, rank):
    x = np.random.default_rng(1).integers(0, 3, size=SHAPES[rank][0]).astype("float64")
    agrees_with_keras(f"GlobalMaxPooling{rank}D", {}, [x])


@pytest.mark.parametrize("rank", [1, 2])
def test_the_first_of_maxima_that_tie_takes_the_gradient_as_in_keras(agrees_with_keras, rank):
    x = np.random.default_rng(1).integers(0, 3, size=SHAPES[rank][0]).astype("float64")
    agrees_with_keras(f"MaxPooling{rank}D", {"pool_size": 3, "strides": 2, "padding": "same"}, [x])


MASK = np.array([[True, True, False, True], [False, True, False, False], [True] * 4])


@pytest.mark.parametrize("keepdims", [False, True])
def test_masked_averages_are_those_of_keras(agrees_with_keras, keepdims):
    agrees_with_keras("GlobalAveragePooling1D", {"keepdims": keepdims}, [(3, 4, 5)], mask=MASK)


@pytest.mark.parametrize("keepdims", [False, True])
def test_masked_averages_of_channels_first_are_those_of_keras(keras, close, keepdims):
    x = np.random.default_rng(0).normal(size=(3, 5, 4))
    layer = lh.layers.GlobalAveragePooling1D("channels_first", keepdims, dtype="float64")
    theirs = keras.layers.GlobalAveragePooling1D("channels_first", keepdims, dtype="float64")
    close(layer(x, mask=MASK), theirs(x, mask=MASK).numpy(), repr(layer))


def test_the_average_of_no_step_is_zero():
    # Keras gives NaN.
    mask = MASK & [[True], [True], [False]]
    x = np.full((3, 4, 5), np.nan)
    x[MASK] = 1.0
    assert lh.layers.GlobalAveragePooling1D()(x, mask=mask).tolist() == [[1.0] * 5, [1.0] * 5, [0.0] * 5]


def with_torch(torch, layer, shape, function, close):
    """Compare a layer with a function of torch tensors whose channels come first."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    cotangent = rng.normal(size=layer.output_shapes(shape)[0])
    ours = lh.evaluate_layer(layer, [x], [], "numpy", False, None, None, [cotangent], "float64", route="definition")
    tensor = torch.tensor(x, requires_grad=True)
    last = layer.data_format == "channels_last"
    y = function(tensor.movedim(-1, 1) if last else tensor)
    y = y.movedim(1, -1) if last else y
    (gradient,) = torch.autograd.grad(y, tensor, torch.tensor(cotangent))
    close(ours.outputs[0], y.detach().numpy(), repr(layer))
    close(ours.input_grads[0], gradient.numpy(), f"gradient of {layer!r}")


def flat(pads):
    """torch wants the last axis first."""
    return [count for pair in reversed(pads) for count in pair]


@RANKS
@KINDS
def test_pooling_is_that_of_torch(kind, rank, close):
    torch = pytest.importorskip("torch")
    pad = torch.nn.functional.pad
    maximum = getattr(torch.nn.functional, f"max_pool{rank}d")
    average = getattr(torch.nn.functional, f"avg_pool{rank}d")
    for row in sliding(rank):
        config, shape = laid_out(row)
        layer = getattr(lh.layers, f"{kind}Pooling{rank}D")(**config, dtype="float64")
        pads = flat(layer.pads(row["shape"][1:-1]))

        def function(x, layer=layer, pads=pads):
            if kind == "Max":
                return maximum(pad(x, pads, value=-float("inf")), layer.pool_size, layer.strides)
            cells = average(pad(torch.ones_like(x), pads), layer.pool_size, layer.strides)
            return average(pad(x, pads), layer.pool_size, layer.strides) / cells

        with_torch(torch, layer, shape, function, close)


@RANKS
@KINDS
def test_adaptive_pooling_is_that_of_torch(kind, rank, close):
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, f"adaptive_{'avg' if kind == 'Average' else 'max'}_pool{rank}d")
    for row in [*adaptive(rank), *covering({"shape": SHAPES[rank], "output_size": [1, 11], "data_format": FORMATS})]:
        config, shape = laid_out(row)
        layer = getattr(lh.layers, f"Adaptive{kind}Pooling{rank}D")(**config, dtype="float64")
        with_torch(torch, layer, shape, lambda x, layer=layer: function(x, layer.output_size), close)
