from layerhub_conformance.case import cases

CASES = [
    case
    for layer in ("Add", "Average", "Multiply", "Maximum", "Minimum")
    for case in (
        *cases(
            layer,
            [[(2, 3, 4)] * 2, [(2, 3, 4)] * 3, [(2, 4), (2, 3, 4)], [(2, 1, 4), (2, 3, 1)]],
            _data=["normal", "positive"],
        ),
        *cases(layer, [[(3, 4, 2)] * 2], _masks=[("left", "right"), ("right", "none"), ("row", "middle")]),
        *cases(layer, [[(3, 4, 2)] * 3], _masks=[("left", "all", "right"), ("none", "row", "middle")]),
        *cases(layer, [[(3, 4)] * 3, [(0, 4)] * 2], _data=["binary"]),
    )
]
CASES += cases(
    "Subtract",
    [[(2, 3, 4)] * 2, [(2, 4), (2, 3, 4)], [(2, 1, 4), (2, 3, 1)], [(0, 3)] * 2],
    _data=["normal", "positive"],
)
CASES += cases("Subtract", [[(3, 4, 2)] * 2], _masks=[("left", "right"), ("right", "none"), ("row", "middle")])
CASES += cases(
    "Dot",
    [[(3, 4), (3, 4)], [(2, 3, 4), (2, 5, 4)], [(2, 3, 4), (2, 4)], [(2, 4), (2, 2, 4)], [(0, 2, 4), (0, 3, 4)]],
    axes=[-1, (-1, -1)],
    normalize=[False, True],
    _data=["normal", "positive"],
)
CASES += cases(
    "Dot",
    [[(2, 3, 4), (2, 4, 3)], [(2, 4, 3, 2), (2, 3, 4)], [(2, 3, 4), (2, 2, 3, 4)], [(2, 3, 3), (2, 3, 3)]],
    axes=[1, 2, (1, 2), (2, 1), (1, -1)],
    normalize=[False, True],
)
CASES += cases("Dot", [[(3, 4, 2)] * 2], axes=[1], _masks=[("left", "right"), ("right", "none")])
CASES += cases("Concatenate", [[(2, 3, 4)] * 2, [(2, 3, 4)] * 3], axis=[-1, 1, 2])
CASES += cases("Concatenate", [[(2, 3, 4), (2, 3, 2)]], _masks=[("left", "right"), ("none", "right"), ()])
CASES += cases("Concatenate", [[(3, 4, 2), (3, 2, 2)]], axis=[1], _masks=[("left", "right"), ("middle", "none")])
