"""Process-wide defaults: float type or policy, image data format, strictness about masks.

Unset, the float type and the data format come from the file that Keras keeps them in, ``~/.keras/keras.json``, so
that people's settings carry over; else they are float32 and channels_last. Both are read once, when first needed.
"""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any

from layerhub.errors import ParameterError

FLOATS = ("float16", "bfloat16", "float32", "float64")
POLICIES = (*FLOATS, "mixed_float16", "mixed_bfloat16")
"""What a layer's ``dtype`` may be: a float type for weights and computation, or a mixed policy, which computes in the
short type that it names and keeps weights in float32."""
DATA_FORMATS = ("channels_last", "channels_first")

_chosen: dict[str, Any] = {}


@cache
def _keras_file() -> dict[str, Any]:
    path = os.path.join(os.path.expanduser("~"), ".keras", "keras.json")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _choice(name: str, allowed: tuple[str, ...], default: str) -> str:
    if name in _chosen:
        return _chosen[name]
    found = _keras_file().get(name, default)
    return found if found in allowed else default


def _choose(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ParameterError(f"set_{name}: must be one of {', '.join(allowed)}, not {value!r}")
    _chosen[name] = value


def floatx() -> str:
    """The float type of inputs, and of layers that name none."""
    return _choice("floatx", FLOATS, "float32")


def set_floatx(value: str) -> None:
    """Set the float type of layers made from now on: float16, bfloat16, float32 or float64."""
    _choose("floatx", value, FLOATS)


def dtype_policy() -> str:
    """The float type or mixed policy of layers that name none; unset, it is ``floatx``."""
    return _chosen.get("dtype_policy") or floatx()


def set_dtype_policy(value: str | None) -> None:
    """Set the policy of layers made from now on: a float type, mixed_float16 or mixed_bfloat16; None: ``floatx``."""
    if value is None:
        _chosen.pop("dtype_policy", None)
    else:
        _choose("dtype_policy", value, POLICIES)


def compute_dtype(policy: str) -> str:
    """The float type that a policy computes in."""
    return policy.removeprefix("mixed_")


def variable_dtype(policy: str) -> str:
    """The float type that a policy keeps weights in."""
    return "float32" if policy.startswith("mixed_") else policy


def image_data_format() -> str:
    """Where the channels stand in images, for layers that do not say: channels_last or channels_first."""
    return _choice("image_data_format", DATA_FORMATS, "channels_last")


def set_image_data_format(value: str) -> None:
    """Set the default data format of layers made from now on."""
    _choose("image_data_format", value, DATA_FORMATS)


def strict_masks(strict: bool | None = None) -> bool:
    """Whether a mask that reaches a layer unable to use it is an error (it is a warning at first); sets it if given."""
    if strict is not None:
        _chosen["strict_masks"] = bool(strict)
    return _chosen.get("strict_masks", False)
