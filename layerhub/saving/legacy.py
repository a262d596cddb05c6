"""The HDF5 files of Keras 2, which Keras 3 still writes as ``.h5``: weights by names, configs as attributes.

The weights of each layer stand in a group of its name (``layer_names``, ``weight_names``), trainable ones first. Of a
whole model they are in ``model_weights``, beside its config and how it was compiled as JSON (``model_config``,
``training_config``). What files of Keras 1 and 2 leave unsaid means what it meant then.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerhub import ops
from layerhub.errors import FileFormatError, WeightsError
from layerhub.saving import dialect, hdf5, text, training
from layerhub.saving.weights import Values, value_of
from layerhub.variable import Variable

LIMIT = 60_000
"""How many bytes an attribute may have in HDF5, nearly."""
THEN = {
    "time_major": False, "ragged": False, "renorm": False, "fused": None, "virtual_batch_size": None,
    "adjustment": None, "sinusoid": None, "input_length": None,
}  # fmt: skip
"""What Keras 2 wrote into configs of layers and Keras 3 has not, where it says nothing."""


def keras2_hard_sigmoid(x: Any) -> Any:
    """clip(0.2 x + 0.5, 0, 1): what hard_sigmoid was in Keras 1 and 2."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


dialect.KNOWN["keras2_hard_sigmoid"] = keras2_hard_sigmoid


def recognised(opened: Any) -> bool:
    """Whether an HDF5 file is one of these."""
    named = opened.has("layer_names") or opened.has("layer_names0")
    return named or hdf5.member(opened, "model_weights") is not None


def version(opened: Any) -> int:
    """The version of Keras that wrote the file: 1, 2 or 3."""
    group = opened if opened.has("keras_version") else _weights_group(opened)
    said = hdf5.attribute(group, "keras_version")
    return number_of(_text(said))


def number_of(version: str) -> int:
    """The first number of a version of Keras; 1 where there is none, which early files of Keras 1 have not."""
    return int(version[0]) if version[:1].isdecimal() and version.isascii() else 1


def entry_in(opened: Any) -> dict[str, Any]:
    """The model that a file describes, as an entry of a config."""
    if not opened.has("model_config"):
        raise FileFormatError("the file has weights alone; make the model, and let it load_weights")
    entry = _json(opened, "model_config")
    number = version(opened)
    return _marked(entry) if number >= 3 else modern(entry) | {"keras_version": f"{number}.0"}


def _marked(value: Any) -> Any:
    """A config of Keras 3 in which operations say that they are: in these files nothing says of which module it is.

    Layers have a type and may be trained; operations (``x * 2``, and those that compute masks) say neither.
    """
    if isinstance(value, list):
        return [_marked(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    found = {key: _marked(part) for key, part in value.items()}
    config = found.get("config")
    if found.get("inbound_nodes") and "module" not in found and isinstance(config, Mapping):
        operation = not config.keys() & {"trainable", "dtype", "layers"}
        return found | {"module": dialect.OPERATIONS} if operation else found
    return found


def compiled_in(opened: Any) -> dict[str, Any] | None:
    """How the model of a file was compiled, as Keras 3 says it; None if it was not."""
    if not opened.has("training_config"):
        return None
    found = _json(opened, "training_config")
    if isinstance(found.get("optimizer_config"), dict):
        found["optimizer"] = _renamed(found["optimizer_config"])
    return found


def optimizer_in(opened: Any) -> list[Any]:
    """The arrays of an optimizer in Keras 3's order; none of a file of Keras 2, which has another."""
    group = hdf5.member(opened, "optimizer_weights")
    return [] if group is None or version(opened) < 3 else _datasets(group)


def _renamed(optimizer: dict[str, Any]) -> dict[str, Any]:
    config = dict(optimizer.get("config") or {})
    if "lr" in config:
        config["learning_rate"] = config.pop("lr")
    return optimizer | {"config": config}


def modern(value: Any) -> Any:
    """A config of Keras 1 or 2 as it is said now."""
    if isinstance(value, list):
        return [modern(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    found = {key: modern(part) for key, part in value.items()}
    config = found.get("config")
    if "class_name" not in found or not isinstance(config, dict):
        return found
    config = {key: part for key, part in config.items() if key not in THEN or part not in (THEN[key], None)}
    for key in [key for key in config if key.endswith("activation") and config[key] == "hard_sigmoid"]:
        config[key] = "keras2_hard_sigmoid"
    if found["class_name"] in ("GRU", "GRUCell"):
        config.setdefault("reset_after", False)
    axis = config.get("axis")
    if found["class_name"] == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    return found | {"config": config}


# Weights


def read(opened: Any, model: Any, by_name: bool, skip_mismatch: bool) -> Values:
    """The values that a file has for the weights of a model. See ``Writable.load_weights``."""
    group = _weights_group(opened)
    backend = _text(hdf5.attribute(group, "backend"))
    if backend in ("theano", "cntk"):
        raise FileFormatError(f"the file was written by Keras on {backend}, whose kernels lie otherwise")
    names = [name for name in _names(group, "layer_names") if _names(_layer(group, name), "weight_names")]
    layers = [layer for layer in model.layers if _variables(layer)]
    if by_name:
        labelled = {layer.label: layer for layer in layers}
        pairs = [(name, labelled[name]) for name in names if name in labelled]
    elif len(names) != len(layers):
        raise WeightsError(
            f"the file has weights of {len(names)} layers ({', '.join(names)}), {model.name} has {len(layers)} with "
            f"weights ({', '.join(layer.label for layer in layers)}); nothing was changed"
        )
    else:
        pairs = list(zip(names, layers, strict=True))
    found: Values = []
    for name, layer in pairs:
        try:
            found += _of_layer(_layer(group, name), name, layer)
        except WeightsError as problem:
            if not skip_mismatch:
                raise
            warnings.warn(f"{layer.label} was left as it is: {problem}", stacklevel=2)
    return found


def _of_layer(group: Any, name: str, layer: Any) -> Values:
    variables, datasets = _variables(layer), _datasets(group)
    if len(datasets) != len(variables):
        raise WeightsError(f"the file has {len(datasets)} arrays of {name}, {layer.label} has {len(variables)} weights")
    return [
        (variable, value_of(dataset, f"{name}/{k}", variable))
        for k, (variable, dataset) in enumerate(zip(variables, datasets, strict=True))
    ]


def _variables(layer: Any) -> list[Variable]:
    """The weights of a layer or a nested model, trainable ones first."""
    found = layer.weights if not hasattr(layer, "held") or (layer.held and layer.built) else []
    return [v for v in found if v.trainable] + [v for v in found if not v.trainable]


def _weights_group(opened: Any) -> Any:
    found = hdf5.member(opened, "model_weights")
    return opened if found is None else found


def _layer(group: Any, name: str) -> Any:
    found = hdf5.member(group, name)
    if found is None:
        raise FileFormatError(f"the file lists a layer {name}, and has no group of that name")
    return found


def _datasets(group: Any) -> list[Any]:
    names = _names(group, "weight_names")
    found = [hdf5.member(group, name) for name in names]
    missing = [name for name, dataset in zip(names, found, strict=True) if dataset is None]
    if missing:
        raise FileFormatError(f"the file lists an array {missing[0]}, and has none of that name")
    return found


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names that an attribute holds, or several, where they are too many for one."""
    parts = [attribute] if group.has(attribute) else []
    while not parts or parts[0] != attribute:
        name = f"{attribute}{len(parts)}"
        if not group.has(name):
            break
        parts.append(name)
    return [
        _text(name)
        for part in parts
        for name in np.ravel(hdf5.attribute(group, part))
        if not isinstance(name, np.floating)
    ]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _json(opened: Any, attribute: str) -> dict[str, Any]:
    found = hdf5.attribute(opened, attribute)
    return text.json_object(found if isinstance(found, bytes) else str(found), f"its {attribute}")


# Writing


def write_weights(opened: Any, model: Any, version: str) -> None:
    """Write the weights of a model into a group. version: of Keras, whose layout it is."""
    opened.attrs["keras_version"] = version
    _list(opened, "layer_names", [layer.label for layer in model.layers])
    for layer in model.layers:
        group = opened.require_group(layer.label)
        variables = _variables(layer)
        names = [f"{variable.path}:0" for variable in variables]
        _list(group, "weight_names", names)
        for name, variable in zip(names, variables, strict=True):
            group.create_dataset(name, data=variable.view())


def write_model(opened: Any, model: Any, entry: Mapping[str, Any], version: str) -> None:
    """Write a whole model. entry: as ``serialize_model`` describes it."""
    opened.attrs.update({"keras_version": version, "model_config": json.dumps(entry)})
    compiled = training.compile_config(model)
    if compiled is not None:
        compiled["optimizer_config"] = compiled.pop("optimizer")
        opened.attrs["training_config"] = json.dumps(compiled)
    write_weights(opened.create_group("model_weights"), model, version)
    arrays = training.row_of(model)
    if arrays:
        group = opened.create_group("optimizer_weights")
        names = [f"slot_{k}" for k in range(len(arrays))]
        _list(group, "weight_names", names)
        for name, array in zip(names, arrays, strict=True):
            group.create_dataset(name, data=array)


def _list(group: Any, attribute: str, names: Sequence[str]) -> None:
    """Write a list of names as an attribute, or as several where they are too many for one."""
    parts: list[list[bytes]] = [[]]
    width = max((len(name.encode()) for name in names), default=1)
    for name in names:
        if (len(parts[-1]) + 1) * width > LIMIT:
            parts.append([])
        parts[-1].append(name.encode())
    for k, part in enumerate(parts):
        group.attrs[attribute if len(parts) == 1 else f"{attribute}{k}"] = np.array(part, dtype=f"S{width}")
