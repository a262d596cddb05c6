"""What Keras has in keras.utils."""

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import DataError


@pytest.fixture(scope="module")
def peer(keras):
    return keras.utils


@pytest.mark.parametrize("labels", [[0, 2, 1], [[1], [0]], [[0, 1], [2, 2]], [3.0, 1.0], 2])
@pytest.mark.parametrize("count", [None, 5])
def test_labels_become_one_hot_rows_as_in_keras(peer, labels, count):
    found = lh.utils.to_categorical(labels, count)
    expected = peer.to_categorical(np.asarray(labels, int), count)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def test_labels_that_are_no_classes_are_refused():
    with pytest.raises(DataError, match=r"the class 3 is not among 3 classes, which are numbered from 0 to 2"):
        lh.utils.to_categorical([0, 3], 3)
    with pytest.raises(DataError, match="the class -1 is not among"):
        lh.utils.to_categorical([0, -1])
    with pytest.raises(DataError, match=r"class numbers are whole, not 0\.5"):
        lh.utils.to_categorical([1.0, 0.5])
    assert lh.utils.to_categorical([]).shape == (0, 0)


X = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 2.0, -2.0]])


@pytest.mark.parametrize("axis, order", [(-1, 2), (1, 1), (1, np.inf)])
def test_rows_are_divided_by_their_norms_as_in_keras(peer, axis, order):
    np.testing.assert_array_equal(lh.utils.normalize(X, axis, order), peer.normalize(X, axis, order))


def test_columns_are_divided_by_their_norms():
    # Keras 3.15.1 takes axis 0 for the last one, when it divides.
    found = lh.utils.normalize(X, axis=0, order=1)
    np.testing.assert_array_equal(found, X / np.array([4.0, 6.0, 2.0]))


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("length", [None, 2, 5])
def test_sequences_are_padded_as_in_keras(peer, padding, truncating, length):
    given = [[1, 2, 3], [4], [], [5, 6, 7, 8]]
    options = {"maxlen": length, "padding": padding, "truncating": truncating, "value": 9}
    expected = peer.pad_sequences(given, **options)
    found = lh.utils.pad_sequences(given, **options)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    vectors = [np.ones((2, 3)), np.zeros((1, 3))]
    np.testing.assert_array_equal(lh.utils.pad_sequences(vectors, **options), peer.pad_sequences(vectors, **options))


def test_sequences_that_cannot_be_padded_are_refused():
    with pytest.raises(DataError, match="padding must be 'pre' or 'post', not 'left'"):
        lh.utils.pad_sequences([[1]], padding="left")
    with pytest.raises(DataError, match="each sequence is a list of steps, not 3"):
        lh.utils.pad_sequences([[1], 3])
    with pytest.raises(DataError, match=r"different shapes: \(2,\), \(3,\)"):
        lh.utils.pad_sequences([np.ones((1, 3)), np.ones((1, 2))])


def test_a_data_set_that_says_nothing_is_told_what_to_say():
    class Empty(lh.utils.Sequence):
        pass

    with pytest.raises(DataError, match="Empty must override __len__"):
        len(Empty())
    with pytest.raises(DataError, match="Empty must override __getitem__"):
        Empty()[0]
