from layerhub_conformance.case import cases

CASES = [
    case
    for layer in ("Add", "Average", "Multiply")
    for case in (
        *cases(
            layer,
            [[(2, 3, 4)] * 2, [(2, 3, 4)] * 3, [(2, 4), (2, 3, 4)], [(2, 1, 4), (2, 3, 1)]],
            _data=["normal", "positive"],
        ),
        *cases(layer, [[(3, 4, 2)] * 2], _masks=[("left", "right"), ("right", "none"), ("row", "middle")]),
    )
]
CASES += cases("Concatenate", [[(2, 3, 4)] * 2, [(2, 3, 4)] * 3], axis=[-1, 1, 2])
CASES += cases("Concatenate", [[(2, 3, 4), (2, 3, 2)]], _masks=[("left", "right"), ("none", "right"), ()])
CASES += cases("Concatenate", [[(3, 4, 2), (3, 2, 2)]], axis=[1], _masks=[("left", "right"), ("middle", "none")])
