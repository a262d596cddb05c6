"""Kernels by family; each module is named as the specs' module that it serves."""
