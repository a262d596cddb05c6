"""Attention: masks of every shape that scores broadcast to, several axes, and sizes beyond one block of a kernel."""

from layerhub_conformance.case import cases

MASKED = [(), ("left", "right", "none", "none"), ("none", "row", "middle", "none")]
BOTH = [False, True]

CASES = [
    *cases(
        "DotProductAttention",
        [
            [(2, 3, 4, 3), (2, 5, 2, 2), (2, 5, 2, 3), mask]
            for mask in ((2, 3, 5), (2, 4, 3, 5), (2, 1, 3, 5), (2, 3, 1), (2, 1, 5), (1, 3, 5), (3, 5))
        ],
        use_causal_mask=BOTH,
        return_attention_scores=BOTH,
        _masks=MASKED,
    ),
    *cases("DotProductAttention", [[(1, 9, 3, 8), (1, 17, 1, 8)]], sliding_window=[None, 2], use_causal_mask=BOTH),
    # Attention along one axis of two, along both, and along both in another order.
    *cases(
        "DotProductAttention",
        [[(2, 3, 2, 2, 3), (2, 4, 2, 2, 3)], [(2, 2, 3, 4, 2), (2, 2, 2, 2, 2)], [(1, 2, 3, 2, 2), (1, 2, 3, 2, 2)]],
        attention_axes=[None, 1, (1,), (2,), (1, 2), (2, 1), -2],
        return_attention_scores=BOTH,
        _masks=[(), ("left", "right"), ("row", "none")],
    ),
    *cases(
        "DotProductAttention",
        [
            [(2, 2, 3, 1, 2), (2, 3, 2, 1, 2), (2, 3, 2, 1, 2), m]
            for m in ((2, 2, 3, 3, 2), (2, 1, 2, 3, 3, 2), (2, 3, 3, 2))
        ],
        _masks=MASKED[:2],
    ),
    *cases(
        "MultiHeadAttention",
        [[(2, 3, 4), (2, 5, 4), (2, 5, 3), mask] for mask in ((2, 3, 5), (2, 2, 3, 5), (1, 1, 5))],
        {"num_heads": 2, "key_dim": 3},
        return_attention_scores=BOTH,
        _masks=MASKED,
    ),
    *cases(
        "GroupQueryAttention",
        [[(2, 3, 4), (2, 5, 4), (2, 5, 3), mask] for mask in ((2, 3, 5), (2, 4, 3, 5))],
        {"num_query_heads": 4, "num_key_value_heads": 2, "head_dim": 3},
        _masks=MASKED[:2],
    ),
]
