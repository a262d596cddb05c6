"""The bounds are sound, tight where it matters, and the verdicts made of them catch what is wrong."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from layerhub_conformance.cases import corpus
from layerhub_conformance.reference import reference
from layerhub_conformance.verdict import compare

from layerhub import autodiff
from layerhub.errors import MaskDroppedWarning
from layerhub.probe import evaluate_layer
from layerhub.running_error import SMALLEST, UNITS, Arithmetic, Bounded, Decided, RunningError, accepted
from layerhub.variable import HOST

B = RunningError.of("float32")
RNG = np.random.default_rng(9)
INDEX = np.array([[2, 0, 2], [1, 1, 0]])


def singles(*shape, spread=3):
    """float32 numbers of either sign, over some decades."""
    x = RNG.normal(size=shape) * 10.0 ** RNG.integers(-spread, spread + 1, size=shape)
    return x.astype(np.float32)


def positive(*shape, spread=2):
    return np.abs(singles(*shape, spread=spread)) + np.float32(1e-3)


def within(function, *arrays):
    """float32 results lie within the bound, which is itself a small share of the result."""
    bound = function(B, *(B.exact(a) if a.dtype.kind == "f" else a for a in arrays))
    got = np.asarray(function(HOST, *arrays))
    assert got.dtype == np.float32
    assert got.shape == bound.value.shape
    assert np.all(np.isfinite(bound.error))
    off = np.abs(got.astype(np.float64) - bound.value)
    assert np.all(off <= bound.error), np.max(off / bound.error)
    return bound


ELEMENTWISE = {
    "add": lambda xp, a, b: a + b,
    "subtract": lambda xp, a, b: a - b,
    "multiply": lambda xp, a, b: a * b,
    "divide": lambda xp, a, b: a / xp.where(xp.abs(b) > 0.01, b, xp.ones_like(b)),
    "with a number": lambda xp, a, b: 0.1 * a + 1 / 3 - b / 7,
    "negative": lambda xp, a, b: -a,
    "abs": lambda xp, a, b: xp.abs(a),
    "square": lambda xp, a, b: xp.square(a),
    "pow": lambda xp, a, b: a**3,
    "maximum": lambda xp, a, b: xp.maximum(a, b),
    "minimum": lambda xp, a, b: xp.minimum(a, b),
    "where": lambda xp, a, b: xp.where(a > b, a, b),
    "tanh": lambda xp, a, b: xp.tanh(a),
    "exp": lambda xp, a, b: xp.exp(xp.tanh(a) * 20),
    "expm1": lambda xp, a, b: xp.expm1(xp.tanh(a) * 5),
    "sin": lambda xp, a, b: xp.sin(xp.tanh(a)),
    "cos": lambda xp, a, b: xp.cos(xp.tanh(a)),
    "log": lambda xp, a, b: xp.log(xp.abs(a) + 0.001),
    "log1p": lambda xp, a, b: xp.log1p(xp.abs(a)),
    "sqrt": lambda xp, a, b: xp.sqrt(xp.abs(a)),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_float32_results_of_elementwise_functions_lie_within_their_bounds(name):
    within(ELEMENTWISE[name], singles(4000), singles(4000))


SUMS = {
    "sum": (lambda xp, a: xp.sum(a, axis=-1), lambda: [singles(40, 300)]),
    "mean": (lambda xp, a: xp.mean(a, axis=-1), lambda: [singles(40, 300)]),
    "matmul": (lambda xp, a, b: xp.matmul(a, b), lambda: [singles(30, 200), singles(200, 30)]),
    "einsum": (lambda xp, a, b: xp.einsum("ngc,cgf->ngf", a, b), lambda: [singles(30, 2, 50), singles(50, 2, 8)]),
    "scatter_add": (
        lambda xp, i, u: xp.scatter_add(5, i, u), lambda: [RNG.integers(0, 5, size=200), singles(200, 3)],
    ),
    "softmax": (
        lambda xp, a: xp.exp(a - xp.max(a, axis=-1, keepdims=True))
        / xp.sum(xp.exp(a - xp.max(a, axis=-1, keepdims=True)), axis=-1, keepdims=True),
        lambda: [singles(50, 20, spread=1)],
    ),
    "variance": (
        lambda xp, a: xp.mean(xp.square(a - xp.mean(a, axis=-1, keepdims=True)), axis=-1), lambda: [singles(50, 100)],
    ),
    "large mean": (
        lambda xp, a: xp.mean(xp.square(a - xp.mean(a, axis=-1, keepdims=True)), axis=-1),
        lambda: [(singles(50, 100, spread=0) * np.float32(0.01) + np.float32(1000))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_float32_results_of_sums_lie_within_their_bounds(name):
    function, draw = SUMS[name]
    within(function, *draw())


def composition(seed):
    """A random chain of operations, as a function of two arrays."""
    rng = np.random.default_rng(seed)
    steps = [
        lambda xp, x, y: x + y,
        lambda xp, x, y: x * y,
        lambda xp, x, y: x - 0.3 * y,
        lambda xp, x, y: xp.tanh(x) + y,
        lambda xp, x, y: xp.exp(xp.tanh(y)) * x,
        lambda xp, x, y: x / (1 + xp.abs(y)),
        lambda xp, x, y: xp.sqrt(x * x + y * y + 0.1),
        lambda xp, x, y: xp.where(x > 0, x, 0.1 * x),
        lambda xp, x, y: xp.matmul(x, xp.permute_dims(y, (1, 0))) / 4,
        lambda xp, x, y: x - xp.mean(y, axis=-1, keepdims=True),
        lambda xp, x, y: xp.log1p(xp.abs(x)) - y,
        lambda xp, x, y: xp.erf(x) * y,
    ]
    chosen = [(steps[i], bool(rng.integers(2))) for i in rng.integers(0, len(steps), size=6)]

    def function(xp, a, b):
        for step, swap in chosen:
            c = step(xp, b, a) if swap else step(xp, a, b)
            a, b = b, c
        return b

    return function


class Float32:
    """numpy, whose erf gives float32 for float32."""

    def __getattr__(self, name):
        return getattr(HOST, name)

    def erf(self, x):
        return HOST.erf(x.astype(np.float64)).astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
def test_float32_results_of_random_compositions_lie_within_their_bounds(seed):
    function = composition(seed)
    a, b = singles(5, 5, spread=0), singles(5, 5, spread=0)
    bound = function(B, B.exact(a), B.exact(b))
    got = function(Float32(), a, b)
    right, undecided = accepted(got, bound.value, bound.error, share=1.0)
    assert np.all(right | undecided)
    assert np.mean(undecided) <= 0.2


@pytest.mark.parametrize("seed", range(20))
def test_float32_gradients_of_random_compositions_lie_within_their_bounds(seed):
    function = composition(seed)
    a, b, c = (singles(5, 5, spread=0) for _ in range(3))

    def slopes(xp, arrays, cotangent):
        space = autodiff.Differentiable(xp)
        variables = [space.var(x) for x in arrays]
        return autodiff.gradients([function(space, *variables)], [cotangent], variables)

    bounds = slopes(B, [B.exact(a), B.exact(b)], B.exact(c))
    for bound, got in zip(bounds, slopes(HOST, [a, b], c), strict=True):
        value, error = (bound.value, bound.error) if isinstance(bound, Bounded) else (bound, np.zeros(bound.shape))
        right, undecided = accepted(got, value, error, share=1.0)
        assert np.all(right | undecided)


# --------------------------------------------------------------------------------------------- tightness


def test_what_is_exact_stays_exact():
    zeros = B.exact(np.zeros(3))
    x = B.exact(singles(3))
    for exact in (zeros + zeros, zeros * x, x - x, -zeros, B.reshape(x, (3, 1)), B.maximum(x, x), B.abs(x)):
        assert np.all(exact.error == 0)
    assert np.all(B.sum(zeros).error <= 3 * SMALLEST["float32"])


def test_whole_numbers_stay_exact_in_any_order_until_they_outgrow_the_type():
    a, b = B.exact(np.arange(6.0).reshape(2, 3)), B.exact(np.arange(6.0).reshape(3, 2) - 2)
    rows = np.array([0, 0, 1])
    for exact in (a + 1, a * a, B.sum(a), B.matmul(a, b), B.einsum("ij,jk->ik", a, b), B.scatter_add(2, rows, b)):
        assert np.all(exact.error == 0)
    large = B.exact(np.full((1, 2), 2.0**13))
    for rounded in (a * 0.3, B.sum(B.exact(np.full(2, 2.0**24))), B.matmul(large, B.permute_dims(large, (1, 0)))):
        assert np.any(rounded.error > 0)
    assert np.any(B.matmul(a * 0.5, b).error > 0)


def test_matrix_products_of_less_precision_have_a_unit_of_their_own():
    fast = RunningError.of("float32", Arithmetic(products=2.0**-11))
    x = singles(3, 3)
    assert np.all(fast.matmul(fast.exact(x), fast.exact(x)).error > 1000 * B.matmul(B.exact(x), B.exact(x)).error)
    assert np.all((fast.exact(x) + fast.exact(x)).error == (B.exact(x) + B.exact(x)).error)


def test_a_division_by_way_of_the_reciprocal_rounds_twice():
    twice, x = RunningError.of("float32", Arithmetic(reciprocals=True)), positive(50)
    one, two = (space.divide(space.exact(x), space.exact(x + 1)) for space in (B, twice))
    assert np.allclose(two.error, 2 * one.error)
    assert np.all((twice.exact(x) * 3.0).error == (B.exact(x) * 3.0).error)


def test_what_may_be_too_large_for_the_type_is_undecided():
    half = RunningError.of("float16")
    x = half.exact(np.array([300.0, 200.0]))
    assert np.isnan((x * x).error).tolist() == [True, False]
    assert not np.isnan((B.exact(x.value) * B.exact(x.value)).error).any()
    assert np.isnan(half.exp(half.exact(np.array([11.09]))).error).all()


def test_what_is_added_to_a_sum_is_one_more_term_in_whatever_order():
    big, small, minus = (B.exact(single(v)) for v in ([1e4], [0.1], [-1e4]))
    for total in ((big + minus) + small, (big + small) + minus, small + B.sum(B.stack([big, minus]), axis=0)):
        assert total.error[0] > UNITS["float32"] * 1e4
    # Of two terms there is only one order, and cancellation is exact but for the result's rounding.
    assert (big + minus).error[0] == 0 and (big - small).error[0] <= 1.01 * UNITS["float32"] * 1e4


def single(values):
    return np.asarray(values, np.float32)


def test_one_rounding_costs_one_unit():
    x, y = B.exact(positive(100)), B.exact(positive(100))
    for z in (x + y, x * y, x / y):
        assert np.all(z.error <= 1.01 * UNITS["float32"] * np.abs(z.value) + SMALLEST["float32"])


def test_a_number_that_the_type_cannot_hold_brings_its_rounding_and_another_one_does_not():
    x = B.exact(np.full(1, 1.25))
    assert (x * 0.5).error[0] == (x * 2.0).error[0] / 4
    assert (x * 0.1).error[0] > 1.9 * UNITS["float32"] * 0.1


def test_a_narrower_type_has_wider_bounds_by_the_ratio_of_units():
    values = positive(50)
    errors = {}
    for dtype in ("float16", "float32", "float64"):
        space = RunningError.of(dtype)
        x = space.exact(values)
        errors[dtype] = (x * x).error
    ratio = errors["float16"] / errors["float32"]
    assert np.all(ratio > 0.9 * 2**13)
    assert np.all(errors["float64"] < errors["float32"])


def test_sums_grow_no_faster_than_the_square_root_of_their_length():
    one = B.sum(B.exact(np.ones(10_000))).error / 10_000
    assert one < 8 * math.sqrt(10_000) * UNITS["float32"] * 1.01


# --------------------------------------------------------------------------------------------- undecided


def near():
    """Two values that rounding cannot tell apart, and two that it can."""
    x = B.exact(np.array([1.0, 1.0])) * 0.1
    return x, B.exact(np.array([1.0, 3.0])) * 0.1


def test_a_comparison_within_its_operands_errors_is_open():
    x, y = near()
    for found in (x < y, x <= y, x > y, x >= y, x == y, x != y):
        assert isinstance(found, Decided)
        assert found.open.tolist() == [True, False]


def test_exact_operands_are_never_open():
    x = B.exact(np.array([1.0, 2.0]))
    assert not (x == B.exact(np.array([1.0, 2.0]))).open.any()
    assert not (x > 1.0).open.any()


def test_what_depends_on_an_open_comparison_is_undecided_and_spreads():
    x, y = near()
    jump = B.where(x < y, B.exact(np.ones(2)), B.exact(np.zeros(2)))
    assert np.isnan(jump.error).tolist() == [True, False]
    for later in (jump + 1, jump * 0.5, B.exp(jump), B.reshape(jump, (2, 1))[:, 0], B.concat([jump, jump])[:2]):
        assert np.isnan(later.error).tolist() == [True, False]
    assert np.isnan(B.sum(jump).error)


def test_where_both_branches_meet_either_is_right():
    x, y = near()
    continuous = B.where(x < y, y, x)
    assert np.all(np.isfinite(continuous.error))
    assert continuous.error[0] >= abs(x.value[0] - y.value[0])


def test_and_or_not_keep_what_is_open():
    x, y = near()
    open_, closed = x < y, B.exact(np.ones(2)) < 2
    assert (open_ & closed).open.tolist() == [True, False]
    assert (open_ | closed).open.tolist() == [True, False]
    assert B.logical_not(open_).open.tolist() == [True, False]


def test_sign_floor_and_casts_within_an_error_of_a_step_are_undecided():
    x = B.exact(np.array([0.1, 0.7])) * 10.0
    assert np.isnan(B.floor(x * 0.1 * 10.0).error).tolist() == [True, True]
    tiny = B.exact(np.array([1.0, 1.0])) * 0.1 - B.exact(np.array([0.1, 5.0]))
    assert np.isnan(B.sign(tiny).error).tolist() == [True, False]


def test_the_largest_of_nearly_equal_ones_is_open():
    x = B.exact(np.array([[1.0, 1.0, 0.5], [3.0, 1.0, 1.0]])) * 0.1
    found = B.argmax(x, axis=-1)
    assert isinstance(found, Decided)
    assert found.open.tolist() == [True, False]
    assert not isinstance(B.argmax(B.exact(np.array([[1.0, 1.0]])), axis=-1), Decided)


def test_a_division_by_what_may_be_zero_is_undecided():
    x = B.exact(np.ones(1)) * 0.1
    assert np.isnan((B.exact(np.ones(1)) / (x - x * 1.0)).error[0])


# --------------------------------------------------------------------------------------------- verdicts


def test_accepted_is_written_so_that_nan_fails():
    right, undecided = accepted([np.nan, 1.0, np.inf], [1.0, 1.0, 1.0], np.full(3, 0.1))
    assert right.tolist() == [False, True, False]
    assert not undecided.any()


def test_accepted_takes_special_values_only_as_they_are():
    right, _ = accepted([np.inf, -np.inf, np.nan, 1.0, 1e38], [np.inf, np.inf, np.nan, np.nan, np.inf], np.zeros(5))
    assert right.tolist() == [True, False, True, False, False]


def test_accepted_allows_a_quarter_more_than_the_bound_and_no_more():
    right, _ = accepted([1.12, 1.13], [1.0, 1.0], np.full(2, 0.1))
    assert right.tolist() == [True, False]


def test_undecided_elements_are_told_apart_from_right_ones():
    right, undecided = accepted([1.0, 1.0], [1.0, 1.0], np.array([np.nan, 0.1]))
    assert undecided.tolist() == [True, False]
    assert right.tolist() == [False, True]


CONDITIONED = [case for case in corpus() if case.data == "positive" and not case.training]
"""One-signed data: sums do not cancel, so that the bounds are tight."""


def evaluated(case, dtype="float32"):
    drawn = case.draw(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskDroppedWarning)
        got = evaluate_layer(
            case.make(dtype), drawn.inputs, drawn.weights, "numpy", case.training, drawn.masks, drawn.states or None,
            drawn.cotangents, dtype, 0, "definition",
        )  # fmt: skip
        expected = reference(case, dtype).arrays
    names = [spec.name for spec in case.make().weight_specs(*case.shapes)]
    arrays = {f"output {k}": y for k, y in enumerate(got.outputs)}
    arrays |= {f"{name} after the call": w for name, w in zip(names, got.weights, strict=True)}
    arrays |= {f"gradient of input {k}": g for k, g in enumerate(got.input_grads)}
    arrays |= {f"gradient of {name}": g for name, g in zip(names, got.weight_grads, strict=True)}
    return [(e, arrays[e.what]) for e in expected]


def first_of_each_layer(cases):
    found = {}
    for case in cases:
        found.setdefault(case.layer, case)
    return list(found.values())


@pytest.mark.parametrize("case", first_of_each_layer(corpus()), ids=lambda case: case.layer)
def test_a_planted_fault_in_every_quantity_of_a_case_is_caught(case):
    """The first element of each array in turn, moved by a hundred times its bound or to NaN; or the array spoilt."""
    for expected, got in evaluated(case):
        assert compare(expected, got, "float32").right, expected.what
        if got.size == 0:
            continue
        at = np.unravel_index(np.nanargmin(expected.error), got.shape)
        faults = []
        for wrong in (expected.value[at] + 100 * expected.error[at] + 1e-3 * abs(expected.value[at]) + 1e-30, np.nan):
            spoilt = got.copy()
            spoilt[at] = wrong
            faults.append(spoilt)
        faults += [got.astype("float64"), got[..., None], got[:-1] if got.ndim else got[None], None]
        for spoilt in faults:
            finding = compare(expected, spoilt, "float32")
            assert not finding.right
            assert expected.what in finding.detail


COARSE = {"AdditiveAttention": 1e-4, "ConvLSTM1D": 1e-4}
"""Relative faults where the bound is wide: a score is a sum of tanh, each of 8 ULP, and is exponentiated; gates are."""


@pytest.mark.parametrize("case", first_of_each_layer(CONDITIONED), ids=lambda case: case.layer)
def test_a_small_fault_is_caught_in_every_output_of_well_conditioned_cases(case):
    fault = COARSE.get(case.layer, 1e-5)
    for expected, got in evaluated(case):
        if not expected.what.startswith("output") or not np.any(expected.value):
            continue
        size = np.where(expected.value == 0, np.nan, np.abs(expected.value))
        resolution = 2 * 1.25 * expected.error / size
        at = np.unravel_index(np.nanargmin(resolution), got.shape)
        spoilt = got.copy()
        spoilt[at] *= np.float32(1 + fault)
        assert not compare(expected, spoilt, "float32").right, (expected.what, resolution[at])


def test_a_finding_says_where_and_by_how_much():
    case = next(c for c in corpus() if c.layer == "Dense" and len(c.shapes[0]) == 2 and 0 not in c.shapes[0])
    expected, got = evaluated(case)[0]
    spoilt = got.copy()
    spoilt[1, 1] += 1
    finding = compare(expected, spoilt, "float32")
    assert "output 0[1, 1] is " in finding.detail
    assert f"1 of {got.size} elements are wrong" in finding.detail
    assert finding.worst > 1.25


def test_too_many_undecided_elements_are_no_pass():
    case = next(c for c in corpus() if c.layer == "Dense" and len(c.shapes[0]) == 2 and 0 not in c.shapes[0])
    expected, got = evaluated(case)[0]
    # A copy: references are remembered.
    unsure = replace(expected, error=np.full_like(expected.error, np.nan))
    assert not compare(unsure, got, "float32").right
