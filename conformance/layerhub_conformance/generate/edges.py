"""Cases at the edges of what a layer takes, found by the names of axes and the domains of parameters."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from layerhub.layers import Layer
from layerhub.spec.domains import Window, domain_of
from layerhub_conformance.case import Case, unique
from layerhub_conformance.data import SETS
from layerhub_conformance.generate.covering import covering
from layerhub_conformance.generate.problem import PATTERNS, STATES, Problem, problem_of
from layerhub_conformance.reference import forward_only, reference

AROUND = ((8, 7), (17, 16), (31, 32), (64, 65))
"""Sizes of the features and of a length around the widths of vector registers and blocks."""

CONSIDERED = 8
"""So many configurations are considered for each set of data."""

Fixed = dict[str, Any]


def boundaries(spec: type[Layer]) -> list[Case]:
    """Empty and single batches and lengths, sizes around powers of two, windows as large as their input, and the like;
    of recurrent layers every pattern of mask with every way to run."""
    problem = problem_of(spec)
    found = []
    for fixed in (*_sizes(problem), *_least(problem), *_windows(problem), *_recurrence(problem)):
        row = problem.solve({name: problem.variables[name].find(value) for name, value in fixed.items()})
        found += [] if row is None else [problem.case(row)]
    return unique(found)


def data_sets(spec: type[Layer]) -> list[Case]:
    """Every set of data, each with the plainest configuration for which the reference can say what is right.

    A set for which there is none among the first few is left out: attention to huge keys depends on single roundings.
    """
    plain = covering(spec)[:CONSIDERED]
    chosen = (next((c for case in plain if decided(c := replace(case, data=data))), None) for data in SETS)
    return [case for case in chosen if case is not None]


def decided(case: Case) -> bool:
    """Whether bounds are known for all that is to be compared, but for a hundredth."""
    with np.errstate(all="ignore"):
        expected = reference(case, "float32")
    arrays = (expected if case.differentiable else forward_only(expected)).arrays
    return all(
        np.count_nonzero(np.isnan(array.error) & np.isfinite(array.value)) <= max(1, 0.01 * array.value.size)
        for array in arrays
    )


def certifying(spec: type[Layer]) -> list[Case]:
    """All that a backend must pass of a layer."""
    return unique([*covering(spec), *boundaries(spec), *data_sets(spec)])


def _sizes(problem: Problem) -> Iterator[Fixed]:
    yield {"size n": 0}
    # Windows stay plain here: where nothing may be empty, none of them helps.
    plain = {name: problem.variables[name].values[0] for name in _windowed(problem.spec)}
    yield from ({name: 0} | plain for name in problem.lengths)
    if problem.lengths:
        yield dict.fromkeys(problem.lengths, 1)
    for features, length in AROUND if problem.features else ():
        short = {"size n": 1} | dict.fromkeys(problem.lengths, 2)
        yield short | dict.fromkeys(problem.lengths[-1:], length) | {problem.features: features}
    if problem.features:
        yield {problem.features: 1}


def _least(problem: Problem) -> Iterator[Fixed]:
    """Each count at its least."""
    for name, parameter in problem.spec.parameters.items():
        if parameter.domain.schema.get("type") == "integer" and parameter.domain.schema.get("minimum", -2) >= 0:
            yield {name: parameter.domain.schema["minimum"]}


def _windowed(spec: type[Layer]) -> list[str]:
    """The parameters that have a size for each axis of the space."""
    text = domain_of(Window).text
    return [name for name, p in spec.parameters.items() if p.domain.text.removesuffix(" or None") == text]


def _windows(problem: Problem) -> Iterator[Fixed]:
    """The window against the input, the strides and the dilation."""
    names = _windowed(problem.spec)
    window = next((name for name in names if name in ("kernel_size", "pool_size")), None)
    space = [name for name in problem.lengths if "." in name]
    if window is None:
        return
    paddings = problem.variables["padding"].values if "padding" in problem.variables else []
    valid, same = ({"padding": kind} if kind in paddings else {} for kind in ("valid", "same"))
    sizes = (3, 4, 2)[: len(space)]
    yield {window: sizes, **dict(zip(space, sizes, strict=True)), **valid}
    if "strides" in names:
        yield {window: 2, "strides": 3}
        for k, size in itertools.product((2, 3), (6, 7)):
            yield {window: k, "strides": 2, **dict.fromkeys(space, size), **same}
    if "dilation_rate" in names:
        yield {window: 3, "dilation_rate": 2, **dict.fromkeys(space, 5), **valid}


def _recurrence(problem: Problem) -> Iterator[Fixed]:
    """Every pattern of mask with and without initial states, unrolled or not, in both directions."""
    masks = [name for name, variable in problem.variables.items() if variable.values == list(PATTERNS)]
    if STATES not in problem.variables or not masks:
        return
    flags = [name for name in (STATES, "unroll", "go_backwards") if name in problem.variables]
    for k, (pattern, *on) in enumerate(itertools.product(PATTERNS, *[(False, True)] * len(flags))):
        sequences = {"return_sequences": bool(k % 2)} if "return_sequences" in problem.variables else {}
        yield {masks[0]: pattern} | dict(zip(flags, on, strict=True)) | sequences
