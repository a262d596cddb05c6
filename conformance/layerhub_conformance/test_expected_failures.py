"""The list of known failures holds nothing that is not so."""

import pytest

from layerhub_conformance.cases import corpus
from layerhub_conformance.plugin import expected_failures
from layerhub_conformance.test_training import LOSSES, OPTIMIZERS, said


@pytest.mark.parametrize("known", expected_failures(), ids=lambda known: f"{known['backend']}-{known['case']}")
def test_every_expected_failure_matches_a_case_and_gives_a_reason(known):
    names = [case.id for case in corpus()] + [said(spec) for spec in (*LOSSES, *OPTIMIZERS)]
    assert any(name.startswith(known["case"]) for name in names), "no case begins so: strike the entry"
    assert len(known["reason"].split()) > 5
