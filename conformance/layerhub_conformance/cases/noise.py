from layerhub_conformance.case import cases

CASES = [
    *cases("GaussianNoise", [[(5, 7)], [(2, 3, 4)], [(0, 3)]], stddev=[0.3, 0.0, 2.0], _training=[True, False]),
    *cases("GaussianNoise", [[(3, 4)]], stddev=[0.5], seed=[None, 7], _training=[True], _data=["positive", "wide"]),
    *cases("GaussianNoise", [[(3, 4, 2)]], stddev=[0.5], _training=[True, False], _masks=[("left",)]),
    *cases("GaussianDropout", [[(5, 7)], [(2, 3, 4)], [(0, 3)]], rate=[0.3, 0.0, 0.9], _training=[True, False]),
    *cases("GaussianDropout", [[(3, 4)]], rate=[0.5], seed=[None, 7], _training=[True], _data=["positive", "wide"]),
    *cases("GaussianDropout", [[(3, 4, 2)]], rate=[0.5], _training=[True, False], _masks=[("left",)]),
    *cases("AlphaDropout", [[(5, 7)], [(2, 3, 4)], [(0, 3)]], rate=[0.3, 0.0, 1.0, 0.9], _training=[True, False]),
    *cases(
        "AlphaDropout", [[(3, 4, 5)]], rate=[0.5], noise_shape=[(None, 1, 5), (3, 4, 1)], seed=[None, 7],
        _training=[True], _data=["normal", "positive"],
    ),
    *cases("AlphaDropout", [[(3, 4, 2)]], rate=[0.5], _training=[True, False], _masks=[("left",)]),
    *cases("SpatialDropout1D", [[(4, 3, 5)], [(2, 1, 3)]], rate=[0.3, 0.0, 1.0], _training=[True, False]),
    *cases("SpatialDropout1D", [[(3, 4, 2)]], rate=[0.5], seed=[None, 7], _training=[True], _masks=[("left",), ()]),
]  # fmt: skip
for layer, shapes in (
    ("SpatialDropout2D", [[(3, 2, 4, 5)], [(2, 3, 3, 3)], [(0, 2, 2, 3)]]),
    ("SpatialDropout3D", [[(3, 2, 3, 1, 4)], [(2, 3, 3, 3, 3)]]),
):
    CASES += cases(
        layer,
        shapes,
        rate=[0.3, 0.0, 1.0],
        data_format=["channels_last", "channels_first"],
        seed=[None, 7],
        _training=[True, False],
    )
