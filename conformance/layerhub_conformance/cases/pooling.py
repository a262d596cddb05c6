from layerhub_conformance.case import cases

SPACES = {
    "1D": [[(2, 9, 4)], [(1, 8, 3)], [(2, 5, 5)], [(0, 6, 2)]],
    "2D": [[(2, 7, 6, 4)], [(1, 9, 8, 3)], [(2, 4, 5, 5)], [(0, 6, 6, 2)]],
    "3D": [[(2, 5, 4, 6, 2)], [(1, 4, 7, 5, 3)], [(1, 4, 4, 4, 4)], [(0, 4, 5, 4, 2)]],
}
WINDOWS = {
    "1D": [(2,), (3,), (4,), (1,)],
    "2D": [(2, 2), (3, 2), (4, 4), (1, 3)],
    "3D": [(2, 2, 2), (3, 2, 1), (1, 4, 3)],
}
STRIDES = {
    "1D": [None, (1,), (2,), (3,)],
    "2D": [None, (1, 1), (2, 3), (3, 1)],
    "3D": [None, (1, 1, 1), (2, 3, 1)],
}
EVEN = {"1D": (2, 6, 3), "2D": (2, 6, 6, 3), "3D": (1, 4, 4, 4, 2)}
COUNTS = {
    "1D": [(3,), (1,), (4,), (11,)],
    "2D": [(3, 2), (1, 1), (4, 5), (2, 8)],
    "3D": [(2, 2, 3), (1, 1, 1), (4, 3, 2)],
}
FORMATS = ["channels_last", "channels_first"]

CASES = []
for rank, spaces in SPACES.items():
    for kind in ("Max", "Average"):
        CASES += cases(
            f"{kind}Pooling{rank}",
            spaces,
            pool_size=WINDOWS[rank],
            strides=STRIDES[rank],
            padding=["valid", "same"],
            data_format=FORMATS,
        )
        CASES += cases(f"{kind}Pooling{rank}", [[EVEN[rank]]], padding=["same"], _data=["positive", "wide"])
        CASES += cases(
            f"Global{kind}Pooling{rank}",
            spaces,
            data_format=FORMATS,
            keepdims=[False, True],
            _data=["normal", "positive", "wide"],
        )
        CASES += cases(f"Adaptive{kind}Pooling{rank}", spaces, output_size=COUNTS[rank], data_format=FORMATS)
        CASES += cases(f"Adaptive{kind}Pooling{rank}", [[EVEN[rank]]], output_size=[2], _data=["positive", "wide"])
CASES += cases(
    "GlobalAveragePooling1D",
    [[(3, 5, 4)], [(2, 1, 3)], [(4, 4, 4)]],
    data_format=["channels_last"],
    keepdims=[False, True],
    _masks=[("left",), ("right",), ("middle",), ("row",), ("all",)],
)
