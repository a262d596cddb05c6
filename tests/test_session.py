"""A run of the suite: what it is asked for, processes that are lost, known failures, scripts, and models compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from layerhub_conformance import expected, reproducer
from layerhub_conformance.bench import Bench, Capabilities, CrashedError, HungError, Local, RaisedError, sleep
from layerhub_conformance.case import Case
from layerhub_conformance.cases import corpus
from layerhub_conformance.check import measure
from layerhub_conformance.checks import table
from layerhub_conformance.cli import compare, conformance
from layerhub_conformance.models import compare_model
from layerhub_conformance.session import JUDGED, ROUTES, Item, Session, judged, packed, unpacked
from layerhub_conformance.subjects import akin, firsts
from layerhub_conformance.trial import Trial, conduct, screen

import layerhub as lh
from layerhub.errors import BackendError, DataError, DTypeError, ParameterError, UnknownNameError
from layerhub.spec import KINDS

DENSE = Case("Dense", {"units": 3}, ((2, 4),))


@pytest.fixture(scope="module")
def bench():
    made = Bench("numpy", limit=20.0)
    yield made
    made.close()


@pytest.fixture
def faulty():
    """numpy with a Dense that is off by one part in a thousand."""

    def dense(layer, x, kernel, bias):
        y = x @ kernel * x.dtype.type(1.001)
        return y if bias is None else y + bias

    lh.override_kernel("numpy", "Dense", dense)
    yield
    lh.override_kernel("numpy", "Dense", None)


# --------------------------------------------------------------------------------------------- processes


def test_a_call_in_a_process_of_its_own_gives_its_result(bench):
    assert bench.call(os.getpid) != os.getpid()
    assert set(bench.capabilities.dtypes) == {"float16", "float32", "float64"}
    assert bench.foreign == ()


def test_an_exception_comes_back_with_where_it_was_raised(bench):
    with pytest.raises(RaisedError) as caught:
        bench.call(int, "x")
    assert (caught.value.kind, caught.value.mistake) == ("ValueError", False)
    assert "invalid literal" in caught.value.trace


def test_a_process_that_ends_is_replaced_and_its_end_told(bench):
    with pytest.raises(CrashedError, match="ended by signal 9"):
        bench.call(kill_me)
    assert bench.call(sum, (1, 2)) == 3


def test_a_call_that_hangs_is_given_up_and_its_process_replaced():
    short = Bench("numpy", limit=0.5)
    began = time.monotonic()
    with pytest.raises(HungError, match=r"no answer within 0\.5 s"):
        short.call(sleep, 60)
    assert time.monotonic() - began < 20
    short.limit = 20.0
    assert short.call(sum, (1, 2)) == 3
    short.close()


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --------------------------------------------------------------------------------------------- verdicts


def test_a_right_trial_passes_and_says_who_served(bench):
    table()
    result = conduct(Trial("values", DENSE, "numpy", "float32"), bench)
    assert (result.verdict, result.message) == ("pass", "")
    assert result.served == ("kernel of numpy",)
    assert {f.direction for f in result.findings} == {"forward", "gradient"}


def test_a_wrong_trial_is_told_on_one_screen_with_the_line_that_replays_it(faulty):
    told = screen(measure(DENSE, "numpy", "float32"))
    assert len(told.splitlines()) < 24
    assert "Dense on numpy, float32, kernel route, eager" in told
    assert "case    Dense(units=3);(2,4)" in told
    assert "output 0" in told
    assert "was expected within" in told
    assert "layerhub conformance --backend numpy --dtype float32 --case 'values: Dense(units=3);(2,4)'" in told


def test_what_a_backend_declares_that_it_lacks_is_unsupported_and_not_skipped(monkeypatch):
    table()
    local = Local("numpy")
    local.capabilities.lacks["Dense"] = "no matrix products"
    result = conduct(Trial("values", DENSE, "numpy", "float32"), local)
    assert (result.verdict, result.message) == ("unsupported", "numpy lacks Dense: no matrix products")
    assert conduct(Trial("values", DENSE, "numpy", "bfloat16"), Local("numpy")).verdict == "unsupported"


def test_a_backend_that_lets_another_framework_do_its_work_is_mistrusted():
    table()
    local = Local("numpy")
    local.foreign = ("tinygrad",)
    result = conduct(Trial("values", DENSE, "numpy", "float32"), local)
    assert (result.verdict, result.message) == ("mistrusted", "tinygrad was imported to do the work")


def test_results_survive_their_way_between_processes(faulty):
    sent = [measure(DENSE, "numpy", "float32"), measure(DENSE, "numpy", "float32", "definition")]
    wrong, right = unpacked(packed(sent))
    assert wrong == sent[0]
    assert (right.verdict, right.id) == ("pass", sent[1].id)
    assert sum(f.size for f in right.findings) == sum(f.size for f in sent[1].findings)


# --------------------------------------------------------------------------------------------- what is asked for


def items(**asked) -> list[Item]:
    return list(Session(backends=["numpy"], isolated=False, **asked).items())


def test_a_layer_is_narrowed_to_by_any_of_its_names():
    found = items(layers=["convolution2d"], checks=["values"])
    assert {item.subject.layer for item in found} == {"Conv2D"}


def test_a_case_is_replayed_by_its_id_and_may_be_one_that_no_corpus_has():
    (item,) = items(cases=["values: Dense(units=17);(3,19)"])
    assert (item.check.name, item.subject) == ("values", Case("Dense", {"units": 17}, ((3, 19),)))
    assert items(cases=["Dense(units=17);(3,19)"]) == [item]


def test_wrong_names_are_told_before_anything_runs():
    with pytest.raises(UnknownNameError, match="Did you mean 'Dense'"):
        Session(layers=["Denze"])
    with pytest.raises(BackendError, match="no backend is called 'toch'"):
        Session(backends=["toch"])
    with pytest.raises(ParameterError, match="no check begins with valeus"):
        items(checks=["valeus"])
    with pytest.raises(ParameterError, match="is no case"):
        items(cases=["values: Dense(units="])


def test_the_smoke_tier_has_every_layer_once():
    found = items(tier="smoke", checks=["values"])
    layers = [item.subject.layer for item in found]
    assert len(layers) == len(set(layers))
    assert {"Dense", "LSTM", "MultiHeadAttention"} <= set(layers)


def test_all_backends_follow_each_other_for_one_subject():
    found = list(Session(backends=["numpy", "torch"], layers=["Dense"], isolated=False).items())
    assert [item.backend for item in found[:4]] == ["numpy", "torch"] * 2
    assert found[0].subject == found[1].subject


# --------------------------------------------------------------------------------------------- known failures


def known(tmp_path, text: str) -> str:
    path = tmp_path / "expected.toml"
    path.write_text(text)
    return str(path)


ENTRY = """
[[failure]]
backend = "numpy"
dtype = "float32"
route = "*"
case = "Dense(units=3)"
reason = "planted"
"""


def test_a_known_failure_is_expected_and_one_that_is_not_met_must_be_struck(tmp_path, monkeypatch, faulty):
    monkeypatch.setattr(expected, "_files", [])
    expected.also(known(tmp_path, ENTRY))
    assert measure(DENSE, "numpy", "float32").verdict == "xfail"
    assert measure(DENSE, "numpy", "float64").verdict == "fail"
    session = Session(backends=["numpy"], isolated=False)
    met = session.concluded([packed([measure(DENSE, "numpy", "float32")])], None)
    assert not [line for line in met.stale if "planted" in line or "Dense" in line]
    unmet = session.concluded([packed([measure(DENSE, "numpy", "float32", "definition")])], None)
    assert any("the expected failure numpy float32 * values: Dense(units=3) was not met" in s for s in unmet.stale)
    assert unmet.fails


def test_an_entry_that_says_too_little_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(expected, "_files", [])
    with pytest.raises(DataError, match="lacks reason; an entry has: backend, dtype, route, case, reason"):
        Session(backends=["numpy"], expected=[known(tmp_path, ENTRY.replace('reason = "planted"', ""))])


# --------------------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize(
    "case",
    [
        DENSE,
        Case("LSTM", {"units": 3, "return_state": True}, ((2, 4, 3),), False, ("left",), True),
        Case("BatchNormalization", {}, ((3, 4),), True),
        Case("Conv2D", {"filters": 4, "kernel_size": (3, 2)}, ((2, 7, 6, 4),)),
    ],
    ids=lambda case: case.layer,
)
def test_a_script_shows_a_trial_without_the_suite(case, tmp_path):
    path = reproducer.write(Trial("values", case, "numpy", "float32"), tmp_path)
    assert "layerhub_conformance" not in path.read_text()
    done = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "output 0: 0 of" in done.stdout
    spoilt = path.read_text().replace("found = lh.", "layer = layer.replace(trainable=False)\nfound = lh.")
    path.write_text(
        spoilt.replace("y = np.asarray(got[what], np.float64)", "y = np.asarray(got[what], np.float64) + 1")
    )
    assert subprocess.run([sys.executable, path], capture_output=True).returncode == 1


# --------------------------------------------------------------------------------------------- the command line


def test_a_written_report_says_what_the_cases_that_ran_cover(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a case that was asked for is written as a script
    cases = [case for case in corpus() if case.layer == "Cropping1D"]
    told = {}
    for number in (1, len(cases)):
        session = Session(backends=["numpy"], cases=[case.id for case in cases[:number]], isolated=False)
        texts = [packed(session.run(item)) for item in session.items()]
        session.close()
        told[number] = session.concluded(texts, str(tmp_path)).run.coverage["Cropping1D"]
        assert session.concluded(texts, None).run.coverage == {}
    assert set(told[1]) == {"parameters", "pairs", "rules"}
    assert told[1]["pairs"][0] < told[1]["pairs"][1]
    assert all(covered == total > 0 for covered, total in told[len(cases)].values())


def test_unknown_backends_and_layers_are_misuse():
    for arguments in (["--backend", "toch"], ["--layer", "Denze"], ["--dtype", "float12"]):
        assert CliRunner().invoke(conformance, arguments).exit_code != 0
    done = subprocess.run(
        [sys.executable, "-m", "layerhub.cli", "conformance", "--backend", "toch"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no backend is called 'toch'" in done.stderr


# --------------------------------------------------------------------------------------------- models


def network() -> lh.Model:
    x = lh.Input((6,), name="x")
    h = lh.layers.Dense(5, activation="relu", name="first")(x)
    return lh.Model(x, lh.layers.Dense(3, name="last")(lh.layers.LayerNormalization(name="norm")(h)))


def test_a_model_is_compared_layer_by_layer_and_backends_that_are_right_agree():
    found = compare_model(network(), ["numpy", "torch"])
    assert found.agree
    assert [(row.layer, row.what) for row in found.rows[:3]] == [
        ("first", "output"), ("norm", "output"), ("last", "output"),
    ]  # fmt: skip
    gradients = [(row.layer, row.what) for row in found.rows[3:]]
    assert ("norm", "gradient of gamma") in gradients
    assert len(gradients) == 6
    assert "no backend is off" in found.conclusion


def test_a_layer_that_is_off_is_told_from_those_that_only_pass_it_on(faulty):
    found = compare_model(network(), ["numpy", "torch"])
    assert found.conclusion.startswith("numpy alone is off, first in the output of first (Dense)")
    norm = found.rows[1]
    # Normalization is right by itself, but what came before it is not.
    assert norm.own["numpy"] <= 1.25 < norm.whole["numpy"]
    assert norm.own["torch"] <= 1.25 >= norm.whole["torch"]
    assert json.loads(found.as_json())["agree"] is False


def test_a_model_of_masks_states_and_several_inputs_is_compared():
    words, numbers = lh.Input((5,), dtype="int64"), lh.Input((3,))
    h = lh.layers.Embedding(9, 4, mask_zero=True)(words)
    h = lh.layers.Bidirectional(lh.layers.GRU(3))(h)
    model = lh.Model([words, numbers], lh.layers.Concatenate()([h, lh.layers.Dense(2)(numbers)]))
    inputs = [np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0]]), np.ones((2, 3))]
    for training in (False, True):
        assert compare_model(model, ["numpy", "torch"], inputs, training).agree
    with pytest.raises(DataError, match="takes 2 inputs, 1 were given"):
        compare_model(model, ["numpy"], inputs[:1])


def test_a_model_of_several_types_is_refused():
    mixed = lh.Sequential([lh.Input((3,)), lh.layers.Dense(2), lh.layers.Dense(2, dtype="float64")])
    with pytest.raises(DTypeError, match="computes in several types"):
        compare_model(mixed, ["numpy"])


@pytest.mark.skipif(not hasattr(lh.models, "load_model"), reason="models cannot be saved")
def test_a_saved_model_is_compared_on_the_command_line(tmp_path, faulty):
    path = tmp_path / "model.keras"
    lh.models.save_model(network(), path)
    done = CliRunner().invoke(compare, [str(path), "--backends", "torch"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(compare, [str(path), "--backends", "numpy,torch"])
    assert done.exit_code == 1
    assert "numpy alone is off" in done.output


class Compiling:
    """Stands for a backend that compiles every operation."""

    capabilities = Capabilities("numpy", ["float32", "float64"], ["cpu"], compiles=True, eager=False)


def trials_of(session, layers):
    session._benches["numpy"] = Compiling()
    items = [item for item in session.items() if item.check.name == "values" and item.subject.layer in layers]
    return {name: [t for i in items if i.subject.layer == name for t in session.trials(i)] for name in layers}


def test_a_backend_that_compiles_everything_shares_cases_out_and_drafts_most():
    layers = ("Conv1D", "Conv2D", "Conv3D")
    shared = trials_of(Session(backends=["numpy"]), layers)
    cases = {name: [c for c in corpus() if c.layer == name] for name in layers}
    for name in layers:
        full = [trial for trial in shared[name] if trial.mode == "compiled"]
        assert {trial.subject for trial in full} == {c for c in firsts(2) if c.layer == name}
        assert {(t.dtype, t.route) for t in full} == {(d, r) for d in ("float32", "float64") for r in ROUTES}
        drafts = [trial for trial in shared[name] if trial.mode == "draft"]
        assert len({trial.subject for trial in drafts}) == len(drafts) < len(cases[name]) / 2
    alone = trials_of(Session(backends=["numpy"], layers=["Conv2D"]), ("Conv2D",))["Conv2D"]
    assert {trial.subject for trial in alone} == set(cases["Conv2D"])


def test_layers_are_akin_that_differ_in_the_number_of_dimensions():
    assert akin("Conv2DTranspose") == ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
    assert akin("Dense") == ("Dense",) and akin("SpatialDropout1D") == tuple(f"SpatialDropout{n}D" for n in (1, 2, 3))


def test_what_only_hands_on_is_not_counted():
    assert {name for kind in JUDGED for name in set(KINDS[kind]) - set(judged(kind))} == {
        "custom", "FunctionLoss", "FunctionMetric", "MeanMetricWrapper", "LossScaleOptimizer", "MultiOptimizer"
    }  # fmt: skip


def test_a_case_by_itself_runs_as_it_may_have_failed():
    case = next(c for c in corpus() if c.layer == "Conv2D" and c not in firsts(2))
    session = Session(backends=["numpy"], cases=[f"values: {case.id}"])
    found = trials_of(session, ("Conv2D",))["Conv2D"]
    assert {trial.mode for trial in found} == {"compiled", "draft"} and len({trial.id for trial in found}) == 8
