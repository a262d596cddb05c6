"""A made-up run, to look at the pages and to test them: no backend is asked.

``python -m layerhub_conformance.report.sample out/`` writes its report. The same numbers come out every time.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from layerhub.spec import KINDS
from layerhub_conformance.report.figures import worse
from layerhub_conformance.report.model import Cell, Finding, Result, Run, largest

BACKENDS = {"numpy": "2.4.0", "torch": "2.13.0", "tensorflow": "2.21.0", "jax": "0.10.2"}
DTYPES = {"float32": 2.0**-24, "float64": 2.0**-53}


@dataclass(frozen=True)
class Fault:
    """What is wrong in the made-up run."""

    subject: str
    backends: str
    what: str
    pattern: str
    worst: float
    dtypes: str = "float32 float64"
    routes: str = "kernel"
    verdict: str = "fail"
    every: int = 4
    detail: str = ""

    def hits(self, subject: str, backend: str, dtype: str, route: str, case: int) -> bool:
        """Whether a trial has this fault."""
        places = backend in self.backends.split() and dtype in self.dtypes.split() and route in self.routes.split()
        return places and subject == self.subject and case % self.every == 0


FAULTS = [
    Fault("DepthwiseConv2D", "tensorflow", "output 0", "tail", 3.2e5, detail="strides (2, 2) with dilations (2, 2)"),
    Fault("Conv2DTranspose", "torch", "gradient of kernel", "one channel", 412.0),
    Fault("Dot", " ".join(BACKENDS), "output 0", "scale", 17.5, routes="kernel definition", detail="normalize=True"),
    Fault("LayerNormalization", "torch jax", "gradient of inputs", "everywhere", 2.31, "float32"),
    Fault("LogSoftmax", "numpy", "output 0", "one element", float("nan"), "float32"),
    Fault("GRU", "jax", "gradient of kernel", "sign", 9.7e4, every=9),
    Fault("AveragePooling3D", "tensorflow", "output 0", "tail", 88.0, verdict="xfail"),
]
BROKEN = {
    ("Embedding", "torch"): ("contract: inputs are not modified", "input 0 was changed at [0, 2]: 4 became 0"),
    ("Conv3D", "jax"): (
        "values",
        "NotImplementedError: no kernel for 3 dimensions\n  in Conv3D(filters=2)\n  in define",
    ),
}
LACKS = {"jax": {"ConvLSTM2D": "no scan over convolutions", "Lambda": "functions of one's own cannot be traced"}}
DOUBTS = {
    ("BatchNormalization", "numpy", "float32"): ("fail", "errors are 6 times larger than on correct backends"),
    ("Masking", "torch", "float32"): ("mistrusted", "constant outputs: nothing could have failed"),
    ("RandomFlip", "tensorflow", "float64"): ("mistrusted", "resolution too coarse: 3e-2, 1e-4 is needed"),
}
IDLE = ("InputLayer", "Lambda")


def sample(layers: int = 100, cases: int = 25, seed: int = 1) -> Run:
    """A run of that many layers, each with that many cases by two routes, on four backends in two types."""
    registry = {kind: sorted(names.members) for kind, names in KINDS.items()}
    names = [name for name in registry["layer"] if name not in IDLE]
    wanted = [f.subject for f in FAULTS] + [name for name, *_ in (*BROKEN, *DOUBTS) if name in names]
    chosen = sorted(set(wanted) | set(names[: max(layers - len(set(wanted)), 0)]))
    chosen += [name for name in names if name not in chosen][: layers - len(chosen)]
    registry["layer"] = sorted({*registry["layer"], *wanted})
    draw = random.Random(seed)
    results = [trial for subject in chosen for trial in _trials(draw, subject, cases)]
    return Run(
        created="2026-03-14T09:26:53+00:00",
        layerhub="0.1.0",
        suite="0.1.0",
        tier="certify",
        command="layerhub conformance --backend numpy --backend torch --backend tensorflow --backend jax --report out/",
        machine={"python": "3.11.2", "platform": "Linux x86_64", "cpu": "2 cores"},
        backends={name: _about(name, version) for name, version in BACKENDS.items()},
        registry=registry,
        results=results,
        cells=_cells(results),
        coverage={name: _coverage(draw) for name in chosen},
        seconds=round(sum(r.seconds for r in results), 1),
    )


def _about(name: str, version: str) -> dict:
    return {
        "name": name,
        "versions": {name: version},
        "devices": ["cpu"],
        "dtypes": list(DTYPES),
        "gradients": True,
        "compiles": name != "numpy",
        "lacks": LACKS.get(name, {}),
    }


def _coverage(draw: random.Random) -> dict[str, list[int]]:
    full = {"parameters": draw.randint(3, 14), "pairs": draw.randint(20, 240), "rules": draw.randint(1, 6)}
    gap = draw.random() < 0.2
    return {name: [total - (draw.randint(0, total // 6) if gap else 0), total] for name, total in full.items()}


def _trials(draw: random.Random, subject: str, cases: int) -> Iterator[Result]:
    ease = draw.uniform(0.15, 1.4)
    for k in range(cases):
        sizes = (draw.randint(1, 9), draw.randint(1, 9), draw.randint(1, 9))
        case = f'{subject}(units={draw.randint(1, 64)},activation="tanh",use_bias={k % 2 == 0});{sizes};training'
        for backend in BACKENDS:
            for dtype in DTYPES:
                for route in ("kernel", "definition"):
                    yield _trial(draw, subject, case, k, backend, dtype, route, ease * draw.uniform(0.4, 0.8))


def _trial(
    draw: random.Random, subject: str, case: str, k: int, backend: str, dtype: str, route: str, ease: float
) -> Result:
    mode = "compiled" if k % 7 == 3 and backend != "numpy" else "eager"
    result = Result(
        id=f"{backend}-{dtype}-{route}-{mode}-{case}",
        subject=subject,
        kind="layer",
        check=_check(subject, k),
        case=case,
        backend=backend,
        dtype=dtype,
        route=route,
        mode=mode,
        seconds=round(0.01 * ease * draw.random(), 4),
        served=(f"{backend}.{subject.lower()}",) if route == "kernel" else (),
        findings=tuple(
            _right(draw, what, dtype, ease) for what in ("output 0", "gradient of inputs", "gradient of kernel")
        ),
        replay=f"layerhub conformance --backend {backend} --dtype {dtype} --route {route} --case '{case}'",
    )
    if subject in LACKS.get(backend, {}):
        return replace(result, verdict="unsupported", message=LACKS[backend][subject], findings=(), served=())
    if route == "kernel" and k == 2 and (subject, backend) in BROKEN:
        return replace(result, verdict="fail", message=BROKEN[subject, backend][1], findings=())
    for fault in FAULTS:
        if fault.hits(subject, backend, dtype, route, k):
            findings = tuple(_wrong(draw, f, fault) if f.what == fault.what else f for f in result.findings)
            return replace(result, verdict=fault.verdict, findings=findings)
    return result


def _check(subject: str, k: int) -> str:
    return next((check for (name, _), (check, _) in BROKEN.items() if name == subject and k == 2), "values")


def _right(draw: random.Random, what: str, dtype: str, ease: float) -> Finding:
    worst, unit = ease * draw.uniform(0.1, 0.9), DTYPES[dtype]
    return Finding(
        what=what,
        direction="forward" if what.startswith("output") else "gradient",
        worst=round(worst, 4),
        size=draw.randint(4, 4096),
        resolution=unit * draw.uniform(20, 900),
        rms=round(worst / 4, 4),
        mean=round(draw.gauss(0, worst / 30), 4),
    )


def _wrong(draw: random.Random, right: Finding, fault: Fault) -> Finding:
    expected, bound = draw.gauss(0, 2), abs(draw.gauss(2e-7, 1e-7))
    return replace(
        right,
        right=False,
        worst=fault.worst,
        rms=fault.worst / 3,
        mean=fault.worst / 9,
        index=tuple(draw.randint(0, 6) for _ in range(3)),
        got=expected + fault.worst * bound,
        expected=expected,
        bound=bound,
        pattern=fault.pattern,
        detail=fault.detail,
    )


def _cells(results: list[Result]) -> list[Cell]:
    places: dict[tuple[str, str, str, str], list[tuple[Result, list[Finding]]]] = {}
    for r in results:
        for direction in r.directions if r.verdict != "unsupported" else ("forward", "gradient"):
            found = [f for f in r.findings if f.direction == direction]
            places.setdefault((r.subject, r.backend, r.dtype, direction), []).append((r, found))
    return [_cell(place, found) for place, found in places.items()]


def _cell(place: tuple[str, str, str, str], found: list[tuple[Result, list[Finding]]]) -> Cell:
    subject, backend, dtype, direction = place
    verdicts = Counter(result.verdict_in(direction) for result, _ in found)
    verdict = "unsupported"
    for each in verdicts:
        verdict = worse(verdict, each)
    doubt = DOUBTS.get(place[:3]) if direction == "forward" else None
    findings = [f for _, several in found for f in several]
    return Cell(
        subject=subject,
        backend=backend,
        dtype=dtype,
        direction=direction,
        verdict=doubt[0] if doubt else verdict,
        run=len(found) - verdicts["unsupported"],
        passed=verdicts["pass"],
        failed=verdicts["fail"],
        xfailed=verdicts["xfail"],
        unsupported=verdicts["unsupported"],
        worst=largest([f.worst for f in findings if f.worst is not None]),
        resolution=min((f.resolution for f in findings if f.resolution is not None), default=None),
        rms=largest([f.rms for f in findings if f.rms is not None]),
        seconds=round(sum(result.seconds for result, _ in found), 3),
        reasons=doubt[1:] if doubt else (),
    )


if __name__ == "__main__":
    from layerhub_conformance.report.files import write

    for path in write(sample(), sys.argv[1]):
        print(path)
