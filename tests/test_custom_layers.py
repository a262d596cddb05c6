"""Layers of one's own, as a user makes them: the page about them is typed in, and does what it says."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layerhub_conformance.check import check

import layerhub as lh
from layerhub.errors import KernelError, ParameterError
from layerhub.layers import In, Layer, Out, Result, Weight, passes

PAGE = Path(__file__).parent.parent / "docs" / "custom-layers.md"
BACKENDS = list(lh.backends())


@lh.register
class Drifting(Layer):
    """x * scale + drift; the drift, which is state, grows by one with each call in training."""

    x = In("n d")
    scale = Weight("d", init="ones")
    drift = Weight("d", trainable=False)
    y = Out("n d")
    mask = passes

    def define(self, xp, x, scale, drift, training):
        y = x * scale + drift
        return Result(y, {"drift": drift + 1} if training else {})


def test_the_page_about_layers_of_ones_own_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    ran = subprocess.run([sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for backend in BACKENDS:
        curve = re.search(rf"^{backend} \[(.*)\]$", ran.stdout, re.MULTILINE)
        losses = [float(part) for part in curve[1].split(",")]
        assert losses[0] > losses[-1]
    assert "c1 there are two halves, but d=5" in ran.stdout
    assert "['Centred', 'Residual']" in ran.stdout
    assert len(re.findall(r"float(32|64) (kernel|definition) ", ran.stdout)) == 2 * 4 * len(BACKENDS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_state_moves_in_training_alone_and_travels(backend):
    layer = Drifting()
    model = lh.Sequential([lh.Input((3,)), layer], backend=backend)
    model.compile("sgd", "mse")
    x = np.ones((4, 3), "float32")
    model.predict(x, verbose=0)
    np.testing.assert_array_equal(layer.get_weights()[1], np.zeros(3))
    model.fit(x, x, epochs=2, batch_size=2, verbose=0)
    np.testing.assert_array_equal(layer.get_weights()[1], np.full(3, 4.0))
    model.to("numpy")
    np.testing.assert_array_equal(layer.get_weights()[1], np.full(3, 4.0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kernel_of_ones_own_is_what_runs_on_that_backend_and_can_be_taken_back(backend):
    calls = []

    def kernel(layer, x, scale, drift, training):
        calls.append(layer)
        return Result(x * scale + drift, {"drift": drift + 1} if training else {})

    lh.kernel(backend, "Drifting")(kernel)
    try:
        found = lh.evaluate_layer(Drifting(), np.ones((2, 3)), backend=backend)
        assert calls and found.routes == ["kernel of user"]
        for other in BACKENDS:
            if other != backend:
                assert lh.evaluate_layer(Drifting(), np.ones((2, 3)), backend=other).routes == ["definition"]
    finally:
        lh.override_kernel(backend, "Drifting", None)
    assert lh.evaluate_layer(Drifting(), np.ones((2, 3)), backend=backend).routes == ["definition"]


def test_a_wrong_kernel_of_ones_own_is_found_out():
    @lh.kernel("numpy", "Drifting")
    def off(layer, x, scale, drift, training):
        return Result(x * scale * 1.001 + drift, {"drift": drift + 1} if training else {})

    try:
        with pytest.raises(AssertionError, match=r"numpy \(float32, kernel\): output 0"):
            check(Drifting(), (3, 4), backends=["numpy"])
    finally:
        lh.override_kernel("numpy", "Drifting", None)
    assert len(check(Drifting(), (3, 4), backends=["numpy"])) == 8


def test_a_kernel_that_forgets_to_move_the_state_is_told_so():
    lh.kernel("numpy", "Drifting")(lambda layer, x, scale, drift, training: Result(x * scale + drift))
    try:
        with pytest.raises(KernelError, match="gave no new value for drift"):
            lh.evaluate_layer(Drifting(), np.ones((1, 2)), training=True)
    finally:
        lh.override_kernel("numpy", "Drifting", None)


def test_a_kernel_with_other_arguments_is_refused():
    with pytest.raises(KernelError, match=r"takes \('layer', 'x'\); the spec declares"):
        lh.kernel("numpy", "Drifting")(lambda layer, x: x)


def test_a_class_that_is_defined_again_replaces_the_one_before():
    def make(factor):
        @lh.register
        class Redefined(Layer):
            """x times a number."""

            x = In("n d")
            y = Out("n d")
            mask = passes

            def define(self, xp, x):
                return x * factor

        return Redefined

    make(2)
    second = make(3)
    layer = lh.layers.deserialize({"class_name": "Redefined", "config": {}})
    assert type(layer) is second
    np.testing.assert_array_equal(lh.evaluate_layer(layer, np.ones((1, 2))).outputs[0], [[3.0, 3.0]])


def test_a_name_of_layerhubs_own_is_not_for_taking():
    with pytest.raises(ParameterError, match="'Dense' of user is already taken, by layerhub"):

        @lh.register
        class Dense(Layer):
            """Not that one."""

            x = In("n d")
            y = Out("n d")
            mask = passes

            def define(self, xp, x):
                return x


@pytest.mark.parametrize("wrong", [3, int, "Dense", Layer])
def test_only_spec_classes_are_registered(wrong):
    with pytest.raises(ParameterError, match="register takes a spec class"):
        lh.register(wrong)


def test_an_instance_that_is_not_registered_runs_all_the_same():
    class Unnamed(Layer):
        """x + 1."""

        x = In("n d")
        y = Out("n d")
        mask = passes

        def define(self, xp, x):
            return x + 1

    with contextlib.redirect_stdout(io.StringIO()):
        lh.Sequential([lh.Input((2,)), Unnamed()]).summary()
    np.testing.assert_array_equal(lh.evaluate_layer(Unnamed(), np.zeros((1, 2))).outputs[0], [[1.0, 1.0]])
