"""The reference as Markdown: a page for each layer, one for each other kind, and an index."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from textwrap import dedent, fill
from typing import Any

from pictures import pictures

from layerhub.kernels import SIGNATURES
from layerhub.reference import describe, vocabulary
from layerhub.registry import registry
from layerhub.spec import KINDS, Spec

OURS = ("numpy", "torch", "tensorflow", "jax")
FOLDER = "docs/layers"
KIND_PAGES = {
    "activation": "activations",
    "loss": "losses",
    "optimizer": "optimizers",
    "schedule": "optimizers",
    "metric": "metrics",
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
}
FAMILIES = (
    "core", "convolution", "pooling", "reshaping", "recurrent", "attention", "normalization", "advanced", "noise",
    "merge", "wrappers",
)  # fmt: skip
"""The order of families in the index; what is not named here stands behind."""
GENERATED = "<!-- Written by tools/generate.py from the specs; edit those. -->"


def reference() -> dict[str, str]:
    """All pages and pictures of the reference: path and text."""
    found = {f"{FOLDER}/README.md": index()}
    for spec in members("layer"):
        drawn = pictures(spec)
        found |= {f"{FOLDER}/pictures/{picture.name}.svg": picture.svg for picture in drawn}
        found[f"{FOLDER}/{spec.__name__}.md"] = layer_page(spec, drawn)
    for page in dict.fromkeys(KIND_PAGES.values()):
        kinds = [kind for kind, where in KIND_PAGES.items() if where == page]
        for kind in kinds:
            for spec in members(kind):
                found |= {f"docs/pictures/{picture.name}.svg": picture.svg for picture in pictures(spec)}
        found[f"docs/{page}.md"] = kind_page(kinds)
    return found


def members(kind: str) -> list[type[Spec]]:
    """LayerHub's own specs of a kind, in the order in which they are defined."""
    return [KINDS[kind].find(name) for name in KINDS[kind] if KINDS[kind].origin[name] == "layerhub"]


# The index


def index() -> str:
    """All layers by family, with what serves each, and where else to look."""
    families: dict[str, list[type[Spec]]] = {}
    for spec in members("layer"):
        families.setdefault(spec.__module__.rpartition(".")[2], []).append(spec)
    order = [*(name for name in FAMILIES if name in families), *sorted(set(families) - set(FAMILIES))]
    names = backends()
    parts = [
        f"# Layers\n{GENERATED}",
        "Each page says what a layer means, takes, holds and gives, and which backends have a kernel of their own for "
        "it. `kernel` is such a function; `definition` and `parts` are the meaning, run on the backend's own arrays. "
        "`layerhub describe Conv2D` says the same in a terminal.",
        f"Layers of your own: [custom layers](../custom-layers.md). Beside layers: {others()}.",
        "## Axes\n\nShapes are given by names of axes. `*` stands before a name for several axes; `c/groups` and "
        "`4*units` are computed; the same name means the same size wherever it stands.",
        table(["name", "axis"], [[code(name), text(words)] for name, words in vocabulary()]),
    ]
    for family in order:
        title, about = module_words(families[family][0])
        rows = []
        for spec in families[family]:
            told = describe(spec)
            rows.append([f"[{told['name']}]({told['name']}.md)", text(told["summary"]), *served(spec, names)])
        parts += [f"## {title}", *([about] if about else []), table(["layer", "", *names], rows)]
    return "\n\n".join(parts) + "\n"


def others() -> str:
    """Links to the pages of other kinds."""
    pages = [f"[{page}](../{page}.md)" for page in dict.fromkeys(KIND_PAGES.values())]
    return f"{', '.join(pages[:-1])} and {pages[-1]}"


def module_words(spec: type[Spec]) -> tuple[str, str]:
    """A family's heading, and the rest of what its module says first."""
    first = re.split(r"\n\s*\n", (sys.modules[spec.__module__].__doc__ or "").strip())[0]
    heading, colon, about = first.replace("\n", " ").partition(":")
    if not colon:
        heading, about = spec.__module__.rpartition(".")[2].capitalize(), heading
    about = about.strip()
    return heading.strip().rstrip("."), text(about[:1].upper() + about[1:])


@cache
def backends() -> list[str]:
    """The backends that the tables tell of, loaded with their kernels. Without all of them nothing true can be told."""
    names = [name for name in registry().usable() if name in OURS]
    for name in names:
        registry().backend(name)
        registry().kernels(name, "Dense")
    missing = [f"{name} is not usable" for name in OURS if name not in names]
    problems = missing + [f"{problem.plugin}: {problem.reason}" for problem in registry().problems]
    if problems:
        sys.exit(f"the reference tells of {', '.join(OURS)}, but {'; '.join(problems)}")
    return names


def served(spec: type[Spec], names: Sequence[str]) -> list[str]:
    """What serves a spec on each backend."""
    without = "parts" if hasattr(spec, "compose") else "definition"
    cells = []
    for name in names:
        found = registry().kernels(name, spec.__name__, spec.kind.name)
        declines = bool(found) and all(kernel.when is not None for kernel in found)
        cells.append((f"kernel, else {without}" if declines else "kernel") if found else without)
    return cells


def counts() -> str:
    """How many layers there are, and for how many each backend has a kernel, in a sentence."""
    layers, names = members("layer"), backends()
    having = {name: sum(bool(registry().kernels(name, spec.__name__)) for spec in layers) for name in names}
    *first, last = (f"{name} for {count}" for name, count in having.items())
    return fill(
        f"There are {len(layers)} layers, each with a page in the [reference](docs/layers/README.md). Backends have "
        f"kernels of their own for some, {', '.join(first)} and {last}; the rest runs by its definition.",
        120,
    )


# A layer


def layer_page(spec: type[Spec], drawn: Sequence[Any]) -> str:
    """The page of a layer."""
    told = describe(spec)
    parts = [f"# {told['name']}\n{GENERATED}", *meaning(told)]
    parts += [f"![{picture.caption}](pictures/{picture.name}.svg)" for picture in drawn]
    parts += [f"```python\n{told['signature']}\n```"]
    if told["example"]:
        parts += ["## Example", f"```python\n{told['example']}\n```"]
    parts += ["## Parameters", parameter_table(told["parameters"], "../")]
    parts += ["## Shapes", shapes_table(told)]
    if told["weights"]:
        parts += ["## Weights", weights_table(told)]
    if told["axes"]:
        parts += [
            "Of these, the layer derives",
            "\n".join(f"- {code(row['axis'])}: {text(row['is'])}" for row in told["axes"]),
        ]
    if told["rules"]:
        parts += ["## Rules", rule_list(told["rules"])]
    parts += ["## Masks and calls", "\n".join(f"- {line}" for line in calls(told))]
    if told["formerly"] or told["keras_only"]:
        parts += ["## Older spellings", *spellings(told)]
    names = backends()
    parts += ["## Backends", table(names, [served(spec, names)])]
    parts += ["[All layers](README.md)"]
    return "\n\n".join(parts) + "\n"


def meaning(told: dict[str, Any]) -> Iterator[str]:
    """What it means, in paragraphs and formulas; what else it is called; sources."""
    for block in told["about"]:
        yield f"```\n{block['code']}\n```" if "code" in block else text(block["text"])
    if told["builds_on"]:
        home = "" if told["kind"] == "layer" else "#"
        end = ".md" if told["kind"] == "layer" else ""
        links = [f"[{name}]({home}{name if end else name.lower()}{end})" for name in told["builds_on"]]
        yield f"Builds on {', '.join(links)}."
    if told.get("parts"):
        yield "Made of parts: in the example " + ", ".join(f"[{name}]({name}.md)" for name in told["parts"]) + "."
    if told["aliases"]:
        yield f"Also called {', '.join(map(code, told['aliases']))}."
    for source in told["sources"]:
        yield text(source)


def parameter_table(rows: Sequence[dict[str, Any]], home: str) -> str:
    """Parameters: name, what they may be, what they are if nothing is said, what they mean."""
    if not rows:
        return "None."
    return table(
        ["parameter", "may be", "default", "meaning"],
        [
            [
                code(row["parameter"]),
                linked(row["domain"], home),
                "" if row["default"] == "required" else code(row["default"]),
                text(row["meaning"]),
            ]
            for row in rows
        ],
    )


def linked(domain: str, home: str) -> str:
    """A domain's words, with a link where they speak of a kind that has a page."""
    found = re.match(rf"(an? )({'|'.join(KIND_PAGES)})\b", domain)
    if not found:
        return text(domain)
    return f"{found[1]}[{found[2]}]({home}{KIND_PAGES[found[2]]}.md){text(domain[found.end() :])}"


def shapes_table(told: dict[str, Any]) -> str:
    """Inputs and outputs: axes, what is taken, and the sizes in the example."""
    rows = []
    for row in told["inputs"]:
        taken = [row["kind"]] * (row["kind"] != "float") + [row["given"]] * (row["given"] != "required")
        rows.append([code(row["input"]), code(row["axes"]), sizes(row["example"]), text(", ".join(taken))])
    for row in told["outputs"]:
        rows.append([f"→ {code(row['output'])}", code(row["axes"]), sizes(row["example"]), ""])
    return table(["", "axes", "in the example", ""], rows)


def weights_table(told: dict[str, Any]) -> str:
    """Weights: axes, sizes in the example, how they start, when they are there, whether they are trained."""
    rows = []
    for row in told["weights"]:
        notes = [f"with {row['when']}"] * bool(row["when"]) + ["state: moved by calls"] * (not row["trainable"])
        cells = [code(row["weight"]), code(row["axes"]), sizes(row["example"]), code(row["start"])]
        rows.append([*cells, text("; ".join(notes))])
    return table(["weight", "axes", "in the example", "starts by", ""], rows)


def rule_list(rules: Sequence[str]) -> str:
    """Rules by their numbers."""
    return "\n".join("- **{}** {}".format(*text(rule).split(" ", 1)) for rule in rules)


def calls(told: dict[str, Any]) -> Iterator[str]:
    """What a call may be told, and what becomes of masks."""
    yield f"Mask: {text(told['mask'])}."
    if told["call"]:
        yield f"A call may give {', '.join(code(name) for name in told['call'])}."


def spellings(told: dict[str, Any]) -> Iterator[str]:
    """Old names that are still taken."""
    if told["formerly"]:
        yield table(["old", "now"], [[code(row["old"]), text(row["now"])] for row in told["formerly"]])
    if told["keras_only"]:
        yield f"Configs of Keras may hold {', '.join(map(code, told['keras_only']))}, which mean nothing here."


# Other kinds

TITLES = {"schedule": "Learning-rate schedules"}


def kind_page(kinds: Sequence[str]) -> str:
    """The page of a kind, or of two that belong together."""
    title = KIND_PAGES[kinds[0]].capitalize()
    parts = [f"# {title}\n{GENERATED}"]
    for kind in kinds:
        specs = members(kind)
        told = [describe(spec) for spec in specs]
        shared = common(told)
        first, *rest = re.split(r"\n\s*\n", (sys.modules[specs[0].__module__].__doc__ or "").strip("\n"))
        if kind != kinds[0]:
            parts.append(f"# {TITLES.get(kind, kind.capitalize())}")
        parts.append(text(first.replace("\n", " ")))
        parts += [f"```\n{dedent(part)}\n```" if is_code(part) else text(part.replace("\n", " ")) for part in rest]
        parts.append(" · ".join(f"[{row['name']}](#{row['name'].lower()})" for row in told))
        if shared:
            rows = [row for row in told[0]["parameters"] if key(row) in shared]
            parts += [f"Most {plural(kind)} take:", parameter_table(rows, "")]
        said = set.intersection(*(set(row["rules"]) for row in told)) if len(told) > 1 else set()
        if said:
            parts += [f"Of all {plural(kind)}:", rule_list(sorted(said))]
        for spec, row in zip(specs, told, strict=True):
            row["rules"] = [rule for rule in row["rules"] if rule not in said]
            parts += list(section(spec, row, shared))
    return "\n\n".join(parts) + "\n"


def plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def section(spec: type[Spec], told: dict[str, Any], shared: set) -> Iterator[str]:
    """What a kind's page says about one of its members."""
    yield f"## {told['name']}"
    yield from meaning(told)
    yield from (f"![{picture.caption}](pictures/{picture.name}.svg)" for picture in pictures(spec))
    yield f"```python\n{told['signature']}\n```"
    own = [row for row in told["parameters"] if key(row) not in shared]
    if own:
        yield parameter_table(own, "")
    if told["rules"]:
        yield rule_list(told["rules"])
    having = [
        name
        for name in (backends() if told["kind"] in SIGNATURES else ())
        if registry().kernels(name, told["name"], told["kind"])
    ]
    if having:
        yield f"Kernels: {', '.join(having)}."


def common(told: Sequence[dict[str, Any]]) -> set:
    """The parameters that most members of a kind have in common, beside their own."""
    first = {key(row) for row in told[0]["parameters"]}
    most = {
        name for name in first if 2 * sum(name in {key(row) for row in each["parameters"]} for each in told) > len(told)
    }
    return most if len(told) > 4 else set()


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["parameter"], row["domain"], row["default"]


def is_code(paragraph: str) -> bool:
    """Whether a paragraph of a module's page is a listing: set in, or in two columns with room between them."""
    return all(line.startswith("    ") or re.search(r"\S {2,}\S", line) for line in paragraph.splitlines())


# Markdown


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, without columns in which nothing stands."""
    kept = [i for i, title in enumerate(head) if title or any(row[i] for row in rows)]
    kept = [i for i in kept if any(row[i] for row in rows)]
    lines = [[head[i] for i in kept], ["---"] * len(kept), *([row[i] for i in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def code(words: Any) -> str:
    """Words as code, also in a table."""
    return f"`{words}`".replace("|", "\\|") if str(words) else ""


def sizes(example: Any) -> str:
    """A shape in the example, or several."""
    if example is None:
        return ""
    shapes = example if isinstance(example, list) else [example]
    return ", ".join(code(tuple(shape)) for shape in shapes)


def text(words: str) -> str:
    """Words of a docstring as Markdown: code as code, sources linked, and nothing that Markdown would take amiss."""
    pieces = re.split(r"``(.+?)``", words)
    return "".join(code(piece) if at % 2 else escaped(piece) for at, piece in enumerate(pieces))


def escaped(words: str) -> str:
    words = re.sub(r"([*_<~|`])", r"\\\1", words)
    words = re.sub(r"(?<=\w)\\_(?=\w)", "_", words)
    words = re.sub(r"arXiv:([\w.\-]+/?\d+(?:\.\d+)?)", r"[arXiv:\1](https://arxiv.org/abs/\1)", words)
    return re.sub(r"doi:(10\.[^\s;,]*[^\s;,.)])", r"[doi:\1](https://doi.org/\1)", words)
