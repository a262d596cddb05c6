"""Rules between parameters and sizes: for every one, something is made that breaks it first of all, and the error has
its number and words. (Bad values of single parameters: test_parameters.py.)
"""

from __future__ import annotations

import pytest
from layerhub_conformance.cases import corpus
from layerhub_conformance.generate.invalid import bad_rule
from layerhub_conformance.generate.problem import rules

from layerhub.errors import ParameterError, ShapeError
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub.spec.base import rule

registry()
LAYERS = sorted(name for name, origin in KINDS["layer"].origin.items() if origin == "layerhub")


def test_every_layer_has_examples():
    assert set(LAYERS) - {case.layer for case in corpus()} == set()


RULES = [(spec, rule.name) for spec in map(KINDS["layer"].find, LAYERS) for rule in rules(spec)]


@pytest.mark.parametrize(("spec", "violated"), RULES, ids=[f"{spec.__name__}-{name}" for spec, name in RULES])
def test_breaking_one_rule_is_told_in_its_words(spec, violated):
    starts = [case for case in corpus() if case.layer == spec.__name__ and case.data == "normal"]
    found = bad_rule(spec, violated, starts)
    assert found is not None, f"nothing was found that breaks {violated} of {spec.__name__} before any other"
    with pytest.raises((ParameterError, ShapeError)) as refused:
        layer = spec(**found.config)
        layer.output_shapes(*(found.shapes or ()))
    assert found.says in str(refused.value)
    assert spec.__name__ in str(refused.value)
    code, _, words = violated.partition("_")
    assert f"{code} {words.replace('_', ' ')}, but " == found.says


def test_a_rule_is_what_the_tests_above_take_for_one():
    @rule
    def c1_it_is_so(self):
        return True

    assert c1_it_is_so.role == "rule"
