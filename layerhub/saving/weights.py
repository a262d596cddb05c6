"""The weights of a model, to and from HDF5 in Keras 3's layout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from layerhub.errors import WeightsError
from layerhub.saving import hdf5, tree
from layerhub.variable import Variable

STATES = "layerhub/states"
"""Where the states of stateful layers are kept, which Keras does not save."""


Values = list[tuple[Variable, np.ndarray]]
"""Weights, each with the value that a file has for it, checked by ``Variable.check``."""


def arrays_of(model: Any) -> Iterator[tuple[str, np.ndarray]]:
    """All weights of a model, and the states that its layers keep, by their paths in a file; each when it is asked for.

    They are to be read only.
    """
    for path, variable in tree.places(model).items():
        yield path, variable.view()
    for k, variable in enumerate(states_of(model)):
        yield f"{STATES}/{k}", variable.view()


def states_of(model: Any) -> list[Variable]:
    """Where the layers of a model keep what lasts from batch to batch."""
    return [variable for _, layer, _ in model.graph.placed() for variable in layer.store.states]


def names_of(model: Any) -> dict[str, dict[str, str]]:
    """The names of a model's layers as attributes of their groups, as Keras writes them."""
    return {f"{path}/vars": {"name": layer.label} for path, layer in tree.layers_of(model)}


def read(opened: Any, model: Any) -> Values:
    """The values that an HDF5 file has for the weights and states of a model.

    Raises FileFormatError and WeightsError; nothing is changed.
    """
    places = tree.places(model)
    _check_counts(opened, places)
    _check_layers(opened, model)
    found = [(variable, value_of(hdf5.member(opened, path), path, variable)) for path, variable in places.items()]
    kept = states_of(model)
    if len(hdf5.numbered(opened, STATES)) == len(kept):
        for k, variable in enumerate(kept):
            path = f"{STATES}/{k}"
            found.append((variable, value_of(hdf5.member(opened, path), path, variable)))
    return found


def value_of(dataset: Any, path: str, variable: Variable) -> np.ndarray:
    """The value that a dataset has for a weight, as it will be stored. Raises FileFormatError and WeightsError."""
    return variable.check(hdf5.array(dataset, path, variable.shape, variable.path))


def _check_counts(opened: Any, places: dict[str, Variable]) -> None:
    """Raise WeightsError where a group has other weights than the model: a bias too many, a layer too few."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for path, variable in places.items():
        wanted[path.rpartition("/")[0]].append(variable.path)
    for path, owners in wanted.items():
        count = len(hdf5.numbered(opened, path))
        if count != len(owners):
            raise WeightsError(
                f"the file has {count} arrays at {path}, the model {len(owners)} ({', '.join(owners)}); "
                "nothing was changed"
            )


def _check_layers(opened: Any, model: Any) -> None:
    """Raise WeightsError where the file has weights of layers that the model lacks."""
    known = set(tree.numbered([type(layer).__name__ for layer in model.layers]))
    for name in sorted(set(hdf5.names(opened, "layers")) - known):
        if hdf5.has_arrays(hdf5.member(opened, f"layers/{name}")):
            raise WeightsError(
                f"the file has weights of a layer {name}, which {model.name} lacks; its layers: "
                f"{', '.join(sorted(known))}; nothing was changed"
            )


def assign(values: Values) -> None:
    """Give weights the values of a file, which nobody else holds, and which have been checked: all of them or none."""
    for variable, value in values:
        variable.assign(value, copy=False)
