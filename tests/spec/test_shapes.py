"""Shapes: the language of axes, what layers give and hold for what they are given, and every rule broken by itself."""

import itertools
import math

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import ShapeError
from layerhub.spec.axes import Pattern, as_shape, broadcast, conv_length, evaluate, product, same_padding

# --------------------------------------------------------------------------------------------- the language


def match(text, shape, rank=None, **known):
    sizes = dict(known)
    Pattern(text).match(shape, sizes, rank, lambda: "it")
    return sizes


def test_names_bind_to_sizes():
    assert match("n t d", (2, 3, 5)) == {"n": 2, "t": 3, "d": 5}
    assert match("n *space c", (2, 7, 5, 3), rank=2) == {"n": 2, "space": (7, 5), "c": 3}
    assert match("... d", (2, 3, 5)) == {"...": (2, 3), "d": 5}
    assert match("... d", (5,)) == {"...": (), "d": 5}
    assert match("n t d", (None, None, 5)) == {"n": None, "t": None, "d": 5}


def test_a_name_means_the_same_size_wherever_it_stands_but_for_the_batch():
    assert match("n d d", (2, 3, 3))["d"] == 3
    assert match("n d d", (2, 3, None))["d"] == 3
    assert match("n d d", (2, None, 3))["d"] == 3
    with pytest.raises(ShapeError, match=r"it has 4 along 'd', where 3 was expected \(declared 'n d d'\)"):
        match("n d d", (2, 3, 4))
    assert match("n d", (3, 5), n=2)["n"] == 3


def test_a_number_is_an_axis_of_that_size():
    match("n 4", (2, 4))
    match("n 4", (2, None))
    with pytest.raises(ShapeError, match="it has 5 along '4', where 4 was expected"):
        match("n 4", (2, 5))


@pytest.mark.parametrize(
    "text, shape, rank, said",
    [
        ("n t d", (2, 3), None, 'it has shape (2, 3), but "n t d" was declared: needs 3 axes, has 2'),
        ("n *space c", (2, 8, 8), 2, 'it has shape (2, 8, 8), but "n h w c" was declared: needs 4 axes, has 3'),
        ("n *space c", (2,), 3, 'it has shape (2,), but "n d h w c" was declared: needs 5 axes, has 1'),
        ("... d e", (2,), None, 'it has shape (2,), but "... d e" was declared: needs at least 2 axes, has 1'),
    ],
)
def test_a_wrong_number_of_axes_is_told_with_shape_and_declaration(text, shape, rank, said):
    with pytest.raises(ShapeError) as caught:
        match(text, shape, rank)
    assert str(caught.value) == said


def test_a_pattern_has_one_variadic_axis_at_most():
    with pytest.raises(ValueError, match="more than one variadic axis"):
        Pattern("... *space c")


@pytest.mark.parametrize(
    "expression, value",
    [("c", 6), ("4*c", 24), ("c/groups", 3), ("c*m", 30), ("2*c/groups*m", 30), ("unknown", None), ("4*unknown", None)],
)
def test_sizes_may_be_products_and_quotients(expression, value):
    assert evaluate(expression, {"c": 6, "groups": 2, "m": 5, "unknown": None}.__getitem__) == value


def test_channels_first_moves_the_last_axis_behind_the_batch():
    assert Pattern("n *space c").channels_first().words == ("n", "c", "*space")
    assert Pattern("n c").channels_first().words == ("n", "c")


def test_products_and_shapes_know_of_unknown_sizes():
    assert product((2, 3)) == 6
    assert product(()) == 1
    assert product((2, None)) is None
    assert as_shape([np.int64(2), None]) == (2, None)


@pytest.mark.parametrize(
    "shapes, result",
    [
        ([(2, 3), (2, 3)], (2, 3)),
        ([(2, 1), (1, 3)], (2, 3)),
        ([(2, 3), (3,)], (2, 3)),
        ([(None, 3), (2, 3)], (2, 3)),
        ([(None, 3), (1, 3)], (None, 3)),
        ([(None, 3), (None, 1), (3,)], (None, 3)),
    ],
)
def test_broadcasting_follows_the_array_standard_and_keeps_what_is_unknown(shapes, result):
    assert broadcast(shapes, "it") == result
    known = [tuple(2 if s is None else s for s in shape) for shape in shapes]
    assert np.broadcast_shapes(*known) == tuple(2 if s is None else s for s in result)


def test_what_cannot_be_broadcast_is_told_with_all_shapes():
    with pytest.raises(ShapeError, match=r"it: shapes \(2, 3\), \(2, 4\) cannot be broadcast together"):
        broadcast([(2, 3), (2, 4)], "it")


# --------------------------------------------------------------------------------------------- windows

WINDOWS = list(itertools.product(range(1, 12), range(1, 5), range(1, 4), range(1, 4)))


def test_the_number_of_places_is_what_counting_gives():
    for size, window, stride, dilation in WINDOWS:
        reach = dilation * (window - 1) + 1
        counted = len(range(0, size - reach + 1, stride))
        assert max(conv_length(size, window, stride, "valid", dilation), 0) == counted
        assert conv_length(size, window, stride, "same", dilation) == len(range(0, size, stride))


def test_same_padding_is_the_least_that_gives_as_many_places_as_strides_with_the_odd_cell_after():
    for size, window, stride, dilation in WINDOWS:
        before, after = same_padding(size, window, stride, dilation)
        places = len(range(0, size, stride))
        reach = dilation * (window - 1) + 1
        enough = [total for total in range(40) if len(range(0, size + total - reach + 1, stride)) >= places]
        assert before + after == enough[0]
        assert after - before in (0, 1)
        assert len(range(0, size + before + after - reach + 1, stride)) == places


def test_unknown_sizes_have_unknown_places():
    assert conv_length(None, 3, 1, "valid") is None
    layer = lh.layers.Conv2D(4, 3, padding="same", strides=2)
    assert layer.compute_output_shape((None, None, 7, 3)) == (None, None, 4, 4)


# --------------------------------------------------------------------------------------------- layers

SHAPES = [
    (lh.layers.Dense(5), [(None, 3)], [(None, 5)]),
    (lh.layers.Dense(5), [(None, None, 3)], [(None, None, 5)]),
    (lh.layers.Activation("relu"), [(None, 3, None)], [(None, 3, None)]),
    (lh.layers.Flatten(), [(None, 3, 4)], [(None, 12)]),
    (lh.layers.Flatten(), [(2,)], [(2, 1)]),
    (lh.layers.Flatten(), [(None, None, 4)], [(None, None)]),
    (lh.layers.Reshape((3, -1)), [(None, 12)], [(None, 3, 4)]),
    (lh.layers.Reshape((3, -1)), [(None, None)], [(None, 3, None)]),
    (lh.layers.Reshape((3, 4)), [(None, None)], [(None, 3, 4)]),
    (lh.layers.Embedding(7, 4), [(None, 5)], [(None, 5, 4)]),
    (lh.layers.Embedding(7, 4), [(None,)], [(None, 4)]),
    (lh.layers.Conv2D(4, (3, 2)), [(None, 8, 7, 3)], [(None, 6, 6, 4)]),
    (lh.layers.Conv2D(4, (3, 2), data_format="channels_first"), [(None, 3, 8, 7)], [(None, 4, 6, 6)]),
    (lh.layers.Conv2D(4, 3, dilation_rate=(2, 3)), [(None, 8, 8, 3)], [(None, 4, 2, 4)]),
    (lh.layers.DepthwiseConv2D(3, depth_multiplier=2), [(None, 8, 7, 3)], [(None, 6, 5, 6)]),
    (lh.layers.SeparableConv2D(5, 3, padding="same"), [(None, 8, None, 3)], [(None, 8, None, 5)]),
    (lh.layers.MaxPooling2D((3, 2)), [(None, 8, 7, 3)], [(None, 2, 3, 3)]),
    (lh.layers.AveragePooling2D(2, 3, padding="same"), [(None, 8, 7, 3)], [(None, 3, 3, 3)]),
    (lh.layers.GlobalAveragePooling2D(), [(None, None, 7, 3)], [(None, 3)]),
    (lh.layers.GlobalAveragePooling2D(keepdims=True), [(None, 8, 7, 3)], [(None, 1, 1, 3)]),
    (lh.layers.GlobalAveragePooling2D("channels_first", True), [(None, 3, 8, 7)], [(None, 3, 1, 1)]),
    (lh.layers.BatchNormalization(), [(None, None, 3)], [(None, None, 3)]),
    (lh.layers.LSTM(4), [(None, None, 3)], [(None, 4)]),
    (lh.layers.LSTM(4, return_sequences=True), [(None, None, 3)], [(None, None, 4)]),
    (lh.layers.LSTM(4, return_state=True), [(2, 5, 3)], [(2, 4)] * 3),
    (lh.layers.Bidirectional(lh.layers.LSTM(4)), [(None, 5, 3)], [(None, 8)]),
    (lh.layers.Bidirectional(lh.layers.LSTM(4), merge_mode="sum"), [(None, 5, 3)], [(None, 4)]),
    (lh.layers.Bidirectional(lh.layers.LSTM(4), merge_mode=None), [(None, 5, 3)], [(None, 4)] * 2),
    (lh.layers.Bidirectional(lh.layers.LSTM(4, return_state=True)), [(None, 5, 3)], [(None, 8)] + [(None, 4)] * 4),
    (lh.layers.Add(), [(None, 5, 3), (None, 3)], [(None, 5, 3)]),
    (lh.layers.Add(), [(None, None, 3), (None, 5, 1), (None, 1, 1)], [(None, 5, 3)]),
    (lh.layers.Concatenate(), [(None, 5, 3), (None, 5, 2)], [(None, 5, 5)]),
    (lh.layers.Concatenate(1), [(None, 5, 3), (None, None, 3)], [(None, None, 3)]),
    (lh.layers.Concatenate(), [(None, None, 3), (2, 5, 2)], [(2, 5, 5)]),
]


@pytest.mark.parametrize("layer, given, expected", SHAPES, ids=repr)
def test_a_layer_gives_shapes_with_what_is_unknown_left_unknown(layer, given, expected):
    assert list(layer.output_shapes(*given)) == expected
    assert layer.compute_output_shape(*given) == expected[0]


@pytest.mark.parametrize("layer, given, expected", SHAPES, ids=repr)
def test_the_arrays_that_a_layer_gives_have_the_shapes_that_it_says(layer, given, expected):
    def some(shape):
        return tuple(6 if size is None else size for size in shape)

    if layer.inputs[-1].many:
        given = [tuple(5 if s is None and i else s for i, s in enumerate(shape)) for shape in given]
        given = [(6, *shape[1:]) for shape in given]
    arrays = [np.ones(some(shape), "int32" if isinstance(layer, lh.layers.Embedding) else "float32") for shape in given]
    if isinstance(layer, lh.layers.Reshape) and None in given[0][1:]:
        arrays = [np.ones((2, 12), "float32")]
    found = lh.evaluate_layer(layer, arrays, route="definition").outputs
    assert [y.shape for y in found] == list(layer.output_shapes(*(x.shape for x in arrays)))
    for y, shape in zip(found, expected, strict=True):
        assert len(y.shape) == len(shape)


@pytest.mark.parametrize(
    "layer, given, weights",
    [
        (lh.layers.Dense(5), [(None, 3)], {"kernel": (3, 5), "bias": (5,)}),
        (lh.layers.Dense(5, use_bias=False), [(None, 3)], {"kernel": (3, 5)}),
        (lh.layers.Conv2D(4, (3, 2), groups=2), [(None, 8, 8, 6)], {"kernel": (3, 2, 3, 4), "bias": (4,)}),
        (
            lh.layers.Conv2D(4, (3, 2), data_format="channels_first"),
            [(None, 6, 8, 9)],
            {"kernel": (3, 2, 6, 4), "bias": (4,)},
        ),
        (
            lh.layers.DepthwiseConv2D((3, 2), depth_multiplier=2),
            [(None, 8, 8, 6)],
            {"kernel": (3, 2, 6, 2), "bias": (12,)},
        ),
        (
            lh.layers.SeparableConv2D(5, (3, 2), depth_multiplier=2),
            [(None, 8, 8, 6)],
            {"depthwise_kernel": (3, 2, 6, 2), "pointwise_kernel": (1, 1, 12, 5), "bias": (5,)},
        ),
        (
            lh.layers.BatchNormalization(axis=1),
            [(None, 5, 3)],
            {"gamma": (5,), "beta": (5,), "moving_mean": (5,), "moving_variance": (5,)},
        ),
        (lh.layers.LSTM(4), [(None, None, 3)], {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}),
        (lh.layers.Embedding(7, 4), [(None, 5)], {"embeddings": (7, 4)}),
        (
            lh.layers.Bidirectional(lh.layers.LSTM(4, use_bias=False)),
            [(None, 5, 3)],
            {
                "forward/kernel": (3, 16), "forward/recurrent_kernel": (4, 16),
                "backward/kernel": (3, 16), "backward/recurrent_kernel": (4, 16),
            },
        ),
        (lh.layers.Flatten(), [(None, 3)], {}),
    ],
    ids=lambda value: repr(value) if not isinstance(value, dict) else "",
)  # fmt: skip
def test_weights_have_these_names_and_shapes_in_this_order(layer, given, weights):
    assert [(s.name, s.shape) for s in layer.weight_specs(*given)] == list(weights.items())


def test_weights_that_training_does_not_move_come_last():
    specs = lh.layers.BatchNormalization().weight_specs((None, 3))
    assert [s.trainable for s in specs] == [True, True, False, False]


# --------------------------------------------------------------------------------------------- windows and batches


@pytest.mark.parametrize("size", range(1, 7))
def test_a_window_fits_exactly_when_there_is_a_place_for_it(size):
    for window, dilation in itertools.product(range(1, 5), range(1, 3)):
        layer = lh.layers.Conv2D(1, (window, 1), dilation_rate=(dilation, 1))
        fits = dilation * (window - 1) + 1 <= size
        if fits:
            assert layer.compute_output_shape((None, size, 1, 1))[1] == size - dilation * (window - 1)
        else:
            with pytest.raises(ShapeError, match="c1 the window must fit"):
                layer.compute_output_shape((None, size, 1, 1))


def test_a_batch_of_none_has_a_shape_too():
    for layer, given, _ in SHAPES:
        if all(None not in shape[1:] for shape in given):
            shapes = [(0, *shape[1:]) for shape in given]
            assert layer.output_shapes(*shapes)[0][0] == 0
            assert math.prod(layer.output_shapes(*shapes)[0]) == 0
