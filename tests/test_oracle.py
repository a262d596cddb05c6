"""The oracle against numbers worked out by hand or published: nothing here was computed by any framework."""

import ast
import copy
import math
import sys
from pathlib import Path

import pytest
from layerhub_conformance import oracle as package
from layerhub_conformance.oracle import (
    ACTIVATIONS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    ORACLES,
    difference,
    flatten,
    oracle,
    philox4x32,
    unflatten,
)
from layerhub_conformance.oracle.convolution import correlate
from layerhub_conformance.oracle.nested import along, build, reshape, shape, transpose
from layerhub_conformance.oracle.windows import windows

NEAR = 1e-14  # relative: a few roundings of a correct float64 computation
E7 = 1e-7  # the clip of probabilities


def near(expected):
    return pytest.approx(expected, rel=NEAR, abs=0.0)


def all_near(got, expected):
    return shape(got) == shape(expected) and flatten(got) == near(flatten(expected))


def run(name, params, inputs, weights=(), **keywords):
    """The one output of a layer with one output."""
    (output,) = ORACLES[name](params, inputs, list(weights), **keywords).outputs
    return output


# ----------------------------------------------------------------------------------------------- the package


def test_the_oracle_imports_nothing_but_the_standard_library():
    files = list(Path(package.__file__).parent.glob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{file.name} reaches out of the package"
                names = [node.module] if node.level == 0 else []
            assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names, file.name


def test_every_layer_activation_loss_and_optimizer_of_the_first_set_is_there():
    assert set(ORACLES) >= {
        *("Dense", "Activation", "Flatten", "Reshape", "Embedding", "Dropout"),
        *("Conv2D", "DepthwiseConv2D", "SeparableConv2D"),
        *("MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D"),
        *("BatchNormalization", "LSTM", "Bidirectional", "Add", "Concatenate"),
    }
    assert set(ACTIVATIONS) >= {
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh"),
        *("softmax", "log_softmax", "softplus", "softsign", "exponential", "silu", "gelu", "mish"),
    }
    assert set(LOSSES) >= {
        *("MeanSquaredError", "MeanAbsoluteError", "BinaryCrossentropy", "CategoricalCrossentropy"),
        "SparseCategoricalCrossentropy",
    }
    assert set(OPTIMIZERS) >= {"SGD", "RMSprop", "Adam", "AdamW"}


def test_a_second_oracle_for_the_same_layer_is_refused():
    with pytest.raises(ValueError, match="Dense"):
        oracle("Dense")(lambda params, inputs, weights, **_: None)
    assert ORACLES["Dense"].__name__ == "dense"


# ---------------------------------------------------------------------------------------------- nested lists


def test_flatten_goes_through_the_last_axis_fastest_and_unflatten_undoes_it():
    ragged = [[[1, 2], [3]], 4, [], [[[5]]]]
    assert flatten(ragged) == [1, 2, 3, 4, 5]
    assert unflatten([10, 20, 30, 40, 50], ragged) == [[[10, 20], [30]], 40, [], [[[50]]]]


@pytest.mark.parametrize("leaves", [[1.0], [1.0, 2.0, 3.0]])
def test_unflatten_takes_exactly_as_many_leaves_as_there_are_places(leaves):
    with pytest.raises(ValueError, match="leaves"):
        unflatten(leaves, [[0.0], [0.0]])


def test_shape_reshape_and_transpose_of_a_nested_list():
    x = [[[1, 2, 3], [4, 5, 6]]]
    assert shape(x) == (1, 2, 3)
    assert reshape(x, (3, 2)) == [[1, 2], [3, 4], [5, 6]]
    assert transpose(x, [2, 0, 1]) == [[[1, 4]], [[2, 5]], [[3, 6]]]
    with pytest.raises(ValueError, match="do not fill"):
        reshape(x, (4, 2))


def test_a_row_function_acts_along_any_axis():
    x = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]

    def running(row):
        return [row[0], row[0] + row[1]]

    assert along(-1, running, x) == [[[1, 3], [3, 7]], [[5, 11], [7, 15]]]
    assert along(1, running, x) == [[[1, 2], [4, 6]], [[5, 6], [12, 14]]]
    assert along(0, running, x) == [[[1, 2], [3, 4]], [[6, 8], [10, 12]]]


# --------------------------------------------------------------------------------------------------- core


def dense(**changes):
    return {"units": 3, "activation": "linear", "use_bias": True, **changes}


KERNEL = [[1.0, 0.0, -1.0], [2.0, 1.0, 3.0]]
BIAS = [10.0, 20.0, -10.0]


def test_dense_is_rows_times_kernel_plus_bias_then_the_activation():
    assert run("Dense", dense(), [[[1.0, 2.0]]], [KERNEL, BIAS]) == [[15.0, 22.0, -5.0]]
    assert run("Dense", dense(activation="relu"), [[[1.0, 2.0]]], [KERNEL, BIAS]) == [[15.0, 22.0, 0.0]]


def test_dense_contracts_the_last_axis_only_and_may_have_no_bias():
    x = [[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]
    y = run("Dense", dense(use_bias=False), [x], [KERNEL])
    assert y == [[[1.0, 0.0, -1.0], [2.0, 1.0, 3.0], [3.0, 1.0, 2.0]]]


def test_an_activation_with_parameters_is_a_class_name_and_a_config():
    leaky = {"class_name": "leaky_relu", "config": {"negative_slope": 0.25}}
    assert run("Activation", {"activation": leaky}, [[[-4.0, 4.0]]]) == [[-1.0, 4.0]]
    x = [[[0.0, 5.0], [math.log(3), 5.0]]]
    columns = {"class_name": "softmax", "config": {"axis": 1}}
    assert all_near(run("Activation", {"activation": columns}, [x]), [[[0.25, 0.5], [0.75, 0.5]]])


def test_flatten_moves_channels_that_come_first_to_the_end_first():
    x = [[[[1, 2, 3]], [[4, 5, 6]]]]  # one sample; two channels of one row and three columns
    assert run("Flatten", {"data_format": "channels_first"}, [x]) == [[1, 4, 2, 5, 3, 6]]
    assert run("Flatten", {"data_format": "channels_last"}, [x]) == [[1, 2, 3, 4, 5, 6]]


def test_flatten_of_one_number_per_sample_gives_rows_of_one():
    assert run("Flatten", {"data_format": "channels_last"}, [[7.0, 8.0]]) == [[7.0], [8.0]]


def test_reshape_keeps_c_order_and_finds_the_open_size():
    x = [[[1, 2, 3], [4, 5, 6]]]
    assert run("Reshape", {"target_shape": (3, 2)}, [x]) == [[[1, 2], [3, 4], [5, 6]]]
    assert run("Reshape", {"target_shape": (2, -1, 1)}, [x]) == [[[[1], [2], [3]], [[4], [5], [6]]]]


TABLE = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_embedding_looks_up_rows_and_truncates_ids():
    y = run("Embedding", {"input_dim": 3, "output_dim": 2}, [[[2, 0], [1.9, 1]]], [TABLE])
    assert y == [[[4.0, 5.0], [0.0, 1.0]], [[2.0, 3.0], [2.0, 3.0]]]


@pytest.mark.parametrize("outside", [-1, 3])
def test_embedding_refuses_ids_that_are_not_in_the_table(outside):
    with pytest.raises(IndexError, match=str(outside)):
        run("Embedding", {}, [[[outside]]], [TABLE])


def dropout(rate, noise_shape=None):
    return {"rate": rate, "noise_shape": noise_shape, "seed": None}


def drawing(*words):
    """Random bits that were drawn beforehand."""
    return lambda sizes, part=0: reshape(list(words), sizes)


def test_dropout_keeps_what_reaches_the_threshold_and_scales_it():
    bits = drawing(0, 2**31 - 1, 2**31, 2**32 - 1)
    x = [[1.0, 2.0], [3.0, 4.0]]
    assert run("Dropout", dropout(0.5), [x], training=True, bits=bits) == [[0.0, 0.0], [6.0, 8.0]]
    bits = drawing(2**30, 2**30 - 1, 2**30, 0)
    assert run("Dropout", dropout(0.25), [x], training=True, bits=bits) == [[1 / 0.75, 0.0], [4.0, 0.0]]


def test_dropout_with_a_noise_shape_shares_the_mask_along_axes_of_size_one():
    x = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    full = 2**32 - 1
    y = run("Dropout", dropout(0.5, (None, 1, 2)), [x], training=True, bits=drawing(full, 0, 0, full))
    assert y == [[[2.0, 0.0], [6.0, 0.0]], [[0.0, 12.0], [0.0, 16.0]]]


def test_dropout_is_the_identity_unless_it_trains_and_zero_at_rate_one():
    x = [[1.0, 2.0]]
    assert run("Dropout", dropout(0.5), [x]) == x
    assert run("Dropout", dropout(0.0), [x], training=True) == x
    assert run("Dropout", dropout(1.0), [x], training=True, bits=drawing(2**32 - 1, 2**32 - 1)) == [[0.0, 0.0]]


def test_dropout_needs_one_word_of_bits_for_each_element_of_the_mask():
    for bits in (None, drawing(0), drawing(0, 0, 0)):
        with pytest.raises(ValueError, match=r"bits|fill"):
            run("Dropout", dropout(0.5), [[[1.0, 2.0]]], training=True, bits=bits)


def test_permute_counts_axes_from_one_and_leaves_the_batch():
    x = [[[1, 2, 3], [4, 5, 6]]]
    assert run("Permute", {"dims": (2, 1)}, [x]) == [[[1, 4], [2, 5], [3, 6]]]
    assert run("Permute", {"dims": (2, 3, 1)}, [[x]]) == [[[[1], [2], [3]], [[4], [5], [6]]]]


def test_masking_looks_at_all_features_of_a_step():
    x = [[[0.0, 0.0], [0.0, 1.0], [2.0, 2.0]]]
    assert run("Masking", {"mask_value": 0.0}, [x]) == x
    assert run("Masking", {"mask_value": 2.0}, [x]) == [[[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]


def test_einsum_dense_sums_what_the_output_lacks():
    x, kernel = [[[1.0, 2.0], [3.0, 4.0]]], [[[1.0, 10.0]], [[100.0, 1000.0]]]  # b c; c d e
    params = {"equation": "abc,cde->abed", "activation": None}
    assert run("EinsumDense", params, [x], [kernel]) == [[[[201.0], [2010.0]], [[403.0], [4030.0]]]]
    params = {"equation": "...c,cd->...d", "activation": None}
    y = run("EinsumDense", params, [x], [[[1.0], [10.0]], [0.5]])
    assert y == [[[21.5], [43.5]]]


A, B = [[[1.0, -2.0], [3.0, 4.0]]], [[[5.0, -6.0], [-7.0, 8.0]]]
ONLY_FIRST, ONLY_SECOND, NEITHER = [[True, False]], [[False, True]], [[False, False]]


def test_subtract_keeps_the_order_of_its_inputs():
    assert run("Subtract", {}, [A, B]) == [[[-4.0, 4.0], [10.0, -4.0]]]


@pytest.mark.parametrize(
    ("name", "masks", "expected"),
    [
        ("Maximum", None, [[[5.0, -2.0], [3.0, 8.0]]]),
        ("Minimum", None, [[[1.0, -6.0], [-7.0, 4.0]]]),
        ("Multiply", None, [[[5.0, 12.0], [-21.0, 32.0]]]),
        ("Maximum", [ONLY_FIRST, None], [[[5.0, -2.0], [-7.0, 8.0]]]),
        ("Minimum", [ONLY_FIRST, ONLY_SECOND], [[[1.0, -2.0], [-7.0, 8.0]]]),
        ("Multiply", [ONLY_SECOND, ONLY_SECOND], [[[0.0, 0.0], [-21.0, 32.0]]]),
        ("Maximum", [NEITHER, ONLY_FIRST], [[[5.0, -6.0], [0.0, 0.0]]]),
    ],
)
def test_what_is_masked_in_one_input_is_left_to_the_others(name, masks, expected):
    assert run(name, {}, [A, B], mask=masks) == expected


def test_dot_sums_along_an_axis_of_each():
    assert run("Dot", {"axes": 2, "normalize": False}, [A, B]) == [[[17.0, -23.0], [-9.0, 11.0]]]
    assert run("Dot", {"axes": (2, 1), "normalize": False}, [A, B]) == [[[19.0, -22.0], [-13.0, 14.0]]]
    assert run("Dot", {"axes": 1, "normalize": True}, [[[3.0, 4.0]], [[0.0, 2.0]]]) == [[near(0.8)]]


def test_a_masked_softmax_is_that_of_the_rest_and_zero_where_nothing_is_left():
    x = [[0.0, math.log(3), 7.0], [1.0, 2.0, 3.0]]
    y = run("Softmax", {"axis": -1}, [x], mask=[[True, True, False], [False, False, False]])
    assert all_near(y, [[0.25, 0.75, 0.0], [0.0, 0.0, 0.0]])


def test_prelu_shares_its_slopes_along_axes():
    x = [[[1.0, -2.0], [-3.0, -4.0]]]
    assert run("PReLU", {"shared_axes": None}, [x], [[[0.5, 0.1], [2.0, 0.0]]]) == [[[1.0, -0.2], [-6.0, 0.0]]]
    assert run("PReLU", {"shared_axes": (1,)}, [x], [[[0.5, 0.1]]]) == [[[1.0, -0.2], [-1.5, -0.4]]]


def test_layer_normalization_of_two_numbers():
    params = {"axis": -1, "epsilon": 3.0, "scale": True, "center": True}
    y = run("LayerNormalization", params, [[[1.0, 3.0]]], [[10.0, 100.0], [0.5, 0.25]])
    assert y == [[-4.5, 50.25]]  # variance 1, and epsilon makes the divisor 2


def test_group_normalization_takes_neighbouring_channels_of_one_sample():
    params = {"groups": 2, "axis": -1, "epsilon": 0.0, "scale": False, "center": False}
    x = [[[1.0, 3.0, 10.0, 14.0]], [[0.0, 2.0, -1.0, 1.0]]]
    assert run("GroupNormalization", params, [x]) == [[[-1.0, 1.0, -1.0, 1.0]], [[-1.0, 1.0, -1.0, 1.0]]]
    one = run("GroupNormalization", {**params, "groups": 1, "epsilon": 1.0}, [[[0.0, 0.0, 0.0, 8.0]]])
    assert all_near(one, [[-2 / math.sqrt(13)] * 3 + [6 / math.sqrt(13)]])


def test_rms_and_unit_normalization_divide_by_lengths():
    assert run("RMSNormalization", {"axis": -1, "epsilon": 0.5}, [[[1.0, 2.0, 2.0]]], [[1.0, 2.0, 3.0]]) == [
        near([1 / math.sqrt(3.5), 4 / math.sqrt(3.5), 6 / math.sqrt(3.5)])
    ]
    assert run("UnitNormalization", {"axis": 1}, [[[3.0, 4.0], [0.0, 0.0]]]) == [[near(0.6), near(0.8)], [0.0, 0.0]]


def test_normal_noise_comes_from_two_draws():
    draws = {0: [[0, 2**32 - 1]], 1: [[2**31, 0]]}  # u, v at their ends; cos(pi + pi / 2^32) and cos(pi / 2^32) are +-1
    bits = lambda sizes, part=0: draws[part]
    far = math.sqrt(-2 * math.log(2.0**-33))
    near_zero = math.sqrt(-2 * math.log1p(-(2.0**-33)))
    y = run("GaussianNoise", {"stddev": 2.0}, [[[1.0, 1.0]]], training=True, bits=bits)
    assert y == [near([1 - 2 * far, 1 + 2 * near_zero])]
    y = run("GaussianDropout", {"rate": 0.5}, [[[3.0, 3.0]]], training=True, bits=bits)
    assert y == [near([3 * (1 - far), 3 * (1 + near_zero)])]
    assert run("GaussianNoise", {"stddev": 2.0}, [[[1.0, 1.0]]], bits=bits) == [[1.0, 1.0]]


def test_alpha_dropout_by_hand():
    s = -1.0507009873554804934 * 1.6732632423543772848
    a = 1 / math.sqrt(0.5 * (1 + 0.5 * s * s))
    y = run("AlphaDropout", dropout(0.5), [[[1.0, 2.0]]], training=True, bits=drawing(2**31, 2**31 - 1))
    assert y == [near([a * (1 - 0.5 * s), a * 0.5 * s])]


def test_spatial_dropout_decides_for_channels():
    x = [[[1.0, 2.0], [3.0, 4.0]]]
    params = {"rate": 0.5, "seed": None}
    y = run("SpatialDropout1D", params, [x], training=True, bits=drawing(0, 2**31))
    assert y == [[[0.0, 4.0], [0.0, 8.0]]]
    first = [[[[1.0, 2.0]], [[3.0, 4.0]]]]  # two channels of one row
    params = {**params, "data_format": "channels_first"}
    y = run("SpatialDropout2D", params, [first], training=True, bits=drawing(0, 2**31))
    assert y == [[[[0.0, 0.0]], [[6.0, 8.0]]]]


# ------------------------------------------------------------------------------------ windows and convolution


def cells(*arguments):
    return [[cell for _, cell in place] for place in windows(*arguments)]


@pytest.mark.parametrize(
    ("length", "size", "stride", "dilation", "padding", "expected"),
    [
        (5, 3, 2, 1, "valid", [[0, 1, 2], [2, 3, 4]]),
        (6, 3, 2, 1, "valid", [[0, 1, 2], [2, 3, 4]]),
        (7, 3, 1, 2, "valid", [[0, 2, 4], [1, 3, 5], [2, 4, 6]]),
        (3, 3, 1, 1, "same", [[0, 1], [0, 1, 2], [1, 2]]),
        (3, 2, 1, 1, "same", [[0, 1], [1, 2], [2]]),  # one padding cell: at the end
        (4, 3, 2, 1, "same", [[0, 1, 2], [2, 3]]),  # again, though the kernel is odd
        (5, 3, 2, 1, "same", [[0, 1], [1, 2, 3], [3, 4]]),
        (5, 4, 1, 1, "same", [[0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4], [3, 4]]),
        (5, 1, 3, 1, "same", [[0], [3]]),  # the stride jumps over cells: no padding, not a negative one
        (4, 2, 1, 2, "same", [[1], [0, 2], [1, 3], [2]]),
        (4, 2, 1, 2, "causal", [[0], [1], [0, 2], [1, 3]]),
        (5, 3, 2, 1, "causal", [[0], [0, 1, 2], [2, 3, 4]]),
    ],
)
def test_a_window_covers_these_cells(length, size, stride, dilation, padding, expected):
    assert cells(length, size, stride, dilation, padding) == expected


def test_the_taps_of_a_window_at_the_border_are_those_that_lie_inside():
    assert windows(3, 3, 1, 1, "same") == [[(1, 0), (2, 1)], [(0, 0), (1, 1), (2, 2)], [(0, 1), (1, 2)]]


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        windows(4, 3, 1, 2, "valid")


def conv(**changes):
    params = {
        "filters": 1,
        "kernel_size": (2, 2),
        "strides": (1, 1),
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": (1, 1),
        "groups": 1,
        "activation": "linear",
        "use_bias": False,
    }
    assert set(changes) <= set(params) | {"depth_multiplier"}
    return {**params, **changes}


def plane(rows):
    """One sample with one channel, channels last."""
    return [[[[number] for number in row] for row in rows]]


def kernel(rows):
    """One channel in, one filter out."""
    return [[[[number]] for number in row] for row in rows]


NINE = plane([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])


def test_conv2d_is_a_cross_correlation():
    # 1*1 + 2*2 + 4*3 + 5*4 = 37; flipped it would be 23.
    y = run("Conv2D", conv(), [NINE], [kernel([[1.0, 2.0], [3.0, 4.0]])])
    assert y == plane([[37.0, 47.0], [67.0, 77.0]])


def test_conv2d_same_padding_has_its_odd_cell_at_the_end():
    y = run("Conv2D", conv(padding="same"), [NINE], [kernel([[1.0, 2.0], [3.0, 4.0]])])
    assert y == plane([[37.0, 47.0, 21.0], [67.0, 77.0, 33.0], [23.0, 26.0, 9.0]])


def test_conv2d_strides_and_dilation_belong_to_their_axes():
    x = plane([[10.0 * i + j for j in range(4)] for i in range(3)])
    one = kernel([[1.0]])
    params = conv(kernel_size=(1, 1), strides=(1, 3))
    assert run("Conv2D", params, [x], [one]) == plane([[0.0, 3.0], [10.0, 13.0], [20.0, 23.0]])
    params = conv(kernel_size=(2, 2), dilation_rate=(1, 3))
    two = kernel([[1.0, 100.0], [0.0, 10000.0]])
    assert run("Conv2D", params, [x], [two]) == plane([[130300.0], [231310.0]])


def test_conv2d_groups_are_contiguous_shares_of_channels_and_filters():
    x = [[[[1.0, 10.0, 100.0, 1000.0]]]]
    weights = [[[[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]]]]
    params = conv(kernel_size=(1, 1), filters=4, groups=2)
    assert run("Conv2D", params, [x], weights) == [[[[51.0, 62.0, 7300.0, 8400.0]]]]


def test_conv2d_adds_the_bias_to_channels_even_where_the_width_has_the_same_size():
    x = [[[[1.0, 2.0], [3.0, 4.0]]]]  # channels first: one channel, two rows, two columns
    weights = [[[[[1.0, 10.0]]]], [100.0, 200.0]]
    params = conv(kernel_size=(1, 1), filters=2, data_format="channels_first", use_bias=True)
    y = run("Conv2D", params, [x], weights)
    assert y == [[[[101.0, 102.0], [103.0, 104.0]], [[210.0, 220.0], [230.0, 240.0]]]]


def test_conv2d_softmax_acts_on_the_last_axis_in_both_layouts():
    x = [[[[0.0, math.log(3)]]]]
    same = [[[[[1.0]]]]]
    params = conv(kernel_size=(1, 1), activation="softmax", data_format="channels_first")
    assert all_near(run("Conv2D", params, [x], same), [[[[0.25, 0.75]]]])
    x = [[[[0.0], [math.log(3)]]]]
    params = conv(kernel_size=(1, 1), activation="softmax")
    assert run("Conv2D", params, [x], same) == [[[[1.0], [1.0]]]]


def test_correlation_has_any_number_of_dimensions():
    line = [[1.0], [2.0], [3.0]]
    assert correlate(line, [[[1.0]], [[10.0]]], (1,), "causal", (1,)) == [[10.0], [21.0], [32.0]]
    cube = build((2, 2, 2, 1), lambda i: 4.0 * i[0] + 2.0 * i[1] + i[2])
    corners = build((2, 2, 2, 1, 1), lambda i: 10.0 ** (4 * i[0] + 2 * i[1] + i[2]))
    assert correlate(cube, corners, (1, 1, 1), "valid", (1, 1, 1)) == [[[[76543210.0]]]]


def test_conv2d_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="groups"):
        run("Conv2D", conv(groups=2, kernel_size=(1, 1)), [[[[[1.0, 2.0, 3.0]]]]], [[[[[1.0, 2.0]]]]])


@pytest.mark.parametrize(
    "size, padding, margin, expected",
    [
        # x = (1, 2) with stride 2 and kernel (1, 10, 100) writes 1, 10, 100 + 2, 20, 200.
        (3, "valid", None, [1, 10, 102, 20, 200]),
        (3, "valid", 1, [1, 10, 102, 20, 200, 0]),
        (3, "same", None, [1, 10, 102, 20]),
        (3, "same", 0, [10, 102, 20]),
        (3, "same", 1, [1, 10, 102, 20]),
        # With kernel (1, 10, 100, 1000): 1, 10, 100 + 2, 1000 + 20, 200, 2000.
        (4, "same", None, [10, 102, 1020, 200]),
        (4, "same", 0, [102, 1020]),
        (4, "same", 1, [10, 102, 1020]),
        # A kernel shorter than the stride leaves zeros, also at the end.
        (1, "valid", None, [1, 0, 2, 0]),
        (1, "same", 0, [1, 0, 2]),
    ],
)
def test_a_transposed_convolution_adds_the_kernel_at_each_element_then_cuts(size, padding, margin, expected):
    weights = [[[[10.0**k]] for k in range(size)]]
    params = conv(kernel_size=(size,), strides=(2,), dilation_rate=(1,), padding=padding)
    params["output_padding"] = None if margin is None else (margin,)
    assert run("Conv1DTranspose", params, [[[[1.0], [2.0]]]], weights) == [[[float(v)] for v in expected]]


def test_a_transposed_kernel_has_filters_before_channels():
    params = conv(kernel_size=(1, 1), filters=1) | {"output_padding": None}
    assert run("Conv2DTranspose", params, [[[[[1.0, 2.0]]]]], [[[[[10.0, 100.0]]]]]) == [[[[210.0]]]]


def test_locally_connected_kernels_follow_the_memory_order_of_the_input_and_biases_that_of_the_output():
    kernel_of_two = [[[1.0], [10.0], [100.0], [1000.0]], [[2.0], [0.0], [0.0], [0.0]]]
    params = conv(kernel_size=(2,), strides=(1,), filters=1, use_bias=True)
    x = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]  # three places, two channels
    weights = [kernel_of_two, [[0.5], [0.25]]]
    assert run("LocallyConnected1D", params, [[x]], weights) == [[[4321.5], [6.25]]]
    params["data_format"] = "channels_first"
    x = [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]
    assert run("LocallyConnected1D", params, [[x]], weights) == [[[4231.5, 6.25]]]
    weights = [[[[0.0, 0.0] for _ in range(4)] for _ in range(2)], [[1.0, 2.0], [3.0, 4.0]]]
    assert run("LocallyConnected1D", params, [[x]], weights) == [[[1.0, 2.0], [3.0, 4.0]]]


def test_depthwise_output_channel_is_c_times_multiplier_plus_m():
    x = [[[[10.0, 100.0]]]]
    weights = [[[[[1.0, 2.0], [3.0, 4.0]]]], [0.5, 0.25, 0.125, 0.0625]]
    params = conv(kernel_size=(1, 1), use_bias=True, depth_multiplier=2)
    assert run("DepthwiseConv2D", params, [x], weights) == [[[[10.5, 20.25, 300.125, 400.0625]]]]


def test_depthwise_channels_do_not_mix():
    x = [[[[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]]]
    weights = [[[[[1.0], [7.0]], [[10.0], [7.0]]]]]
    params = conv(kernel_size=(1, 2), depth_multiplier=1)
    assert run("DepthwiseConv2D", params, [x], weights) == [[[[21.0, 0.0], [42.0, 0.0]]]]


def test_separable_strides_the_depthwise_part_then_mixes_channels_and_has_one_activation():
    x = [[[[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]]]]  # one row of three places, two channels
    depthwise = [[[[1.0], [-1.0]], [[10.0], [0.0]]]]  # channel 0: (1, 10), channel 1: (-1, 0)
    pointwise = [[[[1.0, 2.0], [3.0, 4.0]]]]
    window = {"kernel_size": (1, 2), "strides": (2, 2), "padding": "same"}
    params = conv(**window, filters=2, use_bias=True, activation="relu")
    # depthwise at places 0 and 2: (21, -5) and (3, -7); an activation in between would hide the minus signs
    weights = [depthwise, pointwise, [0.5, 0.0]]
    assert run("SeparableConv2D", params, [x], weights) == [[[[6.5, 22.0], [0.0, 0.0]]]]


# ------------------------------------------------------------------------------------------------- pooling


def pooling(**changes):
    return {"strides": None, "padding": "valid", "data_format": "channels_last", **changes}


def test_max_pooling_takes_the_largest_of_each_window_and_its_stride_is_the_pool_size():
    x = plane([[1.0, 2.0, 3.0, 4.0], [8.0, 7.0, 6.0, 5.0]])
    assert run("MaxPooling2D", pooling(pool_size=(2, 2)), [x]) == plane([[8.0, 6.0]])
    assert run("MaxPooling2D", pooling(pool_size=(1, 2), strides=(1, 1)), [x]) == plane(
        [[2.0, 3.0, 4.0], [8.0, 7.0, 6.0]]
    )


def test_max_pooling_pads_with_nothing_that_could_win():
    x = plane([[-5.0, -3.0, -4.0]])
    assert run("MaxPooling2D", pooling(pool_size=(1, 2), padding="same"), [x]) == plane([[-3.0, -4.0]])


def test_max_pooling_passes_nan_on_wherever_it_stands():
    for row in ([math.nan, 1.0], [1.0, math.nan]):
        (y,) = flatten(run("MaxPooling2D", pooling(pool_size=(1, 2)), [plane([row])]))
        assert math.isnan(y)


def test_average_pooling_divides_by_the_cells_that_are_not_padding():
    x = plane([[1.0, 2.0, 3.0, 4.0, 5.0]])
    y = run("AveragePooling2D", pooling(pool_size=(1, 4), strides=(1, 1), padding="same"), [x])
    assert y == plane([[2.0, 2.5, 3.5, 4.0, 4.5]])


def test_pooling_keeps_channels_apart_in_both_layouts():
    x = [[[[1.0, 3.0]], [[10.0, 30.0]]]]  # channels first: two channels of one row
    params = pooling(pool_size=(1, 2), data_format="channels_first")
    assert run("AveragePooling2D", params, [x]) == [[[[2.0]], [[20.0]]]]
    assert run("MaxPooling2D", {**params, "pool_size": (1, 1)}, [x]) == x


def test_global_average_pooling_is_the_mean_over_space():
    x = [[[[1.0, 10.0], [2.0, 20.0]], [[3.0, 30.0], [6.0, 60.0]]]]
    last = {"data_format": "channels_last", "keepdims": False}
    assert run("GlobalAveragePooling2D", last, [x]) == [[3.0, 30.0]]
    first = {"data_format": "channels_first", "keepdims": True}
    assert run("GlobalAveragePooling2D", first, [x]) == [[[[8.25]], [[24.75]]]]


# ------------------------------------------------------------------------------------------- normalization


def norm(**changes):
    params = {"axis": -1, "momentum": 0.75, "epsilon": 3.0, "center": True, "scale": True}
    assert set(changes) <= {*params, "trainable"}
    return {**params, **changes}


def test_batch_normalization_at_inference_uses_the_moving_statistics():
    weights = [[2.0, 10.0], [0.5, 0.0], [1.0, 4.0], [1.0, 6.0]]  # gamma, beta, moving mean, moving variance
    result = ORACLES["BatchNormalization"](norm(), [[[5.0, 10.0], [-1.0, 4.0]]], weights)
    assert result.outputs == [[[4.5, 20.0], [-1.5, 0.0]]]
    assert result.weights == {}


def test_batch_normalization_in_training_uses_the_batch_and_its_biased_variance():
    weights = [[2.0], [0.5], [8.0], [5.0]]
    result = ORACLES["BatchNormalization"](norm(), [[[1.0], [3.0]]], weights, training=True)
    assert result.outputs == [[[-0.5], [1.5]]]  # mean 2, variance 1, root of 1 + 3 is 2
    assert result.weights == {"moving_mean": [6.5], "moving_variance": [4.0]}


def test_batch_normalization_that_is_not_trainable_is_at_inference():
    weights = [[1.0], [0.0], [1.0], [1.0]]
    result = ORACLES["BatchNormalization"](norm(trainable=False), [[[5.0]]], weights, training=True)
    assert (result.outputs, result.weights) == ([[[2.0]]], {})


def test_batch_normalization_without_scale_or_center_has_fewer_weights():
    x = [[[5.0]]]
    assert run("BatchNormalization", norm(scale=False), x, [[100.0], [1.0], [1.0]]) == [[102.0]]
    assert run("BatchNormalization", norm(center=False), x, [[100.0], [1.0], [1.0]]) == [[200.0]]
    assert run("BatchNormalization", norm(scale=False, center=False), x, [[1.0], [1.0]]) == [[2.0]]


def test_batch_normalization_reduces_every_axis_but_its_own():
    x = [[[1.0, 3.0], [10.0, 10.0]], [[1.0, 3.0], [10.0, 10.0]]]
    weights = [[0.0, 0.0], [0.0, 0.0]]
    params = norm(axis=1, scale=False, center=False, momentum=0.0, epsilon=3.0)
    result = ORACLES["BatchNormalization"](params, [x], weights, training=True)
    assert result.weights == {"moving_mean": [2.0, 10.0], "moving_variance": [1.0, 0.0]}
    assert result.outputs == [[[[-0.5, 0.5], [0.0, 0.0]]] * 2]


def test_batch_normalization_is_exact_where_the_mean_is_large():
    x = [[1e8], [1e8 + 3.0], [1e8 + 6.0]]
    params = norm(scale=False, center=False, momentum=0.0)
    result = ORACLES["BatchNormalization"](params, [x], [[0.0], [1.0]], training=True)
    assert result.weights == {"moving_mean": [1e8 + 3.0], "moving_variance": [6.0]}
    assert result.outputs == [[[-1.0], [0.0], [1.0]]]


def test_batch_normalization_does_not_count_masked_steps_but_normalises_them():
    x = [[[1.0], [3.0], [50.0]]]
    params = norm(scale=False, center=False, momentum=0.0, epsilon=0.0)
    mask = [[True, True, False]]
    result = ORACLES["BatchNormalization"](params, [x], [[0.0], [1.0]], training=True, mask=mask)
    mean = 4 / (2 + 1e-7)
    variance = ((1 - mean) ** 2 + (3 - mean) ** 2) / (2 + 1e-7)
    assert result.weights["moving_mean"] == near([mean])
    assert result.weights["moving_variance"] == near([variance])
    assert flatten(result.outputs) == near([(v - mean) / math.sqrt(variance) for v in (1.0, 3.0, 50.0)])
    assert abs(mean - 2) < 2e-7 and abs(variance - 1) < 2e-7


def test_batch_normalization_of_a_fully_masked_batch_is_finite():
    params = norm(scale=False, center=False, momentum=0.0, epsilon=4.0)
    result = ORACLES["BatchNormalization"](params, [[[[6.0]]]], [[9.0], [9.0]], training=True, mask=[[False]])
    assert result.outputs == [[[[3.0]]]]
    assert result.weights == {"moving_mean": [0.0], "moving_variance": [0.0]}


# ----------------------------------------------------------------------------------------------- recurrent


def lstm(**changes):
    params = {
        "units": 1,
        "activation": "linear",
        "recurrent_activation": "hard_sigmoid",
        "use_bias": True,
        "unit_forget_bias": True,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "return_sequences": True,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "implementation": 2,
        "zero_output_for_mask": False,
    }
    assert set(changes) <= set(params)
    return {**params, **changes}


# Gates wide open and a linear candidate: an LSTM that adds up what it sees. Columns i, f, c, o.
ADDER = [[[0.0, 0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]], [6.0, 6.0, 0.0, 6.0]]
STEPS = [[[1.0], [2.0], [4.0]]]


def column(numbers):
    """One sample: a sequence of vectors of size one."""
    return [[[number] for number in numbers]]


def test_lstm_two_steps_by_hand():
    # clip(z/6 + 1/2, 0, 1) makes 1.5 -> 3/4, 0 -> 1/2, 3 -> 1. Step 1, x = 1:
    #   i = 3/4, f = 1/2, g = 2, o = 1;  c = 3/2;  h = 3/2
    # step 2, x = -1: z = (-1.5, 0, -2, -3) + 1.5 (2, 1, -1, 2) = (1.5, 1.5, -3.5, 0)
    #   i = f = 3/4, g = -7/2, o = 1/2;  c = 9/8 - 21/8 = -3/2;  h = -3/4
    weights = [[[1.5, 0.0, 2.0, 3.0]], [[2.0, 1.0, -1.0, 2.0]]]
    params = lstm(use_bias=False, return_state=True)
    result = ORACLES["LSTM"](params, [column([1.0, -1.0])], weights)
    assert result.outputs == [column([1.5, -0.75]), [[-0.75]], [[-1.5]]]
    assert result.states == [[[-0.75]], [[-1.5]]]


def test_lstm_one_step_with_the_usual_activations():
    i, f, g, o = 0.3, -0.2, 0.7, 1.1

    def sigma(z):
        return 1 / (1 + math.exp(-z))

    c = sigma(f) * 0.5 + sigma(i) * math.tanh(g)
    params = lstm(activation="tanh", recurrent_activation="sigmoid")
    weights = [[[0.0] * 4], [[0.0] * 4], [i, f, g, o]]
    result = ORACLES["LSTM"](params, [column([9.0])], weights, initial_state=[[[2.0]], [[0.5]]])
    assert result.states == [[[near(sigma(o) * math.tanh(c))]], [[near(c)]]]


def test_lstm_gates_are_blocks_of_columns_not_interleaved():
    # Two units; only the candidate block (columns 4 and 5) reads x.
    kernel_ = [[0.0] * 4 + [1.0, 10.0] + [0.0] * 2]
    weights = [kernel_, [[0.0] * 8] * 2, [6.0] * 4 + [0.0] * 2 + [6.0] * 2]
    assert run("LSTM", lstm(units=2), [STEPS], weights) == [[[1.0, 10.0], [3.0, 30.0], [7.0, 70.0]]]


def test_lstm_recurrent_kernel_multiplies_the_output_row():
    # Unit 1 is told what unit 0 gave a step before, not the reverse.
    recurrent = [[0.0] * 4 + [0.0, 1.0] + [0.0] * 2, [0.0] * 8]
    weights = [[[0.0] * 4 + [1.0, 0.0] + [0.0] * 2], recurrent, [6.0] * 4 + [0.0] * 2 + [6.0] * 2]
    assert run("LSTM", lstm(units=2), [STEPS], weights) == [[[1.0, 0.0], [3.0, 1.0], [7.0, 4.0]]]


def test_lstm_returns_the_last_output_or_all_and_starts_from_the_initial_state():
    assert run("LSTM", lstm(), [STEPS], ADDER) == column([1.0, 3.0, 7.0])
    assert run("LSTM", lstm(return_sequences=False), [STEPS], ADDER) == [[7.0]]
    start = [[[50.0]], [[10.0]]]
    assert run("LSTM", lstm(), [STEPS], ADDER, initial_state=start) == column([11.0, 13.0, 17.0])


def test_lstm_backwards_returns_processing_order():
    assert run("LSTM", lstm(go_backwards=True), [STEPS], ADDER) == column([4.0, 6.0, 7.0])


@pytest.mark.parametrize(
    ("mask", "carried", "zeroed", "state"),
    [
        ([True, True, True], [1.0, 3.0, 7.0], [1.0, 3.0, 7.0], 7.0),
        ([True, False, True], [1.0, 1.0, 5.0], [1.0, 0.0, 5.0], 5.0),
        ([True, True, False], [1.0, 3.0, 3.0], [1.0, 3.0, 0.0], 3.0),
        ([False, True, True], [0.0, 2.0, 6.0], [0.0, 2.0, 6.0], 6.0),
        ([False, False, False], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 0.0),
    ],
)
def test_lstm_masked_steps_keep_the_state_and_repeat_the_output_or_give_zero(mask, carried, zeroed, state):
    for zero, expected in ((False, carried), (True, zeroed)):
        result = ORACLES["LSTM"](lstm(zero_output_for_mask=zero), [STEPS], ADDER, mask=[mask])
        assert result.outputs == [column(expected)]
        assert result.states == [[[state]], [[state]]]
        params = lstm(zero_output_for_mask=zero, return_sequences=False)
        assert run("LSTM", params, [STEPS], ADDER, mask=[mask]) == [expected[-1:]]


def test_lstm_masked_first_step_gives_zero_even_with_an_initial_state():
    start = [[[50.0]], [[10.0]]]
    result = ORACLES["LSTM"](lstm(), [STEPS], ADDER, mask=[[False, False, True]], initial_state=start)
    assert result.outputs == [column([0.0, 0.0, 14.0])]
    result = ORACLES["LSTM"](lstm(), [STEPS], ADDER, mask=[[False] * 3], initial_state=start)
    assert (result.outputs, result.states) == ([column([0.0] * 3)], start)


def test_lstm_backwards_turns_the_mask_around_too():
    y = run("LSTM", lstm(go_backwards=True), [STEPS], ADDER, mask=[[True, True, False]])
    assert y == column([0.0, 2.0, 3.0])


def test_lstm_samples_have_masks_and_states_of_their_own():
    x = STEPS + column([10.0, 20.0, 40.0])
    mask = [[True, False, True], [True, True, False]]
    start = [[[0.0], [0.0]], [[100.0], [1000.0]]]
    result = ORACLES["LSTM"](lstm(return_sequences=False), [x], ADDER, mask=mask, initial_state=start)
    assert result.outputs == [[[105.0], [1030.0]]]
    assert result.states[1] == [[105.0], [1030.0]]


def test_lstm_of_no_steps_returns_its_initial_state():
    result = ORACLES["LSTM"](lstm(return_sequences=False), [[[]]], ADDER, initial_state=[[[5.0]], [[6.0]]])
    assert (result.outputs, result.states) == ([[[0.0]]], [[[5.0]], [[6.0]]])


def test_simple_rnn_by_hand():
    weights = [[[2.0]], [[3.0]], [1.0]]  # h = 2 x + 3 h + 1
    assert run("SimpleRNN", lstm(), [STEPS], weights) == column([3.0, 14.0, 51.0])


# Columns z, r, h of a GRU: hard_sigmoid(-1.5) = 1/4 and hard_sigmoid(0) = 1/2, whatever is seen.
@pytest.mark.parametrize(
    ("after", "bias", "expected"),
    [
        # g = x + 1/2 (8 h); h = 1/4 h + 3/4 g
        (False, [-1.5, 0.0, 0.0], [0.75, 0.1875 + 0.75 * (2 + 4 * 0.75)]),
        # g = x + 1/2 (8 h + 2); the other row of the bias adds to the same sums of z and r
        (True, [[-1.5, 0.0, 0.0], [0.0, 0.0, 2.0]], [1.5, 0.375 + 0.75 * (2 + 0.5 * (8 * 1.5 + 2))]),
    ],
)
def test_gru_two_steps_by_hand(after, bias, expected):
    weights = [[[0.0, 0.0, 1.0]], [[0.0, 0.0, 8.0]], bias]
    x = column([1.0, 2.0])
    assert all_near(run("GRU", {**lstm(), "reset_after": after}, [x], weights), column(expected))


def test_stacked_cells_by_hand():
    cell = {"class_name": "SimpleRNNCell", "config": lstm(use_bias=False)}
    params = lstm(return_state=True) | {"cell": {"class_name": "StackedRNNCells", "config": {"cells": [cell, cell]}}}
    # h = x + h, then k = 10 h + k.
    result = ORACLES["RNN"](params, [STEPS], [[[1.0]], [[1.0]], [[10.0]], [[1.0]]])
    assert result.outputs == [column([10.0, 40.0, 110.0]), [[7.0]], [[110.0]]]


def test_conv_lstm_adds_up_what_a_window_sees():
    params = lstm(use_bias=True) | {
        "filters": 1, "kernel_size": (2,), "strides": (1,), "padding": "valid", "data_format": "channels_first",
        "dilation_rate": (1,),
    }  # fmt: skip
    weights = [[[[0.0, 0.0, 1.0, 0.0]], [[0.0, 0.0, 10.0, 0.0]]], [[[0.0] * 4]] * 2, ADDER[2]]
    x = [[[[1.0, 2.0, 3.0]], [[0.0, 1.0, 0.0]]]]  # one sample of two steps, each of one channel
    assert run("ConvLSTM1D", params, [x], weights) == [[[[21.0, 32.0]], [[31.0, 33.0]]]]


@pytest.mark.parametrize("rate", ["dropout", "recurrent_dropout"])
def test_lstm_needs_random_bits_to_drop_anything(rate):
    with pytest.raises(ValueError, match="random bits"):
        run("LSTM", lstm(**{rate: 0.5}), [STEPS], ADDER, training=True)
    assert run("LSTM", lstm(**{rate: 0.5}), [STEPS], ADDER) == column([1.0, 3.0, 7.0])


def dropped(*parts):
    """Random bits by which all is dropped in these draws, and nothing in others."""
    return lambda sizes, part=0: build(sizes, lambda index: 0 if part in parts else 2**31)


@pytest.mark.parametrize(
    ("implementation", "parts", "steps"),
    [
        (2, (1, 2, 3), [2.0, 6.0, 14.0]),  # one draw for all gates
        (2, (0,), [0.0, 0.0, 0.0]),
        (1, (0, 1, 3), [2.0, 6.0, 14.0]),  # a draw for each; these gates do not look at x
        (1, (2,), [0.0, 0.0, 0.0]),
    ],
)
def test_lstm_drops_the_same_inputs_at_all_steps(implementation, parts, steps):
    params = lstm(dropout=0.5, implementation=implementation)
    assert run("LSTM", params, [STEPS], ADDER, training=True, bits=dropped(*parts)) == column(steps)


@pytest.mark.parametrize(("parts", "steps"), [((0, 1, 5), [1.0, 4.0, 12.0]), ((4,), [1.0, 2.0, 4.0])])
def test_simple_rnn_drops_the_same_of_its_state_at_all_steps(parts, steps):
    params = lstm(recurrent_dropout=0.5)
    weights = [[[1.0]], [[1.0]], [0.0]]
    assert run("SimpleRNN", params, [STEPS], weights, training=True, bits=dropped(*parts)) == column(steps)


# ------------------------------------------------------------------------------------------------ wrappers


def bidirectional(merge_mode="concat", **changes):
    return {"merge_mode": merge_mode, "layer": {"class_name": "LSTM", "config": lstm(**changes)}}


TENFOLD = [[[0.0, 0.0, 10.0, 0.0]], *ADDER[1:]]  # adds up ten times what it sees


@pytest.mark.parametrize(
    ("merge_mode", "sequences", "last"),
    [
        ("concat", [[1.0, 70.0], [3.0, 60.0], [7.0, 40.0]], [7.0, 70.0]),
        ("sum", [[71.0], [63.0], [47.0]], [77.0]),
        ("ave", [[35.5], [31.5], [23.5]], [38.5]),
        ("mul", [[70.0], [180.0], [280.0]], [490.0]),
    ],
)
def test_bidirectional_merges_the_outputs_that_belong_to_the_same_step(merge_mode, sequences, last):
    weights = ADDER + TENFOLD
    assert run("Bidirectional", bidirectional(merge_mode), [STEPS], weights) == [sequences]
    params = bidirectional(merge_mode, return_sequences=False)
    assert run("Bidirectional", params, [STEPS], weights) == [last]


def test_bidirectional_without_a_merge_mode_has_two_outputs():
    result = ORACLES["Bidirectional"](bidirectional(None), [STEPS], ADDER + TENFOLD)
    assert result.outputs == [column([1.0, 3.0, 7.0]), column([70.0, 60.0, 40.0])]


def test_bidirectional_states_are_forward_then_backward():
    start = [[[1.0]], [[100.0]], [[2.0]], [[2000.0]]]  # h and c forward, h and c backward
    params = bidirectional(return_state=True, return_sequences=False)
    result = ORACLES["Bidirectional"](params, [STEPS], ADDER + TENFOLD, initial_state=start)
    states = [[[107.0]], [[107.0]], [[2070.0]], [[2070.0]]]
    assert result.outputs == [[[107.0, 2070.0]], *states]
    assert result.states == states


def test_bidirectional_gives_zeros_at_masked_steps_of_a_sequence_and_the_last_valid_output_otherwise():
    mask = [[True, True, False]]
    y = run("Bidirectional", bidirectional(), [STEPS], ADDER + TENFOLD, mask=mask)
    assert y == [[[1.0, 30.0], [3.0, 20.0], [0.0, 0.0]]]
    params = bidirectional(return_sequences=False, zero_output_for_mask=True)
    assert run("Bidirectional", params, [STEPS], ADDER + TENFOLD, mask=mask) == [[3.0, 30.0]]


def test_bidirectional_takes_a_backward_layer_of_its_own():
    params = bidirectional(None, return_sequences=False)
    config = lstm(go_backwards=True, return_sequences=False, activation="relu")
    params["backward_layer"] = {"class_name": "LSTM", "config": config}
    result = ORACLES["Bidirectional"](params, [column([-1.0, -2.0])], ADDER + TENFOLD)
    assert result.outputs == [[[-3.0]], [[0.0]]]


def test_bidirectional_of_a_layer_that_goes_backwards_has_its_outputs_in_that_order():
    y = run("Bidirectional", bidirectional(go_backwards=True), [STEPS], ADDER + TENFOLD)
    assert y == [[[4.0, 70.0], [6.0, 30.0], [7.0, 10.0]]]


def test_bidirectional_takes_layers_that_hold_different_numbers_of_weights_and_states():
    params = bidirectional(None, return_state=True, return_sequences=False)
    config = lstm(go_backwards=True, return_sequences=False, use_bias=False)
    params["backward_layer"] = {"class_name": "SimpleRNN", "config": config}
    weights = [*ADDER, [[1.0]], [[10.0]]]
    start = [[[1.0]], [[100.0]], [[2.0]]]  # h and c forward, h backward: 4, 2 and 1 follow it
    result = ORACLES["Bidirectional"](params, [STEPS], weights, initial_state=start)
    assert result.outputs == [[[107.0]], [[2421.0]], [[107.0]], [[107.0]], [[2421.0]]]


@pytest.mark.parametrize("frozen", ["wrapper", "layer"])
@pytest.mark.parametrize("name", ["Wrapper", "TimeDistributed"])
def test_a_wrapper_that_is_frozen_or_holds_a_frozen_layer_leaves_statistics_alone(name, frozen):
    inner = {"class_name": "BatchNormalization", "config": norm(trainable=frozen != "layer")}
    params = {"layer": inner, "trainable": frozen != "wrapper"}
    weights = [[1.0], [0.0], [1.0], [1.0]]  # and an epsilon of 3
    result = ORACLES[name](params, [[[[5.0]], [[3.0]]]], weights, training=True)
    assert result.weights == {}
    assert flatten(result.outputs) == [2.0, 1.0]


def test_time_distributed_draws_anew_at_each_step_of_each_sample():
    params = {"layer": {"class_name": "Dropout", "config": dropout(0.5)}}
    x = [[[1.0], [2.0]], [[3.0], [4.0]]]
    y = run("TimeDistributed", params, [x], training=True, bits=drawing(2**31, 0, 0, 2**31))
    assert y == [[[2.0], [0.0]], [[0.0], [8.0]]]


# --------------------------------------------------------------------------------------------------- merge


def test_add_sums_any_number_of_inputs_and_shares_axes_of_size_one():
    assert run("Add", {}, [[[1.0, 2.0]], [[10.0, 20.0]], [[100.0, 200.0]]]) == [[111.0, 222.0]]
    assert run("Add", {}, [[[[1.0], [2.0]]], [[[10.0, 20.0]]]]) == [[[11.0, 21.0], [12.0, 22.0]]]


def test_add_puts_missing_axes_right_after_the_batch_axis():
    matrix = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    assert run("Add", {}, [matrix, [[10.0, 20.0], [100.0, 200.0]]]) == [
        [[11.0, 22.0], [13.0, 24.0]],
        [[105.0, 206.0], [107.0, 208.0]],
    ]


def test_add_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="broadcast"):
        run("Add", {}, [[[1.0, 2.0]], [[1.0, 2.0, 3.0]]])


def test_concatenate_joins_along_its_axis():
    a, b = [[[1], [2]]], [[[3], [4]]]
    assert run("Concatenate", {"axis": -1}, [a, b]) == [[[1, 3], [2, 4]]]
    assert run("Concatenate", {"axis": 1}, [a, b, a]) == [[[1], [2], [3], [4], [1], [2]]]


# --------------------------------------------------------------------------------------------- activations

LN2, LN3 = math.log(2), math.log(3)
PHI_1 = 0.8413447460685429  # standard normal distribution function at 1, and at -10
PHI_MINUS_10 = 7.619853024160527e-24


@pytest.mark.parametrize(
    ("name", "params", "x", "y"),
    [
        ("linear", {}, -2.5, -2.5),
        ("relu", {}, -2.0, 0.0),
        ("relu", {}, -math.inf, 0.0),
        ("relu", {}, 2.0, 2.0),
        ("relu", {"max_value": 1.5}, 2.0, 1.5),
        ("relu", {"negative_slope": 0.5}, -2.0, -1.0),
        ("relu", {"negative_slope": 0.5, "threshold": 1.0}, -2.0, -1.5),
        ("relu", {"negative_slope": 0.5, "threshold": 1.0}, 0.5, -0.25),
        ("relu", {"threshold": 1.0}, 1.0, 0.0),
        ("relu", {"threshold": 1.0, "max_value": 3.0}, 2.0, 2.0),
        ("relu6", {}, 7.0, 6.0),
        ("relu6", {}, 5.5, 5.5),
        ("leaky_relu", {}, -5.0, -1.0),
        ("leaky_relu", {"negative_slope": 3.0}, -5.0, -15.0),
        ("leaky_relu", {"negative_slope": 3.0}, 5.0, 5.0),
        ("elu", {}, -LN2, -0.5),
        ("elu", {"alpha": 3.0}, -LN2, -1.5),
        ("elu", {"alpha": 3.0}, 2.0, 2.0),
        ("sigmoid", {}, LN3, 0.75),
        ("sigmoid", {}, -LN3, 0.25),
        ("sigmoid", {}, -800.0, 0.0),
        ("sigmoid", {}, -700.0, math.exp(-700.0)),
        ("hard_sigmoid", {}, 1.5, 0.75),
        ("hard_sigmoid", {}, 3.5, 1.0),
        ("hard_sigmoid", {}, -3.5, 0.0),
        ("tanh", {}, LN2, 0.6),
        ("softplus", {}, 0.0, LN2),
        ("softplus", {}, LN3, 2 * LN2),
        ("softplus", {}, 1000.0, 1000.0),
        ("softplus", {}, -700.0, math.exp(-700.0)),
        ("softsign", {}, -3.0, -0.75),
        ("exponential", {}, -LN2, 0.5),
        ("exponential", {}, 1000.0, math.inf),
        ("silu", {}, LN3, 0.75 * LN3),
        ("gelu", {}, 1.0, PHI_1),
        ("gelu", {}, -1.0, PHI_1 - 1),
        ("gelu", {}, -10.0, -10 * PHI_MINUS_10),
        ("gelu", {"approximate": True}, 1.0, 0.8411919906082768),
        ("gelu", {"approximate": True}, -2.0, -1 - math.tanh(math.sqrt(2 / math.pi) * (-2 - 0.044715 * 8))),
        ("mish", {}, LN3, LN3 * 15 / 17),  # tanh(log 4) = (16 - 1) / (16 + 1)
    ],
)
def test_an_elementwise_activation_has_this_value(name, params, x, y):
    assert ACTIVATIONS[name]([x, 0.5], **params)[0] == pytest.approx(y, rel=1e-13, abs=0.0)


def test_selu_has_the_constants_that_keep_a_standard_normal_variable_so():
    # Klambauer et al. 2017, equation 14, for mean 0 and variance 1.
    tail, e = math.erfc(1 / math.sqrt(2)), math.e
    alpha = math.sqrt(2 / math.pi) / (1 - tail * math.sqrt(e))
    second = 2 * math.erfc(math.sqrt(2)) * e**2 + math.pi * tail**2 * e
    second += math.pi + 2 - 2 * (2 + math.pi) * tail * math.sqrt(e)
    scale = (1 - tail * math.sqrt(e)) * math.sqrt(2 * math.pi / second)
    expected = [3 * scale, -0.5 * scale * alpha]
    assert ACTIVATIONS["selu"]([3.0, -LN2]) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_an_activation_passes_nan_on(name):
    row, params = ([math.nan, 1.0], {}) if name == "glu" else ([math.nan], {})
    params = {"threshold": 0.5, "default_value": 0.0} if name == "threshold" else params
    assert math.isnan(ACTIVATIONS[name](row, **params)[0])


def test_sparsemax_leaves_out_what_is_far_below_and_shares_the_rest():
    assert ACTIVATIONS["sparsemax"]([1.0, 0.5, 0.25, -9.0]) == near([0.75, 0.25, 0.0, 0.0])
    assert ACTIVATIONS["sparsemax"]([3.0, 3.0]) == [0.5, 0.5]
    assert ACTIVATIONS["sparsemax"]([0.0, 7.0]) == [0.0, 1.0]
    assert ACTIVATIONS["glu"]([3.0, 5.0, 0.0, LN3]) == near([1.5, 3.75])
    assert ACTIVATIONS["squareplus"]([-1.5, 0.0, 1.5]) == near([0.5, 1.0, 2.0])


def test_ctc_sums_over_all_ways_to_spell_the_labels():
    # Of the 8 equally likely ways over blank and one label, those that spell "1": 001 010 100 011 110 111.
    outcome = LOSSES["CTC"]({}, [[1], [0]], [[[0.0, 0.0]] * 3] * 2)
    assert outcome.per_sample == near([-math.log(6 / 8), 3 * LN2])


def test_the_area_under_a_curve_of_four_predictions():
    # Of the four pairs of a positive and a negative, three are in the right order.
    params = {"num_thresholds": 200, "curve": "ROC", "summation_method": "interpolation", "thresholds": None,
              "multi_label": False, "label_weights": None, "from_logits": False}  # fmt: skip
    batches = [([[0], [0]], [[0.1], [0.4]], [1.0, 1.0]), ([[1], [1]], [[0.35], [0.8]], [1.0, 1.0])]
    assert METRICS["AUC"](params, batches) == near(0.75)
    assert METRICS["Precision"]({"thresholds": 0.375}, batches) == near(0.5)
    assert METRICS["F1Score"]({"average": "micro", "threshold": 0.375}, batches) == pytest.approx(0.5, abs=1e-6)


def test_softmax_and_its_logarithm_act_on_the_row_and_do_not_overflow():
    assert ACTIVATIONS["softmax"]([0.0, LN3]) == near([0.25, 0.75])
    assert ACTIVATIONS["softmax"]([1000.0, 1000.0, -1000.0]) == [0.5, 0.5, 0.0]
    assert ACTIVATIONS["log_softmax"]([0.0, LN3]) == near([-2 * LN2, LN3 - 2 * LN2])
    assert ACTIVATIONS["log_softmax"]([1000.0, 0.0]) == [0.0, -1000.0]


# -------------------------------------------------------------------------------------------------- losses


def test_squared_and_absolute_errors_are_means_over_the_last_axis_then_over_the_samples():
    y_true, y_pred = [[0.0, 0.0], [1.0, 5.0]], [[1.0, -3.0], [1.0, 3.0]]
    squared = LOSSES["MeanSquaredError"]({}, y_true, y_pred)
    assert (squared.per_sample, squared.reduced) == ([5.0, 2.0], 3.5)
    absolute = LOSSES["MeanAbsoluteError"]({}, y_true, y_pred)
    assert (absolute.per_sample, absolute.reduced) == ([2.0, 1.0], 1.5)


def test_the_places_of_a_sample_count_like_samples():
    y_pred = [[[1.0], [2.0]], [[3.0], [6.0]]]
    outcome = LOSSES["MeanAbsoluteError"]({}, [[[0.0]] * 2] * 2, y_pred)
    assert (outcome.per_sample, outcome.reduced) == ([[1.0, 2.0], [3.0, 6.0]], 3.0)


@pytest.mark.parametrize(
    ("reduction", "weight", "mask", "reduced"),
    [
        ("sum_over_batch_size", None, None, 4.0),
        ("sum_over_batch_size", [3.0, 0.0, 1.0], None, 4.0),  # 12 / 3: the divisor is not the weight
        ("sum_over_batch_size", None, [True, False, True], 5.0),
        ("sum_over_batch_size", [3.0, 0.5, 1.0], [True, False, True], 6.0),
        ("sum_over_batch_size", None, [False] * 3, 0.0),
        ("mean", [3.0, 0.0, 1.0], None, 4.0),
        ("mean_with_sample_weight", None, None, 4.0),
        ("mean_with_sample_weight", [3.0, 0.0, 1.0], None, 3.0),
        ("mean_with_sample_weight", [3.0, 0.5, 1.0], [False, True, True], 20 / 3),
        ("sum", [3.0, 0.0, 1.0], None, 12.0),
        ("sum", None, [True, False, True], 10.0),
        ("none", [3.0, 0.5, 1.0], [True, True, False], [3.0, 1.0, 0.0]),
        (None, None, None, [1.0, 2.0, 9.0]),
    ],
)
def test_a_reduction_of_the_losses_one_two_and_nine(reduction, weight, mask, reduced):
    outcome = LOSSES["MeanAbsoluteError"](
        {"reduction": reduction}, [[0.0]] * 3, [[1.0], [2.0], [9.0]], sample_weight=weight, mask=mask
    )
    assert outcome.per_sample == [1.0, 2.0, 9.0]
    assert outcome.reduced == pytest.approx(reduced, rel=NEAR)


def test_a_weight_per_sample_serves_all_its_places_even_where_there_are_as_many():
    y_pred = [[[1.0], [10.0]], [[100.0], [1000.0]]]
    total = {"reduction": "sum"}
    outcome = LOSSES["MeanAbsoluteError"](total, [[[0.0]] * 2] * 2, y_pred, sample_weight=[1.0, 2.0])
    assert outcome.reduced == 2211.0


def test_binary_crossentropy_of_probabilities():
    # The example of the Keras documentation: 0.916 and 0.714.
    outcome = LOSSES["BinaryCrossentropy"]({}, [[0.0, 1.0], [0.0, 0.0]], [[0.6, 0.4], [0.4, 0.6]])
    expected = [-math.log(0.4), -(math.log(0.6) + math.log(0.4)) / 2]
    assert outcome.per_sample == near(expected)
    assert [round(value, 3) for value in expected] == [0.916, 0.714]
    assert outcome.reduced == near(sum(expected) / 2)


def test_binary_crossentropy_clips_probabilities_and_takes_logits_as_they_are():
    outcome = LOSSES["BinaryCrossentropy"]({}, [[1.0], [0.0]], [[0.0], [0.0]])
    assert outcome.per_sample == near([-math.log(E7), -math.log(1 - E7)])
    outcome = LOSSES["BinaryCrossentropy"](
        {"from_logits": True}, [[0.0], [1.0], [1.0], [0.25]], [[800.0], [800.0], [-800.0], [LN3]]
    )
    assert outcome.per_sample == near([800.0, 0.0, 800.0, 2 * LN2 - 0.25 * LN3])


def test_binary_crossentropy_smooths_labels_towards_one_half():
    outcome = LOSSES["BinaryCrossentropy"]({"label_smoothing": 0.5}, [[1.0]], [[0.2]])
    assert outcome.per_sample == near([-0.75 * math.log(0.2) - 0.25 * math.log(0.8)])


ONE_HOT = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
PROBABILITIES = [[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]]


def test_categorical_crossentropy_of_classes_and_of_labels_agree_with_the_published_example():
    # The example of the Keras documentation: 0.0513 and 2.303.
    of_classes = LOSSES["CategoricalCrossentropy"]({}, ONE_HOT, PROBABILITIES)
    of_labels = LOSSES["SparseCategoricalCrossentropy"]({}, [1, 2], PROBABILITIES)
    of_column = LOSSES["SparseCategoricalCrossentropy"]({}, [[1], [2]], PROBABILITIES)
    expected = [-math.log(0.95), -math.log(0.1)]
    assert of_classes.per_sample == near(expected)
    assert of_labels == of_column == of_classes
    assert [round(expected[0], 4), round(expected[1], 3)] == [0.0513, 2.303]


@pytest.mark.parametrize(
    ("name", "label"), [("CategoricalCrossentropy", [[1.0, 0.0]]), ("SparseCategoricalCrossentropy", [0])]
)
def test_crossentropies_scale_probabilities_to_one_then_clip_them_and_take_logits_as_they_are(name, label):
    assert LOSSES[name]({}, label, [[1.0, 3.0]]).per_sample == near([2 * LN2])
    assert LOSSES[name]({}, label, [[0.0, 3.0]]).per_sample == near([-math.log(E7)])
    assert LOSSES[name]({}, label, [[5.0, 0.0]]).per_sample == near([-math.log(1 - E7)])
    assert LOSSES[name]({"from_logits": True}, label, [[0.0, LN3]]).per_sample == near([2 * LN2])
    assert LOSSES[name]({"from_logits": True}, label, [[0.0, 800.0]]).per_sample == [800.0]


def test_categorical_crossentropy_smooths_labels_over_the_classes():
    outcome = LOSSES["CategoricalCrossentropy"]({"label_smoothing": 0.4}, [[1.0, 0.0]], [[0.25, 0.75]])
    assert outcome.per_sample == near([-0.8 * math.log(0.25) - 0.2 * math.log(0.75)])


def test_crossentropies_find_the_classes_on_another_axis():
    y_pred = [[[0.25, 0.5], [0.75, 0.5]]]  # one sample; two classes of two places
    expected = near([-math.log(0.25), -math.log(0.5)])
    of_classes = LOSSES["CategoricalCrossentropy"]({"axis": 1}, [[[1.0, 0.0], [0.0, 1.0]]], y_pred)
    of_labels = LOSSES["SparseCategoricalCrossentropy"]({"axis": 1}, [[0, 1]], y_pred)
    assert of_classes.per_sample == of_labels.per_sample == [expected]


def test_an_ignored_class_adds_nothing_and_does_not_count():
    params = {"ignore_class": -1}
    y_pred = [[0.5, 0.5], [0.25, 0.75], [0.125, 0.875]]
    outcome = LOSSES["SparseCategoricalCrossentropy"](params, [0, -1, 0], y_pred)
    assert outcome.per_sample == near([LN2, 0.0, 3 * LN2])
    assert outcome.reduced == near(2 * LN2)
    outcome = LOSSES["SparseCategoricalCrossentropy"](params, [0, -1, 0], y_pred, mask=[False, True, True])
    assert outcome.reduced == near(3 * LN2)


def test_a_label_that_is_no_class_is_refused():
    for label in (-1, 2):
        with pytest.raises(IndexError, match=str(label)):
            LOSSES["SparseCategoricalCrossentropy"]({"ignore_class": 5}, [label], [[0.5, 0.5]])


def test_labels_of_another_shape_than_the_predictions_are_refused():
    with pytest.raises(ValueError, match="shape"):
        LOSSES["MeanSquaredError"]({}, [1.0, 2.0], [[1.0], [2.0]])


# ---------------------------------------------------------------------------------------------- optimizers


def train(name, params, weight, gradients):
    """The weights after each of these gradients."""
    slots, path = {}, []
    for step, gradient in enumerate(gradients, start=1):
        before = copy.deepcopy(slots)
        new_weight, new_slots = OPTIMIZERS[name](params, weight, gradient, slots, step)
        assert slots == before, "the slots given were modified"
        weight, slots = new_weight, new_slots
        path.append(weight)
    return path


@pytest.mark.parametrize(
    ("momentum", "nesterov", "path"),
    [(0.0, False, [9.0, 8.0]), (0.5, False, [9.0, 7.5]), (0.5, True, [8.5, 6.75])],
)
def test_sgd_two_steps_by_hand(momentum, nesterov, path):
    params = {"learning_rate": 0.5, "momentum": momentum, "nesterov": nesterov, "weight_decay": None}
    assert train("SGD", params, 10.0, [2.0, 2.0]) == path


def rmsprop(**changes):
    return {"learning_rate": 1.0, "rho": 0.75, "momentum": 0.0, "epsilon": 3.0, "centered": False, **changes}


def test_rmsprop_has_the_published_first_step():
    # The example of the Keras documentation: weight 10, gradient 10, learning rate 0.1.
    (weight,) = train("RMSprop", rmsprop(learning_rate=0.1, rho=0.9, epsilon=1e-7), 10.0, [10.0])
    assert round(weight, 6) == 9.683772


def test_rmsprop_has_epsilon_inside_the_root():
    assert train("RMSprop", rmsprop(), 10.0, [2.0]) == [9.0]  # 2 / sqrt(1 + 3)


def test_rmsprop_with_momentum_adds_up_its_changes():
    # v = 1, then 3/4 + 1/4 = 1 again for g = 1: changes 2/2 = 1, then 1/2 + 1/2 of the first
    assert train("RMSprop", rmsprop(momentum=0.5), 10.0, [2.0, 1.0]) == [9.0, 8.0]


def test_rmsprop_centered_takes_the_root_of_the_variance():
    # rho = 1/2: v = 2, a = 1, root of 2 - 1 + 3; then v = 3, a = 3/2, root of 3 - 9/4 + 3
    path = train("RMSprop", rmsprop(rho=0.5, centered=True), 10.0, [2.0, 2.0])
    assert path == near([9.0, 9.0 - 2 / math.sqrt(3.75)])


def adam(**changes):
    params = {"learning_rate": 1.0, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 1.0, "amsgrad": False}
    return {**params, **changes}


def test_adam_two_steps_by_hand():
    # t = 1, g = 2:  m = 1, v = 1, rate = sqrt(1/4) / (1/2) = 1, change = 1 / (1 + 1). With epsilon beside the
    #                corrected root it would be 2/3.
    # t = 2, g = -2: m = -1/2, v = 7/4, rate = sqrt(7/16) / (3/4) = sqrt(7)/3
    second = math.sqrt(7) / 3 * -0.5 / (math.sqrt(7) / 2 + 1)
    assert train("Adam", adam(), 10.0, [2.0, -2.0]) == near([9.5, 9.5 - second])


def test_adam_first_step_is_the_learning_rate_whatever_the_gradient():
    params = adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=0.0)
    for gradient in (1e-3, 1.0, 1e3):
        assert train("Adam", params, 0.0, [gradient]) == [pytest.approx(-0.001, rel=1e-12)]


def test_adam_with_amsgrad_remembers_the_largest_second_moment():
    # t = 2, g = 0: m = 1/2, v = 3/4 but at most 1 so far
    rate = math.sqrt(7) / 3
    assert train("Adam", adam(amsgrad=True), 10.0, [2.0, 0.0]) == near([9.5, 9.5 - rate * 0.5 / 2])
    assert train("Adam", adam(), 10.0, [2.0, 0.0])[1] != near(9.5 - rate * 0.5 / 2)


def test_adamw_shrinks_the_weight_by_the_learning_rate_times_the_decay_beside_the_step():
    params = adam(learning_rate=0.5, weight_decay=0.125)
    assert train("AdamW", params, 16.0, [2.0]) == [16.0 - 1.0 - 0.25]
    assert train("Adam", {**params, "weight_decay": None}, 16.0, [2.0]) == [16.0 - 0.25]


def test_adagrad_and_ftrl_without_regularization_take_the_same_first_step():
    # a = 4: change 2 / 2; and z = 2 - (2 - 0) 10 = -18, over 2.
    adagrad = {"learning_rate": 1.0, "initial_accumulator_value": 0.0, "epsilon": 0.0}
    assert train("Adagrad", adagrad, 10.0, [2.0, 2.0]) == near([9.0, 9.0 - 2 / math.sqrt(8)])
    ftrl = {"learning_rate": 1.0, "learning_rate_power": -0.5, "initial_accumulator_value": 0.0, "beta": 0.0}
    strengths = dict.fromkeys(("l1", "l2", "l2_shrinkage"), 0.0)
    ftrl |= {f"{name}_regularization_strength": value for name, value in strengths.items()}
    assert train("Ftrl", ftrl, 10.0, [2.0]) == [9.0]
    # l1 takes 6 off z, l2 adds 2 * 2 to the root; shrinkage adds 2 * 0.25 * 10 to z; beta adds 1 to the root.
    changes = [("l1", 6.0, 12 / 2), ("l2", 2.0, 18 / 6), ("l2_shrinkage", 0.25, 13 / 2)]
    for name, strength, expected in changes:
        assert train("Ftrl", ftrl | {f"{name}_regularization_strength": strength}, 10.0, [2.0]) == [expected]
    assert train("Ftrl", ftrl | {"l1_regularization_strength": 20.0}, 10.0, [2.0]) == [0.0]
    assert train("Ftrl", ftrl | {"beta": 1.0}, 10.0, [2.0]) == [6.0]


def test_adadelta_two_steps_by_hand():
    # v = 2: delta = -sqrt(1 / 3) 2, its square 4/3 gives d = 2/3; then v = 1, delta = 0.
    params = {"learning_rate": 0.5, "rho": 0.5, "epsilon": 1.0}
    assert train("Adadelta", params, 10.0, [2.0, 0.0]) == near([10 - math.sqrt(1 / 3)] * 2)
    second = math.sqrt(5 / 3) / math.sqrt(1 + 3) * 2  # v = 1 + 2
    assert train("Adadelta", params, 10.0, [2.0, 2.0])[1] == near(10 - math.sqrt(1 / 3) - second / 2)


def test_adamax_two_steps_by_hand():
    # m = 1, u = 2: change 1 / (1/2 * 2); then m = 1/2, u = 1: 1/2 / (3/4 * 1)
    assert train("Adamax", adam(beta_2=0.5, epsilon=0.0), 10.0, [2.0, 0.0]) == near([9.0, 9.0 - 2 / 3])


def test_nadam_looks_ahead():
    # u1 = 0.26, u2 = 0.2696, m = 1; the root of 1 / (1/4), plus 1, is 3
    expected = 0.2696 / (1 - 0.26 * 0.2696) + 2.0
    assert train("Nadam", adam(), 10.0, [2.0]) == near([10.0 - expected / 3])


def test_lion_goes_by_the_sign_of_a_blend_and_remembers_another():
    params = {"learning_rate": 0.5, "beta_1": 0.75, "beta_2": 0.5}
    # m = 1; blends 1/2, then 3/4 - 3/4 = 0, then, with m = -1, -3/4 + 1/4
    assert train("Lion", params, 10.0, [2.0, -3.0, 1.0]) == [9.5, 9.5, 10.0]


def test_schedule_free_adamw_two_steps_by_hand():
    # Both roots are 2. z = 9 = x = y; then z = 8, x = 17/2, y = (8 + 17/2) / 2
    params = adam(epsilon=0.0, warmup_steps=0)
    assert train("ScheduleFreeAdamW", params, 10.0, [2.0, 2.0]) == near([9.0, 8.25])
    assert train("ScheduleFreeAdamW", params | {"warmup_steps": 2}, 10.0, [2.0]) == near([9.5])


def test_lamb_steps_in_proportion_to_the_norm_of_the_weight():
    (weight,) = train("Lamb", adam(learning_rate=0.5, epsilon=0.0), [3.0, 4.0], [[2.0, -2.0]])
    assert weight == near([3.0 - 2.5 / math.sqrt(2), 4.0 + 2.5 / math.sqrt(2)])
    assert train("Lamb", adam(learning_rate=0.5, epsilon=0.0), [0.0, 0.0], [[2.0, -2.0]]) == [near([-0.5, 0.5])]


def test_adafactor_first_step_is_by_signs_where_a_matrix_is_a_product():
    params = {"learning_rate": 0.5, "beta_2_decay": -0.8, "epsilon_1": 0.0, "epsilon_2": 1e-3, "clip_threshold": 1.0}
    for weight in ([2.0, 2.0], [[2.0, 2.0], [2.0, 2.0]]):
        gradient = [3.0, -4.0] if weight == [2.0, 2.0] else [[1.0, -2.0], [3.0, -6.0]]
        (moved,) = train("Adafactor", params, weight, [gradient])
        for row in moved if isinstance(moved[0], list) else [moved]:
            assert row == near([1.0, 3.0])
    (clipped,) = train("Adafactor", params | {"clip_threshold": 0.5}, [2.0, 2.0], [[3.0, -4.0]])
    assert clipped == near([1.5, 2.5])


def test_muon_makes_a_matrix_orthogonal():
    params = {
        "learning_rate": 1.0, "momentum": 0.5, "nesterov": False, "rms_rate": None, "ns_steps": 30,
        "muon_a": 1.5, "muon_b": -0.5, "muon_c": 0.0,
    }  # fmt: skip
    # With these coefficients the iteration converges: to the rotation by 90 degrees, and to a vector of norm 1.
    (weight,) = train("Muon", params, [[0.0, 0.0], [0.0, 0.0]], [[[0.0, 4.0], [-2.0, 0.0]]])
    assert [x for row in weight for x in row] == near([0.0, -1.0, 1.0, 0.0])
    (weight,) = train("Muon", params | {"rms_rate": 0.5}, [[0.0], [0.0], [0.0], [0.0]], [[[3.0], [4.0], [0.0], [0.0]]])
    assert [row[0] for row in weight] == near([-0.6, -0.8, 0.0, 0.0])


# -------------------------------------------------------------------------------------------------- random


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox4x32_10_gives_the_known_answers_of_random123(counter, key, words):
    counter, key, words = (tuple(int(word, 16) for word in text.split()) for text in (counter, key, words))
    assert philox4x32(counter, key) == words


# --------------------------------------------------------------------------------------------- differences

SMOOTH = [
    (math.sin, math.cos),
    (math.exp, math.exp),
    (math.tanh, lambda x: 1 / math.cosh(x) ** 2),
    (lambda x: x**3 - 2 * x, lambda x: 3 * x**2 - 2),
    (lambda x: 1 / (1 + 25 * x * x), lambda x: -50 * x / (1 + 25 * x * x) ** 2),
    (lambda x: math.sin(20 * x), lambda x: 20 * math.cos(20 * x)),
    (lambda x: 3.75, lambda x: 0.0),
]
POINTS = [0.0, 1e-6, -0.004, 0.3, -1.0, 1.7, 2.9]


def honest(f, derivative, x):
    """The estimate and its error at x, after the check that the error covers what is really wrong."""
    (got,), (error,) = difference(lambda point: f(point[0]), [x])
    assert abs(got - derivative(x)) <= error
    return got, error


@pytest.mark.parametrize("x", POINTS)
@pytest.mark.parametrize("number", range(len(SMOOTH)))
def test_difference_of_a_smooth_function_is_sharp_and_within_its_error(number, x):
    f, derivative = SMOOTH[number]
    _, error = honest(f, derivative, x)
    assert error <= 1e-9 * max(1.0, abs(f(x)), abs(derivative(x)))


def test_difference_would_convict_a_derivative_that_is_a_millionth_off():
    for f, derivative in SMOOTH[:4]:
        (got,), (error,) = difference(lambda point, f=f: f(point[0]), [0.3])
        assert abs(got - derivative(0.3) * (1 + 1e-6)) > 100 * error


@pytest.mark.parametrize("x", [1e-8, 0.3, -1.3, 2.1])
@pytest.mark.parametrize(
    "noisy",
    [
        lambda x: (1e6 + math.sin(x)) - 1e6,  # cancellation leaves multiples of 2^-33
        lambda x: round(math.sin(x) * 1e8) / 1e8,
        lambda x: math.sin(x) + 1e-7 * math.sin(1e12 * x),
    ],
    ids=["cancelled", "rounded", "shaken"],
)
def test_difference_admits_the_noise_of_a_function(noisy, x):
    _, error = honest(noisy, math.cos, x)
    assert 1e-12 < error < 1e-2


@pytest.mark.parametrize("kink", [0.0, 1.0])
@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-7])
def test_difference_at_a_kink_admits_that_there_are_two_slopes(kink, distance):
    (got,), (error,) = difference(lambda point: 0.25 + abs(point[0] - kink), [kink + distance])
    assert error >= abs(got - 1.0)
    assert distance > 0.0 or error >= abs(got + 1.0)


@pytest.mark.parametrize("distance", [1e-4, -1e-4, 0.01, -0.01, 0.3, -0.3])
def test_difference_near_a_kink_finds_the_slope_on_its_side(distance):
    _, error = honest(lambda x: max(x - 1.0, 0.0), lambda x: float(x > 1.0), 1.0 + distance)
    assert error < 1e-9


@pytest.mark.parametrize("x", [1e-8, 1e-5, 0.02])
def test_difference_keeps_within_the_domain_of_a_function(x):
    _, error = honest(math.log, lambda x: 1 / x, x)
    assert error < 1e-9 / x


def test_difference_does_not_mistake_what_long_steps_jump_over():
    # From afar log|x| is even, and long steps agree that its slope is nearly zero.
    _, error = honest(lambda x: math.log(abs(x)), lambda x: 1 / x, 1e-6)
    assert error < 1.0


def test_difference_says_that_it_knows_nothing_where_there_is_nothing():
    (got,), (error,) = difference(lambda point: math.sqrt(-1.0 - point[0] ** 2), [0.5])
    assert math.isnan(got) and error == math.inf


def test_difference_of_several_coordinates_is_the_gradient_and_leaves_the_point_alone():
    point = [0.5, -2.0, 3.0]
    gradient, error = difference(lambda p: p[0] * p[1] + p[2] ** 2 * math.exp(p[0]), point)
    expected = [-2.0 + 9.0 * math.exp(0.5), 0.5, 6.0 * math.exp(0.5)]
    assert point == [0.5, -2.0, 3.0]
    assert all(abs(g - e) <= r < 1e-9 for g, e, r in zip(gradient, expected, error, strict=True))


def test_difference_finds_the_gradient_of_crossentropy_that_calculus_gives():
    logits = [[0.3, -1.2, 2.0], [1.0, 0.1, -0.4]]

    def f(leaves):
        y_pred = unflatten(leaves, logits)
        return LOSSES["SparseCategoricalCrossentropy"]({"from_logits": True}, [2, 0], y_pred).reduced

    gradient, error = difference(f, flatten(logits))
    chances = [ACTIVATIONS["softmax"](row) for row in logits]
    expected = [(chances[n][k] - (k == label)) / 2 for n, label in enumerate([2, 0]) for k in range(3)]
    assert all(abs(g - e) <= r < 1e-11 for g, e, r in zip(gradient, expected, error, strict=True))


def test_difference_goes_through_a_layer_of_several_inputs_and_weights():
    # The sum of a 1x1 convolution's outputs: its derivative by the kernel is the sum of x, by x the kernel.
    given = [build((1, 2, 2, 1), lambda i: 1.0 + i[1] + 2.0 * i[2]), [[[[3.0]]]]]

    def f(leaves):
        x, weight = unflatten(leaves, given)
        return sum(flatten(run("Conv2D", conv(kernel_size=(1, 1)), [x], [weight])))

    gradient, error = difference(f, flatten(given))
    assert all(abs(g - e) <= r < 1e-10 for g, e, r in zip(gradient, [3.0] * 4 + [10.0], error, strict=True))
