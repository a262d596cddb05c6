"""Pooling, cropping, padding, enlarging: the forms of their arguments, what they refuse, sizes not known before."""

import numpy as np
import pytest

import layerhub as lh
from layerhub import layers
from layerhub.errors import ParameterError, ShapeError

BACKENDS = list(lh.backends())


@pytest.mark.parametrize(
    "layer, given, sides",
    [
        ("Cropping1D", 2, ((2, 2),)),
        ("Cropping1D", (1, 3), ((1, 3),)),
        ("ZeroPadding1D", [0, 3], ((0, 3),)),
        ("Cropping2D", 2, ((2, 2), (2, 2))),
        ("Cropping2D", (1, 3), ((1, 1), (3, 3))),
        ("ZeroPadding2D", [[1, 0], [2, 3]], ((1, 0), (2, 3))),
        ("ZeroPadding3D", (0, 1, (2, 3)), ((0, 0), (1, 1), (2, 3))),
        ("Cropping3D", np.int64(1), ((1, 1), (1, 1), (1, 1))),
    ],
)
def test_sides_are_given_in_any_of_three_forms(layer, given, sides):
    made = getattr(layers, layer)(given)
    assert made.sides == sides
    assert type(made).from_config(made.get_config()).sides == sides


@pytest.mark.parametrize("layer", ["Cropping1D", "Cropping2D", "Cropping3D", "ZeroPadding1D", "ZeroPadding3D"])
@pytest.mark.parametrize("wrong", [-1, (1, -2), (1, 2, 3, 4), 1.5, "1", True, ((1, 2, 3),) * 2, None])
def test_other_sides_are_refused(layer, wrong):
    parameter = "cropping" if layer.startswith("Cropping") else "padding"
    with pytest.raises(ParameterError, match=f"^{layer}: {parameter} must be an int .*, not "):
        getattr(layers, layer)(wrong)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.Cropping1D((3, 2)), (2, 5, 4)),
        (layers.Cropping2D((0, 2), data_format="channels_first"), (2, 4, 6, 4)),
        (layers.Cropping3D(1), (2, 3, 2, 3, 4)),
    ],
)
def test_cropping_leaves_something(layer, shape):
    with pytest.raises(ShapeError, match="c1 some cells are left, but resized="):
        layer.compute_output_shape(shape)
    assert layer.compute_output_shape((None, *(None,) * (len(shape) - 1)))[0] is None


@pytest.mark.parametrize(
    "layer", [layers.GlobalMaxPooling1D(), layers.GlobalAveragePooling1D(), layers.AdaptiveMaxPooling1D(2)]
)
def test_an_empty_space_has_no_maximum_and_no_mean(layer):
    with pytest.raises(ShapeError, match=r"c1 no axis of the space is empty, but space=\(0,\)"):
        layer.compute_output_shape((2, 0, 3))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: layers.MaxPooling1D(padding="causal"), "MaxPooling1D: padding must be one of 'valid', 'same'"),
        (lambda: layers.MaxPooling3D((2, 2)), "MaxPooling3D: pool_size must be a positive int, or one for each axis"),
        (lambda: layers.AdaptiveMaxPooling2D(0), "AdaptiveMaxPooling2D: output_size must be a positive int"),
        (lambda: layers.AdaptiveMaxPooling2D(), "output_size is missing"),
        (lambda: layers.UpSampling1D((2,)), "UpSampling1D: size must be a positive int"),
        (lambda: layers.UpSampling2D(interpolation="cubic"), "UpSampling2D: interpolation must be one of 'nearest'"),
        (lambda: layers.GlobalMaxPooling2D(keepdims=3), "GlobalMaxPooling2D: keepdims must be True or False"),
    ],
)
def test_parameters_outside_their_domains_are_refused(make, words):
    with pytest.raises(ParameterError) as caught:
        make()
    assert words in str(caught.value)


KERAS = {"name": "x", "trainable": True, "dtype": {"module": "keras", "class_name": "DTypePolicy",
         "config": {"name": "float32"}, "registered_name": None}}  # fmt: skip


@pytest.mark.parametrize(
    "name, config",
    [
        ("Cropping1D", {"cropping": [1, 2]}),
        ("ZeroPadding2D", {"padding": [[1, 2], [0, 3]], "data_format": "channels_last"}),
        ("UpSampling1D", {"size": 3}),
        ("UpSampling2D", {"size": [2, 3], "data_format": "channels_first", "interpolation": "bicubic"}),
        ("MaxPool1D", {"pool_size": [2], "padding": "valid", "strides": [2], "data_format": "channels_last"}),
        ("AvgPool3D", {"pool_size": [2] * 3, "padding": "same", "strides": [1] * 3, "data_format": "channels_first"}),
        ("GlobalMaxPool3D", {"data_format": "channels_last", "keepdims": True}),
        ("AdaptiveAveragePooling1D", {"output_size": [3], "data_format": "channels_last"}),
    ],
)
def test_configs_of_keras_say_the_same_here(name, config):
    layer = layers.deserialize({"class_name": name, "config": config | KERAS})
    written = layer.get_config()
    assert {key: written[key] for key in config} == config


UNKNOWN = [
    layers.MaxPooling2D(3, 2, "same"),
    layers.AveragePooling2D(2),
    layers.GlobalMaxPooling2D(),
    layers.Cropping2D(((1, 0), (0, 2))),
    layers.ZeroPadding2D(1),
    layers.UpSampling2D((2, 3)),
    layers.UpSampling2D(2, interpolation="bilinear"),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_of_sizes_that_are_not_known_before(backend):
    x = lh.Input((None, None, 2))
    model = lh.Model(x, [layer.replace(name=None)(x) for layer in UNKNOWN], backend=backend)
    rng = np.random.default_rng(0)
    for shape in ((2, 5, 6, 2), (1, 8, 4, 2)):
        image = rng.normal(size=shape).astype("float32")
        for layer, y in zip(UNKNOWN, model.predict(image, verbose=0), strict=True):
            want = lh.evaluate_layer(layer, [image], route="definition").outputs[0]
            np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif("tensorflow" not in BACKENDS, reason="tensorflow compiles for unknown sizes")
@pytest.mark.parametrize("layer", [layers.UpSampling2D(interpolation="lanczos3"), layers.AdaptiveMaxPooling2D(2)])
def test_what_is_laid_out_by_sizes_says_so_where_they_are_unknown(layer):
    x = lh.Input((None, None, 2))
    model = lh.Model(x, layer.replace(name=None)(x), backend="tensorflow")
    with pytest.raises(ShapeError, match=r"the space of x must be known when it is compiled, but is \(None, None\)"):
        model.predict(np.zeros((1, 4, 4, 2), "float32"), verbose=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sequences_with_a_mask_are_averaged_over_the_steps_that_count(backend):
    model = lh.Sequential(
        [lh.Input((4,)), layers.Embedding(5, 3, mask_zero=True), layers.GlobalAveragePooling1D()], backend=backend
    )
    ids = np.array([[1, 2, 0, 3], [0, 0, 0, 0], [4, 0, 0, 0]])
    (table,) = model.get_weights()
    want = [(table[1] + table[2] + table[3]) / 3, np.zeros(3), table[4]]
    np.testing.assert_allclose(model.predict(ids, verbose=0), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["Add", "Multiply", "Maximum", "Minimum"])
def test_merged_inputs_and_masks_may_have_different_numbers_of_axes(name):
    layer = getattr(lh.layers, name)()
    long, short = np.full((2, 3, 4, 5), 2.0), np.full((2, 4, 5), 3.0)
    steps, places = np.array([[1, 1, 0], [1, 0, 0]], bool), np.array([[1, 0, 1, 0], [0, 0, 0, 1]], bool)
    found = lh.evaluate_layer(layer, [long, short], mask=[steps, places], dtype="float64")
    counts = steps[:, :, None] | places[:, None, :]
    np.testing.assert_array_equal(found.output_mask, counts)
    if name == "Multiply":  # a masked step of one input counts as 1
        y = np.where(steps[:, :, None], 2.0, 1.0) * np.where(places[:, None, :], 3.0, 1.0)
        np.testing.assert_array_equal(found.outputs[0], np.broadcast_to((y * counts)[..., None], (2, 3, 4, 5)))
