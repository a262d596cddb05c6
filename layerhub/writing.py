"""Models written down, as configs, texts, files and tables, and made again from what was written."""

from __future__ import annotations

import inspect
import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Self

from layerhub import saving, structure
from layerhub.errors import FileFormatError, GraphError, ParameterError, suggest
from layerhub.graph import Tensor
from layerhub.network import Network
from layerhub.registry import registry
from layerhub.saving import dialect, masks
from layerhub.saving import text as configs
from layerhub.saving.entries import (
    MODELS,
    deserialize_layer,
    enter,
    input_of,
    serialize_layer,
    serialize_whole,
)


class Writable(Network):
    """A network that can be written down, and made again by the name of its class."""

    def __init_subclass__(cls) -> None:
        if not cls.__module__.startswith("layerhub.") or cls.__module__ == "layerhub.models":
            enter(cls)  # the others are stages in which models are built up: none that a file may name

    # Files

    def located(self) -> list[tuple[str, Any]]:
        """(path in a file, layer) of the layers, where they are addressed by attributes; else none."""
        return []

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a ``.keras`` archive: its graph, its weights, how it was compiled, where training stands.

        What was at ``path`` before stays there until the new file is whole. Keras 3 opens it, too. With the suffix
        ``.h5`` or ``.hdf5`` the file is in Keras 2's layout.
        """
        self._check_complete()
        saving.save_model(self, serialize_whole(self), path)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights alone: to ``.weights.h5``, in Keras 3's layout, to ``.safetensors``, or to ``.h5``."""
        self._check_complete()
        saving.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str], by_name: bool = False, skip_mismatch: bool = False) -> None:
        """Take the weights that a file holds; its content says of which kind it is, not its name.

        by_name: take those of layers whose names the file has, and leave the others as they are. skip_mismatch: leave
        layers as they are whose weights do not fit, with a warning. Both are for files in Keras 2's layout.
        Raises FileFormatError for a file that is damaged or of another kind, and WeightsError where its weights do not
        fit; then nothing is changed.
        """
        self._check_complete()
        saving.load_weights(self, path, by_name, skip_mismatch)

    def export(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the model, as it predicts, in a format for other programs; the path's suffix says in which.

        options: those of the plugin that writes the format. What was at ``path`` before stays there until the new file
        is whole. Raises BackendError where no plugin writes such files, and ParameterError for an option that is none.
        """
        self._check_complete()
        suffix = Path(path).suffix
        write = registry().exporter(suffix)
        known = list(inspect.signature(write).parameters)[2:]
        wrong = next((name for name in options if name not in known), None)
        if wrong is not None:
            raise ParameterError(
                f"{self.name}: {suffix!r} files have no option {wrong!r}.{suggest(wrong, known)} "
                f"Their options: {', '.join(known)}"
            )
        with saving.files.replacing(path) as file:
            write(self, file, **options)

    # Description

    def get_config(self) -> dict[str, Any]:
        """The graph as Keras 3 writes it; ``from_config`` turns it back into a model (without weights)."""
        listed = [x.node for x in self.inputs] + self.graph.nodes
        keys: dict[Tensor, dialect.Key] = {}
        calls: dict[Any, list[Any]] = {node.layer: [] for node in listed}
        counts: dict[Any, int] = {}
        for node in listed:
            number = counts.get(node.layer, 0)
            counts[node.layer] = number + 1
            if node.inputs:
                calls[node.layer].append(dialect.call_of(node, keys))
            keys.update({y: dialect.Key(node.layer.label, number, k) for k, y in enumerate(node.outputs)})
        entries = []
        for layer, made in calls.items():
            entry = serialize_layer(layer)
            for option in dialect.options_of(layer):  # said at each call
                del entry["config"][option]
            entries.append(entry | {"name": layer.label, "inbound_nodes": made})
        return {
            "name": self.name,
            "seed": self.seed,
            "layers": entries,
            "input_layers": structure.listed(lambda x: list(keys[x]), self._takes),
            "output_layers": structure.listed(lambda y: list(self._as_output(keys[y], y)), self._gives),
        }

    @staticmethod
    def _as_output(key: dialect.Key, y: Tensor) -> dialect.Key:
        # Keras counts a graph's own making as its first call, where it says what a model's outputs are.
        return key._replace(call=key.call + 1) if _is_graph(y.node.layer) else key

    def to_json(self, **options: Any) -> str:
        """The configuration as JSON text; ``lh.models.model_from_json`` reads it. options: those of ``json.dumps``."""
        return json.dumps(serialize_whole(self), **options)

    def to_yaml(self, **options: Any) -> str:
        """The configuration as YAML text; ``lh.models.model_from_yaml`` reads it. options: those of ``yaml.dump``.

        Needs PyYAML.
        """
        return configs.to_yaml(serialize_whole(self), **options)

    def build_config(self) -> dict[str, Any] | None:
        """What a model of the same config needs besides, to be built as this one is; None if nothing."""
        return None

    @classmethod
    def remade(
        cls,
        config: Mapping[str, Any],
        built: Mapping[str, Any] | None = None,
        custom_objects: Mapping[str, Any] | None = None,
        backend: str | None = None,
        device: str | None = None,
        seed: int | None = None,
    ) -> Self:
        """A model of this class by its config and its ``build_config``."""
        options = {} if seed is None else {"seed": seed}
        return cls.from_config(config, custom_objects, backend=backend, device=device, **options)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """The model that a config describes, with fresh weights.

        custom_objects: classes and functions by the names that the config has for them. options: backend, device, seed.
        Raises FileFormatError, GraphError and UnknownNameError.
        """
        entries = [_named(entry) for entry in config["layers"]]
        old = any(isinstance(node, list) for entry in entries for node in entry.get("inbound_nodes") or ())
        graphs = {entry["name"]: 1 for entry in entries if "layers" in entry["config"]}
        listed = {entry["name"]: dialect.calls_in(entry, graphs if old else {}) for entry in entries}
        kept, listed = masks.implied(entries, listed, dialect.keys_in(config["output_layers"]))
        layers = {entry["name"]: deserialize_layer(entry, custom_objects) for entry in kept}
        made = {
            dialect.Key(entry["name"], 0, 0): input_of(entry) for entry in kept if entry["class_name"] == "InputLayer"
        }
        _call(layers, listed, made, str(config.get("name")))

        def tensors(keys: Any) -> Any:
            if isinstance(keys, Mapping):
                return {name: tensors(part) for name, part in keys.items()}
            if not (isinstance(keys, list) and keys and isinstance(keys[0], str)):
                dialect.keys_in(keys)  # or it is no list of tensors
                return [tensors(part) for part in keys]
            key = dialect.key_of(keys)
            graph = key.layer in graphs and (old or _is_graph(layers.get(key.layer)))
            key = key._replace(call=key.call - 1) if graph else key
            if key not in made:
                raise GraphError(f"the config of {config.get('name')} has no call {key.call} of {key.layer!r}")
            return made[key]

        inputs, outputs = tensors(config["input_layers"]), tensors(config["output_layers"])
        told: dict[str, Any] = {"seed": config.get("seed"), **options}
        return cls(inputs, outputs, name=config.get("name"), **told)

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print the layers: output shapes, parameters, what each is connected to, and what serves it on the backend.

        line_length: characters of a line; None takes the terminal's, and in a pipe what the table needs. positions:
        where columns end, in characters or as shares of the line, one number for each; the last may be left out.
        print_fn: gets the text, in place of the terminal. expand_nested: also the layers of nested models.
        show_trainable: also whether training moves a layer's weights. layer_range: the names of the first and the last
        layer to print, or regular expressions for them.
        Raises StateError before the model leads from inputs to outputs, ParameterError for what cannot be meant.
        """
        self._check_complete()
        from layerhub.visual.summary import print_summary  # loaded when it is asked for, as cli's parts are

        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)


def _is_graph(layer: Any) -> bool:
    """Whether Keras takes a layer for a graph: models are, that are no stack of layers."""
    return isinstance(layer, Network) and not isinstance(layer, MODELS["Sequential"])


def _call(
    layers: Mapping[str, Any], calls: Mapping[str, Sequence[dialect.Call]], made: dict[dialect.Key, Tensor], name: str
) -> None:
    """Call the layers of the graph ``name`` as listed, each as soon as what it takes is made, into ``made``."""
    listed = [(layer, number, call) for layer, of in calls.items() for number, call in enumerate(of)]
    missing: list[int] = []
    takers: dict[Any, list[int]] = defaultdict(list)
    for index, (layer, number, call) in enumerate(listed):
        # A layer's calls come one after the other, as their numbers say.
        needs = {key for key in call.keys if key not in made} | ({(layer, number - 1)} if number else set())
        missing.append(len(needs))
        for key in needs:
            takers[key].append(index)
    ready = [index for index, count in enumerate(missing) if not count]
    done = 0
    while ready:
        layer, number, call = listed[heappop(ready)]
        args, kwargs = call.given(made)
        outputs = structure.flat(layers[layer](*args, **kwargs))
        new = {dialect.Key(layer, number, k): y for k, y in enumerate(outputs)}
        made.update(new)
        done += 1
        for index in (index for key in (*new, (layer, number)) for index in takers.pop(key, ())):
            missing[index] -= 1
            if not missing[index]:
                heappush(ready, index)
    if done < len(listed):
        raise GraphError(f"the config of {name} has a cycle, or speaks of a layer that it lacks")


def _named(entry: Any) -> dict[str, Any]:
    """A layer's entry in the config of a graph, which has a name. Raises FileFormatError."""
    if isinstance(entry, Mapping) and isinstance(entry.get("config"), Mapping):
        name = entry.get("name", entry["config"].get("name"))
        if isinstance(name, str) and isinstance(entry.get("class_name"), str):
            return {**entry, "name": name}
    raise FileFormatError(f"a layer of a model is {{'class_name': …, 'name': …, 'config': …}}, not {entry!r:.200}")
