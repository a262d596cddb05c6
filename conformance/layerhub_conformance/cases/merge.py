"""Merging: inputs that broadcast, ties between inputs, and axes named in every way."""

from layerhub_conformance.case import cases

CASES = [
    case
    for layer in ("Add", "Average", "Multiply", "Maximum", "Minimum")
    for case in (
        *cases(layer, [[(2, 4), (2, 3, 4)], [(2, 1, 4), (2, 3, 1)]]),
        *cases(layer, [[(3, 4)] * 3, [(0, 4)] * 2], _data=["ties"]),
    )
]
CASES += cases(
    "Dot",
    [[(2, 3, 4), (2, 4, 3)], [(2, 4, 3, 2), (2, 3, 4)], [(2, 3, 4), (2, 2, 3, 4)], [(2, 3, 3), (2, 3, 3)]],
    axes=[1, 2, (1, 2), (2, 1), (1, -1)],
    normalize=[False, True],
)
# The mask of what is joined: along time, and along the features.
CASES += cases("Concatenate", [[(2, 3, 4), (2, 3, 2)]], _masks=[("left", "right"), ("none", "right")])
CASES += cases("Concatenate", [[(3, 4, 2), (3, 2, 2)]], axis=[1], _masks=[("left", "right"), ("middle", "none")])
