"""What the conformance suite cannot see of the numpy backend: threads, tiles, memory, and its array functions.

That kernels mean what the definitions say is the suite's business; here they are only run where sizes are forced.
"""

import itertools
import threading

import numpy as np
import pytest
from layerhub_numpy import arrays, memory, tiles
from layerhub_numpy.gradients import OnDemand
from layerhub_numpy.kernels import activations, convolution, normalization, optimizers
from threadpoolctl import threadpool_info

from layerhub import namespace, stream
from layerhub.errors import DataError
from layerhub.kernels import Call
from layerhub.namespace import Namespace
from layerhub.registry import registry
from layerhub.spec import KINDS

XP = Namespace(np)
BACKEND = registry().backend("numpy")


def spec(kind, name, *args, **parameters):
    return KINDS[kind].find(name)(*args, **parameters)


def kernel(of, **call):
    return registry().kernel("numpy", of, Call(**call))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


# ------------------------------------------------------------------------------------------- array functions


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5, 11), (20_003,)])
@pytest.mark.parametrize("blocks", [3, 1 << 13])
def test_random_bits_are_those_of_the_portable_stream(monkeypatch, shape, blocks):
    monkeypatch.setattr(arrays, "BLOCKS", blocks)
    for at in (stream.Stream.at(3, "a"), stream.Stream((2**32 - 1, 5), 2**32 - 1, 3, 2)):
        got = arrays.random_bits(at, shape)
        expected = stream.random_bits(XP, at, shape)
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    "subscripts, shapes",
    [
        ("ngc,cgf->ngf", [(4, 3, 2), (2, 3, 5)]),
        ("ij,kj->ki", [(2, 3), (4, 3)]),
        ("bqhd,bkhd->bhqk", [(2, 3, 4, 5), (2, 6, 4, 5)]),
        ("ij,jk->ik", [(0, 3), (3, 4)]),
        ("ij,jk->k", [(2, 3), (3, 4)]),  # i is summed, but is in one operand only
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("ii,ij->j", [(3, 3), (3, 2)]),
        ("i,i,i->", [(3,), (3,), (3,)]),
    ],
)
def test_einsum_is_numpys(subscripts, shapes):
    operands = [normal(*shape, seed=k) for k, shape in enumerate(shapes)]
    expected = np.einsum(subscripts, *operands)
    got = arrays.einsum(subscripts, *operands)
    assert np.shape(got) == np.shape(expected)
    assert np.allclose(got, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("index", [[], [3], [2, 2, 2], [0, 5, 1, 5, 5, 0, 6], [[1, 2], [2, 1]]])
@pytest.mark.parametrize("rest", [(), (3,), (2, 2)])
def test_scatter_add_sums_what_falls_on_a_row(index, rest):
    index = np.asarray(index, dtype=int)
    updates = normal(*index.shape, *rest)
    expected = np.zeros((7, *rest))
    np.add.at(expected, index, updates)
    assert np.allclose(arrays.scatter_add(7, index, updates), expected, rtol=1e-14, atol=1e-14)


def test_pad_and_unslice_are_the_defaults():
    x = normal(3, 4)
    assert np.array_equal(arrays.pad(x, ((0, 1), (2, 0)), -np.inf), namespace.pad(XP, x, ((0, 1), (2, 0)), -np.inf))
    index = (slice(1, None, 2), slice(0, 4, 1))
    assert np.array_equal(arrays.unslice(x, (7, 6), index), namespace.unslice(XP, x, (7, 6), index))


# ---------------------------------------------------------------------------------------- threads and tiles


LARGE = [
    (spec("layer", "Conv2D", 6, (3, 2), padding="same"), (5, 9, 8, 5)),
    (spec("layer", "Conv2D", 6, 3, strides=(2, 1), groups=3), (4, 9, 8, 6)),
    (spec("layer", "Conv2D", 4, 3, dilation_rate=2, padding="same", data_format="channels_first"), (3, 2, 9, 8)),
    (spec("layer", "Conv2D", 6, 1), (5, 9, 8, 5)),
    (spec("layer", "Conv1D", 2, 3, padding="causal"), (5, 23, 5)),
    (spec("layer", "Conv1D", 6, 4, strides=3, groups=3), (4, 23, 6)),
    (spec("layer", "Conv3D", 4, (3, 2, 2), padding="same"), (3, 7, 4, 5, 5)),
    (spec("layer", "Conv3D", 4, 2, strides=(2, 1, 3), data_format="channels_first"), (3, 2, 5, 6, 7)),
    (spec("layer", "Conv1DTranspose", 3, 4, 3, padding="same"), (4, 11, 5)),
    (spec("layer", "Conv2DTranspose", 6, (3, 1), (2, 3), data_format="channels_first"), (3, 4, 5, 6)),
    (spec("layer", "Conv3DTranspose", 3, 2, 2, output_padding=1), (2, 3, 4, 5, 2)),
    (spec("layer", "DepthwiseConv1D", 3, padding="same", depth_multiplier=2), (5, 23, 3)),
    (spec("layer", "DepthwiseConv1D", 2, strides=2), (5, 23, 3)),
    (spec("layer", "LocallyConnected2D", 4, (2, 3), (1, 2)), (3, 6, 7, 2)),
    (spec("layer", "DepthwiseConv2D", (2, 3), padding="same", depth_multiplier=2), (5, 9, 8, 3)),
    (spec("layer", "DepthwiseConv2D", 3, strides=2), (5, 9, 8, 3)),
    (spec("layer", "MaxPooling2D", 3, 2, "same"), (5, 9, 8, 3)),
    (spec("layer", "AveragePooling2D", 2), (5, 9, 8, 3)),
    (spec("layer", "BatchNormalization"), (6, 9, 8, 3)),
    (spec("layer", "Dense", 7), (12, 5)),
]


def first_arguments(layer, shape):
    weights = [normal(*s.shape) ** 2 for a in layer.weight_arguments(shape) for s in a]
    given = {"training": True, "mask": None}
    return [normal(*shape), *weights, *(given[name] for name in layer.extras)]


@pytest.mark.parametrize("layer, shape", LARGE, ids=repr)
def test_tiles_and_threads_change_nothing_but_roundings(monkeypatch, layer, shape):
    chosen, arguments = kernel(layer, training=True), first_arguments(layer, shape)

    def run():
        result, saved = chosen.forward(layer, *arguments)
        y = getattr(result, "outputs", result)
        return [y, *(g for g in chosen.backward(layer, saved, (normal(*y.shape, seed=1),)) if g is not None)]

    expected = run()
    for module, name, value in (
        (tiles, "WORTH", 1), (tiles, "ALONE", 0), (convolution, "COLUMNS", 40), (convolution, "PLACES", 3),
        (normalization, "CACHED", 16), (activations, "TILE", 8),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    for _ in range(2):
        for got, wanted in zip(run(), expected, strict=True):
            assert np.allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_blas_has_its_threads_back_after_many_have_asked_for_one(monkeypatch):
    monkeypatch.setattr(tiles, "WORTH", 1)
    layer = spec("layer", "Conv2D", 8, 3, padding="same")
    arguments = first_arguments(layer, (8, 20, 20, 8))
    chosen, before = kernel(layer), blas_threads()
    expected, wrong = chosen(layer, *arguments), []

    def work():
        for _ in range(10):
            if not np.array_equal(chosen(layer, *arguments), expected):
                wrong.append(threading.current_thread())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert blas_threads() == before


def test_an_error_in_one_share_is_raised_and_leaves_blas_as_it_was():
    def fail(start, stop):
        raise RuntimeError(start)

    before = blas_threads()
    with pytest.raises(RuntimeError):
        tiles.shares(fail, 100, 1e9)
    assert blas_threads() == before


def test_shares_cover_everything_once_in_order():
    found = tiles.shares(lambda start, stop: list(range(start, stop)), 101, 1e9)
    assert list(itertools.chain(*found)) == list(range(101))


# --------------------------------------------------------------------------------------------------- kernels


def test_a_gradient_that_nobody_asks_for_is_not_computed():
    made = []
    gradients = OnDemand(lambda: made.append("x"), lambda: 2, lambda: 3)
    assert gradients[1] == 2
    assert gradients[1:] == (2, 3)
    assert made == []
    assert list(gradients) == [None, 2, 3]


@pytest.mark.parametrize("bad", [-1, 3])
def test_an_id_outside_the_table_is_an_error(bad):
    layer = spec("layer", "Embedding", 3, 2)
    with pytest.raises(DataError, match=str(bad)):
        kernel(layer)(layer, np.array([[0, bad]]), np.zeros((3, 2)), False, None)


@pytest.mark.parametrize("strides", [1, 2])
def test_max_pooling_hands_nan_on_and_the_gradient_to_the_first_maximum(strides):
    layer = spec("layer", "MaxPooling2D", 2, strides)
    x = np.array([[1, 1, np.nan, 2], [1, 0, np.nan, np.inf]])[None, :, :, None]
    y, saved = kernel(layer).forward(layer, x)
    (dx,) = kernel(layer).backward(layer, saved, (np.ones_like(y),))
    expected = {1: ([1, np.nan, np.nan], [1, 0, 2, 0]), 2: ([1, np.nan], [1, 0, 1, 0])}[strides]
    assert np.array_equal(y.ravel(), expected[0], equal_nan=True)
    assert np.array_equal(dx[0, 0, :, 0], expected[1])
    assert not dx[0, 1].any()


def test_channels_first_images_are_channels_last_in_memory_from_the_first_layer_on():
    layer = spec("layer", "Conv2D", 4, 3, data_format="channels_first")
    y = kernel(layer)(layer, *first_arguments(layer, (2, 3, 6, 6)))
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert activations.relu(spec("activation", "relu"), y).strides == y.strides


def test_float16_is_computed_in_float32_and_rounded_once():
    layer = spec("layer", "Dense", 1, use_bias=False, dtype="float16")
    x, w = np.ones((1, 4096), "float16"), np.full((4096, 1), 0.1, "float16")
    chosen = kernel(layer, dtype="float16")
    result, saved = chosen.forward(layer, x, w, None)
    assert result == np.float16(4096 * np.float64(w[0, 0]))
    assert [None if g is None else g.dtype for g in chosen.backward(layer, saved, (result,))] == ["f2", "f2", None]


OPTIMIZERS = [
    spec("optimizer", "SGD", momentum=0.9, nesterov=True),
    spec("optimizer", "SGD", weight_decay=0.1),
    spec("optimizer", "Adam"),
    spec("optimizer", "Adam", amsgrad=True),
    spec("optimizer", "AdamW"),
    spec("optimizer", "RMSprop", momentum=0.5, centered=True),
    spec("optimizer", "Adagrad", weight_decay=0.1),
    spec("optimizer", "Adadelta"),
    spec("optimizer", "Adamax"),
    spec("optimizer", "Nadam"),
    spec("optimizer", "Lion"),
    spec("optimizer", "ScheduleFreeAdamW", warmup_steps=2, weight_decay=0.1),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("few, piece", [(0, 1 << 16), (100, 1 << 16), (100, 8)])
def test_optimizers_move_weights_in_place_exactly_as_the_definition_says(monkeypatch, optimizer, few, piece):
    monkeypatch.setattr(optimizers, "FEW", few)
    monkeypatch.setattr(optimizers, "PIECE", piece)
    shapes = [(3, 4), (), (7,), (40,)]
    weights = [normal(*shape) for shape in shapes]
    weights[0] = np.asfortranarray(weights[0])
    mine = [w.copy(order="K") for w in weights]
    slots = [tuple(map(np.array, optimizer.start(XP, w))) for w in weights]
    mine_slots = [tuple(slot.copy() for slot in row) for row in slots]
    for step in (1, 2, 3):
        gradients = [np.asarray(normal(*shape, seed=step)) for shape in shapes]
        kept = [g.copy() for g in gradients]
        coefficients = optimizer.coefficients(step)
        moved, mine_slots = kernel(optimizer)(optimizer, coefficients, mine, gradients, mine_slots)
        assert all(a is b for a, b in zip(moved, mine, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(gradients, kept, strict=True))
        new = [
            optimizer.update(XP, coefficients, w, g, *row) for w, g, row in zip(weights, gradients, slots, strict=True)
        ]
        weights, slots = [row[0] for row in new], [tuple(row[1:]) for row in new]
        for got, expected in zip(mine, weights, strict=True):
            assert np.array_equal(got, expected)
        for got, expected in zip(mine_slots, slots, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


# --------------------------------------------------------------------------------------------------- backend


def test_variables_are_arrays_of_their_own_that_change_in_place():
    start = normal(2, 3, 4)
    variable = BACKEND.variable(start, True, None, (2, 0, 1))
    assert np.array_equal(variable, start)
    assert variable.strides[2] == max(variable.strides)
    assert BACKEND.read(variable) is variable
    assert not np.shares_memory(BACKEND.variable(start, True, None, None), start)
    BACKEND.assign(variable, 2 * start)
    assert np.array_equal(BACKEND.read(variable), 2 * start)


def test_memory_is_used_again_only_when_no_view_of_it_is_left():
    shape = (600, 700)

    def at(array):
        return array.__array_interface__["data"][0]

    first = memory.empty(shape, "float32")
    address, view = at(first), first[5:, ::2].T
    del first
    second = memory.empty(shape, "float32")
    buffer = memoryview(view)
    del view
    third = memory.empty(shape, "float32")
    assert address not in (at(second), at(third))
    del buffer
    fourth = memory.empty(shape, "float32")
    assert at(fourth) == address
    assert all(at(array) % memory.ALIGNED == 0 for array in (second, third, fourth))
    assert not memory.zeros(shape, "float32").any()
    image = memory.empty((4, 50, 60, 70), "float32").transpose(0, 3, 1, 2)
    assert memory.empty_like(image).strides == image.strides


def test_arrays_come_and_go_without_copies():
    x = normal(3).astype("float32")
    assert BACKEND.asarray(x, "float32") is x
    assert BACKEND.to_numpy(x) is x
    assert BACKEND.asarray(x, "float64").dtype == np.float64
    assert BACKEND.owns(x) and BACKEND.owns(np.float32(1)) and not BACKEND.owns([1.0])
