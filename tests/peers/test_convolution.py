"""Convolutions beside Keras's (channels last: its tensorflow has no other on CPU) and torch's (channels first)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layerhub_conformance.case import covering

import layerhub as lh

SPACE = {1: (7,), 2: (6, 5), 3: (5, 4, 4)}


def rows(**choices: list[Any]) -> list[dict[str, Any]]:
    """Configurations that hold every pair of choices, without those that no layer takes."""
    found = list(covering(choices))
    for row in found:
        if row.get("strides", 1) > 1 and row.get("dilation_rate", 1) > 1:
            row["dilation_rate"] = 1
        if row.get("padding") == "causal" and row["rank"] > 1:
            row["padding"] = "same"
        if row.get("output_padding") is not None:
            row["output_padding"] = min(row["output_padding"], row["strides"] - 1)
    return found


def identify(value: Any) -> str | None:
    return ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None


def each(**choices: list[Any]) -> Any:
    return pytest.mark.parametrize("row", rows(rank=[1, 2, 3], **choices), ids=identify)


@each(
    filters=[4, 6], kernel_size=[3, 1, 2], strides=[1, 2, 3], dilation_rate=[1, 2],
    padding=["valid", "same", "causal"], groups=[1, 2], use_bias=[True, False],
)  # fmt: skip
def test_conv(agrees_with_keras, row):
    rank = row.pop("rank")
    if rank == 3 and row["padding"] == "same" and row["strides"] > row["kernel_size"]:
        pytest.skip("tf.nn.conv3d is wrong there: docs/known-divergences.md")
    agrees_with_keras(f"Conv{rank}D", row, [(2, *SPACE[rank], 4)])


@each(
    kernel_size=[3, 1, 2, 4], strides=[1, 2, 3], output_padding=[None, 0, 1, 2],
    padding=["valid", "same"], use_bias=[True, False],
)  # fmt: skip
def test_conv_transpose(agrees_with_keras, row):
    rank = row.pop("rank")
    if row["padding"] == "same" and row["kernel_size"] % 2 == 0 and row["output_padding"] == 0:
        pytest.skip("tensorflow refuses an even kernel without an output padding")
    if rank == 3 and row["padding"] == "same" and row["strides"] > row["kernel_size"]:
        pytest.skip("tf.nn.conv3d is wrong there: docs/known-divergences.md")
    agrees_with_keras(f"Conv{rank}DTranspose", {"filters": 3, **row}, [(2, *SPACE[rank], 2)])


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("steps", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_depthwise_and_separable_conv(agrees_with_keras, rank, multiplier, steps, padding):
    strides, dilation = steps
    config = {
        "kernel_size": 3, "depth_multiplier": multiplier, "strides": strides, "dilation_rate": dilation,
        "padding": padding,
    }  # fmt: skip
    agrees_with_keras(f"DepthwiseConv{rank}D", config, [(2, *SPACE[rank], 2)])
    agrees_with_keras(f"SeparableConv{rank}D", {"filters": 4, **config}, [(2, *SPACE[rank], 2)])


def ours_and_torch(layer: Any, x: np.ndarray, weights: list[np.ndarray], theirs: Any, close: Any) -> None:
    """Compare values and gradients with those of ``theirs``, a function of torch tensors."""
    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in (x, *weights)]
    y = theirs(*tensors)
    dy = np.random.default_rng(1).normal(size=tuple(y.shape))
    y.backward(torch.tensor(dy))
    found = lh.evaluate_layer(
        layer, [x], weights, "numpy", cotangents=[dy], dtype="float64", route="definition", seed=0
    )
    close(found.outputs[0], y.detach().numpy(), "output")
    for what, a, b in zip(["x", "kernel", "bias"], [*found.input_grads, *found.weight_grads], tensors, strict=False):
        close(a, b.grad.numpy(), f"gradient of {what}")


def drawn(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


@each(kernel_size=[3, 1, 2], strides=[1, 2, 3], dilation_rate=[1, 2], groups=[1, 2])
def test_conv_of_channels_first(close, row):
    torch = pytest.importorskip("torch")
    rank, k, groups = row["rank"], row["kernel_size"], row["groups"]
    x, kernel, bias = drawn((2, 4, *SPACE[rank]), (*(k,) * rank, 4 // groups, 6), (6,))
    layer = getattr(lh.layers, f"Conv{rank}D")(
        6, k, row["strides"], data_format="channels_first", dilation_rate=row["dilation_rate"], groups=groups
    )

    def theirs(x, kernel, bias):
        convolve = getattr(torch.nn.functional, f"conv{rank}d")
        weight = kernel.permute(rank + 1, rank, *range(rank))
        return convolve(x, weight, bias, row["strides"], 0, row["dilation_rate"], groups)

    ours_and_torch(layer, x, [kernel, bias], theirs, close)


@each(kernel_size=[3, 1, 2, 4], strides=[1, 2, 3], output_padding=[0, 1, 2], dilation_rate=[1, 2])
def test_conv_transpose_of_channels_first(close, row):
    torch = pytest.importorskip("torch")
    rank, k = row["rank"], row["kernel_size"]
    x, kernel, bias = drawn((2, 2, *SPACE[rank]), (*(k,) * rank, 3, 2), (3,))
    layer = getattr(lh.layers, f"Conv{rank}DTranspose")(
        3, k, row["strides"], "valid", data_format="channels_first", output_padding=row["output_padding"],
        dilation_rate=row["dilation_rate"],
    )  # fmt: skip

    def theirs(x, kernel, bias):
        convolve = getattr(torch.nn.functional, f"conv_transpose{rank}d")
        weight = kernel.permute(rank + 1, rank, *range(rank))
        return convolve(x, weight, bias, row["strides"], 0, row["output_padding"], 1, row["dilation_rate"])

    ours_and_torch(layer, x, [kernel, bias], theirs, close)
