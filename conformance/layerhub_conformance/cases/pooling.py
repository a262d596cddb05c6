from layerhub_conformance.case import cases

IMAGES = [[(2, 7, 6, 4)], [(1, 9, 8, 3)], [(2, 4, 5, 5)], [(0, 6, 6, 2)]]
FORMATS = ["channels_last", "channels_first"]

CASES = [
    case
    for layer in ("MaxPooling2D", "AveragePooling2D")
    for case in (
        *cases(
            layer,
            IMAGES,
            pool_size=[(2, 2), (3, 2), (4, 4), (1, 3)],
            strides=[None, (1, 1), (2, 3), (3, 1)],
            padding=["valid", "same"],
            data_format=FORMATS,
        ),
        *cases(layer, [[(2, 6, 6, 3)]], padding=["same"], _data=["positive", "wide"]),
    )
]
CASES += cases(
    "GlobalAveragePooling2D", IMAGES[:3], data_format=FORMATS, keepdims=[False, True], _data=["normal", "positive"]
)
