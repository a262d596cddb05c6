from layerhub_conformance.case import cases

SHAPES = [[(3, 7)], [(2, 3, 4)], [(0, 4)]]
DATA = ["normal", "positive", "wide"]

CASES = [
    *cases("ReLU", SHAPES, max_value=[None, 0.9, 6.0], negative_slope=[0.0, 0.1], threshold=[0.0, 0.2], _data=DATA),
    *cases("LeakyReLU", SHAPES, negative_slope=[0.3, 0.0, 1.5], _data=DATA),
    *cases("ELU", SHAPES, alpha=[1.0, 0.5], _data=DATA),
    *cases("ThresholdedReLU", SHAPES, theta=[1.0, 0.0, 0.3], _data=DATA),
    *cases(
        "PReLU",
        [[(3, 7)], [(2, 3, 4)], [(2, 3, 3, 4)], [(0, 4)], [(2, 3, 2, 2, 3)]],
        shared_axes=[None, (1,), (1, 2), (2, 3), (1, 2, 3)],
        _data=DATA,
    ),
    *cases(
        "Softmax",
        [[(3, 7)], [(2, 3, 4)], [(2, 2, 3, 2)], [(0, 4, 2)]],
        axis=[-1, 1, (1, 2), (-1,)],
        _data=["normal", "positive"],
    ),
    *cases("Softmax", [[(4,)], [(3, 2)]], axis=[0], _data=["normal", "positive"]),
    *cases(
        "Softmax",
        [[(3, 4)], [(3, 4, 2)], [(3, 4, 2, 2)]],
        axis=[-1, 1, (1, 2)],
        _masks=[("left",), ("right",), ("middle",), ("row",), ("all",)],
        _data=["normal", "positive"],
    ),
]
for layer in ("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "PReLU"):
    CASES += cases(layer, [[(3, 4, 2)]], _masks=[("left",)])
