"""Recurrence: sequences of no steps, states kept from batch to batch, gates driven into saturation, and stacks."""

from layerhub_conformance.case import cases

BOTH = [False, True]


def named(name, **config):
    return {"class_name": name, "config": config}


def cell(name, units=3, **config):
    return named(f"{name}Cell", units=units, **config)


STACKS = [
    named("StackedRNNCells", cells=[cell("GRU", 2), cell("LSTM", 4, use_bias=False)]),
    named("StackedRNNCells", cells=[cell("LSTM", 2), cell("SimpleRNN"), cell("GRU", 2, reset_after=False)]),
]
DROPPING = named("StackedRNNCells", cells=[cell("GRU", 2, dropout=0.3), cell("LSTM", 2, recurrent_dropout=0.4)])

CASES = [
    case
    for name in ("SimpleRNN", "GRU", "LSTM")
    for case in (
        # The kernel is as large as the recurrent one here, and time as long as both.
        *cases(name, [[(2, 3, 3)]], {"units": 3}, return_sequences=BOTH, go_backwards=BOTH, _masks=[(), ("left",)]),
        *cases(
            name, [[(2, 0, 3)]], {"units": 3}, return_sequences=BOTH, return_state=BOTH, _states=BOTH,
            _masks=[(), ("all",)],
        ),
        *cases(name, [[(2, 3, 4)]], {"units": 3, "stateful": True}, return_state=BOTH, _states=BOTH, _training=BOTH),
        *cases(name, [[(2, 3, 4)]], {"units": 4}, _data=["positive", "wide"], return_sequences=[True]),
    )
]  # fmt: skip
CASES += [
    *cases("RNN", [[(3, 5, 4)], [(1, 7, 2)]], cell=STACKS, return_sequences=BOTH, _masks=[(), ("row",)], _states=BOTH),
    *cases("RNN", [[(2, 3, 4)]], {"cell": DROPPING}, _training=[True], _masks=[(), ("middle",)]),
    *cases("RNN", [[(2, 3, 4)]], {"cell": STACKS[1], "stateful": True}, _states=BOTH),
]
