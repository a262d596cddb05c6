"""What there is to say about a model's layers, for tables and pictures: uses, connections, weights, routes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from layerhub.graph import Node, Tensor, between
from layerhub.network import Network
from layerhub.operation import Operation
from layerhub.plan import Planner, Step
from layerhub.registry import registry
from layerhub.spec.layer import Layer, parts


@dataclass(frozen=True)
class Outline:
    """A model's graph, layer by layer. Uses of its layers in other models are none of its."""

    network: Network

    @cached_property
    def nodes(self) -> list[Node]:
        """The uses of layers: inputs, then the rest in the order in which a call comes to them."""
        return [x.node for x in self.network.inputs] + between(self.network.inputs, self.network.outputs)

    @cached_property
    def uses(self) -> dict[Any, list[Node]]:
        """The uses by layer, inputs included."""
        found: dict[Any, list[Node]] = {}
        for node in self.nodes:
            found.setdefault(node.layer, []).append(node)
        return found

    @cached_property
    def is_chain(self) -> bool:
        """Whether each layer follows the one before it, so that there is nothing to say of connections."""
        if len(self.network.inputs) > 1 or len(self.network.outputs) > 1 or len(self.uses) < len(self.nodes):
            return False
        return all([x.node for x in after.sources] == [before] for before, after in pairwise(self.nodes))

    @cached_property
    def layers(self) -> list[Any]:
        """The layers that the model counts as its own, and operations, as a call meets them; then what it never uses.

        The input of a stack is none of its layers.
        """
        own = list(self.network.layers)
        known = set(own)
        used = [layer for layer in self.uses if layer in known or isinstance(layer, Operation)]
        return [*used, *(layer for layer in own if layer not in self.uses)]

    @cached_property
    def _listed(self) -> set[Any]:
        return set(self.layers)

    def connections(self, node: Node) -> str:
        """What goes into a use of a layer, by name. The input of a stack is no layer of it, and goes without saying."""
        return ", ".join(self.source(x) for x in node.sources if x.node.layer in self._listed)

    def source(self, x: Tensor) -> str:
        """The name of a tensor: its layer's; with the numbers of use and output where that says too little."""
        uses = self.uses[x.node.layer]
        clear = len(uses) == 1 and len(x.node.outputs) == 1
        return printable(x.name if clear else f"{x.name}[{uses.index(x.node)}][{x.position}]")


def walk(network: Network, expand_nested: bool, depth: int = 0) -> Iterator[tuple[Any, Outline, int]]:
    """(layer, the outline that it stands in, how deep that is) of all layers; nested models are opened if wished."""
    outline = Outline(network)
    for layer in outline.layers:
        yield layer, outline, depth
        if expand_nested and isinstance(layer, Network):
            yield from walk(layer, True, depth + 1)


def type_name(layer: Any) -> str:
    """The class of a layer, and of those that it wraps: ``Bidirectional(LSTM)``; ``ops.add`` for an operation."""
    if isinstance(layer, Operation):
        return f"ops.{layer.function}"
    name = type(layer).__name__
    inner = [type_name(part) for part in parts(layer)] if isinstance(layer, Layer) else []
    return f"{name}({', '.join(inner)})" if inner else name


def variables(layer: Any) -> list[Any]:
    """The weights of a layer or nested model, each once, without making their values."""
    if isinstance(layer, Layer):
        return list(layer.store.variables) if layer.held and layer.built else []
    return list({id(variable): variable for variable in layer.weights}.values())


def elements(held: Sequence[Any]) -> int:
    """How many numbers weights hold."""
    return sum(math.prod(variable.shape) for variable in held)


def octets(held: Sequence[Any]) -> int:
    """How many bytes weights take."""
    return sum(elements([variable]) * int(re.sub(r"\D", "", variable.dtype)) // 8 for variable in held)


def printable(text: str) -> str:
    """A name without what would disturb its surroundings: line breaks, controls and marks that turn text round."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# Routes


def routes(network: Network) -> dict[Any, list[str]]:
    """What serves each layer on the model's backend, by layer, for all of its uses; layers of nested models, too.

    A route is ``kernel of PLUGIN`` or ``definition``; for a layer that is computed as its parts, ``parts: …`` with
    theirs.
    """
    planner = _Noting(registry(), network.backend, False, network.seed)
    network.lower(planner, [planner.input(x.shape, x.dtype) for x in network.inputs])
    return {layer: list(found) for layer, found in planner.found.items()}


class _Noting(Planner):
    """A planner that notes which steps were made for which layer."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.found: dict[Any, dict[str, None]] = {}

    def call(self, layer: Layer, *arguments: Any, **more: Any) -> Any:
        steps, variants = len(self.steps), len(self._variants)
        outputs = super().call(layer, *arguments, **more)
        # A use with options of its own, or with states that are kept, has the steps of a variant of the layer.
        acting = {id(layer), *map(id, self._variants[variants:])}
        made = [step for step in self.steps[steps:] if isinstance(step.target, Layer)]
        route = _route(made, acting)
        if route:
            self.found.setdefault(layer, {})[route] = None
        return outputs


def _route(made: Sequence[Step], acting: set[int]) -> str:
    own = next((step.route for step in made if id(step.target) in acting), None)
    if own is not None or not made:
        return own or ""
    return f"parts: {', '.join(dict.fromkeys(step.route for step in made))}"
