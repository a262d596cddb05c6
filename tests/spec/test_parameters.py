"""Parameters: what they may be, how a wrong one is told, and that a configuration says all."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from layerhub_conformance.cases import corpus
from layerhub_conformance.generate.problem import candidates, problem_of

import layerhub as lh
from layerhub.errors import LayerHubError, ParameterError, UnknownNameError
from layerhub.spec import KINDS
from layerhub.spec.base import REQUIRED, Spec, serialize
from layerhub.spec.domains import Domain
from layerhub.spec.layer import Layer

REQUIRED_VALUES = {
    "rate": 0.5, "function": abs, "learning_rate": 0.1, "threshold": 0.5, "default_value": 0.0, "fn": abs,
    "inner_optimizer": "adam", "optimizer_map": lh.optimizers.OptimizerMap("sgd", {".*bias": "adam"}),
    "initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.5, "first_decay_steps": 5, "boundaries": (1, 5),
    "values": (1.0, 0.5, 0.1), "num_classes": 3, "target_class_ids": (0,), "specificity": 0.5, "sensitivity": 0.5,
    "recall": 0.5, "precision": 0.5,
}  # fmt: skip
EXTRA = {"InputLayer": {"shape": (3,)}, "AUC": {"multi_label": True}}
LAYERS = {case.layer: dict(case.config) for case in reversed(corpus())}
"""For each layer the first configuration that the conformance suite has."""


def minimal(spec):
    """The parameters without which a spec cannot be made."""
    values = LAYERS[spec.__name__] if spec.kind.name == "layer" else REQUIRED_VALUES
    needed = {p.name: values[p.name] for p in spec.parameters.values() if p.default is REQUIRED}
    return needed | EXTRA.get(spec.__name__, {})


def specs(kind=None):
    return [KINDS[k].find(name) for k in ([kind] if kind else KINDS) for name in KINDS[k]]


def identify(value):
    return f"{value.kind.name}-{value.__name__}" if isinstance(value, type) and issubclass(value, Spec) else repr(value)


EVERY = pytest.mark.parametrize("spec", specs(), ids=identify)


# --------------------------------------------------------------------------------------------- domains


INVALID = [
    (spec, parameter.name, value)
    for spec in specs()
    for parameter in spec.parameters.values()
    for value in parameter.domain.invalid
]


@pytest.mark.parametrize("spec, name, value", INVALID, ids=identify)
def test_every_invalid_value_of_every_parameter_is_refused_with_layer_parameter_value_and_domain(spec, name, value):
    with pytest.raises(ParameterError) as caught:
        spec(**(minimal(spec) | {name: value}))
    domain = spec.parameters[name].domain
    said = str(caught.value)
    assert said.startswith(f"{spec.__name__}: {name} must be {domain.text}, not {value!r}"), said


def valid_values(spec, parameter):
    """The values of a parameter that are to be taken: for layers those that conformance cases have."""
    if spec.kind.name == "layer" and spec.__name__ != "Lambda":
        return candidates(spec, parameter) if parameter.name != "dtype" else parameter.domain.valid
    return parameter.domain.valid


VALID = [
    (spec, parameter.name, value)
    for spec in specs()
    for parameter in spec.parameters.values()
    for value in valid_values(spec, parameter)
    if value is not None
]


def beside(spec, name, value):
    """Parameters that go with a value of one of them; None where none do."""
    if spec.kind.name != "layer" or spec.__name__ == "Lambda" or name == "dtype":
        return minimal(spec)
    problem = problem_of(spec)
    row = problem.solve({name: problem.variables[name].find(value)})
    return None if row is None else problem.config(row)


@pytest.mark.parametrize("spec, name, value", VALID, ids=identify)
def test_every_valid_value_of_every_parameter_is_taken_and_survives_a_configuration(spec, name, value):
    others = beside(spec, name, value)
    try:
        made = spec(**((minimal(spec) if others is None else others) | {name: value}))
    except LayerHubError as refusal:  # the domain has it, but a rule of this spec forbids it
        assert others is None
        assert re.search(r": c\d+ .*, but ", str(refusal))
        return
    again = spec.from_config(json.loads(json.dumps(made.get_config()))) if _plain(spec) else made
    domain = spec.parameters[name].domain
    assert domain.encode(getattr(again, name)) == domain.encode(getattr(made, name))
    assert domain.encode(domain.accept(getattr(made, name), made)) == domain.encode(getattr(made, name))


def _plain(spec):
    """Whether a configuration can hold everything: functions are written down by name only."""
    return not any(p.name in ("function", "fn") for p in spec.parameters.values())


@EVERY
def test_every_parameter_has_a_domain_with_words(spec):
    for parameter in spec.parameters.values():
        assert isinstance(parameter.domain, Domain)
        assert parameter.domain.text


@EVERY
def test_every_default_belongs_to_its_domain_or_means_off(spec):
    made = spec(**minimal(spec))
    for parameter in spec.parameters.values():
        value = parameter.default
        if value is not REQUIRED and value is not None:
            parameter.domain.accept(value, made)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: lh.layers.Dense(0), "Dense: units must be a positive int, not 0"),
        (lambda: lh.layers.Dense(2.0), "Dense: units must be a positive int, not 2.0"),
        (lambda: lh.layers.Dense(True), "Dense: units must be a positive int, not True"),
        (lambda: lh.layers.Dense("3"), "Dense: units must be a positive int, not '3'"),
        (lambda: lh.layers.Dense(3, use_bias="yes"), "Dense: use_bias must be True or False, not 'yes'"),
        (lambda: lh.layers.Dropout(math.nan), "Dropout: rate must be a number in [0, 1], not nan"),
        (lambda: lh.layers.Dropout(1.5), "Dropout: rate must be a number in [0, 1], not 1.5"),
        (
            lambda: lh.layers.Conv2D(3, (3, 3, 3)),
            "Conv2D: kernel_size must be a positive int, or one for each axis, not (3, 3, 3)",
        ),
        (
            lambda: lh.layers.Conv2D(3, (3, 0)),
            "Conv2D: kernel_size must be a positive int, or one for each axis, not (3, 0)",
        ),
        (
            lambda: lh.layers.Conv2D(3, 3, padding="Same"),
            "Conv2D: padding must be one of 'valid', 'same', in one dimension also 'causal', not 'Same'",
        ),
        (
            lambda: lh.layers.Conv2D(3, 3, data_format="NCHW"),
            "Conv2D: data_format must be one of 'channels_last', 'channels_first', not 'NCHW'",
        ),
        (lambda: lh.layers.LSTM(3, implementation=3), "LSTM: implementation must be one of 1, 2, not 3"),
        (lambda: lh.layers.Bidirectional(3), "Bidirectional: layer must be a recurrent layer, such as LSTM(8), not 3"),
        (
            lambda: lh.optimizers.Adam(-1.0),
            "Adam: learning_rate must be a number, 0 or more, a schedule, or a function without arguments, not -1.0",
        ),
        (
            lambda: lh.layers.Reshape("ab"),
            "Reshape: target_shape must be a tuple of ints (None where unknown), not 'ab'",
        ),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(make, said):
    with pytest.raises(ParameterError) as caught:
        make()
    assert str(caught.value) == said
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["rellu", "Rellu"])
def test_a_wrong_name_inside_a_parameter_is_told_with_the_nearest_one(name):
    with pytest.raises(ParameterError, match=r"Dense: activation must be .*not '[Rr]ellu' .*Did you mean 'relu'"):
        lh.layers.Dense(3, activation=name)


def test_numpys_integers_count_as_ints():
    layer = lh.layers.Conv2D(np.int64(3), (np.int32(2), 3))
    assert (layer.filters, layer.kernel_size) == (3, (2, 3))
    assert type(layer.filters) is int
    assert json.dumps(layer.get_config()["kernel_size"]) == "[2, 3]"


def test_one_int_stands_for_every_axis_of_a_window():
    layer = lh.layers.Conv2D(3, 2, strides=3)
    assert (layer.kernel_size, layer.strides) == ((2, 2), (3, 3))
    assert lh.layers.MaxPooling2D(3).strides == (3, 3)


def test_rules_between_parameters_are_told_by_number_words_and_values():
    with pytest.raises(ParameterError) as caught:
        lh.layers.Conv2D(4, 3, groups=3)
    assert "c3 groups divide the filters, but filters=4, groups=3" in str(caught.value)
    with pytest.raises(ParameterError, match=r"c2 strides and dilation exclude each other, but strides=\(2, 2\)"):
        lh.layers.Conv2D(4, 3, strides=2, dilation_rate=2)
    with pytest.raises(ParameterError, match="c1 one way of clipping"):
        lh.optimizers.SGD(0.1, clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ParameterError, match="c1 at most one size is left open"):
        lh.layers.Reshape((-1, -1))
    with pytest.raises(ParameterError, match="c1 shape or batch shape is given"):
        lh.layers.InputLayer((3,), batch_shape=(2, 3))


# --------------------------------------------------------------------------------------------- construction


@pytest.mark.parametrize(
    "given, meant",
    [
        ("unit", "units"),
        ("activaton", "activation"),
        ("kernel_init", "kernel_initializer"),
        ("bias_init", "bias_initializer"),
    ],
)
def test_an_unknown_keyword_is_told_with_the_nearest_one_and_all_there_are(given, meant):
    with pytest.raises(ParameterError) as caught:
        lh.layers.Dense(3, **{given: 1})
    assert f"Dense has no parameter {given!r}" in str(caught.value)
    assert meant in str(caught.value)
    assert "It has: units, activation, use_bias" in str(caught.value)


def test_positional_arguments_follow_the_declared_order():
    layer = lh.layers.Conv2D(4, (3, 2), (2, 1), "same", "channels_first", 1, 2, "relu", False)
    assert (layer.filters, layer.kernel_size, layer.strides) == (4, (3, 2), (2, 1))
    assert (layer.padding, layer.data_format, layer.dilation_rate) == ("same", "channels_first", (1, 1))
    assert (layer.groups, type(layer.activation).__name__, layer.use_bias) == (2, "relu", False)


def test_too_many_positional_arguments_are_told_with_those_there_are():
    with pytest.raises(ParameterError, match=r"Flatten takes at most 1 positional arguments \(data_format\), 2 were"):
        lh.layers.Flatten("channels_last", "name")


def test_keyword_only_parameters_cannot_be_given_by_position():
    with pytest.raises(ParameterError, match="Dropout takes at most 3"):
        lh.layers.Dropout(0.5, None, 1, "name")


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(ParameterError, match="Dense: units was given twice, by position and by name"):
        lh.layers.Dense(3, units=4)


@EVERY
def test_a_missing_parameter_is_told_with_what_it_must_be(spec):
    for name in (p.name for p in spec.parameters.values() if p.default is REQUIRED):
        rest = {k: v for k, v in minimal(spec).items() if k != name}
        with pytest.raises(ParameterError) as caught:
            spec(**rest)
        domain = spec.parameters[name].domain
        assert f"{spec.__name__}: {name} is missing; it must be {domain.text}" in str(caught.value)


@pytest.mark.parametrize("spec", specs("layer"), ids=identify)
def test_a_layer_is_fixed_once_made_but_for_its_name_and_whether_it_trains(spec):
    layer = spec(**minimal(spec))
    for name in layer.parameters:
        if name in ("name", "trainable"):
            continue
        with pytest.raises(ParameterError, match=rf"{spec.__name__}: {name} is fixed once made; use .replace\({name}="):
            setattr(layer, name, getattr(layer, name))
    layer.name, layer.trainable = "other", False
    assert (layer.label, layer.trainable) == ("other", False)
    with pytest.raises(ParameterError, match="trainable must be True or False"):
        layer.trainable = "yes"


def test_replace_gives_a_changed_copy_and_leaves_the_original():
    layer = lh.layers.Dense(3, activation="relu")
    copy = layer.replace(units=5)
    assert (layer.units, copy.units, copy.activation) == (3, 5, layer.activation)
    with pytest.raises(ParameterError, match="units must be a positive int"):
        layer.replace(units=0)
    with pytest.raises(ParameterError, match="no parameter 'unitts'"):
        layer.replace(unitts=5)


@EVERY
def test_replacing_nothing_gives_an_equal_configuration(spec):
    made = spec(**minimal(spec))
    assert made.replace().get_config() == made.get_config()


@EVERY
def test_a_spec_shows_itself_as_it_could_be_written(spec):
    made = spec(**minimal(spec))
    assert repr(made).startswith(f"{spec.__name__}(")
    for name in minimal(spec):
        assert f"{name}=" in repr(made)


# --------------------------------------------------------------------------------------------- configurations

MODULES = {
    "layer": "layers", "activation": "activations", "initializer": "initializers", "loss": "losses",
    "optimizer": "optimizers", "metric": "metrics", "regularizer": "regularizers", "constraint": "constraints",
}  # fmt: skip


@pytest.mark.parametrize("spec", [s for s in specs() if _plain(s)], ids=identify)
def test_a_configuration_survives_json_and_makes_an_equal_spec(spec):
    made = spec(**minimal(spec))
    written = json.loads(json.dumps(serialize(made)))
    assert set(written) == {"class_name", "config"}
    again = spec.kind.get(written)
    assert type(again) is spec
    assert again.get_config() == made.get_config()
    assert serialize(again) == serialize(made)


@pytest.mark.parametrize("kind", MODULES)
def test_every_kind_has_its_module_with_serialize_and_deserialize(kind):
    module = getattr(lh, MODULES[kind])
    name = next(n for n in KINDS[kind] if _plain(KINDS[kind].find(n)))
    spec = KINDS[kind].find(name)
    if kind == "activation":
        return  # on their way out of this module they are functions
    made = spec(**minimal(spec))
    assert module.deserialize(module.serialize(made)).get_config() == made.get_config()


@EVERY
def test_a_configuration_holds_every_parameter(spec):
    made = spec(**minimal(spec))
    assert set(made.get_config()) == set(spec.parameters) - set(spec.unsaid)
    for name in spec.unsaid:
        assert set(made.replace(**{name: 0.5}).get_config()) == set(spec.parameters)


def test_keras_bookkeeping_is_ignored():
    config = {
        "name": "d", "trainable": False, "units": 3, "batch_input_shape": [None, 4], "registered_name": None,
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float64"}},
        "kernel_initializer": {
            "module": "keras.initializers", "class_name": "HeNormal", "config": {"seed": 3}, "registered_name": None,
        },
    }  # fmt: skip
    entry = {
        "module": "keras.layers", "class_name": "Dense", "config": config, "registered_name": None,
        "build_config": {"input_shape": [None, 4]},
    }  # fmt: skip
    layer = lh.layers.deserialize(entry)
    assert (layer.name, layer.trainable, layer.units, layer.dtype) == ("d", False, 3, "float64")
    assert layer.kernel_initializer == lh.initializers.HeNormal(seed=3)


def test_an_unknown_key_of_a_configuration_is_not_ignored():
    with pytest.raises(ParameterError, match="Dense has no parameter 'unitz'"):
        lh.layers.deserialize({"class_name": "Dense", "config": {"units": 3, "unitz": 4}})


def test_a_configuration_without_a_class_is_refused():
    for wrong in ({"config": {}}, 3, ["Dense"]):
        with pytest.raises(LayerHubError):
            lh.layers.deserialize(wrong)


@pytest.mark.parametrize(
    "kind, alias, name",
    [
        ("layer", "Convolution2D", "Conv2D"), ("layer", "MaxPool2D", "MaxPooling2D"),
        ("layer", "AvgPool2D", "AveragePooling2D"), ("layer", "GlobalAvgPool2D", "GlobalAveragePooling2D"),
        ("layer", "SeparableConvolution2D", "SeparableConv2D"), ("activation", "swish", "silu"),
        ("loss", "mse", "MeanSquaredError"), ("loss", "mae", "MeanAbsoluteError"), ("loss", "MSE", "MeanSquaredError"),
        ("loss", "sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"), ("optimizer", "adamw", "AdamW"),
        ("optimizer", "rmsprop", "RMSprop"), ("initializer", "glorot_uniform", "GlorotUniform"),
        ("initializer", "one", "Ones"), ("initializer", "normal", "RandomNormal"), ("regularizer", "l1_l2", "L1L2"),
        ("constraint", "non_neg", "NonNeg"), ("constraint", "min_max_norm", "MinMaxNorm"),
        ("metric", "mse", "MeanSquaredError"), ("metric", "sparse_categorical_accuracy", "SparseCategoricalAccuracy"),
    ],
)  # fmt: skip
def test_names_are_found_in_the_spellings_that_people_use(kind, alias, name):
    assert KINDS[kind].find(alias) is KINDS[kind].find(name)
    assert KINDS[kind].find(name).__name__ == name


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_and_alias_of_a_kind_leads_to_one_spec(kind):
    for name in KINDS[kind]:
        spec = KINDS[kind].find(name)
        for spelling in (name, name.lower(), name.upper(), *spec.aliases):
            assert KINDS[kind].find(spelling) is spec
    with pytest.raises(UnknownNameError, match=f"no {kind} is called 'zzzzzz'. Known: "):
        KINDS[kind].find("zzzzzz")


def test_value_specs_are_equal_when_their_parameters_are():
    assert lh.regularizers.L2(0.1) == lh.regularizers.L2(0.1) != lh.regularizers.L2(0.2)
    assert hash(lh.regularizers.L2(0.1)) == hash(lh.regularizers.L2(0.1))
    assert lh.regularizers.L2(0.1) != lh.regularizers.L1(0.1)


def test_the_data_format_of_the_moment_stays_with_a_layer(monkeypatch):
    monkeypatch.setitem(lh.config._chosen, "image_data_format", "channels_first")
    layer = lh.layers.Conv2D(3, 3)
    monkeypatch.setitem(lh.config._chosen, "image_data_format", "channels_last")
    assert layer.data_format == "channels_first"
    assert lh.layers.Conv2D(3, 3).data_format == "channels_last"


@pytest.mark.parametrize("name, wrong", [("floatx", "float12"), ("image_data_format", "NHWC")])
def test_a_wrong_process_wide_default_is_refused_with_the_right_ones(name, wrong):
    with pytest.raises(ParameterError, match=f"set_{name}: must be one of .*, not '{wrong}'"):
        getattr(lh.config, f"set_{name}")(wrong)


# --------------------------------------------------------------------------------------------- declaring a layer


def test_a_layer_whose_definition_does_not_take_what_it_declares_is_refused():
    from layerhub.spec.layer import In, Out

    def define(self, xp, y):
        return y

    with pytest.raises(ParameterError, match=r"Wrong: define takes \('y',\), but the class declares \('x',\)"):
        type("Wrong", (Layer,), {"x": In("..."), "y": Out("..."), "mask": None, "define": define})


def test_a_layer_that_states_no_mask_rule_is_refused():
    from layerhub.spec.layer import In, Out

    with pytest.raises(ParameterError, match="Wrong: state the mask rule"):
        type("Wrong", (Layer,), {"x": In("..."), "y": Out("..."), "define": lambda self, xp, x: x})


def test_specs_import_neither_numpy_nor_a_framework():
    code = "import sys, layerhub.spec; print(sorted({'numpy', 'torch', 'tensorflow', 'pluggy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
