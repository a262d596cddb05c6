"""The portable random stream: the published function, the same bits whoever draws them and in whatever portions."""

import math

import array_api_strict
import numpy as np
import pytest
from layerhub_conformance.oracle import philox4x32

from layerhub.namespace import Namespace
from layerhub.registry import registry
from layerhub.stream import Stream
from layerhub.variable import HOST

STRICT = Namespace(array_api_strict)
ONES, PI = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)

# Known answers of Random123 (Salmon et al. 2011), file kat_vectors, philox4x32 with 10 rounds.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize("counter, key, words", VECTORS)
def test_the_oracle_gives_the_published_vectors(counter, key, words):
    assert philox4x32(counter, key) == words


def spaces():
    return {"host": HOST, "strict": STRICT, "numpy backend": registry().backend("numpy").xp}


@pytest.mark.parametrize("space", ["host", "strict", "numpy backend"])
def test_the_stream_gives_the_published_vector_of_zeros_everywhere(space):
    got = spaces()[space].random_bits(Stream((0, 0)), (4,))
    assert tuple(np.asarray(got).tolist()) == VECTORS[0][2]


@pytest.mark.parametrize("space", ["host", "strict", "numpy backend"])
@pytest.mark.parametrize("stream", [Stream((ONES, 1), ONES, ONES, ONES), Stream((7, ONES), 2**31, 5, 0)], ids=repr)
def test_large_words_do_not_overflow(space, stream):
    got = np.asarray(spaces()[space].random_bits(stream, (9,)))
    counter = [(block, stream.call, stream.step, stream.part) for block in range(3)]
    assert got.tolist() == [w for c in counter for w in philox4x32(c, stream.key)][:9]
    assert got.min() >= 0
    assert got.max() <= ONES


@pytest.mark.parametrize("space", ["strict", "numpy backend"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 7), (2, 0), (2, 3, 5), (70_001,)])
def test_every_array_library_draws_the_same_bits(space, shape):
    stream = Stream.at(3, "1/kernel").during(11)
    got, expected = spaces()[space].random_bits(stream, shape), HOST.random_bits(stream, shape)
    assert np.array_equal(np.asarray(got), expected)
    assert np.asarray(got).shape == shape
    assert np.asarray(got).dtype == np.int64


def test_a_draw_does_not_depend_on_how_much_is_drawn_with_it_nor_on_its_shape():
    stream = Stream.at(3, "1/kernel")
    whole = HOST.random_bits(stream, (1000,))
    for count in (1, 2, 3, 4, 5, 999):
        assert np.array_equal(HOST.random_bits(stream, (count,)), whole[:count])
    assert np.array_equal(HOST.random_bits(stream, (10, 100)).reshape(-1), whole)
    assert np.array_equal(HOST.random_bits(stream, (1000,)), whole)


def test_places_seeds_steps_calls_and_parts_draw_independently():
    base = Stream.at(3, "1/kernel")
    others = [
        Stream.at(4, "1/kernel"), Stream.at(3, "1/bias"), Stream.at(3, "11/kernel"), base.during(1), base.child(1),
        Stream(base.key, call=1),
    ]  # fmt: skip
    draws = [HOST.random_bits(stream, (64,)) for stream in (base, *others)]
    everything = np.concatenate(draws)
    # 448 draws of 2**32: a repetition has a chance of 2e-5, and these draws are fixed.
    assert len(np.unique(everything)) == everything.size


def test_a_place_is_a_seed_and_a_name_and_nothing_else():
    assert Stream.at(3, "a") == Stream.at(3, "a") != Stream.at(3, "b")
    assert all(0 <= word <= ONES for word in Stream.at(3, "a").key)
    assert Stream.at(3, "a").during(5).child(2) == Stream(Stream.at(3, "a").key, 5, 0, 2)


def test_the_bits_are_uniform():
    bits = HOST.random_bits(Stream.at(3, "x"), (100_000,)) / 2.0**32
    n = bits.size
    # Five standard deviations of the mean, of the variance, and of the share of each bit.
    assert abs(bits.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
    assert abs(bits.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    whole = HOST.random_bits(Stream.at(3, "x"), (100_000,))
    for place in range(32):
        assert abs(np.mean((whole >> place) & 1) - 0.5) < 5 * 0.5 / math.sqrt(n)
