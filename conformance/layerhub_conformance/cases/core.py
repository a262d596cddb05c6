"""Core layers: every activation, equations of every kind, masks by value, functions."""

from layerhub import ops
from layerhub.spec import KINDS
from layerhub_conformance.case import Case, cases

ACTIVATIONS = sorted(name for name in KINDS["activation"] if name not in ("custom", "threshold"))
PARAMETERISED = [
    {"class_name": "relu", "config": {"negative_slope": 0.1, "max_value": 0.9, "threshold": 0.2}},
    {"class_name": "leaky_relu", "config": {"negative_slope": 0.3}},
    {"class_name": "elu", "config": {"alpha": 0.5}},
    {"class_name": "gelu", "config": {"approximate": True}},
    {"class_name": "softmax", "config": {"axis": 1}},
    {"class_name": "celu", "config": {"alpha": 0.5}},
    {"class_name": "hard_shrink", "config": {"threshold": 0.2}},
    {"class_name": "soft_shrink", "config": {"threshold": 0.2}},
    {"class_name": "squareplus", "config": {"b": 0.5}},
    {"class_name": "threshold", "config": {"threshold": 0.3, "default_value": -0.7}},
]


def antirectifier(x):
    """Positive and negative parts of the centred input, side by side."""
    x = x - ops.mean(x, axis=1, keepdims=True)
    zeros = ops.zeros_like(x)
    return ops.concat([ops.where(x > 0, x, zeros), ops.where(x < 0, -x, zeros)], axis=1)


# Equation, output shape, input shape, bias axes.
EINSUMS = [
    ("ab,bc->ac", 5, (3, 4), ["c"]),
    ("ab,bc->ac", 5, (0, 4), ["c", None]),
    ("...b,cb->...c", 5, (2, 3, 4), ["c"]),
    ("...ab,bcd->...acd", (3, 2, 5), (2, 3, 4), [None, "cd", "a"]),
    ("abc,cd->abd", (None, 5), (2, 3, 4), ["d", "bd"]),
    ("abc,bcd->acd", (4, 5), (2, 3, 4), ["c", "d"]),
    ("abc,bde->aed", (3, 2), (2, 3, 4), ["d", "e"]),
    ("abcd,cde->abe", (3, 5), (2, 3, 2, 4), ["b", "e"]),
    ("abc,cb->ab", (None,), (2, 3, 4), ["b", None]),
    ("abc,dc->ad", 5, (2, 3, 4), ["d"]),
    ("ab...,bc->ac...", 5, (2, 3, 2, 2), ["c"]),
]

CASES = [
    *cases("Activation", [[(3, 7)]], activation=[*ACTIVATIONS, *PARAMETERISED], _data=["normal", "wide"]),
    # Which elements of ties sparsemax keeps depends on single roundings.
    *cases("Activation", [[(3, 7)]], activation=[a for a in ACTIVATIONS if a != "sparsemax"], _data=["ties"]),
    *cases(
        "Activation",
        [[(2, 6)], [(3, 4, 2)], [(2, 2, 4)]],
        activation=[
            {"class_name": name, "config": {"axis": axis}}
            for name in ("glu", "sparsemax", "softmax", "log_softmax")
            for axis in (-1, 1)
        ],
    ),
    *(
        case
        for equation, output_shape, shape, biases in EINSUMS
        for case in cases(
            "EinsumDense", [[shape]], {"equation": equation, "output_shape": output_shape}, bias_axes=biases
        )
    ),
    *cases("Masking", [[(6, 2)], [(3, 4, 2)]], mask_value=[0.0, 1.0], _data=["ties"], _masks=[(), ("left",)]),
    Case("Lambda", {"function": antirectifier}, ((2, 3),)),
]
