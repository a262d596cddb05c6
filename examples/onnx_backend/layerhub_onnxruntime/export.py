"""Models as ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from itertools import chain, count
from typing import IO, Any, Literal

import onnx

from layerhub.errors import BackendError, LayerHubError, ParameterError
from layerhub.plan import Plan, Planner
from layerhub.registry import registry
from layerhub_onnxruntime import sessions
from layerhub_onnxruntime.arrays import Array, given, ordered
from layerhub_onnxruntime.lowering import OPSET, model

OPERATORS = {"exact": "onnxruntime", "standard": "onnx"}
"""Whose kernels serve: those that mean the definitions exactly on onnxruntime, or all operators of ONNX."""

SPREADING = ("ConstantOfShape", "Expand", "Range")
"""Operators that make much out of little: their results are not written down."""


def write(
    network: Any,
    file: IO[bytes],
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    batch_size: int | None = None,
    opset: int = OPSET,
    operators: Literal["exact", "standard"] = "exact",
) -> None:
    """Write a model as ONNX, as it predicts.

    input_names, output_names: in the model's order; None takes the layers' names. batch_size: None leaves it open.
    opset: the version of ONNX's operators, 18 or later. operators: "exact" has only operators that give, on
    onnxruntime, what the definitions mean, to rounding; "standard" also has LSTM, GRU, Sigmoid and others whose
    implementations are less accurate far from 0.
    """
    _check(batch_size, opset, operators)
    plan, arrays = _planned(network, OPERATORS[operators])
    inputs = _named("input_names", input_names, [x.name for x in network.inputs])
    outputs = _named("output_names", output_names, network.output_names, inputs)
    shapes = [(batch_size if x.shape[0] is None else x.shape[0], *x.shape[1:]) for x in plan.inputs]
    placeholders = [Array(shape, x.dtype) for shape, x in zip(shapes, plan.inputs, strict=True)]
    run = plan.function(registry().backend("onnxruntime").xp)
    try:
        results = run(arrays, placeholders, (), 0)[0]
    except (TypeError, LayerHubError) as problem:
        raise BackendError(
            f"{network.name} cannot be exported with sizes that are unknown: {problem}; give batch_size, or the whole "
            "shape in lh.Input"
        ) from problem
    fold(results)
    proto = model(
        dict(zip(inputs, placeholders, strict=True)),
        dict(zip(outputs, results, strict=True)),
        opset,
        network.name,
        {"layerhub": version("layerhub")},
    )
    sessions.session(proto)  # which says so if onnxruntime cannot run it
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, file)


def _check(batch_size: Any, opset: Any, operators: Any) -> None:
    """Raise ParameterError for an option's value that is none."""
    if operators not in OPERATORS:
        raise ParameterError(f"export: operators must be one of {', '.join(map(repr, OPERATORS))}, not {operators!r}")
    if not (isinstance(opset, int) and OPSET <= opset <= onnx.defs.onnx_opset_version()):
        raise ParameterError(f"export: opset must be from {OPSET} to {onnx.defs.onnx_opset_version()}, not {opset!r}")
    if not (batch_size is None or (isinstance(batch_size, int) and batch_size > 0)):
        raise ParameterError(f"export: batch_size must be a positive int or None, not {batch_size!r}")


def _planned(network: Any, kernels: str) -> tuple[Plan, list[Array]]:
    """The plan for prediction, and the weights, called after their layers."""
    planner = Planner(registry(), kernels, False, network.seed)
    plan = planner.plan(network.lower(planner, [planner.input(x.shape, x.dtype) for x in network.inputs]))
    for step in plan.steps:
        dtype = getattr(step.target, "compute_dtype", "float32")
        supported = registry().backend("onnxruntime").dtypes
        if dtype not in supported:
            raise BackendError(
                f"{network.name}: {step.target!r} computes in {dtype}, which cannot be exported; clone the model with "
                f"one of {', '.join(supported)}: lh.models.clone_model(model, dtype='float32')"
            )
    if plan.updated:
        layer = plan.slots[plan.updated[0]].layer
        raise BackendError(
            f"{network.name} cannot be exported: {layer.label} keeps states from call to call, which ONNX models do "
            "not; make it with stateful=False"
        )
    return plan, [given(v.numpy(), v.path) for v in (s.layer.store.by_name()[s.spec.name] for s in plan.slots)]


def _named(option: str, names: Sequence[str] | None, own: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Names for inputs or outputs: those asked for, or their own, numbered where they are ``taken`` already."""
    if names is None:
        found: list[str] = []
        for name in own:
            numbered = (f"{name}_{k}" for k in count(1))
            found.append(next(n for n in chain([name], numbered) if n not in found and n not in taken))
        return found
    different = len({*names, *taken}) == len(own) + len(taken)
    if isinstance(names, str) or len(names) != len(own) or not different:
        raise ParameterError(f"export: {option} must be {len(own)} new names, for {', '.join(own)}; not {names!r}")
    return list(names)


def fold(results: Sequence[Array]) -> None:
    """Compute what follows from weights alone, such as transposed kernels, so that the file holds that instead."""
    names: dict[int, set[str]] = {}
    wanted: dict[int, Array] = {}
    for node in ordered(results):
        if node.body is None and all(x.value is not None or id(x.node) in names for x in node.takes):
            names[id(node)] = set().union(*({x.name} if x.value is not None else names[id(x.node)] for x in node.takes))
            continue
        for x in node.takes:
            if x.value is None and id(x.node) in names and x.node.operator not in SPREADING:
                wanted[id(x)] = x
    for x in wanted.values():
        own = names[id(x.node)] - {""}
        x.name = own.pop() if len(own) == 1 else ""
    sessions.evaluate(list(wanted.values()))
