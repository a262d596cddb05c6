"""Cases that are made from specs: what they cover, what they leave out, and that they are as they are written."""

from __future__ import annotations

import itertools
import random
from functools import cache
from typing import Annotated

import numpy as np
import pytest
from hypothesis import find, given, settings
from layerhub_conformance.case import Case
from layerhub_conformance.cases import corpus
from layerhub_conformance.data import SETS
from layerhub_conformance.generate import boundaries, coverage, covering, data_sets, freeze, frozen, invalid, triples
from layerhub_conformance.generate.configurations import configurations
from layerhub_conformance.generate.covering import Cover
from layerhub_conformance.generate.frozen import members
from layerhub_conformance.generate.problem import candidates, mixtures, problem_of

import layerhub as lh
from layerhub.errors import LayerHubError, ParameterError
from layerhub.registry import registry
from layerhub.spec import KINDS
from layerhub.spec.base import rule
from layerhub.spec.domains import Domain, Size
from layerhub.spec.layer import In, Layer, Out
from layerhub.spec.masks import passes

registry()


def layer(name):
    return KINDS["layer"].find(name)


@cache
def frozen_of(name):
    return [case for case in frozen() if case.layer == name]


# The frozen corpus


@pytest.mark.parametrize("spec", members(), ids=lambda spec: spec.__name__)
def test_the_frozen_cases_have_every_value_every_pair_that_can_be_and_every_rule(spec):
    found = coverage(spec, frozen_of(spec.__name__))
    assert found.missing == (), "run tools/generate.py: the specs have changed since the corpus was frozen"
    assert found.pairs.covered == found.pairs.total > 0
    assert found.parameters.covered == found.parameters.total > 0
    assert found.rules.covered == found.rules.total


def test_all_layers_but_those_of_functions_are_frozen():
    ours = {name for name, origin in KINDS["layer"].origin.items() if origin == "layerhub"}
    assert ours - {case.layer for case in frozen()} == {"Lambda"}


def test_every_layer_has_every_set_of_data():
    have = {(case.layer, case.data) for case in frozen()}
    assert [(spec.__name__, data) for spec in members() for data in SETS if (spec.__name__, data) not in have] == []


def test_the_corpus_is_small_and_has_nothing_twice():
    assert len(corpus()) == len({case.id for case in corpus()}) <= 5500


def test_what_is_written_is_read_back():
    for case in frozen():
        again = Case.parse(case.id)
        assert again.id == case.id
        assert again == case
        assert again.seed == case.seed


# Ids


@pytest.mark.parametrize(
    "text",
    [
        "Dense(units=3);(2,4)",
        'Conv2D(filters=4,kernel_size=(3,2),padding="same");(2,7,6,4)',
        "Add();(2,3)+(2,3)+(2,3);masks=left+none+row",
        'RNN(cell=StackedRNNCells(cells=[LSTMCell(units=2),GRUCell(units=3)]));(2,3,4);states;training;data="wide"',
        "ELU(alpha=-0.5);(2,3);data=ties",
        'Dense(units=3,name="a\\u003bb");(2,4)',
    ],
)
def test_an_id_says_a_case(text):
    text = text.replace('"wide"', "wide")
    case = Case.parse(text)
    assert case.id == text
    assert case.make().output_shapes(*case.shapes)


def test_an_id_holds_specs_that_were_made():
    cell = lh.layers.LSTMCell(3, activation="relu")
    case = Case("RNN", {"cell": cell}, ((2, 3, 4),))
    assert case.id == 'RNN(cell=LSTMCell(units=3,activation="relu"));(2,3,4)'
    assert Case.parse(case.id).id == case.id


@pytest.mark.parametrize(
    "text",
    [
        "Dense",
        "Dense[3];(2,4)",
        "Dense(3);(2,4)",
        "Dense(units=f(3)());(2,4)",
        "Dense(units=__import__('os'));(2,4)",
        "Lambda(function=relu);(2,4)",
        "Dense(units=3);(2,4);wild",
        "Dense(units=3);(2,4);data=wild",
    ],
)
def test_what_says_no_case_is_refused(text):
    with pytest.raises(ParameterError, match="is no case"):
        Case.parse(text)


# Covering


def test_every_triple_takes_more_rows_than_every_pair_and_has_them_all():
    spec = layer("GlobalMaxPooling1D")
    rows = [problem_of(spec).read(case) for case in triples(spec)]
    cover = Cover(problem_of(spec), 3)
    for row in rows:
        cover.seen(row)
    assert all(cover.solve(group) is None for group in list(cover.left))
    assert len(rows) > len(covering(spec))


def test_a_convolution_of_twelve_parameters_takes_few_rows():
    assert 16 <= len(covering(layer("Conv1D"))) <= 45


@pytest.mark.parametrize("name", ["Conv1D", "GroupNormalization", "Dot", "Reshape", "Bidirectional"])
def test_what_the_solver_finds_impossible_nothing_makes_possible(name):
    problem, rng = problem_of(layer(name)), random.Random(name)
    cover = Cover(problem)
    list(cover.rows())
    assert cover.infeasible
    for group in rng.sample(cover.infeasible, min(15, len(cover.infeasible))):
        fixed = {cover.names[place]: index for place, index in group}
        for _ in range(40):
            chosen = {k: rng.randrange(v.searched) for k, v in problem.variables.items()} | fixed
            chosen = {k: index for k, index in chosen.items() if k in fixed or problem.active(k, chosen)}
            assert not problem.consistent(chosen) or refused(problem, chosen)


def refused(problem, chosen):
    try:
        case = problem.case(chosen)
        case.make().output_shapes(*case.shapes)
        return any(pattern != "none" for pattern in case.masks)  # that is up to masks, not to the spec
    except LayerHubError:
        return True


def test_what_was_learnt_changes_no_answer():
    spec = layer("Conv1D")
    problem = problem_of(spec)
    list(Cover(problem).rows())
    fresh = type(problem)(spec)
    for name, variable in problem.variables.items():
        for index in range(variable.searched):
            assert problem.solve({name: index}) == fresh.solve({name: index})


def test_coverage_names_what_is_missing():
    spec = layer("Dense")
    found = coverage(spec, covering(spec)[:1])
    assert found.pairs.covered < found.pairs.total
    assert "use_bias=false" not in str(found.missing)
    assert "use_bias=False" in str(found.missing)
    assert str(found.rules) == "0/0"


def test_mixtures_differ_along_their_axes():
    assert mixtures([(2, 2), (3, 3), (1, 1)]) == [(2, 3), (3, 1), (1, 2)]
    assert mixtures([((0, 0), (0, 0)), ((1, 1), (1, 1)), ((2, 2), (2, 2))])[0] == ((0, 1), (2, 0))
    assert mixtures([(2,), (3,)]) == mixtures([1, 2]) == []


# Edges


def test_the_edges_of_a_convolution():
    cases = boundaries(layer("Conv1D"))
    shapes = [case.shapes[0] for case in cases]
    assert any(shape[0] == 0 for shape in shapes)
    assert any(64 in shape and 65 in shape for shape in shapes)
    made = [(case.make(), case.shapes[0]) for case in cases]
    assert any(m.strides[0] > m.kernel_size[0] for m, _ in made)
    assert any(m.kernel_size[0] == shape[1] for m, shape in made if m.padding == "valid")
    assert any(
        m.dilation_rate[0] * (m.kernel_size[0] - 1) + 1 == shape[1] for m, shape in made if m.dilation_rate > (1,)
    )
    even = {(m.kernel_size[0] % 2, shape[1] % 2) for m, shape in made if m.padding == "same" and m.strides == (2,)}
    assert even == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM2D"])
def test_recurrent_layers_have_every_mask_with_every_way_to_run(name):
    ways = {
        (case.masks[0] if case.masks else "none", case.states, m.unroll, m.go_backwards)
        for case in frozen_of(name)
        if (m := case.make()) is not None
    }
    patterns = ("none", "left", "right", "middle", "row", "all")
    assert ways >= set(itertools.product(patterns, (False, True), (False, True), (False, True)))


# Data


def test_smooth_data_keep_away_from_kinks_and_ties():
    rng = np.random.default_rng(0)
    for name in ("normal", "positive"):
        x = SETS[name](rng, (40, 50), "float32").astype(np.float32)
        assert np.abs(x).min() >= 0.05
        assert np.unique(x).size > 0.999 * x.size


def test_other_data_are_what_they_are_called():
    rng = np.random.default_rng(0)
    drawn = {name: draw(rng, (40, 50), "float32") for name, draw in SETS.items()}
    assert drawn["positive"].min() > 0
    assert set(np.unique(drawn["integer"])) == set(range(-3, 4))
    assert set(np.unique(drawn["ties"])) == {-1, 0, 1}
    assert abs(drawn["large_mean"].mean() - 1000) < 1 > drawn["large_mean"].std()
    largest = np.finfo(np.float32).max
    assert (drawn["huge"] ** 2).max() < largest < (np.abs(drawn["huge"]) ** 3).max()
    assert 0 < np.abs(drawn["tiny"]).min() < 2.0**-125
    assert np.log10(np.abs(drawn["wide"])).std() > 1
    specials = drawn["specials"]
    assert [np.isnan(specials).sum(), np.isposinf(specials).sum(), np.isneginf(specials).sum()] == [1, 1, 1]
    assert np.signbit(specials[specials == 0]).all()


def test_whole_numbers_have_whole_weights():
    drawn = Case.parse("Dense(units=3);(2,4);data=integer").draw("float32")
    for x in (*drawn.inputs, *drawn.weights, *drawn.cotangents):
        assert (x == np.floor(x)).all()


# Configurations


@pytest.mark.parametrize("name", ["Conv2D", "EinsumDense", "MultiHeadAttention", "Bidirectional", "Concatenate"])
def test_every_configuration_that_is_drawn_can_be(name):
    @settings(max_examples=25, deadline=None, database=None)
    @given(configurations(layer(name)))
    def drawn(case):
        assert case.make().output_shapes(*case.shapes)
        assert Case.parse(case.id) == case

    drawn()


def test_configurations_shrink_to_the_plainest():
    spec, few = layer("Conv1D"), settings(max_examples=50, database=None)
    found = find(configurations(spec), lambda case: case.config.get("padding") == "same", settings=few)
    assert found.config == {**covering(spec)[0].config, "padding": "same"}
    assert found.data == "normal"


# What must be refused


def test_bad_values_and_broken_rules_are_told():
    found = invalid(layer("GaussianDropout"))
    assert {bad.breaks for bad in found} >= {"rate", "seed", "c1_the_rate_is_below_1"}
    for bad in found:
        with pytest.raises(LayerHubError) as refused:
            layer(bad.layer)(**bad.config).output_shapes(*(bad.shapes or ()))
        assert bad.says in str(refused.value)
        assert bad.layer in bad.id


# Layers of others


@lh.register
class Repeated(Layer):
    """A layer of somebody else."""

    times: Size
    start: Size = 2

    x = In("n t d")
    y = Out("n t d")
    mask = passes

    @rule
    def c1_time_is_as_long_as_that(self, t, times):
        return t == times

    def define(self, xp, x):
        return x


def test_a_layer_of_somebody_else_has_cases():
    found = coverage(Repeated, covering(Repeated))
    assert found.missing == ()
    assert len(found.infeasible) > 0
    assert all(case.shapes[0][1] == case.config["times"] for case in covering(Repeated))
    assert {case.data for case in data_sets(Repeated)} == set(SETS)


class Vague(Layer):
    """A layer whose domain names nothing."""

    shade: Annotated[str, Domain("a shade", lambda value, owner: value)]

    x = In("n d")
    y = Out("n d")
    mask = passes

    def define(self, xp, x):
        return x


def test_a_domain_that_names_nothing_is_told():
    with pytest.raises(
        ParameterError, match=r"Vague: no cases can be made.*shade.*Domain\('a shade', …, valid=\(…\)\)"
    ):
        covering(Vague)
    assert candidates(layer("Dense"), layer("Dense").parameters["units"])[0] == 2


class Torn(Repeated):
    """A layer whose rules leave nothing."""

    @rule
    def c2_time_is_longer(self, t, times):
        return t > times


def test_rules_that_leave_nothing_are_told():
    with pytest.raises(ParameterError, match="Torn: no cases can be made"):
        covering(Torn)


def test_freezing_again_gives_files_of_ids():
    for path, text in itertools.islice(freeze().items(), 3):
        assert path.suffix == ".txt"
        assert all(Case.parse(line).id == line for line in text.splitlines())
