"""All layers by name, those of plugins included: ``lh.layers.Conv2D(32, 3)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerhub.graph import Input
from layerhub.network import deserialize_layer as deserialize
from layerhub.network import serialize_layer as serialize
from layerhub.spec.layer import In, Layer, Out, Result, Weight, Weights
from layerhub.spec.masks import MaskRule, absorbs, passes, stops, unites
from layerhub.spec.merge import add, average, concatenate, dot, maximum, minimum, multiply, subtract
from layerhub.tables import table

if TYPE_CHECKING:  # for editors; at run time names are looked up in the registry
    from layerhub.spec.advanced import *  # noqa: F403
    from layerhub.spec.attention import *  # noqa: F403
    from layerhub.spec.convolution import *  # noqa: F403
    from layerhub.spec.core import *  # noqa: F403
    from layerhub.spec.local import *  # noqa: F403
    from layerhub.spec.merge import *  # noqa: F403
    from layerhub.spec.noise import *  # noqa: F403
    from layerhub.spec.normalization import *  # noqa: F403
    from layerhub.spec.pooling import *  # noqa: F403
    from layerhub.spec.recurrent import *  # noqa: F403
    from layerhub.spec.reshaping import *  # noqa: F403
    from layerhub.spec.wrappers import *  # noqa: F403

__getattr__, __dir__ = table("layer")

__all__ = [
    "In", "Input", "Layer", "MaskRule", "Out", "Result", "Weight", "Weights", "absorbs", "add", "average",
    "concatenate", "deserialize", "dot", "maximum", "minimum", "multiply", "passes", "serialize", "stops", "subtract",
    "unites",
]  # fmt: skip
