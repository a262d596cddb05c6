from layerhub_conformance.case import cases


def _recurrent(name, **config):
    return {"class_name": name, "config": config}


def _lstm(**config):
    return _recurrent("LSTM", units=3, **config)


def _images(**config):
    return _recurrent("ConvLSTM2D", filters=2, kernel_size=(3, 2), **config)


STACKED = _recurrent("StackedRNNCells", cells=[_recurrent("GRUCell", units=2), _recurrent("LSTMCell", units=3)])
MERGE_MODES = ["concat", "sum", "mul", "ave", None]


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
        merge_mode=MERGE_MODES,
        _masks=[(), ("left",), ("right",), ("row",)],
        _states=[False, True],
    ),
    *cases("Bidirectional", [[(2, 3, 3)]], {"layer": _lstm()}, _data=["positive"]),
    *cases(
        "Bidirectional",
        [[(2, 4, 3)], [(3, 1, 2)], [(0, 3, 2)]],
        layer=[
            _recurrent("GRU", units=3),
            _recurrent("GRU", units=2, return_sequences=True, reset_after=False),
            _recurrent("SimpleRNN", units=3, return_state=True, use_bias=False),
            _recurrent("RNN", cell=STACKED, return_sequences=True),
            _recurrent("RNN", cell=STACKED, return_sequences=True, return_state=True),
        ],
        merge_mode=MERGE_MODES,
        _masks=[(), ("left",), ("right",), ("middle",), ("row",), ("all",)],
        _states=[False, True],
    ),
    *cases(
        "Bidirectional",
        [[(2, 3, 4, 5, 2)]],
        layer=[
            _images(return_sequences=True, strides=2),
            _images(return_state=True, data_format="channels_first"),
            _images(padding="same"),
        ],
        merge_mode=MERGE_MODES,
        _masks=[(), ("left",)],
    ),
    *cases(
        "Bidirectional",
        [[(2, 3, 4)]],
        {"layer": _lstm(return_sequences=True)},
        backward_layer=[
            _lstm(return_sequences=True, go_backwards=True, activation="relu"),
            _recurrent("GRU", units=3, return_sequences=True, go_backwards=True),
        ],
        merge_mode=["concat", "ave"],
        _masks=[(), ("right",)],
    ),
    *cases(
        "Bidirectional",
        [[(2, 3, 4)]],
        layer=[_lstm(stateful=True), _recurrent("GRU", units=3, stateful=True, return_state=True)],
        merge_mode=["sum", None],
        _states=[False, True],
    ),
    *cases(
        "Bidirectional",
        [[(2, 3, 4)]],
        {"layer": _lstm(dropout=0.4)},
        backward_layer=[None, _recurrent("GRU", units=3, dropout=0.3, go_backwards=True)],
        _training=[True],
    ),
    *cases(
        "TimeDistributed",
        [[(2, 3, 4)], [(3, 1, 4)], [(0, 2, 4)]],
        layer=[
            _recurrent("Dense", units=3, activation="relu"),
            _recurrent("BatchNormalization", momentum=0.6),
            _recurrent("LayerNormalization"),
            _recurrent("Reshape", target_shape=(2, 2)),
        ],
        _training=[False, True],
        _masks=[(), ("left",), ("right",)],
    ),
    *cases(
        "TimeDistributed",
        [[(2, 2, 3, 4)], [(1, 3, 4, 4)]],
        layer=[
            _recurrent("Conv1D", filters=2, kernel_size=2, padding="same"),
            _lstm(return_sequences=True),
            _recurrent("Bidirectional", layer=_recurrent("GRU", units=2)),
            _recurrent("TimeDistributed", layer=_recurrent("Dense", units=2)),
            _recurrent("Flatten"),
        ],
        _masks=[(), ("left",)],
    ),
    *cases("Wrapper", [[(2, 4)], [(2, 3, 4)]], layer=[_recurrent("Dense", units=3), _recurrent("BatchNormalization")]),
    *cases(
        "SpectralNormalization",
        [[(4, 3)], [(2, 3)]],
        layer=[_recurrent("Dense", units=3, activation="tanh"), _recurrent("Dense", units=2, use_bias=False)],
        power_iterations=[1, 3],
        trainable=[True, False],
        _training=[False, True],
    ),
    *cases(
        "SpectralNormalization",
        [[(2, 4, 5, 2)]],
        {"layer": _recurrent("Conv2D", filters=3, kernel_size=2, data_format="channels_first")},
        _training=[False, True],
    ),
    *cases("Flip", [[(2, 4, 3)]], axis=[1, 2], _masks=[(), ("left",)]),
]
