"""Faults that backends could have, each planted in the right kernel of one spec.

A fault changes what a spec means (``value``, over any namespace), what becomes of its results (``after``), or what is
given for gradients (``pull``). All are made generically, from what a spec declares; variants are drawn by their names.
"""

from __future__ import annotations

import math
import random
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub.spec.layer import Result, Weight
from layerhub_conformance.selftest import bent
from layerhub_conformance.selftest.bent import rounded
from layerhub_conformance.selftest.right import (
    After,
    Pull,
    Value,
    as_result,
    differentiable,
    kernel_of,
    listed,
    meaning,
)

CLASSES = ("value", "parameter", "argument", "numeric", "gradient", "contract")


@dataclass(frozen=True)
class Fault:
    """kind, name: of the spec whose kernel has it. family: one of ``CLASSES``. what: it is, in a few words.

    silent: it need not change a value: to be held to its contract, a kernel must do more than compute.
    bare: its kernel has no VJP: asked for gradients, the core takes the definition, so the kernel serves without them.
    """

    kind: str
    name: str
    family: str
    what: str
    value: Callable[[], Value] | None = None
    after: Callable[[Any], After] | None = None
    pull: Callable[[], Pull] | None = None
    silent: bool = False
    bare: bool = False

    @property
    def id(self) -> str:
        """One line, the same in every run."""
        return f"{self.kind} {self.name}: {self.family}: {self.what}"

    @property
    def needs_core_gradients(self) -> bool:
        """Whether it can be planted only where the core differentiates."""
        return self.pull is not None


@contextmanager
def planted(fault: Fault | None, backend: str, kind: str = "", name: str = "") -> Iterator[None]:
    """A fault at work; of None the right kernel of a spec."""
    if fault is None:
        kernel = kernel_of(kind, name, backend)
    else:
        kind, name = fault.kind, fault.name
        xp = registry().backend(backend).xp
        kernel = kernel_of(
            kind, name, backend, fault.value() if fault.value else meaning,
            fault.after(xp) if fault.after else None, fault.pull() if fault.pull else None,
        )  # fmt: skip
        kernel.backward = None if fault.bare else kernel.backward
    registry().override(backend, name, kernel, kind)
    try:
        yield
    finally:
        registry().override(backend, name, None, kind)


# What becomes of an array: change(xp, y)

Change = Callable[[Any, Any], Any]


def scaled(share: float) -> Change:
    return lambda xp, y: y * (1 + share)


def at_one_place(place: float, share: float) -> Change:
    def change(xp: Any, y: Any) -> Any:
        size = math.prod(y.shape)
        here = xp.reshape(xp.arange(size) == int(place * size), y.shape)
        return xp.where(here, y * (1 + share), y)

    return change


def without_tail(axis: int) -> Change:
    def change(xp: Any, y: Any) -> Any:
        if y.ndim < max(axis + 1, -axis) or y.shape[axis] < 2:
            return y
        counts = xp.reshape(xp.arange(y.shape[axis]), (-1, *(1,) * (y.ndim - 1 - axis % y.ndim)))
        return xp.where(counts == y.shape[axis] - 1, xp.zeros_like(y), y)

    return change


def first_for_all(xp: Any, y: Any) -> Any:
    """The first sample's value for each sample."""
    return xp.broadcast_to(y[:1], y.shape) + xp.zeros_like(y) if y.ndim and y.shape[0] else y


def turned(xp: Any, y: Any) -> Any:
    """Each row one place further along the last axis."""
    return xp.concat([y[..., -1:], y[..., :-1]], axis=-1) if y.ndim and y.shape[-1] > 1 else y


CHANGES: dict[str, Change] = {
    **{f"everything larger by {share:g}": scaled(share) for share in (1e-3, 1e-4, 1e-5, 1e-6)},
    "the sign": lambda xp, y: -y,
    "shifted by 1e-4": lambda xp, y: y + 1e-4,
    "rounded to 11 bits": lambda xp, y: rounded(xp, y, 11),
    "rounded to 8 bits": lambda xp, y: rounded(xp, y, 8),
    "rounded to 18 bits": lambda xp, y: rounded(xp, y, 18),
    "the last channel is zero": without_tail(-1),
    "the last sample is zero": without_tail(0),
    "the last step is zero": without_tail(1),
    "the first sample for all": first_for_all,
    "channels one place further": turned,
    "NaN becomes zero": lambda xp, y: xp.where(xp.isnan(y), xp.zeros_like(y), y),
    "at most 50": lambda xp, y: xp.where(y > 50, xp.full_like(y, 50), y),
    "small ones become zero": lambda xp, y: xp.where(xp.abs(y) < 1e-6, xp.zeros_like(y), y),
}
SHARES = (1e-3, 1e-4, 1e-5, 1e-6)


def changed(part: str, number: int, change: Change) -> Callable[[Any], After]:
    """A change of one output, state or new weight."""

    def made(xp: Any) -> After:
        def after(spec: Any, arguments: Any, found: Any) -> Any:
            result = as_result(found)
            parts = {"output": listed(result.outputs), "state": result.states, "weight": tuple(result.weights.values())}
            if number >= len(parts[part]) or not differentiable(parts[part][number]):
                return found
            row = list(parts[part])
            row[number] = change(xp, row[number])
            if part == "output":
                outputs = tuple(row) if isinstance(result.outputs, tuple) else row[0]
                return result._replace(outputs=outputs) if isinstance(found, Result) else outputs
            if part == "state":
                return result._replace(states=tuple(row))
            return result._replace(weights=dict(zip(result.weights, row, strict=True)))

        return after

    return made


# Values


def value_faults(kind: str, name: str) -> Iterator[Fault]:
    """What a result may be off by: at one place or everywhere, by much or by little."""
    make = partial(Fault, kind, name, "value")
    rng = random.Random(f"{kind} {name}")
    placed = {}
    for share in SHARES * 2:
        place = round(rng.random(), 3)
        placed[f"larger by {share:g} at {place:g} of all"] = at_one_place(place, share)
    placed["one sign"] = at_one_place(round(rng.random(), 3), -2.0)
    for what, change in (placed | CHANGES).items():
        if kind == "optimizer":
            yield make(what, after=partial(_of_weights, change))
            yield make(f"slots: {what}", after=partial(_of_slots, change))
        else:
            yield make(what, after=changed("output", 0, change))
    if kind != "layer":
        return
    spec: Any = KINDS[kind].find(name)
    for number in range(2 if hasattr(spec, "return_state") or "return_state" in spec.parameters else 0):
        for what in ("everything larger by 1e-05", "rounded to 11 bits", "the last channel is zero"):
            yield make(f"state {number}: {what}", after=changed("state", number, CHANGES[what]))
    moved = [d for d in getattr(spec, "held", ()) if isinstance(d, Weight) and not d.trainable]
    for number, declared in enumerate(moved):
        for what in ("everything larger by 1e-05", "rounded to 11 bits", "the sign"):
            yield make(f"new {declared.name}: {what}", after=changed("weight", number, CHANGES[what]))


def _of_weights(change: Change, xp: Any) -> After:
    return lambda spec, arguments, found: ([change(xp, w) for w in found[0]], found[1])


def _of_slots(change: Change, xp: Any) -> After:
    return lambda spec, arguments, found: (found[0], [tuple(change(xp, s) for s in row) for row in found[1]])


# Parameters

UNTOLD = {
    "layer": ("name", "dtype", "trainable", "activity_regularizer", "seed", "initial_seed"),
    "optimizer": (
        "name", "learning_rate", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum",
        "ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps",
    ),
    "loss": ("name", "reduction", "dtype"),
    "activation": (),
}  # fmt: skip
"""Parameters that kernels do not act on."""


def parameter_faults(kind: str, name: str) -> Iterator[Fault]:
    """Another valid value in the place of a parameter's."""
    spec: Any = KINDS[kind].find(name)
    for parameter in spec.parameters.values():
        if parameter.name in UNTOLD[kind] or parameter.name.endswith(("_initializer", "_regularizer", "_constraint")):
            continue
        for how, other in _others(parameter):
            what = f"{parameter.name} {how}"
            yield Fault(kind, name, "parameter", what, value=partial(_misreading, parameter.name, other))


def _others(parameter: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """(how it is changed, other value for value); None says that there is none."""
    valid = [v for v in parameter.domain.valid if not callable(v)]
    for value in valid[:4]:
        yield f"is always {value!r}", lambda old, value=value: value
    default = [] if callable(parameter.default) else [parameter.default]
    if any(isinstance(v, float) for v in valid + default):
        yield "half as large again", lambda old: old * 1.5 if isinstance(old, float) else None
        yield "larger by 1e-3", lambda old: old * 1.001 if isinstance(old, float) else None
    if any(isinstance(v, int) and not isinstance(v, bool) for v in valid + default):
        yield "larger by one", _one_more
        yield "smaller by one", lambda old: _one_more(old, -1)
        yield "in reverse order", lambda old: old[::-1] if isinstance(old, tuple) else None


def _one_more(old: Any, step: int = 1) -> Any:
    if isinstance(old, tuple) and old and isinstance(old[0], int):
        return (old[0] + step, *old[1:])
    return old + step if isinstance(old, int) and not isinstance(old, bool) else None


def _misreading(name: str, other: Callable[[Any], Any]) -> Value:
    """A meaning with another value of a parameter, made to fit the right one's shapes."""

    @cache
    def misread(spec: Any) -> Any:
        old = getattr(spec, name)
        new = other(old)
        if new is None and old is None:
            return None
        # What is no legal configuration is served as it should be.
        try:
            return spec.replace(**{name: new})
        except (ValueError, TypeError):
            return None

    def value(spec: Any, xp: Any, *arguments: Any) -> Any:
        right = meaning(spec, xp, *arguments)
        wrong = misread(spec)
        if wrong is None:
            return right
        # Other values may need other weights; where what is there does not do, the right result is given.
        try:
            return _fitted(xp, meaning(wrong, xp, *arguments), right)
        except Exception:
            return right

    return value


def _fitted(xp: Any, wrong: Any, right: Any) -> Any:
    """A result cut, and filled with zeros, to the shapes of another."""
    if isinstance(right, Result):
        wrong = as_result(wrong)
        return Result(
            _fitted(xp, wrong.outputs, right.outputs),
            {k: _fitted(xp, wrong.weights[k], w) for k, w in right.weights.items()},
            _fitted(xp, wrong.states, right.states),
        )
    if isinstance(wrong, Result):
        wrong = wrong.outputs
    if isinstance(right, tuple):
        return tuple(_fitted(xp, w, r) for w, r in zip(wrong, right, strict=True))
    if len(wrong.shape) != len(right.shape):
        raise ValueError("another number of axes")
    cut = wrong[tuple(slice(0, n) for n in right.shape)]
    missing = [(0, n - m) for n, m in zip(right.shape, cut.shape, strict=True)]
    return xp.pad(cut, tuple(missing), 0.0) if any(after for _, after in missing) else cut


# Arguments

Turn = Callable[[Any, Any], Any]
"""``turn(xp, x)`` gives another argument of the same shape."""


def _flipped(axis: int) -> Turn:
    return lambda xp, x: xp.flip(x, axis=axis) if len(x.shape) > max(axis, -axis - 1) else x


def _swapped(a: int, b: int) -> Turn:
    def turn(xp: Any, x: Any) -> Any:
        ndim = len(x.shape)
        if ndim < max(a + 1, -a, b + 1, -b) or a % ndim == b % ndim or x.shape[a] != x.shape[b]:
            return x
        axes = list(range(ndim))
        axes[a], axes[b] = axes[b], axes[a]
        return xp.permute_dims(x, tuple(axes))

    return turn


def _blocks(count: int) -> Turn:
    """The blocks of the last axis (gates, heads) in reverse order."""

    def turn(xp: Any, x: Any) -> Any:
        if not x.shape or x.shape[-1] % count or x.shape[-1] < count:
            return x
        size = x.shape[-1] // count
        return xp.concat([x[..., k * size : (k + 1) * size] for k in reversed(range(count))], axis=-1)

    return turn


def _late(axis: int) -> Turn:
    """Shifted by one, a zero first: padding that is off by one."""

    def turn(xp: Any, x: Any) -> Any:
        if len(x.shape) <= axis + 1 or x.shape[axis] < 2:
            return x
        lead = (slice(None),) * axis
        return xp.concat([xp.zeros_like(x[(*lead, slice(0, 1))]), x[(*lead, slice(0, -1))]], axis=axis)

    return turn


def _nothing(xp: Any, x: Any) -> Any:
    return xp.zeros_like(x)


def _less_precise(xp: Any, x: Any) -> Any:
    return rounded(xp, x, 11)


WEIGHT_TURNS: dict[str, Turn] = {
    "left out": _nothing, "flipped along the first axis": _flipped(0), "flipped along the second axis": _flipped(1),
    "flipped along the last axis": _flipped(-1), "first two axes exchanged": _swapped(0, 1),
    "last two axes exchanged": _swapped(-1, -2), "halves exchanged": _blocks(2), "thirds in reverse order": _blocks(3),
    "quarters in reverse order": _blocks(4), "rounded to 11 bits": _less_precise,
}  # fmt: skip
INPUT_TURNS: dict[str, Turn] = {
    "left out": _nothing, "one step late": _late(1), "one row late": _late(2),
    "flipped along the second axis": _flipped(1), "samples in reverse order": _flipped(0),
    "second and third axes exchanged": _swapped(1, 2), "last two axes exchanged": _swapped(-1, -2),
    "rounded to 11 bits": _less_precise,
}  # fmt: skip


SLOTS = 4
"""The most arrays that an optimizer keeps for a weight."""


def argument_faults(kind: str, name: str) -> Iterator[Fault]:
    """Inputs, weights and circumstances that are misread or forgotten."""
    make = partial(Fault, kind, name, "argument")
    spec: Any = KINDS[kind].find(name)
    if kind == "optimizer":
        slots = [f"slot {number}" for number in range(SLOTS)]
        for place, of in enumerate(("weight", "gradient", *slots), start=1):
            for what, turn in {"left out": _nothing, "rounded to 11 bits": _less_precise}.items():
                yield make(f"{of} {what}", value=partial(_turned, place, turn))
        for place in range(SLOTS):
            yield make(f"slot {place} is not kept", value=partial(_unkept, place))
        yield make("the first weight alone is moved", after=lambda xp: _first_alone)
        return
    if kind != "layer":
        for place, of in enumerate(("x",) if kind == "activation" else ("y_true", "y_pred")):
            for what, turn in INPUT_TURNS.items():
                yield make(f"{of} {what}", value=partial(_turned, place, turn))
        return
    count = len(spec.inputs)
    for place, of in enumerate(spec.takes):
        if of in spec.extras:
            continue
        for what, turn in (INPUT_TURNS if place < count else WEIGHT_TURNS).items():
            yield make(f"{of} {what}", value=partial(_turned, place, turn))
    if count > 1 or (count and spec.inputs[-1].many):
        yield make("inputs exchanged", value=partial(_exchanged, bool(spec.inputs[-1].many)))
    for what, extra, new in EXTRAS:
        if extra in spec.extras:
            yield make(what, value=partial(_other_extra, spec.takes.index(extra), new))


EXTRAS: tuple[tuple[str, str, Callable[[Any, Any], Any]], ...] = (
    ("always as in training", "training", lambda xp, old: True),
    ("never as in training", "training", lambda xp, old: False),
    ("the mask is forgotten", "mask", lambda xp, old: None),
    ("the mask the other way round", "mask", lambda xp, old: _each(old, xp.logical_not)),
    ("the mask of the first sample for all", "mask", lambda xp, old: _each(old, partial(_first_row, xp))),
    ("the initial state is forgotten", "initial_state", lambda xp, old: None),
    ("initial states in reverse order", "initial_state", lambda xp, old: None if old is None else tuple(old[::-1])),
    ("the initial state of the first sample for all", "initial_state",
     lambda xp, old: _each(old, partial(_first_row, xp))),
    ("other random draws", "rng", lambda xp, old: None if old is None else old.child(1)),
)  # fmt: skip


def _each(old: Any, change: Callable[[Any], Any]) -> Any:
    if old is None or isinstance(old, tuple):
        return None if old is None else tuple(_each(part, change) for part in old)
    return change(old)


def _first_row(xp: Any, x: Any) -> Any:
    return xp.broadcast_to(x[:1], x.shape) if x.shape[0] else x


def _turned(place: int, turn: Turn) -> Value:
    def value(spec: Any, xp: Any, *arguments: Any) -> Any:
        def turned_one(x: Any) -> Any:
            if isinstance(x, tuple):
                return tuple(map(turned_one, x))
            return x if x is None or (turn is _less_precise and not differentiable(x)) else turn(xp, x)

        if place >= len(arguments):
            return meaning(spec, xp, *arguments)
        given = list(arguments)
        given[place] = turned_one(given[place])
        return meaning(spec, xp, *given)

    return value


def _exchanged(many: bool) -> Value:
    def value(spec: Any, xp: Any, *arguments: Any) -> Any:
        given = list(arguments)
        if many:
            given[0] = tuple(given[0][::-1])
        elif given[1] is not None:
            given[:2] = given[1::-1]
        same = [x.shape for x in (given[0] if many else given[:2]) if x is not None]
        return meaning(spec, xp, *(given if len(set(same)) == 1 else arguments))

    return value


def _other_extra(place: int, new: Callable[[Any, Any], Any]) -> Value:
    def value(spec: Any, xp: Any, *arguments: Any) -> Any:
        given = list(arguments)
        given[place] = new(xp, given[place])
        return meaning(spec, xp, *given)

    return value


def _unkept(slot: int) -> Value:
    def value(rule: Any, xp: Any, coefficients: Any, w: Any, g: Any, *slots: Any) -> Any:
        found = list(meaning(rule, xp, coefficients, w, g, *slots))
        if slot + 1 < len(found):
            found[slot + 1] = slots[slot]
        return tuple(found)

    return value


def _first_alone(optimizer: Any, arguments: Any, found: Any) -> Any:
    _, weights, _, slots = arguments
    return [found[0][0], *weights[1:]], [found[1][0], *slots[1:]]


# Numbers


def numeric_faults(kind: str, name: str) -> Iterator[Fault]:
    """Formulas that are right on paper."""
    for function, how, make in bent.naive():
        yield Fault(kind, name, "numeric", f"{function} {how}", value=make)


# Gradients


def gradient_faults(kind: str, name: str) -> Iterator[Fault]:
    """Gradients that are not those of the values."""
    if kind == "optimizer":
        return
    make = partial(Fault, kind, name, "gradient")
    spec: Any = KINDS[kind].find(name)
    rng = random.Random(f"{kind} {name} gradient")
    for place, of in _differentiated(kind, spec).items():
        wrongs = GRADIENT_CHANGES | {
            f"is larger by {share:g} at one place": at_one_place(round(rng.random(), 3), share)
            for share in (1e-3, 1e-5)
        }
        for what, change in wrongs.items():
            yield make(f"of {of} {what}", pull=partial(_of_argument, place, change))
    weighed = kind == "layer" and bool(spec.held)
    for what, cut in COTANGENT_CHANGES.items():
        those = "those of weights" if weighed else "those"
        yield make(f"{those}, {what}", pull=partial(_of_cotangents, len(spec.inputs) if weighed else 0, cut))
    if kind == "layer":
        yield make("of outputs after the first are missing", pull=lambda: _first_output)
        for what, extra, new in EXTRAS:
            if extra in spec.extras:
                yield make(f"with: {what}", pull=partial(_with_extra, spec.takes.index(extra), new))


def _differentiated(kind: str, spec: Any) -> dict[int, str]:
    """The arguments that there may be gradients of, by place."""
    if kind == "layer":
        return {place: name for place, name in enumerate(spec.takes) if name not in ("training", "mask", "rng")}
    return {1: "y_pred"} if kind == "loss" else {0: "x"}


def _over(change: Change, g: Any) -> Any:
    if g is None or isinstance(g, (tuple, list)):
        return None if g is None else tuple(_over(change, part) for part in g)
    return change(np, g)


def _of_argument(place: int, change: Change) -> Pull:
    def pull(gradients: Any, spec: Any, arguments: Any, cotangents: Any) -> Any:
        found = list(gradients(spec, arguments, cotangents))
        if place < len(found):
            found[place] = _over(change, found[place])
        return found

    return pull


def _only_last(axis: int) -> Change:
    tail = without_tail(axis)
    return lambda xp, g: g - tail(xp, g) if g.ndim > axis and g.shape[axis] > 1 else g


def _shared(xp: Any, g: Any) -> Any:
    return g / max(1, g.shape[0]) if g.ndim else g


GRADIENT_CHANGES: dict[str, Change] = {
    "is missing": _nothing, "has the wrong sign": lambda xp, g: -g, "is larger by 1e-3": scaled(1e-3),
    "is larger by 1e-5": scaled(1e-5), "is rounded to 11 bits": _less_precise,
    "lacks its last channel": without_tail(-1),
}  # fmt: skip
COTANGENT_CHANGES: dict[str, Change] = {
    "of all but the last sample are missing": _only_last(0), "of all but the last step are missing": _only_last(1),
    "of the last sample are missing": without_tail(0), "of the last channel are missing": without_tail(-1),
    "as a mean over the batch": _shared,
}  # fmt: skip


def _of_cotangents(begin: int, cut: Change) -> Pull:
    """The gradients of the arguments from ``begin`` on, of cotangents that are cut."""

    def pull(gradients: Any, spec: Any, arguments: Any, cotangents: Any) -> Any:
        found = list(gradients(spec, arguments, cotangents))
        wrong = gradients(spec, arguments, tuple(None if c is None else cut(np, c) for c in cotangents))
        return [*found[:begin], *wrong[begin:]]

    return pull


def _first_output(gradients: Any, spec: Any, arguments: Any, cotangents: Any) -> Any:
    return gradients(spec, arguments, (cotangents[0], *map(np.zeros_like, cotangents[1:])))


def _with_extra(place: int, new: Callable[[Any, Any], Any]) -> Pull:
    def pull(gradients: Any, spec: Any, arguments: Any, cotangents: Any) -> Any:
        given = list(arguments)
        given[place] = new(np, given[place])
        return gradients(spec, given, cotangents)

    return pull


# Contracts: what a kernel may not do beside computing. These are for arrays of the host.


def contract_faults(kind: str, name: str) -> Iterator[Fault]:
    """What kernels may not do, whatever they compute; by kernels with a VJP, and by those without one."""
    for fault in _broken_contracts(kind, name):
        yield fault
        if kind != "optimizer":
            yield replace(fault, what=f"{fault.what}, without a VJP", bare=True)


BUFFERED = "the same buffer at each call"


def _broken_contracts(kind: str, name: str) -> Iterator[Fault]:
    make = partial(Fault, kind, name, "contract", silent=True)
    if kind == "optimizer":
        yield make("other type", after=partial(_of_weights, lambda xp, w: _other_type(w)))
        return
    yield make("other type", after=changed("output", 0, lambda xp, y: _other_type(y)))
    yield make("one axis more", after=changed("output", 0, lambda xp, y: y[None]))
    yield make("the last bit differs from call to call", after=lambda xp: changed("output", 0, _Restless().change)(xp))
    yield make("by 1e-3 more at each call", after=lambda xp: changed("output", 0, _Restless(1e-3).change)(xp))
    yield make("an input is changed", after=lambda xp: partial(_spoiling, 0))
    spec: Any = KINDS[kind].find(name)
    if kind == "layer" and spec.held:
        yield make("a weight is changed", after=lambda xp: partial(_spoiling, len(spec.inputs)))
    yield make(BUFFERED, after=lambda xp: changed("output", 0, _Buffer().change)(xp))
    yield make("the first result for all of its shape", after=lambda xp: _Stale().after)
    yield make("strides are misread", value=lambda: _misreading_strides)
    yield make("another framework does the work", after=lambda xp: _delegating)


def _other_type(y: Any) -> Any:
    return y.astype("float64" if y.dtype == np.float32 else "float32")


class _Restless:
    """Not the same at each call: by the last bit, or by a share."""

    def __init__(self, share: float = 0.0):
        self.calls, self.share, self.rng = 0, share, np.random.default_rng(0)

    def change(self, xp: Any, y: Any) -> Any:
        self.calls += 1
        if self.share:
            return y * y.dtype.type(1 + self.share * (self.calls - 1))
        return np.where(self.rng.uniform(size=y.shape) < 0.5, y, np.nextafter(y, y.dtype.type(np.inf)))


def _spoiling(place: int, spec: Any, arguments: Any, found: Any) -> Any:
    for x in _arrays(arguments[place]):
        if isinstance(x, np.ndarray) and x.flags.writeable and x.size and x.dtype.kind in "fi":
            x.reshape(-1)[:1] += 1
    return found


def _arrays(argument: Any) -> list[Any]:
    return [x for part in argument for x in _arrays(part)] if isinstance(argument, (tuple, list)) else [argument]


class _Buffer:
    """Results of one shape share their memory."""

    def __init__(self) -> None:
        self.kept: dict[Any, np.ndarray] = {}

    def change(self, xp: Any, y: Any) -> Any:
        buffer = self.kept.setdefault((y.shape, str(y.dtype)), np.empty_like(y))
        buffer[...] = y
        return buffer


class _Stale:
    """What was computed once for these shapes is given again."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    def after(self, spec: Any, arguments: Any, found: Any) -> Any:
        shapes = tuple(getattr(x, "shape", None) for x in _arrays(list(arguments)))
        types_ = tuple(str(getattr(x, "dtype", None)) for x in _arrays(list(arguments)))
        return self.kept.setdefault((repr(spec), shapes, types_), found)


def _misreading_strides(spec: Any, xp: Any, *arguments: Any) -> Any:
    def misread(x: Any) -> Any:
        if isinstance(x, (tuple, list)):
            return tuple(map(misread, x))
        if isinstance(x, np.ndarray) and not x.flags.c_contiguous:
            return np.ravel(x, order="K").reshape(x.shape)
        return x

    return meaning(spec, xp, *map(misread, arguments))


FOREIGN = "mindspore"
"""The framework that a module is named like which a fault pretends to leave its work to."""


def _delegating(spec: Any, arguments: Any, found: Any) -> Any:
    sys.modules.setdefault(FOREIGN, types.ModuleType(FOREIGN))
    return found


GENERATORS = (value_faults, parameter_faults, argument_faults, numeric_faults, gradient_faults, contract_faults)


def faults_of(kind: str, name: str) -> list[Fault]:
    """All faults of a spec, whether or not they make a difference to it."""
    found = [fault for generate in GENERATORS for fault in generate(kind, name)]
    return list({fault.id: fault for fault in found}.values())


UNSERVED = ("linear", "custom")
"""Activations that nothing is planned for, or that only functions of one's own stand behind."""


def specs() -> list[tuple[str, str]]:
    """(kind, name) of all specs that kernels may serve."""
    own = [(kind, name) for kind in ("layer", "activation", "loss", "optimizer") for name in sorted(KINDS[kind])]
    return [(kind, name) for kind, name in own if KINDS[kind].origin[name] == "layerhub" and name not in UNSERVED]
