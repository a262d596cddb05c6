"""Wrappers: layers within layers within layers, and a backward layer that is another than the forward one."""

from layerhub_conformance.case import cases
from layerhub_conformance.cases.recurrent import cell, named

STACKED = named("StackedRNNCells", cells=[cell("GRU", 2), cell("LSTM")])
LSTM = named("LSTM", units=3, return_sequences=True)
MERGE_MODES = ["concat", "sum", "mul", "ave", None]


def images(**config):
    return named("ConvLSTM2D", filters=2, kernel_size=(3, 2), **config)


CASES = [
    *cases(
        "Bidirectional",
        [[(2, 4, 3)], [(3, 1, 2)]],
        layer=[
            named("RNN", cell=STACKED, return_sequences=True),
            named("RNN", cell=STACKED, return_sequences=True, return_state=True),
        ],
        merge_mode=MERGE_MODES,
        _masks=[(), ("left",), ("row",)],
        _states=[False, True],
    ),
    *cases(
        "Bidirectional",
        [[(2, 3, 4, 5, 2)]],
        layer=[images(return_sequences=True, strides=2), images(return_state=True, data_format="channels_first")],
        merge_mode=["concat", None],
        _masks=[(), ("left",)],
    ),
    *cases(
        "Bidirectional",
        [[(2, 3, 4)]],
        {"layer": LSTM},
        backward_layer=[
            named("LSTM", units=3, return_sequences=True, go_backwards=True, activation="relu"),
            named("GRU", units=3, return_sequences=True, go_backwards=True),
        ],
        merge_mode=["concat", "ave"],
        _masks=[(), ("right",)],
    ),
    *cases(
        "Bidirectional",
        [[(2, 3, 4)]],
        {"layer": named("LSTM", units=3, dropout=0.4)},
        backward_layer=[None, named("GRU", units=3, dropout=0.3, go_backwards=True)],
        _training=[True],
    ),
    *cases(
        "TimeDistributed",
        [[(2, 2, 3, 4)], [(1, 3, 4, 4)]],
        layer=[
            named("Conv1D", filters=2, kernel_size=2, padding="same"),
            LSTM,
            named("Bidirectional", layer=named("GRU", units=2)),
            named("TimeDistributed", layer=named("Dense", units=2)),
            named("Flatten"),
        ],
        _masks=[(), ("left",)],
    ),
    *cases(
        "SpectralNormalization",
        [[(2, 4, 5, 2)]],
        {"layer": named("Conv2D", filters=3, kernel_size=2, data_format="channels_first")},
        _training=[False, True],
    ),
]
