"""Where Keras 3 keeps each weight in a file: the paths of its tree of objects.

A layer is addressed by its class and its number among those of its class in the model (``layers/dense_1``), whatever
its name is; a weight by its number within the object that owns it (``vars/0``), trainable ones first. Where a layer
of Keras is a tree of objects, ``objects`` says so, once for each family: this is the one place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import singledispatch
from typing import Any

from layerhub.spec.attention import GroupQueryAttention, MultiHead
from layerhub.spec.base import snake_case
from layerhub.spec.layer import Layer
from layerhub.spec.recurrent import RNN, Recurrent, StackedRNNCells
from layerhub.spec.wrappers import Bidirectional, SpectralNormalization, Wrapper
from layerhub.variable import Variable

Objects = list[tuple[str, list[str]]]
"""(path of an object, the names of its weights in their order), for each object that a layer is made of in Keras."""

STEMS = {"GroupQueryAttention": "grouped_query_attention", "Model": "functional"}
"""Classes that Keras calls otherwise, within."""


@singledispatch
def objects(layer: Layer, names: Sequence[str]) -> Objects:
    """The objects that a layer is made of in Keras, which share out its weights of these names."""
    return [("", list(names))]


@objects.register
def _(layer: Recurrent, names: Sequence[str]) -> Objects:
    return [("cell", list(names))]


@objects.register
def _(layer: RNN, names: Sequence[str]) -> Objects:
    return _within("cell", layer.cell, "inner/", names)


@objects.register
def _(layer: StackedRNNCells, names: Sequence[str]) -> Objects:
    stems = numbered([type(cell).__name__ for cell in layer.cells])
    found: Objects = []
    for k, (stem, cell) in enumerate(zip(stems, layer.cells, strict=True)):
        found += _within(f"cells/{stem}", cell, f"{k}/", names)
    return found


@objects.register
def _(layer: Wrapper, names: Sequence[str]) -> Objects:
    return _within("layer", layer.child, "inner/", names)


@objects.register
def _(layer: SpectralNormalization, names: Sequence[str]) -> Objects:
    # The kernel is kept twice: it belongs to both layers.
    return [("", list(names[:2])), *_within("layer", layer.child, "inner/", names)]


@objects.register
def _(layer: Bidirectional, names: Sequence[str]) -> Objects:
    ahead = _within("forward_layer", layer.ahead, "forward/", names)
    return ahead + _within("backward_layer", layer.back, "backward/", names)


@objects.register
def _(layer: MultiHead, names: Sequence[str]) -> Objects:
    hidden = isinstance(layer, GroupQueryAttention)
    paths: dict[str, list[str]] = {}
    for name in names:
        part = name.partition("/")[0].removeprefix("attention_")
        private = "_" if hidden or part == "gate" else ""
        paths.setdefault(f"{private}{part}_dense", []).append(name)
    return list(paths.items())


def _within(path: str, layer: Layer, prefix: str, names: Sequence[str]) -> Objects:
    """The objects of an inner layer, whose weights the outer one calls by names with a prefix."""
    own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return [(_joined(path, inner), [prefix + name for name in part]) for inner, part in objects(layer, own)]


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def numbered(classes: Sequence[str]) -> list[str]:
    """The path of each object in a list of objects of these classes."""
    counts: dict[str, int] = {}
    found = []
    for name in classes:
        stem = STEMS.get(name) or snake_case(name)
        count = counts.get(stem, 0)
        counts[stem] = count + 1
        found.append(f"{stem}_{count}" if count else stem)
    return found


def layers_of(model: Any, prefix: str = "", met: set[int] | None = None) -> Iterator[tuple[str, Layer]]:
    """(path, layer) of every layer of a model, nested models opened; one that occurs twice comes once."""
    met = set() if met is None else met
    for stem, layer in model.located() or listed(model):
        if id(layer) in met:
            continue
        met.add(id(layer))
        path = _joined(prefix, stem)
        if not isinstance(layer, Layer):
            yield from layers_of(layer, path, met)
        elif layer.built or not layer.held:  # a subclass may have layers that it never uses
            yield path, layer


def listed(model: Any) -> list[tuple[str, Any]]:
    """(path, layer) of the layers of a model, by their classes and numbers."""
    stems = numbered([type(layer).__name__ for layer in model.layers])
    return [(_joined("layers", stem), layer) for stem, layer in zip(stems, model.layers, strict=True)]


def within(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(path, layer) of the layers in an attribute of a subclassed model: one, or a list or dict of them."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        yield path, value
        return
    inner = (list, tuple, Mapping)
    parts = [part for part in value if hasattr(part, "label") or isinstance(part, inner)]
    stems = numbered(["container" if isinstance(part, inner) else type(part).__name__ for part in parts])
    for stem, part in zip(stems, parts, strict=True):
        yield from within(_joined(path, stem), part)


def places(model: Any) -> dict[str, Variable]:
    """The weights of a model by their paths in a file; one that Keras keeps twice has two paths."""
    found: dict[str, Variable] = {}
    for path, layer in layers_of(model):
        if not layer.held:
            continue
        variables = layer.store.variables
        named = {variable.name: variable for variable in variables}
        for inner, names in objects(layer, [variable.name for variable in variables]):
            found |= {_joined(path, inner, "vars", str(k)): named[name] for k, name in enumerate(names)}
    return found
