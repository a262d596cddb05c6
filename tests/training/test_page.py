"""The page about training is typed in, and does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import layerhub as lh

PAGE = Path(__file__).parent.parent.parent / "docs" / "training.md"


def test_the_page_about_training_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    ran = subprocess.run([sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[:2] == ["['loss', 'mae', 'val_loss', 'val_mae']", "['loss', 'mae']"]
    for backend in lh.backends():
        assert f"{backend} ['cubic', 'loss', 'root_mean_square']" in lines
        assert f"{backend} own step True" in lines
        assert backend == "numpy" or f"{backend} native step True" in lines
