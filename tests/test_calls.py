"""Calling layers: inputs that may be left out or given by name, options of a single call, weights that a call moves."""

from __future__ import annotations

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import GraphError, ShapeError
from layerhub.layers import In, Layer, Out, Result, Weight, passes
from layerhub.spec.base import keyword

BACKENDS = list(lh.backends())


@lh.register
class Blend(Layer):
    """a * share + b * (1 - share) + shift; b stands for a where it is not given, shift is left out where it is not."""

    share: float = keyword(default=0.5, kw_only=True)
    twice: bool = keyword(default=False, kw_only=True)
    options = ("share", "twice")

    a = In("n d")
    b = In("n d", like="a")
    shift = In("n d", optional=True)
    gain = Weight("d", init="ones")
    y = Out("n d")
    mask = passes

    def output_shapes(self, *shapes):
        out = super().output_shapes(*shapes)
        return out * 2 if self.twice else out

    def define(self, xp, a, b, shift, gain):
        y = (a * self.share + b * (1 - self.share)) * gain
        y = y if shift is None else y + shift
        return (y, y) if self.twice else y


A, B, S = (np.random.default_rng(k).normal(size=(3, 2)).astype("float32") for k in range(3))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("inputs", "wanted"), [([A], A), ([A, B], (A + B) / 2), ([A, B, S], (A + B) / 2 + S), ([A, None, S], A + S)]
)
def test_inputs_that_are_left_out_are_stood_for(backend, inputs, wanted):
    found = lh.evaluate_layer(Blend(), inputs, backend=backend, cotangents=[np.ones((3, 2))])
    np.testing.assert_allclose(found.outputs[0], wanted, rtol=1e-6)
    assert len(found.input_grads) == len(inputs)


def test_inputs_are_taken_by_name_too():
    x, s = lh.Input((2,), name="x"), lh.Input((2,), name="s")
    model = lh.Model([x, s], Blend()(x, shift=s))
    np.testing.assert_allclose(model.predict([A, S], verbose=0), A + S, rtol=1e-6)
    again = lh.models.clone_model(model)
    np.testing.assert_allclose(again.predict([A, S], verbose=0), A + S, rtol=1e-6)
    with pytest.raises(GraphError, match="the input a was given twice, by position and by name"):
        Blend()(x, a=x)


@pytest.mark.parametrize(("count", "told"), [(0, "the input a is missing"), (4, "takes 1 to 3 inputs, 4 were given")])
def test_too_few_and_too_many_inputs_are_told(count, told):
    with pytest.raises((ShapeError, GraphError), match=told):
        Blend()([lh.Input((2,)) for _ in range(count)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_option_of_one_call_leaves_the_layer_and_its_weights_as_they_are(backend):
    x, z = lh.Input((2,)), lh.Input((2,))
    layer = Blend()
    y = layer(x, z, share=1.0)
    w, v = layer(x, z, share=0.0, twice=True)
    model = lh.Model([x, z], [y, w, v], backend=backend)
    assert len(model.get_weights()) == 1
    model.set_weights([np.array([2.0, 3.0])])
    found = model.predict([A, B], verbose=0)
    for got, wanted in zip(found, (A, B, B), strict=True):
        np.testing.assert_allclose(got, wanted * [2.0, 3.0], rtol=1e-6)
    assert (layer.share, layer.twice) == (0.5, False)
    again = lh.models.model_from_json(model.to_json(), backend=backend)
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(again.predict([A, B], verbose=0)[1], found[1], rtol=1e-6)


def test_options_count_on_native_arrays_too():
    layer = Blend()
    np.testing.assert_allclose(layer(A, B, share=0.0), B, rtol=1e-6)
    np.testing.assert_allclose(layer(A, B), (A + B) / 2, rtol=1e-6)
    np.testing.assert_allclose(layer(A, shift=S), A + S, rtol=1e-6)


@lh.register
class Count(Layer):
    """x plus how often training has called."""

    x = In("n d")
    calls = Weight("d", trainable=False)
    y = Out("n d")
    mask = passes

    def define(self, xp, x, calls, training):
        return Result(x + calls, {"calls": calls + 1} if training else {})


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_used_twice_goes_on_from_what_its_first_use_made_of_its_state(backend):
    x, layer = lh.Input((2,)), Count()
    model = lh.Model(x, layer(layer(x)), backend=backend)
    model.compile("sgd", "mse")
    zeros = np.zeros((4, 2), "float32")
    assert model.train_on_batch(zeros, zeros) == pytest.approx(1.0)  # 0 + 0, then + 1
    np.testing.assert_array_equal(layer.get_weights()[0], [2.0, 2.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_composite_may_hand_a_weight_to_its_parts_as_an_input(backend):
    from layerhub.layers import Add, Multiply

    class Powers(Layer):
        """x * w + w * w."""

        x = In("n d")
        w = Weight("n d")
        y = Out("n d")

        def compose(self, do, x, w):
            plain = {"dtype": self.dtype}
            return do(Add(**plain), do(Multiply(**plain), x, do(Same(**plain), w)), do(Square(**plain), w))

    class Same(Layer):
        """x."""

        x = In("n d")
        y = Out("n d")
        mask = passes

        def define(self, xp, x):
            return x

    class Square(Layer):
        """x squared."""

        x = In("n d")
        y = Out("n d")
        mask = passes

        def define(self, xp, x):
            return x * x

    found = lh.evaluate_layer(Powers(), A, [B], backend, cotangents=[np.ones_like(A)])
    np.testing.assert_allclose(found.outputs[0], A * B + B * B, rtol=1e-5)
    np.testing.assert_allclose(found.weight_grads[0], A + 2 * B, rtol=1e-5)
