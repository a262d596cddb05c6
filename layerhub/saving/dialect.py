"""Configs as Keras 3 writes them, and what Keras 2 and 3 wrote read back.

An object is ``{"module": …, "class_name": …, "config": {…}, "registered_name": …}``. In the config of a graph every
layer lists its calls (``inbound_nodes``), whose tensors are named by (layer, number of the call, number of the output).
Nothing here runs code that a config holds: functions and classes come from the tables of specs or from custom_objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from layerhub import structure
from layerhub.errors import FileFormatError, UnknownNameError
from layerhub.graph import Node, Tensor
from layerhub.operation import Operation, decoded
from layerhub.saving import operations
from layerhub.spec import KINDS
from layerhub.spec.attention import MultiHead
from layerhub.spec.base import Spec
from layerhub.spec.optimizers import OptimizerMap
from layerhub.spec.recurrent import Cell

MODULES = {
    "layer": "keras.layers",
    "activation": "keras.activations",
    "initializer": "keras.initializers",
    "regularizer": "keras.regularizers",
    "constraint": "keras.constraints",
    "loss": "keras.losses",
    "metric": "keras.metrics",
    "optimizer": "keras.optimizers",
    "schedule": "keras.optimizers.schedules",
}
"""Where Keras has the specs of each kind."""

Objects = Mapping[str, Any]
"""Classes and functions of the caller's, by name (custom_objects)."""
KNOWN: dict[str, Any] = {}
"""Functions of LayerHub's own that configs name."""
QUIET = ("activity_regularizer", "implementation", "return_attention_scores", "seed", "trainable", "use_causal_mask")
"""Parameters that some classes have here and not in Keras: left out of configs while they have their defaults."""
OPERATIONS = "keras.src.ops"
"""The package of Keras that its operations are of."""
CALLS = 100_000
"""How many calls of layers a model in a file may have."""
CODE = ("function", "output_shape", "mask")
"""Where a Lambda's config has functions."""


# Writing


def described(spec: Spec) -> dict[str, Any]:
    """A spec as a Keras object, what it holds included."""
    config = {
        name: _inside(getattr(spec, name, None), value)
        for name, value in spec.get_config().items()
        if name not in QUIET or value != spec.parameters[name].default
    }
    return entry_of(type(spec), config)


def entry_of(kind: type[Spec], config: Mapping[str, Any]) -> dict[str, Any]:
    """A Keras object of a class."""
    origin = kind.kind.origin.get(kind.__name__, "user")
    if kind.__module__ in ("layerhub.operation", "layerhub.graph"):
        return {"module": kind.__module__, "class_name": kind.__name__, "config": dict(config), "registered_name": None}
    own = origin == "layerhub"
    return {
        "module": MODULES[kind.kind.name] if own else kind.__module__,
        "class_name": kind.__name__,
        "config": dict(config),
        "registered_name": None if own else f"{origin}>{kind.__name__}",
    }


def _inside(held: Any, encoded: Any) -> Any:
    """What a spec holds: as its domain encodes it, but specs as Keras objects."""
    if isinstance(held, Spec):
        return described(held) if isinstance(encoded, Mapping) else encoded
    if isinstance(held, (list, tuple)) and any(isinstance(part, Spec) for part in held):
        return [_inside(part, code) for part, code in zip(held, encoded, strict=True)]
    if isinstance(held, OptimizerMap):
        config = {
            "default_optimizer": described(held.default_optimizer),
            "optimizer_map": {pattern: described(optimizer) for pattern, optimizer in held._chosen.items()},
        }
        module = MODULES["optimizer"]
        return {"module": module, "class_name": "OptimizerMap", "config": config, "registered_name": None}
    return encoded


def encoded(value: Any) -> Any:
    """What ``compile`` was given, as JSON can hold it: specs as Keras objects, functions by their names."""
    if isinstance(value, Spec):
        return described(value)
    if isinstance(value, Mapping):
        return {key: encoded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(part) for part in value]
    if isinstance(value, type) and issubclass(value, Spec):
        return described(value())
    return getattr(value, "__name__", repr(value)) if callable(value) else value


def options_of(layer: Any) -> dict[str, Any]:
    """What Keras says at each call of a layer, and not when it is made, where it is not as by default."""
    names = getattr(layer, "options", ())
    return {name: getattr(layer, name) for name in names if getattr(layer, name) != layer.parameters[name].default}


def call_of(node: Node, keys: Mapping[Tensor, Key]) -> dict[str, Any]:
    """A call of a layer: the arguments that Keras's layer takes by position, and those by name."""

    def tensor(x: Tensor | None) -> Any:
        if x is None:
            return None
        config = {"shape": list(x.shape), "dtype": x.dtype, "keras_history": list(keys[x])}
        return {"class_name": "__keras_tensor__", "config": config}

    given = [tensor(x) for x in node.inputs]
    kwargs: dict[str, Any] = options_of(node.layer) | node.options
    states = [tensor(x) for x in node.states]
    args: list[Any] = given if len(given) == 1 else [given]
    if hasattr(node.layer, "lower"):
        args = [structure.packed(node.layer._takes, given)]
    elif isinstance(node.layer, Operation):
        args = operations.args_of(node, tensor) or [given]
    if isinstance(node.layer, MultiHead):
        args = given[:2]
        kwargs |= {d.name: x for d, x in zip(node.layer.inputs[2:], given[2:], strict=False) if x is not None}
    if states and isinstance(node.layer, Cell):
        args = [*given, states]
    elif states:
        kwargs["initial_state"] = states
    if any(mask is not None for mask in node.masks):
        masks = [tensor(mask) for mask in node.masks]
        kwargs["mask"] = masks if len(masks) > 1 else masks[0]
    own = {} if node.training is None else {"layerhub": {"training": node.training}}
    return {"args": args, "kwargs": kwargs} | own


# Reading


class Key(NamedTuple):
    """A tensor in the config of a graph."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True)
class Call:
    """A call of a layer, with keys in place of tensors."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    @property
    def keys(self) -> set[Key]:
        """All tensors that it takes."""
        return set(_keys(self.args)) | set(_keys(self.kwargs))

    def given(self, tensors: Mapping[Key, Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """Its arguments, with the tensors in their places."""
        return [_filled(a, tensors) for a in self.args], {k: _filled(a, tensors) for k, a in self.kwargs.items()}


def _keys(value: Any) -> Iterator[Key]:
    if isinstance(value, Key):
        yield value
    elif isinstance(value, (list, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _keys(part)


def _filled(value: Any, tensors: Mapping[Key, Tensor]) -> Any:
    if isinstance(value, Key):
        return tensors[value]
    if isinstance(value, Mapping):
        return {name: _filled(part, tensors) for name, part in value.items()}
    return [_filled(part, tensors) for part in value] if isinstance(value, list) else value


def is_old(entry: Mapping[str, Any]) -> bool:
    """Whether a model's entry says that Keras 1 or 2 wrote it."""
    said = entry.get("keras_version")
    return isinstance(said, str) and said.startswith(("1.", "2."))


def check_size(entry: Mapping[str, Any]) -> None:
    """Raise FileFormatError for a model that is too large once its nested models are laid out.

    A few of them, each of which calls the next one twice, are more layers than there is room for.
    """
    _calls_of(entry)


def _calls_of(entry: Any) -> int:
    """How many layers an entry calls, those of nested models counted at each call."""
    config = entry.get("config") if isinstance(entry, Mapping) else None
    parts = config.get("layers", ()) if isinstance(config, Mapping) else config
    count = 1 + (_calls_of(config["layer"]) if isinstance(config, Mapping) and "layer" in config else 0)
    for part in parts if isinstance(parts, list) else ():
        nodes = part.get("inbound_nodes") if isinstance(part, Mapping) else None
        count += _calls_of(part) * max(1, len(nodes) if isinstance(nodes, list) else 1)
    if count > CALLS:
        raise FileFormatError(f"the model has more than {CALLS} calls of layers, those in nested models included")
    return count


def calls_in(entry: Mapping[str, Any], models: Mapping[str, int]) -> list[Call]:
    """The calls that a layer's entry lists. models: nested models, and the number of their first call in Keras 2."""
    calls = []
    for node in entry.get("inbound_nodes") or ():
        if isinstance(node, Mapping):
            args, kwargs = _tensors(node["args"]), dict(_tensors(node.get("kwargs") or {}))
        else:
            args, kwargs = _old_node(node, models)
        # Keras writes the mode of each call, and overrules it with that of the model.
        kwargs = {name: value for name, value in kwargs.items() if name != "training" and not _nothing(value)}
        if isinstance(node, Mapping) and isinstance(node.get("layerhub"), Mapping):
            kwargs |= {"training": bool(node["layerhub"].get("training"))}
        while args and _nothing(args[-1]):
            args.pop()
        calls.append(Call(args, kwargs))
    return calls


def _nothing(value: Any) -> bool:
    parts = list(value.values()) if isinstance(value, Mapping) else value
    return value is None or (isinstance(parts, list) and bool(parts) and all(map(_nothing, parts)))


def _tensors(value: Any) -> Any:
    """Arguments of a call in Keras 3, with keys in place of tensors."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            return key_of(value["config"]["keras_history"])
        if value.get("class_name") in ("__slice__", "__ellipsis__", "__numpy__"):
            return decoded(value)
        return {name: _tensors(part) for name, part in value.items()}
    return [_tensors(part) for part in value] if isinstance(value, (list, tuple)) else value


def _old_node(node: Sequence[Any], models: Mapping[str, int]) -> tuple[list[Any], dict[str, Any]]:
    """A call in Keras 2: [layer, call, output, further arguments] for each input."""

    def shifted(item: Sequence[Any]) -> Key:
        key = key_of(item)
        return key._replace(call=key.call - models.get(key.layer, 0))

    flat = [node] if node and isinstance(node[0], str) else node
    kwargs = dict(flat[0][3]) if flat and len(flat[0]) > 3 else {}
    for name, value in kwargs.items():
        if isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
            kwargs[name] = shifted(value)
    inputs = [shifted(item) for item in flat]
    return [inputs if len(inputs) > 1 else inputs[0]], kwargs


def key_of(item: Any) -> Key:
    """The key that a config writes as [layer, call, output]. Raises FileFormatError."""
    if (
        isinstance(item, (list, tuple))
        and len(item) >= 3
        and isinstance(item[0], str)
        and all(isinstance(part, int) and not isinstance(part, bool) for part in item[1:3])
    ):
        return Key(*item[:3])
    raise FileFormatError(f"a tensor is written as [layer, number of the call, number of the output], not {item!r}")


def keys_in(structure: Any) -> list[Key]:
    """The keys of a model's inputs or outputs: one, a list, or a dict of them, which is taken in order of its names."""
    if isinstance(structure, Mapping):
        return [key for name in sorted(structure) for key in keys_in(structure[name])]
    if isinstance(structure, list) and structure and isinstance(structure[0], str):
        return [key_of(structure)]
    if not isinstance(structure, list):
        raise FileFormatError(f"a model's inputs and outputs are lists of tensors, not {structure!r}")
    return [key for part in structure for key in keys_in(part)]


SAID = ("name", "class_name", "module", "registered_name")
"""Keys whose values are never names of objects."""


def revived(value: Any, objects: Objects) -> Any:
    """A config in which the caller's classes and functions stand where they are named.

    Raises UnknownNameError for a function that neither Keras nor the caller has, and for code in the config.
    """
    if isinstance(value, Mapping):
        name = value.get("class_name")
        if name == "function":
            return _function(value, objects)
        if name == "__lambda__":
            raise UnknownNameError("the config holds a function as code, which is never run; give it in custom_objects")
        if name in ("__numpy__", "__tensor__"):
            return value["config"]["value"]
        if name == "Lambda" and isinstance(value.get("config"), Mapping):
            return {**value, "config": functions_in(value["config"], objects)}
        made = {key: part if key in SAID else revived(part, objects) for key, part in value.items()}
        own = own_object(value, objects)
        if own is None or not isinstance(value.get("config"), Mapping):
            return made
        return own.from_config(made["config"]) if isinstance(own, type) and issubclass(own, Spec) else own
    if isinstance(value, list):
        return [revived(part, objects) for part in value]
    found = objects.get(value, KNOWN.get(value)) if isinstance(value, str) else None
    return found if callable(found) else value


def functions_in(config: Mapping[str, Any], objects: Objects) -> dict[str, Any]:
    """A Lambda's config with the caller's functions in it, by their names; ``function`` also by the layer's.

    Raises UnknownNameError for a function that the caller does not give.
    """
    layer, told = config.get("name"), ("name", "dtype", "trainable", "arguments", *CODE)
    own = {key: config[key] for key in told if config.get(key) is not None}
    for key in CODE:
        value = own.get(key)
        name = value["config"] if isinstance(value, Mapping) else value
        code = _is_code(value)
        names = [] if code else [name]
        names += [layer if key == "function" else f"{layer}/{key}"]
        given = next((objects[known] for known in names if isinstance(known, str) and known in objects), None)
        if code or isinstance(name, str):
            if given is None:
                what = "holds code, which is never run from a file" if code else f"calls the function {name!r}"
                raise UnknownNameError(
                    f"the Lambda {layer!r} {what}; give the function in custom_objects={{{names[0]!r}: …}}"
                )
            own[key] = given
    return own


def _is_code(value: Any) -> bool:
    """Whether this is a function as code, as Keras 3 or Keras 2 writes it."""
    if isinstance(value, Mapping):
        return value.get("class_name") == "__lambda__"
    return isinstance(value, list) and bool(value) and isinstance(value[0], str)


def own_object(entry: Mapping[str, Any], objects: Objects) -> Any:
    """The caller's class or function that an entry names; None if it names none. Raises UnknownNameError.

    What a package of its own registered is not taken for the layer of the same name that is here.
    """
    name, registered, module = entry.get("class_name"), entry.get("registered_name"), entry.get("module")
    for known in (registered, name):
        if isinstance(known, str) and known in objects:
            return objects[known]
    package = registered.partition(">")[0] if isinstance(registered, str) and ">" in registered else None
    foreign = package is not None and isinstance(module, str) and not module.startswith("layerhub")
    operation = is_operation(entry)
    if operation or (foreign and not _registered(str(name), str(package))):
        what = f"the operation {name}" if operation else f"{registered!r}, a class of {module}"
        raise UnknownNameError(
            f"the config speaks of {what}, which is not known here; write it as a layer, and register it "
            f"(lh.register) or give it in custom_objects={{{name!r}: …}}"
        )
    return None


def is_operation(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a graph is an operation of Keras's, not a layer."""
    module = entry.get("module")
    return isinstance(module, str) and module.startswith((OPERATIONS, "keras.ops"))


def _registered(name: str, package: str) -> bool:
    return any(kind.origin.get(name) == package for kind in KINDS.values())


def _function(entry: Mapping[str, Any], objects: Objects) -> Any:
    name, module = entry.get("config"), entry.get("module")
    for known in (entry.get("registered_name"), name):
        if isinstance(known, str) and known in objects:
            return objects[known]
    if isinstance(name, str) and isinstance(module, str) and module.partition(".")[0] == "keras":
        return name
    raise UnknownNameError(
        f"the config speaks of the function {name!r} of {module}, which is not known here; give it in "
        f"custom_objects={{{name!r}: …}}"
    )
