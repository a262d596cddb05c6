"""The report as one HTML file, which needs no server and no network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from importlib import resources
from typing import Any

from layerhub_conformance.report.compare import Comparison
from layerhub_conformance.report.figures import NOT_RUN, Disagreement, Figures, disagreements, rank
from layerhub_conformance.report.markdown import version
from layerhub_conformance.report.model import LIMIT, VERDICTS, WITHOUT_GRADIENT, Cell, Finding, Result, Run
from layerhub_conformance.report.wording import moment, seconds, share

SYMBOLS = {"pass": "✓", "fail": "✗", "mistrusted": "?", "xfail": "△", "unsupported": "∅", NOT_RUN: "·"}
MEANINGS = {
    "pass": "passes",
    "fail": "fails",
    "mistrusted": "cannot be trusted: nothing ran, or nothing that could fail",
    "xfail": "fails as expected, with a reason on file",
    "unsupported": "the backend declares that it lacks this",
    NOT_RUN: "in the registry, but not run",
}
DTYPES = ("float64", "float32", "float16", "bfloat16")
MOST = 100
"""How many rows of one group are in the page; report.json has them all."""
FEW = 8
"""How many rows a group may have to be shown without being opened."""


class Html(str):
    """Text that is markup; any other text is escaped where it enters."""


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element. A trailing underscore in an attribute's name is dropped, others become hyphens."""
    return Html(f"<{name}{_attributes(**attributes)}>{join(children)}</{name}>")


def _attributes(**attributes: object) -> Html:
    return Html("".join(f' {k.rstrip("_").replace("_", "-")}="{html.escape(str(v))}"' for k, v in attributes.items()))


def join(children: Iterable[object]) -> Html:
    """Children one after another, escaped where they are not markup; None is nothing."""
    return Html("".join(c if isinstance(c, Html) else html.escape(str(c)) for c in children if c is not None))


def page(run: Run, figures: Figures, comparison: Comparison | None = None) -> str:
    """The whole page. With a comparison, it has a section of its own."""
    style, script = _asset("page.css"), _asset("page.js")
    sections = {
        "matrix": ("Matrix", _matrix(run, figures)),
        "who": ("Who disagrees", _who(run)),
        "compared": ("Compared", _compared(comparison) if comparison else None),
        "backends": ("Backends", _backends(run, figures)),
        "coverage": ("Coverage", _coverage(run)),
        "missing": ("Not run", _missing(figures)),
    }
    shown = {key: (title, Html(body)) for key, (title, body) in sections.items() if body}
    parts = {
        "title": html.escape(f"{figures.headline} – LayerHub conformance"),
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'",
        "style": style,
        "script": script,
        "header": _header(run, figures),
        "nav": join(tag("a", title, href=f"#{key}") for key, (title, _) in shown.items()),
        "sections": join(
            tag("section", tag("h2", title, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title")
            for key, (title, body) in shown.items()
        ),
        "data": _packed(run, figures),
    }
    return _filled("page.html", parts)


def _filled(name: str, parts: Mapping[str, str]) -> str:
    """A file with its places filled in: in one pass, so that nothing within a part is taken for a place."""
    return re.sub(r"<!--(\w+)-->", lambda place: parts[place[1]], _asset(name))


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _matrix(run: Run, figures: Figures) -> Html:
    """The filters and an empty table, which the script fills."""
    dtypes = dict.fromkeys(dtype for name in figures.backends for dtype in _types(run, name))
    kinds = dict.fromkeys(kind for kind, _ in figures.standings)
    legend = (tag("span", _symbol(verdict), f" {verdict}: {meaning}") for verdict, meaning in MEANINGS.items())
    parts = {
        "kinds": join(tag("option", kind) for kind in kinds),
        "chips": join(
            _chips(*field)
            for field in (
                ("backend", "Backend", figures.backends),
                ("dtype", "Type", dtypes),
                ("direction", "Direction", ("forward", "gradient")),
            )
        ),
        "legend": join(legend),
    }
    return Html(_filled("matrix.html", parts))


def _chips(name: str, title: str, values: Iterable[str]) -> Html:
    chips = (
        tag(
            "label",
            Html("<input" + _attributes(type="checkbox", name=name, value=value, checked="") + ">"),
            tag("span", value),
            class_="chip",
        )
        for value in values
    )
    return tag("fieldset", tag("legend", title), *chips)


def _header(run: Run, figures: Figures) -> Html:
    machine = ", ".join(f"Python {v}" if name == "python" else v for name, v in run.machine.items() if v)
    facts = (f"layerhub {run.layerhub}", f"suite {run.suite}", f"tier {run.tier}", moment(run.created), machine)
    state = figures.verdict if figures.verdict in SYMBOLS else NOT_RUN
    return join(
        [
            tag("p", "LayerHub conformance", class_="over"),
            tag("h1", _symbol(state), " ", figures.headline),
            tag("p", join(tag("span", fact) for fact in facts if fact), class_="facts"),
            _replay(run.command),
            _tiles(run, figures),
        ]
    )


def _symbol(verdict: str) -> Html:
    return tag("span", SYMBOLS[verdict], class_=f"mark {_class(verdict)}", aria_hidden="true")


def _class(verdict: str) -> str:
    return "v-" + verdict.replace(" ", "-")


def _replay(command: str) -> Html:
    return tag("div", tag("code", command), tag("button", "Copy", type="button", class_="copy"), class_="replay")


def _tiles(run: Run, figures: Figures) -> Html:
    specs, total = figures.specs, len(figures.standings)
    order = ("pass", "fail", "mistrusted", "xfail", "unsupported", NOT_RUN)
    standing = tag(
        "dl", join(_tile(v, f"{specs[v]:,}", mark=_symbol(v)) for v in order if specs[v]), class_="tiles standing"
    )
    covered = [pair for layer in run.coverage.values() for pair in layer.values()]
    rest = [
        ("trials", f"{figures.trials.total():,}"),
        ("of them failing", f"{figures.trials['fail'] + figures.trials['mistrusted']:,}"),
        ("cells", f"{figures.cells.total():,}"),
        (f"worst passing error (limit {LIMIT})", share(figures.worst)),
        ("time", seconds(run.seconds)),
    ]
    if covered:
        rest.append(
            ("of coverage reached", f"{100 * sum(c for c, _ in covered) / max(sum(t for _, t in covered), 1):.0f} %")
        )
    return join(
        [
            tag("h2", f"{total:,} specs in the registry"),
            _bar(specs, order),
            standing,
            tag("dl", join(_tile(name, value) for name, value in rest), class_="tiles"),
        ]
    )


def _tile(name: str, value: str, mark: Html | None = None) -> Html:
    return tag("div", tag("dt", mark, " " if mark else None, name), tag("dd", value))


def _bar(counts: Counter[str], order: Sequence[str]) -> Html:
    """A bar whose parts are as long as there are many; drawn as SVG, since the page allows no style attributes."""
    total, x, parts = max(counts.total(), 1), 0.0, []
    for verdict in order:
        width = 100 * counts[verdict] / total
        if width:
            parts.append(tag("rect", x=f"{x:.3f}", y=0, width=f"{width:.3f}", height=1, class_=_class(verdict)))
        x += width
    label = ", ".join(f"{counts[v]:,} {v}" for v in order if counts[v])
    return tag(
        "svg", join(parts), class_="bar", viewBox="0 0 100 1", preserveAspectRatio="none", role="img", aria_label=label
    )


def _table(head: Sequence[object], rows: Iterable[Sequence[object]], label: str) -> Html:
    body = (tag("tr", tag("th", first, scope="row"), join(tag("td", cell) for cell in rest)) for first, *rest in rows)
    table = tag(
        "table",
        tag("thead", tag("tr", join(tag("th", cell, scope="col") for cell in head))),
        tag("tbody", join(body)),
    )
    return tag("div", table, class_="box", tabindex="0", role="region", aria_label=label)


def _backends(run: Run, figures: Figures) -> Html:
    order = ("pass", "fail", "mistrusted", "xfail", "unsupported")
    rows = []
    for name, counts in figures.backends.items():
        about = run.backends.get(name, {})
        said = join([_bar(counts, order), ", ".join(f"{counts[v]:,} {v}" for v in order if counts[v])])
        facts = (
            _words(words) for words in (about.get("devices"), about.get("dtypes"), able(about), about.get("lacks"))
        )
        rows.append([name, version(about), said, *facts])
    return _table(("backend", "version", "cells", "devices", "types", "capabilities", "lacks"), rows, "Backends")


def able(about: Mapping[str, Any]) -> list[str]:
    """What a backend can do beyond values, and what it declares of its matrix products."""
    fast = (f"fast products in {dtype}, unit {unit:.2g}" for dtype, unit in about.get("fast_matmul", {}).items())
    return [*(name for name in ("gradients", "compiles") if about.get(name)), *fast]


def _words(value: Iterable[str] | Mapping[str, str] | None) -> Html:
    """A list, or a mapping of names to reasons, in words."""
    if isinstance(value, Mapping):
        return join(tag("p", f"{name}: {inner}") for name, inner in value.items()) or Html("–")
    return join([", ".join(value or ()) or "–"])


def _who(run: Run) -> Html:
    groups = disagreements(run)
    if not groups:
        return tag("p", "Nobody: no array of any case fails.")
    told = "Every array that fails, by the backends that fail on it. Where all fail, suspect the reference."
    return join([tag("p", told, class_="hint"), *(_group(who, rows) for who, rows in groups.items())])


def _group(who: str, rows: list[Disagreement]) -> Html:
    """A row for each array of a spec, with its worst case; the cell that it opens has the others."""
    arrays: dict[tuple[str, ...], list[Disagreement]] = {}
    for row in rows:
        arrays.setdefault((row.kind, row.subject, row.check, row.what, row.direction), []).append(row)
    table = _table(
        ("spec", "array", "cases", "types", "worst error", "pattern", "worst case"),
        [_array(max(same, key=lambda row: rank(row.worst)), same) for same in list(arrays.values())[:MOST]],
        f"Arrays that fail: {who}",
    )
    more = tag("p", f"and {len(arrays) - MOST:,} more in report.json", class_="hint") if len(arrays) > MOST else None
    subjects = list(dict.fromkeys(row.subject for row in rows))
    told = ", ".join(subjects[:8]) + (f" and {len(subjects) - 8:,} more" if len(subjects) > 8 else "")
    head = tag(
        "summary",
        tag("b", who),
        tag("span", f"{len(rows):,} {'array' if len(rows) == 1 else 'arrays'}"),
        tag("span", told),
    )
    opened = {"open": ""} if len(arrays) <= FEW else {}
    return tag("details", head, table, more, class_="who", **opened)


def _array(worst: Disagreement, same: list[Disagreement]) -> list[object]:
    place = json.dumps([worst.kind, worst.subject, worst.failing[0], worst.dtype, worst.direction])
    opener = tag("button", worst.subject, type="button", class_="link", data_cell=place)
    dtypes = ", ".join(sorted({row.dtype for row in same}))
    cases = len({row.case for row in same})
    return [opener, worst.what, f"{cases:,}", dtypes, share(worst.worst), worst.pattern or "–", tag("code", worst.case)]


def _compared(comparison: Comparison) -> Html:
    parts = [tag("p", f"Before: {comparison.old}. Now: {comparison.new}.", class_="hint")]
    parts += [tag("p", note, class_="hint") for note in comparison.notes]
    for title, changes in comparison:
        if not changes:
            parts.append(tag("p", f"{title}: none"))
            continue
        table = _table(("what", "before", "now"), ([c.name, c.old, c.new] for c in changes[:MOST]), title)
        more = tag("p", f"and {len(changes) - MOST:,} more", class_="hint") if len(changes) > MOST else None
        head = tag("summary", tag("b", title), tag("span", f"{len(changes):,}"))
        parts.append(tag("details", head, table, more, class_="who", open=""))
    return join(parts)


def _coverage(run: Run) -> Html | None:
    if not run.coverage:
        return None
    names = list(dict.fromkeys(name for layer in run.coverage.values() for name in layer))
    gaps = {layer: sum(total - covered for covered, total in found.values()) for layer, found in run.coverage.items()}
    rows = (
        [layer, *(_covered(*run.coverage[layer].get(name, (0, 0))) for name in names)]
        for layer in sorted(run.coverage, key=lambda layer: (-gaps[layer], layer))
    )
    full = sum(not gap for gap in gaps.values())
    told = f"{full:,} of {len(gaps):,} layers are covered in full; the others come first."
    table = _table(("layer", *(f"{name} covered" for name in names)), rows, "Coverage")
    return join(
        [tag("p", told, class_="hint"), tag("details", tag("summary", tag("b", "By layer")), table, class_="who")]
    )


def _covered(covered: int, total: int) -> Html:
    done = _bar(Counter({"pass": covered, NOT_RUN: total - covered}), ("pass", NOT_RUN)) if total else None
    return tag("span", f"{covered:,} of {total:,} ", done, class_="share") if total else Html("–")


def _missing(figures: Figures) -> Html | None:
    kinds: dict[str, list[str]] = {}
    for (kind, name), standing in figures.standings.items():
        if standing == NOT_RUN:
            kinds.setdefault(kind, []).append(name)
    rows = (tag("dt", f"{kind} ({len(names)})") + tag("dd", ", ".join(sorted(names))) for kind, names in kinds.items())
    return tag("dl", join(map(Html, rows)), class_="missing") if kinds else None


def _packed(run: Run, figures: Figures) -> str:
    """What the script needs, as gzip in base64: tables by columns, with each text once.

    40,000 trials take about 0.5 MB so.
    """
    texts: dict[str, int] = {}
    results = [replace(r.slim(), replay=r.replay.replace(r.case, "\0") if r.case else r.replay) for r in run.results]
    kinds = list(dict.fromkeys(kind for kind, _ in figures.standings))
    data = {
        "limit": LIMIT,
        "symbols": SYMBOLS,
        "verdicts": VERDICTS,
        "flat": WITHOUT_GRADIENT,
        "specs": sorted(([*spec, v] for spec, v in figures.standings.items()), key=lambda s: (kinds.index(s[0]), s[1])),
        "backends": [[name, _types(run, name)] for name in figures.backends],
        "cells": _columns(run.cells, Cell, texts),
        "results": _columns(results, Result, texts, leave=("id", "findings")),
        "findings": _columns([f for r in results for f in r.findings], Finding, texts),
        "of": [k for k, r in enumerate(results) for _ in r.findings],
        "texts": list(texts),
    }
    packed = gzip.compress(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)
    return base64.b64encode(packed).decode()


def _types(run: Run, backend: str) -> list[str]:
    found = {cell.dtype for cell in run.cells if cell.backend == backend}
    return sorted(found, key=lambda name: (DTYPES.index(name) if name in DTYPES else len(DTYPES), name))


def _columns(rows: Sequence[Any], cls: type, texts: dict[str, int], leave: Sequence[str] = ()) -> dict[str, Any]:
    """A table by columns: texts by their places in ``texts``, floats in few digits."""
    table: dict[str, dict[str, list[Any]]] = {"text": {}, "data": {}}
    for declared in fields(cls):
        values = [getattr(row, declared.name) for row in rows] if declared.name not in leave else None
        kind = str(declared.type)
        if values is None:
            continue
        if kind.startswith("str"):
            table["text"][declared.name] = [texts.setdefault(value or "", len(texts)) for value in values]
        elif kind.startswith("float"):
            digits = 9 if declared.name in ("got", "expected") else 3
            table["data"][declared.name] = [_short(value, digits) for value in values]
        else:
            table["data"][declared.name] = [int(value) if isinstance(value, bool) else value for value in values]
    return table


def _short(value: float | None, digits: int) -> float | str | None:
    if value is None:
        return None
    return (
        float(f"{value:.{digits}g}")
        if math.isfinite(value)
        else "NaN"
        if math.isnan(value)
        else "Infinity"
        if value > 0
        else "-Infinity"
    )
