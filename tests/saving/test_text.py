"""Models as JSON and YAML text: here, from Keras 1 and 2, and as traps."""

import json
import time
from itertools import pairwise

import numpy as np
import pytest

import layerhub as lh
from layerhub.errors import FileFormatError, GraphError, LayerHubError, MissingPackageError, ParameterError
from layerhub.saving import text

from .conftest import chain, graph, near, outputs_of, recurrent, same

pytest.importorskip("yaml")
L = lh.layers


@pytest.mark.parametrize("make", [chain, graph, recurrent])
def test_yaml_says_the_same_as_json(make):
    model = make()
    again = lh.models.model_from_yaml(model.to_yaml())
    assert again.to_json() == model.to_json()
    assert type(again) is type(model)
    assert same(again.get_weights(), model.get_weights())


def test_yaml_holds_plain_values_without_tags_or_aliases():
    said = chain().to_yaml()
    assert not set("!&*") & set(said)
    assert said.startswith("class_name: Sequential\n")
    assert chain().to_yaml(sort_keys=False).startswith("module: keras\n")


def test_a_text_is_read_on_any_backend():
    pytest.importorskip("torch")
    assert lh.models.model_from_yaml(chain().to_yaml(), backend="torch").backend == "torch"


KERAS_1 = """\
class_name: Sequential
config:
- class_name: Convolution2D
  config:
    W_constraint: null
    W_regularizer: null
    activation: relu
    batch_input_shape: !!python/tuple [null, 6, 6, 2]
    bias: true
    border_mode: same
    dim_ordering: tf
    init: glorot_uniform
    name: convolution2d_1
    nb_col: 2
    nb_filter: 3
    nb_row: 3
    subsample: &id001 !!python/tuple [2, 2]
    trainable: true
- class_name: MaxPooling2D
  config: {border_mode: valid, dim_ordering: tf, name: pool, pool_size: *id001, strides: *id001, trainable: true}
- class_name: Flatten
  config: {name: !!python/unicode 'flatten_1', trainable: true}
- class_name: Dense
  config: {activation: hard_sigmoid, init: uniform, name: dense_1, output_dim: 2, trainable: true}
keras_version: 1.2.2
"""
KERAS_2 = """\
backend: tensorflow
class_name: Model
config:
  input_layers:
  - [a, 0, 0]
  layers:
  - class_name: InputLayer
    config:
      batch_input_shape: !!python/tuple [null, 5, 4]
      dtype: float32
      name: a
      sparse: false
    inbound_nodes: []
    name: a
  - class_name: GRU
    config: {implementation: 1, name: gru_1, recurrent_activation: hard_sigmoid, trainable: true, units: 3}
    inbound_nodes:
    - - - a
        - 0
        - 0
        - {}
    name: gru_1
  name: model_1
  output_layers:
  - [gru_1, 0, 0]
keras_version: 2.2.4
"""


@pytest.mark.filterwarnings("error")
def test_yaml_of_keras_1_is_read_without_a_word_about_its_spelling():
    model = lh.models.model_from_yaml(KERAS_1)
    assert [type(layer).__name__ for layer in model.layers] == ["Conv2D", "MaxPooling2D", "Flatten", "Dense"]
    convolution, pool, _, dense = model.layers
    assert (convolution.filters, convolution.kernel_size, convolution.strides) == (3, (3, 2), (2, 2))
    assert (convolution.padding, pool.pool_size) == ("same", (2, 2))
    assert dense.units == 2
    x = np.linspace(-9, 9, 6 * 6 * 2, dtype="float32").reshape(1, 6, 6, 2)
    dense.set_weights([np.zeros((3, 2)), np.asarray([1.0, 9.0])])
    near(outputs_of(model, x), [np.asarray([[0.7, 1.0]])])  # hard_sigmoid as it was: 0.2 x + 0.5, cut off at 1


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_text_of_keras_2_means_what_it_meant(form):
    if form == "yaml":
        model = lh.models.model_from_yaml(KERAS_2)
    else:
        model = lh.models.model_from_json(json.dumps(text.yaml_object(KERAS_2, "it")))
    gru = model.get_layer("gru_1")
    assert gru.reset_after is False
    assert gru.get_config()["recurrent_activation"] == "keras2_hard_sigmoid"
    assert outputs_of(model, np.ones((2, 5, 4), "float32"))[0].shape == (2, 3)
    assert lh.models.model_from_json(model.to_json()).get_config() == model.get_config()


TRAPS = {
    "call": ("!!python/object/apply:os.system ['touch escaped']", "python/object/apply:os.system"),
    "new": ("a: !!python/object/new:os.system ['touch escaped']", "asks for an object"),
    "name": ("a: !!python/name:os.system ''", "asks for an object"),
    "own tag": ("a: !mine {x: 1}", "asks for an object"),
    "binary": ("a: !!binary aGVsbG8=", "asks for an object"),
    "cycle": ("a: &a [1, *a]", "part of"),
    "nothing": ("a: *b", "stands for nothing"),
    "bomb": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 10)}]\n" for k in range(9)),
        "more than 1000000 values",
    ),
    "deep": ("- " * 100_000, "deep"),
    "flow": ("[" * 100_000, "nesting|deep"),
    "long": ("a" * (text.LIMIT + 1), "are not read"),
    "two": ("a: b\n---\na: b\n", "2 documents"),
    "none": ("", "0 documents"),
    "list": ("- a", "no YAML mapping"),
    "broken": ("a: [", "no YAML"),
    "keys": ("? [a]\n: b", "key"),
    "surrogate": ("a: \ud800", "no YAML"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_yaml_that_is_a_trap_is_refused_at_once(trap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, told = TRAPS[trap]
    begin = time.process_time()
    with pytest.raises(ParameterError, match=told):
        lh.models.model_from_yaml(content)
    assert time.process_time() - begin < 5
    assert not list(tmp_path.iterdir())


def test_what_yaml_takes_for_dates_and_merges_is_text():
    found = text.yaml_object("{a: 2001-01-01, <<: x, b: 0x10, c: 1.5e+3, d: ~, e: yes, f: '1', g: !!float 3}", "it")
    assert found == {"a": "2001-01-01", "<<": "x", "b": 16, "c": 1500.0, "d": None, "e": True, "f": "1", "g": 3.0}


@pytest.mark.parametrize(
    "content", ["[" * 10**6, '{"class_name": ' + "1" * 5000 + "}", "3", "", "{", '{"class_name": 3}'], ids=range(6)
)
def test_json_that_is_no_models_is_told(content):
    with pytest.raises(ParameterError, match="no model's JSON"):
        lh.models.model_from_json(content)


def test_what_models_are_built_up_of_here_is_no_model_that_a_text_may_name():
    with pytest.raises(ParameterError, match="no model is called 'Trainable'"):
        lh.models.model_from_json('{"class_name": "Trainable", "config": {}}')


@pytest.mark.parametrize("content", [None, 3, {"class_name": "Sequential"}])
def test_what_is_no_text_is_told(content):
    for read in (lh.models.model_from_json, lh.models.model_from_yaml):
        with pytest.raises(ParameterError, match="is a text"):
            read(content)


def test_a_library_that_is_not_installed_is_told_with_the_command(monkeypatch):
    def none(name):
        raise ImportError(name)

    written = chain().to_yaml()
    monkeypatch.setattr(text, "import_module", none)
    for attempt in (chain().to_yaml, lambda: lh.models.model_from_yaml(written)):
        with pytest.raises(MissingPackageError, match=r"pip install 'layerhub\[files\]'"):
            attempt()


# Graphs that are traps


def entry(kind, name, *calls, **config):
    nodes = []
    for call in calls:
        tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [*key, 0]}} for key in call]
        nodes.append({"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": {}})
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def model_entry(name, layers, output):
    layers = [entry("InputLayer", "x", batch_shape=[None, 2]), *layers]
    config = {"name": name, "layers": layers, "input_layers": ["x", 0, 0], "output_layers": [*output, 0]}
    return {"class_name": "Functional", "config": config}


def test_models_that_hold_each_other_twice_and_twice_again_are_refused_at_once():
    held = entry("ReLU", "m0", [("x", 0)], [("m0", 0)])
    for k in range(40):
        made = model_entry(f"m{k + 1}", [held], ("m" + str(k), 1))
        calls = entry("Functional", f"m{k + 1}", [("x", 0)], [(f"m{k + 1}", 0)])["inbound_nodes"]
        held = made | {"name": f"m{k + 1}", "inbound_nodes": calls}
    begin = time.process_time()
    with pytest.raises(FileFormatError, match="more than 100000 calls"):
        lh.models.model_from_json(json.dumps(held))
    assert time.process_time() - begin < 5


def test_a_graph_that_leads_back_to_itself_is_told():
    layers = [entry("Add", "a", [("x", 0), ("b", 0)]), entry("ReLU", "b", [("a", 0)])]
    with pytest.raises(GraphError, match="cycle"):
        lh.models.model_from_json(json.dumps(model_entry("m", layers, ("b", 0))))


def test_a_graph_that_is_listed_backwards_is_read_in_time():
    names = ["x", *(f"r{k}" for k in range(1000))]
    layers = [entry("ReLU", after, [(before, 0)]) for before, after in pairwise(names)]
    begin = time.process_time()
    model = lh.models.model_from_json(json.dumps(model_entry("m", layers[::-1], (names[-1], 0))))
    assert len(model.layers) == 1001
    assert time.process_time() - begin < 10


def test_a_claim_of_giant_sizes_takes_no_memory():
    dense = {"class_name": "Dense", "config": {"units": 10**15}}
    config = {"name": "s", "layers": [entry("InputLayer", "x", batch_shape=[None, 2]), dense]}
    said = json.dumps({"class_name": "Sequential", "config": config})
    assert lh.models.model_from_json(said).count_params() == 3 * 10**15
    wrapped = dense
    for k in range(300):
        wrapped = {"class_name": "TimeDistributed", "config": {"name": f"t{k}", "layer": wrapped}}
    config["layers"][1] = wrapped
    with pytest.raises(LayerHubError):
        lh.models.model_from_json(json.dumps({"class_name": "Sequential", "config": config}))
