from layerhub_conformance.case import cases

MASKS = [(), ("left",), ("right",), ("middle",), ("row",), ("all",)]

CASES = [
    *cases(
        "LSTM",
        [[(3, 5, 4)], [(2, 1, 3)], [(1, 7, 2)]],
        units=[3, 5],
        activation=["tanh", "relu"],
        recurrent_activation=["sigmoid", "hard_sigmoid"],
        use_bias=[True, False],
        return_sequences=[False, True],
        return_state=[False, True],
        go_backwards=[False, True],
        zero_output_for_mask=[False, True],
        _masks=MASKS,
        _states=[False, True],
    ),
    *cases(
        "LSTM",
        [[(3, 5, 4)], [(2, 3, 3)]],
        {"units": 3},
        return_sequences=[False, True],
        go_backwards=[False, True],
        _states=[False, True],
        _masks=MASKS,
    ),
    *cases(
        "LSTM",
        [[(2, 3, 4)]],
        {"units": 3},
        dropout=[0.0, 0.4],
        recurrent_dropout=[0.0, 0.3],
        implementation=[1, 2],
        _training=[True],
    ),
    *cases("LSTM", [[(2, 3, 4)]], {"units": 4}, _data=["positive", "wide"], return_sequences=[True]),
]
