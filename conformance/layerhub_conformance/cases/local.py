from layerhub_conformance.case import cases

FORMATS = ["channels_last", "channels_first"]

CASES = [
    *cases(
        "LocallyConnected1D",
        [[(2, 7, 3)], [(1, 6, 4)], [(3, 4, 4)], [(0, 5, 2)], [(2, 3, 3)]],
        filters=[3, 4, 1],
        kernel_size=[2, 1, 3],
        strides=[1, 2, 3],
        data_format=FORMATS,
        activation=["linear", "relu"],
        use_bias=[True, False],
        _training=[False, True],
    ),
    *cases("LocallyConnected1D", [[(2, 6, 3)]], {"filters": 2, "kernel_size": 3}, _data=["positive", "wide"]),
    *cases(
        "LocallyConnected2D",
        [[(2, 5, 4, 3)], [(1, 4, 6, 4)], [(2, 4, 4, 4)], [(0, 5, 5, 2)], [(2, 3, 3, 2)]],
        filters=[3, 4, 1],
        kernel_size=[(2, 3), (1, 1), (3, 2), (2, 2)],
        strides=[(1, 1), (2, 1), (1, 3), (2, 2)],
        data_format=FORMATS,
        activation=["linear", "relu"],
        use_bias=[True, False],
        _training=[False, True],
    ),
    *cases("LocallyConnected2D", [[(2, 4, 4, 3)]], {"filters": 2, "kernel_size": 2}, _data=["positive", "wide"]),
]
