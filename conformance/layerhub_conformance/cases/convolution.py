from layerhub_conformance.case import cases

IMAGES = [[(2, 7, 6, 4)], [(1, 8, 9, 2)], [(3, 5, 5, 6)]]
FORMATS = ["channels_last", "channels_first"]

CASES = [
    *cases(
        "Conv2D",
        # Equal sizes too: some bugs show only where an image's width is the number of filters.
        [*IMAGES, [(2, 4, 4, 4)], [(0, 5, 5, 2)]],
        filters=[4, 6, 2],
        kernel_size=[(3, 2), (1, 1), (2, 5), (4, 3)],
        strides=[(1, 1), (2, 1), (2, 3)],
        padding=["valid", "same"],
        data_format=FORMATS,
        dilation_rate=[(1, 1), (2, 1), (1, 3)],
        groups=[1, 2],
        activation=["linear", "relu"],
        use_bias=[True, False],
    ),
    *cases("Conv2D", [[(2, 6, 6, 3)]], {"filters": 3, "kernel_size": 3}, _data=["positive", "wide"], padding=["same"]),
    *cases(
        "DepthwiseConv2D",
        IMAGES,
        kernel_size=[(3, 2), (1, 1), (2, 4)],
        strides=[(1, 1), (2, 2), (2, 1)],
        padding=["valid", "same"],
        depth_multiplier=[1, 3],
        data_format=FORMATS,
        dilation_rate=[(1, 1), (2, 2), (1, 2)],
        use_bias=[True, False],
    ),
    *cases("DepthwiseConv2D", [[(2, 6, 6, 3)]], {"kernel_size": 3}, _data=["positive"], padding=["valid"]),
    *cases(
        "SeparableConv2D",
        IMAGES,
        filters=[4, 5],
        kernel_size=[(3, 2), (2, 2)],
        strides=[(1, 1), (2, 2)],
        padding=["valid", "same"],
        data_format=FORMATS,
        depth_multiplier=[1, 2],
        activation=["linear", "tanh"],
        use_bias=[True, False],
    ),
    *cases(
        "SeparableConv2D", [[(2, 6, 6, 3)]], {"filters": 3, "kernel_size": 3}, _data=["positive"], padding=["valid"]
    ),
]
