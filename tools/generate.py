"""Writes what is generated: the reference (see pages.py), the frozen corpus of the conformance suite, and in other
pages whatever stands between the comments ``<!-- generated: NAME -->`` and ``<!-- end -->``.

    python tools/generate.py            write
    python tools/generate.py --check    only say what is out of date
"""

from __future__ import annotations

import inspect
import io
import re
import sys
import textwrap
from contextlib import redirect_stdout
from pathlib import Path

import pages
from layerhub_conformance.checks import table
from layerhub_conformance.generate import freeze

from layerhub.namespace import STANDARD

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/conformance.md", "docs/writing-a-backend.md")


def minimal() -> str:
    """The smallest backend, whole."""
    return (
        f"```python\n{(ROOT / 'examples/minimal_backend/layerhub_minimal.py').read_text(encoding='utf-8').strip()}\n```"
    )


def standard() -> str:
    """The array functions that a backend must have."""
    return "\n".join(textwrap.wrap(" ".join(f"`{name}`" for name in STANDARD), 118))


def checks() -> str:
    """What the conformance suite checks."""
    rows = [f"| {check.name} | {inspect.getdoc(check.function).splitlines()[0]} |" for check in table().values()]
    return "\n".join(["| check | of what |", "|---|---|", *rows])


def output() -> str:
    """What the program at the top of the README prints."""
    program = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    printed = io.StringIO()
    with redirect_stdout(printed):  # in this process, where the frameworks are needed anyway
        exec(program, {"__name__": "__main__"})
    return f"```\n{printed.getvalue().strip()}\n```"


def generated(text: str) -> str:
    """A page with its generated parts made anew."""
    parts = {"counts": pages.counts, "minimal": minimal, "standard": standard, "output": output, "checks": checks}
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{parts[found[2]]()}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def fresh() -> dict[str, str]:
    """All that is generated: path and text."""
    texts = {page: generated((ROOT / page).read_text(encoding="utf-8")) for page in PAGES}
    corpus = {path.relative_to(ROOT).as_posix(): text for path, text in freeze().items()}
    return texts | corpus | pages.reference()


def left_over(texts: dict[str, str]) -> list[str]:
    """Files that were generated once and are not any more."""
    found = [*ROOT.glob("docs/layers/*.md"), *ROOT.glob("docs/**/pictures/*.svg")]
    return [path for path in (str(p.relative_to(ROOT).as_posix()) for p in sorted(found)) if path not in texts]


def main() -> int:
    check, texts = "--check" in sys.argv, fresh()
    stale = [page for page, text in texts.items() if not _says(ROOT / page, text)]
    surplus = left_over(texts)
    if check and (stale or surplus):
        print(f"out of date: {', '.join(stale + surplus)}; run: python tools/generate.py")
        return 1
    for page in stale:
        (ROOT / page).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / page).write_text(texts[page], encoding="utf-8")
    for page in surplus:
        (ROOT / page).unlink()
    return 0


def _says(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
