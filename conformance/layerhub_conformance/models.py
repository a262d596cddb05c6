"""A user's own model on several backends: outputs and gradients, layer by layer, and who is off.

Each layer is judged twice: by itself, given what the backend itself computed before it, which tells where an error
arises; and with all that came before, which tells how far it has come.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from layerhub.errors import BackendError, DataError, DTypeError
from layerhub.graph import Node, Tensor, between, lower
from layerhub.plan import Plan, Planner
from layerhub.probe import run_plan
from layerhub.registry import registry
from layerhub.running_error import RunningError
from layerhub_conformance.reference import DefinitionsOnly, Reference, read_plan
from layerhub_conformance.report.model import LIMIT, Finding
from layerhub_conformance.verdict import compare

UNKNOWN = 8
"""The size of an axis that a model leaves open, where no inputs are given; 2 for the batch."""


@dataclass
class Row:
    """An array of the model. layer, kind: whose. what: "output" or "gradient of kernel". shape: of the array.

    own: for each backend, the largest error that the layer makes by itself, as a share of its bound; not of gradients.
    whole: the same with all that came before. off: the backends that exceed a bound. apart: the largest difference
    between two backends, beside the largest value.
    """

    layer: str
    kind: str
    what: str
    shape: tuple[int, ...]
    whole: dict[str, float]
    own: dict[str, float | None] = field(default_factory=dict)
    off: list[str] = field(default_factory=list)
    apart: float = 0.0
    detail: list[str] = field(default_factory=list)


@dataclass
class Comparison:
    """What came of a model on several backends."""

    model: str
    backends: list[str]
    rows: list[Row]

    @property
    def agree(self) -> bool:
        return not any(row.off for row in self.rows)

    @property
    def conclusion(self) -> str:
        """Who is off, and where it begins."""
        for row in self.rows:
            if row.off:
                where = f"first in the {row.what} of {row.layer} ({row.kind}): {row.detail[0]}"
                return f"{self._who(row.off)} off, {where}"
        worst = max((share for row in self.rows for share in row.whole.values()), default=0.0)
        return f"no backend is off: errors are at most {worst:.2g} of their bounds ({LIMIT:g} is the limit)"

    def _who(self, off: Sequence[str]) -> str:
        if len(off) == 1:
            return f"{off[0]} alone is" if len(self.backends) > 1 else f"{off[0]} is"
        # Where nobody is right, the definition itself is in doubt.
        return "all backends, or the definition, are" if len(off) == len(self.backends) else f"{', '.join(off)} are"

    def text(self) -> str:
        """A table for a terminal, the conclusion last."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"{self.model} on {', '.join(self.backends)}", title_justify="left")
        for heading in ("layer", "", "shape", *self.backends, "apart"):
            table.add_column(heading)
        for row in self.rows:
            shares = [_shares(row.own.get(name), row.whole.get(name), name in row.off) for name in self.backends]
            apart = f"{row.apart:.1g}" if row.apart else "0"
            table.add_row(escape(f"{row.layer} ({row.kind})"), row.what, str(row.shape), *shares, apart)
        console = Console(width=140, record=True, file=io.StringIO())
        console.print(table)
        legend = (
            "own/whole: the largest error of a layer by itself, and with all before it, as shares of their bounds;\n"
        )
        legend += "apart: the largest difference between two backends, beside the largest value."
        return f"{console.export_text()}{legend}\n\n{self.conclusion}"

    def as_json(self) -> str:
        """Everything, as data."""
        return json.dumps(asdict(self) | {"agree": self.agree, "conclusion": self.conclusion}, indent=2)


def _shares(own: float | None, whole: float | None, off: bool) -> str:
    told = "/".join(f"{share:.2g}" for share in (own, whole) if share is not None)
    return f"{told} OFF" if off else told or "-"


def compare_model(
    model: Any,
    backends: Sequence[str] | None = None,
    inputs: Any = None,
    training: bool = False,
    seed: int = 0,
) -> Comparison:
    """Run a model on several backends, and compare what each of its layers gives with what its definition means.

    backends: names; None takes all that are usable. inputs: an ndarray, or a list of them; None draws some. seed: of
    inputs and cotangents that are drawn. The model is left as it is. Raises LayerHubError where it cannot be run.
    """
    names = list(backends or registry().usable())
    subject = Subject(model, training, seed)
    arrays = subject.arrays(inputs)
    wanted = subject.reference(arrays)
    given = {name: subject.run(name, arrays) for name in names}
    rows = [subject.output_row(k, wanted, given, arrays) for k in range(len(subject.taps))]
    rows += [subject.gradient_row(k, wanted, given) for k in subject.trained]
    return Comparison(model.name, names, rows)


@dataclass
class Given:
    """What a backend gave: the output of every layer, their masks, the gradient of every weight."""

    outputs: list[np.ndarray]
    masks: list[np.ndarray | None]
    gradients: list[np.ndarray | None]


class Subject:
    """A model, opened up so that every layer's output is seen."""

    def __init__(self, model: Any, training: bool, seed: int):
        self.model, self.training, self.seed = model, training, seed
        self.nodes: list[Node] = between(model.inputs, model.outputs)
        self.taps: list[tuple[Node, Tensor]] = [(node, y) for node in self.nodes for y in node.outputs]
        self.tensors = [y for _, y in self.taps]
        layers = [layer for layer in model.layers if not hasattr(layer, "lower")]
        types = sorted({dtype for layer in layers for dtype in (layer.compute_dtype, layer.variable_dtype)})
        if len(types) > 1:
            raise DTypeError(f"{model.name} computes in several types ({', '.join(types)}): compare it in one of them")
        self.dtype = model.outputs[0].dtype
        self.plan = self._plan(DefinitionsOnly(), "", "definition")
        self.names = [f"{slot.layer.label}/{slot.spec.name}" for slot in self.plan.slots]
        self.trained = [k for k, slot in enumerate(self.plan.slots) if slot.spec.trainable]
        rng = np.random.default_rng([seed, 1])
        finals = {id(y) for y in model.outputs}
        self._draw = lambda y, shape: rng.normal(size=shape).astype(self.dtype) if id(y) in finals else None
        self.cotangents: list[np.ndarray | None] = []

    def _plan(self, known: Any, backend: str, route: str) -> Plan:
        planner = Planner(known, backend, self.training, self.model.seed, route)
        values = [planner.input(x.shape, x.dtype) for x in self.model.inputs]
        return planner.plan(lower(planner, self.model.inputs, self.tensors, values))

    def weights(self, plan: Plan) -> list[np.ndarray]:
        """The model's weights, as a plan numbers them."""
        stores = {id(slot.layer): slot.layer.store.by_name() for slot in plan.slots}
        return [stores[id(slot.layer)][slot.spec.name].numpy() for slot in plan.slots]

    def arrays(self, given: Any) -> list[np.ndarray]:
        """Inputs, drawn where none are given."""
        if given is not None:
            found = [np.asarray(x) for x in (given if isinstance(given, (list, tuple)) else [given])]
            if len(found) != len(self.model.inputs):
                raise DataError(f"{self.model.name} takes {len(self.model.inputs)} inputs, {len(found)} were given")
            return [x.astype(declared.dtype) for x, declared in zip(found, self.model.inputs, strict=True)]
        rng = np.random.default_rng([self.seed, 0])
        return [self._drawn(x, rng) for x in self.model.inputs]

    def _drawn(self, x: Tensor, rng: np.random.Generator) -> np.ndarray:
        shape = tuple((2 if axis == 0 else UNKNOWN) if size is None else size for axis, size in enumerate(x.shape))
        looked_up = [n.layer.input_dim for n in self.nodes if x in n.sources and hasattr(n.layer, "input_dim")]
        if looked_up or not x.dtype.startswith(("float", "bfloat")):
            return rng.integers(0, min(looked_up, default=2), size=shape).astype(x.dtype)
        return rng.normal(size=shape).astype(x.dtype)

    def reference(self, arrays: Sequence[np.ndarray]) -> Reference:
        """What the definitions give, with bounds."""
        shapes = self._shapes(arrays)
        self.cotangents = [self._draw(y, shape) for y, shape in zip(self.tensors, shapes, strict=True)]
        return read_plan(
            self.plan, self.names, self.weights(self.plan), arrays, RunningError.of(self.dtype), self.cotangents
        )

    def _shapes(self, arrays: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
        planner = Planner(DefinitionsOnly(), "", self.training, self.model.seed, "definition")
        values = [planner.input(a.shape, x.dtype) for a, x in zip(arrays, self.model.inputs, strict=True)]
        return [value.shape for value in lower(planner, self.model.inputs, self.tensors, values)]  # type: ignore[misc]

    def run(self, name: str, arrays: Sequence[np.ndarray]) -> Given:
        """The model on a backend."""
        backend = registry().backend(name)
        if self.dtype not in backend.dtypes:
            raise BackendError(
                f"the backend {name!r} has no {self.dtype}; its float types: {', '.join(backend.dtypes)}"
            )
        plan, device = self._plan(registry(), name, "kernel"), backend.check_device(None)
        held = [backend.asarray(w, None, device) for w in self.weights(plan)]
        inputs = [backend.asarray(x, None, device) for x in arrays]
        outputs, _, masks, _ = run_plan(plan, backend, device, held, inputs, who=self.model.name)
        gradients = None
        if backend.has_gradients:
            # Asked for gradients, a backend may run other code than it runs without.
            cotangents = [None if c is None else backend.asarray(c, None, device) for c in self.cotangents]
            gradients = run_plan(plan, backend, device, held, inputs, (), cotangents, who=self.model.name)[3]
        fetch = backend.to_numpy
        places = {(id(slot.layer), slot.spec.name): k for k, slot in enumerate(plan.slots)}
        found = gradients[len(inputs) :] if gradients is not None else []
        order = [places[id(slot.layer), slot.spec.name] for slot in self.plan.slots] if found else []
        return Given(
            [np.asarray(fetch(y)) for y in outputs],
            [None if m is None else np.asarray(fetch(m)) for m in masks],
            [None if found[k] is None else np.asarray(fetch(found[k])) for k in order],
        )

    # Rows

    def output_row(self, k: int, wanted: Reference, given: Mapping[str, Given], arrays: Sequence[np.ndarray]) -> Row:
        """What a layer gives on all backends."""
        node, y = self.taps[k]
        whole = {name: compare(wanted.arrays[k], found.outputs[k], y.dtype) for name, found in given.items()}
        own = {name: self._by_itself(node, y, found, k, arrays) for name, found in given.items()}
        row = self._row(node.layer.label, node.layer, "output", {n: g.outputs[k] for n, g in given.items()}, whole)
        row.own = {name: finding.worst or 0.0 for name, finding in own.items()}
        row.off = [name for name in given if not own[name].right or not whole[name].right]
        row.detail = [f.detail for f in (*own.values(), *whole.values()) if not f.right]
        return row

    def gradient_row(self, k: int, wanted: Reference, given: Mapping[str, Given]) -> Row:
        """The gradient of a weight on all backends that differentiate."""
        expected = next(e for e in wanted.arrays if e.what == f"gradient of {self.names[k]}")
        found = {name: g.gradients[k] for name, g in given.items() if g.gradients}
        whole = {name: compare(expected, array, self.dtype) for name, array in found.items()}
        layer = self.plan.slots[k].layer
        return self._row(layer.label, layer, f"gradient of {self.plan.slots[k].spec.name}", found, whole)

    def _row(
        self, label: str, layer: Any, what: str, found: Mapping[str, np.ndarray | None], whole: Mapping[str, Finding]
    ) -> Row:
        arrays = [np.asarray(x, np.float64) for x in found.values() if x is not None]
        scale = max((float(np.abs(x).max()) for x in arrays if x.size), default=0.0) or 1.0
        apart = max((float(np.abs(a - b).max()) / scale for a in arrays for b in arrays if a.size), default=0.0)
        return Row(
            label, type(layer).__name__, what, arrays[0].shape if arrays else (),
            {name: finding.worst or 0.0 for name, finding in whole.items()},
            off=[name for name, finding in whole.items() if not finding.right], apart=apart,
            detail=[finding.detail for finding in whole.values() if not finding.right],
        )  # fmt: skip

    def _by_itself(self, node: Node, y: Tensor, found: Given, k: int, arrays: Sequence[np.ndarray]) -> Finding:
        """A layer judged on what the backend itself gave it."""
        seen = dict(zip(self.tensors, zip(found.outputs, found.masks, strict=True), strict=True))
        seen |= {x: (array, None) for x, array in zip(self.model.inputs, arrays, strict=True)}
        sources = list(dict.fromkeys(node.sources))
        planner = Planner(DefinitionsOnly(), "", self.training, self.model.seed, "definition")
        values = [planner.input(seen[x][0].shape, x.dtype, seen[x][1] is not None) for x in sources]
        place = str(list(dict.fromkeys(n.layer for n in self.nodes)).index(node.layer))
        known = dict(zip(sources, values, strict=True))
        taken = [None if x is None else known[x] for x in node.inputs]
        if hasattr(node.layer, "lower"):
            made = node.layer.lower(planner, taken, f"{place}/")
        else:
            made = planner.call(node.layer, taken, place, [known[x] for x in node.states], node.options)
        plan = planner.plan([made[list(node.outputs).index(y)]])
        masks = tuple(seen[x][1] for x in sources if seen[x][1] is not None)
        names = [None] * len(plan.slots)
        inputs = [seen[x][0] for x in sources]
        reference = read_plan(plan, names, self.weights(plan), inputs, RunningError.of(self.dtype), [None], masks)  # type: ignore[arg-type]
        return compare(reference.arrays[0], found.outputs[k], y.dtype)
