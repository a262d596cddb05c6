from layerhub_conformance.case import cases

MASKS = [(), ("left",), ("right",), ("middle",), ("row",), ("all",)]
BOTH = [False, True]
SEQUENCES = [[(3, 5, 4)], [(2, 1, 3)], [(1, 7, 2)], [(0, 3, 2)], [(2, 3, 3)]]
TIME = {
    "return_sequences": BOTH,
    "return_state": BOTH,
    "go_backwards": BOTH,
    "unroll": BOTH,
    "zero_output_for_mask": BOTH,
    "_masks": MASKS,
    "_states": BOTH,
}
"""What all layers have that carry states along time."""

UNITS = {"units": [3, 5], "activation": ["tanh", "relu"], "use_bias": BOTH}
GATED = {"recurrent_activation": ["sigmoid", "hard_sigmoid"]}
DROPS = {"dropout": [0.0, 0.4, 1.0], "recurrent_dropout": [0.0, 0.3], "implementation": [1, 2], "_training": [True]}


def named(name, **config):
    return {"class_name": name, "config": config}


def layer(name, **choices):
    """Cases of a gated layer; choices: what it has that the others lack."""
    cell = f"{name}Cell"
    usual = {"units": 3}
    return [
        *cases(name, SEQUENCES, **UNITS, **choices, **TIME),
        *cases(
            name,
            [[(3, 5, 4)], [(2, 3, 3)]],
            usual,
            return_sequences=BOTH,
            go_backwards=BOTH,
            _states=BOTH,
            _masks=MASKS,
        ),
        *cases(name, [[(2, 3, 4)]], usual, **DROPS, _masks=[(), ("left",)]),
        *cases(
            name, [[(2, 0, 3)]], usual, return_sequences=BOTH, return_state=BOTH, _states=BOTH, _masks=[(), ("all",)]
        ),
        *cases(name, [[(2, 3, 4)]], {**usual, "stateful": True}, return_state=BOTH, _states=BOTH, _training=BOTH),
        *cases(name, [[(2, 3, 4)]], {"units": 4}, _data=["positive", "wide"], return_sequences=[True]),
        *cases(cell, [[(3, 4)], [(1, 3)], [(0, 2)]], **UNITS, **choices, _states=BOTH),
        *cases(cell, [[(2, 4)]], usual, **DROPS),
    ]


def cell(name, units=3, **config):
    return named(f"{name}Cell", units=units, **config)


STACKS = [
    named("StackedRNNCells", cells=[cell("LSTM")]),
    named("StackedRNNCells", cells=[cell("GRU", 2), cell("LSTM", 4, use_bias=False)]),
    named("StackedRNNCells", cells=[cell("LSTM", 2), cell("SimpleRNN"), cell("GRU", 2, reset_after=False)]),
]
DROPPING = named("StackedRNNCells", cells=[cell("GRU", 2, dropout=0.3), cell("LSTM", 2, recurrent_dropout=0.4)])
SINGLE = [cell("LSTM"), cell("GRU"), cell("SimpleRNN", activation="relu")]


def images(rank):
    """Cases of ConvLSTM over images of this rank."""
    name = f"ConvLSTM{rank}D"
    shapes = {
        1: [[(2, 3, 6, 2)], [(1, 1, 5, 5)], [(0, 2, 4, 2)]],
        2: [[(2, 3, 4, 5, 2)], [(1, 2, 6, 4, 4)], [(2, 1, 4, 4, 1)], [(0, 2, 4, 5, 2)]],
        3: [[(2, 2, 3, 2, 4, 2)], [(1, 1, 2, 3, 3, 2)]],
    }[rank]
    sizes = {1: [(3,), (2,)], 2: [(3, 2), (1, 1), (2, 3)], 3: [(2, 1, 3), (1, 2, 2)]}[rank]
    space = {
        "filters": [2, 4],
        "kernel_size": sizes,
        "strides": [1, 2],
        "padding": ["valid", "same"],
        "data_format": ["channels_last", "channels_first"],
        "dilation_rate": [1, 2],
    }
    small = {"filters": 2, "kernel_size": sizes[0], "padding": "same"}
    drops = {**DROPS, "dropout": [0.0, 0.4]}
    return [
        *cases(name, shapes, activation=["tanh", "relu"], use_bias=BOTH, **GATED, **space, **TIME),
        *cases(name, shapes[:1], small, data_format=space["data_format"], **drops),
        *cases(name, shapes[:1], {**small, "stateful": True}, data_format=space["data_format"]),
        *cases(name, shapes[:1], small, _data=["positive"]),
    ]


CASES = [
    *layer("SimpleRNN"),
    *layer("GRU", **GATED, reset_after=BOTH),
    *layer("LSTM", **GATED),
    *cases("StackedRNNCells", [[(3, 2)]], cells=[stack["config"]["cells"] for stack in STACKS], _states=BOTH),
    *cases("RNN", SEQUENCES, cell=[*STACKS, *SINGLE], **TIME),
    *cases("RNN", [[(2, 3, 4)]], {"cell": DROPPING}, _training=[True], _masks=[(), ("middle",)]),
    *cases("RNN", [[(2, 3, 4)]], {"cell": STACKS[1], "stateful": True}, _states=BOTH),
    *images(1),
    *images(2),
    *images(3),
]
