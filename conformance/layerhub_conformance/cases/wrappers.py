from layerhub_conformance.case import cases


def _lstm(**config):
    return {"class_name": "LSTM", "config": {"units": 3, **config}}


CASES = [
    *cases(
        "Bidirectional",
        [[(2, 4, 3)], [(3, 5, 2)]],
        layer=[
            _lstm(),
            _lstm(return_sequences=True),
            _lstm(return_state=True),
            _lstm(return_sequences=True, return_state=True),
        ],
        merge_mode=["concat", "sum", "mul", "ave", None],
        _masks=[(), ("left",), ("right",), ("row",)],
        _states=[False, True],
    ),
    *cases("Bidirectional", [[(2, 3, 3)]], {"layer": _lstm()}, _data=["positive"]),
    *cases("Flip", [[(2, 4, 3)]], axis=[1, 2], _masks=[(), ("left",)]),
]
