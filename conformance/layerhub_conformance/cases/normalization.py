from layerhub_conformance.case import cases

CASES = [
    *cases(
        "BatchNormalization",
        [[(4, 5)], [(3, 4, 5)], [(2, 3, 4, 5)]],
        axis=[-1, 1],
        momentum=[0.99, 0.6],
        epsilon=[1e-3, 1e-5],
        center=[True, False],
        scale=[True, False],
        trainable=[True, False],
        _training=[True, False],
    ),
    *cases(
        "BatchNormalization", [[(3, 5, 4)]], _training=[True], _masks=[("left",), ("right",), ("middle",), ("row",)]
    ),
    *cases("BatchNormalization", [[(6, 4)]], _training=[True, False], _data=["positive", "large_mean"]),
    *cases(
        "LayerNormalization",
        [[(3, 5)], [(2, 3, 4)], [(2, 3, 2, 3)], [(0, 3, 4)]],
        axis=[-1, 1, (1, 2), (-1, 1), (2,)],
        epsilon=[1e-3, 1e-5],
        center=[True, False],
        scale=[True, False],
        _data=["normal", "positive", "large_mean"],
    ),
    *cases("LayerNormalization", [[(3, 4, 2)]], axis=[-1, 1], _masks=[("left",), ("row",)]),
    *cases(
        "GroupNormalization",
        [[(3, 6)], [(2, 4, 6)], [(2, 6, 3)], [(2, 3, 2, 6)], [(2, 4, 2, 2, 3)], [(0, 2, 6)]],
        groups=[2, 1, 3, -1],
        axis=[-1, 1],
        epsilon=[1e-3, 1e-5],
        center=[True, False],
        scale=[True, False],
        _data=["normal", "positive", "large_mean"],
    ),
    *cases("GroupNormalization", [[(3, 4, 2)]], groups=[1, 2], _masks=[("left",), ("row",)]),
    *cases(
        "RMSNormalization",
        [[(3, 5)], [(2, 3, 4)], [(2, 3, 2, 3)], [(0, 3, 4)]],
        axis=[-1, 1, (1, 2), (-1, 1), (2,)],
        epsilon=[1e-6, 1e-3],
        _data=["normal", "positive", "wide", "large_mean"],
    ),
    *cases("RMSNormalization", [[(3, 4, 2)]], axis=[-1, 1], _masks=[("left",), ("row",)]),
    *cases(
        "UnitNormalization",
        [[(3, 5)], [(2, 3, 4)], [(2, 3, 2, 3)], [(0, 3, 4)]],
        axis=[-1, 1, (1, 2), (-1, 1), (2,)],
        _data=["normal", "positive", "wide", "large_mean"],
    ),
    *cases("UnitNormalization", [[(8, 2)]], axis=[-1], _data=["binary"]),
    *cases("UnitNormalization", [[(3, 4, 2)]], axis=[-1, 1], _masks=[("left",), ("row",)]),
]
