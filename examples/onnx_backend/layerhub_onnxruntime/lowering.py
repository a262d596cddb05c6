"""Lazy arrays written out as an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from layerhub.errors import BackendError
from layerhub_onnxruntime.arrays import Array, Body, Node, Shape, ordered

OPSET = 18
"""The first operator set that has all operators that are written."""


def model(
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    opset: int = OPSET,
    name: str = "layerhub",
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The model that computes outputs from inputs. Other arrays that have values become initializers."""
    graph = _Writer(inputs, outputs).graph(name)
    imports = [helper.make_opsetid("", opset)]
    made = helper.make_model(
        graph,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="layerhub-onnxruntime",
    )
    helper.set_model_props(made, dict(metadata or {}))
    return made


class _Writer:
    """Writes nodes in order. Names are unique over all nested graphs."""

    def __init__(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]):
        self.inputs, self.outputs = inputs, outputs
        self.taken = {*inputs, *outputs}
        self.numbers = count(1)
        self.names: dict[Any, str] = {id(x): name for name, x in inputs.items()}
        self.initializers: list[onnx.TensorProto] = []

    def graph(self, name: str) -> onnx.GraphProto:
        copies = []
        for label, x in self.outputs.items():
            # A node's output bears the model's name for it; what is no node's output, or is one twice, is copied.
            if x.value is None and x.node is not None and self._key(x) not in self.names:
                self.names[self._key(x)] = label
            else:
                copies.append((x, label))
        nodes = [self.written(node) for node in ordered(list(self.outputs.values()))]
        nodes += [helper.make_node("Identity", [self.name(x)], [label]) for x, label in copies]
        return helper.make_graph(
            nodes,
            name,
            [described(label, x, self.sizes(label, x.shape)) for label, x in self.inputs.items()],
            [described(label, x, self.sizes(label, x.shape)) for label, x in self.outputs.items()],
            self.initializers,
        )

    @staticmethod
    def sizes(label: str, shape: Shape) -> list[int | str]:
        """A shape with names for the sizes that are unknown; the first axis is the batch."""
        return [(f"{label}_{axis}" if axis else "batch") if s is None else s for axis, s in enumerate(shape)]

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
        name = stem if stem and stem not in self.taken else ""
        while not name:
            candidate = f"{stem}_{next(self.numbers)}"
            name = "" if candidate in self.taken else candidate
        self.taken.add(name)
        return name

    @staticmethod
    def _key(x: Array) -> Any:
        return id(x) if x.node is None or x.value is not None else (id(x.node), x.slot)

    def name(self, x: Array | None) -> str:
        """The name of an array; what has a value is written down as an initializer when it is first met."""
        if x is None:
            return ""
        key = self._key(x)
        if key not in self.names:
            if x.value is None:
                raise BackendError(f"{x!r} depends on a placeholder that is none of the inputs")
            self.names[key] = self.fresh(x.name or "constant")
            self.initializers.append(numpy_helper.from_array(np.asarray(x.value, order="C"), self.names[key]))
        return self.names[key]

    def written(self, node: Node) -> onnx.NodeProto:
        """A node, with a body where it has one."""
        attributes = {
            k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in node.attributes.items()
        }
        if node.body is not None:
            for x in node.body.captures:
                self.name(x)
            attributes["body"] = self.body(node.body)
        takes = [self.name(x) for x in node.inputs]
        keys = [(id(node), slot) for slot in range(node.count)]
        for key in keys:
            if key not in self.names:
                self.names[key] = self.fresh(node.operator.lower())
        gives = [self.names[key] for key in keys]
        return helper.make_node(node.operator, takes, gives, name=self.fresh(node.operator), **attributes)

    def body(self, body: Body) -> onnx.GraphProto:
        for x in body.inputs:
            self.names[id(x)] = self.fresh("carried")
        nodes = [self.written(node) for node in body.nodes]
        labels = [self.fresh("moved") for _ in body.outputs]
        # Outputs of a body are its own nodes', each one once: copies are.
        nodes += [
            helper.make_node("Identity", [self.name(x)], [label]) for x, label in zip(body.outputs, labels, strict=True)
        ]
        return helper.make_graph(
            nodes,
            self.fresh("body"),
            [described(self.names[id(x)], x, x.shape) for x in body.inputs],
            [described(label, x, x.shape) for label, x in zip(labels, body.outputs, strict=True)],
        )


def described(name: str, x: Array, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    """Name, type and shape of an input or output."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), shape)
