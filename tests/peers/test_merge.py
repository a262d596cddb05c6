"""Merging layers beside Keras's."""

import numpy as np
import pytest

import layerhub as lh

SHAPES = [[(2, 3, 4)] * 2, [(2, 3, 4)] * 3, [(2, 4), (2, 3, 4)], [(2, 1, 4), (2, 3, 1)]]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", ["Add", "Average", "Multiply", "Maximum", "Minimum"])
def test_elementwise(agrees_with_keras, name, shapes):
    agrees_with_keras(name, {}, shapes)


@pytest.mark.parametrize("shapes", [shapes for shapes in SHAPES if len(shapes) == 2])
def test_subtract(agrees_with_keras, shapes):
    agrees_with_keras("Subtract", {}, shapes)


def prefix(*lengths):
    return np.arange(4) < np.array(lengths)[:, None]


MASKS = {
    "everything counts somewhere": [prefix(2, 4, 3), ~prefix(1, 3, 3)],
    "one mask": [prefix(2, 4, 0), None],
    "the other mask": [None, prefix(1, 2, 3)],
    "both hide the same": [prefix(2, 1, 3), prefix(2, 1, 3)],
}


@pytest.mark.parametrize("name", ["Multiply", "Maximum", "Minimum", "Add", "Average", "Subtract", "Concatenate"])
@pytest.mark.parametrize("which", MASKS)
def test_masked(keras, close, name, which):
    rng = np.random.default_rng(3)
    inputs, masks = [rng.normal(size=(3, 4, 2)) for _ in range(2)], MASKS[which]
    tensors = [keras.ops.convert_to_tensor(x) for x in inputs]
    for tensor, mask in zip(tensors, masks, strict=True):
        if mask is not None:
            keras.src.backend.set_keras_mask(tensor, keras.ops.convert_to_tensor(mask))
    peer = getattr(keras.layers, name)(dtype="float64")
    theirs = np.array(peer(tensors))
    ours = lh.evaluate_layer(getattr(lh.layers, name)(), inputs, mask=masks, dtype="float64")
    hidden = np.zeros((3, 4), bool) if any(m is None for m in masks) else ~(masks[0] | masks[1])
    if name in ("Maximum", "Minimum"):
        # Where all is masked, Keras leaves what stands in the first input.
        assert not ours.outputs[0][hidden].any()
        close(ours.outputs[0][~hidden], theirs[~hidden], "the rest")
    else:
        close(ours.outputs[0], theirs, "output")
    wanted = peer.compute_mask(tensors, masks)
    if wanted is None:
        assert ours.output_mask is None
    else:
        assert np.array_equal(ours.output_mask, wanted)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "axes, shapes",
    [
        (-1, [(3, 4), (3, 4)]),
        (1, [(3, 4), (3, 4)]),
        (-1, [(2, 3, 4), (2, 5, 4)]),
        (1, [(2, 3, 4), (2, 3, 5)]),
        ((1, 2), [(2, 3, 4), (2, 5, 3)]),
        ((2, 1), [(2, 3, 4), (2, 4)]),
        ((1, 2), [(2, 4), (2, 3, 4)]),
        ((3, 2), [(2, 3, 2, 4), (2, 3, 4)]),
        ((2, 1), [(2, 3, 4), (2, 4, 2, 3)]),
    ],
)
def test_dot(agrees_with_keras, axes, shapes, normalize):
    agrees_with_keras("Dot", {"axes": axes, "normalize": normalize}, shapes)


@pytest.mark.parametrize("name", "add subtract multiply average maximum minimum concatenate dot".split())
def test_functions(keras, close, name):
    x, y = (np.random.default_rng(k).normal(size=(2, 3)) for k in range(2))
    close(getattr(lh.layers, name)([x, y], dtype="float64"), getattr(keras.layers, name)([x, y], dtype="float64"), name)


def test_functions_take_the_parameters_of_their_layers(keras, close):
    x, y = (np.random.default_rng(k).normal(size=(2, 3, 4)) for k in range(2))
    close(lh.layers.concatenate([x, y], axis=1, dtype="float64"), keras.layers.concatenate([x, y], axis=1), "axis")
    ours = lh.layers.dot([x, y], axes=1, normalize=True, dtype="float64")
    close(ours, keras.layers.dot([x, y], axes=1, normalize=True), "axes")


def test_functions_make_layers_of_a_graph():
    a, b = lh.Input((3,)), lh.Input((3,))
    assert isinstance(lh.layers.add([a, b], name="total").node.layer, lh.layers.Add)
