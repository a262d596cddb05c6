"""LayerHub's onnxruntime backend, for inference, and its exporter of ONNX files. This module imports no framework."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from layerhub.hookspecs import BackendEntry, Exporter, hookimpl

LAYERHUB_API = 1

FAMILIES = "activations advanced convolution core normalization pooling recurrent reshaping".split()


def load() -> Any:
    """Import onnxruntime and make the backend."""
    from layerhub_onnxruntime.backend import OnnxBackend

    return OnnxBackend()


@hookimpl
def layerhub_backend() -> BackendEntry:
    return BackendEntry(
        "onnxruntime", load=load, requires=("onnx", "onnxruntime"), install="pip install layerhub-onnxruntime"
    )


@hookimpl
def layerhub_kernels(backend: str) -> Any:
    """The kernels of the backend; and under the name "onnx", for exports, all operators as ONNX itself defines them."""
    if backend not in ("onnxruntime", "onnx"):
        return None
    modules = [import_module(f"layerhub_onnxruntime.kernels.{family}") for family in FAMILIES]
    exact = [module.kernels for module in modules]
    if backend == "onnxruntime":
        return exact
    return [*(module.standard for module in modules if hasattr(module, "standard")), *exact]


def load_writer() -> Any:
    """Import onnx, and what writes its files."""
    from layerhub_onnxruntime.export import write

    return write


@hookimpl
def layerhub_exporters() -> Exporter:
    return Exporter(".onnx", load_writer, requires=("onnx", "onnxruntime"), install="pip install layerhub-onnxruntime")
