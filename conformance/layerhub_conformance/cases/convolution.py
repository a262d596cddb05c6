from layerhub_conformance.case import Case, cases

IMAGES = [[(2, 7, 6, 4)], [(1, 8, 9, 2)], [(3, 5, 5, 6)]]
SEQUENCES = [[(2, 9, 4)], [(1, 12, 2)], [(3, 7, 6)]]
VOLUMES = [[(2, 4, 5, 3, 4)], [(1, 5, 4, 6, 2)], [(2, 3, 3, 3, 6)]]
FORMATS = ["channels_last", "channels_first"]


def spaced(layer: str, shapes: list, strides: list, dilation_rate: list, **choices: list) -> list[Case]:
    """Cases with strides, and cases with dilation: no configuration has both, so no pair is lost."""
    return cases(layer, shapes, strides=strides, **choices) + cases(
        layer, shapes, dilation_rate=dilation_rate, **choices
    )


def transposed(layer: str, shapes: list, padded_strides: list, output_padding: list, **choices: list) -> list[Case]:
    """As ``spaced``, and cases with an output padding: it must be less than the strides."""
    rest = {name: values for name, values in choices.items() if name not in ("strides", "dilation_rate")}
    return spaced(layer, shapes, **choices) + cases(
        layer, shapes, strides=padded_strides, output_padding=output_padding, **rest
    )


CASES = [
    *spaced(
        "Conv1D",
        # Equal sizes too: some bugs show only where the length is the number of filters.
        [*SEQUENCES, [(2, 4, 4)], [(0, 5, 2)]],
        strides=[1, 2, 5],
        dilation_rate=[2, 3],
        filters=[4, 6, 2],
        kernel_size=[3, 1, 4],
        padding=["causal", "same", "valid"],
        data_format=FORMATS,
        groups=[1, 2],
        activation=["linear", "relu"],
        use_bias=[True, False],
    ),
    *cases("Conv1D", [[(2, 8, 3)]], {"filters": 3, "kernel_size": 3}, _data=["positive", "wide"], padding=["causal"]),
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
    *spaced(
        "Conv3D",
        [*VOLUMES, [(2, 3, 3, 3, 3)], [(0, 3, 4, 3, 2)]],
        # Strides that are larger than the kernel leave cells that no window sees.
        strides=[(1, 1, 1), (2, 1, 3), (2, 2, 2)],
        dilation_rate=[(1, 2, 1), (2, 1, 2)],
        filters=[4, 3, 2],
        kernel_size=[(2, 3, 2), (1, 1, 1), (3, 1, 2)],
        padding=["valid", "same"],
        data_format=FORMATS,
        groups=[1, 2],
        use_bias=[True, False],
    ),
    *cases("Conv3D", [[(1, 4, 4, 4, 2)]], {"filters": 2, "kernel_size": 3}, _data=["positive"], padding=["same"]),
    *transposed(
        "Conv1DTranspose",
        [[(2, 7, 2)], [(2, 4, 4)], [(0, 5, 2)], [(2, 1, 3)]],
        strides=[1, 2, 3],
        dilation_rate=[2],
        padded_strides=[3],
        output_padding=[0, 1, 2],
        filters=[4, 3, 1],
        kernel_size=[3, 1, 4],
        padding=["valid", "same"],
        data_format=FORMATS,
        activation=["linear", "tanh"],
        use_bias=[True, False],
    ),
    *cases("Conv1DTranspose", [[(2, 6, 3)]], {"filters": 3, "kernel_size": 3}, _data=["positive"], strides=[2]),
    *transposed(
        "Conv2DTranspose",
        [[(2, 4, 3, 2)], [(2, 4, 4, 4)], [(0, 3, 3, 2)]],
        strides=[(1, 1), (2, 1), (2, 3)],
        dilation_rate=[(2, 1), (1, 3)],
        padded_strides=[(2, 3)],
        output_padding=[(0, 0), (1, 0), (1, 2)],
        filters=[4, 3, 1],
        kernel_size=[(3, 2), (1, 1), (2, 4), (4, 3)],
        padding=["valid", "same"],
        data_format=FORMATS,
        use_bias=[True, False],
    ),
    *cases("Conv2DTranspose", [[(2, 4, 4, 3)]], {"filters": 3, "kernel_size": 3}, _data=["positive", "wide"]),
    *transposed(
        "Conv3DTranspose",
        [[(2, 2, 3, 2, 3)], [(1, 3, 2, 4, 2)], [(1, 3, 3, 3, 3)]],
        strides=[(1, 1, 1), (2, 1, 3), (2, 2, 2)],
        dilation_rate=[(1, 2, 1)],
        padded_strides=[(2, 2, 3)],
        output_padding=[(0, 0, 0), (1, 0, 2)],
        filters=[3, 2],
        kernel_size=[(2, 3, 2), (1, 1, 1), (3, 1, 4)],
        padding=["valid", "same"],
        data_format=FORMATS,
        use_bias=[True, False],
    ),
    *cases("Conv3DTranspose", [[(1, 3, 3, 3, 2)]], {"filters": 2, "kernel_size": 2}, _data=["positive"]),
    *spaced(
        "DepthwiseConv1D",
        [*SEQUENCES, [(0, 5, 2)]],
        strides=[1, 2, 3],
        dilation_rate=[2],
        kernel_size=[3, 1, 4],
        padding=["valid", "same"],
        depth_multiplier=[1, 3],
        data_format=FORMATS,
        activation=["linear", "relu"],
        use_bias=[True, False],
    ),
    *cases("DepthwiseConv1D", [[(2, 8, 3)]], {"kernel_size": 3}, _data=["positive"], padding=["valid"]),
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
    *spaced(
        "SeparableConv1D",
        SEQUENCES,
        strides=[1, 2],
        dilation_rate=[2],
        filters=[4, 5],
        kernel_size=[3, 2],
        padding=["valid", "same"],
        data_format=FORMATS,
        depth_multiplier=[1, 2],
        activation=["linear", "tanh"],
        use_bias=[True, False],
    ),
    *cases("SeparableConv1D", [[(2, 8, 3)]], {"filters": 3, "kernel_size": 3}, _data=["positive"], padding=["valid"]),
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
