"""Programs as they were written for Keras 1 and 2: they run as they stand, apart from their imports, and are told how
the same is said now.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import layerhub as lh
import layerhub.ops as K  # noqa: N812 as it was called
from layerhub.errors import OldSpellingWarning, ParameterError
from layerhub.layers import (
    LSTM,
    Activation,
    ActivityRegularization,
    Conv1D,
    Conv2D,
    Conv3D,
    Convolution2D,
    Cropping2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GlobalMaxPooling2D,
    Lambda,
    LeakyReLU,
    LocallyConnected2D,
    Masking,
    MaxPooling2D,
    Permute,
    RepeatVector,
    Reshape,
    SeparableConv2D,
    SimpleRNN,
)
from layerhub.models import Model, Sequential

BACKENDS = list(lh.backends())

old = pytest.mark.filterwarnings("ignore::layerhub.errors.OldSpellingWarning")


@pytest.fixture
def channels_first():
    lh.config.set_image_data_format("channels_first")
    yield
    lh.config.set_image_data_format("channels_last")


@pytest.fixture
def double():
    """Layers made in a test are of float64, in which backends differ by little."""
    lh.config.set_floatx("float64")
    yield
    lh.config.set_floatx("float32")


def runs_everywhere(model: Sequential) -> list[np.ndarray]:
    """The model's outputs for the same data on every backend, which must agree."""
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))
    found = [model.to(backend).predict(x, verbose=0) for backend in BACKENDS]
    for y in found[1:]:
        np.testing.assert_allclose(y, found[0], rtol=1e-11, atol=1e-12)
    return found


# What the pages show


@old
def test_sequential_by_a_list_and_by_add():
    model = Sequential([
        Dense(32, input_dim=784),
        Activation('relu'),
        Dense(10),
        Activation('softmax'),
    ])  # fmt: skip
    assert model.output_shape == (None, 10)
    model = Sequential()
    model.add(Dense(32, input_dim=784))
    model.add(Activation('relu'))  # fmt: skip
    assert model.output_shape == (None, 32)


@old
def test_flatten_gives_65536_with_channels_first(channels_first, double):
    model = Sequential()
    model.add(Convolution2D(64, 3, 3,
                border_mode='same',
                input_shape=(3, 32, 32)))  # fmt: skip
    assert model.output_shape == (None, 64, 32, 32)
    model.add(Flatten())
    assert model.output_shape == (None, 65536)
    model = Sequential()
    model.add(Conv2D(64, (3, 3), input_shape=(3, 32, 32), padding='same',))  # fmt: skip
    assert model.output_shape == (None, 64, 32, 32)
    model.add(Flatten())
    assert model.output_shape == (None, 65536)
    runs_everywhere(model)


@old
def test_reshape(double):
    model = Sequential()
    model.add(Reshape((3, 4), input_shape=(12,)))
    assert model.output_shape == (None, 3, 4)
    model.add(Reshape((6, 2)))
    assert model.output_shape == (None, 6, 2)
    model.add(Reshape((-1, 2, 2)))
    assert model.output_shape == (None, 3, 2, 2)
    runs_everywhere(model)


@old
def test_permute(double):
    model = Sequential()
    model.add(Permute((2, 1), input_shape=(10, 64)))
    assert model.output_shape == (None, 64, 10)
    runs_everywhere(model)


@old
def test_repeat_vector(double):
    model = Sequential()
    model.add(Dense(32, input_dim=32))
    assert model.output_shape == (None, 32)
    model.add(RepeatVector(3))
    assert model.output_shape == (None, 3, 32)
    runs_everywhere(model)


def antirectifier(x):
    x -= K.mean(x, axis=1, keepdims=True)
    x = K.l2_normalize(x, axis=1)
    pos = K.relu(x)
    neg = K.relu(-x)
    return K.concatenate([pos, neg], axis=1)


def antirectifier_output_shape(input_shape):
    shape = list(input_shape)
    assert len(shape) == 2  # only valid for 2D tensors
    shape[-1] *= 2
    return tuple(shape)


@old
def test_lambda_squares_and_antirectifies(double):
    model = Sequential()
    model.add(Dense(4, input_dim=3))
    model.add(Lambda(lambda x: x ** 2))  # fmt: skip
    model.add(Lambda(antirectifier,
             output_shape=antirectifier_output_shape))  # fmt: skip
    assert model.output_shape == (None, 8)
    runs_everywhere(model)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_lambda_does_in_place_stays_its_own_and_is_differentiated(backend):
    x = np.random.default_rng(1).normal(size=(3, 4))
    before = x.copy()
    found = lh.evaluate_layer(
        Lambda(antirectifier), x, backend=backend, dtype="float64", cotangents=np.arange(24.0).reshape(3, 8)
    )
    np.testing.assert_array_equal(x, before)

    def plain(x):
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt((x * x).sum(axis=1, keepdims=True))
        return np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=1)

    np.testing.assert_allclose(found.outputs[0], plain(x), atol=1e-12)
    away = np.random.default_rng(2).normal(size=x.shape)
    step = 1e-6
    slope = np.sum((plain(x + step * away) - plain(x - step * away)) / (2 * step) * np.arange(24.0).reshape(3, 8))
    assert np.sum(found.input_grads[0] * away) == pytest.approx(slope, rel=1e-6)


@old
def test_cropping(double):
    model = Sequential()
    model.add(Cropping2D(cropping=((2, 2), (4, 4)),input_shape=(28, 28, 3)))  # fmt: skip
    assert model.output_shape == (None, 24, 20, 3)
    model.add(Conv2D(64, (3, 3), padding='same'))  # fmt: skip
    model.add(Cropping2D(cropping=((2, 2), (2, 2))))
    assert model.output_shape == (None, 20, 16, 64)
    runs_everywhere(model)


@old
def test_locally_connected():
    model = Sequential()
    model.add(LocallyConnected2D(64, (3, 3), input_shape=(32, 32, 3)))
    assert model.output_shape == (None, 30, 30, 64)
    assert model.count_params() == (30 * 30) * (3 * 3 * 3 * 64) + (30 * 30) * 64
    model.add(LocallyConnected2D(32, (3, 3)))
    assert model.output_shape == (None, 28, 28, 32)


def test_functional_model():
    a = lh.Input(shape=(32,))
    b = Dense(32)(a)
    model = Model(inputs=a, outputs=b)
    assert model.output_shape == (None, 32)
    assert model.layers[-1].get_weights()[0].shape == (32, 32)


@old
@pytest.mark.parametrize("backend", BACKENDS)
def test_recurrent_layers_with_their_old_arguments(backend):
    model = Sequential(
        [
            Embedding(20, 6, init="uniform", input_length=5, mask_zero=True, dropout=0.1, W_regularizer="l2"),
            LSTM(
                output_dim=4, init="glorot_uniform", inner_init="orthogonal", forget_bias_init="one", activation="tanh",
                inner_activation="hard_sigmoid", dropout_W=0.1, dropout_U=0.1, return_sequences=True,
            ),
            SimpleRNN(output_dim=3, U_regularizer="l1", b_regularizer=None, consume_less="gpu"),
        ],
        backend=backend, seed=2,
    )  # fmt: skip
    assert model.output_shape == (None, 3)
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).integers(0, 20, size=(8, 5))
    history = model.fit(x, np.zeros((8, 3)), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


# Layer by layer


@pytest.mark.parametrize(
    ("make", "now", "told"),
    [
        (lambda: Dense(output_dim=3), Dense(3), "units"),
        (lambda: Dense(3, init="one"), Dense(3, kernel_initializer="ones"), "kernel_initializer"),
        (lambda: Dense(3, W_regularizer="l1"), Dense(3, kernel_regularizer="l1"), "kernel_regularizer"),
        (lambda: Dense(3, b_constraint="non_neg"), Dense(3, bias_constraint="non_neg"), "bias_constraint"),
        (lambda: Dense(3, bias=False), Dense(3, use_bias=False), "use_bias"),
        (lambda: Conv1D(nb_filter=4, filter_length=3), Conv1D(4, 3), "kernel_size"),
        (lambda: Conv1D(4, 3, subsample_length=2), Conv1D(4, 3, 2), "strides"),
        (lambda: Conv2D(nb_filter=4, nb_row=3, nb_col=2), Conv2D(4, (3, 2)), "kernel_size=(3, 2)"),
        (lambda: Conv2D(4, 3, subsample=(2, 1)), Conv2D(4, 3, (2, 1)), "strides"),
        (lambda: Conv2D(4, 3, border_mode="same"), Conv2D(4, 3, padding="same"), "padding"),
        (lambda: Conv2D(4, 3, dim_ordering="th"), Conv2D(4, 3, data_format="channels_first"), "channels_first"),
        (lambda: Conv3D(4, 3, dim_ordering="tf"), Conv3D(4, 3, data_format="channels_last"), "channels_last"),
        (lambda: GlobalMaxPooling2D(dim_ordering="default"), GlobalMaxPooling2D(), "data_format"),
        (lambda: MaxPooling2D(border_mode="same"), MaxPooling2D(padding="same"), "padding"),
        (lambda: Convolution2D(4, 3, 2), Conv2D(4, (3, 2)), "kernel_size=(3, 2)"),
        (lambda: Dropout(p=0.3), Dropout(0.3), "rate"),
        (lambda: GaussianNoise(sigma=0.3), GaussianNoise(0.3), "stddev"),
        (lambda: LeakyReLU(alpha=0.1), LeakyReLU(0.1), "negative_slope"),
        (lambda: LSTM(output_dim=3), LSTM(3), "units"),
        (lambda: LSTM(3, consume_less="cpu"), LSTM(3, implementation=1), "implementation=1"),
        (lambda: LSTM(3, forget_bias_init="one"), LSTM(3, unit_forget_bias=True), "unit_forget_bias=True"),
        (lambda: Embedding(5, 3, init="one"), Embedding(5, 3, embeddings_initializer="ones"), "embeddings_initializer"),
    ],
)  # fmt: skip
def test_an_old_spelling_means_the_new_one_and_names_it(make, now, told):
    with pytest.warns(OldSpellingWarning) as heard:
        layer = make()
    assert layer.get_config() == now.get_config()
    assert told in " ".join(str(warning.message) for warning in heard)
    assert all(warning.filename == __file__ for warning in heard), "told at the line that has it"


def test_conv2d_keeps_its_meaning_of_positional_numbers():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Conv2D(4, 3, 3).strides == (3, 3)
        assert Convolution2D(4, (3, 2)).kernel_size == (3, 2)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Dense(3, kernel_constraints="non_neg"), "Did you mean 'kernel_constraint'?"),
        (lambda: Dense(3, bias_constraints="non_neg"), "Did you mean 'bias_constraint'?"),
        (lambda: SeparableConv2D(3, 3, kernel_initializer="zeros"), "depthwise_initializer and pointwise_initializer"),
        (lambda: LSTM(3, forget_bias_init="zero"), "say unit_forget_bias instead"),
        (lambda: Conv2D(3, 3, dim_ordering="channels_first"), "say data_format instead"),
        (lambda: Dense(3, nb_filter=4), "Dense has no parameter 'nb_filter'"),
        (lambda: Dense(3, output_dim=4), "output_dim is an old name of units; give one of them"),
    ],
)
def test_what_is_wrong_is_told_with_the_right_name(make, told):
    with pytest.raises(ParameterError) as refused:
        make()
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Dense(3, input_shape=(4,)), (None, 4)),
        (lambda: Dense(3, input_dim=4), (None, 4)),
        (lambda: Dense(3, batch_input_shape=(2, 4)), (2, 4)),
        (lambda: LSTM(3, input_dim=4, input_length=5), (None, 5, 4)),
        (lambda: LSTM(3, input_dim=4), (None, None, 4)),
        (lambda: Embedding(7, 3, input_length=5), (None, 5)),
        (lambda: Masking(0.0, input_shape=(5, 2)), (None, 5, 2)),
        (lambda: ActivityRegularization(l1=0.1, input_shape=(3,)), (None, 3)),
    ],
)
def test_a_first_layer_may_say_the_shape_of_the_input(make, shape):
    with pytest.warns(OldSpellingWarning, match="begin the model with"):
        layer = make()
    assert Sequential([layer]).input_shape == shape


def test_weights_may_be_given_at_construction():
    kernel, bias = np.ones((4, 3)), np.arange(3.0)
    layer = Dense(3, weights=[kernel, bias])
    model = Sequential([lh.Input((4,)), layer])
    np.testing.assert_array_equal(layer.get_weights()[0], kernel)
    np.testing.assert_allclose(model.predict(np.ones((1, 4)), verbose=0), [[4.0, 5.0, 6.0]])


def test_new_spellings_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sequential([lh.Input((4,)), Dense(3, kernel_initializer="ones", use_bias=False)])
        lh.layers.deserialize(lh.layers.serialize(Conv2D(3, 3)))
