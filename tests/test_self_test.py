"""The suite's self-test, in small: right kernels pass, and a fixed part of the planted faults is found, every one."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner
from layerhub_conformance.report import Run
from layerhub_conformance.report.model import Result
from layerhub_conformance.selftest import catalogue, running, self_test, writing
from layerhub_conformance.selftest.faults import CLASSES, Fault, planted
from layerhub_conformance.selftest.score import CAUGHT, EQUIVALENT, SURVIVED, Record, Subject, differ
from layerhub_conformance.trial import conduct

from layerhub.registry import registry

SPECS = (
    "layer Dense", "layer Conv2D", "layer BatchNormalization", "layer Embedding", "layer GRUCell", "layer MaxPooling2D",
    "layer Dropout", "layer Concatenate", "layer DotProductAttention", "layer SeparableConv1D", "activation softmax",
    "activation gelu", "loss Huber", "loss CategoricalCrossentropy", "optimizer Adam",
)  # fmt: skip
OF_EACH = 10
"""How many faults of each class are planted here."""


def fixed() -> list[str]:
    """Some faults of each class, the same in every run."""
    rows = [(i.partition(":")[0], i.split(": ")[1], i) for i, shown in catalogue.catalogue().items() if shown]
    found = []
    for family in CLASSES:
        those = [fault for spec, of, fault in rows if spec in SPECS and of == family]
        found += random.Random(family).sample(those, OF_EACH)
    return found


def test_every_fault_of_a_fixed_part_is_found():
    records = running.run("numpy", fixed(), jobs=1)
    assert len(records) == OF_EACH * len(CLASSES)
    assert [record.id for record in records if record.verdict != CAUGHT] == []


@pytest.mark.parametrize(
    "spec", ["layer Dense", "layer SeparableConv1D", "activation gelu", "loss Huber", "optimizer SGD"]
)
def test_a_right_kernel_raises_no_alarm(spec):
    trials, alarms = Subject(*spec.split(), "numpy").unharmed()
    assert trials > 0
    assert alarms == []


def test_a_right_kernel_serves_what_its_layer_is_tried_with():
    subject = Subject("layer", "SeparableConv1D", "numpy")
    with planted(None, "numpy", "layer", "SeparableConv1D"):
        [trial, *_] = subject.trials(None)
        assert conduct(trial, subject.bench).served == ("kernel of user",)
    assert registry().kernels("numpy", "SeparableConv1D") == []


# The catalogue


def test_the_catalogue_holds_enough_of_each_class_for_every_spec():
    counting = {name: shown for name, shown in catalogue.catalogue().items() if shown}
    assert len(counting) >= 2000
    assert {name.split(": ")[1] for name in counting} == set(CLASSES)
    layers = Counter(name.partition(":")[0] for name in counting if name.startswith("layer "))
    assert set(layers) == {f"layer {name}" for kind, name in running.specs() if kind == "layer"}
    assert min(layers.values()) >= 5


def test_every_entry_of_the_catalogue_can_be_planted():
    assert running.missing() == []


def test_what_changes_nothing_is_equivalent_and_what_changes_something_is_not():
    subject = Subject("layer", "Dense", "numpy")
    same = Fault("layer", "Dense", "value", "nothing", after=lambda xp: lambda spec, arguments, found: found)
    other = Fault(
        "layer", "Dense", "value", "a bit", after=lambda xp: lambda spec, arguments, found: found * (1 + 1e-9)
    )
    assert subject.shown_by(same) is None
    assert subject.shown_by(other) == subject.cases[0].id


def test_differences_are_of_numbers_and_not_of_rounding():
    y = np.array([1.0, 1e-20, np.nan, np.inf])
    assert not differ([y * np.array([1 + 2**-52, 3, 1, 1])], [y])
    assert differ([y * np.array([1 + 1e-11, 1, 1, 1])], [y])
    assert differ([np.array([1.0, 1e-20, 0, np.inf])], [y])
    assert differ([y[:3]], [y])


# The score


def test_the_score_counts_what_is_a_fault_and_names_who_survived():
    records = [
        Record("layer A: value: one", CAUGHT, "values", "float32", "A()"), Record("layer A: value: two", EQUIVALENT),
        Record("layer B: gradient: three", SURVIVED, z=0.25),
    ]  # fmt: skip
    score = writing.Score("numpy", records, [running.Right("layer A", 7)], [running.Correct("numpy", 40, 0)])
    assert not score.good
    assert (score.as_dict()["caught"], score.as_dict()["faults"]) == (1, 2)
    page = score.markdown()
    assert "**1 of 2 faults were caught: 50 %.**" in page
    assert "| value | 1 | 1 | 100 % | 1 |" in page
    assert "- layer B: gradient: three (largest error: 0.25 of what is allowed)" in page
    assert "| numpy | 40 | 0 |" in page
    assert writing.Score("numpy", records[:2]).good
    alarmed = writing.Score("numpy", records[:2], [running.Right("layer A", 7, ("a wrong alarm",))])
    assert not alarmed.good
    assert "- a wrong alarm\n" in alarmed.markdown()
    assert "false alarm: a wrong alarm" in alarmed.text()


def test_the_command_plants_what_it_is_asked_for(tmp_path):
    given = ["--layer", "Dense", "--class", "gradient", "--sample", "3", "--jobs", "1", "--json"]
    done = CliRunner().invoke(self_test, [*given, "--write", str(tmp_path / "page.md")])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["caught"], said["faults"] + said["equivalent"]) == (said["faults"], 3)
    assert (tmp_path / "page.md").read_text(encoding="utf-8").startswith("# The suite's self-test\n")


def test_a_run_goes_on_where_it_was_left(tmp_path):
    ids = running.wanted("numpy", ("Dense",), ("gradient",), 2)
    kept = tmp_path / "kept.jsonl"
    first = running.run("numpy", ids, 1, kept)
    before = kept.read_text()
    assert running.run("numpy", ids, 1, kept) == first
    assert kept.read_text() == before


def test_reports_are_counted_by_backend(tmp_path):
    made = [Result(f"{v}{k}", "Dense", "layer", "values", "Dense()", "numpy", "float32", verdict=v)
            for k, v in enumerate(["pass", "pass", "fail", "unsupported"])]  # fmt: skip
    Run("", "", "", "", "", results=made).save(tmp_path / "report.json")
    assert running.counted([tmp_path / "report.json"]) == [running.Correct("numpy", 2, 1)]
