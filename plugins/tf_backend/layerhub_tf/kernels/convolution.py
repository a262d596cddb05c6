"""Todo."""

from layerhub.kernels import KernelSet

kernels = KernelSet()
