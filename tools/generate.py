"""Writes what is generated into README.md: the table of layers and backends.

python tools/generate.py            write
python tools/generate.py --check    only say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from layerhub.registry import registry
from layerhub.spec import KINDS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- generated: layers -->", "<!-- end -->"


def table() -> str:
    """Layers by backends: what serves each."""
    names = [
        name for name in registry().usable() if registry().entries[name][1].name in ("numpy", "torch", "tensorflow")
    ]
    for name in names:
        registry().backend(name)
    lines = [f"| layer | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for layer in sorted(KINDS["layer"]):
        spec = KINDS["layer"].find(layer)
        without = "parts" if hasattr(spec, "compose") else "definition"
        cells = []
        for name in names:
            found = registry().kernels(name, layer)
            declines = any(kernel.when is not None for kernel in found)
            cells.append((f"kernel, else {without}" if declines else "kernel") if found else without)
        lines.append(f"| {layer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    fresh = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if "--check" in sys.argv:
        return 0 if fresh == text else print("README.md is out of date: python tools/generate.py") or 1
    README.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
