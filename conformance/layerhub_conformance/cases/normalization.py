"""Normalization: small differences of large numbers along every axis, and vectors of zeros."""

from layerhub_conformance.case import cases

AXES = [-1, 1, (1, 2), (-1, 1)]

CASES = [
    *cases("LayerNormalization", [[(2, 3, 4)], [(2, 3, 2, 3)]], axis=AXES, _data=["large_mean"]),
    *cases("RMSNormalization", [[(2, 3, 4)]], axis=AXES, _data=["wide"]),
    *cases("UnitNormalization", [[(2, 3, 4)]], axis=AXES, _data=["wide"]),
    *cases("UnitNormalization", [[(8, 2)]], axis=[-1], _data=["ties"]),
    *cases("GroupNormalization", [[(2, 4, 6)], [(2, 6, 3)]], groups=[2, 3, -1], axis=[-1, 1], _data=["large_mean"]),
    *cases(
        "BatchNormalization", [[(3, 5, 4)]], _training=[True], _masks=[("left",), ("right",), ("middle",), ("row",)]
    ),
    *cases("BatchNormalization", [[(6, 4)]], _training=[True, False], _data=["positive", "large_mean"]),
]
