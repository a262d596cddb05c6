"""The suite itself: a right kernel passes, and what is planted is found, with and without gradients."""

from __future__ import annotations

import pytest
from layerhub_conformance.cases import corpus
from layerhub_conformance.check import measure

import layerhub as lh
from layerhub.kernels import Kernel
from layerhub.variable import HOST


def dense(x, kernel, bias):
    y = x @ kernel
    return y if bias is None else y + bias


def right(layer, x, kernel, bias):
    return dense(x, kernel, bias)


def scaled(layer, x, kernel, bias):
    return dense(x, kernel, bias) * x.dtype.type(1 + 1e-5)


def without_bias(layer, x, kernel, bias):
    return dense(x, kernel, None)


def other_epsilon(layer, x, gamma, beta, moving_mean, moving_variance, training, mask):
    wrong = layer.replace(epsilon=1.5 * layer.epsilon)
    return wrong.define(HOST, x, gamma, beta, moving_mean, moving_variance, training, mask)


def right_vjp(layer, saved, cotangents):
    (x, kernel, bias), _ = saved
    (dy,) = cotangents
    rows, slopes = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return dy @ kernel.T, rows.T @ slopes, None if bias is None else slopes.sum(axis=0)


def forgetful_vjp(layer, saved, cotangents):
    dx, dkernel, dbias = right_vjp(layer, saved, cotangents)
    return dx, dkernel, None if dbias is None else dbias * 0


def wrong_cases(name: str, kernel) -> int:
    """How many cases of a layer fail when this kernel serves it on numpy."""
    lh.override_kernel("numpy", name, kernel)
    try:
        found = [measure(case, "numpy", "float32") for case in corpus() if case.layer == name]
    finally:
        lh.override_kernel("numpy", name, None)
    return sum(result.verdict == "fail" for result in found)


@pytest.mark.parametrize("kernel", [right, Kernel("Dense", right, backward=right_vjp)], ids=["no vjp", "vjp"])
def test_a_right_kernel_passes(kernel):
    assert wrong_cases("Dense", kernel) == 0


@pytest.mark.parametrize(
    "name, kernel",
    [
        ("Dense", scaled),
        ("Dense", without_bias),
        ("Dense", Kernel("Dense", right, backward=forgetful_vjp)),
        ("BatchNormalization", other_epsilon),
    ],
    ids=["scale", "bias", "gradient of the bias", "epsilon"],
)
def test_a_planted_fault_is_found(name, kernel):
    assert wrong_cases(name, kernel) > 0


def test_a_kernel_that_changes_its_input_is_found():
    def careless(layer, x, kernel, bias):
        x += 1
        return dense(x - 1, kernel, bias)

    assert wrong_cases("Dense", careless) > 0
