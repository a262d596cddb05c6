"""The page about models is typed in, and does what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_about_models_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    printed, names = io.StringIO(), {"__name__": "models_page"}
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    lines = printed.getvalue().splitlines()
    assert lines[:2] == ["(None, 4) (None, 2)", "(None, 8)"]
    assert lines[2] == "{'apart': 'ndarray', 'both': 'tuple'} (5, 3)"
    assert re.match(r"\(None, 7\) \['input_layer.*', 'mean.*', 'subtract.*', 'get_item.*', 'multiply.*'", lines[3])
    assert lines[4:6] == ["(None, 4) 10 (32, 2)", "Residual True"]
    assert lines[6] == "(None, 4) (None, 3) True"
    assert "dense was called 2 times" in lines[7] and lines[8] == "True (None, 4)"
    assert lines[9].startswith(
        "[(None, 4), (None, 5)] Merge: mode='concat' is an old spelling; say lh.layers.Concatenate"
    )
