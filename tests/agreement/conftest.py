"""The tests use the command's own modules: what is trained, and how it is compared."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
