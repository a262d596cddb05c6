"""What Keras writes of a layer LayerHub reads; names, order and defaults of parameters are Keras's."""

import inspect
import warnings

import pytest
from layerhub_conformance.cases import corpus

import layerhub as lh
from layerhub.spec import KINDS
from layerhub.spec.base import REQUIRED

FIRST = {}
for case in corpus():
    FIRST.setdefault(case.layer, case)
OURS = ("Flip", "Projection", "DotProductAttention", "Gate", "LocallyConnected1D", "LocallyConnected2D")
"""Layers that Keras 3 has not: parts of others, and what it dropped."""
OURS += ("ThresholdedReLU",)
BY_HAND = ("InputLayer", "Lambda", "Wrapper")
"""Written down in ways of their own."""
BEYOND = {"use_causal_mask", "return_attention_scores"}
"""Parameters that Keras has as arguments of a call."""
NEEDED = {f"AveragePooling{rank}D": {"pool_size": 2} for rank in (1, 2, 3)}
"""What Keras has no default for, and we have."""
DERIVED = {"backward_layer", "value_dim"}
"""What Keras writes out though nothing was given."""
NAMES = sorted(name for name in FIRST if KINDS["layer"].origin[name] == "layerhub" and name not in (*OURS, *BY_HAND))


def of_keras(keras, value):
    """A value as Keras's constructors take it: inner layers as its own objects."""
    if isinstance(value, dict) and "class_name" in value:
        if not hasattr(keras.layers, value["class_name"]):
            return keras.activations.get({"class_name": value["class_name"], "config": value["config"]})
        config = {key: of_keras(keras, part) for key, part in value["config"].items()}
        return getattr(keras.layers, value["class_name"])(**config)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [of_keras(keras, part) for part in value]
    return value


@pytest.mark.parametrize("name", NAMES)
def test_what_keras_writes_is_read(keras, name):
    config = NEEDED.get(name, {}) | FIRST[name].config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {key: of_keras(keras, value) for key, value in config.items() if key not in BEYOND}
        theirs = getattr(keras.layers, name)(**given)
        again = lh.layers.deserialize(keras.saving.serialize_keras_object(theirs))
    ours = getattr(lh.layers, name)(**config)
    assert type(again) is type(ours)
    found = again.get_config()
    for key, value in ours.get_config().items():
        if key not in ("name", "dtype", *BEYOND) and not (key in DERIVED and value is None):
            assert plain(found[key]) == plain(value), key


def plain(value):
    """A configuration without what differs by habit: lists for tuples, names and types of inner layers."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ("name", "dtype")}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_keras_names_order_and_defaults(keras, name):
    theirs = {
        key: parameter
        for key, parameter in inspect.signature(getattr(keras.layers, name).__init__).parameters.items()
        if key != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    spec = KINDS["layer"].find(name)
    ours = [p for p in spec.parameters.values() if p.name in theirs]
    wanted = [key for key in theirs if key in spec.parameters]
    assert [p.name for p in ours] == wanted
    missing = set(theirs) - set(spec.parameters) - set(spec.keras_only) - {"weights", "dtype", "name", "layer"}
    assert not missing
    for parameter in ours:
        default = theirs[parameter.name].default
        if default is inspect.Parameter.empty:
            # AveragePooling has no default size in Keras, where MaxPooling has one; here both have.
            assert parameter.default is REQUIRED or parameter.name == "pool_size", parameter.name
            continue
        made = spec(**FIRST[name].config | {parameter.name: default})
        usual = spec(**{k: v for k, v in FIRST[name].config.items() if k != parameter.name})
        assert made.get_config()[parameter.name] == usual.get_config()[parameter.name], parameter.name
