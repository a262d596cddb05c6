"""Verdicts on arrays and on cells: what is right, what wrong arrays look like, what no single trial shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from layerhub_conformance import judgement
from layerhub_conformance.case import Case
from layerhub_conformance.reference import read, reference
from layerhub_conformance.report.model import Finding, Result, merged
from layerhub_conformance.verdict import Expected, compare, pattern, resolution

from layerhub.running_error import RunningError

UNIT = 2.0**-24


def expected(value, error=None, **more) -> Expected:
    value = np.asarray(value, np.float64)
    return Expected("output 0", value, np.full(value.shape, 1e-6) if error is None else error, **more)


def single(x) -> np.ndarray:
    return np.asarray(x, np.float32)


# --------------------------------------------------------------------------------------------- arrays


def test_an_array_within_its_bounds_is_right_and_says_how_much_of_them_it_used():
    found = compare(expected([1.0, 2.0, 4.0]), single([1.0, 2.0 + 5e-7, 4.0 - 9.5e-7]), "float32")
    assert found.right
    assert 0.8 < found.worst < 1
    assert (found.size, found.direction, found.varied) == (3, "forward", True)
    assert 0 < found.rms < 1
    assert abs(found.mean) < found.rms


@pytest.mark.parametrize(
    "got, said",
    [
        (None, "output 0 is missing"),
        (single([1.0, 2.0]), "has shape (2,), (3,) was expected"),
        (np.ones(3), "has type float64, float32 was expected"),
    ],
)
def test_what_is_no_array_of_the_kind_is_told_before_its_numbers_are_looked_at(got, said):
    found = compare(expected([1.0, 2.0, 4.0]), got, "float32")
    assert not found.right
    assert said in found.detail


def test_a_wrong_array_is_told_by_its_worst_element():
    found = compare(expected([1.0, 2.0, 4.0]), single([1.0, 2.5, 4.0]), "float32")
    assert (found.index, found.got, found.expected, found.pattern) == ((1,), 2.5, 2.0, "one element")
    assert (
        "output 0[1] is 2.5, 2.0 was expected within 1.25e-06; 1 of 3 elements are wrong: one element" in found.detail
    )


def test_nan_is_never_right_where_a_number_was_expected():
    found = compare(expected([1.0, 2.0]), single([1.0, np.nan]), "float32")
    assert not found.right
    assert found.pattern == "NaN or infinity"


ROWS = np.arange(1.0, 13).reshape(3, 4)


def spoilt(places, by=1.0) -> np.ndarray:
    got = ROWS.copy()
    got[places] += by
    return got


@pytest.mark.parametrize(
    "got, looks",
    [
        (ROWS * 1.01, "scaled by 1.01"),
        (-ROWS, "the sign"),
        (ROWS * 0, "zeros"),
        (ROWS + 0.5, "shifted by 0.5"),
        (ROWS + np.random.default_rng(1).normal(size=(3, 4)), "everywhere"),
        (spoilt((slice(None), 2)), "all at index 2 of axis 1"),
        (spoilt((1, slice(None))), "all at index 1 of axis 0"),
        (spoilt((slice(None), slice(2, None))), "the tail of axis 1, from index 2"),
        (spoilt(([0, 2], [1, 3])), "scattered"),
    ],
)
def test_errors_are_told_by_what_they_have_in_common(got, looks):
    assert pattern(ROWS, got, got != ROWS) == looks


def test_resolution_is_the_fault_that_shows_in_a_typical_element():
    assert resolution(expected([1.0, 2.0, 1000.0], np.full(3, UNIT))) == pytest.approx(2.5 * UNIT / 2)
    assert resolution(expected([0.0, 0.0])) is None


def test_short_types_are_graded_by_where_they_round():
    value = np.array([1.0, 3.0])
    short = expected(value, np.full(2, 0.01), fine=np.full(2, 0.001))
    assert compare(short, np.float16(value), "float16").grade == "A"
    assert compare(short, np.float16(value + 0.006), "float16").grade == "B"
    assert not compare(short, np.float16(value + 0.1), "float16").right


def test_small_whole_numbers_must_be_met_to_the_last_bit():
    case = Case("Dense", {"units": 3}, ((2, 4),))
    drawn = case.draw("float32")
    drawn.inputs[0][:] = np.arange(8).reshape(2, 4)
    drawn.weights[0][:] = np.arange(12).reshape(4, 3) - 6
    drawn.weights[1][:] = [1, -2, 3]
    wanted = read(case.make(), drawn, False, RunningError.of("float32")).arrays[0]
    assert not wanted.error.any()
    right = single(wanted.value)
    assert compare(wanted, right, "float32").right
    assert not compare(wanted, np.nextafter(right, np.float32(np.inf)), "float32").right


def test_what_goes_through_many_steps_has_bounds_that_do_not_explode():
    case = Case("SimpleRNN", {"units": 4, "activation": "linear"}, ((1, 40, 4),))
    (output, *_) = reference(case, "float32").arrays
    relative = np.median(output.error) / np.sqrt(np.mean(output.value**2))
    assert relative < 1e-3


# --------------------------------------------------------------------------------------------- cells


def result(**changed) -> Result:
    row = {
        "id": "x", "subject": "Dense", "kind": "layer", "check": "values", "case": "Dense(units=3);(2,4)",
        "backend": "mine", "dtype": "float32",
        "findings": (Finding("output 0", worst=0.2, size=100, resolution=1e-6, rms=0.05, mean=0.001),),
    }  # fmt: skip
    return Result(**(row | changed))


@pytest.fixture
def usual(monkeypatch):
    monkeypatch.setattr(judgement, "experience", lambda: {"layer/Dense/values/float32/forward/normal": (0.05, 0.002)})


def cell(*results: Result, complete: bool = True):
    (found,) = judgement.judge(results, complete)
    return found


def test_a_cell_is_as_good_as_its_trials(usual):
    assert cell(result()).verdict == "pass"
    assert cell(result(), result(verdict="fail")).verdict == "fail"
    assert cell(result(), result(verdict="mistrusted")).verdict == "mistrusted"
    assert cell(result(verdict="xfail", findings=())).verdict == "xfail"
    assert cell(result(verdict="unsupported", findings=())).verdict == "unsupported"
    assert cell(result(), result(verdict="unsupported", findings=())).verdict == "pass"


def test_errors_that_are_large_all_together_are_a_fault_that_no_element_shows(usual):
    large = Finding("output 0", worst=0.9, size=100, resolution=1e-6, rms=0.4, mean=0.01)
    found = cell(result(findings=(large,)))
    assert found.verdict == "fail"
    assert "errors are 8 times those of correct backends" in found.reasons[0]


def test_errors_that_lean_to_one_side_are_a_fault(usual):
    leaning = Finding("output 0", worst=0.3, size=100, resolution=1e-6, rms=0.09, mean=-0.08)
    found = cell(result(findings=(leaning,)))
    assert found.verdict == "fail"
    assert "errors lean to one side, by -1.6" in found.reasons[0]


def test_few_elements_are_not_judged_together(usual):
    few = Finding("output 0", worst=0.9, size=5, resolution=1e-6, rms=0.4, mean=0.4)
    assert cell(result(findings=(few,))).verdict == "pass"


def test_what_the_definition_served_counts_for_its_route_too(usual):
    # Training alone has a kernel here; by the definition, its errors are a part of all, whichever route the rest took.
    large = Finding("output 0", worst=0.9, size=20, resolution=1e-6, rms=0.3, mean=0.0)
    exact = Finding("output 0", worst=0.0, size=180, resolution=1e-6, rms=0.0, mean=0.0)
    trained = [
        result(findings=(large,), route=route, served=(s,)) for route, s in (("kernel", "k"), ("definition", "d"))
    ]
    rest = result(findings=(exact,), served=("definition", "definition"))
    assert judgement.routes(rest) == ("kernel", "definition")
    assert judgement.routes(trained[0]) == ("kernel",) and judgement.routes(trained[1]) == ("definition",)
    assert cell(*trained, rest).verdict == "pass"
    large_alone = Finding("output 0", worst=0.9, size=60, resolution=1e-6, rms=0.3, mean=0.0)
    assert cell(result(findings=(large_alone,), route="definition", served=("definition",))).verdict == "fail"


def test_a_cell_that_proves_nothing_is_mistrusted(usual):
    constant = Finding("output 0", worst=0.0, size=100, resolution=1e-6, rms=0.0, mean=0.0, varied=False)
    coarse = Finding("output 0", worst=0.1, size=100, resolution=1e-2, rms=0.05, mean=0.0)
    assert cell(result(findings=(constant,))).reasons == ("all outputs are constant",)
    assert cell(result(findings=(coarse,))).reasons == ("no case shows a fault smaller than 0.01",)
    assert cell(result(findings=(coarse,))).verdict == "mistrusted"
    # Of a part of the cases, nothing is held against the layer.
    assert cell(result(findings=(coarse,)), complete=False).verdict == "pass"


def test_experience_is_the_largest_error_of_any_correct_backend(tmp_path, monkeypatch):
    path = tmp_path / "experience.json"
    other = Finding("output 0", worst=0.2, size=100, resolution=1e-6, rms=0.07, mean=-0.004)
    assert judgement.gain_experience([result(), result(backend="other", findings=(other,))], path) == 1
    held = json.loads(path.read_text())
    assert held["errors"] == {"layer/Dense/values/float32/forward/normal": [0.07, 0.004]}


def test_experience_of_other_processors_is_kept_where_it_is_larger(tmp_path):
    path, name = tmp_path / "experience.json", "layer/Dense/values/float32/forward/normal"
    for known, expected in ((0.08, 0.0001), [0.08, 0.001]), ((0.01, 0.3), [0.05, 0.3]):
        judgement.gain_experience([result()], path, {name: known, "other": (0.5, 0.1)})
        assert json.loads(path.read_text())["errors"] == {name: expected, "other": [0.5, 0.1]}


def test_errors_far_below_their_bounds_are_not_held_against_the_zeros_of_others(monkeypatch):
    name = "layer/Dense/values/float32/forward/normal"
    monkeypatch.setattr(judgement, "experience", lambda: {name: (1e-7, 1e-9)})
    for rms, verdict in (0.003, "pass"), (0.03, "fail"):
        small = Finding("output 0", worst=0.05, size=100, resolution=1e-6, rms=rms, mean=rms / 2)
        assert cell(result(findings=(small,))).verdict == verdict


def test_merged_findings_pool_their_errors():
    a = Finding("output 0", worst=0.5, size=100, resolution=1e-5, rms=0.3, mean=0.1)
    b = Finding("output 1", worst=0.2, size=300, resolution=1e-6, rms=0.1, mean=-0.1)
    found = merged([a, b])
    assert (found.worst, found.size, found.resolution) == (0.5, 400, 1e-6)
    assert found.rms == pytest.approx(np.sqrt((0.09 * 100 + 0.01 * 300) / 400))
    assert found.mean == pytest.approx((10 - 30) / 400)
