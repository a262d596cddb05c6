"""All layers by name, those of plugins included: ``lh.layers.Conv2D(32, 3)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from layerhub.graph import Input
from layerhub.merging import Merge, merge
from layerhub.saving.entries import deserialize_layer as deserialize
from layerhub.saving.entries import serialize_layer as serialize
from layerhub.spec.layer import In, Layer, Out, Result, Weight, Weights
from layerhub.spec.masks import MaskRule, absorbs, passes, stops, unites
from layerhub.spec.merge import add, average, concatenate, dot, maximum, minimum, multiply, subtract
from layerhub.spec.spellings import warn
from layerhub.tables import table

if TYPE_CHECKING:  # for editors; at run time names are looked up in the registry
    from layerhub.spec.advanced import *  # noqa: F403
    from layerhub.spec.attention import *  # noqa: F403
    from layerhub.spec.convolution import *  # noqa: F403
    from layerhub.spec.core import *  # noqa: F403
    from layerhub.spec.local import *  # noqa: F403
    from layerhub.spec.merge import *  # type: ignore[assignment]  # noqa: F403
    from layerhub.spec.noise import *  # noqa: F403
    from layerhub.spec.normalization import *  # noqa: F403
    from layerhub.spec.pooling import *  # noqa: F403
    from layerhub.spec.recurrent import *  # noqa: F403
    from layerhub.spec.reshaping import *  # noqa: F403
    from layerhub.spec.wrappers import *  # noqa: F403

__getattr__, __dir__ = table("layer")


def layer_from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """``deserialize``, under its name in Keras 1: the layer that ``{"class_name": …, "config": …}`` describes."""
    warn("layer_from_config is an old spelling; say lh.layers.deserialize(config)")
    return deserialize(config, custom_objects)


__all__ = [
    "In", "Input", "Layer", "MaskRule", "Merge", "Out", "Result", "Weight", "Weights", "absorbs", "add", "average",
    "concatenate", "deserialize", "dot", "layer_from_config", "maximum", "merge", "minimum", "multiply", "passes",
    "serialize", "stops", "subtract", "unites",
]  # fmt: skip
