"""Writes the generated parts of the documentation: whatever stands between the comments
``<!-- generated: NAME -->`` and ``<!-- end -->``.

    python tools/generate.py            write
    python tools/generate.py --check    only say what is out of date
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from layerhub.namespace import STANDARD
from layerhub.registry import registry
from layerhub.spec import KINDS

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/writing-a-backend.md")
OURS = ("numpy", "torch", "tensorflow")


def layers() -> str:
    """Layers by backends: what serves each."""
    names = [name for name in registry().usable() if name in OURS]
    for name in names:
        registry().backend(name)
    lines = [f"| layer | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for layer in sorted(KINDS["layer"]):
        spec = KINDS["layer"].find(layer)
        without = "parts" if hasattr(spec, "compose") else "definition"
        cells = []
        for name in names:
            found = registry().kernels(name, layer)
            declines = bool(found) and all(kernel.when is not None for kernel in found)
            cells.append((f"kernel, else {without}" if declines else "kernel") if found else without)
        lines.append(f"| {layer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def minimal() -> str:
    """The smallest backend, whole."""
    return (
        f"```python\n{(ROOT / 'examples/minimal_backend/layerhub_minimal.py').read_text(encoding='utf-8').strip()}\n```"
    )


def standard() -> str:
    """The array functions that a backend must have."""
    return "\n".join(textwrap.wrap(" ".join(f"`{name}`" for name in STANDARD), 118))


def output() -> str:
    """What the program at the top of the README prints."""
    program = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return f"```\n{ran.stdout.strip()}\n```"


def generated(text: str) -> str:
    """A page with its generated parts made anew."""
    parts = {"layers": layers, "minimal": minimal, "standard": standard, "output": output}
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{parts[found[2]]()}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    stale = []
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        fresh = generated(text)
        if fresh != text:
            stale.append(page)
            if "--check" not in sys.argv:
                path.write_text(fresh, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}; run: python tools/generate.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
