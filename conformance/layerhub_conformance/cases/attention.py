from layerhub_conformance.case import cases

PAIRS = [[(2, 3, 4), (2, 5, 4)], [(2, 4, 3), (2, 4, 3)], [(3, 1, 2), (3, 3, 2)], [(0, 2, 3), (0, 2, 3)]]
TRIPLES = [[(2, 3, 4), (2, 5, 2), (2, 5, 4)], [(2, 4, 3), (2, 4, 3), (2, 4, 3)]]
MASKS = [("right", "left"), ("none", "right"), ("left", "none"), ("row", "middle"), ("none", "row"), ("all", "all")]

CASES = [
    case
    for layer, choices in (
        ("Attention", {"score_mode": ["dot", "concat"]}),
        ("AdditiveAttention", {}),
    )
    for case in (
        *cases(
            layer,
            [*PAIRS, *TRIPLES],
            use_scale=[True, False],
            use_causal_mask=[False, True],
            return_attention_scores=[False, True],
            _data=["normal", "positive"],
            **choices,
        ),
        *cases(layer, [PAIRS[0], PAIRS[1]], use_causal_mask=[False, True], _masks=MASKS, **choices),
        *cases(
            layer,
            [TRIPLES[0]],
            return_attention_scores=[False, True],
            _masks=[("left", "right", "none"), ("none", "none", "left"), ("row", "row", "middle")],
        ),
        *cases(
            layer,
            [PAIRS[0]],
            {"dropout": 0.4},
            _training=[True, False],
            return_attention_scores=[False, True],
            **choices,
        ),
        *cases(layer, [PAIRS[0]], {"dropout": 0.4, "seed": 3}, _training=[True], _masks=[("left", "row")]),
    )
]

HEADS = [[(2, 3, 2, 4), (2, 5, 2, 4)], [(2, 4, 1, 3), (2, 4, 1, 3)], [(2, 3, 4, 2), (2, 5, 2, 2)], [(0, 3, 2, 2)] * 2]
CASES += cases(
    "DotProductAttention",
    [*HEADS, [(2, 3, 4, 3), (2, 5, 2, 2), (2, 5, 2, 3)], [(1, 9, 3, 8), (1, 17, 1, 8)]],
    sliding_window=[None, 1, 2],
    use_causal_mask=[False, True],
    return_attention_scores=[False, True],
    _data=["normal", "positive"],
)
CASES += cases(
    "DotProductAttention",
    [HEADS[0], HEADS[2]],
    use_causal_mask=[False, True],
    return_attention_scores=[False, True],
    _masks=MASKS,
)
CASES += cases(
    "DotProductAttention",
    [
        [(2, 3, 4, 3), (2, 5, 2, 2), (2, 5, 2, 3), mask]
        for mask in ((2, 3, 5), (2, 4, 3, 5), (2, 1, 3, 5), (2, 3, 1), (2, 1, 5), (1, 3, 5), (3, 5))
    ],
    use_causal_mask=[False, True],
    return_attention_scores=[False, True],
    _masks=[(), ("left", "right", "none", "none"), ("none", "row", "middle", "none")],
)
CASES += cases(
    "DotProductAttention",
    [[(2, 3, 2, 4), (2, 5, 2, 4)]],
    {"dropout": 0.3},
    return_attention_scores=[False, True],
    use_causal_mask=[False, True],
    _masks=[(), ("left", "row")],
    _training=[True, False],
)
PLACES = [[(2, 3, 2, 2, 3), (2, 4, 2, 2, 3)], [(2, 2, 3, 4, 2), (2, 2, 2, 2, 2)], [(1, 2, 3, 2, 2), (1, 2, 3, 2, 2)]]
CASES += cases(
    "DotProductAttention",
    PLACES,
    attention_axes=[None, 1, (1,), (2,), (1, 2), (2, 1), -2],
    return_attention_scores=[False, True],
    use_causal_mask=[False, True],
    _masks=[(), ("left", "right"), ("row", "none")],
)
CASES += cases(
    "DotProductAttention",
    [
        [(2, 2, 3, 1, 2), (2, 3, 2, 1, 2), (2, 3, 2, 1, 2), m]
        for m in ((2, 2, 3, 3, 2), (2, 1, 2, 3, 3, 2), (2, 3, 3, 2))
    ],
    _masks=[(), ("left", "right", "none", "none")],
)

CASES += cases(
    "Projection",
    [[(2, 3, 4)], [(2, 3, 2, 5)], [(3, 4)], [(0, 2, 3)]],
    output_dims=[(2, 3), (4,), (1, 2, 3)],
    contracted=[1, 2],
    use_bias=[True, False],
    activation=["linear", "sigmoid"],
    _data=["normal", "positive"],
)
CASES += cases("Projection", [[(2, 3, 4)]], {"output_dims": (2, 2)}, _masks=[("left",), ("row",)])
CASES += cases(
    "Gate", [[(2, 3, 4)] * 2, [(0, 3)] * 2], _data=["normal", "positive", "wide"], _masks=[(), ("left", "row")]
)

SEQUENCES = [
    [(2, 3, 4), (2, 5, 4)],
    [(2, 4, 3), (2, 4, 2), (2, 4, 5)],
    [(2, 3, 4), (2, 5, 4), (2, 5, 4)],
    [(0, 3, 2), (0, 3, 2)],
]
CASES += cases(
    "MultiHeadAttention",
    SEQUENCES,
    num_heads=[2, 1, 3],
    key_dim=[3, 1],
    value_dim=[None, 2],
    use_bias=[True, False],
    output_shape=[None, 5, (2, 3)],
    sliding_window=[None, 2],
    use_gate=[False, True],
    use_causal_mask=[False, True],
    return_attention_scores=[False, True],
    flash_attention=[None, True],
    _data=["normal", "positive"],
)
CASES += cases(
    "MultiHeadAttention",
    [SEQUENCES[0]],
    {"num_heads": 2, "key_dim": 3},
    use_gate=[False, True],
    use_causal_mask=[False, True],
    return_attention_scores=[False, True],
    _masks=MASKS,
)
CASES += cases(
    "MultiHeadAttention",
    [[(2, 3, 4), (2, 5, 4), (2, 5, 3), mask] for mask in ((2, 3, 5), (2, 2, 3, 5), (1, 1, 5))],
    {"num_heads": 2, "key_dim": 3},
    return_attention_scores=[False, True],
    _masks=[(), ("left", "right", "none", "none"), ("none", "row", "middle", "none")],
)
CASES += cases(
    "MultiHeadAttention",
    [[(2, 3, 2, 3), (2, 4, 2, 3)], [(2, 2, 3, 4), (2, 2, 2, 4)], [(1, 2, 3, 2), (1, 2, 3, 2)]],
    {"num_heads": 2, "key_dim": 2},
    attention_axes=[None, 1, (2,), (1, 2), (-2, 1)],
    return_attention_scores=[False, True],
    _masks=[(), ("left", "right"), ("row", "none")],
)
CASES += cases(
    "MultiHeadAttention",
    [SEQUENCES[0]],
    {"num_heads": 2, "key_dim": 3, "dropout": 0.3},
    return_attention_scores=[False, True],
    seed=[None, 5],
    _masks=[(), ("left", "row")],
    _training=[True, False],
)
CASES += cases(
    "GroupQueryAttention",
    SEQUENCES,
    {"num_query_heads": 4},
    num_key_value_heads=[2, 1, 4],
    head_dim=[3, 1],
    use_bias=[True, False],
    sliding_window=[None, 2],
    use_gate=[False, True],
    use_causal_mask=[False, True],
    return_attention_scores=[False, True],
    _data=["normal", "positive"],
)
CASES += cases(
    "GroupQueryAttention",
    [SEQUENCES[0]],
    {"num_query_heads": 6, "num_key_value_heads": 2, "head_dim": 2},
    use_gate=[False, True],
    use_causal_mask=[False, True],
    return_attention_scores=[False, True],
    _masks=MASKS,
)
CASES += cases(
    "GroupQueryAttention",
    [[(2, 3, 4), (2, 5, 4), (2, 5, 3), mask] for mask in ((2, 3, 5), (2, 4, 3, 5))],
    {"num_query_heads": 4, "num_key_value_heads": 2, "head_dim": 3},
    _masks=[(), ("left", "right", "none", "none")],
)
CASES += cases(
    "GroupQueryAttention",
    [SEQUENCES[0]],
    {"num_query_heads": 4, "num_key_value_heads": 2, "head_dim": 3, "dropout": 0.3},
    return_attention_scores=[False, True],
    _training=[True, False],
)
