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
]
