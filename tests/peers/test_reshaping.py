"""Cropping, padding and enlarging beside Keras's and torch's."""

from __future__ import annotations

import numpy as np
import pytest
from layerhub_conformance.case import covering

import layerhub as lh
from layerhub.spec.reshaping import interpolation

SHAPES = {1: (2, 7, 3), 2: (2, 5, 6, 3), 3: (2, 5, 6, 7, 2)}
FORMATS = ["channels_last", "channels_first"]
PAIRS = ((0, 2), (1, 0), (2, 3))
RANKS = pytest.mark.parametrize("rank", [1, 2, 3])


def laid_out(rank, data_format="channels_last"):
    n, *space, c = SHAPES[rank]
    return (n, *space, c) if data_format == "channels_last" else (n, c, *space)


def enlarged(layer, x):
    """The definition's output."""
    return lh.evaluate_layer(layer, [x], [], "numpy", dtype="float64", route="definition").outputs[0]


@RANKS
def test_cropping(agrees_with_keras, rank):
    forms = [1, 0, (2, 1)] if rank == 1 else [1, 0, (2, 1, 0)[:rank], PAIRS[:rank]]
    formats = {} if rank == 1 else {"data_format": FORMATS}
    for config in covering({"cropping": forms, **formats}):
        agrees_with_keras(f"Cropping{rank}D", config, [laid_out(rank, config.get("data_format", "channels_last"))])


@RANKS
def test_zero_padding(agrees_with_keras, rank):
    forms = [1, 0, (2, 1)] if rank == 1 else [1, 0, (2, 1, 0)[:rank], PAIRS[:rank]]
    for config in covering({"padding": forms, "data_format": FORMATS}):
        agrees_with_keras(f"ZeroPadding{rank}D", config, [laid_out(rank, config["data_format"])])


def test_sequences_enlarged(agrees_with_keras):
    for size in (1, 2, 3):
        agrees_with_keras("UpSampling1D", {"size": size}, [laid_out(1)])


def test_volumes_enlarged(agrees_with_keras):
    for config in covering({"size": [2, (1, 3, 2)], "data_format": FORMATS}):
        agrees_with_keras("UpSampling3D", config, [laid_out(3, config["data_format"])])


def test_images_enlarged(agrees_with_keras):
    for config in covering({"size": [2, (3, 1), (4, 2)], "data_format": FORMATS}):
        agrees_with_keras("UpSampling2D", config, [laid_out(2, config["data_format"])])


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("data_format", FORMATS)
def test_bilinear_images_of_keras(agrees_with_keras, size, data_format):
    config = {"size": size, "interpolation": "bilinear", "data_format": data_format}
    # tensorflow interpolates in float32.
    agrees_with_keras("UpSampling2D", config, [laid_out(2, data_format)], tolerance=1e-5)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("method", ["bicubic", "lanczos3", "lanczos5"])
def test_smooth_images_of_keras(keras, close, size, method):
    x = np.random.default_rng(0).normal(size=laid_out(2)).astype("float32")
    layer = lh.layers.UpSampling2D(size, interpolation=method, dtype="float64")
    theirs = keras.layers.UpSampling2D(size, interpolation=method, dtype="float32")(x)
    # tensorflow looks the weights of "bicubic" up in a table of 1024 places.
    close(enlarged(layer, x), theirs.numpy(), repr(layer), 4e-3 if method == "bicubic" else 1e-5)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("method, theirs", [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC"), ("lanczos3", "LANCZOS")])
def test_images_of_pillow(close, size, method, theirs):
    image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    layer = lh.layers.UpSampling2D(size, interpolation=method, dtype="float64")
    large = image.fromarray(x).resize((5 * size[1], 7 * size[0]), getattr(image.Resampling, theirs))
    close(enlarged(layer, x[None, :, :, None])[0, :, :, 0], np.asarray(large), repr(layer), 1e-6)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 4)])
def test_bilinear_images_of_torch(close, size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
    layer = lh.layers.UpSampling2D(size, "channels_first", "bilinear", dtype="float64")
    theirs = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=size, mode="bilinear")
    close(enlarged(layer, x), theirs.numpy(), repr(layer))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_weights_differ_from_those_of_torch_by_its_other_a_alone(close, factor):
    """Keys's curve is linear in a: of a = -1/2 (ours) and a = -3/4 (torch's) follows that of a = 0, which is simple."""
    torch = pytest.importorskip("torch")
    each = torch.eye(9, dtype=torch.float64).reshape(1, 9, 9, 1)
    theirs = torch.nn.functional.interpolate(each, scale_factor=(factor, 1), mode="bicubic")[0, :, :, 0].numpy().T
    ours = np.array(interpolation(9, factor, "bicubic"))
    new, old = np.indices(ours.shape)
    d = np.abs(old + 0.5 - (new + 0.5) / factor)
    simple = np.where(d < 1, (2 * d - 3) * d * d + 1, 0.0)
    inner = slice(2 * factor, -2 * factor)  # at the edges torch holds the last cells on
    close(3 * ours[inner] - 2 * theirs[inner], simple[inner], "weights for a = 0")
