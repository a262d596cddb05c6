from layerhub_conformance.case import cases

SEQUENCES = [[(2, 7, 3)], [(1, 5, 5)], [(0, 6, 2)]]
IMAGES = [[(2, 5, 7, 3)], [(1, 6, 6, 6)], [(0, 5, 6, 2)]]
VOLUMES = [[(2, 4, 5, 6, 2)], [(1, 5, 5, 5, 5)], [(0, 4, 5, 6, 2)]]
FORMATS = ["channels_last", "channels_first"]
METHODS = ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]

CASES = [
    *cases("Cropping1D", SEQUENCES, cropping=[(1, 1), (0, 2), (3, 0), 2, 0]),
    *cases("Cropping2D", IMAGES, cropping=[0, 2, (1, 2), ((0, 3), (2, 0)), ((1, 2), (3, 1))], data_format=FORMATS),
    *cases("Cropping3D", VOLUMES, cropping=[1, (1, 0, 2), ((0, 3), (2, 0), (1, 4))], data_format=FORMATS),
    *cases("ZeroPadding1D", SEQUENCES, padding=[1, (0, 2), (3, 0), 0], data_format=FORMATS),
    *cases("ZeroPadding2D", IMAGES, padding=[1, 0, (1, 2), ((0, 3), (2, 0)), ((1, 2), (3, 4))], data_format=FORMATS),
    *cases("ZeroPadding3D", VOLUMES, padding=[1, (1, 0, 2), ((0, 3), (2, 0), (1, 4))], data_format=FORMATS),
    *cases("UpSampling1D", SEQUENCES, size=[2, 1, 3]),
    *cases("UpSampling3D", [*VOLUMES[1:], [(1, 2, 3, 4, 2)]], size=[2, (1, 3, 2)], data_format=FORMATS),
    *cases(
        "UpSampling2D",
        [*IMAGES, [(1, 1, 3, 2)], [(1, 9, 8, 1)]],
        size=[2, (3, 2), (1, 4), 1, (5, 3)],
        data_format=FORMATS,
        interpolation=METHODS,
    ),
    *cases("UpSampling2D", [[(1, 5, 6, 2)]], interpolation=METHODS, _data=["positive", "wide"]),
]
