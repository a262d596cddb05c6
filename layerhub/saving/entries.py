"""Layers and models as entries of configs, as Keras 3 writes them; and the layers and models that entries describe."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from layerhub.errors import (
    FileFormatError,
    LayerHubError,
    OldSpellingWarning,
    ParameterError,
    UnknownNameError,
    suggest,
)
from layerhub.graph import Input, MaskOf, Tensor, nodes_of
from layerhub.network import Network
from layerhub.operation import Operation
from layerhub.registry import registry
from layerhub.saving import dialect, operations
from layerhub.spec import KINDS
from layerhub.spec.core import InputLayer
from layerhub.spec.layer import Layer

MODELS: dict[str, type[Any]] = {}
"""Classes of models, by the names that configs have for them."""
HOMES: dict[tuple[str, str], type[Any]] = {}
"""The same by module and name: two of a user's modules may use the same name."""


def enter(kind: type[Any]) -> None:
    """Have a class of models known, so that entries may name it."""
    HOMES[kind.__module__, kind.__name__] = kind
    known = MODELS.get(kind.__name__)
    if known is None or not known.__module__.startswith("layerhub."):  # a user may define their own again
        MODELS[kind.__name__] = kind


def serialize_layer(layer: Any) -> dict[str, Any]:
    """A layer or a nested model as JSON can hold it, as Keras 3 writes it."""
    if isinstance(layer, Network):
        return serialize_model(layer)
    if isinstance(layer, InputLayer):
        dtype = nodes_of(layer)[0].outputs[0].dtype if nodes_of(layer) else layer.dtype
        shape = {"batch_shape": list(layer.full_shape), "dtype": dtype, "sparse": layer.sparse}
        return dialect.entry_of(InputLayer, shape | {"name": layer.label})
    written = operations.entry_of(layer) if isinstance(layer, Operation) else None
    written = dialect.described(layer) if written is None else written
    written["config"]["name"] = layer.label
    return written


def serialize_model(model: Network) -> dict[str, Any]:
    """A model as Keras 3 writes it; its seed, which Keras has not, stands beside its config."""
    config = dict(model.get_config())
    seed = config.pop("seed", model.seed)
    kind, own = type(model), type(model).__module__.startswith("layerhub.")
    entry = {
        "module": "keras" if own else kind.__module__,
        "class_name": kind.__name__,
        "config": config,
        "registered_name": None if own else kind.__name__,
    }
    built = model.build_config()
    return entry | ({} if built is None else {"build_config": built}) | {"seed": seed}


def serialize_whole(model: Network) -> dict[str, Any]:
    """A model as Keras 3 writes it, with a number on each layer that several of its nested models share."""
    entry = serialize_model(model)
    places: dict[Any, list[dict[str, Any]]] = {}

    def walk(network: Network, entry: Mapping[str, Any]) -> None:
        if "layers" not in entry["config"]:  # of a class of the user's, which has a config of its own
            return
        layers = network.layers if isinstance(network, MODELS["Sequential"]) else network.operations
        # The config of a Sequential begins with its input, which is none of its layers.
        for layer, part in zip(layers, entry["config"]["layers"][-len(layers) :], strict=True):
            places.setdefault(layer, []).append(part)
            if isinstance(layer, Network):
                walk(layer, part)

    walk(model, entry)
    for number, parts in enumerate(parts for parts in places.values() if len(parts) > 1):
        for part in parts:
            part["shared_object_id"] = number
    return entry


_shared: ContextVar[dict[int, Any] | None] = ContextVar("shared", default=None)
"""Layers by their numbers, while a whole model is made."""


def deserialize_whole(entry: Mapping[str, Any], objects: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """The model that an entry describes; see ``serialize_whole``. options: backend, device.

    Raises FileFormatError for what describes none, GraphError and UnknownNameError.
    """
    token = _shared.set({})
    try:
        dialect.check_size(entry)
        with warnings.catch_warnings():
            if dialect.is_old(entry):
                warnings.simplefilter("ignore", OldSpellingWarning)  # who reads what Keras wrote has not spelt it
            return revived(entry, objects, **options)
    except LayerHubError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as problem:
        raise FileFormatError(f"the config describes no model: {problem!r}") from problem
    finally:
        _shared.reset(token)


def deserialize_layer(entry: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The layer or nested model that a config describes.

    custom_objects: classes and functions by the names that the config has for them. Raises UnknownNameError for what
    is not known, and ParameterError for what describes no layer.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str):
        raise ParameterError(f"a layer's config is {{'class_name': …, 'config': …}}, not {entry!r}")
    shared, number = _shared.get(), entry.get("shared_object_id")
    if shared is None or number is None:
        return _deserialized(entry, custom_objects or {})
    if number not in shared:
        shared[number] = _deserialized(entry, custom_objects or {})
    return shared[number]


def _deserialized(entry: Mapping[str, Any], objects: Mapping[str, Any]) -> Any:
    name, config = entry["class_name"], entry.get("config") or {}
    if dialect.is_operation(entry) and name not in objects:
        return operations.Read({**entry, "config": config})
    if name in GRAPHS and str(entry.get("module", "")).startswith("layerhub"):
        return GRAPHS[name].from_config(config)
    if name == "Merge":
        from layerhub.merging import merge_from_config  # which makes models, and stands above them

        return merge_from_config(config, objects)
    if "layers" in config or isinstance(config, list) or _own_kind(entry, objects) is not None:
        return revived(entry, objects)
    if name == "InputLayer":
        known = ("shape", "batch_shape", "batch_size", "sparse", "name")
        shape = config.get("batch_input_shape", config.get("batch_shape"))
        config = {k: v for k, v in config.items() if k in known} | {"batch_shape": shape}
    made = dialect.revived({"class_name": name, **entry, "config": config}, objects)
    if isinstance(made, Layer):
        return made
    registry()  # plugins may bring layers
    if name not in KINDS["layer"]:
        names = [*KINDS["layer"], *MODELS]
        raise UnknownNameError(
            f"no layer is called {name!r}, and no model.{suggest(name, names)} A class of your own must be registered "
            f"(lh.register) or, for a model, defined before this; or give it in custom_objects={{{name!r}: …}}"
        )
    return KINDS["layer"].find(name).from_config(made["config"])


GRAPHS: dict[str, type[Layer]] = {"Operation": Operation, "MaskOf": MaskOf}
"""Layers that only graphs make."""


def revived(
    entry: Mapping[str, Any],
    objects: Mapping[str, Any] | None = None,
    backend: str | None = None,
    device: str | None = None,
) -> Network:
    """The model that an entry describes, built as it was. Raises GraphError, UnknownNameError, FileFormatError."""
    kind = known_kind(entry, objects)
    seed = entry.get("seed")
    return kind.remade(
        entry["config"], entry.get("build_config"), objects, backend, device, seed if isinstance(seed, int) else None
    )


def known_kind(entry: Mapping[str, Any], objects: Mapping[str, Any] | None = None) -> type[Any]:
    """The class of models that an entry is of. Raises UnknownNameError."""
    return _own_kind(entry, objects) or model_kind(entry["class_name"])


def _own_kind(entry: Mapping[str, Any], objects: Mapping[str, Any] | None) -> type[Any] | None:
    """The class of the user's that an entry is of; None if it is of none."""
    given, name = objects or {}, str(entry.get("class_name"))
    known = (HOMES.get((str(entry.get("module")), name)), MODELS.get(name))
    for found in (given.get(str(entry.get("registered_name"))), given.get(name), *known):
        if isinstance(found, type) and issubclass(found, Network) and not found.__module__.startswith("layerhub."):
            return found
    return None


def model_kind(name: str) -> type[Any]:
    """The class of models that a config calls so. Raises UnknownNameError."""
    name = "Model" if name == "Functional" else name
    if name not in MODELS:
        raise UnknownNameError(
            f"no model is called {name!r}.{suggest(name, MODELS)} A class of your own must be defined, or given "
            f"in custom_objects={{{name!r}: …}}, before its models are read"
        )
    return MODELS[name]


def input_of(entry: Mapping[str, Any]) -> Tensor:
    """The input that an InputLayer's entry describes."""
    layer, config = deserialize_layer(entry), entry["config"]
    return Input(batch_shape=layer.full_shape, dtype=config.get("dtype"), sparse=layer.sparse, name=config.get("name"))
