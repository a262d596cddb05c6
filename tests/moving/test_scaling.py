"""The examples of scaling out run, and give what one process gives; the page about it says what is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/scaling"
STARTS = {
    "torch_ddp.py": ["-m", "torch.distributed.run", "--nproc_per_node=2"],
    "tensorflow_mirrored.py": [],
    "jax_sharded.py": [],
}


def run(*arguments: str, **settings: str) -> str:
    """What Python printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1", **settings},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def gaps(said: str) -> dict[str, float]:
    return {what: float(gap) for what, gap in re.findall(r"^(.+): (\S+) apart$", said, re.MULTILINE)}


@pytest.mark.parametrize("name", STARTS)
def test_an_engine_that_shares_out_the_batch_gives_what_one_process_gives(name):
    pytest.importorskip(name.partition("_")[0])
    said = run(*STARTS[name], str(EXAMPLES / name))
    assert re.search(r"^(torch|tensorflow|jax), 2 (processes|devices)$", said, re.MULTILINE)
    assert gaps(said).keys() == {"losses", "weights", "predictions on numpy"}
    assert max(gaps(said).values()) < 1e-12
    assert said.rstrip().endswith("the same as in one process")
    # One model, one seed, one mathematics: the curve does not depend on the engine, nor on how many shares there are.
    assert "losses: 1.798965 1.618784 1.404338 1.093535 1.750248 1.028648" in said


COMPARISON = """
import sys
sys.path.insert(0, {folder!r})
from common import classifier, compare
model, other = classifier("numpy"), classifier("numpy")
weights = other.get_weights()
weights[0][0] += {change}
compare([2.0, {last}], [2.0, 1.0], model, weights)
"""


@pytest.mark.parametrize("change, last", [(1e-9, 1.0), (0.0, 1.0 + 1e-9), (0.0, 3.0)])
def test_the_comparison_of_the_examples_sees_a_difference(change, last):
    code = COMPARISON.format(folder=str(EXAMPLES), change=change, last=last)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "differ by more than rounding" in done.stderr


def programs(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_programs_of_the_page_run(tmp_path):
    pytest.importorskip("torch")
    found = programs("docs/scaling.md")
    assert len(found) >= 3
    program = tmp_path / "page.py"
    program.write_text("\n".join(found), encoding="utf-8")
    said = run("-W", "error", str(program))
    assert re.search(r"^numpy +cpu +[\d.]+", said, re.MULTILINE)


def test_the_page_shows_the_examples_as_they_are_and_how_they_are_started():
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    for name in STARTS:
        assert f"examples/scaling/{name}" in page
