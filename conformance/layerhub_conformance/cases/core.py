from layerhub import ops
from layerhub.spec import KINDS
from layerhub_conformance.case import Case, cases

ACTIVATIONS = sorted(name for name in KINDS["activation"] if name != "custom")
PARAMETERISED = [
    {"class_name": "relu", "config": {"negative_slope": 0.1, "max_value": 0.9, "threshold": 0.2}},
    {"class_name": "leaky_relu", "config": {"negative_slope": 0.3}},
    {"class_name": "elu", "config": {"alpha": 0.5}},
    {"class_name": "gelu", "config": {"approximate": True}},
    {"class_name": "softmax", "config": {"axis": 1}},
]


def antirectifier(x):
    """Positive and negative parts of the centred input, side by side."""
    x = x - ops.mean(x, axis=1, keepdims=True)
    zeros = ops.zeros_like(x)
    return ops.concat([ops.where(x > 0, x, zeros), ops.where(x < 0, -x, zeros)], axis=1)


CASES = [
    *cases(
        "Dense",
        [[(3, 5)], [(2, 4, 5)], [(1, 1)], [(0, 4)], [(2, 3, 2, 7)]],
        units=[4, 1, 7],
        activation=["linear", "relu", "softmax"],
        use_bias=[True, False],
        _data=["normal", "positive"],
    ),
    *cases("Activation", [[(3, 7)]], activation=[*ACTIVATIONS, *PARAMETERISED], _data=["normal", "positive", "wide"]),
    *cases("Dropout", [[(5, 7)], [(2, 3, 4)]], rate=[0.3, 0.0, 1.0, 0.5], _training=[True, False]),
    *cases(
        "Dropout", [[(3, 4, 5)]], rate=[0.5], noise_shape=[(None, 1, 5), (3, 4, 1)], seed=[None, 7], _training=[True]
    ),
    *cases("Flatten", [[(2, 3, 4)], [(3, 5)], [(2, 3, 4, 5)], [(4,)]], data_format=["channels_last", "channels_first"]),
    *cases("Reshape", [[(2, 12)], [(3, 4, 3)]], target_shape=[(3, 4), (-1,), (2, -1, 3), (12,)]),
    *cases("Embedding", [[(3, 4)], [(5,)], [(0, 3)]], input_dim=[11, 3], output_dim=[4, 1], mask_zero=[True, False]),
    Case("Lambda", {"function": antirectifier}, ((2, 3),)),
    Case("InputLayer", {"shape": (3,)}, ((2, 3),)),
]
