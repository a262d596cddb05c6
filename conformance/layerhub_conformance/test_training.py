"""Losses and optimizers on every chosen backend, against their definitions: values, gradients, updates."""

from __future__ import annotations

import itertools

import numpy as np

from layerhub import autodiff
from layerhub.execution import bound_loss
from layerhub.kernels import Call
from layerhub.losses import get as get_loss
from layerhub.optimizers import get as get_optimizer
from layerhub.registry import registry
from layerhub.running_error import RunningError
from layerhub_conformance.reference import Expected, compare

LOGITS, SMOOTH = {"from_logits": True}, {"label_smoothing": 0.1}
LOSSES = [
    {"class_name": name, "config": config}
    for name, configs in {
        "MeanSquaredError": [{}],
        "MeanAbsoluteError": [{}],
        "BinaryCrossentropy": [{}, LOGITS, SMOOTH, LOGITS | SMOOTH],
        "CategoricalCrossentropy": [{}, LOGITS, LOGITS | SMOOTH],
        "SparseCategoricalCrossentropy": [{}, LOGITS, LOGITS | {"ignore_class": 1}],
    }.items()
    for config in configs
]
OPTIMIZERS = [
    {"class_name": name, "config": config}
    for name, configs in {
        "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.8, "nesterov": True}, {"weight_decay": 0.01}],
        "RMSprop": [{}, {"momentum": 0.9}, {"centered": True}, {"rho": 0.5, "epsilon": 1e-3, "weight_decay": 0.1}],
        "Adam": [{}, {"amsgrad": True}, {"beta_1": 0.5, "epsilon": 1e-3}, {"weight_decay": 0.02}],
        "AdamW": [{}, {"weight_decay": 0.1, "amsgrad": True}],
    }.items()
    for config in configs
]
STEPS = 3


def said(spec: dict) -> str:
    """A spec in one line, for ids."""
    return f"{spec['class_name']}({', '.join(f'{k}={v}' for k, v in spec['config'].items())})"


def test_loss_means_what_its_definition_says(layerhub_loss, record_property):
    spec, backend_name, dtype, route = layerhub_loss
    loss, backend = get_loss(spec), registry().backend(backend_name)
    rng = np.random.default_rng(3)
    y_pred = rng.normal(size=(5, 4)) * 3
    if spec["class_name"].endswith("Crossentropy") and not loss.from_logits:
        y_pred = 1 / (1 + np.exp(-y_pred))
    y_pred = y_pred.astype(dtype)
    y_true = rng.dirichlet(np.ones(4), size=5).astype(dtype)
    if loss.integer_targets:
        y_true = rng.integers(0, 4, size=5)
    cotangents = rng.normal(size=5).astype(dtype)

    bounded = RunningError.of(dtype)
    space = autodiff.Differentiable(bounded)
    leaf = space.var(bounded.exact(y_pred))
    target = y_true if loss.integer_targets else bounded.exact(y_true)
    values = loss.define(space, target, leaf)
    (gradient,) = autodiff.gradients([values], [bounded.exact(cotangents)], [leaf])
    expected = [
        Expected("values", values.value.value, values.value.error),
        Expected("gradient of the predictions", gradient.value, gradient.error),
    ]

    call = bound_loss(registry(), backend, loss, True, route)
    truth, weights = backend.asarray(y_true), backend.asarray(cotangents)

    def weighted(params):
        found = call(truth, params[0])
        return backend.recording_xp.sum(found * weights), found

    _, found, gradients = backend.value_and_grad(weighted, [backend.asarray(y_pred)])
    plain = bound_loss(registry(), backend, loss, False, route)(truth, backend.asarray(y_pred))
    assert np.array_equal(backend.to_numpy(plain), backend.to_numpy(autodiff.value_of(found)))
    judge(expected, [plain, gradients[0]], backend, dtype, said(spec), record_property, route)


def test_optimizer_means_what_its_definition_says(layerhub_optimizer, record_property):
    spec, backend_name, dtype, route = layerhub_optimizer
    optimizer, backend = get_optimizer(spec), registry().backend(backend_name)
    rng = np.random.default_rng(4)
    shapes = [(3, 4), (5,), ()]
    weights = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    gradients = [[(rng.normal(size=shape) * 10.0**-step).astype(dtype) for shape in shapes] for step in range(STEPS)]

    bounded = RunningError.of(dtype)
    wanted = [(bounded.exact(w), *(bounded.exact(np.zeros(w.shape)) for _ in optimizer.slots)) for w in weights]
    for step, row in enumerate(gradients, start=1):
        # The coefficients are rounded to the type once, when they reach the device.
        numbers = tuple(float(c) for c in optimizer.coefficients(step))
        wanted = [
            optimizer.update(bounded, numbers, w[0], bounded.exact(g), *w[1:]) for w, g in zip(wanted, row, strict=True)
        ]
    expected = [
        Expected(f"{what} of weight {k} after {STEPS} steps", part.value, part.error)
        for k, state in enumerate(wanted)
        for what, part in zip(("value", *optimizer.slots), state, strict=True)
    ]

    handles = [backend.variable(w, True, backend.check_device(None), None) for w in weights]
    slots = [tuple(backend.asarray(np.zeros(w.shape, dtype)) for _ in optimizer.slots) for w in weights]
    kernel = registry().kernel(backend.name, optimizer, Call()) if route == "kernel" else None
    for step, row in enumerate(gradients, start=1):
        current, moves = [backend.read(h) for h in handles], [backend.asarray(g) for g in row]
        numbers = optimizer.coefficients(step)
        if kernel is not None:
            current, slots = kernel.function(optimizer, numbers, current, moves, slots)
        else:
            moved = [
                optimizer.update(backend.xp, numbers, w, g, *s) for w, g, s in zip(current, moves, slots, strict=True)
            ]
            current, slots = [m[0] for m in moved], [tuple(m[1:]) for m in moved]
        for handle, value in zip(handles, current, strict=True):
            backend.assign(handle, value)
    found = itertools.chain.from_iterable((backend.read(h), *s) for h, s in zip(handles, slots, strict=True))
    judge(expected, list(found), backend, dtype, said(spec), record_property, route)


def judge(expected, found, backend, dtype, name, record_property, route):
    """Compare, record for the matrix, and fail with what is wrong."""
    findings = [compare(e, np.asarray(backend.to_numpy(y)), dtype) for e, y in zip(expected, found, strict=True)]
    worst = max(f.worst for f in findings)
    kind = name.partition("(")[0]
    record_property(
        "layerhub", {"layer": kind, "backend": backend.name, "dtype": dtype, "route": route, "worst": worst}
    )
    wrong = [f.detail for f in findings if not f.right]
    assert not wrong, "\n".join([f"{name} on {backend.name} ({dtype}, {route})", *wrong])
