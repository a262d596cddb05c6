"""Definitions use the array API standard and the nine extras, nothing else: all of them run under array_api_strict.

``array_api_strict`` refuses whatever the standard does not promise. What is given to definitions here has, besides,
only the names that a backend must have, and takes basic slices with positive steps alone.
"""

import math
import warnings
from collections import Counter

import array_api_strict
import numpy as np
import pytest
import scipy.special
from layerhub_conformance.cases import corpus
from layerhub_conformance.oracle import philox4x32
from layerhub_conformance.reference import DefinitionsOnly, reference
from layerhub_conformance.subjects import firsts
from layerhub_conformance.training import LOSSES, METRICS, loss_case, metric_case, said
from layerhub_conformance.verdict import compare

from layerhub import autodiff, ops
from layerhub.errors import LayerHubError, MaskDroppedWarning
from layerhub.namespace import EXTRAS, STANDARD, Namespace
from layerhub.plan import Planner
from layerhub.running_error import ULPS, UNITS
from layerhub.spec import KINDS
from layerhub.spec.constraints import MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from layerhub.spec.optimizers import (
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lamb,
    Lion,
    Muon,
    Nadam,
    RMSprop,
    ScheduleFreeAdamW,
)
from layerhub.spec.regularizers import L1, L1L2, L2, OrthogonalRegularizer
from layerhub.stream import Stream
from layerhub.variable import HOST

SOME = firsts(8)
"""Enough of each layer to go through all that its definition may call."""


class Needed:
    """The names that a backend must have, of array_api_strict."""

    def __getattr__(self, name):
        if name not in STANDARD:
            raise AttributeError(f"{name!r} is not among the names of the standard that a backend must have")
        return getattr(array_api_strict, name)


STRICT = Namespace(Needed())
StrictArray = type(array_api_strict.zeros(1))
strict_array = array_api_strict.asarray


def plain(x):
    """An ndarray from a strict array, recorded or not."""
    return np.asarray(autodiff.value_of(x))


@pytest.fixture(autouse=True)
def basic_slices_only(monkeypatch):
    original = StrictArray.__getitem__

    def getitem(self, index, /):
        for part in index if isinstance(index, tuple) else (index,):
            basic = part is Ellipsis or isinstance(part, int) or (isinstance(part, slice) and (part.step or 1) > 0)
            assert basic, f"a backend need not take the index {index!r}"
        return original(self, index)

    monkeypatch.setattr(StrictArray, "__getitem__", getitem)


@pytest.fixture(autouse=True)
def ops_know_strict_arrays(monkeypatch):
    monkeypatch.setitem(ops._spaces, StrictArray, STRICT)


# ------------------------------------------------------------------------------------------------- all definitions


def run_strictly(case, differentiate):
    """What a case gives over array_api_strict: arrays by the names that the reference has for them, and the mask."""
    drawn, layer = case.draw("float64"), case.make()
    planner = Planner(DefinitionsOnly(), "", case.training, 0, route="definition")
    values = [
        planner.input(x.shape, "int64" if x.dtype.kind == "i" else "float64", m is not None)
        for x, m in zip(drawn.inputs, drawn.masks, strict=True)
    ]
    begin = [planner.input(s.shape, "float64") for s in drawn.states]
    plan = planner.plan(planner.call(layer, values, "0", begin))
    space = autodiff.Differentiable(STRICT) if differentiate else STRICT

    def native(x):
        moved = strict_array(x)
        return space.var(moved) if differentiate and x.dtype.kind == "f" else moved

    names = [spec.name for spec in layer.weight_specs(*case.shapes)]
    by_name = dict(zip(names, map(native, drawn.weights), strict=True))
    by_name |= {spec.name: native(np.zeros(spec.shape)) for spec in layer.state_specs(*case.shapes)}
    held = [by_name[slot.spec.name] for slot in plan.slots]
    inputs, states = list(map(native, drawn.inputs)), list(map(native, drawn.states))
    masks = tuple(strict_array(m) for m in drawn.masks if m is not None)
    run = plan.function(space, differentiate=differentiate)
    outputs, updates, out_masks, _ = run(held, [*inputs, *states], masks, 0)
    found = {f"output {k}": plain(y) for k, y in enumerate(outputs)}
    for i, value in zip(plan.updated, updates, strict=True):
        found[f"{plan.slots[i].spec.name} after the call"] = plain(value)
    if differentiate:
        labelled = [(f"gradient of input {i}", x) for i, x in enumerate(inputs) if isinstance(x, autodiff.Var)]
        weights = zip(plan.slots, held, strict=True)
        labelled += [(f"gradient of {slot.spec.name}", w) for slot, w in weights if slot.spec.trainable]
        cotangents = list(map(strict_array, drawn.cotangents))
        gradients = autodiff.gradients(outputs, cotangents, [x for _, x in labelled])
        found |= {what: plain(g) for (what, _), g in zip(labelled, gradients, strict=True)}
    return found, None if out_masks[0] is None else plain(out_masks[0])


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.id)
def test_every_definition_runs_on_the_standard_alone_and_gives_the_reference(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskDroppedWarning)
        expected = reference(case, "float64")
        found, mask = run_strictly(case, differentiate=False)
    wanted = [e for e in expected.arrays if not e.what.startswith("gradient")]
    wrong = [f.detail for e in wanted if not (f := compare(e, found.get(e.what), "float64")).right]
    assert not wrong, "\n".join([case.id, *wrong])
    assert (mask is None) == (expected.mask is None)
    assert mask is None or np.array_equal(mask, expected.mask)


@pytest.mark.parametrize("case", [case for case in SOME if case.differentiable], ids=lambda case: case.id)
def test_every_gradient_is_made_of_the_standard_alone_and_is_the_reference(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskDroppedWarning)
        expected = reference(case, "float64")
        found, _ = run_strictly(case, differentiate=True)
    wrong = [f.detail for e in expected.arrays if not (f := compare(e, found.get(e.what), "float64")).right]
    assert not wrong, "\n".join([case.id, *wrong])


def test_the_corpus_has_every_layer():
    origin = KINDS["layer"].origin
    assert {case.layer for case in corpus()} == {name for name in origin if origin[name] == "layerhub"}


def test_a_backend_needs_no_name_twice_and_array_api_strict_has_them_all():
    assert not [name for name, count in Counter(STANDARD).items() if count > 1]
    assert not [name for name in STANDARD if not hasattr(array_api_strict, name)]
    assert not set(STANDARD) & set(EXTRAS)


# ------------------------------------------------------------------------------------------------- specs of other kinds

RNG = np.random.default_rng(20)
WEIGHT = RNG.normal(size=(5, 3))
GRADIENT = RNG.normal(size=(5, 3))


def same(strictly, on_numpy):
    """As close as two float64 evaluations of one short formula can be: 64 roundings, at the scale of the result."""
    strictly, on_numpy = plain(strictly), np.asarray(on_numpy)
    assert strictly.dtype == on_numpy.dtype
    assert strictly.shape == on_numpy.shape
    bound = 64 * UNITS["float64"] * np.max(np.abs(on_numpy), initial=np.finfo(np.float64).tiny)
    assert np.all(np.abs(strictly - on_numpy) <= bound)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [name for name in KINDS["activation"] if name != "custom"])
def test_every_activation_runs_on_the_standard_alone_and_keeps_the_type(name, dtype):
    x = RNG.normal(size=(3, 8)).astype(dtype) * 3
    spec = KINDS["activation"].find(name)
    activation = spec(0.5, 0.0) if name == "threshold" else spec()
    y = activation.define(STRICT, strict_array(x))
    assert plain(y).dtype == dtype
    assert plain(y).shape == activation.output_shape(x.shape)


@pytest.mark.parametrize("spec", LOSSES, ids=said)
def test_every_loss_runs_on_the_standard_alone(spec):
    loss, targets, predictions = loss_case(spec, "float64")
    on_numpy = loss.define(HOST, targets, predictions)
    same(loss.define(STRICT, strict_array(targets), strict_array(predictions)), on_numpy)
    space = autodiff.Differentiable(STRICT)
    y_pred = space.var(strict_array(predictions))
    values = loss.define(space, strict_array(targets), y_pred)
    (gradient,) = autodiff.gradients([values], [STRICT.ones_like(values.value)], [y_pred])
    assert np.all(np.isfinite(plain(gradient)))
    assert np.any(plain(gradient) != 0)


def test_every_loss_is_in_the_table_of_strict_losses():
    assert {spec["class_name"] for spec in LOSSES} | {"FunctionLoss"} == set(KINDS["loss"])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spec", METRICS, ids=said)
def test_every_metric_runs_on_the_standard_alone(spec, weighted):
    metric, batches = metric_case(spec, "float64")

    def measured(xp, array):
        state = tuple(xp.zeros(shape, dtype=xp.float64) for shape in metric.shapes(batches[0][1].shape))
        for y_true, y_pred, weights in batches:
            state = metric.define(xp, state, array(y_true), array(y_pred), array(weights) if weighted else None)
        return metric.figure(xp, state)

    same(measured(STRICT, strict_array), measured(HOST, np.asarray))


def test_every_metric_is_in_the_table_of_strict_metrics():
    assert {spec["class_name"] for spec in METRICS} | {"FunctionMetric", "MeanMetricWrapper"} == set(KINDS["metric"])


OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    RMSprop(0.1),
    RMSprop(0.1, momentum=0.5, centered=True),
    Adam(0.1),
    Adam(0.1, amsgrad=True, clipnorm=0.5),
    AdamW(0.1, global_clipnorm=0.5),
    Adam(0.1, clipvalue=0.3),
    Adagrad(0.1),
    Adadelta(0.1),
    Adamax(0.1),
    Nadam(0.1),
    Ftrl(0.1, -0.7, l1_regularization_strength=0.1, l2_shrinkage_regularization_strength=0.1),
    Lion(0.1),
    Lamb(0.1),
    Adafactor(0.1),
    Muon(0.1),
    ScheduleFreeAdamW(0.1),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_optimizer_and_every_clip_runs_on_the_standard_alone(optimizer):
    def moved(xp, array):
        w = array(WEIGHT)
        slots = optimizer.start(xp, w)
        for step in (1, 2):
            (g,) = optimizer.clip(xp, [array(GRADIENT * step)])
            w, *slots = optimizer.update(xp, optimizer.coefficients(step), w, g, *slots)
        return w

    same(moved(STRICT, strict_array), moved(HOST, np.asarray))


def test_every_optimizer_is_in_the_table_of_strict_optimizers():
    around = {"LossScaleOptimizer", "MultiOptimizer"}
    assert {type(optimizer).__name__ for optimizer in OPTIMIZERS} | around == set(KINDS["optimizer"])


SMALL = [L1(), L2(), L1L2(0.1, 0.2), OrthogonalRegularizer(), OrthogonalRegularizer(mode="columns")]
SMALL += [MaxNorm(0.5), NonNeg(), UnitNorm(), MinMaxNorm(0.2, 0.4, 0.7), MaxNorm(0.5, axis=(0, 1))]


@pytest.mark.parametrize("spec", SMALL, ids=repr)
def test_every_regularizer_and_constraint_runs_on_the_standard_alone(spec):
    same(spec.define(STRICT, strict_array(WEIGHT)), spec.define(HOST, WEIGHT))


@pytest.mark.parametrize("spec", [s for s in SMALL if s.kind.name == "regularizer"], ids=repr)
def test_every_regularizer_is_differentiated_on_the_standard_alone(spec):
    space = autodiff.Differentiable(STRICT)
    w = space.var(strict_array(WEIGHT))
    (gradient,) = autodiff.gradients([spec.define(space, w)], [strict_array(1.0)], [w])
    assert plain(gradient).shape == WEIGHT.shape


@pytest.mark.parametrize("name", list(KINDS["initializer"]))
def test_every_initializer_gives_the_same_values_on_any_array_library(name):
    """These run on the host, in float64, and may use the linear algebra extension of the standard."""
    initializer = KINDS["initializer"].find(name)()
    shape = (12,) if name == "ForgetBias" else (4, 3)
    whole = Namespace(array_api_strict)

    def start(xp):
        draws = iter(range(10))
        return initializer.define(xp, shape, lambda size: xp.random_bits(Stream.at(3, "w").child(next(draws)), size))

    same(start(whole), start(HOST))


# ------------------------------------------------------------------------------------------------- the extras


def integers(*shape):
    """Small whole numbers, so that sums of products are exact in any order."""
    return RNG.integers(-8, 9, size=shape).astype(np.float64)


def test_the_default_erf_is_scipys_to_a_few_units_in_the_last_place():
    x = np.concatenate([np.linspace(-7, 7, 4001), [0.5, -0.5, 4, -4, 6, 30, -30, 1e-300], np.geomspace(1e-12, 1, 200)])
    got, expected = plain(STRICT.erf(strict_array(x))), scipy.special.erf(x)
    assert np.all(np.abs(got - expected) <= 2 * ULPS["erf"] * UNITS["float64"] * np.abs(expected))


def test_the_default_erf_keeps_zero_and_is_odd():
    x = np.array([0.0, 0.3, 2.0, 5.0, 8.0])
    assert plain(STRICT.erf(strict_array(0 * x))).tolist() == [0.0] * 5
    assert np.array_equal(plain(STRICT.erf(strict_array(-x))), -plain(STRICT.erf(strict_array(x))))


@pytest.mark.parametrize(
    "subscripts, shapes",
    [
        ("ngc,cgf->ngf", [(3, 2, 4), (4, 2, 5)]),
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk->ki", [(2, 3), (3, 4)]),
        ("i,j->ij", [(2,), (3,)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("ij,kj->", [(2, 3), (4, 3)]),
        (" i j , j -> i ", [(2, 3), (3,)]),
    ],
)
def test_the_default_einsum_is_numpys(subscripts, shapes):
    operands = [integers(*shape) for shape in shapes]
    got = STRICT.einsum(subscripts, *map(strict_array, operands))
    assert np.array_equal(plain(got), np.einsum(subscripts, *operands))


@pytest.mark.parametrize("widths", [((0, 0), (1, 2)), ((3, 0), (0, 1)), ((0, 0), (0, 0)), ((1, 1), (2, 2))])
@pytest.mark.parametrize("value", [0.0, -math.inf, 2.5])
def test_the_default_pad_is_numpys(widths, value):
    x = integers(3, 4)
    assert np.array_equal(plain(STRICT.pad(strict_array(x), widths, value)), np.pad(x, widths, constant_values=value))


ROWS = [((6,), (3,)), ((2, 3), (4,)), ((5,), ()), ((0,), (3,)), ((2, 2), (2, 2))]


@pytest.mark.parametrize("index_shape, rest", ROWS)
def test_the_default_scatter_add_sums_what_goes_to_the_same_row(index_shape, rest):
    index, updates = RNG.integers(0, 4, size=index_shape), integers(*index_shape, *rest)
    expected = np.zeros((4, *rest))
    np.add.at(expected, index, updates)
    assert np.array_equal(plain(STRICT.scatter_add(4, strict_array(index), strict_array(updates))), expected)


INDICES = [
    (slice(1, 4), slice(None)),
    (slice(0, 7, 2), slice(1, 5, 3)),
    (slice(1, 7, 3), slice(0, 5, 5)),
    (2, slice(None)),
    (slice(None), -1),
    (slice(-3, None), slice(0, 0)),
    (slice(5, 2), slice(None)),
    (slice(0, 100, 4), slice(None, None, 2)),
    (3, -2),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_the_default_unslice_puts_back_what_a_slice_took(index):
    x = integers(7, 5)
    taken = np.asarray(x[index])
    expected = np.zeros_like(x)
    expected[index] = taken
    assert np.array_equal(plain(STRICT.unslice(strict_array(taken), x.shape, index)), expected)


def test_the_default_scan_is_a_loop_that_carries():
    xs, more = integers(5, 2), integers(5, 2)

    def step(carry, now):
        total, count = carry
        return (total + now[0] * now[1], count + 1), total

    start = (strict_array(np.zeros(2)), strict_array(0.0))
    carry, ys = STRICT.scan(step, start, (strict_array(xs), strict_array(more)))
    assert np.array_equal(plain(carry[0]), (xs * more).sum(0))
    assert plain(carry[1]) == 5
    assert np.array_equal(plain(ys), np.concatenate([np.zeros((1, 2)), np.cumsum(xs * more, axis=0)[:-1]]))


def test_the_default_scan_over_nothing_keeps_the_carry_and_stacks_nothing():
    start = strict_array(integers(2, 3))
    carry, ys = STRICT.scan(lambda carry, now: (carry, carry[0]), (start,), (strict_array(np.zeros((0, 4))),))
    assert carry[0] is start
    assert plain(ys).shape == (0, 2, 3)


def test_a_scan_whose_step_gives_no_outputs_gives_none():
    _, ys = STRICT.scan(lambda carry, now: (carry, None), (strict_array(1.0),), (strict_array(np.zeros(3)),))
    assert ys is None


def test_the_default_size_and_stop_gradient_are_the_shape_and_the_array():
    x = strict_array(integers(3, 4))
    assert (STRICT.size(x, 0), STRICT.size(x, -1)) == (3, 4)
    assert STRICT.stop_gradient(x) is x


@pytest.mark.parametrize("shape", [(), (1,), (4,), (7,), (3, 5), (0, 2), (2, 2, 2)])
def test_random_bits_are_philox_at_the_counter_of_each_block_of_four(shape):
    stream = Stream((0x12345678, 0x9ABCDEF0), step=3, call=2, part=1)
    words = [w for block in range(3 + math.prod(shape) // 4) for w in philox4x32((block, 2, 3, 1), stream.key)]
    got = plain(STRICT.random_bits(stream, shape))
    assert got.dtype == np.int64
    assert got.shape == shape
    assert got.reshape(-1).tolist() == words[: math.prod(shape)]


def test_a_given_extra_takes_the_place_of_the_default_and_is_used_by_the_others():
    called = []

    def pad(x, widths, value=0.0):
        called.append(widths)
        return strict_array(np.pad(np.asarray(x), widths, constant_values=value))

    space = Namespace(Needed(), pad=pad)
    space.unslice(strict_array(integers(2, 5)), (7, 5), (slice(0, 4, 2), slice(None)))
    assert called


def test_a_name_that_is_neither_standard_nor_extra_is_an_attribute_error():
    with pytest.raises(AttributeError, match="cumsum"):
        STRICT.cumsum  # noqa: B018


def test_a_function_without_a_derivative_is_refused_by_name():
    space = autodiff.Differentiable(Namespace(array_api_strict))
    with pytest.raises(LayerHubError, match="no derivative is known for the array function 'cumulative_sum'"):
        space.cumulative_sum(space.var(strict_array(np.ones(3))))
