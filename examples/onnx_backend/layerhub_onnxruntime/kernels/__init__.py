"""Kernels for onnxruntime, by family of specs: the operators of ONNX that mean the same as a definition."""
