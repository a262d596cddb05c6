"""Activations as layers: what they do at their kinks, with masks, and with weights shared along axes."""

from layerhub_conformance.case import cases

CASES = [
    *cases("ReLU", [[(3, 7)]], max_value=[None, 0.9, 6.0], negative_slope=[0.0, 0.1], threshold=[0.0, 0.2]),
    *cases("LeakyReLU", [[(3, 7)]], negative_slope=[0.0, 1.5], _data=["ties", "wide"]),
    # One alpha for all along some axes: of a volume along two of its three.
    *cases("PReLU", [[(2, 3, 3, 4)], [(2, 3, 2, 2, 3)]], shared_axes=[(2, 3), (1, 2, 3)]),
    # Masks of the input's own shape, and of its first axes, along and across the softmax.
    *cases("Softmax", [[(3, 4)], [(3, 4, 2)], [(3, 4, 2, 2)]], axis=[1, (1, 2)], _masks=[("left",), ("row",)]),
    *cases("Softmax", [[(4,)], [(3, 2)]], axis=[0]),
]
