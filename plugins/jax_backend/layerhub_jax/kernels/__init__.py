"""Kernels. Most definitions need none: XLA compiles what they say as well as what one would write by hand."""
