"""Every check of every subject on every chosen backend."""

import pytest

from layerhub_conformance.session import packed
from layerhub_conformance.trial import screen


def test_backend_conforms(layerhub_item, layerhub_session, record_property):
    results = layerhub_session.run(layerhub_item)
    record_property("layerhub", packed(results))
    told = [screen(result) for result in results if result.verdict in ("fail", "mistrusted")]
    if told:
        more = [f"and {len(told) - 2} more trials of this case"] if len(told) > 2 else []
        pytest.fail("\n\n".join([*told[:2], *more]), pytrace=False)
    verdicts = {result.verdict for result in results}
    if verdicts == {"unsupported"}:
        pytest.skip(results[0].message)
    if verdicts == {"xfail"}:
        pytest.xfail(results[0].message)
