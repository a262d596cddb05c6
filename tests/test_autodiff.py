"""Reverse mode over any namespace: every rule against extrapolated differences, in float64, by no tolerance of ours."""

import numpy as np
import pytest
from layerhub_conformance.oracle import difference

from layerhub import autodiff
from layerhub.autodiff import PASSIVE, RULES, Differentiable, Var, gradients, value_and_grad, value_of
from layerhub.errors import LayerHubError
from layerhub.namespace import EXTRAS, STANDARD
from layerhub.variable import HOST

XP = Differentiable(HOST)
RNG = np.random.default_rng(4)


def drawn(*shape, low=0.3, high=1.7):
    """Numbers of either sign that keep away from zero."""
    return RNG.uniform(low, high, size=shape) * RNG.choice([-1.0, 1.0], size=shape)


def positive(*shape):
    return RNG.uniform(0.3, 1.7, size=shape)


def agree(function, *arrays):
    """The gradients of function, weighted at random, are its differences along a random direction."""
    variables = [XP.var(a) for a in arrays]
    y = function(XP, *variables)
    cotangent = RNG.normal(size=y.shape)
    found = gradients([y], [cotangent], variables)
    away = [RNG.normal(size=a.shape) for a in arrays]
    assert [g.shape for g in found] == [a.shape for a in arrays]
    slope = sum(float(np.sum(g * d)) for g, d in zip(found, away, strict=True))

    def along(t):
        moved = [a + t[0] * d for a, d in zip(arrays, away, strict=True)]
        return float(np.sum(function(HOST, *moved) * cotangent))

    (estimate,), (error,) = difference(along, [0.0])
    assert abs(slope - estimate) <= 4 * error, f"{slope} against {estimate} ± {error}"
    assert error <= 1e-6 * max(abs(slope), 1e-3), "the difference says nothing"


INDEX = np.array([[2, 0, 2], [1, 1, 0]])

CASES = {
    "add": [(lambda xp, a, b: xp.add(a, b), drawn(2, 3), drawn(3)), (lambda xp, a, b: a + b, drawn(2, 1), drawn(1, 3))],
    "subtract": [(lambda xp, a, b: a - b, drawn(2, 3), drawn(1, 3)), (lambda xp, a: 2 - a, drawn(3))],
    "multiply": [(lambda xp, a, b: a * b, drawn(2, 3), drawn(2, 1)), (lambda xp, a: 3 * a, drawn(3))],
    "divide": [(lambda xp, a, b: a / b, drawn(3), drawn(2, 3)), (lambda xp, a: 1 / a, drawn(3))],
    "negative": [(lambda xp, a: -a, drawn(3))],
    "exp": [(lambda xp, a: xp.exp(a), drawn(3))],
    "expm1": [(lambda xp, a: xp.expm1(a), drawn(3))],
    "log": [(lambda xp, a: xp.log(a), positive(3))],
    "log1p": [(lambda xp, a: xp.log1p(a), positive(3))],
    "sqrt": [(lambda xp, a: xp.sqrt(a), positive(3))],
    "tanh": [(lambda xp, a: xp.tanh(a), drawn(3))],
    "sin": [(lambda xp, a: xp.sin(a), drawn(3))],
    "cos": [(lambda xp, a: xp.cos(a), drawn(3))],
    "erf": [(lambda xp, a: xp.erf(a), drawn(3))],
    "abs": [(lambda xp, a: xp.abs(a), drawn(3))],
    "square": [(lambda xp, a: xp.square(a), drawn(3))],
    "maximum": [(lambda xp, a, b: xp.maximum(a, b), drawn(4, 3), drawn(3))],
    "minimum": [(lambda xp, a, b: xp.minimum(a, b), drawn(4, 3), drawn(4, 1))],
    "pow": [(lambda xp, a: a**3, drawn(3)), (lambda xp, a: xp.pow(a, 1.5), positive(3)),
            (lambda xp, a: a**-2, drawn(3))],
    "where": [(lambda xp, a, b: xp.where(INDEX > 0, a, b), drawn(2, 3), drawn(3)),
              (lambda xp, a: xp.where(INDEX > 0, a * a, xp.zeros_like(a)), drawn(2, 3))],
    "astype": [(lambda xp, a: xp.astype(a * a, xp.float64), drawn(3))],
    "sum": [(lambda xp, a: xp.sum(a * a), drawn(2, 3)), (lambda xp, a: xp.sum(a * a, axis=0), drawn(2, 3)),
            (lambda xp, a: xp.sum(a * a, axis=(0, -1), keepdims=True), drawn(2, 3, 4))],
    "mean": [(lambda xp, a: xp.mean(a * a), drawn(2, 3)), (lambda xp, a: xp.mean(a * a, axis=(1, 2)), drawn(2, 3, 4)),
             (lambda xp, a: xp.mean(a * a, axis=-1, keepdims=True), drawn(2, 3))],
    "max": [(lambda xp, a: xp.max(a * a, axis=-1), drawn(2, 3)), (lambda xp, a: xp.max(a), drawn(2, 3)),
            (lambda xp, a: xp.max(a, axis=(0, 2), keepdims=True), drawn(2, 3, 4))],
    "min": [(lambda xp, a: xp.min(a, axis=0), drawn(2, 3))],
    "matmul": [(lambda xp, a, b: xp.matmul(a, b), drawn(2, 3), drawn(3, 4)),
               (lambda xp, a, b: a @ b, drawn(5, 2, 3), drawn(3, 4)),
               (lambda xp, a, b: a @ b, drawn(5, 2, 3), drawn(5, 3, 4)),
               (lambda xp, a, b: a @ b, drawn(2, 3), drawn(5, 3, 4)),
               (lambda xp, a, b: a @ b, drawn(1, 2, 3), drawn(5, 3, 4))],
    "einsum": [(lambda xp, a, b: xp.einsum("ngc,cgf->ngf", a, b), drawn(3, 2, 4), drawn(4, 2, 5)),
               (lambda xp, a, b: xp.einsum("ij,jk->ki", a, b), drawn(2, 3), drawn(3, 4))],
    "reshape": [(lambda xp, a: xp.reshape(a * a, (3, -1)), drawn(2, 6))],
    "expand_dims": [(lambda xp, a: xp.expand_dims(a * a, axis=1), drawn(2, 3))],
    "squeeze": [(lambda xp, a: xp.squeeze(a * a, axis=1), drawn(2, 1, 3))],
    "permute_dims": [(lambda xp, a: xp.permute_dims(a * a, (2, 0, 1)), drawn(2, 3, 4))],
    "flip": [(lambda xp, a: xp.flip(a * a, axis=1), drawn(2, 3))],
    "broadcast_to": [(lambda xp, a: xp.broadcast_to(a * a, (4, 2, 3)), drawn(2, 1))],
    "concat": [(lambda xp, a, b: xp.concat([a * b, b, a], axis=-1), drawn(2, 3), drawn(2, 3)),
               (lambda xp, a: xp.concat([a, np.ones((1, 3)), a * a], axis=0), drawn(2, 3))],
    "stack": [(lambda xp, a, b: xp.stack([a * b, a, b], axis=-1), drawn(2, 3), drawn(2, 3)),
              (lambda xp, a: xp.stack([a, np.ones(3)], axis=0), drawn(3))],
    "pad": [(lambda xp, a: xp.pad(a * a, ((1, 2), (0, 1)), 3.0), drawn(2, 3))],
    "take": [(lambda xp, a: xp.take(a * a, INDEX.reshape(-1), axis=0), drawn(3, 4))],
    "take_along_axis": [(lambda xp, a: xp.take_along_axis(a * a, INDEX, axis=1), drawn(2, 3)),
                        (lambda xp, a: xp.take_along_axis(a, INDEX[:, :, None], axis=1), drawn(2, 3, 1)),
                        (lambda xp, a: xp.take_along_axis(a, INDEX, axis=0), drawn(3, 3))],
    "unslice": [(lambda xp, a: xp.unslice(a * a, (7, 5), (slice(1, 6, 2), slice(0, 2))), drawn(3, 2))],
}  # fmt: skip


@pytest.mark.parametrize("name, number", [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_every_rule_gives_the_differences_of_its_function(name, number):
    agree(*CASES[name][number])


def test_every_rule_has_a_case():
    assert set(RULES) == set(CASES)


def test_every_function_that_backends_must_have_is_differentiated_or_passive_or_makes_no_use_of_arrays():
    makers = {"eye", "full", "ones", "zeros", "bool", "float32", "float64", "int32", "int64"}
    own = {"scan", "stop_gradient", "size", "random_bits"}
    assert set(STANDARD) | set(EXTRAS) <= set(RULES) | PASSIVE | makers | own | {"scatter_add"}


INDICES = [1, -1, slice(1, 3), slice(0, 0), (slice(None), slice(0, 3, 2)), (1, -2)]
INDICES += [(Ellipsis, 0), (0, Ellipsis, slice(1, None))]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_a_slice_gives_back_its_cotangent_where_it_was_taken(index):
    x = XP.var(drawn(3, 4))
    y = x[index]
    cotangent = RNG.normal(size=y.shape)
    expected = np.zeros((3, 4))
    expected[index] = cotangent
    assert np.array_equal(gradients([y], [cotangent], [x])[0], expected)


def test_a_scan_is_differentiated_through_its_carry_its_inputs_and_what_its_step_uses():
    def run(xp, w, x, start):
        def step(carry, now):
            state = xp.tanh(carry[0] @ w + now[0])
            return (state,), state * state

        (last,), ys = xp.scan(step, (start,), (x,))
        return xp.concat([ys, xp.expand_dims(last, axis=0)], axis=0)

    agree(run, drawn(3, 3), drawn(4, 2, 3), drawn(2, 3))


def test_long_compositions_agree_with_differences():
    def network(xp, x, w, b, v):
        h = xp.tanh(x @ w + b)
        odds = xp.exp(h @ v)
        return xp.log(odds / xp.sum(odds, axis=-1, keepdims=True))

    agree(network, drawn(4, 3), drawn(3, 5), drawn(5), drawn(5, 2))


# --------------------------------------------------------------------------------------------- conventions


def slopes(function, *arrays):
    variables = [XP.var(np.asarray(a, dtype=np.float64)) for a in arrays]
    y = function(XP, *variables)
    return [g.tolist() for g in gradients([y], [np.ones(y.shape)], variables)]


def test_ties_of_two_are_shared_evenly():
    assert slopes(lambda xp, a, b: xp.maximum(a, b), [1.0, 2.0], [1.0, 1.0]) == [[0.5, 1.0], [0.5, 0.0]]
    assert slopes(lambda xp, a, b: xp.minimum(a, b), [1.0, 2.0], [1.0, 1.0]) == [[0.5, 0.0], [0.5, 1.0]]


def test_ties_along_an_axis_are_shared_evenly():
    x = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]
    assert slopes(lambda xp, a: xp.max(a, axis=1), x) == [[[0, 0.5, 0.5], [1 / 3] * 3]]
    assert slopes(lambda xp, a: xp.min(a, axis=1), x) == [[[1, 0, 0], [1 / 3] * 3]]


def test_at_its_kink_a_magnitude_has_no_slope():
    assert slopes(lambda xp, a: xp.abs(a), [0.0, -2.0, 2.0]) == [[0, -1, 1]]


def test_an_element_taken_several_times_gets_all_its_cotangents():
    assert slopes(lambda xp, a: xp.take(a, np.array([1, 1, 1]), axis=0), [[5.0], [6.0]]) == [[[0], [3]]]
    assert slopes(lambda xp, a: a * a + a, [3.0]) == [[7]]


def test_what_does_not_depend_on_an_input_has_a_gradient_of_zeros():
    x, unused = XP.var(drawn(3)), XP.var(drawn(2, 2))
    _, zeros = gradients([x * 2], [np.ones(3)], [x, unused])
    assert np.array_equal(zeros, np.zeros((2, 2)))
    constant = XP.stop_gradient(x) * 2
    assert np.array_equal(gradients([constant], [np.ones(3)], [x])[0], np.zeros(3))


def test_nothing_flows_through_stop_gradient_comparisons_and_integers():
    x = XP.var(drawn(3))
    (found,) = gradients([x * XP.stop_gradient(x)], [np.ones(3)], [x])
    assert np.array_equal(found, x.value)
    for passive in (x > 0, XP.argmax(x), XP.sign(x), XP.zeros_like(x), XP.astype(x, XP.int64), XP.floor(x)):
        assert not isinstance(passive, Var)


def test_several_outputs_add_up_and_a_missing_cotangent_counts_for_nothing():
    x = XP.var(np.array([2.0, 3.0]))
    found = gradients([x * x, x, x * 5], [np.ones(2), np.ones(2), None], [x])[0]
    assert found.tolist() == [5, 7]


def test_an_input_that_is_itself_an_output_has_its_cotangent():
    x = XP.var(drawn(3))
    cotangent = drawn(3)
    assert np.array_equal(gradients([x], [cotangent], [x])[0], cotangent)


def test_gradients_keep_the_float_type():
    x = XP.var(drawn(3).astype("float32"))
    y = XP.mean(XP.tanh(x * 0.5) / (1 + XP.exp(x)), axis=0)
    assert gradients([y], [np.float32(1)], [x])[0].dtype == np.float32
    wide = XP.astype(x, XP.float64)
    assert gradients([wide * 2], [np.ones(3)], [x])[0].dtype == np.float32


def test_inputs_and_cotangents_are_left_as_they_are():
    arrays = [drawn(2, 3), drawn(3, 4)]
    before = [a.copy() for a in arrays]
    cotangent = drawn(2, 4)
    kept = cotangent.copy()
    variables = [XP.var(a) for a in arrays]
    y = XP.tanh(variables[0] @ variables[1])
    for _ in range(2):
        found = gradients([y + y], [cotangent], variables)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
    assert np.array_equal(cotangent, kept)
    assert np.array_equal(found[0], gradients([y + y], [cotangent], variables)[0])


def test_a_function_without_a_rule_is_told_by_name_and_works_on_plain_arrays():
    x = XP.var(drawn(3))
    with pytest.raises(LayerHubError, match="no derivative is known for the array function 'cumsum'"):
        XP.cumsum(x)
    assert np.array_equal(XP.cumsum(np.ones(3)), [1, 2, 3])


def test_what_has_a_derivative_for_some_arguments_only_says_so():
    x = XP.var(positive(3))
    with pytest.raises(LayerHubError, match="plain numbers as exponents"):
        _ = x ** np.ones(3)
    with pytest.raises(LayerHubError, match="along axis 0 only"):
        XP.take(XP.var(drawn(2, 3)), np.array([0]), axis=1)


@pytest.mark.parametrize("call", [lambda x: XP.sum(axis=0, x=x), lambda x: XP.where(x.value > 0, x, x2=x)])
def test_a_recorded_array_is_not_lost_when_it_is_given_by_name(call):
    with pytest.raises((LayerHubError, TypeError)):
        call(XP.var(drawn(3)))


def test_value_and_grad_gives_loss_extras_and_gradients():
    w, x = drawn(3, 2), drawn(4, 3)

    def function(params):
        y = x @ params[0]
        return XP.sum(y * y), {"y": y, "pair": (y, [y])}

    loss, aux, (found,) = value_and_grad(HOST, lambda params: function(params), [w])
    assert isinstance(loss, np.floating)
    # A few roundings of float64.
    np.testing.assert_allclose(found, 2 * x.T @ (x @ w), rtol=1e-13)
    assert isinstance(aux["y"], np.ndarray)
    assert isinstance(aux["pair"][1][0], np.ndarray)


def test_values_are_found_behind_recorded_arrays_in_any_nest():
    x = XP.var(drawn(2))
    assert value_of({"a": (x, [x, 3])})["a"][1][0] is x.value
    assert value_of("text") == "text"


def test_there_is_one_recording_namespace_for_a_namespace():
    assert autodiff.differentiable(HOST) is autodiff.differentiable(HOST)


# --------------------------------------------------------------------------------------------- primitives


def test_a_primitive_is_differentiated_by_its_own_vjp():
    asked = []

    def saving(layer, x, pair):
        return x * pair[0] + pair[1], (x, pair)

    def vjp(layer, saved, cotangents):
        asked.append(layer)
        x, pair = saved
        (g,) = cotangents
        return g * pair[0] * 10, (g * x, g)

    call = XP.primitive(saving, vjp, lambda y: ((y,), lambda arrays: arrays[0]))
    x, a, b = XP.var(np.full(3, 2.0)), XP.var(np.full(3, 5.0)), np.ones(3)
    y = call("me", x, (a, b))
    assert y.value.tolist() == [11] * 3
    to_x, to_a = gradients([y], [np.ones(3)], [x, a])
    assert (to_x.tolist(), to_a.tolist(), asked) == ([50] * 3, [2] * 3, ["me"])


def test_a_primitive_of_plain_arrays_records_nothing():
    call = XP.primitive(lambda layer, x: (x * 2, None), None, lambda y: ((y,), lambda arrays: arrays[0]))
    assert isinstance(call(None, np.ones(3)), np.ndarray)


def test_outputs_of_a_primitive_that_nobody_used_have_cotangents_of_zeros():
    seen = []

    def vjp(layer, saved, cotangents):
        seen.extend(cotangents)
        return (cotangents[0] + cotangents[1],)

    call = XP.primitive(lambda layer, x: ((x, x * 2), None), vjp, lambda ys: (ys, lambda arrays: arrays))
    x = XP.var(np.ones(3))
    first, _ = call(None, x)
    assert gradients([first * 3], [np.ones(3)], [x])[0].tolist() == [3] * 3
    assert seen[1].tolist() == [0] * 3
