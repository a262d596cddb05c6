"""A trial as a script of its own, which needs LayerHub and the backend, and nothing of the suite."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layerhub.layers import serialize
from layerhub_conformance.bench import capabilities
from layerhub_conformance.reference import forward_only, reference
from layerhub_conformance.trial import Trial
from layerhub_conformance.verdict import SHARE

FEW = 64
"""Elements up to which an array is written as numbers."""

SCRIPT = '''"""{title}

Written by the conformance suite of LayerHub; runs with LayerHub and the backend alone. Exits with 1 while it fails.
"""

import base64
import sys

import numpy as np

import layerhub as lh


def packed(text, dtype, shape):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


layer = lh.layers.deserialize({layer})
names = {names!r}
# Asked for gradients, a backend may run other code.
calls = {{{calls}}}

# What the definition gives in float64, and how far a right result may be from it; NaN where nothing can be said.
expected = {{
{expected}
}}

got = {{}}
for how, cotangents in calls.items():
    found = lh.evaluate_layer(
        layer,
        inputs={inputs},
        weights={weights},
        mask={masks},
        initial_state={states},
        cotangents=cotangents,
        backend={backend!r},
        device={device!r},
        dtype={dtype!r},
        training={training!r},
        route={route!r},
        compiled={compiled!r},
    )
    got |= {{(f"output {{k}}", how): y for k, y in enumerate(found.outputs)}}
    got |= {{(f"{{name}} after the call", how): w for name, w in zip(names, found.weights)}}
    got |= {{(f"gradient of input {{k}}", how): g for k, g in enumerate(found.input_grads or [])}}
    got |= {{(f"gradient of {{name}}", how): g for name, g in zip(names, found.weight_grads or [])}}

wrong = False
for (what, how), y in got.items():
    if what not in expected:
        continue
    y, (value, bound) = np.asarray(y, np.float64), expected[what]
    right = (np.abs(y - value) <= bound) | (y == value) | (np.isnan(y) & np.isnan(value)) | np.isnan(bound)
    wrong |= not right.all()
    print(f"{{what}}{{how}}: {{int((~right).sum())}} of {{right.size}} elements are wrong")
    for index in np.argwhere(~right)[:3].tolist():
        at = tuple(index)
        print(f"    {{index}}: {{float(y[at])!r}}, expected {{float(value[at])!r}} within {{bound[at]:.3g}}")
sys.exit(wrong)
'''


def script(trial: Trial) -> str:
    """The text of the script for a trial of a case."""
    case, able = trial.subject, capabilities(trial.backend)
    drawn, layer = case.draw(trial.dtype), case.make(trial.dtype)
    wanted = reference(case, trial.dtype, able.arithmetic(trial.dtype))
    graded = able.gradients and case.differentiable
    wanted = wanted if graded else forward_only(wanted)
    calls = {"": _arrays(drawn.cotangents)} if graded else {}
    if not (graded and trial.compiled):
        calls[", without gradients" if graded else ""] = "None"
    rows = [f"    {e.what!r}: ({_array(e.value)}, {_array(SHARE * e.error)})," for e in wanted.arrays]
    return SCRIPT.format(
        title=f"{case.layer} on {trial.backend}, {trial.dtype}: {case.id}".replace("\\", "\\\\").replace('"""', ""),
        layer=json.dumps(serialize(layer)).replace("true", "True").replace("false", "False").replace("null", "None"),
        inputs=_arrays(drawn.inputs),
        weights=_arrays(drawn.weights),
        masks=_arrays(drawn.masks),
        states=_arrays(drawn.states) if drawn.states else None,
        backend=trial.backend,
        device=trial.device,
        dtype=trial.dtype,
        training=case.training,
        route=trial.route,
        compiled=trial.compiled,
        calls=", ".join(f"{how!r}: {cotangents}" for how, cotangents in calls.items()),
        names=[spec.name for spec in layer.weight_specs(*case.shapes)],
        expected="\n".join(rows),
    )


def write(trial: Trial, folder: Path) -> Path:
    """The script, in a folder, under a name that says what it is of."""
    short = hashlib.blake2b(trial.id.encode(), digest_size=4).hexdigest()
    path = folder / f"reproduce_{trial.subject.layer}_{trial.backend}_{trial.dtype}_{short}.py"
    path.write_text(script(trial), encoding="utf-8")
    return path


def _arrays(arrays: Sequence[Any]) -> str:
    return "[" + ", ".join("None" if x is None else _array(x) for x in arrays) + "]"


def _array(x: Any) -> str:
    x = np.ascontiguousarray(x).reshape(np.shape(x))
    if x.size <= FEW and (x.dtype.kind in "bi" or np.isfinite(x).all()):
        return f"np.array({x.tolist()!r}, {x.dtype.name!r}).reshape({x.shape!r})"
    return f"packed({base64.b64encode(x.tobytes()).decode()!r}, {x.dtype.str!r}, {x.shape!r})"
