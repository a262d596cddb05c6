"""Models as ONNX files: whole, checked, and as accurate as predictions."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("layerhub_onnxruntime", reason="pip install -e examples/onnx_backend")
import onnx
import onnxruntime
from layerhub_conformance.reference import DefinitionsOnly
from layerhub_conformance.verdict import Expected, compare
from layerhub_onnxruntime import export

import layerhub as lh
from layerhub.errors import BackendError, ParameterError, StateError
from layerhub.hookspecs import Exporter, hookimpl
from layerhub.plan import Planner
from layerhub.registry import Registry
from layerhub.running_error import RunningError

L = lh.layers


def dense(backend):
    layers = [L.Dense(8, activation="relu"), L.Dropout(0.3), L.Dense(3, activation="softmax")]
    return lh.Sequential([lh.Input((5,)), *layers], backend=backend, seed=1)


def cnn(backend):
    layers = [L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.Activation("relu"), L.MaxPooling2D(2)]
    layers += [L.DepthwiseConv2D(3), L.Conv2DTranspose(2, 3, strides=2), L.GlobalAveragePooling2D(), L.Dense(2)]
    return lh.Sequential([lh.Input((12, 10, 3)), *layers], backend=backend, seed=1)


def masked_lstm(backend):
    layers = [L.Masking(0.0), L.LSTM(6, return_sequences=True), L.GRU(5), L.Dense(2, activation="sigmoid")]
    return lh.Sequential([lh.Input((7, 4)), *layers], backend=backend, seed=1)


def attention(backend):
    x = lh.Input((6, 8))
    y = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(num_heads=2, key_dim=4)([x, x])]))
    return lh.Model(x, L.Dense(3)(y), backend=backend, seed=1)


def two_inputs(backend):
    left, right = lh.Input((4,), name="left"), lh.Input((6,), name="right")
    joined = L.Concatenate()([L.Dense(3, activation="tanh")(left), L.Dense(3, activation="elu")(right)])
    outputs = [L.Dense(2, name="first")(joined), L.Dense(1, activation="softplus", name="second")(joined)]
    return lh.Model([left, right], outputs, backend=backend, seed=1)


def any_length(backend):
    layers = [L.Bidirectional(L.LSTM(4, return_sequences=True)), L.GRU(5, return_sequences=True, go_backwards=True)]
    layers += [L.GRU(4, return_sequences=True, reset_after=False), L.SimpleRNN(3), L.Dense(2)]
    return lh.Sequential([lh.Input((None, 4)), *layers], backend=backend, seed=1)


MODELS = (dense, cnn, masked_lstm, attention, two_inputs, any_length)


def data(model, count):
    rng = np.random.default_rng(count)
    shapes = [(count, *(9 if size is None else size for size in x.shape[1:])) for x in model.inputs]
    inputs = [rng.normal(size=shape).astype("float32") for shape in shapes]
    if inputs[0].ndim == 3:
        inputs[0][: count // 2, 3:] = 0  # what Masking takes for absent
    return inputs


def expected(model, inputs):
    """The outputs as the definitions mean them, with the errors that float32 may make."""
    planner = Planner(DefinitionsOnly(), "", False, model.seed, route="definition")
    plan = planner.plan(model.lower(planner, [planner.input(x.shape, "float64") for x in inputs]))
    bounded = RunningError.of("float32")
    weights = [bounded.exact(slot.layer.store.by_name()[slot.spec.name].numpy()) for slot in plan.slots]
    outputs = plan.function(bounded)(weights, [bounded.exact(x) for x in inputs], (), 0)[0]
    return [Expected(name, y.value, y.error) for name, y in zip(model.output_names, outputs, strict=True)]


def outputs_of(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {x.name: value for x, value in zip(session.get_inputs(), inputs, strict=True)})


def wrong(expectations, outputs):
    findings = [compare(e, y, "float32") for e, y in zip(expectations, outputs, strict=True)]
    return [finding.detail for finding in findings if not finding.right]


@pytest.mark.parametrize("operators", ["exact", "standard"])
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_file_gives_what_the_model_means_for_all_batch_sizes(make, operators, tmp_path):
    # On ordinary data like these the standard operators are as good.
    model, path = make("numpy"), tmp_path / "model.onnx"
    model.export(path, operators=operators)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    for count in (1, 3, 17):
        inputs = data(model, count)
        wanted = expected(model, inputs)
        predicted = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
        assert not wrong(wanted, predicted if isinstance(predicted, list) else [predicted])
        assert not wrong(wanted, outputs_of(path, inputs))


def test_inputs_outputs_and_weights_have_names(tmp_path):
    model, path = two_inputs("onnxruntime"), tmp_path / "model.onnx"
    model.export(path)
    graph = onnx.load(path).graph
    sizes = {x.name: [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] for x in graph.input}
    assert sizes == {"left": ["batch", 4], "right": ["batch", 6]}
    assert [y.name for y in graph.output] == ["first", "second"]
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in graph.initializer}
    for variable in model.weights:
        assert np.array_equal(weights[variable.path], variable.numpy())


def test_names_batch_size_and_opset_may_be_chosen(tmp_path):
    path = tmp_path / "model.onnx"
    two_inputs("numpy").export(path, input_names=["a", "b"], output_names=["c", "d"], batch_size=3, opset=20)
    proto = onnx.load(path)
    assert [x.name for x in proto.graph.input] == ["a", "b"]
    assert [y.name for y in proto.graph.output] == ["c", "d"]
    assert [x.type.tensor_type.shape.dim[0].dim_value for x in proto.graph.input] == [3, 3]
    assert proto.opset_import[0].version == 20


def operators_of(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_layers_become_the_operators_that_one_expects(tmp_path):
    path = tmp_path / "model.onnx"
    dense("numpy").export(path)
    assert operators_of(path) == ["Gemm", "Relu", "Gemm", "Softmax"]
    cnn("numpy").export(path, operators="standard")
    assert {"Conv", "BatchNormalization", "MaxPool", "ConvTranspose", "Gemm"} <= set(operators_of(path))
    any_length("numpy").export(path, operators="standard")
    assert operators_of(path).count("LSTM") == 2
    any_length("numpy").export(path)
    assert "LSTM" not in operators_of(path)
    assert operators_of(path).count("Scan") == 4


def test_kernels_are_stored_in_the_order_that_operators_want(tmp_path):
    model, path = cnn("numpy"), tmp_path / "model.onnx"
    model.export(path)
    graph = onnx.load(path).graph
    kernel = model.weights[0]
    (stored,) = [w for w in graph.initializer if w.name == kernel.path]
    assert np.array_equal(onnx.numpy_helper.to_array(stored), kernel.numpy().transpose(3, 2, 0, 1))


def test_an_output_that_is_an_input_has_a_name_of_its_own(tmp_path):
    x, path = lh.Input((4,), name="x"), tmp_path / "model.onnx"
    lh.Model(x, [x, L.Dense(2, name="y")(x)], backend="numpy").export(path)
    graph = onnx.load(path).graph
    assert [y.name for y in graph.output] == ["x_1", "y"]
    value = np.ones((2, 4), "float32")
    assert np.array_equal(outputs_of(path, [value])[0], value)


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path, monkeypatch):
    model, path = dense("numpy"), tmp_path / "model.onnx"
    model.export(path)
    before = path.read_bytes()

    def breaks_off(proto, file):
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(export.onnx, "save_model", breaks_off)
    with pytest.raises(OSError, match="the disk is full"):
        dense("numpy").export(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_exporting_leaves_the_model_where_it_is(tmp_path):
    model = dense("onnxruntime")
    before = model.predict(data(model, 3)[0], verbose=0)
    model.export(tmp_path / "model.onnx")
    assert model.backend == "onnxruntime"
    assert np.array_equal(model.predict(data(model, 3)[0], verbose=0), before)


# What cannot be


def test_without_the_plugin_the_error_says_what_to_install():
    with pytest.raises(BackendError, match=r"no plugin here writes '.onnx' files .*: pip install layerhub-onnxruntime"):
        Registry([]).exporter(".onnx")


def test_an_unknown_suffix_is_told_with_those_that_are_known(tmp_path):
    with pytest.raises(BackendError, match=r"no plugin here writes '.onx' files .*\.onnx"):
        dense("numpy").export(tmp_path / "model.onx")


def test_wrong_options_are_told(tmp_path):
    model, path = dense("numpy"), tmp_path / "model.onnx"
    for options, told in (
        ({"opst": 20}, "no option 'opst'. Did you mean 'opset'"),
        ({"opset": 17}, "opset must be from 18 to .*, not 17"),
        ({"operators": "fast"}, "operators must be one of 'exact', 'standard', not 'fast'"),
        ({"input_names": ["a", "b"]}, "input_names must be 1 new names"),
        ({"input_names": ["a"], "output_names": ["a"]}, "output_names must be 1 new names"),
        ({"batch_size": 0}, "batch_size must be a positive int or None, not 0"),
    ):
        with pytest.raises(ParameterError, match=told):
            model.export(path, **options)
    assert not path.exists()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ParameterError, match=r"there is no folder .*nowhere"):
        dense("numpy").export(tmp_path / "nowhere" / "model.onnx")


def test_a_model_without_a_shape_is_not_complete(tmp_path):
    with pytest.raises(StateError, match="no input shape"):
        lh.Sequential([L.Dense(2)], backend="numpy").export(tmp_path / "model.onnx")


def test_what_onnx_has_not_is_refused(tmp_path):
    stateful = lh.Sequential([lh.Input(batch_shape=(2, 3, 4)), L.LSTM(2, stateful=True)], backend="numpy")
    with pytest.raises(BackendError, match=r"keeps states from call to call.*stateful=False"):
        stateful.export(tmp_path / "model.onnx")
    short = lh.Sequential([lh.Input((4,)), L.Dense(2, dtype="bfloat16")], backend="numpy")
    with pytest.raises(BackendError, match=r"computes in bfloat16.*clone_model"):
        short.export(tmp_path / "model.onnx")
    unknown = lh.Sequential([lh.Input((None, None, 1)), L.UpSampling2D(2, interpolation="bilinear")], backend="numpy")
    with pytest.raises(BackendError, match=r"sizes that are unknown.*lh.Input"):
        unknown.export(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


# The hook


def plugin(*exporters):
    """A plugin's module that offers these."""
    module = ModuleType("mine")
    module.LAYERHUB_API = 1

    @hookimpl
    def layerhub_exporters():
        return exporters

    module.layerhub_exporters = layerhub_exporters
    return module


def test_any_plugin_may_write_a_format():
    def write(model, file, note="none"):
        file.write(note.encode())

    registry = Registry([("mine", lambda: plugin(Exporter(".mine", lambda: write)))])
    assert registry.exporter(".mine") is write
    assert registry.problems == []


def test_a_suffix_belongs_to_one_plugin():
    modules = {
        "first": plugin(Exporter(".mine", lambda: "first")),
        "second": plugin(Exporter(".mine", lambda: "second")),
    }
    registry = Registry([(name, lambda module=module: module) for name, module in modules.items()])
    assert registry.exporter(".mine") == "first"
    ((who, why),) = [(problem.plugin, problem.reason) for problem in registry.problems]
    assert who == "second"
    assert "already written by first" in why


def test_what_is_no_exporter_is_reported_under_the_plugins_name():
    registry = Registry([("mine", lambda: plugin(Exporter("mine", print)))])
    with pytest.raises(BackendError, match="no plugin here writes"):
        registry.exporter(".mine")
    assert [problem.plugin for problem in registry.problems] == ["mine"]


def test_an_exporter_says_what_it_needs():
    entry = Exporter(".mine", print, requires=("no_such_module",), install="pip install it")
    registry = Registry([("mine", lambda: plugin(entry))])
    with pytest.raises(BackendError, match=r"'\.mine' files needs no_such_module, .*: pip install it"):
        registry.exporter(".mine")


def test_an_exporter_that_does_not_load_is_told():
    def load():
        raise ImportError("libwriter.so")

    registry = Registry([("mine", lambda: plugin(Exporter(".mine", load)))])
    with pytest.raises(BackendError, match=r"'\.mine' files of mine does not load: ImportError: libwriter\.so"):
        registry.exporter(".mine")
